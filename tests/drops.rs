//! Loss is counted: every message that does not arrive has a reason, and the counters add up.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::raw::Raw;
use common::*;
use ginnel::*;

fn body() -> Frame {
    static BODY: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| Bytes::from(vec![0; 50_000]));
    Frame::from(BODY.clone())
}

/// A numbered message that fills kernels soon.
fn bulky(at: u32) -> Message {
    Message::from((body(), at.to_be_bytes()))
}

fn dropped(socket: &Socket, reason: DropReason) -> u64 {
    socket.stats().drops.get(reason)
}

fn tight<S: Buildable>(builder: Builder<S>, mark: usize) -> Builder<S> {
    builder.hwm(mark).send_buffer(16 * 1024).recv_buffer(16 * 1024).linger(Duration::ZERO)
}

/// Reads what comes until `last`; gives all numbers.
async fn numbers_until(receiver: &mut Receiver, last: u32) -> Vec<u32> {
    let mut got = Vec::new();
    while got.last() != Some(&last) {
        got.push(number(&soon(receiver.recv()).await.expect("open")));
    }
    assert!(got.is_sorted_by(|a, b| a < b), "in order, each once: {got:?}");
    got
}

/// A publisher and a subscriber that does not read, until something was dropped; then how many were sent.
async fn overrun(publisher: &Pub, count: u32) -> u32 {
    let mut sent = 0;
    while dropped(publisher, DropReason::HwmReached) == 0 {
        for _ in 0..count {
            let _ = publisher.send(bulky(sent)).await.expect("a publisher does not wait");
            sent += 1;
        }
        others_run().await;
        assert!(sent < 10_000, "nothing is dropped");
    }
    sent
}

#[tokio::test]
async fn p06_a_slow_subscriber_misses_the_newest_counted() {
    for transport in TRANSPORTS {
        let publisher = tight(Pub::builder(), 5).bind(place(transport)).await.unwrap();
        let mut sub = tight(Sub::builder(), 5).subscribe("").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let mut sent = overrun(&publisher, 20).await;
        // It drains and takes part again: the last number arrives.
        let mut got = Vec::new();
        until(|| {
            while let Ok(message) = sub.try_recv() {
                got.push(number(&message));
            }
            only_peer(&publisher).queued == 0
        })
        .await;
        let _ = publisher.send(bulky(sent)).await.unwrap();
        got.extend(numbers_until(&mut sub, sent).await);
        sent += 1;
        assert!(got.is_sorted_by(|a, b| a < b));
        let lost = dropped(&publisher, DropReason::HwmReached);
        assert!(lost > 0);
        assert_eq!(got.len() as u64 + lost, u64::from(sent), "{transport}");
        assert_eq!(publisher.stats().drops.total(), lost);
    }
}

#[tokio::test]
async fn p06_drop_oldest_keeps_the_newest_counted() {
    for transport in TRANSPORTS {
        let builder = tight(Pub::builder(), 5).on_full(OnFull::DropOldest);
        let publisher = builder.bind(place(transport)).await.unwrap();
        let mut sub = tight(Sub::builder(), 5).subscribe("").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let sent = overrun(&publisher, 20).await;
        let got = numbers_until(&mut sub, sent - 1).await;
        assert_eq!(got.len() as u64 + dropped(&publisher, DropReason::HwmReached), u64::from(sent), "{transport}");
        assert!(got.ends_with(&[sent - 3, sent - 2, sent - 1]), "{transport}: the newest are there: {got:?}");
    }
}

#[tokio::test]
async fn p06_a_push_that_drops_oldest_keeps_the_newest() {
    for transport in TRANSPORTS {
        let builder = tight(Push::builder(), 5).on_full(OnFull::DropOldest);
        let there = later(transport).await;
        let push = builder.reconnect(QUICK, QUICK).connect(&there).unwrap();
        for at in 0..20 {
            let _ = push.send(numbered(at)).await.unwrap();
            assert!(only_peer(&push).queued <= 5);
        }
        assert_eq!(dropped(&push, DropReason::HwmReached), 15, "{transport}");
        let mut pull = Pull::new();
        bind_again(&pull, &there).await;
        assert_eq!(numbers_until(&mut pull, 19).await, [15, 16, 17, 18, 19], "{transport}");
    }
}

#[tokio::test]
async fn p06_a_push_that_drops_newest_keeps_the_oldest() {
    for transport in TRANSPORTS {
        let builder = tight(Push::builder(), 5).on_full(OnFull::DropNewest);
        let push = builder.reconnect(QUICK, QUICK).build().unwrap();
        let _ = push.send("to nobody").await.unwrap();
        assert_eq!(dropped(&push, DropReason::NoPeer), 1, "{transport}");
        let there = later(transport).await;
        push.connect_to(&there).unwrap();
        for at in 0..20 {
            let _ = push.send(numbered(at)).await.unwrap();
        }
        assert_eq!(dropped(&push, DropReason::HwmReached), 15, "{transport}");
        let mut pull = Pull::new();
        bind_again(&pull, &there).await;
        assert_eq!(numbers_until(&mut pull, 4).await, [0, 1, 2, 3, 4], "{transport}");
    }
}

#[tokio::test]
async fn p06_a_slow_peer_is_disconnected_where_that_is_wished() {
    for transport in TRANSPORTS {
        let builder = tight(Pub::builder(), 5).on_full(OnFull::Disconnect);
        let publisher = builder.bind(place(transport)).await.unwrap();
        let mut monitor = publisher.monitor();
        let builder = tight(Sub::builder(), 5).subscribe("").no_reconnect();
        let mut slow = builder.connect(publisher.local_endpoint()).unwrap();
        let mut quick = Sub::builder().subscribe("").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(2)).await.unwrap();
        let mut sent = 0;
        let mut got = 0;
        while publisher.peers().len() == 2 {
            let _ = publisher.send(bulky(sent)).await.unwrap();
            sent += 1;
            while got < sent {
                assert_eq!(number(&soon(quick.recv()).await.unwrap()), got, "{transport}");
                got += 1;
            }
            assert!(sent < 5000, "{transport}: the slow one is never disconnected");
        }
        event(&mut monitor, |event| matches!(event, Event::Disconnected { reason: Reason::HwmReached, .. })).await;
        let mut held = 0;
        until(|| {
            while slow.try_recv().is_ok() {
                held += 1;
            }
            slow.peers().iter().all(|peer| !peer.connected)
        })
        .await;
        while slow.try_recv().is_ok() {
            held += 1;
        }
        let stats = publisher.stats();
        let lost = stats.drops.total();
        assert!(lost > 0 && held + lost <= u64::from(sent), "{transport}: {held} + {lost} of {sent}");
    }
}

#[tokio::test]
async fn p06_what_nobody_wants_is_counted() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let _ = publisher.send("to nobody").await.unwrap();
    assert_eq!(dropped(&publisher, DropReason::NoPeer), 1);
    let router = Router::bind("tcp://127.0.0.1:0").await.unwrap();
    let _ = router.send_to(&PeerId::from(&b"nobody"[..]), "x").await.unwrap();
    assert!(router.try_send_to(&PeerId::from(&b"nobody"[..]), "x").is_ok());
    assert_eq!(dropped(&router, DropReason::NoRoute), 2);
}

#[tokio::test]
async fn p06_a_router_counts_what_a_full_peer_misses() {
    for transport in TRANSPORTS {
        let router = tight(Router::builder(), 5).bind(place(transport)).await.unwrap();
        let mut dealer = tight(Dealer::builder(), 5).identity("slow").connect(router.local_endpoint()).unwrap();
        soon(router.wait_for_peers(1)).await.unwrap();
        let slow = PeerId::from(&b"slow"[..]);
        let mut sent = 0;
        while dropped(&router, DropReason::HwmReached) == 0 {
            let _ = router.send_to(&slow, bulky(sent)).await.unwrap();
            sent += 1;
        }
        let mut got = Vec::new();
        until(|| {
            while let Ok(message) = dealer.try_recv() {
                got.push(number(&message));
            }
            only_peer(&router).queued == 0
                && got.len() as u64 + dropped(&router, DropReason::HwmReached) >= u64::from(sent)
        })
        .await;
        assert_eq!(got.len() as u64 + dropped(&router, DropReason::HwmReached), u64::from(sent), "{transport}");
        assert!(got.is_sorted_by(|a, b| a < b));
    }
}

#[tokio::test]
async fn p06_replies_that_find_nobody_are_counted() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let asking = tokio::spawn(req.request("x").into_future());
        let request = soon(rep.recv()).await.unwrap();
        asking.abort();
        let _ = asking.await;
        soon(req.close()).await;
        until(|| rep.peers().is_empty()).await;
        let error = request.reply("nobody").await.unwrap_err();
        assert!(matches!(&error, SendError::NoRoute(message) if message[0] == "nobody"), "{error:?}");
        assert_eq!(dropped(&rep, DropReason::PeerGone), 1, "{transport}");
    }
}

#[tokio::test]
async fn p06_late_replies_are_counted() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let late = tokio::spawn(req.request("late").into_future());
        let request = soon(rep.recv()).await.unwrap();
        late.abort();
        let _ = late.await;
        let _ = request.reply("too late").await.unwrap();
        let next = tokio::spawn(req.request("next").into_future());
        let request = soon(rep.recv()).await.unwrap();
        let _ = request.reply("in time").await.unwrap();
        assert_eq!(soon(next).await.unwrap().unwrap()[0], "in time");
        until(|| dropped(&req, DropReason::Late) == 1).await;
    }
}

#[tokio::test]
async fn p06_what_has_no_envelope_is_counted() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let mut dealer = Dealer::connect(rep.local_endpoint()).unwrap();
        let _ = dealer.send("no delimiter").await.unwrap();
        let _ = dealer.send(("", "good")).await.unwrap();
        let request = soon(rep.recv()).await.unwrap();
        assert_eq!(request.message()[0], "good");
        let _ = request.reply("fine").await.unwrap();
        assert_eq!(soon(dealer.recv()).await.unwrap()[1], "fine");
        assert_eq!(dropped(&rep, DropReason::Malformed), 1, "{transport}");

        let mut router = Router::bind(place(transport)).await.unwrap();
        let req = Req::connect(router.local_endpoint()).unwrap();
        let asking = tokio::spawn(req.request("x").into_future());
        let (peer, message) = soon(router.recv()).await.unwrap();
        let _ = router.send_to(&peer, "no delimiter").await.unwrap();
        let _ = router.send_to(&peer, message).await.unwrap();
        assert_eq!(soon(asking).await.unwrap().unwrap()[0], "x");
        assert_eq!(dropped(&req, DropReason::Malformed), 1, "{transport}");
    }
}

#[tokio::test]
async fn p06_a_direction_without_use_is_read_and_counted() {
    let push = Push::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut raw = soon(Raw::connect(&push.local_endpoint().unwrap().to_string(), "PULL")).await;
    for _ in 0..5000 {
        raw.send(&[b"a PULL", b"does not send"]).await;
    }
    until(|| dropped(&push, DropReason::Unused) == 5000).await;
    let _ = push.send("still fine").await.unwrap();
    assert_eq!(soon(raw.message()).await.unwrap(), [b"still fine"]);

    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut raw = soon(Raw::connect(&publisher.local_endpoint().unwrap().to_string(), "XSUB")).await;
    for _ in 0..5000 {
        raw.send(&[b"upstream"]).await;
    }
    until(|| dropped(&publisher, DropReason::Unused) == 5000).await;
}

#[tokio::test]
async fn p06_conflate_keeps_the_newest_and_counts_the_rest() {
    for transport in TRANSPORTS {
        // At the sender, before there is anybody.
        let there = later(transport).await;
        let push = Push::builder().conflate(true).reconnect(QUICK, QUICK).connect(&there).unwrap();
        for at in 0..100 {
            let _ = push.send(numbered(at)).await.unwrap();
        }
        let mut pull = Pull::new();
        bind_again(&pull, &there).await;
        assert_eq!(number(&soon(pull.recv()).await.unwrap()), 99, "{transport}");
        assert_eq!(dropped(&push, DropReason::HwmReached), 99, "{transport}");
    }
}

#[tokio::test]
async fn p06_a_conflating_receiver_counts_what_it_replaces() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().conflate(true).bind(place(transport)).await.unwrap();
        let pushes: Vec<Push> = (0..3).map(|_| Push::connect(pull.local_endpoint()).unwrap()).collect();
        soon(pull.wait_for_peers(3)).await.unwrap();
        let mut got = 0;
        for round in 0..100 {
            for push in &pushes {
                for at in 0..3 {
                    let _ = push.send(numbered(round * 3 + at)).await.unwrap();
                }
            }
            if round % 3 == 0 {
                others_run().await;
            }
            if pull.try_recv().is_ok() {
                got += 1;
            }
        }
        until(|| pull.stats().messages_received == 900).await;
        let mut last = Vec::new();
        while let Ok(message) = pull.try_recv() {
            last.push(number(&message));
            got += 1;
        }
        assert!(last.iter().all(|&at| at == 299), "{transport}: {last:?}");
        assert_eq!(got + dropped(&pull, DropReason::HwmReached), 900, "{transport}");
    }
}

#[tokio::test]
async fn p06_a_permit_of_a_blocking_publisher_loses_nothing_uncounted() {
    for transport in TRANSPORTS {
        let builder = tight(Pub::builder(), 2).on_full(OnFull::Block);
        let publisher = builder.bind(place(transport)).await.unwrap();
        let mut sub = tight(Sub::builder(), 2).subscribe("").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let mut sent = 0;
        for _ in 0..200 {
            let _ = soon(publisher.reserve()).await.unwrap().send(bulky(sent));
            sent += 1;
        }
        let mut got = 0;
        until(|| {
            while sub.try_recv().is_ok() {
                got += 1;
            }
            got + publisher.stats().drops.total() >= u64::from(sent)
        })
        .await;
        assert_eq!(got + publisher.stats().drops.total(), u64::from(sent), "{transport}");
    }
}
