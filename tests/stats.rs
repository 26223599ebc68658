//! What a socket says about itself is true: counters per peer and in total, before and after peers leave.

mod common;

use std::time::Duration;

use common::raw::Raw;
use common::*;
use ginnel::*;

#[tokio::test]
async fn p06_both_sides_count_the_same() {
    for transport in TRANSPORTS {
        let mut pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        for at in 0..500 {
            let _ = push.send((vec![0; at], "tail")).await.unwrap();
        }
        soon(push.flush()).await.unwrap();
        for _ in 0..500 {
            soon(pull.recv()).await.unwrap();
        }
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty));
        until(|| only_peer(&push).queued == 0).await;
        let (sent, received) = (only_peer(&push), only_peer(&pull));
        assert_eq!((sent.messages_sent, received.messages_received), (500, 500), "{transport}");
        assert_eq!(sent.bytes_sent, received.bytes_received, "{transport}");
        assert!(sent.bytes_sent >= (0..500).sum::<u64>() + 4 * 500);
        assert_eq!((received.unread, sent.messages_received, received.messages_sent), (0, 0, 0));
        assert_eq!((sent.drops, received.drops), (Drops::default(), Drops::default()));
    }
}

#[tokio::test]
async fn p06_totals_outlive_the_peers() {
    for transport in TRANSPORTS {
        let mut pull = Pull::bind(place(transport)).await.unwrap();
        let (mut messages, mut bytes) = (0, 0);
        for count in 1..=5 {
            let push = Push::connect(pull.local_endpoint()).unwrap();
            for _ in 0..count {
                let _ = push.send("four").await.unwrap();
                messages += 1;
            }
            soon(push.close()).await;
            for _ in 0..count {
                soon(pull.recv()).await.unwrap();
            }
            let stats = push.stats();
            assert_eq!(stats.messages_sent, count, "{transport}");
            bytes += stats.bytes_sent;
            assert!(stats.peers.is_empty());
        }
        until(|| pull.peers().is_empty()).await;
        // What was read is reported when nothing is left to read.
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty));
        let stats = pull.stats();
        assert_eq!((stats.messages_received, stats.bytes_received), (messages, bytes), "{transport}");
        assert_eq!(stats.drops.total(), 0);
    }
}

#[tokio::test]
async fn p06_a_peer_is_described() {
    for transport in TRANSPORTS {
        let router = Router::builder().send_hwm(7).recv_hwm(9).bind(place(transport)).await.unwrap();
        let there = router.local_endpoint().unwrap();
        let dealer = Dealer::builder().send_hwm(1).recv_hwm(2).identity("me").connect(&there).unwrap();
        soon(router.wait_for_peers(1)).await.unwrap();
        soon(dealer.wait_for_peers(1)).await.unwrap();
        let (of_router, of_dealer) = (only_peer(&router), only_peer(&dealer));
        assert_eq!(of_router.id, "me");
        assert_eq!(of_router.socket_type, Some(SocketType::Dealer));
        assert_eq!(of_dealer.socket_type, Some(SocketType::Router));
        assert!(of_router.connected && of_dealer.connected);
        assert_eq!(of_dealer.address, there.to_string());
        let joined = transport == "inproc";
        assert_eq!(of_router.send_hwm, if joined { 7 + 2 } else { 7 }, "{transport}");
        assert_eq!(of_dealer.send_hwm, if joined { 1 + 9 } else { 1 }, "{transport}");
        assert_eq!(of_router.reconnects, 0);
        assert_eq!((of_router.subscriptions, of_router.round_trip), (0, None));
    }
}

#[tokio::test]
async fn p06_an_expected_peer_is_listed_before_it_is_there() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let push = Push::builder().linger(Duration::ZERO).connect(&there).unwrap();
        let _ = push.send("waits").await.unwrap();
        let peer = only_peer(&push);
        assert_eq!((peer.connected, peer.queued, peer.messages_sent, peer.socket_type), (false, 1, 0, None));
        assert_eq!(peer.address, there.to_string(), "{transport}");
    }
}

#[tokio::test]
async fn p06_unread_falls_as_it_is_read() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().recv_hwm(10).bind(place(transport)).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        for at in 0..10 {
            let _ = push.send(numbered(at)).await.unwrap();
        }
        until(|| pull.peers().iter().any(|peer| peer.unread == 10)).await;
        for read in 1..=10 {
            soon(pull.recv()).await.unwrap();
            let unread = only_peer(&pull).unread;
            // Reported when half of the mark was read, or when nothing is left.
            assert!(unread >= 10 - read && unread <= 15 - read, "{transport}: {unread} after {read}");
        }
        assert_eq!(only_peer(&pull).unread, 0, "{transport}");
        until(|| only_peer(&push).queued == 0).await;
    }
}

#[tokio::test]
async fn p06_subscriptions_are_counted_once_each() {
    for transport in TRANSPORTS {
        let publisher = Pub::bind(place(transport)).await.unwrap();
        let sub = Sub::builder().subscribe("a").connect(publisher.local_endpoint()).unwrap();
        for topic in ["a", "b", "b", "c"] {
            sub.subscribe(topic).unwrap();
        }
        assert_eq!(sub.subscriptions().topic_count(), 3);
        until(|| publisher.peers().iter().any(|peer| peer.subscriptions == 3)).await;
        for topic in ["a", "b", "nothing"] {
            sub.unsubscribe(topic).unwrap();
        }
        sub.unsubscribe("c").unwrap();
        until(|| only_peer(&publisher).subscriptions == 2).await;
        sub.unsubscribe("a").unwrap();
        sub.unsubscribe("b").unwrap();
        until(|| only_peer(&publisher).subscriptions == 0).await;
    }
}

#[tokio::test]
async fn p06_heartbeats_measure_the_round_trip() {
    for transport in WIRES {
        let pull = Pull::bind(place(transport)).await.unwrap();
        let builder = Push::builder().heartbeat(Duration::from_millis(5), DEADLINE);
        let push = builder.connect(pull.local_endpoint()).unwrap();
        until(|| only_peer(&push).round_trip.is_some()).await;
    }
}

#[tokio::test]
async fn p06_wire_bytes_are_those_on_the_wire() {
    let push = Push::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut raw = soon(Raw::connect(&push.local_endpoint().unwrap().to_string(), "PULL")).await;
    let mut wire = 0;
    for size in [0, 1, 255, 256, 8191, 32_767, 32_768, 100_000] {
        let body = vec![1; size];
        wire += common::raw::encode(&[&body, b"tail"]).len() as u64;
        let _ = soon(push.send((body.clone(), "tail"))).await.unwrap();
        assert_eq!(soon(raw.message()).await.unwrap(), [body, b"tail".to_vec()]);
    }
    soon(push.flush()).await.unwrap();
    assert_eq!(only_peer(&push).bytes_sent, wire);
}
