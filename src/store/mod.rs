//! The spool on disk: segments of records, a registry of names, one writer. Blocking and dumb.
//!
//! It knows records and names' positions, not peers. `storage` is the seam to the operating system, with a
//! simulated one for crashes and faults; `record` and `segment` are the format, `scan` what opening makes of a
//! directory, `names` the registry, `log` the whole: numbers, the open batch, the writer thread, the ring of written
//! batches, reading, limits. `delay` holds messages until their time, `inspect` is for tools. It assumes of the
//! disk: a sync that returned is kept through a power cut; a sync that failed may have lost anything since the last
//! good one and is never tried again; sectors of 512 bytes that were not synced may each be kept or lost.
//! Absent: peers, tokio, memory maps, index files. Next: `durable`, which decides who gets a record.

pub(crate) mod clock;
pub(crate) mod cursor;
pub(crate) mod delay;
pub(crate) mod inspect;
pub(crate) mod interest;
pub(crate) mod log;
pub(crate) mod names;
pub(crate) mod prefixes;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod ring;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod storage;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
