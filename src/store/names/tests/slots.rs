//! The two files: crashes, damage, versions, full disks.

use super::super::twin::{Format, seal};
use super::*;
use crate::store::storage::sim::{Call, Fault, SimStorage};

const SEEDS: u64 = 5;

fn open(disk: &SimStorage) -> (Slots, Found) {
    try_open(disk).unwrap()
}

fn try_open(disk: &SimStorage) -> Result<(Slots, Found), OpenError> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    Slots::open(&storage)
}

/// A registry that needs more than the slots have from the start.
fn large(last: u64) -> Registry {
    let mut registry = named(of(1, last), "large", 1, vec![(3, 4)]);
    let filters = (0..300).map(|n| (vec![b'x'; 1000], n)).collect();
    registry.names.get_mut("large").unwrap().filters = filters;
    registry
}

fn filled(found: &Found) -> Option<&Registry> {
    match found {
        Found::Both(registry) | Found::One(registry) => Some(registry),
        Found::Fresh | Found::Lost => None,
    }
}

#[test]
fn a_new_directory_is_fresh_until_something_is_saved() {
    let disk = SimStorage::new(1);
    let (mut slots, found) = open(&disk);
    assert_eq!(found, Found::Fresh);
    assert_eq!(open(&disk.kill()).1, Found::Fresh);
    for name in FILES {
        assert_eq!(disk.bytes(name).unwrap().len() as u64, SLOT_BYTES);
    }
    slots.save(&of(1, 5)).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(of(1, 5)));
    slots.save(&of(1, 6)).unwrap();
    slots.save(&of(1, 7)).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(of(1, 7)));
    assert_eq!(Slots::read(&disk).unwrap(), Found::Both(of(1, 7)));
}

#[test]
fn segments_without_a_registry_have_lost_it() {
    let disk = SimStorage::new(1);
    disk.put("00000000000000000001.seg", b"");
    assert_eq!(Slots::read(&disk).unwrap(), Found::Lost);
    assert_eq!(disk.names().len(), 1, "reading makes no file");
    assert_eq!(open(&disk).1, Found::Lost);
}

#[test]
fn one_unreadable_slot_is_repaired_by_the_next_save() {
    for (name, left) in [("names.a", 7), ("names.b", 6)] {
        let disk = SimStorage::new(1);
        let (mut slots, _) = open(&disk);
        // a: 5, b: 5, then a: 6, b: 7; and a: 8 would be next.
        for last in 5..=7 {
            slots.save(&of(1, last)).unwrap();
        }
        let disk = disk.kill();
        assert!(disk.flip(name, 40 * 8 + 3));
        let (mut slots, found) = open(&disk);
        assert_eq!(found, Found::One(of(1, left)));
        slots.save(&of(1, 9)).unwrap();
        assert_eq!(open(&disk.kill()).1, Found::Both(of(1, 9)));
    }
}

#[test]
fn both_unreadable_slots_are_a_loss_and_a_new_start() {
    let disk = SimStorage::new(1);
    let (mut slots, _) = open(&disk);
    slots.save_both(&of(1, 5)).unwrap();
    let disk = disk.kill();
    assert!(disk.flip("names.a", 8 * 8) && disk.flip("names.b", 0));
    let (mut slots, found) = open(&disk);
    assert_eq!(found, Found::Lost);
    slots.save(&of(2, 1)).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(of(2, 1)));
}

#[test]
fn a_slot_that_cannot_be_read_is_like_a_damaged_one() {
    let disk = SimStorage::new(1);
    open(&disk).0.save_both(&of(1, 5)).unwrap();
    let disk = disk.kill();
    disk.bad_range("names.b", 0..512);
    assert_eq!(open(&disk).1, Found::One(of(1, 5)));
}

#[test]
fn a_missing_slot_is_made_again() {
    let disk = SimStorage::new(1);
    open(&disk).0.save_both(&of(1, 5)).unwrap();
    disk.remove("names.a").unwrap();
    let disk = disk.kill();
    let (mut slots, found) = open(&disk);
    assert_eq!(found, Found::One(of(1, 5)));
    slots.save(&of(1, 6)).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(of(1, 6)));
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_touched() {
    let newer = Format { major: 2, ..FORMAT };
    let disk = SimStorage::new(1);
    disk.put("names.b", &seal(&newer, 1, b"who knows").unwrap());
    let before = disk.calls();
    match try_open(&disk) {
        Err(OpenError::UnknownFormat { path, found, known }) => {
            assert!(path.ends_with("names.b"));
            assert_eq!((found.as_str(), known.as_str()), ("2.0", "1.0"));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(Slots::read(&disk), Err(OpenError::UnknownFormat { .. })));
    assert_eq!(disk.calls(), before);
    // A version that is only damaged is damage.
    let mut bent = seal(&FORMAT, 1, &encode(&of(1, 5), true)).unwrap();
    bent[8] = 2;
    disk.put("names.b", &bent);
    assert_eq!(Slots::read(&disk).unwrap(), Found::Fresh);
    disk.put("names.a", &bent);
    assert_eq!(Slots::read(&disk).unwrap(), Found::Lost);
}

#[test]
fn something_else_in_place_of_the_slots_is_a_loss() {
    let disk = SimStorage::new(1);
    for name in FILES {
        disk.put(name, &seal(&Format { magic: *b"ANOTHER1", ..FORMAT }, 1, b"abc").unwrap());
    }
    assert_eq!(open(&disk).1, Found::Lost);
    for name in FILES {
        disk.put(name, b"a short text");
    }
    assert_eq!(open(&disk).1, Found::Lost);
}

/// Saves in order; answers how many returned, and whether one more was tried.
fn work(disk: &SimStorage, steps: &[(bool, Registry)]) -> (usize, bool) {
    let Ok((mut slots, _)) = try_open(disk) else { return (0, false) };
    for (done, (both, registry)) in steps.iter().enumerate() {
        let saved = if *both { slots.save_both(registry) } else { slots.save(registry) };
        if saved.is_err() {
            return (done, true);
        }
    }
    (steps.len(), false)
}

fn steps() -> Vec<(bool, Registry)> {
    let small = |both, last| (both, named(of(1, last), "a", last, vec![(last + 2, last + 9)]));
    vec![small(false, 1), small(true, 2), small(false, 3), (false, large(4)), small(false, 5), (true, large(6))]
}

/// The old or the new registry, never neither, wherever the power goes.
#[test]
fn a_crash_at_any_call_leaves_the_old_or_the_new_registry() {
    let steps = steps();
    let whole = SimStorage::new(0);
    assert_eq!(work(&whole, &steps), (steps.len(), false));
    for stop in 0..=whole.calls() {
        for seed in 0..SEEDS {
            let disk = SimStorage::new(seed);
            disk.stop_after(stop);
            let (done, tried) = work(&disk, &steps);
            let after = disk.crash(seed);
            let (mut slots, found) = open(&after);
            let old = done.checked_sub(1).map(|at| &steps[at].1);
            let new = if tried { Some(&steps[done].1) } else { None };
            let is = filled(&found);
            assert!(is == old || (is.is_some() && is == new), "stop {stop} seed {seed}: {found:?}");
            assert!(found != Found::Lost, "stop {stop} seed {seed}: nothing was there to be lost");
            slots.save(&of(9, 9)).unwrap();
            assert_eq!(open(&after.crash(seed)).1, Found::Both(of(9, 9)));
        }
    }
}

/// The same, and again a crash while the first save after it is at work.
#[test]
fn a_second_crash_is_no_worse() {
    let steps = steps();
    for stop in 6..14 {
        for seed in 0..SEEDS {
            let disk = SimStorage::new(seed);
            disk.stop_after(stop);
            let (done, tried) = work(&disk, &steps);
            for again in 0..8 {
                let second = disk.crash(seed);
                let found = Slots::read(&second).unwrap();
                second.stop_after(again);
                let (more, tried_more) = work(&second, &[(false, of(9, 9))]);
                let after = Slots::read(&second.crash(seed + 100)).unwrap();
                let ours = filled(&after) == Some(&of(9, 9));
                assert!(if more == 1 { ours } else { (ours && tried_more) || filled(&after) == filled(&found) });
                assert!(filled(&after).is_some() || done == 0, "{stop} {seed} {again} {tried}");
            }
        }
    }
}

/// The kernel may drop what a failed sync was to keep: the slot is not trusted, the other one is not touched.
#[test]
fn a_failed_sync_leaves_the_former_registry() {
    for seed in 0..SEEDS {
        let disk = SimStorage::new(seed);
        let (mut slots, _) = open(&disk);
        slots.save_both(&of(1, 5)).unwrap();
        disk.script(Call::Sync, "names", 1, Fault::DropUnsynced);
        assert!(slots.save(&of(1, 6)).is_err());
        let found = open(&disk.crash(seed)).1;
        assert_eq!(filled(&found), Some(&of(1, 5)));
        slots.save(&of(1, 7)).unwrap();
        let found = open(&disk.crash(seed)).1;
        assert_eq!(filled(&found), Some(&of(1, 7)));
    }
}

#[test]
fn short_writes_are_gone_on_with() {
    let disk = SimStorage::new(3);
    disk.short_writes(true);
    let (mut slots, _) = open(&disk);
    slots.save_both(&large(1)).unwrap();
    slots.save(&large(2)).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(large(2)));
}

#[test]
fn d08_a_save_needs_no_space_on_a_full_disk() {
    let disk = SimStorage::new(1);
    let (mut slots, _) = open(&disk);
    slots.save(&of(1, 1)).unwrap();
    disk.quota(Some(disk.used()));
    slots.save(&of(1, 2)).unwrap();
    // Ranges find no room: they are left out, the name stays.
    let ranges: Vec<(u64, u64)> = (1..=4000).map(|n| (n << 40, n << 40)).collect();
    let mut registry = of(1, 3);
    for name in 0..20 {
        registry = named(registry, &format!("name{name}"), 0, ranges.clone());
    }
    assert!(slots.fits(&registry));
    slots.save(&registry).unwrap();
    let (_, found) = open(&disk.kill());
    let kept = filled(&found).unwrap();
    assert_eq!(kept.names.len(), 20);
    assert!(kept.names.values().all(|name| name.done.is_empty()));
    // What cannot be left out is refused, and the former registry is there.
    assert!(!slots.fits(&large(4)));
    assert!(slots.save(&large(4)).is_err());
    assert_eq!(filled(&open(&disk.kill()).1), Some(kept));
    disk.quota(None);
    slots.save(&large(5)).unwrap();
    slots.save(&registry).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(registry));
}

#[test]
fn a_full_disk_is_no_reason_not_to_open() {
    let disk = SimStorage::new(1);
    disk.put("names.a", &seal(&FORMAT, 4, &encode(&of(1, 5), true)).unwrap());
    disk.put("names.b", &seal(&FORMAT, 5, &encode(&of(1, 6), true)).unwrap());
    disk.quota(Some(disk.used()));
    let (mut slots, found) = open(&disk);
    assert_eq!(found, Found::Both(of(1, 6)));
    slots.save(&of(1, 7)).unwrap();
    assert_eq!(open(&disk.kill()).1, Found::Both(of(1, 7)));
}

/// What version 1.0 wrote is read for ever.
#[test]
fn the_golden_slot_is_read_and_written() {
    let golden = include_bytes!("../../../../tests/vectors/spool/names-1.0.bin");
    let registry = golden_registry();
    assert_eq!(seal(&FORMAT, 7, &encode(&registry, true)).unwrap(), golden);
    let disk = SimStorage::new(1);
    disk.put("names.a", golden);
    assert_eq!(Slots::read(&disk).unwrap(), Found::One(registry));
}

fn golden_registry() -> Registry {
    let billing = NameRecord {
        name: "billing".into(),
        kind: NameKind::Topic,
        owner: Some("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID".into()),
        created: 1_700_000_000_000_001,
        seen: 1_700_000_000_000_002,
        expiry_s: 604_800,
        cursor: 41,
        done: vec![(43, 43), (50, 1_000_000)],
        filters: vec![(b"orders.".to_vec(), 1), (Vec::new(), 17)],
        lost_records: 3,
        lost_bytes: 300,
        lost: Some((5, 7)),
        declared: true,
    };
    let outbox = NameRecord { kind: NameKind::Outbox, cursor: 40, ..NameRecord::default() };
    Registry {
        spool: SpoolId(*b"0123456789abcdef"),
        clean: true,
        last: 1_000_001,
        reserved_until: 2_097_152,
        head: 9,
        checked: 1_000_000,
        names: [outbox, billing].into_iter().map(|name| (name.name.clone(), name)).collect(),
    }
}
