//! A holder's cursor on disk: how far it got in each spool, in one file with two copies written in turn.
//!
//! For applications that keep no token of their own. It may use `storage` and the registry's way of writing two
//! copies (`names::twin`). The body of a copy is: number of spools u32, then per spool its id (16), the number up to
//! which everything is done (u64), and the done ranges above it as in a registry. Absent: when to save; that is the
//! holder's business. Next: `names::twin`.
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

use std::fmt;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::OpenError;
use crate::message::SpoolId;
use crate::store::names::slot::{Fields, put_ranges, put_u32, put_u64};
use crate::store::names::twin::{self, Area, Format, Slot, Twin};
use crate::store::storage::File;
use crate::store::storage::real::RealDir;

const FORMAT: Format = Format { magic: *b"SPOOLCUR", major: 1, minor: 0 };
/// Where the second copy begins, and so the most that the first one can have. The file has a hole between them.
const AREA: u64 = 1 << 20;

/// How far a holder is in one spool: everything up to the number is done, and these ranges above it (inclusive,
/// ascending).
pub(crate) type Done = (SpoolId, u64, Vec<(u64, u64)>);

/// The file, open and locked; the lock ends with it.
pub(crate) struct FileCursor {
    twin: Twin,
    /// What it is about, for errors.
    path: String,
}

impl fmt::Debug for FileCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCursor").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileCursor {
    /// Opens the file at `path`, made with its directory if it is missing, and reads what was saved last.
    ///
    /// # Errors
    /// With the path in their text: what the operating system says; [`io::ErrorKind::ResourceBusy`] if another holder
    /// has it open, here or in another process; [`io::ErrorKind::InvalidData`] for a file that is something else, or
    /// of a newer version. A cursor file with both copies damaged is an empty one: what was done may come again.
    pub(crate) fn open(path: &Path) -> io::Result<(FileCursor, Vec<Done>)> {
        let about = |e: io::Error| io::Error::new(e.kind(), format!("cursor file {}: {e}", path.display()));
        let file = make(path).map_err(about)?;
        let (twin, state) = start(Arc::new(file)).map_err(about)?;
        Ok((FileCursor { twin, path: path.display().to_string() }, state))
    }

    /// Replaces what is saved; kept through a power cut when it returns. After an error the former state is still
    /// there. Ranges that find no room are left out: their records may come again.
    pub(crate) fn save(&mut self, state: &[Done]) -> io::Result<()> {
        save(&mut self.twin, state).map_err(|e| io::Error::new(e.kind(), format!("cursor file {}: {e}", self.path)))
    }
}

/// The file at `path`, locked, its name durable.
fn make(path: &Path) -> io::Result<Whole> {
    let path = std::path::absolute(path)?;
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Only for the directory's name and syncs; a network file system is the application's choice here.
    let dir = RealDir::open(parent, true, true).map_err(|e| match e {
        OpenError::Path { source, .. } => source,
        other => io::Error::other(other.to_string()),
    })?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let why = "another holder has it open; give each holder a cursor file of its own";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
        Err(TryLockError::Error(e)) => return Err(e),
    }
    dir.sync_dir()?;
    Ok(Whole(Mutex::new(file)))
}

/// Reads both copies of `file`.
fn start(file: Arc<dyn File>) -> io::Result<(Twin, Vec<Done>)> {
    let slots = (copy(&*file, 0)?, copy(&*file, AREA)?);
    let (first, second) = (slots.0.generation(), slots.1.generation());
    let state = match slots {
        (Slot::Good { body, .. }, _) if first >= second => body,
        (_, Slot::Good { body, .. }) => body,
        (Slot::Blank, Slot::Blank) => Vec::new(),
        _ if is_ours(&*file)? => Vec::new(),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a cursor file")),
    };
    let area = |at, generation| Area { file: file.clone(), at, capacity: AREA, generation };
    Ok((Twin::new(FORMAT, area(0, first), area(AREA, second)), state))
}

fn copy(file: &dyn File, at: u64) -> io::Result<Slot<Vec<Done>>> {
    Ok(match twin::read(file, at, &FORMAT) {
        Slot::Good { generation, body } => match parse(&body) {
            Some(body) => Slot::Good { generation, body },
            None => Slot::Bad,
        },
        Slot::Unknown { found } => {
            let why = format!("it has format {found}, this version knows up to {FORMAT}; use a newer version");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Slot::Bad => Slot::Bad,
        Slot::Blank => Slot::Blank,
    })
}

/// Whether a damaged file was once a cursor file: only such a one may be written over.
fn is_ours(file: &dyn File) -> io::Result<bool> {
    Ok(twin::has_magic(file, 0, &FORMAT)? || twin::has_magic(file, AREA, &FORMAT)?)
}

fn save(twin: &mut Twin, state: &[Done]) -> io::Result<()> {
    let body = encode(state, true);
    if body.len() as u64 <= twin.room() {
        return twin.save(&body);
    }
    let body = encode(state, false);
    if body.len() as u64 > twin.room() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many spools for one file"));
    }
    twin.save(&body)
}

fn encode(state: &[Done], ranges: bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, u32::try_from(state.len()).unwrap_or(u32::MAX));
    for (spool, done, above) in state {
        out.extend_from_slice(&spool.to_bytes());
        put_u64(&mut out, *done);
        put_ranges(&mut out, *done, if ranges { above } else { &[] });
    }
    out
}

fn parse(body: &[u8]) -> Option<Vec<Done>> {
    let mut body = Fields(body);
    let mut state = Vec::new();
    for _ in 0..body.u32()? {
        let spool = SpoolId::from_bytes(body.array()?);
        let done = body.u64()?;
        state.push((spool, done, body.ranges(done)?));
    }
    Some(state)
}

/// The file that is locked, too: on some systems a lock shuts out every other handle, so this one does all the work.
struct Whole(Mutex<fs::File>);

impl Drop for Whole {
    /// Said, not left to the file's end: a child of this process that is being born has the file open, too.
    fn drop(&mut self) {
        let _ = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).unlock();
    }
}

impl Whole {
    fn at<T>(&self, offset: u64, work: impl FnOnce(&mut fs::File) -> io::Result<T>) -> io::Result<T> {
        use std::io::Seek;

        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(io::SeekFrom::Start(offset))?;
        work(&mut file)
    }
}

impl File for Whole {
    fn len(&self) -> io::Result<u64> {
        self.at(0, |file| Ok(file.metadata()?.len()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.at(offset, |file| io::Read::read(file, buf))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.at(offset, |file| io::Write::write(file, buf))
    }

    fn sync(&self) -> io::Result<()> {
        self.at(0, |file| file.sync_data())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.at(0, |file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.at(0, |file| if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) })
    }
}

#[cfg(test)]
mod tests;
