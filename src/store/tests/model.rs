//! Random workloads with crashes against the ledger, small segments, many at a time.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::ledger::{Ledger, Op, run_on};
use super::*;
use crate::options::spool::WhenFull;
use crate::store::storage::sim::{Call, Fault};

/// How one stretch of work ends.
#[derive(Debug, Clone)]
enum End {
    Close,
    Kill,
    Power(u64),
    /// After so many calls.
    PowerAfter(u64, u64),
    FailedSync(u64, u64),
    FailedCall(u64, u64),
}

#[derive(Debug, Clone)]
struct Life {
    policy: u8,
    small: bool,
    all: bool,
    push: bool,
    stretches: Vec<(Vec<Op>, End)>,
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Op {
        let topic = *g.choose(b"abc").unwrap();
        match u8::arbitrary(g) % 32 {
            0..=12 => Op::Append(topic, *g.choose(&[0, 10, 100, 300, 900, 5000]).unwrap()),
            13..=16 => Op::Settle,
            17 | 18 => Op::Turn,
            19 | 20 => Op::Declare(topic),
            21 => Op::Drop(topic),
            22..=24 => Op::Advance(topic, u8::arbitrary(g) % 101),
            25 => Op::Save,
            26 => Op::Wait(*g.choose(&[10, 110, 1100, 3_700_000]).unwrap()),
            27 => Op::Later(u32::from(u16::arbitrary(g))),
            28 => Op::Cancel,
            29 => Op::Bury,
            30 => Op::Read,
            _ => Op::Drain,
        }
    }
}

impl Arbitrary for End {
    fn arbitrary(g: &mut Gen) -> End {
        let (seed, n) = (u64::arbitrary(g), u64::from(u8::arbitrary(g)));
        match u8::arbitrary(g) % 6 {
            0 => End::Close,
            1 => End::Kill,
            2 => End::Power(seed),
            3 => End::PowerAfter(n, seed),
            4 => End::FailedSync(n % 16 + 1, seed),
            _ => End::FailedCall(n + 1, seed),
        }
    }
}

impl Arbitrary for Life {
    fn arbitrary(g: &mut Gen) -> Life {
        let count = usize::arbitrary(g) % 4 + 1;
        let stretches = (0..count).map(|_| {
            let ops = usize::arbitrary(g) % 40;
            ((0..ops).map(|_| Op::arbitrary(g)).collect(), End::arbitrary(g))
        });
        let mut stretches: Vec<(Vec<Op>, End)> = stretches.collect();
        // Some records are nearly as large as a small spool, or larger.
        let huge = u8::arbitrary(g) % 3 == 0;
        for op in stretches.iter_mut().flat_map(|stretch| &mut stretch.0) {
            if let Op::Append(_, size @ 5000) = op
                && huge
            {
                *size = *g.choose(&[5000, 15_000, 19_000, 23_000, 26_000, 60_000]).unwrap();
            }
        }
        Life {
            policy: u8::arbitrary(g),
            small: bool::arbitrary(g) || huge,
            all: bool::arbitrary(g),
            push: u8::arbitrary(g) % 4 == 0,
            stretches,
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Life>> {
        let life = self.clone();
        let mut smaller = Vec::new();
        for i in 0..life.stretches.len() {
            let mut less = life.clone();
            less.stretches.remove(i);
            smaller.push(less);
            let ops = &life.stretches[i].0;
            let mut step = ops.len() / 2;
            while step > 0 {
                for at in (0..ops.len()).step_by(step) {
                    let mut less = life.clone();
                    less.stretches[i].0.drain(at..(at + step).min(ops.len()));
                    smaller.push(less);
                }
                step /= 2;
            }
        }
        Box::new(smaller.into_iter())
    }
}

fn options_of(life: &Life) -> SpoolOptions {
    let mut options = options(match life.policy % 4 {
        0 | 1 => Sync::Batch,
        2 => Sync::Every(Duration::from_millis(50)),
        _ => Sync::Never,
    });
    let all = [WhenFull::Block, WhenFull::Reject, WhenFull::DropOldest, WhenFull::DropName];
    options.when_full = all[(life.policy / 4 % 4) as usize];
    options.append_all = life.all;
    options.max_bytes = if life.small { 24 << 10 } else { 1 << 20 };
    if (life.policy / 16).is_multiple_of(4) {
        options.max_messages = 40;
    }
    if life.policy / 64 == 0 {
        options.max_lag_bytes = 6000;
    }
    options
}

fn live(life: &Life) {
    let options = options_of(life);
    let mut sim = SimStorage::new(life.policy.into());
    let mut ledger = Ledger::new();
    for (ops, end) in &life.stretches {
        match *end {
            End::PowerAfter(calls, _) => sim.stop_after(sim.calls() + calls),
            End::FailedSync(nth, _) => sim.script(Call::Sync, ".seg", nth, Fault::DropUnsynced),
            End::FailedCall(nth, _) => sim.script(Call::Any, "", nth, [Fault::Io, Fault::Full][(nth % 2) as usize]),
            _ => {}
        }
        let mut ops = ops.clone();
        if matches!(end, End::Close) {
            ops.push(Op::Reopen);
        }
        ledger = run_on(ledger, &sim, &options, life.push, &ops);
        let power = match *end {
            End::Close => continue,
            End::Kill => None,
            End::Power(seed) | End::PowerAfter(_, seed) | End::FailedSync(_, seed) | End::FailedCall(_, seed) => {
                Some(seed)
            }
        };
        let left = power.map_or_else(|| sim.kill(), |seed| sim.crash(seed));
        ledger.check(&left.kill(), &options, life.push, power.is_some());
        ledger = ledger.after_crash(&options, power.is_some());
        sim = left;
    }
}

#[test]
fn d01_to_d08_random_lives_keep_every_promise() {
    let lives = std::env::var("GINNEL_MODEL_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    fn property(life: Life) -> bool {
        live(&life);
        true
    }
    // More than it would run of itself, if so many are asked for.
    QuickCheck::new().tests(lives).max_tests(lives).quickcheck(property as fn(Life) -> bool);
    println!("{lives} lives");
}

/// The power goes while segments that everybody has read are removed, and only the second one is gone after it.
#[test]
fn d08_what_was_let_go_is_not_damaged() {
    use Op::{Append, Bury, Declare, Drain, Later, Settle, Turn, Wait};
    let first = vec![Declare(99), Append(99, 300), Drain, Later(9516), Bury];
    let second = vec![
        Declare(98),
        Append(99, 5000),
        Turn,
        Append(98, 5000),
        Later(12245),
        Append(98, 10),
        Settle,
        Declare(97),
        Append(97, 300),
        Turn,
        Wait(3_700_000),
        Append(97, 900),
        Settle,
    ];
    let stretches = vec![(first, End::Close), (second, End::PowerAfter(98, 13_497_739_510_209_645_593))];
    live(&Life { policy: 1, small: false, all: false, push: false, stretches });
}

/// The registry does not fit on the disk just when a name is evicted.
#[test]
fn d08_a_name_that_goes_on_a_full_disk_is_told_of() {
    use Op::{Append, Bury, Declare, Drain, Drop, Turn, Wait};
    let names = vec![Declare(98), Append(98, 100), Append(98, 5000), Declare(99), Drop(98), Drain, Drain, Bury, Drain];
    let rest = vec![Wait(1100), Append(99, 10), Append(99, 5000), Bury, Append(97, 900), Turn];
    let stretches = vec![(vec![], End::Close), ([names, rest].concat(), End::FailedCall(111, 0))];
    live(&Life { policy: 63, small: false, all: true, push: false, stretches });
}

/// A limit evicts a name, and the power goes when that is written but not synced.
#[test]
fn d03_a_name_that_goes_as_the_power_does_was_told_of() {
    use Op::{Append, Declare, Later, Settle};
    let first = (vec![Declare(99), Later(25047)], End::Power(2_838_981_432_082_404_675));
    let names = vec![Declare(97), Append(99, 100), Settle];
    let rest = [vec![Append(99, 900), Append(98, 60_000)], names].concat();
    let stretches = vec![first, (rest, End::PowerAfter(41, 11_291_532_658_526_201_504))];
    live(&Life { policy: 255, small: true, all: true, push: false, stretches });
}

/// The place for delayed messages cannot be saved, and then a record larger than the limit is done.
#[test]
fn d08_delayed_messages_that_were_refused_keep_no_room() {
    use Op::{Append, Declare, Drain, Drop, Later};
    let ops = vec![Drop(99), Later(27483), Declare(97), Append(97, 60000), Drain];
    let stretches = vec![(ops, End::FailedCall(51, 12_286_157_506_256_339_025))];
    live(&Life { policy: 1, small: true, all: false, push: false, stretches });
}

/// A mark is written when all is quiet, without a sync of its own; then a seal behind it is all that a crash leaves.
#[test]
fn d07_a_mark_that_was_not_synced_is_not_damaged() {
    use Op::{Append, Drain, Save, Turn};
    let first = vec![Append(98, 900), Save, Turn, Append(97, 10), Append(98, 300), Drain];
    let ops = [first, vec![Append(97, 5000), Drain]].concat();
    let stretches = vec![(ops, End::PowerAfter(35, 1))];
    live(&Life { policy: 1, small: true, all: true, push: false, stretches });
}
