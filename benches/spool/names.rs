//! B12: what names cost that sleep, and one that will never come back.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use ginnel::Sync;

use crate::append::{enqueue, message};
use crate::read::{publisher, take};
use crate::table::{Sample, median};
use crate::{Bench, child, raw};

const SIZE: usize = 1024;
/// Messages of one live run.
const LIVE: u64 = 200_000;
/// Live runs of each kind in a round, in turns: single ones scatter too much for a gate of 5 %.
const CYCLES: usize = 4;

/// The directories of all rounds: filling them anew would take long.
struct Homes {
    /// One record, no names.
    empty: PathBuf,
    /// The live name alone. Nothing is ever deleted, as beside names that are behind: else the disk would have less
    /// to do, and that would be measured.
    kept: PathBuf,
    /// The live name alone, and what it has acknowledged goes.
    alone: PathBuf,
    sleeping: PathBuf,
    dead: PathBuf,
}

fn homes(bench: &Bench) -> &'static Homes {
    static HOMES: OnceLock<Homes> = OnceLock::new();
    HOMES.get_or_init(|| {
        let [empty, kept, alone, sleeping, dead] =
            ["empty", "kept", "alone", "sleeping", "dead"].map(|name| bench.fresh(name));
        let homes = Homes { empty, kept, alone, sleeping, dead };
        let one = |name| child::Fill { size: SIZE, count: 1, segment: 64 << 20, name, clean: true };
        child::fill(&homes.empty, one(None));
        bench.current().block_on(async {
            let mut builder = publisher(&homes.sleeping, Sync::Never);
            for n in 0..1000 {
                builder = builder.declare(format!("sleeper-{n}"), [""]);
            }
            let publisher = builder.build().expect("open a spool");
            publisher.send(message(SIZE)).await.expect("accepted");
            publisher.close().await;
        });
        let count = (bench.gib << 30) / crate::append::record_size(SIZE);
        child::fill(&homes.dead, child::Fill { count, ..one(Some("dead")) });
        raw::settle(&homes.dead);
        homes
    })
}

/// Messages a second from a publisher on this spool to one live name, in one process; and processor time of each.
fn live(bench: &Bench, dir: &Path, keep: bool, name: String) -> (f64, f64) {
    let measured = bench.several().block_on(async {
        let publisher = publisher(dir, Sync::Never).append_all(keep).build().expect("open a spool");
        let endpoint = publisher.bind_to(bench.place()).await.expect("bind");
        let taking = tokio::spawn(async move { take(endpoint, &name, LIVE).await });
        publisher.wait_for_subscribers(1).await.expect("open");
        let (start, cpu) = (Instant::now(), raw::cpu());
        let sender = publisher.clone();
        let sending = tokio::spawn(async move { enqueue(&sender, &message(SIZE), LIVE).await });
        let mut sub = taking.await.expect("no panic");
        let rate = LIVE as f64 / start.elapsed().as_secs_f64();
        let cpu = (raw::cpu() - cpu) / LIVE as f64;
        sending.await.expect("no panic");
        sub.drop_name().await;
        sub.close().await;
        publisher.close().await;
        (rate, cpu)
    });
    // The next one is not to wait for what this one leaves to be written.
    raw::settle(dir);
    measured
}

pub(crate) fn b12(bench: &Bench) -> Vec<Sample> {
    let homes = homes(bench);
    let empty = child::resident(&homes.empty);
    let mut samples = vec![
        Sample::new("B12 RAM 1000", child::resident(&homes.sleeping) - empty, empty),
        Sample::new("B12 RAM dead", child::resident(&homes.dead) - empty, empty),
    ];
    let mut rates = [const { Vec::new() }; 4];
    for cycle in 0..CYCLES {
        let name = format!("live-{}-{cycle}", bench.round.get());
        let runs = [(&homes.kept, true), (&homes.sleeping, false), (&homes.dead, false), (&homes.alone, false)];
        // Each comes after each other as often.
        for turn in 0..runs.len() {
            let at = (turn + cycle) % runs.len();
            let (home, keep) = runs[at];
            rates[at].push(live(bench, home, keep, name.clone()));
        }
    }
    let [kept, sleeping, dead, alone] = rates.map(|runs: Vec<(f64, f64)>| {
        let (rates, times) = runs.into_iter().unzip();
        (median(rates), median(times))
    });
    samples.push(Sample::new("B12 live 1000", sleeping.0, kept.0).with_cpu(sleeping.1));
    samples.push(Sample::new("B12 live dead", dead.0, kept.0).with_cpu(dead.1));
    samples.push(Sample::new("B12 kept", kept.0, alone.0).with_cpu(kept.1));
    samples
}
