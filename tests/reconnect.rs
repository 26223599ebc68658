//! Connections come and go; queues, subscriptions and requests survive where they promise to.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::raw::{Raw, tight_listener};
use common::*;
use ginnel::*;
use tokio::net::TcpListener;

fn quick<S: Buildable>(builder: Builder<S>) -> Builder<S> {
    builder.reconnect(QUICK, QUICK * 4)
}

#[tokio::test]
async fn p09_the_connecting_side_keeps_its_queue() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let push = quick(Push::builder()).connect(&there).unwrap();
        let mut expected = 0;
        let mut sent = 0;
        for _ in 0..4 {
            for _ in 0..50 {
                let _ = push.send(numbered(sent)).await.unwrap();
                sent += 1;
            }
            let mut pull = Pull::new();
            bind_again(&pull, &there).await;
            while expected < sent {
                assert_eq!(number(&soon(pull.recv()).await.unwrap()), expected, "{transport}");
                expected += 1;
            }
            soon(pull.close()).await;
            until(|| !only_peer(&push).connected).await;
        }
        assert!(only_peer(&push).reconnects >= 3, "{transport}");
    }
}

#[tokio::test]
async fn p09_without_queueing_nothing_waits_for_a_connection() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let push = quick(Push::builder()).queue_before_connect(false).connect(&there).unwrap();
        assert!(matches!(push.try_send("nobody"), Err(TrySendError::Full(_))), "{transport}");
        let pull = Pull::new();
        bind_again(&pull, &there).await;
        soon(push.wait_for_peers(1)).await.unwrap();
        soon(push.send("somebody")).await.unwrap();
        soon(pull.close()).await;
        until(|| !only_peer(&push).connected).await;
        assert!(matches!(push.try_send("nobody"), Err(TrySendError::Full(_))), "{transport}");
    }
}

/// A message of three frames whose every byte tells its number.
fn patterned(at: u8, size: usize) -> Message {
    let body = Bytes::from(vec![at; size]);
    Message::from((vec![at; 300], body, [at]))
}

fn is_patterned(frames: &[Vec<u8>], at: u8, size: usize) -> bool {
    let lengths: Vec<usize> = frames.iter().map(Vec::len).collect();
    lengths == [300, size, 1] && frames.iter().flatten().all(|&byte| byte == at)
}

#[tokio::test]
async fn p05_a_message_cut_in_the_middle_is_sent_whole_again() {
    const SIZE: usize = 400_000;
    for (cut, reset) in
        [(0, true), (1, false), (2, true), (9, false), (301, true), (1000, true), (150_000, false), (500_000, true)]
    {
        let listener = tight_listener().await;
        let builder = quick(Push::builder()).send_buffer(64 * 1024).linger(Duration::ZERO);
        let push = builder.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        for at in 0..8 {
            let _ = push.send(patterned(at, SIZE)).await.unwrap();
        }
        let mut raw = soon(Raw::accept(&listener, "PULL")).await;
        soon(raw.swallow(cut)).await.unwrap();
        if reset {
            raw.reset();
        } else {
            drop(raw);
        }
        let mut raw = soon(Raw::accept(&listener, "PULL")).await;
        let gone = only_peer(&push).messages_sent as u8;
        assert!(usize::from(gone) * SIZE <= cut + (1 << 20), "only what the kernel took is gone: {gone}");
        for at in gone..8 {
            let frames = soon(raw.message()).await.unwrap();
            assert!(is_patterned(&frames, at, SIZE), "cut at {cut}: message {at} is not whole");
        }
    }
}

#[tokio::test]
async fn p05_no_tail_goes_to_somebody_else() {
    const SIZE: usize = 400_000;
    let listener = tight_listener().await;
    let mut other = Pull::bind("tcp://127.0.0.1:0").await.unwrap();
    let push = quick(Push::builder()).send_buffer(64 * 1024).linger(Duration::ZERO).build().unwrap();
    push.connect_to(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    push.connect_to(other.local_endpoint()).unwrap();
    let mut raw = soon(Raw::accept(&listener, "PULL")).await;
    soon(push.wait_for_peers(2)).await.unwrap();
    let sending = {
        let push = push.clone();
        tokio::spawn(async move {
            for at in 0..60 {
                let _ = push.send(patterned(at, SIZE)).await.unwrap();
            }
        })
    };
    let mut mine = Vec::new();
    for cut in [700, 500_000, 900_000] {
        soon(raw.swallow(cut)).await.unwrap();
        raw.reset();
        raw = soon(Raw::accept(&listener, "PULL")).await;
    }
    let others = tokio::spawn(async move {
        let mut got = Vec::new();
        while let Ok(message) = other.recv().await {
            let frames: Vec<Vec<u8>> = message.iter().map(|frame| frame.to_vec()).collect();
            let at = frames[2][0];
            assert!(is_patterned(&frames, at, SIZE), "only whole messages");
            got.push(at);
        }
        got
    });
    soon(sending).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    until(|| push.peers().iter().all(|peer| peer.address.ends_with(&address) || peer.queued == 0)).await;
    while push.peers().iter().any(|peer| peer.address.ends_with(&address) && peer.queued > 0) {
        let frames = soon(raw.message()).await.unwrap();
        assert!(is_patterned(&frames, frames[2][0], SIZE), "only whole messages");
        mine.push(frames[2][0]);
    }
    drop(push);
    while let Some(frames) = soon(raw.message()).await {
        mine.push(frames[2][0]);
    }
    others.abort();
    let mut sorted = mine.clone();
    sorted.dedup();
    sorted.sort_unstable();
    assert_eq!(sorted, mine, "in order, each once");
}

#[tokio::test]
async fn p05_half_a_message_is_never_received() {
    let mut pull = Pull::bind("tcp://127.0.0.1:0").await.unwrap();
    let there = pull.local_endpoint().unwrap().to_string();
    let whole = common::raw::encode(&[&[1; 10], &[2; 300], &[3; 5]]);
    for cut in 1..whole.len() {
        let mut raw = soon(Raw::connect(&there, "PUSH")).await;
        raw.send(&[b"first"]).await;
        raw.write(&whole[..cut]).await;
        if cut % 2 == 0 {
            drop(raw);
        } else {
            // A reset may take what was not read yet with it: wait for the first message's arrival.
            until(|| pull.peers().iter().any(|peer| peer.messages_received == 1)).await;
            raw.reset();
        }
        assert_eq!(soon(pull.recv()).await.unwrap()[0], "first");
        until(|| pull.peers().is_empty()).await;
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty), "cut at {cut}");
    }
}

#[tokio::test]
async fn p06_the_accepting_side_counts_what_goes_with_its_connection() {
    let push = Push::builder().send_buffer(4096).bind("tcp://127.0.0.1:0").await.unwrap();
    let raw = soon(Raw::connect(&push.local_endpoint().unwrap().to_string(), "PULL")).await;
    soon(push.wait_for_peers(1)).await.unwrap();
    let mut sent = 0;
    let body = Bytes::from(vec![0; 50_000]);
    until(|| {
        while push.try_send(body.clone()).is_ok() {
            sent += 1;
        }
        only_peer(&push).queued == 1000
    })
    .await;
    let mut monitor = push.monitor();
    raw.reset();
    until(|| push.peers().is_empty()).await;
    let stats = push.stats();
    let gone = stats.drops.get(DropReason::PeerGone);
    assert!(gone > 900, "{gone}");
    assert_eq!(stats.messages_sent + gone, sent, "{stats:?}");
    assert_eq!(stats.drops.total(), gone);
    event(
        &mut monitor,
        |event| matches!(event, Event::Dropped { reason: DropReason::PeerGone, count, .. } if *count == gone),
    )
    .await;
}

#[tokio::test]
async fn p09_subscriptions_come_back_without_the_users_help() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let mut sub = quick(Sub::builder()).subscribe("a").connect(&there).unwrap();
        sub.subscribe("b").unwrap();
        for round in 0..3 {
            let publisher = Pub::new();
            bind_again(&publisher, &there).await;
            soon(publisher.wait_for_subscribers(1)).await.unwrap();
            until(|| only_peer(&publisher).subscriptions == 2 + round).await;
            for topic in ["a1", "x", "b2", "c0", "c1", "c2"] {
                let _ = publisher.send(topic).await.unwrap();
            }
            let mut wanted = vec!["a1".to_owned(), "b2".to_owned()];
            wanted.extend((0..round).map(|n| format!("c{n}")));
            for topic in wanted {
                assert_eq!(soon(sub.recv()).await.unwrap()[0], topic.as_str(), "{transport} {round}");
            }
            soon(publisher.close()).await;
            until(|| !only_peer(&sub).connected).await;
            // While nobody is there.
            sub.subscribe(format!("c{round}")).unwrap();
        }
    }
}

#[tokio::test]
async fn p09_a_subscriber_that_is_bound_tells_every_publisher() {
    for transport in TRANSPORTS {
        let mut sub = Sub::builder().subscribe("a").bind(place(transport)).await.unwrap();
        for _ in 0..3 {
            let publisher = Pub::connect(sub.local_endpoint()).unwrap();
            soon(publisher.wait_for_subscribers(1)).await.unwrap();
            let _ = publisher.send("a").await.unwrap();
            assert_eq!(soon(sub.recv()).await.unwrap()[0], "a", "{transport}");
        }
    }
}

#[tokio::test]
async fn p09_replay_of_subscriptions_knows_no_mark() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let sub = quick(Sub::builder()).hwm(1).connect(&there).unwrap();
        for topic in 0..3000 {
            sub.subscribe(format!("topic {topic}")).unwrap();
        }
        for _ in 0..2 {
            let publisher = Pub::new();
            bind_again(&publisher, &there).await;
            until(|| publisher.peers().iter().any(|peer| peer.subscriptions == 3000)).await;
            soon(publisher.close()).await;
            until(|| !only_peer(&sub).connected).await;
        }
    }
}

#[tokio::test]
async fn p09_a_request_waits_for_its_server() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let req = quick(Req::builder()).connect(&there).unwrap();
        let asking = tokio::spawn(req.request("early").into_future());
        others_run().await;
        let mut rep = Rep::new();
        bind_again(&rep, &there).await;
        let request = soon(rep.recv()).await.unwrap();
        let _ = request.reply("served").await.unwrap();
        assert_eq!(soon(asking).await.unwrap().unwrap()[0], "served", "{transport}");
    }
}

#[tokio::test]
async fn p05_a_written_request_fails_when_its_server_leaves() {
    for transport in TRANSPORTS {
        for correlated in [true, false] {
            let there = later(transport).await;
            let mut rep = Rep::new();
            bind_again(&rep, &there).await;
            let req = quick(Req::builder()).correlate(correlated).connect(&there).unwrap();
            soon(req.wait_for_peers(1)).await.unwrap();
            let written = tokio::spawn(req.request("written").into_future());
            let request = soon(rep.recv()).await.unwrap();
            soon(rep.close()).await;
            assert_eq!(soon(written).await.unwrap(), Err(RequestError::PeerLost), "{transport}");
            drop(request);
            // The socket is as good as new.
            let next = tokio::spawn(req.request("next").into_future());
            let mut rep = Rep::new();
            bind_again(&rep, &there).await;
            let request = soon(rep.recv()).await.unwrap();
            assert_eq!(request.message()[0], "next", "{transport}: the lost one is not asked again");
            let _ = request.reply("fine").await.unwrap();
            assert_eq!(soon(next).await.unwrap().unwrap()[0], "fine");
        }
    }
}

#[tokio::test]
async fn p09_waits_between_attempts_grow_to_their_maximum() {
    let there = later("tcp").await;
    let builder = Push::builder().reconnect(Duration::from_millis(1), Duration::from_millis(32));
    let push = builder.build().unwrap();
    let mut monitor = push.monitor();
    push.connect_to(&there).unwrap();
    let mut nominal = Duration::from_millis(1);
    for _ in 0..8 {
        let retry = event(&mut monitor, |event| matches!(event, Event::Retrying { .. })).await;
        let Event::Retrying { endpoint, after } = retry else { unreachable!() };
        assert_eq!(endpoint, there.to_string());
        assert!(after >= nominal * 3 / 4 && after <= nominal * 5 / 4, "{after:?} is not about {nominal:?}");
        nominal = (nominal * 2).min(Duration::from_millis(32));
    }
}

#[tokio::test]
async fn p09_who_does_not_reconnect_says_so() {
    for transport in TRANSPORTS {
        let pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::builder().no_reconnect().connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        let mut monitor = push.monitor();
        soon(pull.close()).await;
        event(&mut monitor, |event| matches!(event, Event::Stopped { .. })).await;
    }
}

#[tokio::test]
async fn p09_silence_is_noticed_by_heartbeats() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let beat = Duration::from_millis(20);
    let builder = quick(Push::builder()).heartbeat(beat, beat * 2);
    let push = builder.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut monitor = push.monitor();
    let silent = soon(Raw::accept(&listener, "PULL")).await;
    event(&mut monitor, |event| matches!(event, Event::Disconnected { reason: Reason::Timeout, .. })).await;
    let _second = soon(Raw::accept(&listener, "PULL")).await;
    drop(silent);
}

#[tokio::test]
async fn p10_a_flapping_peer_leaves_nothing_behind() {
    let there = later("tcp").await;
    let push = Push::builder().reconnect(Duration::from_millis(1), Duration::from_millis(1)).connect(&there).unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..30 {
        let mut pull = Pull::new();
        bind_again(&pull, &there).await;
        let _ = push.send(numbered(round)).await.unwrap();
        assert_eq!(number(&soon(pull.recv()).await.unwrap()), round);
        soon(pull.close()).await;
        until(|| !only_peer(&push).connected).await;
    }
    until(|| tasks() <= before).await;
}

#[tokio::test]
async fn p04_unbind_ends_its_connections_and_keeps_what_came() {
    for transport in WIRES {
        let mut pull = Pull::new();
        let (one, two) = (pull.bind_to(place(transport)).await.unwrap(), pull.bind_to(place(transport)).await.unwrap());
        let (push, stays) = (quick(Push::builder()).connect(&one).unwrap(), Push::connect(&two).unwrap());
        soon(pull.wait_for_peers(2)).await.unwrap();
        let _ = push.send("came").await.unwrap();
        until(|| pull.stats().messages_received == 1).await;
        let mut monitor = push.monitor();
        pull.unbind(&one).unwrap();
        assert!(matches!(pull.unbind(&one), Err(DetachError::NotFound(_))));
        event(&mut monitor, |event| matches!(event, Event::Disconnected { .. })).await;
        until(|| pull.peers().len() == 1).await;
        let _ = stays.send("other").await.unwrap();
        let mut got = [soon(pull.recv()).await.unwrap(), soon(pull.recv()).await.unwrap()];
        got.sort_by_key(|message| message[0].to_vec());
        assert_eq!(got.map(|message| message[0].clone()), [Frame::from("came"), Frame::from("other")]);
        // And back.
        bind_again(&pull, &one).await;
        let _ = push.send("again").await.unwrap();
        assert_eq!(soon(pull.recv()).await.unwrap()[0], "again", "{transport}");
    }
}

#[tokio::test]
async fn p04_unbind_ends_handshakes_too() {
    let pull = Pull::new();
    let bound = pull.bind_to("tcp://127.0.0.1:0").await.unwrap();
    let address = bound.to_string().trim_start_matches("tcp://").to_owned();
    let half = tokio::net::TcpStream::connect(&address).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut read, mut write) = half.into_split();
    // Its greeting tells that it has accepted us.
    let mut greeting = [0; 64];
    write.write_all(&common::raw::greeting()).await.unwrap();
    soon(read.read_exact(&mut greeting)).await.unwrap();
    pull.unbind(&bound).unwrap();
    let _ = write.write_all(&common::raw::ready(&[("Socket-Type", b"PUSH")])).await;
    let mut rest = Vec::new();
    let _ = soon(read.read_to_end(&mut rest)).await;
    assert!(pull.peers().is_empty(), "nobody comes in through a door that is closed");
}

#[tokio::test]
async fn p06_disconnect_still_delivers_and_takes_nothing_new() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().recv_hwm(1).bind(place(transport)).await.unwrap();
        let there = pull.local_endpoint().unwrap();
        let push = Push::connect(&there).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        for at in 0..500 {
            let _ = push.send(numbered(at)).await.unwrap();
        }
        push.disconnect(&there).unwrap();
        assert!(matches!(push.disconnect(&there), Err(DetachError::NotFound(_))));
        assert!(push.try_send("nobody").is_err(), "{transport}");
        for at in 0..500 {
            assert_eq!(number(&soon(pull.recv()).await.unwrap()), at, "{transport}");
        }
        until(|| push.peers().is_empty() && pull.peers().is_empty()).await;
        assert_eq!(push.stats().drops.total(), 0, "{transport}");
        push.connect_to(&there).unwrap();
        let _ = soon(push.send("back")).await.unwrap();
        assert_eq!(soon(pull.recv()).await.unwrap()[0], "back", "{transport}");
    }
}

#[tokio::test]
async fn p06_disconnect_discards_what_was_not_read() {
    for transport in TRANSPORTS {
        let push = Push::bind(place(transport)).await.unwrap();
        let there = push.local_endpoint().unwrap();
        let mut pull = Pull::connect(&there).unwrap();
        for at in 0..10 {
            let _ = soon(push.send(numbered(at))).await.unwrap();
        }
        until(|| only_peer(&pull).messages_received == 10).await;
        pull.disconnect(&there).unwrap();
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty), "{transport}");
        until(|| pull.peers().is_empty()).await;
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty), "{transport}");
    }
}

#[tokio::test]
async fn p06_what_waits_for_a_disconnected_endpoint_lingers_or_is_counted() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        for linger in [Duration::ZERO, DEADLINE] {
            let push = quick(Push::builder()).linger(linger).connect(&there).unwrap();
            for at in 0..10 {
                let _ = push.send(numbered(at)).await.unwrap();
            }
            push.disconnect(&there).unwrap();
            if linger.is_zero() {
                until(|| push.peers().is_empty()).await;
                assert_eq!(push.stats().drops.total(), 10, "{transport}");
            } else {
                let mut pull = Pull::new();
                bind_again(&pull, &there).await;
                for at in 0..10 {
                    assert_eq!(number(&soon(pull.recv()).await.unwrap()), at, "{transport}");
                }
                until(|| push.peers().is_empty()).await;
                assert_eq!(push.stats().drops.total(), 0, "{transport}");
                soon(pull.close()).await;
            }
        }
    }
}

/// Joins two sockets: who binds, and who comes first.
async fn meet(one: &Socket, two: &Socket, transport: &str, order: usize) {
    let (binder, dialler) = if order.is_multiple_of(2) { (one, two) } else { (two, one) };
    let there = later(transport).await;
    if order < 2 {
        bind_again(binder, &there).await;
        dialler.connect_to(&there).expect("connect");
    } else {
        dialler.connect_to(&there).expect("connect");
        others_run().await;
        bind_again(binder, &there).await;
    }
    soon(one.wait_for_peers(1)).await.expect("open");
    soon(two.wait_for_peers(1)).await.expect("open");
}

macro_rules! meets {
    ($($name:ident: ($one:ident: $One:ident, $two:ident: $Two:ident) $talk:block)*) => {$(
        #[tokio::test]
        async fn $name() {
            for transport in TRANSPORTS {
                for order in 0..4 {
                    #[allow(unused_mut)]
                    let (mut $one, mut $two) = (quick($One::builder()).build().unwrap(), quick($Two::builder()).build().unwrap());
                    meet(&$one, &$two, transport, order).await;
                    $talk
                }
            }
        }
    )*};
}

meets! {
    p09_any_order_push_pull: (push: Push, pull: Pull) {
        let _ = soon(push.send("x")).await.unwrap();
        assert_eq!(soon(pull.recv()).await.unwrap()[0], "x");
    }
    p09_any_order_pair_pair: (one: Pair, two: Pair) {
        let _ = soon(one.send("x")).await.unwrap();
        assert_eq!(soon(two.recv()).await.unwrap()[0], "x");
        let _ = soon(two.send("y")).await.unwrap();
        assert_eq!(soon(one.recv()).await.unwrap()[0], "y");
    }
    p09_any_order_pub_sub: (publisher: Pub, sub: Sub) {
        sub.subscribe("x").unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let _ = publisher.send("x").await.unwrap();
        assert_eq!(soon(sub.recv()).await.unwrap()[0], "x");
    }
    p09_any_order_pub_xsub: (publisher: Pub, sub: XSub) {
        sub.subscribe("x").unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let _ = publisher.send("x").await.unwrap();
        assert_eq!(soon(sub.recv()).await.unwrap()[0], "x");
    }
    p09_any_order_xpub_sub: (publisher: XPub, sub: Sub) {
        sub.subscribe("x").unwrap();
        assert_eq!(soon(publisher.recv()).await.unwrap()[0], "\u{1}x");
        let _ = publisher.send("x").await.unwrap();
        assert_eq!(soon(sub.recv()).await.unwrap()[0], "x");
    }
    p09_any_order_xpub_xsub: (publisher: XPub, sub: XSub) {
        sub.subscribe("x").unwrap();
        assert_eq!(soon(publisher.recv()).await.unwrap()[0], "\u{1}x");
        let _ = publisher.send("x").await.unwrap();
        assert_eq!(soon(sub.recv()).await.unwrap()[0], "x");
        let _ = sub.send("up").await.unwrap();
        assert_eq!(soon(publisher.recv()).await.unwrap()[0], "up");
    }
    p09_any_order_req_rep: (req: Req, rep: Rep) {
        let asking = tokio::spawn(req.request("x").into_future());
        let _ = soon(rep.recv()).await.unwrap().reply("y").await.unwrap();
        assert_eq!(soon(asking).await.unwrap().unwrap()[0], "y");
    }
    p09_any_order_req_router: (req: Req, router: Router) {
        let asking = tokio::spawn(req.request("x").into_future());
        let (peer, message) = soon(router.recv()).await.unwrap();
        let _ = router.send_to(&peer, message).await.unwrap();
        assert_eq!(soon(asking).await.unwrap().unwrap()[0], "x");
    }
    p09_any_order_dealer_rep: (dealer: Dealer, rep: Rep) {
        let _ = soon(dealer.send(("", "x"))).await.unwrap();
        let _ = soon(rep.recv()).await.unwrap().reply("y").await.unwrap();
        assert_eq!(soon(dealer.recv()).await.unwrap()[1], "y");
    }
    p09_any_order_dealer_dealer: (one: Dealer, two: Dealer) {
        let _ = soon(one.send("x")).await.unwrap();
        assert_eq!(soon(two.recv()).await.unwrap()[0], "x");
        let _ = soon(two.send("y")).await.unwrap();
        assert_eq!(soon(one.recv()).await.unwrap()[0], "y");
    }
    p09_any_order_dealer_router: (dealer: Dealer, router: Router) {
        let _ = soon(dealer.send("x")).await.unwrap();
        let (peer, message) = soon(router.recv()).await.unwrap();
        let _ = router.send_to(&peer, message).await.unwrap();
        assert_eq!(soon(dealer.recv()).await.unwrap()[0], "x");
    }
    p09_any_order_router_router: (one: Router, two: Router) {
        let peer = PeerId::from(only_peer(&one).id);
        let _ = one.send_to(&peer, "x").await.unwrap();
        let (back, message) = soon(two.recv()).await.unwrap();
        let _ = two.send_to(&back, message).await.unwrap();
        assert_eq!(soon(one.recv()).await.unwrap().1[0], "x");
    }
}

#[tokio::test]
async fn p04_a_pair_that_refuses_does_not_stay_taken() {
    for transport in TRANSPORTS {
        let taken = quick(Pair::builder()).build().unwrap();
        let first = Pair::bind(place(transport)).await.unwrap();
        taken.connect_to(first.local_endpoint()).unwrap();
        soon(taken.wait_for_peers(1)).await.unwrap();
        let second = Pair::bind(place(transport)).await.unwrap();
        let mut monitor = taken.monitor();
        taken.connect_to(second.local_endpoint()).unwrap();
        event(&mut monitor, |event| matches!(event, Event::Refused { reason: Reason::PairTaken, .. })).await;
        taken.disconnect(second.local_endpoint()).unwrap();
        let mut third = quick(Pair::builder()).connect(second.local_endpoint()).unwrap();
        let _ = soon(second.send("free")).await.unwrap();
        assert_eq!(soon(third.recv()).await.unwrap()[0], "free", "{transport}");
    }
}

#[tokio::test]
async fn p04_who_was_refused_a_name_gets_it_when_it_is_free() {
    for transport in TRANSPORTS {
        let mut router = Router::bind(place(transport)).await.unwrap();
        let there = router.local_endpoint();
        let first = Dealer::builder().identity("name").connect(there.clone()).unwrap();
        soon(first.wait_for_peers(1)).await.unwrap();
        let mut monitor = router.monitor();
        let second = quick(Dealer::builder()).identity("name").connect(there).unwrap();
        event(&mut monitor, |event| matches!(event, Event::Refused { reason: Reason::IdentityTaken, .. })).await;
        soon(first.close()).await;
        event(&mut monitor, |event| matches!(event, Event::Connected { .. })).await;
        let _ = second.send("mine").await.unwrap();
        assert_eq!(soon(router.recv()).await.unwrap().0, PeerId::from(&b"name"[..]), "{transport}");
    }
}

#[tokio::test]
async fn p04_handover_takes_the_name_from_its_holder() {
    for transport in TRANSPORTS {
        let router = Router::builder().handover(true).bind(place(transport)).await.unwrap();
        let there = router.local_endpoint();
        let first = Dealer::builder().no_reconnect().identity("name").connect(there.clone()).unwrap();
        soon(first.wait_for_peers(1)).await.unwrap();
        let mut monitor = first.monitor();
        let mut second = Dealer::builder().identity("name").connect(there).unwrap();
        event(&mut monitor, |event| matches!(event, Event::Disconnected { .. })).await;
        soon(second.wait_for_peers(1)).await.unwrap();
        let _ = soon(router.send_to(&PeerId::from(&b"name"[..]), "yours")).await.unwrap();
        assert_eq!(soon(second.recv()).await.unwrap()[0], "yours", "{transport}");
    }
}
