//! Durable names: who may hold one, what is kept for it, how it goes.

use std::time::Duration;

use ginnel::*;

use crate::common::raw::Raw;
use crate::common::*;
use crate::durable::*;

fn spool(publisher: &Pub) -> &Spool {
    publisher.spool().expect("a spool")
}

fn known(publisher: &Pub) -> Vec<String> {
    spool(publisher).names().into_iter().map(|name| name.name).collect()
}

async fn open(dir: &Dir) -> Pub {
    publisher(&dir.spool()).sync(ginnel::Sync::Never).bind(place("tcp")).await.expect("a spool")
}

/// Closes it and opens it again in the same place.
async fn reopen(dir: &Dir, publisher: Pub) -> Pub {
    let there = publisher.local_endpoint().expect("bound");
    soon(publisher.close()).await;
    drop(publisher);
    let publisher = crate::durable::publisher(&dir.spool()).build().expect("a spool");
    bind_again(&publisher, &there).await;
    publisher
}

async fn send(publisher: &Pub, topics: &[&str]) {
    for topic in topics {
        let _ = soon(publisher.send(*topic)).await.expect("accepted");
    }
}

async fn topics(sub: &mut Sub, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..count {
        let message = soon(sub.recv()).await.expect("a message");
        got.push(message[0].to_str().expect("text").to_owned());
    }
    got
}

fn named(name: &str) -> Builder<Sub> {
    Sub::builder().durable(name).reconnect(QUICK, QUICK * 4)
}

#[tokio::test]
async fn a_name_has_one_holder_and_the_next_one_waits() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let mut first = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
    held(spool(&publisher), "all").await;
    let mut second = subscriber("all").build().expect("options");
    let mut monitor = second.monitor();
    second.connect_to(publisher.local_endpoint()).expect("connect");
    // Again and again, as long as the first one lives.
    for _ in 0..3 {
        event(&mut monitor, |event| end(event) == Some(&Reason::IdentityTaken)).await;
    }
    send_words(&publisher, 0..10).await;
    assert_eq!(take(&mut first, 10).await, places(0..10));
    assert!(second.try_recv().is_err());
    first.ack_last();
    drop(first);
    send_words(&publisher, 10..20).await;
    assert_eq!(take(&mut second, 10).await, places(10..20));
}

#[tokio::test]
async fn a_name_can_be_taken_over() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let manual = || subscriber("all").ack(Ack::Manual);
    let mut first = manual().connect(publisher.local_endpoint()).expect("connect");
    held(spool(&publisher), "all").await;
    let mut monitor = first.monitor();
    send_words(&publisher, 0..10).await;
    let mut got = deliveries(&mut first, 10).await;
    got.drain(..4).for_each(Delivery::ack);
    done(spool(&publisher), "all", 4).await;
    let mut second = manual().take_over(true).connect(publisher.local_endpoint()).expect("connect");
    // What the first one had and did not finish comes to the second one.
    let taken = deliveries(&mut second, 6).await;
    for (at, delivery) in (4..).zip(&taken) {
        assert_eq!((Word::of(delivery.message()).at, delivery.tries()), (at, 2));
    }
    // The first one is told, tries again and is refused: it does not ask for more than its due.
    event(&mut monitor, |event| matches!(event, Event::Disconnected { .. })).await;
    event(&mut monitor, |event| end(event) == Some(&Reason::IdentityTaken)).await;
    taken.into_iter().for_each(Delivery::ack);
    done(spool(&publisher), "all", 10).await;
    // Its word does not count any more.
    got.drain(..).for_each(Delivery::ack);
    send_words(&publisher, 10..20).await;
    deliveries(&mut second, 10).await.into_iter().for_each(Delivery::ack);
    done(spool(&publisher), "all", 20).await;
}

#[tokio::test]
async fn a_name_is_printable_and_short() {
    let dir = Dir::new();
    let long = "x".repeat(65);
    for name in ["", "two words", "tab\t", "umlaut-\u{fc}", "nul\0", &long] {
        let error = named(name).build().expect_err("no name");
        assert!(matches!(&error, BuildError::Option(option) if option.name() == "durable"), "{name:?}: {error}");
        let error = Pull::builder().durable(name).build().expect_err("no name");
        assert!(matches!(&error, BuildError::Option(option) if option.name() == "durable"), "{name:?}: {error}");
    }
    let publisher = open(&dir).await;
    for name in ["", "two words", &long] {
        let error = soon(spool(&publisher).declare(name, [""])).await.expect_err("no name");
        assert!(matches!(error, SpoolError::Refused(_)), "{name:?}: {error}");
    }
    assert_eq!(known(&publisher), [""; 0]);
    let fits = "x".repeat(64);
    soon(spool(&publisher).declare(&fits, [""])).await.expect("a name");
    let mut sub = subscriber(&fits).connect(publisher.local_endpoint()).expect("connect");
    send_words(&publisher, 0..1).await;
    assert_eq!(take(&mut sub, 1).await, [0]);
}

/// A command as a peer of its own making sends it.
fn command(name: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4, (1 + name.len() + body.len()) as u8, name.len() as u8];
    frame.extend_from_slice(name.as_bytes());
    frame.extend_from_slice(body);
    frame
}

fn start(flags: u8) -> Vec<u8> {
    let mut body = vec![flags];
    body.extend_from_slice(&100u32.to_be_bytes());
    body.extend_from_slice(&100_000u32.to_be_bytes());
    body.extend_from_slice(&[0; 16 + 8 + 4]);
    command("DSTART", &body)
}

/// The code of the refusal that a holder of this name gets.
async fn refusal(publisher: &Pub, name: &[u8], flags: u8) -> u16 {
    let there = publisher.local_endpoint().expect("bound").to_string();
    let stream = tokio::net::TcpStream::connect(there.strip_prefix("tcp://").expect("tcp")).await.expect("connect");
    let properties: [(&str, &[u8]); 3] = [("Socket-Type", b"SUB"), ("X-Durable", b"1"), ("X-Durable-Name", name)];
    let mut raw = soon(Raw::introduce(stream, &properties)).await;
    raw.write(&start(flags)).await;
    loop {
        let (_, body) = soon(raw.frame()).await.expect("an answer");
        if let Some(refusal) = body.strip_prefix(b"\x04DERR") {
            return u16::from_be_bytes([refusal[0], refusal[1]]);
        }
        assert!(!body.starts_with(b"\x03DOK"), "{name:?} was let in");
    }
}

#[tokio::test]
async fn a_peer_with_a_wrong_name_is_refused() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let long = [b'x'; 65];
    for name in [&b""[..], b"two words", b"tab\t", b"\xFF\xFE", &long] {
        assert_eq!(refusal(&publisher, name, 0).await, 3, "{name:?}");
    }
    // Flags of a later version.
    assert_eq!(refusal(&publisher, b"fine", 0x40).await, 6);
    assert_eq!(known(&publisher), [""; 0]);
}

#[tokio::test]
async fn there_are_only_so_many_names() {
    let dir = Dir::new();
    let publisher =
        publisher(&dir.spool()).max_names(2).declare("one", [""]).bind(place("tcp")).await.expect("a spool");
    soon(spool(&publisher).declare("two", [""])).await.expect("a second one");
    let error = soon(spool(&publisher).declare("three", [""])).await.expect_err("a third one");
    assert!(error.to_string().contains("max_names"), "{error}");
    let sub = subscriber("three").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    let full = |event: &Event| matches!(end(event), Some(Reason::PeerError(text)) if text.contains("max_names"));
    event(&mut monitor, full).await;
    assert_eq!(refusal(&publisher, b"four", 0).await, 4);
    assert_eq!(known(&publisher), ["one", "two"]);
    // A known one is no new one, and one that goes makes room.
    let known_one = subscriber("one").connect(publisher.local_endpoint()).expect("connect");
    held(spool(&publisher), "one").await;
    assert!(soon(spool(&publisher).drop_name("two")).await.expect("saved"));
    held(spool(&publisher), "three").await;
    drop((known_one, sub));
}

#[tokio::test]
async fn a_declared_name_has_everything_from_then_on() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("a", ["a."]).bind(place("tcp")).await.expect("a spool");
    send(&publisher, &["a.1", "b.1"]).await;
    soon(spool(&publisher).declare("b", ["b."])).await.expect("declared");
    send(&publisher, &["a.2", "b.2"]).await;
    let mut a = named("a").subscribe("a.").connect(publisher.local_endpoint()).expect("connect");
    let mut b = named("b").subscribe("b.").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(topics(&mut a, 2).await, ["a.1", "a.2"]);
    assert_eq!(topics(&mut b, 1).await, ["b.2"]);
    // Over a restart, too, declared again or not.
    soon(a.close()).await;
    soon(b.close()).await;
    let publisher = reopen(&dir, publisher).await;
    assert_eq!(known(&publisher), ["a", "b"]);
    send(&publisher, &["a.3", "b.3"]).await;
    let mut a = named("a").subscribe("a.").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(topics(&mut a, 1).await, ["a.3"]);
}

#[tokio::test]
async fn a_new_name_begins_now_or_at_the_oldest_record() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).append_all(true).bind(place("tcp")).await.expect("a spool");
    send_words(&publisher, 0..10).await;
    let mut now = subscriber("now").connect(publisher.local_endpoint()).expect("connect");
    let mut all = subscriber("all").from_oldest(true).connect(publisher.local_endpoint()).expect("connect");
    held(spool(&publisher), "now").await;
    held(spool(&publisher), "all").await;
    send_words(&publisher, 10..20).await;
    assert_eq!(take(&mut now, 10).await, places(10..20));
    assert_eq!(take(&mut all, 20).await, places(0..20));
}

#[tokio::test]
async fn prefixes_are_kept_and_replaced() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let connect = |builder: Builder<Sub>| builder.connect(publisher.local_endpoint()).expect("connect");
    let sub = connect(named("n").subscribe("a.").subscribe("b."));
    held(spool(&publisher), "n").await;
    soon(sub.close()).await;
    drop(sub);
    left(spool(&publisher), "n").await;
    send(&publisher, &["a.1", "b.1", "c.1"]).await;
    // One that wants nothing in particular wants what is kept for it.
    let mut sub = connect(named("n"));
    assert_eq!(topics(&mut sub, 2).await, ["a.1", "b.1"]);
    soon(sub.close()).await;
    drop(sub);
    left(spool(&publisher), "n").await;
    send(&publisher, &["a.2", "b.2", "c.2"]).await;
    // Its set replaces the stored one: what is new counts from now, what is gone stops at once.
    let mut sub = connect(named("n").subscribe("b.").subscribe("c."));
    held(spool(&publisher), "n").await;
    send(&publisher, &["a.3", "b.3", "c.3"]).await;
    assert_eq!(topics(&mut sub, 3).await, ["b.2", "b.3", "c.3"]);
    assert_eq!(
        spool::SpoolFiles::open(dir.spool()).expect("a spool").list().expect("a list").names[0].filters.len(),
        2
    );
}

#[tokio::test]
async fn prefixes_change_while_connected_and_stay_changed() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let mut sub = named("n").subscribe("a.").connect(publisher.local_endpoint()).expect("connect");
    let mut monitor = publisher.monitor();
    held(spool(&publisher), "n").await;
    sub.subscribe("b.").expect("open");
    sub.unsubscribe("a.").expect("open");
    event(&mut monitor, |event| matches!(event, Event::Unsubscribed { topic, .. } if &topic[..] == b"a.")).await;
    send(&publisher, &["a.1", "b.1"]).await;
    assert_eq!(topics(&mut sub, 1).await, ["b.1"]);
    soon(sub.close()).await;
    drop(sub);
    let publisher = reopen(&dir, publisher).await;
    send(&publisher, &["a.2", "b.2"]).await;
    let mut sub = named("n").connect(publisher.local_endpoint()).expect("connect");
    assert_eq!(topics(&mut sub, 1).await, ["b.2"]);
}

#[tokio::test]
async fn d03_what_nobody_wants_is_not_written_and_its_numbers_are_no_loss() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("a", ["a."]).bind(place("tcp")).await.expect("a spool");
    let mut its = publisher.monitor();
    for round in 0..50 {
        send(&publisher, &[&format!("a.{round}"), "b.x", "c.x"]).await;
    }
    assert_eq!(spool(&publisher).stats().records, 50);
    let mut sub = named("a").subscribe("a.").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    let wanted: Vec<String> = (0..50).map(|round| format!("a.{round}")).collect();
    assert_eq!(topics(&mut sub, 50).await, wanted);
    sub.ack_last();
    done(spool(&publisher), "a", 148).await;
    for monitor in [&mut its, &mut monitor] {
        assert!(!events(monitor).iter().any(|event| matches!(event, Event::Lost { .. })));
    }
}

#[tokio::test]
async fn a_name_is_given_up_by_its_holder() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let mut sub = subscriber("gone").connect(publisher.local_endpoint()).expect("connect");
    held(spool(&publisher), "gone").await;
    // It may not know yet that it was let in.
    soon(async {
        while !sub.drop_name().await {
            tokio::task::yield_now().await
        }
    })
    .await;
    drop(sub);
    assert_eq!(known(&publisher), [""; 0]);
    let publisher = reopen(&dir, publisher).await;
    assert_eq!(known(&publisher), [""; 0]);
    // A new one of this name begins now.
    send_words(&publisher, 0..5).await;
    let mut sub = subscriber("gone").connect(publisher.local_endpoint()).expect("connect");
    held(spool(&publisher), "gone").await;
    send_words(&publisher, 5..6).await;
    assert_eq!(take(&mut sub, 1).await, [5]);
}

#[tokio::test]
async fn a_name_is_given_up_by_its_spool() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("one", [""]).declare("two", [""]).build().expect("a spool");
    send_words(&publisher, 0..1500).await;
    let before = spool(&publisher).stats().segments;
    assert!(before > 2);
    assert!(soon(spool(&publisher).drop_name("one")).await.expect("saved"));
    assert!(!soon(spool(&publisher).drop_name("one")).await.expect("saved"), "it is gone already");
    assert_eq!(known(&publisher), ["two"]);
    assert_eq!(spool(&publisher).stats().segments, before, "two wants it all");
    assert!(soon(spool(&publisher).drop_name("two")).await.expect("saved"));
    // What was kept for it alone goes.
    until(|| spool(&publisher).stats().segments < before).await;
}

#[tokio::test]
#[ignore = "looked for once an hour only, and not at the start"]
async fn a_name_that_stays_away_too_long_expires() {
    let dir = Dir::new();
    let publisher = open(&dir).await;
    let short = subscriber("short").holder_expiry(Duration::from_secs(1));
    let short = short.connect(publisher.local_endpoint()).expect("connect");
    let long = subscriber("long").connect(publisher.local_endpoint()).expect("connect");
    let ever = subscriber("ever").holder_expiry(Duration::ZERO).connect(publisher.local_endpoint()).expect("connect");
    for name in ["short", "long", "ever"] {
        held(spool(&publisher), name).await;
    }
    drop((short, long, ever));
    for name in ["short", "long", "ever"] {
        left(spool(&publisher), name).await;
    }
    let expires = |name: &str| {
        let names = spool(&publisher).names();
        names.into_iter().find(|known| known.name == name).expect("a name").expires_in
    };
    assert!(expires("short").expect("it expires") <= Duration::from_secs(1));
    assert!(expires("long").expect("it expires") > Duration::from_secs(6 * 24 * 3600));
    assert_eq!(expires("ever"), None);
    let there = publisher.local_endpoint().expect("bound");
    soon(publisher.close()).await;
    drop(publisher);
    // Time has to pass for this one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let publisher = crate::durable::publisher(&dir.spool()).build().expect("a spool");
    let mut monitor = publisher.monitor();
    bind_again(&publisher, &there).await;
    event(&mut monitor, |event| *event == Event::NameExpired { name: "short".to_owned() }).await;
    until(|| known(&publisher) == ["ever", "long"]).await;
}

#[tokio::test]
async fn workers_share_a_queue_whatever_they_are_called() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    // A name is a label here, and may be used twice.
    let mut workers: Vec<Pull> = ["same", "same", "other"]
        .map(|name| worker(name).recv_hwm(5).connect(push.local_endpoint()).expect("connect"))
        .into();
    until(|| push.spool().expect("a spool").names()[0].connections == 3).await;
    send_words(&push, 0..300).await;
    let (mut seen, mut parts) = (Vec::new(), [0; 3]);
    soon(async {
        while seen.len() < 300 {
            let [one, two, three] = workers.as_mut_slice() else { panic!("three") };
            let (which, delivery) = tokio::select! {
                delivery = one.recv_delivery() => (0, delivery),
                delivery = two.recv_delivery() => (1, delivery),
                delivery = three.recv_delivery() => (2, delivery),
            };
            let delivery = delivery.expect("a delivery");
            assert_eq!(delivery.tries(), 1);
            seen.push(Word::of(delivery.message()).at);
            parts[which] += 1;
        }
    })
    .await;
    assert!(parts.iter().all(|&part| part > 0), "{parts:?}");
    workers.iter_mut().for_each(|worker| worker.ack_last());
    seen.sort_unstable();
    assert_eq!(seen, places(0..300), "each to one of them");
    done(push.spool().expect("a spool"), "", 300).await;
    let error = soon(push.spool().expect("a spool").declare("name", [""])).await.expect_err("a PUSH has no names");
    assert!(matches!(error, SpoolError::Refused(_)), "{error}");
}

#[tokio::test]
async fn what_a_lost_worker_had_goes_to_the_next_one() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let spool = push.spool().expect("a spool").clone();
    let mut first = worker("first").ack(Ack::Manual).recv_hwm(10).connect(push.local_endpoint()).expect("connect");
    until(|| spool.names()[0].connections == 1).await;
    send_words(&push, 0..20).await;
    let mut got = deliveries(&mut first, 10).await;
    got.drain(..3).for_each(Delivery::ack);
    done(&spool, "", 3).await;
    drop(first);
    until(|| spool.names()[0].connections == 0).await;
    drop(got);
    let mut second = worker("second").ack(Ack::Manual).connect(push.local_endpoint()).expect("connect");
    let rest = deliveries(&mut second, 17).await;
    let tried: Vec<(u32, bool)> =
        rest.iter().map(|delivery| (Word::of(delivery.message()).at, delivery.tries() > 1)).collect();
    // What came back goes first. The first worker may have been sent more when it had finished some.
    assert_eq!(tried.iter().map(|(at, _)| *at).collect::<Vec<u32>>(), places(3..20));
    assert!(tried[..7].iter().all(|&(_, again)| again), "{tried:?}");
    rest.into_iter().for_each(Delivery::ack);
    done(&spool, "", 20).await;
}
