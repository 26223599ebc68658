//! The spool beside the bare disk: `cargo bench --bench spool [-- --rounds 5 --only B1,B6 --gib 1 --json]`.
//!
//! Disks swing, so every figure stands beside a raw loop that runs in the same process, a moment before or after it;
//! rounds are interleaved, medians are shown, and the ratio is the median of each round's ratio. Everything goes
//! through the public API. Files are below the target directory and are removed in the end. Linux only.
//!
//! `table` holds figures and gates; `raw` the bare loops; `append`, `read` and `names` the rows; `child` what needs
//! a process of its own.

mod append;
mod child;
mod names;
mod raw;
mod read;
mod table;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use table::{Gate, Line, Sample, line};
use tokio::runtime::{Builder, Runtime};

const WRITE: &str = "write() of 1 MiB, the same bytes";
const GROWING: &str = "write + fdatasync, the same bytes, growing file";
const WRITTEN: &str = "the same over blocks written before";
const ALONE: &str = "alone, nothing deleted";
const READ: &str = "pread of 256 KiB over the same files, no checks";

#[rustfmt::skip]
const LINES: &[Line] = &[
    line("B1", "100 B, Never, enqueue", "msg/s", Gate::AtLeast(3e6), WRITE),
    line("B1 all", "100 B, Never, send_all", "msg/s", Gate::None, WRITE),
    line("B2", "1 KiB, Never, enqueue", "msg/s", Gate::AtLeast(1e6), WRITE),
    line("B2 all", "1 KiB, Never, send_all", "msg/s", Gate::None, WRITE),
    line("B3", "16 KiB, Never, enqueue", "MB/s", Gate::RatioAtLeast(0.35), WRITE),
    line("B4", "250 x 4 KiB, Batch, send_all", "batches/s", Gate::RatioAtLeast(0.8), GROWING),
    line("B4 written", "the same", "batches/s", Gate::None, WRITTEN),
    line("B4 singly", "250 x enqueue, last awaited", "batches/s", Gate::None, GROWING),
    line("B5", "64 x 100 B, Batch, send_all", "batches/s", Gate::RatioAtLeast(0.8), GROWING),
    line("B5 written", "the same", "batches/s", Gate::None, WRITTEN),
    line("B5 singly", "64 x enqueue, last awaited", "batches/s", Gate::None, GROWING),
    line("B6", "awaited send, 100 B, Batch, p50", "us", Gate::RatioAtMost(1.2, 60.0), GROWING),
    line("B6 written", "the same", "us", Gate::None, WRITTEN),
    line("B6 x8", "8 tasks", "msg/s", Gate::None, "one task"),
    line("B6 x64", "64 tasks", "msg/s", Gate::RatioAtLeast(10.0), "one task"),
    line("B7 1 KiB", "catch-up from disk, SUB over ipc", "msg/s", Gate::AtLeast(0.6e6), READ),
    line("B7 1 KiB read", "SpoolFiles::verify over the same", "msg/s", Gate::None, READ),
    line("B7 100 B", "catch-up from disk, SUB over ipc", "msg/s", Gate::AtLeast(2e6), READ),
    line("B7 100 B read", "SpoolFiles::verify over the same", "msg/s", Gate::None, READ),
    line("B10", "1 KiB, Every(100 ms), PUSH to PULL over ipc", "MB/s", Gate::AtLeast(300.0), WRITE),
    line("B10 in", "the way in alone", "MB/s", Gate::AtLeast(300.0), WRITE),
    line("B11 1 KiB", "open, 63 MiB unsealed, killed", "ms", Gate::AtMost(150.0), READ),
    line("B11 100 B", "the same", "ms", Gate::AtMost(150.0), READ),
    line("B11 sealed", "open, 160 x 1 MiB, closed", "ms", Gate::AtMost(200.0), READ),
    line("B11 killed", "open, 160 x 1 MiB, killed", "ms", Gate::AtMost(200.0), READ),
    line("B12 RAM 1000", "1,000 sleeping names", "KiB", Gate::AtMost(2048.0), "a spool with one record"),
    line("B12 RAM dead", "one dead name behind it all", "KiB", Gate::AtMost(2048.0), "a spool with one record"),
    line("B12 live 1000", "live name beside 1,000", "msg/s", Gate::RatioAtLeast(0.95), ALONE),
    line("B12 CPU 1000", "by processor time", "msg/CPU s", Gate::RatioAtLeast(0.95), ALONE),
    line("B12 calls 1000", "reads and writes", "/1000 msg", Gate::None, ALONE),
    line("B12 live dead", "live name beside a dead one", "msg/s", Gate::RatioAtLeast(0.95), ALONE),
    line("B12 CPU dead", "by processor time", "msg/CPU s", Gate::RatioAtLeast(0.95), ALONE),
    line("B12 calls dead", "reads and writes", "/1000 msg", Gate::None, ALONE),
];

type Row = fn(&Bench) -> Vec<Sample>;

const ROWS: &[(&str, Row)] = &[
    ("B1", append::b1),
    ("B2", append::b2),
    ("B3", append::b3),
    ("B4", append::b4),
    ("B5", append::b5),
    ("B6", append::b6),
    ("B7", read::b7),
    ("B10", read::b10),
    ("B11", read::b11),
    ("B12", names::b12),
];

/// What all rows share.
pub(crate) struct Bench {
    /// Ours, removed in the end.
    pub(crate) dir: PathBuf,
    /// How far behind the dead name is.
    pub(crate) gib: u64,
    pub(crate) round: Cell<usize>,
}

impl Bench {
    /// A directory that does not exist yet.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        let _ = std::fs::remove_dir_all(&dir);
        dir
    }

    /// Where both ends meet that are in this process: inproc has no durable sockets.
    pub(crate) fn place(&self) -> String {
        let path = std::env::temp_dir().join(format!("ginnel-spool-bench-{}", std::process::id()));
        format!("ipc://{}", path.display())
    }

    pub(crate) fn remove(&self, dir: &Path) {
        let _ = std::fs::remove_dir_all(dir);
    }

    /// The runtime of rows with one task or many that only send.
    pub(crate) fn current(&self) -> Runtime {
        Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// That of rows with both ends in this process.
    pub(crate) fn several(&self) -> Runtime {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct Plan {
    rounds: usize,
    only: Vec<String>,
    gib: u64,
    json: bool,
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = Plan { rounds: 5, only: Vec::new(), gib: 1, json: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{word}: no number: {text}"));
        match word.as_str() {
            "--rounds" => plan.rounds = usize::try_from(number(value()?)?).map_err(|error| error.to_string())?,
            "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
            "--gib" => plan.gib = number(value()?)?,
            "--json" => plan.json = true,
            // Cargo says so.
            "--bench" => {}
            other => return Err(format!("no option {other}")),
        }
    }
    match plan.only.iter().find(|name| ROWS.iter().all(|(row, _)| row != name)) {
        Some(unknown) => Err(format!("no row {unknown}")),
        None => Ok(plan),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "child") {
        return child::play(&arguments[1..]);
    }
    let plan = plan(&arguments).unwrap_or_else(|why| {
        eprintln!("{why}\nspool [--rounds N] [--only B1,B6] [--gib N] [--json]");
        std::process::exit(2);
    });
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spool-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make the working directory");
    let bench = Bench { dir, gib: plan.gib, round: Cell::new(0) };
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        bench.round.set(round);
        for (name, row) in ROWS {
            if plan.only.is_empty() || plan.only.iter().any(|only| only == name) {
                eprintln!("round {} of {}: {name}", round + 1, plan.rounds);
                samples.extend(row(&bench));
            }
        }
    }
    match plan.json {
        true => table::print_json(LINES, &samples),
        false => {
            let cpus = std::thread::available_parallelism().map_or(0, usize::from);
            println!("spool: {cpus} CPUs, medians of {} interleaved rounds, {} GiB", plan.rounds, plan.gib);
            table::print(LINES, &samples);
        }
    }
}
