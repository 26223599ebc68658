//! What opening makes of a directory of segments, and walks over the records of one. Durability design, section 6.
//!
//! [`recover`] leaves a log in which every segment but the last is sealed. It decides by what is proven: a broken
//! place that a later sync mark, a seal, the registry or a later segment proves to have been safe is *damage*; what
//! nothing proves is a *torn tail* and is cut. A place that the disk cannot read was not torn by a write: damage, too.
//!
//! Damaged bytes inside a segment stay where they are: writing over them would risk what is around them, and readers
//! must be able to pass such a place anyhow, since damage in a sealed segment is found only by reading. So: whoever
//! reads and meets [`Why::Bad`], or [`Why::End`] before the segment's end, asks [`resync`] for the next valid record
//! (in steps of 8) and takes the numbers between for missing; none means that the rest of the segment is missing. A
//! copy of the bytes goes to `damaged/SEGMENT-OFFSET`. If nothing in the segment proved the damage, a sync mark (or
//! the seal that was missing) behind it says so from then on, with the last missing number as its sequence. A file
//! that is no segment of ours any more (header gone, another spool's) is moved to `damaged/`. Each open that looks
//! through a segment finds and reports its damage again; readers find it whenever they come by, a whole missing
//! file by a segment's `last` that is not the next one's base less one.
//!
//! Every step is one that an interrupted recovery may have done already or not. Length fields only ever ask for bytes
//! that the file has. `window` reads, `walk` goes from record to record, `mend` decides about one segment, `aside`
//! keeps copies. Absent: the registry, numbers to come, gap records (`log`).
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
use std::io;
use std::sync::Arc;

use crate::error::OpenError;
use crate::message::SpoolId;

use super::record::{self, Kind, Parsed, Record};
use super::segment::{self, Header, HeaderError, SEGMENT_HEADER};
use super::storage::{File, Open, Storage, read_all_at};
use mend::{Known, Mended};
use walk::Step;
use window::Window;

mod aside;
mod mend;
mod walk;
mod window;

/// A segment that is good, or good up to reported damage.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    pub(crate) salt: u64,
    pub(crate) file: Arc<dyn File>,
    /// Bytes used: where the next record goes.
    pub(crate) end: u64,
    /// Bytes on disk.
    pub(crate) size: u64,
    /// Up to here it is known to have been synced once: by its marks, or its seal.
    pub(crate) safe: u64,
    /// Finished: nothing is written to it any more.
    pub(crate) sealed: bool,
    /// Messages in it.
    pub(crate) records: u64,
    /// The last number in it, of a message, a gap or a skipped one that a mark or seal tells of; base - 1 if none.
    pub(crate) last: u64,
    /// Of its messages; 0 if none.
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
    /// Sequence and offset, about one per 256 KiB, the first record first. A sealed segment that was not scanned has
    /// one entry: its base and the place of the first record.
    pub(crate) index: Vec<(u64, u64)>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("base", &self.base)
            .field("end", &self.end)
            .field("size", &self.size)
            .field("sealed", &self.sealed)
            .field("records", &self.records)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// Bytes that were safe once and cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file's name.
    pub(crate) segment: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// The numbers that may be missing; `from > to` when it is none (a mark or a seal was hit).
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What the registry proves: numbers up to `proven` were accepted (a clean close, the last number, any cursor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Proof {
    pub(crate) proven: u64,
}

/// What [`recover`] found and did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovered {
    /// By base. All are sealed but, perhaps, the last.
    pub(crate) segments: Vec<Segment>,
    pub(crate) damage: Vec<Damage>,
    /// Bytes of torn tails that were cut.
    pub(crate) torn: u64,
    /// Messages in the segments that were scanned.
    pub(crate) records: u64,
    /// The highest number that the log or its damage tells of; 0 if none.
    pub(crate) last: u64,
    /// The time of the newest record; 0 if none.
    pub(crate) last_time: i64,
    /// Numbers that copies of delayed records had in their own log, as seen in scanned segments.
    pub(crate) origins: Vec<u64>,
    /// Whose segments they are: what was asked for, or what the segments say. `None` without either.
    pub(crate) spool: Option<SpoolId>,
}

/// Brings a directory of segments into order: steps 2 to 4 of opening. Without a spool id (the registry is lost) it
/// is taken from the segments. What is cut is cut and synced when this returns.
pub(crate) fn recover(storage: &dyn Storage, spool: Option<SpoolId>, proof: Proof) -> Result<Recovered, OpenError> {
    let at = |name: &str, source: io::Error| OpenError::Path { path: storage.path().join(name), source };
    let names = storage.list().map_err(|e| at("", e))?;
    // Nothing is changed before every header is known to be of a known format.
    let mut files = read_headers(storage, &names)?;
    let spool = spool.or_else(|| most_common(&files));
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        storage.remove(name).map_err(|e| at(name, e))?;
    }
    let mut recovered = Recovered { spool, ..Recovered::default() };
    set_strangers_aside(storage, &mut files, &mut recovered, proof)?;
    for (i, found) in files.iter().enumerate() {
        let next = i.checked_add(1).and_then(|i| files.get(i)).map(|next| next.base);
        recovered.take(storage, found, next, proof).map_err(|e| at(&found.name, e))?;
    }
    storage.sync_dir().map_err(|e| at("", e))?;
    let missing = recovered.damage.iter().filter(|damage| damage.from <= damage.to).map(|damage| damage.to);
    recovered.last = missing.fold(recovered.last, u64::max);
    Ok(recovered)
}

/// A file with a segment's name.
struct Found {
    name: String,
    base: u64,
    file: Arc<dyn File>,
    /// `None`: unreadable.
    header: Option<Header>,
}

/// All segment files, by base.
fn read_headers(storage: &dyn Storage, names: &[String]) -> Result<Vec<Found>, OpenError> {
    let mut files = Vec::new();
    for name in names {
        let Some(base) = segment::base_of(name) else { continue };
        let path = || storage.path().join(name);
        let file = storage.open(name, Open::Write).map_err(|source| OpenError::Path { path: path(), source })?;
        let header = match read_header(&*file) {
            Err(HeaderError::Unknown { found }) => {
                return Err(OpenError::UnknownFormat { path: path(), found, known: segment::KNOWN.to_owned() });
            }
            header => header.ok().filter(|header| header.base == base),
        };
        files.push(Found { name: name.clone(), base, file, header });
    }
    files.sort_by_key(|found| found.base);
    Ok(files)
}

/// What cannot be read is bad: the file is kept, under another name.
fn read_header(file: &dyn File) -> Result<Header, HeaderError> {
    let mut bytes = [0; segment::LOOK];
    let read =
        read_all_at(file, &mut bytes, 0).or_else(|_| read_all_at(file, &mut bytes, 0)).map_err(|_| HeaderError::Bad)?;
    Header::parse(bytes.get(..read).unwrap_or_default())
}

/// The spool that most segments belong to; of equals, the one with the newest segment.
fn most_common(files: &[Found]) -> Option<SpoolId> {
    let ids = || files.iter().filter_map(|found| found.header).map(|header| header.spool);
    ids().max_by_key(|id| ids().filter(|other| other == id).count())
}

/// Takes out what is no segment of this spool. What else is in the directory is nobody's business.
fn set_strangers_aside(
    storage: &dyn Storage,
    files: &mut Vec<Found>,
    recovered: &mut Recovered,
    Proof { proven }: Proof,
) -> Result<(), OpenError> {
    let bases: Vec<u64> = files.iter().map(|found| found.base).collect();
    let mut ours = Vec::with_capacity(files.len());
    for (i, found) in std::mem::take(files).into_iter().enumerate() {
        if found.header.is_some_and(|header| Some(header.spool) == recovered.spool) {
            ours.push(found);
            continue;
        }
        let next = i.checked_add(1).and_then(|i| bases.get(i));
        let to = match (found.header, next) {
            // Another spool's numbers are not missing here.
            (Some(_), _) => found.base.saturating_sub(1),
            // Nor do zeros tell of any; where its numbers were in use, the registry or its neighbours say so.
            (None, _) if found.base > proven && is_blank(&*found.file) => found.base.saturating_sub(1),
            (None, Some(next)) => next.saturating_sub(1),
            (None, None) => found.base.max(proven),
        };
        let bytes = found.file.len().unwrap_or(0);
        aside::take_out(storage, &found.name)
            .map_err(|source| OpenError::Path { path: storage.path().join(&found.name), source })?;
        recovered.damage.push(Damage { segment: found.name, offset: 0, bytes, from: found.base, to });
    }
    *files = ours;
    Ok(())
}

/// Whether nothing was ever written to it.
fn is_blank(file: &dyn File) -> bool {
    Window::lenient(file).and_then(|mut window| window.is_zero_from(0)).unwrap_or(false)
}

impl Recovered {
    /// One good file more, in order.
    fn take(&mut self, storage: &dyn Storage, found: &Found, next: Option<u64>, proof: Proof) -> io::Result<()> {
        let Some(header) = found.header else { return Ok(()) };
        self.miss_between(found);
        if next.is_some()
            && let Some((segment, time)) = by_seal(found, &header)
        {
            self.add(segment, time);
            return Ok(());
        }
        let (name, base, file) = (&*found.name, found.base, &found.file);
        let known = Known { name, base, salt: header.salt, file, proven: proof.proven, next };
        let Mended { segment, damage, torn, origins, time } = mend::mend(storage, &known)?;
        self.damage.extend(damage);
        self.torn = self.torn.saturating_add(torn);
        self.records = self.records.saturating_add(segment.records);
        self.origins.extend(origins);
        self.add(segment, time);
        Ok(())
    }

    fn add(&mut self, segment: Segment, time: i64) {
        self.last = self.last.max(segment.last);
        self.last_time = self.last_time.max(time);
        self.segments.push(segment);
    }

    /// Segments follow each other without a hole: each says which number was the last before the next. A file that
    /// was set aside was reported then.
    fn miss_between(&mut self, found: &Found) {
        let Some(before) = self.segments.last() else { return };
        let (from, to) = (before.last.saturating_add(1), found.base.saturating_sub(1));
        let reported = |damage: &Damage| damage.from <= from && damage.to >= to;
        if from <= to && !self.damage.iter().any(reported) {
            let segment = segment::file_name(from);
            self.damage.push(Damage { segment, offset: 0, bytes: 0, from, to });
        }
    }
}

/// What a finished segment says of itself at its very end.
fn by_seal(found: &Found, header: &Header) -> Option<(Segment, i64)> {
    let size = found.file.len().ok()?;
    let at = size.checked_sub(record::SEAL as u64).filter(|at| *at >= SEGMENT_HEADER)?;
    let mut bytes = [0; record::SEAL];
    read_all_at(&*found.file, &mut bytes, at).ok()?;
    let Parsed::Record(record) = record::parse(&bytes, Some(header.salt), u64::MAX) else { return None };
    let seal = record.seal()?;
    let segment = Segment {
        base: found.base,
        salt: header.salt,
        file: Arc::clone(&found.file),
        end: size,
        size,
        safe: size,
        sealed: true,
        records: seal.records,
        last: seal.last.max(record.sequence),
        first_time: seal.first_time,
        last_time: seal.last_time,
        index: vec![(found.base, SEGMENT_HEADER)],
    };
    Some((segment, record.time))
}

/// Why [`scan`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nothing is written here.
    End,
    /// No valid record: [`resync`] finds the next one.
    Bad,
    /// The file ends here.
    Eof,
    /// It was told to.
    Stopped,
}

/// Where [`scan`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// The place of the first record that was not shown; after `Stopped`, of the one after the last shown.
    pub(crate) at: u64,
    pub(crate) why: Why,
}

/// Shows each valid record from offset `from` on, read in pieces of 256 KiB.
pub(crate) fn scan(
    file: &dyn File,
    salt: u64,
    from: u64,
    each: &mut dyn FnMut(u64, &Record<'_>) -> bool,
) -> io::Result<ScanEnd> {
    let mut window = Window::strict(file)?;
    let (mut at, mut floor) = (from, 0);
    loop {
        let record = match walk::step(&mut window, at, salt, floor)? {
            Step::Record(record) => record,
            Step::End => return Ok(ScanEnd { at, why: Why::End }),
            Step::Bad => return Ok(ScanEnd { at, why: Why::Bad }),
            Step::Eof => return Ok(ScanEnd { at, why: Why::Eof }),
        };
        if matches!(record.kind, Kind::Message | Kind::Gap) {
            floor = record.sequence;
        }
        let go_on = each(at, &record);
        at = at.saturating_add(record.size as u64);
        if !go_on {
            return Ok(ScanEnd { at, why: Why::Stopped });
        }
    }
}

/// The place of the next valid record from `from` on and before `until`; a message counts only if its number is above
/// `after`, the last one before. What cannot be read is passed over.
pub(crate) fn resync(file: &dyn File, salt: u64, from: u64, until: u64, after: u64) -> io::Result<Option<u64>> {
    walk::find_next(&mut Window::lenient(file)?, salt, from, until, after)
}

#[cfg(test)]
mod tests;
