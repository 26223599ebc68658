//! Diagnostics: one line each on stderr, `ginnel: level: text` or a JSON object.
//!
//! Nothing here touches stdout, which carries data only. The settings are set once, before any work.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::units;

/// In order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    fn color(self) -> &'static str {
        match self {
            Level::Error => "\x1b[31m",
            Level::Warn => "\x1b[33m",
            Level::Info => "\x1b[32m",
            Level::Debug | Level::Trace => "\x1b[2m",
        }
    }
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) format: LogFormat,
    /// `None`: silent.
    pub(crate) level: Option<Level>,
    pub(crate) color: bool,
}

const DEFAULT: Settings = Settings { format: LogFormat::Text, level: Some(Level::Info), color: false };

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// What the flags and the variables ask for. `-q` and `-v` win over `GINNEL_LOG`.
pub(crate) fn settings(format: LogFormat, color: Color, quiet: bool, verbose: u8) -> Result<Settings, String> {
    let filter = std::env::var("GINNEL_LOG").ok().filter(|text| !text.is_empty());
    let level = match (quiet, verbose, filter) {
        (true, _, _) => Some(Level::Error),
        (false, 0, Some(filter)) => parse_filter(&filter)?,
        (false, 0, None) => Some(Level::Info),
        (false, 1, _) => Some(Level::Debug),
        (false, _, _) => Some(Level::Trace),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => !no_color && std::io::stderr().is_terminal(),
    };
    Ok(Settings { format, level, color: color && format == LogFormat::Text })
}

fn parse_filter(text: &str) -> Result<Option<Level>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    Level::ALL
        .into_iter()
        .find(|level| level.name().eq_ignore_ascii_case(text))
        .map(Some)
        .ok_or_else(|| "GINNEL_LOG: write off, error, warn, info, debug or trace".to_owned())
}

/// Takes effect once; later calls change nothing.
pub(crate) fn init(settings: Settings) {
    let _ = SETTINGS.set(settings);
}

pub(crate) fn enabled(level: Level) -> bool {
    SETTINGS.get().unwrap_or(&DEFAULT).level.is_some_and(|most| level <= most)
}

pub(crate) fn error(text: impl AsRef<str>) {
    line(Level::Error, text.as_ref(), Map::new());
}

pub(crate) fn warn(text: impl AsRef<str>) {
    line(Level::Warn, text.as_ref(), Map::new());
}

/// One line with fields. As text the fields are not shown: `text` says it all.
pub(crate) fn line(level: Level, text: &str, fields: Map<String, Value>) {
    let settings = SETTINGS.get().unwrap_or(&DEFAULT);
    if settings.level.is_some_and(|most| level <= most) {
        raw(&render(*settings, level, text, fields));
    }
}

/// A line that is no diagnostic but belongs on stderr, such as statistics. Written as it is.
pub(crate) fn raw(line: &str) {
    // One write for the whole line, so that lines of several processes do not mix. A closed stderr is nobody's loss.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

fn render(settings: Settings, level: Level, text: &str, fields: Map<String, Value>) -> String {
    if settings.format == LogFormat::Json {
        let mut object = Map::new();
        object.insert("ts".into(), units::now_rfc3339().into());
        object.insert("level".into(), level.name().into());
        object.insert("msg".into(), text.into());
        object.extend(fields);
        return Value::Object(object).to_string();
    }
    let text = one_line(text);
    if settings.color {
        format!("ginnel: {}{}\x1b[0m: {text}", level.color(), level.name())
    } else {
        format!("ginnel: {}: {text}", level.name())
    }
}

/// Peers and files have a say in these texts: no control characters reach the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let text = render(DEFAULT, Level::Warn, "a\nb\x1b[1m", Map::new());
        assert_eq!(text, "ginnel: warn: a b [1m");
    }

    #[test]
    fn json_carries_fields() {
        let settings = Settings { format: LogFormat::Json, ..DEFAULT };
        let fields = Map::from_iter([("endpoint".to_owned(), Value::from("tcp://h:1"))]);
        let object: Value = serde_json::from_str(&render(settings, Level::Info, "bound", fields)).expect("JSON");
        assert_eq!(object["level"], "info");
        assert_eq!(object["msg"], "bound");
        assert_eq!(object["endpoint"], "tcp://h:1");
        assert!(object["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')));
    }

    #[test]
    fn filters() {
        assert_eq!(parse_filter("off"), Ok(None));
        assert_eq!(parse_filter("WARN"), Ok(Some(Level::Warn)));
        assert!(parse_filter("loud").is_err());
    }
}
