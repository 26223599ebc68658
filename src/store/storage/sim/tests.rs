//! The simulated disk keeps what was synced, loses what may be lost, and fails as it is told.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};

use quickcheck::quickcheck;

use super::*;
use crate::store::storage::write_all_at;

const SEEDS: Range<u64> = 0..400;

fn new_file(sim: &SimStorage, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = sim.open(name, Open::New).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file
}

/// A disk with the durable file `a`.
fn with_a(bytes: &[u8]) -> (SimStorage, Arc<dyn File>) {
    let sim = SimStorage::new(0);
    let file = new_file(&sim, "a", bytes);
    file.sync().unwrap();
    sim.sync_dir().unwrap();
    (sim, file)
}

/// What crashes leave of `name`, over all seeds.
fn fates(sim: &SimStorage, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS.map(|seed| sim.crash(seed).bytes(name)).collect()
}

/// The same in sectors, each by its first byte; short ones in brackets.
fn sectors_of(fates: BTreeSet<Option<Vec<u8>>>) -> BTreeSet<String> {
    let text = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
        if sector.len() == SECTOR { char::from(sector[0]).to_string() } else { format!("[{}]", char::from(sector[0])) }
    };
    fates.into_iter().flatten().map(|bytes| bytes.chunks(SECTOR).map(text).collect()).collect()
}

fn letters(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|letter| [letter; SECTOR]).collect()
}

#[test]
fn what_was_synced_is_kept() {
    let (sim, _) = with_a(&letters("abc"));
    assert_eq!(fates(&sim, "a"), [Some(letters("abc"))].into());
}

#[test]
fn each_unsynced_sector_may_be_kept_or_lost() {
    let (sim, file) = with_a(&letters("abc"));
    write_all_at(&*file, &letters("XYZ"), 0).unwrap();
    let expected = ["abc", "abZ", "aYc", "aYZ", "Xbc", "XbZ", "XYc", "XYZ"];
    assert_eq!(sectors_of(fates(&sim, "a")), expected.map(String::from).into());
}

#[test]
fn a_sector_has_one_of_the_states_it_was_in() {
    let (sim, file) = with_a(&letters("a"));
    for letter in ["b", "c", "d"] {
        write_all_at(&*file, &letters(letter), 0).unwrap();
    }
    assert_eq!(sectors_of(fates(&sim, "a")), ["a", "b", "c", "d"].map(String::from).into());
    file.sync().unwrap();
    assert_eq!(sectors_of(fates(&sim, "a")), ["d"].map(String::from).into());
}

#[test]
fn two_halves_of_a_sector_come_in_their_order() {
    let (sim, file) = with_a(&[b'.'; SECTOR]);
    write_all_at(&*file, &[b'1'; 256], 0).unwrap();
    write_all_at(&*file, &[b'2'; 256], 256).unwrap();
    let seen = fates(&sim, "a").into_iter().flatten().map(|bytes| (bytes[0], bytes[511])).collect::<BTreeSet<_>>();
    assert_eq!(seen, [(b'.', b'.'), (b'1', b'.'), (b'1', b'2')].into());
}

#[test]
fn a_length_is_kept_or_lost_apart_from_the_bytes() {
    let (sim, file) = with_a(&letters("a"));
    write_all_at(&*file, &letters("BC"), SECTOR as u64).unwrap();
    let seen = sectors_of(fates(&sim, "a"));
    assert_eq!(seen, ["a", "a\0\0", "a\0C", "aB\0", "aBC"].map(String::from).into());
}

#[test]
fn a_cut_may_be_lost_and_if_not_what_was_behind_it_is_zero() {
    let (sim, file) = with_a(&letters("abc"));
    file.set_len(SECTOR as u64).unwrap();
    file.set_len(3 * SECTOR as u64).unwrap();
    assert_eq!(sectors_of(fates(&sim, "a")), ["abc", "a", "a\0\0"].map(String::from).into());
    file.sync().unwrap();
    assert_eq!(sectors_of(fates(&sim, "a")), ["a\0\0"].map(String::from).into());
}

#[test]
fn bytes_that_stay_within_a_file_need_no_length() {
    let (sim, file) = with_a(b"");
    file.allocate(2 * SECTOR as u64).unwrap();
    file.sync().unwrap();
    write_all_at(&*file, b"XX", SECTOR as u64 - 1).unwrap();
    for fate in fates(&sim, "a") {
        assert_eq!(fate.unwrap().len(), 2 * SECTOR);
    }
}

#[test]
fn a_name_is_durable_only_by_the_directory() {
    let sim = SimStorage::new(0);
    let file = new_file(&sim, "a", b"abc");
    file.sync().unwrap();
    assert_eq!(fates(&sim, "a"), [None, Some(b"abc".to_vec())].into());
    sim.sync_dir().unwrap();
    assert_eq!(fates(&sim, "a"), [Some(b"abc".to_vec())].into());
}

#[test]
fn a_rename_is_atomic() {
    let (sim, _) = with_a(b"old");
    new_file(&sim, "tmp", b"new").sync().unwrap();
    sim.sync_dir().unwrap();
    sim.rename("tmp", "a").unwrap();
    let seen: BTreeSet<_> = SEEDS
        .map(|seed| sim.crash(seed))
        .map(|sim| (sim.names().join(" "), String::from_utf8(sim.bytes("a").unwrap()).unwrap()))
        .collect();
    assert_eq!(seen, [("a".into(), "new".into()), ("a tmp".into(), "old".into())].into());
}

#[test]
fn names_change_in_any_order_but_each_in_its_own() {
    let (sim, _) = with_a(b"a");
    new_file(&sim, "b", b"b").sync().unwrap();
    sim.sync_dir().unwrap();
    sim.remove("a").unwrap();
    sim.rename("b", "c").unwrap();
    sim.rename("c", "d").unwrap();
    let seen: BTreeSet<_> = SEEDS.map(|seed| sim.crash(seed).names().join(" ")).collect();
    assert_eq!(seen, ["a b", "a c", "a d", "b", "c", "d"].map(String::from).into());
}

#[test]
fn a_removed_file_comes_back_whole_if_the_directory_was_not_synced() {
    let (sim, file) = with_a(b"abc");
    sim.remove("a").unwrap();
    drop(file);
    assert_eq!(fates(&sim, "a"), [None, Some(b"abc".to_vec())].into());
    sim.sync_dir().unwrap();
    assert_eq!(fates(&sim, "a"), [None].into());
}

#[test]
fn a_subdirectory_and_what_was_moved_into_it_are_kept() {
    let (sim, _) = with_a(b"abc");
    sim.rename_into("a", "damaged", "a").unwrap();
    for seed in SEEDS {
        let after = sim.crash(seed);
        assert!(after.names().is_empty());
        assert_eq!(after.sub("damaged").unwrap().bytes("a").unwrap(), b"abc");
    }
}

#[test]
fn a_seed_replays_a_crash() {
    let (sim, file) = with_a(&letters("abcdefgh"));
    write_all_at(&*file, &letters("ABCDEFGHIJ"), 0).unwrap();
    new_file(&sim, "b", b"b");
    for seed in SEEDS {
        let (one, two) = (sim.crash(seed), sim.crash(seed));
        assert_eq!(one.names(), two.names());
        assert_eq!(one.bytes("a"), two.bytes("a"));
    }
}

#[test]
fn a_crash_leaves_the_disk_it_was_taken_from() {
    let (sim, file) = with_a(b"abc");
    write_all_at(&*file, b"d", 3).unwrap();
    let after = sim.crash(1);
    after.open("a", Open::Write).unwrap().set_len(0).unwrap();
    assert_eq!(sim.bytes("a").unwrap(), b"abcd");
    assert_eq!(after.crash(3).crash(4).names(), ["a"]);
}

#[test]
fn a_killed_process_leaves_all_that_was_written() {
    let (sim, _file) = with_a(b"abc");
    let _lock = sim.lock().unwrap();
    new_file(&sim, "b", b"unsynced");
    let after = sim.kill();
    assert_eq!(after.bytes("b").unwrap(), b"unsynced");
    assert!(matches!(after.lock(), Ok(Locked::Got(_))));
    assert!(matches!(sim.lock(), Ok(Locked::Held { .. })));
    assert!(fates(&after, "b").len() > 1, "it is as unsynced as before");
}

#[test]
fn the_lock_ends_with_the_power() {
    let (sim, _) = with_a(b"");
    let _lock = sim.lock().unwrap();
    assert!(matches!(sim.crash(1).lock(), Ok(Locked::Got(_))));
}

#[test]
fn calls_that_may_change_the_disk_are_counted() {
    let sim = SimStorage::new(0);
    let file = sim.open("a", Open::New).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync().unwrap();
    file.set_len(3).unwrap();
    file.allocate(9).unwrap();
    sim.sync_dir().unwrap();
    sim.rename("a", "b").unwrap();
    sim.subdir("c").unwrap();
    sim.remove("b").unwrap();
    assert_eq!(sim.calls(), 9);
    sim.list().unwrap();
    sim.space().unwrap();
    file.len().unwrap();
    file.read_at(&mut [0; 9], 0).unwrap();
    assert!(sim.open("b", Open::Read).is_err());
    let _ = sim.lock().unwrap();
    assert_eq!(sim.calls(), 9);
}

#[test]
fn after_the_stop_nothing_works_and_nothing_changes() {
    let (sim, file) = with_a(b"abc");
    sim.stop_after(sim.calls() + 1);
    file.write_at(b"X", 0).unwrap();
    assert!(!sim.stopped());
    assert!(file.write_at(b"Y", 1).is_err());
    assert!(sim.stopped());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.len().is_err());
    assert!(file.sync().is_err());
    assert!(sim.list().is_err() && sim.sync_dir().is_err() && sim.space().is_err() && sim.lock().is_err());
    assert!(sim.open("b", Open::New).is_err());
    assert_eq!(sim.bytes("a").unwrap(), b"Xbc");
    sim.crash(1).open("a", Open::Write).unwrap().write_at(b"Z", 0).unwrap();
}

#[test]
fn the_nth_call_of_a_kind_on_a_file_fails_once() {
    let (sim, file) = with_a(b"");
    let other = new_file(&sim, "b", b"");
    sim.script(Call::Write, "a", 2, Fault::Io);
    sim.script(Call::Sync, "b", 1, Fault::Full);
    file.write_at(b"1", 0).unwrap();
    other.write_at(b"1", 0).unwrap();
    other.write_at(b"2", 1).unwrap();
    assert!(file.write_at(b"2", 1).is_err());
    file.write_at(b"3", 2).unwrap();
    assert_eq!(sim.bytes("a").unwrap(), b"1\x003");
    file.sync().unwrap();
    assert_eq!(other.sync().unwrap_err().kind(), ErrorKind::StorageFull);
    other.sync().unwrap();
}

#[test]
fn any_counts_all_changing_calls_and_always_lasts_until_it_is_healed() {
    let sim = SimStorage::new(0);
    sim.script_always(Call::Any, "", 3, Fault::Full);
    let file = sim.open("a", Open::New).unwrap();
    file.read_at(&mut [0], 0).unwrap();
    file.write_at(b"x", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(file.sync().unwrap_err().kind(), ErrorKind::StorageFull);
    }
    assert!(sim.open("b", Open::New).is_err());
    sim.heal();
    file.sync().unwrap();
    assert_eq!(sim.names(), ["a"]);
}

#[test]
fn a_script_follows_a_file_to_its_new_name_and_into_its_directory() {
    let (sim, file) = with_a(b"");
    sim.rename("a", "b").unwrap();
    sim.script(Call::Write, "a", 1, Fault::Io);
    file.write_at(b"x", 0).unwrap();
    sim.script(Call::Write, "b", 1, Fault::Io);
    assert!(file.write_at(b"x", 0).is_err());

    let sub = sim.subdir("delay").unwrap();
    sim.script(Call::Create, "delay/", 1, Fault::Io);
    sim.script(Call::SyncDir, "delay/", 1, Fault::Io);
    sim.open("c", Open::New).unwrap();
    assert!(sub.open("c", Open::New).is_err());
    sim.sync_dir().unwrap();
    assert!(sub.sync_dir().is_err());
    sub.sync_dir().unwrap();
}

#[test]
fn a_plain_sync_failure_leaves_the_pages_to_be_synced() {
    let (sim, file) = with_a(b"abc");
    file.write_at(b"X", 0).unwrap();
    sim.script(Call::Sync, "a", 1, Fault::Io);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(fates(&sim, "a"), [Some(b"Xbc".to_vec())].into());
}

#[test]
fn a_failed_sync_may_drop_the_pages_and_the_next_one_succeeds_without_them() {
    let (sim, file) = with_a(&letters("ab"));
    write_all_at(&*file, &letters("XYZ"), 0).unwrap();
    sim.script(Call::Sync, "a", 1, Fault::DropUnsynced);
    assert!(file.sync().is_err());
    assert_eq!(sim.bytes("a").unwrap(), letters("XYZ"), "still to be read");
    file.sync().unwrap();
    assert_eq!(sectors_of(fates(&sim, "a")), ["ab\0"].map(String::from).into(), "the length was kept, no byte was");
    assert_eq!(sim.kill().bytes("a").unwrap(), letters("XYZ"));

    write_all_at(&*file, &letters("W"), 512).unwrap();
    file.sync().unwrap();
    assert_eq!(sectors_of(fates(&sim, "a")), ["aW\0"].map(String::from).into());
}

#[test]
fn a_failed_sync_of_a_directory_may_drop_its_names() {
    let (sim, _) = with_a(b"");
    new_file(&sim, "b", b"").sync().unwrap();
    sim.script(Call::SyncDir, "", 1, Fault::DropUnsynced);
    assert!(sim.sync_dir().is_err());
    sim.sync_dir().unwrap();
    assert_eq!(sim.names(), ["a", "b"]);
    assert_eq!(fates(&sim, "b"), [None].into());
}

#[test]
fn a_full_disk_takes_what_fits_then_nothing() {
    let sim = SimStorage::new(0);
    sim.quota(Some(4 * SECTOR as u64));
    let file = sim.open("a", Open::New).unwrap();
    assert_eq!(file.write_at(&[1; 1000], 0).unwrap(), 1000);
    assert_eq!(sim.used(), 1024);
    assert_eq!(sim.space().unwrap(), Space { free: 1024, total: 2048 });
    assert_eq!(file.write_at(&[2; 2000], 1000).unwrap(), 1048);
    assert_eq!(file.write_at(&[3; 10], 2048).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_at(&[3; 10], 0).unwrap(), 10, "in place needs no space");
    assert_eq!(sim.bytes("a").unwrap().len(), 2048);

    let other = sim.open("b", Open::New).unwrap();
    assert_eq!(other.allocate(1).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(other.len().unwrap(), 0);
    file.set_len(1024).unwrap();
    other.allocate(1024).unwrap();
    assert_eq!(sim.space().unwrap().free, 0);
    assert_eq!(other.write_at(&[4; 1024], 0).unwrap(), 1024, "what was reserved can be written");
    sim.heal();
    write_all_at(&*file, &[5; 5000], 0).unwrap();
}

#[test]
fn a_removed_file_takes_space_while_it_is_open() {
    let (sim, file) = with_a(&[1; 1024]);
    sim.remove("a").unwrap();
    assert_eq!(sim.used(), 1024);
    drop(file);
    assert_eq!(sim.used(), 0);
    new_file(&sim, "b", &[1; 512]);
    new_file(&sim, "c", &[1; 512]);
    sim.rename("b", "c").unwrap();
    assert_eq!(sim.used(), 512, "so does one that was replaced");
}

#[test]
fn holes_take_no_space_until_they_are_written() {
    let sim = SimStorage::new(0);
    sim.quota(Some(1024));
    let file = sim.open("a", Open::New).unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(sim.used(), 0);
    write_all_at(&*file, &[1; 1024], 1 << 19).unwrap();
    assert!(file.write_at(&[1], 0).is_err());
    assert_eq!(sim.crash(1).space().unwrap().total, 1024, "the disk has its size after a crash, too");
}

#[test]
fn short_writes_take_at_least_one_byte() {
    let (sim, file) = with_a(b"");
    sim.short_writes(true);
    let sizes: BTreeSet<usize> = (0..200).map(|_| file.write_at(&[1; 4], 0).unwrap()).collect();
    assert_eq!(sizes, [1, 2, 3, 4].into());
}

#[test]
fn a_bit_at_rest_turns_over_for_good() {
    let (sim, file) = with_a(b"abc");
    assert!(sim.flip("a", 8));
    assert_eq!(sim.bytes("a").unwrap(), b"acc");
    assert_eq!(sim.crash(1).bytes("a").unwrap(), b"acc");
    assert!(!sim.flip("a", 24));
    assert!(!sim.flip("b", 0));
    file.write_at(b"b", 1).unwrap();
    assert!(sim.flip("a", 8), "unsynced, too");
    file.sync().unwrap();
    assert_eq!(sim.crash(1).bytes("a").unwrap(), b"acc");
}

#[test]
fn a_bad_range_cannot_be_read() {
    let (sim, file) = with_a(&[1; 100]);
    sim.bad_range("a", 40..50);
    assert_eq!(file.read_at(&mut [0; 40], 0).unwrap(), 40);
    assert!(file.read_at(&mut [0; 41], 0).is_err());
    assert!(file.read_at(&mut [0; 1], 49).is_err());
    assert_eq!(file.read_at(&mut [0; 99], 50).unwrap(), 50);
    assert!(sim.crash(1).open("a", Open::Read).unwrap().read_at(&mut [0], 45).is_err());
}

#[test]
fn a_sync_can_be_slow() {
    let (sim, file) = with_a(b"");
    let (asked, other) = (Arc::new(AtomicUsize::new(0)), sim.clone());
    let count = asked.clone();
    sim.on_sync(move |name| {
        // The disk is free for others meanwhile.
        assert!(other.names().contains(&"a".to_owned()));
        count.fetch_add(name.len(), Ordering::Relaxed);
    });
    file.sync().unwrap();
    sim.sync_dir().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_put_there_is_durable() {
    let (sim, _) = with_a(b"old");
    sim.put("a", b"new");
    sim.put("b", b"b");
    assert_eq!(fates(&sim, "a"), [Some(b"new".to_vec())].into());
    assert_eq!(fates(&sim, "b"), [Some(b"b".to_vec())].into());
    assert_eq!(sim.used(), 1024);
}

/// Replaces `a` by way of another file; `careful` syncs it before.
fn replace(sim: &SimStorage, careful: bool) -> io::Result<()> {
    let file = sim.open("tmp", Open::New)?;
    write_all_at(&*file, &letters("XYZ"), 0)?;
    if careful {
        file.sync()?;
    }
    sim.rename("tmp", "a")?;
    sim.sync_dir()
}

#[test]
fn a_careful_replacement_survives_a_crash_at_every_call() {
    let (sim, _) = with_a(&letters("abc"));
    let runs = AtomicUsize::new(0);
    let replaced = |sim: &SimStorage| replace(sim, true).is_ok();
    at_every_call(&sim, 0..50, replaced, |sim, promised| {
        runs.fetch_add(1, Ordering::Relaxed);
        let bytes = sim.bytes("a").expect("one or the other");
        assert!(bytes == letters("XYZ") || (!promised && bytes == letters("abc")));
    });
    assert_eq!(runs.load(Ordering::Relaxed), 6 * 50, "after none to all of five calls");
}

#[test]
fn a_careless_replacement_is_found_out() {
    let (sim, _) = with_a(&letters("abc"));
    let torn = AtomicUsize::new(0);
    at_every_call(
        &sim,
        0..50,
        |sim| replace(sim, false).is_ok(),
        |sim, _| {
            let bytes = sim.bytes("a").unwrap();
            torn.fetch_add(usize::from(bytes != letters("XYZ") && bytes != letters("abc")), Ordering::Relaxed);
        },
    );
    assert!(torn.load(Ordering::Relaxed) > 0);
}

quickcheck! {
    /// Whatever was written: after a crash there is no byte and no length that readers never saw since the last sync.
    fn a_crash_shows_only_states_that_were(writes: Vec<(u16, u8, u16, bool)>, seed: u64) -> bool {
        let (sim, file) = with_a(b"");
        let mut states = vec![Vec::new()];
        for (at, byte, size, cut) in writes {
            let (at, size) = (u64::from(at % 3000), usize::from(size % 1500));
            if cut {
                file.set_len(at).unwrap();
            } else {
                write_all_at(&*file, &vec![byte; size], at).unwrap();
            }
            if byte % 8 == 0 {
                file.sync().unwrap();
                states.clear();
            }
            states.push(sim.bytes("a").unwrap());
        }
        let sector = |bytes: &[u8], number: usize, at: usize| {
            bytes.get(number * SECTOR + at).copied().unwrap_or(0)
        };
        let after = sim.crash(seed).bytes("a").unwrap();
        states.iter().any(|state| state.len() == after.len())
            && (0..after.len().div_ceil(SECTOR)).all(|number| {
                let used = SECTOR.min(after.len() - number * SECTOR);
                // Bytes that a lost length hid, or a kept cut took away, are zeros.
                (0..used).all(|at| {
                    let found = sector(&after, number, at);
                    found == 0 || states.iter().any(|state| sector(state, number, at) == found)
                })
            })
    }
}
