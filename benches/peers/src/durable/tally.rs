//! What a consumer got: every number once, in order, or how it was not so.

use std::time::Duration;

use serde_json::json;

use crate::usage::Usage;

/// After so much silence the rest is taken for lost.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Nanoseconds of the clock that all processes of this machine share.
pub fn now() -> u64 {
    // SAFETY: clock_gettime fills the timespec it is given.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time), 0, "clock_gettime");
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Counts arrivals by their numbers; the clock is read at the first and the last only.
pub struct Tally {
    size: usize,
    count: u64,
    seen: Vec<u64>,
    next: u64,
    distinct: u64,
    doubled: u64,
    disordered: u64,
    first: u64,
    last: u64,
    began: Usage,
    /// What is left unacknowledged in the end, where the consumer's side can tell.
    pub unacknowledged: Option<u64>,
}

impl Tally {
    pub fn new(size: usize, count: u64) -> Tally {
        let words = usize::try_from(count.div_ceil(64)).expect("count fits");
        Tally {
            size,
            count,
            seen: vec![0; words],
            next: 0,
            distinct: 0,
            doubled: 0,
            disordered: 0,
            first: 0,
            last: 0,
            began: Usage::now(),
            unacknowledged: None,
        }
    }

    pub fn missing(&self) -> u64 {
        self.count - self.distinct
    }

    #[inline]
    pub fn take(&mut self, body: &[u8]) {
        assert_eq!(body.len(), self.size, "message {} has the wrong size", self.next);
        let number = u64::from_le_bytes(*body.first_chunk::<8>().expect("at least eight bytes"));
        assert!(number < self.count, "a message that nobody sent");
        if self.distinct == 0 {
            self.first = now();
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen[word] & bit != 0 {
            self.doubled += 1;
            return;
        }
        self.seen[word] |= bit;
        self.distinct += 1;
        self.disordered += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
        if self.missing() == 0 {
            self.last = now();
        }
    }

    /// Whatever arrived until now is all there is.
    pub fn give_up(&mut self) {
        self.last = now() - PATIENCE.as_nanos() as u64;
    }

    /// Tells the parent; the caller then keeps its connection until it is told to go.
    pub fn report(&self) {
        let cpu = Usage::now().since(self.began).cpu_us;
        let line = json!({ "first": self.first, "last": self.last, "distinct": self.distinct, "doubled": self.doubled,
            "disordered": self.disordered, "unacknowledged": self.unacknowledged, "cpu_us": cpu });
        println!("{line}");
    }
}
