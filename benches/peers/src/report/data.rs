//! The records of a run, by cell and column.

use serde_json::Value;

use crate::table::Series;

/// What one column did in one cell.
pub struct Entry {
    pub column: String,
    runs: Vec<Value>,
    /// Why some run, or all of them, have no value.
    pub failed: Option<String>,
    pub failures: usize,
    pub unsupported: Option<String>,
}

impl Entry {
    /// A field's values over all rounds.
    pub fn series(&self, field: &str) -> Series {
        let mut series = Series::default();
        self.runs.iter().filter_map(|run| run[field].as_f64()).for_each(|value| series.push(value));
        series
    }

    /// The median of a field; none where nothing was measured.
    pub fn median(&self, field: &str) -> Option<f64> {
        Some(self.series(field).median()).filter(|value| value.is_finite())
    }
}

/// All columns of one cell.
pub struct Table {
    pub cell: String,
    pub title: String,
    pub unit: String,
    pub transport: String,
    pub size: u64,
    pub entries: Vec<Entry>,
}

impl Table {
    pub fn entry(&self, column: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.column == column)
    }

    pub fn median(&self, column: &str, field: &str) -> Option<f64> {
        self.entry(column)?.median(field)
    }

    /// `PUSH/PULL over tcp, 64 bytes`.
    pub fn heading(&self) -> String {
        format!("{} over {}, {}", self.title, self.transport, bytes(self.size))
    }

    /// The field that this cell is about, and whether more of it is better.
    pub fn main_field(&self) -> (&'static str, bool) {
        let has = |field: &str| self.entries.iter().any(|entry| entry.median(field).is_some());
        match () {
            () if has("seconds") => ("seconds", false),
            () if has("kib_binder") => ("kib_binder", false),
            () if matches!(
                self.cell.as_str(),
                "req-rep" | "req-rep-two-cpus" | "req-rep-one-cpu" | "dealer-router"
            ) =>
            {
                ("p50", false)
            }
            () => ("rate", true),
        }
    }

    /// The best of these columns by a field, and its value.
    pub fn best<'a>(&'a self, columns: impl Fn(&str) -> bool, field: &str, more: bool) -> Option<(&'a str, f64)> {
        let measured = self.entries.iter().filter(|entry| columns(&entry.column));
        let values = measured.filter_map(|entry| Some((entry.column.as_str(), entry.median(field)?)));
        values.max_by(|(_, one), (_, other)| if more { one.total_cmp(other) } else { other.total_cmp(one) })
    }
}

/// Everything of a run.
pub struct Results {
    pub about: Value,
    pub tables: Vec<Table>,
}

impl Results {
    pub fn of(records: &[Value]) -> Results {
        let mut results = Results { about: Value::Null, tables: Vec::new() };
        for record in records {
            if record["about"].is_object() {
                results.about = record["about"].clone();
            } else if record["cell"].is_string() {
                results.take(record);
            }
        }
        results
    }

    fn take(&mut self, record: &Value) {
        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let (cell, transport, column) = (text("cell"), text("transport"), text("column"));
        let size = record["size"].as_u64().unwrap_or(0);
        let here = |table: &Table| table.cell == cell && table.transport == transport && table.size == size;
        let at = self.tables.iter().position(here).unwrap_or_else(|| {
            let (title, unit) = (text("title"), text("unit"));
            self.tables.push(Table { cell, title, unit, transport, size, entries: Vec::new() });
            self.tables.len() - 1
        });
        let entries = &mut self.tables[at].entries;
        let place = entries.iter().position(|entry| entry.column == column).unwrap_or_else(|| {
            entries.push(Entry { column, runs: Vec::new(), failed: None, failures: 0, unsupported: None });
            entries.len() - 1
        });
        entries[place].take(record);
    }

    pub fn table(&self, cell: &str, transport: &str, size: u64) -> Option<&Table> {
        self.tables.iter().find(|table| table.cell == cell && table.transport == transport && table.size == size)
    }

    /// All sizes of a cell on one transport, in order.
    pub fn sizes<'a>(&'a self, cell: &str, transport: &str) -> Vec<&'a Table> {
        let mut tables: Vec<&Table> =
            self.tables.iter().filter(|table| table.cell == cell && table.transport == transport).collect();
        tables.sort_by_key(|table| table.size);
        tables
    }
}

impl Entry {
    fn take(&mut self, record: &Value) {
        match record["failed"].as_str() {
            Some(why) if record["unsupported"] == true => self.unsupported = Some(why.to_owned()),
            Some(why) => {
                self.failed.get_or_insert_with(|| why.to_owned());
                self.failures += 1;
            }
            None => self.runs.push(record.clone()),
        }
    }
}

pub fn is_own(column: &str) -> bool {
    column.starts_with("ginnel")
}

pub fn is_raw(column: &str) -> bool {
    column.starts_with("raw")
}

/// Another library.
pub fn is_rival(column: &str) -> bool {
    !is_own(column) && !is_raw(column)
}

/// A rival with a socket's semantics (high-water marks or a queue, delivery without a flush by hand), one message a call.
pub fn is_full_rival(column: &str) -> bool {
    is_rival(column) && !column.starts_with("monocoque") && !column.ends_with("-batch")
}

/// `64 bytes`, `8 KiB`.
pub fn bytes(size: u64) -> String {
    match size {
        size if size >= 1 << 20 && size % (1 << 20) == 0 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 && size % (1 << 10) == 0 => format!("{} KiB", size >> 10),
        size => format!("{size} bytes"),
    }
}
