//! Logs within a log: `delay/` for messages that wait for their time, `dead/` for those that were given up.
//!
//! Each is a whole log with a registry and a writer of its own, made when it is first needed. They share the
//! directory's lock with the one around them, and their troubles are told to the same witness. Next: `delay`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::open::Opening;
use super::shared::{Handle, Shared, locked};
use super::{Log, Refused, Turn, Unaccepted, Witness};
use crate::error::OpenError;
use crate::event::Event;
use crate::message::Message;
use crate::options::spool::{SpoolOptions, WhenFull};
use crate::store::delay::Delay;
use crate::store::reader::Taken;
use crate::store::record::Extra;
use crate::store::storage::Storage;

/// The directories.
pub(crate) const DELAY: &str = "delay";
pub(crate) const DEAD: &str = "dead";
/// Their segments are no larger.
const MOST_SEGMENT: u64 = 8 << 20;

/// Tells of troubles only: that a log within was recovered or lost its one name is nobody's business.
struct Inner(Arc<dyn Witness>);

impl Witness for Inner {
    fn event(&self, event: Event) {
        if matches!(event, Event::SpoolFailed { .. } | Event::SpoolFull { .. } | Event::Damaged { .. }) {
            self.0.event(event);
        }
    }
}

/// Wakes the writer of the log around.
struct Nudge(Weak<Shared>);

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.nudge();
        }
    }
}

/// Wakes a thread that waits.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn options(outer: &SpoolOptions, when_full: WhenFull, append_all: bool) -> SpoolOptions {
    let segment = outer.segment_size().min(MOST_SEGMENT);
    let mut options = SpoolOptions::new(outer.dir.clone());
    (options.sync, options.when_full, options.append_all) = (outer.sync, when_full, append_all);
    (options.max_bytes, options.segment_bytes) = (outer.max_bytes, Some(segment));
    (options.min_free_disk, options.batch_delay) = (outer.min_free_disk, outer.batch_delay);
    // A record gets a few optional fields on its way from one log to another.
    options.max_record = outer.max_record.saturating_add(64);
    options
}

fn open(shared: &Shared, storage: Arc<dyn Storage>, push: bool, options: SpoolOptions) -> Result<Log, OpenError> {
    Opening {
        storage,
        clock: Arc::clone(&shared.clock),
        options,
        push,
        witness: Arc::new(Inner(Arc::clone(&shared.witness))),
        threaded: shared.threaded,
        lock: None,
        nested: true,
    }
    .run()
}

impl Shared {
    fn open_delay(self: &Arc<Self>) -> Result<Delay, OpenError> {
        let storage = self.subdir(DELAY)?;
        let log = open(self, storage, true, options(&self.options, WhenFull::Block, false))?;
        Ok(Delay::new(log, Waker::from(Arc::new(Nudge(Arc::downgrade(self))))))
    }

    fn open_dead(&self) -> Result<Log, OpenError> {
        open(self, self.subdir(DEAD)?, false, options(&self.options, WhenFull::DropOldest, true))
    }

    fn subdir(&self, name: &str) -> Result<Arc<dyn Storage>, OpenError> {
        self.storage.subdir(name).map_err(|source| OpenError::Path { path: self.storage.path().join(name), source })
    }

    /// Opens what is there, before the writer starts.
    pub(super) fn open_nested(self: &Arc<Self>) -> Result<(), OpenError> {
        let used = |name| match self.subdir(name)?.list() {
            Ok(names) => Ok(!names.is_empty()),
            Err(source) => Err(OpenError::Path { path: self.storage.path().join(name), source }),
        };
        if used(DELAY)? {
            let delay = self.open_delay()?;
            let failed = |source| OpenError::Path { path: self.storage.path().join(DELAY), source };
            delay.load(self).map_err(failed)?;
            let _ = self.delay.set(delay);
        }
        if used(DEAD)? {
            let _ = self.dead.set(self.open_dead()?);
        }
        Ok(())
    }

    /// The log of delayed messages, made if need be.
    fn delay(self: &Arc<Self>) -> Result<&Delay, Refused> {
        if let Some(delay) = self.delay.get() {
            return Ok(delay);
        }
        let _making = locked(&self.making);
        if self.delay.get().is_none() {
            let delay = self.open_delay().map_err(|_| Refused::Failed)?;
            // No copy can be in what there is so far.
            let newest = self.newest();
            self.save_with(false, |registry| registry.checked = newest).map_err(|_| Refused::Failed)?;
            // Not before: without the log nobody would ever take it away again.
            locked(&self.books).pin = Some(newest);
            let _ = self.delay.set(delay);
        }
        self.delay.get().ok_or(Refused::Failed)
    }

    pub(super) fn dead(&self) -> Result<&Log, Refused> {
        if let Some(dead) = self.dead.get() {
            return Ok(dead);
        }
        let _making = locked(&self.making);
        if self.dead.get().is_none() {
            let _ = self.dead.set(self.open_dead().map_err(|_| Refused::Failed)?);
        }
        self.dead.get().ok_or(Refused::Failed)
    }

    /// Waits until all dead letters so far are safe: a cursor that passed them may be saved then.
    pub(super) fn flush_dead(&self) -> io::Result<()> {
        let Some(dead) = self.dead.get() else { return Ok(()) };
        let target = dead.newest();
        let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&unpark));
        loop {
            match dead.poll_flushed(target, &mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(())) => return Ok(()),
                Poll::Ready(Err(_)) => return Err(io::Error::other("the dead letters cannot be written")),
                Poll::Pending if !self.threaded => match dead.turn() {
                    Turn::Worked => {}
                    _ if dead.visible() >= target => return Ok(()),
                    _ => return Err(io::ErrorKind::StorageFull.into()),
                },
                Poll::Pending => {
                    while !unpark.woken.swap(false, Ordering::AcqRel) {
                        std::thread::park();
                    }
                }
            }
        }
    }

    pub(super) fn delayed(&self) -> u64 {
        self.delay.get().map_or(0, Delay::len)
    }

    pub(super) fn dead_letters(&self) -> u64 {
        // Those on their way to the disk count.
        let count = |dead: &Log| locked(&dead.0.shared.books).records() + (dead.newest() - dead.visible());
        self.dead.get().map_or(0, count)
    }

    /// By hand: one turn of each. True if one worked.
    pub(crate) fn turn_nested(&self) -> bool {
        let delay = self.delay.get().map(|delay| delay.log().turn());
        let dead = self.dead.get().map(Log::turn);
        [delay, dead].contains(&Some(Turn::Worked))
    }

    /// Ends them without closing them.
    pub(super) fn abandon_nested(&self) {
        let logs = self.delay.get().map(Delay::log).into_iter().chain(self.dead.get());
        logs.for_each(|log| log.0.abandon());
    }

    pub(crate) fn close_nested(&self) -> io::Result<()> {
        let dead = self.dead.get().map_or(Ok(()), Log::close);
        let delay = self.delay.get().map_or(Ok(()), |delay| delay.log().close());
        dead.and(delay)
    }
}

impl Handle {
    pub(super) fn append_delayed(&self, message: &Message, due: i64) -> Result<u64, Refused> {
        let shared = &self.shared;
        locked(&shared.front).check_open()?;
        let number = shared.delay()?.append(message, due, shared.options.max_delayed)?;
        shared.nudge();
        Ok(number)
    }

    pub(super) fn poll_delayed_accepted(&self, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        match self.shared.delay.get() {
            Some(delay) => delay.log().poll_accepted(number, cx),
            None => Poll::Ready(Err(Unaccepted::Failed)),
        }
    }

    pub(super) fn forget_delayed_waiter(&self, number: u64) {
        if let Some(delay) = self.shared.delay.get() {
            delay.log().forget_waiter(number);
        }
    }

    pub(super) fn cancel_delayed(&self, number: u64) -> bool {
        self.shared.delay.get().is_some_and(|delay| delay.cancel(number))
    }

    pub(super) fn bury(&self, record: &Taken) -> Result<(), Refused> {
        let dead = self.shared.dead()?;
        let extra = Extra { origin: Some(record.sequence), ..record.extra };
        dead.0.shared.append_raw(&extra, record.frames, record.topic(), &record.body)?;
        Ok(())
    }
}
