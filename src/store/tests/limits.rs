//! Limits of bytes, messages, age and lag; names that expire; numbers; the clock.

use std::time::Duration;

use super::ledger::{Op, run};
use super::*;
use crate::options::spool::WhenFull;
use crate::store::log::front::STEP;
use crate::store::log::stats::LogState;

fn small(when_full: WhenFull) -> SpoolOptions {
    let mut options = options(Sync::Batch);
    (options.when_full, options.append_all, options.max_bytes) = (when_full, false, 16 << 10);
    options
}

/// Appends until refused, or 200 times.
fn pour(bench: &Bench) -> Option<Refused> {
    for n in 0..200 {
        if let Err(why) = bench.append(&format!("{n} {}", "x".repeat(300))) {
            return Some(why);
        }
        bench.settle();
        let stats = bench.log.stats();
        assert!(stats.bytes <= 16 << 10, "d08: {stats:?}");
    }
    None
}

fn on_disk(sim: &SimStorage) -> u64 {
    let names = sim.names().into_iter().filter(|name| name.ends_with(".seg") || name.ends_with(".tmp"));
    names.map(|name| sim.bytes(&name).unwrap().len() as u64).sum()
}

#[test]
fn d08_a_spool_at_its_limit_blocks_and_takes_more_when_it_was_read() {
    let sim = SimStorage::new(1);
    let bench = Bench::open(&sim, &small(WhenFull::Block), true);
    assert_eq!(pour(&bench), Some(Refused::Full));
    bench.settle();
    assert!(on_disk(&sim) <= 16 << 10);
    assert_eq!((bench.log.stats().state, bench.ear.names()), (LogState::Full, vec!["SpoolFull"]));
    let mut ticket = Default::default();
    let message = Message::from("x".repeat(300));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(bench.log.poll_append(&mut cx, &mut ticket, &message, &Extra::default()).is_pending());
    assert_eq!(bench.append("small"), Err(Refused::Full), "nobody overtakes");
    bench.log.advance("", bench.log.visible(), &[]);
    bench.settle();
    assert!(bench.log.poll_append(&mut cx, &mut ticket, &message, &Extra::default()).is_ready());
    assert_eq!(bench.log.stats().full_waits, 1);
    bench.settle();
    assert_eq!(bench.log.stats().state, LogState::Open);
}

#[test]
fn d08_a_spool_at_its_limit_rejects() {
    let bench = Bench::open(&SimStorage::new(2), &small(WhenFull::Reject), true);
    assert_eq!(pour(&bench), Some(Refused::Full));
    let mut cx = Context::from_waker(Waker::noop());
    let message = Message::from("x".repeat(300));
    let poll = bench.log.poll_append(&mut cx, &mut Default::default(), &message, &Extra::default());
    assert_eq!(poll, Poll::Ready(Err(Refused::Full)));
    assert_eq!(bench.log.stats().rejects, 2);
}

#[test]
fn d03_d08_a_spool_at_its_limit_drops_the_oldest_and_tells_whom_it_hurt() {
    let sim = SimStorage::new(3);
    let bench = Bench::open(&sim, &small(WhenFull::DropOldest), false);
    bench.log.declare("slow", &[b""]);
    bench.log.declare("fast", &[b""]);
    for n in 0..200 {
        bench.append(&format!("{n} {}", "x".repeat(300))).unwrap();
        bench.settle();
        bench.log.advance("fast", bench.log.visible(), &[]);
    }
    assert!(on_disk(&sim) <= 16 << 10);
    let lost = bench.ear.lost.lock().unwrap().clone();
    assert!(!lost.is_empty() && lost.iter().all(|lost| lost.0 == "slow"));
    assert!(lost.windows(2).all(|pair| pair[0].2 + 1 == pair[1].1), "one range after the other");
    let record = bench.log.registry(|registry| registry.names["slow"].clone());
    assert_eq!(record.lost, Some((1, record.cursor)));
    assert_eq!(record.lost_records, record.cursor);
    assert_eq!(bench.read(record.cursor).0.len() as u64, 200 - record.cursor);
}

#[test]
fn d08_a_spool_at_its_limit_evicts_the_name_that_pins_it() {
    let bench = Bench::open(&SimStorage::new(4), &small(WhenFull::DropName), false);
    bench.log.declare("dead", &[b"1"]);
    bench.log.declare("fast", &[b""]);
    for n in 0..200 {
        bench.append(&format!("{n} {}", "x".repeat(300))).unwrap();
        bench.settle();
        bench.log.advance("fast", bench.log.visible(), &[]);
    }
    assert_eq!(*bench.ear.dropped.lock().unwrap(), ["dead"]);
    assert!(bench.ear.heard("NameExpired"));
    assert!(bench.ear.lost.lock().unwrap().is_empty());
    let wanted = bench.log.change_interest(|interest| interest.remove(b""));
    assert!(wanted > 200);
    let records = bench.log.stats().records;
    bench.append("1 is wanted by nobody now").unwrap();
    bench.settle();
    assert_eq!(bench.log.stats().records, records);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let sim = SimStorage::new(5);
    let bench = Bench::open(&sim, &options(Sync::Batch), false);
    let sizes = [10, 20_000, 10, 3_900, 5_000, 10];
    for size in sizes {
        bench.append(&"x".repeat(size)).unwrap();
    }
    bench.settle();
    let read = |bench: &Bench| bench.read(0).0.iter().map(|record| record.topic().len()).collect::<Vec<usize>>();
    assert_eq!(read(&bench), sizes);
    drop(bench);
    assert_eq!(read(&Bench::open(&sim.crash(1), &options(Sync::Batch), false)), sizes);
}

#[test]
fn records_beyond_max_record_are_refused() {
    let mut options = options(Sync::Batch);
    options.max_record = 1000;
    let bench = Bench::open(&SimStorage::new(6), &options, false);
    assert_eq!(bench.append(&"x".repeat(2000)), Err(Refused::TooLarge));
    assert_eq!(bench.append(&"x".repeat(900)), Ok(1));
}

/// Larger than the limit of [`small`], nearly as large, and small.
const LARGE: [usize; 6] = [30_000, 10, 15_500, 15_500, 10, 30_000];

#[test]
fn d08_what_is_larger_than_the_limit_makes_room_when_it_is_done() {
    for (when_full, push) in [WhenFull::Block, WhenFull::Reject, WhenFull::DropOldest, WhenFull::DropName]
        .map(|when| [(when, true), (when, false)])
        .concat()
    {
        let sim = SimStorage::new(17);
        let mut bench = Bench::open(&sim, &small(when_full), push);
        bench.log.declare("one", &[b""]);
        bench.log.save_both().unwrap();
        for round in 0..3 {
            for size in LARGE {
                let number = bench.append(&"x".repeat(size)).unwrap_or_else(|why| panic!("{size}: {why:?}"));
                bench.settle();
                assert_eq!(bench.accepted(number), Some(true), "{size}");
                assert_eq!(bench.texts(number - 1), [(number, "x".repeat(size))], "it is there until it is done");
                bench.log.advance("one", number, &[]);
                bench.log.advance("", number, &[]);
                bench.settle();
                assert!(on_disk(&sim) <= 16 << 10, "{} left of {size}", on_disk(&sim));
            }
            assert_eq!(*bench.ear.lost.lock().unwrap(), []);
            if round == 0 {
                bench.log.close().unwrap();
            }
            drop(bench);
            bench = Bench::open(&sim, &small(when_full), push);
            bench.settle();
            // After a kill numbers were left out, and names pass them when they are read.
            ["one", ""].iter().for_each(|name| bench.log.advance(name, bench.log.visible(), &[]));
        }
    }
}

#[test]
fn d08_what_is_larger_than_the_limit_waits_until_it_is_done() {
    let bench = Bench::open(&SimStorage::new(18), &small(WhenFull::Block), true);
    assert_eq!(bench.append(&"x".repeat(30_000)), Ok(1));
    bench.settle();
    assert_eq!(bench.append("more"), Err(Refused::Full));
    bench.settle();
    assert_eq!((bench.log.stats().state, bench.read(0).0.len()), (LogState::Full, 1));
    bench.log.advance("", 1, &[]);
    bench.settle();
    assert_eq!(bench.append("more"), Ok(2));
    bench.settle();
    assert_eq!(bench.texts(1), [(2, "more".to_owned())]);
}

#[test]
fn d08_what_is_larger_than_the_limit_is_dropped_for_the_next_one() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropName] {
        let sim = SimStorage::new(19);
        let bench = Bench::open(&sim, &small(when_full), false);
        bench.log.declare("slow", &[b""]);
        bench.log.declare("other", &[b""]);
        assert_eq!(bench.append(&"x".repeat(30_000)), Ok(1));
        bench.settle();
        bench.log.advance("other", 1, &[]);
        bench.settle();
        assert_eq!(bench.read(0).0.len(), 1, "nothing follows it yet");
        assert_eq!(bench.append("more"), Ok(2));
        bench.settle();
        assert!(on_disk(&sim) <= 16 << 10);
        assert_eq!((bench.log.oldest(), bench.log.stats().records), (2, 1));
        let lost = bench.ear.lost.lock().unwrap().clone();
        let dropped = bench.ear.dropped.lock().unwrap().clone();
        match when_full {
            WhenFull::DropOldest => assert_eq!((&*lost, &*dropped), (&[("slow".to_owned(), 1, 1)][..], &[][..])),
            _ => assert_eq!((&*lost, &*dropped), (&[][..], &["slow".to_owned()][..])),
        }
        assert!(bench.ear.heard("Lost"));
    }
}

#[test]
fn d08_what_is_larger_than_the_limit_stays_in_a_recording() {
    let mut options = small(WhenFull::Block);
    options.append_all = true;
    let bench = Bench::open(&SimStorage::new(20), &options, false);
    assert_eq!(bench.append(&"x".repeat(30_000)), Ok(1));
    bench.settle();
    assert_eq!(bench.append("more"), Err(Refused::Full));
    assert_eq!(bench.settle(), Turn::Idle);
    assert_eq!(bench.read(0).0.len(), 1);
}

#[test]
fn d08_what_is_larger_than_the_limit_goes_at_once_where_nobody_has_to_read_it() {
    let sim = SimStorage::new(21);
    let bench = Bench::open(&sim, &small(WhenFull::Block), false);
    bench.log.change_interest(|interest| interest.add(b""));
    for n in 1..10 {
        assert_eq!(bench.append(&"x".repeat(30_000)), Ok(n));
        bench.settle();
        assert!(on_disk(&sim) <= 16 << 10);
    }
}

/// On the way to another segment nothing may go there a second time: both would have one name.
#[test]
fn d08_room_for_what_is_too_large_is_made_once() {
    let mut options = small(WhenFull::Block);
    (options.max_bytes, options.max_messages, options.max_lag_bytes) = (24 << 10, 40, 6000);
    let sim = SimStorage::new(22);
    let big = [Op::Declare(b'a'), Op::Later(0), Op::Append(b'a', 60_000), Op::Turn];
    let small = [Op::Append(b'c', 100), Op::Settle, Op::Append(b'a', 300), Op::Settle];
    let ledger = run(&sim, &options, false, &[big, small].concat());
    let bench = ledger.check(&sim.kill(), &options, false, false);
    ledger.goes_on(&bench);
}

#[test]
fn d08_max_messages_blocks_or_drops() {
    for when_full in [WhenFull::Block, WhenFull::DropOldest] {
        let mut options = small(when_full);
        (options.max_messages, options.max_bytes) = (20, 1 << 20);
        let bench = Bench::open(&SimStorage::new(7), &options, true);
        let mut taken = 0;
        for n in 0..100 {
            taken += u64::from(bench.append(&format!("{n}")).is_ok());
            bench.settle();
            assert!(bench.log.stats().records <= 20, "{:?}", bench.log.stats());
        }
        assert_eq!(taken, if when_full == WhenFull::Block { 20 } else { 100 });
        bench.log.advance("", bench.log.visible(), &[]);
        bench.settle();
        assert!(bench.append("more").is_ok(), "room again");
    }
}

#[test]
fn d08_max_messages_of_one_still_moves() {
    let mut options = small(WhenFull::Block);
    options.max_messages = 1;
    let bench = Bench::open(&SimStorage::new(7), &options, true);
    for n in 0..10 {
        assert!(bench.append(&format!("{n}")).is_ok(), "{n}");
        bench.settle();
        assert_eq!(bench.append("second"), Err(Refused::Full));
        bench.log.advance("", bench.log.visible(), &[]);
        bench.settle();
    }
}

#[test]
fn what_is_older_than_max_age_goes() {
    let mut options = options(Sync::Batch);
    options.max_age = Some(Duration::from_secs(60));
    let bench = Bench::open(&SimStorage::new(8), &options, false);
    bench.append("old").unwrap();
    bench.settle();
    bench.clock.advance(Duration::from_secs(59));
    bench.settle();
    assert_eq!(bench.read(0).0.len(), 1);
    bench.clock.advance(Duration::from_secs(3));
    bench.settle();
    assert_eq!(bench.log.stats().records, 0);
    assert_eq!(bench.append("new"), Ok(2));
    bench.settle();
    assert_eq!(bench.log.stats().records, 1);
}

#[test]
fn d03_a_name_that_lags_too_far_is_moved_on_and_told() {
    let mut options = options(Sync::Batch);
    (options.max_lag_bytes, options.append_all) = (10_000, false);
    let bench = Bench::open(&SimStorage::new(9), &options, false);
    bench.log.declare("slow", &[b""]);
    for n in 0..100 {
        bench.append(&format!("{n} {}", "x".repeat(300))).unwrap();
        bench.clock.advance(Duration::from_secs(1));
        bench.settle();
        assert!(bench.log.stats().names[0].lag_bytes <= 10_000 + 400, "{:?}", bench.log.stats().names);
    }
    assert!(bench.ear.heard("Lost"));
    assert!(bench.log.stats().names[0].lost_records > 50);
    assert!(bench.log.stats().segments <= 5);
}

#[test]
fn a_name_without_a_connection_expires_and_one_with_does_not() {
    let mut options = options(Sync::Batch);
    options.name_expiry = Duration::from_secs(86_400);
    let sim = SimStorage::new(10);
    let bench = Bench::open(&sim, &options, false);
    for name in ["gone", "here", "ever"] {
        bench.log.declare(name, &[b"a"]);
    }
    bench.log.registry(|registry| registry.names.get_mut("ever").unwrap().expiry_s = 0);
    bench.log.set_connected("here", true);
    let hours = |count: u64| {
        for _ in 0..count {
            bench.clock.advance(Duration::from_secs(3600));
            bench.settle();
        }
    };
    let told = || {
        let events = bench.ear.events.lock().unwrap();
        let expired = |event: &Event| if let Event::NameExpired { name } = event { Some(name.clone()) } else { None };
        events.iter().filter_map(expired).collect::<Vec<String>>()
    };
    hours(23);
    assert_eq!(told(), [""; 0]);
    hours(3);
    assert_eq!(told(), ["gone"]);
    assert_eq!(*bench.ear.dropped.lock().unwrap(), ["gone"]);
    let left = |bench: &Bench| bench.log.registry(|registry| registry.names.keys().cloned().collect::<Vec<String>>());
    assert_eq!(left(&bench), ["ever", "here"]);
    // It counts from the end of the last connection.
    bench.log.set_connected("here", false);
    hours(23);
    assert_eq!(left(&bench), ["ever", "here"]);
    hours(3);
    assert_eq!(told(), ["gone", "here"]);
    drop(bench);
    assert_eq!(left(&Bench::open(&sim.crash(1), &options, false)), ["ever"], "and they do not come back");
}

#[test]
fn a_name_whose_time_is_over_has_ten_minutes_more_after_opening() {
    let mut options = options(Sync::Batch);
    options.name_expiry = Duration::from_secs(86_400);
    let sim = SimStorage::new(10);
    let bench = Bench::open(&sim, &options, false);
    bench.log.declare("gone", &[b"a"]);
    bench.log.declare("back", &[b"a"]);
    bench.log.close().unwrap();
    drop(bench);
    let later = ManualClock::new(START + 2 * 86_400_000_000);
    let bench = Bench::try_open(sim.storage(), &options, false, later).unwrap();
    bench.clock.advance(Duration::from_secs(599));
    bench.settle();
    assert!(bench.ear.dropped.lock().unwrap().is_empty());
    bench.log.set_connected("back", true);
    bench.clock.advance(Duration::from_secs(1));
    bench.settle();
    assert_eq!(*bench.ear.dropped.lock().unwrap(), ["gone"]);
}

#[test]
fn d04_numbers_are_reserved_before_they_are_given() {
    let sim = SimStorage::new(11);
    let mut options = options(Sync::Never);
    options.append_all = false;
    let bench = Bench::open(&sim, &options, false);
    let message = Message::from("nobody");
    let mut refused = 0;
    for n in 0..3 * STEP {
        if bench.log.try_append(&message, &Extra::default()).is_err() {
            refused += 1;
        }
        if n % (STEP / 4) == 0 {
            bench.settle();
        }
    }
    assert_eq!(refused, 0);
    let newest = bench.log.newest();
    assert!(Bench::open(&sim.crash(1), &options, false).log.newest() >= newest);
    // A writer that does not come to reserve lets nobody beyond.
    let mut taken = 0;
    while bench.log.try_append(&message, &Extra::default()).is_ok() {
        taken += 1;
    }
    assert!(taken <= 2 * STEP);
    assert!(Bench::open(&sim.crash(2), &options, false).log.newest() >= bench.log.newest());
}

#[test]
fn d04_a_lost_registry_reuses_no_number_and_keeps_every_record() {
    for lost in [&["names.a"][..], &["names.b"], &["names.a", "names.b"]] {
        let sim = SimStorage::new(12);
        let bench = Bench::open(&sim, &options(Sync::Batch), true);
        for n in 0..50 {
            bench.append(&format!("{n}")).unwrap();
        }
        bench.settle();
        bench.log.close().unwrap();
        drop(bench);
        for name in lost {
            sim.put(name, &[7; 100]);
        }
        let bench = Bench::open(&sim, &options(Sync::Batch), true);
        assert_eq!(bench.ear.heard("NamesLost"), lost.len() == 2);
        assert_eq!(bench.read(0).0.len(), 50);
        assert!(bench.log.newest() >= 50);
        if lost.len() == 2 {
            let outbox = bench.log.registry(|registry| registry.names[""].clone());
            assert_eq!(outbox.cursor, 0, "repeats rather than loss");
        }
    }
}

#[test]
fn a_second_opening_is_refused_and_the_first_goes_on() {
    let sim = SimStorage::new(13);
    let bench = Bench::open(&sim, &options(Sync::Batch), false);
    let second = Bench::try_open(sim.storage(), &options(Sync::Batch), false, ManualClock::new(START));
    assert!(matches!(second.err(), Some(crate::error::OpenError::InUse { .. })));
    bench.append("one").unwrap();
    bench.settle();
    bench.log.close().unwrap();
    Bench::open(&sim, &options(Sync::Batch), false);
}

#[test]
fn a_step_of_the_wall_clock_is_told_and_record_times_go_on() {
    for day in [-86_400_000_000, 86_400_000_000_i64] {
        let bench = Bench::open(&SimStorage::new(14), &options(Sync::Batch), false);
        bench.append("before").unwrap();
        bench.settle();
        bench.clock.set_wall(START + day);
        bench.clock.advance(Duration::from_secs(3600));
        bench.append("after").unwrap();
        bench.settle();
        assert!(bench.ear.heard("ClockStep"));
        let times: Vec<i64> = bench.read(0).0.iter().map(|record| record.time).collect();
        assert_eq!(times[1] - times[0], 3_600_000_000);
    }
}

#[test]
fn a_segment_file_that_is_gone_is_reported_to_whoever_had_to_read_it() {
    let sim = SimStorage::new(15);
    let bench = Bench::open(&sim, &options(Sync::Batch), true);
    for n in 0..100 {
        bench.append(&format!("{n} {}", "x".repeat(100))).unwrap();
        bench.settle();
    }
    bench.log.close().unwrap();
    drop(bench);
    let first = sim.names().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    sim.storage().remove(&first).unwrap();
    let bench = Bench::open(&sim, &options(Sync::Batch), true);
    assert!(bench.ear.heard("Lost"), "{:?}", bench.ear.names());
    let outbox = bench.log.registry(|registry| registry.names[""].clone());
    assert_eq!(outbox.lost, Some((1, outbox.cursor)));
    let middle = sim.names().into_iter().filter(|name| name.ends_with(".seg")).nth(1).unwrap();
    bench.log.close().unwrap();
    drop(bench);
    sim.storage().remove(&middle).unwrap();
    let bench = Bench::open(&sim, &options(Sync::Batch), true);
    assert_eq!(bench.read(0).1.len(), 1, "the hole is seen by a reader");
}

#[test]
fn those_who_wait_for_room_are_served_in_turn() {
    struct Count(std::sync::atomic::AtomicU64);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let bench = Bench::open(&SimStorage::new(16), &SpoolOptions { max_bytes: 1 << 30, ..options(Sync::Never) }, false);
    let message = Message::from("x".repeat(1 << 20));
    let extra = Extra::default();
    let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::new(Count(Default::default()))).collect();
    let wakers: Vec<Waker> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
    let woken = |i: usize| counts[i].0.load(std::sync::atomic::Ordering::Relaxed);
    let mut tickets: Vec<crate::store::log::Ticket> = (0..3).map(|_| Default::default()).collect();
    let poll = |i: usize, tickets: &mut Vec<crate::store::log::Ticket>| {
        bench.log.poll_append(&mut Context::from_waker(&wakers[i]), &mut tickets[i], &message, &extra)
    };
    for _ in 0..4 {
        bench.log.try_append(&message, &extra).unwrap();
    }
    for i in 0..3 {
        assert!(poll(i, &mut tickets).is_pending(), "the open batch is large");
    }
    bench.settle();
    assert_eq!([woken(0) > 0, woken(1) > 0, woken(2) > 0], [true, false, false]);
    assert!(poll(1, &mut tickets).is_pending(), "not its turn");
    assert_eq!(bench.append("small"), Err(Refused::Full), "nobody overtakes");
    bench.log.abandon(&mut tickets[0]);
    assert_eq!([woken(1) > 0, woken(2) > 0], [true, false], "who gives up lets the next one");
    assert_eq!(poll(1, &mut tickets), Poll::Ready(Ok(5)));
    assert!(woken(2) > 0);
    assert_eq!(poll(2, &mut tickets), Poll::Ready(Ok(6)));
    assert_eq!(bench.append("small"), Ok(7));
    bench.log.close().unwrap();
    assert!(matches!(poll(0, &mut tickets), Poll::Ready(Err(Refused::Closed))));
}
