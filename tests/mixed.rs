//! Every way to send and to receive, mixed at random over all transports at once: nothing is lost or comes twice, each
//! task's messages stay in order, no mark is passed, and the counters add up.
//!
//! The same cases every time; `GINNEL_SEED` asks for others.

mod common;

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use ginnel::*;

const HANG: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Dice(u64);
impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn message(task: u32, at: u32) -> Message {
    let mut dice = Dice(u64::from(task) << 32 | u64::from(at));
    let size = if dice.below(400) == 0 {
        100 << 10
    } else {
        dice.pick(&[0, 1, 20, 55, 56, 57, 63, 64, 65, 240, 247, 255, 256, 1000, 8192, 32_759, 32_767, 32_768])
    };
    let size = if dice.below(3) > 0 { size % 300 } else { size };
    let mut head = Vec::new();
    head.extend(task.to_be_bytes());
    head.extend(at.to_be_bytes());
    let fill = at as u8;
    let body = || vec![fill; size];
    match dice.below(8) {
        0 => Message::from((head, body())),
        1 => {
            let mut frames: Vec<Frame> = vec![Frame::from(head)];
            for n in 0..dice.below(5) {
                frames.push(Frame::from(vec![fill; (n as usize * 67) % 300]));
            }
            Message::try_from(frames).unwrap()
        }
        2 => {
            let mut all = head;
            all.extend(body());
            Message::from(bytes::Bytes::from(all))
        }
        _ => {
            let mut all = head;
            all.extend(body());
            Message::from(all)
        }
    }
}

fn word(message: &Message) -> (u32, u32) {
    let head = &message[0];
    (u32::from_be_bytes(head[..4].try_into().unwrap()), u32::from_be_bytes(head[4..8].try_into().unwrap()))
}

struct Seen {
    last: HashMap<u32, i64>,
    all: Vec<(u32, u32)>,
}
impl Seen {
    fn note(&mut self, got: &Message) {
        let (task, at) = word(got);
        assert_eq!(*got, message(task, at), "content");
        let last = self.last.entry(task).or_insert(-1);
        assert!(i64::from(at) > *last, "order: {task} {at} after {last}");
        *last = i64::from(at);
        self.all.push((task, at));
    }
}

async fn send_all_ways(push: Push, task: u32, count: u32, seed: u64) {
    let mut dice = Dice(seed ^ u64::from(task) << 17);
    let mut at = 0;
    while at < count {
        match dice.below(12) {
            0..5 => {
                push.send(message(task, at)).await.unwrap();
                at += 1;
            }
            5 | 6 => {
                let mut next = message(task, at);
                loop {
                    match push.try_send(next) {
                        Ok(_) => break,
                        Err(TrySendError::Full(back)) => {
                            next = back;
                            tokio::task::yield_now().await;
                            if dice.below(20) == 0 {
                                push.send(next).await.unwrap();
                                break;
                            }
                        }
                        Err(e) => panic!("{e:?}"),
                    }
                }
                at += 1;
            }
            7 => {
                let many = (dice.below(if dice.clone().below(5) == 0 { 1500 } else { 20 }) as u32 + 1).min(count - at);
                assert_eq!(push.send_all((at..at + many).map(|at| message(task, at))).await.unwrap(), many as usize);
                at += many;
            }
            8 => {
                let permit = push.reserve().await.unwrap();
                if dice.below(3) == 0 {
                    drop(permit)
                } else {
                    permit.send(message(task, at));
                    at += 1;
                }
            }
            9 => {
                if let Ok(permit) = push.try_reserve() {
                    if dice.below(2) == 0 {
                        tokio::task::yield_now().await;
                    }
                    permit.send(message(task, at));
                    at += 1;
                }
            }
            10 => {
                // A send given up: nothing was sent.
                match push.send_timeout(message(task, at), Duration::from_micros(dice.below(200))).await {
                    Ok(_) => at += 1,
                    Err(SendError::Timeout(_)) => {}
                    Err(e) => panic!("{e:?}"),
                }
            }
            _ => {
                let mut send = Box::pin(push.send(message(task, at)));
                let once = poll_fn(|cx| std::task::Poll::Ready(send.as_mut().poll(cx))).await;
                if once.is_ready() {
                    at += 1
                }
                if dice.below(4) == 0 {
                    drop(send);
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

async fn receive_all_ways(mut pull: Pull, seed: u64, got: Arc<AtomicU64>, total: u64) -> (Seen, Pull) {
    let mut dice = Dice(seed);
    let mut seen = Seen { last: HashMap::new(), all: Vec::new() };
    let mut batch = Batch::new();
    let moment = Duration::from_millis(2);
    while got.load(Ordering::SeqCst) < total {
        let before = seen.all.len();
        match dice.below(8) {
            0 | 1 => {
                if let Ok(Ok(m)) = tokio::time::timeout(moment, pull.recv()).await {
                    seen.note(&m)
                }
            }
            2 => {
                while let Ok(m) = pull.try_recv() {
                    seen.note(&m);
                    if dice.below(40) == 0 {
                        break;
                    }
                }
                tokio::task::yield_now().await;
            }
            3 => {
                let max = dice.pick(&[1, 2, 7, 100, 10_000]);
                if let Ok(Ok(n)) = tokio::time::timeout(moment, pull.recv_batch(&mut batch, max)).await {
                    assert!(n <= max.max(1), "{n} of {max}");
                    assert_eq!(batch.iter().count(), n);
                    for v in batch.iter() {
                        seen.note(&v.to_message())
                    }
                }
            }
            4 => {
                use futures_core::Stream;
                let next = tokio::time::timeout(moment, poll_fn(|cx| Pin::new(&mut pull).poll_next(cx))).await;
                if let Ok(Some(Ok(m))) = next {
                    seen.note(&m)
                }
            }
            5 => {
                if let Ok(m) = pull.recv_timeout(Duration::ZERO).await {
                    seen.note(&m)
                }
            }
            _ => {
                for _ in 0..dice.below(300) {
                    if let Ok(Ok(m)) = tokio::time::timeout(moment, pull.recv()).await { seen.note(&m) } else { break }
                }
            }
        }
        got.fetch_add((seen.all.len() - before) as u64, Ordering::SeqCst);
        if dice.below(30) == 0 {
            tokio::task::yield_now().await
        }
    }
    (seen, pull)
}

async fn mesh(seed: u64) {
    let mut dice = Dice(seed);
    let marks = [1, 2, 3, 10, 999, 1000, 1001, 0];
    let (send_hwm, recv_hwm) = (dice.pick(&marks), dice.pick(&marks));
    let bytes = [0, 1, 300, 10_000, 64 << 20];
    let (send_bytes, recv_bytes) = (dice.pick(&bytes), dice.pick(&bytes));
    let flush = dice.pick(&[FlushPolicy::Auto, FlushPolicy::Auto, FlushPolicy::Task, FlushPolicy::Immediate]);
    let (pushers, pullers, tasks) = (dice.below(3) + 1, dice.below(2) + 1, dice.below(3) as u32 + 1);
    let binds = dice.below(2) == 0;
    let count = 300 + dice.below(1500) as u32;
    let what = format!(
        "seed {seed}: hwm {send_hwm}/{recv_hwm} bytes {send_bytes}/{recv_bytes} {flush:?} {pushers}x{tasks}->{pullers} count {count} pull binds {binds}"
    );
    let push = || Push::builder().send_hwm(send_hwm).send_hwm_bytes(send_bytes).flush_policy(flush).linger(HANG);
    let pull = || Pull::builder().recv_hwm(recv_hwm).recv_hwm_bytes(recv_bytes);
    let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
    for _ in 0..pullers {
        pulls.push(pull().build().unwrap())
    }
    for _ in 0..pushers {
        pushes.push(push().build().unwrap())
    }
    let mut names = Vec::new();
    for one in &pushes {
        for other in &pulls {
            let transport = dice.pick(&["tcp", "ipc", "inproc", "inproc"]);
            names.push(transport);
            let place = place(transport);
            if binds {
                let at = other.bind_to(&*place).await.unwrap();
                one.connect_to(at).unwrap();
            } else {
                let at = one.bind_to(&*place).await.unwrap();
                other.connect_to(at).unwrap();
            }
        }
    }
    let what = format!("{what} {names:?}");
    let total = pushers * u64::from(tasks) * u64::from(count);
    let got = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut sending = Vec::new();
    for (n, one) in pushes.iter().enumerate() {
        for t in 0..tasks {
            sending.push(tokio::spawn(send_all_ways(one.clone(), n as u32 * 10 + t, count, seed)))
        }
    }
    let receiving: Vec<_> = pulls
        .into_iter()
        .enumerate()
        .map(|(n, one)| tokio::spawn(receive_all_ways(one, seed + 77 + n as u64, got.clone(), total)))
        .collect();
    let watching = tokio::spawn({
        let (pushes, stop, what) = (pushes.clone(), stop.clone(), what.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                for one in &pushes {
                    for peer in one.peers() {
                        assert!(peer.send_hwm == 0 || peer.queued <= peer.send_hwm, "{what}: {peer:?}");
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let work = async {
        for task in sending {
            task.await.expect(&what)
        }
        let mut all = HashSet::new();
        let mut kept = Vec::new();
        for task in receiving {
            let (seen, pull) = task.await.expect(&what);
            for one in seen.all {
                assert!(all.insert(one), "{what}: twice {one:?}")
            }
            kept.push(pull);
        }
        assert_eq!(all.len() as u64, total, "{what}");
        kept
    };
    let kept = match tokio::time::timeout(HANG, work).await {
        Ok(kept) => kept,
        Err(_) => panic!(
            "hang: {what}\ngot {} of {total}: {:#?}",
            got.load(Ordering::SeqCst),
            pushes.iter().map(|p| p.stats()).collect::<Vec<_>>()
        ),
    };
    stop.store(true, Ordering::SeqCst);
    watching.await.expect(&what);
    let received: u64 = kept.iter().map(|pull| pull.stats().messages_received).sum();
    assert_eq!(received, total, "{what}");
    for one in &pushes {
        tokio::time::timeout(HANG, one.flush()).await.expect(&what).unwrap();
        tokio::time::timeout(HANG, async {
            loop {
                let stats = one.stats();
                if stats.messages_sent == u64::from(tasks) * u64::from(count)
                    && stats.peers.iter().all(|p| p.queued == 0)
                {
                    assert_eq!(stats.drops.total(), 0);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("counters {what} {:?}", one.stats()));
    }
    for pull in &kept {
        for peer in pull.stats().peers {
            assert_eq!(peer.unread, 0, "{what}")
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let first = std::env::var("GINNEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    first..first + 12
}

#[tokio::test]
async fn nothing_is_lost_however_it_is_sent_and_read_in_one_thread() {
    for seed in seeds() {
        mesh(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_however_it_is_sent_and_read_in_many_threads() {
    for seed in seeds() {
        mesh(seed + 100_000).await;
    }
}
