//! What was promised while a workload ran, and whether a log that is opened later keeps it.
//!
//! [`run`] plays operations against a log and writes down in a [`Ledger`] what the log said; [`Ledger::check`] opens
//! what is left and compares. Both know the promises only, not how the log keeps them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use super::*;
use crate::options::spool::WhenFull;
use crate::store::log::stats::LogState;

/// One step of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// A message of this topic and so many bytes.
    Append(u8, usize),
    /// The writer works until it has nothing to do.
    Settle,
    /// The writer takes one turn.
    Turn,
    /// A name with the topic as its prefix.
    Declare(u8),
    Drop(u8),
    /// The name has done so many percent of what it lags behind.
    Advance(u8, u8),
    Save,
    /// Milliseconds.
    Wait(u32),
    Later(u32),
    Cancel,
    Bury,
    /// Closed and opened again.
    Reopen,
    /// Dropped without a close, and opened again.
    Restart,
    /// All that is there is read and compared.
    Read,
    /// Everybody has done everything: there is room again.
    Drain,
}

/// What is known of a name.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) prefix: u8,
    /// The first number that it gets.
    from: u64,
    /// As far as it was said to be done.
    cursor: u64,
    /// It was in both slots before the log answered.
    saved: bool,
}

/// What was promised.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// Everything that got a number and was wanted.
    written: BTreeMap<u64, String>,
    /// The same, but the process ended before it was accepted: it may be there or not.
    maybe: BTreeMap<u64, String>,
    pub(super) accepted: u64,
    durable: u64,
    given: u64,
    pub(super) names: BTreeMap<String, Name>,
    /// So far segments may have been let go because everybody had read them.
    floor: u64,
    /// Text, due, accepted; cancelled ones are not in here.
    delayed: BTreeMap<u64, (String, i64, bool)>,
    cancelled: Vec<String>,
    buried: u64,
    time: i64,
    texts: u64,
    /// The largest record that was taken, in bytes on the disk.
    largest: u64,
    pub(super) events: Vec<&'static str>,
    pub(super) ended: bool,
    /// Records may be missing in the middle: a power cut took them.
    holes: bool,
}

fn name_of(topic: u8) -> String {
    format!("name-{topic}")
}

/// Plays `ops` until the disk fails for good.
pub(super) fn run(sim: &SimStorage, options: &SpoolOptions, push: bool, ops: &[Op]) -> Ledger {
    run_on(Ledger::new(), sim, options, push, ops)
}

pub(super) fn run_on(mut ledger: Ledger, sim: &SimStorage, options: &SpoolOptions, push: bool, ops: &[Op]) -> Ledger {
    let clock = ManualClock::new(ledger.time);
    let Ok(mut bench) = Bench::try_open(sim.storage(), options, push, clock.clone()) else {
        ledger.ended = true;
        return ledger;
    };
    ledger.note(&bench);
    for op in ops {
        if let Op::Reopen | Op::Restart = op {
            if *op == Op::Reopen && bench.log.close().is_ok() {
                ledger.durable = ledger.durable.max(bench.log.visible());
                ledger.note(&bench);
            }
            ledger.note(&bench);
            ledger.forget_unsaved();
            ledger.time = clock.wall();
            drop(bench);
            match Bench::try_open(sim.storage(), options, push, clock.clone()) {
                Ok(opened) => bench = opened,
                Err(_) => {
                    ledger.ended = true;
                    return ledger;
                }
            }
        } else {
            ledger.play(sim, &bench, op, options, push);
        }
        ledger.note(&bench);
        ledger.keeps_limit(sim, options);
    }
    ledger.time = clock.wall();
    ledger
}

use crate::store::clock::Clock;

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger { time: START, ..Ledger::default() }
    }

    /// A number that stands for the promises; what was heard is none.
    pub(super) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let promises = Ledger { events: Vec::new(), ..self.clone() };
        hasher.write(format!("{promises:?}").as_bytes());
        hasher.finish()
    }

    /// Opens what a crash left.
    pub(super) fn reopen(&self, sim: &SimStorage, options: &SpoolOptions, push: bool) -> Bench {
        let clock = ManualClock::new(self.time.max(START) + 1);
        Bench::try_open(sim.storage(), options, push, clock).expect("d06: opening succeeds")
    }

    /// `bench` gives out a number before anything else happens.
    pub(super) fn and_one_more(mut self, bench: &Bench) -> Ledger {
        if let Ok(number) = bench.append("z") {
            assert!(number > self.given, "number {number} twice");
            self.given = number;
            self.maybe.insert(number, "z".to_owned());
        }
        self
    }

    /// How many records have to be there after a power cut, but for those that were let go.
    pub(super) fn promised(&self, options: &SpoolOptions) -> u64 {
        let promised = if options.sync == Sync::Batch { self.accepted } else { self.durable };
        self.written.range(..=promised).count() as u64
    }

    /// The process ended.
    pub(super) fn restarted(mut self) -> Ledger {
        self.forget_unsaved();
        self
    }

    /// What is promised still after a crash: without syncs a power cut may take what was accepted since.
    pub(super) fn after_crash(mut self, options: &SpoolOptions, power: bool) -> Ledger {
        self.forget_unsaved();
        if power && options.sync != Sync::Batch {
            let mut lost = self.written.split_off(&(self.durable + 1));
            self.maybe.append(&mut lost);
            // Names are synced under every policy; delayed messages and dead letters are as safe as records.
            self.delayed.clear();
            (self.holes, self.buried) = (true, 0);
        }
        self
    }

    fn play(&mut self, sim: &SimStorage, bench: &Bench, op: &Op, options: &SpoolOptions, push: bool) {
        let log = &bench.log;
        match *op {
            Op::Append(topic, size) => {
                let text = self.text(topic, size);
                let wanted = push || options.append_all || self.names.values().any(|name| name.prefix == topic);
                if let Ok(number) = log.try_append(&Message::from(text.as_str()), &Extra::default()) {
                    assert!(number > self.given, "number {number} twice");
                    self.given = number;
                    self.largest = self.largest.max(text.len() as u64 + 512);
                    // A name that could not be saved, or not dropped, may want it all the same.
                    if wanted { &mut self.written } else { &mut self.maybe }.insert(number, text);
                }
            }
            Op::Settle => drop(bench.settle()),
            Op::Turn => drop(log.turn()),
            Op::Declare(topic) => {
                let prefix = [topic];
                let new = log.declare(&name_of(topic), &[&prefix]);
                let saved = log.save_both().is_ok();
                let from = log.newest() + 1;
                let name = Name { prefix: topic, from, cursor: from - 1, saved };
                if new {
                    self.names.insert(name_of(topic), name);
                } else if let Some(name) = self.names.get_mut(&name_of(topic)) {
                    name.saved |= saved;
                }
            }
            Op::Drop(topic) => {
                log.drop_name(&name_of(topic));
                self.names.remove(&name_of(topic));
                let _ = log.save_both();
            }
            Op::Advance(topic, percent) => {
                self.advance(log, &if push { String::new() } else { name_of(topic) }, percent)
            }
            Op::Save => drop(log.save()),
            Op::Wait(ms) => bench.clock.advance(Duration::from_millis(ms.into())),
            Op::Later(ms) => {
                let text = self.text(b'a', 10);
                let due = bench.clock.wall() + i64::from(ms) * 1000;
                if let Ok(number) = log.append_delayed(&Message::from(text.as_str()), due) {
                    self.delayed.insert(number, (text, due, false));
                }
            }
            Op::Cancel => {
                let Some((&number, (text, ..))) = self.delayed.iter().next_back() else { return };
                let text = text.clone();
                if log.cancel_delayed(number) {
                    self.delayed.remove(&number);
                    self.cancelled.push(text);
                }
            }
            Op::Bury => {
                let record = bench.read(self.accepted.saturating_sub(5)).0.pop();
                let buried = record.is_some_and(|record| log.bury(&record).is_ok());
                if buried && log.save().is_ok() {
                    self.buried += 1;
                }
            }
            Op::Read => {
                // Without power nothing can be read.
                drop(bench.read(0));
                if !sim.stopped() {
                    self.compare(bench, true);
                }
            }
            Op::Drain => self.drain(sim, bench, options, push),
            Op::Reopen | Op::Restart => {}
        }
    }

    /// Whatever is in the spool, and however large: when everybody has done everything the next record goes.
    fn drain(&mut self, sim: &SimStorage, bench: &Bench, options: &SpoolOptions, push: bool) {
        let log = &bench.log;
        let keeps = options.append_all && matches!(options.when_full, WhenFull::Block | WhenFull::Reject);
        for _ in 0..3 {
            bench.settle();
            bench.clock.advance(Duration::from_millis(250));
            for name in log.registry(|registry| registry.names.keys().cloned().collect::<Vec<_>>()) {
                log.advance(&name, log.visible(), &[]);
                self.names.entry(name).and_modify(|name| name.cursor = name.cursor.max(log.visible()));
            }
            self.note(bench);
        }
        let turn = bench.settle();
        self.note(bench);
        let small_disk = sim.storage().space().map_or(true, |space| space.total < 1 << 40);
        if keeps || turn == Turn::Ended || small_disk || !self.delayed.is_empty() {
            return;
        }
        let accepted = self.accepted;
        self.play(sim, bench, &Op::Append(b'a', 10), options, push);
        assert!(self.given > accepted, "d08: all is done, and there is no room: {:?}", log.stats());
        bench.settle();
        // A disk that was full for a moment is looked at again.
        bench.clock.advance(Duration::from_millis(250));
        let turn = bench.settle();
        self.note(bench);
        let broke = turn == Turn::Ended || sim.stopped();
        assert!(broke || self.accepted > accepted, "d08: all is done, and nothing moves: {:?}", log.stats());
    }

    /// On the disk is no more than the limit, one record that may be larger than all of it, and the segment that
    /// opening may have to make.
    pub(super) fn keeps_limit(&self, sim: &SimStorage, options: &SpoolOptions) {
        let files = sim.images();
        let files = files.iter().filter(|(name, _)| !name.contains('/'));
        let files = files.filter(|(name, _)| name.ends_with(".seg") || name.ends_with(".tmp"));
        let bytes: u64 = files.map(|(_, image)| image.len() as u64).sum();
        let segment = options.segment_size().min(options.max_bytes / 2);
        let large = if self.largest > segment { self.largest } else { 0 };
        let most = options.max_bytes + segment + large;
        assert!(bytes <= most, "d08: {bytes} on disk, limit {}, largest {}", options.max_bytes, self.largest);
    }

    fn text(&mut self, topic: u8, size: usize) -> String {
        self.texts += 1;
        format!("{}{}:{}", char::from(topic), self.texts, "x".repeat(size))
    }

    fn advance(&mut self, log: &Log, name: &str, percent: u8) {
        let visible = log.visible();
        let cursor = if name.is_empty() { self.push_cursor() } else { self.names.get(name).map(|name| name.cursor) };
        let Some(cursor) = cursor else { return };
        let to = cursor + visible.saturating_sub(cursor) * u64::from(percent) / 100;
        log.advance(name, to, &[]);
        self.names.entry(name.to_owned()).and_modify(|name| name.cursor = name.cursor.max(to));
    }

    fn push_cursor(&mut self) -> Option<u64> {
        let name = Name { prefix: 0, from: 1, cursor: 0, saved: false };
        Some(self.names.entry(String::new()).or_insert(name).cursor)
    }

    /// What the log says now.
    fn note(&mut self, bench: &Bench) {
        let stats = bench.log.stats();
        assert!(stats.visible >= self.accepted, "what is visible stays so");
        self.accepted = stats.visible;
        self.durable = self.durable.max(stats.durable.min(stats.visible));
        self.given = self.given.max(stats.newest);
        self.events.extend(bench.ear.names());
        bench.ear.events.lock().unwrap().clear();
        for name in bench.ear.dropped.lock().unwrap().drain(..) {
            self.names.remove(&name);
        }
        let floor = self.names.values().map(|name| name.cursor).min().unwrap_or(u64::MAX);
        self.floor = self.floor.max(floor);
        for (number, (_, _, accepted)) in &mut self.delayed {
            let mut cx = Context::from_waker(Waker::noop());
            *accepted |= bench.log.poll_delayed_accepted(*number, &mut cx) == Poll::Ready(Ok(()));
        }
    }

    /// What was not accepted when the process ended was never promised.
    fn forget_unsaved(&mut self) {
        let accepted = self.accepted;
        self.maybe.append(&mut self.written.split_off(&(accepted + 1)));
        self.delayed.retain(|_, delayed| delayed.2);
        self.names.retain(|name, known| known.saved || name.is_empty());
    }

    /// Everything that `bench` shows was written, in order; everything promised is there, or let go on purpose.
    fn compare(&self, bench: &Bench, alive: bool) {
        let head = bench.log.registry(|registry| registry.head);
        let (records, missing) = bench.read(head.saturating_sub(1));
        assert!(records.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "order");
        assert!(records.windows(2).all(|pair| pair[0].time <= pair[1].time), "time");
        if alive && !self.holes {
            assert_eq!(missing, [], "{:?}", self.events);
        }
        let mut read: BTreeMap<u64, String> = BTreeMap::new();
        for record in &records {
            if record.extra.origin.is_none() {
                let known = self.written.get(&record.sequence).or_else(|| self.maybe.get(&record.sequence));
                assert_eq!(known, Some(&text(record)), "number {} holds something else", record.sequence);
            }
            read.insert(record.sequence, text(record));
        }
        let promised = if alive { self.accepted } else { self.durable };
        for (number, text) in self.written.range(head..=promised.max(head)).filter(|entry| *entry.0 <= promised) {
            assert_eq!(read.get(number), Some(text), "number {number} is gone; head {head}, promised {promised}");
        }
    }

    /// Opens what a crash left, and looks whether every promise is kept. `power`: the power was cut; else the process
    /// was killed.
    pub(super) fn check(&self, sim: &SimStorage, options: &SpoolOptions, push: bool, power: bool) -> Bench {
        let bench = self.reopen(sim, options, push);
        let events = bench.ear.names();
        let synced = options.sync == Sync::Batch || !power;
        if synced && !self.holes {
            assert!(!events.contains(&"Damaged"), "{:?}", bench.ear.events.lock().unwrap());
        }
        if self.accepted > 0 {
            assert!(!events.contains(&"NamesLost"));
        }
        let mut ledger = self.clone();
        ledger.durable = if synced { self.accepted } else { self.durable };
        ledger.compare(&bench, false);
        if synced && !self.holes {
            let head = bench.log.oldest().max(bench.log.registry(|registry| registry.head));
            assert_eq!(bench.read(head.saturating_sub(1)).1, [], "nothing is missing");
        }
        ledger.check_names(&bench, options);
        assert!(bench.log.newest() >= self.given, "d04: {} was given", self.given);
        ledger.check_delayed(&bench, options, synced);
        // The dead letters have a limit of their own, at which the oldest go.
        if synced && options.when_full != WhenFull::DropOldest && options.max_bytes > 1 << 20 {
            assert!(bench.log.stats().dead_letters >= self.buried);
        }
        bench
    }

    fn check_names(&self, bench: &Bench, options: &SpoolOptions) {
        let (head, names) = bench.log.registry(|registry| (registry.head, registry.names.clone()));
        let drops = matches!(options.when_full, WhenFull::DropOldest | WhenFull::DropName)
            || options.max_age.is_some()
            || options.max_lag_bytes > 0;
        if !drops {
            assert!(head.saturating_sub(1) <= self.floor, "head {head} is above what all had read, {}", self.floor);
        }
        for (name, known) in self.names.iter().filter(|(name, known)| known.saved && !name.is_empty()) {
            let record = names.get(name).unwrap_or_else(|| panic!("{name} is gone"));
            assert_eq!(record.filters.first().map(|filter| filter.0.clone()), Some(vec![known.prefix]));
            assert!(head <= record.cursor + 1, "d08: head {head} is beyond {name}'s cursor {}", record.cursor);
            if record.cursor <= known.cursor.max(known.from - 1) {
                continue;
            }
            assert!(drops, "{name} is at {}, but has done {}", record.cursor, known.cursor);
            let (from, to) = record.lost.unwrap_or((u64::MAX, 0));
            let wanted = self.written.range(known.cursor + 1..=record.cursor);
            let wanted = wanted.filter(|(number, text)| **number >= known.from && text.as_bytes()[0] == known.prefix);
            for (number, _) in wanted {
                assert!((from..=to).contains(number), "d03: {name} lost {number} and was not told ({from}..{to})");
            }
        }
    }

    fn check_delayed(&self, bench: &Bench, options: &SpoolOptions, synced: bool) {
        bench.clock.advance(Duration::from_secs(3600));
        bench.settle();
        let read = bench.read(0).0;
        let count = |wanted: &str| read.iter().filter(|record| text(record) == wanted).count();
        for (wanted, _, accepted) in self.delayed.values() {
            assert!(count(wanted) <= 1 || options.sync == Sync::Never && !synced, "{wanted} came twice");
            let open = bench.log.stats().state == LogState::Open;
            if synced && *accepted && options.append_all && options.when_full == WhenFull::Block && open {
                assert_eq!(count(wanted), 1, "{wanted} never came");
            }
        }
    }

    /// After a check the log takes a record more, with a new number.
    pub(super) fn goes_on(&self, bench: &Bench) {
        if let Ok(number) = bench.append("z") {
            assert!(number > self.given);
            bench.settle();
        }
    }
}
