//! Messages that wait for their time: a second log, and in memory what is due when.
//!
//! A delayed message is a record of that log with the time it is due. When it is, the writer of the main log appends
//! a copy there that names the record as its origin; when the copy is accepted, a tombstone (a record of the delay log
//! with that origin) says that it is done. A crash in between repeats nothing: the registry of the main log says how
//! far its copies have safe tombstones, opening looks for copies behind that, and nothing behind it is let go.
//! Cancelling is a tombstone without a copy. Absent: threads, the wall clock. Next: `writer::timers`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::message::{Frame, Message};
use crate::options::spool::Sync;
use crate::store::log::shared::{Shared, locked};
use crate::store::log::{Log, Refused};
use crate::store::reader::{Chunk, Fetch, Taken};
use crate::store::record::Extra;

/// Copied in one turn at most.
const MOST_MOVES: usize = 1024;
/// Read from disk in one turn at most, as what is due is anywhere on it: senders wait for the turn to end, and what
/// was copied is written behind it. A process that lives shortly again and again has to get on, too.
const MOST_READS: usize = 16;
/// When there was no room, or a copy is not accepted yet, it is looked at again after so long.
const AGAIN: Duration = Duration::from_millis(10);

/// The log of delayed messages.
pub(crate) struct Delay {
    log: Log,
    pending: Mutex<Pending>,
    /// Wakes the writer of the main log.
    nudge: Waker,
}

#[derive(Default)]
struct Pending {
    due: BTreeSet<(i64, u64)>,
    by_number: BTreeMap<u64, i64>,
    /// Copied into the main log, not known to be accepted there: number here and there.
    moving: VecDeque<(u64, u64)>,
    /// Tombstones on their way: number of the tombstone, and of the copy.
    buried: VecDeque<(u64, u64)>,
    /// Where the last record was read: the next one may be in it, too.
    chunk: Option<Chunk>,
}

impl Pending {
    fn insert(&mut self, number: u64, due: i64) {
        self.due.insert((due, number));
        self.by_number.insert(number, due);
    }

    fn remove(&mut self, number: u64) -> bool {
        let Some(due) = self.by_number.remove(&number) else { return false };
        self.due.remove(&(due, number))
    }
}

impl Delay {
    pub(crate) fn new(log: Log, nudge: Waker) -> Delay {
        Delay { log, pending: Mutex::default(), nudge }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> u64 {
        locked(&self.pending).by_number.len() as u64
    }

    pub(crate) fn append(&self, message: &Message, due: i64, most: usize) -> Result<u64, Refused> {
        let mut pending = locked(&self.pending);
        if pending.by_number.len() >= most {
            return Err(Refused::Full);
        }
        let number = self.log.try_append(message, &Extra { deliver_at: Some(due), ..Extra::default() })?;
        pending.insert(number, due);
        Ok(number)
    }

    pub(crate) fn cancel(&self, number: u64) -> bool {
        let mut pending = locked(&self.pending);
        // Without a tombstone it would be sent after all.
        pending.by_number.contains_key(&number) && self.bury(number).is_some() && pending.remove(number)
    }

    /// Writes the tombstone of a record; its number.
    fn bury(&self, number: u64) -> Option<u64> {
        let extra = Extra { origin: Some(number), ..Extra::default() };
        self.log.append_extra(&Message::single(Frame::EMPTY), &extra).ok()
    }

    /// What waits, as the disk tells it. To be called before the writer of the main log starts.
    pub(crate) fn load(&self, main: &Arc<Shared>) -> io::Result<()> {
        let mut pending = Pending::default();
        let cursor = self.log.registry(|registry| registry.names.get("").map_or(0, |name| name.cursor));
        each(&self.log, cursor, &mut |record| match record.extra.origin {
            Some(done) => drop(pending.remove(done)),
            None => pending.insert(record.sequence, record.extra.deliver_at.unwrap_or(0)),
        })?;
        let checked = locked(&main.books).registry.checked;
        each_of(&|after| main.fetch(after, None), checked, &mut |record| {
            if let Some(origin) = record.extra.origin.filter(|origin| pending.by_number.contains_key(origin)) {
                pending.remove(origin);
                pending.moving.push_back((origin, record.sequence));
            }
        })?;
        locked(&main.books).pin = Some(checked);
        *locked(&self.pending) = pending;
        Ok(())
    }

    /// Copies what is due, buries what was copied. Whether something was done, and when to call again.
    fn run(&self, main: &Arc<Shared>) -> (bool, Option<Duration>) {
        let mut pending = locked(&self.pending);
        let buried = self.bury_accepted(main, &mut pending);
        let now = main.now();
        let (mut moved, mut reads, mut more) = (0, 0, false);
        let mut wait = None;
        while let Some((due, number)) = pending.due.first().copied() {
            if due > now {
                wait = Some(Duration::from_micros(u64::try_from(due.saturating_sub(now)).unwrap_or(0)));
                break;
            }
            if self.waits_for(number) {
                break;
            }
            if moved >= MOST_MOVES || reads >= MOST_READS {
                more = true;
                break;
            }
            let Some(record) = self.read(&mut pending, number, &mut reads) else {
                // Damaged: told of when it was read.
                pending.remove(number);
                continue;
            };
            let extra = Extra { origin: Some(number), ..record.extra };
            match main.append_raw(&extra, record.frames, record.topic(), &record.body) {
                Ok(sequence) => pending.moving.push_back((number, sequence)),
                Err(_) => {
                    wait = Some(AGAIN);
                    break;
                }
            }
            pending.remove(number);
            moved += 1;
        }
        if !pending.moving.is_empty() {
            let soon = if moved > 0 { Duration::ZERO } else { AGAIN };
            wait = Some(wait.map_or(soon, |wait: Duration| wait.min(soon)));
        }
        self.check(main, &mut pending);
        if let Sync::Every(every) = main.options.sync
            && !(pending.moving.is_empty() && pending.buried.is_empty())
        {
            wait = Some(wait.map_or(every, |wait| wait.min(every)).max(AGAIN));
        }
        if more {
            wait = Some(Duration::ZERO);
        }
        (moved > 0 || buried, wait)
    }

    /// Whether the record is not accepted itself yet; the writer is woken when it is.
    fn waits_for(&self, number: u64) -> bool {
        self.log.poll_flushed(number, &mut Context::from_waker(&self.nudge)) != Poll::Ready(Ok(()))
    }

    /// Where syncs come later than acceptance, copy and tombstone wait for them: else a power cut could take the one
    /// and leave the other. (Without any syncs nothing can be promised.)
    fn timed(&self, main: &Shared) -> bool {
        matches!(main.options.sync, Sync::Every(_))
    }

    /// Tombstones for copies that are accepted.
    fn bury_accepted(&self, main: &Shared, pending: &mut Pending) -> bool {
        let visible = if self.timed(main) { main.durable() } else { main.visible() };
        let mut any = false;
        while let Some((number, sequence)) = pending.moving.front().copied().filter(|moving| moving.1 <= visible) {
            let Some(tombstone) = self.bury(number) else { break };
            pending.moving.pop_front();
            pending.buried.push_back((tombstone, sequence));
            any = true;
        }
        any
    }

    /// How far every copy in the main log has its tombstone: so far it is not looked through again.
    fn check(&self, main: &Shared, pending: &mut Pending) {
        // What is copied from now on is above it.
        let mut checked = pending.moving.front().map_or(main.visible(), |moving| moving.1.saturating_sub(1));
        while let Some((tombstone, _)) = pending.buried.front().copied() {
            let waits = if self.timed(main) { self.log.durable() < tombstone } else { self.waits_for(tombstone) };
            if waits {
                break;
            }
            pending.buried.pop_front();
        }
        if let Some((_, sequence)) = pending.buried.front() {
            checked = checked.min(sequence.saturating_sub(1));
        }
        let open = pending.by_number.keys().next().into_iter().chain(pending.moving.iter().map(|moving| &moving.0));
        let safe = if pending.buried.is_empty() { open.min().map_or(self.log.visible(), |first| first - 1) } else { 0 };
        self.log.advance("", safe, &[]);
        let mut books = locked(&main.books);
        if checked > books.registry.checked {
            books.registry.checked = checked;
            (books.pin, books.release) = (Some(checked), true);
        }
    }

    /// One record of this log. `reads` counts those that wanted the disk.
    fn read(&self, pending: &mut Pending, number: u64, reads: &mut usize) -> Option<Taken> {
        if let Some(chunk) = pending.chunk.as_mut() {
            // The next one in a row is most often in the same run.
            while let Some(record) = chunk.next_upto(number) {
                if record.sequence == number {
                    return Some(record);
                }
            }
        }
        let mut chunk = match self.log.fetch(number.saturating_sub(1)) {
            Fetch::Chunk(chunk) => chunk,
            Fetch::Disk(read) => {
                *reads += 1;
                read.run().ok()?
            }
            Fetch::Nothing => return None,
        };
        let record = chunk.next_upto(number).filter(|record| record.sequence == number);
        pending.chunk = Some(chunk);
        record
    }
}

fn each(log: &Log, after: u64, see: &mut dyn FnMut(&Taken)) -> io::Result<()> {
    each_of(&|after| log.fetch(after), after, see)
}

/// Shows every record behind `after`.
fn each_of(fetch: &dyn Fn(u64) -> Fetch, mut after: u64, see: &mut dyn FnMut(&Taken)) -> io::Result<()> {
    loop {
        let mut chunk = match fetch(after) {
            Fetch::Nothing => return Ok(()),
            Fetch::Chunk(chunk) => chunk,
            Fetch::Disk(read) => read.run()?,
        };
        while let Some(record) = chunk.next() {
            see(&record);
        }
        after = chunk.end();
    }
}

impl Shared {
    /// What is due among the delayed messages; called by the writer. Whether something was done, and when to call
    /// again.
    pub(crate) fn run_delayed(self: &Arc<Self>) -> (bool, Option<Duration>) {
        self.delay.get().map_or((false, None), |delay| delay.run(self))
    }

    /// Moves on what is pinned for delayed messages, where that is possible.
    pub(crate) fn unpin(&self) {
        if let Some(delay) = self.delay.get() {
            let mut pending = locked(&delay.pending);
            delay.bury_accepted(self, &mut pending);
            delay.check(self, &mut pending);
        }
    }
}
