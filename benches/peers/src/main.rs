//! The yardstick: ginnel beside libzmq 4.3.5, its rivals and bare loops, the same workload for all.
//!
//! Each side of each cell is a process of its own (this binary again, with `--side`; inproc: one process for both). A round
//! measures every column once before any column is measured again, so that a slow minute of the machine hits all alike.
//! Every message is numbered and checked. Receivers park. Processor time is user and system of both processes.
//!
//! `plan` reads the options, `cells` knows what is measured, `cast` runs the processes, `side` is a child's part,
//! `workload` says what a column must do, `columns` are the contestants, `measure` goes through the rounds, `tables`
//! prints, `report` writes the results as a page, `durable` has its own cells and contestants.

mod cast;
mod cells;
mod columns;
mod durable;
mod measure;
mod plan;
mod report;
mod role;
mod side;
mod table;
mod tables;
mod usage;
mod workload;
mod zmq;

use std::path::Path;

use plan::Plan;
use serde_json::Value;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--side") => return side::play(&arguments[1]),
        Some("--durable-role") => return durable::play(&arguments[1..]),
        _ => {}
    }
    let mut plan = Plan::from_words(&arguments).unwrap_or_else(|why| fail(2, &format!("{why}\n{}", plan::USAGE)));
    if plan.list {
        return measure::list(&plan);
    }
    if plan.durable {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        println!("peers: {cpus} CPUs, {} interleaved rounds, about {} s a cell", plan.rounds, plan.time_target);
        durable::durable(&mut plan);
        return println!("no report was written: durable cells have none");
    }
    let records = match &plan.from {
        Some(path) => read(path),
        None => measure::measure(&mut plan),
    };
    let Some(directory) = &plan.report else {
        return println!("no report was written: only a run without options writes one, or --report DIRECTORY");
    };
    if let Err(error) = report::write(&records, directory) {
        fail(1, &format!("{}: {error}", directory.display()));
    }
    println!(
        "written: RESULTS.md and its charts, in {}",
        directory.canonicalize().as_ref().unwrap_or(directory).display()
    );
}

/// The records of an earlier run.
fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| fail(1, &format!("{}: {error}", path.display())));
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn fail(code: i32, why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(code)
}
