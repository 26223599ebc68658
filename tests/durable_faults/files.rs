//! Files that were changed, lost, cut, replaced or brought back.

use std::collections::BTreeSet;
use std::path::Path;

use ginnel::spool::SpoolFiles;
use ginnel::*;

use crate::common::*;
use crate::durable::*;

/// Every file but the lock, with its bytes.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else if !path.ends_with("LOCK") {
            let bytes = std::fs::read(&path).expect("a file");
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

/// A clean spool with so many words for the name "all", of which nobody took any.
async fn filled(dir: &Path, count: u32) -> Vec<u64> {
    let publisher = publisher(dir).sync(ginnel::Sync::Never).declare("all", [""]).build().expect("a spool");
    let numbers = send_words(&publisher, 0..count).await;
    soon(publisher.close()).await;
    numbers
}

#[tokio::test]
async fn d06_a_newer_format_is_refused_and_left_alone() {
    let dir = Dir::new();
    filled(&dir.spool(), 2000).await;
    for segment in segments(&dir.spool()) {
        let before = std::fs::read(&segment).expect("a segment");
        let mut bytes = before.clone();
        for copy in [0, 64] {
            bytes[copy + 8..copy + 10].copy_from_slice(&7u16.to_le_bytes());
            let check = crc32c::crc32c(&bytes[copy..copy + 60]);
            bytes[copy + 60..copy + 64].copy_from_slice(&check.to_le_bytes());
        }
        std::fs::write(&segment, bytes).expect("it is ours");
        let all = contents(&dir.spool());
        let error = publisher(&dir.spool()).build().expect_err("a newer format");
        let text = error.to_string();
        let BuildError::Spool(OpenError::UnknownFormat { path, found, known }) = error else { panic!("{text}") };
        assert_eq!((path, &*found), (segment.clone(), "7.0"));
        assert!(text.contains(&found) && text.contains(&known), "{text}");
        assert_eq!(contents(&dir.spool()), all, "nothing was changed");
        std::fs::write(&segment, before).expect("it is ours");
    }
    soon(publisher(&dir.spool()).build().expect("a spool").close()).await;
}

#[tokio::test]
async fn d06_without_both_registries_names_start_anew_and_repeat() {
    let dir = Dir::new();
    let numbers = filled(&dir.spool(), 100).await;
    std::fs::remove_file(dir.spool().join("names.a")).expect("it was there");
    std::fs::remove_file(dir.spool().join("names.b")).expect("it was there");
    let publisher = publisher(&dir.spool()).declare("all", [""]).build().expect("a spool");
    let mut monitor = publisher.monitor();
    event(&mut monitor, |event| *event == Event::NamesLost).await;
    publisher.bind_to(place("tcp")).await.expect("bind");
    let again = send_words(&publisher, 100..110).await;
    assert!(again[0] > numbers[99], "no number is used twice: {again:?}");
    let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    // Repeats rather than loss: from the oldest record on.
    assert_eq!(take(&mut sub, 110).await, places(0..110));
    let got = deliveries_so_far(&publisher);
    assert_eq!(got, 110);
}

fn deliveries_so_far(publisher: &Pub) -> u64 {
    publisher.spool().expect("a spool").names()[0].sent
}

#[tokio::test]
async fn d06_one_registry_is_enough() {
    for lost in ["names.a", "names.b"] {
        let dir = Dir::new();
        let numbers = filled(&dir.spool(), 100).await;
        std::fs::remove_file(dir.spool().join(lost)).expect("it was there");
        let publisher = publisher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
        let mut monitor = publisher.monitor();
        assert_eq!(publisher.spool().expect("a spool").names()[0].name, "all");
        let again = send_words(&publisher, 100..110).await;
        assert!(again[0] > numbers[99], "no number is used twice: {again:?}");
        let mut sub = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
        assert_eq!(take(&mut sub, 110).await, places(0..110));
        assert!(!events(&mut monitor).contains(&Event::NamesLost), "{lost}");
    }
}

#[tokio::test]
async fn a_replaced_directory_is_noticed() {
    let dir = Dir::new();
    let there = later("tcp").await;
    let open = async |dir: &Path| {
        let publisher = publisher(dir).declare("all", [""]).build().expect("a spool");
        bind_again(&publisher, &there).await;
        publisher
    };
    let first = open(&dir.path("one")).await;
    let mut sub = subscriber("all").connect(&there).expect("connect");
    let mut monitor = sub.monitor();
    send_words(&first, 0..50).await;
    assert_eq!(take(&mut sub, 50).await, places(0..50));
    // What is in hand holds a close up.
    sub.ack_last();
    let old = first.spool().expect("a spool").id();
    soon(first.close()).await;
    drop(first);
    // Its numbers begin again: those that it had before are other messages now.
    let second = open(&dir.path("two")).await;
    let new = second.spool().expect("a spool").id();
    let wanted = |event: &Event| matches!(event, Event::SpoolChanged { .. });
    let changed = event(&mut monitor, wanted).await;
    assert!(matches!(changed, Event::SpoolChanged { old: o, new: n, .. } if o == old && n == new), "{changed:?}");
    send_words(&second, 0..50).await;
    assert_eq!(take(&mut sub, 50).await, places(0..50));
}

#[tokio::test]
async fn d04_an_old_copy_is_refused_by_who_has_seen_more() {
    let dir = Dir::new();
    let there = later("tcp").await;
    filled(&dir.spool(), 10).await;
    copy_dir(&dir.spool(), &dir.path("copy"));
    let open = async || {
        let publisher = publisher(&dir.spool()).build().expect("a spool");
        bind_again(&publisher, &there).await;
        publisher
    };
    let first = open().await;
    let mut sub = subscriber("all").connect(&there).expect("connect");
    send_words(&first, 10..50).await;
    assert_eq!(take(&mut sub, 50).await, places(0..50));
    sub.ack_last();
    done(first.spool().expect("a spool"), "all", 50).await;
    soon(first.close()).await;
    drop(first);
    let mut monitor = sub.monitor();
    std::fs::remove_dir_all(dir.spool()).expect("it is ours");
    copy_dir(&dir.path("copy"), &dir.spool());
    let restored = open().await;
    let says = |event: &Event| matches!(end(event), Some(Reason::PeerError(text)) if text.contains("new-id"));
    event(&mut monitor, says).await;
    assert!(sub.try_recv().is_err());
    soon(restored.close()).await;
    drop(restored);
    // The tool makes it a spool of its own: its numbers mean something else now.
    spool::new_id(dir.spool()).expect("a new id");
    let renamed = open().await;
    event(&mut monitor, |event| matches!(event, Event::SpoolChanged { .. })).await;
    // What the copy had for the name is in it, too.
    assert_eq!(take(&mut sub, 10).await, places(0..10));
    send_words(&renamed, 10..20).await;
    assert_eq!(take(&mut sub, 10).await, places(10..20));
}

#[tokio::test]
async fn a_refusal_is_told_on_both_sides() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    send_words(&publisher, 0..10).await;
    let ahead = Token { spool: publisher.spool().expect("a spool").id(), sequence: 1000 };
    let sub = subscriber("all").resume_from([ahead]).build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    let says = |event: &Event| matches!(end(event), Some(Reason::PeerError(text)) if text.contains("new-id"));
    event(&mut monitor, says).await;
    event(&mut its, says).await;
}

/// What a reopened spool gives the name "all", and what was told to be lost: by the spooler, by the holder.
async fn read_again(dir: &Path, last: Word) -> (Vec<u64>, Vec<(u64, u64)>, Vec<(u64, u64)>) {
    let lost = |monitor: &mut Monitor| -> Vec<(u64, u64)> {
        let lost = |event| if let Event::Lost { from, to, .. } = event { Some((from, to)) } else { None };
        events(monitor).into_iter().filter_map(lost).collect()
    };
    let publisher = publisher(dir).bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    soon(publisher.send(last.message())).await.expect("accepted");
    let mut sub = subscriber("all").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    let mut numbers = Vec::new();
    loop {
        let delivery = soon(sub.recv_delivery()).await.expect("a delivery");
        if Word::of(delivery.message()) == last {
            break;
        }
        numbers.push(delivery.sequence().expect("a number"));
    }
    soon(sub.close()).await;
    let told = (lost(&mut its), lost(&mut monitor));
    soon(publisher.close()).await;
    (numbers, told.0, told.1)
}

/// A word that no other is.
const LAST: Word = Word { round: u32::MAX, at: 1 };

#[tokio::test]
async fn d07_a_damaged_byte_costs_one_record_and_both_sides_hear_of_it() {
    let dir = Dir::new();
    let numbers = filled(&dir.spool(), 1500).await;
    let mut dice = Dice::printed("flips");
    for run in 0..20 {
        let copy = dir.path(&format!("copy{run}"));
        copy_dir(&dir.spool(), &copy);
        let files = segments(&copy);
        assert!(files.len() > 2, "several segments");
        // Any byte behind the headers of any sealed segment.
        let file = &files[dice.below(files.len() as u64 - 1) as usize];
        let mut bytes = std::fs::read(file).expect("a segment");
        let at = 128 + dice.below(bytes.len() as u64 - 128) as usize;
        let bit = 1 << dice.below(8);
        bytes[at] ^= bit;
        std::fs::write(file, bytes).expect("it is ours");
        let what = format!("bit {bit:#x} of byte {at} of {}", file.display());
        let (got, spooler, holder) = read_again(&copy, LAST).await;
        let had: BTreeSet<u64> = got.iter().copied().collect();
        assert!(got.is_sorted() && had.len() == got.len(), "{what}");
        let missing: Vec<u64> = numbers.iter().copied().filter(|number| !had.contains(number)).collect();
        assert!(missing.len() <= 1, "{what} took {missing:?}");
        for number in missing {
            let tells = |told: &[(u64, u64)]| told.iter().any(|&(from, to)| (from..=to).contains(&number));
            assert!(tells(&spooler), "{what} took {number}, and the spooler told of {spooler:?}");
            assert!(tells(&holder), "{what} took {number}, and the holder told of {holder:?}");
        }
        std::fs::remove_dir_all(copy).expect("it is ours");
    }
}

#[tokio::test]
async fn d06_a_cut_tail_leaves_a_prefix_and_no_number_comes_twice() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).sync(ginnel::Sync::Never).declare("all", [""]).build().expect("a spool");
    let numbers = send_words(&publisher, 0..400).await;
    // As after a power cut: whatever is there now, and nobody closed it.
    copy_dir(&dir.spool(), &dir.path("image"));
    soon(publisher.close()).await;
    let mut dice = Dice::printed("cuts");
    for run in 0..20 {
        let copy = dir.path(&format!("copy{run}"));
        copy_dir(&dir.path("image"), &copy);
        let file = segments(&copy).pop().expect("a segment");
        let bytes = std::fs::read(&file).expect("a segment");
        let used = bytes.iter().rposition(|&byte| byte != 0).expect("records") + 1;
        let at = 128 + dice.below(used as u64 - 128);
        std::fs::OpenOptions::new().write(true).open(&file).expect("it is ours").set_len(at).expect("it is ours");
        let what = format!("cut at {at} of {used}");
        let (got, _, holder) = read_again(&copy, LAST).await;
        assert_eq!(got, numbers[..got.len()], "{what}: a prefix");
        assert!(got.len() < 400, "{what}");
        assert_eq!(holder, [], "{what}: it was never safe, so it is not lost");
        let newest = SpoolFiles::open(&copy).expect("a spool").list().expect("a list").newest;
        assert!(newest > numbers[399], "{what}: {newest} was used before");
        std::fs::remove_dir_all(copy).expect("it is ours");
    }
}

#[tokio::test]
async fn d06_an_image_of_a_running_spool_opens_with_everything() {
    for sync in [ginnel::Sync::Batch, ginnel::Sync::Every(std::time::Duration::from_millis(100)), ginnel::Sync::Never] {
        let dir = Dir::new();
        let publisher = publisher(&dir.spool()).sync(sync).declare("all", [""]).build().expect("a spool");
        let numbers = send_words(&publisher, 0..1500).await;
        copy_dir(&dir.spool(), &dir.path("image"));
        let (got, spooler, holder) = read_again(&dir.path("image"), LAST).await;
        assert_eq!(got, numbers, "{sync:?}");
        assert_eq!((spooler, holder), (vec![], vec![]), "{sync:?}");
    }
}

#[tokio::test]
async fn d06_a_lost_segment_is_told_of() {
    let dir = Dir::new();
    let numbers = filled(&dir.spool(), 1500).await;
    let count = segments(&dir.spool()).len();
    for which in 0..count - 1 {
        let copy = dir.path(&format!("copy{which}"));
        copy_dir(&dir.spool(), &copy);
        std::fs::remove_file(&segments(&copy)[which]).expect("it is ours");
        let (got, spooler, holder) = read_again(&copy, LAST).await;
        let had: BTreeSet<u64> = got.iter().copied().collect();
        for number in numbers.iter().filter(|number| !had.contains(number)) {
            let tells = |told: &[(u64, u64)]| told.iter().any(|&(from, to)| (from..=to).contains(number));
            assert!(tells(&spooler), "without segment {which}: {number} is lost, and the spooler told of {spooler:?}");
            assert!(tells(&holder), "without segment {which}: {number} is lost, and the holder told of {holder:?}");
        }
        assert!(had.len() < numbers.len());
    }
}

#[tokio::test]
async fn d07_a_damaged_record_of_a_push_is_told_of() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).sync(ginnel::Sync::Never).build().expect("a spool");
    let numbers = send_words(&push, 0..1000).await;
    soon(push.close()).await;
    drop(push);
    let file = segments(&dir.spool()).remove(0);
    let mut bytes = std::fs::read(&file).expect("a segment");
    bytes[10_000] ^= 1;
    std::fs::write(&file, bytes).expect("it is ours");
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let mut its = push.monitor();
    let mut pulls = ["one", "two"].map(|name| worker(name).connect(push.local_endpoint()).expect("connect"));
    let mut had = BTreeSet::new();
    let [one, two] = &mut pulls;
    while had.len() < 999 {
        let delivery = soon(async {
            tokio::select! {
                delivery = one.recv_delivery() => delivery,
                delivery = two.recv_delivery() => delivery,
            }
        });
        had.insert(delivery.await.expect("a delivery").sequence().expect("a number"));
    }
    pulls.iter_mut().for_each(|pull| pull.ack_last());
    done(push.spool().expect("a spool"), "", numbers[999]).await;
    let missing: Vec<u64> = numbers.into_iter().filter(|number| !had.contains(number)).collect();
    let told: Vec<(u64, u64)> = events(&mut its)
        .into_iter()
        .filter_map(|event| if let Event::Lost { from, to, .. } = event { Some((from, to)) } else { None })
        .collect();
    assert_eq!(told, [(missing[0], missing[0])]);
}

#[tokio::test]
async fn d06_every_file_gone_but_the_segments_or_the_names() {
    let dir = Dir::new();
    let numbers = filled(&dir.spool(), 1000).await;
    let copy = dir.path("copy");
    copy_dir(&dir.spool(), &copy);
    segments(&copy).iter().for_each(|segment| std::fs::remove_file(segment).expect("it is ours"));
    let (got, spooler, holder) = read_again(&copy, LAST).await;
    assert_eq!(got, []);
    assert_eq!(spooler, [(numbers[0], numbers[999])], "all of it is told to be lost");
    assert_eq!(holder, spooler);
}

#[tokio::test]
async fn d06_foreign_files_are_left_alone() {
    let dir = Dir::new();
    filled(&dir.spool(), 1000).await;
    for name in ["README", "notes.seg", "00000000000000000001.seg.old", "x.tmp2"] {
        std::fs::write(dir.spool().join(name), "mine").expect("a file");
    }
    let (got, spooler, holder) = read_again(&dir.spool(), LAST).await;
    assert_eq!((got.len(), spooler, holder), (1000, vec![], vec![]));
    for name in ["README", "notes.seg", "00000000000000000001.seg.old", "x.tmp2"] {
        assert_eq!(std::fs::read_to_string(dir.spool().join(name)).expect("a file"), "mine", "{name}");
    }
}

#[tokio::test]
async fn d06_a_head_that_is_gone_sets_its_segment_aside() {
    let dir = Dir::new();
    let numbers = filled(&dir.spool(), 1500).await;
    let count = segments(&dir.spool()).len();
    for which in 0..count {
        let copy = dir.path(&format!("copy{which}"));
        copy_dir(&dir.spool(), &copy);
        let file = &segments(&copy)[which];
        let mut bytes = std::fs::read(file).expect("a segment");
        bytes[..128].fill(0xAA);
        std::fs::write(file, bytes).expect("it is ours");
        let (got, spooler, holder) = read_again(&copy, LAST).await;
        let had: BTreeSet<u64> = got.iter().copied().collect();
        assert!(had.len() < numbers.len());
        for number in numbers.iter().filter(|number| !had.contains(number)) {
            let tells = |told: &[(u64, u64)]| told.iter().any(|&(from, to)| (from..=to).contains(number));
            assert!(tells(&spooler), "segment {which}: {number} is lost, and the spooler told of {spooler:?}");
            assert!(tells(&holder), "segment {which}: {number} is lost, and the holder told of {holder:?}");
        }
        let newest = SpoolFiles::open(&copy).expect("a spool").list().expect("a list").newest;
        assert!(newest > numbers[1499], "segment {which}: {newest} was used before");
        std::fs::remove_dir_all(copy).expect("it is ours");
    }
}
