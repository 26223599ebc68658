//! Reading the log from any position: out of the ring, or off the disk.

use std::io;

use bytes::Bytes;

use crate::store::record::Extra;

/// One record out of a [`Chunk`].
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    /// Microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) extra: Extra,
    pub(crate) frames: u16,
    pub(crate) topic: Bytes,
    /// The frames as wire bytes, a slice of the chunk.
    pub(crate) body: Bytes,
    /// Numbers that are lost just before this one, first and last: damage, or dropped by a limit.
    pub(crate) missing: Option<(u64, u64)>,
}

/// A run of verified records, from just after the position that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Bytes,
    end: u64,
    missing: Option<(u64, u64)>,
    missing_at_end: Option<(u64, u64)>,
}

impl Chunk {
    /// The next record.
    pub(crate) fn next(&mut self) -> Option<Taken> {
        None
    }

    /// The position after all of it, skipped numbers and gaps included: where to fetch next.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Numbers that are lost between the last record and [`Chunk::end`].
    pub(crate) fn missing_at_end(&self) -> Option<(u64, u64)> {
        self.missing_at_end
    }
}

/// What comes after a position.
pub(crate) enum Fetch {
    /// Out of memory.
    Chunk(Chunk),
    /// Nothing yet: the position is at or beyond what is visible.
    Nothing,
    /// It has to be read.
    Disk(DiskRead),
}

/// A read to be done where blocking is fine.
pub(crate) struct DiskRead {}

impl DiskRead {
    /// Reads and verifies. Blocks.
    pub(crate) fn run(self) -> io::Result<Chunk> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
