//! What is known in memory of the segments and the names: [`Books`]. Behind one lock, never held during IO.
//!
//! The last segment is the one that is being written. Of it `end` and `last` are what readers may see; the writer
//! knows how far it really is. Absent: deciding what goes (`writer::limits`). Next: `stats`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::store::names::{NameRecord, Registry};
use crate::store::scan::Segment;
use crate::store::storage::File;

/// Offsets in a segment's index are at least so far apart.
const INDEX_STEP: u64 = 64 << 10;

/// A prepared file without records.
pub(crate) struct Spare {
    pub(crate) name: &'static str,
    pub(crate) file: Arc<dyn File>,
    pub(crate) size: u64,
}

/// Segments and names.
pub(crate) struct Books {
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) spare: Option<Spare>,
    /// A spare is being made, of this size.
    pub(crate) preparing: u64,
    pub(crate) registry: Registry,
    /// Not saved since it was changed.
    pub(crate) dirty: bool,
    /// Segments may have become free.
    pub(crate) release: bool,
    /// Names with a connection.
    pub(crate) connected: BTreeSet<String>,
    /// Nothing of it is let go while delayed records copied into it may have to be known again.
    pub(crate) pin: Option<u64>,
    /// Damage that was told of: base of the segment, offset.
    pub(crate) told: BTreeSet<(u64, u64)>,
    /// The registry was lost: names start at the oldest record.
    pub(crate) names_lost: bool,
}

/// A name's loss by a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) name: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Books {
    pub(crate) fn new(segments: Vec<Segment>, registry: Registry) -> Books {
        Books {
            segments: segments.into(),
            spare: None,
            preparing: 0,
            registry,
            dirty: false,
            release: false,
            connected: BTreeSet::new(),
            pin: None,
            told: BTreeSet::new(),
            names_lost: false,
        }
    }

    /// Bytes of all files, prepared ones included.
    pub(crate) fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.size).sum::<u64>();
        segments.saturating_add(self.spare.as_ref().map_or(0, |spare| spare.size)).saturating_add(self.preparing)
    }

    /// Messages in all segments.
    pub(crate) fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }

    /// The lowest number that may still be there.
    pub(crate) fn oldest(&self) -> u64 {
        self.segments.front().map_or(self.registry.head, |segment| segment.base)
    }

    /// Everything up to here may go. `None`: nothing ever, but by a limit.
    pub(crate) fn floor(&self) -> u64 {
        let cursors = self.registry.names.values().map(|name| name.cursor);
        cursors.chain(self.pin).min().unwrap_or(u64::MAX)
    }

    /// The segment that `after + 1` is in, or the first one behind it, and the last number before that segment.
    pub(crate) fn find(&self, after: u64) -> Option<(&Segment, Option<u64>)> {
        let sealed = self.segments.len().saturating_sub(1);
        let at = self.segments.partition_point(|segment| segment.last <= after).min(sealed);
        let before = at.checked_sub(1).and_then(|before| self.segments.get(before)).map(|before| before.last);
        self.segments.get(at).map(|segment| (segment, before))
    }

    /// Notes that the records from `sequence` on of the segment `base` start at `offset`.
    pub(crate) fn note_index(&mut self, base: u64, sequence: u64, offset: u64) {
        let at = self.segments.partition_point(|segment| segment.base < base);
        let Some(segment) = self.segments.get_mut(at).filter(|segment| segment.base == base) else { return };
        let at = segment.index.partition_point(|entry| entry.1 <= offset);
        let far = |entry: Option<&(u64, u64)>| entry.is_none_or(|entry| entry.1.abs_diff(offset) >= INDEX_STEP);
        if far(at.checked_sub(1).and_then(|before| segment.index.get(before))) && far(segment.index.get(at)) {
            segment.index.insert(at, (sequence, offset));
        }
    }

    /// Bytes of the log behind this position, about; of records that a name may have to read still.
    pub(crate) fn lag_bytes(&self, cursor: u64) -> u64 {
        let mut bytes = 0_u64;
        for segment in self.segments.iter().rev() {
            if segment.last <= cursor {
                break;
            }
            let from = if segment.base > cursor { first_offset(segment) } else { offset_of(segment, cursor) };
            bytes = bytes.saturating_add(segment.end.saturating_sub(from));
        }
        bytes
    }

    /// Records behind this position, at most: those that a name may have to read still.
    pub(crate) fn lag_records(&self, cursor: u64) -> u64 {
        let behind = self.segments.iter().filter(|segment| segment.last > cursor);
        behind.map(|segment| segment.records.min(segment.last - cursor)).sum()
    }

    /// The time of the oldest record behind this position, about: that of its segment's first. `None` if there is none.
    pub(crate) fn oldest_time(&self, cursor: u64) -> Option<i64> {
        let mut segments = self.segments.iter().filter(|segment| segment.last > cursor && segment.records > 0);
        segments.next().map(|segment| segment.first_time)
    }

    /// Moves the names' cursors to `to` at least, because what is before is dropped. What each lost.
    pub(crate) fn jump(&mut self, to: u64, only: Option<&str>) -> Vec<Loss> {
        let sums: Vec<(u64, u64, u64, u64)> =
            self.segments.iter().map(|segment| (segment.base, segment.last, segment.records, segment.end)).collect();
        let mut losses = Vec::new();
        let names = self.registry.names.values_mut().filter(|name| only.is_none_or(|only| name.name == only));
        for name in names.filter(|name| name.cursor < to) {
            if let Some(loss) = lose(name, to, &sums) {
                losses.push(loss);
            }
            self.dirty = true;
        }
        losses
    }
}

/// What `name` loses when its cursor jumps to `to`; the cursor is there then.
fn lose(name: &mut NameRecord, to: u64, segments: &[(u64, u64, u64, u64)]) -> Option<Loss> {
    let (mut from, mut records, mut bytes) = (0, 0_u64, 0_u64);
    for &(base, last, count, end) in segments {
        let (first, until) = (base.max(name.cursor + 1), last.min(to));
        if first > until || count == 0 || is_done(&name.done, first, until) {
            continue;
        }
        if from == 0 {
            from = first;
        }
        // Upper bounds: filters and single records are not looked at.
        let (lost, all) = (until - first + 1, last - base + 1);
        records = records.saturating_add(count.min(lost));
        bytes = bytes.saturating_add((u128::from(end) * u128::from(lost) / u128::from(all.max(1))) as u64);
    }
    name.cursor = to;
    name.done.retain(|range| range.1 > to);
    while let Some(&(first, last)) = name.done.first().filter(|range| range.0 <= name.cursor + 1) {
        debug_assert!(first <= last);
        name.cursor = last;
        name.done.remove(0);
    }
    if from == 0 {
        return None;
    }
    name.lost_records = name.lost_records.saturating_add(records);
    name.lost_bytes = name.lost_bytes.saturating_add(bytes);
    name.lost = Some(name.lost.map_or((from, to), |lost| (lost.0.min(from), lost.1.max(to))));
    Some(Loss { name: name.name.clone(), from, to, records, bytes })
}

/// Whether all of these numbers are done.
fn is_done(done: &[(u64, u64)], first: u64, last: u64) -> bool {
    done.iter().any(|range| range.0 <= first && range.1 >= last)
}

/// Where the records of a segment begin.
fn first_offset(segment: &Segment) -> u64 {
    segment.index.first().map_or(0, |entry| entry.1)
}

/// Where to look for the record after `after`: at or before it.
pub(crate) fn offset_of(segment: &Segment, after: u64) -> u64 {
    let at = segment.index.partition_point(|entry| entry.0 <= after.saturating_add(1));
    match at.checked_sub(1).and_then(|at| segment.index.get(at)) {
        Some(entry) => entry.1,
        None => first_offset(segment),
    }
}
