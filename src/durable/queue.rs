//! The spooler's side: one name, or one PUSH with all its workers.

use std::time::Instant;

use super::ranges::Ranges;
use crate::event::Reason;
use crate::wire::command::durable::{Acks, Nack};

/// Done ranges of an outbox from which on nothing is handed out above the oldest hole.
pub(crate) const MAX_DONE: usize = 4096;
/// Records that wait to be sent again, from which on an outbox hands out nothing new.
pub(crate) const MAX_WAITING: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name of a PUB: one holder, in order; an acknowledgement covers the numbers between.
    Topic,
    /// A PUSH: each record to one of many.
    Outbox,
}

/// What a holder may have unacknowledged; one record always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) messages: u32,
    /// Closed from so many bytes on: the record that reaches it may go beyond.
    pub(crate) bytes: u32,
}

/// One connection in a [`Queue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HolderKey(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read this one record and send it, announced as `again`; or skip it.
    Again(u64),
    /// Read on: the first record above this number is to be sent or skipped.
    After(u64),
    /// The window is closed, or it is another worker's turn ([`Queue::turn`]).
    Full,
    /// As `Full`, until a record is due to be sent again.
    Later(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It is sent again when it is due.
    Again,
    /// It was sent as often as it may: bury it, then [`Queue::skip`] it. Until then `next` gives it as `Again`.
    Dead { tries: u32 },
    /// It is not in flight with this holder: done, or already to be sent again.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Queue {
    kind: Kind,
    cursor: u64,
    done: Ranges,
    max_tries: u32,
}

impl Queue {
    /// `max_tries`: deliveries of one record; 0 is no limit.
    pub(crate) fn new(kind: Kind, cursor: u64, done: Ranges, max_tries: u32) -> Queue {
        Queue { kind, cursor, done, max_tries }
    }

    /// A holder may get records from now on. On a topic it takes the place of the one before.
    pub(crate) fn join(&mut self, window: Window) -> HolderKey {
        let _ = window;
        HolderKey(0)
    }

    /// Its unacknowledged records return: a topic reads on from its cursor, an outbox gives them to the next worker
    /// first. Pending delays of a topic's nacks end with the session.
    pub(crate) fn leave(&mut self, key: HolderKey) {
        let _ = key;
    }

    /// Whether the holder takes part when the turn of an outbox is decided: false while its connection takes no bytes.
    pub(crate) fn set_ready(&mut self, key: HolderKey, ready: bool) {
        let _ = (key, ready);
    }

    /// Everything up to `cursor` is done: a holder of a topic said so when it started, or a limit deleted it.
    pub(crate) fn start_at(&mut self, cursor: u64) {
        let _ = cursor;
    }

    /// What this holder gets next.
    pub(crate) fn next(&mut self, key: HolderKey, now: Instant) -> Next {
        let _ = (key, now);
        Next::Full
    }

    /// The worker of an outbox that `next` would serve: whom to wake when the turn may have changed.
    pub(crate) fn turn(&self) -> Option<HolderKey> {
        None
    }

    /// The record goes to this holder now. Gives its tries: 1 is the first. Numbers between the position and this one
    /// are done: they are not in the log.
    pub(crate) fn send(&mut self, key: HolderKey, sequence: u64, size: usize) -> u32 {
        let _ = (key, sequence, size);
        1
    }

    /// The record is not wanted, expired, buried, missing or gone. Above the position: so is everything up to it.
    pub(crate) fn skip(&mut self, sequence: u64) {
        let _ = sequence;
    }

    /// The holder is done with these.
    pub(crate) fn acknowledge(&mut self, key: HolderKey, acks: &Acks) -> Result<(), Reason> {
        let _ = (key, acks);
        Ok(())
    }

    /// The holder wants one again.
    pub(crate) fn reject(&mut self, key: HolderKey, nack: &Nack, now: Instant) -> Result<Rejected, Reason> {
        let _ = (key, nack, now);
        Ok(Rejected::Unknown)
    }

    /// Ask before `send`: the record was sent as often as it may; bury it and skip it.
    pub(crate) fn exhausted(&self, sequence: u64) -> bool {
        let _ = (sequence, self.max_tries);
        false
    }

    /// How often the record was sent.
    pub(crate) fn tries(&self, sequence: u64) -> u32 {
        let _ = sequence;
        0
    }

    /// Everything up to here is done.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What is done above the cursor.
    pub(crate) fn done(&self) -> Vec<(u64, u64)> {
        self.done.to_vec()
    }

    /// Everything up to here was sent or skipped.
    pub(crate) fn position(&self) -> u64 {
        self.cursor
    }

    pub(crate) fn in_flight(&self, key: HolderKey) -> usize {
        let _ = (key, self.kind);
        0
    }

    pub(crate) fn bytes_in_flight(&self, key: HolderKey) -> u64 {
        let _ = key;
        0
    }

    pub(crate) fn total_in_flight(&self) -> usize {
        0
    }

    /// Records that wait to be sent again.
    pub(crate) fn waiting(&self) -> usize {
        0
    }

    /// Whether the holder's window is closed.
    pub(crate) fn is_full(&self, key: HolderKey) -> bool {
        let _ = key;
        true
    }

    /// When the next rejected record is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        None
    }

    /// Records sent again, ever.
    pub(crate) fn redelivered(&self) -> u64 {
        0
    }
}
