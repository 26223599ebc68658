//! Two copies of a small state, written in turn, so that a crash at any moment leaves one of them whole.
//!
//! One copy on disk: magic (8 bytes), major and minor version (u16 each), length of the whole copy (u32), generation
//! (u64), the body, CRC32C (u32) of all bytes before it. Little-endian. This frame is the same in every version, so
//! that damage and a newer version can be told apart. The copy with the higher generation counts. Absent: what the
//! body means; `slot` and `cursor` know that.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::store::storage::{File, read_all_at, write_all_at};

/// What stands before the body.
const FRONT: usize = 24;
/// Front and checksum.
const FRAME: u64 = FRONT as u64 + 4;
/// A copy is never larger: it is read into memory.
pub(crate) const MOST_BYTES: u64 = 64 << 20;
/// How much is written at once when an area is made larger.
const PIECE: usize = 64 << 10;

/// Whose copies these are, and the version that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) magic: [u8; 8],
    pub(crate) major: u16,
    pub(crate) minor: u16,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// One copy as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot<T> {
    /// Never written.
    Blank,
    /// Damaged, torn, or something else altogether.
    Bad,
    /// Whole, and of a version that is not known here.
    Unknown {
        found: String,
    },
    Good {
        generation: u64,
        body: T,
    },
}

impl<T> Slot<T> {
    pub(crate) fn generation(&self) -> Option<u64> {
        match self {
            Slot::Good { generation, .. } => Some(*generation),
            _ => None,
        }
    }
}

/// Reads the copy at `at`. What cannot be read is bad: the other copy may be good.
pub(crate) fn read(file: &dyn File, at: u64, format: &Format) -> Slot<Vec<u8>> {
    let mut front = [0; FRONT];
    match read_all_at(file, &mut front, at) {
        Ok(FRONT) => {}
        Ok(got) => return if front.iter().take(got).all(|&byte| byte == 0) { Slot::Blank } else { Slot::Bad },
        Err(_) => return Slot::Bad,
    }
    if front == [0; FRONT] {
        return Slot::Blank;
    }
    let length = u64::from(u32::from_le_bytes([front[12], front[13], front[14], front[15]]));
    // The file's own length bounds what is asked for; a length beyond it is damage.
    let there = file.len().unwrap_or(0).saturating_sub(at);
    if front[..8] != format.magic || !(FRAME..=MOST_BYTES.min(there)).contains(&length) {
        return Slot::Bad;
    }
    let mut copy = vec![0; length as usize];
    match read_all_at(file, &mut copy, at) {
        Ok(got) if got == copy.len() => open(copy, format),
        _ => Slot::Bad,
    }
}

fn open(mut copy: Vec<u8>, format: &Format) -> Slot<Vec<u8>> {
    let Some((covered, crc)) = copy.split_last_chunk::<4>() else { return Slot::Bad };
    if crc32c::crc32c(covered) != u32::from_le_bytes(*crc) {
        return Slot::Bad;
    }
    let Some(front) = copy.first_chunk::<FRONT>() else { return Slot::Bad };
    let (major, minor) = (u16::from_le_bytes([front[8], front[9]]), u16::from_le_bytes([front[10], front[11]]));
    if major != format.major {
        return Slot::Unknown { found: format!("{major}.{minor}") };
    }
    let Some(generation) = front.last_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else { return Slot::Bad };
    copy.truncate(copy.len().saturating_sub(4));
    copy.drain(..FRONT);
    Slot::Good { generation, body: copy }
}

/// Whether something of this kind was once written at `at`, whole or not.
pub(crate) fn has_magic(file: &dyn File, at: u64, format: &Format) -> io::Result<bool> {
    let mut magic = [0; 8];
    // A file that was cut in it counts: so a crash may leave it.
    let got = read_all_at(file, &mut magic, at)?;
    Ok(got > 0 && magic.get(..got).is_some_and(|there| format.magic.starts_with(there)))
}

/// A whole copy.
pub(crate) fn seal(format: &Format, generation: u64, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = (body.len() as u64).saturating_add(FRAME);
    let short = u32::try_from(length).ok().filter(|_| length <= MOST_BYTES);
    let short = short.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too large to be kept in one slot"))?;
    let mut copy = Vec::with_capacity(length as usize);
    copy.extend_from_slice(&format.magic);
    copy.extend_from_slice(&format.major.to_le_bytes());
    copy.extend_from_slice(&format.minor.to_le_bytes());
    copy.extend_from_slice(&short.to_le_bytes());
    copy.extend_from_slice(&generation.to_le_bytes());
    copy.extend_from_slice(body);
    let crc = crc32c::crc32c(&copy);
    copy.extend_from_slice(&crc.to_le_bytes());
    Ok(copy)
}

/// Where one copy lives: from `at` on, `capacity` bytes that were written before.
pub(crate) struct Area {
    pub(crate) file: Arc<dyn File>,
    pub(crate) at: u64,
    pub(crate) capacity: u64,
    /// Of the good copy in it, if there is one.
    pub(crate) generation: Option<u64>,
}

impl Area {
    /// Zeros up to `capacity`, synced: from then on writing there needs no space.
    fn grow(&mut self, capacity: u64) -> io::Result<()> {
        if capacity <= self.capacity {
            return Ok(());
        }
        let zeros = vec![0; PIECE];
        let mut at = self.capacity;
        while at < capacity {
            let piece = usize::try_from(capacity.saturating_sub(at)).map_or(PIECE, |left| left.min(PIECE));
            write_all_at(&*self.file, zeros.get(..piece).unwrap_or_default(), self.at.saturating_add(at))?;
            at = at.saturating_add(piece as u64);
        }
        self.file.sync()?;
        self.capacity = capacity;
        Ok(())
    }
}

/// Both copies and whose turn it is.
pub(crate) struct Twin {
    format: Format,
    a: Area,
    b: Area,
    /// The highest one in use.
    generation: u64,
    b_is_next: bool,
}

impl Twin {
    pub(crate) fn new(format: Format, a: Area, b: Area) -> Twin {
        let generation = a.generation.max(b.generation).unwrap_or(0);
        // None is below any generation: what is not good is written first.
        let b_is_next = b.generation < a.generation;
        Twin { format, a, b, generation, b_is_next }
    }

    /// Bytes that an area holds without growing.
    pub(crate) fn capacity(&self) -> u64 {
        self.a.capacity.min(self.b.capacity)
    }

    /// Bytes of body that fit without growing.
    pub(crate) fn room(&self) -> u64 {
        self.capacity().saturating_sub(FRAME)
    }

    /// Makes both areas at least this large.
    pub(crate) fn grow(&mut self, capacity: u64) -> io::Result<()> {
        self.a.grow(capacity)?;
        self.b.grow(capacity)
    }

    /// Makes room for a body of this size, and some more, so that growing stays rare.
    pub(crate) fn grow_for(&mut self, body: u64) -> io::Result<()> {
        let wanted = body.saturating_add(FRAME).next_multiple_of(PIECE as u64);
        if wanted > MOST_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too large to be kept in one slot"));
        }
        self.grow(wanted.saturating_add(wanted / 2).min(MOST_BYTES)).or_else(|_| self.grow(wanted))
    }

    /// Writes the older copy, synced. If the other one is not good it is written, too.
    pub(crate) fn save(&mut self, body: &[u8]) -> io::Result<()> {
        self.write_next(body)?;
        if self.next().generation.is_none() { self.write_next(body) } else { Ok(()) }
    }

    /// Writes one after the other.
    pub(crate) fn save_both(&mut self, body: &[u8]) -> io::Result<()> {
        self.write_next(body)?;
        self.write_next(body)
    }

    fn next(&mut self) -> &mut Area {
        if self.b_is_next { &mut self.b } else { &mut self.a }
    }

    fn write_next(&mut self, body: &[u8]) -> io::Result<()> {
        let generation = self.generation.saturating_add(1);
        let copy = seal(&self.format, generation, body)?;
        // After a failure it stays the next one: the other copy is the only one that is known to be good. All of it
        // is written again then, so the sync that failed does not matter.
        self.generation = generation;
        let area = self.next();
        area.generation = None;
        write_all_at(&*area.file, &copy, area.at)?;
        area.file.sync()?;
        area.generation = Some(generation);
        self.b_is_next = !self.b_is_next;
        Ok(())
    }
}
