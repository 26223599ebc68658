//! `--config FILE`: TOML whose keys are the long flag names. What the command line says wins.
//!
//! A key at the top holds for every subcommand that has the flag; a table named as a subcommand holds for
//! that one. The file becomes further arguments, so that its values are checked as the line's are.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use toml::{Table, Value};

/// No list of flags is longer.
const MAX_BYTES: u64 = 1 << 20;

/// The arguments with what `path` adds to them.
pub(crate) fn extend(
    args: &[OsString],
    path: &Path,
    command: &Command,
    matches: &ArgMatches,
) -> Result<Vec<OsString>, String> {
    let file = path.display();
    let mut text = String::new();
    // Bounded: the path may name a device that has no end.
    let read = File::open(path).and_then(|opened| opened.take(MAX_BYTES).read_to_string(&mut text));
    if read.map_err(|e| format!("cannot read {file}: {e}"))? as u64 == MAX_BYTES {
        return Err(format!("{file}: longer than 1 MiB"));
    }
    let table: Table = text.parse().map_err(|e| format!("{file}: {e}"))?;
    let Some((name, matches)) = matches.subcommand() else { return Ok(args.to_vec()) };
    let flags = flags(command, name, matches, &table).map_err(|why| format!("{file}: {why}"))?;
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (before, after) = args.split_at(end);
    Ok([before, &flags, after].concat())
}

fn flags(command: &Command, name: &str, matches: &ArgMatches, table: &Table) -> Result<Vec<OsString>, String> {
    let mut out = Vec::new();
    let mut own = Table::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if command.find_subcommand(key).is_some() => {
                inner.iter().try_for_each(|(flag, _)| known(has_flag(command, key, flag), flag))?;
                if key == name {
                    own = inner.clone();
                }
            }
            _ => known(command.get_subcommands().any(|sub| has_flag(command, sub.get_name(), key)), key)?,
        }
    }
    let top = table.iter().filter(|(key, value)| !value.is_table() && !own.contains_key(*key));
    for (key, value) in top.chain(&own) {
        if has_flag(command, name, key) && !on_the_line(matches, key) {
            push_flag(&mut out, key, value)?;
        }
    }
    Ok(out)
}

fn known(is: bool, key: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("unknown key \"{key}\"; keys are the long flag names, such as connect")) }
}

fn has_flag(command: &Command, subcommand: &str, flag: &str) -> bool {
    let own = command.find_subcommand(subcommand).into_iter().flat_map(Command::get_arguments);
    let global = command.get_arguments().filter(|arg| arg.is_global_set());
    flag != "config" && own.chain(global).any(|arg| arg.get_long() == Some(flag))
}

fn on_the_line(matches: &ArgMatches, flag: &str) -> bool {
    matches.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine)
}

fn push_flag(out: &mut Vec<OsString>, key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Boolean(true) => out.push(format!("--{key}").into()),
        Value::Boolean(false) => {}
        Value::String(text) => out.push(format!("--{key}={text}").into()),
        Value::Integer(number) if key == "verbose" => {
            (0..(*number).clamp(0, 9)).for_each(|_| out.push("--verbose".into()));
        }
        Value::Integer(number) => out.push(format!("--{key}={number}").into()),
        Value::Float(number) => out.push(format!("--{key}={number}").into()),
        Value::Array(values) => values.iter().try_for_each(|value| match value {
            Value::Array(_) | Value::Table(_) => Err(format!("{key}: write a list of strings")),
            _ => push_flag(out, key, value),
        })?,
        _ => return Err(format!("{key}: write a string, a number, a boolean or a list of strings")),
    }
    Ok(())
}
