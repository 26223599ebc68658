//! Peers that announce the extension by libzmq's option 95 and know nothing of it: plain, once our patience is over, or
//! once they do what no spooler would.

use std::time::{Duration, Instant};

use ginnel::{Pull, Push, Sub};
use interop::{Cases, Outcome, Peer, Program, check, frames_of, json, same, within};

use super::{Dir, bytes, connected, names_are, plain_peer, subscribed, undisturbed};

const PATIENCE: Duration = Duration::from_secs(5);

/// What a user of libzmq writes who copies our property.
fn announcing(value: &str) -> interop::Value {
    json!({ "METADATA": format!("X-Durable:{value}"), "SUBSCRIBE": "a" })
}

fn announcing_worker() -> interop::Value {
    json!({ "METADATA": "X-Durable:1" })
}

/// The one real wait of these tests, for every socket at once.
async fn never_asks(peer: &mut Peer) -> Outcome {
    let dirs = [Dir::new(), Dir::new(), Dir::new()];
    let place = "tcp://127.0.0.1:*";
    let publisher = dirs[0].publisher().declare("keeper", [""]).build()?;
    let by_default = dirs[1].pusher().build()?;
    let plain_pull = dirs[2].pusher().plain_pull(true).build()?;
    let mut monitors = [publisher.monitor(), by_default.monitor(), plain_pull.monitor()];
    let since = Instant::now();
    peer.connect("sub", "SUB", &publisher.bind_to(place).await?.to_string(), announcing("1")).await?;
    peer.connect("unserved", "PULL", &by_default.bind_to(place).await?.to_string(), announcing_worker()).await?;
    peer.connect("served", "PULL", &plain_pull.bind_to(place).await?.to_string(), announcing_worker()).await?;
    subscribed(&mut monitors[0], "a").await?;
    connected(&mut monitors[1], ginnel::SocketType::Pull).await?;
    connected(&mut monitors[2], ginnel::SocketType::Pull).await?;

    // It may still ask for a name: until then there is nothing to be sent, and nobody is called plain.
    within("send", publisher.send("a.early")).await?;
    within("send", by_default.send("early")).await?;
    within("send", plain_pull.send("early")).await?;
    for name in ["sub", "unserved", "served"] {
        peer.silent(name, 100).await?;
    }
    monitors.iter_mut().try_for_each(undisturbed)?;

    for monitor in &mut monitors {
        plain_peer(monitor).await?;
    }
    check(since.elapsed() >= PATIENCE, format!("plain after {:?}", since.elapsed()))?;
    within("send", publisher.send("b")).await?;
    within("send", publisher.send("a.late")).await?;
    same("from now on", peer.recv("sub").await?, bytes(&["a.late"]))?;
    within("send", plain_pull.send("late")).await?;
    for text in ["early", "late"] {
        same("work", peer.recv("served").await?, bytes(&[text]))?;
    }
    within("send", by_default.send("late")).await?;
    peer.silent("unserved", 100).await?;
    capable_worker(&by_default).await?;
    names_are(publisher.spool(), &["keeper"])
}

async fn capable_worker(ours: &Push) -> Outcome {
    let mut capable = Pull::builder().durable("w1").connect(ours.local_endpoint().ok_or("not bound")?)?;
    for text in ["early", "late"] {
        let delivery = within("recv_delivery", capable.recv_delivery()).await?;
        same("what waited", frames_of(delivery.message()), bytes(&[text]))?;
    }
    Ok(())
}

/// A stock PUB and a stock PUSH that announce it and never answer our DSTART are plain, too.
async fn never_answers(peer: &mut Peer) -> Outcome {
    let options = announcing_worker();
    let endpoint = peer.bind("pub", "XPUB", "tcp://127.0.0.1:*", options.clone()).await?;
    let mut sub = Sub::builder().durable("n").subscribe("a").build()?;
    let mut pull = Pull::builder().durable("n").build()?;
    let mut monitors = [sub.monitor(), pull.monitor()];
    sub.connect_to(endpoint)?;
    pull.connect_to(peer.bind("push", "PUSH", "tcp://127.0.0.1:*", options).await?)?;
    same("the subscription they see", peer.recv("pub").await?, bytes(&["\x01a"]))?;
    for text in ["b", "a.early"] {
        peer.send("pub", &bytes(&[text])).await?;
        peer.send("push", &bytes(&[text])).await?;
    }
    for monitor in &mut monitors {
        plain_peer(monitor).await?;
    }
    peer.send("pub", &bytes(&["a.late"])).await?;
    let mut texts = Vec::new();
    while texts.last() != Some(&bytes(&["a.late"])) {
        let delivery = within("recv_delivery", sub.recv_delivery()).await?;
        check(!delivery.is_durable(), "a durable delivery")?;
        texts.push(frames_of(delivery.message()));
    }
    peer.send("push", &bytes(&["late"])).await?;
    let mut texts = Vec::new();
    while texts.last() != Some(&bytes(&["late"])) {
        texts.push(frames_of(within("recv_delivery", pull.recv_delivery()).await?.message()));
    }
    Ok(())
}

/// Another version than ours, or a name without a version. (That this is so at once, see `raw`.)
async fn other_versions(peer: &mut Peer, property: &str) -> Outcome {
    let dir = Dir::new();
    let ours = dir.publisher().build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?.to_string();
    peer.connect("theirs", "SUB", &endpoint, json!({ "METADATA": property, "SUBSCRIBE": "a" })).await?;
    plain_peer(&mut monitor).await?;
    subscribed(&mut monitor, "a").await?;
    within("send", ours.send("a")).await?;
    same("published", peer.recv("theirs").await?, bytes(&["a"]))
}

#[tokio::test]
async fn d09_a_peer_that_announces_and_never_asks_is_plain_after_five_seconds() {
    let mut cases = Cases::new("stock peers that announce X-Durable", Program::Libzmq);
    cases.run("never asks", never_asks).await;
    cases.finish();
}

#[tokio::test]
async fn d09_a_peer_that_announces_and_never_answers_is_plain() {
    let mut cases = Cases::new("stock publishers that announce X-Durable", Program::Libzmq);
    cases.run("never answers", never_answers).await;
    cases.finish();
}

#[tokio::test]
async fn d09_a_version_that_is_not_ours_is_plain() {
    let mut cases = Cases::new("stock peers that announce something else", Program::Libzmq);
    for property in ["X-Durable:2", "X-Durable:10", "X-Durable:one", "X-Durable-Name:keeper", "X-Durables:1"] {
        cases.run(property, async |peer| other_versions(peer, property).await).await;
    }
    cases.finish();
}
