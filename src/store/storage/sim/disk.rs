//! What is on a simulated disk, what was synced, and what a crash leaves of it.
//!
//! A file has an image that is safe and a list of changes since; so has a directory. A crash keeps some of the
//! changes: of a file's content by sectors of 512 bytes (each at any of the states it was in since the last sync,
//! or all of them cut at one moment), of its lengths the first few, of a directory's changes any, but none without
//! the earlier ones on the same names.

use std::collections::{BTreeMap, BTreeSet};
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
    now: Vec<u8>,
    safe: Vec<u8>,
    changes: Vec<Change>,
    /// Sectors with space behind them.
    allocated: BTreeSet<usize>,
    bad: Vec<Range<u64>>,
    /// For scripts: the last name it had.
    pub(super) name: String,
    pub(super) handles: usize,
    pub(super) linked: bool,
}

impl Content {
    fn new(name: String, bytes: &[u8]) -> Content {
        let allocated = sectors(0, bytes.len()).collect();
        Content { now: bytes.to_vec(), safe: bytes.to_vec(), allocated, name, linked: true, ..Content::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// Sectors in use: none without a name and a handle.
    fn used(&self) -> usize {
        if self.is_gone() { 0 } else { self.allocated.len() }
    }

    fn is_gone(&self) -> bool {
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
        let mut new = sectors(offset, buf.len()).filter(|sector| !self.allocated.contains(sector));
        let size = match new.nth(room) {
            Some(full) => (full * SECTOR).saturating_sub(offset),
            None => buf.len(),
        };
        if size == 0 {
            return 0;
        }
        let end = offset + size;
        self.allocated.extend(sectors(offset, size));
        if end > self.now.len() {
            self.now.resize(end, 0);
            self.changes.push(Change::Length(end));
        }
        self.now[offset..end].copy_from_slice(&buf[..size]);
        let first = offset / SECTOR;
        let mut whole = self.now[first * SECTOR..self.now.len().min(end.next_multiple_of(SECTOR))].to_vec();
        whole.resize(whole.len().next_multiple_of(SECTOR), 0);
        self.changes.push(Change::Sectors(first, whole.into()));
        size
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.now.resize(len, 0);
        self.allocated.split_off(&len.div_ceil(SECTOR));
        self.changes.push(Change::Length(len));
    }

    /// False: there is no room for so many new sectors.
    pub(super) fn allocate(&mut self, len: usize, room: usize) -> bool {
        if len <= self.now.len() {
            return true;
        }
        if sectors(0, len).filter(|sector| !self.allocated.contains(sector)).count() > room {
            return false;
        }
        self.allocated.extend(sectors(0, len));
        self.now.resize(len, 0);
        self.changes.push(Change::Length(len));
        true
    }

    pub(super) fn sync(&mut self) {
        self.safe = self.survive(|_, _| true, usize::MAX);
        self.changes.clear();
    }

    /// The unsynced sectors will never be written. The lengths will, as the system keeps them elsewhere.
    pub(super) fn drop_unsynced(&mut self) {
        self.changes.retain(|change| matches!(change, Change::Length(_)));
    }

    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let Ok(at) = usize::try_from(bit / 8) else { return false };
        let mask = 1 << (bit % 8);
        let Some(byte) = self.now.get_mut(at) else { return false };
        *byte ^= mask;
        if let Some(byte) = self.safe.get_mut(at) {
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

    /// The safe image with some of the changes: of the sectors those that `keep(sector, how many times it was
    /// written before)` wants, of the lengths the first `lengths`.
    fn survive(&self, mut keep: impl FnMut(usize, usize) -> bool, mut lengths: usize) -> Vec<u8> {
        let mut image = self.safe.clone();
        let mut len = image.len();
        let mut before = BTreeMap::<usize, usize>::new();
        for change in &self.changes {
            match change {
                Change::Sectors(first, bytes) => {
                    for (sector, bytes) in (*first..).zip(bytes.chunks(SECTOR)) {
                        let times = before.entry(sector).or_default();
                        if keep(sector, *times) {
                            let at = sector * SECTOR;
                            image.resize(image.len().max(at + SECTOR), 0);
                            image[at..at + SECTOR].copy_from_slice(bytes);
                        }
                        *times += 1;
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
        image.resize(len, 0);
        image
    }

    /// What the power cut leaves.
    pub(super) fn crash(&self, chance: &mut Chance) -> Content {
        let mut written = BTreeMap::<usize, usize>::new();
        let mut lengths = 0;
        for change in &self.changes {
            match change {
                Change::Sectors(first, bytes) => {
                    for sector in *first..first + bytes.len() / SECTOR {
                        *written.entry(sector).or_default() += 1;
                    }
                }
                Change::Length(_) => lengths += 1,
            }
        }
        let lengths = chance.some_of(lengths);
        let image = if chance.one_in(3) {
            let total = written.values().sum();
            let mut left = chance.some_of(total);
            let before_the_cut = |_, _| {
                let kept = left > 0;
                left = left.saturating_sub(1);
                kept
            };
            self.survive(before_the_cut, lengths)
        } else {
            let lost = *chance.pick(&[2, 2, 3, 8]);
            let kept: BTreeMap<usize, usize> = written
                .into_iter()
                .map(|(sector, times)| (sector, if chance.one_in(lost) { chance.below(times) } else { times }))
                .collect();
            self.survive(|sector, before| before < kept[&sector], lengths)
        };
        self.keeping(image)
    }

    /// A file with this image, all of it safe.
    fn keeping(&self, image: Vec<u8>) -> Content {
        let count = image.len().div_ceil(SECTOR);
        let filled = image.chunks(SECTOR).enumerate().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        let mut allocated: BTreeSet<usize> = filled.map(|(sector, _)| sector).collect();
        allocated.extend(self.allocated.range(..count));
        Content {
            now: image.clone(),
            safe: image,
            changes: Vec::new(),
            allocated,
            bad: self.bad.clone(),
            name: self.name.clone(),
            handles: 0,
            linked: true,
        }
    }
}

fn sectors(offset: usize, len: usize) -> Range<usize> {
    offset / SECTOR..(offset + len).div_ceil(SECTOR)
}

/// A change of a directory since its last sync; the number is the file's.
#[derive(Clone)]
enum Entry {
    Made(String, usize),
    Renamed(String, String, usize),
    Removed(String, usize),
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &String> {
        let (first, second) = match self {
            Entry::Made(name, _) | Entry::Removed(name, _) => (name, None),
            Entry::Renamed(from, to, _) => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    fn file(&self) -> usize {
        match self {
            Entry::Made(_, file) | Entry::Renamed(_, _, file) | Entry::Removed(_, file) => *file,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        let mut take = |name: &String, file: &usize| {
            if names.get(name) == Some(file) {
                names.remove(name);
            }
        };
        match self {
            Entry::Made(name, file) => _ = names.insert(name.clone(), *file),
            Entry::Removed(name, file) => take(name, file),
            Entry::Renamed(from, to, file) => {
                take(from, file);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// A directory.
#[derive(Clone, Default)]
pub(super) struct Directory {
    names: BTreeMap<String, usize>,
    safe: BTreeMap<String, usize>,
    changes: Vec<Entry>,
    /// Directories in it. They are made durably.
    pub(super) subs: BTreeMap<String, usize>,
    pub(super) locked: bool,
    /// Of the names of its files in scripts: empty, or ends with a slash.
    pub(super) prefix: String,
}

impl Directory {
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn change(&mut self, entry: Entry) {
        entry.apply(&mut self.names);
        self.changes.push(entry);
    }

    pub(super) fn make(&mut self, name: &str, file: usize) {
        self.change(Entry::Made(name.to_owned(), file));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, file: usize) {
        self.change(Entry::Renamed(from.to_owned(), to.to_owned(), file));
    }

    pub(super) fn remove(&mut self, name: &str, file: usize) {
        self.change(Entry::Removed(name.to_owned(), file));
    }

    /// Durable at once.
    pub(super) fn put(&mut self, name: &str, file: usize) {
        self.names.insert(name.to_owned(), file);
        self.safe.insert(name.to_owned(), file);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            change.apply(&mut self.safe);
        }
    }

    pub(super) fn drop_unsynced(&mut self) {
        self.changes.clear();
    }

    pub(super) fn files(&self) -> impl Iterator<Item = usize> {
        self.names.values().copied()
    }

    /// What the power cut leaves.
    pub(super) fn crash(&self, chance: &mut Chance) -> Directory {
        let prefix = chance.one_in(3).then(|| chance.some_of(self.changes.len()));
        let mut names = self.safe.clone();
        let mut lost = BTreeSet::new();
        for (index, change) in self.changes.iter().enumerate() {
            let kept = match prefix {
                Some(kept) => index < kept,
                None => !change.names().any(|name| lost.contains(name)) && !chance.one_in(2),
            };
            if kept {
                change.apply(&mut names);
            } else {
                lost.extend(change.names());
            }
        }
        Directory {
            safe: names.clone(),
            names,
            changes: Vec::new(),
            subs: self.subs.clone(),
            locked: false,
            prefix: self.prefix.clone(),
        }
    }
}

/// All files and directories; directory 0 is the root.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) files: Vec<Content>,
    pub(super) dirs: Vec<Directory>,
    pub(super) quota: Option<u64>,
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk { files: Vec::new(), dirs: vec![Directory::default()], quota: None }
    }

    /// Sectors in use.
    pub(super) fn used(&self) -> usize {
        self.files.iter().map(Content::used).sum()
    }

    /// Sectors that are free.
    pub(super) fn room(&self) -> usize {
        match self.quota {
            None => usize::MAX,
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX).div_euclid(SECTOR).saturating_sub(self.used()),
        }
    }

    /// A file with these bytes, all of them safe, for this name. The name is not made yet.
    pub(super) fn add(&mut self, dir: usize, name: &str, bytes: &[u8]) -> usize {
        self.files.push(Content::new(format!("{}{name}", self.dirs[dir].prefix), bytes));
        self.files.len() - 1
    }

    /// A directory in another, made if it is missing.
    pub(super) fn subdir(&mut self, dir: usize, name: &str) -> usize {
        if let Some(known) = self.dirs[dir].subs.get(name) {
            return *known;
        }
        let prefix = format!("{}{name}/", self.dirs[dir].prefix);
        self.dirs.push(Directory { prefix, ..Directory::default() });
        let made = self.dirs.len() - 1;
        self.dirs[dir].subs.insert(name.to_owned(), made);
        made
    }

    /// Makes a directory's names safe, and forgets the files that no crash can bring back.
    pub(super) fn sync_dir(&mut self, dir: usize) {
        let dir = &mut self.dirs[dir];
        let before: BTreeSet<usize> = dir.safe.values().copied().collect();
        let touched = dir.changes.iter().map(Entry::file).chain(before).collect::<BTreeSet<usize>>();
        dir.sync();
        let safe: BTreeSet<usize> = dir.safe.values().copied().collect();
        for file in touched.difference(&safe) {
            let content = &mut self.files[*file];
            if content.is_gone() {
                *content = Content::default();
            }
        }
    }

    /// The disk as a new process finds it, when `each` is what became of a file, and `dir` of a directory.
    fn reborn(&self, mut file: impl FnMut(&Content) -> Content, mut dir: impl FnMut(&Directory) -> Directory) -> Disk {
        let dirs: Vec<Directory> = self.dirs.iter().map(&mut dir).collect();
        let linked: BTreeSet<usize> = dirs.iter().flat_map(Directory::files).collect();
        let reborn = |(number, content)| if linked.contains(&number) { file(content) } else { Content::default() };
        Disk { files: self.files.iter().enumerate().map(reborn).collect(), dirs, quota: self.quota }
    }

    pub(super) fn crash(&self, chance: &mut Chance) -> Disk {
        // Each has chances of its own, so that a change of one file does not turn over the fate of the others.
        let mut files = chance.fork();
        self.reborn(|content| content.crash(&mut files.fork()), |dir| dir.crash(&mut chance.fork()))
    }

    pub(super) fn kill(&self) -> Disk {
        self.reborn(
            |content| Content { handles: 0, linked: true, ..content.clone() },
            |dir| Directory { locked: false, ..dir.clone() },
        )
    }
}
