//! Both sides joined by links that break at any byte: whatever was accepted is delivered and acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::holder::{Memory, Session, Tag};
use super::queue::{HolderKey, Kind, Next, Queue, Window};
use super::ranges::Ranges;
use crate::message::{Frame, Message, SpoolId};
use crate::options::Limits;
use crate::wire::Version;
use crate::wire::command::Command;
use crate::wire::command::durable::{self, Deliveries, Durable, Entry, MAX_ENTRIES, Nack, Start, Started};
use crate::wire::decoder::{Decoder, Item};
use crate::wire::frame::{encode_message, take_message};

const SPOOL: SpoolId = SpoolId([7; 16]);

/// What one run is about.
#[derive(Debug, Clone)]
struct Setup {
    kind: Kind,
    holders: usize,
    window: Window,
    max_tries: u32,
}

#[derive(Debug, Clone)]
struct Steps {
    window: (u8, u16),
    max_tries: u8,
    steps: Vec<(u8, u8, u16)>,
}

impl Arbitrary for Steps {
    fn arbitrary(g: &mut Gen) -> Steps {
        let steps = (0..usize::arbitrary(g) % 400).map(|_| Arbitrary::arbitrary(g)).collect();
        Steps { window: Arbitrary::arbitrary(g), max_tries: u8::arbitrary(g) % 4, steps }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Steps>> {
        let this = self.clone();
        Box::new(self.steps.shrink().map(move |steps| Steps { steps, ..this.clone() }))
    }
}

impl Steps {
    fn setup(&self, kind: Kind, holders: usize) -> Setup {
        let window = Window { messages: u32::from(self.window.0 % 9), bytes: u32::from(self.window.1 % 400) };
        Setup { kind, holders, window, max_tries: u32::from(self.max_tries) }
    }
}

/// A stream of bytes in one direction, and what its reader has.
struct Pipe {
    flying: BytesMut,
    arrived: BytesMut,
    decoder: Decoder,
}

impl Pipe {
    fn new() -> Pipe {
        let mut decoder = Decoder::new(&Limits::default(), Version::V3_1);
        decoder.expect_durable();
        Pipe { flying: BytesMut::new(), arrived: BytesMut::new(), decoder }
    }

    fn advance(&mut self, bytes: usize) {
        let part = self.flying.split_to(bytes.min(self.flying.len()));
        self.arrived.unsplit(part);
    }

    fn next(&mut self) -> Option<Item> {
        self.decoder.next(&mut self.arrived, 1000, usize::MAX).expect("our own bytes")
    }
}

/// A connection, as the spooler sees it.
struct Serving {
    key: HolderKey,
    prev: u64,
}

struct Link {
    to_spooler: Pipe,
    to_holder: Pipe,
    serving: Option<Serving>,
    /// The connection before this one, where the spooler has not learned of its end.
    stale: Option<HolderKey>,
    session: Session,
}

/// A holder's process.
#[derive(Default)]
struct Holder {
    memory: Memory,
    inbox: VecDeque<Tag>,
    in_hand: Vec<u64>,
    /// Let go of without a word, and not come again since: done with all that come later.
    released: BTreeSet<u64>,
    /// May be handed out once more: rejected, dropped or forgotten.
    excused: BTreeSet<u64>,
    handed: BTreeSet<u64>,
    finished: BTreeSet<u64>,
}

struct World {
    setup: Setup,
    now: Instant,
    /// Number and whether it is wanted.
    log: BTreeMap<u64, bool>,
    newest: u64,
    queue: Queue,
    stored: (u64, Vec<(u64, u64)>),
    buried: BTreeSet<u64>,
    links: Vec<Option<Link>>,
    holders: Vec<Holder>,
}

impl World {
    fn new(setup: Setup) -> World {
        World {
            now: Instant::now(),
            log: BTreeMap::new(),
            newest: 0,
            queue: Queue::new(setup.kind, 0, Ranges::new(), setup.max_tries),
            stored: (0, Vec::new()),
            buried: BTreeSet::new(),
            links: (0..setup.holders).map(|_| None).collect(),
            holders: (0..setup.holders).map(|_| Holder::default()).collect(),
            setup,
        }
    }

    fn is_topic(&self) -> bool {
        self.setup.kind == Kind::Topic
    }

    fn append(&mut self, step: u16) {
        // Some numbers are missing in the log, some records are not wanted.
        self.newest += 1 + u64::from(step.is_multiple_of(7)) * u64::from(step % 5);
        self.log.insert(self.newest, !self.is_topic() || !step.is_multiple_of(3));
    }

    fn connect(&mut self, at: usize) {
        // The spooler may learn of the old connection's end from the new one only.
        let old = self.links[at].take();
        let stale = old.and_then(|link| link.serving.map(|serving| serving.key).or(link.stale));
        let window = self.setup.window;
        let mut link = Link {
            to_spooler: Pipe::new(),
            to_holder: Pipe::new(),
            serving: None,
            stale,
            session: Session::new(self.is_topic(), window.messages),
        };
        let start = Start {
            window: window.messages,
            window_bytes: window.bytes,
            spool: SPOOL,
            done: self.holders[at].memory.done(),
            ..Start::default()
        };
        durable::encode(&mut link.to_spooler.flying, &Durable::Start(start));
        self.links[at] = Some(link);
    }

    fn disconnect(&mut self, at: usize) {
        if let Some(link) = self.links[at].take() {
            link.serving.map(|serving| serving.key).into_iter().chain(link.stale).for_each(|key| self.queue.leave(key));
        }
    }

    /// The application is gone, with what it held in memory; or it kept its token.
    fn crash(&mut self, at: usize, token: bool) {
        self.disconnect(at);
        let holder = &mut self.holders[at];
        let memory = &holder.memory;
        holder.excused.extend(holder.handed.iter().filter(|&&number| !token || !memory.is_done(number)));
        holder.memory =
            if token { Memory::new(holder.memory.done(), holder.memory.ranges()) } else { Memory::default() };
        holder.inbox.clear();
        holder.in_hand.clear();
        holder.released.clear();
    }

    /// The spooler starts again from what it stored last.
    fn restart(&mut self) {
        self.links.iter_mut().for_each(|link| *link = None);
        let (cursor, done) = self.stored.clone();
        self.queue = Queue::new(self.setup.kind, cursor, done.into(), self.setup.max_tries);
    }

    /// A record expires, wherever it is.
    fn expire(&mut self, which: u16) {
        let index = usize::from(which) % self.log.len().max(1);
        if let Some(wanted) = self.log.values_mut().nth(index) {
            *wanted = false;
        }
    }

    /// A limit deletes the oldest records; sessions must resume.
    fn delete(&mut self, which: u16) {
        let cursor = self.queue.cursor();
        let to = cursor + u64::from(which) % (self.newest - cursor + 1);
        self.log.range_mut(..=to).for_each(|(_, wanted)| *wanted = false);
        self.queue.start_at(to);
        (0..self.links.len()).for_each(|at| self.disconnect(at));
    }

    /// The spooler reads what arrived.
    fn spooler_reads(&mut self, at: usize) {
        while let Some(link) = &mut self.links[at]
            && let Some(item) = link.to_spooler.next()
        {
            let Item::Command(Command::Durable(command)) = item else { panic!("{item:?}") };
            match *command {
                Durable::Start(start) => self.start(at, &start),
                Durable::Acks(acks) => {
                    let key = link.serving.as_ref().unwrap().key;
                    self.queue.acknowledge(key, &acks).unwrap();
                }
                Durable::Nack(nack) => {
                    let key = link.serving.as_ref().unwrap().key;
                    self.queue.reject(key, &nack, self.now).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn start(&mut self, at: usize, start: &Start) {
        let link = self.links[at].as_mut().unwrap();
        if let Some(key) = link.stale.take() {
            self.queue.leave(key);
        }
        if self.setup.kind == Kind::Topic {
            assert!(start.done <= self.newest);
            self.queue.start_at(start.done);
        }
        let key = self.queue.join(Window { messages: start.window, bytes: start.window_bytes });
        let resume_after = self.queue.cursor();
        link.serving = Some(Serving { key, prev: resume_after });
        let started = Started { spool: SPOOL, resume_after, head: self.newest, ..Started::default() };
        durable::encode(&mut link.to_holder.flying, &Durable::Started(started));
    }

    /// The spooler sends up to `most` records on this connection. Whether it sent or skipped any.
    fn spooler_sends(&mut self, at: usize, most: usize) -> bool {
        let Some(Link { to_holder, serving: Some(serving), .. }) = &mut self.links[at] else { return false };
        let (queue, mut announced, mut messages) = (&mut self.queue, Deliveries::default(), BytesMut::new());
        let mut moved = false;
        let mut flush = |announced: &mut Deliveries, messages: &mut BytesMut| {
            if !announced.entries.is_empty() {
                durable::encode(&mut to_holder.flying, &Durable::Deliveries(std::mem::take(announced)));
                to_holder.flying.put(messages.split());
            }
        };
        for _ in 0..most {
            let (sequence, again) = match queue.next(serving.key, self.now) {
                Next::Again(sequence) if !self.log[&sequence] => {
                    queue.skip(sequence);
                    moved = true;
                    continue;
                }
                Next::Again(sequence) => (sequence, true),
                Next::After(after) => match self.log.range(after + 1..).next() {
                    Some((&sequence, true)) => (sequence, false),
                    Some((&sequence, false)) => {
                        queue.skip(sequence);
                        moved = true;
                        continue;
                    }
                    None => break,
                },
                Next::Full | Next::Later(_) => break,
            };
            moved = true;
            if queue.exhausted(sequence) {
                self.buried.insert(sequence);
                queue.skip(sequence);
                continue;
            }
            let message = body(sequence);
            let size = message.iter().map(|frame| frame.len()).sum();
            let tries = queue.send(serving.key, sequence, size);
            if tries == 0 {
                continue;
            }
            if announced.again != again || announced.entries.len() == MAX_ENTRIES {
                flush(&mut announced, &mut messages);
            }
            if announced.entries.is_empty() {
                announced.again = again;
                announced.prev = if again { sequence - 1 } else { serving.prev };
            } else if again && announced.entries.last().unwrap().sequence >= sequence {
                flush(&mut announced, &mut messages);
                announced = Deliveries { again, prev: sequence - 1, entries: Vec::new() };
            }
            announced.entries.push(Entry { sequence, tries: (tries > 1).then_some(tries), time: None });
            if !again {
                serving.prev = sequence;
            }
            encode_message(&mut messages, &message);
        }
        flush(&mut announced, &mut messages);
        moved
    }

    /// The holder's connection reads what arrived.
    fn holder_reads(&mut self, at: usize) {
        let (holder, Some(link)) = (&mut self.holders[at], &mut self.links[at]) else { return };
        while let Some(item) = link.to_holder.next() {
            match item {
                Item::Command(Command::Durable(command)) => match *command {
                    Durable::Started(started) => link.session.handle_started(&mut holder.memory, &started),
                    Durable::Deliveries(deliveries) => link.session.handle_deliveries(deliveries).unwrap(),
                    other => panic!("{other:?}"),
                },
                Item::Command(other) => panic!("{other:?}"),
                Item::Messages { mut bytes, .. } => {
                    while let Some(message) = take_message(&mut bytes) {
                        let tag = link.session.next(&mut holder.memory).unwrap();
                        if let Some(tag) = tag {
                            assert_eq!(message, body(tag.sequence));
                            holder.released.remove(&tag.sequence);
                            holder.inbox.push_back(tag);
                        }
                    }
                }
            }
        }
    }

    /// The application takes the next message.
    fn hand_out(&mut self, at: usize) -> bool {
        let topic = self.is_topic();
        let holder = &mut self.holders[at];
        let Some(tag) = holder.inbox.pop_front() else { return false };
        let first = holder.handed.last().copied().unwrap_or(0);
        if holder.handed.insert(tag.sequence) {
            // (A spooler that starts again from older marks forgets what it buried.)
            let ordered = tag.sequence > first || self.buried.contains(&tag.sequence);
            assert!(!topic || ordered, "d03: first deliveries are in order");
        } else {
            assert!(holder.excused.remove(&tag.sequence), "d05: {} came twice", tag.sequence);
        }
        if self.setup.max_tries > 0 {
            assert!(tag.tries <= self.setup.max_tries);
        }
        holder.in_hand.push(tag.sequence);
        true
    }

    /// The application does something with a message in hand.
    fn decide(&mut self, at: usize, what: u8, which: u16) {
        let holder = &mut self.holders[at];
        if holder.in_hand.is_empty() {
            return;
        }
        let index = if what.is_multiple_of(4) { usize::from(which) % holder.in_hand.len() } else { 0 };
        let sequence = holder.in_hand.remove(index);
        let session = self.links[at].as_mut().map(|link| (&mut link.session, &mut link.to_spooler.flying));
        match (what / 4 % 8, session) {
            (0, session) => {
                // Again, at once or later.
                holder.excused.insert(sequence);
                let delay_ms = u32::from(which % 3) * 50;
                match session {
                    Some((session, out)) => {
                        let nack = Durable::Nack(Nack { sequence, delay_ms, ..Nack::default() });
                        if session.reject(&mut holder.memory, sequence) {
                            durable::encode(out, &nack);
                        }
                    }
                    None if holder.memory.release(sequence) => drop(holder.released.insert(sequence)),
                    None => {}
                }
            }
            (1, Some((session, _))) => {
                holder.finished.extend(holder.in_hand.iter().filter(|&&number| number <= sequence));
                holder.finished.insert(sequence);
                holder.finished.extend(holder.released.range(..=sequence));
                // Also what is in the inbox, below: such a record was rejected before.
                holder
                    .finished
                    .extend(holder.inbox.iter().map(|tag| tag.sequence).filter(|&number| number <= sequence));
                holder.inbox.retain(|tag| tag.sequence > sequence);
                holder.in_hand.retain(|&number| number > sequence);
                session.done_up_to(&mut holder.memory, sequence);
            }
            (_, Some((session, _))) => {
                holder.finished.insert(sequence);
                session.done(&mut holder.memory, sequence);
            }
            (_, None) => {
                holder.finished.insert(sequence);
                holder.memory.finish(sequence);
            }
        }
    }

    fn holder_acks(&mut self, at: usize, idle: bool) {
        let (holder, Some(link)) = (&self.holders[at], &mut self.links[at]) else { return };
        while let Some(acks) = link.session.take_acks(&holder.memory, idle, self.now) {
            durable::encode(&mut link.to_spooler.flying, &Durable::Acks(acks));
        }
    }

    fn step(&mut self, (kind, which, amount): (u8, u8, u16)) {
        let at = usize::from(which) % self.links.len();
        match kind % 32 {
            0..4 => (0..1 + amount % 5).for_each(|more| self.append(amount / 5 + more)),
            4..9 => drop(self.spooler_sends(at, usize::from(amount % 6))),
            9..14 => {
                if let Some(link) = &mut self.links[at] {
                    link.to_holder.advance(usize::from(amount) % 300);
                }
                self.holder_reads(at);
            }
            14..17 => {
                if let Some(link) = &mut self.links[at] {
                    link.to_spooler.advance(usize::from(amount) % 100);
                }
                self.spooler_reads(at);
            }
            17..20 => drop(self.hand_out(at)),
            20..24 => self.decide(at, which / 4, amount),
            24 | 25 => self.holder_acks(at, amount.is_multiple_of(2)),
            26 => self.disconnect(at),
            27 | 28 => match &self.links[at] {
                Some(_) if !amount.is_multiple_of(4) => {}
                _ => self.connect(at),
            },
            29 => self.crash(at, amount.is_multiple_of(2)),
            30 => match amount % 8 {
                0 => self.restart(),
                1..4 => self.stored = (self.queue.cursor(), self.queue.done()),
                4 => self.delete(amount / 8),
                _ => self.expire(amount / 8),
            },
            _ => self.now += Duration::from_millis(u64::from(amount % 60)),
        }
        self.check();
    }

    fn check(&self) {
        let messages = self.setup.window.messages.max(1) as usize;
        let most = u64::from(self.setup.window.bytes.max(1)) + 64;
        for key in self.links.iter().flatten().filter_map(|link| link.serving.as_ref()).map(|serving| serving.key) {
            assert!(self.queue.in_flight(key) <= messages, "the window");
            assert!(self.queue.bytes_in_flight(key) <= most, "the window in bytes");
        }
        if self.is_topic() {
            assert!(self.queue.total_in_flight() + self.queue.waiting() <= messages, "the window, with what waits");
        }
        assert!(self.queue.cursor() <= self.queue.position() && self.queue.position() <= self.newest);
        assert!(self.stored.0 <= self.queue.cursor());
        for (&number, &wanted) in self.log.range(..=self.queue.cursor()) {
            let done = self.holders.iter().any(|holder| holder.finished.contains(&number));
            assert!(!wanted || done || self.buried.contains(&number), "d03: {number} is below the cursor, not done");
        }
    }

    /// Everybody is there, everything is read, taken and acknowledged.
    fn settle(&mut self) {
        for at in 0..self.links.len() {
            if self.links[at].is_none() {
                self.connect(at);
            }
        }
        let mut rounds = 0;
        while self.queue.cursor() < self.log.keys().next_back().copied().unwrap_or(0) {
            rounds += 1;
            assert!(rounds < 10_000, "standstill: {:?}", self.queue);
            self.now += Duration::from_millis(20);
            for at in 0..self.links.len() {
                if let Some(link) = &mut self.links[at] {
                    link.to_spooler.advance(usize::MAX);
                    link.to_holder.advance(usize::MAX);
                }
                self.spooler_reads(at);
                self.spooler_sends(at, 100);
                self.holder_reads(at);
                while self.hand_out(at) {}
                while !self.holders[at].in_hand.is_empty() {
                    self.decide(at, 8, 0);
                }
                self.holder_acks(at, true);
                self.check();
            }
        }
        assert_eq!((self.queue.total_in_flight(), self.queue.waiting()), (0, 0));
        assert!(self.queue.done().is_empty());
        for (number, _) in self.log.iter().filter(|(_, wanted)| **wanted) {
            let delivered = self.holders.iter().any(|holder| holder.handed.contains(number));
            assert!(delivered || self.buried.contains(number), "d03: {number} was accepted and not delivered");
        }
    }
}

/// The message of a record: every one is different, also in size.
fn body(sequence: u64) -> Message {
    let padding = Frame::from(vec![b'x'; (sequence * 7 % 40) as usize]);
    Message::from((Frame::copy_from_slice(&sequence.to_be_bytes()), padding))
}

#[test]
fn what_was_let_go_of_is_done_with_all_before_a_later_one() {
    let steps = vec![
        (0, 0, 1),
        (219, 0, 0),
        (238, 0, 46),
        (100, 0, 2),
        (105, 0, 126),
        (177, 0, 0),
        (30, 0, 0),
        (212, 0, 0),
        (123, 0, 0),
        (49, 0, 0),
        (212, 21, 0),
    ];
    assert!(run(&Steps { window: (220, 65535), max_tries: 0, steps }, Kind::Outbox, 3));
}

fn run(steps: &Steps, kind: Kind, holders: usize) -> bool {
    let mut world = World::new(steps.setup(kind, holders));
    steps.steps.iter().for_each(|&step| world.step(step));
    world.settle();
    true
}

/// Numbers at all ends.
fn hostile(word: u64) -> u64 {
    match word % 4 {
        0 => word / 4 % 12,
        1 => u64::MAX - word / 4 % 4,
        _ => word,
    }
}

#[test]
fn no_command_of_a_peer_breaks_a_queue() {
    fn property(outbox: bool, words: Vec<(u8, u64, u64)>) -> bool {
        let kind = if outbox { Kind::Outbox } else { Kind::Topic };
        let mut queue = Queue::new(kind, 0, Ranges::new(), 3);
        let now = Instant::now();
        let mut keys = vec![queue.join(Window { messages: 4, bytes: 100 })];
        for (what, one, two) in words {
            let key = keys[usize::from(what / 16) % keys.len()];
            let (one, two) = (hostile(one), hostile(two));
            let before = (queue.cursor(), queue.total_in_flight());
            match what % 8 {
                0 => keys.push(queue.join(Window { messages: one as u32, bytes: two as u32 })),
                1 => queue.leave(key),
                2 => drop(queue.acknowledge(key, &durable::Acks { cumulative: one, ranges: vec![] })),
                3 | 4 => {
                    let ranges = vec![(one, two)];
                    if queue.acknowledge(key, &durable::Acks { cumulative: 0, ranges }).is_err() {
                        assert_eq!(before, (queue.cursor(), queue.total_in_flight()));
                    }
                }
                5 => {
                    let nack = Nack { sequence: one, delay_ms: two as u32, ..Nack::default() };
                    drop(queue.reject(key, &nack, now));
                }
                _ => match queue.next(key, now) {
                    Next::Again(sequence) => drop(queue.send(key, sequence, 10)),
                    Next::After(after) => drop(queue.send(key, after + 1 + one % 3, two as usize)),
                    Next::Full | Next::Later(_) => {}
                },
            }
            assert!(queue.cursor() <= queue.position() && queue.position() < 10_000);
        }
        keys.into_iter().for_each(|key| queue.leave(key));
        queue.total_in_flight() == 0
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(bool, Vec<(u8, u64, u64)>) -> bool);
}

#[test]
fn no_command_of_a_spooler_breaks_a_session() {
    fn property(topic: bool, words: Vec<(u8, u64, u64)>) -> bool {
        let (mut memory, mut session) = (Memory::default(), Session::new(topic, 8));
        let now = Instant::now();
        for (what, one, two) in words {
            let (one, two) = (hostile(one), hostile(two));
            match what % 8 {
                0 => {
                    session = Session::new(topic, 8);
                    session.handle_started(&mut memory, &Started { resume_after: one, ..Started::default() });
                }
                1 | 2 => {
                    // What the codec lets through: ascending from `prev`.
                    let numbers = [one.checked_add(1), one.checked_add(2 + two % 5)];
                    let entries = numbers.into_iter().flatten().map(|sequence| Entry { sequence, ..Entry::default() });
                    let deliveries = Deliveries { again: what & 64 > 0, prev: one, entries: entries.collect() };
                    drop(session.handle_deliveries(deliveries));
                }
                3 | 4 => drop(session.next(&mut memory)),
                5 => session.done(&mut memory, one),
                6 => drop(session.reject(&mut memory, one)),
                _ => session.done_up_to(&mut memory, one),
            }
            if let Some(acks) = session.take_acks(&memory, what & 128 > 0, now) {
                let mut out = BytesMut::new();
                durable::encode(&mut out, &Durable::Acks(acks));
            }
        }
        true
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(bool, Vec<(u8, u64, u64)>) -> bool);
}

fn tests(number: u64) -> u64 {
    std::env::var("GINNEL_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(number)
}

#[test]
fn d03_d05_a_topic_over_a_link_that_breaks_at_any_byte() {
    fn property(steps: Steps) -> bool {
        run(&steps, Kind::Topic, 1)
    }
    QuickCheck::new().tests(tests(1000)).max_tests(u64::MAX).quickcheck(property as fn(Steps) -> bool);
}

#[test]
fn d03_an_outbox_with_three_workers_over_links_that_break_at_any_byte() {
    fn property(steps: Steps) -> bool {
        run(&steps, Kind::Outbox, 3)
    }
    QuickCheck::new().tests(tests(1000)).max_tests(u64::MAX).quickcheck(property as fn(Steps) -> bool);
}
