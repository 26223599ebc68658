//! The writer: swaps the batch, fills in checksums, writes, syncs, makes visible, rotates, deletes.
//!
//! One per log, in a thread of its own or, for tests, turned by hand. It alone writes segments. [`Writer::step`] is
//! one turn: a batch, and what is due beside it. `rotate` is the way from one segment to the next, `limits` what goes
//! and when, `timers` what is due, `thread` the threads. A failed sync is final: nothing is written after it. Absent:
//! the append side, readers. Next: `rotate`.

pub(crate) mod limits;
pub(crate) mod rotate;
pub(crate) mod thread;
pub(crate) mod timers;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use crate::event::Event;
use crate::options::spool::Sync;
use crate::store::log::Turn;
use crate::store::log::front::{Batch, Gate, Piece, Plan};
use crate::store::log::shared::{Shared, locked};
use crate::store::log::stats::Counters;
use crate::store::record;
use crate::store::ring::Written;
use crate::store::scan::Segment;
use crate::store::segment::SEGMENT_HEADER;
use crate::store::storage::{File, write_all_at};
use thread::Background;
use timers::Timers;

/// Unsynced bytes at which `Sync::Every` syncs.
const MOST_UNSYNCED: u64 = 16 << 20;
/// Distance of two index entries.
const INDEX_STEP: u64 = 256 << 10;
/// After so long a full disk is looked at again.
const RETRY: Duration = Duration::from_millis(200);

/// Why the writer cannot go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// No space: bytes, and the limit that they would pass.
    Full(u64, u64),
    /// An error that is final.
    Failed(String),
}

/// Errors of a disk without space are a state, all others are final.
pub(crate) fn stop(error: &io::Error, what: &str) -> Stop {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Stop::Full(0, 0),
        _ => Stop::Failed(format!("{what}: {error}")),
    }
}

/// The same where nothing can wait for space.
pub(crate) fn failed(error: &io::Error, what: &str) -> Stop {
    Stop::Failed(format!("{what}: {error}"))
}

/// The one who writes.
pub(crate) struct Writer {
    file: Arc<dyn File>,
    base: u64,
    salt: u64,
    /// Where the next record goes.
    offset: u64,
    records: u64,
    first_time: i64,
    last_time: i64,
    /// The last number that is written, or covered by what is written.
    last: u64,
    /// The last record's number.
    record: u64,
    index: Vec<(u64, u64)>,
    /// Batches written to this segment.
    batches: u64,
    /// Taken, not written whole yet.
    batch: Option<Batch>,
    /// Written, not visible yet.
    written: Vec<Written>,
    /// Bytes of records since the last sync, and since when.
    unsynced: u64,
    unsynced_since: Option<Duration>,
    /// A good sync that no mark tells of yet: number, offset, when.
    mark: Option<(u64, u64, Duration)>,
    retry_at: Option<Duration>,
    /// The spool was told to be full, and is since.
    full: bool,
    timers: Timers,
    /// The segment for which a next file was asked for.
    prepared: Option<u64>,
    pub(super) background: Option<Background>,
    ended: Option<Result<(), String>>,
}

impl Writer {
    /// Goes on behind what is in `segment`.
    pub(crate) fn new(segment: &Segment, newest: u64, now: Duration) -> Writer {
        Writer {
            file: Arc::clone(&segment.file),
            base: segment.base,
            salt: segment.salt,
            offset: segment.end,
            records: segment.records,
            first_time: segment.first_time,
            last_time: segment.last_time,
            last: newest,
            record: segment.last,
            index: Vec::new(),
            batches: 0,
            batch: None,
            written: Vec::new(),
            unsynced: 0,
            unsynced_since: None,
            mark: None,
            retry_at: None,
            full: false,
            timers: Timers::new(now),
            prepared: None,
            background: None,
            ended: None,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Result<(), String>> {
        self.ended.as_ref()
    }

    /// One turn.
    pub(crate) fn step(&mut self, shared: &Arc<Shared>) -> Turn {
        if self.ended.is_some() {
            return Turn::Ended;
        }
        let now = shared.clock.monotonic();
        let mut front = locked(&shared.front);
        let gate = front.gate;
        let nudged = std::mem::take(&mut front.nudged);
        if self.batch.is_none() && gate != Gate::Failed {
            self.batch = front.take_batch();
        }
        drop(front);
        if gate == Gate::Failed {
            return self.end(Err("the spool has failed".into()));
        }
        match self.work(shared, now, gate, nudged) {
            Ok(turn) => turn,
            Err(Stop::Full(bytes, limit)) => self.stand_still(shared, now, gate, bytes, limit),
            Err(Stop::Failed(error)) => self.fail(shared, &error),
        }
    }

    fn work(&mut self, shared: &Arc<Shared>, now: Duration, gate: Gate, nudged: bool) -> Result<Turn, Stop> {
        let mut worked = self.reserve(shared)?;
        let due = self.retry_at.is_none_or(|at| now >= at) || nudged || gate != Gate::Open;
        if due {
            self.retry_at = None;
        }
        if let Some(records) = self.batch.as_ref().filter(|_| due).map(|batch| batch.records) {
            self.release(shared)?;
            self.keep_messages(shared, records)?;
            self.write(shared, now)?;
            worked = true;
        }
        worked |= self.run_timers(shared, now, nudged)?;
        if gate != Gate::Open && !worked && self.batch.is_none() {
            return Ok(self.finish(shared, gate));
        }
        self.show_room(shared);
        Ok(match (worked, self.batch.is_some()) {
            (true, _) => Turn::Worked,
            (false, true) => Turn::Stuck,
            (false, false) => Turn::Idle,
        })
    }

    /// Writes the batch, syncs as the policy says, makes it visible.
    fn write(&mut self, shared: &Arc<Shared>, now: Duration) -> Result<(), Stop> {
        self.write_pieces(shared)?;
        let Some(batch) = self.batch.take() else { return Ok(()) };
        self.last = batch.last;
        Counters::add(&shared.counters.batches, 1);
        self.batches += 1;
        self.unsynced_since.get_or_insert(now);
        if shared.options.sync == Sync::Batch {
            // It is on its way until the sync says so.
            if let Err(stop) = self.sync(shared, now) {
                self.batch = Some(Batch { last: batch.last, ..Batch::default() });
                return Err(stop);
            }
        }
        self.publish(shared, batch.last, false);
        if matches!(shared.options.sync, Sync::Every(_)) && self.unsynced >= MOST_UNSYNCED {
            self.sync(shared, now)?;
        }
        Ok(())
    }

    fn write_pieces(&mut self, shared: &Arc<Shared>) -> Result<(), Stop> {
        while let Some(mut piece) = self.batch.as_mut().and_then(|batch| batch.pieces.pop_front()) {
            let result = self.write_piece(shared, &mut piece);
            if !piece.bytes.is_empty()
                && let Some(batch) = self.batch.as_mut()
            {
                batch.pieces.push_front(piece);
            }
            result?;
        }
        Ok(())
    }

    fn write_piece(&mut self, shared: &Arc<Shared>, piece: &mut Piece) -> Result<(), Stop> {
        while !piece.bytes.is_empty() {
            if self.mark.is_none() && piece.gap > 0 {
                piece.bytes.advance(std::mem::take(&mut piece.gap));
            }
            let Some(part) = self.part(shared, piece) else {
                self.rotate(shared, piece.first)?;
                continue;
            };
            self.write_part(piece, &part)?;
        }
        Ok(())
    }

    /// How much of `piece` goes into this segment; `None`: nothing.
    fn part(&self, shared: &Shared, piece: &Piece) -> Option<Part> {
        let room = shared.segment_size.saturating_sub(record::SEAL as u64).saturating_sub(self.offset);
        let most = records_per_segment(shared.options.max_messages).saturating_sub(self.records);
        if piece.bytes.len() as u64 <= room && piece.records <= most {
            return Some(Part {
                len: piece.bytes.len(),
                records: piece.records,
                last: piece.last,
                last_time: piece.last_time,
            });
        }
        Part::of(&piece.bytes, piece.gap, room, most, self.records == 0)
    }

    fn write_part(&mut self, piece: &mut Piece, part: &Part) -> Result<(), Stop> {
        self.place_mark(piece);
        let Some(bytes) = piece.bytes.get_mut(..part.len) else { return Ok(()) };
        record::fill_checksums(bytes, self.salt);
        write_all_at(&*self.file, bytes, self.offset).map_err(|e| stop(&e, "write"))?;
        if self.index.last().is_none_or(|last| self.offset - last.1 >= INDEX_STEP) {
            self.index.push((piece.first, self.offset));
        }
        if piece.gap > 0 {
            self.mark = None;
        }
        if self.records == 0 {
            self.first_time = piece.first_time;
        }
        (self.last, self.record, self.last_time) = (part.last, part.last, part.last_time);
        self.records += part.records;
        self.offset += part.len as u64;
        self.unsynced += part.len as u64;
        self.written.push(Written { bytes: piece.bytes.split_to(part.len).freeze(), last: part.last });
        piece.gap = 0;
        piece.records -= part.records.min(piece.records);
        (piece.first, piece.first_time) = head(&piece.bytes).unwrap_or_default();
        Ok(())
    }

    /// Puts the due mark into the gap in front of a piece.
    fn place_mark(&self, piece: &mut Piece) {
        let Some((sequence, offset, _)) = self.mark else { return };
        let Some(gap) = piece.bytes.get_mut(..piece.gap) else { return };
        let mut mark = BytesMut::with_capacity(record::MARK);
        record::encode_mark(&mut mark, self.last, self.last_time, sequence, offset);
        if gap.len() == mark.len() {
            gap.copy_from_slice(&mark);
        }
    }

    /// Syncs this segment.
    fn sync(&mut self, shared: &Shared, now: Duration) -> Result<(), Stop> {
        let start = Instant::now();
        self.file.sync().map_err(|e| failed(&e, "sync"))?;
        shared.counters.synced(start.elapsed());
        (self.unsynced, self.unsynced_since) = (0, None);
        self.mark = Some((self.last, self.offset, now));
        self.is_safe(shared, self.last, self.record);
        Ok(())
    }

    /// All that is written so far is synced.
    fn is_safe(&self, shared: &Shared, last: u64, record: u64) {
        shared.durable.fetch_max(last, Ordering::AcqRel);
        shared.safe.fetch_max(record, Ordering::AcqRel);
    }

    /// What is written becomes visible, up to number `last`. `rest`: more of the batch is to come.
    fn publish(&mut self, shared: &Arc<Shared>, last: u64, rest: bool) {
        let mut ring = locked(&shared.ring);
        if let Some(newest) = self.written.last_mut() {
            newest.last = last;
        }
        self.written.drain(..).for_each(|written| ring.push(written));
        let spares = ring.take_spares();
        shared.note_crowd(ring);
        let mut books = locked(&shared.books);
        self.update(&mut books.segments, last);
        // Where nobody has to read it, what is too large goes at once.
        books.release |= self.offset > shared.segment_size;
        let plan = self.plan(shared, &books);
        drop(books);
        shared.publish(last, rest, plan, spares).into_iter().for_each(Waker::wake);
    }

    /// Tells the books how far this segment is.
    fn update(&mut self, segments: &mut std::collections::VecDeque<Segment>, last: u64) {
        let Some(segment) = segments.back_mut() else { return };
        segment.end = self.offset;
        segment.size = segment.size.max(self.offset);
        segment.records = self.records;
        segment.last = last;
        (segment.first_time, segment.last_time) = (self.first_time, self.last_time);
        let known = segment.index.last().map_or(0, |entry| entry.1);
        segment.index.extend(self.index.iter().filter(|entry| entry.1 > known));
        let newest = self.index.pop();
        self.index.clear();
        self.index.extend(newest);
    }

    /// What may be appended, if nothing were open.
    pub(crate) fn plan(&self, shared: &Shared, books: &crate::store::log::books::Books) -> Plan {
        let (size, options) = (shared.segment_size, &shared.options);
        let usable = size.saturating_sub(SEGMENT_HEADER + record::SEAL as u64);
        let drops = self.drops(shared);
        let free = options.max_bytes.saturating_sub(books.bytes()) / size.max(1);
        let spare = u64::from(books.spare.is_some() || books.preparing > 0);
        let messages = match options.max_messages {
            0 => u64::MAX,
            _ if drops => u64::MAX,
            most => most.saturating_sub(books.records()),
        };
        Plan {
            left: size.saturating_sub(self.offset + (record::SEAL + 2 * record::MARK) as u64),
            fresh: self.records == 0,
            more: if drops { u64::MAX } else { free + spare },
            segment: usable,
            most: (options.max_bytes / size.max(1)).saturating_sub(1),
            messages,
            blocked: self.retry_at.is_some(),
        }
    }

    /// The room that there is now, for the append side; whoever waits for it is woken.
    fn show_room(&mut self, shared: &Shared) {
        let plan = self.plan(shared, &locked(&shared.books));
        let (first, tell, full) = shared.replan(plan);
        if let Some(first) = first {
            first.wake();
        }
        if tell {
            let bytes = locked(&shared.books).bytes();
            self.tell_full(shared, bytes, shared.options.max_bytes);
        } else if !full {
            self.full = false;
        }
    }

    fn tell_full(&mut self, shared: &Shared, bytes: u64, limit: u64) {
        if !std::mem::replace(&mut self.full, true) {
            shared.witness.event(Event::SpoolFull { bytes, limit });
        }
    }

    /// No space: what is written of the batch becomes visible, the rest waits.
    fn stand_still(&mut self, shared: &Arc<Shared>, now: Duration, gate: Gate, bytes: u64, limit: u64) -> Turn {
        if !self.written.is_empty() {
            if shared.options.sync == Sync::Batch
                && let Err(Stop::Failed(error)) = self.sync(shared, now)
            {
                return self.fail(shared, &error);
            }
            self.publish(shared, self.last, true);
        }
        let (bytes, limit) = if limit > 0 { (bytes, limit) } else { self.measure(shared) };
        self.tell_full(shared, bytes, limit);
        self.retry_at = Some(now + RETRY);
        self.show_room(shared);
        if gate != Gate::Open {
            let unknown = self.batch.take().map_or(self.last, |batch| batch.last);
            shared.give_up(unknown);
            let _ = self.finish(shared, gate);
            return match gate {
                Gate::Closed => self.end(Err("no space for what was still to be written".into())),
                _ => Turn::Ended,
            };
        }
        Turn::Stuck
    }

    /// For the event of a disk that said itself that it is full.
    fn measure(&self, shared: &Shared) -> (u64, u64) {
        let bytes = locked(&shared.books).bytes();
        let free = shared.storage.space().map_or(0, |space| space.free);
        (bytes, bytes.saturating_add(free))
    }

    /// Writing is over.
    fn fail(&mut self, shared: &Shared, error: &str) -> Turn {
        let unknown = self.batch.take().map_or(self.last, |batch| batch.last);
        shared.fail(error, unknown);
        self.end(Err(error.to_owned()))
    }

    fn end(&mut self, outcome: Result<(), String>) -> Turn {
        self.ended = Some(outcome);
        Turn::Ended
    }
}

/// Records in one segment at most: so that a limit of messages finds something to let go.
fn records_per_segment(max_messages: u64) -> u64 {
    if max_messages == 0 { u64::MAX } else { (max_messages / 8).max(1) }
}

/// Whole records at the front of a piece.
struct Part {
    len: usize,
    records: u64,
    last: u64,
    last_time: i64,
}

impl Part {
    /// What fits into `room` bytes and `most` records. If not even one does, one goes into a fresh segment.
    fn of(bytes: &[u8], gap: usize, room: u64, most: u64, fresh: bool) -> Option<Part> {
        let mut part = Part { len: gap, records: 0, last: 0, last_time: 0 };
        while let Some((size, sequence, time)) = bytes.get(part.len..).and_then(measure) {
            let fits = (part.len + size) as u64 <= room && part.records < most;
            let alone = fresh && part.records == 0;
            if !fits && !alone {
                break;
            }
            part = Part { len: part.len + size, records: part.records + 1, last: sequence, last_time: time };
        }
        (part.records > 0).then_some(part)
    }
}

/// Size, number and time of the record at the front of our own bytes.
fn measure(bytes: &[u8]) -> Option<(usize, u64, i64)> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let sequence = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let time = i64::from_le_bytes(*bytes.get(16..)?.first_chunk()?);
    Some(((len + 8).next_multiple_of(record::ALIGN), sequence, time))
}

/// Number and time of the record at the front.
fn head(bytes: &[u8]) -> Option<(u64, i64)> {
    measure(bytes).map(|(_, sequence, time)| (sequence, time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::store::record::Extra;

    #[test]
    fn a_piece_is_cut_between_records() {
        let mut bytes = BytesMut::new();
        for sequence in 1..=3 {
            record::encode_message(&mut bytes, sequence, 7, &Extra::default(), &Message::from(&b"0123456789"[..]));
        }
        let one = bytes.len() / 3;
        let part = Part::of(&bytes, 0, 2 * one as u64 + 1, u64::MAX, false).unwrap();
        assert_eq!((part.len, part.records, part.last, part.last_time), (2 * one, 2, 2, 7));
        assert!(Part::of(&bytes, 0, one as u64 - 1, u64::MAX, false).is_none());
        assert_eq!(Part::of(&bytes, 0, 0, u64::MAX, true).unwrap().records, 1, "larger than a segment: its own");
        assert_eq!(Part::of(&bytes, 0, u64::MAX, 1, false).unwrap().records, 1);
    }
}
