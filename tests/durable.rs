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

#[tokio::test]
async fn d03_workers_share_what_a_push_keeps() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("bind");
    for n in 0..100 {
        drop(push.enqueue(n.to_string()).await.expect("room"));
    }
    soon(push.flush()).await.expect("accepted");
    let worker = |name: &str| {
        let pull = Pull::builder().durable(name).recv_hwm(4).ack(Ack::Manual).reconnect(QUICK, QUICK);
        pull.connect(push.local_endpoint()).expect("connect")
    };
    let (mut one, mut two) = (worker("one"), worker("two"));
    let mut got = Vec::new();
    while got.len() < 100 {
        tokio::select! {
            delivery = one.recv_delivery() => {
                let delivery = delivery.expect("open");
                got.push(text(delivery.message()));
                delivery.ack();
            }
            delivery = two.recv_delivery() => {
                let delivery = delivery.expect("open");
                got.push(text(delivery.message()));
                delivery.ack();
            }
            () = tokio::time::sleep(DEADLINE) => panic!("{} of 100: {:#?}", got.len(), push.spool().expect("a spool").names()),
        }
    }
    got.sort_by_key(|text| text.parse::<usize>().expect("a number"));
    assert_eq!(got, numbers(0..100));
    until(|| push.spool().expect("a spool").names()[0].in_flight == 0).await;
    let report = soon(push.close()).await;
    assert_eq!(report.kept, 0);
}

#[tokio::test]
async fn d01_what_was_accepted_is_there_after_a_restart() {
    let dir = Dir::new();
    let endpoint = later("tcp").await;
    let first = publisher(&dir.spool()).declare("billing", [""]).build().expect("a spool");
    bind_again(&first, &endpoint).await;
    first.send_all((0..1000).map(|n| n.to_string())).await.expect("accepted");
    soon(first.close()).await;
    let second = publisher(&dir.spool()).build().expect("a spool");
    bind_again(&second, &endpoint).await;
    second.send("1000").await.expect("accepted");
    let mut sub = subscriber("billing").connect(&endpoint).expect("connect");
    assert_eq!(take(&mut sub, 1001).await, numbers(0..1001));
}

#[tokio::test]
async fn d03_pinned_records_wait_for_their_worker() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).pin(true).bind(place("tcp")).await.expect("bind");
    let worker = |name: &str| {
        let pull = Pull::builder().durable(name).recv_hwm(1).ack(Ack::Manual).reconnect(QUICK, QUICK);
        pull.connect(push.local_endpoint()).expect("connect")
    };
    let mut one = worker("one");
    push.send("first").await.expect("accepted");
    let first = soon(one.recv_delivery()).await.expect("open");
    assert_eq!((text(first.message()), first.tries()), ("first".to_owned(), 1));
    let mut two = worker("two");
    soon(push.wait_for_peers(2)).await.expect("open");
    drop(first);
    drop(one);
    until(|| push.spool().expect("a spool").names()[0].connections == 1).await;
    push.send("second").await.expect("accepted");
    let second = soon(two.recv_delivery()).await.expect("open");
    assert_eq!(text(second.message()), "second", "the first is not for this one");
    second.ack();
    let mut one = worker("one");
    let first = soon(one.recv_delivery()).await.expect("open");
    assert_eq!((text(first.message()), first.tries()), ("first".to_owned(), 2));
    first.ack();
    until(|| push.spool().expect("a spool").names()[0].lag_records == 0).await;
}

#[tokio::test]
async fn a_message_comes_at_its_time_and_not_if_it_was_withdrawn() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("bind");
    let now = std::time::SystemTime::now();
    let late = push.send_at("late", now + 100 * DEADLINE).await.expect("accepted");
    push.send_at("soon", now + QUICK).await.expect("accepted");
    push.send_at("past", now - DEADLINE).await.expect("accepted");
    let mut pull = Pull::builder().durable("one").connect(push.local_endpoint()).expect("connect");
    let mut got = take(&mut pull, 2).await;
    got.sort();
    assert_eq!(got, ["past", "soon"]);
    assert!(late.is_delayed() && push.spool().expect("a spool").cancel(late));
    assert!(!push.spool().expect("a spool").cancel(late), "only once");
    assert!(pull.try_recv().is_err());
}

#[tokio::test]
async fn d03_a_holder_whose_name_was_dropped_hears_what_it_missed() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).append_all(true).declare("it", [""]).bind("tcp://127.0.0.1:0").await;
    let publisher = publisher.expect("a spool");
    let _ = publisher.send("1").await.expect("accepted");
    let mut sub = subscriber("it").connect(publisher.local_endpoint()).expect("connect");
    let token = soon(sub.recv_delivery()).await.expect("a message").token().expect("a token");
    sub.close().await;
    assert!(publisher.spool().expect("a spool").drop_name("it").await.expect("saved"));
    for n in ["2", "3"] {
        let _ = publisher.send(n).await.expect("accepted");
    }
    let sub = subscriber("it").resume_from([token]).build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    let (from, to) = loop {
        if let Event::Lost { from, to, .. } = soon(monitor.recv()).await.expect("an event") {
            break (from, to);
        }
    };
    assert_eq!((from, to), (2, 3));
    sub.close().await;
    publisher.close().await;
}
