//! There and back: one after the other, each timed ([`Rounds`]), or many under way ([`Flight`]).

use std::time::Instant;

use super::stream::write_number;

/// Rounds before the measured ones.
pub const WARM_UP: u64 = 1000;

/// Numbered round trips, one at a time, each timed.
pub struct Rounds {
    body: Vec<u8>,
    next: u64,
    count: u64,
    warm_up: u64,
    lane: u64,
    started: Instant,
    first: Option<Instant>,
    nanos: Vec<u64>,
    ends: Vec<Instant>,
}

impl Rounds {
    pub fn new(size: usize, count: u64) -> Rounds {
        Rounds::of(0, size, count, WARM_UP)
    }

    /// One of several that run at once.
    pub fn of(lane: u64, size: usize, count: u64, warm_up: u64) -> Rounds {
        let capacity = usize::try_from(count).expect("count fits");
        Rounds {
            body: vec![b'x'; size],
            next: 0,
            count: count + warm_up,
            warm_up,
            lane,
            started: Instant::now(),
            first: None,
            nanos: Vec::with_capacity(capacity),
            ends: Vec::with_capacity(capacity),
        }
    }

    /// Starts the next round: the body to send.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.next == self.count {
            return None;
        }
        write_number(&mut self.body, self.lane << 48 | self.next);
        self.next += 1;
        self.started = Instant::now();
        if self.next > self.warm_up && self.first.is_none() {
            self.first = Some(self.started);
        }
        Some(&self.body)
    }

    /// Ends the round with the reply.
    #[inline]
    pub fn done(&mut self, reply: &[u8]) {
        let now = Instant::now();
        assert!(reply == self.body, "the reply is not the request");
        if self.next > self.warm_up {
            self.nanos.push((now - self.started).as_nanos() as u64);
            self.ends.push(now);
        }
    }

    /// How many rounds there are in all, those that are not measured included: what the answering side must answer.
    pub fn total(&self) -> u64 {
        self.count
    }
}

/// What all lanes measured together.
pub struct Times {
    nanos: Vec<u64>,
    rate: f64,
}

impl Times {
    pub fn of(lanes: Vec<Rounds>) -> Times {
        let mut nanos: Vec<u64> = lanes.iter().flat_map(|lane| lane.nanos.iter().copied()).collect();
        nanos.sort_unstable();
        Times { nanos, rate: rate(&lanes) }
    }

    /// Round trips a second while all lanes were at it (one that begins late or ends early would blur it).
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The time below which this share of all rounds stayed, in nanoseconds.
    pub fn percentile(&self, share: f64) -> u64 {
        let last = self.nanos.len() - 1;
        self.nanos[((share * last as f64).round() as usize).min(last)]
    }
}

fn rate(lanes: &[Rounds]) -> f64 {
    let first = |lane: &Rounds| lane.first.expect("a round was made");
    let last = |lane: &Rounds| *lane.ends.last().expect("a round was made");
    let ends = || lanes.iter().flat_map(|lane| &lane.ends);
    let (from, to) = (lanes.iter().map(first).max(), lanes.iter().map(last).min());
    if let (Some(from), Some(to)) = (from, to)
        && to > from
    {
        let within = ends().filter(|end| **end >= from && **end <= to).count();
        return within as f64 / (to - from).as_secs_f64();
    }
    // Too few rounds: one lane was done before another began.
    let from = lanes.iter().map(first).min().expect("a lane");
    let to = ends().max().expect("a round was made");
    ends().count() as f64 / (*to - from).as_secs_f64()
}

/// Numbered round trips over one connection, up to `window` under way; the replies come in order.
pub struct Flight {
    body: Vec<u8>,
    expected: Vec<u8>,
    window: u64,
    sent: u64,
    back: u64,
    count: u64,
    first: Option<Instant>,
    seconds: f64,
}

impl Flight {
    pub fn new(size: usize, count: u64, window: u64) -> Flight {
        let body = vec![b'x'; size];
        Flight { expected: body.clone(), body, window, sent: 0, back: 0, count, first: None, seconds: 0.0 }
    }

    /// The next request, if there is one and fewer than the window are under way.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.sent == self.count || self.sent - self.back == self.window {
            return None;
        }
        write_number(&mut self.body, self.sent);
        self.sent += 1;
        if self.first.is_none() {
            self.first = Some(Instant::now());
        }
        Some(&self.body)
    }

    /// Takes a reply.
    #[inline]
    pub fn done(&mut self, reply: &[u8]) {
        write_number(&mut self.expected, self.back);
        assert!(reply == self.expected, "the reply is not that of the oldest request");
        self.back += 1;
        if self.back == self.count {
            self.seconds = self.first.map_or(0.0, |first| first.elapsed().as_secs_f64());
        }
    }

    /// Replies that are still to come, those of requests not yet made included.
    #[inline]
    pub fn missing(&self) -> u64 {
        self.count - self.back
    }

    /// Replies that can come now.
    #[inline]
    pub fn under_way(&self) -> u64 {
        self.sent - self.back
    }

    /// Round trips a second.
    pub fn rate(&self) -> f64 {
        assert_eq!(self.back, self.count, "replies are missing");
        self.count as f64 / self.seconds
    }
}
