//! Any runtime, any thread: sockets are plain values that need tokio only where they bind and connect.

mod common;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use common::*;
use ginnel::*;

/// An executor of a few lines that is not tokio.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            // Long enough to be woken, and short enough to fail instead of hanging.
            Poll::Pending => thread::park_timeout(DEADLINE),
        }
    }
}

#[test]
fn without_a_runtime_bind_and_connect_are_errors() {
    for transport in TRANSPORTS {
        let pull = Pull::new();
        assert!(matches!(block_on(pull.bind_to(place(transport))), Err(BindError::Option(_))), "{transport}");
        let push = Push::new();
        let there = if transport == "tcp" { "tcp://127.0.0.1:1".to_owned() } else { place(transport) };
        assert!(matches!(push.connect_to(there.as_str()), Err(ConnectError::Option(_))), "{transport}");
        // And everything else that needs none works or says no.
        assert!(push.try_send("nobody").is_err());
        assert!(push.peers().is_empty());
        assert_eq!(block_on(push.close()), Report::default());
    }
}

#[test]
fn another_executor_may_poll() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for transport in TRANSPORTS {
        let (push, mut pull, req, mut rep) = runtime.block_on(async {
            let pull = Pull::builder().recv_hwm(2).bind(place(transport)).await.unwrap();
            let push = Push::builder().send_hwm(2).connect(pull.local_endpoint()).unwrap();
            let rep = Rep::bind(place(transport)).await.unwrap();
            let req = Req::connect(rep.local_endpoint()).unwrap();
            (push, pull, req, rep)
        });
        let sender = thread::spawn(move || {
            for at in 0..200 {
                let _ = block_on(push.send(numbered(at))).unwrap();
            }
            block_on(push.flush()).unwrap();
            let report = block_on(push.close());
            assert_eq!(report.dropped, 0);
        });
        for at in 0..200 {
            assert_eq!(number(&block_on(pull.recv()).unwrap()), at, "{transport}");
        }
        sender.join().unwrap();
        let server = thread::spawn(move || {
            for _ in 0..20 {
                let request = block_on(rep.recv()).unwrap();
                let body = request.message().clone();
                let _ = block_on(request.reply(body)).unwrap();
            }
            rep
        });
        for at in 0..20 {
            assert_eq!(number(&block_on(req.request(numbered(at)).into_future()).unwrap()), at, "{transport}");
        }
        drop(server.join().unwrap());
    }
}

#[test]
fn two_runtimes_share_a_socket() {
    let (one, two) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    for transport in TRANSPORTS {
        let push = Push::builder().send_hwm(3).build().unwrap();
        let mut pull = two.block_on(Pull::builder().recv_hwm(3).bind(place(transport))).unwrap();
        one.block_on(async { push.connect_to(pull.local_endpoint()).unwrap() });
        let mut senders = Vec::new();
        for runtime in [&one, &two] {
            for _ in 0..2 {
                let push = push.clone();
                senders.push(runtime.spawn(async move {
                    for at in 0..100 {
                        let _ = push.send(numbered(at)).await.expect("open");
                    }
                }));
            }
        }
        // Received now here, now there.
        for at in 0..400 {
            let runtime = if at % 2 == 0 { &one } else { &two };
            runtime.block_on(soon(pull.recv())).unwrap();
        }
        for sender in senders {
            one.block_on(soon(sender)).unwrap();
        }
    }
}

#[test]
fn threads_send_without_any_executor() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for transport in TRANSPORTS {
        let (push, mut pull) = runtime.block_on(async {
            let pull = Pull::bind(place(transport)).await.unwrap();
            (Push::connect(pull.local_endpoint()).unwrap(), pull)
        });
        let threads: Vec<_> = (0..4u32)
            .map(|id| {
                let push = push.clone();
                thread::spawn(move || {
                    for at in 0..200u32 {
                        let mut message = Message::from((id.to_be_bytes(), at.to_be_bytes()));
                        while let Err(error) = push.try_send(message) {
                            message = error.into_inner().expect("the message comes back");
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; 4];
        for _ in 0..800 {
            let message = runtime.block_on(soon(pull.recv())).unwrap();
            let id = message[0][3] as usize;
            assert_eq!(number(&message), next[id], "{transport}");
            next[id] += 1;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[tokio::test]
async fn a_loop_that_sends_lets_others_run() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().recv_hwm(0).recv_hwm_bytes(0).bind(place(transport)).await.unwrap();
        let push = Push::builder().send_hwm(0).send_hwm_bytes(0).connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        let reader = tokio::spawn(async move { pull.recv().await.map(drop) });
        // It never waits for room, and has to let the reader run all the same.
        soon(async {
            let mut sent = 0u64;
            while !reader.is_finished() {
                let _ = push.send(vec![0; 1000]).await.expect("open");
                sent += 1;
                assert!(sent < 10_000_000, "{transport}: the reader never runs");
            }
        })
        .await;
        push.shutdown_now();
    }
}

#[tokio::test]
async fn a_loop_that_publishes_lets_others_run() {
    for transport in TRANSPORTS {
        let publisher = Pub::bind(place(transport)).await.unwrap();
        let there = publisher.local_endpoint();
        // It begins before there is anybody, and goes on when its subscriber has no room.
        let reader = tokio::spawn(async move {
            let mut sub = Sub::builder().subscribe("").connect(there).expect("connect");
            for _ in 0..3000 {
                sub.recv().await.expect("open");
            }
        });
        let mut sent = 0u64;
        while !reader.is_finished() {
            let _ = publisher.send(vec![0; 100]).await.expect("open");
            sent += 1;
            assert!(sent < 50_000_000, "{transport}: the reader never runs");
        }
        soon(reader).await.unwrap();
    }
}

#[tokio::test]
async fn a_loop_that_drops_lets_others_run() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let push = Push::builder().on_full(OnFull::DropNewest).send_hwm(10).reconnect(QUICK, QUICK).build().unwrap();
        push.connect_to(&there).unwrap();
        let mut router = Router::bind(place(transport)).await.unwrap();
        let dealer = Dealer::builder().identity("late").connect(router.local_endpoint()).unwrap();
        let late = PeerId::from(&b"late"[..]);
        let reader = tokio::spawn(async move {
            let mut pull = Pull::new();
            bind_again(&pull, &there).await;
            let mut dealer = dealer;
            pull.recv().await.expect("open");
            dealer.recv().await.expect("open");
        });
        let mut sent = 0u64;
        while !reader.is_finished() {
            let _ = push.send("full").await.expect("open");
            let _ = router.send_to(&late, "unknown").await.expect("open");
            sent += 1;
            assert!(sent < 50_000_000, "{transport}: the others never run");
        }
        soon(reader).await.unwrap();
        assert!(router.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_go_by_the_runtimes_clock() {
    let hour = Duration::from_secs(3600);
    let mut pull = Pull::bind(place("inproc")).await.unwrap();
    assert_eq!(pull.recv_timeout(hour).await, Err(RecvError::Timeout));
    let push = Push::builder().send_hwm(1).linger(Duration::ZERO).connect(place("inproc").as_str()).unwrap();
    let _ = push.send("fits").await.unwrap();
    assert!(matches!(push.send_timeout("waits", hour).await, Err(SendError::Timeout(_))));
    let req = Req::connect(place("inproc").as_str()).unwrap();
    assert_eq!(req.request("x").timeout(hour).await, Err(RequestError::Timeout));
    let lingering = Push::builder().linger(hour).connect(place("inproc").as_str()).unwrap();
    let _ = lingering.send("for nobody").await.unwrap();
    assert_eq!(lingering.close().await.dropped, 1);
}

#[tokio::test]
async fn a_panic_of_the_user_harms_no_socket() {
    for transport in TRANSPORTS {
        let mut pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::builder().send_hwm(2).connect(pull.local_endpoint()).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        let clone = push.clone();
        let panics = tokio::spawn(async move {
            let _permit = clone.reserve().await.expect("open");
            let _second = clone.reserve().await.expect("open");
            panic!("of the user");
        });
        assert!(soon(panics).await.is_err());
        for at in 0..10 {
            let _ = soon(push.send(numbered(at))).await.unwrap();
            assert_eq!(number(&soon(pull.recv()).await.unwrap()), at, "{transport}");
        }
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let unanswered = tokio::spawn(req.request("x").into_future());
        let request = soon(rep.recv()).await.unwrap();
        let panics = tokio::spawn(async move {
            let _request = request;
            panic!("of the user");
        });
        assert!(soon(panics).await.is_err());
        unanswered.abort();
        let asking = tokio::spawn(req.request("y").into_future());
        let _ = soon(rep.recv()).await.unwrap().reply("z").await.unwrap();
        assert_eq!(soon(asking).await.unwrap().unwrap()[0], "z", "{transport}");
    }
}

#[test]
fn handles_cross_threads() {
    fn sendable<T: Send + 'static>() {}
    fn sharable<T: Send + std::marker::Sync + Clone + 'static>() {}
    sharable::<(Push, Pub, Req, Sender, RouterSender, SharedReceiver, Socket, Subscriptions)>();
    sendable::<(Pull, Sub, Rep, Dealer, Router, XPub, XSub, Pair)>();
    sendable::<(Receiver, RouterReceiver, Monitor, Request, Responder, Batch, Proxy, MessageSink)>();
    sharable::<(Message, Frame, Endpoint, PeerId, Event, Stats, PeerInfo, ProxyControl)>();
}

#[tokio::test]
async fn thousands_of_sockets_of_one_process_meet() {
    let mut pull = Pull::bind(place("inproc")).await.unwrap();
    let there = pull.local_endpoint();
    let pushes: Vec<Push> = (0..2000).map(|_| Push::connect(there.clone()).unwrap()).collect();
    for (at, push) in pushes.iter().enumerate() {
        let _ = push.send(numbered(at as u32)).await.unwrap();
    }
    let mut got: Vec<u32> = Vec::new();
    for _ in 0..2000 {
        got.push(number(&soon(pull.recv()).await.unwrap()));
    }
    got.sort_unstable();
    assert!(got.into_iter().eq(0..2000));
    drop(pushes);
    until(|| pull.peers().is_empty()).await;
}
