//! Durable sockets and peers that know nothing of durability: each is served as a plain peer, and never hears our commands.
//!
//! `publisher`: stock SUB at our durable PUB; `slow`: one that is too slow; `subscriber`: our durable SUB at a stock
//! PUB; `worker`: PUSH and PULL both ways; `announced`: peers that only claim to take part; `raw`: every byte that a
//! plain peer gets; `hops`: a stock proxy in between.

mod announced;
mod hops;
mod publisher;
mod raw;
mod slow;
mod subscriber;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use ginnel::{Builder, Event, Message, Monitor, Pub, Push, SocketType};
use interop::{Content, Fault, Outcome, Transport, check, same, wait_for};

const WIRES: [Transport; 2] = [Transport::Tcp, Transport::Ipc];

/// A limit that our READY must stay below: libzmq applies it to commands, too.
const TIGHT: usize = 128;

/// The longest name, for the longest READY.
const LONG_NAME: &str = "a-name-of-sixty-four-bytes-which-is-as-long-as-a-name-may-be-000";

/// A directory for a spool that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Dir(std::env::temp_dir().join(format!("ginnel-interop-spool-{}-{number}", std::process::id())))
    }

    fn publisher(&self) -> Builder<Pub> {
        Pub::builder().spool(&self.0).min_free_disk(0)
    }

    fn pusher(&self) -> Builder<Push> {
        Push::builder().spool(&self.0).min_free_disk(0)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bytes(texts: &[&str]) -> Content {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A message with a number at its end, as the peer's streams have it, behind a topic and some weight.
fn numbered(topic: &str, number: u64, weight: usize) -> Message {
    let frames = [topic.as_bytes().to_vec(), vec![b'.'; weight], number.to_be_bytes().to_vec()];
    Message::from_frames(frames).expect("three frames")
}

fn number_of(message: &Message) -> Result<u64, Fault> {
    let last = message.iter().last().ok_or("no frames")?;
    Ok(u64::from_be_bytes(<[u8; 8]>::try_from(&last[..])?))
}

/// What a monitor has seen, in the order it came.
async fn plain_peer(monitor: &mut Monitor) -> Outcome {
    wait_for(monitor, "PlainPeer", |event| matches!(event, Event::PlainPeer { .. })).await.map(drop)
}

async fn subscribed(monitor: &mut Monitor, topic: &str) -> Outcome {
    let wanted =
        |event: &Event| matches!(event, Event::Subscribed { topic: found, .. } if **found == *topic.as_bytes());
    wait_for(monitor, &format!("Subscribed {topic:?}"), wanted).await.map(drop)
}

async fn connected(monitor: &mut Monitor, theirs: SocketType) -> Outcome {
    let wanted = |event: &Event| matches!(event, Event::Connected { socket_type, .. } if *socket_type == Some(theirs));
    wait_for(monitor, "Connected", wanted).await.map(drop)
}

/// No event so far says that the peer is plain, or that it left.
fn undisturbed(monitor: &mut Monitor) -> Outcome {
    while let Some(event) = monitor.try_recv() {
        let disturbs = matches!(event, Event::PlainPeer { .. } | Event::Disconnected { .. } | Event::Refused { .. });
        check(!disturbs, format!("{event:?}"))?;
    }
    Ok(())
}

/// The peer has a connection of ours and has not lost it.
async fn still_there(peer: &mut interop::Peer, name: &str) -> Outcome {
    let events = peer.events(name, "DISCONNECTED", 1).await?;
    let lost = events.iter().any(|event| event == "DISCONNECTED" || event.starts_with("HANDSHAKE_FAILED"));
    check(!lost, format!("{name} lost its connection: {events:?}"))
}

/// Only these names are in the spool.
fn names_are(spool: Option<&ginnel::Spool>, expected: &[&str]) -> Outcome {
    let names = spool.ok_or("no spool")?.names();
    same("the names", names.iter().map(|name| &*name.name).collect::<Vec<_>>(), expected.to_vec())
}
