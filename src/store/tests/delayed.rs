//! Messages that wait for their time, and dead letters.

use std::time::Duration;

use super::*;

fn later(bench: &Bench, text: &str, seconds: i64) -> u64 {
    bench.log.append_delayed(&Message::from(text), START + seconds * 1_000_000).unwrap()
}

fn words(bench: &Bench) -> Vec<String> {
    bench.read(0).0.iter().map(text).collect()
}

#[test]
fn a_delayed_message_comes_when_it_is_due_and_once() {
    let sim = SimStorage::new(1);
    let bench = Bench::open(&sim, &options(Sync::Batch), false);
    later(&bench, "second", 20);
    later(&bench, "first", 10);
    bench.append("now").unwrap();
    bench.settle();
    assert_eq!(words(&bench), ["now"]);
    assert_eq!(bench.log.stats().delayed, 2);
    bench.clock.advance(Duration::from_secs(10));
    bench.settle();
    assert_eq!(words(&bench), ["now", "first"]);
    bench.log.close().unwrap();
    drop(bench);
    let clock = ManualClock::new(START + 30_000_000);
    let bench = Bench::try_open(sim.storage(), &options(Sync::Batch), false, clock).unwrap();
    bench.settle();
    assert_eq!(words(&bench), ["now", "first", "second"]);
    assert_eq!(bench.log.stats().delayed, 0);
}

#[test]
fn a_cancelled_message_never_comes() {
    let sim = SimStorage::new(2);
    let bench = Bench::open(&sim, &options(Sync::Batch), false);
    let (one, two) = (later(&bench, "one", 10), later(&bench, "two", 10));
    assert!(bench.log.cancel_delayed(one) && !bench.log.cancel_delayed(one));
    bench.settle();
    let killed = sim.kill();
    let clock = ManualClock::new(START + 30_000_000);
    let bench = Bench::try_open(killed.storage(), &options(Sync::Batch), false, clock).unwrap();
    bench.settle();
    assert_eq!(words(&bench), ["two"]);
    assert!(!bench.log.cancel_delayed(two), "too late");
}

#[test]
fn delayed_messages_are_bounded_and_do_not_hold_their_log_for_ever() {
    let mut options = options(Sync::Batch);
    (options.max_delayed, options.append_all) = (100, false);
    let sim = SimStorage::new(3);
    let bench = Bench::open(&sim, &options, true);
    for round in 0..10 {
        for n in 0..100 {
            later(&bench, &format!("{round} {n}"), n);
        }
        assert_eq!(bench.log.append_delayed(&Message::from("too many"), START), Err(Refused::Full));
        bench.clock.advance(Duration::from_secs(100));
        bench.settle();
        bench.log.advance("", bench.log.visible(), &[]);
        bench.settle();
    }
    let sub = sim.sub("delay").unwrap();
    assert!(sub.names().iter().filter(|name| name.ends_with(".seg")).count() < 6, "{:?}", sub.names());
    assert!(bench.log.stats().segments < 6, "{:?}", bench.log.stats());
}

/// Else a process that is killed again and again soon after its start would never get on, and its senders would wait.
#[test]
fn what_is_due_all_over_the_disk_is_copied_in_short_turns() {
    const COUNT: u64 = 500;
    let options = options(Sync::Batch);
    let sim = SimStorage::new(9);
    let bench = Bench::open(&sim, &options, false);
    for n in 0..COUNT {
        // Neighbours in time are far apart on disk.
        later(&bench, &format!("{n} {}", "x".repeat(100)), (n * 211 % COUNT) as i64);
    }
    bench.settle();
    let mut sim = sim.kill();
    let clock = || ManualClock::new(START + 1_000_000_000);
    let mut lives = 0;
    loop {
        let bench = Bench::try_open(sim.storage(), &options, false, clock()).unwrap();
        let before = words(&bench).len();
        // Some are copied in one turn and written in the next.
        for _ in 0..4 {
            bench.log.turn();
        }
        let after = words(&bench).len();
        assert!(after - before < 100, "{before} to {after} in one short life");
        if after as u64 == COUNT {
            break;
        }
        assert!(after > before, "no progress after {before}");
        sim = sim.kill();
        lives += 1;
        assert!(lives < COUNT);
    }
    let bench = Bench::try_open(sim.kill().storage(), &options, false, clock()).unwrap();
    bench.settle();
    let order: Vec<u64> = words(&bench).iter().map(|word| word.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(order.is_sorted_by_key(|n| n * 211 % COUNT), "as they are due");
    assert_eq!(order.len() as u64, COUNT, "and once");
}

#[test]
fn a_crash_between_the_two_appends_repeats_nothing_and_loses_nothing() {
    let options = options(Sync::Batch);
    let clock = || ManualClock::new(START + 30_000_000);
    // How many calls the whole takes, and then a crash after each of them.
    let prepared = SimStorage::new(4);
    let bench = Bench::open(&prepared, &options, false);
    for n in 0..5 {
        later(&bench, &format!("{n}"), 10);
    }
    bench.settle();
    drop(bench);
    let prepared = prepared.crash(1);
    let run = |sim: &SimStorage| {
        if let Ok(bench) = Bench::try_open(sim.storage(), &options, false, clock()) {
            bench.settle();
        }
    };
    let whole = prepared.crash(2);
    let before = whole.calls();
    run(&whole);
    let calls = whole.calls() - before;
    assert!(calls > 10);
    for call in 0..=calls {
        for seed in 0..5 {
            let sim = prepared.crash(seed);
            sim.stop_after(sim.calls() + call);
            run(&sim);
            let bench = Bench::try_open(sim.crash(seed).storage(), &options, false, clock()).unwrap();
            bench.settle();
            assert_eq!(words(&bench), ["0", "1", "2", "3", "4"], "call {call} seed {seed}");
        }
    }
}

#[test]
fn dead_letters_are_copies_and_safe_before_the_cursor_is() {
    let sim = SimStorage::new(5);
    let bench = Bench::open(&sim, &options(Sync::Batch), true);
    for n in 1..=3 {
        bench.append(&format!("message {n}")).unwrap();
    }
    bench.settle();
    let record = bench.read(0).0.remove(1);
    bench.log.bury(&record).unwrap();
    bench.log.advance("", 2, &[]);
    bench.log.save().unwrap();
    let bench = Bench::open(&sim.crash(1), &options(Sync::Batch), true);
    assert_eq!(bench.log.stats().dead_letters, 1);
    assert_eq!(bench.log.registry(|registry| registry.names[""].cursor), 2);
}
