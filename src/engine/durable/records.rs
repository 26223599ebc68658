//! A connection's place in the log: [`Records`], which reads on in order, from memory or, without holding its task
//! up, from the disk.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::store::log::Log;
use crate::store::reader::{Chunk, Fetch, Taken};

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
    reading: Option<JoinHandle<io::Result<Chunk>>>,
    /// Records behind the ring are read from the disk; else they are passed over.
    from_disk: bool,
}

impl Records {
    pub(super) fn new(log: Log, from_disk: bool) -> Records {
        Records { log, chunk: None, passed: 0, hand: None, reading: None, from_disk }
    }

    /// The record in hand.
    pub(super) fn hand(&self) -> Option<&Taken> {
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
                self.chunk = Some(read.map_err(io::Error::other)??);
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
            match self.log.fetch(after) {
                Fetch::Nothing => return Poll::Ready(Ok(Found::End)),
                Fetch::Chunk(chunk) => self.chunk = Some(chunk),
                Fetch::Disk(_) if !self.from_disk => {
                    let oldest = self.log.oldest_in_memory();
                    if oldest > after + 1 {
                        return Poll::Ready(Ok(Found::Behind(oldest - 1)));
                    }
                    return Poll::Ready(Ok(Found::Behind(self.log.visible())));
                }
                Fetch::Disk(read) => self.reading = Some(tokio::task::spawn_blocking(move || read.run())),
            }
        }
    }
}
