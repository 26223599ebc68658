//! Disks that fail: each sync once, each call once, full ones, turned bits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::crash::{Workload, workload};
use super::ledger::{Op, run};
use super::*;
use crate::options::spool::WhenFull;
use crate::store::log::stats::LogState;
use crate::store::storage::sim::{Call, Fault};

/// Without openings in between: a failed log stays the same one.
fn in_one_go(i: u64) -> Workload {
    let mut workload = workload(i);
    workload.ops.retain(|op| !matches!(op, Op::Reopen | Op::Restart));
    workload
}

#[test]
fn d01_a_sync_that_fails_is_final_and_what_was_accepted_before_is_there() {
    let mut failures = 0;
    for i in (0..40).filter(|i| i % 4 < 2) {
        let Workload { options, push, ops } = in_one_go(i);
        for nth in 1.. {
            let sim = SimStorage::new(i);
            sim.script(Call::Sync, ".seg", nth, Fault::DropUnsynced);
            let syncs = Arc::new(Mutex::new(BTreeMap::new()));
            let counted = Arc::clone(&syncs);
            sim.on_sync(move |name| *counted.lock().unwrap().entry(name.to_owned()).or_insert(0) += 1);
            let ledger = run(&sim, &options, push, &ops);
            if !ledger.events.contains(&"SpoolFailed") {
                break;
            }
            failures += 1;
            // Opened again by the same system, and after a power cut: both show everything accepted, and what the
            // first opening showed is there after the second.
            let again = ledger.check(&sim, &options, push, true);
            let shown: Vec<u64> = again.read(0).0.iter().map(|record| record.sequence).collect();
            let head = again.log.oldest();
            drop(again);
            for seed in 0..3 {
                let bench = ledger.check(&sim.crash(seed), &options, push, true);
                let now: Vec<u64> = bench.read(0).0.iter().map(|record| record.sequence).collect();
                let head = head.max(bench.log.oldest());
                let kept = |all: &[u64]| all.iter().copied().filter(|n| *n >= head).collect::<Vec<u64>>();
                assert!(kept(&now).starts_with(&kept(&shown)), "{i} {nth}: {shown:?} became {now:?}");
            }
        }
    }
    println!("{failures} failed syncs");
    assert!(failures > 50);
}

#[test]
fn a_failed_log_refuses_appends_fails_receipts_and_goes_on_reading() {
    let sim = SimStorage::new(1);
    let bench = Bench::open(&sim, &options(Sync::Batch), false);
    let one = bench.append("one").unwrap();
    bench.settle();
    sim.script(Call::Sync, ".seg", 1, Fault::DropUnsynced);
    let syncs = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&syncs);
    sim.on_sync(move |name| *counted.lock().unwrap() += u32::from(name.ends_with(".seg")));
    let two = bench.append("two").unwrap();
    assert_eq!(bench.accepted(two), None);
    assert_eq!(bench.settle(), Turn::Ended);
    assert_eq!((bench.accepted(one), bench.accepted(two)), (Some(true), Some(false)));
    assert_eq!(bench.append("three"), Err(Refused::Failed));
    assert_eq!(bench.ear.names(), ["SpoolFailed"]);
    assert_eq!(bench.log.stats().state, LogState::Failed);
    assert_eq!(bench.texts(0), [(one, "one".to_owned())], "what is in doubt is not shown");
    assert!(bench.log.close().is_err());
    assert_eq!(*syncs.lock().unwrap(), 1, "never synced again");
}

#[test]
fn any_call_that_fails_once_breaks_no_promise() {
    let mut faults = 0;
    for i in (0..40).step_by(2) {
        let Workload { options, push, ops } = workload(i);
        let whole = SimStorage::new(i);
        run(&whole, &options, push, &ops);
        let calls = whole.calls();
        for (n, fault) in (1..=calls).map(|n| (n, [Fault::Io, Fault::Full, Fault::Interrupted][(n % 3) as usize])) {
            let sim = SimStorage::new(i);
            sim.script(Call::Any, "", n, fault);
            let ledger = run(&sim, &options, push, &ops);
            let bench = ledger.check(&sim.crash(n), &options, push, true);
            ledger.goes_on(&bench);
            faults += 1;
        }
    }
    println!("{faults} failed calls");
}

#[test]
fn d08_a_full_disk_blocks_rejects_or_drops_and_goes_on_when_there_is_space() {
    for i in 0..40 {
        let Workload { options, push, ops } = workload(i);
        for quota in [80, 90, 100, 120] {
            let sim = SimStorage::new(i);
            sim.short_writes(true);
            let (first, rest) = ops.split_at(ops.len() / 2);
            sim.quota(Some(quota << 10));
            let ledger = run(&sim, &options, push, first);
            sim.heal();
            if ledger.ended {
                continue;
            }
            let bench = ledger.check(&sim.crash(quota), &options, push, true);
            drop(bench);
            let ledger = super::ledger::run_on(ledger.restarted(), &sim, &options, push, rest);
            let bench = ledger.check(&sim.crash(quota), &options, push, true);
            ledger.goes_on(&bench);
        }
    }
}

#[test]
fn d03_what_a_limit_takes_is_told_of_though_it_cannot_be_saved() {
    for (when_full, lag) in [(WhenFull::DropOldest, 0), (WhenFull::DropName, 0), (WhenFull::Block, 6000)] {
        for fault in [Fault::Io, Fault::Full, Fault::DropUnsynced] {
            let mut options = options(Sync::Batch);
            (options.when_full, options.max_lag_bytes) = (when_full, lag);
            options.max_bytes = if lag == 0 { 16 << 10 } else { 1 << 20 };
            let sim = SimStorage::new(7);
            let bench = Bench::open(&sim, &options, false);
            bench.log.declare("slow", &[b""]);
            bench.log.save_both().unwrap();
            sim.script(Call::Sync, "names.", 1, fault);
            let text = "x".repeat(300);
            while bench.ear.names().is_empty() && bench.append(&text).is_ok() {
                bench.settle();
                bench.clock.advance(Duration::from_millis(900));
            }
            let told = (bench.ear.lost.lock().unwrap().clone(), bench.ear.dropped.lock().unwrap().clone());
            let known = bench.log.registry(|registry| registry.names.get("slow").map(|name| name.lost));
            let lost = known.flatten().map(|lost| ("slow".to_owned(), lost.0, lost.1));
            let dropped = known.is_none().then(|| "slow".to_owned());
            assert!(lost.is_some() || dropped.is_some(), "{when_full:?} {fault:?} {:?}", bench.ear.names());
            assert_eq!(told, (Vec::from_iter(lost), Vec::from_iter(dropped)), "{when_full:?} {fault:?}");
            assert!(bench.ear.heard("Lost"));
        }
    }
}

/// A log whose disk is full, with a segment that could go.
fn full(when_full: WhenFull) -> (SimStorage, Bench) {
    let mut options = options(Sync::Batch);
    (options.when_full, options.append_all) = (when_full, false);
    let sim = SimStorage::new(3);
    let bench = Bench::open(&sim, &options, true);
    bench.log.declare("slow", &[b""]);
    sim.quota(Some(sim.used() + 24 * 1024));
    for n in 0..100 {
        if bench.append(&format!("{n} {}", "x".repeat(400))).is_err() {
            break;
        }
        bench.settle();
    }
    (sim, bench)
}

#[test]
fn a_full_disk_waits_until_foreign_files_are_gone() {
    let (sim, bench) = full(WhenFull::Block);
    assert_eq!(bench.append("more"), Err(Refused::Full));
    assert_eq!(bench.log.stats().state, LogState::Full);
    assert!(bench.ear.heard("SpoolFull"));
    let newest = bench.log.newest();
    assert_eq!(bench.accepted(newest), None, "it waits, whole");
    bench.clock.advance(Duration::from_millis(200));
    assert_eq!(bench.settle(), Turn::Stuck);
    sim.quota(None);
    bench.clock.advance(Duration::from_millis(200));
    bench.settle();
    assert_eq!(bench.accepted(newest), Some(true));
    assert_eq!(bench.log.stats().state, LogState::Open);
    assert!(bench.append("more").is_ok());
    assert_eq!(bench.ear.names().iter().filter(|name| **name == "SpoolFull").count(), 1, "told once");
}

#[test]
fn a_full_disk_has_room_when_everybody_has_read() {
    let (_sim, bench) = full(WhenFull::Block);
    let visible = bench.log.visible();
    bench.log.advance("", visible, &[]);
    bench.log.advance("slow", visible, &[]);
    bench.clock.advance(Duration::from_millis(200));
    bench.settle();
    assert_eq!(bench.accepted(bench.log.newest()), Some(true));
    assert!(bench.append("more").is_ok());
}

/// What is done and takes all the room goes when there is room for another. Until then the rest is done on time.
#[test]
fn a_full_disk_holds_up_no_timer() {
    let every = Duration::from_secs(5);
    let mut options = options(Sync::Every(every));
    (options.append_all, options.min_free_disk) = (false, Some(1 << 20));
    let sim = SimStorage::new(4);
    let bench = Bench::open(&sim, &options, true);
    sim.quota(Some(sim.used() + (1 << 19)));
    assert_eq!(bench.append(&"x".repeat(30_000)), Ok(1));
    bench.settle();
    bench.log.advance("", 1, &[]);
    assert_eq!(bench.settle(), Turn::Stuck);
    assert_eq!((bench.log.durable(), bench.log.stats().records), (0, 1));
    for _ in 0..50 {
        bench.clock.advance(every / 50);
        bench.settle();
    }
    assert_eq!((bench.log.durable(), bench.log.stats().records), (1, 1));
    let again = Bench::open(&sim.crash(1), &options, true);
    assert_eq!(again.log.registry(|registry| registry.names[""].cursor), 1);
    sim.quota(None);
    bench.clock.advance(Duration::from_millis(200));
    bench.settle();
    assert_eq!((bench.log.stats().records, bench.log.stats().state), (0, LogState::Open));
}

#[test]
fn a_full_disk_drops_the_oldest_and_tells() {
    let (_sim, bench) = full(WhenFull::DropOldest);
    assert!(bench.append("more").is_ok());
    bench.settle();
    assert_eq!(bench.accepted(bench.log.newest()), Some(true));
    assert!(bench.ear.heard("SpoolFull") && bench.ear.heard("Lost"));
    let stats = bench.log.stats();
    assert!(stats.dropped_records > 0 && stats.dropped_bytes > 0);
    assert!(stats.names.iter().all(|name| name.lost_records > 0));
}

/// A few records over two segments, opened anew after the flip.
fn small(clean: bool) -> (SimStorage, SpoolOptions, Vec<(u64, String)>) {
    let mut options = options(Sync::Batch);
    options.segment_bytes = Some(1024);
    let sim = SimStorage::new(1);
    let bench = Bench::open(&sim, &options, false);
    for n in 0..10 {
        bench.append(&format!("{n} {}", "x".repeat(60))).unwrap();
        bench.settle();
    }
    bench.clock.advance(Duration::from_secs(1));
    bench.settle();
    let all = bench.texts(0);
    if clean {
        bench.log.close().unwrap();
    }
    (sim.kill(), options, all)
}

fn flips(sim: &SimStorage) -> impl Iterator<Item = (String, u64)> + use<> {
    let files = sim.names().into_iter().filter(|name| name.ends_with(".seg"));
    let sizes: Vec<(String, u64)> =
        files.map(|name| (name.clone(), sim.bytes(&name).unwrap().len() as u64 * 8)).collect();
    sizes.into_iter().flat_map(|(name, bits)| (0..bits).map(move |bit| (name.clone(), bit)))
}

fn at_most_one_is_missing(bench: &Bench, all: &[(u64, String)], name: &str, bit: u64) {
    let (records, missing) = bench.read(0);
    let read: Vec<(u64, String)> = records.iter().map(|record| (record.sequence, text(record))).collect();
    let gone: Vec<&(u64, String)> = all.iter().filter(|one| !read.contains(one)).collect();
    assert!(gone.len() <= 1, "{name} bit {bit}: {gone:?}");
    assert!(read.iter().all(|one| all.contains(one)), "{name} bit {bit}: {read:?}");
    if let Some((number, _)) = gone.first() {
        assert!(bench.ear.heard("Damaged"), "{name} bit {bit}: {:?}", bench.ear.names());
        assert!(missing.iter().any(|range| (range.0..=range.1).contains(number)), "{name} bit {bit}: {missing:?}");
    }
}

#[test]
fn d06_d07_a_bit_turned_while_closed_costs_at_most_one_record_and_is_told() {
    for clean in [true, false] {
        let (start, options, all) = small(clean);
        let mut count = 0;
        for (name, bit) in flips(&start) {
            let sim = start.kill();
            assert!(sim.flip(&name, bit));
            let bench = Bench::open(&sim, &options, false);
            // The header has a second copy; a flip in the name's own bytes is not possible.
            at_most_one_is_missing(&bench, &all, &name, bit);
            count += 1;
        }
        println!("{count} bits turned, clean {clean}");
    }
}

#[test]
fn d07_a_bit_turned_under_an_open_log_costs_at_most_one_record_and_is_told() {
    let (start, options, all) = small(true);
    for (name, bit) in flips(&start).filter(|flip| flip.1 % 3 == 0) {
        let sim = start.kill();
        let bench = Bench::open(&sim, &options, false);
        assert!(sim.flip(&name, bit));
        at_most_one_is_missing(&bench, &all, &name, bit);
        let told = bench.ear.names().len();
        at_most_one_is_missing(&bench, &all, &name, bit);
        assert_eq!(bench.ear.names().len(), told, "told once");
    }
}

#[test]
fn a_page_that_cannot_be_read_is_damage_and_reading_goes_on() {
    let (sim, options, all) = small(true);
    let bench = Bench::open(&sim, &options, false);
    let name = sim.names().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    sim.bad_range(&name, 300..310);
    let (records, missing) = bench.read(0);
    assert!(records.len() < all.len() && !missing.is_empty());
    assert_eq!(records.last().map(|record| record.sequence), all.last().map(|last| last.0));
    assert!(bench.ear.heard("Damaged"));
    assert_eq!(bench.log.stats().damaged_records, missing.iter().map(|range| range.1 - range.0 + 1).sum::<u64>());
}

#[test]
fn a_writer_that_panics_fails_the_log_and_nothing_else() {
    let sim = SimStorage::new(2);
    let clock = Arc::new(crate::store::clock::SystemClock);
    let ear = Arc::new(Ear::default());
    let log = Log::open_on(sim.storage(), clock, &options(Sync::Batch), false, Arc::clone(&ear) as _, true).unwrap();
    sim.on_sync(|name| assert!(!name.ends_with(".seg"), "a defect, for the test"));
    let sequence = log.try_append(&Message::from("one"), &Extra::default()).unwrap();
    assert!(!super::straight::wait(&log, sequence));
    assert_eq!(log.try_append(&Message::from("two"), &Extra::default()), Err(Refused::Failed));
    assert_eq!(ear.names(), ["SpoolFailed"]);
    assert!(log.registry(|registry| registry.names.is_empty()) && log.stats().newest == 1);
    assert!(log.close().is_err());
}
