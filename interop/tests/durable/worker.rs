//! Stock PULL at our durable PUSH: nothing by default, everything with `plain_pull`. Our durable PULL at a stock PUSH: plain.

use std::time::Duration;

use ginnel::{Builder, Event, Monitor, Pull, Push, Reason};
use interop::{
    Cases, Fault, Outcome, Peer, Program, Transport, check, content_set, filled, frames_of, json, message_of, same,
    until, wait_for, within,
};

use super::{Dir, LONG_NAME, TIGHT, WIRES, bytes, number_of, numbered, plain_peer, still_there};

#[derive(Clone, Copy)]
struct Way {
    transport: Transport,
    we_bind: bool,
}

async fn push(
    way: Way,
    ours: Builder<Push>,
    peer: &mut Peer,
    options: interop::Value,
) -> Result<(Push, Monitor), Fault> {
    let ours = ours.build()?;
    let mut monitor = ours.monitor();
    if way.we_bind {
        let endpoint = ours.bind_to(way.transport.our_place()).await?;
        peer.connect("theirs", "PULL", &endpoint.to_string(), options).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "PULL", way.transport.their_place(), options).await?)?;
    }
    plain_peer(&mut monitor).await?;
    Ok((ours, monitor))
}

async fn pull(
    way: Way,
    ours: Builder<Pull>,
    peer: &mut Peer,
    options: interop::Value,
) -> Result<(Pull, Monitor), Fault> {
    let ours = ours.build()?;
    let monitor = ours.monitor();
    if way.we_bind {
        let endpoint = ours.bind_to(way.transport.our_place()).await?;
        peer.connect("theirs", "PUSH", &endpoint.to_string(), options).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "PUSH", way.transport.their_place(), options).await?)?;
    }
    Ok((ours, monitor))
}

/// Records that no worker has finished, and workers that may.
fn queue(ours: &Push) -> Result<(u64, usize), Fault> {
    let names = ours.spool().ok_or("no spool")?.names();
    let queue = names.first().ok_or("no queue")?;
    Ok((queue.lag_records, queue.connections))
}

async fn finished(ours: &Push) -> Outcome {
    until("everything done", || queue(ours).is_ok_and(|(lag, _)| lag == 0)).await
}

/// A worker that cannot acknowledge gets nothing: records wait for one that can.
async fn waits_for_a_capable_worker(peer: &mut Peer, way: Way) -> Outcome {
    let dir = Dir::new();
    let (ours, mut monitor) = push(way, dir.pusher(), peer, json!({})).await?;
    for number in 0..50 {
        within("send", ours.send(numbered("job", number, 0))).await?;
    }
    same("waiting, and workers", queue(&ours)?, (50, 0))?;
    peer.silent("theirs", 100).await?;
    let endpoint = match way.we_bind {
        true => ours.local_endpoint().ok_or("not bound")?,
        false => ours.bind_to("tcp://127.0.0.1:*").await?,
    };
    let mut capable = Pull::builder().durable("w1").connect(endpoint)?;
    for number in 0..50 {
        let delivery = within("recv_delivery", capable.recv_delivery()).await?;
        same("durable, and the number", (delivery.is_durable(), number_of(delivery.message())?), (true, number))?;
    }
    capable.ack_last();
    finished(&ours).await?;
    within("send", ours.send(numbered("job", 50, 0))).await?;
    let last = within("recv", capable.recv()).await?;
    same("the next", number_of(&last)?, 50)?;
    peer.silent("theirs", 50).await?;
    still_there(peer, "theirs").await?;
    super::undisturbed(&mut monitor)
}

/// With `plain_pull` a record is done when the operating system took it, and is not sent again.
async fn plain_pull(peer: &mut Peer, way: Way) -> Outcome {
    let dir = Dir::new();
    let before = dir.pusher().plain_pull(true).build()?;
    within("send", before.send("from before")).await?;
    before.close().await;
    drop(before);
    let (ours, mut monitor) = push(way, dir.pusher().plain_pull(true), peer, json!({})).await?;
    same("what waited", peer.recv("theirs").await?, bytes(&["from before"]))?;
    for content in content_set() {
        within("send", ours.send(message_of(&content))).await?;
        let got = peer.recv("theirs").await?;
        let lengths = |content: &[Vec<u8>]| content.iter().map(Vec::len).collect::<Vec<_>>();
        check(got == content, format!("sent {:?} bytes, got {:?}", lengths(&content), lengths(&got)))?;
    }
    finished(&ours).await?;
    peer.silent("theirs", 50).await?;
    super::undisturbed(&mut monitor)?;
    let report = ours.close().await;
    same("kept", report.kept, 0)?;
    drop(ours);
    let again = dir.pusher().build()?;
    same("waiting after opening again", queue(&again)?.0, 0)
}

/// 20,000 numbered ones to a stock worker, in order.
async fn plain_stream(peer: &mut Peer, way: Way) -> Outcome {
    const COUNT: u64 = 20_000;
    let dir = Dir::new();
    let ours = dir.pusher().plain_pull(true).sync(ginnel::Sync::Never);
    let (ours, _) = push(way, ours, peer, json!({})).await?;
    let send = async {
        for number in 0..COUNT {
            drop(ours.enqueue(numbered("job", number, 100)).await?);
        }
        Ok::<(), ginnel::SendError<ginnel::Message>>(())
    };
    let (sent, verified) = tokio::join!(within("send", send), peer.stream_verify("theirs", COUNT));
    sent?;
    verified?;
    finished(&ours).await?;
    peer.silent("theirs", 50).await
}

/// Two stock workers and a capable one share the work; nothing is lost or doubled while all live.
async fn shared_work(peer: &mut Peer) -> Outcome {
    const COUNT: u64 = 300;
    let dir = Dir::new();
    let way = Way { transport: Transport::Tcp, we_bind: true };
    let (ours, mut monitor) = push(way, dir.pusher().plain_pull(true), peer, json!({})).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?;
    peer.connect("second", "PULL", &endpoint.to_string(), json!({})).await?;
    plain_peer(&mut monitor).await?;
    let mut capable = Pull::builder().durable("w1").connect(&endpoint)?;
    until("three workers", || queue(&ours).is_ok_and(|(_, workers)| workers == 3)).await?;
    for number in 0..COUNT {
        within("send", ours.send(numbered("job", number, 0))).await?;
    }
    let mut got = Vec::new();
    for name in ["theirs", "second"] {
        let ranges = peer.stream_collect(name, 200).await?;
        got.extend(ranges.into_iter().flat_map(|(first, last)| first..=last));
    }
    while u64::try_from(got.len())? < COUNT {
        got.push(number_of(&within("recv", capable.recv()).await?)?);
    }
    got.sort_unstable();
    check(got.iter().copied().eq(0..COUNT), format!("not each once: {got:?}"))?;
    capable.ack_last();
    finished(&ours).await
}

/// The peer's limit on messages holds for our READY, too.
async fn limited(peer: &mut Peer, way: Way, limit: usize) -> Outcome {
    let dir = Dir::new();
    let (ours, _) = push(way, dir.pusher().plain_pull(true), peer, json!({ "MAXMSGSIZE": limit })).await?;
    for seed in 2..20 {
        within("send", ours.send(filled(limit, seed))).await?;
        same("of the size that is allowed", peer.recv("theirs").await?, vec![filled(limit, seed)])?;
    }
    still_there(peer, "theirs").await
}

async fn properties(peer: &mut Peer) -> Outcome {
    let dir = Dir::new();
    let way = Way { transport: Transport::Ipc, we_bind: true };
    let (ours, _) = push(way, dir.pusher().plain_pull(true), peer, json!({})).await?;
    within("send", ours.send("look")).await?;
    let said = peer.recv_properties("theirs", &["X-Durable", "X-Durable-Name"]).await?;
    same("said", said, json!({ "X-Durable": "1", "X-Durable-Name": null }))
}

/// Our durable PULL is a plain worker of a stock PUSH.
async fn durable_pull(peer: &mut Peer, way: Way) -> Outcome {
    let options = json!({ "MAXMSGSIZE": TIGHT });
    let (mut ours, mut monitor) = pull(way, Pull::builder().durable(LONG_NAME), peer, options).await?;
    plain_peer(&mut monitor).await?;
    peer.stream_send("theirs", 1000, &bytes(&["job"])).await?;
    for number in 0..1000 {
        let delivery = within("recv_delivery", ours.recv_delivery()).await?;
        same("durable, and the number", (delivery.is_durable(), number_of(delivery.message())?), (false, number))?;
        same("its place in a spool", delivery.token(), None)?;
    }
    for content in content_set() {
        peer.send("theirs", &content).await?;
        let got = frames_of(&within("recv", ours.recv()).await?);
        check(got == content, "another message")?;
    }
    still_there(peer, "theirs").await?;
    super::undisturbed(&mut monitor)
}

async fn insists(peer: &mut Peer, way: Way) -> Outcome {
    let ours = Pull::builder().durable("w1").require_durable(true);
    let (_ours, mut monitor) = pull(way, ours, peer, json!({})).await?;
    plain_peer(&mut monitor).await?;
    let closed = |event: &Event| matches!(event, Event::Disconnected { reason: Reason::IncompatibleType, .. });
    wait_for(&mut monitor, "Disconnected: IncompatibleType", closed).await.map(drop)
}

/// A stock worker leaves with its connection; the next one, on the same place, gets what follows.
async fn stock_worker_leaves(peer: &mut Peer) -> Outcome {
    let dir = Dir::new();
    let way = Way { transport: Transport::Tcp, we_bind: true };
    let quick = Duration::from_millis(10);
    let ours = dir.pusher().plain_pull(true).reconnect(quick, quick);
    let (ours, mut monitor) = push(way, ours, peer, json!({})).await?;
    within("send", ours.send("one")).await?;
    same("the first", peer.recv("theirs").await?, bytes(&["one"]))?;
    finished(&ours).await?;
    peer.restart().await?;
    until("nobody", || queue(&ours).is_ok_and(|(_, workers)| workers == 0)).await?;
    within("send", ours.send("two")).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "PULL", &endpoint, json!({})).await?;
    plain_peer(&mut monitor).await?;
    same("what waited", peer.recv("theirs").await?, bytes(&["two"]))?;
    finished(&ours).await
}

#[tokio::test]
async fn d09_stock_workers_and_durable_work() {
    let mut cases = Cases::new("PUSH and PULL, one of them durable", Program::Libzmq);
    for transport in WIRES {
        for we_bind in [true, false] {
            let way = Way { transport, we_bind };
            let who = format!("{transport}, {} bind", if we_bind { "we" } else { "they" });
            let waits = async |peer: &mut Peer| waits_for_a_capable_worker(peer, way).await;
            cases.run(format!("stock PULL by default: {who}"), waits).await;
            cases.run(format!("plain_pull: {who}"), async |peer| plain_pull(peer, way).await).await;
            cases.run(format!("plain_pull, a stream: {who}"), async |peer| plain_stream(peer, way).await).await;
            cases.run(format!("stock PUSH: {who}"), async |peer| durable_pull(peer, way).await).await;
            cases.run(format!("stock PUSH, require_durable: {who}"), async |peer| insists(peer, way).await).await;
            for limit in [TIGHT, 64 << 10] {
                cases.run(format!("MAXMSGSIZE {limit}: {who}"), async |peer| limited(peer, way, limit).await).await;
            }
        }
    }
    cases.run("stock and capable workers", shared_work).await;
    cases.run("a stock worker leaves", stock_worker_leaves).await;
    cases.run("our properties", properties).await;
    cases.finish();
}
