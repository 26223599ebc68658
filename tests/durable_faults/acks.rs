//! When a delivery is done, and what comes again when its application goes without a word.

use std::time::{Duration, Instant};

use ginnel::spool::SpoolFiles;
use ginnel::*;

use crate::common::*;
use crate::durable::*;

/// A publisher with the name "all", and so many words for it.
async fn with_words(dir: &Dir, count: u32) -> Pub {
    let builder = publisher(&dir.spool()).sync(ginnel::Sync::Never).declare("all", [""]);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    send_words(&publisher, 0..count).await;
    publisher
}

fn spool(publisher: &Pub) -> &Spool {
    publisher.spool().expect("a spool")
}

/// The place and the number of tries of each.
fn tried(deliveries: &[Delivery]) -> Vec<(u32, u32)> {
    deliveries.iter().map(|delivery| (Word::of(delivery.message()).at, delivery.tries())).collect()
}

fn once(places: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
    places.into_iter().map(|at| (at, 1)).collect()
}

#[tokio::test]
async fn on_next_repeats_the_one_in_hand() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(tried(&deliveries(&mut sub, 10).await), once(0..10));
    // Nine were asked beyond.
    done(spool(&publisher), "all", 9).await;
    drop(sub);
    left(spool(&publisher), "all").await;
    assert_eq!(cursor(spool(&publisher), "all"), 9);
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    let again = tried(&deliveries(&mut sub, 11).await);
    assert_eq!(again[0], (9, 2), "the one in hand");
    assert_eq!(again.iter().map(|(at, _)| *at).collect::<Vec<u32>>(), places(9..20));
    assert!(again[1..].iter().all(|&(_, tries)| tries <= 2));
}

#[tokio::test]
async fn on_next_a_close_is_as_good_as_asking_for_the_next_one() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 10).await, places(0..10));
    soon(sub.close()).await;
    left(spool(&publisher), "all").await;
    assert_eq!(cursor(spool(&publisher), "all"), 10);
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 10).await, places(10..20));
}

#[tokio::test]
async fn on_receive_nothing_that_was_handed_out_comes_again() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let mut sub = subscriber("all").ack(Ack::OnReceive).connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 10).await, places(0..10));
    done(spool(&publisher), "all", 10).await;
    drop(sub);
    left(spool(&publisher), "all").await;
    assert_eq!(cursor(spool(&publisher), "all"), 10);
    let mut sub = subscriber("all").ack(Ack::OnReceive).connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 10).await, places(10..20));
}

#[tokio::test]
async fn manual_repeats_what_was_not_acknowledged() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let manual = || subscriber("all").ack(Ack::Manual).connect(publisher.local_endpoint()).expect("connect");
    let mut sub = manual();
    assert_eq!(soon(sub.recv()).await.expect_err("only deliveries can be acknowledged"), RecvError::ManualAck);
    for delivery in deliveries(&mut sub, 10).await {
        if Word::of(delivery.message()).at.is_multiple_of(2) {
            delivery.ack();
        }
    }
    // Only the first is done without a hole, the other four above it.
    until(|| spool(&publisher).names()[0].acked == 5).await;
    assert_eq!(cursor(spool(&publisher), "all"), 1);
    drop(sub);
    left(spool(&publisher), "all").await;
    let mut sub = manual();
    let again = deliveries(&mut sub, 15).await;
    let odd = [1, 3, 5, 7, 9].map(|at| (at, 2));
    assert_eq!(tried(&again)[..5], odd);
    assert_eq!(tried(&again)[5..].iter().map(|(at, _)| *at).collect::<Vec<u32>>(), places(10..20));
    again.into_iter().for_each(Delivery::ack);
    done(spool(&publisher), "all", 20).await;
}

#[tokio::test]
async fn manual_what_is_done_survives_both_sides() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let there = publisher.local_endpoint().expect("bound");
    let manual = || subscriber("all").ack(Ack::Manual).connect(&there).expect("connect");
    let mut sub = manual();
    for delivery in deliveries(&mut sub, 20).await {
        if !Word::of(delivery.message()).at.is_multiple_of(3) {
            delivery.ack();
        }
    }
    until(|| spool(&publisher).names()[0].acked == 13).await;
    drop(sub);
    left(spool(&publisher), "all").await;
    soon(publisher.close()).await;
    drop(publisher);
    let publisher = crate::durable::publisher(&dir.spool()).build().expect("a spool");
    bind_again(&publisher, &there).await;
    let mut sub = manual();
    let again = deliveries(&mut sub, 7).await;
    // A spooler counts anew.
    assert_eq!(tried(&again), once((0..20).filter(|at| at % 3 == 0)));
    again.into_iter().for_each(Delivery::ack);
    done(spool(&publisher), "all", 20).await;
    assert_eq!(spool(&publisher).names()[0].sent, 7);
}

#[tokio::test]
async fn ack_up_to_covers_what_was_dropped() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let manual = || subscriber("all").ack(Ack::Manual).connect(publisher.local_endpoint()).expect("connect");
    let mut sub = manual();
    let mut last = soon(sub.recv_delivery()).await.expect("a delivery");
    for _ in 1..10 {
        // The one before is dropped: the last one will speak for all.
        last = soon(sub.recv_delivery()).await.expect("a delivery");
    }
    last.ack_up_to();
    done(spool(&publisher), "all", 10).await;
    drop(sub);
    left(spool(&publisher), "all").await;
    let mut sub = manual();
    let again = tried(&deliveries(&mut sub, 10).await);
    assert_eq!(again.iter().map(|(at, _)| *at).collect::<Vec<u32>>(), places(10..20));
}

#[tokio::test]
async fn ack_up_to_without_a_connection_holds_on_the_next_one() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let there = publisher.local_endpoint().expect("bound");
    let mut sub = subscriber("all").ack(Ack::Manual).connect(&there).expect("connect");
    let mut held = deliveries(&mut sub, 20).await;
    publisher.unbind(&there).expect("bound");
    let keys = publisher.peers().len();
    assert_eq!(keys, 1);
    soon(publisher.close()).await;
    drop(publisher);
    until(|| !only_peer(&sub).connected).await;
    held.truncate(15);
    held.pop().expect("fifteen").ack_up_to();
    drop(held);
    let publisher = crate::durable::publisher(&dir.spool()).build().expect("a spool");
    bind_again(&publisher, &there).await;
    let again = tried(&deliveries(&mut sub, 5).await);
    assert_eq!(again, once(15..20), "only what was let go");
    done(spool(&publisher), "all", 15).await;
}

#[tokio::test]
async fn a_retry_comes_again_and_counts() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 5).await;
    let mut sub = subscriber("all").ack(Ack::Manual).connect(publisher.local_endpoint()).expect("connect");
    for delivery in deliveries(&mut sub, 5).await {
        match Word::of(delivery.message()).at {
            1 | 3 => delivery.retry(Duration::ZERO),
            _ => delivery.ack(),
        }
    }
    let again = deliveries(&mut sub, 2).await;
    assert_eq!(tried(&again), [(1, 2), (3, 2)]);
    for delivery in again {
        delivery.retry(Duration::ZERO);
    }
    let again = deliveries(&mut sub, 2).await;
    assert_eq!(tried(&again), [(1, 3), (3, 3)]);
    again.into_iter().for_each(Delivery::ack);
    done(spool(&publisher), "all", 5).await;
    let stats = &spool(&publisher).names()[0];
    assert_eq!((stats.nacked, stats.redelivered, stats.sent), (4, 4, 9));
}

#[tokio::test]
async fn a_retry_waits_as_long_as_it_is_told() {
    const WAIT: Duration = Duration::from_millis(80);
    let dir = Dir::new();
    let publisher = with_words(&dir, 3).await;
    let mut sub = subscriber("all").ack(Ack::Manual).connect(publisher.local_endpoint()).expect("connect");
    let asked = Instant::now();
    soon(sub.recv_delivery()).await.expect("a delivery").retry(WAIT);
    // The others do not wait for it.
    let others = deliveries(&mut sub, 2).await;
    assert_eq!(tried(&others), once(1..3));
    others.into_iter().for_each(Delivery::ack);
    let again = deliveries(&mut sub, 1).await;
    assert!(asked.elapsed() >= WAIT, "after {:?}", asked.elapsed());
    assert_eq!(tried(&again), [(0, 2)]);
    again.into_iter().for_each(Delivery::ack);
    done(spool(&publisher), "all", 3).await;
}

#[tokio::test]
async fn what_was_tried_too_often_goes_to_the_dead_letters() {
    let dir = Dir::new();
    let builder = publisher(&dir.spool()).declare("all", [""]).max_tries(3);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut monitor = publisher.monitor();
    let numbers = send_words(&publisher, 0..5).await;
    let mut sub = subscriber("all").ack(Ack::Manual).connect(publisher.local_endpoint()).expect("connect");
    let mut seen = Vec::new();
    while seen.len() < 7 {
        let delivery = soon(sub.recv_delivery()).await.expect("a delivery");
        let at = Word::of(delivery.message()).at;
        seen.push((at, delivery.tries()));
        if at == 2 { delivery.retry(Duration::ZERO) } else { delivery.ack() }
    }
    seen.sort();
    assert_eq!(seen, [(0, 1), (1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)]);
    let dead = Event::DeadLetter { name: "all".to_owned(), sequence: numbers[2] };
    event(&mut monitor, |event| *event == dead).await;
    // It counts as done, and is kept where a tool finds it.
    done(spool(&publisher), "all", numbers[4]).await;
    assert_eq!(spool(&publisher).stats().dead_letters, 1);
    soon(sub.close()).await;
    soon(publisher.close()).await;
    let files = SpoolFiles::open(dir.spool()).expect("a spool");
    let letters: Vec<_> = files.dead_letters().map(|letter| letter.expect("a good one")).collect();
    assert_eq!(letters.len(), 1);
    assert_eq!((Word::of(&letters[0].message).at, letters[0].origin), (2, Some(numbers[2])));
}

#[tokio::test]
async fn a_crashing_application_cannot_hold_the_queue_up_for_ever() {
    let dir = Dir::new();
    let builder = publisher(&dir.spool()).declare("all", [""]).max_tries(2);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    send_words(&publisher, 0..3).await;
    let mut got = Vec::new();
    // It dies of the first each time, before it can say that it is done.
    for _ in 0..2 {
        let mut sub = subscriber("all").recv_hwm(1).connect(publisher.local_endpoint()).expect("connect");
        got.extend(tried(&deliveries(&mut sub, 1).await));
        drop(sub);
        left(spool(&publisher), "all").await;
    }
    assert_eq!(got, [(0, 1), (0, 2)]);
    let mut sub = subscriber("all").recv_hwm(1).connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(tried(&deliveries(&mut sub, 2).await), once(1..3));
}

#[tokio::test]
async fn a_delivery_knows_where_it_comes_from() {
    let dir = Dir::new();
    let before = std::time::SystemTime::now();
    let publisher = with_words(&dir, 3).await;
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    for delivery in deliveries(&mut sub, 3).await {
        let token = delivery.token().expect("a token");
        assert!(delivery.is_durable());
        assert_eq!(delivery.spool(), Some(spool(&publisher).id()));
        assert_eq!((Some(token.spool), Some(token.sequence)), (delivery.spool(), delivery.sequence()));
        assert_eq!(token.to_string().parse(), Ok(token));
        let time = delivery.time().expect("a time");
        assert!(time >= before - Duration::from_secs(1) && time <= std::time::SystemTime::now());
    }
}

#[tokio::test]
async fn d05_a_token_skips_what_it_covers() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let token = Token { spool: spool(&publisher).id(), sequence: 12 };
    let mut sub = subscriber("all").resume_from([token]).connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 8).await, places(12..20));
    sub.ack_last();
    done(spool(&publisher), "all", 20).await;
}

#[tokio::test]
async fn a_token_of_another_spool_covers_nothing() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 20).await;
    let token = Token { spool: SpoolId::from_bytes([7; 16]), sequence: 12 };
    let mut sub = subscriber("all").resume_from([token]).connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(take(&mut sub, 20).await, places(0..20));
}

#[tokio::test]
async fn a_cursor_file_is_free_after_close() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 0).await;
    let open = || subscriber("all").cursor_file(dir.path("cursor")).connect(publisher.local_endpoint());
    for round in 0..100 {
        let mut sub = open().expect("nobody else has it");
        let refused = open().expect_err("it is in use");
        assert!(matches!(&refused, ConnectError::Option(option) if option.name() == "cursor_file"), "{refused}");
        send_words(&publisher, round..round + 1).await;
        assert_eq!(take(&mut sub, 1).await, [round]);
        soon(sub.close()).await;
    }
}

/// Starts processes that end at once, until it is told to stop.
fn bear_children() -> impl FnOnce() {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let mother = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = std::process::Command::new("true").status();
        }
    });
    move || {
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        mother.join().expect("no panic");
    }
}

#[tokio::test]
async fn a_cursor_file_is_free_though_children_are_born() {
    let dir = Dir::new();
    let end = bear_children();
    for _ in 0..300 {
        let sub = subscriber("all").cursor_file(dir.path("cursor")).build().expect("nobody else has it");
        soon(sub.close()).await;
    }
    end();
}

#[tokio::test]
async fn d06_a_spool_is_free_though_children_are_born() {
    let dir = Dir::new();
    let end = bear_children();
    for _ in 0..30 {
        let publisher = publisher(&dir.spool()).build().expect("nobody else has it");
        soon(publisher.close()).await;
    }
    end();
}

#[tokio::test]
async fn a_cursor_file_of_something_else_is_refused() {
    let dir = Dir::new();
    let file = dir.path("cursor");
    std::fs::create_dir(&file).expect("a directory");
    let refused = subscriber("all").cursor_file(&file).build().expect_err("a directory");
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
    std::fs::remove_dir(&file).expect("it is ours");
    std::fs::write(&file, vec![b'x'; 10_000]).expect("a file");
    // Somebody's data: never overwritten.
    let refused = subscriber("all").cursor_file(&file).build();
    assert!(refused.is_err(), "{refused:?}");
    drop(refused);
    assert_eq!(std::fs::read(&file).expect("a file"), vec![b'x'; 10_000]);
}

#[tokio::test]
async fn d05_several_publishers_are_told_apart() {
    let dirs = [Dir::new(), Dir::new(), Dir::new()];
    let mut publishers = Vec::new();
    for (index, dir) in dirs.iter().enumerate() {
        let publisher = with_words(dir, 0).await;
        for at in 0..50 {
            let _ = soon(publisher.send(Word { round: index as u32, at }.message())).await.expect("accepted");
        }
        publishers.push(publisher);
    }
    let connect = |tokens: Vec<Token>| {
        let sub = subscriber("all").resume_from(tokens).build().expect("options");
        publishers.iter().for_each(|publisher| drop(sub.connect_to(publisher.local_endpoint()).expect("connect")));
        sub
    };
    let mut sub = connect(Vec::new());
    let (mut next, mut tokens) = ([0; 3], std::collections::HashMap::new());
    for delivery in deliveries(&mut sub, 90).await {
        let word = Word::of(delivery.message());
        assert_eq!(word.at, next[word.round as usize], "in order of each publisher");
        next[word.round as usize] += 1;
        let token = delivery.token().expect("a token");
        assert_eq!(token.spool, spool(&publishers[word.round as usize]).id());
        tokens.insert(token.spool, token);
    }
    drop(sub);
    for publisher in &publishers {
        left(spool(publisher), "all").await;
    }
    // Each spool goes on where its token says.
    let mut sub = connect(tokens.into_values().collect());
    for delivery in deliveries(&mut sub, 60).await {
        let word = Word::of(delivery.message());
        assert_eq!(word.at, next[word.round as usize], "{word:?}");
        next[word.round as usize] += 1;
    }
    assert_eq!(next, [50; 3]);
    sub.ack_last();
    for publisher in &publishers {
        done(spool(publisher), "all", 50).await;
    }
}

#[tokio::test]
async fn the_window_is_the_high_water_mark() {
    let dir = Dir::new();
    let publisher = with_words(&dir, 100).await;
    let mut sub = subscriber("all").ack(Ack::Manual).recv_hwm(7).connect(publisher.local_endpoint()).expect("connect");
    let mut held = deliveries(&mut sub, 7).await;
    let name = || spool(&publisher).names().remove(0);
    assert_eq!((name().in_flight, name().sent), (7, 7));
    assert_eq!(sub.try_recv_delivery().expect_err("the window is closed"), TryRecvError::Empty);
    held.remove(3).ack();
    held.extend(deliveries(&mut sub, 1).await);
    assert_eq!(Word::of(held.last().expect("one").message()).at, 7);
    until(|| name().in_flight == 7).await;
    assert_eq!(name().sent, 8);
}

#[tokio::test]
async fn a_window_that_stays_closed_is_told() {
    let dir = Dir::new();
    let builder = publisher(&dir.spool()).declare("all", [""]).stall_after(Duration::from_millis(20));
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut monitor = publisher.monitor();
    send_words(&publisher, 0..20).await;
    let mut sub = subscriber("all").recv_hwm(2).connect(publisher.local_endpoint()).expect("connect");
    let stalled = event(&mut monitor, |event| matches!(event, Event::NameStalled { .. })).await;
    assert_eq!(stalled, Event::NameStalled { name: "all".to_owned(), lag: 20 });
    assert!(spool(&publisher).names()[0].closed_window >= Duration::from_millis(20));
    assert_eq!(take(&mut sub, 20).await, places(0..20));
}
