//! The batches written last, as they were written: readers who keep up never touch the disk.
//!
//! Whole batches in disk format, so that memory and disk share one parser. Bounded by bytes and by count. Absent: the
//! lock around it, visibility (only what is visible is put in here). Next: `reader`.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes that are kept.
const MOST_BYTES: usize = 32 << 20;
/// Batches that are kept: small ones cost more than their bytes.
const MOST_BATCHES: usize = 64 << 10;

/// Records as written, and the last number that they cover (numbers that nobody wanted included).
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    pub(crate) last: u64,
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
    batches: VecDeque<Written>,
    bytes: usize,
    most: usize,
    /// The position before the first batch.
    start: u64,
    /// The position after the last one.
    tail: u64,
    /// A buffer that nobody reads any more.
    spare: Option<BytesMut>,
}

impl Ring {
    /// An empty ring of a log whose last written number is `tail`.
    pub(crate) fn new(tail: u64) -> Ring {
        Ring { batches: VecDeque::new(), bytes: 0, most: MOST_BYTES, start: tail, tail, spare: None }
    }

    /// So many bytes only.
    pub(crate) fn limit(&mut self, most: usize) {
        self.most = most;
        self.evict();
    }

    /// Adds what was just written.
    pub(crate) fn push(&mut self, written: Written) {
        self.tail = written.last;
        self.bytes += written.bytes.len();
        self.batches.push_back(written);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.most || self.batches.len() > MOST_BATCHES {
            let Some(old) = self.batches.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(old.bytes.len());
            self.start = old.last;
            // The last slice of its buffer brings the whole buffer back.
            if let Ok(buffer) = old.bytes.try_into_mut() {
                self.spare = Some(buffer);
            }
        }
    }

    /// A used buffer to write into again.
    pub(crate) fn take_spare(&mut self) -> Option<BytesMut> {
        self.spare.take()
    }

    /// What comes after this position.
    pub(crate) fn after(&self, position: u64) -> Hit {
        if position >= self.tail {
            return Hit::Newest;
        }
        if position < self.start {
            return Hit::Miss;
        }
        let at = self.batches.partition_point(|batch| batch.last <= position);
        self.batches.get(at).map_or(Hit::Newest, |batch| Hit::Batch(batch.clone()))
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
        assert!(ring.take_spare().is_none());
        ring.push(written(80, 3));
        assert!(ring.take_spare().is_some());
    }
}
