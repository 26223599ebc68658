//! The bytes of a registry, as the body of one copy (`twin` puts the frame around it). Little-endian.
//!
//! Spool id (16) · flags u32 (1 clean) · last · reserved_until · head · checked (u64 each) · number of names u32, then
//! per name: length of what follows u32 · name (u32, bytes) · kind u8 · flags u8 (1 owner, 2 lost, 4 declared) ·
//! owner (u32, bytes) · created i64 · seen i64 · expiry u32 · cursor · lost records · lost bytes · lost from · lost to
//! (u64 each) · number of filters u32, each (u32, bytes) and u64 · number of done ranges u32, each two LEB128 numbers:
//! distance from the end of the range before (at first: the cursor) and length. A newer minor version may append to
//! the body and to each name.

use std::collections::BTreeMap;

use super::twin::Format;
use super::{MOST_RANGES, NameKind, NameRecord, Registry};
use crate::message::SpoolId;

pub(crate) const FORMAT: Format = Format { magic: *b"SPOOLREG", major: 1, minor: 0 };
/// The registry while the spool's id is being changed: a version that no opening knows, because segments of two ids
/// would be taken for strangers. The body is already that of the new id.
pub(crate) const UNFINISHED: Format = Format { major: u16::MAX, ..FORMAT };

const CLEAN: u32 = 1;
const OWNER: u8 = 1;
const LOST: u8 = 2;
const DECLARED: u8 = 4;

/// The body. Without `ranges` it is the least that may be kept.
pub(crate) fn encode(registry: &Registry, ranges: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(&registry.spool.to_bytes());
    put_u32(&mut out, if registry.clean { CLEAN } else { 0 });
    for number in [registry.last, registry.reserved_until, registry.head, registry.checked] {
        put_u64(&mut out, number);
    }
    put_u32(&mut out, count(registry.names.len()));
    let mut one = Vec::new();
    for name in registry.names.values() {
        one.clear();
        encode_name(&mut one, name, ranges);
        put_bytes(&mut out, &one);
    }
    out
}

fn encode_name(out: &mut Vec<u8>, name: &NameRecord, ranges: bool) {
    put_bytes(out, name.name.as_bytes());
    out.push(match name.kind {
        NameKind::Topic => 0,
        NameKind::Outbox => 1,
    });
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(flag(name.owner.is_some(), OWNER) | flag(name.lost.is_some(), LOST) | flag(name.declared, DECLARED));
    put_bytes(out, name.owner.as_deref().unwrap_or_default().as_bytes());
    out.extend_from_slice(&name.created.to_le_bytes());
    out.extend_from_slice(&name.seen.to_le_bytes());
    put_u32(out, name.expiry_s);
    let (from, to) = name.lost.unwrap_or_default();
    for number in [name.cursor, name.lost_records, name.lost_bytes, from, to] {
        put_u64(out, number);
    }
    put_u32(out, count(name.filters.len()));
    for (prefix, from) in &name.filters {
        put_bytes(out, prefix);
        put_u64(out, *from);
    }
    put_ranges(out, name.cursor, if ranges { &name.done } else { &[] });
}

/// Appends the ranges above `cursor`; those that are not in order are left out, which costs a delivery.
pub(crate) fn put_ranges(out: &mut Vec<u8>, cursor: u64, ranges: &[(u64, u64)]) {
    let at = out.len();
    put_u32(out, 0);
    let (mut written, mut end) = (0_usize, cursor);
    for &(from, to) in ranges.iter() {
        if written == MOST_RANGES {
            break;
        }
        if from <= end || to < from {
            continue;
        }
        put_number(out, from.saturating_sub(end));
        put_number(out, to.saturating_sub(from));
        (written, end) = (written.saturating_add(1), to);
    }
    if let Some(place) = out.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&count(written).to_le_bytes());
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

pub(crate) fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// A length and the bytes. What does not fit a length does not fit a slot either, and is refused there.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, count(bytes.len()));
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The registry in a body; `None` if the body breaks a rule.
pub(crate) fn parse(body: &[u8]) -> Option<Registry> {
    let mut body = Fields(body);
    let spool = SpoolId::from_bytes(body.array()?);
    let clean = body.u32()? & CLEAN != 0;
    let (last, reserved_until, head, checked) = (body.u64()?, body.u64()?, body.u64()?, body.u64()?);
    let mut names = BTreeMap::new();
    for _ in 0..body.u32()? {
        let record = parse_name(Fields(body.bytes()?))?;
        names.insert(record.name.clone(), record);
    }
    Some(Registry { spool, clean, last, reserved_until, head, checked, names })
}

fn parse_name(mut name: Fields<'_>) -> Option<NameRecord> {
    let text = name.text()?;
    let kind = match name.byte()? {
        0 => NameKind::Topic,
        1 => NameKind::Outbox,
        _ => return None,
    };
    let flags = name.byte()?;
    let owner = name.text()?;
    let (created, seen) = (name.i64()?, name.i64()?);
    let expiry_s = name.u32()?;
    let (cursor, lost_records, lost_bytes) = (name.u64()?, name.u64()?, name.u64()?);
    let lost = (name.u64()?, name.u64()?);
    let mut filters = Vec::new();
    for _ in 0..name.u32()? {
        filters.push((name.bytes()?.to_vec(), name.u64()?));
    }
    Some(NameRecord {
        name: text,
        kind,
        owner: (flags & OWNER != 0).then_some(owner),
        created,
        seen,
        expiry_s,
        cursor,
        done: name.ranges(cursor)?,
        filters,
        lost_records,
        lost_bytes,
        lost: (flags & LOST != 0).then_some(lost),
        declared: flags & DECLARED != 0,
    })
}

/// What is left of a body. Nothing is made before its bytes were seen, so a count promises nothing.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Ranges above `cursor`, as [`put_ranges`] wrote them.
    pub(crate) fn ranges(&mut self, cursor: u64) -> Option<Vec<(u64, u64)>> {
        let count = usize::try_from(self.u32()?).ok().filter(|&count| count <= MOST_RANGES)?;
        let (mut ranges, mut end) = (Vec::new(), cursor);
        for _ in 0..count {
            let distance = self.number().filter(|&distance| distance > 0)?;
            let from = end.checked_add(distance)?;
            let to = from.checked_add(self.number()?)?;
            ranges.push((from, to));
            end = to;
        }
        Some(ranges)
    }
}
