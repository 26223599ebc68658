//! Beside a log at work, and after it.

use std::io;
use std::path::Path;

use super::*;
use crate::event::Event;
use crate::options::spool::SpoolOptions;
use crate::store::log::{Log, Witness};
use crate::store::storage::{File, Space};

struct Nobody;

impl Witness for Nobody {
    fn event(&self, event: Event) {
        assert!(!matches!(event, Event::Damaged { .. } | Event::NamesLost | Event::Lost { .. }), "{event:?}");
    }
}

/// A PUSH's spool: everything is written. Segments of 4 KiB.
fn open(spool: &Spool) -> Log {
    let options = SpoolOptions {
        sync: crate::options::spool::Sync::Never,
        segment_bytes: Some(4096),
        ..SpoolOptions::new(spool.path.clone())
    };
    Log::open(&options, true, Arc::new(Nobody)).unwrap()
}

/// A directory that is still to be made.
fn nothing() -> Spool {
    let spool = Spool::new(&registry(0));
    fs::remove_dir_all(&spool.path).unwrap();
    spool
}

fn send(log: &Log, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let message = Message::from((format!("orders.{number}"), vec![b'x'; (number % 300) as usize]));
        while log.try_append(&message, &Extra::default()).is_err() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_log_at_work_is_read_without_a_word_of_damage() {
    let spool = nothing();
    let log = open(&spool);
    let writer = std::thread::spawn(move || {
        send(&log, 1..=3000);
        log.close().unwrap();
    });
    loop {
        let is_over = writer.is_finished();
        let files = spool.files();
        let (numbers, bad) = walk(files.records(Position::Oldest));
        assert_eq!(bad, []);
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>());
        assert_eq!(files.verify_all().1, []);
        let list = files.list().unwrap();
        assert!(list.segments.iter().all(|segment| segment.bad.is_none()), "{list:?}");
        if is_over {
            assert_eq!((numbers.len(), list.newest, list.clean), (3000, 3000, true));
            assert_eq!(list.names[0].lag_records, 3000);
            break;
        }
    }
    writer.join().unwrap();
}

#[test]
fn a_process_that_died_leaves_what_can_be_read_repaired_and_opened() {
    let spool = nothing();
    let log = open(&spool);
    send(&log, 1..=500);
    while log.visible() < 500 {
        std::thread::yield_now();
    }
    // Not closed.
    drop(log);
    let list = spool.files().list().unwrap();
    assert_eq!((list.clean, list.names.len()), (false, 1));
    let written = spool.files().verify().unwrap().records;
    assert_eq!(written, 500);
    let report = repair(&spool.path).unwrap();
    assert_eq!((report.id, report.damage, report.torn), (Some(list.id), vec![], 0));
    let id = new_id(&spool.path).unwrap();
    let log = open(&spool);
    assert_eq!(log.id(), id);
    assert!(matches!(drop_name(&spool.path, "a"), Err(OpenError::InUse { .. })));
    send(&log, 501..=510);
    log.close().unwrap();
    let (numbers, bad) = walk(spool.files().records(Position::Oldest));
    assert_eq!((numbers.len(), bad), (510, vec![]));
    assert_eq!(spool.files().verify().unwrap().records, 510);
}

/// A directory that changes between two listings: whether a file is there at the so-manieth look.
struct Passed {
    inner: Arc<dyn Storage>,
    looks: AtomicU32,
    shows: fn(u32, &str) -> bool,
}

impl Passed {
    fn files(spool: &Spool, shows: fn(u32, &str) -> bool) -> SpoolFiles {
        SpoolFiles { storage: Arc::new(Passed { inner: spool.files().storage, looks: AtomicU32::new(0), shows }) }
    }
}

impl Storage for Passed {
    fn list(&self) -> io::Result<Vec<String>> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        Ok(self.inner.list()?.into_iter().filter(|name| (self.shows)(look, name)).collect())
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
        self.inner.open(name, how)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        unreachable!("only read")
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        unreachable!("only read")
    }

    fn sync_dir(&self) -> io::Result<()> {
        unreachable!("only read")
    }

    fn lock(&self) -> io::Result<Locked> {
        unreachable!("only read")
    }

    fn space(&self) -> io::Result<Space> {
        unreachable!("only read")
    }

    fn subdir(&self, _: &str) -> io::Result<Arc<dyn Storage>> {
        unreachable!("only read")
    }

    fn rename_into(&self, _: &str, _: &str, _: &str) -> io::Result<()> {
        unreachable!("only read")
    }
}

#[test]
fn a_segment_made_while_the_directory_is_read_is_not_missing() {
    let spool = Spool::of_three();
    // The first look passed the place of the first segment just before that was made.
    let files = Passed::files(&spool, |look, name| look > 0 || *name != segment::file_name(1));
    let (verified, bad) = files.verify_all();
    assert_eq!((verified.records, bad), (25, vec![]));
}

#[test]
fn what_is_written_after_the_end_was_seen_is_not_missing() {
    for zeros in [0, 10_000] {
        let spool = Spool::new(&registry(25));
        spool.put(&Content::new(1).messages(1..=10).zeros(zeros));
        spool.put(&Content::new(21).messages(21..=25).zeros(zeros));
        // Two looks to begin, two for what comes after the first segment; then its rest and the next one are there.
        let files = Passed::files(&spool, |look, name| look >= 4 || *name != segment::file_name(21));
        let (verified, bad) = files.verify_all();
        assert_eq!((verified.records, bad), (10, vec![]));
    }
}
