//! Reading the log from any position: out of the ring, or off the disk.
//!
//! There is no live path and no catch-up path: a reader is a position, and asks for what comes after it. [`Chunk`] is
//! a run of verified records, wherever it came from; [`DiskRead`] verifies what it reads, passes over damage to the
//! next good record, and says which numbers are missing. Absent: who the reader is, what it wants. Next: `log`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing,))]

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::event::Event;
use crate::store::log::books::offset_of;
use crate::store::log::shared::{Shared, locked};
use crate::store::log::stats::Counters;
use crate::store::record::{self, Extra, Gap, GapReason, Kind, Parsed, Record};
use crate::store::ring::Written;
use crate::store::scan::{self, Segment};
use crate::store::segment;
use crate::store::storage::{File, read_all_at};

/// Read at once.
const PIECE: usize = 256 << 10;
/// Pieces that a reader keeps: the one in hand, those on their way to a socket, and the next.
const MOST_BUFFERS: usize = 4;
/// A page that cannot be read is passed over alone.
const PAGE: usize = 4096;

/// One record out of a [`Chunk`].
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    /// Microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) extra: Extra,
    pub(crate) frames: u16,
    /// The frames as wire bytes, a slice of the chunk.
    pub(crate) body: Bytes,
    /// Numbers that are lost just before this one, first and last: damage, or dropped by a limit.
    pub(crate) missing: Option<(u64, u64)>,
    topic: Range<usize>,
}

impl Taken {
    /// Frame 0.
    #[inline]
    pub(crate) fn topic(&self) -> &[u8] {
        self.body.get(self.topic.clone()).unwrap_or_default()
    }
}

/// A run of verified records, from just after the position that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Bytes,
    at: usize,
    after: u64,
    end: u64,
    missing: Option<(u64, u64)>,
    missing_at_end: Option<(u64, u64)>,
}

impl Chunk {
    /// Nothing, up to `end`: numbers that nobody wanted.
    pub(crate) fn empty(end: u64) -> Chunk {
        Chunk { bytes: Bytes::new(), at: 0, after: end, end, missing: None, missing_at_end: None }
    }

    /// The records of a batch behind `after`.
    pub(crate) fn of_batch(written: Written, after: u64) -> Chunk {
        let end = written.last;
        Chunk { bytes: written.bytes, at: 0, after, end, missing: None, missing_at_end: None }
    }

    /// The next record.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Taken> {
        loop {
            let Parsed::Record(record) = record::parse(self.bytes.get(self.at..)?, None, u64::MAX) else {
                return self.finish();
            };
            let start = self.at.checked_add(record.body_at)?;
            self.at = self.at.checked_add(record.size)?;
            if record.sequence <= self.after {
                continue;
            }
            if record.kind != Kind::Message {
                let gap = record.gap();
                self.note_gap(gap);
                continue;
            }
            let topic = topic_of(&record);
            let (sequence, time, extra, frames) = (record.sequence, record.time, record.extra, record.frames);
            let body = self.bytes.slice(start..start.checked_add(record.body.len())?);
            self.after = sequence;
            return Some(Taken { sequence, time, extra, frames, body, missing: self.missing.take(), topic });
        }
    }

    /// The next record, if its number is not above `number`; else the chunk stays where it is.
    pub(crate) fn next_upto(&mut self, number: u64) -> Option<Taken> {
        let (at, after, missing) = (self.at, self.after, self.missing);
        let taken = self.next()?;
        if taken.sequence > number {
            (self.at, self.after, self.missing) = (at, after, missing);
            return None;
        }
        Some(taken)
    }

    /// What is missing before a record that never comes is missing at the end.
    fn finish(&mut self) -> Option<Taken> {
        let rest = self.missing.take();
        self.missing_at_end = join(rest, self.missing_at_end);
        None
    }

    fn note_gap(&mut self, gap: Option<Gap>) {
        let Some(gap) = gap.filter(|gap| gap.reason != GapReason::Recovery) else { return };
        let from = gap.from.max(self.after.saturating_add(1));
        if from <= gap.to {
            self.missing = join(self.missing, Some((from, gap.to)));
        }
    }

    /// The position after all of it, skipped numbers and gaps included: where to fetch next.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Numbers that are lost between the last record and [`Chunk::end`]. To be asked after the last record.
    pub(crate) fn missing_at_end(&self) -> Option<(u64, u64)> {
        self.missing_at_end
    }
}

/// Two ranges as one.
fn join(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

/// Where frame 0 is in the body.
#[inline]
fn topic_of(record: &Record<'_>) -> Range<usize> {
    let start = crate::wire::frame::peek_header(record.body).map_or(0, |header| header.len);
    start..start.saturating_add(record.topic_len as usize)
}

/// What comes after a position.
pub(crate) enum Fetch {
    /// Out of memory.
    Chunk(Chunk),
    /// Nothing yet: the position is at or beyond what is visible.
    Nothing,
    /// It has to be read.
    Disk(DiskRead),
}

/// A read to be done where blocking is fine.
pub(crate) struct DiskRead {
    shared: Arc<Shared>,
    file: Arc<dyn File>,
    base: u64,
    salt: u64,
    /// Where to begin, and where what readers may see ends.
    offset: u64,
    end: u64,
    after: u64,
    /// Nothing above it is given out.
    limit: u64,
    /// The last number of the segment; `limit` of the one that is being written.
    last: u64,
    missing: Option<(u64, u64)>,
}

/// Buffers of a reader that reads on: those whose records were all let go are used again. Fresh memory costs zeros
/// and a page fault for every 4 KiB, about as much as the reading.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Vec<Bytes>);

impl Buffers {
    /// So many bytes, of any content.
    fn take(&mut self, size: usize) -> BytesMut {
        for at in 0..self.0.len() {
            match self.0.swap_remove(at).try_into_mut() {
                Ok(mut buffer) => {
                    buffer.resize(size, 0);
                    return buffer;
                }
                Err(used) => self.0.insert(at, used),
            }
        }
        BytesMut::zeroed(size)
    }

    /// To be used again when nobody else does.
    fn keep(&mut self, buffer: Bytes) {
        if buffer.len() <= PIECE {
            self.0.truncate(MOST_BUFFERS - 1);
            self.0.push(buffer);
        }
    }

    /// Gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

/// What one piece had.
enum Found {
    /// Wanted records in this range of the piece, the last number in them, and the place after them.
    Records(Range<usize>, u64, u64),
    /// None; go on here.
    More(u64),
    /// Go on here, with a piece of this size.
    Larger(u64, usize),
    /// Not a record, though one was written here.
    Bad(u64),
}

impl DiskRead {
    pub(super) fn new(
        shared: Arc<Shared>,
        segment: &Segment,
        before: Option<u64>,
        after: u64,
        visible: u64,
    ) -> DiskRead {
        let last = if segment.sealed { segment.last } else { visible };
        // Every number is in one segment or another, or in a file that is gone.
        let hole = before.filter(|&before| before.saturating_add(1) < segment.base);
        let missing = hole.map(|before| before.max(after).saturating_add(1)).filter(|&from| from < segment.base);
        DiskRead {
            shared,
            file: Arc::clone(&segment.file),
            base: segment.base,
            salt: segment.salt,
            offset: offset_of(segment, after),
            end: segment.end,
            after,
            limit: visible,
            last: last.min(visible),
            missing: missing.map(|from| (from, segment.base - 1)),
        }
    }

    /// Reads and verifies up to the first run of wanted records. Blocks.
    pub(crate) fn run(self) -> io::Result<Chunk> {
        self.run_into(&mut Buffers::default())
    }

    /// The same with the reader's own buffers.
    pub(crate) fn run_into(mut self, buffers: &mut Buffers) -> io::Result<Chunk> {
        let (mut at, mut size, mut seen) = (self.offset, PIECE, self.after);
        loop {
            if at >= self.end {
                return Ok(self.at_end(seen));
            }
            let piece = self.read(at, size, buffers);
            size = PIECE;
            match self.look(&piece, at, &mut seen) {
                Found::Records(range, last, next) => {
                    locked(&self.shared.books).note_index(self.base, last.saturating_add(1), next);
                    let end = if next >= self.end { self.last.max(last) } else { last };
                    let piece = piece.freeze();
                    let bytes = piece.slice(range);
                    buffers.keep(piece);
                    return Ok(Chunk {
                        bytes,
                        at: 0,
                        after: self.after,
                        end,
                        missing: self.missing,
                        missing_at_end: None,
                    });
                }
                Found::More(next) => {
                    locked(&self.shared.books).note_index(self.base, seen.saturating_add(1), next);
                    at = next;
                    buffers.keep(piece.freeze());
                }
                Found::Larger(next, want) => (at, size) = (next, want),
                Found::Bad(bad) => at = self.pass_over(bad, seen),
            }
        }
    }

    /// A piece of the file; what cannot be read is zeros, which are no record.
    fn read(&self, at: u64, size: usize, buffers: &mut Buffers) -> BytesMut {
        let size = usize::try_from(self.end.saturating_sub(at)).map_or(size, |left| left.min(size));
        let mut piece = buffers.take(size);
        if read_all_at(&*self.file, &mut piece, at).is_err() {
            for (page, bytes) in piece.chunks_mut(PAGE).enumerate() {
                if read_all_at(&*self.file, bytes, at.saturating_add((page * PAGE) as u64)).is_err() {
                    bytes.fill(0);
                }
            }
        }
        piece
    }

    /// Walks over the records of a piece that starts at `base`.
    fn look(&self, piece: &[u8], base: u64, seen: &mut u64) -> Found {
        let (mut at, mut start) = (0, None);
        let mut last = self.after;
        loop {
            let rest = piece.get(at..).unwrap_or_default();
            let here = base.saturating_add(at as u64);
            let parsed =
                if rest.is_empty() { Parsed::Short(0) } else { record::parse(rest, Some(self.salt), u64::MAX) };
            match (parsed, start) {
                (Parsed::Record(record), _) if record.kind == Kind::Message && record.sequence > self.limit => {
                    return match start {
                        Some(start) => Found::Records(start..at, last, here),
                        None => Found::More(self.end),
                    };
                }
                (Parsed::Record(record), _) => {
                    if record.sequence > self.after && matches!(record.kind, Kind::Message | Kind::Gap) {
                        start = start.or(Some(at));
                        last = last.max(record.sequence.min(self.limit));
                    }
                    *seen = (*seen).max(record.sequence.min(self.limit));
                    at += record.size;
                }
                (_, Some(start)) => return Found::Records(start..at, last, here),
                (Parsed::Short(whole), None) if here.saturating_add(whole as u64) <= self.end => {
                    return if at == 0 { Found::Larger(here, whole) } else { Found::More(here) };
                }
                (_, None) => return Found::Bad(here),
            }
        }
    }

    /// The next good record behind a bad place, or the end. What is between is told of, once.
    fn pass_over(&mut self, bad: u64, seen: u64) -> u64 {
        let from = seen.saturating_add(1);
        let found = scan::resync(&*self.file, self.salt, bad, self.end, seen).ok().flatten();
        let next = found.unwrap_or(self.end);
        let to = match found.map(|found| self.number_at(found)) {
            Some(Some((sequence, Kind::Message))) => sequence.saturating_sub(1),
            // A mark or a seal stands behind the number it tells.
            Some(Some((sequence, _))) => sequence,
            _ => self.last,
        };
        let to = to.min(self.limit);
        if from <= to {
            self.missing = join(self.missing, Some((from.max(self.after.saturating_add(1)), to)));
        }
        self.tell(bad, next, from, to);
        next
    }

    fn number_at(&self, at: u64) -> Option<(u64, Kind)> {
        let mut head = [0; record::HEADER];
        read_all_at(&*self.file, &mut head, at).ok()?;
        let sequence = u64::from_le_bytes(*head.get(8..)?.first_chunk()?);
        Some((sequence, if head.get(24) == Some(&(Kind::Message as u8)) { Kind::Message } else { Kind::Mark }))
    }

    fn tell(&self, bad: u64, next: u64, from: u64, to: u64) {
        if !locked(&self.shared.books).told.insert((self.base, bad)) {
            return;
        }
        let bytes = next.saturating_sub(bad);
        Counters::add(&self.shared.counters.damaged_bytes, bytes);
        Counters::add(&self.shared.counters.damaged_records, to.saturating_add(1).saturating_sub(from));
        let segment = segment::file_name(self.base);
        self.shared.witness.event(Event::Damaged { segment, offset: bad, bytes, from, to });
    }

    /// Nothing wanted is left in this segment.
    fn at_end(self, seen: u64) -> Chunk {
        let mut chunk = Chunk::empty(self.last.max(self.after).max(seen));
        chunk.missing_at_end = self.missing;
        chunk
    }
}
