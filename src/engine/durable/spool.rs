//! A socket's spool with its names: [`Spool`] — where each name is, and what happens to it.
//!
//! It joins `store` (the log and the registry) to `durable` (what a name still has to get). One lock per name, held
//! for one turn of a connection; what must be on disk before a peer hears of it is saved by the caller, away from
//! its task. Who may hold a name: `claim`. Per connection: `spooler`. Absent: bytes of the wire.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::claim::refuse;
use crate::durable::filter::Filter;
use crate::durable::queue::{HolderKey, Kind, Queue};
use crate::durable::ranges::Ranges;
use crate::engine::events::Events;
use crate::error::OpenError;
use crate::event::{Event, Reason};
use crate::options::spool::{SpoolOptions, is_durable_name};
use crate::queue::PeerKey;
use crate::queue::outbound::Outbound;
use crate::store::log::{Log, Witness};
use crate::store::names::{NameKind, NameRecord};
use crate::store::reader::Taken;
use crate::wire::command::durable::Refusal;

/// The name of a PUSH's own queue.
pub(crate) const OUTBOX: &str = "";
/// Appends after which a sender lets others run.
const TOLL: u64 = 256;
/// So long a sender waits then, at most, for a reader that is about to fall behind.
const MOMENT: Duration = Duration::from_millis(1);
/// What is done above a cursor that stands still is told to the registry this often.
const ADVANCE_EVERY: Duration = Duration::from_millis(200);

/// A socket's spool.
pub(crate) struct Spool {
    pub(crate) log: Log,
    pub(crate) options: SpoolOptions,
    pub(crate) events: Arc<Events>,
    is_outbox: bool,
    names: Mutex<HashMap<String, Arc<Name>>>,
    guests: Mutex<Guests>,
    outbound: OnceLock<Weak<Outbound>>,
    /// The socket is closing: nothing more is accepted.
    closed: AtomicBool,
    epoch: Instant,
    appends: AtomicU64,
}

/// Connections without a name.
#[derive(Default)]
struct Guests {
    /// Those of whom it is not yet known what they will be.
    unsettled: HashSet<PeerKey>,
    /// Plain subscribers, and how far each has read.
    plain: HashMap<PeerKey, u64>,
    /// Who waits for them to have read everything.
    waiting: Vec<Waker>,
}

/// One durable name, connected or not; or the outbox.
pub(crate) struct Name {
    pub(crate) name: String,
    state: Mutex<NameState>,
    /// When its holder was last heard of, in ms of the spool's epoch.
    heard: AtomicU64,
}

pub(crate) struct NameState {
    pub(crate) queue: Queue,
    pub(crate) filter: Filter,
    pub(crate) owner: Option<String>,
    /// Of a topic's name: who holds it. Of an outbox: all workers.
    pub(crate) holders: Vec<(PeerKey, HolderKey)>,
    /// Tasks that wait for a change here.
    pub(crate) waiting: Vec<Waker>,
    /// Who waits, on closing, for the holders to have everything.
    draining: Vec<Waker>,
    pub(crate) counts: Counts,
    pub(crate) closed_since: Option<Instant>,
    pub(crate) closed_total: Duration,
    pub(crate) stall_told: bool,
    /// When the registry heard last of what is done, and up to where.
    advanced: (Instant, u64),
}

/// What happened to a name since the spool was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) expired: u64,
}

impl Name {
    pub(crate) fn lock(&self) -> MutexGuard<'_, NameState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameState {
    fn new(queue: Queue, filter: Filter, owner: Option<String>) -> NameState {
        NameState {
            queue,
            filter,
            owner,
            holders: Vec::new(),
            waiting: Vec::new(),
            draining: Vec::new(),
            counts: Counts::default(),
            closed_since: None,
            closed_total: Duration::ZERO,
            stall_told: false,
            advanced: (Instant::now(), 0),
        }
    }

    /// This task wants to hear of a change.
    pub(crate) fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }

    /// Something changed that others may wait for.
    pub(crate) fn wake_others(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting)
    }

    /// A holder was served: whoever waits for the end looks again. (Numbers that hold nothing for it move its position
    /// without an acknowledgement.)
    pub(crate) fn wake_draining(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.draining)
    }

    /// How much of the time its holder took nothing.
    pub(crate) fn closed_window(&self, now: Instant) -> Duration {
        self.closed_total + self.closed_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// Hears what the log has to tell.
struct Ear {
    events: Arc<Events>,
    spool: OnceLock<Weak<Spool>>,
}

impl Witness for Ear {
    fn event(&self, event: Event) {
        self.events.emit_kept(event);
    }

    fn lost(&self, name: &str, _from: u64, to: u64) {
        if let Some(spool) = self.spool.get().and_then(Weak::upgrade) {
            spool.lost(name, to);
        }
    }

    fn dropped(&self, name: &str) {
        if let Some(spool) = self.spool.get().and_then(Weak::upgrade) {
            spool.forget_name(name, None);
        }
    }
}

impl Spool {
    /// Opens the spool, and takes the names that it has.
    pub(crate) fn open(options: &SpoolOptions, is_outbox: bool, events: Arc<Events>) -> Result<Arc<Spool>, OpenError> {
        let ear = Arc::new(Ear { events: events.clone(), spool: OnceLock::new() });
        let log = Log::open(options, is_outbox, ear.clone())?;
        let spool = Arc::new(Spool {
            log,
            options: options.clone(),
            events,
            is_outbox,
            names: Mutex::default(),
            guests: Mutex::default(),
            outbound: OnceLock::new(),
            closed: AtomicBool::new(false),
            epoch: Instant::now(),
            appends: AtomicU64::new(0),
        });
        if options.max_tries > 0 {
            // Not when the first one comes, which is in the middle of a connection's turn. A full disk may wait till then.
            let _ = spool.log.make_dead_letters();
        }
        for declared in &options.declared {
            let prefixes: Vec<&[u8]> = declared.prefixes.iter().map(|prefix| &**prefix).collect();
            spool.log.declare(&declared.name, &prefixes);
        }
        spool.take_names();
        if !options.declared.is_empty() {
            spool.log.save_both().map_err(|source| OpenError::Path { path: options.dir.clone(), source })?;
        }
        let _ = ear.spool.set(Arc::downgrade(&spool));
        Ok(spool)
    }

    /// Where the connections' queues are, so that one can be told to end.
    pub(crate) fn attach(&self, outbound: &Arc<Outbound>) {
        let _ = self.outbound.set(Arc::downgrade(outbound));
    }

    fn take_names(&self) {
        let records: Vec<NameRecord> = self.log.registry(|registry| registry.names.values().cloned().collect());
        let mut names = self.names();
        for record in records {
            let name = Arc::new(self.revive(&record));
            names.insert(record.name, name);
        }
        if self.is_outbox && !names.contains_key(OUTBOX) {
            let record = self.new_record(OUTBOX, NameKind::Outbox, self.log.oldest().saturating_sub(1));
            names.insert(OUTBOX.to_owned(), Arc::new(self.revive(&record)));
            self.log.registry(|registry| registry.names.insert(OUTBOX.to_owned(), record));
        }
    }

    fn revive(&self, record: &NameRecord) -> Name {
        let kind = if record.kind == NameKind::Outbox { Kind::Outbox } else { Kind::Topic };
        let done = Ranges::from(record.done.clone());
        let queue = Queue::new(kind, record.cursor, done, self.options.max_tries);
        let filter = Filter::new(record.filters.clone());
        Name {
            name: record.name.clone(),
            state: Mutex::new(NameState::new(queue, filter, record.owner.clone())),
            heard: AtomicU64::new(0),
        }
    }

    fn new_record(&self, name: &str, kind: NameKind, cursor: u64) -> NameRecord {
        let now = self.log.now();
        NameRecord {
            name: name.to_owned(),
            kind,
            owner: None,
            created: now,
            seen: now,
            expiry_s: u32::try_from(self.options.name_expiry.as_secs()).unwrap_or(u32::MAX),
            cursor,
            done: Vec::new(),
            filters: Vec::new(),
            lost_records: 0,
            lost_bytes: 0,
            lost: None,
            declared: false,
        }
    }

    pub(super) fn names(&self) -> MutexGuard<'_, HashMap<String, Arc<Name>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all_names(&self) -> Vec<Arc<Name>> {
        let mut names: Vec<Arc<Name>> = self.names().values().cloned().collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names
    }

    /// Whether a sender should let others run now.
    pub(crate) fn takes_toll(&self) -> bool {
        self.appends.fetch_add(1, Ordering::Relaxed) % TOLL == TOLL - 1
    }

    /// A moment for a reader that would else lose touch with what is in memory: reading it back from the disk would
    /// take more of the machine than all the rest. One that is too slow all the same loses touch and is not waited for,
    /// so a slow name, connected or not, holds up nobody for longer than that once.
    pub(crate) async fn keep_touch(&self) {
        if self.log.is_crowded() {
            let caught_up = poll_fn(|cx| self.log.poll_uncrowded(cx));
            let _ = crate::engine::within(Some(MOMENT), caught_up).await;
        }
    }

    pub(crate) fn is_outbox(&self) -> bool {
        self.is_outbox
    }

    pub(crate) fn close_to_senders(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Its holder gave a sign of life.
    pub(crate) fn heard(&self, name: &Name) {
        name.heard.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn silence(&self, name: &Name) -> Duration {
        let now = self.epoch.elapsed().as_millis() as u64;
        Duration::from_millis(now.saturating_sub(name.heard.load(Ordering::Relaxed)))
    }

    /// Makes a name before anyone connects with it, or replaces its prefixes. Not saved yet.
    pub(crate) fn declare(&self, name: &str, prefixes: &[Vec<u8>]) -> Result<(), Refusal> {
        if !is_durable_name(name) {
            return refuse(Refusal::BAD_NAME, 0, "a name is 1 to 64 bytes of printable ASCII without space");
        }
        let mut names = self.names();
        if let Some(known) = names.get(name).cloned() {
            drop(names);
            self.refilter(&known, prefixes);
            self.log.registry(|registry| {
                registry.names.get_mut(name).into_iter().for_each(|record| record.declared = true);
            });
            return Ok(());
        }
        self.insert(&mut names, name, prefixes, false, |record| record.declared = true).map(drop)
    }

    /// A new name, from now or from the oldest record.
    pub(super) fn insert(
        &self,
        names: &mut HashMap<String, Arc<Name>>,
        name: &str,
        prefixes: &[Vec<u8>],
        oldest: bool,
        finish: impl FnOnce(&mut NameRecord),
    ) -> Result<Arc<Name>, Refusal> {
        if names.len() >= self.options.max_names {
            return refuse(Refusal::TOO_MANY_NAMES, 0, "this spool has as many names as max_names allows");
        }
        let first = self.log.change_interest(|interest| prefixes.iter().for_each(|prefix| interest.add(prefix)));
        let from = if oldest { self.log.oldest() } else { first };
        let mut record = self.new_record(name, NameKind::Topic, from.saturating_sub(1));
        record.filters = prefixes.iter().map(|prefix| (prefix.clone(), from)).collect();
        finish(&mut record);
        let live = Arc::new(self.revive(&record));
        names.insert(name.to_owned(), live.clone());
        self.log.registry(|registry| registry.names.insert(name.to_owned(), record));
        Ok(live)
    }

    /// Replaces a name's prefixes; those that are new count from now.
    pub(super) fn refilter(&self, name: &Name, prefixes: &[Vec<u8>]) -> bool {
        let mut state = name.lock();
        let old: Vec<Vec<u8>> = state.filter.iter().map(|(prefix, _)| prefix.to_vec()).collect();
        if old.len() == prefixes.len() && prefixes.iter().all(|prefix| state.filter.get(prefix).is_some()) {
            return false;
        }
        // First the new ones, so that no record slips between; then what became of the old ones.
        let first = self.log.change_interest(|interest| prefixes.iter().for_each(|prefix| interest.add(prefix)));
        let changed = state.filter.replace(prefixes, first);
        let after = state.filter.to_vec();
        self.log.change_interest(|interest| {
            after.iter().for_each(|(prefix, _)| interest.add(prefix));
            old.iter().chain(prefixes).for_each(|prefix| interest.remove(prefix));
        });
        if changed {
            self.store_filter(name, &state);
        }
        changed
    }

    fn store_filter(&self, name: &Name, state: &NameState) {
        let filters = state.filter.to_vec();
        self.log.registry(|registry| {
            registry.names.get_mut(&name.name).into_iter().for_each(|record| record.filters.clone_from(&filters));
        });
    }

    /// One prefix more or less while the holder is connected. Saved with the next save.
    pub(crate) fn change_filter(&self, name: &Name, prefix: &[u8], add: bool) {
        let mut state = name.lock();
        if state.filter.get(prefix).is_some() == add {
            return;
        }
        let first = self.log.change_interest(|interest| match add {
            true => interest.add(prefix),
            false => interest.remove(prefix),
        });
        match add {
            true => state.filter.add(prefix, first),
            false => state.filter.remove(prefix),
        };
        // Only what changed: there may be many, and many changes.
        let from = state.filter.get(prefix);
        self.log.registry(|registry| {
            let Some(record) = registry.names.get_mut(&name.name) else { return };
            match from {
                Some(from) => record.filters.push((prefix.to_vec(), from)),
                None => record.filters.retain(|filter| filter.0 != prefix),
            }
        });
    }

    /// Prefixes of subscribers without a name.
    pub(crate) fn change_plain(&self, prefix: &[u8], add: bool) {
        self.log.change_interest(|interest| if add { interest.add(prefix) } else { interest.remove(prefix) });
    }

    /// The registry hears how far a name is: at every step of its cursor, and of what is done above it now and then.
    pub(crate) fn advance(&self, name: &Name, state: &mut NameState, now: bool) {
        let (cursor, at) = (state.queue.cursor(), Instant::now());
        let (last, told) = state.advanced;
        if cursor != told || now || at.duration_since(last) >= ADVANCE_EVERY {
            state.advanced = (at, cursor);
            self.log.advance(&name.name, cursor, &state.queue.done());
        }
    }

    /// A peer of whom it is not yet known what it will be.
    pub(crate) fn expect(&self, key: PeerKey) {
        self.guests().unsettled.insert(key);
    }

    pub(crate) fn settled(&self, key: PeerKey) {
        self.guests().unsettled.remove(&key);
    }

    /// Whether the peer gets what it subscribed to from now on.
    pub(crate) fn is_settled(&self, key: PeerKey) -> bool {
        !self.guests().unsettled.contains(&key)
    }

    /// A subscriber without a name has everything up to here in its connection's queue.
    pub(crate) fn plain_at(&self, key: PeerKey, position: u64) {
        let wakers = {
            let mut guests = self.guests();
            guests.plain.insert(key, position);
            std::mem::take(&mut guests.waiting)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn plain_gone(&self, key: PeerKey) {
        let wakers = {
            let mut guests = self.guests();
            guests.plain.remove(&key);
            std::mem::take(&mut guests.waiting)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The holder knows what it lost up to here; it may have lost more since.
    pub(crate) fn told_of_loss(&self, name: &Name, to: u64) {
        self.log.registry(|registry| {
            let Some(record) = registry.names.get_mut(&name.name) else { return };
            record.lost = record.lost.filter(|lost| lost.1 > to).map(|(from, last)| (from.max(to + 1), last));
        });
    }

    /// A holder's connection ended: what it had not acknowledged returns.
    pub(crate) fn leave(&self, name: &Name, key: PeerKey, holder: HolderKey) {
        let wakers = {
            let mut state = name.lock();
            if !state.holders.contains(&(key, holder)) {
                return; // Taken over.
            }
            state.queue.leave(holder);
            self.advance(name, &mut state, true);
            state.holders.retain(|entry| *entry != (key, holder));
            let now = Instant::now();
            state.closed_total = state.closed_window(now);
            (state.closed_since, state.stall_told) = (None, false);
            let mut wakers = state.wake_others();
            wakers.append(&mut state.draining);
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
        self.log.set_connected(&name.name, !name.lock().holders.is_empty());
        // A visit that ended in order is not to be repeated because we are killed a moment later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let log = self.log.clone();
            runtime.spawn_blocking(move || log.save());
        }
    }

    /// A record goes to a holder, unless its time is over or it went to it too often.
    pub(crate) fn hand_out(
        &self,
        name: &Name,
        state: &mut NameState,
        holder: HolderKey,
        record: &Taken,
        push: impl FnOnce(u32),
    ) {
        if self.is_expired(record) {
            state.counts.expired += 1;
            return state.queue.skip(record.sequence);
        }
        // Where it cannot be buried it is delivered once more: that loses nothing.
        if state.queue.exhausted(record.sequence) && self.log.bury(record).is_ok() {
            self.events.emit_kept(Event::DeadLetter { name: name.name.clone(), sequence: record.sequence });
            return state.queue.skip(record.sequence);
        }
        let tries = state.queue.send(holder, record.sequence, record.body.len());
        if tries == 0 {
            return; // Done meanwhile.
        }
        state.counts.sent += 1;
        push(tries);
    }

    pub(crate) fn is_expired(&self, record: &Taken) -> bool {
        record.extra.expires_at.is_some_and(|at| at <= self.log.now())
    }

    /// Tells of a holder that has taken nothing for too long. When to look again.
    pub(crate) fn check_stall(&self, name: &Name, state: &mut NameState, now: Instant) -> Option<Instant> {
        let since = state.closed_since.filter(|_| !state.stall_told && !self.options.stall_after.is_zero())?;
        let due = since.checked_add(self.options.stall_after)?;
        if now < due {
            return Some(due);
        }
        state.stall_told = true;
        let lag = self.log.visible().saturating_sub(state.queue.cursor());
        self.events.emit_kept(Event::NameStalled { name: name.name.clone(), lag });
        None
    }

    /// Records that a name will never get, found on reading: it is told on its next connection.
    pub(crate) fn report_missing(&self, name: &Name, from: u64, to: u64) {
        let records = to.saturating_sub(from).saturating_add(1);
        self.log.registry(|registry| {
            if let Some(record) = registry.names.get_mut(&name.name) {
                record.lost_records = record.lost_records.saturating_add(records);
                record.lost = Some(record.lost.map_or((from, to), |(first, last)| (first.min(from), last.max(to))));
            }
        });
        self.events.emit_kept(Event::Lost { name: name.name.clone(), from, to, records, bytes: 0 });
    }

    /// A limit moved a name's cursor.
    fn lost(&self, name: &str, to: u64) {
        let Some(name) = self.names().get(name).cloned() else { return };
        let holders = {
            let mut state = name.lock();
            state.queue.start_at(to);
            state.holders.clone()
        };
        // It resumes, and is told.
        holders.into_iter().for_each(|(key, _)| self.kick(key, Reason::Local));
    }

    /// Gives up a name for good; its connections end, but for the one that `asks`. False when there is none of this
    /// name. Not saved yet.
    pub(crate) fn drop_name(&self, name: &str, asks: Option<PeerKey>) -> bool {
        name != OUTBOX && self.log.drop_name(name) && self.forget_name(name, asks)
    }

    fn forget_name(&self, name: &str, asks: Option<PeerKey>) -> bool {
        let Some(name) = self.names().remove(name) else { return false };
        let holders = std::mem::take(&mut name.lock().holders);
        let others = holders.into_iter().filter(|(key, _)| Some(*key) != asks);
        others.for_each(|(key, _)| self.kick(key, Reason::Local));
        true
    }

    pub(super) fn kick(&self, key: PeerKey, reason: Reason) {
        if let Some(outbound) = self.outbound.get().and_then(Weak::upgrade) {
            outbound.kick(key, reason);
        }
    }

    /// Waits until everything is accepted, and every connected holder has it and has acknowledged it.
    pub(crate) async fn drained(&self) {
        let target = self.log.newest();
        let _ = poll_fn(|cx| self.log.poll_flushed(target, cx)).await;
        // Numbers that nobody wanted became visible without a wake.
        let mut keys: Vec<PeerKey> = self.guests().plain.keys().copied().collect();
        for name in self.all_names() {
            keys.extend(name.lock().holders.iter().map(|&(key, _)| key));
        }
        if let Some(outbound) = self.outbound.get().and_then(Weak::upgrade) {
            keys.into_iter().for_each(|key| outbound.nudge(key));
        }
        poll_fn(|cx| self.poll_drained(cx)).await;
    }

    /// Writes, syncs and saves everything. Blocking. Gives how many records some name has yet to get, and how many had
    /// a number and no room: those were never accepted.
    pub(crate) fn close(&self) -> (u64, u64) {
        if let Err(error) = self.log.close() {
            self.events.emit_kept(Event::SpoolFailed { error: error.to_string() });
        }
        let stats = self.log.stats();
        let kept = stats.names.iter().map(|name| name.lag_records).max().unwrap_or(0);
        (kept, stats.newest.saturating_sub(stats.visible))
    }

    /// Ready when every connected holder has all there is and has acknowledged it.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let visible = self.log.visible();
        let mut busy = false;
        for name in self.all_names() {
            let mut state = name.lock();
            if !state.holders.is_empty() && (state.queue.position() < visible || state.queue.total_in_flight() > 0) {
                if !state.draining.iter().any(|waker| waker.will_wake(cx.waker())) {
                    state.draining.push(cx.waker().clone());
                }
                busy = true;
            }
        }
        let mut guests = self.guests();
        if guests.plain.values().any(|&position| position < visible) {
            guests.waiting.push(cx.waker().clone());
            busy = true;
        }
        if busy { Poll::Pending } else { Poll::Ready(()) }
    }
}
