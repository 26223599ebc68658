//! What a connection reads into: [`ReadBuffer`]. How much room the next read gets, which buffer is used again, and
//! when all of them are given back.
//!
//! It may use `bytes` and nothing of the house. Absent: reading itself, and what the bytes mean. Next: `connection`.

use bytes::BytesMut;

/// Reads start with this much and double while they come back full.
const READ_MIN: usize = 8 * 1024;
const READ_MAX: usize = 256 * 1024;
/// So many reads since the last beat make a connection a busy one, which keeps its buffers for a while.
const BUSY_READS: u32 = 32;
/// Buffers kept for another use while their messages are read.
const SPENT_BUFFERS: usize = 4;

/// The bytes of one connection that are not decoded yet, with room behind them.
pub(super) struct ReadBuffer {
    pub(super) bytes: BytesMut,
    /// Earlier buffers, whose messages may still be in use.
    spent: Vec<BytesMut>,
    /// The longest message that came alone: so much at once is no more than this peer has been good for.
    longest: usize,
    /// What the next read asks for.
    chunk: usize,
    /// How often something was read since the last beat.
    reads: u32,
}

impl ReadBuffer {
    pub(super) fn new(bytes: BytesMut) -> ReadBuffer {
        ReadBuffer { bytes, spent: Vec::new(), longest: 0, chunk: READ_MIN, reads: 0 }
    }

    /// Room for the next read, of a frame that still wants so much; says how much room there is.
    ///
    /// More for a long message, but never more than was received so far, of this message or of a whole one before. A
    /// buffer whose messages were all let go is used again: fresh memory costs a page fault for every 4 KiB.
    pub(super) fn make_room(&mut self, wanted: usize) -> usize {
        let wanted = wanted.min(self.bytes.len().max(self.longest));
        let room = self.chunk.max(wanted);
        if self.room() < room / 2 && !self.bytes.try_reclaim(room) {
            self.replace(room);
        }
        self.room()
    }

    fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    fn replace(&mut self, room: usize) {
        let whole = self.bytes.len() + room;
        let mut next = match self.spent.iter_mut().position(|spent| spent.try_reclaim(whole)) {
            Some(free) => self.spent.swap_remove(free),
            None => BytesMut::with_capacity(whole),
        };
        next.extend_from_slice(&self.bytes);
        let mut last = std::mem::replace(&mut self.bytes, next);
        last.clear();
        if last.capacity() > 0 || self.chunk > READ_MIN {
            self.spent.truncate(SPENT_BUFFERS - 1);
            self.spent.push(last);
        }
    }

    /// So much was read into so much room.
    pub(super) fn handle_read(&mut self, read: usize, room: usize) {
        self.reads = self.reads.saturating_add(1);
        if read == room {
            self.chunk = (self.chunk * 2).min(READ_MAX);
        } else if read < self.chunk / 8 {
            self.chunk = (self.chunk / 2).max(READ_MIN);
        }
    }

    /// A message of this length came whole.
    pub(super) fn handle_message(&mut self, len: usize) {
        self.longest = self.longest.max(len);
    }

    /// A beat: it has to show again that it is busy, or sends long messages.
    pub(super) fn handle_beat(&mut self) {
        (self.reads, self.longest) = (0, 0);
    }

    /// Worth keeping while nothing comes.
    pub(super) fn is_busy(&self) -> bool {
        self.reads >= BUSY_READS
    }

    /// Reads have not grown, or have shrunk again.
    pub(super) fn is_small(&self) -> bool {
        self.chunk == READ_MIN
    }

    /// Gives the memory back, if nothing is in it.
    pub(super) fn let_go(&mut self) -> bool {
        let is_empty = self.bytes.is_empty();
        if is_empty {
            self.bytes = BytesMut::new();
            self.spent = Vec::new();
            self.chunk = READ_MIN;
        }
        is_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut ReadBuffer, wanted: usize, len: usize) -> usize {
        let room = buffer.make_room(wanted);
        let len = len.min(room);
        buffer.bytes.extend_from_slice(&vec![7; len]);
        buffer.handle_read(len, room);
        room
    }

    #[test]
    fn a_claim_gets_no_more_than_has_come() {
        let mut buffer = ReadBuffer::new(BytesMut::new());
        assert!(read(&mut buffer, 1 << 30, 9) <= READ_MIN);
        let mut received = buffer.bytes.len();
        while received < 1 << 20 {
            let room = read(&mut buffer, 1 << 30, usize::MAX);
            assert!(room <= 2 * received.max(2 * READ_MIN), "{room} after {received}");
            received = buffer.bytes.len();
        }
        let whole = buffer.bytes.split().freeze();
        buffer.handle_message(whole.len());
        // The peer has shown that it sends so much.
        assert!(read(&mut buffer, 1 << 30, 9) >= 1 << 20);
        buffer.bytes.clear();
        buffer.handle_beat();
        assert!(buffer.let_go());
        assert!(read(&mut buffer, 1 << 30, 9) <= READ_MIN);
    }

    #[test]
    fn busy_is_who_was_read_often_since_the_last_beat() {
        let mut buffer = ReadBuffer::new(BytesMut::new());
        for _ in 0..BUSY_READS {
            assert!(!buffer.is_busy());
            read(&mut buffer, 0, 1);
        }
        assert!(buffer.is_busy() && !buffer.let_go());
        buffer.handle_beat();
        assert!(!buffer.is_busy());
    }
}
