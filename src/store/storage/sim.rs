//! A disk in memory that loses power, fills up and fails by script: [`SimStorage`].
//!
//! What a crash may leave is in `content` and `disk`. Everything follows from seeds and from the order of calls, so a
//! seed and a call number replay a run. [`at_every_call`] runs a workload against a crash after each of its calls. It
//! is stricter than most file systems: nothing is ordered unless it was synced.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, LOCK, Locked, Open, Space, Storage, plain_name};
use content::{Content, SECTOR};
use disk::Disk;

pub(crate) mod chance;
mod content;
mod disk;
#[cfg(test)]
mod tests;

pub(crate) use chance::Chance;

/// What a scripted fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Every call that may change the disk: all but `List`, `Open`, `Read`, `Lock` and `Space`.
    Any,
    List,
    /// Of an existing file.
    Open,
    /// Of a new one.
    Create,
    Read,
    Write,
    Sync,
    SetLen,
    Allocate,
    Rename,
    Remove,
    SyncDir,
    Lock,
    Space,
    Subdir,
}

impl Call {
    fn changes(self) -> bool {
        !matches!(self, Call::List | Call::Open | Call::Read | Call::Lock | Call::Space)
    }
}

/// How a scripted fault looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO; nothing is done.
    Io,
    /// ENOSPC; nothing is done.
    Full,
    /// EINTR; nothing is done.
    Interrupted,
    /// A write takes, a read gives only so many bytes.
    Short(usize),
    /// Of a sync (of a file or a directory): EIO. What was not synced is dropped: it is read back until the crash,
    /// and a later sync succeeds without saving it.
    DropUnsynced,
}

struct Script {
    call: Call,
    name: String,
    left: u64,
    always: bool,
    fault: Fault,
}

struct State {
    disk: Disk,
    chance: Chance,
    calls: u64,
    stop: u64,
    stopped: bool,
    scripts: Vec<Script>,
    short_writes: bool,
    /// The disk before each call that may change it, if somebody wants to see.
    film: Option<Vec<Disk>>,
}

type Hook = Arc<dyn Fn(&str) + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before_sync(&self, name: &str) {
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(name);
        }
    }
}

impl State {
    fn stop_here(&mut self) -> io::Result<()> {
        if self.calls < self.stop {
            return Ok(());
        }
        self.stopped = true;
        Err(io::Error::other("the power is gone (simulated)"))
    }

    /// Counts a call and looks whether a script is about it; says at how many bytes it ends.
    fn enter(&mut self, call: Call, name: &str) -> io::Result<usize> {
        match self.fault(call, name)? {
            None => Ok(usize::MAX),
            Some(Fault::Short(bytes)) => Ok(bytes),
            Some(Fault::Io | Fault::DropUnsynced) => Err(io_error()),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn fault(&mut self, call: Call, name: &str) -> io::Result<Option<Fault>> {
        self.stop_here()?;
        if call.changes() {
            self.calls += 1;
            if let Some(film) = &mut self.film {
                film.push(self.disk.clone());
            }
        }
        let mut fault = None;
        self.scripts.retain_mut(|script| {
            let about = script.call == call || (script.call == Call::Any && call.changes());
            if !about || !name.contains(&script.name) {
                return true;
            }
            script.left = script.left.saturating_sub(1);
            if script.left > 0 || fault.is_some() {
                return true;
            }
            fault = Some(script.fault);
            script.always
        });
        Ok(fault)
    }
}

fn io_error() -> io::Error {
    io::Error::other("input/output error (simulated)")
}

/// A directory on a simulated disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimStorage {
    shared: Arc<Shared>,
    dir: usize,
    path: PathBuf,
}

impl SimStorage {
    /// An empty disk; everything that is up to chance follows from `seed`.
    pub(crate) fn new(seed: u64) -> SimStorage {
        SimStorage::with(Disk::new(), Chance::new(seed))
    }

    fn with(disk: Disk, chance: Chance) -> SimStorage {
        let state = State {
            disk,
            chance,
            calls: 0,
            stop: u64::MAX,
            stopped: false,
            scripts: Vec::new(),
            short_writes: false,
            film: None,
        };
        let shared = Shared { state: Mutex::new(state), hook: Mutex::new(None) };
        SimStorage { shared: Arc::new(shared), dir: 0, path: PathBuf::from("/simulated") }
    }

    /// This directory, for those who take any.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The power goes: the whole disk as it is found after it, by `seed`. This one stays as it is, apart. Scripts
    /// stay behind; quota and bad places do not.
    pub(crate) fn crash(&self, seed: u64) -> SimStorage {
        let mut chance = Chance::new(seed);
        let disk = self.shared.state().disk.crash(&mut chance);
        SimStorage::with(disk, chance)
    }

    /// The process dies (kill -9), the system does not: everything written is there, synced or not, and the lock is
    /// free. This one stays as it is, apart.
    pub(crate) fn kill(&self) -> SimStorage {
        let mut state = self.shared.state();
        let chance = state.chance.fork();
        SimStorage::with(state.disk.kill(), chance)
    }

    /// How many calls that may change the disk (see [`Call::Any`]) there were.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.state().calls
    }

    /// Once [`calls`](Self::calls) is at `n`, every call of any kind fails and does nothing: the power is gone.
    pub(crate) fn stop_after(&self, n: u64) {
        self.shared.state().stop = n;
    }

    /// Whether a call was made after the stop.
    pub(crate) fn stopped(&self) -> bool {
        self.shared.state().stopped
    }

    /// From now on the disk is kept as it is before each call that may change it.
    pub(crate) fn film(&self) {
        self.shared.state().film = Some(Vec::new());
    }

    /// What [`film`](Self::film) saw, each a disk of its own: as it was before the first call, between two calls, and
    /// as it is now. A crash of one is the crash after as many calls as are before it.
    pub(crate) fn take_film(&self) -> Vec<SimStorage> {
        let mut state = self.shared.state();
        let mut film = state.film.take().unwrap_or_default();
        film.push(state.disk.clone());
        film.into_iter().map(|disk| SimStorage::with(disk, state.chance.fork())).collect()
    }

    /// Whether every crash leaves the same: all is synced.
    pub(crate) fn is_safe(&self) -> bool {
        self.shared.state().disk.is_safe()
    }

    /// Every file of the whole disk, its directory in front of its name, and what is in it. No call.
    pub(crate) fn images(&self) -> Vec<(String, Arc<Vec<u8>>)> {
        self.shared.state().disk.images()
    }

    /// The `nth` (from 1) call of this kind from now on, on a file whose name contains `name`, fails so; once. Files
    /// of a subdirectory have its name and a slash in front; a directory's sync has what its files have in front.
    pub(crate) fn script(&self, call: Call, name: &str, nth: u64, fault: Fault) {
        self.add_script(call, name, nth, fault, false);
    }

    /// The same, and so does every later one, until [`heal`](Self::heal).
    pub(crate) fn script_always(&self, call: Call, name: &str, nth: u64, fault: Fault) {
        self.add_script(call, name, nth, fault, true);
    }

    fn add_script(&self, call: Call, name: &str, nth: u64, fault: Fault, always: bool) {
        self.shared.state().scripts.push(Script { call, name: name.to_owned(), left: nth, always, fault });
    }

    /// Forgets all scripts, the quota and the short writes.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.state();
        state.scripts.clear();
        state.short_writes = false;
        state.disk.quota = None;
    }

    /// From now on each write takes a random part of what it is given, at least one byte.
    pub(crate) fn short_writes(&self, on: bool) {
        self.shared.state().short_writes = on;
    }

    /// The size of the disk in bytes; None: as good as endless.
    pub(crate) fn quota(&self, bytes: Option<u64>) {
        self.shared.state().disk.quota = bytes;
    }

    /// Bytes in use on the whole disk, in sectors. Files without a name count while they are open, holes do not.
    pub(crate) fn used(&self) -> u64 {
        (self.shared.state().disk.used() * SECTOR) as u64
    }

    /// Turns one bit over, on the disk and in memory. False: the file has no such bit.
    pub(crate) fn flip(&self, name: &str, bit: u64) -> bool {
        self.content(name, |content| content.flip(bit)).unwrap_or(false)
    }

    /// Reading any byte of this range fails with EIO from now on.
    pub(crate) fn bad_range(&self, name: &str, range: Range<u64>) {
        self.content(name, |content| content.bad_range(range));
    }

    /// Called before each sync with the file's name (of a directory: as in [`script`](Self::script)), without any
    /// lock: it may wait.
    pub(crate) fn on_sync(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// A file's bytes as a reader sees them now. No call.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.content(name, |content| content.bytes().to_vec())
    }

    /// Makes or replaces a file, durable at once. No call.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.shared.state();
        let disk = &mut state.disk;
        disk.unlink(self.dir, name);
        let file = disk.add(self.dir, name, bytes);
        disk.dirs[self.dir].put(name, file);
    }

    /// The names of the files, sorted. No call.
    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.state().disk.dirs[self.dir].list()
    }

    /// A directory in this one, if it was made. No call.
    pub(crate) fn sub(&self, name: &str) -> Option<SimStorage> {
        let dir = *self.shared.state().disk.dirs[self.dir].subs.get(name)?;
        Some(SimStorage { shared: self.shared.clone(), dir, path: self.path.join(name) })
    }

    fn content<R>(&self, name: &str, look: impl FnOnce(&mut Content) -> R) -> Option<R> {
        let mut state = self.shared.state();
        let file = state.disk.dirs[self.dir].get(name)?;
        Some(look(&mut state.disk.files[file]))
    }

    /// Counts a call on a name of this directory, and lends the state.
    fn enter(&self, call: Call, name: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.shared.state();
        let name = format!("{}{name}", state.disk.dirs[self.dir].prefix);
        state.enter(call, &name)?;
        Ok(state)
    }
}

impl Storage for SimStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.enter(Call::List, "")?.disk.dirs[self.dir].list())
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        plain_name(name)?;
        let new = how == Open::New;
        let mut state = self.enter(if new { Call::Create } else { Call::Open }, name)?;
        let disk = &mut state.disk;
        let file = match (disk.dirs[self.dir].get(name), new) {
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, false) => return Err(io::ErrorKind::NotFound.into()),
            (Some(file), false) => file,
            (None, true) => {
                let file = disk.add(self.dir, name, &[]);
                disk.dirs[self.dir].make(name, file);
                file
            }
        };
        disk.files[file].handles += 1;
        Ok(Arc::new(SimFile { shared: self.shared.clone(), file, writable: how != Open::Read }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        plain_name(from)?;
        plain_name(to)?;
        let mut state = self.enter(Call::Rename, from)?;
        let disk = &mut state.disk;
        let file = disk.dirs[self.dir].get(from).ok_or(io::ErrorKind::NotFound)?;
        if from == to {
            return Ok(());
        }
        disk.unlink(self.dir, to);
        disk.dirs[self.dir].rename(from, to, file);
        disk.files[file].name = format!("{}{to}", disk.dirs[self.dir].prefix);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        plain_name(name)?;
        let mut state = self.enter(Call::Remove, name)?;
        let disk = &mut state.disk;
        let file = disk.dirs[self.dir].get(name).ok_or(io::ErrorKind::NotFound)?;
        disk.unlink(self.dir, name);
        disk.dirs[self.dir].remove(name, file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let prefix = self.shared.state().disk.dirs[self.dir].prefix.clone();
        self.shared.before_sync(&prefix);
        let mut state = self.shared.state();
        let fault = state.fault(Call::SyncDir, &prefix)?;
        match fault {
            None | Some(Fault::Short(_)) => {
                state.disk.sync_dir(self.dir);
                return Ok(());
            }
            Some(Fault::DropUnsynced) => state.disk.dirs[self.dir].drop_unsynced(),
            Some(_) => {}
        }
        Err(io_error())
    }

    fn lock(&self) -> io::Result<Locked> {
        let mut state = self.enter(Call::Lock, LOCK)?;
        let disk = &mut state.disk;
        if std::mem::replace(&mut disk.dirs[self.dir].locked, true) {
            return Ok(Locked::Held { pid: Some(std::process::id()) });
        }
        if disk.dirs[self.dir].get(LOCK).is_none() {
            let file = disk.add(self.dir, LOCK, &[]);
            disk.dirs[self.dir].make(LOCK, file);
        }
        Ok(Locked::Got(Box::new(SimLock { shared: self.shared.clone(), dir: self.dir })))
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.enter(Call::Space, "")?;
        let total = state.disk.quota.unwrap_or(1 << 40);
        Ok(Space { free: total.saturating_sub((state.disk.used() * SECTOR) as u64), total })
    }

    fn subdir(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        plain_name(name)?;
        let mut state = self.enter(Call::Subdir, name)?;
        let disk = &mut state.disk;
        if disk.dirs[self.dir].get(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let dir = disk.subdir(self.dir, name);
        Ok(Arc::new(SimStorage { shared: self.shared.clone(), dir, path: self.path.join(name) }))
    }

    fn rename_into(&self, from: &str, subdir: &str, to: &str) -> io::Result<()> {
        plain_name(from)?;
        plain_name(subdir)?;
        plain_name(to)?;
        let mut state = self.enter(Call::Rename, from)?;
        let disk = &mut state.disk;
        let file = disk.dirs[self.dir].get(from).ok_or(io::ErrorKind::NotFound)?;
        let target = disk.subdir(self.dir, subdir);
        disk.unlink(target, to);
        disk.dirs[self.dir].remove(from, file);
        disk.dirs[target].make(to, file);
        disk.files[file].name = format!("{}{to}", disk.dirs[target].prefix);
        disk.sync_dir(target);
        disk.sync_dir(self.dir);
        Ok(())
    }
}

struct SimLock {
    shared: Arc<Shared>,
    dir: usize,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.state().disk.dirs[self.dir].locked = false;
    }
}

struct SimFile {
    shared: Arc<Shared>,
    file: usize,
    writable: bool,
}

impl SimFile {
    fn name(&self) -> String {
        self.shared.state().disk.files[self.file].name.clone()
    }

    /// Counts a call on this file, and lends the state and the most bytes that the call may move.
    fn enter(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, usize)> {
        if call.changes() && call != Call::Sync && !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let name = self.name();
        let mut state = self.shared.state();
        let most = state.enter(call, &name)?;
        Ok((state, most))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.disk.files[self.file].handles -= 1;
    }
}

fn position(offset: u64) -> io::Result<usize> {
    // No test needs more; a wild offset must not take the memory of the machine.
    match usize::try_from(offset) {
        Ok(offset) if offset <= 1 << 32 => Ok(offset),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.shared.state();
        state.stop_here()?;
        Ok(state.disk.files[self.file].bytes().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (state, most) = self.enter(Call::Read)?;
        let size = buf.len().min(most);
        state.disk.files[self.file].read(&mut buf[..size], offset).ok_or_else(io_error)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, most) = self.enter(Call::Write)?;
        let offset = position(offset)?;
        let mut size = buf.len().min(most);
        if state.short_writes && size > 1 {
            size = 1 + state.chance.below(size);
        }
        let room = state.disk.room();
        let written = state.disk.files[self.file].write(&buf[..size], offset, room);
        if written == 0 && size > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(written) }
    }

    fn sync(&self) -> io::Result<()> {
        let name = self.name();
        self.shared.before_sync(&name);
        let mut state = self.shared.state();
        let fault = state.fault(Call::Sync, &name)?;
        let content = &mut state.disk.files[self.file];
        match fault {
            None | Some(Fault::Short(_)) => {
                content.sync();
                Ok(())
            }
            Some(Fault::DropUnsynced) => {
                content.drop_unsynced();
                Err(io_error())
            }
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::Io) => Err(io_error()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, _) = self.enter(Call::SetLen)?;
        state.disk.files[self.file].set_len(position(len)?);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let (mut state, _) = self.enter(Call::Allocate)?;
        let room = state.disk.room();
        let allocated = state.disk.files[self.file].allocate(position(len)?, room);
        if allocated { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

/// Says on a panic with what to repeat the run.
struct Replay(u64, Option<u64>);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("power cut after call {}, seed {:?}", self.0, self.1);
        }
    }
}

/// Runs `work` on copies of `start` with the power gone after each of its calls in turn (and once to its end), and
/// gives each copy to `check`, once per seed, as a crash leaves it. `work` says what it knows was promised.
pub(crate) fn at_every_call<P>(
    start: &SimStorage,
    seeds: Range<u64>,
    work: impl Fn(&SimStorage) -> P,
    check: impl Fn(SimStorage, &P),
) {
    for n in 0.. {
        let sim = start.kill();
        sim.stop_after(n);
        let mut replay = Replay(n, None);
        let promised = work(&sim);
        for seed in seeds.clone() {
            replay.1 = Some(seed);
            check(sim.crash(seed ^ n.rotate_left(32)), &promised);
        }
        if !sim.stopped() {
            break;
        }
    }
}
