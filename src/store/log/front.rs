//! The append side: numbers, the open batch, the line of those who wait for room. One short lock, held by `shared`.
//!
//! Records are encoded where they will be written from. A batch is a row of [`Piece`]s, cut from buffers of up to
//! 1 MiB that are used again. What may be appended is planned here ([`Plan`]) as the writer will lay it out in
//! segments, so that a full spool refuses before a number is given. Absent: IO, waiting for acceptance. Next: `waits`.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::BytesMut;

use super::Refused;
use crate::message::Message;
use crate::store::clock::SpoolClock;
use crate::store::interest::Interest;
use crate::store::record::{self, Extra};

/// An open batch of so many bytes takes no more.
pub(super) const MOST_OPEN: usize = 4 << 20;
/// Numbers are reserved in steps of so many.
pub(crate) const STEP: u64 = 1 << 20;
/// Records of one batch that share a look at the clock.
const SAME_TIME: u64 = 16;
const CHUNK_MIN: usize = 16 << 10;
const CHUNK_MAX: usize = 1 << 20;

/// A run of whole records in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) bytes: BytesMut,
    /// Bytes at its front that are kept free for a sync mark.
    pub(crate) gap: usize,
    pub(crate) records: u64,
    /// Numbers and times of the first and last record.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

/// What the writer takes in one turn.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) pieces: VecDeque<Piece>,
    /// The last number that it covers; those between its records were wanted by nobody.
    pub(crate) last: u64,
    pub(crate) records: u64,
}

/// What may still be appended, as the writer will lay it out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    /// Bytes left in the segment that is being filled.
    pub(crate) left: u64,
    /// Nothing is in it yet: a record of any size may go there.
    pub(crate) fresh: bool,
    /// Segments that may still be made.
    pub(crate) more: u64,
    /// What fits into a new one.
    pub(crate) segment: u64,
    /// Segments' worth of room that a record larger than one may ask for at most.
    pub(crate) most: u64,
    /// Records that `max_messages` still allows.
    pub(crate) messages: u64,
    /// The disk is full.
    pub(crate) blocked: bool,
}

impl Plan {
    #[inline]
    fn take(&mut self, size: u64) -> bool {
        if self.blocked || self.messages == 0 {
            return false;
        }
        if size <= self.left || self.fresh {
            self.left = self.left.saturating_sub(size);
        } else if self.more == 0 || !self.open_another(size) {
            return false;
        }
        self.fresh = false;
        self.messages -= 1;
        true
    }

    fn open_another(&mut self, size: u64) -> bool {
        let need = size.div_ceil(self.segment.max(1)).min(self.most).max(1);
        if self.more < need {
            return false;
        }
        self.more -= need;
        self.left = self.segment.saturating_sub(size);
        true
    }

    /// Takes off what is open already: `bytes` in records of at most `largest`. Each segment may end with as much
    /// as the largest record unused.
    fn deduct(&mut self, mut bytes: u64, records: u64, largest: u64) {
        self.messages = self.messages.saturating_sub(records);
        if bytes <= self.left {
            self.left -= bytes;
            self.fresh &= bytes == 0;
            return;
        }
        self.fresh = false;
        bytes -= self.left.saturating_sub(largest).min(bytes);
        let used = self.segment.saturating_sub(largest).max(1);
        let segments = bytes.div_ceil(used);
        self.left = (segments.saturating_mul(used)).saturating_sub(bytes);
        if segments > self.more {
            self.left = 0;
        }
        self.more = self.more.saturating_sub(segments);
    }
}

/// Whether appends are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// `close` was called; the writer finishes.
    Closed,
    /// The last handle is gone; the writer writes what is open and ends.
    Abandoned,
    Failed,
}

/// A place in the line of those who wait for room.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    id: Option<u64>,
}

/// Those who wait for room, first come first served.
#[derive(Debug, Default)]
pub(super) struct Line {
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl Line {
    /// Whether `ticket` may try now.
    fn is_first(&self, ticket: &Ticket) -> bool {
        self.waiting.front().is_none_or(|first| Some(first.0) == ticket.id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Joins at the end, or stays. True if it joined.
    fn wait(&mut self, ticket: &mut Ticket, waker: &Waker) -> bool {
        if let Some(place) = self.waiting.iter_mut().find(|place| Some(place.0) == ticket.id) {
            place.1.clone_from(waker);
            return false;
        }
        ticket.id = Some(self.next);
        self.waiting.push_back((self.next, waker.clone()));
        self.next += 1;
        true
    }

    fn leave(&mut self, ticket: &mut Ticket) {
        if let Some(id) = ticket.id.take() {
            self.waiting.retain(|place| place.0 != id);
        }
    }

    /// Who may try next.
    pub(super) fn first(&self) -> Option<Waker> {
        self.waiting.front().map(|first| first.1.clone())
    }

    pub(super) fn drain(&mut self) -> Vec<Waker> {
        self.waiting.drain(..).map(|place| place.1).collect()
    }
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The open batch is large, or numbers run short: soon.
    Soon,
    /// The spool is full.
    Spool,
    Refused(Refused),
}

/// The append side.
pub(crate) struct Front {
    pub(crate) next: u64,
    /// No number above it is given out.
    pub(crate) reserved: u64,
    pub(crate) interest: Interest,
    /// Everything is written, wanted or not.
    pub(crate) all: bool,
    pub(crate) gate: Gate,
    pub(crate) clock: SpoolClock,
    /// Of the newest record.
    pub(crate) time: i64,
    pub(crate) plan: Plan,
    pub(super) line: Line,
    /// The writer has a batch that is not visible yet.
    pub(crate) in_flight: bool,
    /// The writer sleeps and is to be woken for work.
    pub(crate) asleep: bool,
    /// Something else than a batch is to be done.
    pub(crate) nudged: bool,
    /// An append was refused for want of space, and nobody told of it yet.
    pub(crate) tell_full: bool,
    spares: Vec<BytesMut>,
    pub(crate) max_record: u64,
    /// Kept free at the front of a batch.
    pub(crate) mark: usize,
    /// The size of a record that there was no room for, until there is.
    refused: u64,
    /// Room was granted before.
    pub(super) forced: bool,
    pieces: VecDeque<Piece>,
    open: Piece,
    open_bytes: usize,
    open_records: u64,
    largest: u64,
    chunk: usize,
}

impl Front {
    pub(crate) fn new(next: u64, reserved: u64, clock: SpoolClock, all: bool, max_record: u64, mark: usize) -> Front {
        Front {
            next,
            reserved,
            interest: Interest::default(),
            all,
            gate: Gate::Open,
            time: clock.now(),
            clock,
            plan: Plan::default(),
            line: Line::default(),
            in_flight: false,
            asleep: false,
            nudged: false,
            tell_full: false,
            spares: Vec::new(),
            max_record,
            mark,
            refused: 0,
            forced: false,
            pieces: VecDeque::new(),
            open: Piece::default(),
            open_bytes: 0,
            open_records: 0,
            largest: 0,
            chunk: CHUNK_MIN,
        }
    }

    pub(crate) fn newest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    pub(crate) fn open_records(&self) -> u64 {
        self.open_records
    }

    /// Numbers run short.
    #[inline]
    pub(crate) fn wants_numbers(&self) -> bool {
        self.reserved.saturating_sub(self.next) < STEP / 2
    }

    /// The time of a record that is made now. The clock costs as much as the rest of an append: some share a look.
    #[inline]
    fn stamp(&mut self) -> i64 {
        if self.open_records.is_multiple_of(SAME_TIME) {
            self.time = self.time.max(self.clock.now());
        }
        self.time
    }

    #[inline]
    pub(super) fn check_gate(&self) -> Result<(), NoRoom> {
        match self.gate {
            Gate::Open => Ok(()),
            Gate::Failed => Err(NoRoom::Refused(Refused::Failed)),
            Gate::Closed | Gate::Abandoned => Err(NoRoom::Refused(Refused::Closed)),
        }
    }

    pub(super) fn check_open(&self) -> Result<(), Refused> {
        match self.check_gate() {
            Err(NoRoom::Refused(why)) => Err(why),
            _ => Ok(()),
        }
    }

    /// Whether something may be appended, whatever its size.
    #[inline]
    pub(super) fn check_room(&self) -> Result<(), NoRoom> {
        self.check_gate()?;
        if self.open_bytes >= MOST_OPEN || self.next > self.reserved {
            return Err(NoRoom::Soon);
        }
        if self.plan.blocked || self.plan.messages == 0 {
            return Err(NoRoom::Spool);
        }
        Ok(())
    }

    /// The number of this message; whether it is in the batch.
    #[inline]
    pub(super) fn append(&mut self, message: &Message, extra: &Extra) -> Result<(u64, bool), NoRoom> {
        self.check_gate()?;
        let size = record::encoded_len(extra, message);
        if size as u64 > self.max_record || message.len() > record::MAX_FRAMES {
            return Err(NoRoom::Refused(Refused::TooLarge));
        }
        if self.next > self.reserved {
            return Err(NoRoom::Soon);
        }
        if !(self.all || self.interest.matches(message.first().map_or(&[], |topic| topic))) {
            return Ok((self.take_number(), false));
        }
        self.make_room(size)?;
        let (sequence, time) = (self.take_number(), self.stamp());
        record::encode_message(&mut self.open.bytes, sequence, time, extra, message);
        self.note(sequence, time);
        Ok((sequence, true))
    }

    /// The same for a body that is wire bytes.
    pub(super) fn append_raw(
        &mut self,
        extra: &Extra,
        frames: u16,
        topic: &[u8],
        body: &[u8],
    ) -> Result<(u64, bool), NoRoom> {
        self.check_room()?;
        // Header, optional fields and padding.
        let size = body.len().saturating_add(record::HEADER + 40 + record::ALIGN);
        if !(self.all || self.interest.matches(topic)) {
            return Ok((self.take_number(), false));
        }
        self.make_room(size)?;
        let (sequence, time) = (self.take_number(), self.stamp());
        let topic = u32::try_from(topic.len()).unwrap_or(u32::MAX);
        record::encode_raw(&mut self.open.bytes, sequence, time, extra, frames, topic, body);
        self.note(sequence, time);
        Ok((sequence, true))
    }

    #[inline]
    fn take_number(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }

    #[inline]
    fn note(&mut self, sequence: u64, time: i64) {
        if self.open.records == 0 {
            (self.open.first, self.open.first_time) = (sequence, time);
        }
        (self.open.last, self.open.last_time) = (sequence, time);
        self.open.records += 1;
        self.open_records += 1;
    }

    /// Room in the plan, and in the buffer.
    #[inline]
    fn make_room(&mut self, size: usize) -> Result<(), NoRoom> {
        if self.open_bytes >= MOST_OPEN && !self.forced {
            return Err(NoRoom::Soon);
        }
        if !self.plan.take(size as u64) && !self.forced {
            self.refused = size as u64;
            return Err(NoRoom::Spool);
        }
        self.open_bytes += size;
        self.largest = self.largest.max(size as u64);
        let free = self.open.bytes.capacity() - self.open.bytes.len();
        if free < size + self.mark {
            self.next_buffer(size);
        }
        if self.open.records == 0 && self.pieces.is_empty() && self.mark > 0 && self.open.gap == 0 {
            self.open.bytes.resize(self.mark, 0);
            self.open.gap = self.mark;
            self.plan.left = self.plan.left.saturating_sub(self.mark as u64);
        }
        Ok(())
    }

    #[cold]
    fn next_buffer(&mut self, size: usize) {
        let want = (size + self.mark).max(self.chunk);
        self.chunk = (self.chunk * 2).min(CHUNK_MAX);
        let bytes = match self.spares.pop() {
            Some(mut spare) => {
                spare.clear();
                spare.reserve(want);
                spare
            }
            None => BytesMut::with_capacity(want),
        };
        let full = std::mem::replace(&mut self.open, Piece { bytes, ..Piece::default() });
        if full.records > 0 {
            self.pieces.push_back(full);
        }
    }

    /// Used buffers, to be used again.
    pub(super) fn take_spares(&mut self, spares: Vec<BytesMut>) {
        self.spares.extend(spares);
        self.spares.truncate(MOST_OPEN.div_ceil(CHUNK_MAX));
    }

    /// What is open, if anything.
    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        if self.open_records == 0 {
            return None;
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        if self.open.records > 0 {
            let bytes = self.open.bytes.split();
            let rest = std::mem::take(&mut self.open.bytes);
            pieces.push_back(Piece { bytes, ..std::mem::take(&mut self.open) });
            self.open.bytes = rest;
        }
        let batch = Batch { pieces, last: self.newest(), records: self.open_records };
        (self.open_bytes, self.open_records, self.largest) = (0, 0, 0);
        self.in_flight = true;
        Some(batch)
    }

    /// The writer's word on what room there is; what is open is taken off.
    pub(crate) fn replan(&mut self, plan: Plan) {
        self.plan = plan;
        self.plan.deduct(self.open_bytes as u64, self.open_records, self.largest);
        let mut probe = self.plan;
        if probe.take(self.refused) {
            self.refused = 0;
        }
    }

    /// Whether there is no space, for what was refused last at least.
    pub(crate) fn is_full(&self) -> bool {
        self.plan.blocked || self.plan.messages == 0 || self.refused > 0
    }

    /// Whether `ticket` need not wait for others.
    #[inline]
    pub(super) fn is_turn_of(&self, ticket: &Ticket) -> bool {
        self.line.is_first(ticket)
    }

    pub(super) fn wait(&mut self, ticket: &mut Ticket, cx: &Context<'_>) -> bool {
        self.line.wait(ticket, cx.waker())
    }

    /// Leaves the line; the next one in it, to be woken.
    pub(super) fn leave(&mut self, ticket: &mut Ticket) -> Option<Waker> {
        let was_waiting = ticket.id.is_some();
        self.line.leave(ticket);
        if was_waiting { self.line.first() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(left: u64, more: u64) -> Plan {
        Plan { left, more, segment: 100, most: 3, messages: u64::MAX, ..Plan::default() }
    }

    #[test]
    fn a_plan_lays_records_out_as_segments_take_them() {
        let mut plan = plan(50, 1);
        assert!(plan.take(50));
        assert!(plan.take(60), "a new segment");
        assert!(!plan.take(60), "it has 40 left, and there is no other");
        assert!(plan.take(40) && !plan.take(1));
    }

    #[test]
    fn what_is_open_is_never_planned_twice() {
        for open in 0..600 {
            let mut one = plan(50, 4);
            one.deduct(open, 1, 30);
            let left = one.left + one.more * 100;
            assert!(left <= 450_u64.saturating_sub(open), "{open}: {one:?}");
        }
    }

    #[test]
    fn a_record_larger_than_a_segment_takes_the_room_of_several() {
        let mut plan = plan(10, 2);
        assert!(!plan.take(250), "it would take three");
        plan.more = 3;
        assert!(plan.take(250));
        assert_eq!((plan.more, plan.left), (0, 0));
        plan.more = 3;
        assert!(plan.take(900), "one that can never have its room goes when all the room there is is free");
    }
}
