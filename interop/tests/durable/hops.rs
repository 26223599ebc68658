//! A stock proxy between a durable PUB and a durable SUB: two hops, each plain.

use ginnel::{Pull, Sub};
use interop::{Cases, Outcome, Peer, Program, Transport, check, frames_of, json, same, within};

use super::{Dir, WIRES, bytes, names_are, number_of, numbered, plain_peer, subscribed};

/// zmq.proxy(XSUB, XPUB): subscriptions travel up, publications down, the extension nowhere.
async fn publications(peer: &mut Peer, transport: Transport) -> Outcome {
    let dir = Dir::new();
    let ours = dir.publisher().declare("near", [""]).build()?;
    let mut upstream = ours.monitor();
    let endpoint = ours.bind_to(transport.our_place()).await?.to_string();
    let front = json!({ "type": "XSUB", "connect": endpoint });
    let back = json!({ "type": "XPUB", "bind": transport.their_place() });
    let [_, behind] = peer.proxy("proxy", front, back).await?;
    plain_peer(&mut upstream).await?;

    let mut far = Sub::builder().durable("far").subscribe("a.").build()?;
    let mut downstream = far.monitor();
    far.connect_to(&behind)?;
    plain_peer(&mut downstream).await?;
    // Our own subscription, carried by the proxy.
    subscribed(&mut upstream, "a.").await?;
    for number in 0..200 {
        within("send", ours.send(numbered(if number % 2 == 0 { "a." } else { "b." }, number, 10))).await?;
    }
    for number in (0..200).step_by(2) {
        let delivery = within("recv_delivery", far.recv_delivery()).await?;
        same("durable, and the number", (delivery.is_durable(), number_of(delivery.message())?), (false, number))?;
    }
    names_are(ours.spool(), &["near"])?;

    // The name next to the spool is as durable as ever.
    let mut near = Sub::builder().durable("near").subscribe("").connect(&endpoint)?;
    for number in 0..200 {
        let delivery = within("recv_delivery", near.recv_delivery()).await?;
        same("durable, and the number", (delivery.is_durable(), number_of(delivery.message())?), (true, number))?;
    }
    Ok(())
}

/// Two durable names behind one proxy are two subscriptions of it; the second hop tells them apart, the spool does not.
async fn two_behind_one(peer: &mut Peer) -> Outcome {
    let dir = Dir::new();
    let ours = dir.publisher().build()?;
    let mut upstream = ours.monitor();
    let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?.to_string();
    let front = json!({ "type": "XSUB", "connect": endpoint });
    let back = json!({ "type": "XPUB", "bind": "tcp://127.0.0.1:*" });
    let [_, behind] = peer.proxy("proxy", front, back).await?;
    plain_peer(&mut upstream).await?;
    let mut one = Sub::builder().durable("one").subscribe("one").connect(&behind)?;
    let mut two = Sub::builder().durable("two").subscribe("two").connect(&behind)?;
    subscribed_both(&mut upstream).await?;
    for text in ["two.1", "one.1", "none", "one.2", "two.2"] {
        within("send", ours.send(text)).await?;
    }
    for (sub, name) in [(&mut one, "one"), (&mut two, "two")] {
        for nth in 1..=2 {
            let delivery = within("recv_delivery", sub.recv_delivery()).await?;
            check(!delivery.is_durable(), "a durable delivery")?;
            same("what it asked for", frames_of(delivery.message()), bytes(&[&format!("{name}.{nth}")]))?;
        }
    }
    names_are(ours.spool(), &[])
}

async fn subscribed_both(upstream: &mut ginnel::Monitor) -> Outcome {
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let wanted = |event: &ginnel::Event| matches!(event, ginnel::Event::Subscribed { .. });
        if let ginnel::Event::Subscribed { topic, .. } = interop::wait_for(upstream, "Subscribed", wanted).await? {
            seen.push(topic.to_vec());
        }
    }
    seen.sort();
    same("the topics", seen, bytes(&["one", "two"]))
}

/// zmq.proxy(PULL, PUSH): with `plain_pull` the proxy is a worker, and what is behind it is plain.
async fn work(peer: &mut Peer, transport: Transport) -> Outcome {
    let dir = Dir::new();
    let ours = dir.pusher().plain_pull(true).build()?;
    let mut upstream = ours.monitor();
    let endpoint = ours.bind_to(transport.our_place()).await?.to_string();
    let front = json!({ "type": "PULL", "connect": endpoint });
    let back = json!({ "type": "PUSH", "bind": transport.their_place() });
    let [_, behind] = peer.proxy("proxy", front, back).await?;
    plain_peer(&mut upstream).await?;
    let mut far = Pull::builder().durable("w1").build()?;
    let mut downstream = far.monitor();
    far.connect_to(&behind)?;
    plain_peer(&mut downstream).await?;
    for number in 0..100 {
        within("send", ours.send(numbered("job", number, 10))).await?;
    }
    for number in 0..100 {
        let delivery = within("recv_delivery", far.recv_delivery()).await?;
        same("durable, and the number", (delivery.is_durable(), number_of(delivery.message())?), (false, number))?;
    }
    Ok(())
}

#[tokio::test]
async fn d09_a_stock_proxy_is_two_plain_hops() {
    let mut cases = Cases::new("a stock proxy between durable sockets", Program::Libzmq);
    for transport in WIRES {
        cases.run(format!("XSUB and XPUB, {transport}"), async |peer| publications(peer, transport).await).await;
        cases.run(format!("PULL and PUSH, {transport}"), async |peer| work(peer, transport).await).await;
    }
    cases.run("two names behind one proxy", two_behind_one).await;
    cases.finish();
}
