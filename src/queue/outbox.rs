//! One peer's waiting messages as wire bytes: [`Outbox`].
//!
//! A message is encoded once, at the end of the arena; a full arena is sealed into a refcounted segment;
//! long bodies stay where they are and are pointed at. Every segment begins and ends at a message's edge,
//! so control frames can go between any two of them and a broken connection can be cut cleanly.
//! A plain structure: no lock, no waker, no IO (those are in `outbound`).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::message::Message;
use crate::wire::frame;

/// The most that an arena holds, unless one message is longer: enough to make the system call's cost disappear, and
/// no more than the kernel passes on in one piece, 45 packets of 1,448 bytes over Ethernet and one of 65,483 over
/// loopback. A full 64 KiB would be such a piece and a packet of 53 bytes, which costs as much and is read apart.
pub(crate) const SEGMENT: usize = 45 * 1448;
/// Bodies from here on are not copied into the arena: a segment would hold only one or two of them, and below that
/// one copy costs less than what many pieces cost whoever writes and reads them.
pub(crate) const EXTERNAL: usize = 32 * 1024;
/// A writer takes at most this much at once, so that one peer does not hold its task.
const BATCH_BYTES: usize = 256 * 1024;
/// The kernel takes at most 1,024 slices; this many are enough to fill a socket buffer.
const BATCH_SLICES: usize = 64;

/// Wire bytes of whole messages (or of control frames, which count as no message).
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    chunks: Chunks,
    /// Bytes not yet written.
    left: usize,
    len: usize,
    pub(crate) messages: usize,
    control: bool,
}

#[derive(Debug, Clone)]
enum Chunks {
    /// Any number of whole messages.
    One(Bytes),
    /// Exactly one message with long bodies.
    Many(Vec<Bytes>),
}

impl Segment {
    pub(crate) fn packed(bytes: Bytes, messages: usize) -> Segment {
        Segment { left: bytes.len(), len: bytes.len(), chunks: Chunks::One(bytes), messages, control: false }
    }

    fn control(bytes: Bytes) -> Segment {
        Segment { control: true, ..Segment::packed(bytes, 0) }
    }

    /// One message whose long bodies are shared, not copied.
    pub(crate) fn external(message: &Message) -> Segment {
        let mut chunks = Vec::with_capacity(2 * message.len());
        let mut small = BytesMut::new();
        let mut len = 0;
        for (index, part) in message.iter().enumerate() {
            let more = if index + 1 < message.len() { frame::MORE } else { 0 };
            frame::encode_header(&mut small, more, part.len());
            match part.shared().filter(|bytes| bytes.len() >= EXTERNAL) {
                Some(body) => {
                    chunks.push(small.split().freeze());
                    chunks.push(body.clone());
                }
                None => small.extend_from_slice(part),
            }
        }
        if !small.is_empty() {
            chunks.push(small.freeze());
        }
        for chunk in &chunks {
            len += chunk.len();
        }
        Segment { chunks: Chunks::Many(chunks), left: len, len, messages: 1, control: false }
    }

    /// Records out of a log with the command that announces them, to be written in one piece.
    pub(crate) fn records(chunks: Vec<Bytes>, messages: usize) -> Segment {
        let len = chunks.iter().map(Bytes::len).sum();
        Segment { chunks: Chunks::Many(chunks), left: len, len, messages, control: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn written(&self) -> usize {
        self.len - self.left
    }

    /// Appends what is left to write.
    fn lend(&self, batch: &mut Batch) {
        let mut skip = self.written();
        let chunks = match &self.chunks {
            Chunks::One(bytes) => std::slice::from_ref(bytes),
            Chunks::Many(chunks) => chunks,
        };
        for chunk in chunks {
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            let slice = if skip == 0 { chunk.clone() } else { chunk.slice(skip..) };
            if batch.first.is_empty() {
                batch.first = slice;
            } else {
                batch.rest.push(slice);
            }
            skip = 0;
        }
    }

    /// Cuts off the messages that were fully written and makes the rest unwritten again.
    /// Returns how many messages went.
    fn rewind(&mut self) -> usize {
        let mut gone = 0;
        if let Chunks::One(bytes) = &mut self.chunks {
            let mut written = self.len - self.left;
            while let Some(len) = frame::message_len(bytes).filter(|&len| len <= written) {
                bytes.advance(len);
                written -= len;
                gone += 1;
            }
            self.len = bytes.len();
            self.messages -= gone.min(self.messages);
        }
        self.left = self.len;
        gone
    }

    /// Takes the first message out. The segment must be unwritten. Returns the message's bytes.
    fn drop_first(&mut self) -> usize {
        let dropped = match &mut self.chunks {
            Chunks::One(bytes) => match frame::message_len(bytes) {
                Some(len) => {
                    bytes.advance(len);
                    len
                }
                None => std::mem::take(bytes).len(),
            },
            Chunks::Many(chunks) => {
                chunks.clear();
                self.len
            }
        };
        self.messages -= 1;
        self.len -= dropped;
        self.left = self.len;
        dropped
    }
}

/// True if `message` has a body that is worth pointing at instead of copying.
#[inline]
pub(crate) fn is_external(message: &Message) -> bool {
    message.iter().any(|part| part.shared().is_some_and(|bytes| bytes.len() >= EXTERNAL))
}

/// An arena under construction: messages encoded one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    pub(crate) messages: usize,
    /// What the next segment will probably need: the size of the last one, or nearly that of a larger one before.
    hint: usize,
    /// The last one needed less than expected.
    was_smaller: bool,
}

impl Arena {
    /// Appends a message; returns the bytes it takes.
    #[inline]
    pub(crate) fn push(&mut self, message: &Message) -> usize {
        let len = frame::encoded_len(message);
        if self.bytes.capacity() - self.bytes.len() < len {
            self.grow(len);
        }
        frame::encode_message(&mut self.bytes, message);
        self.messages += 1;
        len
    }

    /// As [`Arena::push`], for a message of one frame that fits into the room that is there and leaves some for
    /// another like it: nothing otherwise.
    #[inline(always)]
    pub(crate) fn push_quickly(&mut self, message: &Message) -> Option<usize> {
        let room = self.bytes.capacity().min(SEGMENT).saturating_sub(self.bytes.len() + frame::MAX_HEADER);
        let taken = if let Some((short, len)) = message.short() {
            if 2 * short.len() >= room {
                return None;
            }
            frame::encode_short(&mut self.bytes, short, len)
        } else {
            let [only] = &**message else { return None };
            if only.len() >= EXTERNAL || 2 * only.len() + frame::MAX_HEADER > room {
                return None;
            }
            let before = self.bytes.len();
            frame::encode_frame(&mut self.bytes, 0, only);
            self.bytes.len() - before
        };
        self.messages += 1;
        Some(taken)
    }

    /// Whether a segment can hold it, too: else what is there goes first, since growing would copy it.
    #[inline]
    pub(crate) fn has_room(&self, message: &Message) -> bool {
        self.bytes.len() + frame::encoded_len(message) <= SEGMENT || self.bytes.len() < SEGMENT / 8
    }

    /// The last message took so much, and another like it has no room.
    #[inline]
    pub(crate) fn is_full(&self, last: usize) -> bool {
        self.bytes.len() + last > SEGMENT
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        // An empty arena takes what the last segment needed; a growing one doubles up to a full segment.
        let want = if self.bytes.is_empty() { self.hint } else { self.bytes.len().min(SEGMENT) };
        self.bytes.reserve(want.max(len).max(512));
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn seal(&mut self) -> Option<Segment> {
        if self.messages == 0 {
            return None;
        }
        // The next one may be a little longer and must not need to grow for that. One that a writer in another thread
        // took half full says little, and one alone nothing: what is small is learnt little by little.
        let this = (self.bytes.len() + self.bytes.len() / 8).min(SEGMENT);
        let was_smaller = std::mem::replace(&mut self.was_smaller, this < self.hint);
        self.hint = this.max(if was_smaller { self.hint - self.hint / 4 } else { self.hint });
        let messages = std::mem::take(&mut self.messages);
        // The whole buffer goes along: a rest of it would be filled, doubled and copied by the next segment.
        Some(Segment::packed(Bytes::from(std::mem::take(&mut self.bytes)), messages))
    }

    /// Gives the memory back while nothing is sent.
    fn release(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            self.bytes = Vec::new();
        }
    }
}

/// Bytes lent to a writer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The first slice, apart: most batches have no other.
    pub(crate) first: Bytes,
    pub(crate) rest: Vec<Bytes>,
    pub(crate) len: usize,
}

/// What a finished write gave back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// One peer's queue of encoded messages.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    arena: Arena,
    sealed: VecDeque<Segment>,
    control: BytesMut,
    /// The newest answer to a command; it goes with the control frames.
    answer: Option<Bytes>,
    /// Messages accepted and not yet fully written, room set aside included.
    queued: usize,
    /// How many of them are only room set aside.
    reserved: usize,
    bytes: usize,
    /// Segments at the front that a writer holds.
    lent: usize,
}

impl Outbox {
    /// Messages that wait, room set aside included: the number that the high-water mark bounds.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Messages that wait, without room set aside.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.queued - self.reserved
    }

    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As much waits as is worth a system call, whoever makes it, since the last message, which took so much.
    #[inline]
    pub(crate) fn is_worth_writing(&self, last: usize) -> bool {
        self.bytes + last > SEGMENT
    }

    /// A segment is full since the last message, which took so much: the arena, or the message is one by itself.
    #[inline]
    pub(crate) fn has_full_segment(&self, last: usize) -> bool {
        last >= EXTERNAL || self.arena.is_full(last)
    }

    /// Nothing waits to be written and nobody is writing.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.arena.messages == 0 && self.sealed.is_empty() && self.control.is_empty() && self.answer.is_none()
    }

    /// Counts messages that wait somewhere else on this peer's account (in-process peers).
    pub(crate) fn charge(&mut self, messages: usize, bytes: usize) {
        self.queued += messages;
        self.bytes += bytes;
    }

    /// Takes a charge back; room set aside stays.
    pub(crate) fn refund(&mut self, messages: usize, bytes: usize) {
        self.queued -= messages.min(self.waiting());
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Sets room aside for one message.
    pub(crate) fn reserve(&mut self) {
        self.queued += 1;
        self.reserved += 1;
    }

    /// Gives room back that was set aside.
    pub(crate) fn release(&mut self) {
        self.queued -= 1;
        self.reserved -= 1;
    }

    /// Appends `message`, whose room must not be set aside any more; returns the bytes it takes.
    #[inline]
    pub(crate) fn push(&mut self, message: &Message) -> usize {
        self.queued += 1;
        let len = if is_external(message) {
            self.seal();
            let segment = Segment::external(message);
            let len = segment.len();
            self.sealed.push_back(segment);
            len
        } else {
            if !self.arena.has_room(message) {
                self.seal();
            }
            self.arena.push(message)
        };
        self.bytes += len;
        len
    }

    /// Appends `message` to a batch under way, if nobody has anything to do or to decide for that: no mark is
    /// reached and no segment is full. The hot path of sending.
    #[inline(always)]
    pub(crate) fn join(&mut self, message: &Message, (hwm, hwm_bytes): (usize, usize)) -> bool {
        let quiet = self.arena.messages > 0
            && self.sealed.len() == self.lent
            && (hwm == 0 || self.queued + 1 < hwm)
            && (hwm_bytes == 0 || self.bytes + EXTERNAL + frame::MAX_HEADER < hwm_bytes);
        let Some(len) = quiet.then(|| self.arena.push_quickly(message)).flatten() else { return false };
        self.queued += 1;
        self.bytes += len;
        true
    }

    /// Appends a segment shared with other peers.
    pub(crate) fn push_segment(&mut self, segment: Segment) {
        self.seal();
        self.queued += segment.messages;
        self.bytes += segment.len();
        self.sealed.push_back(segment);
    }

    pub(crate) fn seal(&mut self) {
        if let Some(segment) = self.arena.seal() {
            self.sealed.push_back(segment);
        }
    }

    /// Appends control frames; they overtake messages but never split one.
    pub(crate) fn push_control(&mut self, bytes: &[u8]) {
        self.control.extend_from_slice(bytes);
    }

    /// The newest answer replaces one that still waits.
    pub(crate) fn set_answer(&mut self, frame: Bytes) {
        self.answer = Some(frame);
    }

    pub(crate) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Lends what can be written now. Every lend is followed by one [`Outbox::finish`].
    pub(crate) fn lend(&mut self) -> Option<Batch> {
        debug_assert_eq!(self.lent, 0, "one writer at a time");
        if let Some(answer) = self.answer.take() {
            self.control.extend_from_slice(&answer);
        }
        if !self.control.is_empty() {
            let at = usize::from(self.sealed.front().is_some_and(|segment| segment.written() > 0));
            self.sealed.insert(at, Segment::control(self.control.split().freeze()));
        }
        self.seal();
        let mut batch = Batch::default();
        for segment in &self.sealed {
            if batch.len >= BATCH_BYTES || batch.rest.len() >= BATCH_SLICES {
                break;
            }
            batch.len += segment.left;
            segment.lend(&mut batch);
            self.lent += 1;
        }
        (batch.len > 0).then_some(batch)
    }

    /// Takes back what was lent, of which the first `written` bytes are with the kernel.
    pub(crate) fn finish(&mut self, mut written: usize) -> Written {
        self.lent = 0;
        let mut done = Written { messages: 0, bytes: written };
        while let Some(front) = self.sealed.front_mut() {
            if written < front.left {
                front.left -= written;
                break;
            }
            written -= front.left;
            if !front.control {
                self.bytes -= front.len;
            }
            done.messages += front.messages;
            self.sealed.pop_front();
        }
        self.queued -= done.messages;
        done
    }

    /// Gives memory back while nothing waits; the next message takes it again.
    pub(crate) fn release_idle(&mut self) {
        if self.is_clear() {
            self.arena.release();
            self.sealed = VecDeque::new();
            self.control = BytesMut::new();
        }
    }

    /// Drops the oldest message that no writer holds. Returns false when there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        if self.sealed.len() == self.lent {
            self.seal();
        }
        let started = usize::from(self.lent == 0 && self.sealed.front().is_some_and(|segment| segment.written() > 0));
        let first = self.lent.max(started);
        let Some(index) = (first..self.sealed.len()).find(|&index| !self.sealed[index].control) else { return false };
        self.bytes -= self.sealed[index].drop_first();
        if self.sealed[index].messages == 0 {
            self.sealed.remove(index);
        }
        self.queued -= 1;
        true
    }

    /// Messages that wait and that no writer holds or has begun.
    pub(crate) fn untouched(&self) -> usize {
        let started = usize::from(self.lent == 0 && self.sealed.front().is_some_and(|segment| segment.written() > 0));
        self.arena.messages
            + self.sealed.iter().skip(self.lent.max(started)).map(|segment| segment.messages).sum::<usize>()
    }

    /// The connection is gone, this queue stays: control frames and fully written messages go, the
    /// message that was cut in the middle will be sent whole to the next connection.
    pub(crate) fn rewind(&mut self) -> Written {
        self.lent = 0;
        self.control.clear();
        self.answer = None;
        self.sealed.retain(|segment| !segment.control);
        let mut done = Written::default();
        if let Some(front) = self.sealed.front_mut() {
            let before = front.len;
            done.messages = front.rewind();
            done.bytes = before - front.len;
            self.bytes -= done.bytes;
            if front.messages == 0 {
                self.sealed.pop_front();
            }
        }
        self.queued -= done.messages;
        done
    }

    /// Throws all waiting messages away; room set aside stays. Returns how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        let waiting = self.arena.messages + self.sealed.iter().map(|segment| segment.messages).sum::<usize>();
        self.queued -= waiting;
        self.bytes = 0;
        self.lent = 0;
        self.arena = Arena::default();
        self.sealed.clear();
        self.control.clear();
        self.answer = None;
        waiting
    }
}
