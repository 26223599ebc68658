//! What holds for every storage: the real one and the simulated one are asked the same.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::real::RealDir;
use super::sim::{Call, Fault, SimStorage};
use super::*;

/// A directory that is gone with the test.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ginnel-disk-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn open(&self) -> Arc<dyn Storage> {
        RealDir::open(&self.0, true, false).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn both(promise: impl Fn(Arc<dyn Storage>)) {
    promise(SimStorage::new(1).storage());
    let dir = TempDir::new();
    promise(dir.open());
}

fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(read_all_at(file, &mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn sorted(storage: &dyn Storage) -> Vec<String> {
    let mut names = storage.list().unwrap();
    names.sort();
    names
}

fn refusal<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn a_file_gives_back_what_was_written() {
    both(|storage| {
        let file = storage.open("a", Open::New).unwrap();
        write_all_at(&*file, b"hello", 3).unwrap();
        assert_eq!(content(&*file), b"\0\0\0hello");
        write_all_at(&*file, b"J", 3).unwrap();
        let again = storage.open("a", Open::Read).unwrap();
        assert_eq!(content(&*again), b"\0\0\0Jello");
        file.sync().unwrap();
        storage.sync_dir().unwrap();
        assert_eq!(storage.list().unwrap(), ["a"]);
    });
}

#[test]
fn reading_at_and_beyond_the_end_gives_nothing() {
    both(|storage| {
        let file = storage.open("a", Open::New).unwrap();
        write_all_at(&*file, b"abc", 0).unwrap();
        let mut buf = [9; 8];
        assert_eq!(read_all_at(&*file, &mut buf, 1).unwrap(), 2);
        assert_eq!(buf, [b'b', b'c', 9, 9, 9, 9, 9, 9]);
        assert_eq!(file.read_at(&mut buf, 3).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
        assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    });
}

#[test]
fn a_new_file_is_new_and_an_old_one_is_there() {
    both(|storage| {
        assert_eq!(refusal(storage.open("a", Open::Read)), ErrorKind::NotFound);
        assert_eq!(refusal(storage.open("a", Open::Write)), ErrorKind::NotFound);
        storage.open("a", Open::New).unwrap();
        assert_eq!(refusal(storage.open("a", Open::New)), ErrorKind::AlreadyExists);
        assert_eq!(refusal(storage.remove("b")), ErrorKind::NotFound);
        assert_eq!(refusal(storage.rename("b", "c")), ErrorKind::NotFound);
    });
}

#[test]
fn a_file_opened_to_read_takes_no_bytes() {
    both(|storage| {
        storage.open("a", Open::New).unwrap();
        let file = storage.open("a", Open::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(9).is_err());
        assert_eq!(file.len().unwrap(), 0);
    });
}

#[test]
fn rename_replaces_and_open_files_stay_good() {
    both(|storage| {
        let old = storage.open("old", Open::New).unwrap();
        write_all_at(&*old, b"old", 0).unwrap();
        let new = storage.open("new", Open::New).unwrap();
        write_all_at(&*new, b"new", 0).unwrap();
        storage.rename("new", "old").unwrap();
        assert_eq!(storage.list().unwrap(), ["old"]);
        assert_eq!(content(&*storage.open("old", Open::Read).unwrap()), b"new");
        write_all_at(&*new, b"!", 3).unwrap();
        assert_eq!(content(&*storage.open("old", Open::Read).unwrap()), b"new!");
        assert_eq!(content(&*old), b"old");

        storage.remove("old").unwrap();
        assert!(storage.list().unwrap().is_empty());
        assert_eq!(content(&*new), b"new!");
    });
}

#[test]
fn lengths_are_cut_and_grown_by_zeros() {
    both(|storage| {
        let file = storage.open("a", Open::New).unwrap();
        write_all_at(&*file, &[7; 1000], 0).unwrap();
        file.set_len(3).unwrap();
        file.set_len(5).unwrap();
        assert_eq!(content(&*file), [7, 7, 7, 0, 0]);
        file.allocate(2000).unwrap();
        assert_eq!(file.len().unwrap(), 2000);
        file.allocate(10).unwrap();
        assert_eq!(file.len().unwrap(), 2000, "allocate never shortens");
        let all = content(&*file);
        assert_eq!(all[..3], [7, 7, 7]);
        assert!(all[3..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn only_plain_names_are_taken() {
    both(|storage| {
        for name in ["", ".", "..", "a/b", "/a", "../a", "a/"] {
            assert_eq!(refusal(storage.open(name, Open::New)), ErrorKind::InvalidInput, "{name:?}");
            assert_eq!(refusal(storage.remove(name)), ErrorKind::InvalidInput, "{name:?}");
            assert_eq!(refusal(storage.subdir(name)), ErrorKind::InvalidInput, "{name:?}");
            assert_eq!(refusal(storage.rename("a", name)), ErrorKind::InvalidInput, "{name:?}");
            assert_eq!(refusal(storage.rename_into("a", "b", name)), ErrorKind::InvalidInput, "{name:?}");
        }
    });
}

#[test]
fn a_subdirectory_is_made_once_and_no_file() {
    both(|storage| {
        let made = storage.subdir("damaged").unwrap();
        write_all_at(&*made.open("x", Open::New).unwrap(), b"x", 0).unwrap();
        let again = storage.subdir("damaged").unwrap();
        assert_eq!(again.list().unwrap(), ["x"]);
        assert_eq!(again.path(), storage.path().join("damaged"));
        assert!(storage.list().unwrap().is_empty());
    });
}

#[test]
fn a_file_moves_into_a_subdirectory() {
    both(|storage| {
        for text in ["one", "two"] {
            let file = storage.open("bad.seg", Open::New).unwrap();
            write_all_at(&*file, text.as_bytes(), 0).unwrap();
            storage.rename_into("bad.seg", "damaged", "bad.seg").unwrap();
            assert!(storage.list().unwrap().is_empty());
            let moved = storage.subdir("damaged").unwrap();
            assert_eq!(moved.list().unwrap(), ["bad.seg"]);
            assert_eq!(content(&*moved.open("bad.seg", Open::Read).unwrap()), text.as_bytes());
        }
        assert_eq!(refusal(storage.rename_into("bad.seg", "damaged", "x")), ErrorKind::NotFound);
    });
}

#[test]
fn the_lock_is_for_one_at_a_time() {
    both(|storage| {
        let Ok(Locked::Got(lock)) = storage.lock() else { panic!("free at first") };
        let Ok(Locked::Held { pid }) = storage.lock() else { panic!("held") };
        assert_eq!(pid, Some(std::process::id()));
        assert_eq!(storage.list().unwrap(), [LOCK]);
        drop(lock);
        assert!(matches!(storage.lock(), Ok(Locked::Got(_))));
    });
}

#[test]
fn there_is_space() {
    both(|storage| {
        let space = storage.space().unwrap();
        assert!(space.free <= space.total && space.total > 0);
    });
}

#[test]
fn writing_all_goes_on_after_short_writes_and_interruptions() {
    let sim = SimStorage::new(3);
    let file = sim.open("a", Open::New).unwrap();
    let bytes: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    sim.short_writes(true);
    sim.script(Call::Write, "a", 2, Fault::Interrupted);
    let before = sim.calls();
    write_all_at(&*file, &bytes, 11).unwrap();
    assert!(sim.calls() - before > 2);
    assert_eq!(content(&*file)[11..], bytes);

    sim.script(Call::Read, "a", 1, Fault::Short(10));
    sim.script(Call::Read, "a", 2, Fault::Interrupted);
    let mut back = vec![0; bytes.len()];
    assert_eq!(read_all_at(&*file, &mut back, 11).unwrap(), bytes.len());
    assert_eq!(back, bytes);
}

#[test]
fn writing_all_tells_errors_and_a_disk_that_takes_nothing() {
    let sim = SimStorage::new(3);
    let file = sim.open("a", Open::New).unwrap();
    sim.script(Call::Write, "", 1, Fault::Full);
    assert_eq!(refusal(write_all_at(&*file, b"x", 0)), ErrorKind::StorageFull);
    sim.script(Call::Write, "", 1, Fault::Short(0));
    assert!(write_all_at(&*file, b"x", 0).is_err());
    sim.script(Call::Read, "", 1, Fault::Io);
    assert!(read_all_at(&*file, &mut [0], 0).is_err());
    write_all_at(&*file, b"", 0).unwrap();
}

/// One step on a storage with three names.
#[derive(Debug, Clone)]
enum Step {
    Open(u8, u8),
    Close(u8),
    Write(u8, u16, Vec<u8>),
    SetLen(u8, u16),
    Allocate(u8, u16),
    Sync(u8),
    Rename(u8, u8),
    Remove(u8),
    Away(u8),
    SyncDir,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        let name = |g: &mut Gen| u8::arbitrary(g) % 3;
        let at = |g: &mut Gen| u16::arbitrary(g) % 3000;
        match u8::arbitrary(g) % 14 {
            0..4 => Step::Open(name(g), u8::arbitrary(g) % 3),
            4 => Step::Close(name(g)),
            5..8 => Step::Write(name(g), at(g), vec![u8::arbitrary(g); usize::from(at(g))]),
            8 => Step::SetLen(name(g), at(g)),
            9 => Step::Allocate(name(g), at(g)),
            10 => Step::Sync(name(g)),
            11 => Step::Rename(name(g), name(g)),
            12 => [Step::Remove(name(g)), Step::Away(name(g))][usize::from(u8::arbitrary(g) % 2)].clone(),
            _ => Step::SyncDir,
        }
    }
}

/// Does the steps and tells all that can be seen of them.
fn seen(storage: &dyn Storage, steps: &[Step]) -> Vec<String> {
    let name = |n: &u8| ["a", "b", "c"][usize::from(*n)];
    let mut open: [Option<Arc<dyn File>>; 3] = [None, None, None];
    let mut seen = Vec::new();
    for step in steps {
        let with = |open: &[Option<Arc<dyn File>>; 3], n: &u8, act: &dyn Fn(&dyn File) -> io::Result<()>| {
            open[usize::from(*n)].as_deref().map(|file| act(file).is_ok())
        };
        let done = match step {
            Step::Open(n, how) => {
                let how = [Open::Read, Open::Write, Open::New][usize::from(*how)];
                let file = storage.open(name(n), how);
                let ok = file.is_ok();
                open[usize::from(*n)] = file.ok().or(open[usize::from(*n)].take());
                Some(ok)
            }
            Step::Close(n) => open[usize::from(*n)].take().map(|_| true),
            Step::Write(n, at, bytes) => {
                with(&open, n, &|file| write_all_at(file, bytes, u64::from(*at))).filter(|_| !bytes.is_empty())
            }
            Step::SetLen(n, len) => with(&open, n, &|file| file.set_len(u64::from(*len))),
            // Only files opened to write: to a length it has, the real one says yes to readers, too.
            Step::Allocate(n, len) => with(&open, n, &|file| match file.set_len(file.len()?) {
                Ok(()) => file.allocate(u64::from(*len)),
                Err(e) => Err(e),
            }),
            Step::Sync(n) => with(&open, n, &|file| file.sync()),
            Step::Rename(from, to) => Some(storage.rename(name(from), name(to)).is_ok()),
            Step::Remove(n) => Some(storage.remove(name(n)).is_ok()),
            Step::Away(n) => Some(storage.rename_into(name(n), "sub", name(n)).is_ok()),
            Step::SyncDir => Some(storage.sync_dir().is_ok()),
        };
        seen.push(format!("{done:?} {:?}", sorted(storage)));
    }
    seen.extend(open.iter().flatten().map(|file| format!("{:?}", content(&**file))));
    for dir in [None, Some("sub")] {
        let dir = dir.map(|sub| storage.subdir(sub).unwrap());
        let storage = dir.as_deref().unwrap_or(storage);
        for name in sorted(storage) {
            seen.push(format!("{name} {:?}", content(&*storage.open(&name, Open::Read).unwrap())));
        }
    }
    seen
}

quickcheck! {
    fn the_simulated_disk_does_what_the_real_one_does(steps: Vec<Step>) -> bool {
        let dir = TempDir::new();
        seen(&SimStorage::new(5), &steps) == seen(&*dir.open(), &steps)
    }
}

#[test]
fn what_has_the_name_of_ours_is_told_of() {
    let dir = TempDir::new();
    for name in ["names.a", LOCK] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("delay"), "mine").unwrap();
    let storage = dir.open();
    let told = |error: Option<io::Error>, what: &str| {
        let text = error.expect("an error").to_string();
        assert!(text.contains(what) && text.contains("move it elsewhere"), "{text}");
    };
    told(storage.open("names.a", Open::Write).err(), "a directory called names.a");
    told(storage.lock().err(), "a directory called LOCK");
    told(storage.subdir("delay").err(), "a file called delay");
    assert_eq!(refusal(storage.open("names.b", Open::Write)), ErrorKind::NotFound);
}
