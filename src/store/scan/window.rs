//! A piece of a file in memory, moving forward over it.

use std::io;

use crate::store::storage::{File, read_all_at};

/// What is read at once.
pub(super) const PIECE: usize = 256 * 1024;
/// What is given up at once where the disk cannot read.
const SECTORS: usize = 4096;
/// Zeros are looked for in runs of this many bytes.
const RUN: usize = 64;

/// Bytes of a file around a place. It never holds more than the file has.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    /// Length of the file.
    len: u64,
    /// Give zeros for what cannot be read, instead of an error.
    lenient: bool,
    /// The first `filled` bytes are those of the file from `start` on.
    buffer: Vec<u8>,
    start: u64,
    filled: usize,
    /// What could not be read.
    unreadable: Vec<(u64, u64)>,
}

impl<'a> Window<'a> {
    /// An unreadable place is an error.
    pub(super) fn strict(file: &'a dyn File) -> io::Result<Window<'a>> {
        Window::new(file, false)
    }

    /// An unreadable place reads as zeros, and is remembered.
    pub(super) fn lenient(file: &'a dyn File) -> io::Result<Window<'a>> {
        Window::new(file, true)
    }

    fn new(file: &'a dyn File, lenient: bool) -> io::Result<Window<'a>> {
        let len = file.len()?;
        Ok(Window { file, len, lenient, buffer: Vec::new(), start: 0, filled: 0, unreadable: Vec::new() })
    }

    /// Length of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether something in this range could not be read.
    pub(super) fn is_unreadable(&self, from: u64, until: u64) -> bool {
        self.unreadable.iter().any(|&(start, end)| start < until && from < end)
    }

    /// The bytes at `offset`: `want` of them or more, fewer only at the end of the file.
    #[inline]
    pub(super) fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        if !self.holds(offset, want) {
            self.fill(offset, want)?;
        }
        let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..self.filled).unwrap_or_default())
    }

    #[inline]
    fn holds(&self, offset: u64, want: usize) -> bool {
        let end = offset.saturating_add(want as u64).min(self.len);
        offset >= self.start && end <= self.start.saturating_add(self.filled as u64)
    }

    /// Moves to `offset`, keeping what is there already.
    fn fill(&mut self, offset: u64, want: usize) -> io::Result<()> {
        let kept = self.keep(offset);
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let size = want.saturating_add(PIECE).min(left);
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        (self.start, self.filled) = (offset, kept);
        let Some(rest) = self.buffer.get_mut(kept..size) else { return Ok(()) };
        let from = offset.saturating_add(kept as u64);
        let read = match read_all_at(self.file, rest, from) {
            Err(_) if self.lenient => read_around(self.file, rest, from, &mut self.unreadable),
            result => result?,
        };
        self.filled = kept.saturating_add(read);
        Ok(())
    }

    /// Brings the bytes from `offset` on to the front of the buffer, and says how many there are.
    fn keep(&mut self, offset: u64) -> usize {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        match skip.filter(|&skip| skip <= self.filled) {
            Some(skip) => {
                self.buffer.copy_within(skip..self.filled, 0);
                self.filled.saturating_sub(skip)
            }
            None => 0,
        }
    }

    /// Where the last byte ends, from `from` on, that is not zero or cannot be read; `from` if there is none.
    pub(super) fn last_used(&mut self, from: u64) -> io::Result<u64> {
        let mut used = self.unreadable.iter().map(|&(_, end)| end).fold(from, u64::max);
        let mut at = from;
        while at < self.len {
            let bytes = self.at(at, 1)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(end) = used_len(bytes) {
                used = used.max(at.saturating_add(end as u64));
            }
            at = at.saturating_add(bytes.len() as u64);
        }
        Ok(used)
    }

    /// Whether only zeros follow.
    pub(super) fn is_zero_from(&mut self, from: u64) -> io::Result<bool> {
        let mut at = from;
        while at < self.len {
            let bytes = self.at(at, 1)?;
            if bytes.is_empty() {
                break;
            }
            if !bytes.chunks(RUN).all(is_zero) {
                return Ok(false);
            }
            at = at.saturating_add(bytes.len() as u64);
        }
        Ok(!self.is_unreadable(from, self.len))
    }
}

/// Reads what can be read, sector by sector; the rest is zeros.
fn read_around(file: &dyn File, buffer: &mut [u8], from: u64, unreadable: &mut Vec<(u64, u64)>) -> usize {
    let mut at = from;
    for piece in buffer.chunks_mut(SECTORS) {
        let next = at.saturating_add(piece.len() as u64);
        // Shorter than it was: what is missing reads as zeros.
        let read = read_all_at(file, piece, at);
        if let Some(rest) = piece.get_mut(*read.as_ref().unwrap_or(&0)..) {
            rest.fill(0);
        }
        if read.is_err() {
            unreadable.push((at, next));
        }
        at = next;
    }
    buffer.len()
}

/// Without a way out in the middle, so that it is done in wide registers.
#[inline]
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// Up to and with the last byte that is not zero.
fn used_len(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    for run in bytes.rchunks(RUN) {
        if !is_zero(run) {
            let zeros = run.iter().rev().take_while(|byte| **byte == 0).count();
            return Some(end.saturating_sub(zeros));
        }
        end = end.saturating_sub(run.len());
    }
    None
}
