//! The yardstick: ginnel beside libzmq 4.3.5 and bare loops, the same workload for all.
//!
//! Each side of each cell is a process of its own (this binary again, with `--role`). A round measures every
//! column once before any column is measured again, so that a slow minute of the machine hits all alike.
//! Throughput: PUSH/PULL, every message numbered and checked in order, the receiver's clock from the first
//! message to the last. Latency: REQ/REP, 64 bytes. Receivers park. Processor time is user and system
//! of both processes. JSON lines go to standard error or `--json FILE`, tables to standard output.

mod columns;
mod durable;
mod role;
mod table;
mod usage;
mod workload;
mod zmq;

use std::io::Write;

use columns::Flavour;
use role::{Task, Transport};
use serde_json::{Value, json};
use table::{Series, number};

const USAGE: &str =
    "peers [--rounds N] [--sizes N,N] [--columns NAME,NAME] [--time-target SECONDS] [--rt current|multi]
      [--transport tcp|ipc] [--only throughput|latency|durable] [--json FILE]
columns: ginnel, ginnel-batch (send_all, recv_batch), libzmq, raw; default ginnel,libzmq,raw
durable columns: durable-never, durable-every, durable-batch, plain, durable-to-plain, nats, nats-always, redis,
redis-always (servers from the path, or NATS_SERVER and REDIS_SERVER); default all but durable-to-plain";

struct Plan {
    rounds: usize,
    sizes: Vec<usize>,
    columns: Vec<String>,
    time_target: f64,
    flavour: Flavour,
    transport: Transport,
    throughput: bool,
    latency: bool,
    durable: bool,
    json: Box<dyn Write>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--role") {
        return role::play(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "--durable-role") {
        return durable::play(&arguments[1..]);
    }
    let mut plan = match plan(&arguments) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            std::process::exit(2);
        }
    };
    print_settings(&plan);
    if plan.durable {
        return durable::durable(&mut plan);
    }
    if plan.throughput {
        throughput(&mut plan);
    }
    if plan.latency {
        latency(&mut plan);
    }
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        rounds: 5,
        sizes: Vec::new(),
        columns: Vec::new(),
        time_target: 1.0,
        flavour: Flavour::Current,
        transport: Transport::Tcp,
        throughput: true,
        latency: true,
        durable: false,
        json: Box::new(std::io::stderr()),
    };
    let mut words = arguments.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        let wrong = |_| format!("{name}: cannot read {value}");
        match name.as_str() {
            "--rounds" => plan.rounds = value.parse().map_err(wrong)?,
            "--sizes" => plan.sizes = value.split(',').map(str::parse).collect::<Result<_, _>>().map_err(wrong)?,
            "--columns" => plan.columns = value.split(',').map(str::to_owned).collect(),
            "--time-target" => plan.time_target = value.parse().map_err(|_| format!("{name}: cannot read {value}"))?,
            "--rt" => plan.flavour = Flavour::from_name(value).ok_or("--rt is current or multi")?,
            "--transport" if value == "tcp" => plan.transport = Transport::Tcp,
            "--transport" if value == "ipc" => plan.transport = Transport::Ipc,
            "--json" => plan.json = Box::new(std::fs::File::create(value).map_err(|e| format!("{value}: {e}"))?),
            "--only" => {
                (plan.throughput, plan.latency) = (value == "throughput", value == "latency");
                plan.durable = value == "durable";
            }
            other => return Err(format!("no option {other}")),
        }
    }
    let (names, usual, sizes): (&[&str], &[&str], &[usize]) = match plan.durable {
        true => (&durable::NAMES, &durable::DEFAULT, &durable::SIZES),
        false => (&columns::NAMES, &["ginnel", "libzmq", "raw"], &[16, 64, 1024, 65536]),
    };
    if plan.columns.is_empty() {
        plan.columns = usual.iter().copied().map(str::to_owned).collect();
    }
    if plan.sizes.is_empty() {
        plan.sizes = sizes.to_vec();
    }
    match plan.columns.iter().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => Err(format!("no column {unknown}")),
        None => Ok(plan),
    }
}

fn print_settings(plan: &Plan) {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!("peers: {cpus} CPUs, {} interleaved rounds, about {} s a cell", plan.rounds, plan.time_target);
    for name in plan.columns.iter().filter(|_| !plan.durable) {
        let column = columns::by_name(name).expect("checked");
        println!("  {}", column.settings());
    }
}

/// One column's values in one cell.
#[derive(Default, Clone)]
struct Cell {
    rate: Series,
    cpu: Series,
    switches: Series,
    times: [Series; 3],
}

impl Cell {
    fn add(&mut self, binder: &Value, connecter: &Value, count: u64) {
        let of = |side: &Value, name: &str| side[name].as_f64().unwrap_or(f64::NAN);
        let per_message = |name: &str| (of(binder, name) + of(connecter, name)) / count as f64;
        self.cpu.push(per_message("cpu_us"));
        self.switches.push(per_message("switches") * 1000.0);
        let clock = if binder["rate"].is_number() { binder } else { connecter };
        self.rate.push(of(clock, "rate"));
        for (series, name) in self.times.iter_mut().zip(["p50", "p99", "p999"]) {
            series.push(of(clock, name) / 1000.0);
        }
    }
}

/// What one workload is made of.
struct Workload {
    name: &'static str,
    binder: &'static str,
    connecter: &'static str,
    size: usize,
}

impl Workload {
    /// All rounds of all columns, interleaved.
    fn measure(&self, plan: &mut Plan) -> Vec<Cell> {
        let tasks: Vec<Task> = plan.columns.iter().map(|name| self.calibrated(plan, name)).collect();
        let mut cells = vec![Cell::default(); tasks.len()];
        for round in 1..=plan.rounds {
            for (task, cell) in tasks.iter().zip(&mut cells) {
                let (binder, connecter) = task.run(self.binder, self.connecter);
                cell.add(&binder, &connecter, task.count);
                let line = json!({ "workload": self.name, "size": self.size, "round": round, "column": task.column,
                    "transport": task.transport.name(),
                    "rt": task.flavour.name(), "count": task.count, self.binder: binder, self.connecter: connecter });
                writeln!(plan.json, "{line}").expect("write the JSON line");
            }
        }
        cells
    }

    /// A task whose count takes about the time target, found by a short run that is not counted.
    fn calibrated(&self, plan: &Plan, column: &str) -> Task {
        let count = if self.size > 8192 { 2_000 } else { 20_000 };
        let mut task = Task {
            column: column.to_owned(),
            transport: plan.transport,
            flavour: plan.flavour,
            size: self.size,
            count,
        };
        let (binder, connecter) = task.run(self.binder, self.connecter);
        let rate = binder["rate"].as_f64().or(connecter["rate"].as_f64()).unwrap_or(1000.0);
        task.count = ((rate * plan.time_target) as u64).max(1000);
        task
    }
}

fn ratio(cells: &[Cell], plan: &Plan, value: impl Fn(&Cell) -> f64, cell: &Cell) -> String {
    let libzmq = plan.columns.iter().position(|name| name == "libzmq");
    libzmq.map_or("-".to_owned(), |at| format!("{:.2}", value(cell) / value(&cells[at])))
}

fn spread(series: &Series) -> String {
    let (min, max) = series.spread();
    format!("{}..{}", number(min), number(max))
}

fn throughput(plan: &mut Plan) {
    for size in plan.sizes.clone() {
        let workload = Workload { name: "push-pull", binder: "receive", connecter: "send", size };
        let cells = workload.measure(plan);
        let transport = plan.transport.name();
        let row = |(name, cell): (&String, &Cell)| {
            vec![
                name.clone(),
                number(cell.rate.median()),
                spread(&cell.rate),
                ratio(&cells, plan, |cell| cell.rate.median(), cell),
                format!("{:.3}", cell.cpu.median()),
                ratio(&cells, plan, |cell| cell.cpu.median(), cell),
                number(cell.switches.median()),
                number(cell.rate.median() * size as f64 / 1e6),
            ]
        };
        let rows: Vec<_> = plan.columns.iter().zip(&cells).map(row).collect();
        let head = ["column", "msg/s", "min..max", "x libzmq", "CPU us/msg", "x libzmq", "switches/1000", "MB/s"];
        table::print(&format!("PUSH/PULL {transport}, {size} bytes"), &head, &rows);
    }
}

fn latency(plan: &mut Plan) {
    let workload = Workload { name: "req-rep", binder: "reply", connecter: "request", size: 64 };
    let kept = plan.columns.clone();
    plan.columns.retain(|name| name != "ginnel-batch");
    let cells = workload.measure(plan);
    let row = |(name, cell): (&String, &Cell)| {
        vec![
            if name == "raw" { "tokio ping-pong".to_owned() } else { name.clone() },
            number(cell.times[0].median()),
            spread(&cell.times[0]),
            ratio(&cells, plan, |cell| cell.times[0].median(), cell),
            number(cell.times[1].median()),
            number(cell.times[2].median()),
            format!("{:.2}", cell.cpu.median()),
        ]
    };
    let rows: Vec<_> = plan.columns.iter().zip(&cells).map(row).collect();
    let head = ["column", "p50 us", "min..max", "x libzmq", "p99 us", "p99.9 us", "CPU us/round"];
    table::print(&format!("REQ/REP {}, 64 bytes", plan.transport.name()), &head, &rows);
    plan.columns = kept;
}
