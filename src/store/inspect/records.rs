//! Stored records as messages, one after the other, a little at a time.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use bytes::Bytes;

use super::values::{BadRecord, Position, StoredRecord, micros, time};
use super::walk::{Start, Step, Walk, has_frames, no_frames};
use crate::store::names::{Found, NameRecord, Slots};
use crate::store::record::{Kind, Record};
use crate::store::storage::Storage;
use crate::wire::frame;

/// Bytes that are read ahead, and one record more.
const AHEAD: usize = 1 << 20;
/// Records that are read ahead.
const MOST: usize = 1024;

/// Iterates over the records of a spool; made by [`SpoolFiles`](crate::spool::SpoolFiles).
///
/// It holds about a MiB in memory (and one record, if that is larger). A damaged place is an `Err`, and it goes on
/// behind it.
pub struct Records {
    walk: Option<Walk>,
    ready: VecDeque<Result<StoredRecord, BadRecord>>,
    wanted: Wanted,
}

/// Which records are shown.
enum Wanted {
    All,
    Sequence(u64),
    Time(i64),
    /// Those that this name has not done.
    Open(NameRecord),
}

impl Wanted {
    fn matches(&self, record: &Record<'_>) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Sequence(first) => record.sequence >= *first,
            Wanted::Time(first) => record.time >= *first,
            Wanted::Open(name) => !is_done(name, record.sequence),
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl Records {
    /// Nothing, if there is no directory.
    pub(super) fn new(storage: Option<Arc<dyn Storage>>, from: Position) -> Records {
        let (from, wanted) = match from {
            Position::Oldest => (Start::Oldest, Wanted::All),
            Position::Sequence(first) => (Start::Sequence(first), Wanted::Sequence(first)),
            Position::Time(first) => (Start::Time(micros(first)), Wanted::Time(micros(first))),
        };
        Records { walk: storage.map(|storage| Walk::new(storage, from)), ready: VecDeque::new(), wanted }
    }

    /// Records of a log of delayed ones: those that its registry does not say are done.
    pub(super) fn waiting(storage: Option<Arc<dyn Storage>>) -> Records {
        let outbox = storage.as_ref().and_then(|storage| match Slots::read(storage.as_ref()) {
            Ok(Found::Both(mut registry) | Found::One(mut registry)) => registry.names.remove(""),
            _ => None,
        });
        let wanted = outbox.map_or(Wanted::All, Wanted::Open);
        Records { wanted, ..Records::new(storage, Position::Oldest) }
    }

    fn read_on(&mut self) {
        let Some(walk) = &mut self.walk else { return };
        let (ready, wanted) = (&mut self.ready, &self.wanted);
        let mut bytes = 0_usize;
        let step = walk.step(&mut |name, offset, record| {
            if record.kind == Kind::Message && wanted.matches(record) {
                bytes = bytes.saturating_add(record.size);
                ready.push_back(stored(record).ok_or_else(|| no_frames(name, offset, record.sequence)));
            }
            bytes < AHEAD && ready.len() < MOST
        });
        match step {
            Step::More => {}
            Step::Bad(bad) => ready.push_back(Err(bad)),
            Step::End => self.walk = None,
        }
    }
}

impl Iterator for Records {
    type Item = Result<StoredRecord, BadRecord>;

    fn next(&mut self) -> Option<Result<StoredRecord, BadRecord>> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(record);
            }
            self.walk.as_ref()?;
            self.read_on();
        }
    }
}

impl FusedIterator for Records {}

fn stored(record: &Record<'_>) -> Option<StoredRecord> {
    if !has_frames(record) {
        return None;
    }
    Some(StoredRecord {
        sequence: record.sequence,
        time: time(record.time),
        message: frame::take_message(&mut Bytes::copy_from_slice(record.body))?,
        deliver_at: record.extra.deliver_at.map(time),
        expires_at: record.extra.expires_at.map(time),
        id: record.extra.id,
        origin: record.extra.origin,
    })
}

/// Whether a name is done with a number.
fn is_done(name: &NameRecord, sequence: u64) -> bool {
    sequence <= name.cursor || name.done.iter().any(|&(from, to)| (from..=to).contains(&sequence))
}
