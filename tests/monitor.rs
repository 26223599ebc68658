//! Events tell what happened, in order; a monitor that lags is told so and holds nobody up.

mod common;

use std::time::Duration;

use common::raw::Raw;
use common::*;
use ginnel::*;

/// The names of all events until the socket's end.
async fn names(mut monitor: Monitor) -> Vec<&'static str> {
    let mut names = Vec::new();
    while let Some(event) = soon(monitor.recv()).await {
        names.push(event.name());
    }
    names
}

#[tokio::test]
async fn p02_a_life_in_events() {
    for transport in TRANSPORTS {
        let pull = Pull::new();
        let (bound_side, there) = (pull.monitor(), pull.bind_to(place(transport)).await.unwrap());
        let push = Push::builder().reconnect(QUICK, QUICK).build().unwrap();
        let connected_side = push.monitor();
        push.connect_to(&there).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        soon(pull.wait_for_peers(1)).await.unwrap();
        soon(push.close()).await;
        until(|| pull.peers().is_empty()).await;
        soon(pull.close()).await;
        assert_eq!(names(connected_side).await, ["Connected", "Disconnected"], "{transport}");
        let names = names(bound_side).await;
        assert_eq!(names[..3], ["Listening", "Connected", "Disconnected"], "{transport}");
        assert_eq!(names[3..].iter().filter(|&&name| name != "Stopped").count(), 0, "{names:?}");
    }
}

#[tokio::test]
async fn p02_connected_names_the_peer() {
    for transport in TRANSPORTS {
        let router = Router::new();
        let mut monitor = router.monitor();
        let there = router.bind_to(place(transport)).await.unwrap();
        let listening = event(&mut monitor, |_| true).await;
        assert_eq!(listening, Event::Listening { endpoint: there.to_string() });
        let _dealer = Dealer::builder().identity("me").connect(&there).unwrap();
        let connected = event(&mut monitor, |_| true).await;
        let Event::Connected { peer, id, socket_type } = connected else { panic!("{connected:?}") };
        assert_eq!((id, socket_type), (Frame::from("me"), Some(SocketType::Dealer)));
        assert_eq!(peer, only_peer(&router).address);
    }
}

#[tokio::test]
async fn p02_each_side_gives_its_reason() {
    for transport in TRANSPORTS {
        let pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::builder().no_reconnect().connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        soon(pull.wait_for_peers(1)).await.unwrap();
        let (mut far, mut near) = (pull.monitor(), push.monitor());
        soon(pull.close()).await;
        let reason_of = |event| match event {
            Event::Disconnected { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        let gone = |event: &Event| matches!(event, Event::Disconnected { .. });
        assert_eq!(reason_of(event(&mut far, gone).await), Reason::Local, "{transport}");
        assert_eq!(reason_of(event(&mut near, gone).await), Reason::PeerClosed, "{transport}");
    }
}

#[tokio::test]
async fn p02_incompatible_types_refuse_each_other() {
    for transport in TRANSPORTS {
        let publisher = Pub::bind(place(transport)).await.unwrap();
        let pull = Pull::new();
        let (mut far, mut near) = (publisher.monitor(), pull.monitor());
        pull.connect_to(publisher.local_endpoint()).unwrap();
        let refused = |event: &Event| matches!(event, Event::Refused { .. });
        let Event::Refused { phase, reason, .. } = event(&mut far, refused).await else { unreachable!() };
        assert_eq!(phase, Phase::Handshake);
        assert!(matches!(reason, Reason::IncompatibleType | Reason::PeerError(_) | Reason::PeerClosed), "{reason:?}");
        let Event::Refused { phase, reason, .. } = event(&mut near, refused).await else { unreachable!() };
        assert_eq!(phase, Phase::Handshake);
        assert!(matches!(reason, Reason::IncompatibleType | Reason::PeerError(_) | Reason::PeerClosed), "{reason:?}");
        // A refusal is not tried again soon.
        let retry = event(&mut near, |event| matches!(event, Event::Retrying { .. })).await;
        let Event::Retrying { after, .. } = retry else { unreachable!() };
        assert!(after >= Duration::from_secs(20), "{transport}: {after:?}");
        assert!(publisher.peers().is_empty());
    }
}

#[tokio::test]
async fn p02_marks_are_told_when_reached_and_when_cleared() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let push = Push::builder().send_hwm(4).reconnect(QUICK, QUICK).build().unwrap();
        let mut monitor = push.monitor();
        push.connect_to(&there).unwrap();
        while push.try_send("x").is_ok() {}
        event(&mut monitor, |event| matches!(event, Event::HwmReached { .. })).await;
        let mut pull = Pull::new();
        bind_again(&pull, &there).await;
        for _ in 0..4 {
            soon(pull.recv()).await.unwrap();
        }
        event(&mut monitor, |event| matches!(event, Event::HwmCleared { .. })).await;
    }
}

#[tokio::test]
async fn p02_subscriptions_are_told() {
    for transport in TRANSPORTS {
        let publisher = Pub::bind(place(transport)).await.unwrap();
        let mut monitor = publisher.monitor();
        let sub = Sub::connect(publisher.local_endpoint()).unwrap();
        sub.subscribe("topic").unwrap();
        sub.subscribe("topic").unwrap();
        let told = event(&mut monitor, |event| matches!(event, Event::Subscribed { .. })).await;
        assert!(matches!(told, Event::Subscribed { topic, .. } if topic == "topic"));
        sub.unsubscribe("topic").unwrap();
        sub.unsubscribe("topic").unwrap();
        let told = event(&mut monitor, |event| !matches!(event, Event::Connected { .. })).await;
        assert!(matches!(&told, Event::Unsubscribed { topic, .. } if *topic == "topic"), "{transport}: {told:?}");
    }
}

#[tokio::test]
async fn p02_an_unanswered_request_is_told() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let mut monitor = rep.monitor();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let asking = tokio::spawn(req.request("x").into_future());
        drop(soon(rep.recv()).await.unwrap());
        event(&mut monitor, |event| matches!(event, Event::Unanswered { .. })).await;
        asking.abort();
    }
}

#[tokio::test]
async fn p06_drops_are_told_merged_and_complete() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut monitor = publisher.monitor();
    for _ in 0..5000 {
        let _ = publisher.send("to nobody").await.unwrap();
    }
    let (mut events, mut told) = (0, 0);
    while told < 5000 {
        let dropped = event(&mut monitor, |event| matches!(event, Event::Dropped { .. })).await;
        let Event::Dropped { reason, count, peer } = dropped else { unreachable!() };
        assert_eq!((reason, peer.as_str()), (DropReason::NoPeer, ""));
        told += count;
        events += 1;
    }
    assert_eq!(told, 5000);
    assert!(events < 50, "5000 drops in {events} events");
}

#[tokio::test]
async fn p06_merged_drops_are_told_before_the_end() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut monitor = publisher.monitor();
    for _ in 0..100 {
        let _ = publisher.send("to nobody").await.unwrap();
    }
    soon(publisher.close()).await;
    let mut told = 0;
    while let Some(event) = soon(monitor.recv()).await {
        if let Event::Dropped { count, .. } = event {
            told += count;
        }
    }
    assert_eq!(told, 100);
}

#[tokio::test]
async fn p06_a_lagging_monitor_is_told_what_it_missed() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut lagging = publisher.monitor();
    let mut raw = soon(Raw::connect(&publisher.local_endpoint().unwrap().to_string(), "SUB")).await;
    for at in 0..3000u32 {
        let mut body = b"\x01".to_vec();
        body.extend_from_slice(&at.to_be_bytes());
        raw.send(&[&body]).await;
    }
    until(|| publisher.peers().iter().any(|peer| peer.subscriptions == 3000)).await;
    let Some(Event::Missed { count }) = lagging.try_recv() else { panic!("Missed comes first") };
    let mut kept = Vec::new();
    while let Some(event) = lagging.try_recv() {
        match event {
            Event::Subscribed { topic, .. } => kept.push(u32::from_be_bytes(topic[..].try_into().unwrap())),
            other => panic!("the newest are kept, not {other:?}"),
        }
    }
    assert_eq!(kept.len(), 1024);
    assert!(kept.iter().copied().eq(3000 - 1024..3000));
    // All that came: the connection and the subscriptions.
    assert_eq!(count + 1024, 3001);
}

#[tokio::test]
async fn p06_a_monitor_holds_nobody_up_and_nobody_back() {
    let mut pull = Pull::bind("tcp://127.0.0.1:0").await.unwrap();
    let never_read = pull.monitor();
    let push = Push::connect(pull.local_endpoint()).unwrap();
    for at in 0..3000 {
        let _ = soon(push.send(numbered(at))).await.unwrap();
        assert_eq!(number(&soon(pull.recv()).await.unwrap()), at);
    }
    drop(never_read);
    soon(pull.close()).await;
}
