use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::twin::seal;
use super::*;
use crate::store::storage::sim::SimStorage;
use crate::store::storage::{Open, Storage};

/// A directory of its own, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ginnel-cursor-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn at(spool: u8, done: u64, above: &[(u64, u64)]) -> Done {
    (SpoolId([spool; 16]), done, above.to_vec())
}

#[test]
fn what_was_saved_comes_back() {
    let scratch = Scratch::new();
    let path = scratch.0.join("made/on/the/way/cursor");
    let (mut cursor, state) = FileCursor::open(&path).unwrap();
    assert_eq!(state, []);
    let first = vec![at(1, 10, &[(12, 13), (20, 30)]), at(2, 0, &[])];
    let second = vec![at(1, 30, &[])];
    for saved in [&first, &second, &first] {
        cursor.save(saved).unwrap();
        drop(cursor);
        let state;
        (cursor, state) = FileCursor::open(&path).unwrap();
        assert_eq!(&state, saved);
    }
}

#[test]
fn two_holders_do_not_share_a_file() {
    let scratch = Scratch::new();
    let path = scratch.0.join("cursor");
    let (first, _) = FileCursor::open(&path).unwrap();
    let refused = FileCursor::open(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    drop(first);
    FileCursor::open(&path).unwrap();
}

#[test]
fn errors_name_the_path() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.join("below"), scratch.0.clone()] {
        let refused = FileCursor::open(&path).unwrap_err();
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    }
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    let path = scratch.0.join("cursor");
    FileCursor::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_is_something_else_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.0.join("letter");
    for text in [&b"Dear Sir"[..], &[b'x'; 5000]] {
        fs::write(&path, text).unwrap();
        let refused = FileCursor::open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read(&path).unwrap(), text);
    }
    let newer = seal(&Format { major: 2, ..FORMAT }, 1, b"abc").unwrap();
    fs::write(&path, &newer).unwrap();
    let refused = FileCursor::open(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    assert!(refused.to_string().contains("2.0"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), newer);
}

#[test]
fn a_damaged_copy_gives_the_other_one_and_two_give_none() {
    let scratch = Scratch::new();
    let path = scratch.0.join("cursor");
    let (mut cursor, _) = FileCursor::open(&path).unwrap();
    for done in 1..=3 {
        cursor.save(&[at(1, done, &[])]).unwrap();
    }
    drop(cursor);
    // The first save wrote both copies, the last one the second copy.
    let mut bytes = fs::read(&path).unwrap();
    bytes[AREA as usize + 30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(FileCursor::open(&path).unwrap().1, [at(1, 2, &[])]);
    bytes[30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(FileCursor::open(&path).unwrap().1, []);
}

#[test]
fn what_does_not_fit_is_left_out_or_refused() {
    let scratch = Scratch::new();
    let path = scratch.0.join("cursor");
    let (mut cursor, _) = FileCursor::open(&path).unwrap();
    let ranges: Vec<(u64, u64)> = (1..=4000).map(|n| (n << 40, n << 40)).collect();
    let wide: Vec<Done> = (0..100).map(|spool| at(spool, 1, &ranges)).collect();
    cursor.save(&wide).unwrap();
    let many: Vec<Done> = (0..50_000).map(|_| at(1, 1, &[])).collect();
    assert_eq!(cursor.save(&many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    drop(cursor);
    let expected: Vec<Done> = (0..100).map(|spool| at(spool, 1, &[])).collect();
    assert_eq!(FileCursor::open(&path).unwrap().1, expected);
}

/// The old or the new state, wherever the power goes.
#[test]
fn a_crash_at_any_call_leaves_the_old_or_the_new_state() {
    let work = |disk: &SimStorage| {
        let file = match disk.open("cursor", Open::New) {
            Ok(file) if disk.sync_dir().is_ok() => file,
            _ => return 0,
        };
        let Ok((mut twin, _)) = start(file) else { return 0 };
        (1..=5).take_while(|&done| save(&mut twin, &[at(1, done, &[(done + 2, done + 2)])]).is_ok()).count() as u64
    };
    let whole = SimStorage::new(0);
    assert_eq!(work(&whole), 5);
    for stop in 0..=whole.calls() {
        for seed in 0..4 {
            let disk = SimStorage::new(seed);
            disk.stop_after(stop);
            let saved = work(&disk);
            let after = disk.crash(seed);
            let Ok(file) = after.open("cursor", Open::Write) else {
                assert_eq!(saved, 0);
                continue;
            };
            let (mut twin, state) = start(file.clone()).unwrap();
            let is = state.first().map_or(0, |first| first.1);
            assert!(is == saved || is == saved + 1, "stop {stop} seed {seed}: saved {saved}, found {is}");
            save(&mut twin, &[at(1, 9, &[])]).unwrap();
            assert_eq!(start(file).unwrap().1, [at(1, 9, &[])]);
        }
    }
}

/// What version 1.0 wrote is read for ever.
#[test]
fn the_golden_copy_is_read_and_written() {
    let golden = include_bytes!("../../../tests/vectors/spool/cursor-1.0.bin");
    let state = vec![
        (SpoolId(*b"0123456789abcdef"), 41, vec![(43, 43), (50, 1_000_000)]),
        (SpoolId(*b"fedcba9876543210"), 7, vec![]),
    ];
    assert_eq!(seal(&FORMAT, 3, &encode(&state, true)).unwrap(), golden);
    let scratch = Scratch::new();
    let path = scratch.0.join("cursor");
    fs::write(&path, golden).unwrap();
    assert_eq!(FileCursor::open(&path).unwrap().1, state);
}
