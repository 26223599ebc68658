//! Over all records of a directory, while somebody else may write, finish and delete its segments.
//!
//! A place without a valid record is one of three things. Behind the last record of the segment being written it is
//! the end, or a record that is just arriving. In a file that was deleted or used again meanwhile it is nothing. Else
//! it is damage, which [`resync`] passes over. Which of them is found out by looking again after having seen what
//! comes later: one writer writes in order.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::values::{BadRecord, Verified};
use crate::store::names::{Found, Slots};
use crate::store::record::{self, Kind, Parsed, Record, Seal};
use crate::store::scan::{Why, resync, scan};
use crate::store::segment::{self, Header, HeaderError, SEGMENT_HEADER};
use crate::store::storage::{File, Open, Storage, read_all_at};
use crate::wire::frame;

/// Where a walk begins, as far as whole segments can be passed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Oldest,
    /// In the segment that may have this number.
    Sequence(u64),
    /// In the first segment that does not end before this time (microseconds).
    Time(i64),
    /// In the segment with this base, and nowhere else.
    Only(u64),
}

/// What a step came to.
pub(super) enum Step {
    /// The visitor had enough for now.
    More,
    /// A damaged place; the next step goes on behind it.
    Bad(BadRecord),
    End,
}

/// Shows record after record.
pub(super) struct Walk {
    storage: Arc<dyn Storage>,
    from: Start,
    /// Segments below this base are behind us.
    next: u64,
    here: Option<Place>,
    /// The highest number that a segment told of so far; `None` where numbers before do not count as missing.
    told: Option<u64>,
}

/// A segment and where we are in it.
struct Place {
    name: String,
    base: u64,
    salt: u64,
    file: Patient,
    at: u64,
    /// The last number of a message or gap.
    floor: u64,
    told: u64,
    /// A valid record was seen behind this place, so what is not valid at it is damage.
    later_than: Option<u64>,
    /// A later segment was seen when this one seemed at its end.
    is_past: bool,
}

impl Walk {
    pub(super) fn new(storage: Arc<dyn Storage>, from: Start) -> Walk {
        Walk { storage, from, next: 0, here: None, told: None }
    }

    /// Shows records, with the file's name and their place in it, until the visitor says false.
    pub(super) fn step(&mut self, each: &mut dyn FnMut(&str, u64, &Record<'_>) -> bool) -> Step {
        loop {
            let Some(place) = &mut self.here else {
                match self.enter() {
                    Ok(true) => continue,
                    Ok(false) => return Step::End,
                    Err(bad) => return Step::Bad(bad),
                }
            };
            match place.scan(each) {
                Ended::Enough => return Step::More,
                Ended::Whole => self.leave(),
                Ended::Hole(why) => match self.hole(why) {
                    Some(bad) => return Step::Bad(bad),
                    None => continue,
                },
            }
        }
    }

    /// Opens the next segment. False: there is none.
    fn enter(&mut self) -> Result<bool, BadRecord> {
        loop {
            let bases = bases(self.storage.as_ref()).map_err(|e| self.stop(&e))?;
            let Some(base) = self.choose(&bases) else { return Ok(false) };
            let after = bases.iter().copied().find(|&other| other > base);
            self.next = base.saturating_add(1);
            let place = match Place::open(self.storage.as_ref(), base) {
                Ok(Some(place)) => place,
                // Deleted since it was listed.
                Ok(None) => continue,
                Err(why) => {
                    let to = after.map_or(base, |after| after.saturating_sub(1));
                    self.told = Some(to);
                    return Err(BadRecord { segment: segment::file_name(base), offset: 0, why, from: base, to });
                }
            };
            let missing = self.miss_before(base);
            self.told = Some(place.told);
            self.here = Some(place);
            return missing.map_or(Ok(true), Err);
        }
    }

    /// The base of the segment that comes next.
    fn choose(&mut self, bases: &[u64]) -> Option<u64> {
        let first = bases.iter().copied().find(|&base| base >= self.next);
        match std::mem::replace(&mut self.from, Start::Oldest) {
            Start::Oldest => first,
            Start::Sequence(number) => bases.iter().copied().rev().find(|&base| base <= number).or(first),
            Start::Time(time) => {
                let ends_before = |base| last_time(self.storage.as_ref(), base).is_some_and(|last| last < time);
                bases.iter().copied().find(|&base| base >= self.next && !ends_before(base))
            }
            Start::Only(base) => {
                self.from = Start::Only(u64::MAX);
                bases.contains(&base).then_some(base)
            }
        }
    }

    /// Segments follow each other without a hole, but for what was deleted on purpose.
    fn miss_before(&self, base: u64) -> Option<BadRecord> {
        let from = self.told?.checked_add(1).filter(|&from| from < base)?;
        let head = match Slots::read(self.storage.as_ref()) {
            Ok(Found::Both(registry) | Found::One(registry)) => registry.head,
            _ => 0,
        };
        let from = from.max(head);
        let bad = |why: &str| BadRecord {
            segment: segment::file_name(from),
            offset: 0,
            why: why.to_owned(),
            from,
            to: base.saturating_sub(1),
        };
        (from < base).then(|| bad("this segment is missing"))
    }

    fn leave(&mut self) {
        if let Some(place) = self.here.take() {
            self.told = self.told.max(Some(place.told));
        }
    }

    /// What to make of a place without a valid record. `None`: nothing is wrong, go on.
    fn hole(&mut self, why: Hole) -> Option<BadRecord> {
        let place = self.here.as_mut()?;
        match place.resync() {
            Some(_) if place.later_than != Some(place.at) => {
                // Perhaps it arrived only between the two looks.
                place.later_than = Some(place.at);
                None
            }
            Some(next) => Some(place.pass(why, next)),
            None => self.end(why),
        }
    }

    /// The same where no valid record follows in this segment.
    fn end(&mut self, why: Hole) -> Option<BadRecord> {
        let place = self.here.as_mut()?;
        let is_same = match Place::open(self.storage.as_ref(), place.base) {
            Ok(now) => now.is_some_and(|now| now.salt == place.salt),
            Err(_) => true,
        };
        if !is_same {
            // Deleted, or used for something else: what was in it is gone on purpose.
            self.here = None;
            self.told = None;
            return None;
        }
        let after = bases(self.storage.as_ref()).ok().and_then(|all| all.into_iter().find(|&base| base > place.base));
        if after.is_some() && !place.is_past {
            // It may have been finished since we looked.
            place.is_past = true;
            return None;
        }
        if after.is_none() {
            // It was the last one, so the spool ended here. What comes from now on does not belong to this walk: what
            // was written into this segment meanwhile would seem to be missing between here and a later one.
            self.from = Start::Only(u64::MAX);
        }
        let from = place.told.saturating_add(1);
        let bad = match (&why, after) {
            (Hole::Blank, _) | (Hole::Invalid(_), None) => None,
            (Hole::Unreadable(_), None) => Some(place.bad(why, from)),
            (_, Some(after)) => Some(place.bad(why, after.saturating_sub(1))),
        };
        if let Some(bad) = &bad {
            place.told = place.told.max(bad.to);
        }
        self.leave();
        bad
    }

    /// The directory itself cannot be read: that ends the walk.
    fn stop(&mut self, e: &io::Error) -> BadRecord {
        self.from = Start::Only(u64::MAX);
        let why = format!("{}: {e}", self.storage.path().display());
        BadRecord { segment: String::new(), offset: 0, why, from: 1, to: 0 }
    }
}

/// A place without a valid record.
enum Hole {
    /// Zeros, as where nothing was written yet.
    Blank,
    Invalid(&'static str),
    Unreadable(String),
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hole::Blank => f.write_str("zeros where records were"),
            Hole::Invalid(why) => f.write_str(why),
            Hole::Unreadable(e) => f.write_str(e),
        }
    }
}

enum Ended {
    Enough,
    Whole,
    Hole(Hole),
}

impl Place {
    /// `None`: there is no such file. The error says what is wrong with its header.
    fn open(storage: &dyn Storage, base: u64) -> Result<Option<Place>, String> {
        let name = segment::file_name(base);
        let file = match storage.open(&name, Open::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let header = header(&*file)?;
        if header.base != base {
            return Err("it has the header of another segment".to_owned());
        }
        let before = base.saturating_sub(1);
        Ok(Some(Place {
            name,
            base,
            salt: header.salt,
            file: Patient(file),
            at: SEGMENT_HEADER,
            floor: before,
            told: before,
            later_than: None,
            is_past: false,
        }))
    }

    fn scan(&mut self, each: &mut dyn FnMut(&str, u64, &Record<'_>) -> bool) -> Ended {
        let (mut is_old, mut is_enough, mut is_sealed) = (false, false, false);
        let from = self.at;
        let Place { name, at, floor, told, .. } = self;
        let mut visit = |offset: u64, record: &Record<'_>| {
            // A scan that starts anew does not know what came before.
            if record.kind == Kind::Message && record.sequence <= *floor {
                is_old = true;
                return false;
            }
            if matches!(record.kind, Kind::Message | Kind::Gap) {
                *floor = record.sequence;
            }
            *told = (*told).max(record.sequence);
            is_sealed = record.kind == Kind::Seal;
            *at = offset.saturating_add(record.size as u64);
            is_enough = !each(name, offset, record);
            !is_enough
        };
        let ended = scan(&self.file, self.salt, from, &mut visit);
        if is_enough {
            return Ended::Enough;
        }
        let why = match ended.map(|end| end.why) {
            _ if is_old => Hole::Invalid("a record out of order"),
            Ok(Why::Eof) if is_sealed => return Ended::Whole,
            // A file that grows with what is written ends where it is written.
            Ok(Why::Eof | Why::End) => Hole::Blank,
            Ok(Why::Bad | Why::Stopped) => Hole::Invalid("not a valid record"),
            Err(e) => Hole::Unreadable(e.to_string()),
        };
        // What cannot be read was read as zeros.
        let trouble = self.file.trouble_at(self.at);
        Ended::Hole(trouble.map_or(why, Hole::Unreadable))
    }

    fn bad(&self, why: Hole, to: u64) -> BadRecord {
        let from = self.told.saturating_add(1);
        BadRecord { segment: self.name.clone(), offset: self.at, why: why.to_string(), from, to }
    }

    /// The place of the next valid record.
    fn resync(&self) -> Option<u64> {
        let from = self.at.saturating_add(record::ALIGN as u64);
        resync(&self.file, self.salt, from, u64::MAX, self.floor).unwrap_or(None)
    }

    /// Goes on at `next`, and says what lies between.
    fn pass(&mut self, why: Hole, next: u64) -> BadRecord {
        let mut to = self.told;
        let _ = scan(&self.file, self.salt, next, &mut |_, record| {
            to = match (record.kind, record.gap()) {
                (Kind::Message, _) => record.sequence.saturating_sub(1),
                (_, Some(gap)) => gap.from.saturating_sub(1),
                _ => record.sequence,
            };
            false
        });
        let bad = self.bad(why, to);
        self.at = next;
        self.told = self.told.max(to);
        bad
    }
}

/// A file that is read as far as it can be: sectors that the disk cannot read are zeros.
struct Patient(Arc<dyn File>);

/// What is given up at once.
const SECTORS: usize = 4096;

impl Patient {
    /// Why the bytes at this place cannot be read.
    fn trouble_at(&self, offset: u64) -> Option<String> {
        self.0.read_at(&mut [0; record::HEADER], offset).err().map(|e| e.to_string())
    }
}

impl File for Patient {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let whole = self.0.read_at(buf, offset);
        let Some(piece) = whole.is_err().then(|| buf.len().min(SECTORS)).and_then(|size| buf.get_mut(..size)) else {
            return whole;
        };
        self.0.read_at(piece, offset).or_else(|_| {
            piece.fill(0);
            Ok(piece.len())
        })
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The bases of all segments, ascending, without a hole that is none.
///
/// A directory is not read at one instant: a segment made after its place was passed is left out, a later one may be
/// seen. Whatever was made before the newest of a first look is there at the second one.
pub(super) fn bases(storage: &dyn Storage) -> io::Result<Vec<u64>> {
    let look =
        || -> io::Result<Vec<u64>> { Ok(storage.list()?.iter().filter_map(|name| segment::base_of(name)).collect()) };
    let Some(newest) = look()?.into_iter().max() else { return Ok(Vec::new()) };
    let mut bases = look()?;
    bases.retain(|&base| base <= newest);
    bases.sort_unstable();
    Ok(bases)
}

/// The head of a segment's file, or what is wrong with it.
pub(super) fn header(file: &dyn File) -> Result<Header, String> {
    let mut bytes = [0; segment::LOOK];
    let read = read_all_at(file, &mut bytes, 0).map_err(|e| e.to_string())?;
    Header::parse(bytes.get(..read).unwrap_or_default()).map_err(|e| match e {
        HeaderError::Bad => "its header is damaged".to_owned(),
        HeaderError::Unknown { found } => format!("it has format {found}, this version knows {}", segment::KNOWN),
    })
}

/// What a finished segment says about itself; `None` if it is not finished.
pub(super) fn seal(file: &dyn File, salt: u64) -> Option<(Seal, u64)> {
    let at = file.len().ok()?.checked_sub(record::SEAL as u64).filter(|&at| at >= SEGMENT_HEADER)?;
    let mut bytes = [0; record::SEAL];
    read_all_at(file, &mut bytes, at).ok()?;
    let Parsed::Record(record) = record::parse(&bytes, Some(salt), u64::MAX) else { return None };
    Some((record.seal()?, record.sequence))
}

/// When the last message of a finished segment was sent.
fn last_time(storage: &dyn Storage, base: u64) -> Option<i64> {
    let file = storage.open(&segment::file_name(base), Open::Read).ok()?;
    let (seal, _) = seal(&*file, header(&*file).ok()?.salt)?;
    Some(seal.last_time)
}

/// Whether a message's frames are what its record says.
pub(super) fn has_frames(record: &Record<'_>) -> bool {
    let mut frames = frame::frames(record.body);
    let topic = frames.next().map(<[u8]>::len);
    topic == Some(record.topic_len as usize)
        && frames.count().saturating_add(1) == usize::from(record.frames)
        && frame::message_len(record.body) == Some(record.body.len())
}

/// Reads everything. A bad place goes to `report`, whose error ends it.
pub(super) fn verify(
    storage: Arc<dyn Storage>,
    verified: &mut Verified,
    report: &mut dyn FnMut(BadRecord) -> Result<(), BadRecord>,
) -> Result<(), BadRecord> {
    let head = match Slots::read(storage.as_ref()) {
        // A head of 0 was never set, perhaps because the registry was lost before.
        Ok(Found::Both(registry) | Found::One(registry)) if registry.head > 0 => Some(registry.head),
        _ => None,
    };
    let mut walk = Walk::new(storage, Start::Oldest);
    // What is missing in front of the first segment is missing, too.
    walk.told = head.map(|head| head.saturating_sub(1));
    loop {
        let mut broken = None;
        let step = walk.step(&mut |name, offset, record| {
            if record.kind != Kind::Message {
                return true;
            }
            if has_frames(record) {
                verified.records = verified.records.saturating_add(1);
                verified.bytes = verified.bytes.saturating_add(record.size as u64);
                return true;
            }
            broken = Some(no_frames(name, offset, record.sequence));
            false
        });
        match (step, broken) {
            (Step::More, Some(bad)) | (Step::Bad(bad), _) => report(bad)?,
            (Step::More, None) => {}
            (Step::End, _) => return Ok(()),
        }
    }
}

/// A record whose checksum is right and whose frames are not.
pub(super) fn no_frames(name: &str, offset: u64, sequence: u64) -> BadRecord {
    let why = "its frames do not fit".to_owned();
    BadRecord { segment: name.to_owned(), offset, why, from: sequence, to: sequence }
}
