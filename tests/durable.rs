//! Durable delivery through the public API: what was accepted arrives, whoever was away.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use ginnel::*;

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        let path = std::env::temp_dir().join(unique("ginnel-durable"));
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn publisher(dir: &Path) -> Builder<Pub> {
    Pub::builder().spool(dir).min_free_disk(0).linger(DEADLINE)
}

fn pusher(dir: &Path) -> Builder<Push> {
    Push::builder().spool(dir).min_free_disk(0).linger(DEADLINE)
}

fn subscriber(name: &str) -> Builder<Sub> {
    Sub::builder().durable(name).subscribe("").reconnect(QUICK, QUICK)
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message[message.len() - 1]).into_owned()
}

async fn take(sub: &mut Receiver, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        got.push(text(&soon(sub.recv()).await.expect("a message")));
    }
    got
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn d03_a_subscriber_that_was_away_finds_its_messages() {
    for transport in WIRES {
        let dir = Dir::new();
        let publisher = publisher(&dir.spool()).bind(place(transport)).await.expect("bind");
        let mut sub = subscriber("billing").connect(publisher.local_endpoint()).expect("connect");
        soon(publisher.wait_for_subscribers(1)).await.expect("open");
        wait_for_name(&publisher, "billing").await;
        for n in 0..10 {
            publisher.send(n.to_string()).await.expect("accepted");
        }
        assert_eq!(take(&mut sub, 10).await, numbers(0..10));
        sub.ack_last();
        soon(sub.close()).await;
        drop(sub);
        for n in 10..30 {
            publisher.send(n.to_string()).await.expect("accepted");
        }
        let mut sub = subscriber("billing").connect(publisher.local_endpoint()).expect("connect");
        assert_eq!(take(&mut sub, 20).await, numbers(10..30));
        sub.ack_last();
        soon(sub.close()).await;
        assert_eq!(soon(publisher.close()).await.dropped, 0);
    }
}

async fn wait_for_name(publisher: &Pub, name: &str) {
    until(|| {
        let names = publisher.spool().expect("a spool").names();
        names.iter().any(|known| known.name == name && known.connected())
    })
    .await;
}
