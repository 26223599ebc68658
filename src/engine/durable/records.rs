//! A connection's place in the log: [`Records`], which reads on in order, from memory or, without holding its task
//! up, from the disk.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::store::log::Log;
use crate::store::reader::{Buffers, Chunk, Fetch, Taken};

/// What stands after a position.
pub(super) enum Found {
    /// The next record, which stays in hand until the position is past it.
    Record,
    /// Numbers up to here hold no record.
    Nothing(u64),
    /// The records of these numbers, first and last, are lost.
    Lost(u64, u64),
    /// Numbers up to here are no longer in memory.
    Behind(u64),
    /// The position is the newest that can be seen.
    End,
}

/// Reads a log from a position on.
pub(super) struct Records {
    log: Log,
    chunk: Option<Chunk>,
    /// How far the chunk was read: it cannot go back.
    passed: u64,
    hand: Option<Taken>,
    reading: Option<JoinHandle<(io::Result<Chunk>, Buffers)>>,
    /// Of what was read from the disk.
    buffers: Buffers,
    /// Records behind the ring are read from the disk; else they are passed over.
    from_disk: bool,
    /// Its number, if it reads on and on.
    reader: Option<u64>,
}

impl Records {
    pub(super) fn new(log: Log, from_disk: bool) -> Records {
        Records {
            log,
            chunk: None,
            passed: 0,
            hand: None,
            reading: None,
            buffers: Buffers::default(),
            from_disk,
            reader: None,
        }
    }

    /// With the number of the connection's watch, for as long as that lives.
    pub(super) fn of_reader(self, reader: u64) -> Records {
        Records { reader: Some(reader), ..self }
    }

    /// The record in hand.
    pub(super) fn hand(&self) -> Option<&Taken> {
        self.hand.as_ref()
    }

    /// The record behind the one in hand, `after`, if that is all there is to it: nothing is to be read, and nothing is
    /// missing between. It is in hand then; a record that is not given stays to be found by [`Records::poll_after`].
    #[inline]
    pub(super) fn pull(&mut self, after: u64) -> Option<&Taken> {
        if self.hand.as_ref().is_none_or(|hand| hand.sequence != after) {
            return None;
        }
        let next = self.chunk.as_mut()?.next()?;
        // One behind, so that asking for it again finds it in hand.
        self.passed = next.sequence.saturating_sub(1);
        self.hand.insert(next).missing.is_none().then_some(())?;
        self.hand.as_ref()
    }

    /// Looks for the first record after `after`.
    pub(super) fn poll_after(&mut self, after: u64, cx: &mut Context<'_>) -> Poll<io::Result<Found>> {
        if after < self.passed {
            (self.chunk, self.hand, self.reading) = (None, None, None);
        }
        loop {
            if let Some(reading) = &mut self.reading {
                let read = std::task::ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                let (chunk, buffers) = read.map_err(io::Error::other)?;
                self.buffers = buffers;
                self.chunk = Some(chunk?);
            }
            if self.hand.as_ref().is_some_and(|record| record.sequence > after) {
                return Poll::Ready(Ok(Found::Record));
            }
            if let Some(chunk) = &mut self.chunk {
                self.hand = chunk.next();
                if let Some(record) = &self.hand {
                    // One behind, so that asking for it again finds it in hand.
                    self.passed = record.sequence.saturating_sub(1);
                    continue;
                }
                if let Some((from, to)) = chunk.missing_at_end().filter(|&(_, to)| to > after) {
                    return Poll::Ready(Ok(Found::Lost(from.max(after + 1), to)));
                }
                let end = chunk.end();
                self.chunk = None;
                if end > after {
                    return Poll::Ready(Ok(Found::Nothing(end)));
                }
            }
            self.passed = after;
            let next = match self.reader {
                Some(reader) => self.log.fetch_on(after, reader),
                None => self.log.fetch(after),
            };
            match next {
                Fetch::Nothing => {
                    self.buffers.clear();
                    return Poll::Ready(Ok(Found::End));
                }
                Fetch::Chunk(chunk) => self.chunk = Some(chunk),
                Fetch::Disk(_) if !self.from_disk => {
                    let oldest = self.log.oldest_in_memory();
                    if oldest > after + 1 {
                        return Poll::Ready(Ok(Found::Behind(oldest - 1)));
                    }
                    return Poll::Ready(Ok(Found::Behind(self.log.visible())));
                }
                Fetch::Disk(read) => {
                    let mut buffers = std::mem::take(&mut self.buffers);
                    self.reading = Some(tokio::task::spawn_blocking(move || (read.run_into(&mut buffers), buffers)));
                }
            }
        }
    }
}
