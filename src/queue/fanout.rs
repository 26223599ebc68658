//! One message for many peers: [`Fanout`], the shared batches of a publisher.
//!
//! Subscribers of the same set form a class. A publication is encoded once per matching class, into the
//! class's arena; a sealed arena goes to every member's outbox as the same refcounted segment. So a
//! member costs nothing per message, and its high-water mark stays exact: what waits in the arena counts
//! for every member. Who is in which class is the pattern's business.

use std::task::{Context, Poll, Waker};

use super::PeerKey;
use super::admission::{Refused, Wait};
use super::outbound::{After, Outbound};
use super::outbox::{Arena, Segment, is_external};
use super::peers::{Limits, Road, State};
use super::waiters::{Outcome, Target};
use crate::event::{DropReason, Reason};
use crate::message::Message;
use crate::options::{FlushPolicy, OnFull};

/// A message is in its subscribers' queues; whom to write for or wake is still open.
#[must_use = "subscribers may be waiting"]
pub(crate) struct Publication(After);

#[derive(Default)]
struct Class {
    arena: Arena,
    members: Vec<PeerKey>,
    direct: Vec<PeerKey>,
    /// Below these two no member can be full; they are only ever too low.
    check_messages: usize,
    check_bytes: usize,
    /// Some members miss what is published; also only ever too true.
    misses: bool,
    dirty: bool,
}

/// The classes of one publisher.
#[derive(Default)]
pub(super) struct Fanout {
    classes: Vec<Option<Class>>,
    dirty: Vec<usize>,
    /// The task that writes for all members, when it sleeps.
    flusher: Option<Waker>,
}

impl Outbound {
    /// A new, empty class.
    pub(crate) fn new_class(&self) -> usize {
        let mut state = self.lock();
        let classes = &mut state.fanout.classes;
        match classes.iter().position(Option::is_none) {
            Some(free) => {
                classes[free] = Some(Class::default());
                free
            }
            None => {
                classes.push(Some(Class::default()));
                classes.len() - 1
            }
        }
    }

    /// Frees a class that has no members.
    pub(crate) fn drop_class(&self, class: usize) {
        let mut state = self.lock();
        state.seal(class);
        // It stays listed as dirty: that is what makes the flusher look at those who were members.
        if let Some(slot) = state.fanout.classes.get_mut(class) {
            *slot = None;
        }
    }

    /// From here on the peer gets what `class` publishes (and nothing of another class).
    pub(crate) fn join_class(&self, key: PeerKey, class: Option<usize>) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            state.seal_class_of(key);
            state.leave_class(key);
            if let Some(class) = class {
                state.seal(class);
                state.join(key, class);
            }
            // What a seal left in an outbox has no other occasion to be written.
            after.wake = state.fanout.flusher.take();
        }
        self.perform(&mut after);
    }

    /// Somebody wants less than before: whoever waits for room at every match may have waited for that one only.
    pub(crate) fn look_again(&self) {
        let again = {
            let mut state = self.lock();
            if state.waiters.is_empty() {
                return;
            }
            state.waiters.again(|target| target == Target::All)
        };
        again.into_iter().for_each(Waker::wake);
    }

    /// Publishes to this class, if all there is to do is to append the message to a batch under way: the hot path of
    /// publishing. False: nothing has happened, go the whole way.
    #[inline]
    pub(crate) fn join_batch_of(&self, class: usize, message: &Message) -> bool {
        let mut state = self.lock();
        if state.is_closed() || !state.waiters.is_empty() {
            return false;
        }
        let Some(class) = state.class(class) else { return false };
        class.dirty
            && !class.misses
            && class.direct.is_empty()
            && class.arena.messages < class.check_messages
            && class.arena.len() < class.check_bytes
            && class.arena.push_quickly(message).is_some()
    }

    /// Publishes to these classes (each named once), following the socket's choice for full members. What is
    /// left to do, [`Outbound::settle_publication`] does, when the caller has let go of its own locks.
    pub(crate) fn try_publish(&self, classes: &[usize], message: &Message) -> Result<Publication, Refused> {
        let mut state = self.lock();
        let mut after = After::default();
        if state.is_closed() {
            return Err(Refused::Closed);
        }
        if state.limits.on_full == OnFull::Block && !state.waiters.is_empty() {
            return Err(Refused::Full);
        }
        if classes.iter().any(|&class| state.needs_check(class)) {
            // Whoever is full but can be written to is written to before it counts as full.
            let leases = state.lease_full(classes);
            if !leases.is_empty() {
                drop(state);
                leases.into_iter().for_each(|lease| self.write(lease));
                state = self.lock();
            }
            if state.limits.on_full == OnFull::Block && state.any_full(classes) {
                return Err(Refused::Full);
            }
            for &class in classes {
                state.check(class, &mut after);
            }
        }
        for &class in classes {
            state.append(class, message, &mut after);
        }
        Ok(Publication(after))
    }

    /// Writes and wakes what a publication calls for.
    #[inline]
    pub(crate) fn settle_publication(&self, mut publication: Publication) {
        self.perform(&mut publication.0);
    }

    /// As [`Outbound::try_publish`], but waits until every matching peer has room (`OnFull::Block`).
    pub(crate) fn poll_publish(
        &self,
        cx: &mut Context<'_>,
        wait: &mut Wait,
        classes: &[usize],
        message: &Message,
    ) -> Poll<Result<Publication, Refused>> {
        let mut before = None;
        if let Some(id) = *wait.id() {
            match self.lock().waiters.poll(id, cx.waker()) {
                None => return Poll::Pending,
                Some(Outcome::Granted(_) | Outcome::Again) => {
                    *wait.id() = None;
                    before = Some(id);
                }
            }
        }
        match self.try_publish(classes, message) {
            Err(Refused::Full) => {
                let mut state = self.lock();
                if state.waiters.is_empty() && !state.any_full(classes) {
                    // Room came between the attempt and this lock.
                    drop(state);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                *wait.id() = Some(state.waiters.join(Target::All, cx.waker(), before));
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    /// Ready when published messages wait to be written, the flusher's only wait; false: no more will come.
    pub(crate) fn poll_flusher(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.is_closed() || !state.fanout.dirty.is_empty() {
            return Poll::Ready(!state.is_closed());
        }
        state.fanout.flusher = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl State {
    pub(super) fn take_flusher(&mut self) -> Option<Waker> {
        self.fanout.flusher.take()
    }

    fn class(&mut self, class: usize) -> Option<&mut Class> {
        self.fanout.classes.get_mut(class)?.as_mut()
    }

    /// Messages of the peer's class that are not in its outbox yet.
    pub(super) fn waiting_in_class(&self, key: PeerKey) -> usize {
        let Some(peer) = self.peers.get(key).filter(|peer| !peer.muted) else { return 0 };
        if matches!(peer.road, Road::Direct { .. }) {
            return 0;
        }
        let class = peer.class.and_then(|class| self.fanout.classes.get(class)?.as_ref());
        class.map_or(0, |class| class.arena.messages)
    }

    /// Messages of the peer's class that it will miss, not counted as dropped yet.
    pub(super) fn missing_in_class(&self, key: PeerKey) -> usize {
        let muted = self.peers.get(key).filter(|peer| peer.muted);
        let class = muted.and_then(|peer| self.fanout.classes.get(peer.class?)?.as_ref());
        class.map_or(0, |class| class.arena.messages)
    }

    fn join(&mut self, key: PeerKey, class: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.class = Some(class);
        peer.muted = false;
        let direct = matches!(peer.road, Road::Direct { .. });
        let Some(class) = self.class(class) else { return };
        if direct {
            class.direct.push(key);
        } else {
            class.members.push(key);
        }
        (class.check_messages, class.check_bytes) = (0, 0);
    }

    pub(super) fn leave_class(&mut self, key: PeerKey) {
        let Some(class) = self.peers.get_mut(key).and_then(|peer| peer.class.take()) else { return };
        if let Some(class) = self.class(class) {
            class.members.retain(|&member| member != key);
            class.direct.retain(|&member| member != key);
        }
    }

    /// Seals what the peer's class holds, so that the peer can come, go or change its state between messages.
    pub(super) fn seal_class_of(&mut self, key: PeerKey) {
        if let Some(class) = self.peers.get(key).and_then(|peer| peer.class) {
            self.seal(class);
        }
    }

    pub(super) fn seal_classes(&mut self) {
        for index in std::mem::take(&mut self.fanout.dirty) {
            self.seal(index);
            if let Some(class) = self.class(index) {
                class.dirty = false;
            }
        }
    }

    /// Hands the class's arena to its members; the muted ones miss it.
    fn seal(&mut self, index: usize) {
        let Some(class) = self.class(index) else { return };
        let Some(segment) = class.arena.seal() else { return };
        class.check_messages = class.check_messages.saturating_sub(segment.messages);
        class.check_bytes = class.check_bytes.saturating_sub(segment.len());
        self.give(index, &segment);
    }

    /// Puts a shared segment into every member's outbox.
    fn give(&mut self, index: usize, segment: &Segment) {
        let Some(class) = self.class(index) else { return };
        let members = std::mem::take(&mut class.members);
        for &key in &members {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            if peer.muted {
                self.count_drop(Some(key), DropReason::HwmReached, segment.messages as u64);
            } else {
                peer.outbox.push_segment(segment.clone());
            }
        }
        if let Some(class) = self.class(index) {
            class.members = members;
        }
    }

    #[inline]
    fn needs_check(&self, class: usize) -> bool {
        let Some(class) = self.fanout.classes.get(class).and_then(Option::as_ref) else { return false };
        class.arena.messages >= class.check_messages
            || class.arena.len() >= class.check_bytes
            // In-process members have accounts of their own, which say nothing about when to look again.
            || (self.limits.on_full == OnFull::Block && !class.direct.is_empty())
    }

    /// Members that are at a mark now.
    fn full_members(&self, class: usize) -> Vec<PeerKey> {
        let Some(class) = self.fanout.classes.get(class).and_then(Option::as_ref) else { return Vec::new() };
        let wire = class.members.iter().filter(|&&key| {
            let peer = self.peers.get(key);
            peer.is_some_and(|peer| !peer.muted && peer.is_full_with(class.arena.messages, class.arena.len()))
        });
        let direct = class.direct.iter().filter(|&&key| self.peers.get(key).is_some_and(|peer| peer.is_full()));
        wire.chain(direct).copied().collect()
    }

    fn any_full(&self, classes: &[usize]) -> bool {
        classes.iter().any(|&class| !self.full_members(class).is_empty())
    }

    /// Leases for the full members whose connections can be written to.
    fn lease_full(&mut self, classes: &[usize]) -> Vec<super::lease::Lease> {
        let mut leases = Vec::new();
        for &class in classes {
            let full = self.full_members(class);
            if !full.iter().any(|&key| self.peers.get(key).is_some_and(|peer| peer.is_idle())) {
                continue;
            }
            self.seal(class);
            for key in full {
                if let Some(peer) = self.peers.get_mut(key)
                    && peer.is_idle()
                {
                    leases.extend(peer.lease(key));
                }
            }
        }
        leases
    }

    /// Deals with the members that have no room for one more, and finds out when to look again.
    #[cold]
    fn check(&mut self, class: usize, after: &mut After) {
        let full = self.full_members(class);
        if !full.is_empty() {
            self.seal(class);
            for key in full {
                self.overflow_member(key, after);
            }
        }
        let Some(class) = self.fanout.classes.get_mut(class).and_then(Option::as_mut) else { return };
        let (mut messages, mut bytes) = (usize::MAX, usize::MAX);
        class.misses = false;
        for &key in &class.members {
            let Some(peer) = self.peers.get(key) else { continue };
            if peer.muted {
                class.misses = true;
                continue;
            }
            if peer.hwm != 0 {
                messages = messages.min(peer.hwm.saturating_sub(peer.outbox.queued()));
            }
            if peer.hwm_bytes != 0 {
                // An empty queue takes one message whatever its size, so look again after each.
                bytes = bytes.min(peer.hwm_bytes.saturating_sub(peer.outbox.bytes()).max(1));
            }
        }
        (class.check_messages, class.check_bytes) = (messages, bytes);
    }

    fn overflow_member(&mut self, key: PeerKey, after: &mut After) {
        self.mark_high(key);
        let Limits { on_full, conflate, .. } = self.limits;
        let Some(peer) = self.peers.get_mut(key) else { return };
        if conflate {
            let old = peer.outbox.untouched();
            let dropped = (0..old).filter(|_| peer.outbox.drop_oldest()).count();
            return self.count_drop(Some(key), DropReason::HwmReached, dropped as u64);
        }
        match on_full {
            // In-process members are dealt with message by message.
            _ if matches!(peer.road, Road::Direct { .. }) => {}
            OnFull::DropOldest if peer.outbox.drop_oldest() => {
                self.count_drop(Some(key), DropReason::HwmReached, 1);
            }
            OnFull::Disconnect => {
                peer.muted = true;
                peer.kick = Some(Reason::HwmReached);
                after.wake_also(peer.waker.take());
            }
            _ => peer.muted = true,
        }
    }

    /// A muted member has drained: what was published meanwhile is its loss, the next message is its own.
    pub(super) fn unmute(&mut self, key: PeerKey) {
        if !self.peers.get(key).is_some_and(|peer| peer.muted) {
            return;
        }
        self.seal_class_of(key);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.muted = false;
        if let Some(class) = peer.class
            && let Some(class) = self.class(class)
        {
            (class.check_messages, class.check_bytes) = (0, 0);
        }
    }

    /// Adds a message to the class, and to its in-process members' queues.
    fn append(&mut self, index: usize, message: &Message, after: &mut After) {
        let Some(class) = self.fanout.classes.get_mut(index).and_then(Option::as_mut) else { return };
        if !class.direct.is_empty() {
            let direct = std::mem::take(&mut class.direct);
            self.append_direct(&direct, message, after);
            if let Some(class) = self.class(index) {
                class.direct = direct;
            }
        }
        let Some(class) = self.fanout.classes.get_mut(index).and_then(Option::as_mut) else { return };
        if class.members.is_empty() {
            return;
        }
        // Only if others run do those who are full ever get room.
        after.direct |= class.misses;
        let immediate = self.limits.flush == FlushPolicy::Immediate;
        if is_external(message) {
            self.seal(index);
            self.give(index, &Segment::external(message));
            if let Some(class) = self.class(index) {
                class.check_messages = class.check_messages.saturating_sub(1);
                class.check_bytes = 0;
            }
            self.lease_members(index, after);
            return;
        }
        let is_cut = !class.arena.has_room(message);
        if is_cut {
            self.seal(index);
        }
        let Some(class) = self.class(index) else { return };
        let last = class.arena.push(message);
        let is_full = immediate || class.arena.is_full(last);
        if is_full {
            self.seal(index);
        }
        if is_full || is_cut {
            self.lease_members(index, after);
        }
        if !is_full {
            self.mark_dirty(index, after);
        }
    }

    /// The flusher is to hand over what this class holds.
    fn mark_dirty(&mut self, index: usize, after: &mut After) {
        let Some(class) = self.class(index).filter(|class| !class.dirty) else { return };
        class.dirty = true;
        self.fanout.dirty.push(index);
        if let Some(flusher) = self.fanout.flusher.take() {
            // Only if there is one: an earlier class of the same message may have put it there already.
            after.wake = Some(flusher);
        }
    }

    fn append_direct(&mut self, members: &[PeerKey], message: &Message, after: &mut After) {
        let on_full = self.limits.on_full;
        for &key in members {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let was_full = peer.is_full();
            if was_full {
                after.direct = true;
                let goes_on = on_full == OnFull::DropOldest && peer.drop_oldest();
                if on_full == OnFull::Disconnect {
                    peer.kick = Some(Reason::HwmReached);
                    after.wake_also(peer.waker.take());
                }
                self.mark_high(key);
                self.count_drop(Some(key), DropReason::HwmReached, 1);
                if !goes_on {
                    continue;
                }
            }
            let mut lent = Some(message.clone());
            let mut one = After::default();
            self.put(key, &mut lent, false, &mut one);
            after.direct |= one.direct;
            // One that is full and loses its oldest holds nobody up.
            after.much |= one.much && !was_full;
            after.wake_also(one.wake);
        }
    }

    /// The caller writes the sealed batch to every member that can take it.
    fn lease_members(&mut self, class: usize, after: &mut After) {
        let Some(class) = self.fanout.classes.get(class).and_then(Option::as_ref) else { return };
        for &key in &class.members {
            if let Some(peer) = self.peers.get_mut(key)
                && peer.is_idle()
            {
                after.leases().extend(peer.lease(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::tests::Nobody;

    #[test]
    fn the_flusher_sees_what_a_dissolved_class_held() {
        let limits = Limits {
            hwm: 0,
            hwm_bytes: 0,
            on_full: OnFull::DropNewest,
            flush: FlushPolicy::Auto,
            conflate: false,
            lot: 0,
        };
        let outbound = Outbound::new(limits, Arc::new(Nobody));
        let key = outbound.add("peer".into(), Road::Wire(None), true, None);
        let (old, new) = (outbound.new_class(), outbound.new_class());
        outbound.join_class(key, Some(old));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outbound.poll_flusher(&mut cx).is_pending());
        let Ok(publication) = outbound.try_publish(&[old], &Message::from("m")) else { panic!("there is room") };
        outbound.settle_publication(publication);
        outbound.join_class(key, Some(new));
        outbound.drop_class(old);
        assert_eq!(outbound.poll_flusher(&mut cx), Poll::Ready(true));
    }
}
