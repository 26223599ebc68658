//! Bad bytes, kept where they are never read again: for people who want to look.

use std::io;
use std::sync::Arc;

use super::window::{PIECE, Window};
use crate::store::storage::{File, Open, Storage, write_all_at};

/// The directory for copies of bad ranges.
const DAMAGED: &str = "damaged";
/// What a whole bad file's name gets at its end where there is no room for that directory: it is a segment no more.
const SUFFIX: &str = ".damaged";

/// Copies a range to `damaged/`, synced. On a full disk there is no copy: that must not keep a spool from opening.
pub(super) fn copy(
    storage: &dyn Storage,
    name: &str,
    window: &mut Window<'_>,
    from: u64,
    until: u64,
) -> io::Result<()> {
    match try_copy(storage, name, window, from, until) {
        Err(e) if is_full(&e) => Ok(()),
        result => result,
    }
}

fn try_copy(storage: &dyn Storage, name: &str, window: &mut Window<'_>, from: u64, until: u64) -> io::Result<()> {
    let directory = storage.subdir(DAMAGED)?;
    let copy = open_empty(&*directory, &format!("{name}-{from}"))?;
    let mut at = from;
    while at < until {
        let bytes = window.at(at, PIECE)?;
        let left = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        if bytes.is_empty() {
            break;
        }
        write_all_at(&*copy, bytes, at.saturating_sub(from))?;
        at = at.saturating_add(bytes.len() as u64);
    }
    copy.sync()?;
    directory.sync_dir()
}

/// A former copy is written again: it may be of a recovery that was interrupted.
fn open_empty(directory: &dyn Storage, name: &str) -> io::Result<Arc<dyn File>> {
    match directory.open(name, Open::New) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let file = directory.open(name, Open::Write)?;
            file.set_len(0)?;
            Ok(file)
        }
        result => result,
    }
}

/// Takes a whole file out of the log, under its own name.
pub(super) fn take_out(storage: &dyn Storage, name: &str) -> io::Result<()> {
    match storage.rename_into(name, DAMAGED, name) {
        Err(e) if is_full(&e) => storage.rename(name, &format!("{name}{SUFFIX}")),
        result => result,
    }
}

/// No space, or none for us.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
