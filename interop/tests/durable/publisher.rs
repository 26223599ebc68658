//! A stock SUB at our durable PUB is a subscriber without a name: what it asked for, from now on, in order.

use ginnel::{Credentials, Monitor, Pub, Security, Sub};
use interop::{
    Cases, Fault, Outcome, Peer, Program, Transport, content_set, filled, frames_of, json, message_of, same, within,
};

use super::{Dir, TIGHT, WIRES, bytes, names_are, plain_peer, still_there, subscribed};

/// How the two meet.
#[derive(Clone, Copy)]
struct Way {
    transport: Transport,
    we_bind: bool,
}

/// The peer's SUB gets a connection to `ours`, and is found to be plain. All events from then on.
async fn meet(way: Way, ours: &Pub, peer: &mut Peer, options: interop::Value) -> Result<Monitor, Fault> {
    let mut monitor = ours.monitor();
    if way.we_bind {
        let endpoint = ours.bind_to(way.transport.our_place()).await?;
        peer.connect("theirs", "SUB", &endpoint.to_string(), options).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "SUB", way.transport.their_place(), options).await?)?;
    }
    plain_peer(&mut monitor).await?;
    Ok(monitor)
}

/// Only what it subscribed to and only from then on, whether or not a durable name has it all.
async fn from_now_on(peer: &mut Peer, way: Way, kept: bool) -> Outcome {
    let dir = Dir::new();
    let ours = if kept { dir.publisher().declare("keeper", [""]) } else { dir.publisher() };
    let ours = ours.build()?;
    for text in ["a.before", "b.before"] {
        within("send", ours.send(text)).await?;
    }
    let mut monitor = meet(way, &ours, peer, json!({ "SUBSCRIBE": "a." })).await?;
    subscribed(&mut monitor, "a.").await?;
    for text in ["b", "a", "a.1", "ab", "a.2", ""] {
        within("send", ours.send(text)).await?;
    }
    for text in ["a.1", "a.2"] {
        same("what passes", peer.recv("theirs").await?, bytes(&[text]))?;
    }
    peer.set("theirs", json!([["SUBSCRIBE", "b"]])).await?;
    subscribed(&mut monitor, "b").await?;
    peer.set("theirs", json!([["UNSUBSCRIBE", "a."], ["SUBSCRIBE", "end"]])).await?;
    subscribed(&mut monitor, "end").await?;
    for text in ["a.3", "b.1", "end"] {
        within("send", ours.send(text)).await?;
    }
    for text in ["b.1", "end"] {
        same("what passes now", peer.recv("theirs").await?, bytes(&[text]))?;
    }
    peer.silent("theirs", 50).await?;
    still_there(peer, "theirs").await?;
    names_are(ours.spool(), if kept { &["keeper"] } else { &[] })?;
    same("dropped", ours.stats().drops.total(), 0)?;
    if kept {
        // It had no part in what the plain one did.
        let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
        let mut durable = Sub::builder().durable("keeper").connect(endpoint)?;
        for text in ["a.before", "b.before", "b", "a", "a.1", "ab", "a.2", "", "a.3", "b.1", "end"] {
            let delivery = within("recv_delivery", durable.recv_delivery()).await?;
            same("what the name has", frames_of(delivery.message()), bytes(&[text]))?;
        }
    }
    Ok(())
}

/// Two prefixes that match the same message are one reason to send it.
async fn everything(peer: &mut Peer, way: Way) -> Outcome {
    let dir = Dir::new();
    let ours = dir.publisher().build()?;
    let mut monitor = meet(way, &ours, peer, json!({ "SUBSCRIBE": "" })).await?;
    subscribed(&mut monitor, "").await?;
    peer.set("theirs", json!([["SUBSCRIBE", "hel"]])).await?;
    subscribed(&mut monitor, "hel").await?;
    for content in content_set() {
        within("send", ours.send(message_of(&content))).await?;
        let got = peer.recv("theirs").await?;
        let lengths = |content: &[Vec<u8>]| content.iter().map(Vec::len).collect::<Vec<_>>();
        interop::check(got == content, format!("sent {:?} bytes, got {:?}", lengths(&content), lengths(&got)))?;
    }
    peer.silent("theirs", 50).await
}

/// The peer's limit on messages holds for our READY, too; 64 KiB pass where they are allowed to.
async fn limited(peer: &mut Peer, way: Way, limit: usize) -> Outcome {
    let dir = Dir::new();
    let options = json!({ "SUBSCRIBE": "", "MAXMSGSIZE": limit });
    let ours = dir.publisher().build()?;
    drop(meet(way, &ours, peer, options).await?);
    within("wait_for_subscribers", ours.wait_for_subscribers(1)).await?;
    for seed in 2..40 {
        within("send", ours.send(filled(limit, seed))).await?;
    }
    for seed in 2..40 {
        same("of the size that is allowed", peer.recv("theirs").await?, vec![filled(limit, seed)])?;
    }
    still_there(peer, "theirs").await
}

/// What we say of ourselves is there to be read at a stock peer.
async fn properties(peer: &mut Peer) -> Outcome {
    let dir = Dir::new();
    let way = Way { transport: Transport::Tcp, we_bind: true };
    let ours = dir.publisher().build()?;
    drop(meet(way, &ours, peer, json!({ "SUBSCRIBE": "" })).await?);
    within("wait_for_subscribers", ours.wait_for_subscribers(1)).await?;
    within("send", ours.send("look")).await?;
    let said = peer.recv_properties("theirs", &["X-Durable", "X-Durable-Name", "Socket-Type"]).await?;
    same("said", said, json!({ "X-Durable": "1", "X-Durable-Name": null, "Socket-Type": "PUB" }))
}

async fn authenticated(peer: &mut Peer) -> Outcome {
    let dir = Dir::new();
    let users = vec![Credentials::new("anna", "secret")?];
    let ours = dir.publisher().security(Security::PlainServer(users)).require_auth(true).build()?;
    let options =
        json!({ "SUBSCRIBE": "a.", "PLAIN_USERNAME": "anna", "PLAIN_PASSWORD": "secret", "MAXMSGSIZE": TIGHT });
    let way = Way { transport: Transport::Tcp, we_bind: true };
    drop(meet(way, &ours, peer, options).await?);
    within("wait_for_subscribers", ours.wait_for_subscribers(1)).await?;
    for text in ["b", "a.1"] {
        within("send", ours.send(text)).await?;
    }
    let said = peer.recv_properties("theirs", &["X-Durable"]).await?;
    same("said", said, json!({ "X-Durable": "1" }))?;
    within("send", ours.send("a.2")).await?;
    same("the next", peer.recv("theirs").await?, bytes(&["a.2"]))
}

/// The operating system and the peer together lose nothing of 20,000 that the peer can follow.
async fn stream(peer: &mut Peer, way: Way) -> Outcome {
    const COUNT: u64 = 20_000;
    let dir = Dir::new();
    let ours = dir.publisher().sync(ginnel::Sync::Never).send_hwm(0).build()?;
    drop(meet(way, &ours, peer, json!({ "SUBSCRIBE": "n", "RCVHWM": 0 })).await?);
    within("wait_for_subscribers", ours.wait_for_subscribers(1)).await?;
    let send = async {
        for number in 0..COUNT {
            drop(ours.enqueue(super::numbered(if number % 2 == 0 { "n" } else { "nn" }, number, 100)).await?);
            drop(ours.enqueue("other").await?);
        }
        Ok::<(), ginnel::SendError<ginnel::Message>>(())
    };
    let verify = peer.stream_verify("theirs", COUNT);
    let (sent, verified) = tokio::join!(within("send", send), verify);
    sent?;
    verified?;
    peer.silent("theirs", 50).await
}

#[tokio::test]
async fn d09_a_stock_sub_is_a_plain_subscriber_of_a_durable_pub() {
    let mut cases = Cases::new("stock SUB on durable PUB", Program::Libzmq);
    for transport in WIRES {
        for we_bind in [true, false] {
            let way = Way { transport, we_bind };
            let who = format!("{transport}, {} bind", if we_bind { "we" } else { "they" });
            for kept in [false, true] {
                let beside = if kept { "beside a durable name" } else { "alone" };
                cases
                    .run(format!("from now on, {beside}: {who}"), async |peer| from_now_on(peer, way, kept).await)
                    .await;
            }
            cases.run(format!("everything: {who}"), async |peer| everything(peer, way).await).await;
            cases.run(format!("a stream: {who}"), async |peer| stream(peer, way).await).await;
            for limit in [TIGHT, 64 << 10] {
                cases.run(format!("MAXMSGSIZE {limit}: {who}"), async |peer| limited(peer, way, limit).await).await;
            }
        }
    }
    cases.run("our properties", properties).await;
    cases.run("PLAIN", authenticated).await;
    cases.finish();
}
