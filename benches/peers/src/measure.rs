//! All rounds of all cells: the counts found first, then the columns interleaved, a record for each run.

use std::io::Write;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cells::Cell;
use crate::columns;
use crate::plan::Plan;
use crate::{tables, usage, zmq};

/// A column that failed so often in a cell is not tried again there.
const FAILURES: usize = 2;

/// The cells and the columns.
pub fn list(plan: &Plan) {
    println!("cells:");
    for cell in &plan.cells {
        println!("  {:18} {}", cell.name, cell.heading());
    }
    println!("columns:");
    for name in &plan.columns {
        println!("  {}", columns::by_name(name).expect("checked").settings());
    }
}

/// Measures everything in the plan; prints tables, tells its progress, returns all records.
pub fn measure(plan: &mut Plan) -> Vec<Value> {
    let files = usage::raise_file_limit();
    let mut records = vec![about(plan, files)];
    write_line(plan, &records[0]);
    print_settings(plan);
    let started = Instant::now();
    let cells = plan.cells.clone();
    for (at, cell) in cells.iter().enumerate() {
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        eprintln!("[{}/{}, {minutes:.1} min] {}", at + 1, cells.len(), cell.heading());
        let own = one_cell(plan, cell);
        tables::print(cell, &plan.columns, &own);
        records.extend(own);
    }
    eprintln!("done in {:.1} min", started.elapsed().as_secs_f64() / 60.0);
    records
}

/// What the whole run stands under.
fn about(plan: &Plan, files: u64) -> Value {
    let settings: serde_json::Map<String, Value> = plan
        .columns
        .iter()
        .map(|name| (name.clone(), columns::by_name(name).expect("checked").settings().into()))
        .collect();
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    json!({ "about": {
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": line_of("/proc/cpuinfo", "model name"),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "system": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" "),
        "unix_time": since_epoch.as_secs(),
        "rounds": plan.rounds,
        "time_target": plan.time_target,
        "files": files,
        "libzmq": zmq::version(),
        "settings": settings,
    }})
}

/// The value behind the first `name:` of a file of the system.
fn line_of(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
    line.map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn print_settings(plan: &Plan) {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!("peers: {cpus} CPUs, {} interleaved rounds, about {} s a cell", plan.rounds, plan.time_target);
    for name in &plan.columns {
        println!("  {}", columns::by_name(name).expect("checked").settings());
    }
}

fn write_line(plan: &mut Plan, record: &Value) {
    writeln!(plan.json, "{record}").expect("write the JSON line");
}

/// A column's place in a cell: how many messages it takes, and how often it failed.
struct Entry {
    column: String,
    count: u64,
    failures: usize,
}

/// All rounds of all columns of one cell.
fn one_cell(plan: &mut Plan, cell: &Cell) -> Vec<Value> {
    let mut records = Vec::new();
    let mut entries = Vec::new();
    for column in plan.columns.clone() {
        match calibrated(plan, cell, &column) {
            Ok(count) => entries.push(Entry { column, count, failures: 0 }),
            Err(record) => records.push(*record),
        }
    }
    records.iter().for_each(|record| write_line(plan, record));
    for round in 1..=cell.rounds(plan.rounds) {
        for entry in entries.iter_mut().filter(|entry| entry.failures < FAILURES) {
            let record = one_run(cell, &entry.column, entry.count, plan.quick, round);
            entry.failures += usize::from(record["failed"].is_string());
            write_line(plan, &record);
            records.push(record);
        }
    }
    records
}

/// One run as a record, whether it worked or not.
fn one_run(cell: &Cell, column: &str, count: u64, quick: bool, round: usize) -> Value {
    let mut record = cell.run(column, count, quick).unwrap_or_else(|why| {
        if !why.unsupported {
            eprintln!("  {column}: {}", why.text);
        }
        json!({ "failed": why.text, "unsupported": why.unsupported })
    });
    record["cell"] = cell.name.into();
    record["title"] = cell.title.into();
    record["unit"] = cell.unit.into();
    record["transport"] = cell.transport.name().into();
    record["size"] = cell.size.into();
    record["column"] = column.into();
    record["round"] = round.into();
    record["settings"] = columns::by_name(column).expect("checked").settings().into();
    record
}

/// A count grows so many times from one short run to the next: few messages say little about many.
const GROWTH: u64 = 20;

/// The count that takes about the time target, by short runs that are not counted; else the record of their failure.
fn calibrated(plan: &Plan, cell: &Cell, column: &str) -> Result<u64, Box<Value>> {
    if !cell.is_counted() {
        return Ok(0);
    }
    let (mut count, mut failures) = (cell.first_count(), 0);
    let seconds = plan.time_target * cell.weight();
    loop {
        let record = one_run(cell, column, count, plan.quick, 0);
        let Some(rate) = record["rate"].as_f64() else {
            failures += 1;
            if record["unsupported"] == true || failures == FAILURES {
                return Err(Box::new(record));
            }
            continue;
        };
        let wanted = cell.count_for(rate, seconds);
        if wanted <= count * GROWTH {
            return Ok(wanted);
        }
        count *= GROWTH;
    }
}
