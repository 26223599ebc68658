//! The spool beside two stores that live in the process as it does: fjall and redb, the same records, the same disk.
//!
//! A round measures every column of a cell once before any is measured again, each time in another order, each in a
//! new directory. The clock runs from the first record to the moment the last one is accepted, as the cell says; then
//! the store is closed, opened again, and every record is read back and compared, off the clock. Every column is given
//! the same slices of the same bytes and copies them as it will. All of it is in one file: [`Cell`] is what is asked,
//! [`Store`] who does it, [`Table`] what came out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use ginnel::spool::{Position, SpoolFiles};
use ginnel::{Pending, Push, Sync};
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::runtime::Runtime;

const USAGE: &str = "embedded [--rounds N] [--only B1,B2,B4] [--columns NAME,NAME] [--count RECORDS | --time SECONDS]
         [--lot RECORDS] [--dir PATH] [--json FILE]
  --rounds   how often every column of a cell is measured (default 5)
  --columns  of ginnel, ginnel-all, fjall, redb (default all)
  --count    records of each column, instead of each cell's own number
  --time     seconds of each column, instead of a number of records
  --lot      records of a batch or transaction in B1 and B2 (default 1000)
  --dir      where the data goes, a directory of its own in it (default below target/); removed in the end
  --json     a line for each cell and column, all rounds in it";

const SETTINGS: &str = "\
ginnel      PUSH with a spool and no peer, so that every record is written and kept; options as they are but for
            spool_max_bytes. Never: enqueue one by one, the last one awaited. Batch: send_all of a lot, awaited.
ginnel-all  Never: send_all of a lot, each awaited, as the rivals' lots are.
fjall       a keyspace, keys big-endian numbers as its readme says, one write batch a lot. Never: PersistMode::Buffer,
            its default. Batch: PersistMode::SyncData. Memtables of 64 MiB, the most it recommends; as many workers as
            it chooses; nothing is compressed. (FIFO compaction and values in own files were slower when tried.)
redb        a table of u64 to bytes, one transaction a lot. Never: Durability::None. Batch: Durability::Immediate in
            one phase, its default. Cache of 4 GiB, so that all of it stays in memory, as in its own benchmarks.
accepted    Never: ginnel and fjall have handed it to the system and keep it when the process is killed, redb keeps it
            in its own memory until an Immediate commit, which comes after the clock has stopped. Batch: all have
            synced it.";

struct Cell {
    id: &'static str,
    what: &'static str,
    size: usize,
    /// Every lot is synced before it is accepted.
    synced: bool,
    /// Records of a lot where that is not the caller's choice.
    lot: Option<u64>,
    count: u64,
    /// So many times each of these, at least.
    gates: [(&'static str, f64); 2],
}

const CELLS: [Cell; 3] = [
    Cell {
        id: "B1",
        what: "100 B, Never",
        size: 100,
        synced: false,
        lot: None,
        count: 3_000_000,
        gates: [("fjall", 3.0), ("redb", 2.0)],
    },
    Cell {
        id: "B2",
        what: "1 KiB, Never",
        size: 1024,
        synced: false,
        lot: None,
        count: 700_000,
        gates: [("fjall", 2.0), ("redb", 2.0)],
    },
    Cell {
        id: "B4",
        what: "1,024 x 1 KiB a sync, Batch",
        size: 1024,
        synced: true,
        lot: Some(1024),
        count: 1024 * 150,
        gates: [("fjall", 2.0), ("redb", 2.0)],
    },
];

const COLUMNS: [&str; 4] = ["ginnel", "ginnel-all", "fjall", "redb"];

/// What the records say: each a slice of these bytes, so that none is like the ones near it.
struct Bodies(Vec<u8>);

impl Bodies {
    const LEN: usize = 16 << 20;

    fn new() -> Bodies {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        Bodies((0..Bodies::LEN / 4).flat_map(|_| next().to_le_bytes()).collect())
    }

    fn of(&self, number: u64, size: usize) -> &[u8] {
        let at = (number as usize * 40) % (Bodies::LEN - size);
        &self.0[at..at + size]
    }
}

/// What each column needs to know of its task.
struct Task<'a> {
    dir: PathBuf,
    bodies: &'a Bodies,
    size: usize,
    synced: bool,
}

impl Task<'_> {
    fn body(&self, number: u64) -> &[u8] {
        self.bodies.of(number, self.size)
    }

    /// `found` are numbers and bodies in the order of the store: all from 0 on, none twice, none other.
    fn check<B: AsRef<[u8]>>(&self, count: u64, found: impl Iterator<Item = (u64, B)>) {
        let mut next = 0;
        for (number, body) in found {
            assert_eq!(number, next, "records are missing or out of order");
            assert!(body.as_ref() == self.body(number), "record {number} is not what was given");
            next += 1;
        }
        assert_eq!(next, count, "records that were accepted and are there");
    }
}

/// A column's side.
trait Store {
    /// One lot of records; accepted when this returns, if each lot is synced.
    fn put(&mut self, task: &Task<'_>, lot: Range<u64>);
    /// All of them are accepted when this returns.
    fn accepted(&mut self) {}
    /// Ends it. Everything is on disk afterwards.
    fn close(self: Box<Self>);
}

/// How a column is opened, and how its records are read back.
struct Column {
    open: fn(&Task<'_>, &str) -> Box<dyn Store>,
    check: fn(&Task<'_>, u64),
}

fn column(name: &str) -> Column {
    match name {
        "fjall" => Column { open: |task, _| Box::new(Fjall::open(task)), check: Fjall::check },
        "redb" => Column { open: |task, _| Box::new(Redb::open(task)), check: Redb::check },
        _ => Column { open: |task, name| Box::new(Ginnel::open(task, name)), check: Ginnel::check },
    }
}

struct Ginnel {
    runtime: Runtime,
    push: Push,
    /// Lots are awaited.
    lots: bool,
    last: Option<Pending>,
}

impl Ginnel {
    fn open(task: &Task<'_>, name: &str) -> Ginnel {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let sync = if task.synced { Sync::Batch } else { Sync::Never };
        let builder = Push::builder().spool(&task.dir).sync(sync).spool_max_bytes(64 << 30).linger(Duration::ZERO);
        let push = runtime.block_on(async { builder.build() }).expect("open a spool");
        Ginnel { runtime, push, lots: task.synced || name == "ginnel-all", last: None }
    }

    fn check(task: &Task<'_>, count: u64) {
        let records = SpoolFiles::open(&task.dir).expect("a spool").records(Position::Oldest);
        let found = records.map(|record| record.expect("no damage"));
        task.check(count, found.map(|record| (record.sequence - 1, record.message.into_bytes())));
    }
}

impl Store for Ginnel {
    fn put(&mut self, task: &Task<'_>, lot: Range<u64>) {
        let Ginnel { runtime, push, lots, last } = self;
        runtime.block_on(async {
            if *lots {
                push.send_all(lot.map(|number| task.body(number))).await.expect("accepted");
                return;
            }
            for number in lot {
                *last = Some(push.enqueue(task.body(number)).await.expect("room"));
            }
        });
    }

    fn accepted(&mut self) {
        if let Some(last) = self.last.take() {
            self.runtime.block_on(last).expect("accepted");
        }
    }

    fn close(self: Box<Self>) {
        let Ginnel { runtime, push, .. } = *self;
        runtime.block_on(push.close());
    }
}

struct Fjall {
    db: Database,
    records: Keyspace,
    persist: PersistMode,
}

impl Fjall {
    fn open(task: &Task<'_>) -> Fjall {
        let db = Database::builder(&task.dir).open().expect("open fjall");
        let records = db.keyspace("records", KeyspaceCreateOptions::default).expect("a keyspace");
        let persist = if task.synced { PersistMode::SyncData } else { PersistMode::Buffer };
        Fjall { db, records, persist }
    }

    fn check(task: &Task<'_>, count: u64) {
        let fjall = Fjall::open(task);
        let found = fjall.records.iter().map(|entry| entry.into_inner().expect("no damage"));
        task.check(count, found.map(|(key, body)| (u64::from_be_bytes(key[..].try_into().expect("a number")), body)));
    }
}

impl Store for Fjall {
    fn put(&mut self, task: &Task<'_>, lot: Range<u64>) {
        let mut batch = self.db.batch().durability(Some(self.persist));
        for number in lot {
            batch.insert(&self.records, number.to_be_bytes(), task.body(number));
        }
        batch.commit().expect("accepted");
    }

    fn close(self: Box<Self>) {
        self.db.persist(PersistMode::SyncAll).expect("synced");
    }
}

struct Redb {
    db: redb::Database,
    durability: Durability,
}

impl Redb {
    const RECORDS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("records");

    fn path(task: &Task<'_>) -> PathBuf {
        task.dir.join("records.redb")
    }

    fn open(task: &Task<'_>) -> Redb {
        std::fs::create_dir_all(&task.dir).expect("a directory");
        let mut builder = redb::Builder::new();
        builder.set_cache_size(4 << 30);
        let db = builder.create(Redb::path(task)).expect("open redb");
        let durability = if task.synced { Durability::Immediate } else { Durability::None };
        Redb { db, durability }
    }

    fn commit(&self, durability: Durability, insert: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>)) {
        let mut transaction = self.db.begin_write().expect("a transaction");
        transaction.set_durability(durability).expect("its durability");
        insert(&mut transaction.open_table(Redb::RECORDS).expect("a table"));
        transaction.commit().expect("accepted");
    }

    fn check(task: &Task<'_>, count: u64) {
        let redb = Redb::open(task);
        let transaction = redb.db.begin_read().expect("a transaction");
        let table = transaction.open_table(Redb::RECORDS).expect("a table");
        let found = table.iter().expect("a table").map(|entry| entry.expect("no damage"));
        task.check(count, found.map(|(key, body)| (key.value(), body.value().to_vec())));
    }
}

impl Store for Redb {
    fn put(&mut self, task: &Task<'_>, lot: Range<u64>) {
        self.commit(self.durability, |table| {
            for number in lot {
                table.insert(number, task.body(number)).expect("room");
            }
        });
    }

    fn close(self: Box<Self>) {
        self.commit(Durability::Immediate, |_| {});
    }
}

/// When a column has had enough.
#[derive(Clone, Copy)]
enum Until {
    /// The cell's own number of records.
    Cell,
    Count(u64),
    Time(Duration),
}

struct Plan {
    rounds: usize,
    cells: Vec<&'static Cell>,
    columns: Vec<&'static str>,
    until: Until,
    lot: u64,
    dir: PathBuf,
    json: Option<PathBuf>,
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        rounds: 5,
        cells: CELLS.iter().collect(),
        columns: COLUMNS.to_vec(),
        until: Until::Cell,
        lot: 1000,
        dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        json: None,
    };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().ok().filter(|number| *number > 0).ok_or(format!("{value} is no number"));
        match name.as_str() {
            "--rounds" => plan.rounds = number()? as usize,
            "--only" => plan.cells = chosen(value, &plan.cells, |cell| cell.id)?,
            "--columns" => plan.columns = chosen(value, &plan.columns, |column| column)?,
            "--count" => plan.until = Until::Count(number()?),
            "--time" => plan.until = Until::Time(Duration::from_secs(number()?)),
            "--lot" => plan.lot = number()?,
            "--dir" => plan.dir = PathBuf::from(value),
            "--json" => plan.json = Some(PathBuf::from(value)),
            _ => return Err(format!("no option {name}")),
        }
    }
    Ok(plan)
}

/// Those of `all` whose names are in this list.
fn chosen<T: Copy>(list: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<Vec<T>, String> {
    let of = |asked: &str| all.iter().copied().find(|one| name(*one) == asked).ok_or(format!("no {asked}"));
    list.split(',').map(of).collect()
}

/// One column of one round.
#[derive(Clone, Copy)]
struct Sample {
    /// Records a second.
    rate: f64,
    /// Processor time of a record in microseconds, all threads, up to the end of the clock.
    cpu: f64,
}

fn measure(plan: &Plan, cell: &Cell, name: &str, dir: PathBuf, bodies: &Bodies) -> Sample {
    let task = Task { dir, bodies, size: cell.size, synced: cell.synced };
    let lot = cell.lot.unwrap_or(plan.lot);
    let Column { open, check } = column(name);
    let mut store = open(&task, name);
    // The first use of a new directory is not what is asked for.
    store.put(&task, 0..lot);
    store.accepted();
    let (start, cpu) = (Instant::now(), cpu());
    let mut next = lot;
    let goes_on = |next: u64| match plan.until {
        Until::Cell => next < lot + cell.count,
        Until::Count(count) => next < lot + count,
        Until::Time(time) => start.elapsed() < time,
    };
    while goes_on(next) {
        store.put(&task, next..next + lot);
        next += lot;
    }
    store.accepted();
    let done = (next - lot) as f64;
    let sample = Sample { rate: done / start.elapsed().as_secs_f64(), cpu: (crate::cpu() - cpu) / done };
    store.close();
    check(&task, next);
    std::fs::remove_dir_all(&task.dir).expect("remove a directory");
    sample
}

/// Processor time of this process so far in microseconds, all threads, to a hundredth of a second.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 1e4
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Of one cell, by column, all rounds.
type Table = BTreeMap<&'static str, Vec<Sample>>;

/// The median of each round's ratio: what the disk does in one round hits all.
fn ratio(table: &Table, ours: &str, theirs: &str) -> Option<f64> {
    let (ours, theirs) = (table.get(ours)?, table.get(theirs)?);
    Some(median(ours.iter().zip(theirs).map(|(ours, theirs)| ours.rate / theirs.rate)))
}

fn print(plan: &Plan, cell: &Cell, table: &Table) {
    println!("\n{}: {}; lots of {}", cell.id, cell.what, cell.lot.unwrap_or(plan.lot));
    println!(
        "{:<11} {:>10} {:>21} {:>8} {:>8} {:>9} {:>12}",
        "", "records/s", "min..max", "MB/s", "CPU us", "ginnel/x", "ginnel-all/x"
    );
    for &name in &plan.columns {
        let Some(samples) = table.get(name) else { continue };
        let rates = || samples.iter().map(|sample| sample.rate);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        let rate = median(rates());
        let mut line = format!(
            "{name:<11} {rate:>10.0} {:>21} {:>8.0} {:>8.2}",
            format!("{least:.0}..{most:.0}"),
            rate * cell.size as f64 / 1e6,
            median(samples.iter().map(|sample| sample.cpu)),
        );
        if let Some((_, gate)) = cell.gates.iter().find(|(rival, _)| *rival == name) {
            let by = |ours| ratio(table, ours, name).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            line += &format!(" {:>9} {:>12}", by("ginnel"), by("ginnel-all"));
            let holds = ratio(table, "ginnel", name).is_some_and(|ratio| ratio >= *gate);
            line += &format!("  ginnel >= {gate:.0} x: {}", if holds { "ok" } else { "MISSED" });
        }
        println!("{line}");
    }
}

fn json(cell: &Cell, table: &Table) -> String {
    let line = |(name, samples): (&&str, &Vec<Sample>)| {
        let list = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
        let value = serde_json::json!({
            "bench": "embedded", "cell": cell.id, "what": cell.what, "column": name,
            "records_per_second": list(|sample| sample.rate), "cpu_us": list(|sample| sample.cpu),
            "median": median(samples.iter().map(|sample| sample.rate)),
            "ginnel_ratio": ratio(table, "ginnel", name), "ginnel_all_ratio": ratio(table, "ginnel-all", name),
        });
        format!("{value}\n")
    };
    table.iter().map(line).collect()
}

/// As it is built in.
fn version(name: &str) -> &'static str {
    let behind = include_str!("../../Cargo.lock").split_once(&format!("name = \"{name}\"\nversion = \"")[..]);
    behind.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("?")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}\n\n{SETTINGS}");
        return;
    }
    let plan = plan(&arguments).unwrap_or_else(|why| {
        eprintln!("{why}\n{USAGE}");
        std::process::exit(2);
    });
    let dir = plan.dir.join(format!("embedded-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let (fjall, redb) = (version("fjall"), version("redb"));
    println!("fjall {fjall}, redb {redb}; {} rounds; data in {}\n{SETTINGS}", plan.rounds, dir.display());
    let bodies = Bodies::new();
    let mut lines = String::new();
    for &cell in &plan.cells {
        let mut columns = plan.columns.clone();
        // There is one way to send synced lots.
        columns.retain(|name| !cell.synced || *name != "ginnel-all");
        let mut table = Table::new();
        for round in 0..plan.rounds {
            for at in 0..columns.len() {
                let name = columns[(at + round) % columns.len()];
                let sample = measure(&plan, cell, name, dir.join(name), &bodies);
                eprintln!("{} round {} {name}: {:.0} records/s", cell.id, round + 1, sample.rate);
                table.entry(name).or_default().push(sample);
            }
        }
        print(&plan, cell, &table);
        lines += &json(cell, &table);
    }
    let _ = std::fs::remove_dir_all(&dir);
    if let Some(path) = &plan.json {
        std::fs::write(path, lines).expect("write the lines");
    }
}
