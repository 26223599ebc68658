//! The commands of durable sockets (our extension, version 1): DSTART, DOK, DERR, DLV, DACK, DNACK, DHEAD, DEND.
//!
//! One form for each command: what is written is canonical, and what is not so written is refused. All of them are at
//! most [`MAX_COMMAND`] long, and nothing is allocated beyond what the bytes at hand can hold. They have a meaning only
//! on a connection whose both sides announced the extension; what the numbers mean is decided in `durable`.

use bytes::{BufMut, BytesMut};

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
    /// Seconds without a connection after which the name may go; 0 leaves it to the spool, [`u32::MAX`] is never.
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

const START: &[u8] = b"DSTART";
const STARTED: &[u8] = b"DOK";
const REFUSAL: &[u8] = b"DERR";
const DELIVERIES: &[u8] = b"DLV";
const ACKS: &[u8] = b"DACK";
const NACK: &[u8] = b"DNACK";
const HEAD: &[u8] = b"DHEAD";
const END: &[u8] = b"DEND";

/// Bytes of a command body besides its data: one for the name's length, then the name.
const OVERHEAD: usize = 7;

/// Reads a command by its name; `None` if it is none of the extension.
pub(crate) fn parse(name: &[u8], data: &[u8]) -> Option<Result<Durable, Reason>> {
    let read: fn(&mut Reader<'_>) -> Result<Durable, Reason> = match name {
        START => read_start,
        STARTED => read_started,
        REFUSAL => read_refusal,
        DELIVERIES => read_deliveries,
        ACKS => read_acks,
        NACK => read_nack,
        HEAD => read_head,
        END => |_| Ok(Durable::End),
        _ => return None,
    };
    Some(whole(data, read))
}

/// What `read` makes of `data`, all of it.
fn whole(data: &[u8], read: fn(&mut Reader<'_>) -> Result<Durable, Reason>) -> Result<Durable, Reason> {
    if data.len() > MAX_COMMAND.saturating_sub(OVERHEAD) {
        return Err(Reason::LimitExceeded { which: "max_command", limit: MAX_COMMAND as u64 });
    }
    let mut reader = Reader(data);
    let command = read(&mut reader)?;
    if reader.0.is_empty() { Ok(command) } else { Err(Reason::Malformed("bytes after the end of a durable command")) }
}

fn read_start(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    let [manual, oldest, take_over] = from.flags()?;
    Ok(Durable::Start(Start {
        manual,
        oldest,
        take_over,
        window: from.u32()?,
        window_bytes: from.u32()?,
        spool: from.spool()?,
        done: from.u64()?,
        expiry_s: from.u32()?,
    }))
}

fn read_started(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    let [new, changed, loss] = from.flags()?;
    let spool = from.spool()?;
    let (resume_after, head, oldest) = (from.u64()?, from.u64()?, from.u64()?);
    let lost = (from.u64()?, from.u64()?);
    let sound = if loss { lost.0 > 0 && lost.0 <= lost.1 } else { lost == (0, 0) };
    if !sound {
        return Err(Reason::Malformed("DOK with a loss that is no range"));
    }
    Ok(Durable::Started(Started { new, changed, loss, spool, resume_after, head, oldest, lost }))
}

fn read_refusal(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    Ok(Durable::Refusal(Refusal { code: from.u16()?, retry_ms: from.u32()?, text: from.text()? }))
}

fn read_deliveries(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    let [with_tries, with_times, again] = from.flags()?;
    let count = from.u8()?;
    if count == 0 {
        return Err(Reason::Malformed("DLV without records"));
    }
    let prev = from.u64()?;
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut sequence = prev;
    for _ in 0..count {
        sequence = step(sequence, from.varint()?)?;
        entries.push(Entry { sequence, tries: None, time: None });
    }
    if with_tries {
        for entry in &mut entries {
            let tries = u32::try_from(from.varint()?).ok().filter(|&tries| tries > 0);
            entry.tries = Some(tries.ok_or(Reason::Malformed("DLV with tries out of range"))?);
        }
    }
    if with_times {
        read_times(from, &mut entries)?;
    }
    Ok(Durable::Deliveries(Deliveries { again, prev, entries }))
}

/// The number that is `distance` after `number`; it moves.
fn step(number: u64, distance: u64) -> Result<u64, Reason> {
    let next = if distance == 0 { None } else { number.checked_add(distance) };
    next.ok_or(Reason::Malformed("DLV with a step of 0 or beyond the last number"))
}

fn read_times(from: &mut Reader<'_>, entries: &mut [Entry]) -> Result<(), Reason> {
    let wrong = Reason::Malformed("DLV with times out of range");
    let mut time = from.time()?;
    for (index, entry) in entries.iter_mut().enumerate() {
        let distance = i64::try_from(from.varint()?).map_err(|_| wrong.clone())?;
        if index == 0 && distance != 0 {
            return Err(wrong);
        }
        time = time.checked_add(distance).ok_or_else(|| wrong.clone())?;
        entry.time = Some(time);
    }
    Ok(())
}

fn read_acks(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    let cumulative = from.u64()?;
    let count = usize::from(from.u16()?);
    // A range has at least nine bytes.
    let mut ranges = Vec::with_capacity(count.min(from.0.len() / 9));
    let mut end = cumulative;
    for _ in 0..count {
        let (start, length) = (from.u64()?, from.varint()?);
        let last = length.checked_sub(1).and_then(|more| start.checked_add(more));
        end = last.filter(|_| start > end).ok_or(Reason::Malformed("DACK with ranges out of order"))?;
        ranges.push((start, length));
    }
    Ok(Durable::Acks(Acks { cumulative, ranges }))
}

fn read_nack(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    let nack = Nack { sequence: from.u64()?, delay_ms: from.u32()?, reason: from.u8()?, text: from.text()? };
    if nack.sequence == 0 { Err(Reason::Malformed("DNACK of number 0")) } else { Ok(Durable::Nack(nack)) }
}

fn read_head(from: &mut Reader<'_>) -> Result<Durable, Reason> {
    Ok(Durable::Head(Head { newest: from.u64()?, time: from.time()? }))
}

/// What is left of a command's data.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Reason::Malformed("durable command cut short"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Reason> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Reason> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_be_bytes)
    }

    fn spool(&mut self) -> Result<SpoolId, Reason> {
        self.array().map(SpoolId)
    }

    fn time(&mut self) -> Result<i64, Reason> {
        i64::try_from(self.u64()?).map_err(|_| Reason::Malformed("durable command with a time out of range"))
    }

    /// Three flags, the lowest bit first. They come first in a command: what follows may look different with others.
    fn flags(&mut self) -> Result<[bool; 3], Reason> {
        let flags = self.u8()?;
        if flags > 7 {
            return Err(UNKNOWN_FLAGS);
        }
        Ok([flags & 1 != 0, flags & 2 != 0, flags & 4 != 0])
    }

    /// LEB128 in its shortest form.
    fn varint(&mut self) -> Result<u64, Reason> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            // The tenth byte has one bit left.
            let last = shift == 63 || byte < 0x80;
            if last && ((shift == 63 && byte != 1) || (shift > 0 && byte == 0)) {
                break;
            }
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if last {
                return Ok(value);
            }
        }
        Err(Reason::Malformed("number in a durable command not in its shortest form"))
    }

    fn text(&mut self) -> Result<String, Reason> {
        let text = std::str::from_utf8(self.0).ok().filter(|text| text.len() <= MAX_TEXT && text.chars().all(is_plain));
        let text = text.ok_or(Reason::Malformed("durable command with a text that cannot be shown"))?;
        self.0 = &[];
        Ok(text.to_owned())
    }
}

/// Nothing that a terminal would obey.
fn is_plain(symbol: char) -> bool {
    matches!(symbol, '"' | '\'' | '\\') || symbol.escape_debug().len() == 1
}

/// Appends one whole command frame.
pub(crate) fn encode(out: &mut BytesMut, command: &Durable) {
    let mut data = BytesMut::new();
    let name = match command {
        Durable::Start(start) => write_start(&mut data, start),
        Durable::Started(started) => write_started(&mut data, started),
        Durable::Refusal(refusal) => write_refusal(&mut data, refusal),
        Durable::Deliveries(deliveries) => write_deliveries(&mut data, deliveries),
        Durable::Acks(acks) => write_acks(&mut data, acks),
        Durable::Nack(nack) => write_nack(&mut data, nack),
        Durable::Head(head) => write_head(&mut data, head),
        Durable::End => END,
    };
    encode_command(out, name, &[&data]);
}

fn write_start(data: &mut BytesMut, start: &Start) -> &'static [u8] {
    data.put_u8(flags([start.manual, start.oldest, start.take_over]));
    data.put_u32(start.window);
    data.put_u32(start.window_bytes);
    data.put_slice(&start.spool.0);
    data.put_u64(start.done);
    data.put_u32(start.expiry_s);
    START
}

fn write_started(data: &mut BytesMut, started: &Started) -> &'static [u8] {
    data.put_u8(flags([started.new, started.changed, started.loss]));
    data.put_slice(&started.spool.0);
    let (from, to) = if started.loss { started.lost } else { (0, 0) };
    for number in [started.resume_after, started.head, started.oldest, from, to] {
        data.put_u64(number);
    }
    STARTED
}

fn write_refusal(data: &mut BytesMut, refusal: &Refusal) -> &'static [u8] {
    data.put_u16(refusal.code);
    data.put_u32(refusal.retry_ms);
    write_text(data, &refusal.text);
    REFUSAL
}

fn write_deliveries(data: &mut BytesMut, deliveries: &Deliveries) -> &'static [u8] {
    let entries = deliveries.entries.get(..MAX_ENTRIES).unwrap_or(&deliveries.entries);
    debug_assert!(!entries.is_empty() && entries.len() == deliveries.entries.len(), "1 to 255 records");
    let with_tries = entries.iter().any(|entry| entry.tries.is_some());
    let first_time = entries.iter().find_map(|entry| entry.time);
    data.put_u8(flags([with_tries, first_time.is_some(), deliveries.again]));
    data.put_u8(entries.len() as u8); // at most 255
    data.put_u64(deliveries.prev);
    let mut prev = deliveries.prev;
    for entry in entries {
        write_varint(data, entry.sequence.saturating_sub(prev));
        prev = entry.sequence;
    }
    if with_tries {
        entries.iter().for_each(|entry| write_varint(data, u64::from(entry.tries.unwrap_or(1).max(1))));
    }
    if let Some(first) = first_time {
        let mut time = first.max(0);
        data.put_i64(time);
        for entry in entries {
            let next = entry.time.unwrap_or(time).max(time);
            write_varint(data, next.abs_diff(time));
            time = next;
        }
    }
    DELIVERIES
}

fn write_acks(data: &mut BytesMut, acks: &Acks) -> &'static [u8] {
    let ranges = acks.ranges.get(..MAX_RANGES).unwrap_or(&acks.ranges);
    data.put_u64(acks.cumulative);
    data.put_u16(ranges.len() as u16); // at most MAX_RANGES
    for &(start, length) in ranges {
        data.put_u64(start);
        write_varint(data, length);
    }
    ACKS
}

fn write_nack(data: &mut BytesMut, nack: &Nack) -> &'static [u8] {
    data.put_u64(nack.sequence);
    data.put_u32(nack.delay_ms);
    data.put_u8(nack.reason);
    write_text(data, &nack.text);
    NACK
}

fn write_head(data: &mut BytesMut, head: &Head) -> &'static [u8] {
    data.put_u64(head.newest);
    data.put_i64(head.time.max(0));
    HEAD
}

fn flags(bits: [bool; 3]) -> u8 {
    bits.iter().rev().fold(0, |flags: u8, &bit| flags.wrapping_shl(1) | u8::from(bit))
}

fn write_varint(data: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        data.put_u8(value as u8 | 0x80); // the low seven bits
        value = value.wrapping_shr(7);
    }
    data.put_u8(value as u8);
}

/// What of the text can be shown, cut to [`MAX_TEXT`] bytes.
fn write_text(data: &mut BytesMut, text: &str) {
    let mut room = MAX_TEXT;
    for symbol in text.chars().map(|symbol| if is_plain(symbol) { symbol } else { '?' }) {
        let Some(left) = room.checked_sub(symbol.len_utf8()) else { return };
        room = left;
        data.put_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests;
