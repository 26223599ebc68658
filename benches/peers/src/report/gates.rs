//! What was aimed at, beside what was measured.

use super::data::{Results, Table, bytes, is_full_rival, is_rival};
use crate::table::number;

/// One aim in one cell.
pub struct Gate {
    pub what: String,
    pub aim: String,
    pub figure: String,
    /// Unknown where something of it was not measured.
    pub met: Option<bool>,
}

/// How a value must stand to another one.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Above,
    Below,
}

impl Bound {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(least) => ratio >= least,
            Bound::AtMost(most) => ratio <= most,
            Bound::Above => ratio > 1.0,
            Bound::Below => ratio < 1.0,
        }
    }

    fn text(self) -> String {
        match self {
            Bound::AtLeast(least) => format!("≥ {least}x"),
            Bound::AtMost(most) => format!("≤ {most}x"),
            Bound::Above => "above".to_owned(),
            Bound::Below => "below".to_owned(),
        }
    }
}

/// What our value is held against.
#[derive(Clone, Copy)]
enum Mark {
    FullRival,
    AnyRival,
    Column(&'static str),
}

struct Aim {
    bound: Bound,
    mark: Mark,
}

const fn aim(bound: Bound, mark: Mark) -> Aim {
    Aim { bound, mark }
}

const SMALL: [u64; 4] = [16, 64, 256, 1024];
const LARGE: [u64; 3] = [8 << 10, 64 << 10, 1 << 20];

/// All aims, in the order of the page.
pub fn all(results: &Results) -> Vec<Gate> {
    let mut gates = Vec::new();
    one_way(results, &mut gates);
    there_and_back(results, &mut gates);
    many(results, &mut gates);
    costs(results, &mut gates);
    gates
}

fn one_way(results: &Results, gates: &mut Vec<Gate>) {
    let small = [
        aim(Bound::AtLeast(2.0), Mark::FullRival),
        aim(Bound::AtLeast(1.2), Mark::Column("monocoque")),
        aim(Bound::AtLeast(0.5), Mark::Column("raw")),
    ];
    let large = [aim(Bound::Above, Mark::FullRival), aim(Bound::AtLeast(0.8), Mark::Column("raw"))];
    for transport in ["tcp", "ipc"] {
        for (sizes, aims) in [(&SMALL[..], &small[..]), (&LARGE[..], &large[..])] {
            for &size in sizes {
                rate_gates(results, gates, ("push-pull", transport, size), "ginnel", aims);
            }
        }
    }
    for (sizes, least) in [(&SMALL[..], 1.5), (&LARGE[..], 1.0)] {
        for &size in sizes {
            let aims = [aim(Bound::AtLeast(least), Mark::FullRival)];
            rate_gates(results, gates, ("push-pull", "inproc", size), "ginnel", &aims);
        }
    }
}

fn there_and_back(results: &Results, gates: &mut Vec<Gate>) {
    let aims = [aim(Bound::AtMost(1.1), Mark::Column("raw")), aim(Bound::Below, Mark::AnyRival)];
    for cell in ["req-rep", "req-rep-two-cpus", "req-rep-one-cpu"] {
        for transport in ["tcp", "ipc"] {
            field_gates(results, gates, (cell, transport, 64), "ginnel", ("p50", "p50"), &aims);
        }
    }
    let inproc = results.table("req-rep", "inproc", 64);
    let p50 = inproc.and_then(|table| table.median("ginnel-multi", "p50")).map(|nanos| nanos / 1000.0);
    gates.push(limit("REQ/REP over inproc, 64 bytes, two workers: p50", "≤ 3 us", p50, 3.0, "us"));
}

fn many(results: &Results, gates: &mut Vec<Gate>) {
    for cell in ["pub-sub-8", "pub-sub-32"] {
        for size in [64, 1024] {
            let aims = [aim(Bound::AtLeast(2.0), Mark::FullRival)];
            rate_gates(results, gates, (cell, "tcp", size), "ginnel", &aims);
        }
    }
    let aims = [aim(Bound::AtLeast(1.5), Mark::FullRival)];
    rate_gates(results, gates, ("fan-in-8", "tcp", 64), "ginnel", &aims);
}

fn costs(results: &Results, gates: &mut Vec<Gate>) {
    let aims = [
        aim(Bound::AtMost(0.3), Mark::Column("libzmq")),
        aim(Bound::AtMost(0.5), Mark::Column("omq")),
        aim(Bound::AtMost(1.0), Mark::Column("monocoque")),
    ];
    for transport in ["tcp", "ipc"] {
        let place = ("push-pull", transport, 64);
        field_gates(results, gates, place, "ginnel", ("cpu_us", "processor time a message"), &aims);
    }
    let idle = results.table("idle-10000", "tcp", 64);
    let idle = idle.or_else(|| results.tables.iter().find(|table| table.cell == "idle-10000"));
    let median = |field: &str| idle.and_then(|table| table.median("ginnel", field));
    for (side, kib, cpu) in
        [("bound", "kib_binder", "cpu_percent_binder"), ("connecting", "kib_connecter", "cpu_percent_connecter")]
    {
        let what = format!("10,000 idle connections, {side} side: resident for each");
        gates.push(limit(&what, "≤ 8 KiB", median(kib), 8.0, "KiB"));
        let what = format!("10,000 idle connections, {side} side: processor");
        gates.push(limit(&what, "about 0 (≤ 1 %)", median(cpu), 1.0, "%"));
    }
    let aims = [aim(Bound::AtLeast(2.0), Mark::Column("libzmq"))];
    rate_gates(results, gates, ("push-pull", "tcp", 64), "ginnel-blocking", &aims);
}

/// A value with a limit of its own.
fn limit(what: &str, aim: &str, value: Option<f64>, most: f64, unit: &str) -> Gate {
    Gate {
        what: what.to_owned(),
        aim: aim.to_owned(),
        figure: value.map_or("not measured".to_owned(), |value| format!("{} {unit}", number(value))),
        met: value.map(|value| value <= most),
    }
}

type Place<'a> = (&'a str, &'a str, u64);

fn rate_gates(results: &Results, gates: &mut Vec<Gate>, place: Place<'_>, own: &str, aims: &[Aim]) {
    field_gates(results, gates, place, own, ("rate", ""), aims);
}

fn field_gates(
    results: &Results,
    gates: &mut Vec<Gate>,
    (cell, transport, size): Place<'_>,
    own: &str,
    (field, words): (&str, &str),
    aims: &[Aim],
) {
    let table = results.table(cell, transport, size);
    let heading = table.map_or(format!("{cell} over {transport}, {}", bytes(size)), Table::heading);
    let column = if own == "ginnel" { String::new() } else { format!("{own}: ") };
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    for aim in aims {
        gates.push(against(table, own, field, aim, format!("{column}{heading}{words}")));
    }
}

/// The same calls on the other runtime. A rival's best flavour is what ours is held against, so our best one counts, too.
fn is_flavour(column: &str) -> bool {
    column == "ginnel-multi"
}

fn against(table: Option<&Table>, own: &str, field: &str, aim: &Aim, what: String) -> Gate {
    let more = field == "rate";
    let other = table.and_then(|table| match aim.mark {
        Mark::FullRival => table.best(is_full_rival, field, more),
        Mark::AnyRival => table.best(is_rival, field, more),
        Mark::Column(name) => table.best(|column| column == name, field, more),
    });
    let value = table
        .and_then(|table| table.best(|column| column == own || own == "ginnel" && is_flavour(column), field, more));
    let ratio = value.zip(other).map(|((_, value), (_, other))| value / other);
    let mark = match aim.mark {
        Mark::FullRival => "the fastest rival".to_owned(),
        Mark::AnyRival => "every rival".to_owned(),
        Mark::Column("monocoque") => "monocoque, coalescing".to_owned(),
        Mark::Column("raw") => "bare sockets".to_owned(),
        Mark::Column(name) => name.to_owned(),
    };
    let figure = match (ratio, value, other) {
        (Some(ratio), Some((mine, _)), Some((name, _))) if mine != own => format!("{ratio:.3}x ({mine} / {name})"),
        (Some(ratio), _, Some((name, _))) => format!("{ratio:.3}x ({name})"),
        _ => "not measured".to_owned(),
    };
    Gate { what, aim: format!("{} {mark}", aim.bound.text()), figure, met: ratio.map(|ratio| aim.bound.holds(ratio)) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(column: &str, rate: f64) -> Value {
        json!({ "cell": "push-pull", "title": "PUSH/PULL", "unit": "messages/s", "transport": "tcp", "size": 64,
            "column": column, "rate": rate, "cpu_us": 1e6 / rate })
    }

    #[test]
    fn a_gate_takes_the_fastest_rival_with_a_sockets_semantics() {
        let records =
            [run("ginnel", 9.0), run("libzmq", 3.0), run("omq", 4.0), run("omq-batch", 20.0), run("monocoque", 8.0)];
        let gates = all(&Results::of(&records));
        let gate = |aim: &str| gates.iter().find(|gate| gate.what == "PUSH/PULL over tcp, 64 bytes" && gate.aim == aim);
        let fastest = gate("≥ 2x the fastest rival").expect("there");
        assert_eq!((fastest.figure.as_str(), fastest.met), ("2.250x (omq)", Some(true)));
        let coalescing = gate("≥ 1.2x monocoque, coalescing").expect("there");
        assert_eq!((coalescing.figure.as_str(), coalescing.met), ("1.125x (monocoque)", Some(false)));
        assert_eq!(gate("≥ 0.5x bare sockets").expect("there").met, None);
    }
}
