//! What a run measures: the options of the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cells::{self, Cell, Transport};
use crate::columns::{self, Flavour};
use crate::durable;

pub const USAGE: &str = "peers                      everything: benches/RESULTS.md, charts, target/peers.jsonl
peers [--only CELL,CELL] [--columns NAME,NAME] [--transport tcp,ipc,inproc] [--sizes N,N] [--rounds N]
      [--time-target SECONDS] [--quick] [--json FILE] [--report DIRECTORY]
peers --list               the cells and the columns
peers --from FILE [--report DIRECTORY]      the report again, from a JSON file of an earlier run
peers --only durable [--columns NAME,NAME] [--rt current|multi] …
durable columns: durable-never, durable-every, durable-batch, plain, durable-to-plain, nats, nats-always, redis,
redis-always (servers from the path, or NATS_SERVER and REDIS_SERVER); default all but durable-to-plain";

pub struct Plan {
    pub cells: Vec<Cell>,
    pub columns: Vec<String>,
    pub rounds: usize,
    pub quick: bool,
    /// How long a cell takes, about.
    pub time_target: f64,
    pub list: bool,
    /// Where the report goes, if one is wanted.
    pub report: Option<PathBuf>,
    /// Records to report on instead of measuring.
    pub from: Option<PathBuf>,
    pub json: Box<dyn Write>,
    pub durable: bool,
    /// Of the durable cells.
    pub sizes: Vec<usize>,
    /// The runtime of ginnel's durable columns.
    pub flavour: Flavour,
}

/// The options as they stand.
#[derive(Default)]
struct Words {
    only: Vec<String>,
    columns: Vec<String>,
    transports: Vec<Transport>,
    sizes: Vec<usize>,
    rounds: Option<usize>,
    time_target: Option<f64>,
    quick: bool,
    json: Option<PathBuf>,
    report: Option<PathBuf>,
    from: Option<PathBuf>,
    list: bool,
    flavour: Option<Flavour>,
}

impl Plan {
    pub fn from_words(arguments: &[String]) -> Result<Plan, String> {
        let everything = arguments.is_empty();
        let words = Words::read(arguments)?;
        let durable = words.only == ["durable"];
        let json = words.json.or(everything.then(|| own_directory().join("target/peers.jsonl")));
        let plan = Plan {
            cells: cells::choose(&words.only, &words.sizes, &words.transports),
            columns: chosen(words.columns, durable)?,
            rounds: words.rounds.unwrap_or(if words.quick { 2 } else { 5 }),
            quick: words.quick,
            time_target: words.time_target.unwrap_or(if words.quick { 0.2 } else { 0.6 }),
            list: words.list,
            report: words.report.or((everything || words.from.is_some()).then(|| own_directory().join(".."))),
            from: words.from,
            json: sink(json.as_deref())?,
            durable,
            sizes: if durable && words.sizes.is_empty() { durable::SIZES.to_vec() } else { words.sizes },
            flavour: words.flavour.unwrap_or(Flavour::Current),
        };
        match words.only.iter().find(|name| !cells::names().any(|known| known == *name) && !durable) {
            Some(unknown) => Err(format!("no cell {unknown} (--list shows them)")),
            None => Ok(plan),
        }
    }
}

impl Words {
    fn read(arguments: &[String]) -> Result<Words, String> {
        let mut words = Words::default();
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            match name.as_str() {
                "--quick" => words.quick = true,
                "--list" => words.list = true,
                _ => words.take(name, rest.next().ok_or_else(|| format!("{name}: no such option, or no value"))?)?,
            }
        }
        Ok(words)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{name}: cannot read {value}");
        let list = || value.split(',').map(str::to_owned);
        match name {
            "--only" => self.only = list().collect(),
            "--columns" => self.columns = list().collect(),
            "--transport" => {
                self.transports =
                    list().map(|name| Transport::by_name(&name)).collect::<Option<_>>().ok_or_else(wrong)?;
            }
            "--sizes" => {
                self.sizes = list().map(|size| size.parse().ok()).collect::<Option<_>>().ok_or_else(wrong)?;
                if self.sizes.iter().any(|size| *size < 16) {
                    return Err("--sizes: at least 16 bytes, for the topic and the number".to_owned());
                }
            }
            "--rounds" => self.rounds = Some(value.parse().map_err(|_| wrong())?),
            "--time-target" => self.time_target = Some(value.parse().map_err(|_| wrong())?),
            "--json" => self.json = Some(value.into()),
            "--report" => self.report = Some(value.into()),
            "--from" => self.from = Some(value.into()),
            "--rt" => self.flavour = Some(Flavour::from_name(value).ok_or_else(wrong)?),
            _ => return Err(format!("no option {name}")),
        }
        Ok(())
    }
}

fn chosen(columns: Vec<String>, durable: bool) -> Result<Vec<String>, String> {
    let (names, usual): (&[&str], &[&str]) = match durable {
        true => (&durable::NAMES, &durable::DEFAULT),
        false => (&columns::NAMES, &columns::NAMES),
    };
    if columns.is_empty() {
        return Ok(usual.iter().copied().map(str::to_owned).collect());
    }
    match columns.iter().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => Err(format!("no column {unknown}: {}", names.join(", "))),
        None => Ok(columns),
    }
}

fn sink(path: Option<&Path>) -> Result<Box<dyn Write>, String> {
    Ok(match path {
        None => Box::new(std::io::sink()),
        Some(path) => Box::new(std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?),
    })
}

/// This package's directory.
fn own_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
