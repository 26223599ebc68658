//! A table for each cell, on standard output: medians and spreads, failures, and what has no such thing.

use serde_json::Value;

use crate::cells::{Cell, Kind};
use crate::table::{self, Series, number};

/// A column of a table: its head, the record's field, what to multiply it with.
type Metric = (&'static str, &'static str, f64);

const NANOS_TO_MICROS: f64 = 1e-3;

/// The first one is shown with its spread and beside libzmq's.
fn metrics(cell: &Cell) -> Vec<Metric> {
    let costs = [("CPU us/op", "cpu_us", 1.0), ("switches/1000", "switches", 1.0)];
    let times =
        [("p50 us", "p50", NANOS_TO_MICROS), ("p99 us", "p99", NANOS_TO_MICROS), ("p99.9 us", "p999", NANOS_TO_MICROS)];
    let rate = [(cell.unit, "rate", 1.0)];
    match cell.kind {
        Kind::PushPull | Kind::FanIn { .. } => {
            rate.into_iter().chain(costs).chain([("MB/s", "rate", cell.size as f64 / 1e6)]).collect()
        }
        Kind::PubSub { .. } => rate.into_iter().chain(costs).chain([("lost", "lost", 1.0)]).collect(),
        Kind::ReqRep | Kind::DealerRouter => times.into_iter().chain(costs).collect(),
        Kind::DealerRouterMany { .. } | Kind::Connects { .. } => rate.into_iter().chain(costs).collect(),
        Kind::ReqRepMany { .. } | Kind::RouterToMany { .. } => rate.into_iter().chain(costs).chain(times).collect(),
        Kind::Storm { .. } => vec![("seconds", "seconds", 1.0)],
        Kind::Idle { .. } => vec![
            ("KiB/connection bound", "kib_binder", 1.0),
            ("KiB connecting", "kib_connecter", 1.0),
            ("CPU % bound", "cpu_percent_binder", 1.0),
            ("CPU % connecting", "cpu_percent_connecter", 1.0),
        ],
    }
}

fn series(records: &[Value], column: &str, (_, field, scale): Metric) -> Series {
    let mut series = Series::default();
    for record in records.iter().filter(|record| record["column"] == column) {
        if let Some(value) = record[field].as_f64() {
            series.push(value * scale);
        }
    }
    series
}

/// Prints all records of a cell.
pub fn print(cell: &Cell, columns: &[String], records: &[Value]) {
    let metrics = metrics(cell);
    let libzmq = series(records, "libzmq", metrics[0]).median();
    let mut rows = Vec::new();
    for column in columns {
        let own = || records.iter().filter(|record| record["column"] == column.as_str());
        if own().any(|record| record["unsupported"] == true) {
            continue;
        }
        let failures: Vec<&str> = own().filter_map(|record| record["failed"].as_str()).collect();
        let main = series(records, column, metrics[0]);
        let (min, max) = main.spread();
        let mut row = vec![column.clone(), number(main.median()), format!("{}..{}", number(min), number(max))];
        row.push(number(main.median() / libzmq));
        row.extend(metrics[1..].iter().map(|metric| number(series(records, column, *metric).median())));
        row.push(failures.first().map_or(String::new(), |why| format!("{} failed: {why}", failures.len())));
        rows.push(row);
    }
    let mut head = vec!["column", metrics[0].0, "min..max", "x libzmq"];
    head.extend(metrics[1..].iter().map(|metric| metric.0));
    head.push("");
    table::print(&cell.heading(), &head, &rows);
}
