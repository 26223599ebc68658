//! From one segment to the next: room, the new file, the seal, the name.
//!
//! The new file is made, filled with its header and synced under a temporary name before the old one is sealed; so a
//! file with a final name has a good header, and a disk without space leaves everything as it was. Next: `limits`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::{Stop, Writer, failed, stop};
use crate::message::SpoolId;
use crate::options::spool::{Sync, WhenFull};
use crate::store::log::books::{Books, Spare};
use crate::store::log::shared::{Shared, locked};
use crate::store::record;
use crate::store::scan::Segment;
use crate::store::segment::{self, Header, SEGMENT_HEADER};
use crate::store::storage::{File, Open, Storage, write_all_at};

/// Prepared ahead, and made at once by the writer itself.
pub(super) const AHEAD: &str = "spare-0.tmp";
pub(crate) const AT_ONCE: &str = "spare-1.tmp";
/// Between two looks at a file that is being prepared.
const NEARLY: Duration = Duration::from_micros(200);

/// A number that nobody can foresee, for salts and identities.
pub(crate) fn random() -> u64 {
    #[cfg(test)]
    if let Some(known) = crate::store::tests::foreseen() {
        return known;
    }
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// A new identity.
pub(crate) fn new_id() -> SpoolId {
    let (one, two) = (random().to_le_bytes(), random().to_le_bytes());
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().zip(one.into_iter().chain(two)) {
        *place = byte;
    }
    SpoolId(id)
}

/// A file with space for a segment, under this name. What was there under it goes.
pub(crate) fn make_file(storage: &dyn Storage, name: &str, size: u64) -> io::Result<Arc<dyn File>> {
    match storage.remove(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = storage.open(name, Open::New)?;
    match file.allocate(size) {
        Ok(()) => Ok(file),
        Err(e) => {
            let _ = storage.remove(name);
            Err(e)
        }
    }
}

/// Gives a file its header. With `sync` it is safe when this returns.
pub(crate) fn write_header(file: &dyn File, header: &Header, sync: bool) -> io::Result<()> {
    write_all_at(file, &header.encode(), 0)?;
    if sync { file.sync() } else { Ok(()) }
}

/// Gives a file with a header its name. With `sync` it is safe when this returns.
pub(crate) fn name_segment(storage: &dyn Storage, spare: Spare, header: &Header, sync: bool) -> io::Result<Segment> {
    storage.rename(spare.name, &segment::file_name(header.base))?;
    if sync {
        storage.sync_dir()?;
    }
    Ok(Segment {
        base: header.base,
        salt: header.salt,
        file: spare.file,
        end: SEGMENT_HEADER,
        size: spare.size,
        safe: SEGMENT_HEADER,
        sealed: false,
        records: 0,
        last: header.base - 1,
        first_time: 0,
        last_time: 0,
        index: vec![(header.base, SEGMENT_HEADER)],
    })
}

impl Writer {
    /// Seals this segment and begins the next one, whose first number is `base`.
    pub(super) fn rotate(&mut self, shared: &Arc<Shared>, base: u64) -> Result<(), Stop> {
        if base <= self.base {
            // Its name would take the place of one that is there.
            return Err(Stop::Failed(format!("{}: a second segment of this name", segment::file_name(base))));
        }
        let spare = self.take_spare(shared)?;
        // Without a thread for it the writer does all of it itself.
        let sync = shared.options.sync != Sync::Never || !shared.threaded;
        let header = Header { spool: shared.id, base, created: shared.now(), salt: random() };
        let ready = write_header(&*spare.file, &header, sync).map_err(|e| stop(&e, spare.name));
        if let Err(stop) = ready.and_then(|()| self.seal(shared, base, sync)) {
            locked(&shared.books).spare = Some(spare);
            return Err(stop);
        }
        let made = name_segment(&*shared.storage, spare, &header, sync);
        let segment = made.map_err(|e| failed(&e, &segment::file_name(base)))?;
        let mut books = locked(&shared.books);
        self.update(&mut books.segments, base - 1);
        if let Some(old) = books.segments.back_mut() {
            (old.sealed, old.size) = (true, old.end);
        }
        (books.release, self.file) = (true, Arc::clone(&segment.file));
        books.segments.push_back(segment);
        drop(books);
        (self.base, self.salt, self.offset) = (base, header.salt, SEGMENT_HEADER);
        (self.records, self.first_time, self.batches) = (0, 0, 0);
        self.index.clear();
        // The old segment is safe; nothing is to be marked in the new one.
        (self.mark, self.unsynced, self.unsynced_since) = (None, 0, None);
        self.shrink(shared)
    }

    /// What was let stay for want of a segment behind it goes now, if the policy is to drop.
    fn shrink(&mut self, shared: &Arc<Shared>) -> Result<(), Stop> {
        let max = shared.options.max_bytes;
        loop {
            let bytes = locked(&shared.books).bytes();
            if bytes <= max || !self.drops(shared) || !self.make_room(shared, &Stop::Full(bytes, max))? {
                return Ok(());
            }
        }
    }

    /// Whether the policy is to let go what was not read.
    pub(super) fn drops(&self, shared: &Shared) -> bool {
        matches!(shared.options.when_full, WhenFull::DropOldest | WhenFull::DropName)
    }

    /// Writes the seal, cuts the file behind it, syncs.
    fn seal(&mut self, shared: &Arc<Shared>, base: u64, sync: bool) -> Result<(), Stop> {
        // A seal says that all before it is safe, and so must not reach the disk before it is.
        if sync && self.unsynced > 0 {
            self.sync(shared, shared.clock.monotonic())?;
        }
        let mut seal = BytesMut::with_capacity(record::SEAL);
        let (first, last) = (self.first_time, self.last_time);
        record::encode_seal(&mut seal, base - 1, last, self.records, base - 1, first, last);
        record::fill_checksums(&mut seal, self.salt);
        write_all_at(&*self.file, &seal, self.offset).map_err(|e| stop(&e, "write"))?;
        let end = self.offset + seal.len() as u64;
        self.file.set_len(end).map_err(|e| failed(&e, "cut"))?;
        if sync {
            self.file.sync().map_err(|e| failed(&e, "sync"))?;
            self.is_safe(shared, self.last, self.record);
        } else {
            self.sync_behind(shared, Arc::clone(&self.file), self.last);
        }
        self.offset = end;
        Ok(())
    }

    /// The prepared file, or one that is made now, if the limits allow it or something can go.
    fn take_spare(&mut self, shared: &Arc<Shared>) -> Result<Spare, Stop> {
        loop {
            let mut books = locked(&shared.books);
            let ready = books.spare.take();
            let bytes = self.bytes(&books);
            drop(books);
            if let Some(spare) = ready {
                return Ok(spare);
            }
            let full = match self.look_for_room(shared, bytes) {
                Ok(()) => match self.make_spare(shared) {
                    Ok(spare) => return Ok(spare),
                    Err(stop) => stop,
                },
                Err(full) => full,
            };
            if matches!(full, Stop::Full(..)) && self.is_preparing(shared) {
                // The file that takes the last of the room is nearly there.
                std::thread::sleep(NEARLY);
                continue;
            }
            if matches!(full, Stop::Failed(_)) {
                return Err(full);
            }
            if !self.make_room(shared, &full)? {
                return self.spare_in_place(shared, full);
            }
        }
    }

    fn make_spare(&self, shared: &Shared) -> Result<Spare, Stop> {
        let file = make_file(&*shared.storage, AT_ONCE, shared.segment_size).map_err(|e| stop(&e, AT_ONCE))?;
        Ok(Spare { name: AT_ONCE, file, size: shared.segment_size })
    }

    /// A file in the place of the segment that is being left, should that be what takes the room: it goes right after.
    fn spare_in_place(&mut self, shared: &Shared, full: Stop) -> Result<Spare, Stop> {
        let books = locked(&shared.books);
        let (bytes, outgrown) = (self.bytes(&books), self.outgrown(shared, &books));
        drop(books);
        if outgrown == 0 || self.look_for_room(shared, bytes.saturating_sub(outgrown)).is_err() {
            return Err(full);
        }
        self.make_spare(shared)
    }

    /// Bytes of all files; of this one what is written, shown or not.
    fn bytes(&self, books: &Books) -> u64 {
        let shown = books.segments.back().map_or(0, |newest| newest.size);
        books.bytes().saturating_add(self.offset.saturating_sub(shown))
    }

    /// Whether a segment may be made beside `bytes` that are there.
    pub(super) fn look_for_room(&self, shared: &Shared, bytes: u64) -> Result<(), Stop> {
        let max = shared.options.max_bytes;
        if bytes.saturating_add(shared.segment_size) > max {
            return Err(Stop::Full(bytes, max));
        }
        let Ok(space) = shared.storage.space() else { return Ok(()) };
        let keep = shared.options.min_free_disk.unwrap_or((space.total / 20).max(256 << 20));
        // Where the system cannot tell, both are the largest number there is.
        if space.free < u64::MAX && space.free < keep.saturating_add(shared.segment_size) {
            return Err(Stop::Full(bytes, keep));
        }
        Ok(())
    }

    /// What `when_full` lets go. True if something went.
    fn make_room(&mut self, shared: &Arc<Shared>, full: &Stop) -> Result<bool, Stop> {
        if self.let_go(shared)? {
            return Ok(true);
        }
        let went = match shared.options.when_full {
            WhenFull::DropOldest => self.drop_oldest(shared)?,
            WhenFull::DropName => self.evict(shared)?,
            _ => false,
        };
        if let (true, Stop::Full(bytes, limit)) = (went, full) {
            let (bytes, limit) = if *limit > 0 { (*bytes, *limit) } else { self.measure(shared) };
            self.tell_full(shared, bytes, limit);
        }
        Ok(went)
    }
}
