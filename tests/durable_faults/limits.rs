//! A full spool: each policy keeps the limit on disk, says what it does and counts it.

use std::path::Path;
use std::time::{Duration, Instant};

use ginnel::*;

use crate::common::*;
use crate::durable::*;

/// The least that `spool_max_bytes` may be.
const MOST: u64 = 4 << 20;
/// Two of these are about one percent of it.
const BODY: usize = 20 << 10;

fn big(at: u32) -> Message {
    let mut body = at.to_be_bytes().to_vec();
    body.resize(BODY, at as u8);
    Message::from(body)
}

#[track_caller]
fn number_of(message: &Message) -> u32 {
    assert_eq!(message[0].len(), BODY);
    assert!(message[0][4..].iter().all(|&byte| byte == message[0][3]));
    number(message)
}

fn small_spool(dir: &Path, when_full: WhenFull) -> Builder<Pub> {
    let builder = publisher(dir).sync(ginnel::Sync::Never).spool_max_bytes(MOST).segment_bytes(256 << 10);
    builder.when_full(when_full).declare("slow", [""])
}

/// What the segments take on the disk, prepared ones included.
fn on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a spool");
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok().map(|data| (data.is_file(), data.len())));
    let registry = ["names.a", "names.b", "LOCK"].map(|name| std::fs::metadata(dir.join(name)).map_or(0, |d| d.len()));
    files.filter(|(is_file, _)| *is_file).map(|(_, len)| len).sum::<u64>().saturating_sub(registry.iter().sum())
}

/// Sends until it is full. Gives how many went.
async fn fill(publisher: &Pub, dir: &Path) -> u32 {
    let mut sent = 0;
    let (mut since, stats) = (Instant::now(), || publisher.spool().expect("a spool").stats());
    loop {
        match publisher.try_send(big(sent)) {
            Ok(_) => (sent, since) = (sent + 1, Instant::now()),
            // It may only be the writer that is behind.
            Err(TrySendError::Full(message)) => {
                assert_eq!(number_of(&message), sent, "the message comes back");
                let stats = stats();
                if stats.state == SpoolState::Full && stats.visible == stats.newest {
                    return sent;
                }
                assert!(since.elapsed() < DEADLINE, "no room, and not full: {stats:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(on_disk(dir) <= MOST, "{} on disk", on_disk(dir));
        assert!(u64::from(sent) * (BODY as u64) < 4 * MOST, "never full");
    }
}

async fn take_big(sub: &mut Sub, range: std::ops::Range<u32>) {
    for at in range {
        assert_eq!(number_of(&soon(sub.recv()).await.expect("a message")), at);
    }
}

fn is_full(event: &Event) -> bool {
    matches!(event, Event::SpoolFull { .. })
}

#[tokio::test]
async fn d08_block_waits_until_somebody_has_read() {
    let dir = Dir::new();
    let builder = small_spool(&dir.spool(), WhenFull::Block).send_timeout(Duration::from_millis(50));
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut monitor = publisher.monitor();
    let sent = fill(&publisher, &dir.spool()).await;
    event(&mut monitor, is_full).await;
    assert!(u64::from(sent) * (BODY as u64) > MOST / 2, "it holds most of what it may: {sent}");
    // In time nobody makes room: the message comes back.
    let error = soon(publisher.send(big(sent))).await.expect_err("no room");
    assert!(matches!(&error, SendError::Timeout(message) if number_of(message) == sent), "{error}");
    let error = soon(publisher.enqueue(big(sent))).await.expect_err("no room");
    assert!(matches!(error, SendError::Timeout(_)), "{error}");
    let stats = publisher.spool().expect("a spool").stats();
    assert!(stats.full_waits > 0 && stats.bytes <= MOST, "{stats:?}");
    assert_eq!((stats.dropped_records, stats.names[0].lost_records), (0, 0));
    // Whoever waits gets in as soon as somebody reads.
    let waiting = {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            for at in sent..sent + 100 {
                while let Err(error) = publisher.send(big(at)).await {
                    assert!(matches!(error, SendError::Timeout(_)), "{error}");
                }
            }
        })
    };
    let mut sub = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    take_big(&mut sub, 0..sent + 100).await;
    soon(waiting).await.expect("all went");
    until(|| publisher.spool().expect("a spool").stats().state == SpoolState::Open).await;
    assert!(on_disk(&dir.spool()) <= MOST);
    assert!(!events(&mut monitor).iter().any(|event| matches!(event, Event::Lost { .. })));
}

/// Records in the files.
fn kept(dir: &Path) -> u32 {
    let files = spool::SpoolFiles::open(dir).expect("a spool");
    files.records(spool::Position::Oldest).inspect(|record| assert!(record.is_ok(), "{record:?}")).count() as u32
}

#[tokio::test]
async fn a_close_says_what_it_could_not_keep() {
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::Block).build().expect("a spool");
    let sent = u64::from(fill(&publisher, &dir.spool()).await);
    let report = soon(publisher.close()).await;
    let kept = u64::from(kept(&dir.spool()));
    assert_eq!((report.kept, report.dropped), (kept, sent - kept), "of {sent}");
}

#[tokio::test]
async fn d08_a_full_spool_that_is_opened_again_is_still_full() {
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::Block).build().expect("a spool");
    fill(&publisher, &dir.spool()).await;
    // What has a number and no room yet was never accepted, and goes with the socket.
    soon(publisher.close()).await;
    drop(publisher);
    let sent = kept(&dir.spool());
    let publisher = small_spool(&dir.spool(), WhenFull::Block).bind(place("tcp")).await.expect("a spool");
    let more = async {
        for at in sent..sent + 50 {
            let _ = publisher.send(big(at)).await.expect("accepted");
        }
    };
    let mut sub = subscriber("slow").build().expect("options");
    let reading = async {
        sub.connect_to(publisher.local_endpoint()).expect("connect");
        take_big(&mut sub, 0..sent + 50).await;
    };
    soon(async { tokio::join!(more, reading) }).await;
    assert!(on_disk(&dir.spool()) <= MOST);
}

#[tokio::test]
async fn d08_reject_gives_the_message_back() {
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::Reject).bind(place("tcp")).await.expect("a spool");
    let mut monitor = publisher.monitor();
    let mut sent = 0;
    let refused = loop {
        match soon(publisher.send(big(sent))).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(on_disk(&dir.spool()) <= MOST);
    };
    assert!(matches!(&refused, SendError::Full(message) if number_of(message) == sent), "{refused}");
    event(&mut monitor, is_full).await;
    let refused = soon(publisher.enqueue(big(sent))).await.expect_err("full");
    assert!(matches!(refused, SendError::Full(_)), "{refused}");
    let error = soon(publisher.send_all((sent..sent + 3).map(big))).await.expect_err("full");
    assert_eq!((error.sent, error.rest.len()), (0, 3));
    assert!(matches!(error.reason, SendError::Full(())), "{error}");
    let stats = publisher.spool().expect("a spool").stats();
    assert!(stats.rejects >= 3 && stats.dropped_records == 0, "{stats:?}");
    let mut sub = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    take_big(&mut sub, 0..sent).await;
    sub.ack_last();
    // Space comes back in whole segments, when the writer sees that all is done.
    soon(async {
        while let Err(error) = publisher.send(big(sent)).await {
            assert!(matches!(error, SendError::Full(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    take_big(&mut sub, sent..sent + 1).await;
}

/// `(from, to, records)` of every loss that this monitor was told of.
fn losses(monitor: &mut Monitor, wanted: &str) -> Vec<(u64, u64, u64)> {
    let loss = |event| match event {
        Event::Lost { name, from, to, records, .. } => {
            assert_eq!(name, wanted);
            Some((from, to, records))
        }
        _ => None,
    };
    events(monitor).into_iter().filter_map(loss).collect()
}

#[tokio::test]
async fn d08_drop_oldest_never_waits_and_tells_both_sides() {
    const COUNT: u32 = 1000;
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::DropOldest).bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    let mut numbers = Vec::new();
    for at in 0..COUNT {
        numbers.push(soon(publisher.send(big(at))).await.expect("accepted").sequence().expect("a number"));
        assert!(on_disk(&dir.spool()) <= MOST, "{} on disk", on_disk(&dir.spool()));
    }
    let stats = publisher.spool().expect("a spool").stats();
    let spooler = losses(&mut its, "slow");
    let told: u64 = spooler.iter().map(|loss| loss.2).sum();
    assert!(told > 0, "{stats:?}");
    assert_eq!((stats.dropped_records, stats.names[0].lost_records), (told, told));
    assert!(stats.dropped_bytes > told * BODY as u64);
    assert_eq!(stats.full_waits, 0);
    // What is left arrives, and the holder hears of the rest before it.
    let mut sub = subscriber("slow").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    let first = soon(sub.recv_delivery()).await.expect("a delivery");
    assert_eq!(losses(&mut monitor, "slow"), [(numbers[0], numbers[told as usize - 1], told)]);
    assert_eq!(first.sequence(), Some(numbers[told as usize]));
    assert_eq!(number_of(first.message()), told as u32);
    take_big(&mut sub, told as u32 + 1..COUNT).await;
    // Once is enough.
    drop(sub);
    left(publisher.spool().expect("a spool"), "slow").await;
    let sub = subscriber("slow").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    held(publisher.spool().expect("a spool"), "slow").await;
    let _ = soon(publisher.send(big(COUNT))).await.expect("accepted");
    until(|| publisher.spool().expect("a spool").names()[0].in_flight > 0).await;
    assert_eq!(losses(&mut monitor, "slow"), []);
}

#[tokio::test]
async fn d08_drop_oldest_tells_a_holder_that_takes_nothing() {
    const COUNT: u32 = 1000;
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::DropOldest).bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    let mut sub = subscriber("slow").recv_hwm(10).connect(publisher.local_endpoint()).expect("connect");
    let mut monitor = sub.monitor();
    held(publisher.spool().expect("a spool"), "slow").await;
    let mut numbers = Vec::new();
    for at in 0..COUNT {
        numbers.push(soon(publisher.send(big(at))).await.expect("accepted").sequence().expect("a number"));
    }
    let mut got = Vec::new();
    while got.last() != numbers.last() {
        got.push(soon(sub.recv_delivery()).await.expect("a delivery").sequence().expect("a number"));
    }
    assert!(got.is_sorted_by(|a, b| a < b), "in order, and none twice");
    for (side, told) in [("spooler", losses(&mut its, "slow")), ("holder", losses(&mut monitor, "slow"))] {
        for number in numbers.iter().filter(|number| !got.contains(number)) {
            let tells = told.iter().any(|&(from, to, _)| (from..=to).contains(number));
            assert!(tells, "{number} is missing, and the {side} was told of {told:?}");
        }
    }
    assert!(got.len() < COUNT as usize);
}

#[tokio::test]
async fn d08_drop_name_evicts_who_is_behind_and_spares_the_rest() {
    const COUNT: u32 = 600;
    let dir = Dir::new();
    let builder = small_spool(&dir.spool(), WhenFull::DropName).declare("quick", [""]);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut monitor = publisher.monitor();
    let mut quick = subscriber("quick").connect(publisher.local_endpoint()).expect("connect");
    for at in 0..COUNT {
        let _ = soon(publisher.send(big(at))).await.expect("accepted");
        assert_eq!(number_of(&soon(quick.recv()).await.expect("a message")), at);
        assert!(on_disk(&dir.spool()) <= MOST);
    }
    let names: Vec<String> = publisher.spool().expect("a spool").names().into_iter().map(|name| name.name).collect();
    assert_eq!(names, ["quick"]);
    event(&mut monitor, |event| *event == Event::NameExpired { name: "slow".to_owned() }).await;
    assert!(!events(&mut monitor).iter().any(|event| matches!(event, Event::Lost { .. })));
    // It may come back, as a new name: from now on.
    let mut slow = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    held(publisher.spool().expect("a spool"), "slow").await;
    let _ = soon(publisher.send(big(COUNT))).await.expect("accepted");
    take_big(&mut slow, COUNT..COUNT + 1).await;
}

#[tokio::test]
async fn d08_the_number_of_messages_is_limited() {
    let dir = Dir::new();
    let builder = small_spool(&dir.spool(), WhenFull::Reject).spool_max_messages(100);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    for at in 0..100 {
        let _ = soon(publisher.send(big(at))).await.expect("accepted");
    }
    let error = soon(publisher.send(big(100))).await.expect_err("full");
    assert!(matches!(error, SendError::Full(_)), "{error}");
    let mut sub = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    take_big(&mut sub, 0..100).await;
    sub.ack_last();
    soon(async {
        while publisher.send(big(100)).await.is_err() {
            tokio::time::sleep(QUICK).await
        }
    })
    .await;
    take_big(&mut sub, 100..101).await;
}

#[tokio::test]
async fn d08_one_name_may_lag_so_far_and_no_farther() {
    let dir = Dir::new();
    let builder = publisher(&dir.spool()).sync(ginnel::Sync::Never).segment_bytes(256 << 10);
    let builder = builder.max_lag_bytes(1 << 20).declare("slow", [""]).declare("quick", [""]);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    let mut quick = subscriber("quick").connect(publisher.local_endpoint()).expect("connect");
    for at in 0..300 {
        let _ = soon(publisher.send(big(at))).await.expect("accepted");
    }
    take_big(&mut quick, 0..100).await;
    let lost = event(&mut its, |event| matches!(event, Event::Lost { name, .. } if name == "slow")).await;
    let Event::Lost { records, .. } = lost else { panic!("{lost:?}") };
    assert!(records > 0);
    let spool = publisher.spool().expect("a spool");
    until(|| spool.names().iter().all(|name| name.name != "slow" || name.lag_bytes <= 1 << 20)).await;
    let mut slow = subscriber("slow").build().expect("options");
    let mut monitor = slow.monitor();
    slow.connect_to(publisher.local_endpoint()).expect("connect");
    let _ = soon(slow.recv()).await.expect("a message");
    assert!(!losses(&mut monitor, "slow").is_empty(), "the holder hears of it");
}

#[tokio::test]
async fn a_record_may_be_so_large_and_no_larger() {
    let dir = Dir::new();
    let builder = small_spool(&dir.spool(), WhenFull::Block).max_record(1 << 20);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let large = |size: usize| Message::from(vec![7; size]);
    let error = soon(publisher.send(large(2 << 20))).await.expect_err("too large");
    assert!(matches!(&error, SendError::TooLarge(message) if message[0].len() == 2 << 20), "{error}");
    let error = publisher.try_send(large(2 << 20)).expect_err("too large");
    assert!(matches!(&error, TrySendError::TooLarge(message) if message[0].len() == 2 << 20), "{error}");
    // Larger than a segment is no matter.
    let _ = soon(publisher.send(large(900 << 10))).await.expect("accepted");
    let mut sub = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(soon(sub.recv()).await.expect("a message")[0].len(), 900 << 10);
}

#[tokio::test]
async fn d08_one_record_larger_than_the_limit_is_taken() {
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::Block).bind(place("tcp")).await.expect("a spool");
    let mut sub = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    for size in [6 << 20, 100, (4 << 20) - 100_000, 100] {
        let receipt = soon(publisher.send(vec![7; size])).await.expect("accepted");
        let delivery = soon(sub.recv_delivery()).await.expect("a delivery");
        assert_eq!((delivery.message()[0].len(), delivery.sequence()), (size, receipt.sequence()));
        sub.ack_last();
    }
}

#[tokio::test]
async fn d08_drop_oldest_goes_on_for_who_does_not_wait() {
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::DropOldest).build().expect("a spool");
    let mut since = Instant::now();
    for at in 0..800 {
        // Full for a moment, while the writer makes room; never for good.
        while let Err(error) = publisher.try_send(big(at)) {
            assert!(matches!(error, TrySendError::Full(_)), "{error}");
            assert!(since.elapsed() < DEADLINE, "stuck at {at}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        since = Instant::now();
        assert!(on_disk(&dir.spool()) <= MOST, "{} on disk", on_disk(&dir.spool()));
    }
    soon(publisher.flush()).await.expect("accepted");
    assert_eq!(publisher.spool().expect("a spool").stats().newest, 800);
    // Nor for who takes a place first.
    for at in 800..1000 {
        soon(publisher.reserve()).await.expect("room").send(big(at));
    }
    soon(publisher.send_all((1000..1200).map(big))).await.expect("accepted");
    assert!(on_disk(&dir.spool()) <= MOST, "{} on disk", on_disk(&dir.spool()));
}

#[tokio::test]
async fn d08_drop_oldest_of_a_push_tells_what_no_worker_gets() {
    const COUNT: u32 = 800;
    let dir = Dir::new();
    let builder = pusher(&dir.spool()).sync(ginnel::Sync::Never).spool_max_bytes(MOST).segment_bytes(256 << 10);
    let push = builder.when_full(WhenFull::DropOldest).bind(place("tcp")).await.expect("a spool");
    let mut its = push.monitor();
    for at in 0..COUNT {
        let _ = soon(push.send(big(at))).await.expect("accepted");
    }
    let told: u64 = losses(&mut its, "").iter().map(|loss| loss.2).sum();
    assert_eq!(told, push.spool().expect("a spool").stats().dropped_records);
    let mut pull = worker("one").connect(push.local_endpoint()).expect("connect");
    for at in told as u32..COUNT {
        assert_eq!(number_of(&soon(pull.recv()).await.expect("a message")), at);
    }
}

/// Whoever comes first after a loss is told of it, once; whoever is there hears of the next one when it comes back.
#[tokio::test]
async fn d03_a_worker_hears_what_a_push_lost_when_it_joins() {
    const COUNT: u32 = 400;
    let dir = Dir::new();
    let builder = pusher(&dir.spool()).sync(ginnel::Sync::Never).spool_max_bytes(MOST).segment_bytes(256 << 10);
    let push = builder.when_full(WhenFull::DropOldest).bind(place("tcp")).await.expect("a spool");
    let mut its = push.monitor();
    for visit in 0..2 {
        let mut numbers = Vec::new();
        for at in 0..COUNT {
            numbers.push(soon(push.send(big(at))).await.expect("accepted").sequence().expect("a number"));
        }
        let spooler = losses(&mut its, "");
        let lost: u64 = spooler.iter().map(|loss| loss.2).sum();
        assert!(lost > 0 && spooler[0].0 == numbers[0], "visit {visit}: {spooler:?}");
        let mut pull = worker("one").build().expect("options");
        let mut monitor = pull.monitor();
        pull.connect_to(push.local_endpoint().expect("bound")).expect("connect");
        let first = soon(pull.recv_delivery()).await.expect("a delivery");
        let told = losses(&mut monitor, "one");
        assert_eq!(
            told.iter().map(|loss| (loss.0, loss.1)).collect::<Vec<_>>(),
            [(numbers[0], numbers[lost as usize - 1])]
        );
        assert_eq!(first.sequence(), Some(numbers[lost as usize]), "visit {visit}");
        drop(first);
        // A second one has missed nothing of its own.
        let other = worker("two").recv_hwm(1).build().expect("options");
        let mut quiet = other.monitor();
        other.connect_to(push.local_endpoint().expect("bound")).expect("connect");
        until(|| push.spool().expect("a spool").names()[0].connections == 2).await;
        other.close().await;
        assert_eq!(losses(&mut quiet, "two"), []);
        for _ in lost as usize + 1..numbers.len() {
            number_of(&soon(pull.recv()).await.expect("a message"));
        }
        pull.ack_last();
        done(push.spool().expect("a spool"), "", *numbers.last().expect("some")).await;
        pull.close().await;
        until(|| push.spool().expect("a spool").names()[0].connections == 0).await;
    }
}

#[tokio::test]
async fn d08_drop_name_takes_the_name_from_who_holds_it() {
    const COUNT: u32 = 400;
    let dir = Dir::new();
    let publisher = small_spool(&dir.spool(), WhenFull::DropName).bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    let mut sub = subscriber("slow").recv_hwm(5).connect(publisher.local_endpoint()).expect("connect");
    held(publisher.spool().expect("a spool"), "slow").await;
    for at in 0..COUNT {
        let _ = soon(publisher.send(big(at))).await.expect("accepted");
    }
    event(&mut its, |event| *event == Event::NameExpired { name: "slow".to_owned() }).await;
    // It finds out when it reads on, connects again, and is a new name: what it gets is in order.
    let reading = tokio::spawn(async move {
        let mut last = None;
        while last != Some(COUNT) {
            let at = number_of(&soon(sub.recv()).await.expect("a message"));
            assert!(last.is_none_or(|last| last < at), "{at} after {last:?}");
            last = Some(at);
        }
    });
    held(publisher.spool().expect("a spool"), "slow").await;
    let _ = soon(publisher.send(big(COUNT))).await.expect("accepted");
    soon(reading).await.expect("no panic");
}

#[tokio::test]
async fn d08_what_is_too_old_goes() {
    let dir = Dir::new();
    let builder = publisher(&dir.spool()).declare("slow", [""]).spool_max_age(Duration::from_millis(300));
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    let numbers = send_words(&publisher, 0..100).await;
    // Looked at once a second.
    let lost = event(&mut its, |event| matches!(event, Event::Lost { .. })).await;
    let Event::Lost { name, from, to, records, .. } = lost else { panic!("{lost:?}") };
    assert_eq!((&*name, from, to, records), ("slow", numbers[0], numbers[99], 100));
    let mut sub = subscriber("slow").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    event(&mut monitor, |event| matches!(event, Event::Lost { .. })).await;
    send_words(&publisher, 100..110).await;
    assert_eq!(take(&mut sub, 10).await, places(100..110));
}

#[tokio::test]
async fn a_recording_keeps_everything_until_a_limit() {
    let dir = Dir::new();
    let builder = small_spool(&dir.spool(), WhenFull::DropOldest).append_all(true);
    let publisher = builder.bind(place("tcp")).await.expect("a spool");
    let mut sub = subscriber("slow").connect(publisher.local_endpoint()).expect("connect");
    for at in 0..100 {
        let _ = soon(publisher.send(big(at))).await.expect("accepted");
    }
    take_big(&mut sub, 0..100).await;
    sub.ack_last();
    done(publisher.spool().expect("a spool"), "slow", 100).await;
    // Read by all, and still there.
    let mut late = subscriber("late").from_oldest(true).connect(publisher.local_endpoint()).expect("connect");
    take_big(&mut late, 0..100).await;
    for at in 100..600 {
        let _ = soon(publisher.send(big(at))).await.expect("accepted");
    }
    assert!(on_disk(&dir.spool()) <= MOST);
    assert!(publisher.spool().expect("a spool").stats().oldest > 100);
}
