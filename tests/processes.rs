//! Real processes that are killed, stopped and started again; this process keeps the truth and compares.
//!
//! A child is this very test binary, told by its environment to play one role instead of testing.

#![cfg(unix)]

mod common;

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use ginnel::*;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const ROLE: &str = "GINNEL_ROLE";
const PLACE: &str = "GINNEL_PLACE";
/// Every line that a child says begins with this, which tells it from the test harness's own.
const SAYS: &str = "@ ";

/// A process that plays a role.
struct Player {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Player {
    fn start(role: &str, place: &str) -> Player {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "plays_its_role", "--nocapture"])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Player { child, lines }
    }

    /// What it says next; None when it is gone.
    async fn hear(&mut self) -> Option<String> {
        loop {
            let line = soon(self.lines.next_line()).await.ok()??;
            if let Some((_, said)) = line.split_once(SAYS) {
                return Some(said.to_owned());
            }
        }
    }

    async fn kill(&mut self) {
        self.child.start_kill().expect("it lives");
        soon(self.child.wait()).await.expect("it is ours");
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it lives").to_string();
        let sent = Command::new("kill").args([name, &pid]).status().await.expect("kill");
        assert!(sent.success());
    }
}

fn say(what: impl std::fmt::Display) {
    println!("{SAYS}{what}");
}

/// Not a test of anything: where the children begin.
#[tokio::test]
async fn plays_its_role() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(PLACE)) else { return };
    // The harness has begun a line of its own.
    println!();
    match role.as_str() {
        "worker" => worker(&place).await,
        "bound worker" => bound_worker(&place).await,
        "publisher" => publisher(&place).await,
        "descriptors" => descriptors().await,
        other => panic!("no role {other}"),
    }
}

fn tight<S: Buildable>(builder: Builder<S>) -> Builder<S> {
    builder.send_buffer(16 * 1024).recv_buffer(16 * 1024)
}

/// Says the number of every message that it gets.
async fn tell(mut pull: Pull) {
    say("ready");
    while let Ok(message) = pull.recv().await {
        say(number(&message));
    }
}

async fn worker(place: &str) {
    tell(tight(Pull::builder()).recv_hwm(100).connect(place).expect("connect")).await;
}

async fn bound_worker(place: &str) {
    tell(tight(Pull::builder()).recv_hwm(100).bind(place).await.expect("bind")).await;
}

/// Publishes numbers for ever.
async fn publisher(place: &str) {
    let publisher = Pub::bind(place).await.expect("bind");
    say("ready");
    for at in 0.. {
        publisher.wait_for_subscribers(1).await.expect("open");
        let _ = publisher.send(numbered(at)).await.expect("open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn bulky(at: u32) -> Message {
    static BODY: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| Bytes::from(vec![0; 1000]));
    Message::from((BODY.clone(), at.to_be_bytes()))
}

/// What a killed worker may have had in hand: its own queue, both kernels' buffers (which the system doubles and
/// rounds), a read chunk at each end.
const IN_FLIGHT: usize = 100 + 512 * 1024 / 1000;

#[tokio::test]
async fn p06_three_workers_are_killed_in_turn() {
    const MESSAGES: u32 = 20_000;
    let push = tight(Push::builder()).send_hwm(100).bind("tcp://127.0.0.1:0").await.unwrap();
    let there = push.local_endpoint().unwrap().to_string();
    let mut received = HashSet::new();
    let (said, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let mut kills = 0;
    let mut workers = tokio::task::JoinSet::new();
    // Each worker gives up its life after so many messages, but for the last three.
    let employ = |life: usize| {
        let mut worker = Player::start("worker", &there);
        let said = said.clone();
        async move {
            assert_eq!(worker.hear().await.as_deref(), Some("ready"));
            let mut last = None;
            for _ in 0..life {
                let Some(line) = worker.hear().await else { break };
                let at: u32 = line.parse().expect("a number");
                assert!(last.is_none_or(|last| last < at), "in order: {at} after {last:?}");
                last = Some(at);
                let _ = said.send(at);
            }
            if life != usize::MAX {
                worker.kill().await;
                // What it said before it died.
                while let Some(line) = worker.hear().await {
                    let _ = said.send(line.parse().expect("a number"));
                }
            }
            life != usize::MAX
        }
    };
    for _ in 0..3 {
        workers.spawn(employ(1500));
    }
    let sending = {
        let push = push.clone();
        tokio::spawn(async move {
            for at in 0..MESSAGES {
                let _ = push.send(bulky(at)).await.expect("open");
            }
        })
    };
    while kills < 6 {
        let killed = tokio::time::timeout(DEADLINE * 2, workers.join_next()).await.expect("in time");
        assert!(killed.expect("workers").expect("no panic"));
        kills += 1;
        workers.spawn(employ(if kills <= 3 { 1500 } else { usize::MAX }));
    }
    tokio::time::timeout(DEADLINE * 2, sending).await.expect("in time").unwrap();
    soon(push.flush()).await.unwrap();
    let stats = push.stats();
    let (handed, dropped) = (stats.messages_sent, stats.drops.get(DropReason::PeerGone));
    assert_eq!(handed + dropped, u64::from(MESSAGES), "every message is counted once: {stats:?}");
    assert_eq!(stats.drops.total(), dropped);
    // The last three have everything that is not lost.
    let bound = handed as usize - kills * IN_FLIGHT;
    while received.len() < bound {
        let at = soon(hearing.recv()).await.expect("workers");
        assert!(received.insert(at), "{at} came twice");
    }
    soon(push.close()).await;
    // The rest, if any: the workers hear no more when all is read.
    while let Ok(Some(at)) = tokio::time::timeout(Duration::from_millis(200), hearing.recv()).await {
        assert!(received.insert(at), "{at} came twice");
    }
    assert!(received.len() as u64 <= handed);
    println!("{MESSAGES} sent, {} received, {dropped} dropped, {kills} kills", received.len());
}

#[tokio::test]
async fn p09_a_restarted_process_gets_the_queue() {
    for transport in WIRES {
        let there = later(transport).await;
        let push = tight(Push::builder()).send_hwm(50).reconnect(QUICK, QUICK * 4).connect(&there).unwrap();
        let mut heard: Vec<u32> = Vec::new();
        let mut sent = 0;
        for _ in 0..3 {
            // For a process that does not exist yet.
            while push.try_send(bulky(sent)).is_ok() {
                sent += 1;
            }
            let first = sent - only_peer(&push).queued as u32;
            // After a kill its file is still there.
            let mut worker = Player::start("bound worker", &there.to_string());
            assert_eq!(worker.hear().await.as_deref(), Some("ready"), "{transport}");
            for expected in first..sent {
                let at: u32 = worker.hear().await.expect("it lives").parse().expect("a number");
                assert_eq!(at, expected, "{transport}: what was queued comes whole and in order");
                heard.push(at);
            }
            worker.kill().await;
            until(|| !only_peer(&push).connected).await;
        }
        assert!(heard.is_sorted_by(|a, b| a < b), "{transport}");
    }
}

#[tokio::test]
async fn p09_a_subscriber_finds_a_restarted_publisher() {
    let there = later("tcp").await.to_string();
    let mut sub = Sub::builder().subscribe("").reconnect(QUICK, QUICK * 4).connect(there.as_str()).unwrap();
    for _ in 0..3 {
        let mut publisher = Player::start("publisher", &there);
        assert_eq!(publisher.hear().await.as_deref(), Some("ready"));
        // From its first message on: our subscription was there before it began.
        for expected in 0..20 {
            assert_eq!(number(&soon(sub.recv()).await.unwrap()), expected);
        }
        publisher.kill().await;
        until(|| !only_peer(&sub).connected).await;
        while sub.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn p09_a_stopped_process_goes_on_where_it_was() {
    let push = tight(Push::builder()).send_hwm(100).bind("tcp://127.0.0.1:0").await.unwrap();
    let mut worker = Player::start("worker", &push.local_endpoint().unwrap().to_string());
    assert_eq!(worker.hear().await.as_deref(), Some("ready"));
    soon(push.wait_for_peers(1)).await.unwrap();
    worker.signal("-STOP").await;
    let mut sent = 0;
    until(|| {
        while push.try_send(bulky(sent)).is_ok() {
            sent += 1;
        }
        only_peer(&push).queued == 100
    })
    .await;
    worker.signal("-CONT").await;
    for expected in 0..sent {
        assert_eq!(worker.hear().await.expect("it lives"), expected.to_string());
    }
    assert_eq!(push.stats().drops.total(), 0);
    assert_eq!(only_peer(&push).reconnects, 0);
}

#[cfg(target_os = "linux")]
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Opens and ends sockets in every way; its descriptors must come back. A process of its own, so that no other
/// test opens any meanwhile.
#[cfg(target_os = "linux")]
async fn descriptors() {
    let before = open_descriptors();
    for way in 0..6 {
        for transport in TRANSPORTS {
            let pull = Pull::bind(place(transport)).await.expect("bind");
            let pushes: Vec<Push> = (0..10).map(|_| Push::connect(pull.local_endpoint()).expect("connect")).collect();
            soon(pull.wait_for_peers(10)).await.expect("open");
            for push in &pushes {
                let _ = push.send("x").await.expect("open");
            }
            match way % 3 {
                0 => drop((pull, pushes)),
                1 => {
                    pull.shutdown_now();
                    pushes.iter().for_each(|push| push.shutdown_now());
                }
                _ => {
                    for push in &pushes {
                        soon(push.close()).await;
                    }
                    soon(pull.close()).await;
                }
            }
        }
    }
    until(|| open_descriptors() <= before).await;
    say("all back");
}

#[cfg(not(target_os = "linux"))]
async fn descriptors() {
    say("all back");
}

#[tokio::test]
async fn p10_descriptors_come_back() {
    let mut child = Player::start("descriptors", "nowhere");
    assert_eq!(child.hear().await.as_deref(), Some("all back"));
    assert!(soon(child.child.wait()).await.unwrap().success());
}
