//! One to many: what a publisher sends, and what each subscriber must get of it.
//!
//! A message is one frame: eight bytes of topic, eight of number, the rest filled up. First come probes, until the parent
//! says that every subscriber has seen one (so all subscriptions are in place, whatever the library); then the numbered
//! messages; then end marks until all is over, since the one that is lost must not keep a subscriber waiting.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::usage;

const CONTROL: &[u8; 8] = b"control.";
const PROBE: u64 = u64::MAX;
const END: u64 = u64::MAX - 1;

fn topic(number: u64) -> [u8; 8] {
    let text = format!("t{number:06}.");
    *text.as_bytes().first_chunk().expect("eight bytes")
}

/// What one publisher sends.
pub struct Publications {
    body: Vec<u8>,
    topics: Vec<[u8; 8]>,
    next: u64,
    count: u64,
    /// Lines that came from the parent; its end counts as all there can be.
    lines: Arc<AtomicU64>,
    subscribers: usize,
}

impl Publications {
    /// `count` messages that go through `topics` topics in turn. Listens to the parent from now on.
    pub fn new(size: usize, count: u64, topics: u64, subscribers: usize) -> Publications {
        let lines = Arc::new(AtomicU64::new(0));
        let heard = lines.clone();
        std::thread::spawn(move || {
            for _ in std::io::stdin().lock().lines() {
                heard.fetch_add(1, Ordering::Release);
            }
            heard.store(u64::MAX, Ordering::Release);
        });
        let topics = (0..topics.max(1)).map(topic).collect();
        Publications { body: vec![b'x'; size], topics, next: 0, count, lines, subscribers }
    }

    /// How many subscribers will come.
    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// How many topics there are.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// A probe; none any more when all subscribers have seen one.
    pub fn probe(&mut self) -> Option<&[u8]> {
        if self.lines.load(Ordering::Acquire) > 0 {
            usage::mark();
            return None;
        }
        Some(self.fill(*CONTROL, PROBE))
    }

    /// The next message.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.next == self.count {
            return None;
        }
        if self.next == 0 {
            usage::begin();
        }
        let topic = self.topics[(self.next % self.topics.len() as u64) as usize];
        let number = self.next;
        self.next += 1;
        Some(self.fill(topic, number))
    }

    /// An end mark; none any more when all subscribers are done.
    pub fn end(&mut self) -> Option<&[u8]> {
        if self.lines.load(Ordering::Acquire) == u64::MAX {
            return None;
        }
        Some(self.fill(*CONTROL, END))
    }

    #[inline]
    fn fill(&mut self, topic: [u8; 8], number: u64) -> &[u8] {
        self.body[..8].copy_from_slice(&topic);
        self.body[8..16].copy_from_slice(&number.to_le_bytes());
        &self.body
    }
}

/// What one subscriber subscribes to, and its check of what comes.
pub struct Subscription {
    size: usize,
    prefixes: Vec<Vec<u8>>,
    expected: u64,
    last_number: u64,
    taken: u64,
    next: u64,
    seen_probe: bool,
    /// Subscribers that have not seen a probe yet.
    unready: Arc<AtomicUsize>,
    last: Option<u64>,
}

impl Subscription {
    /// All subscribers of one process. With one topic each is subscribed to everything; with more, to its share: topic
    /// number `t` belongs to subscriber `t % subscribers`.
    pub fn all(subscribers: usize, size: usize, count: u64, topics: u64) -> Vec<Subscription> {
        let unready = Arc::new(AtomicUsize::new(subscribers));
        let one = |index: usize| {
            let own = |topic: u64| topic % subscribers as u64 == index as u64;
            let (prefixes, expected) = if topics <= 1 {
                (vec![Vec::new()], count)
            } else {
                let share = (0..topics).filter(|number| own(*number)).map(|number| topic(number).to_vec());
                let prefixes = share.chain([CONTROL.to_vec()]).collect();
                (prefixes, (0..count).filter(|number| own(number % topics)).count() as u64)
            };
            Subscription {
                size,
                prefixes,
                expected,
                last_number: (0..count).rev().find(|number| topics <= 1 || own(number % topics)).unwrap_or(0),
                taken: 0,
                next: 0,
                seen_probe: false,
                unready: unready.clone(),
                last: None,
            }
        };
        (0..subscribers).map(one).collect()
    }

    /// What to subscribe to, in this order.
    pub fn prefixes(&self) -> &[Vec<u8>] {
        &self.prefixes
    }

    /// Takes one message; true when it was the last.
    #[inline]
    pub fn take(&mut self, body: &[u8]) -> bool {
        assert_eq!(body.len(), self.size, "a message has the wrong size");
        let number = u64::from_le_bytes(*body[8..].first_chunk::<8>().expect("at least 16 bytes"));
        if number >= END {
            return self.control(number);
        }
        assert!(number >= self.next, "message out of order or twice");
        self.next = number + 1;
        self.taken += 1;
        if number == self.last_number {
            self.last = Some(usage::now_nanos());
        }
        false
    }

    #[cold]
    fn control(&mut self, number: u64) -> bool {
        if number == PROBE && !self.seen_probe {
            self.seen_probe = true;
            if self.unready.fetch_sub(1, Ordering::AcqRel) == 1 {
                usage::mark();
                println!("{}", serde_json::json!({ "subscribed": true }));
            }
        }
        if number == END && self.last.is_none() {
            self.last = Some(usage::now_nanos());
        }
        number == END
    }
}

/// What all subscribers got together.
pub struct Deliveries {
    pub taken: u64,
    pub lost: u64,
    /// When the last came anywhere, by the system's monotonic clock.
    pub ended: u64,
}

impl Deliveries {
    pub fn of(all: &[Subscription]) -> Deliveries {
        let taken = all.iter().map(|one| one.taken).sum();
        let expected: u64 = all.iter().map(|one| one.expected).sum();
        let ended = all.iter().filter_map(|one| one.last).max().expect("the end came");
        Deliveries { taken, lost: expected - taken, ended }
    }
}
