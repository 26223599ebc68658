//! Every byte that a plain peer gets from a durable socket: a READY that is short enough, and messages, never a command.

use std::time::Duration;

use ginnel::{Buildable, Builder, Pub, Pull, Push, Sub};
use interop::{Fault, Outcome, RawPeer, check, frames_of, same, until, within};
use tokio::net::TcpListener;

use super::{Dir, LONG_NAME, TIGHT, plain_peer, subscribed};

const SUBSCRIBE_A: &[u8] = b"\x04\x0b\x09SUBSCRIBEa";

/// What a peer says of itself.
type Said = (u8, &'static [(&'static str, &'static str)]);

/// What makes a peer plain at once: nothing; another version; or, in ZMTP 3.0, even our own property.
const PLAIN: [Said; 4] = [
    (1, &[]),
    (1, &[("X-Durable", "2"), ("X-Durable-Name", "keeper")]),
    (0, &[]),
    (0, &[("X-Durable", "1"), ("X-Durable-Name", "keeper")]),
];

/// Without heartbeats there is no reason for any command.
fn quiet<S: Buildable>(builder: Builder<S>) -> Builder<S> {
    builder.heartbeat(Duration::ZERO, Duration::ZERO)
}

fn short_ready(peer: &RawPeer) -> Outcome {
    check(peer.ready.len() <= TIGHT, format!("READY has {} bytes", peer.ready.len()))?;
    same("X-Durable", peer.property("X-Durable"), Some(b"1".to_vec()))
}

#[tokio::test]
async fn d09_a_plain_sub_gets_messages_and_no_commands() -> Outcome {
    for (minor, others) in PLAIN {
        let dir = Dir::new();
        let ours: Pub = quiet(dir.publisher().declare("keeper", [""])).build()?;
        let mut monitor = ours.monitor();
        ours.bind_to("tcp://127.0.0.1:*").await?;
        let mut peer = RawPeer::connect(ours.local_endpoint(), minor, "SUB", others).await?;
        short_ready(&peer)?;
        same("X-Durable-Name", peer.property("X-Durable-Name"), None)?;
        plain_peer(&mut monitor).await?;
        peer.write(if minor == 0 { b"\x00\x02\x01a" } else { SUBSCRIBE_A }).await?;
        subscribed(&mut monitor, "a").await?;
        for text in ["a.1", "b", "a.2", "a.3"] {
            within("send", ours.send(text)).await?;
        }
        for text in ["a.1", "a.2", "a.3"] {
            same("the message", peer.recv_message().await?, text.as_bytes().to_vec())?;
        }
        peer.silent(200).await?;
    }
    Ok(())
}

#[tokio::test]
async fn d09_a_plain_pull_gets_messages_and_no_commands() -> Outcome {
    for (minor, others) in PLAIN {
        for plain_pull in [false, true] {
            let dir = Dir::new();
            let ours: Push = quiet(dir.pusher().plain_pull(plain_pull)).build()?;
            let mut monitor = ours.monitor();
            ours.bind_to("tcp://127.0.0.1:*").await?;
            let mut peer = RawPeer::connect(ours.local_endpoint(), minor, "PULL", others).await?;
            short_ready(&peer)?;
            plain_peer(&mut monitor).await?;
            for text in ["1", "2", "3"] {
                within("send", ours.send(text)).await?;
                if plain_pull {
                    same("the message", peer.recv_message().await?, text.as_bytes().to_vec())?;
                }
            }
            peer.silent(200).await?;
            let lag = if plain_pull { 0 } else { 3 };
            let waiting = || ours.spool().is_some_and(|spool| spool.names().iter().all(|name| name.lag_records == lag));
            until("what is waiting", waiting).await?;
        }
    }
    Ok(())
}

async fn listener() -> Result<(TcpListener, String), Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("tcp://{}", listener.local_addr()?);
    Ok((listener, endpoint))
}

#[tokio::test]
async fn d09_a_plain_pub_hears_subscriptions_and_no_commands_of_ours() -> Outcome {
    for (minor, others) in PLAIN {
        let (listener, endpoint) = listener().await?;
        let mut ours = quiet(Sub::builder().durable(LONG_NAME).subscribe("a")).connect(endpoint)?;
        let mut peer = RawPeer::accept(&listener, minor, "PUB", others).await?;
        short_ready(&peer)?;
        same("X-Durable-Name", peer.property("X-Durable-Name"), Some(LONG_NAME.as_bytes().to_vec()))?;
        let subscribe = if minor == 0 { (0, b"\x01a".to_vec()) } else { (4, b"\x09SUBSCRIBEa".to_vec()) };
        same("the subscription", peer.recv().await?, subscribe)?;
        peer.send(b"a.1").await?;
        let delivery = within("recv_delivery", ours.recv_delivery()).await?;
        same("the message", frames_of(delivery.message()), vec![b"a.1".to_vec()])?;
        check(!delivery.is_durable(), "a durable delivery")?;
        delivery.ack();
        peer.silent(200).await?;
    }
    Ok(())
}

#[tokio::test]
async fn d09_a_plain_push_hears_nothing_of_ours() -> Outcome {
    for (minor, others) in PLAIN {
        let (listener, endpoint) = listener().await?;
        let mut ours = quiet(Pull::builder().durable(LONG_NAME)).connect(endpoint)?;
        let mut peer = RawPeer::accept(&listener, minor, "PUSH", others).await?;
        short_ready(&peer)?;
        peer.send(b"work").await?;
        let message = within("recv", ours.recv()).await?;
        same("the message", frames_of(&message), vec![b"work".to_vec()])?;
        peer.silent(200).await?;
    }
    Ok(())
}

/// A DSTART as a holder would send it.
fn start() -> Vec<u8> {
    [b"\x06DSTART\0", &1000_u32.to_be_bytes()[..], &1_000_000_u32.to_be_bytes(), &[0; 16], &[0; 8], &[0; 4]].concat()
}

/// A plain peer that sends our commands all the same, even a DSTART that is in order: no answer, no name, no harm.
#[tokio::test]
async fn d09_commands_of_a_plain_peer_are_ignored() -> Outcome {
    for (minor, others) in PLAIN {
        let dir = Dir::new();
        let ours: Pub = quiet(dir.publisher()).build()?;
        let mut monitor = ours.monitor();
        ours.bind_to("tcp://127.0.0.1:*").await?;
        let mut peer = RawPeer::connect(ours.local_endpoint(), minor, "SUB", others).await?;
        let broken =
            [&b"\x04DACKxx"[..], b"\x05DNACK", b"\x04DEND", b"\x03DLV", b"\x03DOK", b"\x05DHEAD", b"\x06DSTART"];
        for command in [&start()[..]].into_iter().chain(broken) {
            peer.write(&[&[4, u8::try_from(command.len())?], command].concat()).await?;
        }
        peer.write(SUBSCRIBE_A).await?;
        subscribed(&mut monitor, "a").await?;
        within("send", ours.send("a")).await?;
        same("the message", peer.recv_message().await?, b"a".to_vec())?;
        super::names_are(ours.spool(), &[])?;
        peer.silent(100).await?;
    }
    Ok(())
}

/// The same commands make a name where the peer is not plain: the test above is about something.
#[tokio::test]
async fn d09_a_peer_that_asks_has_a_name() -> Outcome {
    let dir = Dir::new();
    let ours: Pub = quiet(dir.publisher()).bind("tcp://127.0.0.1:*").await?;
    let others = [("X-Durable", "1"), ("X-Durable-Name", "keeper")];
    let mut peer = RawPeer::connect(ours.local_endpoint(), 1, "SUB", &others).await?;
    let start = start();
    peer.write(&[SUBSCRIBE_A, &[4, u8::try_from(start.len())?], &start].concat()).await?;
    let (flags, answer) = peer.recv().await?;
    check(flags == 4 && answer.starts_with(b"\x03DOK"), format!("not DOK: {flags} {}", answer.escape_ascii()))?;
    within("send", ours.send("a")).await?;
    let (flags, announcement) = peer.recv().await?;
    check(flags == 4 && announcement.starts_with(b"\x03DLV"), format!("not DLV: {flags}"))?;
    same("the message", peer.recv_message().await?, b"a".to_vec())?;
    super::names_are(ours.spool(), &["keeper"])
}
