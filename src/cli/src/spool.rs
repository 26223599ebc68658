//! `spool`: looks into a spool's directory, or mends it. What it finds goes to stdout as JSON.
//!
//! Blocking work on files; nothing else runs meanwhile.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ginnel::OpenError;
use ginnel::spool::{
    self, BadRecord, Listing, NameInfo, Position, RepairReport, SegmentInfo, SpoolFiles, StoredRecord,
};
use serde_json::{Value, json};

use crate::args::{DumpArgs, Moment, SpoolCommand, SpoolToolArgs};
use crate::exit::{self, Failure};
use crate::formats::{Format, Origin, Writer, json as frames};
use crate::log;
use crate::output::CHUNK;
use crate::setup::open_failure;
use crate::units;

pub(crate) fn run(args: SpoolToolArgs) -> Result<i32, Failure> {
    match args.command {
        SpoolCommand::List(args) => {
            let found = opened(open(&args.directory)?.list())?;
            print(&listing(&found))?;
            match found.segments.iter().find_map(|segment| Some((&segment.file, segment.bad.as_deref()?))) {
                Some((file, why)) => Err(Failure::new(exit::BAD_DATA, format_args!("{file}: {why}"))),
                None => Ok(exit::OK),
            }
        }
        SpoolCommand::Verify(args) => match open(&args.directory)?.verify() {
            Ok(verified) => print(&json!({"records": verified.records, "bytes": verified.bytes})),
            Err(bad) => Err(damaged(&bad)),
        },
        SpoolCommand::Dump(args) => dump(&args),
        SpoolCommand::Repair(args) => {
            existing(&args.directory)?;
            print(&report(&opened(spool::repair(&args.directory))?))
        }
        SpoolCommand::DropName(args) => {
            existing(&args.directory)?;
            match opened(spool::drop_name(&args.directory, &args.name))? {
                true => Ok(exit::OK),
                false => {
                    let directory = args.directory.display();
                    Err(Failure::failed(format_args!("spool {directory} has no name {}", args.name)))
                }
            }
        }
        SpoolCommand::NewId(args) => {
            existing(&args.directory)?;
            print(&json!({"id": opened(spool::new_id(&args.directory))?.to_string()}))
        }
    }
}

/// Reads the spool in `directory`, whoever writes it.
pub(crate) fn open(directory: &Path) -> Result<SpoolFiles, Failure> {
    existing(directory)?;
    opened(SpoolFiles::open(directory))
}

fn opened<T>(result: Result<T, OpenError>) -> Result<T, Failure> {
    result.map_err(|e| open_failure(&e))
}

/// A tool makes no directories: a wrong path must not look like an empty spool.
fn existing(directory: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(directory) {
        Ok(_) => Ok(()),
        Err(e) => Err(Failure::failed(format_args!("spool {}: {e}", directory.display()))),
    }
}

/// What cannot be read, as the end of the command.
pub(crate) fn damaged(bad: &BadRecord) -> Failure {
    Failure::new(exit::BAD_DATA, bad)
}

fn print(value: &Value) -> Result<i32, Failure> {
    match writeln!(io::stdout(), "{value}") {
        Ok(()) => Ok(exit::OK),
        Err(e) => Err(exit::stdout_failure(&e)),
    }
}

/// A time of a record, or its absence.
fn time(time: Option<SystemTime>) -> Option<String> {
    time.map(|time| units::rfc3339(units::since_epoch(time)))
}

fn listing(listing: &Listing) -> Value {
    json!({
        "id": listing.id.to_string(),
        "clean": listing.clean,
        "names_lost": listing.names_lost,
        "segments": listing.segments.iter().map(segment).collect::<Vec<_>>(),
        "bytes": listing.bytes,
        "oldest": listing.oldest,
        "newest": listing.newest,
        "names": listing.names.iter().map(name).collect::<Vec<_>>(),
        "delayed": listing.delayed,
        "dead_letters": listing.dead_letters,
    })
}

fn segment(segment: &SegmentInfo) -> Value {
    json!({
        "file": segment.file,
        "base": segment.base,
        "last": segment.last,
        "records": segment.records,
        "bytes": segment.bytes,
        "sealed": segment.sealed,
        "first_time": time(segment.first_time),
        "last_time": time(segment.last_time),
        "bad": segment.bad,
    })
}

fn name(name: &NameInfo) -> Value {
    let filters: Vec<Value> = name.filters.iter().map(|filter| frames::frame(filter)).collect();
    json!({
        "name": name.name,
        "kind": format!("{:?}", name.kind).to_lowercase(),
        "cursor": name.cursor,
        "lag_records": name.lag_records,
        "lag_bytes": name.lag_bytes,
        "age_s": name.age.map(|age| age.as_secs_f64()),
        "last_seen": time(name.last_seen),
        "filters": filters,
        "lost_records": name.lost_records,
    })
}

fn report(report: &RepairReport) -> Value {
    let damage: Vec<Value> = (report.damage.iter())
        .map(
            |bad| json!({"segment": bad.segment, "offset": bad.offset, "why": bad.why, "from": bad.from, "to": bad.to}),
        )
        .collect();
    json!({
        "id": report.id.map(|id| id.to_string()),
        "records": report.records,
        "torn": report.torn,
        "damage": damage,
        "registry_mended": report.registry_mended,
        "names_lost": report.names_lost,
    })
}

/// Where reading starts.
pub(crate) fn position(moment: Moment) -> Position {
    match moment {
        Moment::Oldest => Position::Oldest,
        Moment::Sequence(number) => Position::Sequence(number),
        Moment::Time(since_epoch) => Position::Time(system_time(since_epoch)),
    }
}

fn system_time(since_epoch: Duration) -> SystemTime {
    UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH)
}

/// Whether `record` is behind the last one that is wanted.
pub(crate) fn is_beyond(record: &StoredRecord, last: Option<Moment>) -> bool {
    match last {
        None | Some(Moment::Oldest) => false,
        Some(Moment::Sequence(number)) => record.sequence > number,
        Some(Moment::Time(since_epoch)) => record.time > system_time(since_epoch),
    }
}

/// Good records go to stdout, bad ones are named on stderr; any bad one makes the code 5.
fn dump(args: &DumpArgs) -> Result<i32, Failure> {
    let files = open(&args.directory)?;
    let records = match (args.dead, args.delayed) {
        (true, _) => files.dead_letters(),
        (_, true) => files.delayed(),
        _ => files.records(position(args.from)),
    };
    let mut writer = Writer::new(Format::Envelope, false, false);
    let mut output = io::stdout().lock();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut left = if args.count == 0 { u64::MAX } else { args.count };
    let mut code = exit::OK;
    for record in records {
        match record {
            Ok(record) if is_beyond(&record, args.to) => break,
            Ok(record) => {
                writer.write(&mut chunk, &record.message, origin(&record));
                left -= 1;
            }
            Err(bad) => {
                log::error(bad.to_string());
                code = exit::BAD_DATA;
            }
        }
        if chunk.len() >= CHUNK {
            output.write_all(&chunk).map_err(|e| exit::stdout_failure(&e))?;
            chunk.clear();
        }
        if left == 0 {
            break;
        }
    }
    output.write_all(&chunk).and_then(|()| output.flush()).map_err(|e| exit::stdout_failure(&e))?;
    Ok(code)
}

fn origin(record: &StoredRecord) -> Origin<'_> {
    Origin {
        peer: None,
        offset: Some(record.sequence),
        time: Some(units::since_epoch(record.time)),
        deliver_at: record.deliver_at.map(units::since_epoch),
    }
}
