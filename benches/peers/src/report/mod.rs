//! Writes the results as a page and charts.
//!
//! `data` sorts the records, `gates` holds them against the aims, `page` is the text, `charts` the pictures, `machine` says
//! what the page tells of the time and the compiler. Read `page` next.

mod charts;
mod data;
mod gates;
mod machine;
mod page;

use std::path::Path;

use data::Results;

/// Writes `RESULTS.md` and the charts into `directory`.
pub fn write(records: &[serde_json::Value], directory: &Path) -> std::io::Result<()> {
    let results = Results::of(records);
    std::fs::create_dir_all(directory)?;
    let charts = charts::draw(&results, directory).map_err(|error| std::io::Error::other(error.to_string()))?;
    std::fs::write(directory.join("RESULTS.md"), page::write(&results, &charts))
}
