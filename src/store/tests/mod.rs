//! The promises of the log, on a simulated disk: helpers here, suites beside.

mod crash;
mod delayed;
mod failures;
mod ledger;
mod limits;
mod model;
mod straight;

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::event::Event;
use crate::message::Message;
use crate::options::spool::{SpoolOptions, Sync};
use crate::store::clock::ManualClock;
use crate::store::log::{Log, Refused, Turn, Witness};
use crate::store::reader::{Fetch, Taken};
use crate::store::record::Extra;
use crate::store::storage::Storage;
use crate::store::storage::sim::{Chance, SimStorage};

thread_local! {
    static FORESEEN: RefCell<Option<Chance>> = const { RefCell::new(None) };
}

/// From now on salts and identities that this thread makes follow from `seed`: equal runs leave equal disks.
pub(super) fn foresee(seed: u64) {
    FORESEEN.set(Some(Chance::new(seed)));
}

/// The next number that was to be random, if it is foreseen.
pub(super) fn foreseen() -> Option<u64> {
    FORESEEN.with_borrow_mut(|chance| Some(chance.as_mut()?.next()))
}

/// Remembers what it hears.
#[derive(Default)]
pub(super) struct Ear {
    pub(super) events: Mutex<Vec<Event>>,
    pub(super) lost: Mutex<Vec<(String, u64, u64)>>,
    pub(super) dropped: Mutex<Vec<String>>,
}

impl Ear {
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().iter().map(Event::name).collect()
    }

    pub(super) fn heard(&self, name: &str) -> bool {
        self.names().contains(&name)
    }
}

impl Witness for Ear {
    fn event(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn lost(&self, name: &str, from: u64, to: u64) {
        self.lost.lock().unwrap().push((name.to_owned(), from, to));
    }

    fn dropped(&self, name: &str) {
        self.dropped.lock().unwrap().push(name.to_owned());
    }
}

/// Small segments, nothing kept free.
pub(super) fn options(sync: Sync) -> SpoolOptions {
    let mut options = SpoolOptions::new("sim".into());
    options.sync = sync;
    options.max_bytes = 1 << 20;
    options.segment_bytes = Some(4096);
    options.min_free_disk = Some(0);
    options.append_all = true;
    options
}

/// A log without a thread.
pub(super) struct Bench {
    pub(super) log: Log,
    pub(super) ear: Arc<Ear>,
    pub(super) clock: ManualClock,
}

pub(super) const START: i64 = 1_700_000_000_000_000;

impl Bench {
    pub(super) fn open(sim: &SimStorage, options: &SpoolOptions, push: bool) -> Bench {
        Bench::try_open(sim.storage(), options, push, ManualClock::new(START)).expect("opens")
    }

    pub(super) fn try_open(
        storage: Arc<dyn Storage>,
        options: &SpoolOptions,
        push: bool,
        clock: ManualClock,
    ) -> Result<Bench, crate::error::OpenError> {
        let ear = Arc::new(Ear::default());
        let log = Log::open_on(storage, Arc::new(clock.clone()), options, push, Arc::clone(&ear) as _, false)?;
        Ok(Bench { log, ear, clock })
    }

    pub(super) fn append(&self, text: &str) -> Result<u64, Refused> {
        self.log.try_append(&Message::from(text), &Extra::default())
    }

    /// Turns until nothing is left to do.
    pub(super) fn settle(&self) -> Turn {
        loop {
            match self.log.turn() {
                Turn::Worked => {}
                other => return other,
            }
        }
    }

    pub(super) fn accepted(&self, sequence: u64) -> Option<bool> {
        match self.log.poll_accepted(sequence, &mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(result) => Some(result.is_ok()),
        }
    }

    /// Everything behind `after`, and what is missing.
    pub(super) fn read(&self, after: u64) -> (Vec<Taken>, Vec<(u64, u64)>) {
        read(&self.log, after)
    }

    pub(super) fn texts(&self, after: u64) -> Vec<(u64, String)> {
        self.read(after).0.iter().map(|taken| (taken.sequence, text(taken))).collect()
    }
}

/// The one frame of a record.
pub(super) fn text(taken: &Taken) -> String {
    String::from_utf8(taken.topic().to_vec()).unwrap()
}

pub(super) fn read(log: &Log, mut after: u64) -> (Vec<Taken>, Vec<(u64, u64)>) {
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    loop {
        let mut chunk = match log.fetch(after) {
            Fetch::Nothing => return (all, missing),
            Fetch::Chunk(chunk) => chunk,
            Fetch::Disk(read) => read.run().unwrap(),
        };
        while let Some(taken) = chunk.next() {
            missing.extend(taken.missing);
            all.push(taken);
        }
        missing.extend(chunk.missing_at_end());
        assert!(chunk.end() > after, "a fetch moves on");
        after = chunk.end();
    }
}
