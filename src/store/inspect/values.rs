//! What the tools give and take: plain values.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::message::{Message, SpoolId};
use crate::store::names::NameKind;

/// What is in a spool.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing {
    /// The spool's id, as tokens have it.
    pub id: SpoolId,
    /// It was closed in order and nobody has it open.
    pub clean: bool,
    /// Both copies of the registry are unreadable: there are records, but no names. The next opening starts a new one.
    pub names_lost: bool,
    /// Its segments, the oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Bytes of its segments on disk, with those that are prepared.
    pub bytes: u64,
    /// The lowest number that may still be there; one more than `newest` if there is none.
    pub oldest: u64,
    /// The highest number that is known to be in use; 0 if there is none.
    pub newest: u64,
    /// Its durable names, in their alphabet's order. The one without a name is a PUSH's outbox.
    pub names: Vec<NameInfo>,
    /// Records that wait for their time.
    pub delayed: u64,
    /// Records among the dead letters.
    pub dead_letters: u64,
}

/// One segment of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its file.
    pub file: String,
    /// The first number that it may contain.
    pub base: u64,
    /// The last number that it tells of; one below `base` if it tells of none.
    pub last: u64,
    /// Messages in it.
    pub records: u64,
    /// Its size on disk, prepared space included.
    pub bytes: u64,
    /// It is finished: nothing is written to it any more.
    pub sealed: bool,
    /// When its first message was sent.
    pub first_time: Option<SystemTime>,
    /// When its last message was sent.
    pub last_time: Option<SystemTime>,
    /// What is wrong with it, as far as listing finds out: `verify` reads everything.
    pub bad: Option<String>,
}

/// One durable name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameInfo {
    /// The name; empty for the outbox of a PUSH.
    pub name: String,
    /// What it is for.
    pub kind: NameKind,
    /// Everything up to this number is done. Saved once a second at most: the true one may be higher.
    pub cursor: u64,
    /// Numbers that are not done yet. Records that do not match its prefixes are counted, too: an upper bound.
    pub lag_records: u64,
    /// About how many bytes these are.
    pub lag_bytes: u64,
    /// About how old the oldest of them is; `None` if all is done.
    pub age: Option<Duration>,
    /// When its holder was last connected, as last saved; `None` if never.
    pub last_seen: Option<SystemTime>,
    /// The prefixes it wants.
    pub filters: Vec<Vec<u8>>,
    /// Records that limits or damage took from it.
    pub lost_records: u64,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// At the oldest record.
    Oldest,
    /// At this number, or the next one that is there.
    Sequence(u64),
    /// At the first record that was sent then or later.
    Time(SystemTime),
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Its number.
    pub sequence: u64,
    /// When it was sent.
    pub time: SystemTime,
    /// What was sent; frame 0 is the topic.
    pub message: Message,
    /// When it is to be delivered.
    pub deliver_at: Option<SystemTime>,
    /// When it is no longer to be delivered.
    pub expires_at: Option<SystemTime>,
    /// An id that its sender gave it.
    pub id: Option<[u8; 16]>,
    /// The number that it had elsewhere: among the delayed ones, or, of a dead letter, in the spool.
    pub origin: Option<u64>,
}

/// What was found to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Messages.
    pub records: u64,
    /// Bytes that they take on disk.
    pub bytes: u64,
}

/// A place in a spool that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadRecord {
    /// The segment's file.
    pub segment: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
    /// The first number that may be missing.
    pub from: u64,
    /// The last one; below `from` if none is missing.
    pub to: u64,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.segment, self.offset, self.why)?;
        match (self.from, self.to) {
            (from, to) if from > to => f.write_str("; no number is missing"),
            (from, to) if from == to => write!(f, "; number {from} may be missing"),
            (from, to) => write!(f, "; numbers {from} to {to} may be missing"),
        }
    }
}

impl std::error::Error for BadRecord {}

/// What [`repair`](crate::spool::repair) found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// The spool; `None` if neither registry nor segments say.
    pub id: Option<SpoolId>,
    /// Messages in the segments that were looked through: those that were not finished in order.
    pub records: u64,
    /// Bytes of torn tails that were cut: of records that were never accepted.
    pub torn: u64,
    /// What is damaged. Copies of the bytes are in `damaged/`.
    pub damage: Vec<BadRecord>,
    /// One copy of the registry was unreadable, and was written again from the other one.
    pub registry_mended: bool,
    /// Both copies of the registry are unreadable: the next opening starts a new one, without names.
    pub names_lost: bool,
}

/// From microseconds since 1970, as on disk.
pub(super) fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// To microseconds since 1970; what is too far is as far as can be.
pub(super) fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |before| before.saturating_neg()),
    }
}
