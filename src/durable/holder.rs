//! The holder's side: what it remembers of a spool, and one session with it.

use std::time::Instant;

use super::ranges::Ranges;
use crate::event::Reason;
use crate::wire::command::durable::{Acks, Deliveries, Started};

/// What a holder knows of one spool; outlives connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    done: u64,
    above: Ranges,
}

impl Memory {
    /// From a stored cursor or a token: everything up to `done`, and `ranges` above it, is done.
    pub(crate) fn new(done: u64, ranges: Vec<(u64, u64)>) -> Memory {
        Memory { done, above: ranges.into() }
    }

    /// Everything up to here is done.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// What is done above it.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        self.above.to_vec()
    }

    pub(crate) fn is_done(&self, sequence: u64) -> bool {
        sequence <= self.done
    }

    /// Whether the record is in the inbox or with the application.
    pub(crate) fn is_held(&self, sequence: u64) -> bool {
        let _ = sequence;
        false
    }

    /// How many are in the inbox or with the application.
    pub(crate) fn held(&self) -> usize {
        0
    }

    /// The application is done with it; without a session (else [`Session::done`]).
    pub(crate) fn finish(&mut self, sequence: u64) {
        let _ = sequence;
    }

    /// It was dropped without an acknowledgement: a redelivery may pass.
    pub(crate) fn release(&mut self, sequence: u64) {
        let _ = sequence;
    }
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
}

impl Session {
    /// `topic`: numbers between deliveries count as done (SUB; not PULL).
    pub(crate) fn new(topic: bool, window: u32) -> Session {
        Session { topic, window }
    }

    /// DOK: `memory` is that of this spool.
    pub(crate) fn handle_started(&mut self, memory: &mut Memory, started: &Started) {
        let _ = (memory, started, self.topic, self.window);
    }

    /// Whether DOK was there.
    pub(crate) fn is_started(&self) -> bool {
        false
    }

    /// DLV. An error ends the connection; the next one resumes.
    pub(crate) fn handle_deliveries(&mut self, deliveries: Deliveries) -> Result<(), Reason> {
        let _ = deliveries;
        Ok(())
    }

    /// For each arriving message, in order. `None`: a duplicate, to be dropped; it is acknowledged again.
    pub(crate) fn next(&mut self, memory: &mut Memory) -> Result<Option<Tag>, Reason> {
        let _ = memory;
        Ok(None)
    }

    /// The application is done with it.
    pub(crate) fn done(&mut self, memory: &mut Memory, sequence: u64) {
        memory.finish(sequence);
    }

    /// The application is done with everything it holds up to this one.
    pub(crate) fn done_up_to(&mut self, memory: &mut Memory, sequence: u64) {
        let _ = (memory, sequence);
    }

    /// The application wants it again: it is released. Whether a DNACK is to be sent; without one it comes again
    /// anyway.
    pub(crate) fn reject(&mut self, memory: &mut Memory, sequence: u64) -> bool {
        memory.release(sequence);
        false
    }

    /// The acknowledgements that are due: half the window, 64, `idle` (nothing else waits), or 20 ms after the first
    /// call that gave none though some were there. Call it after `done` and `next`, and at the deadline, until `None`.
    pub(crate) fn take_acks(&mut self, memory: &Memory, idle: bool, now: Instant) -> Option<Acks> {
        let _ = (memory, idle, now);
        None
    }

    /// When to call `take_acks`.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        None
    }
}
