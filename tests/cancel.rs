//! Every public future can be dropped at every poll: nothing is lost, nothing is doubled, every wait ends.
//!
//! Each operation is begun again and again, and dropped after 0, 1, 2 … polls until it once completes.

mod common;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use common::polls::drop_after;
use common::*;
use ginnel::*;

const MESSAGES: u32 = 60;
/// An operation that a drop interrupts is tried with one poll more the next time, up to this many.
const POLLS: usize = 4;

/// Begins `$operation` anew after each drop, until it completes.
macro_rules! stubborn {
    ($operation:expr) => {
        async {
            let mut polls = 0;
            loop {
                if let Some(done) = drop_after(polls % (POLLS + 1), $operation).await {
                    break done;
                }
                polls += 1;
                tokio::task::yield_now().await;
            }
        }
    };
}

/// As an ordinary test on one thread, and again on two.
macro_rules! on_both_runtimes {
    ($($(#[$attribute:meta])* async fn $name:ident() $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn all() $body

            #[tokio::test]
            async fn on_one_thread() {
                soon(all()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_two_threads() {
                soon(tokio::spawn(all())).await.expect("no panic");
            }
        }
    )*};
}

/// A PUSH with little room before a PULL with little room.
async fn narrow(transport: &str) -> (Push, Pull) {
    let builder = Pull::builder().recv_hwm(2).send_buffer(4096).recv_buffer(4096);
    let pull = builder.bind(place(transport)).await.expect("bind");
    let builder = Push::builder().send_hwm(2).send_buffer(4096).recv_buffer(4096);
    (builder.connect(pull.local_endpoint()).expect("connect"), pull)
}

fn bulky(at: u32) -> Message {
    static BODY: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| Bytes::from(vec![0; 20_000]));
    Message::from((BODY.clone(), at.to_be_bytes()))
}

/// Reads everything that `numbers` were sent, one after the other.
async fn expect_numbers(pull: &mut Pull, numbers: impl IntoIterator<Item = u32>) {
    for expected in numbers {
        assert_eq!(number(&pull.recv().await.expect("open")), expected);
    }
}

on_both_runtimes! {
    async fn p10_recv_and_its_kin() {
        for transport in TRANSPORTS {
            for way in 0..4 {
                let (push, mut pull) = narrow(transport).await;
                let sending = tokio::spawn(async move {
                    for at in 0..MESSAGES {
                        let _ = push.send(bulky(at)).await.expect("open");
                    }
                    push
                });
                let mut batch = Batch::new();
                let mut got = Vec::new();
                while got.len() < MESSAGES as usize {
                    match way {
                        0 => got.push(number(&stubborn!(pull.recv()).await.expect("open"))),
                        1 => got.push(number(&stubborn!(pull.recv_timeout(DEADLINE)).await.expect("open"))),
                        2 => {
                            let count = stubborn!(pull.recv_batch(&mut batch, 3)).await.expect("open");
                            assert_eq!(count, batch.len());
                            got.extend(batch.iter().map(|view| number(&view.to_message())));
                        }
                        _ => got.push(number(&stubborn!(next(&mut *pull)).await.expect("open"))),
                    }
                }
                assert_eq!(got, (0..MESSAGES).collect::<Vec<_>>(), "{transport} {way}");
                assert!(sending.await.is_ok());
                assert_eq!(pull.try_recv(), Err(TryRecvError::Empty));
            }
        }
    }

    async fn p10_a_receiver_shared_by_many() {
        for transport in TRANSPORTS {
            let (push, pull) = narrow(transport).await;
            let shared = pull.into_shared();
            let mut workers = tokio::task::JoinSet::new();
            for _ in 0..3 {
                let shared = shared.clone();
                workers.spawn(async move {
                    let mut got = Vec::new();
                    while let Ok(message) = stubborn!(shared.recv()).await {
                        got.push(number(&message));
                    }
                    got
                });
            }
            for at in 0..MESSAGES {
                let _ = push.send(bulky(at)).await.expect("open");
            }
            push.close().await;
            until(|| shared.stats().messages_received == u64::from(MESSAGES)).await;
            shared.close().await;
            let mut got = workers.join_all().await.concat();
            got.sort_unstable();
            assert_eq!(got, (0..MESSAGES).collect::<Vec<_>>(), "{transport}");
        }
    }

    async fn p10_send_and_its_kin() {
        for transport in TRANSPORTS {
            for way in 0..4 {
                let (push, mut pull) = narrow(transport).await;
                let reading = tokio::spawn(async move {
                    expect_numbers(&mut pull, 0..MESSAGES).await;
                    pull
                });
                for at in 0..MESSAGES {
                    match way {
                        0 => drop(stubborn!(push.send(bulky(at))).await.expect("open")),
                        1 => drop(stubborn!(push.send_timeout(bulky(at), DEADLINE)).await.expect("open")),
                        2 => drop(stubborn!(push.reserve()).await.expect("open").send(bulky(at))),
                        _ => drop(stubborn!(push.send_all([bulky(at)])).await.expect("open")),
                    }
                }
                let mut pull = reading.await.expect("in order, each once");
                stubborn!(push.flush()).await.expect("open");
                assert_eq!(pull.try_recv(), Err(TryRecvError::Empty), "{transport} {way}");
                until(|| only_peer(&push).queued == 0).await;
            }
        }
    }

    async fn p10_a_blocking_publisher() {
        for transport in TRANSPORTS {
            let builder = Pub::builder().on_full(OnFull::Block).send_hwm(2).send_buffer(4096).recv_buffer(4096);
            let publisher = builder.bind(place(transport)).await.expect("bind");
            let mut readers = tokio::task::JoinSet::new();
            for topic in ["", "", "\0"] {
                let builder = Sub::builder().subscribe(topic).recv_hwm(2).send_buffer(4096).recv_buffer(4096);
                let mut sub = builder.connect(publisher.local_endpoint()).expect("connect");
                readers.spawn(async move {
                    for expected in 0..MESSAGES {
                        assert_eq!(number(&sub.recv().await.expect("open")), expected, "all or none");
                    }
                });
            }
            stubborn!(publisher.wait_for_subscribers(3)).await.expect("open");
            for at in 0..MESSAGES {
                let _ = stubborn!(publisher.send(bulky(at))).await.expect("open");
            }
            readers.join_all().await;
        }
    }

    async fn p10_a_mandatory_router_and_its_dealers() {
        for transport in TRANSPORTS {
            let builder = Router::builder().mandatory(true).send_hwm(2).recv_hwm(2);
            let mut router = builder.send_buffer(4096).recv_buffer(4096).bind(place(transport)).await.expect("bind");
            let mut dealers = tokio::task::JoinSet::new();
            for name in ["one", "two"] {
                let builder = Dealer::builder().identity(name).send_hwm(2).recv_hwm(2);
                let connecting = builder.send_buffer(4096).recv_buffer(4096).connect(router.local_endpoint());
                let mut dealer = connecting.expect("connect");
                dealers.spawn(async move {
                    let sender = dealer.sender();
                    let asking = async {
                        for at in 0..MESSAGES {
                            let _ = stubborn!(sender.send(bulky(at))).await.expect("open");
                        }
                    };
                    let reading = async {
                        for expected in 0..MESSAGES {
                            assert_eq!(number(&stubborn!(dealer.recv()).await.expect("open")), expected);
                        }
                    };
                    tokio::join!(asking, reading);
                });
            }
            stubborn!(router.wait_for_peers(2)).await.expect("open");
            for _ in 0..2 * MESSAGES {
                let (peer, message) = stubborn!(router.recv()).await.expect("open");
                let _ = stubborn!(router.send_to(&peer, message.clone())).await.expect("open");
            }
            dealers.join_all().await;
        }
    }

    async fn p10_request_and_reply() {
        for transport in TRANSPORTS {
            for correlated in [true, false] {
                let mut rep = Rep::bind(place(transport)).await.expect("bind");
                let builder = Req::builder().correlate(correlated).reconnect(QUICK, QUICK);
                let req = builder.connect(rep.local_endpoint()).expect("connect");
                let serving = tokio::spawn(async move {
                    let mut seen: HashMap<u32, u32> = HashMap::new();
                    while let Ok(request) = stubborn!(rep.recv()).await {
                        *seen.entry(number(request.message())).or_default() += 1;
                        let (body, responder) = request.into_parts();
                        // A reply is done at its first poll; its asker may be gone.
                        let _ = drop_after(1, responder.reply(body)).await.expect("it never waits");
                        if seen.contains_key(&MESSAGES) {
                            break;
                        }
                    }
                    (seen, rep)
                });
                let mut answered = 0;
                for at in 0..MESSAGES {
                    let polls = at as usize % (POLLS + 1);
                    if let Some(reply) = drop_after(polls, req.request(numbered(at)).into_future()).await {
                        match reply {
                            Ok(reply) => {
                                assert_eq!(number(&reply), at, "the reply to this request and no other");
                                answered += 1;
                            }
                            // An abandoned request before it took its connection with it.
                            Err(error) => assert_eq!(error, RequestError::PeerLost),
                        }
                    }
                }
                loop {
                    match req.request(numbered(MESSAGES)).await {
                        Ok(reply) => break assert_eq!(number(&reply), MESSAGES),
                        Err(error) => assert_eq!(error, RequestError::PeerLost),
                    }
                }
                let (seen, _rep) = serving.await.expect("no panic");
                let doubled = seen.iter().filter(|&(&at, &count)| at < MESSAGES && count > 1).count();
                assert_eq!(doubled, 0, "{transport}: carried out twice");
                assert!(answered <= seen.len());
            }
        }
    }

    async fn p10_waiting_for_peers() {
        for transport in TRANSPORTS {
            let pull = Pull::bind(place(transport)).await.expect("bind");
            assert_eq!(drop_after(1, pull.wait_for_peers(1)).await, None);
            let push = Push::connect(pull.local_endpoint()).expect("connect");
            stubborn!(pull.wait_for_peers(1)).await.expect("open");
            stubborn!(push.wait_for_peers(1)).await.expect("open");
            let waiting = tokio::spawn(async move { pull.wait_for_peers(2).await });
            drop(push);
            tokio::task::yield_now().await;
            waiting.abort();
            assert!(waiting.await.is_err());
        }
    }

    async fn p10_bind_binds_or_does_not() {
        for transport in TRANSPORTS {
            let pull = Pull::new();
            // A name must be looked up, which takes more than one poll.
            let there = if transport == "tcp" { "tcp://localhost:0".to_owned() } else { place(transport) };
            for polls in 0..=POLLS {
                match drop_after(polls, pull.bind_to(there.as_str())).await {
                    None => assert!(pull.endpoints().is_empty(), "{transport}: dropped, it has bound nothing"),
                    Some(bound) => {
                        let bound = bound.expect("free");
                        assert_eq!(pull.endpoints(), std::slice::from_ref(&bound));
                        pull.unbind(bound.clone()).expect("bound");
                        until(|| std::path::Path::new(bound.to_string().trim_start_matches("ipc://")).exists().eq(&false))
                            .await;
                    }
                }
            }
            let bound = pull.bind_to(there.as_str()).await.expect("still free");
            let push = Push::connect(bound).expect("connect");
            push.wait_for_peers(1).await.expect("open");
        }
    }

    async fn p10_close_goes_on_without_its_future() {
        for transport in TRANSPORTS {
            for polls in 0..=POLLS {
                let (push, mut pull) = narrow(transport).await;
                push.wait_for_peers(1).await.expect("open");
                let mut sent = 0;
                while push.try_send(bulky(sent)).is_ok() {
                    sent += 1;
                }
                let (closed, ()) = tokio::join!(drop_after(polls, push.close()), expect_numbers(&mut pull, 0..sent));
                assert!(polls == 0 || push.try_send("x").is_err(), "closed from the first poll on");
                let report = push.close().await;
                assert_eq!(report.dropped, 0, "{transport}");
                assert!(closed.is_none_or(|closed| closed == report), "every call gives the same report");
                pull.close().await;
                assert_eq!(pull.recv().await, Err(RecvError::Closed));
            }
        }
    }

    async fn p10_a_monitor_loses_no_event() {
        for transport in TRANSPORTS {
            let pull = Pull::bind(place(transport)).await.expect("bind");
            let (mut steady, mut hasty) = (pull.monitor(), pull.monitor());
            let reading = tokio::spawn(async move {
                let mut events = Vec::new();
                while let Some(event) = stubborn!(hasty.recv()).await {
                    events.push(event);
                }
                events
            });
            for _ in 0..5 {
                let push = Push::connect(pull.local_endpoint()).expect("connect");
                push.wait_for_peers(1).await.expect("open");
                push.close().await;
            }
            until(|| pull.peers().is_empty()).await;
            pull.close().await;
            let mut events = Vec::new();
            while let Some(event) = steady.recv().await {
                events.push(event);
            }
            assert!(events.len() >= 10, "{events:?}");
            assert_eq!(reading.await.expect("no panic"), events, "{transport}");
        }
    }

    async fn p10_a_dropped_proxy_holds_one_message_at_the_most() {
        for transport in TRANSPORTS {
            for polls in 1..=8 {
                let front = Pull::builder().recv_hwm(2).bind(place(transport)).await.expect("bind");
                let back = Push::builder().send_hwm(2).bind(place(transport)).await.expect("bind");
                let push = Push::connect(front.local_endpoint()).expect("connect");
                let mut pull = Pull::connect(back.local_endpoint()).expect("connect");
                push.wait_for_peers(1).await.expect("open");
                pull.wait_for_peers(1).await.expect("open");
                let passed = proxy(front, back);
                let control = passed.control();
                for at in 0..20 {
                    let _ = push.send(numbered(at)).await.expect("open");
                }
                tokio::select! {
                    ended = drop_after(polls, passed.into_future()) => assert_eq!(ended, None),
                    () = until(|| control.statistics().forward_messages == 20) => {}
                }
                let taken = control.statistics().forward_messages;
                let mut got = Vec::new();
                while (got.len() as u64) + 1 < taken {
                    got.push(number(&pull.recv().await.expect("open")));
                }
                assert_eq!(got, (0..got.len() as u32).collect::<Vec<_>>(), "{transport}");
            }
        }
    }
}

/// The next item of a stream.
async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> S::Item {
    let item = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await;
    item.expect("the stream goes on")
}

#[tokio::test]
async fn p10_a_dropped_timeout_leaves_nothing_behind() {
    for transport in TRANSPORTS {
        let (push, mut pull) = narrow(transport).await;
        assert_eq!(pull.recv_timeout(Duration::ZERO).await, Err(RecvError::Timeout));
        soon(push.wait_for_peers(1)).await.unwrap();
        soon(pull.wait_for_peers(1)).await.unwrap();
        let mut sent = 0;
        until(|| {
            while push.try_send(bulky(sent)).is_ok() {
                sent += 1;
            }
            only_peer(&pull).unread >= 2
        })
        .await;
        others_run().await;
        while push.try_send(bulky(sent)).is_ok() {
            sent += 1;
        }
        let error = soon(push.send_timeout(bulky(sent), Duration::from_millis(1))).await.unwrap_err();
        assert_eq!(number(&error.into_inner().expect("a message")), sent, "the message comes back");
        soon(expect_numbers(&mut pull, 0..sent)).await;
        let _ = soon(push.send(bulky(sent))).await.unwrap();
        soon(expect_numbers(&mut pull, [sent])).await;
    }
}

#[tokio::test]
async fn p10_a_sink_sends_what_it_took_once() {
    for transport in TRANSPORTS {
        let (push, mut pull) = narrow(transport).await;
        let mut sink = Box::pin(push.sink());
        let reading = tokio::spawn(async move {
            expect_numbers(&mut pull, 0..MESSAGES).await;
            pull
        });
        use futures_sink::Sink;
        for at in 0..MESSAGES {
            soon(stubborn!(std::future::poll_fn(|cx| sink.as_mut().poll_ready(cx)))).await.unwrap();
            sink.as_mut().start_send(bulky(at)).unwrap();
        }
        soon(stubborn!(std::future::poll_fn(|cx| sink.as_mut().poll_close(cx)))).await.unwrap();
        let mut pull = soon(reading).await.unwrap();
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty), "{transport}");
    }
}
