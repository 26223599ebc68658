//! The batches written last, as they were written: readers who keep up never touch the disk.
//!
//! Whole batches in disk format, so that memory and disk share one parser. Bounded by bytes and by count; and what all
//! its readers have passed goes early, so that the same few buffers are written, read and sent while they are in the
//! processor's cache. When a reader who was quick enough until now falls behind, the ring is crowded: whoever appends
//! may give it a moment. Absent: the lock around it, visibility (only what is visible is put in here). Next: `reader`.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::store::record;

/// Bytes that are kept.
const MOST_BYTES: usize = 32 << 20;
/// Bytes that are kept when every reader has passed them: they may still be on their way to a socket.
const PASSED_BYTES: usize = 1 << 20;
/// The same while another reads from the disk: where it comes back to memory.
const NEAR_BYTES: usize = 8 << 20;
/// A ring with so many bytes that a reader has yet to pass is crowded, until there are few again.
const MANY_BYTES: usize = 2 << 20;
const FEW_BYTES: usize = 3 << 19;
/// Used buffers that wait for another use: as many as an open batch can have.
const MOST_SPARES: usize = 5;
/// Batches that are kept: small ones cost more than their bytes.
const MOST_BATCHES: usize = 64 << 10;

/// Records as written, and the last number that they cover (numbers that nobody wanted included).
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    pub(crate) last: u64,
}

/// A batch, and how many bytes were put in before it.
#[derive(Debug)]
struct Kept {
    written: Written,
    at: u64,
}

/// What the ring has for a position.
#[derive(Debug)]
pub(crate) enum Hit {
    /// Records, some of the first of them perhaps at or before the position.
    Batch(Written),
    /// Nothing was written since.
    Newest,
    /// It is too far back.
    Miss,
}

/// The last batches.
#[derive(Debug)]
pub(crate) struct Ring {
    batches: VecDeque<Kept>,
    bytes: usize,
    /// All bytes that were ever put in.
    pushed: u64,
    most: usize,
    /// The position before the first batch.
    start: u64,
    /// The position after the last one.
    tail: u64,
    /// Where those who read here are.
    readers: BTreeMap<u64, u64>,
    crowded: bool,
    /// What went out and may still be on its way to a socket: the last slice of each buffer.
    leaving: VecDeque<Bytes>,
    /// Buffers that nobody reads any more.
    spares: Vec<BytesMut>,
}

impl Ring {
    /// An empty ring of a log whose last written number is `tail`.
    pub(crate) fn new(tail: u64) -> Ring {
        Ring {
            batches: VecDeque::new(),
            bytes: 0,
            pushed: 0,
            most: MOST_BYTES,
            start: tail,
            tail,
            readers: BTreeMap::new(),
            crowded: false,
            leaving: VecDeque::new(),
            spares: Vec::new(),
        }
    }

    /// So many bytes only.
    pub(crate) fn limit(&mut self, most: usize) {
        self.most = most;
        self.evict();
    }

    /// Adds what was just written.
    pub(crate) fn push(&mut self, written: Written) {
        self.tail = written.last;
        let (len, at) = (written.bytes.len(), self.pushed);
        self.bytes += len;
        self.pushed += len as u64;
        self.batches.push_back(Kept { written, at });
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.most || self.batches.len() > MOST_BATCHES {
            self.evict_one();
        }
        if self.readers.is_empty() {
            self.crowded = false;
            return;
        }
        // Those who are further back read from the disk.
        let here = self.readers.values().copied().filter(|&reader| reader >= self.start);
        let (passed, count) = here.fold((self.tail, 0), |(first, count), reader| (first.min(reader), count + 1));
        let keep = if count == self.readers.len() { PASSED_BYTES } else { NEAR_BYTES };
        while self.bytes > keep && self.batches.front().is_some_and(|batch| batch.written.last <= passed) {
            self.evict_one();
        }
        let most = if self.crowded { FEW_BYTES } else { MANY_BYTES };
        self.crowded = count > 0 && self.bytes > most && self.unread(passed) > most;
    }

    /// Bytes behind this position.
    fn unread(&self, position: u64) -> usize {
        let read = self.batches.partition_point(|batch| batch.written.last <= position);
        self.batches.get(read).map_or(0, |first| (self.pushed - first.at) as usize)
    }

    /// Whether a reader who reads here is about to fall behind.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded
    }

    fn evict_one(&mut self) {
        let Some(Kept { written: old, .. }) = self.batches.pop_front() else { return };
        self.bytes = self.bytes.saturating_sub(old.bytes.len());
        self.start = old.last;
        let follows = |before: &Bytes| {
            let distance = (old.bytes.as_ptr() as usize).checked_sub(before.as_ptr_range().end as usize);
            distance.is_some_and(|distance| distance == 0 || distance == record::MARK)
        };
        if self.leaving.back().is_some_and(follows) || self.leaving.len() == MOST_SPARES {
            self.leaving.pop_back();
        }
        self.leaving.push_back(old.bytes);
        self.reclaim();
    }

    /// The last slice of its buffer brings the whole buffer back.
    fn reclaim(&mut self) {
        while self.spares.len() < MOST_SPARES
            && let Some(slice) = self.leaving.pop_front()
        {
            match slice.try_into_mut() {
                Ok(buffer) => self.spares.push(buffer),
                Err(slice) => return self.leaving.push_front(slice),
            }
        }
    }

    /// Used buffers to write into again.
    pub(crate) fn take_spares(&mut self) -> Vec<BytesMut> {
        self.reclaim();
        std::mem::take(&mut self.spares)
    }

    /// A reader asks for what comes after `position`.
    pub(crate) fn note_reader(&mut self, reader: u64, position: u64) {
        self.readers.insert(reader, position);
        if self.crowded {
            self.evict();
        }
    }

    /// It reads no more.
    pub(crate) fn forget_reader(&mut self, reader: u64) {
        self.readers.remove(&reader);
        self.evict();
    }

    /// What comes after this position.
    pub(crate) fn after(&self, position: u64) -> Hit {
        if position >= self.tail {
            return Hit::Newest;
        }
        if position < self.start {
            return Hit::Miss;
        }
        let at = self.batches.partition_point(|batch| batch.written.last <= position);
        self.batches.get(at).map_or(Hit::Newest, |batch| Hit::Batch(batch.written.clone()))
    }

    /// The first number that it covers.
    pub(crate) fn oldest(&self) -> u64 {
        self.start + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(len: usize, last: u64) -> Written {
        Written { bytes: Bytes::from(vec![0; len]), last }
    }

    #[test]
    fn a_position_finds_the_batch_after_it_or_a_miss() {
        let mut ring = Ring::new(10);
        assert!(matches!(ring.after(9), Hit::Miss));
        assert!(matches!(ring.after(10), Hit::Newest));
        ring.push(written(100, 15));
        ring.push(written(100, 20));
        for (position, last) in [(10, 15), (14, 15), (15, 20), (19, 20)] {
            assert!(matches!(ring.after(position), Hit::Batch(batch) if batch.last == last), "{position}");
        }
        assert!(matches!(ring.after(20), Hit::Newest));
        ring.limit(150);
        assert!(matches!(ring.after(14), Hit::Miss));
        assert!(matches!(ring.after(15), Hit::Batch(_)));
        assert_eq!(ring.oldest(), 16);
    }

    #[test]
    fn an_evicted_buffer_comes_back_unless_somebody_reads_it() {
        let mut ring = Ring::new(0);
        ring.limit(100);
        let held = written(80, 1);
        ring.push(held.clone());
        ring.push(written(80, 2));
        assert!(ring.take_spares().is_empty());
        ring.push(written(80, 3));
        assert!(ring.take_spares().is_empty());
        drop(held);
        assert_eq!(ring.take_spares().len(), 2);
    }

    #[test]
    fn batches_of_one_buffer_bring_it_back_together() {
        let mut ring = Ring::new(0);
        ring.limit(100);
        let mut buffer = BytesMut::with_capacity(1000);
        for last in 1..=10 {
            buffer.resize(100, 0);
            ring.push(Written { bytes: buffer.split().freeze(), last });
        }
        drop(buffer);
        assert!(ring.take_spares().is_empty(), "the last batch is still here");
        ring.push(written(100, 11));
        let spares = ring.take_spares();
        assert_eq!(spares.len(), 1);
        let mut spare = spares.into_iter().next().unwrap();
        spare.clear();
        assert!(spare.try_reclaim(1000), "all of it");
    }

    #[test]
    fn what_all_readers_have_passed_goes_early() {
        const PART: usize = PASSED_BYTES / 4;
        let mut ring = Ring::new(0);
        for last in 1..=8 {
            ring.push(written(PART, last));
        }
        assert_eq!(ring.oldest(), 1, "nobody reads");
        ring.note_reader(1, 2);
        ring.note_reader(2, 7);
        ring.push(written(PART, 9));
        assert_eq!(ring.oldest(), 3, "one was about to read the third");
        ring.forget_reader(1);
        ring.push(written(PART, 10));
        assert_eq!(ring.oldest(), 7, "four are kept");
        ring.note_reader(1, 2);
        ring.push(written(PART, 11));
        assert_eq!(ring.oldest(), 7, "whoever reads from the disk is to find more when it comes back");
        for last in 12..=11 + (NEAR_BYTES / PART) as u64 {
            ring.push(written(PART, last));
        }
        assert_eq!(ring.oldest(), 8, "but holds nothing up");
    }

    #[test]
    fn a_ring_is_crowded_while_a_reader_of_it_is_far_behind() {
        const PART: usize = MANY_BYTES / 4;
        let mut ring = Ring::new(0);
        let mut last = 0;
        let mut push = |ring: &mut Ring, count: usize| {
            for _ in 0..count {
                last += 1;
                ring.push(written(PART, last));
            }
            last
        };
        push(&mut ring, 8);
        assert!(!ring.is_crowded(), "nobody reads");
        let tail = push(&mut ring, 1);
        ring.note_reader(1, tail);
        push(&mut ring, 4);
        assert!(!ring.is_crowded());
        push(&mut ring, 1);
        assert!(ring.is_crowded());
        ring.note_reader(1, tail + 1);
        assert!(ring.is_crowded(), "not few enough");
        ring.note_reader(1, tail + 3);
        assert!(!ring.is_crowded());
        push(&mut ring, 5);
        assert!(ring.is_crowded());
        push(&mut ring, MOST_BYTES / PART);
        assert!(!ring.is_crowded(), "it reads from the disk now");
        ring.note_reader(1, tail + 9 + MOST_BYTES as u64 / PART as u64);
        push(&mut ring, 5);
        assert!(ring.is_crowded());
        ring.forget_reader(1);
        assert!(!ring.is_crowded());
    }
}
