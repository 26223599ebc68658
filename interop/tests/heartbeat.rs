//! Heartbeats with libzmq: each side keeps the other, and notices when it stops.

use std::time::Duration;

use ginnel::{Event, Pull, Push, Reason};
use interop::{Cases, Outcome, Peer, Program, check, frames_of, json, same, until, wait_for, within};

const INTERVAL: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_millis(300);

fn theirs() -> interop::Value {
    json!({ "HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 1000, "HEARTBEAT_TTL": 2000 })
}

/// libzmq pings an idle socket of ours twenty times and stays content.
async fn they_ping_us(peer: &mut Peer, we_bind: bool) -> Outcome {
    let mut ours = Pull::new();
    if we_bind {
        let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
        peer.connect("theirs", "PUSH", &endpoint.to_string(), theirs()).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "PUSH", "tcp://127.0.0.1:*", theirs()).await?)?;
    }
    within("wait_for_peers", ours.wait_for_peers(1)).await?;
    let events = peer.events("theirs", "DISCONNECTED", 1500).await?;
    check(!events.iter().any(|name| name == "DISCONNECTED"), format!("they left: {events:?}"))?;
    peer.send("theirs", &[b"still here".to_vec()]).await?;
    same("the message", frames_of(&within("recv", ours.recv()).await?), vec![b"still here".to_vec()])?;
    same("reconnects", ours.peers().iter().map(|peer| peer.reconnects).sum(), 0)
}

/// We ping libzmq and time its answers.
async fn we_ping_them(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "PULL", "tcp://127.0.0.1:*", json!({})).await?;
    let ours = Push::builder().heartbeat(INTERVAL, TIMEOUT).connect(endpoint)?;
    until("a round trip", || ours.peers().iter().any(|peer| peer.round_trip.is_some())).await
}

fn timed_out(event: &Event) -> bool {
    matches!(event, Event::Disconnected { reason: Reason::Timeout, .. })
}

/// A frozen libzmq is noticed; when it thaws, traffic resumes.
async fn frozen(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "PULL", "tcp://127.0.0.1:*", json!({})).await?;
    let ours = Push::builder().heartbeat(INTERVAL, TIMEOUT).reconnect(INTERVAL, INTERVAL).build()?;
    let mut monitor = ours.monitor();
    ours.connect_to(endpoint)?;
    wait_for(&mut monitor, "Connected", |event| matches!(event, Event::Connected { .. })).await?;
    peer.signal("STOP").await?;
    let noticed = wait_for(&mut monitor, "Disconnected by Timeout", timed_out).await;
    peer.signal("CONT").await?;
    noticed?;
    wait_for(&mut monitor, "Connected again", |event| matches!(event, Event::Connected { .. })).await?;
    within("send", ours.send("again")).await?;
    same("the message", peer.recv("theirs").await?, vec![b"again".to_vec()])
}

/// libzmq's PING promises life for its TTL; we hold it to that even with our own heartbeat off.
async fn ttl(peer: &mut Peer) -> Outcome {
    let ours = Pull::builder().heartbeat(Duration::ZERO, Duration::ZERO).build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
    let options = json!({ "HEARTBEAT_IVL": 50, "HEARTBEAT_TTL": 300, "HEARTBEAT_TIMEOUT": 5000 });
    peer.connect("theirs", "PUSH", &endpoint.to_string(), options).await?;
    wait_for(&mut monitor, "Connected", |event| matches!(event, Event::Connected { .. })).await?;
    let events = peer.events("theirs", "DISCONNECTED", 300).await?;
    check(!events.iter().any(|name| name == "DISCONNECTED"), format!("they left: {events:?}"))?;
    peer.signal("STOP").await?;
    let noticed = wait_for(&mut monitor, "Disconnected by Timeout", timed_out).await;
    peer.signal("CONT").await?;
    noticed.map(drop)
}

#[tokio::test]
async fn heartbeat() {
    let mut cases = Cases::new("heartbeat", Program::Libzmq);
    cases.run("they ping us, we bind", async |peer| they_ping_us(peer, true).await).await;
    cases.run("they ping us, they bind", async |peer| they_ping_us(peer, false).await).await;
    cases.run("we ping them", we_ping_them).await;
    cases.run("a frozen peer times out and comes back", frozen).await;
    cases.run("the TTL of their ping", ttl).await;
    cases.finish();
}
