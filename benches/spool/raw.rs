//! The disk without us: bare loops over std's files. Rates in bytes a second, times in microseconds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// Bytes of one write where nothing else is said, and of one read.
pub(crate) const PIECE: usize = 1 << 20;

fn create(dir: &Path) -> File {
    let path = dir.join("raw");
    let _ = std::fs::remove_file(&path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("create a file");
    // It lives as long as it is open.
    std::fs::remove_file(path).expect("remove a file");
    file
}

/// Writes `total` bytes to a new file in pieces; no sync.
pub(crate) fn write(dir: &Path, total: u64) -> f64 {
    let file = create(dir);
    let piece = vec![b'x'; PIECE];
    let start = Instant::now();
    let mut at = 0;
    while at < total {
        let len = PIECE.min(usize::try_from(total - at).unwrap_or(PIECE));
        file.write_all_at(&piece[..len], at).expect("write");
        at += len as u64;
    }
    total as f64 / start.elapsed().as_secs_f64()
}

/// `count` writes of `len` bytes, each synced: to a file that grows, or over blocks that were written before.
/// Returns the time of each, sorted.
pub(crate) fn write_sync(dir: &Path, len: usize, count: usize, written: bool) -> Vec<f64> {
    let file = create(dir);
    let piece = vec![b'x'; len];
    if written {
        let zeros = vec![0; len];
        (0..count).for_each(|n| file.write_all_at(&zeros, (n * len) as u64).expect("write"));
        file.sync_all().expect("sync");
    }
    let one = |n: usize| {
        let start = Instant::now();
        file.write_all_at(&piece, (n * len) as u64).expect("write");
        file.sync_data().expect("sync");
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..count).map(one).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Reads every file below `dir` in pieces of 256 KiB; bytes a second.
pub(crate) fn read(dir: &Path) -> f64 {
    let mut piece = vec![0; 256 << 10];
    let (mut total, start) = (0, Instant::now());
    for entry in std::fs::read_dir(dir).expect("list a directory") {
        let path = entry.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        let file = File::open(path).expect("open a file");
        let mut at = 0;
        loop {
            let len = file.read_at(&mut piece, at).expect("read");
            if len == 0 {
                break;
            }
            at += len as u64;
        }
        total += at;
    }
    total as f64 / start.elapsed().as_secs_f64()
}

/// Everything below `dir` on the disk, so that the next measurement does not pay for this one.
pub(crate) fn settle(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_file()
            && let Ok(file) = File::open(entry.path())
        {
            let _ = file.sync_all();
        }
    }
}
