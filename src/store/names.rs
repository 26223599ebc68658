//! The registry: durable names with their cursors, numbers that are never used twice, in two slots written in turn.
//!
//! Here live the values ([`Registry`], [`NameRecord`]) and the two files that hold them ([`Slots`]); `twin` is the
//! way of writing two copies so that one is always good, `slot` the bytes of one copy. It may use `storage`
//! and nothing else of the store. Absent: when to save, who may have a name, what a cursor means for a segment: `log`
//! decides that. Next: `slot`.
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

pub(crate) mod slot;
pub(crate) mod twin;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::OpenError;
use crate::message::SpoolId;
use crate::store::clock::{Clock, SystemClock};
use crate::store::storage::{File, Open, Storage};
use twin::{Area, Slot, Twin};

/// The two files.
pub(crate) const FILES: [&str; 2] = ["names.a", "names.b"];
/// Their size from the start: what fits needs no space when the disk is full.
pub(crate) const SLOT_BYTES: u64 = if cfg!(test) { 32 << 10 } else { 256 << 10 };
/// Done ranges kept for a name; those beyond are delivered once more.
pub(crate) const MOST_RANGES: usize = 4096;
/// How many numbers are reserved at once.
pub(crate) const STEP: u64 = 1 << 20;
/// How often a reader without the lock looks again, when the owner wrote both slots meanwhile.
const LOOKS: usize = 8;

/// What a durable name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NameKind {
    /// A subscription: its filters choose.
    #[default]
    Topic,
    /// The outbox of a PUSH, whose name is "".
    Outbox,
}

/// A durable name, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NameRecord {
    pub(crate) name: String,
    pub(crate) kind: NameKind,
    /// Who made it, where peers are known.
    pub(crate) owner: Option<String>,
    /// Microseconds since 1970.
    pub(crate) created: i64,
    /// When its holder was last connected, the same.
    pub(crate) seen: i64,
    /// Seconds without a connection after which it goes; 0 is never.
    pub(crate) expiry_s: u32,
    /// Everything up to here is done.
    pub(crate) cursor: u64,
    /// What is done above it: inclusive, ascending; see [`MOST_RANGES`].
    pub(crate) done: Vec<(u64, u64)>,
    /// Prefixes of frame 0, each with the number from which it counts.
    pub(crate) filters: Vec<(Vec<u8>, u64)>,
    pub(crate) lost_records: u64,
    pub(crate) lost_bytes: u64,
    /// Numbers lost to it that its holder was not told of yet.
    pub(crate) lost: Option<(u64, u64)>,
    /// Made by `declare`: it starts at the oldest record when the registry was lost.
    pub(crate) declared: bool,
}

/// Everything a spool remembers beside its records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Registry {
    pub(crate) spool: SpoolId,
    /// Closed cleanly: `last` is exact.
    pub(crate) clean: bool,
    /// The newest number that was in use when it was saved.
    pub(crate) last: u64,
    /// No number above it was ever given out.
    pub(crate) reserved_until: u64,
    /// Numbers below it were deleted on purpose.
    pub(crate) head: u64,
    /// The main log was looked through for origins of delayed records up to here.
    pub(crate) checked: u64,
    pub(crate) names: BTreeMap<String, NameRecord>,
}

impl Registry {
    /// The highest number that it proves to have been on disk. Cursors prove nothing: they pass numbers that were never
    /// written, and records that were never synced.
    pub(crate) fn proven(&self) -> u64 {
        self.last
    }
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Both slots were good; the newer one.
    Both(Registry),
    /// One slot was unreadable. It may have been the newer one: one more step of numbers is to be left out.
    One(Registry),
    /// A new directory: no registry was ever written, and there are no segments.
    Fresh,
    /// There was one, or there are segments; nothing readable is left.
    Lost,
}

impl Found {
    /// The registry, to be saved again as it is. If a slot was unreadable, what it may have reserved is left out.
    pub(crate) fn into_registry(self) -> Option<Registry> {
        match self {
            Found::Both(registry) => Some(registry),
            Found::One(registry) => {
                let reserved_until = registry.reserved_until.saturating_add(STEP);
                Some(Registry { reserved_until, clean: false, ..registry })
            }
            Found::Fresh | Found::Lost => None,
        }
    }
}

/// A new spool's id. From the hash keys that the system gives this process at random, and the time.
pub(crate) fn random_id() -> SpoolId {
    use std::hash::{BuildHasher, RandomState};

    let (now, process) = (SystemClock.wall(), std::process::id());
    let half = |which: u8| RandomState::new().hash_one((which, now, process)).to_le_bytes();
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().zip([half(0), half(1)].into_iter().flatten()) {
        *place = byte;
    }
    SpoolId::from_bytes(id)
}

/// The two files, open for writing. Only one may be at work in a directory: open it under the lock.
pub(crate) struct Slots {
    twin: Twin,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("capacity", &self.twin.capacity()).finish_non_exhaustive()
    }
}

impl Slots {
    /// Reads both slots and makes those that are missing, at their full size where the disk has room. What was there
    /// is not changed before the first save.
    pub(crate) fn open(storage: &Arc<dyn Storage>) -> Result<(Slots, Found), OpenError> {
        let [a, b] = FILES;
        let looked = (look(storage.as_ref(), a, Open::Write)?, look(storage.as_ref(), b, Open::Write)?);
        // Only now, when no slot is of an unknown version, may anything be made.
        let found = judge(storage.as_ref(), &looked.0, &looked.1)?;
        let (a, b) = (area(storage.as_ref(), a, looked.0)?, area(storage.as_ref(), b, looked.1)?);
        storage.sync_dir().map_err(|source| failed(storage.as_ref(), source))?;
        let mut twin = Twin::new(slot::FORMAT, a, b);
        // A full disk is no reason not to open: what is there is enough for what was saved.
        let _ = twin.grow(SLOT_BYTES);
        Ok((Slots { twin }, found))
    }

    /// The newest registry, without the lock and without a change of anything.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Found, OpenError> {
        let mut found = Found::Fresh;
        for _ in 0..LOOKS {
            // While this looks at one slot the owner may write the other, and then this one.
            let (a, b) = (look(storage, FILES[0], Open::Read)?, look(storage, FILES[1], Open::Read)?);
            found = judge(storage, &a, &b)?;
            if !matches!(found, Found::Lost) {
                break;
            }
        }
        Ok(found)
    }

    /// Writes the older slot and syncs it; then it is the newer one. Slots that are too small are grown first; where
    /// that is impossible done ranges are left out. After an error the former registry is still there.
    pub(crate) fn save(&mut self, registry: &Registry) -> io::Result<()> {
        let body = self.body(registry)?;
        self.twin.save(&body)
    }

    /// The same for both slots, one after the other: what only one of them holds can be lost with it.
    pub(crate) fn save_both(&mut self, registry: &Registry) -> io::Result<()> {
        let body = self.body(registry)?;
        self.twin.save_both(&body)
    }

    /// Whether a save needs no space that the slots do not have. Done ranges do not count: they may be left out.
    #[cfg(test)]
    pub(crate) fn fits(&self, registry: &Registry) -> bool {
        slot::encode(registry, false).len() as u64 <= self.twin.room()
    }

    fn body(&mut self, registry: &Registry) -> io::Result<Vec<u8>> {
        let body = slot::encode(registry, true);
        if self.fit(&body).is_ok() {
            return Ok(body);
        }
        let body = slot::encode(registry, false);
        self.fit(&body)?;
        Ok(body)
    }

    fn fit(&mut self, body: &[u8]) -> io::Result<()> {
        if body.len() as u64 <= self.twin.room() { Ok(()) } else { self.twin.grow_for(body.len() as u64) }
    }
}

/// One slot as it was found.
struct Looked {
    file: Option<Arc<dyn File>>,
    slot: Slot<Registry>,
}

fn look(storage: &dyn Storage, name: &str, how: Open) -> Result<Looked, OpenError> {
    let path = || storage.path().join(name);
    let file = match storage.open(name, how) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Looked { file: None, slot: Slot::Blank }),
        Err(source) => return Err(OpenError::Path { path: path(), source }),
    };
    let slot = match twin::read(&*file, 0, &slot::FORMAT) {
        Slot::Good { generation, body } => match slot::parse(&body) {
            Some(registry) => Slot::Good { generation, body: registry },
            None => Slot::Bad,
        },
        Slot::Unknown { found } => {
            let is_unfinished = found == slot::UNFINISHED.to_string();
            let found = if is_unfinished { "(change of id interrupted: run it again)".to_owned() } else { found };
            return Err(OpenError::UnknownFormat { path: path(), found, known: slot::FORMAT.to_string() });
        }
        Slot::Bad => Slot::Bad,
        Slot::Blank => Slot::Blank,
    };
    Ok(Looked { file: Some(file), slot })
}

fn judge(storage: &dyn Storage, a: &Looked, b: &Looked) -> Result<Found, OpenError> {
    Ok(match (&a.slot, &b.slot) {
        (Slot::Good { generation: first, body: a }, Slot::Good { generation: second, body: b }) => {
            Found::Both(if first >= second { a.clone() } else { b.clone() })
        }
        (Slot::Good { body, .. }, _) | (_, Slot::Good { body, .. }) => Found::One(body.clone()),
        (Slot::Blank, _) | (_, Slot::Blank) => {
            // The first save writes both slots, so it was never done. But whoever has segments had a registry.
            let files = storage.list().map_err(|source| failed(storage, source))?;
            if files.iter().any(|name| name.ends_with(".seg")) { Found::Lost } else { Found::Fresh }
        }
        _ => Found::Lost,
    })
}

fn area(storage: &dyn Storage, name: &str, looked: Looked) -> Result<Area, OpenError> {
    let failed = |source| OpenError::Path { path: storage.path().join(name), source };
    let file = match looked.file {
        Some(file) => file,
        None => storage.open(name, Open::New).map_err(failed)?,
    };
    let capacity = file.len().map_err(failed)?;
    Ok(Area { file, at: 0, capacity, generation: looked.slot.generation() })
}

fn failed(storage: &dyn Storage, source: io::Error) -> OpenError {
    OpenError::Path { path: storage.path().to_owned(), source }
}
