//! What is in a spool, counted: segments by their seals, names by the segments before them.

use std::sync::Arc;
use std::time::Duration;

use super::values::{Listing, NameInfo, SegmentInfo, time};
use super::walk::{self, Start, Step, Walk};
use super::{DEAD, DELAY, Records, below, nothing_here};
use crate::error::OpenError;
use crate::message::SpoolId;
use crate::store::clock::{Clock, SystemClock};
use crate::store::names::{Found, NameRecord, Registry};
use crate::store::record::Kind;
use crate::store::segment;
use crate::store::storage::{Open, Storage};

pub(super) fn list(storage: &Arc<dyn Storage>, found: Found) -> Result<Listing, OpenError> {
    let failed = |source| OpenError::Path { path: storage.path().to_owned(), source };
    let names_lost = found == Found::Lost;
    let mut registry = match found {
        Found::Both(registry) => registry,
        // The other copy may be newer, and not clean.
        Found::One(registry) => Registry { clean: false, ..registry },
        Found::Fresh => return Err(nothing_here(storage.path())),
        Found::Lost => Registry::default(),
    };
    let bases = walk::bases(storage.as_ref()).map_err(failed)?;
    let segments: Vec<SegmentInfo> = bases.iter().filter_map(|&base| look(storage, base)).collect();
    if names_lost {
        registry.spool = bases.iter().rev().find_map(|&base| id_of(storage.as_ref(), base)).unwrap_or(SpoolId::NONE);
    }
    let newest = segments.iter().map(|segment| segment.last).fold(registry.last, u64::max);
    let prepared: u64 = prepared(storage.as_ref()).map_err(failed)?;
    Ok(Listing {
        id: registry.spool,
        clean: registry.clean,
        names_lost,
        bytes: segments.iter().map(|segment| segment.bytes).fold(prepared, u64::saturating_add),
        oldest: segments.first().map_or(newest.saturating_add(1), |segment| segment.base),
        newest,
        names: registry.names.values().map(|name| info(name, &segments, newest)).collect(),
        segments,
        delayed: Records::waiting(below(storage.as_ref(), DELAY)).filter(Result::is_ok).count() as u64,
        dead_letters: below(storage.as_ref(), DEAD).map_or(0, |dead| records(&dead)),
    })
}

/// Messages in a directory, as its segments say.
fn records(storage: &Arc<dyn Storage>) -> u64 {
    let bases = walk::bases(storage.as_ref()).unwrap_or_default();
    bases.iter().filter_map(|&base| look(storage, base)).map(|segment| segment.records).fold(0, u64::saturating_add)
}

/// Bytes of files that will be segments.
fn prepared(storage: &dyn Storage) -> std::io::Result<u64> {
    let names = storage.list()?;
    let files =
        names.iter().filter(|name| name.ends_with(".tmp")).filter_map(|name| storage.open(name, Open::Read).ok());
    Ok(files.map(|file| file.len().unwrap_or(0)).fold(0, u64::saturating_add))
}

/// Which spool a segment belongs to.
fn id_of(storage: &dyn Storage, base: u64) -> Option<SpoolId> {
    let file = storage.open(&segment::file_name(base), Open::Read).ok()?;
    walk::header(&*file).ok().map(|header| header.spool)
}

/// One segment; `None` if it is gone.
fn look(storage: &Arc<dyn Storage>, base: u64) -> Option<SegmentInfo> {
    let name = segment::file_name(base);
    let file = match storage.open(&name, Open::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        file => file,
    };
    let mut info = SegmentInfo {
        file: name,
        base,
        last: base.saturating_sub(1),
        records: 0,
        bytes: file.as_ref().map_or(0, |file| file.len().unwrap_or(0)),
        sealed: false,
        first_time: None,
        last_time: None,
        bad: None,
    };
    let seal = match file.map_err(|e| e.to_string()).and_then(|file| Ok(walk::seal(&*file, walk::header(&*file)?.salt)))
    {
        Ok(seal) => seal,
        Err(why) => {
            info.bad = Some(why);
            return Some(info);
        }
    };
    match seal {
        Some((seal, told)) => {
            info.sealed = true;
            info.records = seal.records;
            info.last = seal.last.max(told);
            info.first_time = (seal.records > 0).then(|| time(seal.first_time));
            info.last_time = (seal.records > 0).then(|| time(seal.last_time));
        }
        None => read_through(storage, &mut info),
    }
    Some(info)
}

/// Counts what is in an unfinished segment.
fn read_through(storage: &Arc<dyn Storage>, info: &mut SegmentInfo) {
    let mut walk = Walk::new(storage.clone(), Start::Only(info.base));
    loop {
        let step = walk.step(&mut |_, _, record| {
            info.last = info.last.max(record.sequence);
            if record.kind == Kind::Message {
                info.records = info.records.saturating_add(1);
                info.first_time = info.first_time.or_else(|| Some(time(record.time)));
                info.last_time = Some(time(record.time));
            }
            true
        });
        match step {
            Step::More => {}
            Step::Bad(bad) => info.bad = info.bad.take().or_else(|| Some(bad.to_string())),
            Step::End => return,
        }
    }
}

fn info(name: &NameRecord, segments: &[SegmentInfo], newest: u64) -> NameInfo {
    let done = name.done.iter().filter(|&&(from, _)| from <= newest);
    let done = done.map(|&(from, to)| to.min(newest).saturating_sub(from).saturating_add(1));
    let lag_records = newest.saturating_sub(name.cursor).saturating_sub(done.fold(0, u64::saturating_add));
    let behind = if lag_records == 0 { &[] } else { segments };
    NameInfo {
        name: name.name.clone(),
        kind: name.kind,
        cursor: name.cursor,
        lag_records,
        lag_bytes: behind
            .iter()
            .map(|segment| part_after(segment, name.cursor, segment.bytes))
            .fold(0, u64::saturating_add),
        age: behind.iter().find(|segment| segment.last > name.cursor).and_then(|segment| age_at(segment, name.cursor)),
        last_seen: (name.seen != 0).then(|| time(name.seen)),
        filters: name.filters.iter().map(|(prefix, _)| prefix.clone()).collect(),
        lost_records: name.lost_records,
    }
}

/// About how much of `whole` belongs to the numbers above `cursor`, as if all were of the same size.
fn part_after(segment: &SegmentInfo, cursor: u64, whole: u64) -> u64 {
    let numbers = segment.last.saturating_add(1).saturating_sub(segment.base);
    let after = segment.last.saturating_sub(cursor).min(numbers);
    let part = u128::from(whole).saturating_mul(u128::from(after)).checked_div(u128::from(numbers)).unwrap_or(0);
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// About how old the first record above `cursor` in this segment is, as if they had come evenly.
fn age_at(segment: &SegmentInfo, cursor: u64) -> Option<Duration> {
    let (first, last) = (segment.first_time?, segment.last_time?);
    let span = u64::try_from(last.duration_since(first).unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
    let left = Duration::from_micros(part_after(segment, cursor, span));
    let sent = last.checked_sub(left).unwrap_or(first);
    Some(time(SystemClock.wall()).duration_since(sent).unwrap_or_default())
}
