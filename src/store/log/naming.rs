//! The names of a log: registry and interest, changed together, and the way to the disk.
//!
//! A change is in memory at once and marks the registry; it is saved within a second, or when asked. Absent: who may
//! have a name, what a holder is told. Next: `waits`.

use std::collections::BTreeMap;
use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::books::Books;
use super::front::Front;
use super::shared::{Shared, locked};
use super::stats::Counters;
use crate::store::interest::Interest;
use crate::store::names::{NameKind, NameRecord, Registry};
use crate::store::prefixes;
use crate::store::scan::Segment;

impl Shared {
    pub(super) fn change_interest(&self, change: impl FnOnce(&mut Interest)) -> u64 {
        let mut front = locked(&self.front);
        change(&mut front.interest);
        front.next
    }

    pub(super) fn registry<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        let mut books = locked(&self.books);
        let result = f(&mut books.registry);
        let was_dirty = std::mem::replace(&mut books.dirty, true);
        books.release = true;
        drop(books);
        if !was_dirty {
            self.nudge();
        }
        result
    }

    pub(super) fn declare(&self, name: &str, prefixes: &[&[u8]]) -> bool {
        let now = self.clock.wall();
        let mut front = locked(&self.front);
        let from = front.next;
        let mut books = locked(&self.books);
        let start = if books.names_lost { books.oldest().saturating_sub(1) } else { front.newest() };
        let expiry = u32::try_from(self.options.name_expiry.as_secs()).unwrap_or(u32::MAX);
        let new = !books.registry.names.contains_key(name);
        let record = books.registry.names.entry(name.to_owned()).or_insert_with(|| NameRecord {
            name: name.to_owned(),
            kind: NameKind::Topic,
            created: now,
            expiry_s: expiry,
            cursor: start,
            ..NameRecord::default()
        });
        let from = if new { start + 1 } else { from };
        record.declared = true;
        record.seen = now;
        let old: BTreeMap<Vec<u8>, u64> = std::mem::take(&mut record.filters).into_iter().collect();
        record.filters = prefixes::replace(&old, prefixes.iter().copied(), from).into_iter().collect();
        record.filters.iter().for_each(|filter| front.interest.add(&filter.0));
        old.keys().for_each(|prefix| front.interest.remove(prefix));
        books.dirty = true;
        new
    }

    pub(super) fn drop_name(&self, name: &str) -> bool {
        let mut front = locked(&self.front);
        let mut books = locked(&self.books);
        let gone = self.remove_name(&mut front, &mut books, name);
        drop(books);
        front.nudged |= gone;
        self.wake_writer(front);
        gone
    }

    /// Out of registry and interest.
    pub(crate) fn remove_name(&self, front: &mut Front, books: &mut Books, name: &str) -> bool {
        let Some(gone) = books.registry.names.remove(name) else { return false };
        gone.filters.iter().for_each(|filter| front.interest.remove(&filter.0));
        books.connected.remove(name);
        (books.dirty, books.release) = (true, true);
        true
    }

    pub(super) fn set_connected(&self, name: &str, connected: bool) {
        let now = self.clock.wall();
        let mut books = locked(&self.books);
        if connected {
            books.connected.insert(name.to_owned());
        } else {
            books.connected.remove(name);
        }
        let Some(record) = books.registry.names.get_mut(name) else { return };
        record.seen = now;
        self.mark_dirty(books);
    }

    pub(super) fn advance(&self, name: &str, cursor: u64, done: &[(u64, u64)]) {
        let mut books = locked(&self.books);
        let Books { registry, segments, .. } = &mut *books;
        let Some(record) = registry.names.get_mut(name) else { return };
        // The first segment that it had not done: one before may be on its way out at this moment.
        let at = segments.partition_point(|segment| segment.last <= record.cursor);
        // The newest goes only where it takes more room than a segment should.
        let goes = |segment: &Segment| segment.sealed || segment.size > self.segment_size;
        let frees = segments.get(at).is_some_and(|segment| goes(segment) && cursor >= segment.last)
            || self.options.max_messages > 0;
        if cursor >= record.cursor {
            record.cursor = cursor;
            record.done.clear();
            record.done.extend_from_slice(done);
        }
        if frees {
            books.release = true;
            books.dirty = true;
            drop(books);
            return self.nudge();
        }
        self.mark_dirty(books);
    }

    fn mark_dirty(&self, mut books: MutexGuard<'_, Books>) {
        let was = std::mem::replace(&mut books.dirty, true);
        drop(books);
        if !was {
            self.nudge();
        }
    }

    /// Saves the registry, synced.
    pub(crate) fn save(&self, both: bool) -> io::Result<()> {
        self.save_with(both, |_| ())
    }

    /// The same after a last change. Savers come one after the other, each with what is newest.
    pub(crate) fn save_with(&self, both: bool, change: impl FnOnce(&mut Registry)) -> io::Result<()> {
        // What a cursor passed because it was buried is safe before that cursor is.
        let mut slots = locked(&self.slots);
        let mut books = locked(&self.books);
        change(&mut books.registry);
        if !books.registry.clean {
            books.registry.last = self.safe.load(Ordering::Acquire);
        }
        let registry = books.registry.clone();
        books.dirty = false;
        drop(books);
        let saved = self.flush_dead().and_then(|()| {
            Counters::add(&self.counters.saves, 1);
            if both { slots.save_both(&registry) } else { slots.save(&registry) }
        });
        if saved.is_err() {
            locked(&self.books).dirty = true;
        }
        saved
    }
}
