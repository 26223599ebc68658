//! Our durable SUB at a stock PUB works as a plain one, and says so; asked to insist, it leaves.

use std::time::Duration;

use ginnel::{Ack, Builder, Credentials, Delivery, Event, Monitor, Reason, RecvError, Security, Sub};
use interop::{
    Cases, Fault, Outcome, Peer, Program, Transport, check, filled, frames_of, json, same, wait_for, within,
};

use super::{LONG_NAME, TIGHT, WIRES, bytes, plain_peer, still_there};

const FAR: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
struct Way {
    transport: Transport,
    we_bind: bool,
    theirs: &'static str,
}

async fn meet(way: Way, ours: Builder<Sub>, peer: &mut Peer, options: interop::Value) -> Result<(Sub, Monitor), Fault> {
    let ours = ours.build()?;
    let monitor = ours.monitor();
    if way.we_bind {
        let endpoint = ours.bind_to(way.transport.our_place()).await?;
        peer.connect("theirs", way.theirs, &endpoint.to_string(), options).await?;
    } else {
        ours.connect_to(peer.bind("theirs", way.theirs, way.transport.their_place(), options).await?)?;
    }
    Ok((ours, monitor))
}

fn is_plain(delivery: &Delivery) -> Outcome {
    let durable = (delivery.is_durable(), delivery.sequence(), delivery.spool(), delivery.token());
    same("what is known of a plain delivery", durable, (false, None, None, None))?;
    same("tries and time", (delivery.tries(), delivery.time()), (1, None))
}

/// Plain deliveries, in order and filtered; the stock XPUB's application sees the subscriptions and nothing else.
async fn deliveries(peer: &mut Peer, way: Way, ack: Ack) -> Outcome {
    let ours = Sub::builder().durable(LONG_NAME).ack(ack).subscribe("a.");
    let (mut ours, mut monitor) = meet(way, ours, peer, json!({ "MAXMSGSIZE": TIGHT })).await?;
    plain_peer(&mut monitor).await?;
    same("the subscription they see", peer.recv("theirs").await?, vec![b"\x01a.".to_vec()])?;
    for text in ["b", "a.1", "a.2", "a", "a.3", "a.4"] {
        peer.send("theirs", &bytes(&[text, text])).await?;
    }
    for (nth, text) in ["a.1", "a.2", "a.3", "a.4"].into_iter().enumerate() {
        let delivery = within("recv_delivery", ours.recv_delivery()).await?;
        is_plain(&delivery)?;
        same("the message", frames_of(delivery.message()), bytes(&[text, text]))?;
        // Whatever is said of it, a plain message does not come again.
        match nth {
            0 => delivery.ack(),
            1 => delivery.ack_up_to(),
            2 => delivery.retry(Duration::ZERO),
            _ => drop(delivery),
        }
    }
    peer.silent("theirs", 50).await?;
    peer.send("theirs", &bytes(&["a.5"])).await?;
    let last = within("recv_delivery", ours.recv_delivery()).await?;
    same("the last message", frames_of(last.message()), bytes(&["a.5"]))?;
    ours.unsubscribe("a.")?;
    same("the cancel they see", peer.recv("theirs").await?, vec![b"\x00a.".to_vec()])?;
    still_there(peer, "theirs").await
}

/// Plain calls serve plain messages; under manual acknowledgement the calls are those that can say so.
async fn plain_calls(peer: &mut Peer) -> Outcome {
    let way = Way { transport: Transport::Tcp, we_bind: false, theirs: "XPUB" };
    let (mut ours, mut monitor) = meet(way, Sub::builder().durable("n").subscribe(""), peer, json!({})).await?;
    plain_peer(&mut monitor).await?;
    same("the subscription", peer.recv("theirs").await?, vec![vec![1]])?;
    for len in [0, 1, 255, 256, 64 << 10] {
        peer.send("theirs", &[filled(len, 7)]).await?;
        same("the message", frames_of(&within("recv", ours.recv()).await?), vec![filled(len, 7)])?;
    }
    let manual = Sub::builder().durable("n").ack(Ack::Manual).subscribe("").connect(peer_endpoint(peer).await?);
    same(
        "recv under Ack::Manual",
        within("recv", manual?.recv()).await.map_err(|fault| fault.to_string()).err(),
        Some(format!("recv: {}", RecvError::ManualAck)),
    )
}

async fn peer_endpoint(peer: &mut Peer) -> Result<String, Fault> {
    peer.bind("another", "XPUB", "tcp://127.0.0.1:*", json!({})).await
}

/// A PUB that cannot see subscriptions: the same, knocking until it is known.
async fn stock_pub(peer: &mut Peer, way: Way) -> Outcome {
    let (mut ours, mut monitor) =
        meet(way, Sub::builder().durable(LONG_NAME).subscribe("a."), peer, json!({ "MAXMSGSIZE": TIGHT })).await?;
    plain_peer(&mut monitor).await?;
    let knocking = async {
        loop {
            peer.send("theirs", &bytes(&["a.knock"])).await?;
            if let Ok(delivery) = tokio::time::timeout(Duration::from_millis(20), ours.recv_delivery()).await {
                return delivery.map_err(Fault::from);
            }
        }
    };
    is_plain(&within("a first publication", knocking).await?)?;
    for text in ["b", "a.end"] {
        peer.send("theirs", &bytes(&[text])).await?;
    }
    loop {
        let delivery = within("recv_delivery", ours.recv_delivery()).await?;
        is_plain(&delivery)?;
        match frames_of(delivery.message()) {
            knock if knock == bytes(&["a.knock"]) => {}
            other => return same("behind the knocks", other, bytes(&["a.end"])),
        }
    }
}

/// The connection is closed, and the next attempt is as far away as may be.
async fn insists(peer: &mut Peer, way: Way) -> Outcome {
    let ours = Sub::builder().durable("n").subscribe("").require_durable(true).reconnect(Duration::from_millis(1), FAR);
    let (ours, mut monitor) = meet(way, ours, peer, json!({})).await?;
    plain_peer(&mut monitor).await?;
    let closed = |event: &Event| {
        let (Event::Disconnected { reason, .. } | Event::Refused { reason, .. }) = event else { return false };
        *reason == Reason::IncompatibleType
    };
    wait_for(&mut monitor, "closed for IncompatibleType", closed).await?;
    if !way.we_bind {
        let retrying = |event: &Event| matches!(event, Event::Retrying { .. });
        let Event::Retrying { after, .. } = wait_for(&mut monitor, "Retrying", retrying).await? else {
            return Err("not that event".into());
        };
        check(after >= FAR / 2, format!("the next attempt is after {after:?}"))?;
    }
    let events = peer.events("theirs", "DISCONNECTED", 10_000).await?;
    check(events.iter().any(|event| event == "DISCONNECTED"), format!("their events: {events:?}"))?;
    same("connected peers", ours.peers().iter().filter(|peer| peer.connected).count(), 0)
}

/// What we say of ourselves comes with what we send.
async fn properties(peer: &mut Peer) -> Outcome {
    let way = Way { transport: Transport::Tcp, we_bind: false, theirs: "XPUB" };
    let (_ours, _) = meet(way, Sub::builder().durable("billing").subscribe("a"), peer, json!({})).await?;
    let said = peer.recv_properties("theirs", &["X-Durable", "X-Durable-Name", "Socket-Type"]).await?;
    same("said", said, json!({ "X-Durable": "1", "X-Durable-Name": "billing", "Socket-Type": "SUB" }))
}

async fn authenticated(peer: &mut Peer) -> Outcome {
    peer.call(json!({ "do": "plain", "users": { "anna": "secret" } })).await?;
    let way = Way { transport: Transport::Tcp, we_bind: false, theirs: "XPUB" };
    let login = Security::PlainClient(Credentials::new("anna", "secret")?);
    let ours = Sub::builder().durable(LONG_NAME).subscribe("a").security(login);
    // INITIATE instead of READY, a little longer; the server's own limit is its user's choice.
    let (mut ours, mut monitor) = meet(way, ours, peer, json!({ "PLAIN_SERVER": 1, "MAXMSGSIZE": TIGHT })).await?;
    plain_peer(&mut monitor).await?;
    same("the subscription", peer.recv("theirs").await?, vec![b"\x01a".to_vec()])?;
    peer.send("theirs", &bytes(&["a"])).await?;
    let delivery = within("recv_delivery", ours.recv_delivery()).await?;
    is_plain(&delivery)?;
    same("the message", frames_of(delivery.message()), bytes(&["a"]))
}

/// The stock publisher is replaced by another: plain again, said again.
async fn comes_back(peer: &mut Peer) -> Outcome {
    let way = Way { transport: Transport::Tcp, we_bind: true, theirs: "XPUB" };
    let quick = Duration::from_millis(10);
    let ours = Sub::builder().durable("n").subscribe("a").reconnect(quick, quick);
    let (mut ours, mut monitor) = meet(way, ours, peer, json!({})).await?;
    plain_peer(&mut monitor).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.restart().await?;
    peer.connect("theirs", "XPUB", &endpoint, json!({})).await?;
    plain_peer(&mut monitor).await?;
    same("the subscription", peer.recv("theirs").await?, vec![b"\x01a".to_vec()])?;
    peer.send("theirs", &bytes(&["a"])).await?;
    is_plain(&within("recv_delivery", ours.recv_delivery()).await?)
}

#[tokio::test]
async fn d09_a_durable_sub_on_a_stock_pub_is_plain() {
    let mut cases = Cases::new("durable SUB on stock PUB", Program::Libzmq);
    for transport in WIRES {
        for we_bind in [true, false] {
            let who = format!("{transport}, {} bind", if we_bind { "we" } else { "they" });
            let way = Way { transport, we_bind, theirs: "XPUB" };
            for ack in [Ack::OnNext, Ack::Manual, Ack::OnReceive] {
                cases.run(format!("{ack:?}: {who}"), async |peer| deliveries(peer, way, ack).await).await;
            }
            let way = Way { theirs: "PUB", ..way };
            cases.run(format!("PUB: {who}"), async |peer| stock_pub(peer, way).await).await;
            cases.run(format!("require_durable: {who}"), async |peer| insists(peer, way).await).await;
        }
    }
    cases.run("plain calls", plain_calls).await;
    cases.run("our properties", properties).await;
    cases.run("PLAIN", authenticated).await;
    cases.run("another publisher", comes_back).await;
    cases.finish();
}
