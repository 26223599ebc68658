//! One record: its bytes and what they mean. Durability design, section 4, is the byte map.
//!
//! ```text
//!  0  u32 len: bytes from 8 to the end of the body; 0 = nothing here     24 u8  kind      26 u16 frames
//!  4  u32 CRC32C over salt, len, bytes 8..8+len                          25 u8  flags     28 u32 length of the topic
//!  8  u64 sequence     16 i64 time, µs                                   32 optional fields in flag order, then the body
//! ```
//!
//! All little-endian, but the frames of a message, which are wire bytes as they go to a socket. A record starts at a
//! multiple of [`ALIGN`], with zeros behind it up to the next one; the CRC does not cover those. The salt is the
//! segment's, so that old bytes of a used file never fit. Encoding trusts its caller (who has compared
//! [`encoded_len`] with the limit), [`parse`] trusts nobody: it neither panics nor allocates. No IO here. Next:
//! `segment`, the header in front of records, and `scan`, which walks over them.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use bytes::{BufMut, BytesMut};
use crc32c::{crc32c, crc32c_append};

use crate::message::Message;
use crate::wire::frame;

/// Bytes before the optional fields.
pub(crate) const HEADER: usize = 32;
/// Where records may start.
pub(crate) const ALIGN: usize = 8;
/// The most frames that a record can count: a message of more is refused before it gets here.
pub(crate) const MAX_FRAMES: usize = u16::MAX as usize;
/// Bytes of a seal, which is how it is found from the end of a file.
pub(crate) const SEAL: usize = HEADER + SEAL_BODY;
/// Bytes of a sync mark.
pub(crate) const MARK: usize = HEADER + MARK_BODY;

const MARK_BODY: usize = 16;
const SEAL_BODY: usize = 32;
const GAP_BODY: usize = 17;
/// What `len` does not count: itself and the CRC.
const UNCOUNTED: usize = 8;

const DELIVER_AT: u8 = 1;
const EXPIRES_AT: u8 = 2;
const ID: u8 = 4;
const ORIGIN: u8 = 8;
const FLAGS: u8 = DELIVER_AT | EXPIRES_AT | ID | ORIGIN;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message = 1,
    /// Everything before an offset was once safe.
    Mark = 2,
    /// The last record of a segment that is finished.
    Seal = 3,
    /// Numbers that will never appear.
    Gap = 4,
}

impl Kind {
    #[inline]
    fn of(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Message),
            2 => Some(Kind::Mark),
            3 => Some(Kind::Seal),
            4 => Some(Kind::Gap),
            _ => None,
        }
    }
}

/// The optional fields. Times are µs since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extra {
    pub(crate) deliver_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) id: Option<[u8; 16]>,
    /// The number it had in the log of delayed records.
    pub(crate) origin: Option<u64>,
}

impl Extra {
    #[inline]
    fn flags(&self) -> u8 {
        let bit = |there: bool, flag: u8| if there { flag } else { 0 };
        bit(self.deliver_at.is_some(), DELIVER_AT)
            | bit(self.expires_at.is_some(), EXPIRES_AT)
            | bit(self.id.is_some(), ID)
            | bit(self.origin.is_some(), ORIGIN)
    }

    #[inline]
    fn encode(&self, out: &mut BytesMut) {
        if let Some(at) = self.deliver_at {
            out.put_i64_le(at);
        }
        if let Some(at) = self.expires_at {
            out.put_i64_le(at);
        }
        if let Some(id) = self.id {
            out.put_slice(&id);
        }
        if let Some(origin) = self.origin {
            out.put_u64_le(origin);
        }
    }

    /// The fields at the front of `bytes`, and what follows them.
    #[inline]
    fn parse(flags: u8, mut bytes: &[u8]) -> Option<(Extra, &[u8])> {
        let mut extra = Extra::default();
        if flags == 0 {
            return Some((extra, bytes));
        }
        if flags & DELIVER_AT != 0 {
            extra.deliver_at = Some(i64::from_le_bytes(take(&mut bytes)?));
        }
        if flags & EXPIRES_AT != 0 {
            extra.expires_at = Some(i64::from_le_bytes(take(&mut bytes)?));
        }
        if flags & ID != 0 {
            extra.id = Some(take(&mut bytes)?);
        }
        if flags & ORIGIN != 0 {
            extra.origin = Some(u64::from_le_bytes(take(&mut bytes)?));
        }
        Some((extra, bytes))
    }
}

/// Bytes that the optional fields of these flags take.
#[inline]
fn extra_len(flags: u8) -> usize {
    let mut len = 0_usize;
    for (flag, size) in [(DELIVER_AT, 8_usize), (EXPIRES_AT, 8), (ID, 16), (ORIGIN, 8)] {
        if flags & flag != 0 {
            len = len.saturating_add(size);
        }
    }
    len
}

/// Why numbers will never appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// Skipped after an unclean end: nobody ever got them.
    Recovery = 1,
    /// Dropped by a limit.
    Limit = 2,
    /// They were there and cannot be read any more.
    Damage = 3,
}

#[inline]
fn padded(len: usize) -> usize {
    len.saturating_add(ALIGN - 1) & !(ALIGN - 1)
}

/// Bytes that the record of this message takes, padding included.
#[inline]
pub(crate) fn encoded_len(extra: &Extra, message: &Message) -> usize {
    padded(HEADER.saturating_add(extra_len(extra.flags())).saturating_add(frame::encoded_len(message)))
}

/// Appends a message's record; the CRC stays 0 until [`fill_checksums`]. Answers the bytes appended.
///
/// The caller has refused messages of more than [`MAX_FRAMES`] frames or 2 GiB.
#[inline]
pub(crate) fn encode_message(out: &mut BytesMut, sequence: u64, time: i64, extra: &Extra, message: &Message) -> usize {
    let body = frame::encoded_len(message);
    let head = Head {
        kind: Kind::Message,
        sequence,
        time,
        frames: u16::try_from(message.len()).unwrap_or(u16::MAX),
        topic_len: message.first().map_or(0, |topic| u32::try_from(topic.len()).unwrap_or(u32::MAX)),
    };
    encode(out, &head, extra, body, |out| frame::encode_message(out, message))
}

/// The same for a body that is wire bytes already: copies and replays.
#[inline]
pub(crate) fn encode_raw(
    out: &mut BytesMut,
    sequence: u64,
    time: i64,
    extra: &Extra,
    frames: u16,
    topic_len: u32,
    body: &[u8],
) -> usize {
    let head = Head { kind: Kind::Message, sequence, time, frames, topic_len };
    encode(out, &head, extra, body.len(), |out| out.extend_from_slice(body))
}

/// Appends a sync mark: everything before `durable_offset` of this segment, up to number `durable_sequence`, is safe.
/// `sequence` is the last number before the mark.
pub(crate) fn encode_mark(
    out: &mut BytesMut,
    sequence: u64,
    time: i64,
    durable_sequence: u64,
    durable_offset: u64,
) -> usize {
    encode(out, &Head::of(Kind::Mark, sequence, time), &Extra::default(), MARK_BODY, |out| {
        out.put_u64_le(durable_sequence);
        out.put_u64_le(durable_offset);
    })
}

/// Appends the seal of a finished segment: its messages, its last number, the times of the first and last one.
/// `sequence` is the last number given before the seal, written or not: the next segment's base less one.
pub(crate) fn encode_seal(
    out: &mut BytesMut,
    sequence: u64,
    time: i64,
    records: u64,
    last: u64,
    first_time: i64,
    last_time: i64,
) -> usize {
    encode(out, &Head::of(Kind::Seal, sequence, time), &Extra::default(), SEAL_BODY, |out| {
        out.put_u64_le(records);
        out.put_u64_le(last);
        out.put_i64_le(first_time);
        out.put_i64_le(last_time);
    })
}

/// Appends a gap: the numbers `from` to `to` will never appear.
pub(crate) fn encode_gap(out: &mut BytesMut, time: i64, from: u64, to: u64, reason: GapReason) -> usize {
    encode(out, &Head::of(Kind::Gap, to, time), &Extra::default(), GAP_BODY, |out| {
        out.put_u64_le(from);
        out.put_u64_le(to);
        out.put_u8(reason as u8);
    })
}

/// The fields of the first 32 bytes that a caller chooses.
struct Head {
    kind: Kind,
    sequence: u64,
    time: i64,
    frames: u16,
    topic_len: u32,
}

impl Head {
    fn of(kind: Kind, sequence: u64, time: i64) -> Head {
        Head { kind, sequence, time, frames: 0, topic_len: 0 }
    }

    /// As one array: it goes out in one copy.
    #[inline]
    fn bytes(&self, len: usize, flags: u8) -> [u8; HEADER] {
        let [l0, l1, l2, l3] = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.sequence.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.time.to_le_bytes();
        let [f0, f1] = self.frames.to_le_bytes();
        let [b0, b1, b2, b3] = self.topic_len.to_le_bytes();
        [
            l0,
            l1,
            l2,
            l3,
            0,
            0,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
            t6,
            t7,
            self.kind as u8,
            flags,
            f0,
            f1,
            b0,
            b1,
            b2,
            b3,
        ]
    }
}

#[inline]
fn encode(out: &mut BytesMut, head: &Head, extra: &Extra, body: usize, write: impl FnOnce(&mut BytesMut)) -> usize {
    let flags = extra.flags();
    let whole = HEADER.saturating_add(extra_len(flags)).saturating_add(body);
    let size = padded(whole);
    out.reserve(size);
    out.extend_from_slice(&head.bytes(whole.saturating_sub(UNCOUNTED), flags));
    if flags != 0 {
        extra.encode(out);
    }
    write(out);
    out.put_bytes(0, size.saturating_sub(whole));
    size
}

/// Writes the CRCs of whole records that were just encoded, one behind the other.
pub(crate) fn fill_checksums(records: &mut [u8], salt: u64) {
    let start = crc32c(&salt.to_le_bytes());
    let mut rest = records;
    while let Some((&mut len, _)) = rest.split_first_chunk_mut::<4>() {
        let whole = UNCOUNTED.saturating_add(u32::from_le_bytes(len) as usize);
        let Some((record, after)) = std::mem::take(&mut rest).split_at_mut_checked(padded(whole)) else { return };
        rest = after;
        let Some((_, tail)) = record.split_first_chunk_mut::<4>() else { return };
        // `len` stands in the CRC's place for a moment: one run over all bytes instead of two.
        let Some(covered) = tail.get_mut(..whole.saturating_sub(4)) else { return };
        let Some(place) = covered.first_chunk_mut::<4>() else { return };
        *place = len;
        let crc = crc32c_append(start, covered);
        if let Some(place) = covered.first_chunk_mut::<4>() {
            *place = crc.to_le_bytes();
        }
    }
}

/// A record, borrowed from the bytes it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) sequence: u64,
    pub(crate) time: i64,
    pub(crate) kind: Kind,
    pub(crate) extra: Extra,
    pub(crate) frames: u16,
    pub(crate) topic_len: u32,
    /// The frames of a message as wire bytes; the fields of another kind.
    pub(crate) body: &'a [u8],
    /// Where the body starts in the record.
    pub(crate) body_at: usize,
    /// With padding: where the next record starts.
    pub(crate) size: usize,
}

/// A sync mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
}

/// What a seal says about its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) records: u64,
    pub(crate) last: u64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

/// Numbers that will never appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) reason: GapReason,
}

impl<'a> Record<'a> {
    /// Frame 0 of a message; empty for other kinds.
    #[cfg(test)]
    pub(crate) fn topic(&self) -> &'a [u8] {
        let start = match frame::peek_header(self.body) {
            Some(header) if self.kind == Kind::Message => header.len,
            _ => return &[],
        };
        let end = start.saturating_add(self.topic_len as usize);
        self.body.get(start..end).unwrap_or_default()
    }

    pub(crate) fn mark(&self) -> Option<Mark> {
        let mut bytes = self.fields(Kind::Mark)?;
        Some(Mark { sequence: u64::from_le_bytes(take(&mut bytes)?), offset: u64::from_le_bytes(take(&mut bytes)?) })
    }

    pub(crate) fn seal(&self) -> Option<Seal> {
        let mut bytes = self.fields(Kind::Seal)?;
        Some(Seal {
            records: u64::from_le_bytes(take(&mut bytes)?),
            last: u64::from_le_bytes(take(&mut bytes)?),
            first_time: i64::from_le_bytes(take(&mut bytes)?),
            last_time: i64::from_le_bytes(take(&mut bytes)?),
        })
    }

    pub(crate) fn gap(&self) -> Option<Gap> {
        let mut bytes = self.fields(Kind::Gap)?;
        Some(Gap {
            from: u64::from_le_bytes(take(&mut bytes)?),
            to: u64::from_le_bytes(take(&mut bytes)?),
            reason: match bytes.first()? {
                1 => GapReason::Recovery,
                2 => GapReason::Limit,
                _ => GapReason::Damage,
            },
        })
    }

    fn fields(&self, kind: Kind) -> Option<&'a [u8]> {
        (self.kind == kind).then_some(self.body)
    }
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Record(Record<'a>),
    /// Nothing here: `len` is 0.
    End,
    /// It may be a record, but of this many bytes in all, and there are fewer.
    Short(usize),
    /// No record, and why.
    Bad(&'static str),
}

/// Reads the record at the front of `bytes`. With a salt the CRC is checked; without one the bytes were verified
/// before. A record of more than `max_record` bytes is bad.
#[inline]
pub(crate) fn parse(bytes: &[u8], salt: Option<u64>, max_record: u64) -> Parsed<'_> {
    let Some(&len) = bytes.first_chunk::<4>() else { return Parsed::Short(HEADER) };
    let counted = u32::from_le_bytes(len);
    if counted == 0 {
        return Parsed::End;
    }
    if (counted as usize) < HEADER - UNCOUNTED || u64::from(counted) > max_record {
        return Parsed::Bad("length");
    }
    let Some(whole) = (counted as usize).checked_add(UNCOUNTED) else { return Parsed::Bad("length") };
    let size = padded(whole);
    if bytes.len() < size {
        return Parsed::Short(size);
    }
    let Some(record) = bytes.get(..whole) else { return Parsed::Short(size) };
    match salt {
        Some(salt) if !is_whole(record, len, salt) => Parsed::Bad("checksum"),
        _ => fields(record, size),
    }
}

/// The first look at what may be a record: enough to tell most bytes from one without a CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peek {
    /// It claims so many bytes, padding included.
    Claim { size: usize, kind: Kind, sequence: u64 },
    /// `len` is 0.
    End,
    /// Certainly none, or fewer bytes than a header.
    Bad,
}

/// What the first [`HEADER`] bytes claim to be.
#[inline]
pub(crate) fn peek(bytes: &[u8]) -> Peek {
    let Some(&[l0, l1, l2, l3]) = bytes.first_chunk::<4>() else { return Peek::Bad };
    let counted = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if counted == 0 {
        return Peek::End;
    }
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Peek::Bad };
    let [_, _, _, _, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7, tail @ ..] = *head;
    let [_, _, _, _, _, _, _, _, kind, flags, ..] = tail;
    match Kind::of(kind) {
        Some(kind) if flags & !FLAGS == 0 && counted >= HEADER - UNCOUNTED => Peek::Claim {
            size: padded(counted.saturating_add(UNCOUNTED)),
            kind,
            sequence: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
        },
        _ => Peek::Bad,
    }
}

/// Whether the CRC of an unpadded record fits.
#[inline]
fn is_whole(record: &[u8], len: [u8; 4], salt: u64) -> bool {
    let (Some((head, covered)), [l0, l1, l2, l3]) = (record.split_first_chunk::<UNCOUNTED>(), len) else {
        return false;
    };
    let [_, _, _, _, c0, c1, c2, c3] = *head;
    let [s0, s1, s2, s3, s4, s5, s6, s7] = salt.to_le_bytes();
    // Salt and length as one run.
    let start = crc32c(&[s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3]);
    crc32c_append(start, covered) == u32::from_le_bytes([c0, c1, c2, c3])
}

#[inline]
fn fields(record: &[u8], size: usize) -> Parsed<'_> {
    let Some((head, rest)) = record.split_first_chunk::<HEADER>() else { return Parsed::Bad("length") };
    let [_, _, _, _, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7, tail @ ..] = *head;
    let [t0, t1, t2, t3, t4, t5, t6, t7, kind, flags, f0, f1, b0, b1, b2, b3] = tail;
    let Some(kind) = Kind::of(kind) else { return Parsed::Bad("kind") };
    if flags & !FLAGS != 0 {
        return Parsed::Bad("flags");
    }
    let Some((extra, body)) = Extra::parse(flags, rest) else { return Parsed::Bad("optional fields") };
    let record = Record {
        sequence: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
        time: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        kind,
        extra,
        frames: u16::from_le_bytes([f0, f1]),
        topic_len: u32::from_le_bytes([b0, b1, b2, b3]),
        body,
        body_at: HEADER.saturating_add(extra_len(flags)),
        size,
    };
    if fits(&record) { Parsed::Record(record) } else { Parsed::Bad("body") }
}

/// Whether counts and body belong to the kind. The frames themselves are not walked: `frame` answers `None` for what
/// does not fit, and the CRC says that they are as they were written.
#[inline]
fn fits(record: &Record<'_>) -> bool {
    let least = match record.kind {
        Kind::Message => return record.frames != 0 && (record.topic_len as usize) < record.body.len(),
        Kind::Mark => MARK_BODY,
        Kind::Seal => SEAL_BODY,
        Kind::Gap => GAP_BODY,
    };
    record.frames == 0 && record.body.len() >= least
}

#[inline]
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests;
