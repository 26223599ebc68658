//! Every way to send on a spool: what has a number is in order, and what was accepted arrives.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_sink::Sink;
use ginnel::*;

use crate::common::polls::poll_once;
use crate::common::*;
use crate::durable::*;

/// Sends words in all ways in turn. Gives how many there were.
async fn in_every_way(sender: &ginnel::Sender) -> u32 {
    let word = |at| Word { round: 0, at }.message();
    let mut next = 0;
    for _ in 0..20 {
        let receipt = soon(sender.send(word(next))).await.expect("accepted");
        assert!(receipt.sequence().is_some() && !receipt.is_delayed());
        let receipt = sender.try_send(word(next + 1)).expect("room");
        assert!(receipt.sequence().is_some());
        let receipt = soon(sender.reserve()).await.expect("room").send(word(next + 2));
        assert!(receipt.sequence().is_some());
        sender.try_reserve().expect("room").send(word(next + 3));
        let pending = soon(sender.enqueue(word(next + 4))).await.expect("room");
        let number = pending.sequence();
        assert_eq!(soon(pending).await.expect("accepted").sequence(), Some(number));
        // Nobody waits for it: it is written all the same.
        drop(soon(sender.enqueue(word(next + 5))).await.expect("room"));
        assert_eq!(soon(sender.send_all((next + 6..next + 16).map(word))).await.expect("accepted"), 10);
        let mut sink = pin!(sender.sink());
        for at in next + 16..next + 26 {
            soon(std::future::poll_fn(|cx| sink.as_mut().poll_ready(cx))).await.expect("room");
            sink.as_mut().start_send(word(at)).expect("room");
        }
        soon(std::future::poll_fn(|cx| sink.as_mut().poll_flush(cx))).await.expect("accepted");
        let receipt = soon(sender.send_timeout(word(next + 26), DEADLINE)).await.expect("accepted");
        assert!(receipt.sequence().is_some());
        next += 27;
    }
    soon(sender.flush()).await.expect("accepted");
    next
}

#[tokio::test]
async fn d03_every_way_to_publish_is_in_order() {
    for sync in [ginnel::Sync::Batch, ginnel::Sync::Never] {
        let dir = Dir::new();
        let builder = publisher(&dir.spool()).sync(sync).declare("all", [""]);
        let publisher = builder.bind(place("tcp")).await.expect("a spool");
        let sent = in_every_way(&publisher).await;
        let stats = publisher.spool().expect("a spool").stats();
        assert_eq!((stats.newest, stats.visible, stats.records), (sent.into(), sent.into(), sent.into()));
        let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
        assert_eq!(take(&mut sub, sent as usize).await, places(0..sent));
    }
}

#[tokio::test]
async fn d03_every_way_to_push_is_in_order() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let sent = in_every_way(&push).await;
    let mut pull = worker("one").connect(push.local_endpoint()).expect("connect");
    assert_eq!(take(&mut pull, sent as usize).await, places(0..sent));
}

#[tokio::test]
async fn many_senders_share_the_numbers() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("all", [""]).bind(place("tcp")).await.expect("a spool");
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    let mut senders = tokio::task::JoinSet::new();
    for round in 0..16 {
        let publisher = publisher.clone();
        senders.spawn(async move {
            let mut numbers = Vec::new();
            for at in 0..30 {
                let receipt = soon(publisher.send(Word { round, at }.message())).await.expect("accepted");
                numbers.push((receipt.sequence().expect("a number"), Word { round, at }));
            }
            numbers
        });
    }
    let mut numbers: Vec<(u64, Word)> = senders.join_all().await.into_iter().flatten().collect();
    numbers.sort_unstable();
    let mut got = Vec::new();
    for delivery in deliveries(&mut sub, numbers.len()).await {
        got.push((delivery.sequence().expect("a number"), Word::of(delivery.message())));
    }
    assert_eq!(got, numbers, "each number is its message's, and they come in order");
}

#[tokio::test]
async fn a_dropped_send_is_in_the_spool_whole_or_not_at_all() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("all", [""]).bind(place("tcp")).await.expect("a spool");
    let word = |at| Word { round: 0, at };
    let mut sure = Vec::new();
    for at in 0..60 {
        if at % 3 == 0 {
            let _ = soon(publisher.send(word(at).message())).await.expect("accepted");
            sure.push(at);
        } else {
            // Polled once or never, and dropped.
            let mut send = Box::pin(publisher.send(word(at).message()));
            if at % 3 == 1 {
                let _ = poll_once(send.as_mut());
            }
        }
    }
    soon(publisher.flush()).await.expect("accepted");
    let records = publisher.spool().expect("a spool").stats().records as usize;
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    let got = take(&mut sub, records).await;
    assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
    assert!(sure.iter().all(|at| got.contains(at)), "{got:?}");
    assert!(got.iter().all(|at| at % 3 != 2), "never polled, never sent: {got:?}");
}

/// A future that is polled once and then dropped, in turn with another that goes through.
struct Once<F>(Pin<Box<F>>);

impl<F: Future> Future for Once<F> {
    type Output = Poll<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.0.as_mut().poll(cx))
    }
}

#[tokio::test]
async fn a_pending_that_is_dropped_holds_nobody_up() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("all", [""]).bind(place("tcp")).await.expect("a spool");
    let mut pendings = Vec::new();
    for word in words(0..100) {
        pendings.push(soon(publisher.enqueue(word.message())).await.expect("room"));
    }
    for (at, pending) in pendings.into_iter().enumerate() {
        if at % 2 == 0 {
            let _ = Once(Box::pin(pending)).await;
        } else {
            let _ = soon(pending).await.expect("accepted");
        }
    }
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 100).await, places(0..100));
}

#[tokio::test]
async fn a_closed_spool_takes_nothing() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("all", [""]).build().expect("a spool");
    send_words(&publisher, 0..10).await;
    let report = soon(publisher.close()).await;
    assert_eq!((report.kept, report.dropped), (10, 0));
    assert!(matches!(soon(publisher.send("x")).await, Err(SendError::Closed(_))));
    assert!(matches!(publisher.try_send("x"), Err(TrySendError::Closed(_))));
    assert!(matches!(soon(publisher.enqueue("x")).await.map(drop), Err(SendError::Closed(_))));
    assert!(matches!(soon(publisher.reserve()).await.map(drop), Err(SendError::Closed(()))));
    assert!(matches!(publisher.try_reserve().map(drop), Err(TrySendError::Closed(()))));
    let error = soon(publisher.send_all(["x", "y"])).await.expect_err("closed");
    assert_eq!((error.sent, error.rest.len()), (0, 2));
    assert_eq!(publisher.spool().expect("a spool").stats().state, SpoolState::Closed);
}

#[tokio::test]
async fn without_a_spool_nothing_has_a_number() {
    let publisher = Pub::bind(place("tcp")).await.expect("bind");
    assert!(publisher.spool().is_none());
    assert_eq!(soon(publisher.send("x")).await.expect("taken").sequence(), None);
    let error = soon(publisher.enqueue("x")).await.map(drop).expect_err("no spool");
    assert!(matches!(error, SendError::NoSpool(_)), "{error}");
}

#[tokio::test]
async fn what_is_sent_for_later_comes_then_and_once() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("all", [""]).bind(place("tcp")).await.expect("a spool");
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    let spool = publisher.spool().expect("a spool").clone();
    let now = SystemTime::now();
    let at = |millis: u64| now + Duration::from_millis(millis);
    let word = |at| Word { round: 0, at }.message();
    let late = soon(publisher.send_at(word(2), at(300))).await.expect("accepted");
    let soon_due = soon(publisher.send_at(word(1), at(150))).await.expect("accepted");
    let never = soon(publisher.send_at(word(9), at(200))).await.expect("accepted");
    let past = soon(publisher.send_at(word(0), now - Duration::from_secs(60))).await.expect("accepted");
    assert!([late, soon_due, never, past].iter().all(Receipt::is_delayed));
    assert!(spool.cancel(never), "it waits");
    assert!(!spool.cancel(never), "it is withdrawn already");
    assert!(!spool.cancel(soon(publisher.send("now")).await.expect("accepted")), "that does not wait");
    let mut got = Vec::new();
    while got.len() < 4 {
        let delivery = soon(sub.recv_delivery()).await.expect("a delivery");
        if delivery.message().len() == 1 {
            got.push((99, SystemTime::now()));
            continue;
        }
        got.push((Word::of(delivery.message()).at, SystemTime::now()));
    }
    let order: Vec<u32> = got.iter().map(|(at, _)| *at).filter(|&at| at != 99).collect();
    assert_eq!(order, [0, 1, 2]);
    for (word, due) in [(1, at(150)), (2, at(300))] {
        let came = got.iter().find(|(at, _)| *at == word).expect("it came").1;
        assert!(came >= due, "{word} came {:?} too early", due.duration_since(came));
    }
    assert!(!spool.cancel(late), "too late");
    until(|| spool.stats().delayed == 0).await;
}

#[tokio::test]
async fn what_waits_for_its_time_waits_over_a_restart() {
    let dir = Dir::new();
    let there = later("tcp").await;
    let first = publisher(&dir.spool()).declare("all", [""]).build().expect("a spool");
    let never = soon(first.send_at("never", SystemTime::now() + Duration::from_secs(3600))).await.expect("accepted");
    assert!(first.spool().expect("a spool").cancel(never));
    let due = SystemTime::now() + Duration::from_millis(300);
    for word in words(0..50) {
        let _ = soon(first.send_at(word.message(), due)).await.expect("accepted");
    }
    soon(first.close()).await;
    drop(first);
    let second = publisher(&dir.spool()).build().expect("a spool");
    bind_again(&second, &there).await;
    let mut sub = subscriber("all").connect(&there).expect("connect");
    assert_eq!(take(&mut sub, 50).await, places(0..50));
    assert!(SystemTime::now() >= due);
    assert_eq!(second.spool().expect("a spool").stats().delayed, 0);
    send_words(&second, 50..51).await;
    assert_eq!(take(&mut sub, 1).await, [50], "nothing between");
}

#[tokio::test]
async fn only_so_many_wait_for_their_time() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).max_delayed(3).declare("all", [""]).build().expect("a spool");
    let due = SystemTime::now() + Duration::from_secs(3600);
    let mut receipts = Vec::new();
    for word in words(0..3) {
        receipts.push(soon(publisher.send_at(word.message(), due)).await.expect("accepted"));
    }
    let error = soon(publisher.send_at("one more", due)).await.expect_err("too many");
    assert!(matches!(&error, SendError::Full(message) if message[0].to_str() == Ok("one more")), "{error}");
    assert!(publisher.spool().expect("a spool").cancel(receipts[1]));
    let _ = soon(publisher.send_at("one more", due)).await.expect("accepted");
}
