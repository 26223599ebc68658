//! What the hostile tests share: peers made of raw bytes ([`raw`]), a proxy that spoils connections
//! ([`fault_proxy`]), and [`Rig`]: one socket under test whose well-behaved peer keeps its round trips going.
//!
//! Rows are data: bytes, how they are sent, and the one event that they lead to. A [`Report`] runs them, remembers
//! what each one gave, and prints the table at the end.

#![allow(dead_code, unreachable_pub, reason = "a room of every test file, each of which uses its part")]

pub mod fault_proxy;
pub mod raw;
pub mod rig;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ginnel::{Event, Monitor, Phase, Reason};
use tokio::sync::Notify;

/// No wait of a test is longer; none is expected to come near it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// `work`, which is overdue after the deadline.
#[track_caller]
pub fn soon<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, work).await {
            Ok(value) => value,
            Err(_) => panic!("overdue at {place}"),
        }
    }
}

/// Waits until `condition` holds; for states that no event tells.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
        panic!("overdue: {what}");
    }
}

/// How a connection ended, or that it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Refused(Phase, Reason),
    Disconnected(Reason),
    /// The handshake is done.
    Connected,
}

impl Outcome {
    /// The outcome that this event tells of a connection, and whose.
    pub fn of(event: &Event) -> Option<(&str, Outcome)> {
        match event {
            Event::Refused { peer, phase, reason } => Some((peer, Outcome::Refused(*phase, reason.clone()))),
            Event::Disconnected { peer, reason } => Some((peer, Outcome::Disconnected(reason.clone()))),
            Event::Connected { peer, .. } => Some((peer, Outcome::Connected)),
            _ => None,
        }
    }

    pub fn is_end(&self) -> bool {
        *self != Outcome::Connected
    }

    /// Equal, where the words of a `Malformed` do not count.
    pub fn agrees(&self, other: &Outcome) -> bool {
        let same = |one: &Reason, two: &Reason| match (one, two) {
            (Reason::Malformed(_), Reason::Malformed(_)) => true,
            _ => one == two,
        };
        match (self, other) {
            (Outcome::Refused(phase, one), Outcome::Refused(other, two)) => phase == other && same(one, two),
            (Outcome::Disconnected(one), Outcome::Disconnected(two)) => same(one, two),
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Refused(phase, reason) => write!(f, "Refused {phase:?} {}", brief(reason)),
            Outcome::Disconnected(reason) => write!(f, "Disconnected {}", brief(reason)),
            Outcome::Connected => f.write_str("Connected"),
        }
    }
}

/// A reason in a table: with its limit, without its prose.
pub fn brief(reason: &Reason) -> String {
    match reason {
        Reason::LimitExceeded { which, limit } => format!("LimitExceeded {which}={limit}"),
        other => other.name().to_owned(),
    }
}

/// Everything that a socket's monitor has told so far.
#[derive(Clone)]
pub struct Watch {
    events: Arc<Mutex<Vec<Event>>>,
    news: Arc<Notify>,
}

impl Watch {
    pub fn new(mut monitor: Monitor) -> Watch {
        let watch = Watch { events: Arc::default(), news: Arc::default() };
        let Watch { events, news } = watch.clone();
        tokio::spawn(async move {
            while let Some(event) = monitor.recv().await {
                if matches!(event, Event::Subscribed { .. } | Event::Unsubscribed { .. }) {
                    continue; // Floods of them are among the inputs, and memory is measured.
                }
                events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                news.notify_waiters();
            }
        });
        watch
    }

    pub fn len(&self) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn since(&self, from: usize) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).get(from..).unwrap_or_default().to_vec()
    }

    /// The first event from number `from` on that `pick` takes.
    pub async fn next<T>(&self, from: usize, mut pick: impl FnMut(&Event) -> Option<T>) -> Option<T> {
        let waiting = async {
            let mut seen = from;
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                for event in self.since(seen) {
                    seen += 1;
                    if let Some(found) = pick(&event) {
                        return found;
                    }
                }
                news.await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.ok()
    }

    /// As `next`; panics with what came instead.
    pub async fn expect<T>(&self, from: usize, what: &str, pick: impl FnMut(&Event) -> Option<T>) -> T {
        match self.next(from, pick).await {
            Some(found) => found,
            None => panic!("no {what}; there was {:?}", self.since(from)),
        }
    }

    /// The end of `peer`'s connection.
    pub async fn end_of(&self, from: usize, peer: &str) -> Outcome {
        let pick = |event: &Event| Outcome::of(event).filter(|(who, o)| *who == peer && o.is_end()).map(|(_, o)| o);
        self.expect(from, &format!("end of {peer}"), pick).await
    }

    /// Waits for the end of `peer`'s connection, which must be this; says it.
    pub async fn ends_with(&self, from: usize, peer: &str, expected: Outcome) -> String {
        let outcome = self.end_of(from, peer).await;
        assert!(outcome.agrees(&expected), "expected {expected}, got {outcome:?}");
        outcome.to_string()
    }

    pub async fn connected(&self, from: usize, peer: &str) {
        let pick = |event: &Event| matches!(event, Event::Connected { peer: who, .. } if who == peer).then_some(());
        self.expect(from, &format!("connection of {peer}"), pick).await;
    }

    /// How many connections ended so far.
    pub fn ends(&self) -> usize {
        self.since(0).iter().filter_map(Outcome::of).filter(|(_, outcome)| outcome.is_end()).count()
    }
}

struct Line {
    name: String,
    outcomes: BTreeSet<String>,
    failures: Vec<String>,
    runs: usize,
}

/// What each row of a file gave.
pub struct Report {
    title: &'static str,
    lines: Mutex<Vec<Line>>,
}

impl Report {
    pub fn new(title: &'static str) -> Arc<Report> {
        Arc::new(Report { title, lines: Mutex::default() })
    }

    /// Enters one run of a row.
    pub fn record(&self, name: &str, result: Result<String, String>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let at = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            let line = Line { name: name.to_owned(), outcomes: BTreeSet::new(), failures: Vec::new(), runs: 0 };
            lines.push(line);
            lines.len() - 1
        });
        lines[at].runs += 1;
        match result {
            Ok(outcome) => drop(lines[at].outcomes.insert(outcome)),
            Err(failure) => lines[at].failures.push(failure),
        }
    }

    /// Runs one row that is a program of its own; a panic in it is its failure.
    pub async fn row(&self, name: &str, work: impl Future<Output = String> + Send + 'static) {
        let result = match tokio::spawn(work).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(panic_text(error)),
        };
        self.record(name, result);
    }

    /// Prints the table and fails if any row did.
    pub fn finish(&self) {
        let mut lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        lines.sort_by(|a, b| a.name.cmp(&b.name));
        let good = lines.iter().filter(|line| line.failures.is_empty()).count();
        let mut failures = String::new();
        for line in &lines {
            let outcomes: Vec<&str> = line.outcomes.iter().map(String::as_str).collect();
            println!("{} -> {} ({} runs)", line.name, outcomes.join(" | "), line.runs);
            if let Some(first) = line.failures.first() {
                let _ =
                    writeln!(failures, "{}: {} of {} runs failed: {first}", line.name, line.failures.len(), line.runs);
            }
        }
        println!("{}: {good} of {} rows", self.title, lines.len());
        assert!(failures.is_empty(), "\n{failures}");
    }
}

pub fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => (*text).to_owned(),
            _ => "panicked".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

/// A directory of this test's own for sockets, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("ginnel-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for sockets");
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn endpoint(&self, name: &str) -> String {
        format!("ipc://{}", self.path(name).display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Resident memory of this process, in bytes; `None` where the system does not tell.
pub fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}

/// Panics if resident memory has grown by more than `allowed` since `before`. Says by how much it has.
#[track_caller]
pub fn growth_within(before: Option<usize>, allowed: usize) -> String {
    let (Some(before), Some(now)) = (before, resident()) else { return "memory not measured".to_owned() };
    let growth = now.saturating_sub(before);
    assert!(growth <= allowed, "memory grew by {} KiB, allowed are {} KiB", growth / 1024, allowed / 1024);
    format!("memory within {} MiB", allowed / MIB)
}

pub const MIB: usize = 1024 * 1024;

/// Descriptors that this process has open.
pub fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// `wanted` connections, or as many as this process has descriptors for at both ends.
pub fn affordable(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(1024);
    wanted.min(soft.saturating_sub(200) * 2 / 5)
}

/// Numbers without a pattern, the same in every run.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
