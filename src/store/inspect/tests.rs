//! With spools made by hand in real directories, and crashes on the simulated disk.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;

use super::*;
use crate::message::{Message, SpoolId};
use crate::store::names::{NameRecord, Registry};
use crate::store::record::{self, Extra, GapReason};
use crate::store::segment::{self, Header, SEGMENT_HEADER};
use crate::store::storage::{Locked, Open};

mod changes;
mod live;
mod reading;

const ID: SpoolId = SpoolId(*b"0123456789abcdef");
/// The time of record 0; each one comes a second later.
const START: i64 = 1_700_000_000_000_000;

/// A spool in a directory of its own, gone with the test.
struct Spool {
    path: PathBuf,
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Spool {
    /// Without any segment.
    fn new(registry: &Registry) -> Spool {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ginnel-inspect-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let spool = Spool { path: std::env::temp_dir().join(name) };
        spool.save(registry);
        spool
    }

    /// Three segments, 1 to 10, 11 to 20, and 21 to 25 in an unfinished one with prepared space behind.
    fn of_three() -> Spool {
        let spool = Spool::new(&registry(25));
        spool.put(&Content::new(1).messages(1..=10).seal());
        spool.put(&Content::new(11).messages(11..=20).seal());
        spool.put(&Content::new(21).messages(21..=25).zeros(10_000));
        spool
    }

    fn save(&self, registry: &Registry) {
        let storage = RealDir::open(&self.path, true, true).unwrap();
        Slots::open(&storage).unwrap().0.save_both(registry).unwrap();
    }

    fn put(&self, content: &Content) {
        self.put_in("", content);
    }

    fn put_in(&self, below: &str, content: &Content) {
        fs::create_dir_all(self.path.join(below)).unwrap();
        fs::write(self.path.join(below).join(segment::file_name(content.base)), &content.bytes).unwrap();
    }

    fn files(&self) -> SpoolFiles {
        SpoolFiles::open(&self.path).unwrap()
    }

    fn flip(&self, base: u64, at: usize) {
        let file = self.path.join(segment::file_name(base));
        let mut bytes = fs::read(&file).unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }

    /// Everything in the directory, by name.
    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut dirs = vec![self.path.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    all.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        all.sort();
        all
    }
}

fn registry(last: u64) -> Registry {
    Registry { spool: ID, last, reserved_until: 1 << 20, head: 1, ..Registry::default() }
}

fn with_name(mut registry: Registry, name: &str, cursor: u64, done: Vec<(u64, u64)>) -> Registry {
    let filters = vec![(b"orders.".to_vec(), 1)];
    let record = NameRecord { name: name.into(), cursor, done, filters, ..NameRecord::default() };
    registry.names.insert(name.into(), record);
    registry
}

fn message(number: u64) -> Message {
    Message::from((format!("orders.{number}"), vec![b'x'; number as usize]))
}

fn micros_of(number: u64) -> i64 {
    START + number as i64 * 1_000_000
}

fn time_of(number: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros_of(number) as u64)
}

/// A segment's bytes.
#[derive(Clone)]
struct Content {
    base: u64,
    bytes: Vec<u8>,
    records: u64,
    last: u64,
    first: u64,
    /// Where each record begins.
    places: Vec<usize>,
}

impl Content {
    fn new(base: u64) -> Content {
        let bytes = Content::header(base, ID).encode().to_vec();
        Content { base, bytes, records: 0, last: base - 1, first: base, places: Vec::new() }
    }

    fn header(base: u64, spool: SpoolId) -> Header {
        Header { spool, base, created: START, salt: base * 7 }
    }

    fn append(mut self, write: impl FnOnce(&mut BytesMut)) -> Content {
        let mut out = BytesMut::new();
        write(&mut out);
        record::fill_checksums(&mut out, self.base * 7);
        self.places.push(self.bytes.len());
        self.bytes.extend_from_slice(&out);
        self
    }

    fn message(mut self, number: u64, extra: Extra, message: &Message) -> Content {
        self.records += 1;
        self.last = number;
        self.append(|out| {
            record::encode_message(out, number, micros_of(number), &extra, message);
        })
    }

    fn messages(self, numbers: impl IntoIterator<Item = u64>) -> Content {
        numbers.into_iter().fold(self, |all, number| all.message(number, Extra::default(), &message(number)))
    }

    fn gap(mut self, from: u64, to: u64) -> Content {
        self.last = to;
        self.append(|out| {
            record::encode_gap(out, micros_of(from), from, to, GapReason::Recovery);
        })
    }

    fn mark(self) -> Content {
        let (last, end) = (self.last, self.bytes.len() as u64);
        self.append(|out| {
            record::encode_mark(out, last, micros_of(last), last, end);
        })
    }

    fn seal(self) -> Content {
        let (records, first, last) = (self.records, self.first, self.last);
        self.append(|out| {
            record::encode_seal(out, last, micros_of(last), records, last, micros_of(first), micros_of(last));
        })
    }

    fn zeros(mut self, count: usize) -> Content {
        self.bytes.resize(self.bytes.len() + count, 0);
        self
    }
}

/// The numbers that come, and the damage between, as (from, to).
fn walk(records: Records) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut numbers, mut bad) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Ok(record) => numbers.push(record.sequence),
            Err(place) => bad.push((place.from, place.to)),
        }
    }
    (numbers, bad)
}
