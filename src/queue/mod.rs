//! Where messages wait, and only here: limits, drop rules, counters, and who is woken.
//!
//! `outbox` is one peer's encoded queue, `outbound` the sending side of a socket (all outboxes under one
//! short lock, the waiters, the rotation), `fanout` the shared batches of a publisher, `inbox` the
//! receiving side, `reader` its private cursors. May use the vocabulary, `wire::frame` (encode, cut) and
//! wakers. Absent on purpose: IO, timers, tasks, and any idea of what a pattern wants. Next: `engine`.

pub(crate) mod admission;
pub(crate) mod batch;
pub(crate) mod fanout;
pub(crate) mod inbox;
pub(crate) mod lease;
pub(crate) mod outbound;
pub(crate) mod outbox;
pub(crate) mod peers;
pub(crate) mod reader;
pub(crate) mod waiters;

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};

/// Names one peer of one socket. A key outlives its peer harmlessly: the generation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The writing end of a connection, as the sending side needs it. Never blocks; may be called from any thread.
pub(crate) trait Link: Send + Sync {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Where a receiver returns the room that it made (in-process peers only). Called without any lock held.
pub(crate) trait Credit: Send + Sync {
    /// `from` is the lane and whose it is: that of another joint says nothing about this one.
    fn credit(&self, key: PeerKey, from: (&inbox::Inbox, PeerKey), messages: usize, bytes: usize);
}

/// Values by [`PeerKey`]: freed places are used again under a new generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> PeerKey {
        let index = self.free.pop().unwrap_or_else(|| {
            // Most sockets have one peer: no room for four.
            let first = usize::from(self.slots.is_empty());
            self.slots.reserve_exact(first);
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(value);
        PeerKey { index, generation: slot.0 }
    }

    pub(crate) fn remove(&mut self, key: PeerKey) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?;
        let value = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, key: PeerKey) -> Option<&T> {
        self.slots.get(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut T> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerKey, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, value))| {
            Some((PeerKey { index: index as u32, generation: *generation }, value.as_ref()?))
        })
    }

    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.iter().map(|(key, _)| key).collect()
    }
}
