//! The holder's side: what it remembers of a spool, and one session with it.
//!
//! [`Memory`] says which records are done and which are in hand; it outlives connections, so that what comes again is
//! known. [`Session`] is one connection: what was announced on it, and what is to be acknowledged on it. A session
//! acknowledges only what was announced to it, also when the application finishes what an earlier one brought: that is
//! announced again, found to be done, and acknowledged then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ranges::{Progress, Ranges};
use crate::event::Reason;
use crate::wire::command::durable::{Acks, Deliveries, Entry, MAX_RANGES, Started};

/// Acknowledgements go out from so many on: at 64 a window of 1,000 went out in lots of 64, each with a write, an
/// answer and two wakes (128 B: 1.10 to 0.84 µs of processor time for a message, with the lock taken once for a lot).
const MANY: u32 = 256;
/// The longest that one is kept back.
const SOON: Duration = Duration::from_millis(20);
/// Ranges that a worker of an outbox remembers: only a part of the numbers comes to it, so they never close up.
/// Beyond, the oldest are forgotten; should they come again, they pass.
const MAX_REMEMBERED: usize = 1 << 16;

/// What a holder knows of one spool; outlives connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    progress: Progress,
    /// In the inbox or with the application. Ascending: mostly a push at the end and a pop at the front.
    held: VecDeque<u64>,
    /// Let go of without a word: they come again, unless a later one says that all before it is done.
    dropped: VecDeque<u64>,
}

impl Memory {
    /// From a stored cursor or a token: everything up to `done`, and `ranges` above it, is done.
    pub(crate) fn new(done: u64, ranges: Vec<(u64, u64)>) -> Memory {
        Memory { progress: Progress::new(done, ranges.into()), held: VecDeque::new(), dropped: VecDeque::new() }
    }

    /// Everything up to here is done.
    pub(crate) fn done(&self) -> u64 {
        self.progress.cursor()
    }

    /// What is done above it.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        self.progress.above().to_vec()
    }

    pub(crate) fn is_done(&self, sequence: u64) -> bool {
        self.progress.is_done(sequence)
    }

    /// Whether the record is in the inbox or with the application.
    pub(crate) fn is_held(&self, sequence: u64) -> bool {
        self.held.back().is_some_and(|&last| sequence <= last) && self.held.binary_search(&sequence).is_ok()
    }

    /// How many are in the inbox or with the application.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The application is done with it; without a session (else [`Session::done`]).
    pub(crate) fn finish(&mut self, sequence: u64) {
        take(&mut self.held, sequence);
        take(&mut self.dropped, sequence);
        self.progress.finish(sequence);
    }

    /// The application is done with everything that it got up to this one, also with what it let go of; without a
    /// session.
    pub(crate) fn finish_up_to(&mut self, sequence: u64) {
        while let Some(first) = self.first_up_to(sequence) {
            self.finish(first);
        }
    }

    /// The first that the application has, or let go of without a word, up to this one.
    fn first_up_to(&self, sequence: u64) -> Option<u64> {
        let first = self.held.front().into_iter().chain(self.dropped.front()).min().copied();
        first.filter(|&first| first <= sequence)
    }

    /// It was dropped without an acknowledgement: a redelivery may pass. Whether it was in hand.
    pub(crate) fn release(&mut self, sequence: u64) -> bool {
        let held = take(&mut self.held, sequence);
        if held {
            put(&mut self.dropped, sequence);
            if self.dropped.len() > MAX_REMEMBERED {
                self.dropped.pop_front();
            }
        }
        held
    }

    /// Nothing from `from` to `to` comes any more: what is not in hand is done.
    fn pass(&mut self, from: u64, to: u64) {
        let mut from = from;
        let start = self.held.partition_point(|&held| held < from);
        for &held in self.held.range(start..).take_while(|&&held| held <= to) {
            self.progress.finish_range(from, held - 1);
            from = held + 1;
        }
        self.progress.finish_range(from, to);
    }

    /// The spooler counts everything up to here as done.
    fn start_at(&mut self, cursor: u64) {
        while self.held.front().is_some_and(|&held| held <= cursor) {
            self.held.pop_front();
        }
        while self.dropped.front().is_some_and(|&dropped| dropped <= cursor) {
            self.dropped.pop_front();
        }
        self.progress.finish_up_to(cursor);
    }
}

/// Puts a number where it belongs in an ascending list.
fn put(list: &mut VecDeque<u64>, number: u64) {
    match list.back() {
        Some(&last) if last >= number => {
            if let Err(at) = list.binary_search(&number) {
                list.insert(at, number);
            }
        }
        _ => list.push_back(number),
    }
}

/// Takes a number out of an ascending list; whether it was there.
fn take(list: &mut VecDeque<u64>, number: u64) -> bool {
    if list.front() == Some(&number) {
        list.pop_front();
        return true;
    }
    list.binary_search(&number).ok().and_then(|at| list.remove(at)).is_some()
}

/// What is known of an arriving message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) sequence: u64,
    /// 1 is the first.
    pub(crate) tries: u32,
    /// Microseconds since 1970.
    pub(crate) time: Option<i64>,
}

/// One connection of a holder, from DSTART on.
#[derive(Debug)]
pub(crate) struct Session {
    topic: bool,
    window: u32,
    started: bool,
    /// The last number announced in order.
    position: u64,
    /// Announced, and not arrived yet.
    announced: VecDeque<Entry>,
    /// Whether they are sent again out of order.
    again: bool,
    /// Arrived here and not acknowledged; for an outbox only. (On a topic, everything up to the position may be.)
    owed: VecDeque<u64>,
    /// To be acknowledged.
    fresh: Ranges,
    /// How many are to be acknowledged.
    count: u32,
    deadline: Option<Instant>,
}

impl Session {
    /// `topic`: numbers between deliveries count as done (SUB; not PULL).
    pub(crate) fn new(topic: bool, window: u32) -> Session {
        Session {
            topic,
            window,
            started: false,
            position: 0,
            announced: VecDeque::new(),
            again: false,
            owed: VecDeque::new(),
            fresh: Ranges::new(),
            count: 0,
            deadline: None,
        }
    }

    /// DOK: `memory` is that of this spool; a new one, if the holder knew another spool.
    pub(crate) fn handle_started(&mut self, memory: &mut Memory, started: &Started) {
        self.started = true;
        self.position = started.resume_after;
        memory.start_at(started.resume_after);
    }

    /// Whether DOK was there.
    #[cfg(test)]
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// DLV. An error ends the connection; the next one resumes.
    pub(crate) fn handle_deliveries(&mut self, deliveries: Deliveries) -> Result<(), Reason> {
        if !self.started || !self.announced.is_empty() {
            return Err(Reason::UnexpectedCommand);
        }
        if !deliveries.again && deliveries.prev != self.position {
            return Err(Reason::Malformed("DLV that does not follow the one before"));
        }
        let last = deliveries.entries.last().map_or(0, |entry| entry.sequence);
        if deliveries.again && self.topic && last > self.position {
            return Err(Reason::Malformed("DLV that repeats what was not sent"));
        }
        self.again = deliveries.again;
        self.announced = deliveries.entries.into();
        Ok(())
    }

    /// How many were announced and have not arrived yet.
    pub(crate) fn announced(&self) -> usize {
        self.announced.len()
    }

    /// For each arriving message, in order. `None`: a duplicate, to be dropped; it is acknowledged again.
    pub(crate) fn next(&mut self, memory: &mut Memory) -> Result<Option<Tag>, Reason> {
        let Some(Entry { sequence, tries, time }) = self.announced.pop_front() else {
            return Err(Reason::UnexpectedCommand);
        };
        if !self.again {
            if self.topic && self.position < sequence.saturating_sub(1) {
                memory.pass(self.position + 1, sequence - 1);
            }
            self.position = sequence;
        }
        if memory.is_done(sequence) {
            self.acknowledge(sequence);
            return Ok(None);
        }
        if !self.topic {
            put(&mut self.owed, sequence);
        }
        if memory.is_held(sequence) {
            // It is acknowledged when the application is done with the first of the two.
            return Ok(None);
        }
        take(&mut memory.dropped, sequence);
        put(&mut memory.held, sequence);
        Ok(Some(Tag { sequence, tries: tries.unwrap_or(1), time }))
    }

    /// The application is done with it.
    pub(crate) fn done(&mut self, memory: &mut Memory, sequence: u64) {
        memory.finish(sequence);
        if self.is_owed(sequence) {
            self.acknowledge(sequence);
        }
        if !self.topic {
            memory.progress.forget_beyond(MAX_REMEMBERED);
        }
    }

    /// The application is done with everything that it got up to this one, also with what it let go of.
    pub(crate) fn done_up_to(&mut self, memory: &mut Memory, sequence: u64) {
        while let Some(first) = memory.first_up_to(sequence) {
            self.done(memory, first);
        }
    }

    /// The application wants it again: it is released. Whether a DNACK is to be sent; without one it comes again
    /// anyway.
    pub(crate) fn reject(&mut self, memory: &mut Memory, sequence: u64) -> bool {
        take(&mut memory.held, sequence) && self.is_owed(sequence)
    }

    /// Whether the record was announced in this session; it is not owed any more.
    fn is_owed(&mut self, sequence: u64) -> bool {
        if self.topic { sequence <= self.position } else { take(&mut self.owed, sequence) }
    }

    fn acknowledge(&mut self, sequence: u64) {
        self.fresh.insert_range(sequence, sequence);
        self.count = self.count.saturating_add(1);
    }

    /// The acknowledgements that are due: half the window, 64, `idle` (nothing else waits), or 20 ms after the first
    /// call that gave none though some were there. Call it after `done` and `next`, and at the deadline, until `None`.
    pub(crate) fn take_acks(&mut self, memory: &Memory, idle: bool, now: Instant) -> Option<Acks> {
        if self.count == 0 {
            return None;
        }
        let enough = MANY.min(self.window / 2).max(1);
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        if self.count < enough && !idle && !late {
            self.deadline = self.deadline.or_else(|| now.checked_add(SOON));
            return None;
        }
        let cumulative = if self.topic { memory.done().min(self.position) } else { 0 };
        self.fresh.remove_up_to(cumulative);
        let mut ranges = Vec::new();
        while ranges.len() < MAX_RANGES
            && let Some((from, to)) = self.fresh.pop_first()
        {
            ranges.push((from, to - from + 1));
        }
        if self.fresh.is_empty() {
            self.count = 0;
            self.deadline = None;
        }
        Some(Acks { cumulative, ranges })
    }

    /// Whether `take_acks` has nothing to give before the deadline, unless it is asked as `idle`.
    pub(crate) fn is_waiting(&self) -> bool {
        self.count == 0 || (self.deadline.is_some() && self.count < MANY.min(self.window / 2).max(1))
    }

    /// When to call `take_acks`.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[cfg(test)]
mod tests;
