//! Results as a table for people, as JSON or CSV for programs: one line a case.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Case, Run};
use crate::args::{BenchFormat, BenchKind};

pub(super) struct Report {
    format: BenchFormat,
    kind: BenchKind,
    started: bool,
}

const FIELDS: [&str; 27] = [
    "bench",
    "pattern",
    "transport",
    "size",
    "peers",
    "processes",
    "runs",
    "count",
    "elapsed_s",
    "msgs_per_s",
    "msgs_per_s_min",
    "msgs_per_s_max",
    "bytes_per_s",
    "drops",
    "cpu_user_s",
    "cpu_sys_s",
    "p50_us",
    "p50_us_min",
    "p50_us_max",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "version",
    "os",
    "arch",
    "cores",
];

impl Report {
    pub(super) fn new(format: BenchFormat, kind: BenchKind) -> Report {
        Report { format, kind, started: false }
    }

    /// `runs` are sorted by their figure; the middle one is the result.
    pub(super) fn add(&mut self, case: &Case, runs: &[Run]) -> io::Result<()> {
        let Some(result) = result(case, runs) else { return Ok(()) };
        let mut out = io::stdout().lock();
        match self.format {
            BenchFormat::Json => writeln!(out, "{result}")?,
            BenchFormat::Csv => {
                if !self.started {
                    writeln!(out, "{}", FIELDS.join(","))?;
                }
                let cells: Vec<String> = FIELDS.iter().map(|field| cell(&result[*field])).collect();
                writeln!(out, "{}", cells.join(","))?;
            }
            BenchFormat::Table => {
                if !self.started {
                    writeln!(out, "{}", self.header())?;
                }
                writeln!(out, "{}", self.row(&result))?;
            }
        }
        self.started = true;
        out.flush()
    }

    fn header(&self) -> String {
        match self.kind {
            BenchKind::Thr => {
                format!(
                    "{:>8} {:>12} {:>12} {:>12} {:>10} {:>10} {:>8}",
                    "size", "msg/s", "min", "max", "MB/s", "drops", "cpu s"
                )
            }
            BenchKind::Lat => format!(
                "{:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}",
                "size", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "trips/s", "cpu s"
            ),
        }
    }

    fn row(&self, result: &Value) -> String {
        let number = |field: &str| result[field].as_f64().unwrap_or_default();
        let cpu = number("cpu_user_s") + number("cpu_sys_s");
        match self.kind {
            BenchKind::Thr => format!(
                "{:>8} {:>12.0} {:>12.0} {:>12.0} {:>10.1} {:>10} {cpu:>8.2}",
                number("size"),
                number("msgs_per_s"),
                number("msgs_per_s_min"),
                number("msgs_per_s_max"),
                number("bytes_per_s") / 1e6,
                number("drops"),
            ),
            BenchKind::Lat => format!(
                "{:>8} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.0} {cpu:>8.2}",
                number("size"),
                number("p50_us"),
                number("p90_us"),
                number("p99_us"),
                number("p999_us"),
                number("max_us"),
                number("msgs_per_s"),
            ),
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A value as it is written on the command line.
pub(super) fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn result(case: &Case, runs: &[Run]) -> Option<Value> {
    let median = runs.get(runs.len() / 2)?;
    let least = |of: fn(&Run) -> f64| runs.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Run) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    let time = |index: usize| median.times.map(|times| times[index]);
    let p50: fn(&Run) -> f64 = |run| run.times.map_or(0.0, |times| times[0]);
    Some(json!({
        "bench": name(&case.kind),
        "pattern": name(&case.pattern),
        "transport": name(&case.transport),
        "size": case.size,
        "peers": 1,
        "processes": if case.in_process { 1 } else { 2 },
        "runs": runs.len(),
        "count": median.count,
        "elapsed_s": median.elapsed.as_secs_f64(),
        "msgs_per_s": median.rate(),
        "msgs_per_s_min": least(Run::rate),
        "msgs_per_s_max": most(Run::rate),
        "bytes_per_s": median.rate() * case.size as f64,
        "drops": median.drops,
        "cpu_user_s": median.cpu.user,
        "cpu_sys_s": median.cpu.system,
        "p50_us": time(0),
        "p50_us_min": median.times.map(|_| least(p50)),
        "p50_us_max": median.times.map(|_| most(p50)),
        "p90_us": time(1),
        "p99_us": time(2),
        "p999_us": time(3),
        "max_us": time(4),
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    }))
}
