//! Many threads, small queues, peers that come and go: nothing is lost uncounted, and nobody waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ginnel::*;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("in time")
}

/// A name that no other test of this process has.
fn inproc(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("inproc://stress-{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test]
async fn p10_a_publisher_that_waits_goes_on_when_the_full_subscriber_cancels() {
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), inproc("cancel")] {
        let publisher = Pub::builder().on_full(OnFull::Block).send_hwm(1).bind(&*endpoint).await.unwrap();
        let sub =
            Sub::builder().recv_hwm(1).recv_buffer(4096).subscribe("").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let body = vec![7u8; 1 << 20];
        while publisher.send_timeout(body.clone(), Duration::from_millis(200)).await.is_ok() {}
        let sending = tokio::spawn({
            let publisher = publisher.clone();
            async move { publisher.send("last").await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        sub.unsubscribe("").unwrap();
        soon(sending).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_small_mark_does_not_end_the_turns() {
    for mark in [1, 2, 3, 10] {
        let mut pull = Pull::builder().recv_hwm(mark).bind(inproc("turns")).await.unwrap();
        let (one, other) =
            (Push::connect(pull.local_endpoint()).unwrap(), Push::connect(pull.local_endpoint()).unwrap());
        for n in 0..100u8 {
            one.send([1, n]).await.unwrap();
        }
        for n in 0..100u8 {
            other.send([2, n]).await.unwrap();
        }
        let mut from_one = 0;
        for _ in 0..100 {
            from_one += usize::from(soon(pull.recv()).await.unwrap()[0][0] == 1);
        }
        assert!((45..=55).contains(&from_one), "{from_one} of the first 100 came from one of two at a mark of {mark}");
    }
}

#[tokio::test]
async fn conflating_takes_the_newest_whatever_the_mark() {
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), inproc("newest")] {
        let mut pull = Pull::builder().conflate(true).recv_hwm(1).bind(&*endpoint).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        soon(pull.wait_for_peers(1)).await.unwrap();
        for n in 0..100u32 {
            push.send(n.to_be_bytes()).await.unwrap();
        }
        soon(push.flush()).await.unwrap();
        soon(async {
            while pull.stats().messages_received < 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(soon(pull.recv()).await.unwrap()[0], 99u32.to_be_bytes()[..]);
    }
}

#[tokio::test]
async fn p06_conflated_messages_are_counted_wherever_they_waited() {
    let mut pull = Pull::builder().conflate(true).bind(inproc("counted")).await.unwrap();
    let (one, other) = (Push::connect(pull.local_endpoint()).unwrap(), Push::connect(pull.local_endpoint()).unwrap());
    // The receiver takes both, gives one to us, and then finds newer ones.
    let mut read = 0;
    for _ in 0..10 {
        one.send("a").await.unwrap();
        other.send("b").await.unwrap();
        let _ = soon(pull.recv()).await.unwrap();
        read += 1;
    }
    while pull.try_recv().is_ok() {
        read += 1;
    }
    let stats = pull.stats();
    assert_eq!(stats.messages_received, 20);
    assert_eq!(read + stats.drops.total(), 20, "{stats:?}");
    assert_eq!(one.peers()[0].queued + other.peers()[0].queued, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscriptions_changed_by_two_threads_end_as_they_should() {
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), inproc("two")] {
        for round in 0..300u32 {
            let xpub = XPub::bind(&*endpoint).await.unwrap();
            let mut sub = Sub::connect(xpub.local_endpoint()).unwrap();
            soon(xpub.wait_for_peers(1)).await.unwrap();
            soon(sub.wait_for_peers(1)).await.unwrap();
            let one = sub.subscriptions();
            let other = sub.subscriptions();
            one.subscribe("t").unwrap();
            let first = std::thread::spawn(move || {
                for _ in 0..50 {
                    one.unsubscribe("t").unwrap();
                    one.subscribe("t").unwrap();
                }
            });
            let second = std::thread::spawn(move || {
                for _ in 0..50 {
                    other.subscribe("t").unwrap();
                    other.unsubscribe("t").unwrap();
                }
            });
            tokio::task::spawn_blocking(move || (first.join().unwrap(), second.join().unwrap())).await.unwrap();
            sub.subscribe("end").unwrap();
            let (sender, mut receiver) = xpub.split();
            soon(async { while receiver.recv().await.unwrap()[0] != b"\x01end"[..] {} }).await;
            sender.send("t").await.unwrap();
            sender.send("end").await.unwrap();
            assert_eq!(soon(sub.recv()).await.unwrap()[0], "t", "round {round} over {endpoint}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_identity_is_one_peer_after_a_rush() {
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), inproc("rush")] {
        for round in 0..30u32 {
            let router = Router::builder().handover(true).bind(&*endpoint).await.unwrap();
            let at = router.local_endpoint().unwrap();
            let mut monitor = router.monitor();
            let barrier = Arc::new(tokio::sync::Barrier::new(8));
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let (at, barrier) = (at.clone(), barrier.clone());
                    tokio::spawn(async move {
                        barrier.wait().await;
                        Dealer::builder().identity("same").no_reconnect().connect(at).unwrap()
                    })
                })
                .collect();
            let mut dealers = Vec::new();
            for task in tasks {
                dealers.push(soon(task).await.unwrap());
            }
            for _ in 0..8 {
                while !matches!(soon(monitor.recv()).await, Some(Event::Connected { .. })) {}
            }
            let connected = |socket: &Socket| socket.peers().iter().filter(|peer| peer.connected).count();
            let end = tokio::time::Instant::now() + Duration::from_secs(10);
            while connected(&router) != 1 || dealers.iter().map(|dealer| connected(dealer)).sum::<usize>() != 1 {
                assert!(tokio::time::Instant::now() < end, "round {round}: {:#?}", router.peers());
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inproc_diallers_find_the_last_binder() {
    let name = inproc("binders");
    let push = Push::builder().reconnect(Duration::from_millis(1), Duration::from_millis(5)).connect(&*name).unwrap();
    for round in 0..300u32 {
        let extra = tokio::spawn({
            let name = name.clone();
            async move {
                let push = Push::connect(&*name).unwrap();
                push.wait_for_peers(1).await.unwrap();
                push.shutdown_now();
            }
        });
        let mut pull = loop {
            if let Ok(pull) = Pull::bind(&*name).await {
                break pull;
            }
        };
        push.send_timeout(round.to_be_bytes(), Duration::from_secs(10)).await.unwrap();
        let got = tokio::time::timeout(Duration::from_secs(10), pull.recv()).await;
        assert!(got.is_ok(), "round {round}: {:?} {:?}", push.peers(), pull.peers());
        drop(pull);
        extra.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_no_publication_stays_behind_when_sets_change() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let _both = Sub::builder().subscribe("a").subscribe("b").connect(publisher.local_endpoint()).unwrap();
    let mut sub = Sub::builder().subscribe("a").connect(publisher.local_endpoint()).unwrap();
    soon(publisher.wait_for_subscribers(2)).await.unwrap();
    let changes = sub.subscriptions();
    let changing = tokio::spawn(async move {
        loop {
            changes.subscribe("b").unwrap();
            tokio::task::yield_now().await;
            changes.unsubscribe("b").unwrap();
            tokio::task::yield_now().await;
        }
    });
    for n in 0..3000u32 {
        publisher.send(("a", n.to_be_bytes().to_vec())).await.unwrap();
        assert_eq!(soon(sub.recv()).await.unwrap()[1], n.to_be_bytes()[..]);
    }
    changing.abort();
}

#[test]
fn p10_every_wait_ends_when_the_runtime_is_dropped() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for endpoint in ["tcp://127.0.0.1:0".to_owned(), inproc("runtime")] {
        let (first, second) = (runtime(), runtime());
        let (push, mut pull, req, mut monitor) = first.block_on(async {
            let pull = Pull::builder().recv_hwm(1).bind(&*endpoint).await.unwrap();
            let push = Push::builder().send_hwm(10).connect(pull.local_endpoint()).unwrap();
            soon(push.wait_for_peers(1)).await.unwrap();
            // Nobody answers there.
            let req = Req::connect(inproc("nobody")).unwrap();
            let monitor = push.monitor();
            (push, pull, req, monitor)
        });
        let (send, ask) = (push.clone(), req.clone());
        let sending = second.spawn(async move {
            let mut accepted = 0;
            while send.send(vec![0; 1 << 20]).await.is_ok() {
                accepted += 1;
            }
            accepted
        });
        let asking = second.spawn(async move { ask.request("x").await.is_err() });
        first.shutdown_background();
        second.block_on(async {
            let accepted = soon(sending).await.unwrap();
            assert!(soon(asking).await.unwrap());
            soon(async { while pull.recv().await.is_ok() {} }).await;
            soon(async { while monitor.recv().await.is_some() {} }).await;
            let _ = soon(push.close()).await;
            let stats = push.stats();
            assert_eq!(stats.messages_sent + stats.drops.total(), accepted, "{stats:?}");
        });
    }
}

#[tokio::test]
async fn unbinding_ends_what_was_accepted_there_and_the_next_one_gets_the_peers() {
    for endpoint in [
        format!("ipc://{}", std::env::temp_dir().join(format!("ginnel-stress-{}", std::process::id())).display()),
        inproc("unbind"),
    ] {
        let mut first = Pull::bind(&*endpoint).await.unwrap();
        let quick = Duration::from_millis(1);
        let push = Push::builder().reconnect(quick, quick).connect(&*endpoint).unwrap();
        push.send("one").await.unwrap();
        assert_eq!(soon(first.recv()).await.unwrap()[0], "one");
        first.unbind(&*endpoint).unwrap();
        soon(async {
            while !first.peers().is_empty() || push.peers().iter().any(|peer| peer.connected) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut second = Pull::bind(&*endpoint).await.unwrap();
        push.send("two").await.unwrap();
        assert_eq!(soon(second.recv()).await.unwrap()[0], "two");
    }
}
