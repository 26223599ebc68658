//! A disk in memory that loses power, fills up and fails by script: [`SimStorage`].
//! (Being built: signatures.)
#![allow(unused_variables, clippy::todo)]

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{File, Locked, Open, Space, Storage};

/// What a scripted fault is about. `Any` is every call that may change the disk: all but List, Read, Lock, Space and
/// opening an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
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

/// How a scripted fault looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
    /// EINTR, for reads and writes.
    Interrupted,
    /// A write takes (a read gives) only so many bytes.
    Short(usize),
    /// Of a sync: EIO; what was not synced is dropped (still to be read back until the crash), the next sync
    /// succeeds and saves nothing of it.
    DropUnsynced,
}

/// A directory on a simulated disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimStorage {}

impl SimStorage {
    /// An empty disk; everything that is up to chance follows from `seed`.
    pub(crate) fn new(seed: u64) -> SimStorage {
        todo!()
    }

    /// The power goes: what is found after it, as `seed` has it. This one stays as it is.
    pub(crate) fn crash(&self, seed: u64) -> SimStorage {
        todo!()
    }

    /// The process dies (kill -9), the system does not: everything written is there, the lock is free. This one
    /// stays as it is, apart.
    pub(crate) fn kill(&self) -> SimStorage {
        todo!()
    }

    /// How many calls that may change the disk (see [`Call::Any`]) there were.
    pub(crate) fn calls(&self) -> u64 {
        todo!()
    }

    /// Once `calls()` is at `n`, every call of any kind fails and does nothing, as if the power was gone.
    pub(crate) fn stop_after(&self, n: u64) {
        todo!()
    }

    /// Whether a call was made after the stop.
    pub(crate) fn stopped(&self) -> bool {
        todo!()
    }

    /// The `nth` (from 1) call from now on of this kind on a file whose name contains `name` fails so, once.
    pub(crate) fn script(&self, call: Call, name: &str, nth: u64, fault: Fault) {
        todo!()
    }

    /// The same, and every later one too, until `heal`.
    pub(crate) fn script_always(&self, call: Call, name: &str, nth: u64, fault: Fault) {
        todo!()
    }

    /// Forgets all scripts, the quota and `short_writes`.
    pub(crate) fn heal(&self) {
        todo!()
    }

    /// From now on each write takes a random part of what it is given, at least one byte.
    pub(crate) fn short_writes(&self, on: bool) {
        todo!()
    }

    /// The size of the disk in bytes (None: as good as endless).
    pub(crate) fn quota(&self, bytes: Option<u64>) {
        todo!()
    }

    /// Bytes in use, in sectors of 512; of the whole disk.
    pub(crate) fn used(&self) -> u64 {
        todo!()
    }

    /// Turns one bit over, on the disk and in memory. False: the file has no such bit.
    pub(crate) fn flip(&self, name: &str, bit: u64) -> bool {
        todo!()
    }

    /// Reading any byte of this range fails with EIO from now on.
    pub(crate) fn bad_range(&self, name: &str, range: Range<u64>) {
        todo!()
    }

    /// Called before each sync with the file's name, without any lock: it may wait.
    pub(crate) fn on_sync(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        todo!()
    }

    /// A file's bytes, as a reader sees them now; no call.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        todo!()
    }

    /// Makes or replaces a file, durable at once; no call.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        todo!()
    }

    /// The names of the files, sorted; no call.
    pub(crate) fn names(&self) -> Vec<String> {
        todo!()
    }

    /// The directory in this one, if it was made; no call.
    pub(crate) fn sub(&self, name: &str) -> Option<SimStorage> {
        todo!()
    }
}

impl Storage for SimStorage {
    fn path(&self) -> &Path {
        todo!()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        todo!()
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        todo!()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        todo!()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        todo!()
    }

    fn sync_dir(&self) -> io::Result<()> {
        todo!()
    }

    fn lock(&self) -> io::Result<Locked> {
        todo!()
    }

    fn space(&self) -> io::Result<Space> {
        todo!()
    }

    fn subdir(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        todo!()
    }
}
