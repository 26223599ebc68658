//! The high-water mark is exact: never one message more, never one less, whatever their size.

mod common;

use std::future::IntoFuture;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use common::polls::poll_once;
use common::raw::Raw;
use common::*;
use ginnel::*;

const MARKS: [usize; 7] = [1, 2, 3, 10, 999, 1000, 1001];
const SIZES: [usize; 5] = [0, 1, 100, 4096, 1 << 20];
/// What a receiver that never reads may have to hold in this test.
const HELD: usize = 64 << 20;

fn message(size: usize) -> Message {
    Message::from(Bytes::from(vec![7; size]))
}

/// A socket without byte marks, and with kernel buffers so small that the marks are soon reached.
fn bare<S: Buildable>(builder: Builder<S>) -> Builder<S> {
    builder.send_hwm_bytes(0).recv_hwm_bytes(0).linger(Duration::ZERO).send_buffer(4096).recv_buffer(4096)
}

/// Somewhere to connect to where no peer ever is.
struct Nowhere {
    endpoint: String,
    _listener: Option<std::net::TcpListener>,
}

fn nowhere(transport: &str) -> Nowhere {
    match transport {
        "tcp" => {
            // Listening, so that nobody else gets the port, but nobody ever accepts.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            let endpoint = format!("tcp://{}", listener.local_addr().expect("an address"));
            Nowhere { endpoint, _listener: Some(listener) }
        }
        "ipc" => {
            let path = std::env::temp_dir().join(unique("ginnel-nobody"));
            Nowhere { endpoint: format!("ipc://{}", path.display()), _listener: None }
        }
        _ => Nowhere { endpoint: place(transport), _listener: None },
    }
}

/// Sends until the queue is full; the account is right after every step that is looked at.
fn fill(push: &Push, mark: usize, message: &Message) -> usize {
    let mut sent = 0;
    loop {
        match push.try_send(message.clone()) {
            Ok(_) => {
                sent += 1;
                if mark <= 10 || sent % 97 == 0 {
                    let queued = only_peer(push).queued;
                    assert!(queued <= mark, "{queued} queued at a mark of {mark}");
                }
            }
            Err(TrySendError::Full(back)) => {
                assert_eq!(back.size(), message.size());
                assert_eq!(only_peer(push).queued, mark, "full exactly at the mark");
                return sent;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn a_queue_without_a_peer(transport: &str, mark: usize, size: usize) {
    let there = nowhere(transport);
    let push = bare(Push::builder()).send_hwm(mark).connect(there.endpoint.as_str()).unwrap();
    assert_eq!(fill(&push, mark, &message(size)), mark);
    others_run().await;
    assert!(matches!(push.try_send("more"), Err(TrySendError::Full(_))));
}

/// One PUSH that sends all it can to one PULL that never reads.
async fn a_reader_that_never_reads(transport: &str, mark: usize, recv_mark: usize, size: usize) {
    let pull = bare(Pull::builder()).recv_hwm(recv_mark).bind(place(transport)).await.unwrap();
    let push = bare(Push::builder()).send_hwm(mark).connect(pull.local_endpoint()).unwrap();
    soon(push.wait_for_peers(1)).await.unwrap();
    soon(pull.wait_for_peers(1)).await.unwrap();
    let message = message(size);
    let mut unread = 0;
    until(|| {
        fill(&push, mark, &message);
        unread = only_peer(&pull).unread;
        assert!(unread <= recv_mark, "{unread} unread at a mark of {recv_mark}");
        unread == recv_mark
    })
    .await;
    others_run().await;
    fill(&push, mark, &message);
    assert_eq!(only_peer(&pull).unread, recv_mark, "neither more nor fewer");
}

async fn one_queue_in_process(send: usize, recv: usize, size: usize) {
    let pull = bare(Pull::builder()).recv_hwm(recv).bind(place("inproc")).await.unwrap();
    let push = bare(Push::builder()).send_hwm(send).connect(pull.local_endpoint()).unwrap();
    let expected = if send == 0 || recv == 0 { 3000 } else { send + recv };
    let message = message(size);
    for taken in 0..expected {
        assert!(push.try_send(message.clone()).is_ok(), "{taken} of {expected} taken");
    }
    let more = push.try_send(message);
    if send == 0 || recv == 0 {
        assert!(more.is_ok(), "unlimited if either mark is");
    } else {
        assert!(matches!(more, Err(TrySendError::Full(_))), "one more than {send} + {recv}");
        assert_eq!(only_peer(&push).queued, expected);
    }
    assert!(only_peer(&pull).unread >= expected);
}

#[tokio::test]
async fn p03_the_mark_is_exact_for_every_size_and_transport() {
    let (mut cases, mut done) = (0, 0);
    for mark in MARKS {
        for size in SIZES {
            for transport in TRANSPORTS {
                cases += 1;
                a_queue_without_a_peer(transport, mark, size).await;
                done += 1;
            }
            for transport in WIRES {
                // The reader's mark is the case's own, unless that would hold a gigabyte.
                let recv_mark = if mark * size > HELD { 3 } else { mark };
                cases += 1;
                a_reader_that_never_reads(transport, mark, recv_mark, size).await;
                done += 1;
            }
            cases += 1;
            one_queue_in_process(mark, 5, size).await;
            one_queue_in_process(5, mark, size).await;
            done += 1;
        }
    }
    println!("hwm: {done} of {cases} cases");
    assert_eq!(done, cases);
}

#[tokio::test]
async fn p03_in_process_no_mark_on_one_side_is_no_mark() {
    one_queue_in_process(0, 10, 1).await;
    one_queue_in_process(10, 0, 1).await;
    one_queue_in_process(0, 0, 1).await;
}

#[tokio::test]
async fn p03_an_empty_queue_takes_one_message_of_any_size() {
    for transport in TRANSPORTS {
        let there = nowhere(transport);
        let push = Push::builder().send_hwm_bytes(100).linger(Duration::ZERO).connect(there.endpoint.as_str()).unwrap();
        assert!(push.try_send(message(1000)).is_ok(), "{transport}");
        assert!(matches!(push.try_send(""), Err(TrySendError::Full(_))), "{transport}");
    }
}

#[tokio::test]
async fn p03_the_byte_mark_is_passed_by_one_message_at_the_most() {
    for transport in TRANSPORTS {
        let there = nowhere(transport);
        let push =
            Push::builder().send_hwm_bytes(1000).linger(Duration::ZERO).connect(there.endpoint.as_str()).unwrap();
        let mut taken = 0;
        while push.try_send(message(90)).is_ok() {
            taken += 1;
        }
        // A frame of 90 bytes is 92 on the wire; an in-process message is counted without framing.
        assert!((10..=12).contains(&taken), "{transport}: {taken}");
    }
}

#[tokio::test]
async fn p03_the_receiver_keeps_its_byte_mark_and_loses_nothing() {
    for transport in WIRES {
        let builder = Pull::builder().recv_hwm_bytes(1000).recv_hwm(0);
        let mut pull = builder.bind(place(transport)).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        soon(pull.wait_for_peers(1)).await.unwrap();
        for number in 0..200u32 {
            let size = if number == 150 { 5000 } else { 300 };
            let _ = push.send((message(size)[0].clone(), number.to_be_bytes())).await.unwrap();
        }
        soon(push.flush()).await.unwrap();
        until(|| only_peer(&pull).unread >= 3).await;
        others_run().await;
        let unread = only_peer(&pull).unread;
        assert!(unread <= 4, "{unread} of 310 bytes each at a mark of 1000");
        for expected in 0..200 {
            assert_eq!(number(&soon(pull.recv()).await.unwrap()), expected, "{transport}");
        }
    }
}

#[tokio::test]
async fn p03_waiting_senders_are_served_in_the_order_they_came() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().recv_hwm(1).build().unwrap();
        let bound = pull.bind_to(place(transport)).await.unwrap();
        pull.unbind(&bound).unwrap();
        let push = Push::builder().send_hwm(1).reconnect(QUICK, QUICK).connect(&bound).unwrap();
        let _ = push.send(numbered(0)).await.unwrap();
        for at in 1..=20 {
            let push = push.clone();
            tokio::spawn(async move { push.send(numbered(at)).await.map(drop) });
        }
        others_run().await;
        assert!(matches!(push.try_send("cutting in"), Err(TrySendError::Full(_))));
        pull.bind_to(&bound).await.unwrap();
        for expected in 0..=20 {
            assert_eq!(number(&soon(pull.recv()).await.unwrap()), expected, "{transport}");
        }
    }
}

#[tokio::test]
async fn p03_a_blocking_publisher_serves_its_waiters_in_order() {
    for transport in TRANSPORTS {
        let builder = Pub::builder().send_hwm(1).on_full(OnFull::Block).send_buffer(4096).recv_buffer(4096);
        let publisher = builder.bind(place(transport)).await.unwrap();
        let builder = Sub::builder().subscribe("").recv_hwm(1).send_buffer(4096).recv_buffer(4096);
        let mut sub = builder.connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let body = message(100_000)[0].clone();
        for at in 0..20u32 {
            let (publisher, message) = (publisher.clone(), (body.clone(), at.to_be_bytes()));
            tokio::spawn(async move { publisher.send(message).await.map(drop) });
        }
        others_run().await;
        for expected in 0..20 {
            assert_eq!(number(&soon(sub.recv()).await.unwrap()), expected, "{transport}");
        }
    }
}

#[tokio::test]
async fn p04_a_publisher_that_gives_up_waiting_lets_those_behind_it_go() {
    for transport in TRANSPORTS {
        let publisher = bare(Pub::builder()).send_hwm(1).on_full(OnFull::Block).bind(place(transport)).await.unwrap();
        let at = publisher.local_endpoint();
        let _stuck = bare(Sub::builder()).subscribe("a").recv_hwm(1).connect(at.clone()).unwrap();
        let mut free = bare(Sub::builder()).subscribe("b").recv_hwm(10).connect(at).unwrap();
        soon(publisher.wait_for_subscribers(2)).await.unwrap();
        let body = message(100_000)[0].clone();
        until(|| publisher.try_send(("a", body.clone())).is_err()).await;
        others_run().await;
        while publisher.try_send(("a", body.clone())).is_ok() {}
        let mut first = Box::pin(publisher.send(("a", body.clone())));
        assert!(poll_once(first.as_mut()).is_pending());
        let second = publisher.clone();
        let second = tokio::spawn(async move { second.send(("b", "free")).await.map(drop) });
        others_run().await;
        drop(first);
        soon(second).await.unwrap().unwrap();
        assert_eq!(soon(free.recv()).await.unwrap()[1], "free", "{transport}");
    }
}

#[tokio::test]
async fn p03_a_waiting_sender_is_woken_at_half_the_mark() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = Push::builder().send_hwm(10).send_hwm_bytes(0).send_buffer(4096).linger(Duration::ZERO);
    let push = builder.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut raw = Raw::accept(&listener, "PULL").await;
    soon(push.wait_for_peers(1)).await.unwrap();
    let message = message(1 << 20);
    until(|| push.try_send(message.clone()).is_err() && only_peer(&push).queued == 10).await;
    let mut send = pin!(push.send(message.clone()));
    let mut read = 0;
    while poll_once(send.as_mut()).is_pending() {
        assert!(only_peer(&push).queued > 5 || read > 0, "nobody waits below half of the mark");
        soon(raw.swallow(4096)).await.unwrap();
        read += 4096;
        others_run().await;
        assert!(read < 16 << 20, "everything was read and the sender still waits");
    }
    let queued = only_peer(&push).queued;
    assert!((5..=6).contains(&queued), "woken at half of 10 and not before: {queued}");
}

#[tokio::test]
async fn p04_a_full_peer_is_skipped_and_the_others_go_on() {
    for transport in TRANSPORTS {
        // Small kernel buffers: what those hold of the stuck peer's share is not the point.
        let stuck = bare(Pull::builder()).recv_hwm(2).recv_buffer(65_536).bind(place(transport)).await.unwrap();
        let mut quick = Pull::bind(place(transport)).await.unwrap();
        let push = Push::builder().send_hwm(2).send_buffer(65_536).linger(Duration::ZERO).build().unwrap();
        push.connect_to(stuck.local_endpoint()).unwrap();
        push.connect_to(quick.local_endpoint()).unwrap();
        soon(push.wait_for_peers(2)).await.unwrap();
        let body = message(50_000)[0].clone();
        let mut got = 0;
        for at in 0..500u32 {
            let _ = soon(push.send((body.clone(), at.to_be_bytes()))).await.unwrap();
            while quick.try_recv().is_ok() {
                got += 1;
            }
        }
        // The kernel's share of the full peer is not ours to say; the rest went round it without waiting.
        assert!(got > 250, "{transport}: the other peer got {got} of 500");
    }
}

#[tokio::test]
async fn p04_turns_are_exact() {
    for transport in TRANSPORTS {
        let mut pulls = Vec::new();
        let push = Push::new();
        for _ in 0..3 {
            let pull = Pull::bind(place(transport)).await.unwrap();
            push.connect_to(pull.local_endpoint()).unwrap();
            pulls.push(pull);
        }
        soon(push.wait_for_peers(3)).await.unwrap();
        for at in 0..300 {
            let _ = push.send(numbered(at)).await.unwrap();
        }
        let mut first = Vec::new();
        for pull in &mut pulls {
            let start = number(&soon(pull.recv()).await.unwrap());
            for turn in 1..100 {
                assert_eq!(number(&soon(pull.recv()).await.unwrap()), start + 3 * turn, "{transport}");
            }
            first.push(start);
        }
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2], "{transport}");
    }
}

#[tokio::test]
async fn p10_a_permit_is_room_and_gives_it_back() {
    for transport in TRANSPORTS {
        let there = nowhere(transport);
        let push = Push::builder().send_hwm(3).linger(Duration::ZERO).connect(there.endpoint.as_str()).unwrap();
        let permits: Vec<Permit<'_>> = (0..3).map(|_| push.try_reserve().unwrap()).collect();
        assert_eq!(only_peer(&push).queued, 3);
        assert!(matches!(push.try_reserve(), Err(TrySendError::Full(()))));
        assert!(matches!(push.try_send("full"), Err(TrySendError::Full(_))));
        let mut waiting = pin!(push.send("waits"));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let mut permits = permits.into_iter();
        drop(permits.next());
        assert!(poll_once(waiting.as_mut()).is_ready(), "the room of the dropped permit");
        let _ = permits.next().unwrap().send("takes its own room");
        assert_eq!(only_peer(&push).queued, 3);
        drop(permits);
        assert_eq!(only_peer(&push).queued, 2);
    }
}

#[tokio::test]
async fn p10_a_dropped_send_leaves_the_line_and_gives_its_room_on() {
    for transport in TRANSPORTS {
        let there = nowhere(transport);
        let push = Push::builder().send_hwm(1).linger(Duration::ZERO).connect(there.endpoint.as_str()).unwrap();
        let permit = push.reserve().await.unwrap();
        let mut one = Box::pin(push.send("one"));
        let mut two = Box::pin(push.reserve());
        let mut three = Box::pin(push.send("three"));
        assert!(poll_once(one.as_mut()).is_pending());
        assert!(poll_once(two.as_mut()).is_pending());
        assert!(poll_once(three.as_mut()).is_pending());
        drop(permit);
        // The room is set aside for the first now; it goes on from one to the next.
        assert!(push.try_send("no").is_err());
        drop(one);
        drop(two);
        assert!(poll_once(three.as_mut()).is_ready());
        assert_eq!(only_peer(&push).queued, 1);
    }
}

#[tokio::test]
async fn p10_a_permit_outlives_its_peer() {
    for transport in TRANSPORTS {
        let pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::builder().reconnect(QUICK, QUICK).connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        let (one, two) = (push.reserve().await.unwrap(), push.reserve().await.unwrap());
        soon(pull.close()).await;
        until(|| !only_peer(&push).connected).await;
        drop(one);
        let _ = two.send("kept");
        assert_eq!(only_peer(&push).queued, 1, "{transport}");
    }
}

#[tokio::test]
async fn p10_flush_does_not_wait_for_a_permit() {
    for transport in TRANSPORTS {
        let pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        let permit = push.reserve().await.unwrap();
        let _ = push.send("x").await.unwrap();
        soon(push.flush()).await.unwrap();
        drop(permit);
    }
}

#[tokio::test]
async fn p04_a_mandatory_router_waits_for_one_peer_only() {
    for transport in TRANSPORTS {
        let router = bare(Router::builder()).mandatory(true).send_hwm(2).bind(place(transport)).await.unwrap();
        let mut stuck = bare(Dealer::builder()).recv_hwm(2).identity("stuck").connect(router.local_endpoint()).unwrap();
        let mut quick = Dealer::builder().identity("quick").connect(router.local_endpoint()).unwrap();
        soon(router.wait_for_peers(2)).await.unwrap();
        let (to_stuck, to_quick) = (PeerId::from(&b"stuck"[..]), PeerId::from(&b"quick"[..]));
        assert!(matches!(router.try_send_to(&PeerId::from(&b"who"[..]), "x"), Err(TrySendError::NoRoute(_))));
        assert!(matches!(router.send_to(&PeerId::from(&b"who"[..]), "x").await, Err(SendError::NoRoute(_))));
        let body = message(50_000);
        let mut sent = 0;
        until(|| {
            while router.try_send_to(&to_stuck, body.clone()).is_ok() {
                sent += 1;
            }
            stuck.peers().iter().any(|peer| peer.unread >= 2)
        })
        .await;
        others_run().await;
        while router.try_send_to(&to_stuck, body.clone()).is_ok() {
            sent += 1;
        }
        assert!(matches!(router.try_send_to(&to_stuck, "x"), Err(TrySendError::Full(_))));
        let mut waiting = pin!(router.send_to(&to_stuck, "last"));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let _ = soon(router.send_to(&to_quick, "still")).await.unwrap();
        assert_eq!(soon(quick.recv()).await.unwrap()[0], "still", "{transport}");
        let reader = async {
            for _ in 0..sent {
                assert_eq!(soon(stuck.recv()).await.unwrap().size(), 50_000);
            }
            assert_eq!(soon(stuck.recv()).await.unwrap()[0], "last", "{transport}");
        };
        tokio::join!(async { assert!(waiting.await.is_ok()) }, reader);
    }
}

#[tokio::test]
async fn a_request_that_finds_its_server_at_the_byte_mark_goes_out_later() {
    let mut rep = Rep::builder().recv_hwm_bytes(1).bind(place("inproc")).await.expect("bind");
    // The peers' marks add up to two bytes, so that one request fills the server's queue.
    let req = Req::builder().send_hwm_bytes(1).connect(rep.local_endpoint()).expect("connect");
    req.wait_for_peers(1).await.expect("connected");
    let serve = async {
        for expected in ["first", "second"] {
            let request = rep.recv().await.expect("a request");
            assert_eq!(request.message()[0].to_str(), Ok(expected));
            request.reply("done").await.expect("replied");
        }
    };
    let (first, second) = (req.request("first").into_future(), req.request("second").into_future());
    let (first, second, ()) = tokio::join!(first, second, serve);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_busy_publisher_lets_a_subscriber_of_its_process_read() {
    const COUNT: u64 = 20_000;
    let publisher = Pub::bind(place("inproc")).await.expect("bind");
    let mut sub = Sub::builder().subscribe("").connect(publisher.local_endpoint()).expect("connect");
    publisher.wait_for_subscribers(1).await.expect("subscribed");
    let read = tokio::spawn(async move {
        for _ in 0..COUNT {
            sub.recv().await.expect("received");
        }
    });
    for _ in 0..COUNT {
        publisher.send("news").await.expect("sent");
    }
    assert_eq!(publisher.stats().drops.total(), 0);
    read.await.expect("all of it was read");
}

#[tokio::test]
async fn a_waiting_publication_notices_that_the_full_subscriber_cancels() {
    let publisher = Pub::builder().send_hwm(1).on_full(OnFull::Block).bind(place("inproc")).await.expect("bind");
    let sub = Sub::builder().recv_hwm(1).subscribe("").connect(publisher.local_endpoint()).expect("connect");
    publisher.wait_for_subscribers(1).await.expect("subscribed");
    while publisher.try_send("full").is_ok() {}
    let waits = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.send("nobody's").await }
    });
    tokio::task::yield_now().await;
    sub.unsubscribe("").expect("cancelled");
    waits.await.expect("no panic").expect("published to nobody");
}
