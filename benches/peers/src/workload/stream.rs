//! One way: numbered bodies on one side, their check and the clock on the other.
//!
//! The first eight bytes of a body are its sender (16 bits) and its number (48 bits).

use crate::usage;

const NUMBER_BITS: u32 = 48;

/// Numbered bodies of one size from one sender.
pub struct Bodies {
    body: Vec<u8>,
    sender: u64,
    next: u64,
    count: u64,
}

impl Bodies {
    pub fn new(size: usize, count: u64) -> Bodies {
        Bodies::of(0, size, count)
    }

    pub fn of(sender: u64, size: usize, count: u64) -> Bodies {
        Bodies { body: vec![b'x'; size], sender, next: 0, count }
    }

    /// The next body, written in place: every column copies it once into what it sends.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.next == self.count {
            return None;
        }
        if self.next == 0 {
            usage::begin();
        }
        write_number(&mut self.body, self.sender << NUMBER_BITS | self.next);
        self.next += 1;
        Some(&self.body)
    }
}

#[inline]
pub(super) fn write_number(body: &mut [u8], number: u64) {
    if let Some(head) = body.first_chunk_mut::<8>() {
        *head = number.to_le_bytes();
    }
}

/// Checks what arrives (size, number, order of each sender, count) and stops the clock that the first of [`Bodies`] started:
/// what a sender queues before anything arrives is work like any other.
pub struct Arrivals {
    size: usize,
    /// The next number of each sender.
    next: Vec<u64>,
    missing: u64,
    ended: u64,
}

impl Arrivals {
    /// All of what `senders` send, `count` in all.
    pub fn new(size: usize, senders: usize, count: u64) -> Arrivals {
        Arrivals { size, next: vec![0; senders], missing: count, ended: 0 }
    }

    #[inline]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// How many senders there are.
    pub fn senders(&self) -> usize {
        self.next.len()
    }

    /// Takes one message; the clock is read at the last only.
    #[inline]
    pub fn take(&mut self, body: &[u8]) {
        assert_eq!(body.len(), self.size, "a message has the wrong size");
        let head = body.first_chunk::<8>().expect("at least eight bytes");
        let number = u64::from_le_bytes(*head);
        let next = &mut self.next[(number >> NUMBER_BITS) as usize];
        assert_eq!(number & ((1 << NUMBER_BITS) - 1), *next, "message out of order");
        *next += 1;
        self.missing -= 1;
        if self.missing == 0 {
            self.ended = usage::now_nanos();
        }
    }

    /// When the last came, by the system's monotonic clock.
    pub fn ended(&self) -> u64 {
        assert_eq!(self.missing, 0, "messages are missing");
        self.ended
    }
}
