//! How a message gets into an outbox: at once, after waiting in line, through room set aside, or not at all.
//!
//! A send encodes its message under the lock and decides, still inside it, who writes: the caller (with enough
//! waiting, at the high-water mark, at a turnaround, a lone message) or the connection's task (woken once per
//! batch). The writer holds a lease, so bytes never pass each other; the system call runs without the lock.
//! A message that is refused stays with the caller. Next: `waiters` for the line, `lease` for the way out.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::PeerKey;
use super::outbound::{After, Outbound};
use super::peers::{DIRECT_BYTES, DIRECT_MESSAGES, Peer, Road, State, WIRE_BYTES};
use super::waiters::{Outcome, Target};
use crate::event::{DropReason, Reason};
use crate::message::Message;
use crate::options::{FlushPolicy, OnFull};

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    /// The addressed peer is not there.
    NoRoute,
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

    fn poll(&mut self, state: &mut State, cx: &Context<'_>) -> Turn {
        let Some(id) = self.id else { return Turn::Look(None) };
        let Some(outcome) = state.waiters.poll(id, cx.waker()) else { return Turn::Waits };
        self.id = None;
        match outcome {
            Outcome::Granted(key) => Turn::Granted(key),
            Outcome::Again => Turn::Look(Some(id)),
        }
    }
}

/// What a place in the line comes to when its sender is polled.
enum Turn {
    Waits,
    Granted(PeerKey),
    /// Nothing is set aside: the sender looks for itself, and waits where it was in the line (if it was).
    Look(Option<u64>),
}

impl Outbound {
    /// Sends to the next peer, if all there is to do is to append the message to a batch under way. The hot path of
    /// sending; false: nothing has happened, go the whole way.
    #[inline(always)]
    pub(crate) fn join(&self, message: &Message) -> bool {
        self.lock().join_batch(message)
    }

    /// As [`Outbound::join`], for a peer of this process, who is given the message itself; else it stays in `message`.
    #[inline(never)]
    pub(crate) fn join_inside(&self, message: &mut Option<Message>) -> bool {
        let Some(size) = message.as_ref().map(Message::size) else { return false };
        self.lock().join_next(|peer| peer.join_direct(size, || message.take()))
    }

    /// Sends to the next peer that has room. On refusal the message stays in `message`.
    pub(crate) fn try_send(&self, message: &mut Option<Message>, turnaround: bool) -> Result<(), Refused> {
        let mut after = After::default();
        self.lock().send_any(message, turnaround, &mut after)?;
        self.perform(&mut after);
        Ok(())
    }

    /// Whether a send would have to wait in line now: for a peer that has room, or for all of them.
    pub(crate) fn has_line(&self, all: bool) -> bool {
        let mut state = self.lock();
        state.limits.on_full == OnFull::Block
            && (!state.waiters.is_empty()
                || match all {
                    true => state.peers.iter().any(|(_, peer)| peer.open && peer.is_full()),
                    false => state.next_peer().is_none(),
                })
    }

    /// Sends from the front of `messages`, under one lock until something has to be written or woken. Returns how
    /// many went; on refusal the refused one is at the front again.
    pub(crate) fn try_send_run(&self, messages: &mut VecDeque<Message>) -> usize {
        let mut sent = 0;
        let (mut refused, mut much) = (false, false);
        while !refused && !much && !messages.is_empty() {
            let mut after = After::default();
            {
                let mut state = self.lock();
                while let Some(message) = messages.pop_front() {
                    if state.join_batch(&message) {
                        sent += 1;
                        continue;
                    }
                    let mut message = Some(message);
                    refused = state.send_any(&mut message, false, &mut after).is_err();
                    if let Some(message) = message {
                        messages.push_front(message);
                    }
                    if refused {
                        break;
                    }
                    sent += 1;
                    // With much on its way inside the process the reader comes first.
                    much = after.much;
                    if much || after.is_due() {
                        break;
                    }
                }
            }
            self.perform(&mut after);
        }
        sent
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
            let before = match wait.poll(&mut state, cx) {
                Turn::Waits => return Poll::Pending,
                Turn::Granted(key) => {
                    state.redeem(key, message, turnaround, &mut after);
                    drop(state);
                    self.perform(&mut after);
                    return Poll::Ready(Ok(()));
                }
                Turn::Look(before) => before,
            };
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
        let before = match wait.poll(&mut state, cx) {
            Turn::Waits => return Poll::Pending,
            Turn::Granted(key) => return Poll::Ready(Ok(key)),
            Turn::Look(before) => before,
        };
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
}

impl State {
    #[inline(always)]
    fn join_batch(&mut self, message: &Message) -> bool {
        self.join_next(|peer| peer.join(message))
    }

    #[inline(always)]
    fn join_next(&mut self, join: impl FnOnce(&mut Peer) -> bool) -> bool {
        if self.closed
            || self.limits.conflate
            || self.limits.flush == FlushPolicy::Immediate
            || !self.waiters.is_empty()
        {
            return false;
        }
        let Some(key) = self.next_peer() else { return false };
        let Some(peer) = self.peers.get_mut(key) else { return false };
        if !join(peer) {
            return false;
        }
        if self.rotation.len() > 1 {
            self.turn += 1;
        }
        true
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
        let mut replaced = 0;
        if let Road::Direct { inbox, lane, .. } = &peer.road {
            let Some(message) = message.take() else { return };
            let bytes = message.size();
            if inbox.conflates() {
                while let Some(old) = inbox.replace_oldest(*lane) {
                    peer.outbox.refund(1, old);
                    peer.messages += 1;
                    peer.bytes += old as u64;
                }
            } else if conflate {
                while let Some(old) = inbox.take_oldest(*lane) {
                    peer.outbox.refund(1, old);
                    replaced += 1;
                }
            }
            peer.outbox.charge(1, bytes);
            // Who waits at a mark lets others run by that.
            after.direct = self.limits.on_full != OnFull::Block;
            after.much |= peer.outbox.bytes() >= DIRECT_BYTES || peer.outbox.queued() >= DIRECT_MESSAGES;
            after.wake = inbox.push_direct(*lane, message, bytes);
            self.count_drop(Some(key), DropReason::HwmReached, replaced);
            return;
        }
        let was_clear = peer.outbox.is_clear();
        if conflate {
            while peer.outbox.untouched() > 0 && peer.outbox.drop_oldest() {
                replaced += 1;
            }
        }
        let last = {
            let Some(message) = message.as_ref() else { return };
            peer.outbox.push(message)
        };
        *message = None;
        if peer.link().is_some() && !peer.writing && !peer.blocked {
            let full_batch = peer.outbox.is_worth_writing(last) || peer.is_full() || peer.has_lot(self.limits.lot);
            let caller = match policy {
                FlushPolicy::Immediate => true,
                FlushPolicy::Task => false,
                FlushPolicy::Auto => full_batch || turnaround || (was_clear && peer.pace.is_sparse()),
            };
            if caller {
                after.lease = peer.lease(key);
                if !turnaround && !full_batch {
                    // If the task finds nothing when it runs, the link is still sparse.
                    peer.pace.handle_written_by_caller();
                    after.wake = peer.waker.take();
                }
            } else if was_clear {
                after.wake = peer.waker.take();
            }
        } else if peer.outbox.has_full_segment(last) {
            // Nobody can write now: without a high-water mark only yielding lets somebody.
            peer.outbox.seal();
            after.direct = true;
            after.much |= peer.outbox.bytes() >= WIRE_BYTES;
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
        // A loop that never waits must let run those who could make room.
        after.direct = true;
        match self.limits.on_full {
            OnFull::Block => return Err(Refused::Full),
            OnFull::DropNewest => {
                *message = None;
                self.count_drop(Some(key), DropReason::HwmReached, 1);
            }
            OnFull::DropOldest => {
                if self.peers.get_mut(key).is_some_and(Peer::drop_oldest) {
                    self.put(key, message, false, after);
                    // It is no more than before: a full queue must not cost a turn at every message.
                    after.much = false;
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
}
