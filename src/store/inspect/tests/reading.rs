use super::*;

#[test]
fn a_directory_without_a_spool_is_refused() {
    let spool = Spool::new(&registry(0));
    let empty = spool.path.join("empty");
    fs::create_dir(&empty).unwrap();
    for path in [empty, spool.path.join("missing")] {
        let refused = SpoolFiles::open(&path).unwrap_err();
        assert!(matches!(&refused, OpenError::Path { .. }), "{refused:?}");
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    }
}

#[test]
fn records_come_as_they_were_sent() {
    let spool = Spool::new(&registry(3));
    let extra =
        Extra { deliver_at: Some(micros_of(9)), expires_at: Some(micros_of(10)), id: Some([7; 16]), origin: Some(5) };
    let content = Content::new(1).messages([1]).mark().gap(2, 2).message(3, extra, &message(3));
    spool.put(&content.mark().zeros(5000));
    let all: Vec<StoredRecord> = spool.files().records(Position::Oldest).map(Result::unwrap).collect();
    let plain = StoredRecord {
        sequence: 1,
        time: time_of(1),
        message: message(1),
        deliver_at: None,
        expires_at: None,
        id: None,
        origin: None,
    };
    let full = StoredRecord {
        sequence: 3,
        time: time_of(3),
        message: message(3),
        deliver_at: Some(time_of(9)),
        expires_at: Some(time_of(10)),
        id: Some([7; 16]),
        origin: Some(5),
    };
    assert_eq!(all, [plain, full]);
    assert_eq!(spool.files().verify().unwrap().records, 2);
}

#[test]
fn reading_starts_anywhere() {
    let spool = Spool::of_three();
    let numbers = |from| walk(spool.files().records(from));
    let from = |first| ((first..=25).collect::<Vec<u64>>(), vec![]);
    assert_eq!(numbers(Position::Oldest), from(1));
    for first in [0, 1, 5, 10, 11, 12, 20, 21, 25] {
        assert_eq!(numbers(Position::Sequence(first)), from(first.max(1)));
        assert_eq!(numbers(Position::Time(time_of(first))), from(first.max(1)));
    }
    let later = Duration::from_micros(1);
    assert_eq!(numbers(Position::Time(time_of(10) + later)), from(11));
    assert_eq!(numbers(Position::Time(UNIX_EPOCH - later)), from(1));
    assert_eq!(numbers(Position::Sequence(26)), (vec![], vec![]));
    assert_eq!(numbers(Position::Time(time_of(26))), (vec![], vec![]));
    assert_eq!(numbers(Position::Sequence(u64::MAX)), (vec![], vec![]));
}

#[test]
fn many_records_come_a_few_at_a_time() {
    let spool = Spool::new(&registry(5000));
    let small = Message::from("small");
    let content = (1..=5000).fold(Content::new(1), |all, n| all.message(n, Extra::default(), &small));
    spool.put(&content.zeros(64));
    let mut records = spool.files().records(Position::Oldest);
    for number in 1..=5000 {
        assert_eq!(records.next().unwrap().unwrap().sequence, number);
    }
    assert!(records.next().is_none() && records.next().is_none());
    let spool = Spool::new(&registry(5000));
    let large = Message::from(vec![b'x'; 3 << 20]);
    let content = (1..=4).fold(Content::new(1), |all, n| all.message(n, Extra::default(), &large));
    spool.put(&content);
    assert_eq!(walk(spool.files().records(Position::Oldest)).0, [1, 2, 3, 4]);
}

#[test]
fn a_listing_says_what_is_there() {
    let mut registry = with_name(registry(25), "billing", 15, vec![(17, 18), (25, 90)]);
    registry = with_name(registry, "done", 25, vec![]);
    registry = with_name(registry, "new", 0, vec![]);
    registry.names.get_mut("billing").unwrap().seen = micros_of(20);
    registry.names.get_mut("billing").unwrap().lost_records = 3;
    let spool = Spool::of_three();
    spool.save(&registry);
    fs::write(spool.path.join("spare-0.tmp"), [0; 1000]).unwrap();
    let list = spool.files().list().unwrap();
    assert_eq!((list.id, list.clean, list.names_lost), (ID, false, false));
    assert_eq!((list.oldest, list.newest, list.delayed, list.dead_letters), (1, 25, 0, 0));
    let sizes: Vec<u64> = list.segments.iter().map(|segment| segment.bytes).collect();
    assert_eq!(list.bytes, sizes.iter().sum::<u64>() + 1000);
    let parts: Vec<_> =
        list.segments.iter().map(|part| (part.base, part.last, part.records, part.sealed, part.bad.clone())).collect();
    assert_eq!(parts, [(1, 10, 10, true, None), (11, 20, 10, true, None), (21, 25, 5, false, None)]);
    assert_eq!(list.segments[2].first_time, Some(time_of(21)));
    assert_eq!(list.segments[0].last_time, Some(time_of(10)));
    let [billing, done, new] = &list.names[..] else { panic!("{:?}", list.names) };
    assert_eq!((billing.cursor, billing.lag_records, billing.lost_records), (15, 7, 3));
    assert_eq!(billing.lag_bytes, sizes[1] / 2 + sizes[2]);
    assert_eq!(billing.last_seen, Some(time_of(20)));
    assert_eq!(billing.filters, [b"orders."]);
    assert!(billing.age.unwrap() < new.age.unwrap());
    assert_eq!((done.lag_records, done.lag_bytes, done.age, done.last_seen), (0, 0, None, None));
    assert_eq!((new.lag_records, new.lag_bytes), (25, sizes.iter().sum()));
}

#[test]
fn an_empty_spool_lists_and_reads_as_empty() {
    let spool = Spool::new(&registry(0));
    let list = spool.files().list().unwrap();
    assert_eq!((list.oldest, list.newest, list.segments.len(), list.bytes), (1, 0, 0, 0));
    assert_eq!(spool.files().verify().unwrap(), Verified::default());
    assert_eq!(walk(spool.files().records(Position::Oldest)), (vec![], vec![]));
    assert_eq!(spool.files().dead_letters().count(), 0);
    assert_eq!(spool.files().delayed().count(), 0);
}

#[test]
fn a_lost_registry_is_said_and_records_are_read() {
    let spool = Spool::of_three();
    for name in crate::store::names::FILES {
        fs::remove_file(spool.path.join(name)).unwrap();
    }
    let list = spool.files().list().unwrap();
    assert!(list.names_lost);
    assert_eq!((list.id, list.oldest, list.newest), (ID, 1, 25));
    assert_eq!(spool.files().verify().unwrap().records, 25);
}

#[test]
fn reading_changes_nothing_and_needs_no_lock() {
    let spool = Spool::of_three();
    let storage = RealDir::open(&spool.path, true, false).unwrap();
    let Ok(Locked::Got(lock)) = storage.lock() else { panic!("not locked") };
    spool.flip(11, 300);
    let before = spool.snapshot();
    let files = spool.files();
    files.list().unwrap();
    files.verify().unwrap_err();
    files.verify_all();
    assert_eq!(files.records(Position::Oldest).count(), 25);
    assert_eq!(files.dead_letters().count() + files.delayed().count(), 0);
    assert_eq!(spool.snapshot(), before);
    drop(lock);
}

#[test]
fn d07_each_flipped_bit_costs_one_record_and_is_reported() {
    let whole = Content::new(1).messages(1..=4).mark().messages(5..=6).seal();
    let end = *whole.places.last().unwrap();
    let spool = Spool::new(&registry(6));
    for at in SEGMENT_HEADER as usize..end {
        let mut content = whole.clone();
        content.bytes[at] ^= 0x10;
        spool.put(&content);
        let (good, bad) = spool.files().verify_all();
        let (numbers, missing) = walk(spool.files().records(Position::Oldest));
        assert_eq!((good.records, bad.len()), (numbers.len() as u64, missing.len()), "byte {at}");
        match &missing[..] {
            // The bytes between records count for nothing, and those of a mark for no number.
            [] => assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "byte {at}"),
            [(from, to)] if from > to => assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "byte {at}"),
            [(from, to)] => {
                assert_eq!(from, to, "byte {at}");
                assert_eq!(numbers.len(), 5, "byte {at}");
                assert!(!numbers.contains(from), "byte {at}");
            }
            more => panic!("byte {at}: {more:?}"),
        }
        if let Some(bad) = bad.first() {
            assert_eq!(spool.files().verify().unwrap_err(), *bad);
            assert!(content.places.contains(&(bad.offset as usize)));
        }
    }
}

#[test]
fn a_header_that_is_gone_costs_its_segment() {
    let spool = Spool::of_three();
    spool.flip(11, 20);
    assert_eq!(spool.files().verify_all().1, [], "the other copy of the header is good");
    spool.flip(11, 84);
    let (good, bad) = spool.files().verify_all();
    assert_eq!(good.records, 15);
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].segment.as_str(), bad[0].offset), ("00000000000000000011.seg", 0));
    assert_eq!((bad[0].from, bad[0].to), (11, 20));
    assert!(bad[0].to_string().contains("numbers 11 to 20 may be missing"), "{}", bad[0]);
    assert!(spool.files().list().unwrap().segments[1].bad.is_some());
}

#[test]
fn a_missing_segment_is_reported_unless_it_was_deleted_on_purpose() {
    let spool = Spool::of_three();
    fs::remove_file(spool.path.join(segment::file_name(11))).unwrap();
    let bad = spool.files().verify().unwrap_err();
    assert_eq!((bad.from, bad.to), (11, 20));
    assert_eq!(walk(spool.files().records(Position::Oldest)).1, [(11, 20)]);
    fs::remove_file(spool.path.join(segment::file_name(1))).unwrap();
    let bad = spool.files().verify().unwrap_err();
    assert_eq!((bad.from, bad.to), (1, 20));
    spool.save(&Registry { head: 21, ..registry(25) });
    assert_eq!(spool.files().verify().unwrap().records, 5);
    assert_eq!(spool.files().list().unwrap().oldest, 21);
}

/// What a writer is about to finish is no damage; what it has left behind is.
#[test]
fn a_half_written_record_at_the_end_is_not_there_yet() {
    let content = Content::new(1).messages(1..=3);
    let spool = Spool::new(&registry(3));
    for cut in content.places[2]..content.bytes.len() {
        let _ = fs::remove_file(spool.path.join(segment::file_name(4)));
        let mut bytes = content.bytes[..cut].to_vec();
        bytes.resize(content.bytes.len() + 1000, 0);
        let half = Content { bytes, ..content.clone() };
        spool.put(&half);
        let (good, bad) = spool.files().verify_all();
        // The last byte is x, not zero, but padding may follow it.
        assert!((2..=3).contains(&good.records) && bad.is_empty(), "cut at {cut}: {bad:?}");
        // A segment behind it says that it was finished.
        spool.put(&Content::new(4).messages(4..=5));
        let (good, bad) = spool.files().verify_all();
        let missing: Vec<_> = bad.iter().map(|bad| (bad.from, bad.to)).collect();
        assert!(good.records == 5 && missing.is_empty() || good.records == 4 && missing == [(3, 3)], "cut at {cut}");
    }
}

#[test]
fn what_the_disk_cannot_read_is_passed_over() {
    let disk = crate::store::storage::sim::SimStorage::new(1);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    Slots::open(&storage).unwrap().0.save_both(&registry(2000)).unwrap();
    let content = Content::new(1).messages(1..=2000).seal();
    disk.put(&segment::file_name(1), &content.bytes);
    let (from, to) = (content.places[500] as u64, content.places[501] as u64);
    disk.bad_range(&segment::file_name(1), from + 8..to - 8);
    let files = SpoolFiles { storage };
    let (good, bad) = files.verify_all();
    assert!(good.records >= 1980 && good.records < 2000, "{good:?}");
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(bad[0].from <= 501 && bad[0].to >= 501 && bad[0].to < 600, "{bad:?}");
}

#[test]
fn dead_letters_and_delayed_records_are_found() {
    let spool = Spool::of_three();
    let origin = Extra { origin: Some(17), ..Extra::default() };
    spool.put_in("dead", &Content::new(1).message(1, origin, &message(17)).zeros(100));
    spool.put_in("delay", &Content::new(1).messages(1..=6).zeros(100));
    let dead: Vec<StoredRecord> = spool.files().dead_letters().map(Result::unwrap).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].origin, &dead[0].message), (Some(17), &message(17)));
    assert_eq!(walk(spool.files().delayed()).0, [1, 2, 3, 4, 5, 6]);
    let list = spool.files().list().unwrap();
    assert_eq!((list.dead_letters, list.delayed, list.newest), (1, 6, 25));
    let storage = RealDir::open(&spool.path.join("delay"), true, false).unwrap();
    let outbox = with_name(registry(6), "", 2, vec![(4, 5)]);
    Slots::open(&storage).unwrap().0.save_both(&outbox).unwrap();
    assert_eq!(walk(spool.files().delayed()).0, [3, 6]);
    assert_eq!(spool.files().list().unwrap().delayed, 2);
}

/// A segment that is deleted, or used again, while a reader is in it ends there without a report.
#[test]
fn what_is_deleted_meanwhile_is_left_out() {
    for used_again in [false, true] {
        let spool = Spool::new(&registry(4000));
        let small = Message::from(vec![b'x'; 1000]);
        let fill =
            |base, last| (base..=last).fold(Content::new(base), |all, n| all.message(n, Extra::default(), &small));
        spool.put(&fill(1, 2000).seal());
        spool.put(&fill(2001, 3000).seal());
        spool.put(&fill(3001, 4000).zeros(100));
        let mut records = spool.files().records(Position::Oldest);
        assert_eq!(records.next().unwrap().unwrap().sequence, 1);
        spool.save(&Registry { head: 3001, ..registry(4000) });
        let (first, second) = (spool.path.join(segment::file_name(1)), spool.path.join(segment::file_name(2001)));
        fs::remove_file(second).unwrap();
        if used_again {
            // In place: what a recycled file looks like to who has it open.
            let size = fs::metadata(&first).unwrap().len() as usize;
            use std::io::Write;
            let mut file = fs::OpenOptions::new().write(true).open(&first).unwrap();
            file.write_all(&vec![0xAA; size]).unwrap();
        }
        fs::remove_file(first).unwrap();
        let (numbers, bad) = walk(records);
        assert_eq!(bad, []);
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert_eq!(numbers[numbers.len() - 1000..], (3001..=4000).collect::<Vec<u64>>());
    }
}

/// A reader beside a writer sees every record once, in order, and nothing that looks like damage.
#[test]
fn reading_beside_a_writer_sees_no_damage() {
    let spool = Spool::new(&registry(0));
    let dir = spool.path.clone();
    let writer = std::thread::spawn(move || {
        for part in 0..20_u64 {
            let base = part * 100 + 1;
            let content = Content::new(base).messages(base..base + 100);
            let seal_at = content.bytes.len();
            let content = content.seal();
            let name = dir.join(segment::file_name(base));
            let temp = dir.join("spare-0.tmp");
            let mut start = content.bytes[..SEGMENT_HEADER as usize].to_vec();
            start.resize(content.bytes.len() + 50_000, 0);
            fs::write(&temp, start).unwrap();
            fs::rename(temp, &name).unwrap();
            let storage = RealDir::open(&dir, true, false).unwrap();
            let file = storage.open(&segment::file_name(base), Open::Write).unwrap();
            let mut at = SEGMENT_HEADER as usize;
            while at < content.bytes.len() {
                // In pieces that end anywhere.
                let end = (at + 777).min(if at < seal_at { seal_at } else { content.bytes.len() });
                file.write_at(&content.bytes[at..end], at as u64).unwrap();
                at = end;
            }
            file.set_len(content.bytes.len() as u64).unwrap();
        }
    });
    let mut last = Vec::new();
    while last.len() < 2000 {
        let is_over = writer.is_finished();
        let (numbers, bad) = walk(spool.files().records(Position::Oldest));
        assert_eq!(bad, []);
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>());
        assert!(numbers.len() >= last.len());
        assert_eq!(spool.files().verify_all().1, []);
        last = numbers;
        assert!(!is_over || last.len() == 2000);
    }
    writer.join().unwrap();
}
