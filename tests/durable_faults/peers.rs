//! Peers of the other kind: plain ones on durable sockets, durable ones on plain sockets.

use ginnel::*;

use crate::common::raw::Raw;
use crate::common::*;
use crate::durable::*;

fn is_plain_peer(event: &Event) -> bool {
    matches!(event, Event::PlainPeer { .. })
}

#[tokio::test]
async fn d09_a_plain_subscriber_gets_what_is_published_from_then_on() {
    for transport in WIRES {
        let dir = Dir::new();
        let builder = publisher(&dir.spool()).declare("all", [""]);
        let publisher = builder.bind(place(transport)).await.expect("a spool");
        let mut monitor = publisher.monitor();
        send_words(&publisher, 0..10).await;
        let mut sub = Sub::builder().subscribe("topic").connect(publisher.local_endpoint()).expect("connect");
        event(&mut monitor, is_plain_peer).await;
        soon(publisher.wait_for_subscribers(1)).await.expect("open");
        send_words(&publisher, 10..500).await;
        for at in 10..500 {
            let delivery = soon(sub.recv_delivery()).await.expect("a message");
            assert_eq!(Word::of(delivery.message()).at, at);
            assert!(!delivery.is_durable());
            assert_eq!((delivery.sequence(), delivery.token(), delivery.tries()), (None, None, 1));
        }
        // It is no name, and its going is no loss.
        assert_eq!(publisher.spool().expect("a spool").names().len(), 1);
        drop(sub);
        send_words(&publisher, 500..510).await;
        let mut durable = subscriber("all").connect(publisher.local_endpoint()).expect("connect");
        assert_eq!(take(&mut durable, 510).await, places(0..510));
    }
}

#[tokio::test]
async fn d09_a_plain_subscriber_gets_what_it_wants_only() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let mut sub = Sub::builder().subscribe("a").connect(publisher.local_endpoint()).expect("connect");
    soon(publisher.wait_for_subscribers(1)).await.expect("open");
    for topic in ["a1", "b1", "a2"] {
        let _ = soon(publisher.send(topic)).await.expect("accepted");
    }
    assert_eq!(soon(sub.recv()).await.expect("a message")[0].to_str(), Ok("a1"));
    assert_eq!(soon(sub.recv()).await.expect("a message")[0].to_str(), Ok("a2"));
    // Another transport's end of the same.
    let mut monitor = publisher.monitor();
    sub.subscribe("b").expect("open");
    event(&mut monitor, |event| matches!(event, Event::Subscribed { .. })).await;
    for topic in ["a3", "b3"] {
        let _ = soon(publisher.send(topic)).await.expect("accepted");
    }
    assert_eq!(soon(sub.recv()).await.expect("a message")[0].to_str(), Ok("a3"));
    assert_eq!(soon(sub.recv()).await.expect("a message")[0].to_str(), Ok("b3"));
}

#[tokio::test]
async fn d09_a_stock_subscriber_sees_nothing_but_messages() {
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let mut raw = soon(Raw::connect(&publisher.local_endpoint().expect("bound").to_string(), "SUB")).await;
    raw.write(b"\x00\x01\x01").await;
    soon(publisher.wait_for_subscribers(1)).await.expect("open");
    send_words(&publisher, 0..20).await;
    for word in words(0..20) {
        for (index, expected) in word.message().iter().enumerate() {
            let (flags, body) = soon(raw.frame()).await.expect("a frame");
            assert_eq!(flags & 4, 0, "no command may reach it: {body:?}");
            assert_eq!((flags & 1, &body[..]), (u8::from(index == 0), &expected[..]));
        }
    }
}

#[tokio::test]
async fn d09_a_durable_subscriber_on_a_plain_publisher_is_a_plain_one() {
    let publisher = Pub::bind(place("tcp")).await.expect("bind");
    let mut sub = subscriber("all").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(publisher.local_endpoint()).expect("connect");
    event(&mut monitor, is_plain_peer).await;
    soon(publisher.wait_for_subscribers(1)).await.expect("open");
    for word in words(0..10) {
        let _ = soon(publisher.send(word.message())).await.expect("sent");
    }
    for at in 0..10 {
        let delivery = soon(sub.recv_delivery()).await.expect("a message");
        assert_eq!(Word::of(delivery.message()).at, at);
        assert!(!delivery.is_durable());
        // There is nothing to acknowledge, and saying so is no mistake.
        delivery.ack();
    }
    assert!(!soon(sub.drop_name()).await, "there is no name to give up");
}

#[tokio::test]
async fn who_requires_durability_does_without_plain_peers() {
    let there = later("tcp").await;
    let plain = Pub::new();
    bind_again(&plain, &there).await;
    let mut sub = subscriber("all").require_durable(true).build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(&there).expect("connect");
    event(&mut monitor, is_plain_peer).await;
    event(&mut monitor, |event| end(event) == Some(&Reason::IncompatibleType)).await;
    soon(plain.send("x")).await.expect("to nobody");
    assert!(sub.try_recv().is_err());
    soon(plain.close()).await;
    drop(plain);
    // As soon as there is a spool it is content.
    let dir = Dir::new();
    let durable = publisher(&dir.spool()).declare("all", [""]).build().expect("a spool");
    bind_again(&durable, &there).await;
    send_words(&durable, 0..5).await;
    assert_eq!(take(&mut sub, 5).await, places(0..5));
}

#[tokio::test]
async fn d09_a_plain_worker_gets_nothing_of_a_durable_push() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).bind(place("tcp")).await.expect("a spool");
    let mut monitor = push.monitor();
    let mut plain = Pull::connect(push.local_endpoint()).expect("connect");
    event(&mut monitor, is_plain_peer).await;
    send_words(&push, 0..10).await;
    assert!(plain.try_recv().is_err());
    // One that can acknowledge gets all of it.
    let mut durable = worker("one").connect(push.local_endpoint()).expect("connect");
    assert_eq!(take(&mut durable, 10).await, places(0..10));
    durable.ack_last();
    done(push.spool().expect("a spool"), "", 10).await;
    assert!(plain.try_recv().is_err());
}

#[tokio::test]
async fn d09_a_plain_worker_is_served_on_request() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).plain_pull(true).bind(place("tcp")).await.expect("a spool");
    send_words(&push, 0..200).await;
    let mut plain = Pull::connect(push.local_endpoint()).expect("connect");
    assert_eq!(take(&mut plain, 200).await, places(0..200));
    // Done when the operating system took it.
    done(push.spool().expect("a spool"), "", 200).await;
    send_words(&push, 200..400).await;
    assert_eq!(take(&mut plain, 200).await, places(200..400));
    done(push.spool().expect("a spool"), "", 400).await;
}

#[tokio::test]
async fn d09_plain_and_durable_workers_share_on_request() {
    let dir = Dir::new();
    let push = pusher(&dir.spool()).plain_pull(true).bind(place("tcp")).await.expect("a spool");
    let mut plain = Pull::connect(push.local_endpoint()).expect("connect");
    let mut durable = worker("one").connect(push.local_endpoint()).expect("connect");
    until(|| push.spool().expect("a spool").names()[0].connections == 2).await;
    send_words(&push, 0..200).await;
    let mut got = Vec::new();
    while got.len() < 200 {
        let message = soon(async {
            tokio::select! {
                message = plain.recv() => message,
                message = durable.recv() => message,
            }
        })
        .await;
        got.push(Word::of(&message.expect("a message")).at);
    }
    got.sort_unstable();
    assert_eq!(got, places(0..200));
    durable.ack_last();
    done(push.spool().expect("a spool"), "", 200).await;
}

#[tokio::test]
async fn d09_a_durable_worker_on_a_plain_push_is_a_plain_one() {
    let push = Push::bind(place("tcp")).await.expect("bind");
    let mut pull = worker("one").connect(push.local_endpoint()).expect("connect");
    for word in words(0..10) {
        let _ = soon(push.send(word.message())).await.expect("sent");
    }
    for at in 0..10 {
        let delivery = soon(pull.recv_delivery()).await.expect("a message");
        assert_eq!((Word::of(delivery.message()).at, delivery.is_durable()), (at, false));
    }
}

#[tokio::test]
async fn a_durable_socket_works_either_way_round() {
    // The spooler connects, the holder is bound.
    let dir = Dir::new();
    let mut sub = subscriber("all").bind(place("tcp")).await.expect("bind");
    let builder = publisher(&dir.spool()).declare("all", [""]).reconnect(QUICK, QUICK * 4);
    let publisher = builder.connect(sub.local_endpoint()).expect("a spool");
    send_words(&publisher, 0..100).await;
    assert_eq!(take(&mut sub, 100).await, places(0..100));
    sub.ack_last();
    done(publisher.spool().expect("a spool"), "all", 100).await;
}

#[tokio::test]
async fn inproc_has_no_place_for_a_spool() {
    let dir = Dir::new();
    let bound = publisher(&dir.spool()).bind(place("inproc")).await.expect_err("no bytes, no spool");
    assert!(matches!(&bound, BindError::Option(option) if option.name() == "inproc"), "{bound}");
    let connected = subscriber("all").connect(place("inproc")).expect_err("no bytes, no spool");
    assert!(matches!(&connected, ConnectError::Option(option) if option.name() == "inproc"), "{connected}");
}
