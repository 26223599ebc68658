//! A spool's directory for tools: look into it, check it, mend it. Public as `ginnel::spool`.
//!
//! [`SpoolFiles`] only reads: it takes no lock, writes nothing and works beside the process that has the spool open,
//! which may write, seal and delete segments meanwhile. [`repair`], [`drop_name`] and [`new_id`] change files, under
//! the lock. `walk` goes over all records of a directory, `records` makes messages of them, `summary` counts, `mend`
//! holds what changes something. They use the format (`record`, `segment`, `scan`) and the registry (`names`).
//! Absent: the log itself; nothing here runs while a socket works. Next: `walk`.
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

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::OpenError;
use crate::store::names::{Found, Slots};
use crate::store::storage::Storage;
use crate::store::storage::real::RealDir;

mod mend;
mod records;
mod summary;
mod values;
mod walk;

#[cfg(test)]
mod tests;

pub use super::names::NameKind;
pub use mend::{drop_name, new_id, repair};
pub use records::Records;
pub use values::{BadRecord, Listing, NameInfo, Position, RepairReport, SegmentInfo, StoredRecord, Verified};

/// Where the records are that no name could take.
const DEAD: &str = "dead";
/// Where the records are that wait for their time.
const DELAY: &str = "delay";

/// The files of a spool, to be read: also while a socket has it open, also after its process died.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ginnel::spool::{Position, SpoolFiles};
///
/// let files = SpoolFiles::open("/var/spool/orders")?;
/// for name in files.list()?.names {
///     println!("{}: {} records to go", name.name, name.lag_records);
/// }
/// for record in files.records(Position::Oldest) {
///     println!("{}", record?.sequence);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SpoolFiles {
    storage: Arc<dyn Storage>,
}

impl std::fmt::Debug for SpoolFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolFiles").field("path", &self.storage.path()).finish()
    }
}

impl SpoolFiles {
    /// Opens the spool in `dir`. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`OpenError::Path`] if the directory cannot be read or holds no spool, [`OpenError::UnknownFormat`] if a newer
    /// version wrote it.
    pub fn open(dir: impl AsRef<Path>) -> Result<SpoolFiles, OpenError> {
        let files = SpoolFiles { storage: directory(dir.as_ref())? };
        files.registry()?;
        Ok(files)
    }

    /// What is in it: segments, names and how far they are.
    ///
    /// Finished segments are counted by what their last record says, unfinished ones are read through. What a busy
    /// writer changes meanwhile may be in it or not.
    ///
    /// # Errors
    /// As [`open`](SpoolFiles::open).
    pub fn list(&self) -> Result<Listing, OpenError> {
        summary::list(&self.storage, self.registry()?)
    }

    /// Reads every record and checks it, up to the first place that is damaged.
    ///
    /// # Errors
    /// That place. Records behind it are checked by [`verify_all`](SpoolFiles::verify_all).
    pub fn verify(&self) -> Result<Verified, BadRecord> {
        let mut verified = Verified::default();
        match walk::verify(self.storage.clone(), &mut verified, &mut |bad| Err(bad)) {
            Err(bad) => Err(bad),
            Ok(()) => Ok(verified),
        }
    }

    /// Reads every record and checks it: what is good, and every place that is not.
    pub fn verify_all(&self) -> (Verified, Vec<BadRecord>) {
        let (mut verified, mut all) = (Verified::default(), Vec::new());
        let _ = walk::verify(self.storage.clone(), &mut verified, &mut |bad| {
            all.push(bad);
            Ok(())
        });
        (verified, all)
    }

    /// The records that are there, in order, from some place on; a damaged place is an error in their midst.
    ///
    /// It ends where the spool ends at that time. A record that is deleted before it is reached is left out.
    pub fn records(&self, from: Position) -> Records {
        Records::new(Some(self.storage.clone()), from)
    }

    /// The records that were delivered as often as allowed, in the order of their failure. Their numbers are those
    /// of the dead letters; [`origin`](StoredRecord::origin) is the record's former one.
    pub fn dead_letters(&self) -> Records {
        Records::new(self.below(DEAD), Position::Oldest)
    }

    /// The records that wait for their time, in the order of sending. Their numbers are those of the delayed ones.
    pub fn delayed(&self) -> Records {
        Records::waiting(self.below(DELAY))
    }

    fn registry(&self) -> Result<Found, OpenError> {
        match Slots::read(self.storage.as_ref())? {
            Found::Fresh => Err(nothing_here(self.storage.path())),
            found => Ok(found),
        }
    }

    fn below(&self, name: &str) -> Option<Arc<dyn Storage>> {
        below(self.storage.as_ref(), name)
    }
}

/// A directory that exists. On a network file system, too: who calls a tool knows where.
fn directory(path: &Path) -> Result<Arc<dyn Storage>, OpenError> {
    RealDir::open(path, true, false)
}

/// A directory in this one, if it exists; `subdir` would make it.
fn below(storage: &dyn Storage, name: &str) -> Option<Arc<dyn Storage>> {
    directory(&storage.path().join(name)).ok()
}

fn nothing_here(path: &Path) -> OpenError {
    let source = io::Error::new(io::ErrorKind::NotFound, "there is no spool in this directory");
    OpenError::Path { path: path.to_owned(), source }
}
