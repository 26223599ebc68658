//! B7, B10 and B11: reading back, being on the path, and opening.

use std::path::Path;
use std::time::{Duration, Instant};

use ginnel::spool::SpoolFiles;
use ginnel::{Builder, Pub, Pull, Sub, Sync};

use crate::append::{builder, enqueue, message, record_size};
use crate::table::Sample;
use crate::{Bench, child, raw};

/// A recorder: keeps for its names, and has room.
pub(crate) fn publisher(dir: &Path, sync: Sync) -> Builder<Pub> {
    Pub::builder().spool(dir).sync(sync).spool_max_bytes(64 << 30).min_free_disk(1 << 30).max_names(2000)
}

/// Receives so many with this name; seconds from its connection to the last.
pub(crate) async fn take(endpoint: ginnel::Endpoint, name: &str, count: u64) -> Sub {
    let mut sub = Sub::builder().durable(name).connect(endpoint).expect("connect");
    sub.subscribe("").expect("subscribe");
    for _ in 0..count {
        sub.recv().await.expect("a message");
    }
    sub.ack_last();
    sub
}

/// Messages a second that a returning name gets from the disk: everything was written by a process that is gone, so
/// nothing is in memory but the system's cache of the files.
fn catch_up(bench: &Bench, lines: [&'static str; 2], size: usize, count: u64) -> Vec<Sample> {
    let dir = bench.fresh("catch-up");
    child::fill(&dir, child::Fill { size, count, segment: 64 << 20, name: Some("late"), clean: true });
    let raw = raw::read(&dir) / record_size(size) as f64;
    let start = Instant::now();
    let verified = SpoolFiles::open(&dir).expect("a spool").verify().expect("no damage");
    assert!(verified.records >= count, "{} records of {count}", verified.records);
    let checked = count as f64 / start.elapsed().as_secs_f64();
    let (seconds, cpu) = bench.several().block_on(async {
        let publisher = publisher(&dir, Sync::Never).build().expect("open a spool");
        let endpoint = publisher.bind_to(bench.place()).await.expect("bind");
        let (start, cpu) = (Instant::now(), raw::cpu());
        let sub = take(endpoint, "late", count).await;
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), raw::cpu() - cpu);
        sub.close().await;
        publisher.close().await;
        (seconds, cpu)
    });
    bench.remove(&dir);
    let delivered = Sample::new(lines[0], count as f64 / seconds, raw).with_cpu(cpu / count as f64);
    vec![delivered, Sample::new(lines[1], checked, raw)]
}

pub(crate) fn b7(bench: &Bench) -> Vec<Sample> {
    let mut samples = catch_up(bench, ["B7 1 KiB", "B7 1 KiB read"], 1024, 400_000);
    samples.extend(catch_up(bench, ["B7 100 B", "B7 100 B read"], 100, 1_500_000));
    samples
}

/// A buffer on the path: what goes in comes out at the other end, through the disk. And the way in alone.
pub(crate) fn b10(bench: &Bench) -> Vec<Sample> {
    let (size, count) = (1024, 500_000);
    let rate = |seconds: f64| size as f64 * count as f64 / 1e6 / seconds;
    let raw = raw::write(&bench.dir, size as u64 * count) / 1e6;
    let every = Sync::Every(Duration::from_millis(100));
    let dir = bench.fresh("path");
    let (through, cpu) = bench.several().block_on(async {
        let push = builder(&dir, every).build().expect("open a spool");
        let endpoint = push.bind_to(bench.place()).await.expect("bind");
        let mut pull = Pull::builder().durable("worker").connect(endpoint).expect("connect");
        push.wait_for_peers(1).await.expect("open");
        let sender = push.clone();
        let (start, cpu) = (Instant::now(), raw::cpu());
        let sending = tokio::spawn(async move { enqueue(&sender, &message(size), count).await });
        for _ in 0..count {
            pull.recv().await.expect("a message");
        }
        let measured = (start.elapsed().as_secs_f64(), raw::cpu() - cpu);
        sending.await.expect("no panic");
        pull.close().await;
        push.shutdown_now();
        measured
    });
    bench.remove(&dir);
    let dir = bench.fresh("path");
    let alone = bench.current().block_on(async {
        let push = builder(&dir, every).build().expect("open a spool");
        let start = Instant::now();
        enqueue(&push, &message(size), count).await;
        let seconds = start.elapsed().as_secs_f64();
        push.shutdown_now();
        seconds
    });
    bench.remove(&dir);
    vec![Sample::new("B10", rate(through), raw).with_cpu(cpu / count as f64), Sample::new("B10 in", rate(alone), raw)]
}

/// Milliseconds to open what a process left behind.
fn open(bench: &Bench, line: &'static str, fill: child::Fill) -> Vec<Sample> {
    let dir = bench.fresh("open");
    let total = record_size(fill.size) * fill.count;
    child::fill(&dir, fill);
    raw::settle(&dir);
    let raw = total as f64 / raw::read(&dir) * 1e3;
    let milliseconds = bench.current().block_on(async {
        let start = Instant::now();
        let publisher = publisher(&dir, Sync::Batch).build().expect("open a spool");
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        publisher.close().await;
        milliseconds
    });
    bench.remove(&dir);
    vec![Sample::new(line, milliseconds, raw)]
}

pub(crate) fn b11(bench: &Bench) -> Vec<Sample> {
    let fill = |size: usize, bytes: u64, segment, clean| child::Fill {
        size,
        count: bytes / record_size(size),
        segment,
        name: Some("late"),
        clean,
    };
    let mut samples = open(bench, "B11 1 KiB", fill(1024, 63 << 20, 64 << 20, false));
    samples.extend(open(bench, "B11 100 B", fill(100, 63 << 20, 64 << 20, false)));
    // A little less than 160 of 1 MiB, so that the last one is in use.
    samples.extend(open(bench, "B11 sealed", fill(1024, 160 << 20, 1 << 20, true)));
    samples.extend(open(bench, "B11 killed", fill(1024, 160 << 20, 1 << 20, false)));
    samples
}
