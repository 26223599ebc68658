//! The writer's thread, and one behind it that prepares files and syncs what need not be waited for.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::Writer;
use super::rotate::{AHEAD, make_file};
use crate::options::spool::Sync;
use crate::store::log::Turn;
use crate::store::log::books::Spare;
use crate::store::log::front::Gate;
use crate::store::log::shared::{LONGEST_SLEEP, Shared, locked};
use crate::store::storage::{File, write_all_at};

/// Batches that many records share come so fast that waiting a moment saves the writer and its callers work.
const LINGER: Duration = Duration::from_micros(50);
const LINGER_RECORDS: u64 = 8;
const LINGER_BYTES: usize = 64 << 10;
/// Syncs of batches smaller than this are faster in a file that was written before.
const SMALL_BATCH: u64 = 64 << 10;
const FILL: usize = 256 << 10;
const FILL_PAUSE: Duration = Duration::from_millis(10);

/// A sealed file is synced after so long: names that are quick have all of it by then, and it goes unsynced.
const SOON: Duration = Duration::from_millis(100);

enum Job {
    /// Makes the next file; filled with zeros if asked.
    Prepare { fill: bool },
    /// Syncs a sealed file and the directory.
    Sync { file: Arc<dyn File>, last: u64 },
}

/// The thread behind the writer.
pub(crate) struct Background {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

/// Starts the writer's thread.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    Builder::new().name("ginnel-spool".into()).spawn(move || run(&shared))
}

fn run(shared: &Arc<Shared>) {
    if catch_unwind(AssertUnwindSafe(|| while turn_and_sleep(shared) {})).is_err() {
        let unknown = shared.newest();
        shared.fail("the writer panicked; please report it", unknown);
    }
    let background = locked(&shared.writer).background.take();
    if let Some(Background { jobs, thread }) = background {
        drop(jobs);
        let _ = thread.join();
    }
}

fn turn_and_sleep(shared: &Arc<Shared>) -> bool {
    collect(shared);
    let before = shared.counters.batches.load(Ordering::Relaxed);
    match shared.turn() {
        Turn::Ended => return false,
        Turn::Worked => linger(shared, before),
        Turn::Idle | Turn::Stuck => sleep(shared),
    }
    true
}

/// `batch_delay`: a batch that has just begun waits for company.
fn collect(shared: &Shared) {
    let delay = shared.options.batch_delay;
    if delay.is_zero() {
        return;
    }
    let front = locked(&shared.front);
    let begun = front.open_records() > 0 && front.open_bytes() < FILL && front.gate == Gate::Open;
    drop(front);
    if begun {
        std::thread::sleep(delay);
    }
}

/// Without syncs batches would be tiny, and each costs its writer a call and its sender a wake.
fn linger(shared: &Shared, before: u64) {
    if shared.options.sync == Sync::Batch || shared.counters.batches.load(Ordering::Relaxed) == before {
        return;
    }
    let front = locked(&shared.front);
    let few = front.open_bytes() < LINGER_BYTES && front.open_records() >= LINGER_RECORDS && front.gate == Gate::Open;
    drop(front);
    if few {
        std::thread::sleep(LINGER);
    }
}

fn sleep(shared: &Shared) {
    let deadline = locked(&shared.writer).deadline(shared);
    let wait = deadline.map_or(LONGEST_SLEEP, |at| at.saturating_sub(shared.clock.monotonic())).min(LONGEST_SLEEP);
    let mut front = locked(&shared.front);
    let batch = front.open_records() > 0 && !front.in_flight;
    if batch || front.nudged || (front.gate != Gate::Open && front.gate != Gate::Failed) {
        return;
    }
    front.asleep = true;
    let (mut front, _) = shared.wake.wait_timeout(front, wait).unwrap_or_else(std::sync::PoisonError::into_inner);
    front.asleep = false;
}

impl Shared {
    /// One turn of the writer.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        let turn = locked(&self.writer).step(self);
        if self.threaded {
            return turn;
        }
        // By hand the logs within this one are turned along.
        if self.turn_nested() && turn == Turn::Idle { Turn::Worked } else { turn }
    }

    /// How it ended.
    pub(crate) fn finished(&self) -> std::io::Result<()> {
        drop(self.unlock());
        match locked(&self.writer).outcome() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(std::io::Error::other(error.clone())),
            None => Err(std::io::Error::other("the writer is gone")),
        }
    }
}

impl Writer {
    /// Makes the next file ahead, when this one is half full. True if it was made here.
    pub(super) fn prepare(&mut self, shared: &Arc<Shared>) -> bool {
        if self.offset < shared.segment_size / 2 || self.prepared == Some(self.base) {
            return false;
        }
        let mut books = locked(&shared.books);
        if books.spare.is_some() || books.preparing > 0 {
            return false;
        }
        let bytes = books.bytes();
        if self.look_for_room(shared, bytes).is_err() {
            return false;
        }
        books.preparing = shared.segment_size;
        drop(books);
        self.prepared = Some(self.base);
        let fill = shared.options.sync == Sync::Batch && self.offset / self.batches.max(1) < SMALL_BATCH;
        if !shared.threaded {
            prepare(shared, false);
            return true;
        }
        self.send(shared, Job::Prepare { fill });
        false
    }

    /// Whether the next file is on its way, or there already.
    pub(super) fn is_preparing(&self, shared: &Shared) -> bool {
        let mut books = locked(&shared.books);
        if books.preparing > 0 && self.background.as_ref().is_none_or(|background| background.thread.is_finished()) {
            // Whoever was to make it is gone.
            books.preparing = 0;
        }
        books.preparing > 0 || books.spare.is_some()
    }

    /// Syncs a sealed file without waiting for it.
    pub(super) fn sync_behind(&mut self, shared: &Arc<Shared>, file: Arc<dyn File>, last: u64) {
        self.send(shared, Job::Sync { file, last });
    }

    fn send(&mut self, shared: &Arc<Shared>, job: Job) {
        if self.background.is_none() {
            let (jobs, todo) = channel();
            let shared = Arc::downgrade(shared);
            let spawned = Builder::new().name("ginnel-spool-2".into()).spawn(move || work(&shared, &todo));
            // Without it files are made when they are needed.
            self.background = spawned.ok().map(|thread| Background { jobs, thread });
        }
        let sent = self.background.as_ref().is_some_and(|background| background.jobs.send(job).is_ok());
        if !sent {
            locked(&shared.books).preparing = 0;
        }
    }
}

fn work(shared: &Weak<Shared>, jobs: &Receiver<Job>) {
    let mut sealed: VecDeque<Sealed> = VecDeque::new();
    loop {
        let wait = sealed.front().map_or(LONGEST_SLEEP, |first| first.due.saturating_duration_since(Instant::now()));
        let job = jobs.recv_timeout(wait);
        let Some(shared) = shared.upgrade() else { return };
        match job {
            Ok(Job::Prepare { fill }) => prepare(&shared, fill),
            Ok(Job::Sync { file, last }) => sealed.push_back(Sealed { file, last, due: Instant::now() + SOON }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return sealed.into_iter().for_each(|old| old.sync(&shared)),
        }
        while sealed.front().is_some_and(|old| old.due <= Instant::now())
            && let Some(old) = sealed.pop_front()
        {
            old.sync(&shared);
        }
    }
}

/// A sealed file that is to be synced.
struct Sealed {
    file: Arc<dyn File>,
    last: u64,
    due: Instant,
}

impl Sealed {
    fn sync(self, shared: &Shared) {
        // Everybody had it, and it is gone: a sync would write to the disk what nobody can read.
        let gone = shared.oldest() > self.last;
        let synced = if gone { Ok(()) } else { self.file.sync().and_then(|()| shared.storage.sync_dir()) };
        match synced {
            Ok(()) => drop(shared.durable.fetch_max(self.last, Ordering::AcqRel)),
            Err(e) => shared.fail(&format!("sync: {e}"), shared.newest()),
        }
    }
}

/// The next file. That it cannot be made now is no error: it will be tried when it is needed.
fn prepare(shared: &Shared, fill: bool) {
    let size = shared.segment_size;
    let made = make_file(&*shared.storage, AHEAD, size).and_then(|file| {
        if fill && !zeros(shared, &*file, size) {
            return Err(std::io::Error::other("not needed any more"));
        }
        file.sync()?;
        Ok(file)
    });
    let mut books = locked(&shared.books);
    books.preparing = 0;
    match made {
        Ok(file) => books.spare = Some(Spare { name: AHEAD, file, size }),
        Err(_) => {
            drop(books);
            let _ = shared.storage.remove(AHEAD);
        }
    }
}

/// Fills a file with zeros, slowly: others sync on the same disk. False when the log ends meanwhile.
fn zeros(shared: &Shared, file: &dyn File, size: u64) -> bool {
    let piece = vec![0; FILL];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).map_or(FILL, |left| left.min(FILL));
        let written = write_all_at(file, piece.get(..len).unwrap_or(&piece), at).and_then(|()| file.sync());
        if written.is_err() || locked(&shared.front).gate != Gate::Open {
            return false;
        }
        at += len as u64;
        std::thread::sleep(FILL_PAUSE);
    }
    true
}
