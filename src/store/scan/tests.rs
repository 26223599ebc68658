use super::*;
use crate::message::Message;
use crate::store::record::{Extra, GapReason};
use crate::store::storage::sim::{Call, Fault, SimStorage, at_every_call};
use bytes::BytesMut;
use quickcheck::QuickCheck;

mod golden;
mod holes;

const SPOOL: SpoolId = SpoolId([3; 16]);
/// Not a multiple of 8.
const ROOM: usize = 203;
const NOTHING: Proof = Proof { proven: 0 };

/// A segment in the making.
struct Make {
    base: u64,
    salt: u64,
    bytes: BytesMut,
    last: u64,
    records: u64,
    first_time: i64,
    /// Where records start.
    starts: Vec<usize>,
}

impl Make {
    fn new(base: u64) -> Make {
        Make::of(SPOOL, base)
    }

    fn of(spool: SpoolId, base: u64) -> Make {
        let salt = base.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 5;
        let header = Header { spool, base, created: 1_700_000_000_000_000, salt };
        let bytes = BytesMut::from(&header.encode()[..]);
        Make { base, salt, bytes, last: base - 1, records: 0, first_time: 0, starts: Vec::new() }
    }

    fn time(number: u64) -> i64 {
        1_700_000_000_000_000 + number as i64
    }

    fn start(&mut self) {
        self.starts.push(self.bytes.len());
    }

    fn message(mut self, number: u64, size: usize) -> Make {
        self.start();
        let message = Message::from(("t", vec![number as u8; size]));
        let extra = Extra { origin: number.is_multiple_of(5).then_some(number * 10), ..Extra::default() };
        record::encode_message(&mut self.bytes, number, Make::time(number), &extra, &message);
        if self.records == 0 {
            self.first_time = Make::time(number);
        }
        (self.last, self.records) = (number, self.records + 1);
        self
    }

    fn messages(self, numbers: impl IntoIterator<Item = u64>) -> Make {
        numbers.into_iter().fold(self, |make, number| make.message(number, 3 + number as usize % 20))
    }

    fn mark(mut self) -> Make {
        self.start();
        let here = self.bytes.len() as u64;
        record::encode_mark(&mut self.bytes, self.last, Make::time(self.last), self.last, here);
        self
    }

    fn gap(mut self, from: u64, to: u64) -> Make {
        self.start();
        record::encode_gap(&mut self.bytes, Make::time(to), from, to, GapReason::Recovery);
        self.last = to;
        self
    }

    fn seal(mut self) -> Make {
        self.start();
        let (time, last) = (Make::time(self.last), self.last);
        record::encode_seal(&mut self.bytes, last, time, self.records, last, self.first_time, time);
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        record::fill_checksums(&mut self.bytes[SEGMENT_HEADER as usize..], self.salt);
        self.bytes.to_vec()
    }

    fn put(self, sim: &SimStorage) -> String {
        let name = segment::file_name(self.base);
        sim.put(&name, &self.bytes());
        name
    }

    /// With [`ROOM`] zeros behind, as a prepared file has.
    fn put_with_room(self, sim: &SimStorage) -> String {
        let name = segment::file_name(self.base);
        let mut bytes = self.bytes();
        bytes.resize(bytes.len() + ROOM, 0);
        sim.put(&name, &bytes);
        name
    }
}

fn open(sim: &SimStorage, proof: Proof) -> Recovered {
    recover(sim, Some(SPOOL), proof).unwrap()
}

/// What must be the same after each recovery.
fn summary(recovered: &Recovered) -> String {
    let Recovered { segments, damage, records, last, last_time, origins, spool, .. } = recovered;
    let more: Vec<_> = segments.iter().map(|s| (s.salt, s.first_time, s.last_time, s.index.clone())).collect();
    format!("{segments:?} {more:?} {damage:?} {records} {last} {last_time} {origins:?} {spool:?}")
}

fn content(sim: &SimStorage) -> Vec<(String, Option<Vec<u8>>)> {
    sim.names().into_iter().map(|name| (name.clone(), sim.bytes(&name))).collect()
}

/// All message numbers, and the ranges that a reader takes for missing: it does as the sign of `scan` says.
fn read(recovered: &Recovered) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut numbers, mut missing) = (Vec::new(), Vec::new());
    let mut last = recovered.segments.first().map_or(0, |segment| segment.base - 1);
    for segment in &recovered.segments {
        if last + 1 < segment.base {
            missing.push((last + 1, segment.base - 1));
        }
        read_one(segment, &mut numbers, &mut missing);
        last = segment.last;
    }
    (numbers, missing)
}

fn read_one(segment: &Segment, numbers: &mut Vec<u64>, missing: &mut Vec<(u64, u64)>) {
    let (mut at, mut last, mut lost) = (SEGMENT_HEADER, segment.base - 1, false);
    while at < segment.end {
        let end = scan(&*segment.file, segment.salt, at, &mut |_, record| {
            let gap = record.gap().filter(|gap| gap.reason == GapReason::Damage);
            let first = gap.map_or(record.sequence + u64::from(record.kind != Kind::Message), |gap| gap.from);
            if std::mem::take(&mut lost) && last + 1 < first {
                missing.push((last + 1, first - 1));
            }
            missing.extend(gap.map(|gap| (gap.from, gap.to)));
            numbers.extend((record.kind == Kind::Message).then_some(record.sequence));
            last = last.max(record.sequence);
            true
        });
        let end = end.unwrap();
        if end.at >= segment.end {
            return;
        }
        lost = true;
        match resync(&*segment.file, segment.salt, end.at + 8, segment.end, last).unwrap() {
            Some(next) => at = next,
            None => return missing.push((last + 1, segment.last)),
        }
    }
}

/// Opens again and again: nothing changes any more.
fn settled(sim: &SimStorage, proof: Proof) -> Recovered {
    let first = open(sim, proof);
    let after = content(sim);
    let again = open(sim, proof);
    assert_eq!(summary(&first), summary(&again));
    assert_eq!(again.torn, 0);
    assert_eq!(after, content(sim));
    first
}

fn three_segments(sim: &SimStorage) -> [String; 3] {
    [
        Make::new(1).messages(1..=4).mark().messages(5..=7).seal().put(sim),
        Make::new(8).messages(8..=9).gap(10, 11).messages(12..=14).seal().put(sim),
        Make::new(15).messages(15..=16).mark().messages([18, 20]).mark().messages([21]).put_with_room(sim),
    ]
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let sim = SimStorage::new(1);
    let recovered = recover(&sim, None, Proof { proven: 9 }).unwrap();
    assert!(recovered.segments.is_empty() && recovered.damage.is_empty());
    assert_eq!((recovered.last, recovered.spool), (0, None));
}

#[test]
fn a_good_log_comes_back_as_it_was() {
    let sim = SimStorage::new(1);
    let names = three_segments(&sim);
    let before = content(&sim);
    let recovered = settled(&sim, Proof { proven: 21 });
    assert_eq!(before, content(&sim));
    assert_eq!((recovered.torn, recovered.last, recovered.records), (0, 21, 5));
    assert_eq!(recovered.origins, [150, 200]);
    assert_eq!(recovered.last_time, Make::time(21));
    assert!(recovered.damage.is_empty());
    let [one, two, three] = &recovered.segments[..] else { panic!() };
    assert_eq!((one.base, one.last, one.records, one.sealed), (1, 7, 7, true));
    assert_eq!((two.base, two.last, two.records, two.sealed), (8, 14, 5, true));
    assert_eq!((three.base, three.last, three.records, three.sealed), (15, 21, 5, false));
    assert_eq!((three.first_time, three.last_time), (Make::time(15), Make::time(21)));
    let size = sim.bytes(&names[2]).unwrap().len() as u64;
    assert_eq!((three.size, three.end), (size, size - ROOM as u64));
    assert_eq!(read(&recovered), ([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 18, 20, 21].into(), vec![]));
}

#[test]
fn the_index_has_an_entry_for_each_piece() {
    let sim = SimStorage::new(1);
    let make = (1..=100).fold(Make::new(1), |make, number| make.message(number, 20_000));
    let starts = make.starts.clone();
    make.put(&sim);
    let recovered = open(&sim, NOTHING);
    let index = &recovered.segments[0].index;
    assert_eq!(index[0], (1, SEGMENT_HEADER));
    assert!((7..=9).contains(&index.len()), "{index:?}");
    for &(sequence, offset) in index {
        assert_eq!(starts[sequence as usize - 1] as u64, offset);
    }
}

#[test]
fn records_larger_than_a_piece_are_read() {
    let sim = SimStorage::new(1);
    Make::new(1).message(1, 10).message(2, 3_000_000).message(3, 10).message(4, 700_000).put_with_room(&sim);
    let recovered = settled(&sim, NOTHING);
    assert_eq!(recovered.records, 4);
    assert_eq!(read(&recovered).0, [1, 2, 3, 4]);
}

#[test]
fn a_scan_stops_where_it_is_told_and_says_why() {
    let sim = SimStorage::new(1);
    let make = Make::new(1).messages(1..=3);
    let (salt, starts) = (make.salt, make.starts.clone());
    let name = make.put(&sim);
    let file = Storage::open(&sim, &name, Open::Write).unwrap();
    let mut seen = Vec::new();
    let end = scan(&*file, salt, SEGMENT_HEADER, &mut |at, record| {
        seen.push((at as usize, record.sequence));
        record.sequence < 2
    });
    assert_eq!(end.unwrap(), ScanEnd { at: starts[2] as u64, why: Why::Stopped });
    assert_eq!(seen, [(starts[0], 1), (starts[1], 2)]);
    let len = file.len().unwrap();
    let end = |salt, from| scan(&*file, salt, from, &mut |_, _| true).unwrap();
    assert_eq!(end(salt, starts[2] as u64), ScanEnd { at: len, why: Why::Eof });
    assert_eq!(end(salt ^ 1, SEGMENT_HEADER), ScanEnd { at: SEGMENT_HEADER, why: Why::Bad });
    file.set_len(len + 50).unwrap();
    assert_eq!(end(salt, starts[2] as u64), ScanEnd { at: len, why: Why::End });
    sim.bad_range(&name, starts[1] as u64..starts[1] as u64 + 1);
    assert!(scan(&*file, salt, SEGMENT_HEADER, &mut |_, _| true).is_err());
    assert_eq!(resync(&*file, salt, SEGMENT_HEADER, len, 0).unwrap(), None);
}

#[test]
fn prepared_files_are_deleted_and_strange_ones_left() {
    let sim = SimStorage::new(1);
    three_segments(&sim);
    for name in ["spare-0.tmp", "names.a", "notes.txt", "1.seg"] {
        sim.put(name, b"whatever");
    }
    settled(&sim, NOTHING);
    assert_eq!(sim.names().len(), 6);
    assert!(!sim.names().contains(&"spare-0.tmp".to_owned()));
}

#[test]
fn an_unknown_format_is_refused_and_nothing_changed() {
    let sim = SimStorage::new(1);
    three_segments(&sim);
    sim.put("spare-0.tmp", b"");
    sim.put(&segment::file_name(5), b"not a segment");
    let mut header = Make::new(30).bytes();
    for copy in header.chunks_mut(64) {
        copy[8] = 2;
        let crc = crc32c::crc32c(&copy[..60]);
        copy[60..].copy_from_slice(&crc.to_le_bytes());
    }
    sim.put(&segment::file_name(30), &header);
    let before = content(&sim);
    match recover(&sim, Some(SPOOL), NOTHING) {
        Err(OpenError::UnknownFormat { found, known, path }) => {
            assert_eq!((&*found, &*known), ("2.0", "1.0"));
            assert!(path.ends_with(segment::file_name(30)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((before, sim.calls()), (content(&sim), 0));
}

#[test]
fn d06_a_file_without_a_header_is_set_aside_and_reported() {
    for (lost, proven, from, to) in [(0, 0, 1, 7), (1, 0, 8, 14), (2, 0, 15, 15), (2, 40, 15, 40)] {
        let sim = SimStorage::new(1);
        let names = three_segments(&sim);
        assert!(sim.flip(&names[lost], 70) && sim.flip(&names[lost], 64 * 8 + 300));
        let bytes = sim.bytes(&names[lost]).unwrap();
        let recovered = open(&sim, Proof { proven });
        let damage = Damage { segment: names[lost].clone(), offset: 0, bytes: bytes.len() as u64, from, to };
        assert_eq!(recovered.damage, [damage]);
        assert_eq!(recovered.segments.len(), 2);
        assert_eq!(sim.sub("damaged").unwrap().bytes(&names[lost]), Some(bytes));
        assert!(recovered.last >= to);
        // In the middle a reader sees it, too, and so does each later open.
        assert_eq!(read(&recovered).1.contains(&(from, to)), lost == 1);
        assert_eq!(open(&sim, Proof { proven }).damage.len(), usize::from(lost == 1));
    }
}

#[test]
fn an_empty_file_without_a_header_proves_nothing() {
    for (base, bytes, proven) in [(1 << 40, 0, 0), (1 << 40, 700, 30), (40, 4096, 39)] {
        let sim = SimStorage::new(1);
        three_segments(&sim);
        let before = settled(&sim, Proof { proven }).last;
        let name = segment::file_name(base);
        sim.put(&name, &vec![0; bytes]);
        let recovered = open(&sim, Proof { proven });
        let damage = Damage { segment: name.clone(), offset: 0, bytes: bytes as u64, from: base, to: base - 1 };
        assert_eq!((&recovered.damage, recovered.last), (&vec![damage], before), "told of, and no number is missing");
        assert_eq!(sim.sub("damaged").unwrap().names(), [name]);
        assert!(settled(&sim, Proof { proven }).damage.is_empty());
    }
    // One whose numbers were in use was emptied by somebody.
    let sim = SimStorage::new(1);
    three_segments(&sim);
    sim.put(&segment::file_name(40), &[]);
    let damage = &open(&sim, Proof { proven: 50 }).damage[..];
    assert_eq!(damage.last().map(|damage| (damage.from, damage.to)), Some((40, 50)));
    // And so was one between others.
    let sim = SimStorage::new(1);
    let names = three_segments(&sim);
    sim.put(&names[1], &[]);
    let damage = open(&sim, NOTHING).damage;
    assert!(damage.iter().any(|damage| (damage.from, damage.to) == (8, 14)), "{damage:?}");
}

#[test]
fn d06_a_bad_file_goes_without_room_for_it() {
    let sim = SimStorage::new(1);
    let name = segment::file_name(1);
    sim.put(&name, b"no header");
    sim.script_always(Call::Subdir, "", 1, Fault::Full);
    sim.script(Call::Rename, ".seg", 1, Fault::Full);
    assert_eq!(open(&sim, NOTHING).damage.len(), 1);
    sim.heal();
    assert!(!sim.names().contains(&name));
}

#[test]
fn d03_a_whole_missing_file_is_reported() {
    let sim = SimStorage::new(1);
    let names = three_segments(&sim);
    Storage::remove(&sim, &names[1]).unwrap();
    let recovered = settled(&sim, NOTHING);
    let damage = Damage { segment: names[1].clone(), offset: 0, bytes: 0, from: 8, to: 14 };
    assert_eq!(recovered.damage, [damage]);
}

#[test]
fn another_spools_segment_is_set_aside() {
    let sim = SimStorage::new(1);
    three_segments(&sim);
    let name = Make::of(SpoolId([9; 16]), 30).messages(30..=31).put(&sim);
    let recovered = open(&sim, NOTHING);
    assert_eq!(recovered.segments.len(), 3);
    let [damage] = &recovered.damage[..] else { panic!() };
    assert_eq!((&damage.segment, damage.from, damage.to), (&name, 30, 29));
    assert_eq!(sim.sub("damaged").unwrap().names(), [name]);
    assert!(settled(&sim, NOTHING).damage.is_empty());
}

#[test]
fn a_lost_registry_is_told_the_spool_by_its_segments() {
    let sim = SimStorage::new(1);
    three_segments(&sim);
    Make::of(SpoolId([9; 16]), 30).messages(30..=31).put(&sim);
    let recovered = recover(&sim, None, NOTHING).unwrap();
    assert_eq!((recovered.spool, recovered.segments.len()), (Some(SPOOL), 3));
}

#[test]
fn a_file_under_another_number_is_set_aside() {
    let sim = SimStorage::new(1);
    sim.put(&segment::file_name(2), &Make::new(1).messages(1..=3).bytes());
    assert_eq!(open(&sim, NOTHING).damage.len(), 1);
}

#[test]
fn d06_random_files_open() {
    fn property(files: Vec<(u8, Vec<u8>)>, known: bool, proven: u32) -> bool {
        let (sim, proven) = (SimStorage::new(1), u64::from(proven));
        three_segments(&sim);
        for (base, tail) in files {
            // Behind a good header, or instead of it.
            let mut bytes = if base % 2 == 0 { Make::new(40 + u64::from(base)).bytes() } else { Vec::new() };
            bytes.extend(tail);
            sim.put(&segment::file_name(40 + u64::from(base)), &bytes);
        }
        let recovered = recover(&sim, known.then_some(SPOOL), Proof { proven }).unwrap();
        let (numbers, _) = read(&recovered);
        assert_eq!(numbers.len(), 17);
        settled(&sim, Proof { proven });
        true
    }
    QuickCheck::new().tests(200).quickcheck(property as fn(Vec<(u8, Vec<u8>)>, bool, u32) -> bool);
}
