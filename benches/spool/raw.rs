//! The disk without us: bare loops over std's files. Rates in bytes a second, times in microseconds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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

/// Writes of one length, each synced: to a file that grows, or over blocks that were written before.
pub(crate) struct Synced {
    file: File,
    piece: Vec<u8>,
    at: u64,
    /// How long each took.
    pub(crate) times: Vec<f64>,
}

impl Synced {
    /// `written`: how many there will be at most, if their blocks are to be written before.
    pub(crate) fn new(dir: &Path, len: usize, written: Option<usize>) -> Synced {
        let file = create(dir);
        if let Some(count) = written {
            let zeros = vec![0; len];
            (0..count).for_each(|n| file.write_all_at(&zeros, (n * len) as u64).expect("write"));
            file.sync_all().expect("sync");
        }
        Synced { file, piece: vec![b'x'; len], at: 0, times: Vec::new() }
    }

    pub(crate) fn run(&mut self, count: usize) {
        for _ in 0..count {
            let start = Instant::now();
            self.file.write_all_at(&self.piece, self.at).expect("write");
            self.file.sync_data().expect("sync");
            self.times.push(start.elapsed().as_secs_f64() * 1e6);
            self.at += self.piece.len() as u64;
        }
    }

    /// Writes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.times.iter().sum::<f64>() * 1e6
    }
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

/// Processor time of this process so far, all threads, in microseconds (to a hundredth of a second).
pub(crate) fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    // Behind the name: state is the first, user time the twelfth, then system time; in hundredths of a second.
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 1e4
}

/// The same to the nanosecond where the system counts so, but only of threads that still live.
pub(crate) fn cpu_of_threads() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let of = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    let micros = threads.filter_map(|thread| of(thread.path())).sum::<f64>() / 1e3;
    if micros > 0.0 { micros } else { cpu() }
}

/// System calls of this process that read or wrote something, so far.
pub(crate) fn calls() -> f64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let counts = text.lines().filter(|line| line.starts_with("sysc")).filter_map(|line| line.split(' ').nth(1));
    counts.filter_map(|count| count.parse::<f64>().ok()).sum()
}
