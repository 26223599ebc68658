//! The head of a segment file, and its name.
//!
//! ```text
//!  0  "SPOOLSEG"    8 u16 major   10 u16 minor   12 u32 length of this header   16 spool id, 16 bytes
//! 32  u64 base     40 i64 created, µs            48 u32 must-understand flags   52 u64 salt   60 u32 CRC32C
//! ```
//!
//! Little-endian, 64 bytes, written twice (at 0 and 64): one good copy is enough. Whatever a later version changes,
//! it keeps the first 16 bytes and a CRC32C in the last four of its header, so that this one can tell a newer file
//! from a broken one. The salt is new for every use of the file. No IO here. Next: `scan`.
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

use bytes::{Buf, BufMut};
use crc32c::crc32c;

use crate::message::SpoolId;

/// Bytes before the first record: two copies of the header.
pub(crate) const SEGMENT_HEADER: u64 = 128;
/// The newest format that this version knows.
pub(crate) const KNOWN: &str = "1.0";
/// What to read of a file for [`Header::parse`]: longer headers of later versions are looked at, too.
pub(crate) const LOOK: usize = 4096;

const MAGIC: [u8; 8] = *b"SPOOLSEG";
const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const COPY: usize = 64;
const CRC: usize = 4;
/// Magic, versions and the header's length: what every version has.
const COMMON: usize = 16;
const SUFFIX: &str = ".seg";
const DIGITS: usize = 20;

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) spool: SpoolId,
    /// The first number it may contain.
    pub(crate) base: u64,
    /// µs since 1970.
    pub(crate) created: i64,
    /// Goes into every CRC.
    pub(crate) salt: u64,
}

/// Why a header says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Neither copy is whole.
    Bad,
    /// Whole, but of a format that only others know.
    Unknown {
        /// Its version, as text.
        found: String,
    },
}

impl Header {
    /// Both copies.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        let (first, second) = bytes.split_at_mut(COPY);
        let (fields, mut crc) = first.split_at_mut(COPY - CRC);
        {
            let mut out: &mut [u8] = &mut *fields;
            out.put_slice(&MAGIC);
            out.put_u16_le(MAJOR);
            out.put_u16_le(MINOR);
            out.put_u32_le(COPY as u32);
            out.put_slice(&self.spool.0);
            out.put_u64_le(self.base);
            out.put_i64_le(self.created);
            out.put_u32_le(0);
            out.put_u64_le(self.salt);
        }
        crc.put_u32_le(crc32c(fields));
        second.copy_from_slice(first);
        bytes
    }

    /// From the first [`LOOK`] bytes of a file, or fewer.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let copies = [bytes.get(..COPY), bytes.get(COPY..).and_then(|rest| rest.get(..COPY))];
        let mut unknown = None;
        for copy in copies.into_iter().flatten() {
            match parse_copy(copy) {
                Ok(header) => return Ok(header),
                Err(HeaderError::Unknown { found }) => unknown = unknown.or(Some(found)),
                Err(HeaderError::Bad) => {}
            }
        }
        match unknown.or_else(|| later_version(bytes)) {
            Some(found) => Err(HeaderError::Unknown { found }),
            None => Err(HeaderError::Bad),
        }
    }
}

/// One copy of 64 bytes.
fn parse_copy(copy: &[u8]) -> Result<Header, HeaderError> {
    let Some((mut fields, crc)) = copy.split_last_chunk::<CRC>() else { return Err(HeaderError::Bad) };
    if crc32c(fields) != u32::from_le_bytes(*crc) || !fields.starts_with(&MAGIC) {
        return Err(HeaderError::Bad);
    }
    let mut field = |out: &mut [u8]| fields.try_copy_to_slice(out).map_err(|_| HeaderError::Bad);
    let mut magic = [0; 8];
    let (mut major, mut minor, mut length) = ([0; 2], [0; 2], [0; 4]);
    let (mut spool, mut base, mut created) = ([0; 16], [0; 8], [0; 8]);
    let (mut must, mut salt) = ([0; 4], [0; 8]);
    for out in [&mut magic[..], &mut major, &mut minor, &mut length, &mut spool, &mut base, &mut created, &mut must] {
        field(out)?;
    }
    field(&mut salt)?;
    let (major, minor, must) = (u16::from_le_bytes(major), u16::from_le_bytes(minor), u32::from_le_bytes(must));
    if major != MAJOR {
        return Err(HeaderError::Unknown { found: format!("{major}.{minor}") });
    }
    if must != 0 {
        return Err(HeaderError::Unknown { found: format!("{major}.{minor} with flags {must:#x}") });
    }
    Ok(Header {
        spool: SpoolId(spool),
        base: u64::from_le_bytes(base),
        created: i64::from_le_bytes(created),
        salt: u64::from_le_bytes(salt),
    })
}

/// The version of a header that is longer than ours: proven by its own CRC, or by two copies that agree.
fn later_version(bytes: &[u8]) -> Option<String> {
    let (major, minor, length) = version(bytes)?;
    if major == MAJOR {
        return None;
    }
    let proven = || {
        let (fields, crc) = bytes.get(..length)?.split_last_chunk::<CRC>()?;
        (fields.len() >= COMMON && crc32c(fields) == u32::from_le_bytes(*crc)).then_some(())
    };
    let repeated = || {
        let second = version(bytes.get(length.max(COPY)..)?)?;
        (second == (major, minor, length)).then_some(())
    };
    proven().or_else(repeated).map(|()| format!("{major}.{minor}"))
}

/// Major, minor and header length, behind the right magic.
fn version(bytes: &[u8]) -> Option<(u16, u16, usize)> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let ([m0, m1, n0, n1, l0, l1, l2, l3], _) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).ok()?;
    Some((u16::from_le_bytes([*m0, *m1]), u16::from_le_bytes([*n0, *n1]), length))
}

/// The file of a segment that starts with this number.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:020}{SUFFIX}")
}

/// The number in a segment's file name; `None` for any other file.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // No spool gets to half of all numbers: such a name is none of ours, and the next number has to be one.
    digits.parse().ok().filter(|&base| base <= u64::MAX / 2)
}

#[cfg(test)]
mod tests;
