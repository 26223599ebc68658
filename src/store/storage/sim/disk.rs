//! The directories of a simulated disk, what was synced of them, what a crash leaves of the whole disk.
//!
//! A directory has names that are safe and a list of changes since. A crash keeps any of them, but none without the
//! earlier ones on the same names. Each change is atomic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chance::Chance;
use super::content::{Content, SECTOR};

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

    /// Every file, by directory and name.
    pub(super) fn images(&self) -> Vec<(String, Arc<Vec<u8>>)> {
        let names = self.dirs.iter().flat_map(|dir| dir.names.iter().map(move |name| (&dir.prefix, name)));
        names.map(|(prefix, (name, file))| (format!("{prefix}{name}"), self.files[*file].image())).collect()
    }

    /// Whether nothing is left that a crash could take.
    pub(super) fn is_safe(&self) -> bool {
        self.dirs.iter().all(|dir| dir.changes.is_empty() && dir.files().all(|file| self.files[file].is_safe()))
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

    /// The file of this name, if there is one, is about to lose it.
    pub(super) fn unlink(&mut self, dir: usize, name: &str) {
        if let Some(file) = self.dirs[dir].get(name) {
            self.files[file].linked = false;
        }
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
        self.reborn(Content::kill, |dir| Directory { locked: false, ..dir.clone() })
    }
}
