//! What can be observed of a log: [`Counters`], counted as things happen, and [`LogStats`], a snapshot.
//!
//! Cheap to take: two short locks. Absent: what the sessions count for each name. Next: `dead`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::books::Books;
use super::front::Gate;
use super::shared::{Handle, Shared, locked};
use crate::store::names::NameRecord;

/// How a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LogState {
    #[default]
    Open,
    /// No space: `WhenFull` runs.
    Full,
    Failed,
    Closed,
}

/// A snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogStats {
    pub(crate) records: u64,
    /// Of the segment files, prepared ones included.
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    pub(crate) oldest_age: Option<Duration>,
    /// The lowest number that may still be there.
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
    pub(crate) visible: u64,
    pub(crate) durable: u64,
    pub(crate) open_batch_bytes: u64,
    pub(crate) syncs: u64,
    /// Upper bounds and counts; the last bound is open.
    pub(crate) sync_time: Vec<(Duration, u64)>,
    pub(crate) batches: u64,
    pub(crate) state: LogState,
    pub(crate) full_waits: u64,
    pub(crate) rejects: u64,
    pub(crate) dropped_records: u64,
    pub(crate) dropped_bytes: u64,
    pub(crate) damaged_records: u64,
    pub(crate) damaged_bytes: u64,
    pub(crate) recovered_bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) delayed: u64,
    pub(crate) dead_letters: u64,
    pub(crate) names: Vec<NameLag>,
}

/// How far one name is behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameLag {
    pub(crate) name: String,
    /// An upper bound: what others wanted counts, too.
    pub(crate) lag_records: u64,
    pub(crate) lag_bytes: u64,
    pub(crate) lag_age: Duration,
    pub(crate) lost_records: u64,
    pub(crate) lost_bytes: u64,
    /// Microseconds since 1970.
    pub(crate) last_seen: i64,
    pub(crate) expires_in: Option<Duration>,
}

/// The first bound of the histogram of sync times; each further one is twice the one before.
const FIRST_BOUND: Duration = Duration::from_micros(32);
const BOUNDS: usize = 16;

/// Counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_time: [AtomicU64; BOUNDS],
    pub(crate) batches: AtomicU64,
    pub(crate) saves: AtomicU64,
    pub(crate) full_waits: AtomicU64,
    pub(crate) rejects: AtomicU64,
    pub(crate) dropped_records: AtomicU64,
    pub(crate) dropped_bytes: AtomicU64,
    pub(crate) damaged_records: AtomicU64,
    pub(crate) damaged_bytes: AtomicU64,
    pub(crate) recovered_bytes: AtomicU64,
    pub(crate) gaps: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// A sync took so long.
    pub(crate) fn synced(&self, took: Duration) {
        Counters::add(&self.syncs, 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX) / FIRST_BOUND.as_micros() as u64;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(counter) = self.sync_time.get(bucket.min(BOUNDS - 1)) {
            Counters::add(counter, 1);
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn micros(span: i64) -> Duration {
    Duration::from_micros(u64::try_from(span).unwrap_or(0))
}

impl Handle {
    pub(super) fn stats(&self) -> LogStats {
        let shared = &*self.shared;
        let mut stats = shared.counted();
        let (now, gate, full) = {
            let front = locked(&shared.front);
            stats.open_batch_bytes = front.open_bytes() as u64;
            stats.newest = front.newest();
            (front.clock.now(), front.gate, front.is_full())
        };
        stats.state = match gate {
            Gate::Open if full => LogState::Full,
            Gate::Open => LogState::Open,
            Gate::Failed => LogState::Failed,
            Gate::Closed | Gate::Abandoned => LogState::Closed,
        };
        let wall = shared.clock.wall();
        let books = locked(&shared.books);
        stats.records = books.records();
        stats.bytes = books.bytes();
        stats.segments = books.segments.len() as u64;
        stats.oldest = books.oldest();
        stats.oldest_age = books.oldest_time(0).map(|time| micros(now.saturating_sub(time)));
        stats.names = books.registry.names.values().map(|name| lag(&books, name, now, wall)).collect();
        drop(books);
        stats.delayed = shared.delayed();
        stats.dead_letters = shared.dead_letters();
        stats
    }
}

impl Shared {
    fn counted(&self) -> LogStats {
        let counters = &self.counters;
        let mut bound = FIRST_BOUND;
        let sync_time = counters.sync_time.iter().map(|counter| {
            let this = bound;
            bound *= 2;
            (this, read(counter))
        });
        LogStats {
            sync_time: sync_time.collect(),
            visible: self.visible(),
            durable: self.durable.load(Ordering::Acquire),
            syncs: read(&counters.syncs),
            batches: read(&counters.batches),
            full_waits: read(&counters.full_waits),
            rejects: read(&counters.rejects),
            dropped_records: read(&counters.dropped_records),
            dropped_bytes: read(&counters.dropped_bytes),
            damaged_records: read(&counters.damaged_records),
            damaged_bytes: read(&counters.damaged_bytes),
            recovered_bytes: read(&counters.recovered_bytes),
            gaps: read(&counters.gaps),
            ..LogStats::default()
        }
    }
}

fn lag(books: &Books, name: &NameRecord, now: i64, wall: i64) -> NameLag {
    let connected = books.connected.contains(&name.name);
    let expires = i64::from(name.expiry_s).saturating_mul(1_000_000).saturating_add(name.seen).saturating_sub(wall);
    NameLag {
        name: name.name.clone(),
        lag_records: books.lag_records(name.cursor),
        lag_bytes: books.lag_bytes(name.cursor),
        lag_age: books.oldest_time(name.cursor).map_or(Duration::ZERO, |time| micros(now.saturating_sub(time))),
        lost_records: name.lost_records,
        lost_bytes: name.lost_bytes,
        last_seen: name.seen,
        expires_in: (name.expiry_s > 0 && !connected).then(|| micros(expires)),
    }
}
