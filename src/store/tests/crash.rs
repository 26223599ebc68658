//! A crash after every call to the disk: 40 workloads, 20 seeds each, and again while the log recovers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ledger::{Ledger, Op, run};
use super::*;
use crate::options::spool::WhenFull;
use crate::store::storage::sim::{Chance, at_every_call};

pub(super) struct Workload {
    pub(super) options: SpoolOptions,
    pub(super) push: bool,
    pub(super) ops: Vec<Op>,
}

/// The `i`th workload: options and steps both follow from its number.
pub(super) fn workload(i: u64) -> Workload {
    let mut chance = Chance::new(i);
    let mut options = options(match i % 4 {
        0 | 1 => Sync::Batch,
        2 => Sync::Every(Duration::from_millis(50)),
        _ => Sync::Never,
    });
    options.segment_bytes = Some([1024, 2048, 4096][(i % 3) as usize]);
    options.append_all = i % 5 < 2;
    options.when_full =
        [WhenFull::Block, WhenFull::Block, WhenFull::DropOldest, WhenFull::DropName][(i / 4 % 4) as usize];
    if i % 8 >= 4 {
        options.max_bytes = 16 << 10;
    }
    if i % 11 == 10 {
        options.max_messages = 30;
    }
    if i % 13 == 12 {
        options.max_age = Some(Duration::from_secs(2));
    }
    let push = i % 7 == 6;
    let ops = (0..28).map(|_| op(&mut chance)).collect();
    Workload { options, push, ops }
}

fn op(chance: &mut Chance) -> Op {
    let topic = *chance.pick(b"abc");
    match chance.below(40) {
        0..=15 => Op::Append(topic, [5, 60, 200, 700, 1500][chance.below(5)]),
        16..=22 => Op::Settle,
        23 | 24 => Op::Turn,
        25 | 26 => Op::Declare(topic),
        27 => Op::Drop(topic),
        28..=30 => Op::Advance(topic, [30, 100][chance.below(2)]),
        31 => Op::Save,
        32 | 33 => Op::Wait([60, 1100][chance.below(2)]),
        34 => Op::Later([100, 5000][chance.below(2)]),
        35 => Op::Cancel,
        36 => Op::Bury,
        37 => Op::Reopen,
        38 => Op::Restart,
        _ => Op::Read,
    }
}

/// Crashes at each call; `GINNEL_CRASH_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("GINNEL_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20)
}

fn crash_everywhere(workloads: std::ops::Range<u64>) {
    let (points, again, states) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (seeds, synced) = (seeds(), AtomicU64::new(0));
    // Seeds may leave the same disk; it is looked at once.
    let seen = Mutex::new(HashSet::new());
    for i in workloads.clone() {
        let Workload { options, push, ops } = workload(i);
        let _named = Named(i);
        let start = SimStorage::new(i);
        at_every_call(
            &start,
            0..seeds,
            |sim| run(sim, &options, push, &ops),
            |left, ledger: &Ledger| {
                let n = points.fetch_add(1, Ordering::Relaxed);
                synced.fetch_add(u64::from(options.sync == Sync::Batch), Ordering::Relaxed);
                let mut seen = seen.lock().unwrap();
                if n % seeds == 0 {
                    seen.clear();
                }
                if !seen.insert(state_of(&left)) {
                    return;
                }
                states.fetch_add(1, Ordering::Relaxed);
                // A crash while it recovers, at a call that follows from the count; then the same must hold.
                if n % 4 == 0 {
                    again.fetch_add(1, Ordering::Relaxed);
                    let broken = left.kill();
                    broken.stop_after(n / 4 % 24);
                    drop(Bench::try_open(broken.storage(), &options, push, ManualClock::new(START)));
                    ledger.check(&broken.crash(n), &options, push, true);
                }
                let bench = ledger.check(&left, &options, push, true);
                ledger.goes_on(&bench);
            },
        );
    }
    let (points, again, states) = (points.into_inner(), again.into_inner(), states.into_inner());
    let synced = synced.into_inner();
    println!(
        "workloads {workloads:?}: {points} crashes ({synced} of them under Sync::Batch) left {states} states; {again} \
         crashed again during recovery"
    );
}

/// Names and contents of all files.
fn state_of(sim: &SimStorage) -> Vec<(String, u32)> {
    let dirs = [("", Some(sim.clone())), ("delay/", sim.sub("delay")), ("dead/", sim.sub("dead"))];
    let files = dirs.iter().filter_map(|(prefix, dir)| Some((prefix, dir.as_ref()?))).flat_map(|(prefix, dir)| {
        dir.names().into_iter().map(move |name| {
            let bytes = dir.bytes(&name).unwrap_or_default();
            (format!("{prefix}{name}"), crc32c::crc32c(&bytes))
        })
    });
    files.collect()
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_1() {
    crash_everywhere(0..10);
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_2() {
    crash_everywhere(10..20);
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_3() {
    crash_everywhere(20..30);
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_4() {
    crash_everywhere(30..40);
}

/// kill -9: what the process wrote is there, whatever was synced.
#[test]
fn d01_a_killed_process_loses_nothing_accepted_under_any_policy() {
    for i in 0..40 {
        let Workload { options, push, ops } = workload(i);
        let _named = Named(i);
        for cut in 0..=ops.len() {
            let sim = SimStorage::new(i);
            let ledger = run(&sim, &options, push, &ops[..cut]);
            let bench = ledger.check(&sim.kill(), &options, push, false);
            ledger.goes_on(&bench);
        }
    }
}

/// Says on a panic which workload it was.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("workload {}", self.0);
        }
    }
}

#[test]
#[ignore = "to look at one crash"]
fn one_crash() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (i, n, seed) = (number("WORKLOAD"), number("CALL"), number("SEED"));
    let Workload { options, push, ops } = workload(i);
    println!("{options:?}\n{push} {ops:?}");
    let sim = SimStorage::new(i).kill();
    sim.stop_after(n);
    let ledger = run(&sim, &options, push, &ops);
    println!("{ledger:?}");
    let left = sim.crash(seed ^ n.rotate_left(32));
    println!("{:?}", sim.names());
    for name in sim.names().iter().filter(|name| name.ends_with(".seg")) {
        for (which, sim) in [("written", &sim), ("left", &left)] {
            let Some(bytes) = sim.bytes(name) else { continue };
            println!("{which} {name}: {} bytes", bytes.len());
            let Ok(header) = crate::store::segment::Header::parse(&bytes) else { continue };
            let mut at = 128;
            while at < bytes.len() {
                match crate::store::record::parse(&bytes[at..], Some(header.salt), u64::MAX) {
                    crate::store::record::Parsed::Record(r) => {
                        println!("  {at} {:?} {} {:?} {:?}", r.kind, r.sequence, r.mark(), r.gap());
                        at += r.size;
                    }
                    _ => at += 8,
                }
            }
        }
    }
    ledger.check(&left, &options, push, true);
}
