//! From a directory to a running log: lock, registry, recovery, numbers, gap, sync, names, thread.
//!
//! The order matters and is that of the design: nothing is visible before what was recovered is synced, no number is
//! given before the registry says how far numbers are used. No step depends on having run once. Next: `writer`.

use std::any::Any;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;

use super::books::Books;
use super::front::{Front, STEP};
use super::shared::{Handle, Parts, Shared, locked};
use super::stats::Counters;
use super::{Log, Witness};
use crate::error::OpenError;
use crate::event::Event;
use crate::options::spool::{SpoolOptions, Sync};
use crate::store::clock::{Clock, SpoolClock, SystemClock};
use crate::store::log::books::Spare;
use crate::store::names::{Found, NameKind, NameRecord, Registry, Slots};
use crate::store::record::{self, GapReason};
use crate::store::ring::Ring;
use crate::store::scan::{self, Damage, Proof, Recovered, Segment};
use crate::store::segment::{self, Header, SEGMENT_HEADER};
use crate::store::storage::real::RealDir;
use crate::store::storage::{Locked, Storage, read_all_at, write_all_at};
use crate::store::writer::rotate::{AT_ONCE, make_file, name_segment, new_id, random, write_header};
use crate::store::writer::{Writer, thread};

/// Numbers left out when the registry is lost, so that none that it had given out is given again. The segments tell
/// of numbers that were written only; numbers of what nobody wanted may be far ahead.
const LOST: u64 = 1 << 40;

pub(super) fn open(options: &SpoolOptions, push: bool, witness: Arc<dyn Witness>) -> Result<Log, OpenError> {
    let storage = RealDir::open(&options.dir, options.allow_network_fs, true)?;
    open_on(storage, Arc::new(SystemClock), options, push, witness, true)
}

/// The same on this storage and by this clock. Without a thread the writer works in [`Log::turn`] only.
pub(super) fn open_on(
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    options: &SpoolOptions,
    push: bool,
    witness: Arc<dyn Witness>,
    threaded: bool,
) -> Result<Log, OpenError> {
    let lock = match storage.lock().map_err(|e| path_error(&*storage, e))? {
        Locked::Got(lock) => lock,
        Locked::Held { pid } => return Err(OpenError::InUse { pid, path: storage.path().to_owned() }),
    };
    Opening { storage, clock, options: options.clone(), push, witness, threaded, lock: Some(lock), nested: false }.run()
}

fn path_error(storage: &dyn Storage, source: io::Error) -> OpenError {
    OpenError::Path { path: storage.path().to_owned(), source }
}

/// What opening needs.
pub(super) struct Opening {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: SpoolOptions,
    pub(super) push: bool,
    pub(super) witness: Arc<dyn Witness>,
    pub(super) threaded: bool,
    pub(super) lock: Option<Box<dyn Any + Send + std::marker::Sync>>,
    /// A log within a log: it has no logs in it.
    pub(super) nested: bool,
}

/// What became of the registry.
struct Judged {
    registry: Registry,
    /// The first number that may be given.
    next: u64,
    fresh: bool,
    unclean: bool,
    lost: bool,
}

fn judge(found: Found, recovered: &Recovered) -> Judged {
    let (fresh, one) = (matches!(found, Found::Fresh), matches!(found, Found::One(_)));
    match found {
        Found::Both(registry) | Found::One(registry) => {
            let unclean = one || !registry.clean;
            let step = if one { STEP } else { 0 };
            let used = if unclean { registry.reserved_until.saturating_add(step) } else { registry.last };
            let next = used.max(recovered.last).saturating_add(1);
            Judged { registry, next, fresh: false, unclean, lost: false }
        }
        Found::Fresh | Found::Lost => {
            let next = match recovered.spool {
                Some(_) => recovered.last.saturating_add(LOST).saturating_add(1),
                None => 1,
            };
            let spool = recovered.spool.unwrap_or_else(new_id);
            let head = recovered.segments.first().map_or(0, |first| first.base);
            Judged {
                registry: Registry { spool, head, ..Registry::default() },
                next,
                fresh,
                unclean: !fresh,
                lost: !fresh,
            }
        }
    }
}

impl Opening {
    pub(super) fn run(mut self) -> Result<Log, OpenError> {
        let storage = Arc::clone(&self.storage);
        let failed = |e| path_error(&*storage, e);
        let (mut slots, found) = Slots::open(&self.storage)?;
        let (spool, proven) = match &found {
            Found::Both(registry) | Found::One(registry) => (Some(registry.spool), registry.proven()),
            Found::Fresh | Found::Lost => (None, 0),
        };
        let mut recovered = scan::recover(&*self.storage, spool, Proof { proven })?;
        clear_temporary(&*self.storage).map_err(failed)?;
        let mut judged = judge(found, &recovered);
        judged.registry.clean = false;
        judged.registry.last = recovered.last;
        judged.registry.reserved_until = judged.registry.reserved_until.max(judged.next.saturating_add(STEP));
        // Both, so that a single good slot becomes two again; and before the first segment, which is never without.
        slots.save_both(&judged.registry).map_err(failed)?;
        let clock = SpoolClock::new(Arc::clone(&self.clock), recovered.last_time);
        let gap = self.settle(&mut recovered, &judged, clock.now()).map_err(failed)?;
        let (fresh, unclean) = (judged.fresh, judged.unclean);
        let shared = self.share(slots, &mut recovered, judged, clock).map_err(failed)?;
        Counters::add(&shared.counters.gaps, u64::from(gap));
        report(&shared, &recovered);
        if !self.nested {
            shared.open_nested()?;
        }
        let thread = if self.threaded { Some(thread::start(&shared).map_err(failed)?) } else { None };
        let log = Log(Arc::new(Handle { shared, thread: Mutex::new(thread) }));
        let shared = &log.0.shared;
        if unclean && !fresh {
            let next = shared.newest().saturating_add(1);
            let (records, torn) = (recovered.records, recovered.torn);
            shared.witness.event(Event::Recovered { records, torn, next });
        }
        Ok(log)
    }

    /// Makes sure of a segment to write to, tells the numbers that are left out, syncs. True if there is a gap.
    fn settle(&self, recovered: &mut Recovered, judged: &Judged, now: i64) -> io::Result<bool> {
        let (storage, size) = (&*self.storage, self.segment_size());
        let rewrite = judged.unclean && self.options.sync != Sync::Never;
        if let Some(last) = recovered.segments.last().filter(|last| last.sealed && rewrite) {
            // Without a segment behind it nothing says that its seal was synced.
            rewrite_from(last, SEGMENT_HEADER)?;
            last.file.sync()?;
        }
        if recovered.segments.last().is_none_or(|last| last.sealed) {
            // A hole in front of it is told of by the gap of its own that damage gets.
            let written = recovered.segments.last().map_or(0, |segment| segment.last);
            let after = written.saturating_add(1).max(judged.registry.head);
            let base = if judged.unclean { after } else { judged.next };
            let header = Header { spool: judged.registry.spool, base, created: now, salt: random() };
            recovered.segments.push(make_segment(storage, &header, size)?);
        }
        let Some(active) = recovered.segments.last_mut() else { return Ok(false) };
        let mut gap = false;
        if active.last < recovered.last {
            gap |= write_gap(active, recovered.last, now, GapReason::Damage)?;
        }
        if judged.unclean && active.last.saturating_add(1) < judged.next {
            gap |= write_gap(active, judged.next - 1, now, GapReason::Recovery)?;
        }
        if judged.unclean {
            if rewrite {
                rewrite_from(active, active.safe)?;
            }
            active.file.sync()?;
            storage.sync_dir()?;
        }
        if active.size < size && active.file.allocate(size).is_ok() {
            active.size = size;
        }
        if active.size > size.max(active.end) {
            // Room for a record that is not there, or for what was a segment under other options: others need it.
            active.size = size.max(active.end);
            active.file.set_len(active.size)?;
        }
        Ok(gap)
    }

    fn segment_size(&self) -> u64 {
        self.options.segment_size().min(self.options.max_bytes / 2).max(LEAST_SEGMENT)
    }

    fn share(
        &mut self,
        slots: Slots,
        recovered: &mut Recovered,
        judged: Judged,
        clock: SpoolClock,
    ) -> io::Result<Arc<Shared>> {
        let segment_size = self.segment_size();
        let segments = std::mem::take(&mut recovered.segments);
        let Some(active) = segments.last() else { return Err(io::ErrorKind::NotFound.into()) };
        let (next, registry) = (judged.next, judged.registry);
        let writer = Writer::new(active, next - 1, self.clock.monotonic());
        let all = self.push || self.options.append_all;
        let mark = if self.options.sync == Sync::Never { 0 } else { record::MARK };
        let reserved = registry.reserved_until;
        let id = registry.spool;
        let mut front = Front::new(next, reserved, clock, all, self.options.max_record, mark);
        for filter in registry.names.values().flat_map(|name| &name.filters) {
            front.interest.add(&filter.0);
        }
        front.nudged = true;
        let mut books = Books::new(segments, registry);
        books.names_lost = judged.lost;
        books.release = true;
        let mut ring = Ring::new(next - 1);
        if self.nested {
            ring.limit(NESTED_RING);
        }
        let shared = Arc::new(Shared::new(Parts {
            id,
            storage: Arc::clone(&self.storage),
            options: self.options.clone(),
            segment_size,
            witness: Arc::clone(&self.witness),
            clock: Arc::clone(&self.clock),
            threaded: self.threaded,
            writer,
            slots,
            front,
            books,
            ring,
            lock: self.lock.take(),
            safe: recovered.last,
        }));
        shared.settle_names(self.push, next - 1)?;
        if judged.lost {
            shared.witness.event(Event::NamesLost);
        }
        shared.first_plan();
        Ok(shared)
    }
}

/// What a log within a log keeps in memory: nobody follows it closely.
const NESTED_RING: usize = 1 << 20;

/// The least that a segment may be: header, a mark, a seal and something.
const LEAST_SEGMENT: u64 = 1024;

/// Files under a temporary name are from an opening or a rotation that was not finished.
fn clear_temporary(storage: &dyn Storage) -> io::Result<()> {
    for name in storage.list()?.iter().filter(|name| name.ends_with(".tmp")) {
        storage.remove(name)?;
    }
    Ok(())
}

/// The first segment, or one more. On a full disk it begins without space set aside.
fn make_segment(storage: &dyn Storage, header: &Header, size: u64) -> io::Result<Segment> {
    let (file, size) = match make_file(storage, AT_ONCE, size) {
        Ok(file) => (file, size),
        Err(e) if is_full(&e) => (make_file(storage, AT_ONCE, 0)?, 0),
        Err(e) => return Err(e),
    };
    write_header(&*file, header, true)?;
    name_segment(storage, Spare { name: AT_ONCE, file, size }, header, true)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes once more what no sync is known of. Where a sync failed the system may show what it never wrote, and hold it
/// for clean: the sync to come would do nothing for it.
fn rewrite_from(segment: &Segment, from: u64) -> io::Result<()> {
    let mut at = from.max(SEGMENT_HEADER);
    let mut piece = vec![0; PIECE];
    while at < segment.end {
        let size = usize::try_from(segment.end - at).map_or(PIECE, |left| left.min(PIECE));
        let Some(bytes) = piece.get_mut(..size) else { return Ok(()) };
        // What cannot be read stays as it is.
        if read_all_at(&*segment.file, bytes, at).is_ok_and(|read| read == size) {
            write_all_at(&*segment.file, bytes, at)?;
        }
        at += size as u64;
    }
    Ok(())
}

/// Read and written at once.
const PIECE: usize = 256 << 10;

/// Tells that the numbers behind `active` up to `to` will never appear. On a full disk it goes without: the numbers
/// are left out all the same.
fn write_gap(active: &mut Segment, to: u64, now: i64, reason: GapReason) -> io::Result<bool> {
    let mut gap = BytesMut::new();
    record::encode_gap(&mut gap, now, active.last + 1, to, reason);
    record::fill_checksums(&mut gap, active.salt);
    match write_all_at(&*active.file, &gap, active.end) {
        Ok(()) => {}
        Err(e) if is_full(&e) => {
            active.file.set_len(active.end)?;
            return Ok(false);
        }
        Err(e) => return Err(e),
    }
    active.end += gap.len() as u64;
    active.size = active.size.max(active.end);
    active.last = to;
    Ok(true)
}

/// Events of what recovery found, and counters.
fn report(shared: &Shared, recovered: &Recovered) {
    Counters::add(&shared.counters.recovered_bytes, recovered.torn);
    let head = locked(&shared.books).registry.head;
    // A crash may take files that were on their way out in any order: no loss, they were let go.
    let let_go = |damage: &&Damage| damage.bytes == 0 && damage.from <= damage.to && damage.to < head;
    for damage in recovered.damage.iter().filter(|damage| !let_go(damage)) {
        let Damage { segment, offset, bytes, from, to } = damage.clone();
        Counters::add(&shared.counters.damaged_bytes, bytes);
        Counters::add(&shared.counters.damaged_records, to.saturating_add(1).saturating_sub(from));
        if let Some(base) = segment::base_of(&segment) {
            locked(&shared.books).told.insert((base, offset));
        }
        shared.witness.event(Event::Damaged { segment, offset, bytes, from, to });
    }
}

impl Shared {
    /// The names as options and losses want them; saved if that changed something.
    fn settle_names(&self, push: bool, newest: u64) -> io::Result<()> {
        let mut books = locked(&self.books);
        let first = books.oldest();
        let mut changed = push && !books.registry.names.contains_key("");
        if changed {
            let cursor = if books.names_lost { first.saturating_sub(1) } else { newest };
            let outbox =
                NameRecord { kind: NameKind::Outbox, created: self.clock.wall(), cursor, ..NameRecord::default() };
            books.registry.names.insert(String::new(), outbox);
        }
        let lost = lost_in_front(&mut books.registry, first);
        changed |= !lost.is_empty() || !self.options.declared.is_empty();
        drop(books);
        for declared in &self.options.declared {
            let prefixes: Vec<&[u8]> = declared.prefixes.iter().map(|prefix| &**prefix).collect();
            self.declare(&declared.name, &prefixes);
        }
        if changed {
            self.save(true)?;
        }
        for (name, from, to) in lost {
            self.witness.event(Event::Lost { name, from, to, records: to - from + 1, bytes: 0 });
        }
        Ok(())
    }
}

/// Names whose next record is before the first segment, though it was not let go on purpose.
fn lost_in_front(registry: &mut Registry, first: u64) -> Vec<(String, u64, u64)> {
    let head = registry.head;
    let mut all = Vec::new();
    for name in registry.names.values_mut().filter(|name| name.cursor.saturating_add(1) < first) {
        let (from, to) = ((name.cursor + 1).max(head), first - 1);
        name.cursor = to;
        name.done.retain(|range| range.1 > to);
        if from > to {
            continue;
        }
        name.lost_records = name.lost_records.saturating_add(to - from + 1);
        name.lost = Some(name.lost.map_or((from, to), |lost| (lost.0.min(from), lost.1.max(to))));
        all.push((name.name.clone(), from, to));
    }
    all
}
