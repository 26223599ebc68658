//! The commands of durable sockets (our extension, version 1): DSTART, DOK, DERR, DLV, DACK, DNACK, DHEAD, DEND.
//!
//! One form for each command: what is written is canonical, and what is not so written is refused. All of them are at
//! most [`MAX_COMMAND`] long, and nothing is allocated beyond what the bytes at hand can hold. They have a meaning only
//! on a connection whose both sides announced the extension; what the numbers mean is decided in `durable`.
#![allow(dead_code)] // while it is being built

use bytes::BytesMut;

use super::encode_command;
use crate::event::Reason;
use crate::message::SpoolId;

/// The property of READY that both sides announce, with the value [`VERSION`].
pub(crate) const PROPERTY: &str = "X-Durable";
/// The property of READY with a holder's name.
pub(crate) const NAME_PROPERTY: &str = "X-Durable-Name";
/// The version spoken here.
pub(crate) const VERSION: &[u8] = b"1";

/// The longest command of the extension: its whole body with its name.
pub(crate) const MAX_COMMAND: usize = 64 * 1024;
/// The most records that one DLV announces.
pub(crate) const MAX_ENTRIES: usize = 255;
/// The most ranges that are written into one DACK: they fit whatever their numbers are.
pub(crate) const MAX_RANGES: usize = 3_000;
/// The longest text of a DERR or DNACK, in bytes.
pub(crate) const MAX_TEXT: usize = 255;

/// What the decoder gives for flags that this version does not know: to be answered with [`Refusal::VERSION`] where
/// the direction has words for it, and closed.
pub(crate) const UNKNOWN_FLAGS: Reason = Reason::Malformed("flags of a later version of the durable extension");

/// A command of the extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Durable {
    Start(Start),
    Started(Started),
    Refusal(Refusal),
    Deliveries(Deliveries),
    Acks(Acks),
    Nack(Nack),
    Head(Head),
    /// DEND: the name is given up for good; answered by a [`Started`].
    End,
}

/// DSTART: a holder wants its deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Start {
    /// Acknowledged by the application.
    pub(crate) manual: bool,
    /// A new name starts at the oldest record.
    pub(crate) oldest: bool,
    /// Another connection of this name is closed.
    pub(crate) take_over: bool,
    /// So many messages may be unacknowledged.
    pub(crate) window: u32,
    /// So many bytes may be unacknowledged; one record always may.
    pub(crate) window_bytes: u32,
    /// The spool that `done` belongs to; [`SpoolId::NONE`]: none seen yet.
    pub(crate) spool: SpoolId,
    /// The holder is done with everything up to here.
    pub(crate) done: u64,
    /// Seconds without a connection after which the name may go; 0 leaves it to the spool.
    pub(crate) expiry_s: u32,
}

/// DOK: deliveries follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Started {
    /// The name was made just now.
    pub(crate) new: bool,
    /// The spool is another than the one the holder named.
    pub(crate) changed: bool,
    /// Records of this name were lost: `lost`.
    pub(crate) loss: bool,
    pub(crate) spool: SpoolId,
    /// Everything up to here is done.
    pub(crate) resume_after: u64,
    /// The newest number.
    pub(crate) head: u64,
    /// The oldest number that may still be there.
    pub(crate) oldest: u64,
    /// First and last number, both lost; zeros without `loss`.
    pub(crate) lost: (u64, u64),
}

/// DERR: no deliveries, or no more of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// When to try again.
    pub(crate) retry_ms: u32,
    /// At most [`MAX_TEXT`] bytes, safe to print.
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) const IN_USE: u16 = 1;
    pub(crate) const NOT_ALLOWED: u16 = 2;
    pub(crate) const BAD_NAME: u16 = 3;
    pub(crate) const TOO_MANY_NAMES: u16 = 4;
    pub(crate) const CURSOR_AHEAD: u16 = 5;
    pub(crate) const VERSION: u16 = 6;
    pub(crate) const SPOOL_FAILED: u16 = 7;
}

/// DLV: the next messages on this connection are these records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Deliveries {
    /// Sent again out of order: `prev` is only the base of the numbers, and nobody's position moves.
    pub(crate) again: bool,
    /// The number delivered before the first of these in this session.
    pub(crate) prev: u64,
    /// 1 to [`MAX_ENTRIES`], ascending from `prev`. Tries and times are there for all or for none; where only some
    /// have them when written, the others get 1 and the time before.
    pub(crate) entries: Vec<Entry>,
}

/// One record in a DLV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    /// How often it was sent, with this time; at least 1.
    pub(crate) tries: Option<u32>,
    /// Microseconds since 1970; never less than that of the entry before.
    pub(crate) time: Option<i64>,
}

/// DACK: the holder is done with these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Acks {
    /// Everything up to here (topics only; else 0).
    pub(crate) cumulative: u64,
    /// First number and length, ascending, without overlap, above `cumulative`; written up to [`MAX_RANGES`].
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// DNACK: the holder wants this one again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Nack {
    pub(crate) sequence: u64,
    pub(crate) delay_ms: u32,
    /// The application's own number.
    pub(crate) reason: u8,
    /// At most [`MAX_TEXT`] bytes, safe to print.
    pub(crate) text: String,
}

/// DHEAD: where the spool is while nothing is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) newest: u64,
    /// Microseconds since 1970.
    pub(crate) time: i64,
}

/// Reads a command by its name; `None` if it is none of the extension.
pub(crate) fn parse(name: &[u8], data: &[u8]) -> Option<Result<Durable, Reason>> {
    let _ = (name, data);
    None
}

/// Appends one whole command frame.
pub(crate) fn encode(out: &mut BytesMut, command: &Durable) {
    let _ = command;
    encode_command(out, b"DEND", &[]);
}
