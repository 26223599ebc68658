//! What can be observed of a log.

use std::time::Duration;

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
    /// Upper bounds and counts.
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
    pub(crate) connected: bool,
    pub(crate) cursor: u64,
    /// Upper bounds: numbers, not matching records.
    pub(crate) lag_records: u64,
    pub(crate) lag_bytes: u64,
    pub(crate) lag_age: Duration,
    pub(crate) lost_records: u64,
    pub(crate) lost_bytes: u64,
    /// Microseconds since 1970.
    pub(crate) last_seen: i64,
    pub(crate) expires_in: Option<Duration>,
}
