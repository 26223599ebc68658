//! What a sending side knows of its peers: [`Peer`], one account with its marks, and [`State`], all of them.
//!
//! This is what stands behind the lock of `outbound`: who has room and whose turn it is (the rotation), when
//! an account is full and when it is low again, and what was dropped. A peer that reached its mark comes back
//! into the rotation with the first free place, but those who wait are served at half the mark: so they are
//! woken once per batch and not once per message. Absent: locks, wakes and writes; they are noted in `After`
//! and done by `outbound`. Next: `admission`.

use std::sync::Arc;
use std::task::{Context, Waker};

use super::fanout::Fanout;
use super::inbox::Inbox;
use super::outbound::After;
use super::outbox::Outbox;
use super::waiters::{Target, Waiters};
use super::{Link, PeerKey, Slab};
use crate::event::{DropReason, Drops, Reason};
use crate::message::Message;
use crate::options::{FlushPolicy, OnFull};

/// With so many bytes on their way to a socket of this process a sender lets others run before the next message: what
/// has left the caches when it is read, and the memory for it, cost more than the change of task. With half
/// as much bodies of 8 KiB were a quarter slower, with a MiB those of 256 bytes.
pub(super) const DIRECT_BYTES: usize = 192 * 1024;
/// The same for messages: two threads that meet at every one of them cost more, too. Few enough that bodies of 256
/// bytes stay below what a usual allocator keeps (128 KiB), so many that the change of task costs nothing.
pub(super) const DIRECT_MESSAGES: usize = 384;

/// With so many bytes waiting for a connection that cannot be written now a sender lets others run, who may write them:
/// what waits for long has left the caches. With a quarter of it a sender of 8 KiB was slower.
pub(super) const WIRE_BYTES: usize = 1024 * 1024;

/// With so many requests or answers waiting, whoever adds the last writes them. If all that are under way left together,
/// the two sides would work in turns; so the other one begins while this one makes the rest. With 8, system calls cost
/// more than that.
pub(crate) const LOT: usize = 32;

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
    /// With so many messages waiting their sender writes them, however short they are. 0: only when they fill a batch.
    pub(crate) lot: usize,
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

/// So many writes of one message each, in a row, make a link sparse.
const SINGLES: u8 = 4;

/// How messages come: one at a time, and then each is best written by its caller, or several at once, and then the first
/// one waits for the others. A link counts as sparse from its start.
#[derive(Debug)]
pub(super) struct Pace {
    /// The last so many writes were of one message at most.
    singles: u8,
    /// A caller has written a message by itself, and the task has not run since to see whether it was the only one.
    unconfirmed: bool,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { singles: SINGLES, unconfirmed: false }
    }
}

impl Pace {
    /// The next message is to be written by its caller.
    pub(super) fn is_sparse(&self) -> bool {
        self.singles >= SINGLES && !self.unconfirmed
    }

    pub(super) fn handle_written_by_caller(&mut self) {
        self.unconfirmed = true;
    }

    /// The task has run and found nothing to write. It runs for other reasons, too, which says nothing.
    pub(super) fn handle_nothing(&mut self) {
        if std::mem::take(&mut self.unconfirmed) {
            self.count_single();
        }
    }

    /// The task has written so many messages.
    pub(super) fn handle_written(&mut self, messages: usize) {
        self.unconfirmed = false;
        if messages > 1 {
            self.singles = 0;
        } else {
            self.count_single();
        }
    }

    fn count_single(&mut self) {
        self.singles = self.singles.saturating_add(1);
    }
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
    pub(super) pace: Pace,
    pub(super) kick: Option<Reason>,
    /// Reached its mark and was not yet seen below the low one.
    pub(super) high: bool,
    /// Its task fills the queue out of a log: it looks again when there is room.
    pub(super) logged: bool,
    /// Misses what its class publishes until it has drained (publishers only).
    pub(super) muted: bool,
    pub(super) class: Option<usize>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) drops: Drops,
}

impl Peer {
    /// With nothing queued yet.
    pub(super) fn new(name: Arc<str>, road: Road, open: bool, (hwm, hwm_bytes): (usize, usize)) -> Peer {
        Peer {
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
            pace: Pace::default(),
            kick: None,
            high: false,
            logged: false,
            muted: false,
            class: None,
            messages: 0,
            bytes: 0,
            drops: Drops::default(),
        }
    }

    #[inline]
    pub(super) fn has_lot(&self, lot: usize) -> bool {
        lot != 0 && self.outbox.queued() >= lot
    }

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

    pub(super) fn is_low(&self) -> bool {
        let queued = self.outbox.queued();
        queued == 0
            || ((self.hwm == 0 || queued <= self.hwm / 2)
                && (self.hwm_bytes == 0 || self.outbox.bytes() <= self.hwm_bytes / 2))
    }

    /// Takes a message behind others, if nobody has anything to do or to decide for that. False: nothing has happened.
    #[inline(always)]
    pub(super) fn join(&mut self, message: &Message) -> bool {
        match &self.road {
            Road::Wire(_) => self.outbox.join(message, (self.hwm, self.hwm_bytes)),
            Road::Direct { .. } => self.join_copied(message),
        }
    }

    /// The same inside the process, for a message that is cheap to copy.
    #[inline(never)]
    fn join_copied(&mut self, message: &Message) -> bool {
        message.short().is_some() && self.join_direct(message.size(), || Some(message.clone()))
    }

    /// The same inside the process; `message` gives it once it is sure that it is taken.
    #[inline]
    pub(super) fn join_direct(&mut self, size: usize, message: impl FnOnce() -> Option<Message>) -> bool {
        let Road::Direct { inbox, lane, parked: false } = &self.road else { return false };
        let bytes = self.outbox.bytes() + size;
        // Without a mark for messages only yielding lets others run, which is not for here.
        let queued = self.outbox.queued() + 1;
        let joined = queued < self.hwm
            && queued < DIRECT_MESSAGES
            && (self.hwm_bytes == 0 || bytes < self.hwm_bytes)
            && bytes < DIRECT_BYTES
            && inbox.join_direct(*lane, size, message);
        if joined {
            self.outbox.charge(1, size);
        }
        joined
    }

    pub(super) fn link(&self) -> Option<&Arc<dyn Link>> {
        match &self.road {
            Road::Wire(link) => link.as_ref(),
            Road::Direct { .. } => None,
        }
    }

    /// Whether this is where its messages go now.
    pub(super) fn leads_to(&self, (inbox, lane): (&Inbox, PeerKey)) -> bool {
        match &self.road {
            Road::Wire(_) => false,
            Road::Direct { inbox: mine, lane: its, .. } => std::ptr::eq(&**mine, inbox) && *its == lane,
        }
    }

    /// Messages that wait here: those of a joined in-process peer are the receiver's already.
    pub(super) fn waiting(&self) -> usize {
        match &self.road {
            Road::Direct { parked: false, .. } => 0,
            _ => self.outbox.waiting(),
        }
    }

    /// An in-process peer is over: what it was handed counts as sent.
    pub(super) fn hand_over(&mut self) {
        if let Road::Direct { parked: false, .. } = &self.road {
            self.messages += self.outbox.waiting() as u64;
            self.bytes += self.outbox.bytes() as u64;
            self.outbox.refund(usize::MAX, usize::MAX);
        }
    }

    /// Throws away what waits; room set aside stays. Returns how many messages there were.
    pub(super) fn clear(&mut self) -> u64 {
        match &self.road {
            Road::Wire(_) => self.outbox.clear() as u64,
            Road::Direct { inbox, lane, parked: true } => {
                self.outbox.refund(usize::MAX, usize::MAX);
                inbox.drain(*lane).len() as u64
            }
            Road::Direct { .. } => 0,
        }
    }

    /// Drops the oldest message that nobody has in hand. False when there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        match &self.road {
            Road::Wire(_) => self.outbox.drop_oldest(),
            Road::Direct { inbox, lane, .. } => match inbox.take_oldest(*lane) {
                Some(bytes) => {
                    self.outbox.refund(1, bytes);
                    true
                }
                None => false,
            },
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
    pub(super) rotation: Vec<PeerKey>,
    pub(super) turn: usize,
    pub(super) waiters: Waiters,
    pub(super) fanout: Fanout,
    pub(super) closed: bool,
    /// Drops that concern no peer, and those of peers that have left.
    pub(super) drops: Drops,
    pub(super) past: Sent,
    /// Tasks that wait until something was written or dropped.
    pub(super) progress: Vec<Waker>,
}

impl State {
    pub(super) fn new(limits: Limits, witness: Arc<dyn Witness>) -> State {
        State {
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
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes grants back that nobody has used yet: their waiters look again.
    pub(super) fn revoke(&mut self, which: impl Fn(PeerKey) -> bool) {
        for key in self.waiters.revoke(which) {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.outbox.release();
            }
        }
    }

    /// The peer whose turn it is, among those with room.
    #[inline]
    pub(super) fn next_peer(&mut self) -> Option<PeerKey> {
        if self.turn >= self.rotation.len() {
            self.turn = 0;
        }
        self.rotation.get(self.turn).copied()
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

    pub(super) fn leave_rotation(&mut self, key: PeerKey) {
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

    pub(super) fn rejoin(&mut self, key: PeerKey) {
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
    pub(super) fn settle_now(&mut self, key: PeerKey, after: &mut After) {
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
