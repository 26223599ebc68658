//! The log: numbers, the open batch, what is visible, and who waits for it. [`Log`] is the handle to all of it.
//!
//! `front` is the append side (one short lock), `waits` who waits for what, `books` the segments and the registry as
//! they are known in memory, `naming` their changes, `nested` the logs within, `open` the way from a directory to a running log, `stats` the numbers it shows. One
//! writer does all the writing (`writer`), any number of readers read by position (`reader`, `ring`). No lock is
//! held during IO, but the writer's own and the registry's, which only savers take. Absent: peers, and which name
//! gets what. Next: `writer`.

pub(crate) mod books;
pub(crate) mod front;
pub(crate) mod naming;
pub(crate) mod nested;
pub(crate) mod open;
pub(crate) mod shared;
pub(crate) mod stats;
pub(crate) mod waits;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::OpenError;
use crate::event::Event;
use crate::message::{Message, SpoolId};
use crate::options::spool::SpoolOptions;
#[cfg(test)]
use crate::store::clock::Clock;
use crate::store::interest::Interest;
use crate::store::names::Registry;
use crate::store::reader::{Fetch, Taken};
use crate::store::record::Extra;
#[cfg(test)]
use crate::store::storage::Storage;
pub(crate) use front::Ticket;
use shared::Handle;
pub(crate) use stats::LogStats;
pub(crate) use waits::Watch;

/// Who hears of what happens to a log. Called from any thread; to be quick, and not to call the log.
pub(crate) trait Witness: Send + Sync + 'static {
    /// Something that a monitor should see.
    fn event(&self, event: Event);

    /// A limit moved this name's cursor beyond records it had not read: its session is to resume.
    fn lost(&self, _name: &str, _from: u64, _to: u64) {}

    /// This name was dropped, evicted or expired. Its prefixes are already out of the interest.
    fn dropped(&self, _name: &str) {}
}

/// Why an append was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No room now, or others wait in line.
    Full,
    /// Larger than `max_record`, or of too many frames.
    TooLarge,
    /// Writing or syncing failed.
    Failed,
    /// Closed.
    Closed,
}

/// Why a number will not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unaccepted {
    /// It was on its way to the disk when that failed: it may be there or not.
    Unknown,
    /// It was never written.
    Failed,
}

/// What one turn of the writer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something; there may be more.
    Worked,
    /// Nothing was to be done.
    Idle,
    /// It waits for space on the disk.
    Stuck,
    /// It has ended: closed or failed.
    Ended,
}

/// An open log. Clones are the same log; when the last one goes without [`Log::close`], what was appended is still
/// written, but the next opening is an unclean one.
#[derive(Clone)]
pub(crate) struct Log(Arc<Handle>);

impl Log {
    /// Opens the spool that `options` name: lock, registry, recovery, gap record, sync. Starts the writer's thread.
    pub(crate) fn open(options: &SpoolOptions, push: bool, witness: Arc<dyn Witness>) -> Result<Log, OpenError> {
        open::open(options, push, witness)
    }

    /// The same on this storage and by this clock. Without a thread the writer works in [`Log::turn`] only.
    #[cfg(test)]
    pub(crate) fn open_on(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        options: &SpoolOptions,
        push: bool,
        witness: Arc<dyn Witness>,
        threaded: bool,
    ) -> Result<Log, OpenError> {
        open::open_on(storage, clock, options, push, witness, threaded)
    }

    /// One step of the writer, for a log without a thread.
    pub(crate) fn turn(&self) -> Turn {
        self.0.turn()
    }

    /// The spool's identity.
    pub(crate) fn id(&self) -> SpoolId {
        self.0.shared.id
    }

    /// Takes the next number for `message` and puts it into the open batch, unless nobody wants it.
    /// `Full` also when others wait in line.
    #[inline]
    pub(crate) fn try_append(&self, message: &Message, extra: &Extra) -> Result<u64, Refused> {
        self.0.shared.try_append(message, extra)
    }

    /// The same, waiting in line for room. With `WhenFull::Reject` a full disk is an error at once.
    pub(crate) fn poll_append(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        message: &Message,
        extra: &Extra,
    ) -> Poll<Result<u64, Refused>> {
        self.0.shared.poll_append(cx, ticket, message, extra)
    }

    /// Waits in line for room without taking it: when it is ready [`Log::append_permitted`] may follow.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, ticket: &mut Ticket) -> Poll<Result<(), Refused>> {
        self.0.shared.poll_room(cx, ticket)
    }

    /// Appends a message for which there was room: never `Full`. On a full disk it waits in the open batch.
    pub(crate) fn append_permitted(&self, message: &Message) -> Result<u64, Refused> {
        self.0.shared.append_permitted(message)
    }

    /// The same with optional fields, for records that the log itself makes.
    pub(crate) fn append_extra(&self, message: &Message, extra: &Extra) -> Result<u64, Refused> {
        self.0.shared.append_forced(message, extra)
    }

    /// Gives up a place in the line.
    pub(crate) fn abandon(&self, ticket: &mut Ticket) {
        self.0.shared.abandon(ticket);
    }

    /// Appends a run under one lock, for as long as there is room. How many went (they are gone from the queue);
    /// the error only if none did. The last one's number, and that of those before it, each one less: the second.
    pub(crate) fn try_append_all(&self, messages: &mut VecDeque<Message>) -> Result<(usize, u64), Refused> {
        self.0.shared.try_append_all(messages)
    }

    /// Whether the policy's level is reached for this number. One waiter for each number.
    #[inline]
    pub(crate) fn poll_accepted(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        self.0.shared.poll_accepted(sequence, cx)
    }

    /// The waiter of [`Log::poll_accepted`] is gone.
    pub(crate) fn forget_waiter(&self, sequence: u64) {
        self.0.shared.forget_waiter(sequence);
    }

    /// Ready when everything up to `target` (take [`Log::newest`] at the start) is accepted. Many may wait.
    pub(crate) fn poll_flushed(&self, target: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        self.0.shared.poll_flushed(target, cx)
    }

    /// Readers may have everything up to here; under every policy the same as accepted.
    #[inline]
    pub(crate) fn visible(&self) -> u64 {
        self.0.shared.visible()
    }

    /// Everything up to here is synced.
    pub(crate) fn durable(&self) -> u64 {
        self.0.shared.durable()
    }

    /// The last number given out.
    #[inline]
    pub(crate) fn newest(&self) -> u64 {
        self.0.shared.newest()
    }

    /// The lowest number that may still be there.
    pub(crate) fn oldest(&self) -> u64 {
        self.0.shared.oldest()
    }

    /// To be woken when more becomes visible.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.0.shared))
    }

    /// The first number that readers find in memory.
    pub(crate) fn oldest_in_memory(&self) -> u64 {
        self.0.shared.oldest_in_memory()
    }

    /// Whether a reader that found all it wanted in memory is about to fall behind. A hint.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.shared.is_crowded()
    }

    /// Ready when it is not so, or that reader reads from the disk.
    pub(crate) fn poll_uncrowded(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.shared.poll_uncrowded(cx)
    }

    /// Now, by the spool's clock: microseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.0.shared.now()
    }

    /// What comes after `after`.
    pub(crate) fn fetch(&self, after: u64) -> Fetch {
        self.0.shared.fetch(after, None)
    }

    /// The same for one that reads on and on: what all of these have passed need not stay in memory. With its number
    /// ([`Watch::id`]), which is given back with the watch.
    pub(crate) fn fetch_on(&self, after: u64, reader: u64) -> Fetch {
        self.0.shared.fetch(after, Some(reader))
    }

    /// Changes what is wanted, under the lock of the appends. The first number that is judged by it.
    pub(crate) fn change_interest(&self, change: impl FnOnce(&mut Interest)) -> u64 {
        self.0.shared.change_interest(change)
    }

    /// Reads or changes the registry; it is saved within a second, or by [`Log::save`].
    pub(crate) fn registry<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        self.0.shared.registry(f)
    }

    /// Makes this name if it is missing (at now; at the oldest record if the registry was lost) and gives it these
    /// prefixes; registry and interest both. True if it is new. To be followed by [`Log::save_both`].
    pub(crate) fn declare(&self, name: &str, prefixes: &[&[u8]]) -> bool {
        self.0.shared.declare(name, prefixes)
    }

    /// Takes a name out of registry and interest. False if there is none. To be followed by [`Log::save_both`].
    pub(crate) fn drop_name(&self, name: &str) -> bool {
        self.0.shared.drop_name(name)
    }

    /// A name with a connection does not expire; at both ends of one its `seen` becomes now.
    pub(crate) fn set_connected(&self, name: &str, connected: bool) {
        self.0.shared.set_connected(name, connected);
    }

    /// Saves the registry, synced. Blocks.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.0.shared.save(false)
    }

    /// Saves it to both slots. Blocks.
    pub(crate) fn save_both(&self) -> io::Result<()> {
        self.0.shared.save(true)
    }

    /// The name has done everything up to `cursor`, and `done` above it. Never moves a cursor back.
    pub(crate) fn advance(&self, name: &str, cursor: u64, done: &[(u64, u64)]) {
        self.0.shared.advance(name, cursor, done);
    }

    /// Keeps a message until `due` (microseconds since 1970). Its number is one of the delayed ones. Blocks the
    /// first time in a spool's life, to make the place for them.
    pub(crate) fn append_delayed(&self, message: &Message, due: i64) -> Result<u64, Refused> {
        self.0.append_delayed(message, due)
    }

    /// As [`Log::poll_accepted`], for the numbers of [`Log::append_delayed`].
    pub(crate) fn poll_delayed_accepted(&self, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        self.0.poll_delayed_accepted(number, cx)
    }

    /// As [`Log::forget_waiter`], for delayed ones.
    pub(crate) fn forget_delayed_waiter(&self, number: u64) {
        self.0.forget_delayed_waiter(number);
    }

    /// A delayed message will not be sent. False: it was already, or there is none.
    pub(crate) fn cancel_delayed(&self, number: u64) -> bool {
        self.0.cancel_delayed(number)
    }

    /// Makes the place for dead letters now, so that [`Log::bury`] never has to. Blocks.
    pub(crate) fn make_dead_letters(&self) -> Result<(), Refused> {
        self.0.shared.dead().map(drop)
    }

    /// Copies a record to the dead letters. The name's cursor is not saved before the copy is safe.
    /// Blocks the first time in a spool's life, to make the place for them.
    pub(crate) fn bury(&self, record: &Taken) -> Result<(), Refused> {
        self.0.bury(record)
    }

    /// What can be observed.
    pub(crate) fn stats(&self) -> LogStats {
        self.0.stats()
    }

    /// Writes and syncs what was appended, saves the registry as clean, ends the thread. Blocks.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
