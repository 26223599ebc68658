//! The receiving side of one socket: [`Inbox`], where connections leave whole messages by the batch.
//!
//! One lock and at most one wake per batch. Each peer has a lane with its own account: a connection
//! publishes only up to the lane's allowance and stops reading beyond it. The messages themselves move on
//! into the private cursors of the `reader`. Absent: any decoding of what strangers sent (that was done).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::{Credit, PeerKey, Slab};
use crate::event::{DropReason, Drops};
use crate::message::{Frame, Message, SpoolId};
use crate::wire::frame;

/// The most room that is made at once for messages from this process.
const RUN: usize = 1024;

/// Who is behind a lane, as the pattern wants to know it on receive.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The peer on the sending side, for replies.
    pub(crate) peer: PeerKey,
    /// Its routing id.
    pub(crate) id: Frame,
    /// Its address.
    pub(crate) address: Arc<str>,
    /// The connection is gone, and nobody waits for an answer any more.
    pub(crate) over: AtomicBool,
}

/// What waits in a lane.
pub(crate) enum Item {
    /// Whole messages as checked wire bytes.
    Wire { bytes: Bytes, messages: usize },
    /// One message as a value (from this process).
    Value(Message),
    /// Several of them, oldest first.
    Values(VecDeque<Message>),
    /// Whole messages of a durable name, each with its number.
    Tagged(Tagged),
    /// Whoever follows is this peer.
    Origin(Arc<Origin>),
}

impl Item {
    pub(super) fn messages(&self) -> usize {
        match self {
            Item::Wire { messages, .. } => *messages,
            Item::Value(_) => 1,
            Item::Values(messages) => messages.len(),
            Item::Tagged(entries) => entries.0.len(),
            Item::Origin(_) => 0,
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Item::Wire { bytes, .. } => bytes.len(),
            Item::Value(message) => message.size(),
            Item::Values(messages) => messages.iter().map(Message::size).sum(),
            Item::Tagged(entries) => entries.0.iter().map(|(bytes, _)| bytes.len()).sum(),
            Item::Origin(_) => 0,
        }
    }
}

/// Messages with their numbers. Those that are dropped unread are released: they come again.
pub(crate) struct Tagged(pub(super) VecDeque<(Bytes, Tag)>);

impl Drop for Tagged {
    fn drop(&mut self) {
        for (_, tag) in self.0.drain(..) {
            tag.ledger.release(tag.sequence);
        }
    }
}

/// What a durable delivery carries besides its message.
#[derive(Clone)]
pub(crate) struct Tag {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) sequence: u64,
    /// 1 is the first delivery.
    pub(crate) tries: u32,
    /// When it was accepted, in µs since 1970, if the spooler said so.
    pub(crate) time: Option<i64>,
}

/// Where it is noted what became of a durable delivery. Called from any task, without a lock held.
pub(crate) trait Ledger: Send + Sync {
    fn spool(&self) -> SpoolId;
    /// The application is done with it.
    fn done(&self, sequence: u64);
    /// It and all before it are done.
    fn done_up_to(&self, sequence: u64);
    /// It is to be delivered again after `delay`.
    fn retry(&self, sequence: u64, delay: Duration);
    /// The application let go of it: it may come again with the next connection.
    fn release(&self, sequence: u64);
    /// The application has caught up: what is to be acknowledged is sent now.
    fn settle(&self);
}

/// Counters of one lane, as statistics show them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) unread: usize,
    pub(crate) drops: Drops,
}

struct Lane {
    unread: usize,
    unread_bytes: usize,
    /// The connection that waits for room, when it does.
    paused: Option<Waker>,
    /// In-process: where read messages are reported, and for which peer there.
    credit: Option<(Arc<dyn Credit>, PeerKey)>,
    /// No more will come; the lane goes when it is read out.
    ended: bool,
    /// The user gave this peer up.
    muted: bool,
    messages: u64,
    bytes: u64,
    drops: Drops,
    /// Conflating: messages (and bytes) that were replaced, whose sender does not know yet.
    replaced: (usize, usize),
}

impl Lane {
    /// So much has come.
    #[inline]
    fn count(&mut self, messages: usize, bytes: usize) {
        self.unread += messages;
        self.unread_bytes += bytes;
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }
}

#[derive(Default)]
struct State {
    lanes: Slab<Lane>,
    arrivals: VecDeque<(PeerKey, Item)>,
    /// How many messages of this process came in a row last time: room for the next.
    run: usize,
    waker: Option<Waker>,
    closed: bool,
    past: Received,
}

/// The receiving side of one socket.
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Raised with every arrival: lets the reader look without the lock.
    arrived: AtomicBool,
    hwm: usize,
    hwm_bytes: usize,
    /// Each lane keeps only its newest message.
    conflate: bool,
}

/// What a reader reports about one lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) lane: PeerKey,
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// How many of them were replaced by newer ones (conflation).
    pub(super) replaced: usize,
}

impl Inbox {
    /// Marks per peer; 0 is unlimited (messages) or off (bytes).
    pub(crate) fn new(hwm: usize, hwm_bytes: usize, conflate: bool) -> Inbox {
        // What keeps only the newest always has room for it.
        let (hwm, hwm_bytes) = if conflate { (0, 0) } else { (hwm, hwm_bytes) };
        Inbox { state: Mutex::default(), arrived: AtomicBool::new(false), hwm, hwm_bytes, conflate }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn hwm(&self) -> usize {
        self.hwm
    }

    pub(crate) fn hwm_bytes(&self) -> usize {
        self.hwm_bytes
    }

    /// Opens a lane. With `credit`, read messages are reported there (an in-process sender).
    pub(crate) fn open_lane(&self, credit: Option<(Arc<dyn Credit>, PeerKey)>) -> PeerKey {
        self.lock().lanes.insert(Lane {
            unread: 0,
            unread_bytes: 0,
            paused: None,
            credit,
            ended: false,
            muted: false,
            messages: 0,
            bytes: 0,
            drops: Drops::default(),
            replaced: (0, 0),
        })
    }

    /// From here on, read messages of this lane are reported to an in-process sender.
    pub(crate) fn credit_to(&self, lane: PeerKey, credit: Arc<dyn Credit>, key: PeerKey) {
        if let Some(lane) = self.lock().lanes.get_mut(lane) {
            lane.credit = Some((credit, key));
        }
    }

    /// Takes what is unread in a lane that nobody reads.
    pub(super) fn drain(&self, lane: PeerKey) -> Vec<Message> {
        let mut state = self.lock();
        let (taken, kept) = std::mem::take(&mut state.arrivals).into_iter().partition(|arrival| arrival.0 == lane);
        state.arrivals = kept;
        let taken: VecDeque<(PeerKey, Item)> = taken;
        let values = |item| match item {
            Item::Value(message) => VecDeque::from([message]),
            Item::Values(messages) => messages,
            _ => VecDeque::new(),
        };
        taken.into_iter().flat_map(|(_, item)| values(item)).collect()
    }

    /// Takes back the oldest message of an in-process sender that no reader has fetched. Gives its size.
    pub(super) fn take_oldest(&self, lane: PeerKey) -> Option<usize> {
        let mut state = self.lock();
        let bytes = state.take_oldest(lane)?;
        let entry = state.lanes.get_mut(lane)?;
        entry.messages -= 1;
        entry.bytes = entry.bytes.saturating_sub(bytes as u64);
        Some(bytes)
    }

    /// As [`Inbox::take_oldest`], to make place for a newer one: the loss is counted here.
    pub(super) fn replace_oldest(&self, lane: PeerKey) -> Option<usize> {
        let mut state = self.lock();
        let bytes = state.take_oldest(lane)?;
        state.lanes.get_mut(lane)?.drops.add(DropReason::HwmReached, 1);
        Some(bytes)
    }

    /// Names who sends from here on.
    pub(crate) fn announce(&self, lane: PeerKey, origin: Arc<Origin>) {
        self.lock().arrivals.push_back((lane, Item::Origin(origin)));
        self.arrived.store(true, Ordering::Release);
    }

    /// No more comes on this lane; what is there stays readable.
    pub(crate) fn end_lane(&self, lane: PeerKey) {
        let mut state = self.lock();
        if let Some(entry) = state.lanes.get_mut(lane) {
            entry.ended = true;
            entry.paused = None;
            entry.credit = None;
            if entry.unread == 0 {
                state.remove(lane);
            }
        }
    }

    /// Throws away what has not reached the reader yet, and whatever comes.
    pub(crate) fn mute_lane(&self, lane: PeerKey) {
        let mut state = self.lock();
        state.arrivals.retain(|arrival| arrival.0 != lane);
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.muted = true;
        }
    }

    /// Throws away what is unread on this lane, and the lane.
    pub(crate) fn discard_lane(&self, lane: PeerKey) {
        let mut state = self.lock();
        state.arrivals.retain(|arrival| arrival.0 != lane);
        state.remove(lane);
    }

    /// How many messages and bytes the lane may still take. None: nothing now; the connection is woken when it may.
    pub(crate) fn poll_allowance(&self, lane: PeerKey, cx: &mut Context<'_>) -> Poll<(usize, usize)> {
        let mut state = self.lock();
        let Some(entry) = state.lanes.get_mut(lane) else { return Poll::Ready((usize::MAX, usize::MAX)) };
        let unlimited = self.hwm == 0 || self.conflate;
        let messages = if unlimited { usize::MAX } else { self.hwm.saturating_sub(entry.unread) };
        let bytes = match self.hwm_bytes {
            0 => usize::MAX,
            // An empty lane always takes one message.
            _ if entry.unread == 0 => self.hwm_bytes.max(1),
            mark => mark.saturating_sub(entry.unread_bytes),
        };
        if messages == 0 || bytes == 0 {
            entry.paused = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready((messages, bytes))
    }

    /// Leaves a batch of whole messages.
    pub(crate) fn publish(&self, lane: PeerKey, bytes: Bytes, messages: usize) {
        let size = bytes.len();
        self.deliver(lane, Item::Wire { bytes, messages }, messages, size).into_iter().for_each(Waker::wake);
    }

    /// Leaves messages of a durable name, with their numbers.
    pub(crate) fn publish_tagged(&self, lane: PeerKey, entries: VecDeque<(Bytes, Tag)>) {
        let item = Item::Tagged(Tagged(entries));
        let (messages, size) = (item.messages(), item.size());
        self.deliver(lane, item, messages, size).into_iter().for_each(Waker::wake);
    }

    /// Leaves one message made by ourselves on a peer's behalf (an XPUB's news of subscriptions).
    pub(crate) fn push(&self, lane: PeerKey, message: Message) {
        let size = message.size();
        self.deliver(lane, Item::Value(message), 1, size).into_iter().for_each(Waker::wake);
    }

    /// Leaves one message of a sender in this process behind others of the same, of which the reader knows already:
    /// nobody is to be woken. False: nothing has happened and nothing was asked for, go the whole way.
    #[inline]
    pub(super) fn join_direct(&self, lane: PeerKey, size: usize, message: impl FnOnce() -> Option<Message>) -> bool {
        let mut state = self.lock();
        let State { lanes, arrivals, waker, .. } = &mut *state;
        let (Some((last, Item::Values(messages))), None) = (arrivals.back_mut(), waker) else { return false };
        let Some(entry) = lanes.get_mut(lane).filter(|entry| !entry.muted && *last == lane) else { return false };
        let Some(message) = message() else { return false };
        entry.count(1, size);
        messages.push_back(message);
        true
    }

    /// Leaves one message of a sender in this process, who was charged for it. Returns whom to wake.
    #[inline]
    pub(super) fn push_direct(&self, lane: PeerKey, message: Message, size: usize) -> Option<Waker> {
        self.deliver(lane, Item::Value(message), 1, size)
    }

    fn deliver(&self, lane: PeerKey, item: Item, messages: usize, bytes: usize) -> Option<Waker> {
        let mut state = self.lock();
        if self.conflate {
            return self.replace(&mut state, lane, item, messages, bytes);
        }
        state.lanes.get_mut(lane).filter(|lane| !lane.muted)?.count(messages, bytes);
        state.append(lane, item);
        self.arrived.store(true, Ordering::Release);
        state.waker.take()
    }

    /// As [`Inbox::deliver`], in place of what the lane has.
    #[cold]
    fn replace(&self, state: &mut State, lane: PeerKey, item: Item, messages: usize, bytes: usize) -> Option<Waker> {
        let (before, mut dropped) = (state.arrivals.len(), 0);
        state.arrivals.retain(|(other, item)| {
            let old = *other == lane && !matches!(item, Item::Origin(_));
            dropped += if old { item.size() } else { 0 };
            !old
        });
        let taken = before - state.arrivals.len();
        let replaced = taken + messages - 1;
        let item = match item {
            Item::Wire { bytes, .. } => Item::Wire { bytes: last_message(bytes), messages: 1 },
            item => item,
        };
        let entry = state.lanes.get_mut(lane).filter(|lane| !lane.muted)?;
        // One in the reader's hands, if there is one, is reported when it is read or replaced there.
        entry.unread = entry.unread.saturating_sub(taken) + 1;
        entry.messages += messages as u64;
        entry.bytes += bytes as u64;
        entry.drops.add(DropReason::HwmReached, replaced as u64);
        entry.replaced = (entry.replaced.0 + replaced, entry.replaced.1 + dropped);
        state.arrivals.push_back((lane, item));
        self.arrived.store(true, Ordering::Release);
        state.waker.take()
    }

    pub(super) fn conflates(&self) -> bool {
        self.conflate
    }

    /// Counts messages that were read from the connection and thrown away.
    pub(crate) fn count_drop(&self, lane: PeerKey, reason: DropReason, messages: usize, bytes: usize) {
        let mut state = self.lock();
        let Some(entry) = state.lanes.get_mut(lane) else { return };
        entry.messages += messages as u64;
        entry.bytes += bytes as u64;
        entry.drops.add(reason, messages as u64);
    }

    /// Wakes the reader for good: nothing new will come.
    pub(crate) fn close(&self) {
        let (waker, paused) = {
            let mut state = self.lock();
            state.closed = true;
            let keys = state.lanes.keys();
            let paused: Vec<Waker> =
                keys.into_iter().filter_map(|key| state.lanes.get_mut(key)?.paused.take()).collect();
            (state.waker.take(), paused)
        };
        self.arrived.store(true, Ordering::Release);
        waker.into_iter().chain(paused).for_each(Waker::wake);
    }

    pub(crate) fn received(&self, lane: PeerKey) -> Option<Received> {
        let state = self.lock();
        let lane = state.lanes.get(lane)?;
        Some(Received { messages: lane.messages, bytes: lane.bytes, unread: lane.unread, drops: lane.drops })
    }

    /// Counters of lanes that are gone.
    pub(crate) fn past(&self) -> Received {
        self.lock().past
    }

    /// The reader's only look at the shared state: it reports what it read, and takes what has arrived
    /// (swapped into `into`, which must be empty). Registers `cx` when nothing has.
    pub(super) fn exchange(
        &self,
        reads: &mut Vec<Read>,
        into: &mut VecDeque<(PeerKey, Item)>,
        cx: Option<&mut Context<'_>>,
    ) -> Exchange {
        let mut wake = Vec::new();
        let mut credits = Vec::new();
        let outcome = {
            let mut state = self.lock();
            for read in reads.drain(..) {
                state.settle(read, self.hwm, self.hwm_bytes, &mut wake, &mut credits);
            }
            self.arrived.store(false, Ordering::Relaxed);
            std::mem::swap(&mut state.arrivals, into);
            if let Some((_, Item::Values(messages))) = into.back() {
                state.run = messages.len();
            }
            if !into.is_empty() {
                Exchange::Arrived
            } else if state.closed {
                self.arrived.store(true, Ordering::Relaxed);
                Exchange::Closed
            } else {
                if let Some(cx) = cx {
                    state.waker = Some(cx.waker().clone());
                }
                Exchange::Nothing
            }
        };
        wake.into_iter().for_each(Waker::wake);
        for ((credit, key), read) in credits {
            credit.credit(key, (self, read.lane), read.messages, read.bytes);
        }
        outcome
    }

    #[inline]
    pub(crate) fn has_arrivals(&self) -> bool {
        self.arrived.load(Ordering::Acquire)
    }
}

/// The last message of a batch.
fn last_message(mut bytes: Bytes) -> Bytes {
    while let Some(len) = frame::message_len(&bytes).filter(|&len| len < bytes.len()) {
        bytes.advance(len);
    }
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exchange {
    Arrived,
    Nothing,
    Closed,
}

type Owed = ((Arc<dyn Credit>, PeerKey), Read);

impl State {
    /// A lone value stays one; with the second in a row they become many, which cost less to hand on.
    fn append(&mut self, lane: PeerKey, item: Item) {
        let item = match (self.arrivals.back_mut(), item) {
            (Some((last, Item::Values(messages))), Item::Value(message)) if *last == lane => {
                return messages.push_back(message);
            }
            (Some((last, Item::Value(_))), Item::Value(message)) if *last == lane => {
                let mut messages = VecDeque::with_capacity(self.run.clamp(4, RUN));
                messages.push_back(message);
                Item::Values(messages)
            }
            (_, item) => item,
        };
        self.arrivals.push_back((lane, item));
    }

    fn take_oldest(&mut self, lane: PeerKey) -> Option<usize> {
        let oldest =
            |(other, item): &(PeerKey, Item)| *other == lane && matches!(item, Item::Value(_) | Item::Values(_));
        let at = self.arrivals.iter().position(oldest)?;
        let message = match self.arrivals.get_mut(at) {
            Some((_, Item::Values(messages))) if messages.len() > 1 => messages.pop_front()?,
            _ => match self.arrivals.remove(at)?.1 {
                Item::Value(message) => message,
                Item::Values(mut messages) => messages.pop_front()?,
                _ => return None,
            },
        };
        let bytes = message.size();
        let entry = self.lanes.get_mut(lane)?;
        entry.unread = entry.unread.saturating_sub(1);
        entry.unread_bytes = entry.unread_bytes.saturating_sub(bytes);
        Some(bytes)
    }

    fn settle(&mut self, read: Read, hwm: usize, hwm_bytes: usize, wake: &mut Vec<Waker>, credits: &mut Vec<Owed>) {
        let Some(lane) = self.lanes.get_mut(read.lane) else { return };
        lane.unread = lane.unread.saturating_sub(read.messages);
        lane.unread_bytes = lane.unread_bytes.saturating_sub(read.bytes);
        lane.drops.add(DropReason::HwmReached, read.replaced as u64);
        let room =
            (hwm == 0 || lane.unread < hwm) && (hwm_bytes == 0 || lane.unread == 0 || lane.unread_bytes < hwm_bytes);
        if room {
            wake.extend(lane.paused.take());
        }
        let replaced = std::mem::take(&mut lane.replaced);
        if let Some(credit) = &lane.credit {
            let (messages, bytes) = (read.messages + replaced.0, read.bytes + replaced.1);
            credits.push((credit.clone(), Read { messages, bytes, ..read }));
        }
        if lane.ended && lane.unread == 0 {
            self.remove(read.lane);
        }
    }

    fn remove(&mut self, lane: PeerKey) {
        let Some(lane) = self.lanes.remove(lane) else { return };
        self.past.messages += lane.messages;
        self.past.bytes += lane.bytes;
        self.past.drops.merge(&lane.drops);
    }
}
