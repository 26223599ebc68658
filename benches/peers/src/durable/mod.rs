//! Durable columns: a publisher and one durable consumer in two processes, with whatever server the column needs.
//!
//! Every message is numbered and checked, the consumer acknowledges all of them, and what is missing, doubled or
//! left unacknowledged is shown. The clock is the system's monotonic one, which both processes share: from the
//! publisher's first send to the consumer's last message. Beside it the publisher's own rate: from its first send
//! until the last message was accepted at the column's level.
//!
//! `ginnel`, `nats` and `redis` are the contestants; `server` starts the servers; `role` is the child's side.

mod ginnel;
mod nats;
mod redis;
mod role;
mod server;
mod tally;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Plan;
use crate::columns::Flavour;
use crate::table::{self, Series, number};
pub use role::play;
use server::Server;
use tally::Tally;

/// Every durable column's name, in the order of a round.
pub const NAMES: [&str; 9] = [
    "durable-never",
    "nats",
    "redis",
    "durable-every",
    "durable-batch",
    "nats-always",
    "redis-always",
    "plain",
    "durable-to-plain",
];

/// Those of a run without `--columns`.
pub const DEFAULT: [&str; 8] =
    ["durable-never", "durable-every", "nats", "redis", "durable-batch", "nats-always", "redis-always", "plain"];

/// Sizes of a run without `--sizes`.
pub const SIZES: [usize; 2] = [128, 1024];

/// One contestant. `send` and `receive` run in processes of their own.
trait Contestant {
    /// What was set, for the output.
    fn settings(&self) -> String;

    /// The server in the middle, if there is one, with its data in this directory.
    fn server(&self, dir: &Path) -> Option<Server>;

    /// Whether the publisher is the one that binds; else both connect to the server.
    fn publisher_binds(&self) -> bool {
        false
    }

    /// Publishes all once the consumer is there. `dir` is empty and for this side alone.
    fn send(&self, job: &Job, bodies: &mut crate::workload::Bodies) -> Sent;

    /// Consumes until the tally is full or nothing came for long, and acknowledges all of it.
    fn receive(&self, job: &Job, tally: &mut Tally);
}

/// What both sides know of a cell.
struct Job {
    endpoint: String,
    dir: PathBuf,
    size: usize,
    count: u64,
    flavour: Flavour,
}

/// What the publisher saw.
struct Sent {
    /// Nanoseconds of the shared clock.
    first: u64,
    accepted: u64,
    /// What the other side had not acknowledged in the end, if this side can tell.
    unacknowledged: Option<u64>,
}

fn by_name(name: &str) -> Option<Box<dyn Contestant>> {
    use ginnel::{Durable, Plain};
    Some(match name {
        "durable-never" => Box::new(Durable { sync: ::ginnel::Sync::Never, plain_consumer: false }),
        "durable-every" => Box::new(Durable::every()),
        "durable-batch" => Box::new(Durable { sync: ::ginnel::Sync::Batch, plain_consumer: false }),
        "durable-to-plain" => Box::new(Durable { sync: ::ginnel::Sync::Never, plain_consumer: true }),
        "plain" => Box::new(Plain),
        "nats" => Box::new(nats::Nats { always: false }),
        "nats-always" => Box::new(nats::Nats { always: true }),
        "redis" => Box::new(redis::Redis { always: false }),
        "redis-always" => Box::new(redis::Redis { always: true }),
        _ => return None,
    })
}

/// One column's values in one cell.
#[derive(Default, Clone)]
struct Cell {
    rate: Series,
    accepted: Series,
    cpu: Series,
    lost: u64,
    doubled: u64,
    disordered: u64,
    unacknowledged: u64,
}

impl Cell {
    fn add(&mut self, line: &Value) {
        let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
        self.rate.push(number("rate"));
        self.accepted.push(number("accepted_rate"));
        self.cpu.push(number("cpu_us") / number("count"));
        let whole = |name: &str| line[name].as_u64().unwrap_or(0);
        self.lost += whole("lost");
        self.doubled += whole("doubled");
        self.disordered += whole("disordered");
        self.unacknowledged += whole("unacknowledged");
    }
}

/// Measures and prints all durable columns.
pub fn durable(plan: &mut Plan) {
    println!("\ndurable: publisher and consumer are processes of their own, data below {}", base().display());
    for name in &plan.columns {
        println!("  {name}: {}", by_name(name).expect("checked").settings());
    }
    for size in plan.sizes.clone() {
        let counts: Vec<u64> = plan.columns.iter().map(|name| calibrated(plan, name, size)).collect();
        let mut cells = vec![Cell::default(); plan.columns.len()];
        for round in 1..=plan.rounds {
            for ((name, count), cell) in plan.columns.iter().zip(&counts).zip(&mut cells) {
                let mut line = measure(name, plan.flavour, size, *count);
                line["round"] = round.into();
                cell.add(&line);
                writeln!(plan.json, "{line}").expect("write the JSON line");
            }
        }
        print(plan, size, &cells);
    }
    let _ = std::fs::remove_dir_all(base());
}

fn print(plan: &Plan, size: usize, cells: &[Cell]) {
    let spread = |series: &Series| {
        let (min, max) = series.spread();
        format!("{}..{}", number(min), number(max))
    };
    let row = |(name, cell): (&String, &Cell)| {
        vec![
            name.clone(),
            number(cell.rate.median()),
            spread(&cell.rate),
            number(cell.rate.median() * size as f64 / 1e6),
            number(cell.accepted.median()),
            format!("{:.2}", cell.cpu.median()),
            cell.lost.to_string(),
            cell.doubled.to_string(),
            cell.disordered.to_string(),
            cell.unacknowledged.to_string(),
        ]
    };
    let rows: Vec<_> = plan.columns.iter().zip(cells).map(row).collect();
    let head =
        ["column", "msg/s", "min..max", "MB/s", "accepted/s", "CPU us/msg", "lost", "doubled", "disordered", "unacked"];
    table::print(&format!("durable PUB -> one consumer, tcp, {size} bytes"), &head, &rows);
    let rate = |name: &str| {
        let at = plan.columns.iter().position(|column| column == name)?;
        Some(cells[at].rate.median())
    };
    for (gate, ours, other, least) in [
        ("B8", "durable-never", "nats", 1.0),
        ("B8", "durable-never", "redis", 1.0),
        ("B8", "durable-every", "nats", 1.0),
        ("B8", "durable-every", "redis", 1.0),
        ("B8", "durable-batch", "nats-always", 1.0),
        ("B8", "durable-batch", "redis-always", 1.0),
        ("B9", "durable-never", "plain", 0.7),
    ] {
        if let (Some(ours_rate), Some(other_rate)) = (rate(ours), rate(other)) {
            let ratio = ours_rate / other_rate;
            let verdict = if ratio >= least { "ok" } else { "MISSED" };
            println!("  {gate} {ours} / {other} = {ratio:.2} (at least {least}): {verdict}");
        }
    }
}

/// How many messages take about the time target.
fn calibrated(plan: &Plan, name: &str, size: usize) -> u64 {
    let line = measure(name, plan.flavour, size, 4_000);
    let rough = (line["rate"].as_f64().unwrap_or(1000.0) * plan.time_target / 4.0) as u64;
    let line = measure(name, plan.flavour, size, rough.clamp(2_000, 400_000));
    let rate = line["rate"].as_f64().filter(|rate| rate.is_finite()).unwrap_or(1000.0);
    ((rate * plan.time_target) as u64).clamp(2_000, 3_000_000)
}

/// One cell, once: the server (if any), the two sides, and the end of all three.
fn measure(name: &str, flavour: Flavour, size: usize, count: u64) -> Value {
    let contestant = by_name(name).expect("checked");
    let dir = base().join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("publisher")).expect("make a directory");
    let server = contestant.server(&dir);
    let cpu_before = server.as_ref().map_or(0.0, Server::cpu_us);
    let place = role::Place {
        name,
        flavour,
        size,
        count,
        dir: &dir.join("publisher"),
        server: server.as_ref().map(|server| server.endpoint.as_str()),
    };
    let (sent, received) = place.run(contestant.publisher_binds());
    let cpu_server = server.as_ref().map_or(0.0, Server::cpu_us) - cpu_before;
    drop(server);
    let _ = std::fs::remove_dir_all(&dir);
    let nanos = |side: &Value, name: &str| side[name].as_u64().unwrap_or(0);
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
    let arrived = nanos(&received, "distinct") as f64;
    let first = nanos(&sent, "first");
    let cpu = [&sent, &received].iter().filter_map(|side| side["cpu_us"].as_f64()).sum::<f64>() + cpu_server;
    json!({
        "workload": "durable", "column": name, "size": size, "count": count, "rt": flavour.name(),
        "rate": arrived / seconds(first, nanos(&received, "last")),
        "accepted_rate": count as f64 / seconds(first, nanos(&sent, "accepted")),
        "cpu_us": cpu, "cpu_server_us": cpu_server,
        "lost": count - nanos(&received, "distinct"), "doubled": received["doubled"],
        "disordered": received["disordered"],
        "unacknowledged": sent["unacknowledged"].as_u64().or(received["unacknowledged"].as_u64()),
    })
}

/// Below the target directory, so on the disk that is built on; one for each run.
fn base() -> PathBuf {
    let program = std::env::current_exe().expect("own path");
    let target = program.parent().and_then(Path::parent).expect("below target/");
    target.join(format!("durable-{}", std::process::id()))
}
