//! A crash after every call to the disk: 40 workloads, 20 seeds each, and again after every call of the recovery.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
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
    let mut ops: Vec<Op> = (0..28).map(|_| op(&mut chance)).collect();
    if i % 8 >= 5 {
        // One record nearly as large as a small spool, and one larger than it; both done in the end.
        ops.insert(9, Op::Append(b'a', [13_000, 14_500][(i % 2) as usize]));
        ops.insert(10, Op::Drain);
        ops.insert(20, Op::Append(b'b', 20_000));
        ops.insert(21, Op::Settle);
        ops.push(Op::Drain);
    }
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

/// How many fates a crash has: in the work, and in the recovery. `GINNEL_CRASH_SEEDS` and `GINNEL_CRASH_AGAIN` ask for
/// more or fewer.
fn seeds() -> (u64, u64) {
    let asked = |name: &str| std::env::var(name).ok().and_then(|seeds| seeds.parse().ok());
    (asked("GINNEL_CRASH_SEEDS").unwrap_or(20), asked("GINNEL_CRASH_AGAIN").unwrap_or(1))
}

/// Salts of the work, of the recovery that is crashed again, and of the one that is looked at.
const SALTS: [u64; 3] = [1, 2, 3];

/// What was done.
#[derive(Debug, Default)]
struct Count {
    crashes: u64,
    synced: u64,
    states: u64,
    again: u64,
    again_states: u64,
    /// Records that had to be there, over all looks.
    promised: u64,
}

/// Crashes the workloads after each of their calls, and the recovery from each disk that this leaves after each of
/// its calls.
fn crash_everywhere(workloads: impl Iterator<Item = u64>) {
    let seeds = seeds();
    let mut count = Count::default();
    for i in workloads {
        let _named = Named(i);
        let looker = RefCell::new(Looker::new(i, seeds.1));
        at_every_call(
            &SimStorage::new(i),
            0..seeds.0,
            |sim| {
                foresee(SALTS[0]);
                let Workload { options, push, ops } = &looker.borrow().work;
                let ledger = run(sim, options, *push, ops);
                let print = ledger.print();
                (ledger, print)
            },
            |left, (ledger, print)| looker.borrow_mut().look(&left, ledger, *print),
        );
        count.add(looker.into_inner().count);
    }
    let Count { crashes, synced, states, again, again_states, promised } = count;
    println!(
        "{crashes} crashes ({synced} of them under Sync::Batch) left {states} states; {again} \
         crashes in their recovery left {again_states} more; {promised} times a record had to be there, lost 0"
    );
}

impl Count {
    fn add(&mut self, other: Count) {
        self.crashes += other.crashes;
        self.synced += other.synced;
        self.states += other.states;
        self.again += other.again;
        self.again_states += other.again_states;
        self.promised += other.promised;
    }
}

/// Looks at what crashes of one workload leave. What is the same, disk and promises, is looked at once.
struct Looker {
    work: Workload,
    again: u64,
    /// Disk and promises: those whose recovery was crashed, and those that were looked at.
    crashed: HashSet<(u64, u64)>,
    seen: HashSet<(u64, u64)>,
    prints: Prints,
    count: Count,
}

impl Looker {
    fn new(i: u64, again: u64) -> Looker {
        let (crashed, seen) = (HashSet::new(), HashSet::new());
        Looker { work: workload(i), again, crashed, seen, prints: Prints::default(), count: Count::default() }
    }

    fn look(&mut self, left: &SimStorage, ledger: &Ledger, print: u64) {
        self.count.crashes += 1;
        self.count.synced += u64::from(self.work.options.sync == Sync::Batch);
        let state = (self.prints.of(left), print);
        if !self.crashed.insert(state) {
            return;
        }
        self.count.states += 1;
        self.crash_again(left, ledger, print);
        self.seen.insert(state);
        let bench = self.check(left, ledger);
        ledger.goes_on(&bench);
    }

    fn check(&mut self, left: &SimStorage, ledger: &Ledger) -> Bench {
        foresee(SALTS[2]);
        let Workload { options, push, .. } = &self.work;
        self.count.promised += ledger.promised(options);
        ledger.check(left, options, *push, true)
    }

    /// The power goes after each call of the opening.
    fn crash_again(&mut self, left: &SimStorage, ledger: &Ledger, print: u64) {
        if self.again == 0 {
            return;
        }
        let (film, shown, after) = self.recover(left, ledger);
        let after_print = after.print();
        for (call, frame) in film.iter().enumerate().skip(1) {
            let opened = call + 1 == film.len();
            let (ledger, print) = if opened { (&after, after_print) } else { (ledger, print) };
            for seed in 0..if frame.is_safe() { 1 } else { self.again } {
                self.count.again += 1;
                let broken = frame.crash(seed ^ (call as u64).rotate_left(32));
                if !self.seen.insert((self.prints.of(&broken), print)) {
                    continue;
                }
                self.count.again_states += 1;
                let _named = Again(call, seed);
                let bench = self.check(&broken, ledger);
                if opened {
                    stays(&shown, &bench);
                }
            }
        }
    }

    /// The disk before the first, between, and after the last call of the opening; what it showed; and what was
    /// promised then: it has given out one number more, without any further call.
    fn recover(&self, left: &SimStorage, ledger: &Ledger) -> (Vec<SimStorage>, Vec<(u64, String)>, Ledger) {
        foresee(SALTS[1]);
        let broken = left.kill();
        broken.film();
        let bench = ledger.reopen(&broken, &self.work.options, self.work.push);
        let film = broken.take_film();
        let shown = bench.texts(bench.log.oldest().saturating_sub(1));
        (film, shown, ledger.clone().and_one_more(&bench))
    }
}

/// What a recovery showed to its readers stays, whatever happens to it next.
fn stays(shown: &[(u64, String)], bench: &Bench) {
    let oldest = bench.log.oldest();
    let now = bench.texts(oldest.saturating_sub(1));
    for record in shown.iter().filter(|record| record.0 >= oldest) {
        assert!(now.contains(record), "number {} was shown, and is gone", record.0);
    }
}

/// Numbers that stand for disks. Files that have not changed are known.
#[derive(Default)]
struct Prints(HashMap<*const Vec<u8>, (Arc<Vec<u8>>, u64)>);

impl Prints {
    /// Names and contents of all files.
    fn of(&mut self, sim: &SimStorage) -> u64 {
        // What is kept here cannot be another file at the same place.
        if self.0.len() > 500 {
            self.0.clear();
        }
        let mut all = DefaultHasher::new();
        for (name, image) in sim.images() {
            let one = || {
                let mut one = DefaultHasher::new();
                one.write_usize(image.len());
                one.write(without_zeros(&image));
                one.finish()
            };
            let known = self.0.entry(Arc::as_ptr(&image)).or_insert_with(|| (Arc::clone(&image), one()));
            all.write(name.as_bytes());
            all.write_u64(known.1);
        }
        all.finish()
    }
}

/// A file without the zeros at its end, by sectors: most of what is made ahead is zeros.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; 512] = [0; 512];
    let zeros = bytes.rchunks_exact(512).take_while(|sector| *sector == ZEROS).count();
    &bytes[..bytes.len() - zeros * 512]
}

/// Says on a panic where the recovery was crashed.
struct Again(usize, u64);

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("power cut again after call {} of the opening, seed {}", self.0, self.1);
        }
    }
}

/// Of the workloads, so that each has some of every kind.
fn quarter(which: u64) -> impl Iterator<Item = u64> {
    (0..40).filter(move |i| (i + i / 4) % 4 == which)
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_1() {
    crash_everywhere(quarter(0));
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_2() {
    crash_everywhere(quarter(1));
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_3() {
    crash_everywhere(quarter(2));
}

#[test]
fn d01_d02_d04_d06_a_crash_after_every_call_keeps_every_promise_4() {
    crash_everywhere(quarter(3));
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
    foresee(SALTS[0]);
    let ledger = run(&sim, &options, push, &ops);
    println!("{ledger:?}");
    let left = sim.crash(seed ^ n.rotate_left(32));
    if let Ok(again) = std::env::var("AGAIN") {
        let (call, seed): (usize, u64) = (again.parse().unwrap(), number("AGAIN_SEED"));
        let (film, ..) = Looker::new(i, 1).recover(&left, &ledger);
        println!("{} calls to open {:?}", film.len() - 1, left.names());
        let broken = film[call].crash(seed ^ (call as u64).rotate_left(32));
        println!("{:?}", broken.names());
        foresee(SALTS[2]);
        ledger.check(&broken, &options, push, true);
        return;
    }
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
