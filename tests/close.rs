//! Every end is a clean one: what was accepted is written or counted, what waits is woken, nothing stays behind.

mod common;

use std::future::{Future, IntoFuture};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use common::raw::Raw;
use common::*;
use ginnel::*;
use tokio::task::JoinSet;

/// A connected PUSH whose peer does not exist, with ten messages.
fn ten_for_nobody(transport: &str, linger: Option<Duration>) -> (Push, String) {
    let there = match transport {
        "tcp" => {
            let holder = std::net::TcpListener::bind((loopback(), 0)).expect("bind");
            format!("tcp://{}", holder.local_addr().expect("an address"))
        }
        other => place(other),
    };
    let builder = Push::builder().linger(linger).reconnect(QUICK, QUICK);
    let push = builder.connect(there.as_str()).expect("connect");
    for at in 0..10 {
        push.try_send(numbered(at)).expect("room");
    }
    (push, there)
}

async fn reads_ten(pull: &mut Pull) {
    for at in 0..10 {
        assert_eq!(number(&soon(pull.recv()).await.expect("open")), at);
    }
}

#[tokio::test]
async fn p06_no_linger_discards_and_counts() {
    for transport in TRANSPORTS {
        let (push, _) = ten_for_nobody(transport, Some(Duration::ZERO));
        let report = soon(push.close()).await;
        assert_eq!((report.sent, report.dropped, report.kept), (0, 10, 0), "{transport}");
        assert_eq!(push.stats().drops.get(DropReason::Linger), 10, "{transport}");
        assert_eq!(push.stats().drops.total(), 10, "{transport}");
    }
}

#[tokio::test]
async fn p06_linger_that_passes_discards_and_counts() {
    for transport in TRANSPORTS {
        let (push, _) = ten_for_nobody(transport, Some(Duration::from_millis(30)));
        let report = soon(push.close()).await;
        assert_eq!((report.sent, report.dropped, report.kept), (0, 10, 0), "{transport}");
        assert_eq!(push.stats().drops.get(DropReason::Linger), 10, "{transport}");
    }
}

#[tokio::test]
async fn p10_linger_waits_for_whoever_comes() {
    for transport in TRANSPORTS {
        for linger in [None, Some(DEADLINE)] {
            let (push, there) = ten_for_nobody(transport, linger);
            let closing = tokio::spawn({
                let push = push.clone();
                async move { push.close().await }
            });
            others_run().await;
            assert!(!closing.is_finished(), "{transport}");
            let mut pull = Pull::bind(there.as_str()).await.unwrap();
            reads_ten(&mut pull).await;
            let report = soon(closing).await.unwrap();
            assert_eq!((report.sent, report.dropped), (10, 0), "{transport}");
            assert_eq!(push.stats().drops.total(), 0, "{transport}");
        }
    }
}

#[tokio::test]
async fn p06_report_and_counters_agree_about_a_reader_that_never_reads() {
    for transport in WIRES {
        for linger in [Duration::ZERO, Duration::from_millis(30)] {
            let pull = Pull::builder().recv_hwm(2).recv_buffer(4096).bind(place(transport)).await.unwrap();
            let builder = Push::builder().send_hwm(100).send_buffer(4096).linger(linger);
            let push = builder.connect(pull.local_endpoint()).unwrap();
            soon(push.wait_for_peers(1)).await.unwrap();
            let mut sent = 0;
            let body = Bytes::from(vec![0; 20_000]);
            until(|| {
                while push.try_send(body.clone()).is_ok() {
                    sent += 1;
                }
                pull.peers().iter().any(|peer| peer.unread == 2)
            })
            .await;
            let report = soon(push.close()).await;
            let stats = push.stats();
            assert!(report.dropped > 90, "{transport} {report:?}");
            assert_eq!(stats.drops.get(DropReason::Linger), stats.drops.total(), "{transport}");
            assert_eq!(stats.drops.total(), report.dropped, "{transport} {linger:?}");
            assert_eq!(stats.messages_sent + report.dropped, sent, "{transport} {linger:?}");
        }
    }
}

#[tokio::test]
async fn p10_a_second_close_gives_the_same_report() {
    let (push, _) = ten_for_nobody("tcp", Some(Duration::ZERO));
    let other = push.clone();
    let (one, two) = tokio::join!(soon(push.close()), soon(other.close()));
    assert_eq!(one, two);
    assert_eq!(soon(push.close()).await, one);
    let never_used = Push::new();
    assert_eq!(soon(never_used.close()).await, Report::default());
}

#[tokio::test]
async fn p10_the_last_handles_drop_still_delivers() {
    for transport in TRANSPORTS {
        let (push, there) = ten_for_nobody(transport, Some(DEADLINE));
        let clone = push.clone();
        drop(push);
        let _ = clone.send(numbered(10)).await.unwrap();
        drop(clone);
        let mut pull = Pull::bind(there.as_str()).await.unwrap();
        reads_ten(&mut pull).await;
        assert_eq!(number(&soon(pull.recv()).await.unwrap()), 10, "{transport}");
        until(|| pull.peers().is_empty()).await;
    }
}

#[tokio::test]
async fn p10_a_socket_lives_as_long_as_any_of_its_halves() {
    for transport in TRANSPORTS {
        let dealer = Dealer::bind(place(transport)).await.unwrap();
        let there = dealer.local_endpoint();
        let (sender, receiver) = dealer.split();
        drop(receiver);
        let mut other = Dealer::connect(there).unwrap();
        let _ = soon(sender.send("still here")).await.unwrap();
        assert_eq!(soon(other.recv()).await.unwrap()[0], "still here");
        drop(sender);
        until(|| other.peers().iter().all(|peer| !peer.connected)).await;
    }
}

#[tokio::test]
async fn p06_shutdown_now_discards_and_counts() {
    for transport in TRANSPORTS {
        let (push, _) = ten_for_nobody(transport, None);
        push.shutdown_now();
        assert!(matches!(push.try_send("x"), Err(TrySendError::Closed(_))));
        let report = soon(push.close()).await;
        assert_eq!(report.dropped, 10, "{transport}");
        assert_eq!(push.stats().drops.get(DropReason::Linger), 10, "{transport}");
    }
}

#[tokio::test]
async fn p10_shutdown_now_ends_a_close_that_lingers() {
    for transport in TRANSPORTS {
        let (push, _) = ten_for_nobody(transport, None);
        let closing = tokio::spawn({
            let push = push.clone();
            async move { push.close().await }
        });
        others_run().await;
        push.shutdown_now();
        assert_eq!(soon(closing).await.unwrap().dropped, 10, "{transport}");
    }
}

#[tokio::test]
async fn p10_what_was_received_stays_readable() {
    for transport in TRANSPORTS {
        let mut pull = Pull::bind(place(transport)).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        for at in 0..10 {
            let _ = push.send(numbered(at)).await.unwrap();
        }
        until(|| pull.stats().messages_received == 10).await;
        soon(pull.close()).await;
        reads_ten(&mut pull).await;
        assert_eq!(soon(pull.recv()).await, Err(RecvError::Closed), "{transport}");
        assert_eq!(pull.try_recv(), Err(TryRecvError::Closed), "{transport}");
    }
}

#[tokio::test]
async fn p10_a_closed_socket_says_so() {
    for transport in TRANSPORTS {
        let push = Push::bind(place(transport)).await.unwrap();
        let there = push.local_endpoint().unwrap().to_string();
        let sub = Sub::connect(push.local_endpoint()).unwrap();
        soon(push.close()).await;
        soon(sub.close()).await;
        assert!(matches!(push.bind_to(there.as_str()).await, Err(BindError::Closed)));
        assert!(matches!(push.connect_to(there.as_str()), Err(ConnectError::Closed)));
        assert!(matches!(push.send("x").await, Err(SendError::Closed(message)) if message[0] == "x"));
        assert!(matches!(push.send_timeout("x", DEADLINE).await, Err(SendError::Closed(_))));
        assert!(matches!(push.reserve().await, Err(SendError::Closed(()))));
        assert!(matches!(push.try_reserve(), Err(TrySendError::Closed(()))));
        let error = push.send_all(["x", "y"]).await.unwrap_err();
        assert_eq!((error.sent, error.rest.len()), (0, 2));
        let _ = soon(push.flush()).await;
        assert_eq!(push.wait_for_peers(1).await, Err(WaitError::Closed));
        assert!(sub.subscribe("x").is_err());
        assert!(sub.unsubscribe("x").is_err());
        assert!(push.peers().is_empty());
    }
}

#[tokio::test]
async fn p10_a_monitor_made_after_the_end_ends() {
    let push = Push::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut before = push.monitor();
    soon(push.close()).await;
    soon(async { while before.recv().await.is_some() {} }).await;
    assert_eq!(soon(push.monitor().recv()).await, None);
    assert_eq!(soon(push.monitor().recv()).await, None);
}

/// Tasks that all wait; they must all end.
struct Waits(JoinSet<&'static str>);

impl Waits {
    fn add(&mut self, what: &'static str, wait: impl Future<Output: Send> + Send + 'static) {
        self.0.spawn(async move {
            wait.await;
            what
        });
    }
}

/// Every kind of wait, on sockets where nothing ever happens.
async fn every_wait(transport: &str) -> (Waits, Vec<Socket>) {
    let mut waits = Waits(JoinSet::new());
    let mut sockets: Vec<Socket> = Vec::new();
    let (push, _) = ten_for_nobody(transport, Some(Duration::from_millis(10)));
    while push.try_send("x").is_ok() {}
    let all = push.clone();
    waits.add("send", async move { all.send("x").await.expect_err("closed") });
    let all = push.clone();
    waits.add("send_timeout", async move { all.send_timeout("x", DEADLINE * 10).await.expect_err("closed") });
    let all = push.clone();
    waits.add("send_all", async move { all.send_all(["x", "y"]).await.expect_err("closed") });
    let all = push.clone();
    waits.add("reserve", async move { all.reserve().await.map(drop).expect_err("closed") });
    let all = push.clone();
    waits.add("wait_for_peers", async move { all.wait_for_peers(2).await.expect_err("closed") });
    let mut monitor = push.monitor();
    waits.add("monitor", async move { while monitor.recv().await.is_some() {} });
    sockets.push((**push).clone());

    // More than any kernel takes, to a reader that never reads.
    let stuck = Pull::builder().recv_hwm(1).bind(place(transport)).await.expect("bind");
    let builder = Push::builder().linger(Duration::from_millis(10));
    let push = builder.connect(stuck.local_endpoint()).expect("connect");
    soon(push.wait_for_peers(1)).await.expect("open");
    let body = Bytes::from(vec![0; 24 << 20]);
    for _ in 0..3 {
        push.try_send(body.clone()).expect("room");
    }
    sockets.push((**push).clone());
    sockets.push((**stuck).clone());
    waits.add("flush", async move { push.flush().await });
    // Kept by a task, as the program that forgot it would.
    waits.add("the reader that never reads", async move { stuck.wait_for_peers(9).await.expect_err("closed") });

    let mut pull = Pull::bind(place(transport)).await.expect("bind");
    sockets.push((**pull).clone());
    waits.add("recv", async move { pull.recv().await.expect_err("closed") });
    let mut pull = Pull::bind(place(transport)).await.expect("bind");
    sockets.push((**pull).clone());
    waits.add("recv_timeout", async move { pull.recv_timeout(DEADLINE * 10).await.expect_err("closed") });
    let mut pull = Pull::bind(place(transport)).await.expect("bind");
    sockets.push((**pull).clone());
    waits.add("recv_batch", async move { pull.recv_batch(&mut Batch::new(), 9).await.expect_err("closed") });
    let shared = Pull::bind(place(transport)).await.expect("bind").into_shared();
    sockets.push((*shared).clone());
    for _ in 0..3 {
        let shared = shared.clone();
        waits.add("shared recv", async move { shared.recv().await.expect_err("closed") });
    }
    let publisher = Pub::builder().on_full(OnFull::Block).bind(place(transport)).await.expect("bind");
    sockets.push((**publisher).clone());
    waits.add("subscribers", async move { publisher.wait_for_subscribers(1).await.expect_err("closed") });

    let mut rep = Rep::bind(place(transport)).await.expect("bind");
    let req = Req::connect(rep.local_endpoint()).expect("connect");
    sockets.push((*req).clone());
    sockets.push((*rep).clone());
    waits.add("request that is served by nobody", req.request("x").into_future());
    waits.add("rep recv", async move {
        let open = rep.recv().await.expect("a request");
        rep.recv().await.expect_err("closed");
        drop(open);
    });
    let req = Req::connect(ten_for_nobody("tcp", None).1.as_str()).expect("connect");
    sockets.push((*req).clone());
    waits.add("request for nobody", req.request("x").into_future());

    let mut router = Router::builder().mandatory(true).bind(place(transport)).await.expect("bind");
    sockets.push((*router).clone());
    waits.add("router recv", async move { router.recv().await.expect_err("closed") });
    let front = Router::bind(place(transport)).await.expect("bind");
    let back = Dealer::bind(place(transport)).await.expect("bind");
    sockets.push((*front).clone());
    sockets.push((*back.sender()).clone());
    waits.add("proxy", proxy(front, back).into_future());
    others_run().await;
    (waits, sockets)
}

#[tokio::test]
async fn p10_every_wait_ends_with_its_socket() {
    for transport in TRANSPORTS {
        for now in [false, true] {
            let (mut waits, sockets) = every_wait(transport).await;
            others_run().await;
            while let Some(early) = waits.0.try_join_next() {
                // To the other socket of this process everything accepted is handed over already.
                assert_eq!((transport, early.expect("no panic")), ("inproc", "flush"), "has ended too soon");
            }
            let before = waits.0.len();
            for socket in &sockets {
                if now {
                    socket.shutdown_now();
                } else {
                    tokio::spawn({
                        let socket = socket.clone();
                        async move { socket.close().await }
                    });
                }
            }
            let mut ended = Vec::new();
            while let Some(what) = tokio::time::timeout(DEADLINE, waits.0.join_next()).await.unwrap_or_else(|_| {
                panic!("{transport} {now}: of {before} waits only these ended: {ended:?}");
            }) {
                ended.push(what.expect("no panic"));
            }
            assert_eq!(ended.len(), before);
        }
    }
}

#[tokio::test]
async fn p10_unread_input_does_not_take_sent_messages_with_it() {
    for transport in WIRES {
        for size in [10, 100_000] {
            let body = Bytes::from(vec![1; size]);
            let one = Pair::builder().recv_hwm(2).bind(place(transport)).await.unwrap();
            let mut two = Pair::connect(one.local_endpoint()).unwrap();
            soon(one.wait_for_peers(1)).await.unwrap();
            soon(two.wait_for_peers(1)).await.unwrap();
            // More than `one` reads: it stays in the kernel.
            for _ in 0..50 {
                let _ = two.send(body.clone()).await.unwrap();
            }
            others_run().await;
            for at in 0..50u32 {
                let _ = one.send((body.clone(), at.to_be_bytes())).await.unwrap();
            }
            let closing = tokio::spawn(async move { one.close().await });
            for at in 0..50 {
                assert_eq!(number(&soon(two.recv()).await.unwrap()), at, "{transport} {size}");
            }
            assert_eq!(soon(closing).await.unwrap().dropped, 0, "{transport}");
        }
    }
}

#[tokio::test]
async fn p10_tasks_end_with_their_sockets() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for transport in TRANSPORTS {
        for way in 0..3 {
            let publisher = Pub::bind(place(transport)).await.unwrap();
            let subs: Vec<Sub> =
                (0..5).map(|_| Sub::builder().subscribe("").connect(publisher.local_endpoint()).unwrap()).collect();
            let (unmet, _) = ten_for_nobody(transport, Some(Duration::ZERO));
            soon(publisher.wait_for_subscribers(5)).await.unwrap();
            assert!(tasks() > before);
            match way {
                0 => {
                    soon(publisher.close()).await;
                    for sub in &subs {
                        soon(sub.close()).await;
                    }
                    soon(unmet.close()).await;
                }
                1 => {
                    publisher.shutdown_now();
                    subs.iter().for_each(|sub| sub.shutdown_now());
                    unmet.shutdown_now();
                }
                _ => drop((publisher, subs, unmet)),
            }
            until(|| tasks() <= before).await;
        }
    }
}

#[tokio::test]
async fn p10_an_address_is_free_after_the_end() {
    for transport in TRANSPORTS {
        let mut there = place(transport);
        for way in 0..6 {
            let pull = Pull::new();
            soon(async {
                while let Err(error) = pull.bind_to(there.as_str()).await {
                    assert!(way % 3 != 0 && matches!(error, BindError::AddrInUse(_)), "{transport} {way}: {error}");
                    tokio::task::yield_now().await;
                }
            })
            .await;
            there = pull.local_endpoint().unwrap().to_string();
            let push = Push::connect(there.as_str()).unwrap();
            soon(push.wait_for_peers(1)).await.unwrap();
            // The way before 0 and 3 is a close that was waited for: then the address is free at once.
            match way % 3 {
                0 => pull.shutdown_now(),
                1 => drop(pull),
                _ => drop(soon(pull.close()).await),
            }
        }
    }
}

#[tokio::test]
async fn p10_an_ipc_file_goes_with_its_listener() {
    for way in 0..4 {
        let there = place("ipc");
        let path = there.trim_start_matches("ipc://").to_owned();
        let pull = Pull::bind(there.as_str()).await.unwrap();
        assert!(Path::new(&path).exists());
        match way {
            0 => pull.shutdown_now(),
            1 => drop(pull),
            2 => drop(soon(pull.close()).await),
            _ => pull.unbind(there.as_str()).unwrap(),
        }
        until(|| !Path::new(&path).exists()).await;
    }
    let pull = Pull::bind("ipc://*").await.unwrap();
    let path = pull.local_endpoint().unwrap().to_string().trim_start_matches("ipc://").to_owned();
    soon(pull.close()).await;
    until(|| !Path::new(&path).parent().unwrap().exists()).await;
}

#[tokio::test]
async fn p10_close_does_not_wait_for_a_handshake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let push = Push::builder().handshake_timeout(Duration::ZERO).build().unwrap();
    push.connect_to(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let (mut mute, _) = soon(listener.accept()).await.unwrap();
    soon(push.close()).await;
    let mut rest = Vec::new();
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut mute, &mut rest)).await;

    let pull = Pull::builder().handshake_timeout(Duration::ZERO).bind("tcp://127.0.0.1:0").await.unwrap();
    let there = pull.local_endpoint().unwrap().to_string();
    let mut mute = tokio::net::TcpStream::connect(there.trim_start_matches("tcp://")).await.unwrap();
    let mut greeting = [0; 10];
    soon(tokio::io::AsyncReadExt::read_exact(&mut mute, &mut greeting)).await.unwrap();
    soon(pull.close()).await;
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut mute, &mut rest)).await;
}

#[tokio::test]
async fn p10_a_peer_that_never_closes_its_side_holds_no_close_up() {
    let pull = Pull::bind("tcp://127.0.0.1:0").await.unwrap();
    let raw = soon(Raw::connect(&pull.local_endpoint().unwrap().to_string(), "PUSH")).await;
    soon(pull.wait_for_peers(1)).await.unwrap();
    soon(pull.close()).await;
    drop(raw);
}

/// Runs `work` on a thread of its own, which must end in time.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match ended.recv_timeout(DEADLINE) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the thread hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            thread.join().expect("no panic");
        }
    }
}

fn busy_sockets(runtime: &tokio::runtime::Runtime) -> (Vec<Push>, Vec<Pull>, Push) {
    runtime.block_on(async {
        let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
        for at in 0..8 {
            let pull = Pull::bind(place(TRANSPORTS[at % 3])).await.expect("bind");
            let push = Push::connect(pull.local_endpoint()).expect("connect");
            soon(push.wait_for_peers(1)).await.expect("open");
            while push.try_send(vec![0; 10_000]).is_ok() {}
            pushes.push(push);
            pulls.push(pull);
        }
        (pushes, pulls, ten_for_nobody("tcp", None).0)
    })
}

#[test]
fn p10_a_runtime_may_end_before_its_sockets() {
    for threads in [0, 2] {
        in_time(move || {
            let mut builder = match threads {
                0 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.enable_all().build().expect("a runtime");
            let (pushes, mut pulls, unmet) = busy_sockets(&runtime);
            drop(runtime);
            for push in &pushes {
                let _ = push.try_send("x");
                let _ = push.stats();
            }
            for pull in &mut pulls {
                while pull.try_recv().is_ok() {}
            }
            let _ = unmet.try_send("x");
            unmet.shutdown_now();
            drop((pushes, pulls, unmet));
        });
    }
}

#[test]
fn p10_sockets_may_be_closed_after_their_runtime() {
    in_time(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (pushes, pulls, unmet) = busy_sockets(&runtime);
        drop(runtime);
        let another = tokio::runtime::Runtime::new().expect("a runtime");
        another.block_on(async {
            soon(unmet.close()).await;
            for push in &pushes {
                soon(push.close()).await;
            }
            for pull in &pulls {
                soon(pull.close()).await;
            }
        });
    });
}

#[test]
fn p10_a_runtime_may_end_while_sockets_linger() {
    in_time(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let sockets = busy_sockets(&runtime);
        runtime.block_on(async move { drop(sockets) });
        drop(runtime);
    });
}

#[test]
fn p10_sockets_are_dropped_anywhere() {
    in_time(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (push, mut pull) = runtime.block_on(async {
            let pull = Pull::bind("tcp://127.0.0.1:0").await.expect("bind");
            let push = Push::connect(pull.local_endpoint()).expect("connect");
            let _ = push.send("from outside").await.expect("open");
            (push, pull)
        });
        // Outside of any runtime.
        drop(push);
        let message = runtime.block_on(soon(pull.recv())).expect("open");
        assert_eq!(message[0], "from outside");
        drop(pull);
    });
}
