//! The sending side of one socket: [`Outbound`], all peers' outboxes under one short lock.
//!
//! Here is its face: peers come, are joined to a connection, part and leave; counters are read, and what was
//! decided under the lock is done once it is gone ([`After`]). What stands behind the lock is in `peers`, how
//! a message gets in in `admission`, how it gets out in `lease`, and a publisher's shared batches in
//! `fanout`. Nothing here blocks, awaits or knows a pattern: who gets a message is an argument.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::inbox::Inbox;
use super::lease::Lease;
use super::outbox::Segment;
use super::peers::{Limits, Pace, Peer, Road, Sent, State, Witness};
use super::waiters::Target;
use super::{Credit, Link, PeerKey};
use crate::event::{DropReason, Reason};

/// The sending side of one socket.
pub(crate) struct Outbound {
    state: Mutex<State>,
    /// A [`Toll`], raised by work that others should be let run after.
    toll: AtomicU8,
}

/// What a sender that never waits owes to others, who could not run meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toll {
    None,
    /// A unit of the task's budget.
    Share,
    /// Its turn: so much waits in this process that it is to be read or written before there is more.
    Turn,
}

impl Outbound {
    pub(crate) fn new(limits: Limits, witness: Arc<dyn Witness>) -> Outbound {
        Outbound { state: Mutex::new(State::new(limits, witness)), toll: AtomicU8::new(Toll::None as u8) }
    }

    /// What a sender that never waits owes to others now (once per answer).
    #[inline]
    pub(crate) fn takes_toll(&self) -> Toll {
        if !self.owes_toll() {
            return Toll::None;
        }
        match self.toll.swap(Toll::None as u8, Ordering::Relaxed) {
            0 => Toll::None,
            1 => Toll::Share,
            _ => Toll::Turn,
        }
    }

    #[inline]
    pub(crate) fn owes_toll(&self) -> bool {
        self.toll.load(Ordering::Relaxed) != Toll::None as u8
    }

    fn raise(&self, toll: Toll) {
        self.toll.fetch_max(toll as u8, Ordering::Relaxed);
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
            let marks = direct_marks.unwrap_or((state.limits.hwm, state.limits.hwm_bytes));
            let key = state.peers.insert(Peer::new(name, road, open, marks));
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
            peer.pace = Pace::default();
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

    /// An order to end that came between two connections concerns neither.
    pub(crate) fn pardon(&self, key: PeerKey) {
        if let Some(peer) = self.lock().peers.get_mut(key) {
            peer.kick = None;
        }
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
        let again = state.waiters.again(|target| target == Target::All || target == Target::Peer(key));
        drop(state);
        again.into_iter().for_each(Waker::wake);
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
        state.watch_progress(cx);
        Poll::Pending
    }

    /// Wakes the caller when something was written, read in this process, or dropped.
    pub(crate) fn watch_progress(&self, cx: &Context<'_>) {
        self.lock().watch_progress(cx);
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

    /// Bytes of control frames that wait for this peer.
    pub(crate) fn control_backlog(&self, key: PeerKey) -> usize {
        self.lock().peers.get(key).map_or(0, |peer| peer.outbox.control_len())
    }

    /// Queues records out of a log. Called by the connection's own task just before it writes: nobody is woken.
    pub(crate) fn push_records(&self, key: PeerKey, chunks: Vec<Bytes>, messages: usize) {
        if let Some(peer) = self.lock().peers.get_mut(key) {
            peer.logged = true;
            peer.outbox.push_segment(Segment::records(chunks, messages));
        }
    }

    /// Bytes of messages that wait for this peer.
    pub(crate) fn backlog(&self, key: PeerKey) -> usize {
        self.lock().peers.get(key).map_or(0, |peer| peer.outbox.bytes())
    }

    /// Whether nothing at all waits to be written to this peer, and nobody is writing.
    pub(crate) fn is_clear(&self, key: PeerKey) -> bool {
        self.lock().peers.get(key).is_none_or(|peer| peer.outbox.is_clear() && !peer.writing)
    }

    /// Forgets records that wait for a connection that is gone: they are still in the log.
    pub(crate) fn forget_records(&self, key: PeerKey) {
        if let Some(peer) = self.lock().peers.get_mut(key) {
            let done = peer.outbox.rewind();
            peer.messages += done.messages as u64;
            peer.bytes += done.bytes as u64;
            peer.clear();
        }
    }

    /// Wakes the peer's task: it has something new to look at.
    pub(crate) fn nudge(&self, key: PeerKey) {
        let waker = self.lock().peers.get_mut(key).and_then(|peer| peer.waker.take());
        waker.into_iter().for_each(Waker::wake);
    }

    /// Queues the answer to a peer's command; a newer answer replaces one that still waits, so that a peer
    /// that asks and never reads costs no memory.
    pub(crate) fn answer(&self, key: PeerKey, frame: Bytes) {
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
        // A loop that only drops must let run those whom it could reach.
        self.raise(Toll::Share);
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
        if after.much {
            self.raise(Toll::Turn);
        } else if after.direct {
            self.raise(Toll::Share);
        }
        if let Some(lease) = after.lease.take() {
            self.raise(Toll::Share);
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
            self.raise(Toll::Share);
            more.leases.into_iter().for_each(|lease| self.write(lease));
        }
    }
}

impl Credit for Outbound {
    fn credit(&self, key: PeerKey, from: (&Inbox, PeerKey), messages: usize, bytes: usize) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            // A reader in another thread may report what it read when the joint is over already: that was handed over.
            let Some(peer) = state.peers.get_mut(key).filter(|peer| peer.leads_to(from)) else { return };
            peer.outbox.refund(messages, bytes);
            peer.messages += messages as u64;
            peer.bytes += bytes as u64;
            state.settle(key, &mut after);
            state.progressed(&mut after);
        }
        self.perform(&mut after);
    }
}

/// What to do once the lock is gone.
#[derive(Default)]
pub(super) struct After {
    pub(super) wake: Option<Waker>,
    pub(super) lease: Option<Lease>,
    /// The rare rest, apart so that the common case has nothing to set up or tear down.
    more: Option<Box<More>>,
    /// A message went straight to another socket, or a segment is full: work for others.
    pub(super) direct: bool,
    /// Much waits already, for a socket of this process or for a connection that cannot take it now.
    pub(super) much: bool,
}

#[derive(Default)]
struct More {
    wakers: Vec<Waker>,
    leases: Vec<Lease>,
}

impl After {
    /// Something is to be done as soon as the lock is gone.
    pub(super) fn is_due(&self) -> bool {
        self.wake.is_some() || self.lease.is_some() || self.more.is_some()
    }

    pub(super) fn wakers(&mut self) -> &mut Vec<Waker> {
        &mut self.more.get_or_insert_default().wakers
    }

    pub(super) fn leases(&mut self) -> &mut Vec<Lease> {
        &mut self.more.get_or_insert_default().leases
    }

    pub(super) fn wake_also(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakers().push(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::options::{FlushPolicy, OnFull};
    use crate::queue::admission::Refused;
    use crate::queue::tests::Nobody;

    #[test]
    fn what_is_read_of_a_former_joint_counts_once_and_frees_nothing() {
        let limits =
            Limits { hwm: 2, hwm_bytes: 0, on_full: OnFull::Block, flush: FlushPolicy::Auto, conflate: false, lot: 0 };
        let outbound = Outbound::new(limits, Arc::new(Nobody));
        let inbox = || {
            let inbox = Arc::new(Inbox::new(0, 0, false));
            let lane = inbox.open_lane(None);
            (inbox, lane)
        };
        let (former, lane) = inbox();
        let road = Road::Direct { inbox: former.clone(), lane, parked: false };
        let key = outbound.add("peer".into(), road, true, Some((2, 0)));
        let send = || outbound.try_send(&mut Some(Message::from("m")), false);
        assert!(send().is_ok() && send().is_ok());
        outbound.credit(key, (&former, lane), 1, 1);
        let account = || outbound.sent(key).map(|sent| (sent.messages, sent.bytes, sent.queued));
        assert_eq!(account(), Some((1, 1, 1)));
        let (parking, slot) = inbox();
        outbound.repark(key, parking, slot, (2, 0));
        assert_eq!(account(), Some((2, 2, 0)), "what is left there is the reader's");
        assert!(send().is_ok() && send().is_ok());
        // The reader was about to report its second message when the joint ended.
        outbound.credit(key, (&former, lane), 1, 1);
        assert_eq!(account(), Some((2, 2, 2)));
        assert_eq!(send(), Err(Refused::Full));
        let (latter, lane) = inbox();
        outbound.redirect(key, latter.clone(), lane, (2, 0));
        outbound.credit(key, (&latter, lane), 2, 2);
        assert_eq!(account(), Some((4, 4, 0)));
    }
}
