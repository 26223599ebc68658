//! B1 to B6: the append side. A PUSH with a spool and no peer, so that every record is written and kept.

use std::time::Instant;

use ginnel::{Builder, Message, Push, Sender, Sync};

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

/// `count` by `enqueue`, the last one awaited: messages a second, and processor time of each.
fn pipelined(bench: &Bench, sync: Sync, size: usize, count: u64) -> (f64, f64) {
    with_spool(bench, sync, async |push| {
        let (start, cpu) = (Instant::now(), raw::cpu());
        enqueue(push, &message(size), count).await;
        (count as f64 / start.elapsed().as_secs_f64(), (raw::cpu() - cpu) / count as f64)
    })
}

/// One by one, and the last one awaited.
pub(crate) async fn enqueue(sender: &Sender, message: &Message, count: u64) {
    let mut last = None;
    for _ in 0..count {
        last = Some(sender.enqueue(message.clone()).await.expect("room"));
    }
    last.expect("one at least").await.expect("accepted");
}

/// The same by `send_all`.
fn in_runs(bench: &Bench, sync: Sync, size: usize, count: u64) -> (f64, f64) {
    with_spool(bench, sync, async |push| {
        let message = message(size);
        let (start, cpu) = (Instant::now(), raw::cpu());
        push.send_all((0..count).map(|_| message.clone())).await.expect("accepted");
        (count as f64 / start.elapsed().as_secs_f64(), (raw::cpu() - cpu) / count as f64)
    })
}

/// `Never`, one message size: how many we do, and how many the bare writes of the same bytes are.
fn plain_writes(bench: &Bench, lines: [&'static str; 2], size: usize, count: u64) -> Vec<Sample> {
    let record = record_size(size);
    let raw = raw::write(&bench.dir, record * count) / record as f64;
    let (single, cpu_single) = pipelined(bench, Sync::Never, size, count);
    let (runs, cpu_runs) = in_runs(bench, Sync::Never, size, count);
    vec![Sample::new(lines[0], single, raw).with_cpu(cpu_single), Sample::new(lines[1], runs, raw).with_cpu(cpu_runs)]
}

pub(crate) fn b1(bench: &Bench) -> Vec<Sample> {
    plain_writes(bench, ["B1", "B1 all"], 100, 3_000_000)
}

pub(crate) fn b2(bench: &Bench) -> Vec<Sample> {
    plain_writes(bench, ["B2", "B2 all"], 1024, 700_000)
}

pub(crate) fn b3(bench: &Bench) -> Vec<Sample> {
    let (size, count) = (16 << 10, 40_000);
    let raw = raw::write(&bench.dir, size as u64 * count) / 1e6;
    let (rate, cpu) = pipelined(bench, Sync::Never, size, count);
    vec![Sample::new("B3", rate * size as f64 / 1e6, raw).with_cpu(cpu)]
}

/// Slices of a round in which ours and the raw loops take turns: a disk drifts within a second.
const SLICES: usize = 10;

/// Synced batches of `count` messages, awaited together: by `send_all`, and one `enqueue` a message; beside raw loops
/// over a growing file and over one that was written before. Batches a second.
fn synced(bench: &Bench, lines: [&'static str; 3], size: usize, count: u64, batches: usize) -> Vec<Sample> {
    let bytes = usize::try_from(record_size(size) * count).expect("small");
    let mut growing = raw::Synced::new(&bench.dir, bytes, None);
    let mut written = raw::Synced::new(&bench.dir, bytes, Some(batches));
    let each = batches / SLICES;
    let (together, singly) = with_spool(bench, Sync::Batch, async |push| {
        let message = message(size);
        // The first use of a new spool is not what is asked for.
        push.send(message.clone()).await.expect("accepted");
        let (mut together, mut singly) = (0.0, 0.0);
        for _ in 0..SLICES {
            growing.run(each);
            let start = Instant::now();
            for _ in 0..each {
                push.send_all((0..count).map(|_| message.clone())).await.expect("accepted");
            }
            together += start.elapsed().as_secs_f64();
            written.run(each);
            let start = Instant::now();
            for _ in 0..each {
                enqueue(push, &message, count).await;
            }
            singly += start.elapsed().as_secs_f64();
        }
        let done = (each * SLICES) as f64;
        (done / together, done / singly)
    });
    vec![
        Sample::new(lines[0], together, growing.rate()),
        Sample::new(lines[1], together, written.rate()),
        Sample::new(lines[2], singly, growing.rate()),
    ]
}

pub(crate) fn b4(bench: &Bench) -> Vec<Sample> {
    synced(bench, ["B4", "B4 written", "B4 singly"], 4096, 250, 150)
}

pub(crate) fn b5(bench: &Bench) -> Vec<Sample> {
    synced(bench, ["B5", "B5 written", "B5 singly"], 100, 64, 1000)
}

/// Sends one after the other, each awaited: how long each took.
async fn send_awaited(push: &Push, count: usize) -> Vec<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        push.send(message(100)).await.expect("accepted");
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times
}

/// So many tasks do that at the same time: all sends a second.
async fn send_from_tasks(push: &Push, tasks: usize, each: usize) -> f64 {
    let start = Instant::now();
    let work = |push: Push| async move { send_awaited(&push, each).await };
    let running: Vec<_> = (0..tasks).map(|_| tokio::spawn(work(push.clone()))).collect();
    for task in running {
        task.await.expect("no panic");
    }
    (tasks * each) as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn b6(bench: &Bench) -> Vec<Sample> {
    let record = usize::try_from(record_size(100)).expect("small");
    let mut growing = raw::Synced::new(&bench.dir, record, None);
    let mut written = raw::Synced::new(&bench.dir, record, Some(1000));
    with_spool(bench, Sync::Batch, async |push| {
        push.send(message(100)).await.expect("accepted");
        let (mut times, mut eight, mut many) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..SLICES {
            growing.run(1000 / SLICES);
            times.extend(send_awaited(push, 1000 / SLICES).await);
            written.run(1000 / SLICES);
            eight.push(send_from_tasks(push, 8, 1000 / SLICES).await);
            many.push(send_from_tasks(push, 64, 500 / SLICES).await);
        }
        let one = times.len() as f64 / times.iter().sum::<f64>() * 1e6;
        let p50 = median(times);
        vec![
            Sample::new("B6", p50, median(growing.times)),
            Sample::new("B6 written", p50, median(written.times)),
            Sample::new("B6 x8", median(eight), one),
            Sample::new("B6 x64", median(many), one),
        ]
    })
}
