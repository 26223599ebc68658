use super::*;
use crate::store::names::STEP;
use crate::store::storage::sim::SimStorage;

#[test]
fn what_is_in_use_is_not_changed() {
    let spool = Spool::of_three();
    spool.save(&with_name(registry(25), "billing", 3, vec![]));
    let storage = RealDir::open(&spool.path, true, false).unwrap();
    let Ok(Locked::Got(lock)) = storage.lock() else { panic!("not locked") };
    let before = spool.snapshot();
    let refused = [
        repair(&spool.path).map(|_| ()).unwrap_err(),
        drop_name(&spool.path, "billing").map(|_| ()).unwrap_err(),
        new_id(&spool.path).map(|_| ()).unwrap_err(),
    ];
    for refused in refused {
        let OpenError::InUse { pid, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(pid, Some(std::process::id()));
    }
    assert_eq!(spool.snapshot(), before);
    drop(lock);
    assert!(drop_name(&spool.path, "billing").unwrap());
}

#[test]
fn a_directory_without_a_spool_gets_none() {
    let spool = Spool::new(&registry(0));
    let empty = spool.path.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(repair(&empty), Err(OpenError::Path { .. })));
    assert!(matches!(drop_name(&empty, "a"), Err(OpenError::Path { .. })));
    assert!(matches!(new_id(&empty), Err(OpenError::Path { .. })));
    assert!(!empty.join("names.a").exists());
}

#[test]
fn a_dropped_name_is_gone_and_the_others_stay() {
    let spool = Spool::of_three();
    spool.save(&with_name(with_name(with_name(registry(25), "a", 3, vec![]), "b", 5, vec![]), "", 2, vec![]));
    assert!(!drop_name(&spool.path, "c").unwrap());
    assert!(!drop_name(&spool.path, "").unwrap(), "an outbox is no name");
    assert!(drop_name(&spool.path, "a").unwrap());
    assert!(!drop_name(&spool.path, "a").unwrap());
    let names: Vec<String> = spool.files().list().unwrap().names.into_iter().map(|name| name.name).collect();
    assert_eq!(names, ["", "b"]);
}

/// The unreadable copy may have reserved more numbers than the other one knows of.
#[test]
fn d04_mending_the_registry_leaves_out_what_may_be_reserved() {
    type Change = fn(&Spool) -> bool;
    let changes: [Change; 2] =
        [|spool| repair(&spool.path).unwrap().registry_mended, |spool| drop_name(&spool.path, "a").unwrap()];
    for change in changes {
        let spool = Spool::of_three();
        spool.save(&Registry { clean: true, ..with_name(registry(25), "a", 3, vec![]) });
        let slot = spool.path.join("names.a");
        let mut bytes = fs::read(&slot).unwrap();
        bytes[50] ^= 1;
        fs::write(&slot, bytes).unwrap();
        assert!(change(&spool));
        let Found::Both(now) = Slots::read(spool.files().storage.as_ref()).unwrap() else { panic!("not mended") };
        assert_eq!((now.reserved_until, now.clean), ((1 << 20) + STEP, false));
    }
}

#[test]
fn repairing_a_good_spool_finds_nothing() {
    let spool = Spool::of_three();
    let report = repair(&spool.path).unwrap();
    assert_eq!((report.id, report.torn, report.damage.len()), (Some(ID), 0, 0));
    assert!(!report.registry_mended && !report.names_lost);
    assert_eq!(spool.files().verify().unwrap().records, 25);
}

#[test]
fn repair_cuts_a_torn_tail_and_keeps_what_is_good() {
    let spool = Spool::of_three();
    let whole = Content::new(21).messages(21..=26);
    let mut torn = whole.clone();
    torn.bytes.truncate(whole.places[5] + 40);
    spool.put(&torn);
    let report = repair(&spool.path).unwrap();
    assert_eq!((report.torn, report.damage.len()), (40, 0));
    assert_eq!(spool.files().verify().unwrap().records, 25);
    assert_eq!(repair(&spool.path).unwrap().torn, 0);
}

#[test]
fn repair_reports_damage_and_sets_it_aside() {
    let spool = Spool::new(&registry(10));
    let content = Content::new(1).messages(1..=5).mark().messages(6..=10).mark().zeros(1000);
    spool.put(&content);
    spool.flip(1, content.places[2] + 40);
    let report = repair(&spool.path).unwrap();
    assert_eq!((report.torn, report.damage.len()), (0, 1), "{report:?}");
    assert_eq!((report.damage[0].from, report.damage[0].to), (3, 3));
    assert!(spool.path.join("damaged").is_dir());
    assert_eq!(walk(spool.files().records(Position::Oldest)).0, [1, 2, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn repair_looks_below_and_says_when_names_are_lost() {
    let spool = Spool::of_three();
    for name in crate::store::names::FILES {
        fs::write(spool.path.join(name), b"something else").unwrap();
    }
    let content = Content::new(1).messages(1..=5).mark().messages(6..=7).mark().zeros(1000);
    let mut bent = content.clone();
    bent.bytes[content.places[1] + 40] ^= 1;
    spool.put_in("dead", &bent);
    let report = repair(&spool.path).unwrap();
    assert!(report.names_lost);
    assert_eq!(report.id, Some(ID));
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!(report.damage[0].segment.starts_with("dead/"));
}

#[test]
fn a_copy_becomes_a_spool_of_its_own() {
    let spool = Spool::of_three();
    spool.save(&with_name(registry(25), "billing", 3, vec![(5, 6)]));
    let before = spool.files().list().unwrap();
    let id = new_id(&spool.path).unwrap();
    assert_ne!(id, ID);
    let after = spool.files().list().unwrap();
    assert_eq!(after.id, id);
    assert_eq!(
        after.names,
        before.names.iter().map(|name| NameInfo { age: after.names[0].age, ..name.clone() }).collect::<Vec<_>>()
    );
    assert_eq!(spool.files().verify().unwrap().records, 25);
    let storage = spool.files().storage;
    for base in walk::bases(storage.as_ref()).unwrap() {
        let file = storage.open(&segment::file_name(base), Open::Read).unwrap();
        assert_eq!(walk::header(&*file).unwrap(), Content::header(base, id));
    }
    assert_eq!(repair(&spool.path).unwrap().damage, [], "opening takes all segments for its own");
    assert_ne!(new_id(&spool.path).unwrap(), id);
}

#[test]
fn a_copy_without_a_registry_gets_one() {
    let spool = Spool::of_three();
    for name in crate::store::names::FILES {
        fs::remove_file(spool.path.join(name)).unwrap();
    }
    let id = new_id(&spool.path).unwrap();
    let Found::Both(now) = Slots::read(spool.files().storage.as_ref()).unwrap() else { panic!("not made") };
    assert_eq!((now.spool, now.clean, now.last, now.head), (id, false, 25, 1));
    assert!(now.reserved_until >= 25 + STEP);
}

/// Whatever interrupts it: the copy opens as the old spool or not at all, and asking again finishes it.
#[test]
fn an_interrupted_change_of_id_is_finished_by_the_next_one() {
    let prepare = |seed| {
        let disk = SimStorage::new(seed);
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        Slots::open(&storage).unwrap().0.save_both(&with_name(registry(30), "billing", 3, vec![])).unwrap();
        for base in [1, 11, 21] {
            let content = Content::new(base).messages(base..base + 10).seal();
            disk.put(&segment::file_name(base), &content.bytes);
        }
        disk
    };
    let change = |disk: &SimStorage| {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        mend::change_id(&storage)
    };
    let ids = |disk: &SimStorage| -> Vec<SpoolId> {
        let header = |base| Header::parse(&disk.bytes(&segment::file_name(base)).unwrap()).unwrap();
        [1, 11, 21].map(|base| header(base).spool).to_vec()
    };
    let whole = prepare(0);
    let start = whole.calls();
    change(&whole).unwrap();
    for stop in start..=whole.calls() {
        for seed in 0..8 {
            let disk = prepare(seed);
            disk.stop_after(stop);
            let done = change(&disk);
            let after = disk.crash(seed);
            match Slots::read(&after) {
                Ok(found) => {
                    let registry = found.into_registry().unwrap();
                    assert!(done.is_err() || registry.spool != ID);
                    assert_eq!(ids(&after), [registry.spool; 3], "stop {stop} seed {seed}");
                }
                Err(refused) => assert!(matches!(refused, OpenError::UnknownFormat { .. })),
            }
            let id = change(&after).unwrap();
            assert_eq!(ids(&after), [id; 3]);
            let Found::Both(registry) = Slots::read(&after).unwrap() else { panic!("stop {stop} seed {seed}") };
            assert_eq!((registry.spool, registry.names["billing"].cursor), (id, 3));
        }
    }
}
