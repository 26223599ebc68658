//! The sending side of one socket: [`Outbound`], all peers' outboxes under one short lock.
//!
//! A send encodes its message under the lock and decides, still inside it, who writes: the caller (a full
//! segment, the high-water mark, a turnaround, a lone message) or the connection's task (woken once per
//! batch). The writer holds a lease, so bytes never pass each other; the system call runs without the lock.
//! Nothing here blocks, awaits or knows a pattern: who gets a message is an argument.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::fanout::Fanout;
use super::inbox::Inbox;
use super::outbox::{Outbox, SEGMENT};
use super::waiters::{Outcome, Target, Waiters};
use super::{Credit, Link, PeerKey, Slab};
use crate::event::{DropReason, Drops, Reason};
use crate::message::Message;
use crate::options::{FlushPolicy, OnFull};

/// What the sending side tells about its peers. Called under the lock: must be quick and never call back.
pub(crate) trait Witness: Send + Sync {
    fn high_water(&self, peer: &str, reached: bool);
    fn dropped(&self, peer: &str, reason: DropReason, count: u64);
}

/// The options that queues obey.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Messages per peer; 0 is unlimited.
    pub(crate) hwm: usize,
    /// Bytes per peer; 0 is off.
    pub(crate) hwm_bytes: usize,
    pub(crate) on_full: OnFull,
    pub(crate) flush: FlushPolicy,
    /// Only the newest waiting message counts.
    pub(crate) conflate: bool,
}

/// How a peer's messages leave.
pub(crate) enum Road {
    /// As bytes through a connection, when there is one.
    Wire(Option<Arc<dyn Link>>),
    /// As values into another socket of this process, or, `parked`, into an inbox that waits for one.
    Direct { inbox: Arc<Inbox>, lane: PeerKey, parked: bool },
}

/// Counters of one peer, as statistics show them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) drops: Drops,
    pub(crate) queued: usize,
    pub(crate) hwm: usize,
}

pub(super) struct Peer {
    pub(super) name: Arc<str>,
    pub(super) outbox: Outbox,
    pub(super) road: Road,
    pub(super) hwm: usize,
    pub(super) hwm_bytes: usize,
    /// Takes messages (false: connecting with `queue_before_connect` off).
    pub(super) open: bool,
    pub(super) in_rotation: bool,
    /// Its connection's task, when it sleeps.
    pub(super) waker: Option<Waker>,
    /// Somebody holds the write lease.
    pub(super) writing: bool,
    /// Counts the peer's connections.
    pub(super) connection: u32,
    /// The kernel is full: only the task, which waits for it, writes.
    pub(super) blocked: bool,
    /// The task's last wake found at most one message: the next one is written by its caller.
    pub(super) lone: bool,
    pub(super) kick: Option<Reason>,
    /// Reached its mark and was not yet seen below the low one.
    pub(super) high: bool,
    /// Misses what its class publishes until it has drained (publishers only).
    pub(super) muted: bool,
    pub(super) class: Option<usize>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) drops: Drops,
}

impl Peer {
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.is_full_with(0, 0)
    }

    /// As [`Peer::is_full`], with so many more messages and bytes on its account.
    #[inline]
    pub(super) fn is_full_with(&self, messages: usize, bytes: usize) -> bool {
        let queued = self.outbox.queued() + messages;
        (self.hwm != 0 && queued >= self.hwm)
            || (self.hwm_bytes != 0 && queued > 0 && self.outbox.bytes() + bytes >= self.hwm_bytes)
    }

    fn is_low(&self) -> bool {
        let queued = self.outbox.queued();
        queued == 0
            || ((self.hwm == 0 || queued <= self.hwm / 2)
                && (self.hwm_bytes == 0 || self.outbox.bytes() <= self.hwm_bytes / 2))
    }

    pub(super) fn link(&self) -> Option<&Arc<dyn Link>> {
        match &self.road {
            Road::Wire(link) => link.as_ref(),
            Road::Direct { .. } => None,
        }
    }

    /// Messages that wait here: those of a joined in-process peer are the receiver's already.
    fn waiting(&self) -> usize {
        match &self.road {
            Road::Direct { parked: false, .. } => 0,
            _ => self.outbox.waiting(),
        }
    }

    /// An in-process peer is over: what it was handed counts as sent.
    fn hand_over(&mut self) {
        if let Road::Direct { parked: false, .. } = &self.road {
            self.messages += self.outbox.waiting() as u64;
            self.bytes += self.outbox.bytes() as u64;
            self.outbox.refund(usize::MAX, usize::MAX);
        }
    }

    /// Throws away what waits; room set aside stays. Returns how many messages there were.
    fn clear(&mut self) -> u64 {
        match &self.road {
            Road::Wire(_) => self.outbox.clear() as u64,
            Road::Direct { inbox, lane, parked: true } => {
                self.outbox.refund(usize::MAX, usize::MAX);
                inbox.drain(*lane).len() as u64
            }
            Road::Direct { .. } => 0,
        }
    }

    /// A caller may write now.
    pub(super) fn is_idle(&self) -> bool {
        !self.writing && !self.blocked && self.link().is_some()
    }
}

pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) witness: Arc<dyn Witness>,
    pub(super) peers: Slab<Peer>,
    rotation: Vec<PeerKey>,
    turn: usize,
    pub(super) waiters: Waiters,
    pub(super) fanout: Fanout,
    closed: bool,
    /// Drops that concern no peer, and those of peers that have left.
    pub(super) drops: Drops,
    past: Sent,
    /// Tasks that wait until something was written or dropped.
    progress: Vec<Waker>,
}

/// What to do once the lock is gone.
#[derive(Default)]
pub(super) struct After {
    pub(super) wake: Option<Waker>,
    pub(super) lease: Option<super::lease::Lease>,
    /// The rare rest, apart so that the common case has nothing to set up or tear down.
    more: Option<Box<More>>,
    /// A message went straight to another socket, or a segment is full: work for others.
    pub(super) direct: bool,
}

#[derive(Default)]
struct More {
    wakers: Vec<Waker>,
    leases: Vec<super::lease::Lease>,
}

impl After {
    pub(super) fn wakers(&mut self) -> &mut Vec<Waker> {
        &mut self.more.get_or_insert_default().wakers
    }

    pub(super) fn leases(&mut self) -> &mut Vec<super::lease::Lease> {
        &mut self.more.get_or_insert_default().leases
    }

    pub(super) fn wake_also(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakers().push(waker);
        }
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    /// The addressed peer is not there.
    NoRoute,
}

/// The sending side of one socket.
pub(crate) struct Outbound {
    state: Mutex<State>,
    /// Raised by work that others should be let run after.
    toll: AtomicBool,
}

impl Outbound {
    pub(crate) fn new(limits: Limits, witness: Arc<dyn Witness>) -> Outbound {
        Outbound {
            state: Mutex::new(State {
                limits,
                witness,
                peers: Slab::default(),
                rotation: Vec::new(),
                turn: 0,
                waiters: Waiters::default(),
                fanout: Fanout::default(),
                closed: false,
                drops: Drops::default(),
                past: Sent::default(),
                progress: Vec::new(),
            }),
            toll: AtomicBool::new(false),
        }
    }

    /// Whether a sender that never waits should let others run now (once per answer).
    #[inline]
    pub(crate) fn takes_toll(&self) -> bool {
        self.toll.load(Ordering::Relaxed) && self.toll.swap(false, Ordering::Relaxed)
    }

    /// A panic under the lock is a defect of ours and must not become every caller's panic.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A peer appears. `name` is its address for events.
    pub(crate) fn add(&self, name: Arc<str>, road: Road, open: bool, direct_marks: Option<(usize, usize)>) -> PeerKey {
        let mut after = After::default();
        let key = {
            let mut state = self.lock();
            let (hwm, hwm_bytes) = direct_marks.unwrap_or((state.limits.hwm, state.limits.hwm_bytes));
            let key = state.peers.insert(Peer {
                name,
                outbox: Outbox::default(),
                road,
                hwm,
                hwm_bytes,
                open,
                in_rotation: false,
                waker: None,
                writing: false,
                connection: 0,
                blocked: false,
                lone: true,
                kick: None,
                high: false,
                muted: false,
                class: None,
                messages: 0,
                bytes: 0,
                drops: Drops::default(),
            });
            state.settle(key, &mut after);
            key
        };
        self.perform(&mut after);
        key
    }

    /// The peer has a connection (again).
    pub(crate) fn link(&self, key: PeerKey, link: Arc<dyn Link>) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(key) else { return };
            peer.road = Road::Wire(Some(link));
            peer.open = true;
            peer.blocked = false;
            peer.lone = true;
            state.settle(key, &mut after);
        }
        self.perform(&mut after);
    }

    /// The other end of an in-process peer is gone: what it had is its own, what comes now is parked.
    pub(crate) fn repark(&self, key: PeerKey, inbox: Arc<Inbox>, lane: PeerKey, marks: (usize, usize)) {
        if let Some(peer) = self.lock().peers.get_mut(key)
            && matches!(peer.road, Road::Direct { parked: false, .. })
        {
            peer.hand_over();
            peer.road = Road::Direct { inbox, lane, parked: true };
            (peer.hwm, peer.hwm_bytes) = marks;
        }
    }

    /// The other end of an in-process peer is there now: it gets what was parked, and what comes.
    pub(crate) fn redirect(&self, key: PeerKey, inbox: Arc<Inbox>, lane: PeerKey, marks: (usize, usize)) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(key) else { return };
            if let Road::Direct { inbox: parking, lane: slot, parked: true } = &peer.road {
                for message in parking.drain(*slot) {
                    let size = message.size();
                    after.wake_also(inbox.push_direct(lane, message, size));
                }
            }
            peer.road = Road::Direct { inbox, lane, parked: false };
            peer.kick = None;
            (peer.hwm, peer.hwm_bytes) = marks;
            peer.open = true;
            state.settle(key, &mut after);
            // What was parked waits no more.
            after.wakers().append(&mut state.progress);
        }
        self.perform(&mut after);
    }

    /// The connection ended; the peer's queue stays for the next one. With `discard`, the queue goes
    /// (counted as `PeerGone`) and the peer takes nothing until it is linked again.
    pub(crate) fn unlink(&self, key: PeerKey, discard: bool) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            state.seal_class_of(key);
            let Some(peer) = state.peers.get_mut(key) else { return };
            if matches!(peer.road, Road::Wire(_)) {
                peer.road = Road::Wire(None);
                peer.waker = None;
            }
            peer.blocked = false;
            peer.writing = false;
            peer.connection = peer.connection.wrapping_add(1);
            let done = peer.outbox.rewind();
            peer.messages += done.messages as u64;
            peer.bytes += done.bytes as u64;
            if discard {
                peer.open = false;
                let lost = peer.clear();
                state.count_drop(Some(key), DropReason::PeerGone, lost);
                state.revoke(|other| other == key);
            }
            state.settle(key, &mut after);
            after.wakers().append(&mut state.progress);
        }
        self.perform(&mut after);
    }

    /// The peer is gone for good. What still waited for it counts as dropped for `reason`.
    pub(crate) fn remove(&self, key: PeerKey, reason: DropReason) -> u64 {
        let mut after = After::default();
        let lost = {
            let mut state = self.lock();
            state.seal_class_of(key);
            state.leave_class(key);
            let Some(peer) = state.peers.get_mut(key) else { return 0 };
            let done = peer.outbox.rewind();
            peer.messages += done.messages as u64;
            peer.bytes += done.bytes as u64;
            peer.hand_over();
            let lost = peer.clear();
            state.count_drop(Some(key), reason, lost);
            state.leave_rotation(key);
            if let Some(peer) = state.peers.remove(key) {
                state.past.messages += peer.messages;
                state.past.bytes += peer.bytes;
                state.drops.merge(&peer.drops);
                after.wake_also(peer.waker);
            }
            state.revoke(|other| other == key);
            let more = state.waiters.again(|target| target == Target::All || target == Target::Peer(key));
            after.wakers().extend(more);
            after.wakers().append(&mut state.progress);
            lost
        };
        self.perform(&mut after);
        lost
    }

    /// No further message is taken; waiting senders fail.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut state = self.lock();
            state.closed = true;
            state.revoke(|_| true);
            let mut wakers = state.waiters.again(|_| true);
            wakers.extend(state.take_flusher());
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Asks the peer's connection to end with `reason`.
    pub(crate) fn kick(&self, key: PeerKey, reason: Reason) {
        let waker = {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(key) else { return };
            peer.kick = Some(reason);
            peer.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Sends to the next peer that has room. On refusal the message stays in `message`.
    #[inline]
    pub(crate) fn try_send(&self, message: &mut Option<Message>, turnaround: bool) -> Result<(), Refused> {
        let mut after = After::default();
        self.lock().send_any(message, turnaround, &mut after)?;
        self.perform(&mut after);
        Ok(())
    }

    /// Sends to this peer, which must have room. On refusal the message stays in `message`.
    pub(crate) fn try_send_to(
        &self,
        key: PeerKey,
        message: &mut Option<Message>,
        turnaround: bool,
    ) -> Result<(), Refused> {
        let mut after = After::default();
        self.lock().send_to(key, message, turnaround, &mut after)?;
        self.perform(&mut after);
        Ok(())
    }

    /// As the `try_` forms, but waits in line until there is room. `wait` is the caller's place in it.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        wait: &mut Wait,
        target: Target,
        message: &mut Option<Message>,
        turnaround: bool,
    ) -> Poll<Result<(), Refused>> {
        let mut after = After::default();
        let result = {
            let mut state = self.lock();
            let mut before = None;
            if let Some(id) = wait.id {
                match state.waiters.poll(id, cx.waker()) {
                    None => return Poll::Pending,
                    Some(Outcome::Granted(key)) => {
                        wait.id = None;
                        state.redeem(key, message, turnaround, &mut after);
                        drop(state);
                        self.perform(&mut after);
                        return Poll::Ready(Ok(()));
                    }
                    Some(Outcome::Again) => {
                        wait.id = None;
                        before = Some(id);
                    }
                }
            }
            let outcome = match target {
                Target::Peer(key) => state.send_to(key, message, turnaround, &mut after),
                _ => state.send_any(message, turnaround, &mut after),
            };
            if outcome == Err(Refused::Full) {
                wait.id = Some(state.waiters.join(target, cx.waker(), before));
                return Poll::Pending;
            }
            outcome
        };
        self.perform(&mut after);
        Poll::Ready(result)
    }

    /// Sets room aside for one message at some peer, waiting in line for it.
    pub(crate) fn poll_reserve(&self, cx: &mut Context<'_>, wait: &mut Wait) -> Poll<Result<PeerKey, Refused>> {
        let mut state = self.lock();
        let mut before = None;
        if let Some(id) = wait.id {
            match state.waiters.poll(id, cx.waker()) {
                None => return Poll::Pending,
                Some(Outcome::Granted(key)) => {
                    wait.id = None;
                    return Poll::Ready(Ok(key));
                }
                Some(Outcome::Again) => {
                    wait.id = None;
                    before = Some(id);
                }
            }
        }
        match state.set_aside() {
            Err(Refused::Full) => {
                wait.id = Some(state.waiters.join(Target::Any, cx.waker(), before));
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    pub(crate) fn try_reserve(&self) -> Result<PeerKey, Refused> {
        self.lock().set_aside()
    }

    /// Uses room that was set aside. If its peer has left since, the message counts as `PeerGone`.
    pub(crate) fn redeem(&self, key: PeerKey, message: Message) {
        let mut after = After::default();
        self.lock().redeem(key, &mut Some(message), false, &mut after);
        self.perform(&mut after);
    }

    /// Gives room back that was set aside.
    pub(crate) fn release(&self, key: PeerKey) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(key) else { return };
            peer.outbox.release();
            state.settle_now(key, &mut after);
        }
        self.perform(&mut after);
    }

    /// The caller of a waiting send gives up its place.
    pub(crate) fn abandon(&self, wait: &mut Wait) {
        let Some(id) = wait.id.take() else { return };
        let (granted, behind) = {
            let mut state = self.lock();
            let granted = state.waiters.leave(id);
            // Whoever waits for all peers may have waited for this place in the line only.
            (granted, state.waiters.again(|target| target == Target::All))
        };
        if let Some(key) = granted {
            self.release(key);
        }
        behind.into_iter().for_each(Waker::wake);
    }

    /// The peer takes no new messages; what waits is still written.
    pub(crate) fn retire(&self, key: PeerKey) {
        let mut state = self.lock();
        state.seal_class_of(key);
        state.leave_class(key);
        if let Some(peer) = state.peers.get_mut(key) {
            peer.open = false;
        }
        state.revoke(|other| other == key);
        state.rejoin(key);
    }

    /// Whether messages wait for this peer.
    pub(crate) fn waits_for(&self, key: PeerKey) -> bool {
        self.lock().peers.get(key).is_some_and(|peer| peer.waiting() > 0)
    }

    /// Ready when nothing waits for this peer.
    pub(crate) fn poll_peer_drained(&self, cx: &mut Context<'_>, key: PeerKey) -> Poll<()> {
        let mut state = self.lock();
        if state.peers.get(key).is_none_or(|peer| peer.waiting() == 0) {
            return Poll::Ready(());
        }
        state.progress.push(cx.waker().clone());
        Poll::Pending
    }

    /// Queues control frames for one peer; they are not subject to any mark.
    pub(crate) fn control(&self, key: PeerKey, bytes: &[u8]) {
        let waker = {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(key) else { return };
            peer.outbox.push_control(bytes);
            peer.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Queues the answer to a peer's command; a newer answer replaces one that still waits, so that a peer
    /// that asks and never reads costs no memory.
    pub(crate) fn answer(&self, key: PeerKey, frame: bytes::Bytes) {
        if let Some(peer) = self.lock().peers.get_mut(key) {
            peer.outbox.set_answer(frame);
        }
    }

    /// Throws away what waits for the peer.
    pub(crate) fn clear(&self, key: PeerKey, reason: DropReason) {
        let mut state = self.lock();
        let Some(peer) = state.peers.get_mut(key) else { return };
        let lost = peer.clear();
        state.count_drop(Some(key), reason, lost);
    }

    /// Counts messages that never reached an outbox.
    pub(crate) fn count_drop(&self, key: Option<PeerKey>, reason: DropReason, count: u64) {
        self.lock().count_drop(key, reason, count);
    }

    pub(crate) fn sent(&self, key: PeerKey) -> Option<Sent> {
        let state = self.lock();
        let peer = state.peers.get(key)?;
        let mut drops = peer.drops;
        drops.add(DropReason::HwmReached, state.missing_in_class(key) as u64);
        Some(Sent {
            messages: peer.messages,
            bytes: peer.bytes,
            drops,
            queued: peer.outbox.queued() + state.waiting_in_class(key),
            hwm: peer.hwm,
        })
    }

    /// How many messages the kernel has taken for this peer, those of a batch that it took in part included.
    /// For the moment between a connection's end and [`Outbound::unlink`].
    pub(crate) fn end_of_written(&self, key: PeerKey) -> u64 {
        let mut state = self.lock();
        let Some(peer) = state.peers.get_mut(key) else { return 0 };
        let done = peer.outbox.rewind();
        peer.messages += done.messages as u64;
        peer.bytes += done.bytes as u64;
        peer.hand_over();
        peer.messages
    }

    /// Counters of peers that have left, and drops that concern none.
    pub(crate) fn past(&self) -> Sent {
        let state = self.lock();
        Sent { drops: state.drops, ..state.past }
    }

    /// All messages that wait, with any peer.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.lock();
        state.peers.iter().map(|(key, peer)| peer.waiting() + state.waiting_in_class(key)).sum()
    }

    /// Ready when nothing waits for the peers that `who` selects; else wakes at the next progress.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>, connected_only: bool) -> Poll<()> {
        let mut state = self.lock();
        let busy = state.peers.iter().any(|(key, peer)| {
            let counts = match &peer.road {
                Road::Wire(link) => link.is_some() || !connected_only,
                Road::Direct { .. } => !connected_only,
            };
            counts && (peer.waiting() > 0 || peer.outbox.control_len() > 0 || state.waiting_in_class(key) > 0)
        });
        if !busy {
            return Poll::Ready(());
        }
        state.watch_progress(cx);
        Poll::Pending
    }

    /// By reference: moving what is nearly always empty would cost more than looking at it.
    #[inline]
    pub(super) fn perform(&self, after: &mut After) {
        if let Some(waker) = after.wake.take() {
            waker.wake();
        }
        if after.direct {
            self.toll.store(true, Ordering::Relaxed);
        }
        if let Some(lease) = after.lease.take() {
            self.toll.store(true, Ordering::Relaxed);
            self.write(lease);
        }
        if let Some(more) = after.more.take() {
            self.perform_more(*more);
        }
    }

    #[cold]
    fn perform_more(&self, more: More) {
        more.wakers.into_iter().for_each(Waker::wake);
        if !more.leases.is_empty() {
            self.toll.store(true, Ordering::Relaxed);
            more.leases.into_iter().for_each(|lease| self.write(lease));
        }
    }
}

impl Credit for Outbound {
    fn credit(&self, key: PeerKey, messages: usize, bytes: usize) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(key) else { return };
            peer.outbox.refund(messages, bytes);
            peer.messages += messages as u64;
            peer.bytes += bytes as u64;
            state.settle(key, &mut after);
        }
        self.perform(&mut after);
    }
}

/// A sender's place in the line; give it back with [`Outbound::abandon`] when the send is given up.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    id: Option<u64>,
}

impl Wait {
    pub(super) fn id(&mut self) -> &mut Option<u64> {
        &mut self.id
    }
}

impl State {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    #[inline]
    fn send_any(&mut self, message: &mut Option<Message>, turnaround: bool, after: &mut After) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if !self.waiters.is_empty() && self.waiters.ahead_of(Target::Any) {
            return Err(Refused::Full);
        }
        match self.next_peer() {
            Some(key) => {
                self.accept(key, message, turnaround, after);
                Ok(())
            }
            None => self.no_room(message, after),
        }
    }

    fn send_to(
        &mut self,
        key: PeerKey,
        message: &mut Option<Message>,
        turnaround: bool,
        after: &mut After,
    ) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.open) else { return Err(Refused::NoRoute) };
        if !peer.is_full() && !self.waiters.ahead_of(Target::Peer(key)) {
            self.accept(key, message, turnaround, after);
            return Ok(());
        }
        self.overflow(key, message, after)
    }

    /// Takes grants back that nobody has used yet: their waiters look again.
    fn revoke(&mut self, which: impl Fn(PeerKey) -> bool) {
        for key in self.waiters.revoke(which) {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.outbox.release();
            }
        }
    }

    /// The peer whose turn it is, among those with room.
    #[inline]
    fn next_peer(&mut self) -> Option<PeerKey> {
        if self.turn >= self.rotation.len() {
            self.turn = 0;
        }
        self.rotation.get(self.turn).copied()
    }

    /// Sets room aside at the next peer.
    fn set_aside(&mut self) -> Result<PeerKey, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.waiters.ahead_of(Target::Any) {
            return Err(Refused::Full);
        }
        let key = self.next_peer().ok_or(Refused::Full)?;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.outbox.reserve();
        }
        self.after_accept(key);
        Ok(key)
    }

    fn redeem(&mut self, key: PeerKey, message: &mut Option<Message>, turnaround: bool, after: &mut After) {
        match self.peers.get_mut(key) {
            Some(peer) if peer.open => {
                peer.outbox.release();
                self.put(key, message, turnaround, after);
            }
            Some(peer) => {
                peer.outbox.release();
                *message = None;
                self.count_drop(Some(key), DropReason::PeerGone, 1);
            }
            None => {
                *message = None;
                self.count_drop(None, DropReason::PeerGone, 1);
            }
        }
    }

    #[inline]
    fn accept(&mut self, key: PeerKey, message: &mut Option<Message>, turnaround: bool, after: &mut After) {
        self.put(key, message, turnaround, after);
        self.after_accept(key);
    }

    /// Moves the turn on, and the peer out of the rotation when it is full now.
    #[inline]
    fn after_accept(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.is_full() {
            self.mark_high(key);
            self.leave_rotation(key);
        } else if self.rotation.len() > 1 && self.rotation.get(self.turn) == Some(&key) {
            self.turn += 1;
        }
    }

    /// Hands the message over to the peer's queue and decides who writes.
    #[inline]
    pub(super) fn put(&mut self, key: PeerKey, message: &mut Option<Message>, turnaround: bool, after: &mut After) {
        let policy = self.limits.flush;
        let conflate = self.limits.conflate;
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Road::Direct { inbox, lane, .. } = &peer.road {
            let Some(message) = message.take() else { return };
            let bytes = message.size();
            peer.outbox.charge(1, bytes);
            after.direct = true;
            after.wake = inbox.push_direct(*lane, message, bytes);
            return;
        }
        let was_clear = peer.outbox.is_clear();
        let mut replaced = 0;
        if conflate {
            while peer.outbox.untouched() > 0 && peer.outbox.drop_oldest() {
                replaced += 1;
            }
        }
        {
            let Some(message) = message.as_ref() else { return };
            peer.outbox.push(message);
        }
        *message = None;
        if peer.link().is_some() && !peer.writing && !peer.blocked {
            let full_batch = peer.outbox.arena_len() >= SEGMENT || peer.outbox.has_segment() || peer.is_full();
            let caller = match policy {
                FlushPolicy::Immediate => true,
                FlushPolicy::Task => false,
                FlushPolicy::Auto => full_batch || turnaround || (was_clear && peer.lone),
            };
            if caller {
                after.lease = peer.lease(key);
                if !turnaround && !full_batch {
                    // If the task finds nothing when it runs, the link is still sparse.
                    peer.lone = false;
                    after.wake = peer.waker.take();
                }
            } else if was_clear {
                after.wake = peer.waker.take();
            }
        } else if peer.outbox.arena_len() >= SEGMENT {
            // Nobody can write now: without a high-water mark only yielding lets somebody.
            peer.outbox.seal();
            after.direct = true;
        }
        if replaced > 0 {
            self.count_drop(Some(key), DropReason::HwmReached, replaced);
        }
    }

    /// No peer has room: what then is the socket's choice.
    #[cold]
    fn no_room(&mut self, message: &mut Option<Message>, after: &mut After) -> Result<(), Refused> {
        let open: Vec<PeerKey> = self.peers.iter().filter(|(_, peer)| peer.open).map(|(key, _)| key).collect();
        match (self.limits.on_full, open.is_empty()) {
            (OnFull::Block, _) => Err(Refused::Full),
            (_, true) => {
                *message = None;
                self.count_drop(None, DropReason::NoPeer, 1);
                Ok(())
            }
            (_, false) => {
                self.turn = self.turn.wrapping_add(1);
                self.overflow(open[self.turn % open.len()], message, after)
            }
        }
    }

    /// One peer has no room.
    #[cold]
    fn overflow(&mut self, key: PeerKey, message: &mut Option<Message>, after: &mut After) -> Result<(), Refused> {
        match self.limits.on_full {
            OnFull::Block => return Err(Refused::Full),
            OnFull::DropNewest => {
                *message = None;
                self.count_drop(Some(key), DropReason::HwmReached, 1);
            }
            OnFull::DropOldest => {
                if self.peers.get_mut(key).is_some_and(|peer| peer.outbox.drop_oldest()) {
                    self.put(key, message, false, after);
                }
                *message = None;
                self.count_drop(Some(key), DropReason::HwmReached, 1);
            }
            OnFull::Disconnect => {
                *message = None;
                self.count_drop(Some(key), DropReason::HwmReached, 1);
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.kick = Some(Reason::HwmReached);
                    after.wake_also(peer.waker.take());
                }
            }
        }
        Ok(())
    }

    pub(super) fn count_drop(&mut self, key: Option<PeerKey>, reason: DropReason, count: u64) {
        if count == 0 {
            return;
        }
        match key.and_then(|key| self.peers.get_mut(key)) {
            Some(peer) => {
                peer.drops.add(reason, count);
                self.witness.dropped(&peer.name, reason, count);
            }
            None => {
                self.drops.add(reason, count);
                self.witness.dropped("", reason, count);
            }
        }
    }

    #[cold]
    pub(super) fn mark_high(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key)
            && !peer.high
        {
            peer.high = true;
            self.witness.high_water(&peer.name, true);
        }
    }

    fn leave_rotation(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.in_rotation = false;
        }
        if let Some(at) = self.rotation.iter().position(|&other| other == key) {
            self.rotation.remove(at);
            if at < self.turn {
                self.turn -= 1;
            }
        }
    }

    /// A peer's account changed for the better: back into the rotation, and at the low mark the waiters' turn.
    pub(super) fn settle(&mut self, key: PeerKey, after: &mut After) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.is_low() {
            self.settle_now(key, after);
        } else {
            self.rejoin(key);
        }
    }

    fn rejoin(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.open && !peer.is_full() {
            if !peer.in_rotation {
                peer.in_rotation = true;
                self.rotation.push(key);
            }
        } else if peer.in_rotation {
            self.leave_rotation(key);
        }
    }

    /// As [`State::settle`], without waiting for the low mark.
    fn settle_now(&mut self, key: PeerKey, after: &mut After) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.high && peer.is_low() {
            peer.high = false;
            self.witness.high_water(&peer.name, false);
            self.unmute(key);
        }
        if !self.waiters.is_empty() {
            while let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.open && !peer.is_full()) {
                let Some(waker) = self.waiters.grant(key) else { break };
                peer.outbox.reserve();
                after.wakers().push(waker);
            }
            let again = self.waiters.again(|target| target == Target::All);
            after.wakers().extend(again);
        }
        self.rejoin(key);
    }

    /// Wakes the caller when something was written or dropped.
    pub(super) fn watch_progress(&mut self, cx: &Context<'_>) {
        if !self.progress.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.progress.push(cx.waker().clone());
        }
    }

    pub(super) fn progressed(&mut self, after: &mut After) {
        if !self.progress.is_empty() {
            after.wakers().append(&mut self.progress);
        }
    }
}
