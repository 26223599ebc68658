//! One connection of a socket with a spool: [`Spooler`], which lets a holder in and feeds it from the log.
//!
//! There is no live path and no catch-up path: whoever takes part reads the log at its own position. A named holder
//! gets what its name still has to get; a plain subscriber reads without a name, from now on and out of memory only.
//! Driven by the connection's own task, just before it writes. `lot` is what goes out at once, `plain` the reader without
//! a name. Next: `durable::queue`, `records`.

mod lot;
mod plain;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use self::lot::{Arena, LOT, Lot};
use super::claim::{Claim, Granted, Save};
use super::records::{Found, Records};
use super::spool::{Name, NameState, Spool};
use crate::durable::filter::Filter;
use crate::durable::queue::{HolderKey, Next, Rejected, Window};
use crate::engine::shared::Shared;
use crate::event::{Event, Reason};
use crate::options::spool::is_durable_name;
use crate::queue::PeerKey;
use crate::store::log::Watch;
use crate::wire::command::durable::{self as wire, Acks, Deliveries, Durable, Head, Nack, Refusal, Start, Started};

/// A peer that announced the extension and does not ask for a name in this time is a plain one.
const PATIENCE: Duration = Duration::from_secs(5);
/// So much may wait in the connection's queue before more is read from the log.
const BACKLOG: usize = 256 * 1024;
/// A holder that gets nothing hears at most this often where the spool is.
const HEAD_EVERY: Duration = Duration::from_secs(1);
/// How far one worker may be ahead of the others, at most.
const MAX_LEAD: usize = 64;

enum Role {
    /// It announced the extension and has not asked yet.
    Waiting,
    /// Its name is being saved; then it gets this answer.
    Starting {
        saving: JoinHandle<io::Result<()>>,
        granted: Box<Granted>,
    },
    Named {
        name: Arc<Name>,
        holder: HolderKey,
    },
    /// A worker without the extension, of a PUSH that serves such.
    Kernel {
        name: Arc<Name>,
        holder: HolderKey,
        written: Vec<u64>,
    },
    /// A subscriber without a name.
    Plain {
        position: u64,
    },
    /// A worker without the extension: gets nothing.
    Nothing,
    /// Its refusal is on the way out.
    Refused(Reason),
}

/// What one connection of a spooling socket knows.
pub(crate) struct Spooler {
    spool: Arc<Spool>,
    key: PeerKey,
    address: Arc<str>,
    role: Role,
    /// The name that it announced.
    announced: String,
    user: Option<String>,
    silence: Duration,
    /// What it subscribed to, while it has no name.
    topics: Filter,
    records: Records,
    again: Records,
    arena: Arena,
    watch: Watch,
    /// The number delivered last, in order.
    prev: u64,
    /// Up to where our answer told of a loss, until the holder has proved that it read that.
    telling: Option<u64>,
    since: Instant,
    head_sent: Option<(Instant, u64)>,
    /// Whether its connection takes bytes.
    ready: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What came of one look at the log.
enum Step {
    /// Something was sent or passed over: look again.
    On,
    /// What comes next needs an announcement of its own.
    Apart,
    /// Nothing to do until a waker calls.
    Wait,
}

/// Who is at the other end.
pub(crate) struct Guest<'a> {
    pub(crate) key: PeerKey,
    pub(crate) address: Arc<str>,
    /// The extension is on.
    pub(crate) durable: bool,
    pub(crate) name: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) silence: Duration,
}

impl Spooler {
    pub(crate) fn new(spool: Arc<Spool>, guest: &Guest<'_>) -> Spooler {
        let log = spool.log.clone();
        let watch = log.watch();
        let mut spooler = Spooler {
            key: guest.key,
            address: guest.address.clone(),
            role: Role::Waiting,
            announced: guest.name.to_owned(),
            user: guest.user.map(str::to_owned),
            silence: guest.silence,
            topics: Filter::default(),
            records: Records::new(log.clone(), true).of_reader(watch.id()),
            again: Records::new(log, true),
            arena: Arena::default(),
            watch,
            prev: 0,
            telling: None,
            since: Instant::now(),
            head_sent: None,
            ready: true,
            timer: None,
            spool,
        };
        spooler.spool.expect(guest.key);
        if !guest.durable {
            spooler.be_plain();
            spooler.spool.settled(guest.key);
        }
        spooler
    }

    /// The peer has no part in the extension, or never asked.
    fn be_plain(&mut self) {
        self.spool.events.emit(Event::PlainPeer { peer: self.address.to_string() });
        if !self.spool.is_outbox() {
            self.topics.iter().for_each(|(prefix, _)| self.spool.change_plain(prefix, true));
            self.records = Records::new(self.spool.log.clone(), false).of_reader(self.watch.id());
            let position = self.spool.log.newest();
            self.spool.plain_at(self.key, position);
            self.role = Role::Plain { position };
            return;
        }
        self.role = Role::Nothing;
        if self.spool.options.plain_pull {
            let window = Window { messages: 1000, bytes: 4 << 20 };
            if let Ok(granted) = self.spool.join_outbox(self.key, window, &Start::default(), None) {
                let Granted { name, holder, .. } = granted;
                self.role = Role::Kernel { name, holder, written: Vec::new() };
            }
        }
    }

    /// The peer gave a sign of life.
    pub(crate) fn heard(&self) {
        if let Role::Named { name, .. } = &self.role {
            self.spool.heard(name);
        }
    }

    /// It subscribes or cancels; the pattern has accepted that and counts.
    pub(crate) fn subscription(&mut self, topic: &[u8], subscribe: bool) {
        match &self.role {
            Role::Named { name, .. } => {
                self.spool.change_filter(name, topic, subscribe);
                return;
            }
            Role::Starting { granted, .. } => {
                self.spool.change_filter(&granted.name, topic, subscribe);
                return;
            }
            _ => {}
        }
        let changed = if subscribe { self.topics.add(topic, 0) } else { self.topics.remove(topic) };
        if changed && matches!(self.role, Role::Plain { .. }) {
            self.spool.change_plain(topic, subscribe);
        }
    }

    pub(crate) fn handle(&mut self, shared: &Shared, command: Durable) -> Result<(), Reason> {
        match (command, &self.role) {
            (Durable::Start(start), Role::Waiting) => {
                self.start(shared, &start);
                Ok(())
            }
            // It was slow to ask, and was taken for a plain one: it may come back.
            (Durable::Start(_), Role::Plain { .. } | Role::Nothing | Role::Kernel { .. }) => Err(Reason::Timeout),
            (Durable::Acks(acks), Role::Named { name, holder }) => {
                // Who acknowledges has read our answer. Before, it may have been lost with a connection.
                if let Some(to) = self.telling.take() {
                    self.spool.told_of_loss(name, to);
                }
                let (name, holder) = (name.clone(), *holder);
                self.acknowledge(&name, holder, &acks)
            }
            (Durable::Nack(nack), Role::Named { name, holder }) => {
                let (name, holder) = (name.clone(), *holder);
                self.reject(&name, holder, &nack)
            }
            (Durable::End, Role::Named { name, .. }) => {
                let name = name.clone();
                self.end_name(shared, &name);
                Ok(())
            }
            (Durable::Acks(_) | Durable::Nack(_) | Durable::End, Role::Refused(_)) => Ok(()),
            _ => Err(Reason::UnexpectedCommand),
        }
    }

    /// Flags that this version does not know.
    pub(crate) fn refuse_version(&mut self, shared: &Shared) {
        let text = "flags of a later version of the durable extension".to_owned();
        self.refuse(shared, Refusal { code: Refusal::VERSION, retry_ms: 30_000, text }, Reason::UnsupportedVersion);
    }

    fn send(&self, shared: &Shared, command: &Durable) {
        let mut out = BytesMut::new();
        wire::encode(&mut out, command);
        shared.outbound.control(self.key, &out);
    }

    fn refuse(&mut self, shared: &Shared, refusal: Refusal, reason: Reason) {
        self.send(shared, &Durable::Refusal(refusal));
        self.role = Role::Refused(reason);
    }

    fn start(&mut self, shared: &Shared, start: &Start) {
        let granted = if self.spool.is_outbox() {
            let window = Window { messages: start.window.max(1), bytes: start.window_bytes };
            let label = Some(self.announced.as_str()).filter(|label| is_durable_name(label));
            self.spool.join_outbox(self.key, window, start, label)
        } else {
            let topics: Vec<Vec<u8>> = self.topics.iter().map(|(prefix, _)| prefix.to_vec()).collect();
            self.spool.claim(&Claim {
                key: self.key,
                name: &self.announced,
                user: self.user.as_deref(),
                start,
                topics: &topics,
                silence: self.silence,
            })
        };
        match granted {
            Ok(granted) if granted.save == Save::Nothing => self.begin(shared, granted),
            Ok(granted) => {
                let (log, both) = (self.spool.log.clone(), granted.save == Save::Both);
                let saving = tokio::task::spawn_blocking(move || if both { log.save_both() } else { log.save() });
                self.role = Role::Starting { saving, granted: Box::new(granted) };
            }
            Err(refusal) => {
                let reason = match refusal.code {
                    Refusal::IN_USE => Reason::IdentityTaken,
                    Refusal::NOT_ALLOWED => Reason::AuthDenied,
                    _ => Reason::PeerError(refusal.text.clone()),
                };
                self.refuse(shared, refusal, reason);
            }
        }
    }

    /// From here on the holder gets its records.
    fn begin(&mut self, shared: &Shared, granted: Granted) {
        let Granted { name, holder, answer, .. } = granted;
        self.prev = answer.resume_after;
        self.telling = answer.loss.then_some(answer.lost.1);
        self.send(shared, &Durable::Started(answer));
        // Of many workers the first to come is told.
        if let Some(to) = self.telling.take_if(|_| self.spool.is_outbox()) {
            self.spool.told_of_loss(&name, to);
        }
        self.role = Role::Named { name, holder };
        self.settle(shared);
    }

    /// What it is, it is from here on: who waits for subscribers may count it.
    fn settle(&self, shared: &Shared) {
        self.spool.settled(self.key);
        shared.changed.notify_waiters();
    }

    fn acknowledge(&mut self, name: &Arc<Name>, holder: HolderKey, acks: &Acks) -> Result<(), Reason> {
        let wakers = {
            let mut state = name.lock();
            let before = state.queue.total_in_flight();
            state.queue.acknowledge(holder, acks)?;
            state.counts.acked += before.saturating_sub(state.queue.total_in_flight()) as u64;
            self.spool.advance(name, &mut state, false);
            state.wake_others()
        };
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn reject(&mut self, name: &Arc<Name>, holder: HolderKey, nack: &Nack) -> Result<(), Reason> {
        let wakers = {
            let mut state = name.lock();
            // One that was sent as often as it may comes back as `Again`, and is buried when it is read.
            if state.queue.reject(holder, nack, Instant::now())? != Rejected::Unknown {
                state.counts.nacked += 1;
            }
            state.wake_others()
        };
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// DEND: the name is given up for good; answered when that is on disk.
    fn end_name(&mut self, shared: &Shared, name: &Arc<Name>) {
        if self.spool.is_outbox() {
            return;
        }
        self.spool.drop_name(&name.name, Some(self.key));
        let (log, outbound, key) = (self.spool.log.clone(), shared.outbound.clone(), self.key);
        let answer = Started { spool: log.id(), head: log.newest(), ..Started::default() };
        self.role = Role::Nothing;
        tokio::task::spawn_blocking(move || {
            if log.save_both().is_ok() {
                let mut out = BytesMut::new();
                wire::encode(&mut out, &Durable::Started(answer));
                outbound.control(key, &out);
            }
        });
    }

    /// Fills the connection's queue as far as it has room. True when something was put into it.
    pub(crate) fn poll_fill(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<bool, Reason> {
        if let Role::Starting { saving, .. } = &mut self.role {
            let Poll::Ready(saved) = Pin::new(saving).poll(cx) else { return Ok(false) };
            self.saved(shared, saved.map_err(io::Error::other).and_then(|saved| saved));
        }
        self.poll_timer(shared, cx);
        let filled = match &self.role {
            Role::Waiting | Role::Starting { .. } | Role::Nothing => Ok(false),
            Role::Refused(reason) => {
                // A refusal that never left would look like a broken network to the peer.
                return if shared.outbound.is_clear(self.key) { Err(reason.clone()) } else { Ok(false) };
            }
            Role::Named { .. } | Role::Kernel { .. } => self.fill_named(shared, cx),
            Role::Plain { .. } => self.fill_plain(shared, cx),
        };
        self.set_timer(cx);
        filled
    }

    fn saved(&mut self, shared: &Shared, saved: io::Result<()>) {
        let Role::Starting { granted, .. } = std::mem::replace(&mut self.role, Role::Waiting) else { return };
        match saved {
            Ok(()) => self.begin(shared, *granted),
            Err(error) => {
                self.spool.leave(&granted.name, self.key, granted.holder);
                let text = format!("the name could not be saved: {error}");
                let refusal = Refusal { code: Refusal::SPOOL_FAILED, retry_ms: 30_000, text: text.clone() };
                self.refuse(shared, refusal, Reason::PeerError(text));
            }
        }
    }

    fn fill_named(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<bool, Reason> {
        self.count_written(shared);
        let (name, holder) = match &self.role {
            Role::Named { name, holder } | Role::Kernel { name, holder, .. } => (name.clone(), *holder),
            _ => return Ok(false),
        };
        let was_ready = self.ready;
        let (filled, wakers) = {
            let mut state = name.lock();
            let filled = self.fill_from(shared, &name, &mut state, holder, cx)?;
            // Another worker may have its turn now.
            let others = (filled || self.ready != was_ready) && state.holders.len() > 1;
            let mut wakers = state.wake_draining();
            if others {
                wakers.append(&mut state.waiting);
            }
            (filled, wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        if !filled {
            self.tell_head(shared);
        }
        Ok(filled)
    }

    /// One lot after the other, under one lock: the clock and the state of the others are looked at once.
    fn fill_from(
        &mut self,
        shared: &Shared,
        name: &Arc<Name>,
        state: &mut NameState,
        holder: HolderKey,
        cx: &mut Context<'_>,
    ) -> Result<bool, Reason> {
        let (now, lead) = (Instant::now(), self.lead(state));
        state.queue.set_lead(lead);
        let blocked = shared.outbound.is_blocked(self.key);
        let mut waiting = shared.outbound.backlog(self.key);
        let run = self.spool.is_outbox() || state.filter.is_everything();
        let fresh = |waiting: usize| Lot::new(run, LOT.min(BACKLOG.saturating_sub(waiting)));
        let (mut lot, mut filled) = (fresh(waiting), false);
        loop {
            let takes = !blocked && waiting + lot.bytes < BACKLOG;
            self.set_ready(state, holder, takes);
            let step = if takes { self.step(name, state, holder, now, &mut lot, cx)? } else { Step::Wait };
            if lot.is_full() || !matches!(step, Step::On) {
                waiting += lot.bytes;
                filled |= self.announce(shared, std::mem::replace(&mut lot, fresh(waiting)));
            }
            if matches!(step, Step::Wait) {
                return Ok(filled);
            }
        }
    }

    /// A worker whose connection takes no bytes holds up no other.
    fn set_ready(&mut self, state: &mut NameState, holder: HolderKey, ready: bool) {
        if ready != self.ready && self.spool.is_outbox() {
            self.ready = ready;
            state.queue.set_ready(holder, ready);
        }
    }

    /// One record, or one stretch without any.
    fn step(
        &mut self,
        name: &Arc<Name>,
        state: &mut NameState,
        holder: HolderKey,
        now: Instant,
        lot: &mut Lot,
        cx: &mut Context<'_>,
    ) -> Result<Step, Reason> {
        match state.queue.next(holder, now) {
            Next::Full | Next::Later(_) => {
                let closed = state.queue.is_full(holder);
                state.wait(cx);
                if closed {
                    state.closed_since.get_or_insert(now);
                }
                Ok(Step::Wait)
            }
            next => {
                if let Some(since) = state.closed_since.take() {
                    state.closed_total += now.saturating_duration_since(since);
                    state.stall_told = false;
                }
                match next {
                    Next::Again(sequence) => self.step_again(name, state, holder, sequence, lot, cx),
                    Next::After(after) => self.step_on(name, state, holder, after, lot, cx),
                    Next::Full | Next::Later(_) => Ok(Step::Wait),
                }
            }
        }
    }

    /// Strictly in turn when there is little; in lots when there is much.
    fn lead(&self, state: &NameState) -> usize {
        let behind = self.spool.log.visible().saturating_sub(state.queue.position()) as usize;
        (behind / (2 * state.holders.len().max(1))).min(MAX_LEAD)
    }

    fn step_again(
        &mut self,
        name: &Arc<Name>,
        state: &mut NameState,
        holder: HolderKey,
        sequence: u64,
        lot: &mut Lot,
        cx: &mut Context<'_>,
    ) -> Result<Step, Reason> {
        // What is in order goes first; and numbers ascend within one announcement.
        if lot.entries.last().is_some_and(|last| !lot.again || last.sequence >= sequence) {
            return Ok(Step::Apart);
        }
        match self.again.poll_after(sequence.saturating_sub(1), cx) {
            Poll::Pending => Ok(Step::Wait),
            Poll::Ready(Err(error)) => Err(Reason::Io(error.to_string())),
            Poll::Ready(Ok(Found::Record)) => {
                match self.again.hand().filter(|record| record.sequence == sequence) {
                    None => self.pass_missing(name, state, sequence),
                    Some(record) => {
                        lot.again = true;
                        let arena = &mut self.arena;
                        self.spool.hand_out(name, state, holder, record, |tries| lot.push(arena, record, tries));
                    }
                }
                Ok(Step::On)
            }
            Poll::Ready(Ok(_)) => {
                self.pass_missing(name, state, sequence);
                Ok(Step::On)
            }
        }
    }

    /// A record that was there and is no more.
    fn pass_missing(&self, name: &Arc<Name>, state: &mut NameState, sequence: u64) {
        state.queue.skip(sequence);
        self.spool.report_missing(name, sequence, sequence);
    }

    fn step_on(
        &mut self,
        name: &Arc<Name>,
        state: &mut NameState,
        holder: HolderKey,
        after: u64,
        lot: &mut Lot,
        cx: &mut Context<'_>,
    ) -> Result<Step, Reason> {
        if lot.again {
            return Ok(Step::Apart);
        }
        match self.records.poll_after(after, cx) {
            Poll::Pending => Ok(Step::Wait),
            Poll::Ready(Err(error)) => Err(Reason::Io(error.to_string())),
            Poll::Ready(Ok(Found::End)) => {
                // Between the look and the registration something may have become visible.
                match self.watch.poll_beyond(after, cx) {
                    Poll::Ready(()) => Ok(Step::On),
                    Poll::Pending => {
                        state.wait(cx);
                        if lot.entries.is_empty() {
                            self.arena.clear();
                        }
                        Ok(Step::Wait)
                    }
                }
            }
            Poll::Ready(Ok(Found::Lost(from, to))) => {
                state.queue.skip(to);
                self.spool.report_missing(name, from, to);
                // It resumes, and is told.
                Err(Reason::Local)
            }
            Poll::Ready(Ok(Found::Nothing(end) | Found::Behind(end))) => {
                state.queue.skip(end);
                self.spool.advance(name, state, false);
                Ok(Step::On)
            }
            Poll::Ready(Ok(Found::Record)) => {
                let Some(record) = self.records.hand() else { return Ok(Step::Wait) };
                if let Some((from, to)) = record.missing.filter(|&(_, to)| to > after) {
                    state.queue.skip(to);
                    self.spool.report_missing(name, from.max(after + 1), to);
                    // It resumes, and is told.
                    return Err(Reason::Local);
                }
                let unwanted = !self.spool.is_outbox() && !state.filter.matches(record.topic(), record.sequence);
                if unwanted {
                    state.queue.skip(record.sequence);
                    self.spool.advance(name, state, false);
                    return Ok(Step::On);
                }
                let (sequence, arena) = (record.sequence, &mut self.arena);
                self.spool.hand_out(name, state, holder, record, |tries| lot.push(arena, record, tries));
                self.run_on(name, state, holder, sequence, lot);
                Ok(Step::On)
            }
        }
    }

    /// The records right behind `after`, for as long as there is nothing to be decided: what a name that is well and
    /// quick gets.
    fn run_on(&mut self, name: &Arc<Name>, state: &mut NameState, holder: HolderKey, after: u64, lot: &mut Lot) {
        let mut after = after;
        while !lot.is_full() && state.queue.goes_on(holder) {
            let Some(record) = self.records.pull(after) else { return };
            if !state.filter.matches(record.topic(), record.sequence) {
                return; // It stays in hand.
            }
            after = record.sequence;
            let arena = &mut self.arena;
            self.spool.hand_out(name, state, holder, record, |tries| lot.push(arena, record, tries));
        }
    }

    /// Puts a lot into the connection's queue, announced.
    fn announce(&mut self, shared: &Shared, lot: Lot) -> bool {
        if lot.entries.is_empty() {
            return false;
        }
        let count = lot.entries.len();
        if let Role::Kernel { written, .. } = &mut self.role {
            written.extend(lot.entries.iter().map(|entry| entry.sequence));
            shared.outbound.push_records(self.key, lot.finish(&mut self.arena, None), count);
            return true;
        }
        let first = lot.entries.first().map_or(0, |entry| entry.sequence);
        let prev = if lot.again { first.saturating_sub(1) } else { self.prev };
        let last = lot.entries.last().map_or(prev, |entry| entry.sequence);
        let mut lot = lot;
        let entries = std::mem::take(&mut lot.entries);
        if !lot.again {
            self.prev = last;
        }
        let mut out = BytesMut::with_capacity(64 + entries.len() * 4);
        wire::encode(&mut out, &Durable::Deliveries(Deliveries { again: lot.again, prev, entries }));
        shared.outbound.push_records(self.key, lot.finish(&mut self.arena, Some(out.freeze())), count);
        true
    }

    /// What the operating system took of a worker's records is done.
    fn count_written(&mut self, shared: &Shared) {
        let Role::Kernel { name, holder, written } = &mut self.role else { return };
        if written.is_empty() || shared.outbound.backlog(self.key) > 0 {
            return;
        }
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        written.sort_unstable();
        for sequence in written.drain(..) {
            match ranges.last_mut() {
                Some((start, length)) if *start + *length == sequence => *length += 1,
                _ => ranges.push((sequence, 1)),
            }
        }
        let (name, holder) = (name.clone(), *holder);
        // Our own numbers cannot be refused.
        let _ = self.acknowledge(&name, holder, &Acks { cumulative: 0, ranges });
    }

    fn poll_timer(&mut self, shared: &Shared, cx: &mut Context<'_>) {
        let Some(timer) = &mut self.timer else { return };
        if timer.as_mut().poll(cx).is_ready() {
            self.timer = None;
            if matches!(self.role, Role::Waiting) && self.since.elapsed() >= PATIENCE {
                self.be_plain();
                self.settle(shared);
            }
        }
    }

    /// When to look again by the clock: a record to be retried, a stall to be told of, patience that ends.
    fn set_timer(&mut self, cx: &mut Context<'_>) {
        let due = match &self.role {
            Role::Waiting => Some(self.since + PATIENCE),
            Role::Named { name, .. } | Role::Kernel { name, .. } => {
                let mut state = name.lock();
                let stall = self.spool.check_stall(name, &mut state, Instant::now());
                state.queue.next_retry().into_iter().chain(stall).min()
            }
            _ => None,
        };
        let Some(due) = due else {
            self.timer = None;
            return;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        if timer.deadline() != tokio::time::Instant::from_std(due) {
            timer.as_mut().reset(due.into());
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Why this connection ends, if the holder was refused: it may close first.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        if let Role::Refused(reason) = &self.role { Some(reason.clone()) } else { None }
    }

    /// Tells a holder that gets nothing where the spool is.
    fn tell_head(&mut self, shared: &Shared) {
        if !matches!(self.role, Role::Named { .. }) {
            return;
        }
        let (now, newest) = (Instant::now(), self.spool.log.visible());
        let due = self.head_sent.is_none_or(|(at, told)| told != newest && now.duration_since(at) >= HEAD_EVERY);
        if due && newest > self.prev {
            self.head_sent = Some((now, newest));
            self.send(shared, &Durable::Head(Head { newest, time: self.spool.log.now() }));
        }
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        self.spool.settled(self.key);
        self.spool.plain_gone(self.key);
        match &self.role {
            Role::Named { name, holder } | Role::Kernel { name, holder, .. } => {
                self.spool.leave(name, self.key, *holder);
            }
            Role::Starting { granted, .. } => self.spool.leave(&granted.name, self.key, granted.holder),
            Role::Plain { .. } => {
                self.topics.iter().for_each(|(prefix, _)| self.spool.change_plain(prefix, false));
            }
            _ => {}
        }
    }
}
