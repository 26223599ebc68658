//! What is in a simulated file, what was synced of it, and what a crash leaves.
//!
//! A file has an image that is safe and a list of changes since. A crash keeps some of them: of the content by
//! sectors of 512 bytes (each in any of the states it was in since the last sync, or all of them cut at one moment),
//! of the lengths the first few. Images are shared until one is written, so a crash costs what it changes.

use std::ops::Range;
use std::sync::Arc;

use super::chance::Chance;

pub(super) const SECTOR: usize = 512;

/// A change of a file since its last sync.
#[derive(Clone)]
enum Change {
    /// Whole sectors, from this one on.
    Sectors(usize, Arc<[u8]>),
    /// The file's length.
    Length(usize),
}

/// A file's content.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// As readers see it.
    now: Arc<Vec<u8>>,
    safe: Arc<Vec<u8>>,
    changes: Vec<Change>,
    space: Arc<Allocated>,
    bad: Vec<Range<u64>>,
    /// For scripts: the last name it had.
    pub(super) name: String,
    pub(super) handles: usize,
    pub(super) linked: bool,
}

impl Content {
    pub(super) fn new(name: String, bytes: &[u8]) -> Content {
        let image = Arc::new(bytes.to_vec());
        let mut space = Allocated::default();
        space.take(sectors(0, bytes.len()));
        Content { now: image.clone(), safe: image, space: Arc::new(space), name, linked: true, ..Content::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn image(&self) -> Arc<Vec<u8>> {
        self.now.clone()
    }

    /// Whether all of it was synced.
    pub(super) fn is_safe(&self) -> bool {
        self.changes.is_empty()
    }

    /// Sectors in use: none without a name and a handle.
    pub(super) fn used(&self) -> usize {
        if self.is_gone() { 0 } else { self.space.used }
    }

    pub(super) fn is_gone(&self) -> bool {
        !self.linked && self.handles == 0
    }

    /// None: a bad place.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Option<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.now.len());
        let size = buf.len().min(self.now.len() - from);
        let range = offset..offset + size as u64;
        if self.bad.iter().any(|bad| bad.start < range.end && range.start < bad.end) {
            return None;
        }
        buf[..size].copy_from_slice(&self.now[from..from + size]);
        Some(size)
    }

    /// Writes what fits into `room` new sectors; says how many bytes.
    pub(super) fn write(&mut self, buf: &[u8], offset: usize, room: usize) -> usize {
        let mut new = sectors(offset, buf.len()).filter(|sector| !self.space.has(*sector));
        let size = match new.nth(room) {
            Some(full) => (full * SECTOR).saturating_sub(offset),
            None => buf.len(),
        };
        if size == 0 {
            return 0;
        }
        let end = offset + size;
        Arc::make_mut(&mut self.space).take(sectors(offset, size));
        let now = Arc::make_mut(&mut self.now);
        if end > now.len() {
            resize(now, end);
            self.changes.push(Change::Length(end));
        }
        now[offset..end].copy_from_slice(&buf[..size]);
        let first = offset / SECTOR;
        let mut whole = now[first * SECTOR..now.len().min(end.next_multiple_of(SECTOR))].to_vec();
        whole.resize(whole.len().next_multiple_of(SECTOR), 0);
        self.changes.push(Change::Sectors(first, whole.into()));
        size
    }

    pub(super) fn set_len(&mut self, len: usize) {
        resize(Arc::make_mut(&mut self.now), len);
        Arc::make_mut(&mut self.space).cut(len.div_ceil(SECTOR));
        self.changes.push(Change::Length(len));
    }

    /// False: there is no room for so many new sectors.
    pub(super) fn allocate(&mut self, len: usize, room: usize) -> bool {
        if len <= self.now.len() {
            return true;
        }
        if sectors(0, len).filter(|sector| !self.space.has(*sector)).count() > room {
            return false;
        }
        Arc::make_mut(&mut self.space).take(sectors(0, len));
        resize(Arc::make_mut(&mut self.now), len);
        self.changes.push(Change::Length(len));
        true
    }

    pub(super) fn sync(&mut self) {
        replay(Arc::make_mut(&mut self.safe), &self.changes, |_| true, usize::MAX);
        self.changes.clear();
    }

    /// The unsynced sectors will never be written. The lengths will, as the system keeps them elsewhere.
    pub(super) fn drop_unsynced(&mut self) {
        self.changes.retain(|change| matches!(change, Change::Length(_)));
    }

    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let Ok(at) = usize::try_from(bit / 8) else { return false };
        let mask = 1 << (bit % 8);
        let Some(byte) = Arc::make_mut(&mut self.now).get_mut(at) else { return false };
        *byte ^= mask;
        if let Some(byte) = Arc::make_mut(&mut self.safe).get_mut(at) {
            *byte ^= mask;
        }
        for change in &mut self.changes {
            if let Change::Sectors(first, bytes) = change
                && let Some(byte) = at.checked_sub(*first * SECTOR).and_then(|at| Arc::make_mut(bytes).get_mut(at))
            {
                *byte ^= mask;
            }
        }
        true
    }

    pub(super) fn bad_range(&mut self, range: Range<u64>) {
        self.bad.push(range);
    }

    /// What the end of a process leaves: everything, synced or not.
    pub(super) fn kill(&self) -> Content {
        Content { handles: 0, linked: true, ..self.clone() }
    }

    /// What the power cut leaves.
    pub(super) fn crash(&self, chance: &mut Chance) -> Content {
        let mut safe = self.safe.clone();
        if !self.changes.is_empty() {
            self.lose(Arc::make_mut(&mut safe), chance);
        }
        let mut space = self.space.clone();
        if !self.changes.is_empty() || safe.len() != self.now.len() {
            let space = Arc::make_mut(&mut space);
            space.cut(safe.len().div_ceil(SECTOR));
            let is_filled = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
            for (number, sector) in safe.chunks(SECTOR).enumerate() {
                if !space.has(number) && is_filled(sector) {
                    space.take(number..number + 1);
                }
            }
        }
        Content {
            now: safe.clone(),
            safe,
            changes: Vec::new(),
            space,
            bad: self.bad.clone(),
            name: self.name.clone(),
            handles: 0,
            linked: true,
        }
    }

    /// Brings some of the changes into the safe image.
    fn lose(&self, image: &mut Vec<u8>, chance: &mut Chance) {
        // How often each sector was written.
        let mut written = Vec::<usize>::new();
        let mut lengths = 0;
        for change in &self.changes {
            match change {
                Change::Sectors(first, bytes) => {
                    let end = first + bytes.len() / SECTOR;
                    written.resize(written.len().max(end), 0);
                    written[*first..end].iter_mut().for_each(|times| *times += 1);
                }
                Change::Length(_) => lengths += 1,
            }
        }
        let lengths = chance.some_of(lengths);
        if chance.one_in(3) {
            let mut left = chance.some_of(written.iter().sum());
            let before_the_cut = |_| {
                let kept = left > 0;
                left = left.saturating_sub(1);
                kept
            };
            return replay(image, &self.changes, before_the_cut, lengths);
        }
        let lost = *chance.pick(&[2, 2, 3, 8]);
        for times in written.iter_mut().filter(|times| **times > 0) {
            if chance.one_in(lost) {
                *times = chance.below(*times);
            }
        }
        let first_times = |sector: usize| {
            let kept = written[sector] > 0;
            written[sector] -= usize::from(kept);
            kept
        };
        replay(image, &self.changes, first_times, lengths);
    }
}

/// Brings changes into an image: of the sectors written those that `keep` wants, asked in order; of the lengths the
/// first `lengths`.
fn replay(image: &mut Vec<u8>, changes: &[Change], mut keep: impl FnMut(usize) -> bool, mut lengths: usize) {
    let mut len = image.len();
    for change in changes {
        match change {
            Change::Sectors(first, bytes) => {
                for (sector, bytes) in (*first..).zip(bytes.chunks(SECTOR)).filter(|(sector, _)| keep(*sector)) {
                    let at = sector * SECTOR;
                    let size = image.len().max(at + SECTOR);
                    resize(image, size);
                    image[at..at + SECTOR].copy_from_slice(bytes);
                }
            }
            Change::Length(new) if lengths > 0 => {
                lengths -= 1;
                if *new < len {
                    image.truncate(*new);
                }
                len = *new;
            }
            Change::Length(_) => {}
        }
    }
    resize(image, len);
}

/// Cuts, or adds zeros; all at once, for a build that is not optimized.
fn resize(image: &mut Vec<u8>, len: usize) {
    match len.checked_sub(image.len()) {
        None => image.truncate(len),
        Some(0) => {}
        Some(more) => image.extend_from_slice(&vec![0; more]),
    }
}

/// Which sectors of a file have space behind them.
#[derive(Clone, Default)]
struct Allocated {
    sectors: Vec<bool>,
    used: usize,
}

impl Allocated {
    fn has(&self, sector: usize) -> bool {
        self.sectors.get(sector).copied().unwrap_or(false)
    }

    fn take(&mut self, sectors: Range<usize>) {
        self.sectors.resize(self.sectors.len().max(sectors.end), false);
        for sector in &mut self.sectors[sectors] {
            self.used += usize::from(!std::mem::replace(sector, true));
        }
    }

    fn cut(&mut self, count: usize) {
        self.sectors.truncate(count);
        self.used = self.sectors.iter().filter(|taken| **taken).count();
    }
}

fn sectors(offset: usize, len: usize) -> Range<usize> {
    offset / SECTOR..(offset + len).div_ceil(SECTOR)
}
