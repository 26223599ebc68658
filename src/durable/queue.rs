//! The spooler's side: one name, or one PUSH with all its workers.
//!
//! A record is done, in flight with one holder, waiting to be sent again, or above the position, where it has not been
//! looked at. Only what is in flight or waiting is remembered one by one; all else is the position, the cursor and the
//! done ranges between. A topic whose holder leaves goes back to its cursor and reads on from there: what was in flight
//! is met again in order. An outbox goes only forward, so what a worker leaves behind waits for the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::ranges::{Progress, Ranges};
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
    /// The window is closed, or it is another worker's turn.
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

/// The widest window that is granted, in messages: what is in flight is remembered, and the peer asks for it.
const MAX_WINDOW: u32 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Queue {
    lead: usize,
    kind: Kind,
    progress: Progress,
    /// Everything up to here was looked at; the cursor may be beyond.
    position: u64,
    /// In the order of their keys.
    holders: Vec<Holder>,
    next_key: u64,
    last_served: HolderKey,
    /// To be sent again now.
    due: BTreeSet<u64>,
    /// To be sent again later.
    delayed: BTreeSet<(Instant, u64)>,
    /// What waits for a worker of this name to return.
    pinned: BTreeMap<String, BTreeSet<u64>>,
    /// How often a record came back, for those that did.
    tries: BTreeMap<u64, u32>,
    max_tries: u32,
    redelivered: u64,
}

#[derive(Debug)]
struct Holder {
    key: HolderKey,
    window: Window,
    ready: bool,
    /// Ascending: mostly a push at the end and a pop at the front.
    flight: VecDeque<Flight>,
    bytes: u64,
    /// Of an outbox whose records are pinned: who it is.
    name: Option<String>,
    /// What was in flight with it before: it goes to nobody else.
    own: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    sequence: u64,
    size: u32,
}

impl Holder {
    fn is_full(&self) -> bool {
        self.flight.len() >= self.window.messages as usize || self.bytes >= u64::from(self.window.bytes)
    }

    fn add(&mut self, sequence: u64, size: usize) {
        let flight = Flight { sequence, size: u32::try_from(size).unwrap_or(u32::MAX) };
        self.bytes += u64::from(flight.size);
        match self.flight.back() {
            Some(last) if last.sequence > sequence => {
                let at = self.flight.partition_point(|flight| flight.sequence < sequence);
                self.flight.insert(at, flight);
            }
            _ => self.flight.push_back(flight),
        }
    }

    /// Takes one record out; whether it was there.
    fn remove(&mut self, sequence: u64) -> bool {
        let Ok(at) = self.flight.binary_search_by_key(&sequence, |flight| flight.sequence) else { return false };
        let size = self.flight.remove(at).map_or(0, |flight| flight.size);
        self.bytes -= u64::from(size);
        true
    }

    fn remove_up_to(&mut self, sequence: u64) {
        while let Some(first) = self.flight.front()
            && first.sequence <= sequence
        {
            self.bytes -= u64::from(first.size);
            self.flight.pop_front();
        }
    }

    /// Where the records from `from` to `to` are.
    fn places(&self, from: u64, to: u64) -> std::ops::Range<usize> {
        match self.flight.front() {
            // The common case: the oldest one is acknowledged.
            Some(first) if first.sequence >= from => {
                0..self.flight.iter().take_while(|flight| flight.sequence <= to).count()
            }
            _ => {
                let start = self.flight.partition_point(|flight| flight.sequence < from);
                start..start + self.flight.range(start..).take_while(|flight| flight.sequence <= to).count()
            }
        }
    }
}

impl Queue {
    /// `max_tries`: deliveries of one record; 0 is no limit.
    pub(crate) fn new(kind: Kind, cursor: u64, done: Ranges, max_tries: u32) -> Queue {
        let progress = Progress::new(cursor, done);
        Queue {
            lead: 0,
            kind,
            position: progress.cursor(),
            progress,
            holders: Vec::new(),
            next_key: 1,
            last_served: HolderKey(0),
            due: BTreeSet::new(),
            delayed: BTreeSet::new(),
            pinned: BTreeMap::new(),
            tries: BTreeMap::new(),
            max_tries,
            redelivered: 0,
        }
    }

    /// A holder may get records from now on. On a topic it takes the place of the one before.
    pub(crate) fn join(&mut self, window: Window) -> HolderKey {
        if self.kind == Kind::Topic {
            self.holders
                .iter()
                .map(|holder| holder.key)
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|key| self.leave(key));
        }
        let key = HolderKey(self.next_key);
        self.next_key += 1;
        let window = Window { messages: window.messages.clamp(1, MAX_WINDOW), bytes: window.bytes.max(1) };
        let (flight, own) = (VecDeque::new(), BTreeSet::new());
        self.holders.push(Holder { key, window, ready: true, flight, bytes: 0, name: None, own });
        key
    }

    /// A worker of an outbox whose records stay with the one they were given to. None: one of this name is there.
    pub(crate) fn join_as(&mut self, name: &str, window: Window) -> Option<HolderKey> {
        if self.holders.iter().any(|holder| holder.name.as_deref() == Some(name)) {
            return None;
        }
        let key = self.join(window);
        let own = self.pinned.remove(name).unwrap_or_default();
        let holder = self.holder_mut(key)?;
        (holder.name, holder.own) = (Some(name.to_owned()), own);
        Some(key)
    }

    /// Its unacknowledged records return: a topic reads on from its cursor, an outbox gives them to the next worker
    /// first. Pending delays of a topic's nacks end with the session: its holder may count what is not delivered in
    /// order as done.
    pub(crate) fn leave(&mut self, key: HolderKey) {
        let Some(at) = self.find(key) else { return };
        let holder = self.holders.remove(at);
        for flight in &holder.flight {
            self.count_return(flight.sequence);
        }
        match self.kind {
            Kind::Outbox if holder.name.is_some() => {
                let kept = self.pinned.entry(holder.name.unwrap_or_default()).or_default();
                kept.extend(holder.own);
                kept.extend(holder.flight.iter().map(|flight| flight.sequence));
            }
            Kind::Outbox => self.due.extend(holder.flight.iter().map(|flight| flight.sequence)),
            Kind::Topic => {
                self.due.clear();
                self.delayed.clear();
                self.position = self.progress.cursor();
            }
        }
    }

    /// How many records a worker may be ahead of the one with the fewest: 0 is strictly in turn. With much to hand out,
    /// two workers would else wait for each other at every record.
    pub(crate) fn set_lead(&mut self, records: usize) {
        self.lead = records;
    }

    /// Whether the holder takes part when the turn of an outbox is decided: false while its connection takes no bytes.
    pub(crate) fn set_ready(&mut self, key: HolderKey, ready: bool) {
        if let Some(holder) = self.holder_mut(key) {
            holder.ready = ready;
        }
    }

    /// Everything up to `cursor` is done: a holder of a topic said so when it started, or a limit deleted it.
    pub(crate) fn start_at(&mut self, cursor: u64) {
        self.holders.iter_mut().for_each(|holder| holder.remove_up_to(cursor));
        self.progress.finish_up_to(cursor);
        self.forget_waiting(0, cursor);
    }

    /// What this holder gets next.
    pub(crate) fn next(&mut self, key: HolderKey, now: Instant) -> Next {
        self.promote(now);
        let Some(holder) = self.holder(key) else { return Next::Full };
        if let Some(&sequence) = holder.own.first().filter(|_| !holder.is_full()) {
            return Next::Again(sequence);
        }
        if holder.is_full() || self.is_anothers_turn(holder) {
            return Next::Full;
        }
        if let Some(&sequence) = self.due.first() {
            return Next::Again(sequence);
        }
        if !self.may_read_on(holder) {
            return self.next_retry().map_or(Next::Full, Next::Later);
        }
        self.position = self.position();
        if let Some((_, end)) = self.position.checked_add(1).and_then(|next| self.progress.above().range_of(next)) {
            self.position = end;
        }
        Next::After(self.position)
    }

    /// Whether `next` would say to read on behind what was sent last, without another look: the topic's holder has
    /// room, and nothing else waits or is done out of order.
    #[inline]
    pub(crate) fn goes_on(&self, key: HolderKey) -> bool {
        self.kind == Kind::Topic
            && self.due.is_empty()
            && self.delayed.is_empty()
            && self.progress.above().is_empty()
            && self.holder(key).is_some_and(|holder| holder.own.is_empty() && !holder.is_full())
    }

    fn promote(&mut self, now: Instant) {
        while let Some(&(due, sequence)) = self.delayed.first()
            && due <= now
        {
            self.delayed.pop_first();
            self.due.insert(sequence);
        }
    }

    /// Fewest in flight first, and of those the one after the last that got something.
    fn is_anothers_turn(&self, holder: &Holder) -> bool {
        let count = holder.flight.len();
        let place = |holder: &Holder| (holder.key <= self.last_served, holder.key);
        let comes_first = |other: &Holder| {
            let flight = other.flight.len();
            flight + self.lead < count || (self.lead == 0 && flight == count && place(other) < place(holder))
        };
        self.kind == Kind::Outbox
            && self.holders.iter().any(|other| other.ready && comes_first(other) && !other.is_full())
    }

    /// Whether a record that was never sent may go to this holder.
    fn may_read_on(&self, holder: &Holder) -> bool {
        match self.kind {
            // What waits counts as unacknowledged, or a holder that rejects everything would have it all.
            Kind::Topic => holder.flight.len() + self.waiting() < holder.window.messages as usize,
            Kind::Outbox => self.waiting() < MAX_WAITING && self.progress.above().len() < MAX_DONE,
        }
    }

    /// The worker of an outbox that `next` would serve: whom to wake when the turn may have changed. Of several, the
    /// one after the last that got something. (A record that is due only later is not looked at.) What `next` does, said in one
    /// place, for the tests to compare.
    #[cfg(test)]
    pub(crate) fn turn(&self) -> Option<HolderKey> {
        let open =
            |holder: &&Holder| holder.ready && !holder.is_full() && (!self.due.is_empty() || self.may_read_on(holder));
        let order = |holder: &&Holder| (holder.flight.len(), holder.key <= self.last_served, holder.key);
        self.holders.iter().filter(open).min_by_key(order).map(|holder| holder.key)
    }

    /// The record goes to this holder now. Gives its tries: 1 is the first. Numbers between the position and this one
    /// are done: they are not in the log. 0: not to be sent, since it is done, or in flight, or the holder left.
    pub(crate) fn send(&mut self, key: HolderKey, sequence: u64, size: usize) -> u32 {
        let Some(at) = self.find(key) else { return 0 };
        let position = self.position();
        if sequence > position {
            self.pass(position, sequence - 1);
            self.position = sequence;
            if self.progress.is_done(sequence) {
                return 0;
            }
        } else if !self.stop_waiting(sequence) {
            return 0;
        }
        self.holders[at].add(sequence, size);
        self.last_served = key;
        let tries = self.tries(sequence).saturating_add(1);
        self.redelivered += u64::from(tries > 1);
        tries
    }

    /// The record is not wanted, expired, buried, missing or gone. Above the position: so is everything up to it.
    pub(crate) fn skip(&mut self, sequence: u64) {
        let position = self.position();
        if sequence > position {
            self.pass(position, sequence);
            self.position = sequence;
        } else if self.stop_waiting(sequence) {
            self.progress.finish(sequence);
            self.tries.remove(&sequence);
        }
    }

    /// Nothing above `position` up to `to` is sent.
    fn pass(&mut self, position: u64, to: u64) {
        if position < to {
            self.progress.finish_range(position + 1, to);
            self.forget_waiting(position + 1, to);
        }
    }

    /// The holder is done with these. An error ends the connection.
    pub(crate) fn acknowledge(&mut self, key: HolderKey, acks: &Acks) -> Result<(), Reason> {
        let Some(at) = self.find(key) else { return Ok(()) };
        let last = acks.ranges.last().map_or(0, |&(start, length)| end_of(start, length));
        let beyond = acks.cumulative.max(last) > self.position();
        if beyond || (self.kind == Kind::Outbox && acks.cumulative > 0) {
            return Err(Reason::UnexpectedCommand);
        }
        if acks.cumulative > self.progress.cursor() {
            self.holders[at].remove_up_to(acks.cumulative);
            self.progress.finish_up_to(acks.cumulative);
            self.forget_waiting(0, acks.cumulative);
        }
        for &(start, length) in &acks.ranges {
            self.acknowledge_range(at, start, end_of(start, length))?;
        }
        Ok(())
    }

    fn acknowledge_range(&mut self, at: usize, from: u64, to: u64) -> Result<(), Reason> {
        let places = self.holders[at].places(from, to);
        match self.kind {
            Kind::Topic => {
                self.progress.finish_range(from, to);
                self.forget_waiting(from, to);
            }
            Kind::Outbox => {
                let all_its_own = places.len() as u64 == (to - from).saturating_add(1);
                if !all_its_own && self.is_with_another(at, from, to) {
                    return Err(Reason::UnexpectedCommand);
                }
                for flight in self.holders[at].flight.range(places.clone()) {
                    self.progress.finish(flight.sequence);
                    if !self.tries.is_empty() {
                        self.tries.remove(&flight.sequence);
                    }
                }
            }
        }
        let holder = &mut self.holders[at];
        let bytes: u64 = holder.flight.drain(places).map(|flight| u64::from(flight.size)).sum();
        holder.bytes -= bytes;
        Ok(())
    }

    fn is_with_another(&self, at: usize, from: u64, to: u64) -> bool {
        self.holders.iter().enumerate().any(|(other, holder)| other != at && !holder.places(from, to).is_empty())
    }

    /// The holder wants one again. An error ends the connection.
    pub(crate) fn reject(&mut self, key: HolderKey, nack: &Nack, now: Instant) -> Result<Rejected, Reason> {
        if nack.sequence > self.position() {
            return Err(Reason::UnexpectedCommand);
        }
        if !self.holder_mut(key).is_some_and(|holder| holder.remove(nack.sequence)) {
            return Ok(Rejected::Unknown);
        }
        let tries = self.count_return(nack.sequence);
        let due = now.checked_add(Duration::from_millis(nack.delay_ms.into())).unwrap_or(now);
        if self.exhausted(nack.sequence) || due <= now {
            self.due.insert(nack.sequence);
        } else {
            self.delayed.insert((due, nack.sequence));
        }
        Ok(if self.exhausted(nack.sequence) { Rejected::Dead { tries } } else { Rejected::Again })
    }

    fn count_return(&mut self, sequence: u64) -> u32 {
        let tries = self.tries.entry(sequence).or_default();
        *tries = tries.saturating_add(1);
        *tries
    }

    /// Ask before `send`: the record was sent as often as it may; bury it and skip it.
    pub(crate) fn exhausted(&self, sequence: u64) -> bool {
        self.max_tries > 0 && self.tries(sequence) >= self.max_tries
    }

    /// How often the record was sent and came back.
    pub(crate) fn tries(&self, sequence: u64) -> u32 {
        if self.tries.is_empty() { 0 } else { self.tries.get(&sequence).copied().unwrap_or(0) }
    }

    /// The record does not wait any more; whether it did.
    fn stop_waiting(&mut self, sequence: u64) -> bool {
        if self.due.remove(&sequence) || self.holders.iter_mut().any(|holder| holder.own.remove(&sequence)) {
            return true;
        }
        let found = self.delayed.iter().find(|(_, delayed)| *delayed == sequence).copied();
        found.is_some_and(|entry| self.delayed.remove(&entry))
    }

    /// These are done: nothing of them waits, nor do their tries matter.
    fn forget_waiting(&mut self, from: u64, to: u64) {
        let outside = |sequence: u64| sequence < from || sequence > to;
        if !self.due.is_empty() {
            self.due.retain(|&sequence| outside(sequence));
        }
        if !self.delayed.is_empty() {
            self.delayed.retain(|&(_, sequence)| outside(sequence));
        }
        let own = self.holders.iter_mut().map(|holder| &mut holder.own);
        own.chain(self.pinned.values_mut()).for_each(|kept| kept.retain(|&sequence| outside(sequence)));
        while let Some((&sequence, _)) = self.tries.range(from..=to).next() {
            self.tries.remove(&sequence);
        }
    }

    /// Everything up to here is done.
    pub(crate) fn cursor(&self) -> u64 {
        self.progress.cursor()
    }

    /// What is done above the cursor.
    pub(crate) fn done(&self) -> Vec<(u64, u64)> {
        self.progress.above().to_vec()
    }

    /// Everything up to here was sent or skipped.
    pub(crate) fn position(&self) -> u64 {
        self.position.max(self.progress.cursor())
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self, key: HolderKey) -> usize {
        self.holder(key).map_or(0, |holder| holder.flight.len())
    }

    #[cfg(test)]
    pub(crate) fn bytes_in_flight(&self, key: HolderKey) -> u64 {
        self.holder(key).map_or(0, |holder| holder.bytes)
    }

    pub(crate) fn total_in_flight(&self) -> usize {
        self.holders.iter().map(|holder| holder.flight.len()).sum()
    }

    /// Records that wait to be sent again.
    pub(crate) fn waiting(&self) -> usize {
        let own = self.holders.iter().map(|holder| holder.own.len());
        let pinned = self.pinned.values().map(BTreeSet::len);
        self.due.len() + self.delayed.len() + own.chain(pinned).sum::<usize>()
    }

    /// Whether the holder's window is closed.
    pub(crate) fn is_full(&self, key: HolderKey) -> bool {
        self.holder(key).is_none_or(Holder::is_full)
    }

    /// When the next rejected record is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.delayed.first().map(|&(due, _)| due)
    }

    /// Records sent again, ever.
    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }

    fn find(&self, key: HolderKey) -> Option<usize> {
        self.holders.binary_search_by_key(&key, |holder| holder.key).ok()
    }

    fn holder(&self, key: HolderKey) -> Option<&Holder> {
        self.find(key).and_then(|at| self.holders.get(at))
    }

    fn holder_mut(&mut self, key: HolderKey) -> Option<&mut Holder> {
        self.find(key).and_then(|at| self.holders.get_mut(at))
    }
}

/// The last number of a range; its length is not 0.
fn end_of(start: u64, length: u64) -> u64 {
    start.saturating_add(length.saturating_sub(1))
}

#[cfg(test)]
mod tests;
