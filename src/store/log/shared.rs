//! What the handles, the writer and the readers of one log share: [`Shared`]; and the [`Handle`] that ends it.
//!
//! Locks, in the order in which they may be taken: writer, slots, front, books, ring, waits. Only the first two are
//! held during IO. Next: `front`, `waits`, `books`.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;

use super::books::Books;
use super::front::{Front, Gate, NoRoom, Plan, Ticket};
use super::stats::Counters;
use super::waits::Waits;
use super::{Refused, Turn, Witness};
use crate::event::Event;
use crate::message::{Message, SpoolId};
use crate::options::spool::{SpoolOptions, WhenFull};
use crate::store::clock::Clock;
use crate::store::delay::Delay;
use crate::store::log::Log;
use crate::store::names::Slots;
use crate::store::reader::{Chunk, DiskRead, Fetch};
use crate::store::record::Extra;
use crate::store::ring::{Hit, Ring};
use crate::store::storage::Storage;
use crate::store::writer::Writer;

/// The lock, whatever became of another thread that held it.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything but the handle.
pub(crate) struct Shared {
    pub(crate) id: SpoolId,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: SpoolOptions,
    pub(crate) segment_size: u64,
    pub(crate) witness: Arc<dyn Witness>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) threaded: bool,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) slots: Mutex<Slots>,
    pub(crate) front: Mutex<Front>,
    /// The writer sleeps here, with `front`.
    pub(crate) wake: Condvar,
    pub(crate) books: Mutex<Books>,
    pub(crate) ring: Mutex<Ring>,
    pub(super) waits: Mutex<Waits>,
    pub(crate) counters: Counters,
    /// The directory's lock, until the end.
    pub(super) lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
    pub(crate) delay: OnceLock<Delay>,
    pub(crate) dead: OnceLock<Log>,
    /// One at a time makes the places above.
    pub(super) making: Mutex<()>,
    visible: AtomicU64,
    newest: AtomicU64,
    /// The ring is crowded.
    pub(super) crowded: AtomicBool,
    /// Everything up to here is synced.
    pub(crate) durable: AtomicU64,
    /// The number of the last record that is synced: unlike `durable` no number that nobody wanted.
    pub(crate) safe: AtomicU64,
}

/// The parts of [`Shared`] that opening makes.
pub(super) struct Parts {
    pub(super) id: SpoolId,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) options: SpoolOptions,
    pub(super) segment_size: u64,
    pub(super) witness: Arc<dyn Witness>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) threaded: bool,
    pub(super) writer: Writer,
    pub(super) slots: Slots,
    pub(super) front: Front,
    pub(super) books: Books,
    pub(super) ring: Ring,
    pub(super) lock: Option<Box<dyn Any + Send + Sync>>,
    pub(super) safe: u64,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Shared {
        let newest = parts.front.newest();
        Shared {
            id: parts.id,
            storage: parts.storage,
            options: parts.options,
            segment_size: parts.segment_size,
            witness: parts.witness,
            clock: parts.clock,
            threaded: parts.threaded,
            writer: Mutex::new(parts.writer),
            slots: Mutex::new(parts.slots),
            front: Mutex::new(parts.front),
            wake: Condvar::new(),
            books: Mutex::new(parts.books),
            ring: Mutex::new(parts.ring),
            waits: Mutex::default(),
            counters: Counters::default(),
            lock: Mutex::new(parts.lock),
            delay: OnceLock::new(),
            dead: OnceLock::new(),
            making: Mutex::new(()),
            visible: AtomicU64::new(newest),
            newest: AtomicU64::new(newest),
            crowded: AtomicBool::new(false),
            durable: AtomicU64::new(newest),
            safe: AtomicU64::new(parts.safe),
        }
    }

    #[inline]
    pub(crate) fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn oldest(&self) -> u64 {
        locked(&self.books).oldest()
    }

    pub(crate) fn oldest_in_memory(&self) -> u64 {
        locked(&self.ring).oldest()
    }

    /// Now, by the spool's clock.
    pub(crate) fn now(&self) -> i64 {
        locked(&self.front).clock.now()
    }

    // Appending.

    #[inline]
    pub(super) fn try_append(&self, message: &Message, extra: &Extra) -> Result<u64, Refused> {
        let mut front = locked(&self.front);
        if !front.line.is_empty() {
            front.check_gate().map_err(refusal)?;
            return Err(Refused::Full);
        }
        let appended = front.append(message, extra);
        self.appended(front, appended)
    }

    /// What every append ends with: the lock goes, the writer is woken if it sleeps.
    #[inline]
    fn appended(
        &self,
        mut front: MutexGuard<'_, Front>,
        appended: Result<(u64, bool), NoRoom>,
    ) -> Result<u64, Refused> {
        let result = match appended {
            Ok((sequence, written)) => {
                self.newest.store(sequence, Ordering::Release);
                if !written {
                    self.skip(&mut front, sequence);
                }
                Ok(sequence)
            }
            Err(why) => {
                self.count_refusal(&mut front, why);
                Err(refusal(why))
            }
        };
        self.wake_writer(front);
        result
    }

    /// A number that nobody wanted is visible at once if nothing before it is on its way.
    #[inline]
    fn skip(&self, front: &mut Front, sequence: u64) {
        if !front.in_flight && front.open_records() == 0 {
            self.visible.store(sequence, Ordering::Release);
        }
        if front.wants_numbers() {
            front.nudged = true;
        }
    }

    fn count_refusal(&self, front: &mut Front, why: NoRoom) {
        if why == NoRoom::Spool {
            Counters::add(&self.counters.rejects, 1);
            front.tell_full = true;
            front.nudged = true;
        }
    }

    #[inline]
    pub(crate) fn wake_writer(&self, mut front: MutexGuard<'_, Front>) {
        let wake = front.asleep && (front.nudged || front.open_records() > 0);
        if wake {
            front.asleep = false;
        }
        drop(front);
        if wake {
            self.wake.notify_one();
        }
    }

    /// There is something to do for the writer beside a batch.
    pub(crate) fn nudge(&self) {
        let mut front = locked(&self.front);
        front.nudged = true;
        self.wake_writer(front);
    }

    pub(super) fn poll_append(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        message: &Message,
        extra: &Extra,
    ) -> Poll<Result<u64, Refused>> {
        let mut front = locked(&self.front);
        if !front.is_turn_of(ticket) && front.check_gate().is_ok() {
            return self.stand_in_line(front, cx, ticket, false);
        }
        let appended = front.append(message, extra);
        match appended {
            Err(NoRoom::Soon) => return self.stand_in_line(front, cx, ticket, false),
            Err(NoRoom::Spool) if self.options.when_full != WhenFull::Reject => {
                return self.stand_in_line(front, cx, ticket, true);
            }
            _ => {}
        }
        let next = front.leave(ticket);
        let result = self.appended(front, appended);
        if let Some(next) = next {
            next.wake();
        }
        Poll::Ready(result)
    }

    pub(super) fn poll_room(&self, cx: &mut Context<'_>, ticket: &mut Ticket) -> Poll<Result<(), Refused>> {
        let mut front = locked(&self.front);
        let room =
            if front.is_turn_of(ticket) { front.check_room() } else { front.check_gate().and(Err(NoRoom::Soon)) };
        match room {
            Ok(()) => {
                let next = front.leave(ticket);
                drop(front);
                if let Some(next) = next {
                    next.wake();
                }
                Poll::Ready(Ok(()))
            }
            Err(NoRoom::Soon) => self.stand_in_line(front, cx, ticket, false),
            Err(NoRoom::Spool) if self.options.when_full != WhenFull::Reject => {
                self.stand_in_line(front, cx, ticket, true)
            }
            Err(why) => {
                self.count_refusal(&mut front, why);
                let next = front.leave(ticket);
                self.wake_writer(front);
                if let Some(next) = next {
                    next.wake();
                }
                Poll::Ready(Err(refusal(why)))
            }
        }
    }

    fn stand_in_line<T>(
        &self,
        mut front: MutexGuard<'_, Front>,
        cx: &Context<'_>,
        ticket: &mut Ticket,
        full: bool,
    ) -> Poll<T> {
        let joined = front.wait(ticket, cx);
        if full {
            Counters::add(&self.counters.full_waits, u64::from(joined));
            front.tell_full |= joined;
            front.nudged |= joined;
        }
        if front.wants_numbers() {
            front.nudged = true;
        }
        self.wake_writer(front);
        Poll::Pending
    }

    pub(super) fn append_permitted(&self, message: &Message) -> Result<u64, Refused> {
        self.append_forced(message, &Extra::default())
    }

    pub(super) fn append_forced(&self, message: &Message, extra: &Extra) -> Result<u64, Refused> {
        let mut front = locked(&self.front);
        front.forced = true;
        let appended = front.append(message, extra);
        front.forced = false;
        self.appended(front, appended)
    }

    pub(super) fn abandon(&self, ticket: &mut Ticket) {
        let next = locked(&self.front).leave(ticket);
        if let Some(next) = next {
            next.wake();
        }
    }

    pub(super) fn try_append_all(&self, messages: &mut VecDeque<Message>) -> Result<(usize, u64), Refused> {
        let mut front = locked(&self.front);
        if !front.line.is_empty() {
            front.check_gate().map_err(refusal)?;
            return Err(Refused::Full);
        }
        let extra = Extra::default();
        let (mut sent, mut last, mut stop) = (0, 0, None);
        while let Some(message) = messages.front() {
            match front.append(message, &extra) {
                Ok((sequence, written)) => {
                    self.newest.store(sequence, Ordering::Release);
                    if !written {
                        self.skip(&mut front, sequence);
                    }
                    last = sequence;
                }
                Err(why) => {
                    self.count_refusal(&mut front, why);
                    stop = Some(refusal(why));
                    break;
                }
            }
            sent += 1;
            messages.pop_front();
        }
        self.wake_writer(front);
        match stop {
            Some(why) if sent == 0 => Err(why),
            _ => Ok((sent, last)),
        }
    }

    /// A copy of a record whose frames are wire bytes. The writer may call it.
    pub(crate) fn append_raw(&self, extra: &Extra, frames: u16, topic: &[u8], body: &[u8]) -> Result<u64, Refused> {
        let mut front = locked(&self.front);
        let appended = front.append_raw(extra, frames, topic, body);
        self.appended(front, appended)
    }

    // What the writer publishes.

    /// Everything up to `last` reached the policy's level, and what nobody wanted after it, unless the `rest` of a
    /// batch is to come. Who is to be woken.
    pub(crate) fn publish(&self, last: u64, rest: bool, plan: Plan, spares: Vec<BytesMut>) -> Vec<Waker> {
        let mut front = locked(&self.front);
        front.in_flight = rest;
        front.replan(plan);
        front.take_spares(spares);
        let visible = if front.open_records() == 0 && !rest { front.newest() } else { last };
        if visible > self.visible() {
            self.visible.store(visible, Ordering::Release);
        }
        let room = if front.check_room().is_ok() { front.line.first() } else { None };
        drop(front);
        let mut wakers = locked(&self.waits).reached(visible);
        wakers.extend(room);
        wakers
    }

    /// The writer's word on what room there is. Who is to be woken, whether a full spool is to be told of, and whether
    /// it still is full.
    pub(crate) fn replan(&self, plan: Plan) -> (Option<Waker>, bool, bool) {
        let mut front = locked(&self.front);
        front.replan(plan);
        let tell = std::mem::take(&mut front.tell_full);
        let first = if front.check_room().is_ok() { front.line.first() } else { None };
        (first, tell, front.is_full())
    }

    /// What room there is before the writer's first turn.
    pub(super) fn first_plan(&self) {
        let plan = locked(&self.writer).plan(self, &locked(&self.books));
        locked(&self.front).replan(plan);
    }

    /// The directory is free for others.
    pub(crate) fn unlock(&self) -> Option<Box<dyn Any + Send + Sync>> {
        locked(&self.lock).take()
    }

    /// Writing is over. Numbers up to `unknown` were on their way.
    pub(crate) fn fail(&self, error: &str, unknown: u64) {
        let mut front = locked(&self.front);
        let first = front.gate != Gate::Failed;
        front.gate = Gate::Failed;
        let mut wakers = front.line.drain();
        drop(front);
        wakers.extend(locked(&self.waits).fail(unknown));
        if first {
            self.witness.event(Event::SpoolFailed { error: error.to_owned() });
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Closed with something that could not be written: whoever waits for it is told.
    pub(crate) fn give_up(&self, unknown: u64) {
        let mut wakers = locked(&self.front).line.drain();
        wakers.extend(locked(&self.waits).fail(unknown));
        wakers.into_iter().for_each(Waker::wake);
    }

    // Reading.

    pub(crate) fn fetch(self: &Arc<Self>, after: u64, reader: Option<u64>) -> Fetch {
        let visible = self.visible();
        if after >= visible {
            return Fetch::Nothing;
        }
        let mut ring = locked(&self.ring);
        if let Some(reader) = reader {
            ring.note_reader(reader, after);
        }
        let hit = ring.after(after);
        self.note_crowd(ring);
        match hit {
            Hit::Batch(written) => return Fetch::Chunk(Chunk::of_batch(written, after)),
            Hit::Newest => return Fetch::Chunk(Chunk::empty(visible)),
            Hit::Miss => {}
        }
        match locked(&self.books).find(after) {
            Some((segment, before)) => Fetch::Disk(DiskRead::new(Arc::clone(self), segment, before, after, visible)),
            None => Fetch::Chunk(Chunk::empty(visible)),
        }
    }
}

fn refusal(why: NoRoom) -> Refused {
    match why {
        NoRoom::Soon | NoRoom::Spool => Refused::Full,
        NoRoom::Refused(why) => why,
    }
}

/// Ends the log when the last clone of it goes.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    pub(super) fn turn(&self) -> Turn {
        self.shared.turn()
    }

    pub(super) fn close(&self) -> io::Result<()> {
        let mut front = locked(&self.shared.front);
        if matches!(front.gate, Gate::Open) {
            front.gate = Gate::Closed;
        }
        front.nudged = true;
        let line = front.line.drain();
        self.shared.wake_writer(front);
        line.into_iter().for_each(Waker::wake);
        if let Some(thread) = locked(&self.thread).take() {
            let _ = thread.join();
        } else if !self.shared.threaded {
            while self.shared.turn() != Turn::Ended {}
        }
        self.shared.finished()
    }
}

impl Handle {
    /// Writes what is open and ends, without closing.
    pub(super) fn abandon(&self) {
        let mut front = locked(&self.shared.front);
        if matches!(front.gate, Gate::Open) {
            front.gate = Gate::Abandoned;
        }
        front.nudged = true;
        self.shared.wake_writer(front);
        let thread = locked(&self.thread).take();
        // The writer itself cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
        self.shared.abandon_nested();
        drop(self.shared.unlock());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// So long the writer waits at most before it looks around.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
