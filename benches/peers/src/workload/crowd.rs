//! Many connections: who has called in, who calls in, and visitors that come and go.

use std::time::{Duration, Instant};

use crate::usage;

/// Who is to call in, and who has.
pub struct Roll {
    here: Vec<bool>,
    missing: usize,
    done_at: u64,
}

impl Roll {
    pub fn new(count: usize) -> Roll {
        Roll { here: vec![false; count], missing: count, done_at: 0 }
    }

    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Takes one message; who called in before counts once.
    pub fn take(&mut self, body: &[u8]) {
        let index = u64::from_le_bytes(*body.first_chunk::<8>().expect("eight bytes")) as usize;
        let here = self.here.get_mut(index).expect("a known caller");
        if !std::mem::replace(here, true) {
            self.missing -= 1;
        }
        if self.missing == 0 && self.done_at == 0 {
            self.done_at = usage::now_nanos();
        }
    }

    /// Tells the parent when all were there, on the clock that all processes share.
    pub fn done(&self) {
        println!("{}", serde_json::json!({ "all_here": self.done_at }));
    }
}

/// Those who call in from one process.
#[derive(Clone)]
pub struct Crowd {
    first: usize,
    count: usize,
    size: usize,
    every: Option<Duration>,
}

impl Crowd {
    pub fn new(first: usize, count: usize, size: usize, every: Option<Duration>) -> Crowd {
        Crowd { first, count, size, every }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// What peer `index` (from 0) sends.
    pub fn body(&self, index: usize) -> Vec<u8> {
        let mut body = vec![b'x'; self.size];
        body[..8].copy_from_slice(&((self.first + index) as u64).to_le_bytes());
        body
    }

    /// How often it sends it; none: once.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }
}

/// Connections to be made, one request on each.
pub struct Visits {
    body: Vec<u8>,
    at_once: usize,
    next: u64,
    back: u64,
    count: u64,
    first: Option<Instant>,
    seconds: f64,
}

impl Visits {
    pub fn new(size: usize, count: u64, at_once: usize) -> Visits {
        Visits { body: vec![b'x'; size], at_once, next: 0, back: 0, count, first: None, seconds: 0.0 }
    }

    /// How many may be under way at a time.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// The request of the next visit.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        if self.next == self.count {
            return None;
        }
        super::stream::write_number(&mut self.body, self.next);
        self.next += 1;
        self.first.get_or_insert_with(Instant::now);
        Some(self.body.clone())
    }

    /// Ends a visit: its request and the reply that came.
    pub fn done(&mut self, request: &[u8], reply: &[u8]) {
        assert!(request == reply, "the reply is not the request");
        self.back += 1;
        if self.back == self.count {
            self.seconds = self.first.map_or(0.0, |first| first.elapsed().as_secs_f64());
        }
    }

    /// Connections a second.
    pub fn rate(&self) -> f64 {
        assert_eq!(self.back, self.count, "visits are missing");
        self.count as f64 / self.seconds
    }
}
