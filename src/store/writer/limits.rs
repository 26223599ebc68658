//! What goes, and when: segments that everybody has read, limits of bytes, age, messages and lag, names that expire.
//!
//! The order is fixed: whoever loses something is told of it, the registry with the new head and the cursors is synced,
//! then files go, oldest first, then the directory is synced. What was told and not saved may be back after a crash;
//! what was saved and not told would be lost in silence. Never the segment that is being written. Events are told when
//! no lock is held. Next: `timers`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Stop, Writer, failed};
use crate::event::Event;
use crate::options::spool::WhenFull;
use crate::store::log::books::{Books, Loss};
use crate::store::log::front::Gate;
use crate::store::log::shared::{Shared, locked};
use crate::store::log::stats::Counters;
use crate::store::names::NameKind;
use crate::store::segment;

/// As the store counts time.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Writer {
    /// Lets go what everybody has read. True if something went. Not to be called on the way to another segment: it may
    /// go there itself.
    pub(super) fn release(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        if !std::mem::take(&mut locked(&shared.books).release) {
            return Ok(false);
        }
        shared.unpin();
        if !self.is_in_the_way(shared) {
            return self.let_go(shared);
        }
        if self.retry_at.is_some() {
            // On a full disk another segment waits for the next try.
            locked(&shared.books).release = true;
            return self.let_go(shared);
        }
        if let Err(stop) = self.rotate(shared, self.last + 1) {
            locked(&shared.books).release = true;
            return Err(stop);
        }
        self.let_go(shared)
    }

    /// The sealed ones of it.
    pub(super) fn let_go(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let books = locked(&shared.books);
        let upto = books.last_sealed(floor(shared, &books));
        drop(books);
        match upto {
            Some(upto) => self.delete(shared, upto, Vec::new()).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether the newest segment is done and takes the room for others: by a limit of messages, or because one record
    /// made it larger than a segment is.
    fn is_in_the_way(&self, shared: &Shared) -> bool {
        if locked(&shared.front).gate != Gate::Open {
            return false;
        }
        let books = locked(&shared.books);
        let max = shared.options.max_messages;
        let counts = max > 0 && books.records() >= max;
        self.is_done(shared, &books) && (counts || self.outgrown(shared, &books) > 0)
    }

    fn is_done(&self, shared: &Shared, books: &Books) -> bool {
        self.records > 0 && floor(shared, books) >= self.last
    }

    /// The size of the newest segment, if one record made it larger than a segment is and it need not stay.
    pub(super) fn outgrown(&self, shared: &Shared, books: &Books) -> u64 {
        let size = books.segments.back().map_or(0, |newest| newest.size.max(self.offset));
        let goes = self.records > 0 && (self.drops(shared) || self.is_done(shared, books));
        if goes && size > shared.segment_size { size } else { 0 }
    }

    /// The oldest segment goes, read or not. False if there is only the one that is being written.
    pub(super) fn drop_oldest(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let mut books = locked(&shared.books);
        let Some(oldest) = books.segments.front().filter(|segment| segment.sealed) else { return Ok(false) };
        let (upto, records, bytes) = (oldest.last, oldest.records, oldest.size);
        let losses = books.jump(upto, None);
        drop(books);
        Counters::add(&shared.counters.dropped_records, records);
        Counters::add(&shared.counters.dropped_bytes, bytes);
        self.delete(shared, upto, losses)?;
        Ok(true)
    }

    /// The name that pins the oldest segment goes. False if there is none that may.
    pub(super) fn evict(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let books = locked(&shared.books);
        let Some(oldest) = books.segments.front().filter(|segment| segment.sealed) else { return Ok(false) };
        let upto = oldest.last;
        let topics = books.registry.names.values().filter(|name| name.kind == NameKind::Topic && name.cursor < upto);
        let name = topics.min_by_key(|name| name.cursor).map(|name| name.name.clone());
        drop(books);
        match name {
            Some(name) => {
                self.tell_eviction(shared, &name);
                self.drop_names(shared, &[name])?;
            }
            // Pinned by nobody that can be evicted: an outbox, a recording.
            None => return self.drop_oldest(shared),
        }
        if shared.options.append_all {
            return self.drop_oldest(shared);
        }
        self.let_go(shared)?;
        Ok(true)
    }

    /// What an evicted name will never get.
    fn tell_eviction(&self, shared: &Arc<Shared>, name: &str) {
        let books = locked(&shared.books);
        let Some(cursor) = books.registry.names.get(name).map(|name| name.cursor) else { return };
        let (records, bytes) = (books.lag_records(cursor), books.lag_bytes(cursor));
        drop(books);
        Counters::add(&shared.counters.dropped_records, records);
        Counters::add(&shared.counters.dropped_bytes, bytes);
        let (name, from, to) = (name.to_owned(), cursor + 1, self.last.max(cursor + 1));
        shared.witness.event(Event::Lost { name, from, to, records, bytes });
    }

    fn drop_names(&mut self, shared: &Arc<Shared>, names: &[String]) -> Result<(), Stop> {
        let mut front = locked(&shared.front);
        let mut books = locked(&shared.books);
        let gone: Vec<&String> = names.iter().filter(|name| shared.remove_name(&mut front, &mut books, name)).collect();
        drop(books);
        drop(front);
        if gone.is_empty() {
            return Ok(());
        }
        // A save that fails, or that the power cuts off, may have taken them away all the same.
        for name in gone {
            shared.witness.event(Event::NameExpired { name: name.clone() });
            shared.witness.dropped(name);
        }
        self.save(shared, false)
    }

    /// Takes away all sealed segments up to number `upto`; names that are `losses` poorer by it are told.
    fn delete(&mut self, shared: &Arc<Shared>, upto: u64, losses: Vec<Loss>) -> Result<(), Stop> {
        tell(shared, losses);
        let mut books = locked(&shared.books);
        books.registry.head = books.registry.head.max(upto + 1);
        drop(books);
        self.save(shared, false)?;
        let mut books = locked(&shared.books);
        let mut gone = Vec::new();
        while let Some(segment) = books.segments.front().filter(|segment| segment.sealed && segment.last <= upto) {
            gone.push(segment::file_name(segment.base));
            books.segments.pop_front();
        }
        drop(books);
        for name in &gone {
            match shared.storage.remove(name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&e, name)),
                _ => {}
            }
        }
        shared.storage.sync_dir().map_err(|e| failed(&e, "sync of the directory"))
    }

    /// Limits of age, messages and lag. True if something went.
    pub(super) fn keep_limits(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let aged = self.keep_age(shared)?;
        let counted = self.keep_messages(shared, 0)?;
        let lagged = self.keep_lag(shared)?;
        Ok(aged | counted | lagged)
    }

    fn keep_age(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let Some(age) = shared.options.max_age else { return Ok(false) };
        let horizon = shared.now().saturating_sub(micros(age));
        if self.records > 0 && self.last_time < horizon && self.batch.is_none() {
            match self.rotate(shared, self.last + 1) {
                // Without room for another it stays.
                Ok(()) | Err(Stop::Full(..)) => {}
                Err(failed) => return Err(failed),
            }
        }
        let mut any = false;
        while locked(&shared.books).oldest_sealed().is_some_and(|oldest| oldest.last_time < horizon) {
            any |= self.drop_oldest(shared)?;
        }
        Ok(any)
    }

    /// Makes room for so many records more, where the policy is to drop.
    pub(super) fn keep_messages(&mut self, shared: &Arc<Shared>, more: u64) -> Result<bool, Stop> {
        let (max, mut any) = (shared.options.max_messages, false);
        if max == 0 || !self.drops(shared) {
            return Ok(false);
        }
        loop {
            let books = locked(&shared.books);
            let records = books.records();
            let bytes = books.bytes();
            drop(books);
            if records.saturating_add(more) <= max {
                return Ok(any);
            }
            let went = match shared.options.when_full {
                WhenFull::DropOldest => self.drop_oldest(shared)?,
                _ => self.evict(shared)?,
            };
            self.release(shared)?;
            if !went {
                return Ok(any);
            }
            self.tell_full(shared, bytes, max);
            any = true;
        }
    }

    fn keep_lag(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let (most_bytes, most_age) = (shared.options.max_lag_bytes, shared.options.max_lag_age);
        if most_bytes == 0 && most_age.is_none() {
            return Ok(false);
        }
        let horizon = most_age.map_or(i64::MIN, |age| shared.now().saturating_sub(micros(age)));
        let most_bytes = if most_bytes == 0 { u64::MAX } else { most_bytes };
        let mut books = locked(&shared.books);
        let behind = books.too_far_behind(most_bytes, horizon);
        if behind.is_empty() {
            return Ok(false);
        }
        if shared.options.when_full == WhenFull::DropName {
            drop(books);
            let names: Vec<String> = behind.into_iter().map(|name| name.0).collect();
            self.drop_names(shared, &names)?;
            return Ok(true);
        }
        let losses = behind.iter().flat_map(|(name, to)| books.jump(*to, Some(name))).collect();
        books.release = true;
        drop(books);
        tell(shared, losses);
        self.save(shared, false)?;
        Ok(true)
    }

    /// Names that nobody connected with for long go. True if one went.
    pub(super) fn expire(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let wall = shared.clock.wall();
        let books = locked(&shared.books);
        let expired = books.registry.names.values().filter(|name| {
            let due = name.seen.saturating_add(i64::from(name.expiry_s).saturating_mul(1_000_000));
            let mortal = name.kind == NameKind::Topic && name.expiry_s > 0;
            mortal && !books.connected.contains(&name.name) && due < wall
        });
        let expired: Vec<String> = expired.map(|name| name.name.clone()).collect();
        drop(books);
        self.drop_names(shared, &expired)?;
        Ok(!expired.is_empty())
    }
}

/// Everything up to here is done.
fn floor(shared: &Shared, books: &Books) -> u64 {
    let kept = books.registry.head.saturating_sub(1);
    if shared.options.append_all { kept } else { books.floor().max(kept) }
}

/// Events of what names lost, and word to their sessions.
fn tell(shared: &Shared, losses: Vec<Loss>) {
    for loss in losses {
        shared.witness.lost(&loss.name, loss.from, loss.to);
        let Loss { name, from, to, records, bytes } = loss;
        shared.witness.event(Event::Lost { name, from, to, records, bytes });
    }
}

impl Books {
    /// The last number of the newest sealed segment that ends at or before `floor`.
    fn last_sealed(&self, floor: u64) -> Option<u64> {
        self.segments.iter().take_while(|segment| segment.sealed && segment.last <= floor).last().map(|s| s.last)
    }

    fn oldest_sealed(&self) -> Option<&crate::store::scan::Segment> {
        self.segments.front().filter(|segment| segment.sealed)
    }

    /// Names that lag more than allowed, and where each has to jump to.
    fn too_far_behind(&self, most_bytes: u64, horizon: i64) -> Vec<(String, u64)> {
        let topics = self.registry.names.values().filter(|name| name.kind == NameKind::Topic);
        topics
            .filter_map(|name| Some((name.name.clone(), self.jump_target(name.cursor, most_bytes, horizon)?)))
            .collect()
    }

    /// The first place from which the lag is allowed; `None` if it is where the cursor is.
    fn jump_target(&self, cursor: u64, most_bytes: u64, horizon: i64) -> Option<u64> {
        let mut target = cursor;
        for segment in self.segments.iter().filter(|segment| segment.last > cursor) {
            let old = segment.records > 0 && segment.last_time < horizon;
            if !old && self.lag_bytes(target) <= most_bytes {
                break;
            }
            let places = segment.index.iter().map(|entry| entry.0.saturating_sub(1)).filter(|&place| place > target);
            let place = places.chain([segment.last]).find(|&place| !old && self.lag_bytes(place) <= most_bytes);
            target = place.unwrap_or(segment.last);
        }
        (target > cursor).then_some(target)
    }
}
