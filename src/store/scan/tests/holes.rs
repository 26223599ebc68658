//! Torn tails and damage: what is cut, what is kept, what is said.

use super::*;

/// One unsealed segment without a mark behind number 3.
fn tail(sim: &SimStorage) -> (String, Vec<usize>) {
    let make = Make::new(1).messages(1..=2).mark().messages(3..=5);
    let starts = make.starts.clone();
    (make.put(sim), starts)
}

#[test]
fn d02_a_record_cut_at_any_byte_ends_the_log_before_it() {
    let whole = SimStorage::new(1);
    let (name, starts) = tail(&whole);
    let bytes = whole.bytes(&name).unwrap();
    let last = *starts.last().unwrap();
    // Up to its last byte; the padding is nobody's.
    let len = u32::from_le_bytes(*bytes[last..].first_chunk().unwrap()) as usize;
    for behind in [0, 1, 8, 1000] {
        for fill in [0_u8, 0x55] {
            for cut in last..last + 8 + len {
                let sim = SimStorage::new(1);
                let mut torn = bytes[..cut].to_vec();
                torn.resize(cut + behind, fill);
                sim.put(&name, &torn);
                let recovered = open(&sim, NOTHING);
                let segment = &recovered.segments[0];
                assert_eq!((segment.end, segment.last, segment.records), (last as u64, 4, 4), "cut at {cut}");
                assert!(recovered.damage.is_empty());
                let used = torn[last..].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                assert_eq!(recovered.torn, used as u64);
                if used > 0 {
                    assert_eq!(sim.bytes(&name).unwrap(), bytes[..last]);
                }
                assert_eq!(read(&settled(&sim, NOTHING)).0, [1, 2, 3, 4]);
                // Cut and synced: no crash brings it back.
                assert_eq!(sim.crash(7).bytes(&name), sim.bytes(&name));
            }
        }
    }
}

/// A record in the last bytes that nothing vouches for is the end of the log, whatever is behind it.
#[test]
fn without_proof_the_log_ends_at_the_first_bad_record() {
    let sim = SimStorage::new(1);
    let (name, starts) = tail(&sim);
    let size = sim.bytes(&name).unwrap().len() as u64;
    sim.flip(&name, starts[3] as u64 * 8 + 300);
    let recovered = settled(&sim, Proof { proven: 2 });
    assert!(recovered.damage.is_empty());
    assert_eq!((recovered.torn, recovered.last), (size - starts[3] as u64, 2));
    assert_eq!(sim.bytes(&name).unwrap().len(), starts[3]);
}

#[test]
fn d07_what_the_registry_proves_is_damage() {
    let sim = SimStorage::new(1);
    let (name, starts) = tail(&sim);
    sim.flip(&name, starts[3] as u64 * 8 + 300);
    let recovered = settled(&sim, Proof { proven: 3 });
    let bytes = (starts[4] - starts[3]) as u64;
    let damage = Damage { segment: name.clone(), offset: starts[3] as u64, bytes, from: 3, to: 3 };
    assert_eq!(recovered.damage, [damage]);
    assert_eq!((recovered.torn, recovered.last), (0, 5));
    assert_eq!(read(&recovered), (vec![1, 2, 4, 5], vec![(3, 3)]));
    let copy = sim.sub("damaged").unwrap().bytes(&format!("{name}-{}", starts[3])).unwrap();
    assert_eq!(copy, sim.bytes(&name).unwrap()[starts[3]..starts[4]]);
    // From now on the segment says so itself.
    assert_eq!(summary(&recovered), summary(&open(&sim, NOTHING)));
}

#[test]
fn d07_a_bad_end_that_the_registry_proves_is_damage() {
    let sim = SimStorage::new(1);
    let (name, starts) = tail(&sim);
    sim.flip(&name, starts[5] as u64 * 8 + 300);
    let recovered = settled(&sim, Proof { proven: 6 });
    let [damage] = &recovered.damage[..] else { panic!() };
    assert_eq!((damage.offset, damage.from, damage.to), (starts[5] as u64, 5, 6));
    assert_eq!(recovered.last, 6);
    assert_eq!(read(&recovered), (vec![1, 2, 3, 4], vec![(5, 6)]));
}

#[test]
fn a_log_goes_on_behind_damage() {
    let sim = SimStorage::new(1);
    let (name, starts) = tail(&sim);
    sim.flip(&name, starts[5] as u64 * 8 + 300);
    let segment = open(&sim, Proof { proven: 5 }).segments.remove(0);
    let mut more = BytesMut::new();
    record::encode_message(&mut more, 9, 9, &Extra::default(), &Message::from("more"));
    record::fill_checksums(&mut more, segment.salt);
    crate::store::storage::write_all_at(&*segment.file, &more, segment.end).unwrap();
    let recovered = settled(&sim, NOTHING);
    assert_eq!(read(&recovered), (vec![1, 2, 3, 4, 9], vec![(5, 5)]));
    assert_eq!(recovered.segments[0].end, segment.end + more.len() as u64);
}

/// A body that holds copies of the records before it is skipped as a whole.
#[test]
fn records_inside_a_bad_record_are_not_taken_for_later_ones() {
    let sim = SimStorage::new(1);
    let inner = Make::new(1).messages(1..=2).bytes()[SEGMENT_HEADER as usize..].to_vec();
    let mut make = Make::new(1).messages(1..=2);
    let start = make.bytes.len();
    // Frames of 4 bytes before the body: with this it stands at a multiple of 8.
    let message = Message::from(("12345", [&[0; 7][..], &inner].concat()));
    record::encode_message(&mut make.bytes, 3, 3, &Extra::default(), &message);
    make.last = 3;
    let mut make = make.message(4, 5).mark();
    let salt = make.salt;
    record::fill_checksums(&mut make.bytes[SEGMENT_HEADER as usize..], salt);
    assert!((start..).step_by(8).take(20).any(|at| make.bytes[at..].starts_with(&inner[..32])), "aligned");
    let name = make.put(&sim);
    sim.flip(&name, start as u64 * 8 + 270);
    let recovered = settled(&sim, NOTHING);
    assert_eq!(read(&recovered), (vec![1, 2, 4], vec![(3, 3)]));
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to, recovered.damage.len()), (3, 3, 1));
}

/// Each 8 bytes of it claim to be a record that reaches to the end: checking them all would take hours.
#[test]
fn bytes_made_to_look_like_records_do_not_hold_up_opening() {
    let sim = SimStorage::new(1);
    let size = 2_000_000_u64;
    let mut make = Make::new(1).messages(1..=2);
    let start = make.bytes.len() as u64;
    for at in (0..size).step_by(32) {
        make.bytes.extend_from_slice(&(size as u32 - at as u32).to_le_bytes());
        make.bytes.extend_from_slice(&[9; 20]);
        make.bytes.extend_from_slice(&[1, 0, 1, 0, 1, 0, 0, 0]);
    }
    let bad = make.bytes.split_off(start as usize);
    // Their places are filled in behind the good records' checksums.
    make.bytes.resize(start as usize, 0);
    let salt = make.salt;
    let mut good = make.bytes();
    let mut rest = Make::new(3).message(4, 10);
    rest.bytes = rest.bytes.split_off(SEGMENT_HEADER as usize);
    record::encode_mark(&mut rest.bytes, 4, 4, 4, start + size);
    record::fill_checksums(&mut rest.bytes, salt);
    good.extend(bad);
    good.extend(rest.bytes);
    let name = segment::file_name(1);
    sim.put(&name, &good);
    let recovered = settled(&sim, NOTHING);
    let damage = Damage { segment: name, offset: start, bytes: size, from: 3, to: 3 };
    assert_eq!(recovered.damage, [damage]);
    assert_eq!(read(&recovered), (vec![1, 2, 4], vec![(3, 3)]));
}

#[test]
fn d06_d07_any_flipped_bit_costs_at_most_one_record_and_is_reported() {
    let whole = SimStorage::new(1);
    let names = three_segments(&whole);
    let all = read(&open(&whole, NOTHING)).0;
    for name in &names {
        let bits = (whole.bytes(name).unwrap().len() as u64) * 8;
        for bit in 0..bits {
            let sim = whole.kill();
            sim.flip(name, bit);
            // A seal that is written again is not reported again.
            let recovered = open(&sim, NOTHING);
            let (numbers, missing) = read(&recovered);
            assert_eq!(read(&settled(&sim, NOTHING)), (numbers.clone(), missing.clone()));
            let lost: Vec<u64> = all.iter().copied().filter(|number| !numbers.contains(number)).collect();
            assert!(numbers.iter().all(|number| all.contains(number)));
            // 21 stands behind the last mark: nothing proves that it was safe.
            let torn = recovered.torn > 0 || recovered.segments.last().is_some_and(|segment| segment.last == 20);
            assert!(lost.len() <= 1, "{name} bit {bit}: {lost:?}");
            let said = |range: &(u64, u64)| lost.iter().all(|number| range.0 <= *number && *number <= range.1);
            let reported = missing.iter().any(said);
            assert!(lost.is_empty() || reported || (lost == [21] && torn), "{name} bit {bit}: {lost:?} {missing:?}");
        }
    }
}

/// The same with every segment looked through: no seal, so opening itself finds and reports it.
#[test]
fn d07_opening_reports_what_is_missing_in_what_it_looks_through() {
    let whole = SimStorage::new(1);
    let name = Make::new(1).messages(1..=6).mark().put_with_room(&whole);
    let used = (whole.bytes(&name).unwrap().len() - ROOM) as u64;
    for bit in SEGMENT_HEADER * 8..used * 8 {
        let sim = whole.kill();
        sim.flip(&name, bit);
        let recovered = settled(&sim, Proof { proven: 6 });
        let (numbers, missing) = read(&recovered);
        let lost: Vec<u64> = (1..=6).filter(|number| !numbers.contains(number)).collect();
        let said: Vec<u64> = recovered.damage.iter().flat_map(|damage| damage.from..=damage.to).collect();
        assert_eq!(lost, said, "bit {bit}");
        assert!(lost.len() <= 1 && recovered.damage.len() <= 1);
        assert_eq!(missing, lost.iter().map(|number| (*number, *number)).collect::<Vec<_>>());
    }
}

#[test]
fn a_missing_seal_is_written_again() {
    for room in [false, true] {
        let sim = SimStorage::new(1);
        let make = Make::new(1).messages(1..=7);
        let end = make.bytes.len();
        let name = if room { make.put_with_room(&sim) } else { make.put(&sim) };
        Make::new(8).messages(8..=9).put(&sim);
        let recovered = open(&sim, NOTHING);
        assert!(recovered.damage.is_empty() && recovered.torn == 0);
        assert_eq!(recovered.segments[0].end, (end + record::SEAL) as u64);
        assert_eq!(sim.bytes(&name).unwrap().len(), end + record::SEAL);
        // Now it is not looked through any more.
        assert_eq!(open(&sim, NOTHING).records, 2);
        assert_eq!(read(&open(&sim, NOTHING)).0, (1..=9).collect::<Vec<_>>());
    }
}

#[test]
fn d03_a_lost_tail_before_another_segment_is_reported() {
    for junk in [&b""[..], &[0; 100], &[0x55; 100]] {
        let sim = SimStorage::new(1);
        let make = Make::new(1).messages(1..=4);
        let mut bytes = make.bytes();
        bytes.extend(junk);
        sim.put(&segment::file_name(1), &bytes);
        Make::new(8).messages(8..=9).put(&sim);
        let recovered = open(&sim, NOTHING);
        let [damage] = &recovered.damage[..] else { panic!() };
        assert_eq!((damage.from, damage.to, recovered.torn), (5, 7, 0));
        assert_eq!(read(&recovered), (vec![1, 2, 3, 4, 8, 9], vec![(5, 7)]));
        // The segment has a seal now; who reads it is still told.
        assert_eq!(read(&open(&sim, NOTHING)), (vec![1, 2, 3, 4, 8, 9], vec![(5, 7)]));
    }
}

#[test]
fn zeros_behind_a_seal_are_cut() {
    let sim = SimStorage::new(1);
    let make = Make::new(1).messages(1..=3).seal();
    let end = make.bytes.len();
    let name = make.put_with_room(&sim);
    let recovered = settled(&sim, NOTHING);
    assert!(recovered.segments[0].sealed && recovered.damage.is_empty());
    assert_eq!(sim.bytes(&name).unwrap().len(), end);
}

#[test]
fn what_the_disk_cannot_read_is_damage_and_never_cut() {
    let sim = SimStorage::new(1);
    let make = (1..=40).fold(Make::new(1), |make, number| make.message(number, 1000));
    let starts = make.starts.clone();
    let name = make.put(&sim);
    let before = sim.bytes(&name).unwrap().len();
    let at = starts[20] as u64 + 100;
    sim.bad_range(&name, at..at + 1);
    let recovered = settled(&sim, NOTHING);
    let [damage] = &recovered.damage[..] else { panic!("{:?}", recovered.damage) };
    // Some 4096 bytes are given up at once.
    assert!(damage.from <= 21 && 21 <= damage.to && damage.to - damage.from < 6);
    let (numbers, missing) = read_lenient(&recovered, &sim, &name);
    assert_eq!(missing, [(damage.from, damage.to)]);
    assert_eq!(numbers.len() as u64, 40 - (damage.to - damage.from + 1));
    assert!(sim.bytes(&name).unwrap().len() >= before);
}

/// A strict scan fails there; this takes the bytes for zeros.
fn read_lenient(recovered: &Recovered, sim: &SimStorage, name: &str) -> (Vec<u64>, Vec<(u64, u64)>) {
    let mut bytes = sim.bytes(name).unwrap();
    let damage = &recovered.damage[0];
    bytes[damage.offset as usize..(damage.offset + damage.bytes) as usize].fill(0);
    let other = SimStorage::new(2);
    other.put(name, &bytes);
    read(&open(&other, NOTHING))
}

#[test]
fn d06_a_full_disk_does_not_keep_a_spool_from_opening() {
    let sim = SimStorage::new(1);
    let (name, starts) = tail(&sim);
    sim.flip(&name, starts[3] as u64 * 8 + 300);
    sim.script_always(Call::Write, "", 1, Fault::Full);
    sim.script_always(Call::Create, "", 1, Fault::Full);
    sim.script_always(Call::Subdir, "", 1, Fault::Full);
    let recovered = open(&sim, Proof { proven: 5 });
    assert_eq!(read(&recovered), (vec![1, 2, 4, 5], vec![(3, 3)]));
    assert_eq!(recovered.damage.len(), 1);
    sim.heal();
    settled(&sim, Proof { proven: 5 });
}

#[test]
fn an_error_of_the_disk_is_an_error_of_opening() {
    for (call, name) in [(Call::List, ""), (Call::Open, ".seg"), (Call::Sync, ".seg"), (Call::SyncDir, "")] {
        let sim = SimStorage::new(1);
        three_segments(&sim);
        sim.script(call, name, 1, Fault::Io);
        assert!(matches!(recover(&sim, Some(SPOOL), NOTHING), Err(OpenError::Path { .. })), "{call:?}");
    }
}

/// Everything at once: torn, damaged, unsealed, foreign, headless, prepared.
fn ruin(sim: &SimStorage) {
    let names = [
        Make::new(1).messages(1..=4).mark().messages(5..=7).put_with_room(sim),
        Make::new(8).messages(8..=9).seal().put(sim),
        Make::new(10).messages(10..=12).seal().put(sim),
        Make::of(SpoolId([9; 16]), 13).messages(13..=14).put(sim),
        Make::new(15).messages(15..=16).mark().messages(17..=18).mark().messages(19..=25).put_with_room(sim),
    ];
    sim.flip(&names[0], (SEGMENT_HEADER + 20) * 8);
    sim.flip(&names[1], 70);
    sim.flip(&names[1], 64 * 8 + 300);
    sim.flip(&names[4], (SEGMENT_HEADER + 20) * 8);
    let size = sim.bytes(&names[4]).unwrap().len() as u64;
    sim.flip(&names[4], (size - ROOM as u64 - 20) * 8);
    sim.put("spare-1.tmp", &[1; 3000]);
}

#[test]
fn an_interrupted_recovery_is_just_another_one() {
    for proven in [0, 24, 30] {
        let start = SimStorage::new(1);
        ruin(&start);
        let proof = Proof { proven };
        let want = start.kill();
        let first = read(&open(&want, proof));
        let later = summary(&open(&want, proof));
        at_every_call(
            &start,
            0..20,
            |sim| recover(sim, Some(SPOOL), proof).is_ok(),
            |sim, done| {
                let recovered = open(&sim, proof);
                assert_eq!(read(&recovered), first);
                assert_eq!(summary(&settled(&sim, proof)), later);
                assert_eq!(content(&sim), content(&want));
                if *done {
                    // It had returned: its work is on the disk.
                    assert_eq!(summary(&recovered), later);
                    assert_eq!(recovered.torn, 0);
                }
            },
        );
    }
}

#[test]
fn short_writes_and_interruptions_are_gone_over() {
    let sim = SimStorage::new(1);
    ruin(&sim);
    let other = sim.kill();
    other.short_writes(true);
    other.script(Call::Write, "", 2, Fault::Interrupted);
    other.script(Call::Read, "", 3, Fault::Short(1));
    let proof = Proof { proven: 30 };
    assert_eq!(summary(&open(&sim, proof)), summary(&open(&other, proof)));
    assert_eq!(content(&sim), content(&other));
}
