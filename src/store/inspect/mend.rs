//! What changes a spool that nobody has open: under its lock.

use std::path::Path;
use std::sync::Arc;

use super::values::{BadRecord, RepairReport};
use super::{DEAD, DELAY, below, directory, nothing_here, walk};
use crate::error::OpenError;
use crate::message::SpoolId;
use crate::store::names::{self, FILES, Found, Registry, STEP, Slots, slot, twin};
use crate::store::scan::{Proof, Recovered, recover};
use crate::store::segment::{self, Header};
use crate::store::storage::{Locked, Open, Storage, write_all_at};
use twin::{Area, Format, Slot, Twin};

/// Brings the files of a spool into order, as opening it would, and says what was found.
///
/// Torn tails are cut, damaged bytes are copied to `damaged/`, an unreadable copy of the registry is written again
/// from the other one. A spool that is in order is left as it is.
///
/// # Errors
/// [`OpenError::InUse`] if somebody has it open; as [`SpoolFiles::open`](crate::spool::SpoolFiles::open); the
/// operating system's refusals.
pub fn repair(dir: impl AsRef<Path>) -> Result<RepairReport, OpenError> {
    let storage = directory(dir.as_ref())?;
    let _lock = lock(storage.as_ref())?;
    let mut report = repair_one(&storage)?;
    for name in [DEAD, DELAY] {
        if let Some(inner) = below(storage.as_ref(), name)
            && Slots::read(inner.as_ref())? != Found::Fresh
        {
            let more = repair_one(&inner)?;
            report.records = report.records.saturating_add(more.records);
            report.torn = report.torn.saturating_add(more.torn);
            report.registry_mended |= more.registry_mended;
            let inside = |bad: BadRecord| BadRecord { segment: format!("{name}/{}", bad.segment), ..bad };
            report.damage.extend(more.damage.into_iter().map(inside));
        }
    }
    Ok(report)
}

fn repair_one(storage: &Arc<dyn Storage>) -> Result<RepairReport, OpenError> {
    if Slots::read(storage.as_ref())? == Found::Fresh {
        return Err(nothing_here(storage.path()));
    }
    let (mut slots, found) = Slots::open(storage)?;
    let is_one = matches!(found, Found::One(_));
    let registry = found.into_registry();
    let proof = Proof { proven: registry.as_ref().map_or(0, Registry::proven) };
    let recovered = recover(storage.as_ref(), registry.as_ref().map(|registry| registry.spool), proof)?;
    if let Some(registry) = registry.as_ref().filter(|_| is_one) {
        slots.save_both(registry).map_err(|source| failed(storage.as_ref(), source))?;
    }
    Ok(RepairReport {
        id: recovered.spool,
        records: recovered.records,
        torn: recovered.torn,
        damage: damage(recovered),
        registry_mended: is_one,
        names_lost: registry.is_none(),
    })
}

fn damage(recovered: Recovered) -> Vec<BadRecord> {
    let all = recovered.damage.into_iter().map(|damage| BadRecord {
        segment: damage.segment,
        offset: damage.offset,
        why: match damage.bytes {
            0 => "this segment is missing".to_owned(),
            bytes => format!("{bytes} bytes are damaged"),
        },
        from: damage.from,
        to: damage.to,
    });
    all.collect()
}

/// Drops a durable name and its position: records that waited for it alone are let go at the next opening. The
/// outbox of a PUSH, whose name is empty, is no name to be dropped. False: there is no such name.
///
/// # Errors
/// As [`repair`].
pub fn drop_name(dir: impl AsRef<Path>, name: &str) -> Result<bool, OpenError> {
    let storage = directory(dir.as_ref())?;
    let _lock = lock(storage.as_ref())?;
    if Slots::read(storage.as_ref())? == Found::Fresh {
        return Err(nothing_here(storage.path()));
    }
    let (mut slots, found) = Slots::open(&storage)?;
    let Some(mut registry) = found.into_registry() else { return Ok(false) };
    if name.is_empty() || registry.names.remove(name).is_none() {
        return Ok(false);
    }
    slots.save_both(&registry).map_err(|source| failed(storage.as_ref(), source))?;
    Ok(true)
}

/// Makes a restored copy of a spool a spool of its own: a new id, in the registry and in all segments.
///
/// After going back to an old copy its holders are ahead of it: they refuse it, because its next numbers would be
/// numbers that they have seen. Under a new id they start over from the positions that the copy has. If this is
/// interrupted, nothing can open the spool until it was called again.
///
/// # Errors
/// As [`repair`]; [`OpenError::Path`] also for a segment whose header cannot be read: [`repair`] sets it aside.
pub fn new_id(dir: impl AsRef<Path>) -> Result<SpoolId, OpenError> {
    let storage = directory(dir.as_ref())?;
    let _lock = lock(storage.as_ref())?;
    change_id(&storage)
}

pub(super) fn change_id(storage: &Arc<dyn Storage>) -> Result<SpoolId, OpenError> {
    let registry = match unfinished(storage.as_ref())? {
        Some(registry) => registry,
        None => begin(storage)?,
    };
    let body = slot::encode(&registry, true);
    write_slots(storage.as_ref(), slot::UNFINISHED, &body)?;
    for base in walk::bases(storage.as_ref()).map_err(|source| failed(storage.as_ref(), source))? {
        sign(storage.as_ref(), base, registry.spool)?;
    }
    write_slots(storage.as_ref(), slot::FORMAT, &body)?;
    Ok(registry.spool)
}

/// The registry of a change that was interrupted.
fn unfinished(storage: &dyn Storage) -> Result<Option<Registry>, OpenError> {
    let mut newest: Option<(u64, Registry)> = None;
    for name in FILES {
        let Ok(file) = storage.open(name, Open::Read) else { continue };
        if let Slot::Good { generation, body } = twin::read(&*file, 0, &slot::UNFINISHED)
            && let Some(registry) = slot::parse(&body)
            && newest.as_ref().is_none_or(|(other, _)| *other < generation)
        {
            newest = Some((generation, registry));
        }
    }
    Ok(newest.map(|(_, registry)| registry))
}

/// The registry of the new spool. Nothing is changed but what an opening would change, too.
fn begin(storage: &Arc<dyn Storage>) -> Result<Registry, OpenError> {
    if Slots::read(storage.as_ref())? == Found::Fresh {
        return Err(nothing_here(storage.path()));
    }
    let (_, found) = Slots::open(storage)?;
    let registry = match found.into_registry() {
        Some(registry) => registry,
        None => rebuilt(storage.as_ref())?,
    };
    // What cannot be signed must not be found out half way.
    for base in walk::bases(storage.as_ref()).map_err(|source| failed(storage.as_ref(), source))? {
        signed(storage.as_ref(), base, registry.spool)?;
    }
    Ok(Registry { spool: names::random_id(), ..registry })
}

/// A registry for segments that have lost theirs.
fn rebuilt(storage: &dyn Storage) -> Result<Registry, OpenError> {
    let recovered = recover(storage, None, Proof::default())?;
    Ok(Registry {
        last: recovered.last,
        reserved_until: recovered.last.saturating_add(STEP),
        head: recovered.segments.first().map_or(0, |segment| segment.base),
        ..Registry::default()
    })
}

fn write_slots(storage: &dyn Storage, format: Format, body: &[u8]) -> Result<(), OpenError> {
    let area = |name: &str| {
        let at = |source| OpenError::Path { path: storage.path().join(name), source };
        let file = storage.open(name, Open::Write).map_err(at)?;
        let capacity = file.len().map_err(at)?;
        let generation =
            [slot::UNFINISHED, slot::FORMAT].iter().find_map(|format| twin::read(&*file, 0, format).generation());
        Ok(Area { file, at: 0, capacity, generation })
    };
    let [a, b] = FILES;
    let mut twin = Twin::new(format, area(a)?, area(b)?);
    let saved = twin.grow_for(body.len() as u64).and_then(|()| twin.save_both(body));
    saved.map_err(|source| failed(storage, source))
}

/// Writes the id into a segment's header.
fn sign(storage: &dyn Storage, base: u64, id: SpoolId) -> Result<(), OpenError> {
    let header = signed(storage, base, id)?;
    let name = segment::file_name(base);
    let write = || {
        let file = storage.open(&name, Open::Write)?;
        write_all_at(&*file, &header.encode(), 0)?;
        file.sync()
    };
    write().map_err(|source| OpenError::Path { path: storage.path().join(&name), source })
}

/// A segment's header, with this id.
fn signed(storage: &dyn Storage, base: u64, id: SpoolId) -> Result<Header, OpenError> {
    let path = || storage.path().join(segment::file_name(base));
    let file = storage.open(&segment::file_name(base), Open::Read);
    let file = file.map_err(|source| OpenError::Path { path: path(), source })?;
    let header = walk::header(&*file).map_err(|why| OpenError::Path {
        path: path(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
    })?;
    Ok(Header { spool: id, ..header })
}

/// The lock of a directory, for as long as the value lives.
fn lock(storage: &dyn Storage) -> Result<Box<dyn std::any::Any + Send + Sync>, OpenError> {
    match storage.lock().map_err(|source| failed(storage, source))? {
        Locked::Got(lock) => Ok(lock),
        Locked::Held { pid } => Err(OpenError::InUse { pid, path: storage.path().to_owned() }),
    }
}

fn failed(storage: &dyn Storage, source: std::io::Error) -> OpenError {
    OpenError::Path { path: storage.path().to_owned(), source }
}
