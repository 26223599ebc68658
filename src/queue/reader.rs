//! The private cursors of a receiver: [`Reader`].
//!
//! It takes all lanes' arrivals in one lock and then works without any, one message per lane in turn (strict fair
//! queueing of all that it has; who comes new has a turn within 32 messages). Room goes back to a lane when half of
//! its mark was read or nothing is left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::PeerKey;
use super::inbox::{Exchange, Inbox, Item, Origin, Read, Tag, Tagged};
use crate::error::{RecvError, TryRecvError};
use crate::message::{Frame, Message};
use crate::wire::frame;

/// Messages taken from the hand while something else has arrived: after one more at the latest it has its turn.
const PATIENCE: u32 = 31;

struct Lane {
    key: PeerKey,
    origin: Option<Arc<Origin>>,
    items: VecDeque<Item>,
    /// The batch being cut.
    current: Bytes,
    /// The batch being taken apart, if it came from this process.
    values: VecDeque<Message>,
    in_turn: bool,
    read: usize,
    read_bytes: usize,
}

/// A message and, where the pattern wants to know, its sender.
pub(crate) type From = (Option<Arc<Origin>>, Message);

/// One receiver's view of an [`Inbox`].
pub(crate) struct Reader {
    inbox: Arc<Inbox>,
    lanes: Vec<Option<Lane>>,
    /// Lanes that have something, by index, the next one first.
    turns: VecDeque<u32>,
    arrivals: VecDeque<(PeerKey, Item)>,
    reads: Vec<Read>,
    /// Report a lane after this many messages.
    half: usize,
    half_bytes: usize,
    /// Whether the pattern wants to know who sent a message; it costs two atomic operations.
    wants_origin: bool,
    /// Of the message taken last, if it came out of a spool.
    tag: Option<Tag>,
    /// The peer of the message taken last has more here.
    more: bool,
    /// So many messages of what is in hand may still be taken before the next look at what has arrived.
    patience: u32,
}

impl Reader {
    pub(crate) fn new(inbox: Arc<Inbox>, wants_origin: bool) -> Reader {
        let half = if inbox.hwm() == 0 { 1000 } else { inbox.hwm().div_ceil(2) };
        let half_bytes = if inbox.hwm_bytes() == 0 { usize::MAX } else { inbox.hwm_bytes() / 2 };
        Reader {
            inbox,
            lanes: Vec::new(),
            turns: VecDeque::new(),
            arrivals: VecDeque::new(),
            reads: Vec::new(),
            half,
            half_bytes,
            wants_origin,
            tag: None,
            more: false,
            patience: PATIENCE,
        }
    }

    /// The next message and who sent it; waits for one.
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<From, RecvError>> {
        loop {
            if self.inbox.has_arrivals() && self.exchange(None) == Exchange::Closed && self.turns.is_empty() {
                return Poll::Ready(Err(RecvError::Closed));
            }
            if let Some(next) = self.take() {
                return Poll::Ready(Ok(next));
            }
            match self.exchange(Some(cx)) {
                Exchange::Arrived => {}
                Exchange::Nothing => return Poll::Pending,
                Exchange::Closed => return Poll::Ready(Err(RecvError::Closed)),
            }
        }
    }

    /// A message of one frame from the batch in hand, when nothing else has to be looked at: the hot path of
    /// receiving. Written so that the message is made where it is returned and moved as little as possible.
    #[inline(always)]
    pub(crate) fn take_in_hand(&mut self, wanted: impl FnOnce(&[u8]) -> bool) -> Option<Message> {
        if self.inbox.has_arrivals() {
            // Somebody new gets a turn soon; looking for each message would cost a lock each.
            self.patience = self.patience.checked_sub(1)?;
        }
        let &index = self.turns.front()?;
        let lane = self.lanes.get_mut(index as usize)?.as_mut()?;
        if let Some(first) = lane.values.front() {
            if !wanted(first.first()?) {
                return None;
            }
            let message = lane.take_value();
            if lane.values.is_empty()
                || self.turns.len() > 1
                || lane.read >= self.half
                || lane.read_bytes >= self.half_bytes
            {
                self.after_take_in_hand(index);
            }
            return message;
        }
        let body = frame::single_body(&lane.current)?;
        if !wanted(lane.current.get(body.clone())?) {
            return None;
        }
        let end = body.end;
        let frame = Frame::slice_of(&lane.current, body);
        lane.current.advance(end);
        lane.read += 1;
        lane.read_bytes += end;
        if lane.current.is_empty()
            || self.turns.len() > 1
            || lane.read >= self.half
            || lane.read_bytes >= self.half_bytes
        {
            self.after_take_in_hand(index);
        }
        Some(Message::single(frame))
    }

    #[inline(never)]
    fn after_take_in_hand(&mut self, index: u32) {
        if let Some(lane) = self.lanes.get_mut(index as usize).and_then(Option::as_mut)
            && lane.current.is_empty()
        {
            // Let go of the buffer now, so that its connection can use it again.
            lane.current = Bytes::new();
        }
        self.next_turn(index);
    }

    /// The number of the message taken last, if it came out of a spool.
    pub(crate) fn take_tag(&mut self) -> Option<Tag> {
        self.tag.take()
    }

    /// Whether the peer of the message that [`Reader::poll_next`] or [`Reader::try_next`] took last has more here.
    pub(crate) fn has_more_of_it(&self) -> bool {
        self.more
    }

    pub(crate) fn try_next(&mut self) -> Result<From, TryRecvError> {
        loop {
            // First, so that nobody waits behind what one peer left here; and the next one is taken in hand again.
            if self.inbox.has_arrivals() {
                self.exchange(None);
            }
            if let Some(next) = self.take() {
                return Ok(next);
            }
            match self.exchange(None) {
                Exchange::Arrived => {}
                Exchange::Nothing => return Err(TryRecvError::Empty),
                Exchange::Closed => return Err(TryRecvError::Closed),
            }
        }
    }

    /// Waits until something is there to be taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RecvError>> {
        while self.turns.is_empty() {
            match self.exchange(Some(cx)) {
                Exchange::Arrived => {}
                Exchange::Nothing => return Poll::Pending,
                Exchange::Closed => return Poll::Ready(Err(RecvError::Closed)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves up to `max` messages into `sink`, lanes in turn, as runs of wire bytes where possible.
    pub(crate) fn take_runs(&mut self, max: usize, mut sink: impl FnMut(Run)) -> usize {
        if self.inbox.has_arrivals() {
            self.exchange(None);
        }
        let share = max.div_ceil(self.turns.len().max(1)).max(1);
        let mut taken = 0;
        while taken < max {
            let Some(&index) = self.turns.front() else { break };
            let Some(lane) = self.lanes.get_mut(index as usize).and_then(Option::as_mut) else { break };
            taken += lane.take_run(share.min(max - taken), &mut sink);
            self.next_turn(index);
        }
        taken
    }

    #[inline]
    fn take(&mut self) -> Option<From> {
        loop {
            let &index = self.turns.front()?;
            let lane = self.lanes.get_mut(index as usize).and_then(Option::as_mut)?;
            let message = lane.take(&mut self.tag);
            self.more = !lane.is_empty();
            let origin = if self.wants_origin { lane.origin.clone() } else { None };
            self.next_turn(index);
            if let Some(message) = message {
                return Some((origin, message));
            }
        }
    }

    /// After something was taken from the lane at `index`: report, rotate, or drop it from the turns.
    #[inline]
    fn next_turn(&mut self, index: u32) {
        let Some(lane) = self.lanes.get_mut(index as usize).and_then(Option::as_mut) else { return };
        let empty = lane.is_empty();
        if empty || lane.read >= self.half || lane.read_bytes >= self.half_bytes {
            self.reads.push(Read { lane: lane.key, messages: lane.read, bytes: lane.read_bytes, replaced: 0 });
            (lane.read, lane.read_bytes) = (0, 0);
            lane.in_turn = !empty;
            if empty {
                self.turns.pop_front();
            } else {
                // At a small mark every message is reported: the turn has to go on all the same.
                self.turns.rotate_left(1);
            }
            self.exchange(None);
        } else if self.turns.len() > 1 {
            self.turns.rotate_left(1);
        }
    }

    /// Reports what was read and sorts arrivals into lanes.
    #[cold]
    fn exchange(&mut self, cx: Option<&mut Context<'_>>) -> Exchange {
        self.patience = PATIENCE;
        let outcome = self.inbox.exchange(&mut self.reads, &mut self.arrivals, cx);
        while let Some((key, item)) = self.arrivals.pop_front() {
            self.sort_in(key, item);
        }
        outcome
    }

    fn sort_in(&mut self, key: PeerKey, item: Item) {
        let index = key.index as usize;
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, || None);
        }
        let Some(slot) = self.lanes.get_mut(index) else { return };
        // A new generation means that the old lane was read out.
        if slot.as_ref().is_none_or(|lane| lane.key != key) {
            *slot = Some(Lane::new(key));
        }
        let Some(lane) = slot.as_mut() else { return };
        if let Item::Origin(origin) = item {
            if lane.is_empty() {
                lane.origin = Some(origin);
            } else {
                lane.items.push_back(Item::Origin(origin));
            }
            return;
        }
        if self.inbox.conflates() {
            let old = lane.clear();
            if old.messages > 0 {
                self.reads.push(old);
            }
        }
        if lane.items.capacity() == 0 {
            // Most peers of many have no second one waiting: no room for four.
            lane.items.reserve_exact(1);
        }
        lane.items.push_back(item);
        if !lane.in_turn {
            lane.in_turn = true;
            self.turns.push_back(key.index);
        }
    }
}

/// What [`Reader::take_runs`] gives: consecutive messages of one peer.
pub(crate) enum Run {
    Wire { bytes: Bytes, messages: usize },
    Value(Message),
}

impl Lane {
    fn new(key: PeerKey) -> Lane {
        Lane {
            key,
            origin: None,
            items: VecDeque::new(),
            current: Bytes::new(),
            values: VecDeque::new(),
            in_turn: false,
            read: 0,
            read_bytes: 0,
        }
    }

    /// Lets go of what a newer message replaces; says what there was.
    #[cold]
    fn clear(&mut self) -> Read {
        let mut old = Read { lane: self.key, messages: 0, bytes: 0, replaced: 0 };
        if !self.current.is_empty() {
            (old.messages, old.bytes) = (1, self.current.len());
            self.current = Bytes::new();
        }
        for message in self.values.drain(..) {
            old.messages += 1;
            old.bytes += message.size();
        }
        self.items.retain(|item| {
            if matches!(item, Item::Origin(_)) {
                return true;
            }
            old.messages += item.messages();
            old.bytes += item.size();
            false
        });
        old.replaced = old.messages;
        old
    }

    fn is_empty(&self) -> bool {
        self.current.is_empty() && self.values.is_empty() && self.items.is_empty()
    }

    #[inline]
    fn take(&mut self, tag: &mut Option<Tag>) -> Option<Message> {
        loop {
            if let Some(Item::Tagged(entries)) = self.items.front_mut()
                && self.current.is_empty()
                && self.values.is_empty()
            {
                let next = entries.0.pop_front();
                if entries.0.is_empty() {
                    self.items.pop_front();
                }
                let Some((mut bytes, its_tag)) = next else { continue };
                *tag = Some(its_tag);
                self.read += 1;
                self.read_bytes += bytes.len();
                return frame::take_message(&mut bytes);
            }
            if !self.current.is_empty() {
                let before = self.current.len();
                let message = frame::take_message(&mut self.current);
                if message.is_none() {
                    // Cannot happen: batches hold whole messages. Better skip than spin.
                    self.current.clear();
                }
                if self.current.is_empty() {
                    // Let go of the buffer now, so that its connection can use it again.
                    self.current = Bytes::new();
                }
                self.read += 1;
                self.read_bytes += before - self.current.len();
                return message;
            }
            if let Some(message) = self.take_value() {
                return Some(message);
            }
            match self.items.pop_front()? {
                Item::Wire { bytes, .. } => self.current = bytes,
                Item::Value(message) => {
                    self.read += 1;
                    self.read_bytes += message.size();
                    return Some(message);
                }
                Item::Values(messages) => self.values = messages,
                Item::Tagged(_) => debug_assert!(false, "seen to above"),
                Item::Origin(origin) => self.origin = Some(origin),
            }
        }
    }

    #[inline]
    fn take_value(&mut self) -> Option<Message> {
        let message = self.values.pop_front()?;
        if self.values.is_empty() {
            // An idle lane keeps no memory.
            self.values = VecDeque::new();
        }
        self.read += 1;
        self.read_bytes += message.size();
        Some(message)
    }

    fn take_tagged(&mut self, mut entries: Tagged) -> Option<(Option<Message>, Tag)> {
        let (mut bytes, tag) = entries.0.pop_front()?;
        if !entries.0.is_empty() {
            self.items.push_front(Item::Tagged(entries));
        }
        self.read += 1;
        self.read_bytes += bytes.len();
        Some((frame::take_message(&mut bytes), tag))
    }

    fn take_run(&mut self, max: usize, sink: &mut impl FnMut(Run)) -> usize {
        if let Some(message) = self.take_value() {
            sink(Run::Value(message));
            return 1;
        }
        if self.current.is_empty() {
            match self.items.pop_front() {
                None => return 0,
                Some(Item::Origin(origin)) => {
                    self.origin = Some(origin);
                    return 0;
                }
                Some(Item::Value(message)) => {
                    self.read += 1;
                    self.read_bytes += message.size();
                    sink(Run::Value(message));
                    return 1;
                }
                Some(Item::Values(messages)) => {
                    self.values = messages;
                    return self.take_run(max, sink);
                }
                Some(Item::Tagged(entries)) => {
                    // Receivers of a durable name take one message after the other; this is for completeness.
                    let taken = self.take_tagged(entries).and_then(|(message, _)| message);
                    return taken.map_or(0, |message| {
                        sink(Run::Value(message));
                        1
                    });
                }
                Some(Item::Wire { bytes, messages }) if messages <= max => {
                    self.read += messages;
                    self.read_bytes += bytes.len();
                    sink(Run::Wire { bytes, messages });
                    return messages;
                }
                Some(Item::Wire { bytes, .. }) => self.current = bytes,
            }
        }
        let (mut len, mut messages) = (0, 0);
        while messages < max {
            let Some(next) = frame::message_len(self.current.get(len..).unwrap_or_default()) else { break };
            len += next;
            messages += 1;
        }
        if messages == 0 {
            self.current.clear();
            return 0;
        }
        self.read += messages;
        self.read_bytes += len;
        sink(Run::Wire { bytes: self.current.split_to(len), messages });
        messages
    }
}
