//! One segment that has to be looked through: what it holds, what is cut, what is reported.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;

use super::aside;
use super::walk::{Hole, Walk, walk};
use super::window::Window;
use super::{Damage, Segment};
use crate::store::record::{self, GapReason};
use crate::store::storage::{File, Storage, write_all_at};

/// What is known of a segment before it is looked through.
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    pub(super) base: u64,
    pub(super) salt: u64,
    pub(super) file: &'a Arc<dyn File>,
    /// Numbers up to here were accepted.
    pub(super) proven: u64,
    /// The base of the segment behind it: everything here was safe before that one was made.
    pub(super) next: Option<u64>,
}

/// What came of it.
pub(super) struct Mended {
    pub(super) segment: Segment,
    pub(super) damage: Vec<Damage>,
    pub(super) torn: u64,
    pub(super) origins: Vec<u64>,
    /// The newest record's.
    pub(super) time: i64,
}

/// Looks through a segment, cuts a torn tail, sets damage aside. Everything that stays is synced when it returns.
pub(super) fn mend(storage: &dyn Storage, known: &Known<'_>) -> io::Result<Mended> {
    let mut window = Window::lenient(&**known.file)?;
    let mut walk = walk(&mut window, known.base, known.salt)?;
    let mut findings = Findings { known, damage: Vec::new(), torn: 0, unsaid: Unsaid::default() };
    findings.judge(&mut walk);
    for damage in findings.damage.iter().filter(|damage| damage.bytes > 0) {
        let until = damage.offset.saturating_add(damage.bytes);
        aside::copy(storage, known.name, &mut window, damage.offset, until)?;
    }
    let Findings { damage, torn, unsaid, .. } = findings;
    finish(known, &mut walk, &unsaid)?;
    let (time, origins) = (walk.count.time, std::mem::take(&mut walk.origins));
    Ok(Mended { segment: segment(known, walk), damage, torn, time, origins })
}

struct Findings<'a> {
    known: &'a Known<'a>,
    damage: Vec<Damage>,
    torn: u64,
    /// What the file itself does not say yet.
    unsaid: Unsaid,
}

#[derive(Default)]
struct Unsaid {
    /// A hole stays that only others prove to be damage.
    damage: bool,
    /// The last numbers are missing without a trace.
    tail: Option<(u64, u64)>,
}

impl Findings<'_> {
    /// Tells damage from a torn tail, hole by hole, and ends the walk where the segment is to end.
    fn judge(&mut self, walk: &mut Walk) {
        for i in 0..walk.holes.len() {
            let Some(hole) = walk.holes.get(i) else { break };
            if !self.was_safe(hole, walk.proven) {
                self.torn = walk.used.saturating_sub(hole.at);
                walk.end_at(i);
                return;
            }
            let damage = self.damage_of(hole);
            self.unsaid.damage |= hole.at >= walk.proven;
            if hole.to.is_none() {
                // Nothing valid behind it: the next record goes there.
                walk.count.end = hole.until;
                walk.count.last = damage.to;
            }
            self.damage.push(damage);
        }
        self.miss_tail(walk);
    }

    fn was_safe(&self, hole: &Hole, proven: u64) -> bool {
        hole.at < proven || hole.before.last < self.known.proven || hole.unreadable || self.known.next.is_some()
    }

    fn damage_of(&self, hole: &Hole) -> Damage {
        let before = hole.before.last;
        let to = hole.to.unwrap_or_else(|| match self.known.next {
            Some(next) => next.saturating_sub(1).max(before),
            // How many there were nobody knows, but there was one.
            None => self.known.proven.max(before.saturating_add(1)),
        });
        Damage {
            segment: self.known.name.to_owned(),
            offset: hole.at,
            bytes: hole.until.saturating_sub(hole.at),
            from: before.saturating_add(1),
            to,
        }
    }

    /// A segment with another one behind it that ends without a seal, and without all its numbers: its tail is lost.
    fn miss_tail(&mut self, walk: &Walk) {
        let (from, to) = (walk.count.last.saturating_add(1), self.known.next.unwrap_or(0).saturating_sub(1));
        if !walk.sealed && from <= to {
            let segment = self.known.name.to_owned();
            self.damage.push(Damage { segment, offset: walk.count.end, bytes: 0, from, to });
            self.unsaid.tail = Some((from, to));
        }
    }
}

/// Brings the file into the shape that was decided on, and syncs it.
fn finish(known: &Known<'_>, walk: &mut Walk, unsaid: &Unsaid) -> io::Result<()> {
    let file = &**known.file;
    let behind = known.next.is_some();
    // Zeros behind the end of the last segment are room for more. Anything else goes, so that it never lines up
    // with later records.
    if walk.count.end < walk.len && (walk.cut || walk.sealed || behind) {
        file.set_len(walk.count.end)?;
        walk.len = walk.count.end;
    }
    file.sync()?;
    if !walk.sealed && behind {
        seal(known, walk, unsaid)?;
    } else if !walk.sealed && unsaid.damage {
        mark(known, walk)?;
    }
    Ok(())
}

/// Gives a finished segment the seal that it lost: it need not be looked through again.
fn seal(known: &Known<'_>, walk: &mut Walk, unsaid: &Unsaid) -> io::Result<()> {
    let count = &walk.count;
    let last = last_given(known, walk);
    let mut bytes = BytesMut::new();
    if let Some((from, to)) = unsaid.tail {
        record::encode_gap(&mut bytes, count.time, from, to, GapReason::Damage);
    }
    record::encode_seal(&mut bytes, last, count.time, count.records, count.last, count.first_time, count.last_time);
    append(known, walk, bytes)?;
    walk.sealed = true;
    Ok(())
}

/// The last number that was given before the next segment, written or not.
fn last_given(known: &Known<'_>, walk: &Walk) -> u64 {
    walk.count.last.max(known.next.unwrap_or(0).saturating_sub(1))
}

/// Proves in the segment itself what only others proved (should the registry be lost, the hole is no torn tail), and
/// tells readers up to which number all is missing.
fn mark(known: &Known<'_>, walk: &mut Walk) -> io::Result<()> {
    let mut bytes = BytesMut::with_capacity(record::MARK);
    record::encode_mark(&mut bytes, walk.count.last, walk.count.time, walk.count.last, walk.count.end);
    append(known, walk, bytes)
}

/// Writes a record behind the others, synced. A full disk does without: it is of use, but not needed.
fn append(known: &Known<'_>, walk: &mut Walk, mut bytes: BytesMut) -> io::Result<()> {
    record::fill_checksums(&mut bytes, known.salt);
    let at = walk.count.end;
    match write_all_at(&**known.file, &bytes, at) {
        Ok(()) => walk.count.end = at.saturating_add(bytes.len() as u64),
        Err(e) if aside::is_full(&e) => known.file.set_len(at)?,
        Err(e) => return Err(e),
    }
    walk.len = walk.len.max(walk.count.end);
    known.file.sync()
}

fn segment(known: &Known<'_>, walk: Walk) -> Segment {
    Segment {
        base: known.base,
        salt: known.salt,
        file: Arc::clone(known.file),
        end: walk.count.end,
        size: walk.len,
        safe: walk.proven.min(walk.count.end),
        sealed: walk.sealed || known.next.is_some(),
        records: walk.count.records,
        last: last_given(known, &walk),
        first_time: walk.count.first_time,
        last_time: walk.count.last_time,
        index: walk.index,
    }
}
