//! B1 to B6: the append side. A PUSH with a spool and no peer, so that every record is written and kept.

use std::time::Instant;

use ginnel::{Builder, Message, Push, Sync};

use crate::table::{Sample, median};
use crate::{Bench, raw};

/// Header and padding of a record with a one-frame body of this size, as the format has it.
pub(crate) fn record_size(body: usize) -> u64 {
    let frame = if body < 256 { 2 } else { 9 };
    (32 + frame + body as u64).next_multiple_of(8)
}

pub(crate) fn builder(dir: &std::path::Path, sync: Sync) -> Builder<Push> {
    Push::builder().spool(dir).sync(sync).spool_max_bytes(64 << 30).min_free_disk(1 << 30)
}

pub(crate) fn message(size: usize) -> Message {
    Message::from(vec![b'x'; size])
}

/// One spool in a new directory, opened, used and removed.
fn with_spool<T>(bench: &Bench, sync: Sync, work: impl AsyncFnOnce(&Push) -> T) -> T {
    let dir = bench.fresh("append");
    let result = bench.current().block_on(async {
        let push = builder(&dir, sync).build().expect("open a spool");
        let result = work(&push).await;
        push.shutdown_now();
        result
    });
    bench.remove(&dir);
    result
}

/// Messages a second: `count` by `enqueue`, the last one awaited.
fn pipelined(bench: &Bench, sync: Sync, size: usize, count: u64) -> f64 {
    with_spool(bench, sync, async |push| {
        let message = message(size);
        let start = Instant::now();
        let mut last = None;
        for _ in 0..count {
            last = Some(push.enqueue(message.clone()).await.expect("room"));
        }
        last.expect("one at least").await.expect("accepted");
        count as f64 / start.elapsed().as_secs_f64()
    })
}

/// The same by `send_all`.
fn in_runs(bench: &Bench, sync: Sync, size: usize, count: u64) -> f64 {
    with_spool(bench, sync, async |push| {
        let message = message(size);
        let start = Instant::now();
        push.send_all((0..count).map(|_| message.clone())).await.expect("accepted");
        count as f64 / start.elapsed().as_secs_f64()
    })
}

/// `batches` times: `count` messages together, awaited together. Batches a second.
fn batched(bench: &Bench, size: usize, count: usize, batches: usize) -> f64 {
    with_spool(bench, Sync::Batch, async |push| {
        let message = message(size);
        // The first use of a new spool is not what is asked for.
        push.send(message.clone()).await.expect("accepted");
        let start = Instant::now();
        for _ in 0..batches {
            push.send_all((0..count).map(|_| message.clone())).await.expect("accepted");
        }
        batches as f64 / start.elapsed().as_secs_f64()
    })
}

/// The same, one `enqueue` a message and the last one awaited.
fn batched_singly(bench: &Bench, size: usize, count: usize, batches: usize) -> f64 {
    with_spool(bench, Sync::Batch, async |push| {
        let message = message(size);
        push.send(message.clone()).await.expect("accepted");
        let start = Instant::now();
        for _ in 0..batches {
            let mut last = None;
            for _ in 0..count {
                last = Some(push.enqueue(message.clone()).await.expect("room"));
            }
            last.expect("one at least").await.expect("accepted");
        }
        batches as f64 / start.elapsed().as_secs_f64()
    })
}

/// `Never`, one message size: how many we do, and how many the bare writes of the same bytes are.
fn plain_writes(bench: &Bench, lines: [&'static str; 2], size: usize, count: u64) -> Vec<Sample> {
    let record = record_size(size);
    let raw = raw::write(&bench.dir, record * count) / record as f64;
    let single = pipelined(bench, Sync::Never, size, count);
    let runs = in_runs(bench, Sync::Never, size, count);
    vec![Sample::new(lines[0], single, raw), Sample::new(lines[1], runs, raw)]
}

pub(crate) fn b1(bench: &Bench) -> Vec<Sample> {
    plain_writes(bench, ["B1", "B1 all"], 100, 3_000_000)
}

pub(crate) fn b2(bench: &Bench) -> Vec<Sample> {
    plain_writes(bench, ["B2", "B2 all"], 1024, 700_000)
}

pub(crate) fn b3(bench: &Bench) -> Vec<Sample> {
    let (size, count) = (16 << 10, 40_000);
    let total = size as f64 * count as f64;
    let raw = raw::write(&bench.dir, size as u64 * count) / 1e6;
    let ours = pipelined(bench, Sync::Never, size, count) / count as f64 * total / 1e6;
    vec![Sample::new("B3", ours, raw)]
}

/// Synced batches: raw loops over a growing file and over one that was written before.
fn synced(bench: &Bench, lines: [&'static str; 3], size: usize, count: usize, batches: usize) -> Vec<Sample> {
    let bytes = usize::try_from(record_size(size)).expect("small") * count;
    let rate = |times: Vec<f64>| times.len() as f64 / times.iter().sum::<f64>() * 1e6;
    let growing = rate(raw::write_sync(&bench.dir, bytes, batches, false));
    let ours = batched(bench, size, count, batches);
    let written = rate(raw::write_sync(&bench.dir, bytes, batches, true));
    let singly = batched_singly(bench, size, count, batches);
    vec![
        Sample::new(lines[0], ours, growing),
        Sample::new(lines[1], ours, written),
        Sample::new(lines[2], singly, growing),
    ]
}

pub(crate) fn b4(bench: &Bench) -> Vec<Sample> {
    synced(bench, ["B4", "B4 written", "B4 singly"], 4096, 250, 150)
}

pub(crate) fn b5(bench: &Bench) -> Vec<Sample> {
    synced(bench, ["B5", "B5 written", "B5 singly"], 100, 64, 1000)
}

/// `tasks` tasks await their own synced sends. The median time of one in microseconds, and all sends a second.
fn awaited(bench: &Bench, tasks: usize, each: usize) -> (f64, f64) {
    with_spool(bench, Sync::Batch, async |push| {
        push.send(message(100)).await.expect("accepted");
        let start = Instant::now();
        let work = |push: Push| async move {
            let mut times = Vec::with_capacity(each);
            for _ in 0..each {
                let start = Instant::now();
                push.send(message(100)).await.expect("accepted");
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            times
        };
        let running: Vec<_> = (0..tasks).map(|_| tokio::spawn(work(push.clone()))).collect();
        let mut times = Vec::new();
        for task in running {
            times.extend(task.await.expect("no panic"));
        }
        (median(times), (tasks * each) as f64 / start.elapsed().as_secs_f64())
    })
}

pub(crate) fn b6(bench: &Bench) -> Vec<Sample> {
    let record = usize::try_from(record_size(100)).expect("small");
    let growing = median(raw::write_sync(&bench.dir, record, 1000, false));
    let (p50, one) = awaited(bench, 1, 1000);
    let written = median(raw::write_sync(&bench.dir, record, 1000, true));
    let (_, eight) = awaited(bench, 8, 1000);
    let (_, many) = awaited(bench, 64, 500);
    vec![
        Sample::new("B6", p50, growing),
        Sample::new("B6 written", p50, written),
        Sample::new("B6 x8", eight, one),
        Sample::new("B6 x64", many, one),
    ]
}
