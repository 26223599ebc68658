//! The page: the machine, the aims, where we are behind, and a table for each cell.

use std::fmt::Write;

use serde_json::Value;

use super::data::{Entry, Results, Table, is_own, is_raw, is_rival};
use super::gates::{self, Gate};
use super::machine;
use crate::table;

const NANOS_TO_MICROS: f64 = 1e-3;

/// A column of a table: its head, the record's field, what to multiply it with.
type Metric = (&'static str, &'static str, f64);

/// The page, with the charts that were drawn: file and words.
pub fn write(results: &Results, charts: &[(String, String)]) -> String {
    let mut page = String::from("# Results\n\n");
    page += "Made by `benches/peers` (its README says how everything is measured, and how to repeat it). Medians of all rounds; \
             what is not good for us is shown like what is; why it stays so is in [PROFILES.md](PROFILES.md).\n\n";
    machine_line(&mut page, results);
    contestants(&mut page, &results.about);
    aims(&mut page, &gates::all(results));
    behind(&mut page, results);
    for (file, words) in charts {
        let _ = writeln!(page, "![{words}]({file})\n");
    }
    for table in &results.tables {
        cell(&mut page, table);
    }
    page
}

fn machine_line(page: &mut String, results: &Results) {
    let about = &results.about;
    let text = |field: &str| about[field].as_str().unwrap_or("?").to_owned();
    let load = match about["load"].as_str() {
        Some(load) => format!("load average before the run {load}; "),
        None => String::new(),
    };
    let _ = writeln!(
        page,
        "{} processors ({}), memory {}, Linux {}; {}; {}; {load}{} rounds of about {} s a cell, columns interleaved.\n",
        about["cpus"],
        text("cpu"),
        text("memory"),
        text("system"),
        about["rustc"].as_str().map_or_else(machine::rustc, str::to_owned),
        about["unix_time"].as_i64().map_or_else(String::new, machine::date),
        about["rounds"],
        about["time_target"],
    );
}

fn contestants(page: &mut String, about: &Value) {
    page.push_str("## Columns\n\n| column | settings |\n|---|---|\n");
    for (name, settings) in about["settings"].as_object().into_iter().flatten() {
        let text = settings.as_str().unwrap_or_default();
        let text = text.strip_prefix(&format!("{name}: ")).unwrap_or(text);
        let _ = writeln!(page, "| `{name}` | {} |", escaped(text));
    }
    page.push('\n');
}

fn aims(page: &mut String, gates: &[Gate]) {
    let count = |met: Option<bool>| gates.iter().filter(|gate| gate.met == met).count();
    let _ = writeln!(
        page,
        "## Against the aims\n\nOf {} aims {} are met, {} are not, {} were not measured. A figure is the better value of \
         `ginnel` and `ginnel-multi` divided by that of the column named in brackets, where no unit says otherwise. \
         The fastest rival is the fastest with a socket's semantics, one message a call: not monocoque, which has aims of \
         its own, and no batch column; \"every rival\" and the tables below leave none out. Bare sockets are `raw`; there \
         and back `raw-blocking` beside it is often faster.\n\n| cell | aim | figure | |\n|---|---|---|---|",
        gates.len(),
        count(Some(true)),
        count(Some(false)),
        count(None),
    );
    for gate in gates {
        let met = match gate.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        let figure = if gate.met.is_some() { gate.figure.as_str() } else { "" };
        let _ = writeln!(page, "| {} | {} | {figure} | {met} |", gate.what, gate.aim);
    }
    page.push('\n');
}

/// How the best of our columns, and the plain one, stand to the best rival.
struct Standing<'a> {
    rival: &'a str,
    /// Ours by theirs, or the other way round where less is better: below 1 we are behind.
    plain: Option<f64>,
    best: Option<(&'a str, f64)>,
}

fn standing(table: &Table) -> Option<Standing<'_>> {
    let (field, more) = table.main_field();
    let (rival, theirs) = table.best(is_rival, field, more)?;
    let lead = |ours: f64| if more { ours / theirs } else { theirs / ours };
    let best = table.best(is_own, field, more).map(|(name, ours)| (name, lead(ours)));
    Some(Standing { rival, plain: table.median("ginnel", field).map(lead), best })
}

fn behind(page: &mut String, results: &Results) {
    page.push_str(
        "## Where ginnel is behind\n\nBeside the fastest column of all rivals, batch columns and monocoque included; after \
         the semicolon a better column of ours.\n\n",
    );
    let mut any = false;
    for table in &results.tables {
        let Some(standing) = standing(table) else { continue };
        let Some(plain) = standing.plain.filter(|plain| *plain < 1.0) else {
            if standing.plain.is_none() && table.entry("ginnel").is_some_and(|entry| entry.unsupported.is_none()) {
                any = true;
                let _ = writeln!(page, "- {}: `ginnel` failed, `{}` did not", table.heading(), standing.rival);
            }
            continue;
        };
        any = true;
        let better = match standing.best {
            Some((name, lead)) if name != "ginnel" && lead > plain => format!("; `{name}` {lead:.2}x"),
            _ => String::new(),
        };
        let _ = writeln!(page, "- {}: {plain:.2}x `{}`{better}", table.heading(), standing.rival);
    }
    if !any {
        page.push_str("Nowhere in this run.\n");
    }
    page.push('\n');
}

fn metrics(table: &Table) -> Vec<Metric> {
    let costs = [("CPU us/op", "cpu_us", 1.0), ("switches/1000", "switches", 1.0)];
    let times =
        [("p50 us", "p50", NANOS_TO_MICROS), ("p99 us", "p99", NANOS_TO_MICROS), ("p99.9 us", "p999", NANOS_TO_MICROS)];
    let has = |field: &str| table.entries.iter().any(|entry| entry.median(field).is_some());
    match table.main_field().0 {
        "seconds" => vec![("seconds", "seconds", 1.0)],
        "kib_binder" => vec![
            ("KiB each, bound", "kib_binder", 1.0),
            ("KiB each, connecting", "kib_connecter", 1.0),
            ("CPU %, bound", "cpu_percent_binder", 1.0),
            ("CPU %, connecting", "cpu_percent_connecter", 1.0),
        ],
        "p50" => times.into_iter().chain(costs).collect(),
        _ => {
            let mut all = vec![("rate", "rate", 1.0)];
            all.extend(costs);
            if has("p50") {
                all.extend(times);
            }
            if table.cell.starts_with("pub-sub") {
                all.push(("lost", "lost", 1.0));
            }
            if table.cell == "push-pull" {
                all.push(("MB/s", "rate", table.size as f64 / 1e6));
            }
            all
        }
    }
}

fn cell(page: &mut String, table: &Table) {
    let metrics = metrics(table);
    let (field, more) = table.main_field();
    let rival = table.best(is_rival, field, more);
    let raw = table.median("raw", field);
    let main_head = if metrics[0].0 == "rate" { table.unit.as_str() } else { metrics[0].0 };
    let mut heads = vec!["column", main_head, "lowest to highest"];
    heads.extend(metrics[1..].iter().map(|metric| metric.0));
    heads.extend(["x fastest rival", "x raw", ""]);
    let _ = writeln!(page, "### {}\n\n| {} |", table.heading(), heads.join(" | "));
    let _ = writeln!(page, "|---|{}---|", "---:|".repeat(heads.len() - 2));
    for entry in &table.entries {
        if let Some(row) = row(entry, &metrics, rival.map(|(_, value)| value), raw, mark(table, entry)) {
            let _ = writeln!(page, "{row}");
        }
    }
    let unsupported = table.entries.iter().filter_map(|entry| Some((entry, entry.unsupported.as_ref()?)));
    let words: Vec<String> = unsupported
        .map(|(entry, why)| match why.as_str() {
            "not supported" => format!("`{}`", entry.column),
            why => format!("`{}` ({why})", entry.column),
        })
        .collect();
    if !words.is_empty() {
        let _ = writeln!(page, "\nNot supported: {}.", words.join(", "));
    }
    page.push('\n');
}

/// What is said of our own row: whether it is behind.
fn mark(table: &Table, entry: &Entry) -> String {
    let (field, more) = table.main_field();
    let (Some((rival, theirs)), Some(ours)) = (table.best(is_rival, field, more), entry.median(field)) else {
        return String::new();
    };
    let behind = if more { ours < theirs } else { ours > theirs };
    if behind && is_own(&entry.column) { format!("**behind {rival}**") } else { String::new() }
}

fn row(entry: &Entry, metrics: &[Metric], rival: Option<f64>, raw: Option<f64>, mark: String) -> Option<String> {
    if entry.unsupported.is_some() {
        return None;
    }
    let (_, field, scale) = metrics[0];
    let Some(median) = entry.median(field) else {
        let why = entry.failed.as_deref().unwrap_or("nothing was measured");
        let blanks = " |".repeat(metrics.len() + 3);
        return Some(format!("| `{}` |{blanks} **failed**: {} |", entry.column, escaped(why)));
    };
    let (low, high) = entry.series(field).spread();
    let mut cells = vec![
        format!("`{}`", entry.column),
        number(median * scale),
        format!("{} to {}", number(low * scale), number(high * scale)),
    ];
    let value = |(_, field, scale): &Metric| entry.median(field).map_or("-".to_owned(), |value| number(value * scale));
    cells.extend(metrics[1..].iter().map(value));
    let ratio = |other: Option<f64>| other.map_or("-".to_owned(), |other| format!("{:.2}", median / other));
    cells.push(ratio(rival));
    cells.push(if is_raw(&entry.column) { String::new() } else { ratio(raw) });
    let mut notes = Vec::from_iter(Some(mark).filter(|mark| !mark.is_empty()));
    if let Some(why) = &entry.failed {
        notes.push(format!("{} failed: {}", entry.failures, escaped(why)));
    }
    cells.push(notes.join("; "));
    Some(format!("| {} |", cells.join(" | ")))
}

/// As everywhere, but with a third decimal below 1: processor times are that small.
fn number(value: f64) -> String {
    if value.abs() < 1.0 && value != 0.0 { format!("{value:.3}") } else { table::number(value) }
}

/// Fit for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
