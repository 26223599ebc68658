//! The operating system's directory: [`RealDir`].
//!
//! Made with mode 0700, its files with 0600. The lock is the system's own on the file `LOCK`, and a list of this
//! process's open directories beside it, because on some file systems a process does not shut itself out. Network
//! file systems are told by their names in `/proc/self/mountinfo` (Linux only; elsewhere nobody is refused).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, LOCK, Locked, Open, Space, Storage, plain_name};
use crate::error::OpenError;
use crate::store::clock::{Clock, SystemClock};

/// A directory of the operating system.
#[derive(Debug)]
pub(crate) struct RealDir {
    /// Absolute, so that a change of the working directory changes nothing.
    path: PathBuf,
    /// Open all the time, so that a sync needs no new descriptor.
    #[cfg(unix)]
    handle: fs::File,
}

impl RealDir {
    /// Opens the directory at `path`; makes it, with its parents, if `create` says so.
    pub(crate) fn open(path: &Path, allow_network_fs: bool, create: bool) -> Result<Arc<dyn Storage>, OpenError> {
        let refused = |source| OpenError::Path { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(refused)?;
        if !allow_network_fs && is_on_network(&absolute) {
            return Err(OpenError::NetworkFs { path: path.to_owned() });
        }
        if create {
            make(&absolute).map_err(refused)?;
        }
        Ok(Arc::new(RealDir::at(absolute).map_err(refused)?))
    }

    fn at(path: PathBuf) -> io::Result<RealDir> {
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(RealDir {
            #[cfg(unix)]
            handle: fs::File::open(&path)?,
            path,
        })
    }

    fn file(&self, name: &str) -> io::Result<PathBuf> {
        plain_name(name)?;
        Ok(self.path.join(name))
    }
}

impl Storage for RealDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A link to a file is a file here; a link to nowhere is none. A name that is no text is not ours.
            let is_file = entry.file_type()?.is_file() || entry.path().is_file();
            if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = options();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::New => options.read(true).write(true).create_new(true),
        };
        let path = self.file(name)?;
        Ok(Arc::new(RealFile(options.open(&path).map_err(|e| in_the_way(&path, "file", e))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file(from)?, self.file(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.file(name)?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        #[cfg(unix)]
        return tolerate_unsupported(self.handle.sync_all());
        #[cfg(not(unix))]
        Ok(())
    }

    fn lock(&self) -> io::Result<Locked> {
        lock(&self.path)
    }

    fn space(&self) -> io::Result<Space> {
        #[cfg(unix)]
        {
            let disk = rustix::fs::fstatvfs(&self.handle)?;
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            Ok(Space { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
        }
        #[cfg(not(unix))]
        Ok(Space { free: u64::MAX, total: u64::MAX })
    }

    fn subdir(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        let path = self.file(name)?;
        make(&path).map_err(|e| in_the_way(&path, "directory", e))?;
        Ok(Arc::new(RealDir::at(path)?))
    }

    fn rename_into(&self, from: &str, subdir: &str, to: &str) -> io::Result<()> {
        plain_name(to)?;
        let target = self.subdir(subdir)?;
        fs::rename(self.file(from)?, target.path().join(to))?;
        // The new name first: a crash between the two may show both names, never none.
        target.sync_dir()?;
        self.sync_dir()
    }
}

/// A file of the operating system.
#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let before = self.len()?;
        if len <= before {
            return Ok(());
        }
        match reserve(&self.0, len) {
            Ok(true) => Ok(()),
            Ok(false) => self.0.set_len(len),
            Err(e) => {
                // It may have taken what there was; on a full disk others want that.
                let _ = self.0.set_len(before);
                Err(e)
            }
        }
    }
}

/// Options with the rights of our files.
fn options() -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The same error, or what to do where something of another kind has the name.
fn in_the_way(path: &Path, wanted: &str, error: io::Error) -> io::Error {
    let is = match fs::metadata(path) {
        Ok(there) if there.is_dir() => "directory",
        Ok(_) => "file",
        Err(_) => return error,
    };
    if is == wanted {
        return error;
    }
    let name = path.file_name().unwrap_or_default().display();
    let text = format!("there is a {is} called {name}, where a {wanted} has to be: move it elsewhere ({error})");
    io::Error::new(error.kind(), text)
}

/// Asks for space up to `len`, beyond the end of the file. False: this system, or this file system, cannot.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_vendor = "apple"))]
fn reserve(file: &fs::File, len: u64) -> io::Result<bool> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;

    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            // Two of them are one number on most systems, which is why this is no pattern.
            Err(e) if [Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::INVAL].contains(&e) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_vendor = "apple")))]
fn reserve(_: &fs::File, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// Makes the directory `path` and the missing ones above it, all with durable names.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    for made in missing {
        sync_parent(made)?;
    }
    Ok(())
}

/// Makes the name of `path` durable.
#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match fs::File::open(parent) {
        Ok(parent) => tolerate_unsupported(parent.sync_all()),
        // We may make names in it but not open it; then its sync is not ours to do.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(not(unix))]
fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Some file systems know no sync of a directory, and need none.
#[cfg(unix)]
fn tolerate_unsupported(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// The directories that this process has locked.
static OURS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry in [`OURS`].
struct Ours(PathBuf);

impl Drop for Ours {
    fn drop(&mut self) {
        ours().remove(&self.0);
    }
}

/// The lock of a directory. Fields drop in order: first the system's lock, then our entry.
struct Lock {
    _file: LockedFile,
    _ours: Ours,
}

struct LockedFile(fs::File);

impl Drop for LockedFile {
    fn drop(&mut self) {
        // A child process that is just being started may share the descriptor; closing ours would not be enough.
        let _ = self.0.unlock();
    }
}

fn lock(path: &Path) -> io::Result<Locked> {
    let real = fs::canonicalize(path)?;
    if !ours().insert(real.clone()) {
        return Ok(Locked::Held { pid: Some(std::process::id()) });
    }
    let entry = Ours(real);
    let path = path.join(LOCK);
    let file = options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| in_the_way(&path, "file", e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Locked::Held { pid: holder(&file) }),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    let file = LockedFile(file);
    sign(&file.0)?;
    Ok(Locked::Got(Box::new(Lock { _file: file, _ours: entry })))
}

/// Writes who we are into the lock file: process id and time of locking in seconds since 1970.
fn sign(file: &fs::File) -> io::Result<()> {
    use std::io::Write;

    let text = format!("{} {}\n", std::process::id(), SystemClock.wall() / 1_000_000);
    file.set_len(0)?;
    let mut file = file;
    match file.write_all(text.as_bytes()) {
        // On a full disk the lock is worth more than the name on it.
        Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Ok(()),
        written => written,
    }
}

/// Who wrote into the lock file, if it can be read.
fn holder(file: &fs::File) -> Option<u32> {
    use std::io::Read;

    let mut text = String::new();
    let mut start = file.take(64);
    start.read_to_string(&mut text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Whether the directory, or the first one above it that exists, is on a network file system.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_on_network(path: &Path) -> bool {
    let Some(real) = path.ancestors().find_map(|above| fs::canonicalize(above).ok()) else { return false };
    let Ok(mounts) = fs::read("/proc/self/mountinfo") else { return false };
    mounts::kind(&mounts, &real).is_some_and(mounts::is_network)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_on_network(_: &Path) -> bool {
    false
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod mounts;

#[cfg(test)]
mod tests;
