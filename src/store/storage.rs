//! The seam to the operating system: a directory ([`Storage`]) and its files ([`File`]), real or simulated.
//!
//! `real` is the operating system, `sim` a disk in memory that crashes, fills up and fails by script, for tests.
//! Everything blocks, everything is positional, a directory is flat. What a sync promises is said once, at
//! [`File::sync`] and [`Storage::sync_dir`]; whoever adds an implementation keeps to it. Here may be used: std and
//! rustix. Absent: the format, numbers, retries of a failed sync. Next: `segment`.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) mod real;
#[cfg(test)]
pub(crate) mod sim;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A file that must not exist yet, to read and write.
    New,
}

/// The disk under a directory, in bytes. Both are `u64::MAX` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// What an ordinary user may still write.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// What came of [`Storage::lock`].
pub(crate) enum Locked {
    /// Ours, for as long as this value lives.
    Got(Box<dyn Any + Send + Sync>),
    /// Somebody else's, in another process or in this one.
    Held {
        /// Its process, where it is known.
        pid: Option<u32>,
    },
}

/// The file that the lock is on; it holds the process id and the start time of its holder.
pub(crate) const LOCK: &str = "LOCK";

/// One directory. Names are plain file names, without any separator.
pub(crate) trait Storage: Send + Sync {
    /// For messages.
    fn path(&self) -> &Path;

    /// The names of the files (not of directories), in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file. A new one has no durable name before [`Storage::sync_dir`].
    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in one step; a file that had this name is gone. Open handles stay good.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file's name away. Open handles stay good.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// When it returns, every name made, changed or taken away before is kept through a power cut. What was not
    /// synced may be kept or lost, one by one.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the exclusive lock of this directory, without waiting.
    fn lock(&self) -> io::Result<Locked>;

    /// How full the disk is.
    fn space(&self) -> io::Result<Space>;

    /// A directory in this one, made if it is missing; its name is durable when this returns.
    fn subdir(&self, name: &str) -> io::Result<Arc<dyn Storage>>;

    /// Moves a file into a directory in this one, made if it is missing. Both are synced when this returns.
    fn rename_into(&self, from: &str, subdir: &str, to: &str) -> io::Result<()>;
}

/// One open file.
pub(crate) trait File: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads some bytes from `offset` on; 0 at and beyond the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `buf` at `offset`, growing the file if need be; says how many bytes.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// When it returns, everything written before, and the length, is kept through a power cut. After an error all
    /// that was written since the last good sync is in doubt, and a later sync that succeeds proves nothing: it is
    /// never tried again.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file, or grows it by zeros that need no space yet.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the file at least `len` bytes long (zeros), with space on the disk behind them where the system can
    /// promise it. Never shortens.
    fn allocate(&self, len: u64) -> io::Result<()>;
}

/// Reads until `buf` is full or the file ends; says how many bytes.
pub(crate) fn read_all_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `buf`; goes on after short writes and interruptions. After an error any part may be written.
pub(crate) fn write_all_at(file: &dyn File, buf: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
        match file.write_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Refuses what is no plain file name.
fn plain_name(name: &str) -> io::Result<()> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(part)), None) if part == name => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name")),
    }
}

#[cfg(test)]
mod tests;
