//! The cells: what is measured, between whom, and how one run of one column goes.
//!
//! `stream` has the one-way cells, `rounds` those there and back, `crowd` those of many connections.

mod crowd;
mod rounds;
mod stream;

use std::time::Duration;

use serde_json::{Value, json};

use crate::cast::{Cast, Processors, Why};

/// How bytes travel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Ipc,
    Inproc,
}

impl Transport {
    pub const ALL: [Transport; 3] = [Transport::Tcp, Transport::Ipc, Transport::Inproc];

    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Ipc => "ipc",
            Transport::Inproc => "inproc",
        }
    }

    pub fn by_name(name: &str) -> Option<Transport> {
        Transport::ALL.into_iter().find(|transport| transport.name() == name)
    }
}

/// What happens in a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PushPull,
    FanIn { senders: u64 },
    PubSub { subscribers: u64, topics: u64 },
    ReqRep,
    ReqRepMany { lanes: u64 },
    DealerRouter,
    DealerRouterMany { window: u64 },
    RouterToMany { dealers: u64 },
    Connects { at_once: u64 },
    Storm { peers: u64 },
    Idle { peers: u64 },
}

/// One table of the results.
#[derive(Clone, Copy)]
pub struct Cell {
    pub name: &'static str,
    /// What it is, in the words of its heading.
    pub title: &'static str,
    pub unit: &'static str,
    pub kind: Kind,
    pub transport: Transport,
    pub size: usize,
    /// Unless it is any, where the system would put which side plays no part.
    pub processors: Processors,
}

/// A kind of cell with the transports and sizes it is measured at.
struct Row {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    kind: Kind,
    transports: &'static [Transport],
    sizes: &'static [usize],
    /// Whether `--sizes` says at which sizes.
    any_size: bool,
    processors: Processors,
}

const TCP: &[Transport] = &[Transport::Tcp];
const TWO_SIZES: &[usize] = &[64, 1024];

const fn row(name: &'static str, title: &'static str, unit: &'static str, kind: Kind) -> Row {
    Row { name, title, unit, kind, transports: TCP, sizes: &[64], any_size: false, processors: Processors::Any }
}

const fn sized(row: Row, sizes: &'static [usize]) -> Row {
    Row { sizes, any_size: true, ..row }
}

const fn everywhere(row: Row) -> Row {
    Row { transports: &Transport::ALL, ..row }
}

const fn pinned(processors: Processors, row: Row) -> Row {
    Row { processors, transports: &[Transport::Tcp, Transport::Ipc], ..row }
}

const ROWS: [Row; 19] = [
    everywhere(sized(
        row("push-pull", "PUSH/PULL", "messages/s", Kind::PushPull),
        &[16, 64, 256, 1024, 8192, 65536, 1 << 20],
    )),
    row("fan-in-8", "8 PUSH to one PULL", "messages/s", Kind::FanIn { senders: 8 }),
    sized(row("pub-sub-1", "PUB to 1 SUB", "deliveries/s", Kind::PubSub { subscribers: 1, topics: 1 }), TWO_SIZES),
    sized(row("pub-sub-8", "PUB to 8 SUB", "deliveries/s", Kind::PubSub { subscribers: 8, topics: 1 }), TWO_SIZES),
    sized(row("pub-sub-32", "PUB to 32 SUB", "deliveries/s", Kind::PubSub { subscribers: 32, topics: 1 }), TWO_SIZES),
    sized(
        row(
            "pub-sub-8-topics",
            "PUB with 1,000 topics to 8 SUB, each subscribed to its 125",
            "deliveries/s",
            Kind::PubSub { subscribers: 8, topics: 1000 },
        ),
        TWO_SIZES,
    ),
    everywhere(sized(row("req-rep", "REQ/REP, one after the other", "round trips/s", Kind::ReqRep), TWO_SIZES)),
    pinned(
        Processors::One,
        row(
            "req-rep-one-cpu",
            "REQ/REP, one after the other, both sides on one processor",
            "round trips/s",
            Kind::ReqRep,
        ),
    ),
    pinned(
        Processors::Two,
        row(
            "req-rep-two-cpus",
            "REQ/REP, one after the other, each side on a processor of its own, kept awake",
            "round trips/s",
            Kind::ReqRep,
        ),
    ),
    everywhere(sized(
        row("req-rep-64", "REQ/REP, 64 under way on one socket", "round trips/s", Kind::ReqRepMany { lanes: 64 }),
        TWO_SIZES,
    )),
    everywhere(sized(
        row("dealer-router", "DEALER/ROUTER, one after the other", "round trips/s", Kind::DealerRouter),
        TWO_SIZES,
    )),
    everywhere(sized(
        row("dealer-router-64", "DEALER/ROUTER, 64 under way", "round trips/s", Kind::DealerRouterMany { window: 64 }),
        TWO_SIZES,
    )),
    row("router-100", "ROUTER to 100 DEALER, one under way each", "round trips/s", Kind::RouterToMany { dealers: 100 }),
    row(
        "connects-1",
        "connect, handshake, round trip, close: one at a time",
        "connections/s",
        Kind::Connects { at_once: 1 },
    ),
    row(
        "connects-64",
        "connect, handshake, round trip, close: 64 at a time",
        "connections/s",
        Kind::Connects { at_once: 64 },
    ),
    row("reconnect-storm", "1,000 peers back after a restart", "s", Kind::Storm { peers: 1000 }),
    row("idle-100", "100 idle connections", "KiB", Kind::Idle { peers: 100 }),
    row("idle-1000", "1,000 idle connections", "KiB", Kind::Idle { peers: 1000 }),
    row("idle-10000", "10,000 idle connections", "KiB", Kind::Idle { peers: 10_000 }),
];

/// Every cell's name, in the order of a run.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}

/// The cells with one of these names (all, if there is none), at these sizes and transports (their own, if there is none).
pub fn choose(names: &[String], sizes: &[usize], transports: &[Transport]) -> Vec<Cell> {
    let chosen = ROWS.iter().filter(|row| match names.is_empty() {
        true => row.name != "idle-100",
        false => names.iter().any(|name| name == row.name),
    });
    let mut cells = Vec::new();
    for row in chosen {
        let at = |transport: &&Transport| transports.is_empty() || transports.contains(transport);
        for &transport in row.transports.iter().filter(at) {
            let own = if row.any_size && !sizes.is_empty() { sizes } else { row.sizes };
            let Row { name, title, unit, kind, processors, .. } = *row;
            cells.extend(own.iter().map(|&size| Cell { name, title, unit, kind, transport, size, processors }));
        }
    }
    cells
}

impl Cell {
    /// `PUSH/PULL tcp, 64 bytes`.
    pub fn heading(&self) -> String {
        format!("{} over {}, {} bytes", self.title, self.transport.name(), self.size)
    }

    /// Whether `count` decides how long it takes.
    pub fn is_counted(&self) -> bool {
        !matches!(self.kind, Kind::Storm { .. } | Kind::Idle { .. })
    }

    /// Messages of the short run that finds the count.
    pub fn first_count(&self) -> u64 {
        match self.kind {
            Kind::PushPull if self.size >= 1 << 20 => 100,
            Kind::PushPull if self.size > 8192 => 1_000,
            Kind::PushPull | Kind::FanIn { .. } => 20_000,
            Kind::PubSub { subscribers, .. } => 20_000 / subscribers,
            Kind::ReqRepMany { .. } | Kind::DealerRouterMany { .. } | Kind::RouterToMany { .. } => 5_000,
            Kind::Connects { .. } => 100,
            _ => 1_000,
        }
    }

    /// The count that takes about `seconds` at this rate.
    pub fn count_for(&self, rate: f64, seconds: f64) -> u64 {
        let operations = match self.kind {
            // The rate is that of deliveries, the count that of messages.
            Kind::PubSub { subscribers, topics: 1 } => rate / subscribers as f64,
            _ => rate,
        };
        let count = (operations * seconds) as u64;
        match self.kind {
            // The ports of closed connections stay taken for a minute.
            Kind::Connects { .. } => count.clamp(100, 5_000),
            // More than the queues of both sides hold, else what was measured is how fast they are emptied.
            Kind::PushPull if self.size >= 1 << 20 && self.transport == Transport::Inproc => count.max(3_000),
            Kind::PushPull if self.size >= 1 << 20 => count.max(100),
            Kind::PushPull | Kind::FanIn { .. } => count.max(10_000),
            Kind::ReqRepMany { lanes } | Kind::RouterToMany { dealers: lanes } => count.max(100 * lanes),
            _ => count.max(1_000),
        }
    }

    /// Its part of the time target, so that a whole run stays below half an hour: the sizes that most people send get most.
    pub fn weight(&self) -> f64 {
        match self.kind {
            Kind::PushPull if self.transport != Transport::Inproc && (self.size == 64 || self.size == 1024) => 1.0,
            Kind::PushPull => 0.35,
            Kind::FanIn { .. } | Kind::PubSub { .. } => 0.6,
            _ => 0.4,
        }
    }

    /// How many rounds at most: a cell that takes seconds by itself needs fewer.
    pub fn rounds(&self, wanted: usize) -> usize {
        match self.kind {
            Kind::Storm { .. } => wanted.min(3),
            Kind::Idle { peers } => wanted.min(if peers > 1000 { 1 } else { 2 }),
            _ => wanted,
        }
    }

    /// A column that failed so often is not tried again: what takes seconds by itself is not repeated in vain.
    pub fn tries(&self) -> usize {
        if self.is_counted() { 2 } else { 1 }
    }

    /// One run of one column.
    pub fn run(&self, column: &str, count: u64, quick: bool) -> Result<Value, Why> {
        let run = Run { cell: self, column, count, quick };
        match self.kind {
            Kind::PushPull | Kind::FanIn { .. } | Kind::PubSub { .. } => run.stream(),
            Kind::Storm { peers } => run.storm(peers),
            Kind::Idle { peers } => run.idle(peers),
            _ => run.rounds(),
        }
    }
}

/// One run of one column in one cell.
struct Run<'a> {
    cell: &'a Cell,
    column: &'a str,
    count: u64,
    quick: bool,
}

/// A cell that is not over after so long has failed.
const LIMIT: Duration = Duration::from_secs(15);

impl Run<'_> {
    /// A job for one side.
    fn job(&self, side: &str, at: &str) -> Value {
        json!({ "side": side, "column": self.column, "at": at, "size": self.cell.size, "count": self.count })
    }

    /// One process that is both sides.
    fn alone(&self, job: Value) -> Result<(Value, Value), Why> {
        let mut cast = Cast::new(LIMIT);
        let both = cast.start(job);
        Ok((cast.line(both)?, Value::Null))
    }

    /// A free place to bind: any port, or a path of our own.
    fn place(&self) -> Place {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.cell.transport == Transport::Tcp {
            return Place { at: "tcp://127.0.0.1:*".to_owned() };
        }
        let name = format!("ginnel-peers-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Place { at: format!("ipc://{}", std::env::temp_dir().join(name).display()) }
    }

    /// Sums of both sides: processor time of an operation, context switches of a thousand.
    fn costs(&self, sides: &(Value, Value), operations: u64) -> Value {
        let per = |name: &str| {
            let of = |side: &Value| side[name].as_f64().unwrap_or(0.0);
            (of(&sides.0) + of(&sides.1)) / operations as f64
        };
        json!({ "count": self.count, "cpu_us": per("cpu_us"), "switches": per("switches") * 1000.0 })
    }
}

/// Where a binder binds; a path is removed in the end.
struct Place {
    at: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = self.at.strip_prefix("ipc://") {
            // Most columns have removed it themselves.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Copies these fields where they are.
fn take(record: &mut Value, from: &Value, names: &[&str]) {
    for name in names {
        if !from[*name].is_null() {
            record[*name] = from[*name].clone();
        }
    }
}

/// The endpoint out of a binder's ready line.
fn endpoint(line: &Value) -> Result<&str, Why> {
    line["endpoint"].as_str().ok_or_else(|| Why::failed(format!("not ready: {line}")))
}
