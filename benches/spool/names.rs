//! B12: what names cost that sleep, and one that will never come back.
//!
//! Two publishers live side by side in this process, each with a live name: one with nothing else, the other with the
//! names in question. They work in turns, in slices so short that a disk or a neighbour that swings hits both, each
//! first as often as the other; what is left to be written is synced between the slices, while no clock runs. What is
//! compared is neighbours, and beside their rates what the machine cannot swing: processor time and system calls.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use ginnel::{Builder, Pub, Sub, Sync};

use crate::append::{enqueue, message};
use crate::read::{publisher, take};
use crate::table::Sample;
use crate::{Bench, child, raw};

/// Small ones: what a name costs, it costs for each message, and not for its bytes.
const SIZE: usize = 128;
/// Messages of a slice: 25 MiB of records, about a fifth of a second.
const SLICE: u64 = 150_000;
/// Pairs of slices in a round.
const PAIRS: usize = 8;
/// Of what lies before a dead name.
const BEHIND: usize = 1024;

/// The directories of all rounds: filling them anew would take long.
struct Homes {
    /// One record, no names.
    empty: PathBuf,
    sleeping: PathBuf,
    dead: PathBuf,
}

fn homes(bench: &Bench) -> &'static Homes {
    static HOMES: OnceLock<Homes> = OnceLock::new();
    HOMES.get_or_init(|| {
        let [empty, sleeping, dead] = ["empty", "sleeping", "dead"].map(|name| bench.fresh(name));
        let homes = Homes { empty, sleeping, dead };
        let one = |name| child::Fill { size: BEHIND, count: 1, segment: 64 << 20, name, clean: true };
        child::fill(&homes.empty, one(None));
        bench.current().block_on(async {
            let publisher = sleepers(publisher(&homes.sleeping, Sync::Never)).build().expect("open a spool");
            publisher.send(message(SIZE)).await.expect("accepted");
            publisher.close().await;
        });
        let count = (bench.gib << 30) / crate::append::record_size(BEHIND);
        child::fill(&homes.dead, child::Fill { count, ..one(Some("dead")) });
        raw::settle(&homes.dead);
        homes
    })
}

fn sleepers(builder: Builder<Pub>) -> Builder<Pub> {
    (0..1000).fold(builder, |builder, n| builder.declare(format!("sleeper-{n}"), [""]))
}

/// A publisher with a live name of its own.
struct Side {
    dir: PathBuf,
    publisher: Pub,
    sub: Option<Sub>,
}

/// What a slice cost.
struct Cost {
    /// Messages a second, from the first sent to the last received.
    rate: f64,
    /// Processor time for a message, in microseconds.
    cpu: f64,
    /// Reading and writing system calls for a thousand messages.
    calls: f64,
}

impl Side {
    async fn open(bench: &Bench, dir: PathBuf, builder: Builder<Pub>) -> Side {
        let publisher = builder.build().expect("open a spool");
        let place = format!("{}-{}", bench.place(), dir.file_name().expect("named").display());
        let endpoint = publisher.bind_to(place).await.expect("bind");
        let sub = take(endpoint, &format!("live-{}", bench.round.get()), 0).await;
        publisher.wait_for_subscribers(1).await.expect("open");
        Side { dir, publisher, sub: Some(sub) }
    }

    async fn slice(&mut self) -> Cost {
        let (sender, mut sub) = (self.publisher.clone(), self.sub.take().expect("between slices"));
        let (start, cpu, calls) = (Instant::now(), raw::cpu_of_threads(), raw::calls());
        let sending = tokio::spawn(async move { enqueue(&sender, &message(SIZE), SLICE).await });
        let taking = tokio::spawn(async move {
            for _ in 0..SLICE {
                sub.recv().await.expect("a message");
            }
            sub.ack_last();
            sub
        });
        self.sub = Some(taking.await.expect("no panic"));
        let each = SLICE as f64;
        let cost = Cost {
            rate: each / start.elapsed().as_secs_f64(),
            cpu: (raw::cpu_of_threads() - cpu) / each,
            calls: (raw::calls() - calls) * 1000.0 / each,
        };
        sending.await.expect("no panic");
        self.settle().await;
        cost
    }

    /// The next slice is not to wait for what this one leaves to be done.
    async fn settle(&self) {
        let spool = self.publisher.spool().expect("it has one").clone();
        let lags = |name: &ginnel::NameStats| name.name.starts_with("live") && name.lag_records > 0;
        while spool.names().iter().any(lags) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        raw::settle(&self.dir);
    }

    async fn close(mut self) {
        if let Some(mut sub) = self.sub.take() {
            sub.drop_name().await;
            sub.close().await;
        }
        self.publisher.close().await;
    }
}

/// The lines of one comparison: rate, processor time, calls.
type Lines = [&'static str; 3];

/// `with` beside one that is alone and keeps all that it gets, as names that are behind make the other keep it: else
/// the disk would have less to do, and that would be measured.
fn compare(bench: &Bench, lines: Lines, with: PathBuf, builder: Builder<Pub>) -> Vec<Sample> {
    let home = bench.fresh("alone");
    let samples = bench.several().block_on(async {
        let mut with = Side::open(bench, with, builder).await;
        let kept = publisher(&home, Sync::Never).append_all(true);
        let mut alone = Side::open(bench, home.clone(), kept).await;
        // First times are not what is asked for.
        with.slice().await;
        alone.slice().await;
        let mut samples = Vec::new();
        for pair in 0..PAIRS {
            let (ours, other) = match pair % 2 {
                0 => (with.slice().await, alone.slice().await),
                _ => {
                    let other = alone.slice().await;
                    (with.slice().await, other)
                }
            };
            samples.push(Sample::new(lines[0], ours.rate, other.rate).with_cpu(ours.cpu));
            samples.push(Sample::new(lines[1], 1e6 / ours.cpu, 1e6 / other.cpu));
            samples.push(Sample::new(lines[2], ours.calls, other.calls));
        }
        with.close().await;
        alone.close().await;
        samples
    });
    bench.remove(&home);
    samples
}

pub(crate) fn b12(bench: &Bench) -> Vec<Sample> {
    let homes = homes(bench);
    let empty = child::resident(&homes.empty);
    let mut samples = vec![
        Sample::new("B12 RAM 1000", child::resident(&homes.sleeping) - empty, empty),
        Sample::new("B12 RAM dead", child::resident(&homes.dead) - empty, empty),
    ];
    let beside = bench.fresh("beside");
    let lines = ["B12 live 1000", "B12 CPU 1000", "B12 calls 1000"];
    samples.extend(compare(bench, lines, beside.clone(), sleepers(publisher(&beside, Sync::Never))));
    bench.remove(&beside);
    let lines = ["B12 live dead", "B12 CPU dead", "B12 calls dead"];
    samples.extend(compare(bench, lines, homes.dead.clone(), publisher(&homes.dead, Sync::Never)));
    samples
}
