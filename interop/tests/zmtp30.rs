//! A peer that announces ZMTP 3.0: no program at hand still does, so this one is written out in bytes.
//!
//! In 3.0 subscriptions are messages (01 or 00 and the topic), not commands.

use ginnel::{Event, Pub, Sub, XPub};
use interop::{Outcome, RawPeer, frames_of, same, wait_for, within};
use tokio::net::TcpListener;

#[tokio::test]
async fn our_sub_subscribes_by_message() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut ours = Sub::connect(format!("tcp://{}", listener.local_addr()?))?;
    ours.subscribe("A")?;
    let mut peer = RawPeer::accept(&listener, 0, "PUB", &[]).await?;
    same("subscribe", peer.recv().await?, (0, b"\x01A".to_vec()))?;
    peer.send(b"A-data").await?;
    same("published", frames_of(&within("recv", ours.recv()).await?), vec![b"A-data".to_vec()])?;
    ours.unsubscribe("A")?;
    same("cancel", peer.recv().await?, (0, b"\x00A".to_vec()))
}

/// Two subscribes and one cancel by the same peer: the publisher keeps a set, so the topic is gone.
#[tokio::test]
async fn our_publisher_keeps_a_set_per_peer() -> Outcome {
    let mut ours = XPub::bind("tcp://127.0.0.1:*").await?;
    let mut peer = RawPeer::connect(ours.local_endpoint(), 0, "SUB", &[]).await?;
    for topic in [&b"\x01A"[..], b"\x01A", b"\x00A", b"\x01end"] {
        peer.send(topic).await?;
    }
    for topic in [&b"\x01A"[..], b"\x00A", b"\x01end"] {
        same("seen", frames_of(&within("recv", ours.recv()).await?), vec![topic.to_vec()])?;
    }
    within("send", ours.send("A is gone")).await?;
    within("send", ours.send("end")).await?;
    same("only this", peer.recv().await?, (0, b"end".to_vec()))
}

/// The command form is taken from a 3.0 peer too, as libzmq does.
#[tokio::test]
async fn our_publisher_takes_both_forms() -> Outcome {
    let ours = Pub::bind("tcp://127.0.0.1:*").await?;
    let mut monitor = ours.monitor();
    let mut peer = RawPeer::connect(ours.local_endpoint(), 0, "SUB", &[]).await?;
    peer.write(b"\x04\x0b\x09SUBSCRIBEA").await?;
    let subscribed = |event: &Event| matches!(event, Event::Subscribed { topic, .. } if *topic == "A");
    wait_for(&mut monitor, "Subscribed", subscribed).await?;
    within("send", ours.send("A-data")).await?;
    same("published", peer.recv().await?, (0, b"A-data".to_vec()))
}
