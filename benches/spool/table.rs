//! What was measured, and how it is shown: medians of rounds, ratios to a raw loop, gates.

/// One round of one line: ours, and the raw loop's figure in the same unit (not a number where there is none).
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) line: &'static str,
    pub(crate) ours: f64,
    pub(crate) raw: f64,
    /// Processor time for one message, in microseconds: what a busy machine changes least.
    pub(crate) cpu: f64,
}

impl Sample {
    pub(crate) fn new(line: &'static str, ours: f64, raw: f64) -> Sample {
        Sample { line, ours, raw, cpu: f64::NAN }
    }

    pub(crate) fn with_cpu(self, cpu: f64) -> Sample {
        Sample { cpu, ..self }
    }
}

/// What a line has to reach.
#[derive(Clone, Copy)]
pub(crate) enum Gate {
    /// Only shown.
    None,
    AtLeast(f64),
    AtMost(f64),
    /// Of the raw loop's figure.
    RatioAtLeast(f64),
    /// So much of the raw loop's figure, and so much more.
    RatioAtMost(f64, f64),
}

impl Gate {
    fn text(self) -> String {
        match self {
            Gate::None => String::new(),
            Gate::AtLeast(least) => format!(">= {}", number(least)),
            Gate::AtMost(most) => format!("<= {}", number(most)),
            Gate::RatioAtLeast(least) => format!(">= {least:.2} x raw"),
            Gate::RatioAtMost(factor, more) => format!("<= {factor:.1} x raw + {more:.0}"),
        }
    }

    /// None where nothing is asked.
    fn holds(self, ours: f64, raw: f64, ratio: f64) -> Option<bool> {
        match self {
            Gate::None => None,
            Gate::AtLeast(least) => Some(ours >= least),
            Gate::AtMost(most) => Some(ours <= most),
            Gate::RatioAtLeast(least) => Some(ratio >= least),
            Gate::RatioAtMost(factor, more) => Some(ours <= factor * raw + more),
        }
    }
}

/// A line of the table.
pub(crate) struct Line {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) gate: Gate,
    /// What the raw loop does.
    pub(crate) raw: &'static str,
}

pub(crate) const fn line(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    gate: Gate,
    raw: &'static str,
) -> Line {
    Line { id, what, unit, gate, raw }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Where the median of what these are drawn from lies, in 19 cases of 20; by their order alone, whatever they are
/// like. None for a few.
fn median_between(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let low = ((count - 1.96 * count.sqrt()) / 2.0).floor();
    if low < 1.0 {
        return None;
    }
    let low = low as usize - 1;
    Some((*values.get(low)?, *values.get(values.len() - 1 - low)?))
}

/// `1234567.8` as `1,234,568`; small values keep two decimals.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A line's rounds summed up.
struct Summary {
    ours: f64,
    least: f64,
    most: f64,
    raw: f64,
    /// The median of each round's ratio: what the disk does in one round hits both.
    ratio: f64,
    /// Where that lies, as far as can be said.
    between: Option<(f64, f64)>,
    cpu: f64,
    holds: Option<bool>,
}

impl Summary {
    fn of(line: &Line, samples: &[Sample]) -> Option<Summary> {
        let own: Vec<&Sample> = samples.iter().filter(|sample| sample.line == line.id).collect();
        let ours: Vec<f64> = own.iter().map(|sample| sample.ours).collect();
        let least = ours.iter().copied().min_by(f64::total_cmp)?;
        let most = ours.iter().copied().max_by(f64::total_cmp)?;
        let ours = median(ours);
        let raw = median(own.iter().map(|sample| sample.raw).collect());
        let ratios: Vec<f64> = own.iter().map(|sample| sample.ours / sample.raw).collect();
        let (ratio, between) = (median(ratios.clone()), median_between(ratios));
        let cpu = median(own.iter().map(|sample| sample.cpu).collect());
        Some(Summary { ours, least, most, raw, ratio, between, cpu, holds: line.gate.holds(ours, raw, ratio) })
    }
}

/// The table.
pub(crate) fn print(lines: &[Line], samples: &[Sample]) {
    let head = ["#", "what", "unit", "ginnel", "min..max", "raw", "ratio", "95 %", "CPU us", "gate", "", "raw is"]
        .map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for line in lines {
        let Some(summary) = Summary::of(line, samples) else { continue };
        rows.push(vec![
            line.id.to_owned(),
            line.what.to_owned(),
            line.unit.to_owned(),
            number(summary.ours),
            format!("{}..{}", number(summary.least), number(summary.most)),
            number(summary.raw),
            number(summary.ratio),
            summary.between.map_or(String::new(), |(low, high)| format!("{low:.2}..{high:.2}")),
            number(summary.cpu),
            line.gate.text(),
            summary.holds.map_or("", |holds| if holds { "ok" } else { "MISSED" }).to_owned(),
            line.raw.to_owned(),
        ]);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let mut text = String::new();
        for (at, cell) in row.iter().enumerate() {
            match at {
                3..=8 => text += &format!("{cell:>w$}  ", w = widths[at]),
                _ => text += &format!("{cell:<w$}  ", w = widths[at]),
            }
        }
        println!("{}", text.trim_end());
    }
}

/// A JSON object a line, all rounds in it.
pub(crate) fn print_json(lines: &[Line], samples: &[Sample]) {
    for line in lines {
        let Some(summary) = Summary::of(line, samples) else { continue };
        let list = |of: fn(&Sample) -> f64| {
            let own = samples.iter().filter(|sample| sample.line == line.id);
            own.map(|sample| plain(of(sample))).collect::<Vec<_>>().join(",")
        };
        println!(
            "{{\"bench\":\"spool\",\"line\":\"{}\",\"what\":\"{}\",\"unit\":\"{}\",\"ours\":[{}],\"raw\":[{}],\"median\":{},\"raw_median\":{},\"ratio\":{},\"ratio_95\":{},\"cpu_us\":{},\"gate\":\"{}\",\"ok\":{}}}",
            line.id,
            line.what,
            line.unit,
            list(|sample| sample.ours),
            list(|sample| sample.raw),
            plain(summary.ours),
            plain(summary.raw),
            plain(summary.ratio),
            summary.between.map_or("null".to_owned(), |(low, high)| format!("[{low:.3},{high:.3}]")),
            plain(summary.cpu),
            line.gate.text(),
            summary.holds.map_or("null".to_owned(), |holds| holds.to_string()),
        );
    }
}

fn plain(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "null".to_owned() }
}
