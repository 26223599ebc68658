//! The workloads every column runs, and what is counted while they run. Knows no library.
//!
//! Read `columns/` next: each file there is one implementation of [`Column`].

use std::time::Instant;

/// High-water mark of every queue in every column.
pub const HWM: usize = 1000;

/// Requests before the measured ones.
pub const WARM_UP: u64 = 1000;

/// One contestant. Each method is one side of a workload and runs in a process of its own.
pub trait Column {
    /// What was set, for the output.
    fn settings(&self) -> String;

    /// Binds `at`, tells `ready` the endpoint, receives until `arrivals` has all.
    fn receive(&self, at: &str, ready: Ready, arrivals: &mut Arrivals);

    /// Connects and sends all of `bodies`; returns when everything is with the operating system.
    fn send(&self, endpoint: &str, bodies: &mut Bodies);

    /// Binds `at`, tells `ready` the endpoint, answers `count` requests with their own bytes.
    fn reply(&self, at: &str, ready: Ready, count: u64);

    /// Connects and makes all of `rounds`, one after the other.
    fn request(&self, endpoint: &str, rounds: &mut Rounds);
}

/// Takes the bound endpoint to the parent process, once.
pub struct Ready;

impl Ready {
    pub fn at(self, endpoint: &str) {
        println!("{}", serde_json::json!({ "endpoint": endpoint }));
    }
}

/// Numbered bodies of one size: the number is in the first eight bytes.
pub struct Bodies {
    body: Vec<u8>,
    next: u64,
    count: u64,
}

impl Bodies {
    pub fn new(size: usize, count: u64) -> Bodies {
        Bodies { body: vec![b'x'; size], next: 0, count }
    }

    /// The next body, written in place: every column copies it once into what it sends.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.next == self.count {
            return None;
        }
        write_number(&mut self.body, self.next);
        self.next += 1;
        Some(&self.body)
    }
}

#[inline]
fn write_number(body: &mut [u8], number: u64) {
    if let Some(head) = body.first_chunk_mut::<8>() {
        *head = number.to_le_bytes();
    }
}

/// Checks what arrives (size, number, order, count) and holds the clock: first message to last.
pub struct Arrivals {
    size: usize,
    next: u64,
    count: u64,
    first: Option<Instant>,
    seconds: f64,
}

impl Arrivals {
    pub fn new(size: usize, count: u64) -> Arrivals {
        Arrivals { size, next: 0, count, first: None, seconds: 0.0 }
    }

    #[inline]
    pub fn missing(&self) -> u64 {
        self.count - self.next
    }

    /// Takes one message; the clock is read at the first and at the last only.
    #[inline]
    pub fn take(&mut self, body: &[u8]) {
        assert_eq!(body.len(), self.size, "message {} has the wrong size", self.next);
        if let Some(head) = body.first_chunk::<8>() {
            assert_eq!(u64::from_le_bytes(*head), self.next, "message out of order");
        }
        self.next += 1;
        match self.first {
            None => self.first = Some(Instant::now()),
            Some(first) if self.next == self.count => self.seconds = first.elapsed().as_secs_f64(),
            Some(_) => {}
        }
    }

    /// Messages a second.
    pub fn rate(&self) -> f64 {
        assert_eq!(self.next, self.count, "messages are missing");
        (self.count - 1) as f64 / self.seconds
    }
}

/// Numbered round trips, each timed.
pub struct Rounds {
    body: Vec<u8>,
    next: u64,
    count: u64,
    started: Instant,
    nanos: Vec<u64>,
}

impl Rounds {
    pub fn new(size: usize, count: u64) -> Rounds {
        let nanos = Vec::with_capacity(usize::try_from(count).expect("count fits"));
        Rounds { body: vec![b'x'; size], next: 0, count: count + WARM_UP, started: Instant::now(), nanos }
    }

    /// These rounds, to be put back later; meanwhile there are none.
    pub fn take(&mut self) -> Rounds {
        let nothing = Rounds { body: Vec::new(), next: 0, count: 0, started: self.started, nanos: Vec::new() };
        std::mem::replace(self, nothing)
    }

    /// Starts the next round: the body to send.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.next == self.count {
            return None;
        }
        write_number(&mut self.body, self.next);
        self.next += 1;
        self.started = Instant::now();
        Some(&self.body)
    }

    /// Ends the round with the reply.
    #[inline]
    pub fn done(&mut self, reply: &[u8]) {
        let nanos = self.started.elapsed().as_nanos() as u64;
        assert_eq!(reply, self.body, "the reply is not the request");
        if self.next > WARM_UP {
            self.nanos.push(nanos);
        }
    }

    pub fn count(&self) -> u64 {
        self.nanos.len() as u64
    }

    /// The times below which these shares of all rounds stayed, in nanoseconds.
    pub fn percentiles(&mut self, shares: &[f64]) -> Vec<u64> {
        self.nanos.sort_unstable();
        let last = self.nanos.len() - 1;
        shares.iter().map(|share| self.nanos[((share * last as f64).round() as usize).min(last)]).collect()
    }

    pub fn seconds(&self) -> f64 {
        self.nanos.iter().sum::<u64>() as f64 / 1e9
    }
}
