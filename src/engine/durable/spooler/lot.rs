//! Records on their way into one announcement: [`Lot`], and the memory that they are copied into: [`Arena`].

use bytes::{Bytes, BytesMut};

use crate::store::reader::Taken;
use crate::wire::command::durable::{Entry, MAX_ENTRIES};

/// One announcement covers about so many bytes.
pub(super) const LOT: usize = 128 * 1024;
/// Bodies from here on go to the socket as slices of the batch; smaller ones would pin it for little.
const SLICED: usize = 4 * 1024;
/// The same where all records go: a batch is pinned for all that is in it, and the copy costs more than the slice.
const SLICED_RUN: usize = 512;
/// Earlier buffers whose bytes may still be on their way to the socket.
const SPENT: usize = 3;

/// Where small bodies are copied into, one lot behind the other. What a socket has taken is used again: growing fresh
/// memory for every lot costs a copy more, and a page fault for every 4 KiB.
#[derive(Default)]
pub(super) struct Arena {
    current: BytesMut,
    spent: Vec<BytesMut>,
    /// What the last lots needed.
    hint: usize,
}

impl Arena {
    /// Room for about as much as the last lots needed.
    fn lend(&mut self) -> BytesMut {
        let room = self.hint;
        let current = std::mem::take(&mut self.current);
        if current.capacity() >= room {
            return current;
        }
        // One lot is not all that fits.
        let whole = 2 * room;
        let next = match self.spent.iter_mut().position(|spent| spent.try_reclaim(whole)) {
            Some(free) => self.spent.swap_remove(free),
            None => BytesMut::with_capacity(whole),
        };
        self.spent.truncate(SPENT - 1);
        self.spent.push(current);
        next
    }

    /// Takes back what a lot left over, of which it used so much.
    fn give_back(&mut self, rest: BytesMut, used: usize) {
        self.current = rest;
        self.hint = used.max(self.hint - self.hint / 4);
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Arena::default();
    }
}

/// Records on their way into one announcement.
#[derive(Default)]
pub(super) struct Lot {
    pub(super) again: bool,
    pub(super) entries: Vec<Entry>,
    chunks: Vec<Bytes>,
    small: BytesMut,
    copied: usize,
    pub(super) bytes: usize,
    /// Full from so many bytes on.
    pub(super) most: usize,
    /// Bodies from here on are not copied.
    sliced: usize,
}

impl Lot {
    /// `run`: every record is wanted.
    pub(super) fn new(run: bool, most: usize) -> Lot {
        Lot { most, sliced: if run { SLICED_RUN } else { SLICED }, ..Lot::default() }
    }

    pub(super) fn push(&mut self, arena: &mut Arena, record: &Taken, tries: u32) {
        if self.entries.capacity() == 0 {
            self.entries.reserve(MAX_ENTRIES);
        }
        let entry = Entry { sequence: record.sequence, tries: Some(tries), time: Some(record.time) };
        self.entries.push(entry);
        self.push_body(arena, &record.body);
    }

    pub(super) fn push_body(&mut self, arena: &mut Arena, body: &Bytes) {
        self.bytes += body.len();
        if body.len() >= self.sliced {
            if !self.small.is_empty() {
                self.chunks.push(self.small.split().freeze());
            }
            self.chunks.push(body.clone());
            return;
        }
        if self.copied == 0 {
            self.small = arena.lend();
        }
        self.copied += body.len();
        self.small.extend_from_slice(body);
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.bytes >= self.most
    }

    pub(super) fn finish(mut self, arena: &mut Arena, first: Option<Bytes>) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
        if self.copied > 0 {
            arena.give_back(self.small, self.copied);
        }
        match first {
            Some(first) => {
                self.chunks.insert(0, first);
                self.chunks
            }
            None => self.chunks,
        }
    }
}
