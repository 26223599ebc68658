//! From record to record through one segment, over holes to the next valid one.

use std::io;

use super::window::Window;
use crate::store::record::{self, ALIGN, HEADER, Kind, Parsed, Peek, Record};
use crate::store::segment::SEGMENT_HEADER;

/// Distance of two index entries.
const INDEX_STEP: u64 = 256 * 1024;
/// When a search has checked so many times the bytes it was to look at, only small records are still looked for. A
/// record's content is others' choice: without this, bytes made for it could keep the search busy for days.
const PATIENCE: u64 = 4;
const SMALL: usize = 4096;

/// What stands at a place.
pub(super) enum Step<'w> {
    Record(Record<'w>),
    /// `len` is 0.
    End,
    Bad,
    Eof,
}

/// Looks at one place. A message whose number is not above `floor` is none: it is left from an earlier try to write
/// here, or part of another record's body.
#[inline]
pub(super) fn step<'w>(window: &'w mut Window<'_>, at: u64, salt: u64, floor: u64) -> io::Result<Step<'w>> {
    if at >= window.len() {
        return Ok(Step::Eof);
    }
    let left = window.len().saturating_sub(at);
    let size = match record::peek(window.at(at, HEADER)?) {
        Peek::End => return Ok(Step::End),
        Peek::Claim { size, kind, sequence } if size as u64 <= left && (kind != Kind::Message || sequence > floor) => {
            size
        }
        _ => return Ok(Step::Bad),
    };
    match record::parse(window.at(at, size)?, Some(salt), u64::MAX) {
        Parsed::Record(record) => Ok(Step::Record(record)),
        _ => Ok(Step::Bad),
    }
}

/// The next valid record from `from` on that starts before `until`.
pub(super) fn find_next(
    window: &mut Window<'_>,
    salt: u64,
    from: u64,
    until: u64,
    floor: u64,
) -> io::Result<Option<u64>> {
    let until = until.min(window.len());
    let patience = until.saturating_sub(from).saturating_mul(PATIENCE);
    let (mut at, mut checked) = (from.next_multiple_of(ALIGN as u64), 0_u64);
    while at < until {
        let left = window.len().saturating_sub(at);
        if let Peek::Claim { size, kind, sequence } = record::peek(window.at(at, HEADER)?)
            && size as u64 <= left
            && (kind != Kind::Message || sequence > floor)
            && (size <= SMALL || checked <= patience)
        {
            if let Parsed::Record(_) = record::parse(window.at(at, size)?, Some(salt), u64::MAX) {
                return Ok(Some(at));
            }
            checked = checked.saturating_add(size as u64);
        }
        at = at.saturating_add(ALIGN as u64);
    }
    Ok(None)
}

/// What was counted up to some place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    /// Where it ends: behind the last record.
    pub(super) end: u64,
    pub(super) records: u64,
    /// The last number of a message or a gap.
    floor: u64,
    /// The last number that any record tells of.
    pub(super) last: u64,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    /// Of any record.
    pub(super) time: i64,
    /// How much of the walk's index and origins belongs to it.
    pub(super) indexed: usize,
    pub(super) origins: usize,
}

impl Count {
    fn new(base: u64) -> Count {
        let before = base.saturating_sub(1);
        Count { end: SEGMENT_HEADER, floor: before, last: before, ..Count::default() }
    }

    fn note(&mut self, at: u64, record: &Record<'_>) {
        self.end = at.saturating_add(record.size as u64);
        self.last = self.last.max(record.sequence);
        self.time = self.time.max(record.time);
        match record.kind {
            Kind::Message => self.note_message(record),
            Kind::Gap => self.floor = self.floor.max(record.sequence),
            Kind::Mark | Kind::Seal => {}
        }
    }

    fn note_message(&mut self, record: &Record<'_>) {
        if self.records == 0 {
            self.first_time = record.time;
        }
        self.records = self.records.saturating_add(1);
        self.floor = record.sequence;
        self.last_time = record.time;
    }
}

/// A range without a valid record.
#[derive(Debug)]
pub(super) struct Hole {
    /// From the first byte of the broken record…
    pub(super) at: u64,
    /// …to the next valid one; without one, to the first place for a record behind the last byte that is not zero.
    pub(super) until: u64,
    /// The last number that may be missing, if a record behind the hole tells.
    pub(super) to: Option<u64>,
    /// The disk could not read it: no write was torn there.
    pub(super) unreadable: bool,
    /// What was good before it, should the segment end here.
    pub(super) before: Count,
}

/// A whole segment, looked through.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) count: Count,
    /// Sequence and offset, the segment's start first.
    pub(super) index: Vec<(u64, u64)>,
    /// Origin numbers of copied delayed records.
    pub(super) origins: Vec<u64>,
    pub(super) holes: Vec<Hole>,
    /// Everything before this offset was safe once.
    pub(super) proven: u64,
    pub(super) sealed: bool,
    /// Where the last byte that is not zero ends, if it is not in a record.
    pub(super) used: u64,
    /// Whether it ends in front of a hole, which is then to be cut off.
    pub(super) cut: bool,
    /// Length of the file.
    pub(super) len: u64,
}

/// Goes through a segment from its first record to its end, over holes.
pub(super) fn walk(window: &mut Window<'_>, base: u64, salt: u64) -> io::Result<Walk> {
    let index = vec![(base, SEGMENT_HEADER)];
    let mut walk = Walk { count: Count::new(base), index, len: window.len(), ..Walk::default() };
    let mut at = SEGMENT_HEADER;
    while !walk.sealed {
        let nothing = match step(window, at, salt, walk.count.floor)? {
            Step::Record(record) => {
                walk.note(at, &record);
                at = walk.count.end;
                continue;
            }
            Step::Eof => break,
            Step::End => true,
            Step::Bad => false,
        };
        if nothing && window.is_zero_from(at)? {
            break;
        }
        let from = at.saturating_add(ALIGN as u64);
        let next = find_next(window, salt, from, walk.len, walk.count.floor)?;
        let unreadable = window.is_unreadable(at, next.unwrap_or(walk.len));
        if next.is_none() {
            walk.used = window.last_used(at)?;
        }
        let until = next.unwrap_or(walk.used.next_multiple_of(ALIGN as u64));
        walk.holes.push(Hole { at, until, to: None, unreadable, before: walk.count });
        match next {
            Some(next) => at = next,
            None => return Ok(walk),
        }
    }
    if !walk.holes.is_empty() {
        walk.used = window.last_used(walk.count.end)?;
    }
    Ok(walk)
}

impl Walk {
    fn note(&mut self, at: u64, record: &Record<'_>) {
        if let Some(hole) = self.holes.last_mut().filter(|hole| hole.until == at) {
            hole.to = Some(last_missing(record));
        }
        match record.kind {
            Kind::Mark => self.proven = self.proven.max(record.mark().map_or(0, |mark| mark.offset.min(at))),
            Kind::Seal => (self.proven, self.sealed) = (at, true),
            Kind::Message => self.note_message(at, record),
            Kind::Gap => {}
        }
        self.count.note(at, record);
        (self.count.indexed, self.count.origins) = (self.index.len(), self.origins.len());
    }

    fn note_message(&mut self, at: u64, record: &Record<'_>) {
        self.origins.extend(record.extra.origin);
        let newest = self.index.last().map_or(0, |&(_, offset)| offset);
        if at.saturating_sub(newest) >= INDEX_STEP {
            self.index.push((record.sequence, at));
        }
    }

    /// Forgets everything from this hole on: the segment ends in front of it.
    pub(super) fn end_at(&mut self, hole: usize) {
        let Some(first) = self.holes.get(hole) else { return };
        self.count = first.before;
        (self.sealed, self.cut) = (false, true);
        self.index.truncate(self.count.indexed.max(1));
        self.origins.truncate(self.count.origins);
        self.holes.truncate(hole);
    }
}

/// The last number that is missing if everything just before this record is.
fn last_missing(record: &Record<'_>) -> u64 {
    match record.kind {
        Kind::Message => record.sequence.saturating_sub(1),
        Kind::Gap => record.gap().map_or(record.sequence, |gap| gap.from).saturating_sub(1),
        Kind::Mark | Kind::Seal => record.sequence,
    }
}
