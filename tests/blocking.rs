//! The sockets for threads keep the promises of those for tasks: every type, every wait, and how their thread ends.

mod common;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::{DEADLINE, TRANSPORTS, number, numbered, place, unique};
use ginnel::blocking::{Blocking, Context, Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub, proxy};
use ginnel::{
    Ack, Batch, DropReason, Event, Message, OnFull, RecvError, RequestError, SendError, TryRecvError, TrySendError,
};

const MOMENT: Duration = Duration::from_millis(1);

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs a test in a thread of its own, so that a wait without end fails it.
#[track_caller]
fn soon(test: impl FnOnce() -> Outcome + Send + 'static) {
    let (done, outcome) = mpsc::channel();
    let worker = thread::spawn(move || {
        let _ = done.send(test().map_err(|error| error.to_string()));
    });
    match outcome.recv_timeout(DEADLINE) {
        Ok(outcome) => outcome.expect("no error"),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end in ten seconds"),
        Err(mpsc::RecvTimeoutError::Disconnected) => drop(worker.join().map_err(std::panic::resume_unwind)),
    }
}

/// Both ends of every transport.
fn everywhere(test: impl Fn(&str) -> Outcome + Send + 'static) {
    soon(move || TRANSPORTS.iter().try_for_each(|transport| test(transport)));
}

#[test]
fn push_and_pull() {
    everywhere(|transport| {
        let mut pull = Pull::bind(place(transport))?;
        let push = Push::connect(pull.local_endpoint())?;
        push.send("one")?;
        push.try_send(("two", "frames"))?;
        assert_eq!(push.send_all(["three", "four"])?, 2);
        push.reserve()?.send("five");
        for expected in ["one", "two", "three", "four", "five"] {
            assert_eq!(pull.recv()?[0].to_str()?, expected);
        }
        push.flush()?;
        assert_eq!(pull.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(pull.recv_timeout(MOMENT), Err(RecvError::Timeout));
        assert_eq!(pull.stats().messages_received, 5);
        Ok(())
    });
}

#[test]
fn publisher_and_subscriber() {
    everywhere(|transport| {
        let publisher = Pub::bind(place(transport))?;
        let mut sub = Sub::builder().subscribe("a").connect(publisher.local_endpoint())?;
        publisher.wait_for_subscribers(1)?;
        sub.subscribe("b")?;
        // Subscriptions go in order: once the first "b" is here, the second of them counts.
        while sub.try_recv().is_err() {
            publisher.send("b")?;
        }
        publisher.send("none")?;
        publisher.send(("a", "1"))?;
        let last = sub.iter().map_while(Result::ok).find(|message| *message != Message::from("b"));
        assert_eq!(last, Some(Message::from(("a", "1"))));
        Ok(())
    });
}

#[test]
fn requests_and_replies() {
    everywhere(|transport| {
        let mut rep = Rep::bind(place(transport))?;
        let req = Req::connect(rep.local_endpoint())?;
        let server = thread::spawn(move || -> Outcome<u64> {
            let mut served = 0;
            for request in rep.iter() {
                let request = request?;
                if *request.message() == Message::from("silence") {
                    continue;
                }
                let (message, responder) = request.into_parts();
                responder.reply(message)?;
                served += 1;
                if served == 21 {
                    break;
                }
            }
            Ok(served)
        });
        assert_eq!(req.request("ping")?, Message::from("ping"));
        assert_eq!(req.request_timeout("silence", MOMENT), Err(RequestError::Timeout));
        thread::scope(|scope| {
            for thread in 0..4 {
                let req = &req;
                scope.spawn(move || {
                    for n in 0..5 {
                        let body = Message::from(format!("{thread} {n}"));
                        assert_eq!(req.request(body.clone()), Ok(body));
                    }
                });
            }
        });
        assert_eq!(server.join().expect("no panic")?, 21);
        Ok(())
    });
}

#[test]
fn dealer_and_router() {
    everywhere(|transport| {
        let router = Router::builder().mandatory(true).bind(place(transport))?;
        let (sender, mut receiver) = router.split();
        let dealer = Dealer::builder().identity("d").connect(receiver.local_endpoint())?;
        dealer.send("question")?;
        let (peer, question) = receiver.recv()?;
        assert_eq!((peer.as_ref(), question), (&b"d"[..], "question".into()));
        sender.send_to(&peer, "answer")?;
        assert!(matches!(sender.send_to(&b"x"[..].into(), "nobody"), Err(SendError::NoRoute(_))));
        let (dealer, mut answers) = dealer.split();
        assert_eq!(answers.recv()?, "answer".into());
        assert_eq!(receiver.recv_timeout(MOMENT).map(drop), Err(RecvError::Timeout));
        dealer.send("more")?;
        assert_eq!(receiver.iter().next().transpose()?.map(|(_, message)| message), Some("more".into()));
        Ok(())
    });
}

#[test]
fn pair_both_ways() {
    everywhere(|transport| {
        let mut one = Pair::bind(place(transport))?;
        let mut other = Pair::connect(one.local_endpoint())?;
        other.sender().send("to")?;
        assert_eq!(one.recv()?, "to".into());
        one.send("fro")?;
        assert_eq!(other.recv_timeout(DEADLINE)?, "fro".into());
        Ok(())
    });
}

#[test]
fn xpub_and_xsub() {
    everywhere(|transport| {
        let mut publisher = XPub::bind(place(transport))?;
        let mut sub = XSub::connect(publisher.local_endpoint())?;
        sub.subscribe("t")?;
        assert_eq!(publisher.recv()?, Message::from("\u{1}t"));
        publisher.wait_for_subscribers(1)?;
        publisher.send("topic")?;
        assert_eq!(sub.recv()?, "topic".into());
        sub.send("upstream")?;
        assert_eq!(publisher.recv()?, "upstream".into());
        Ok(())
    });
}

#[test]
fn a_router_names_whom_it_connects_to() {
    soon(|| {
        let mut dealer = Dealer::bind(place("tcp"))?;
        let router = Router::new();
        router.connect_as(dealer.local_endpoint().ok_or("bound")?, "named")?;
        router.wait_for_peers(1)?;
        router.sender().send_to(&b"named"[..].into(), "hello")?;
        assert_eq!(dealer.recv()?, "hello".into());
        Ok(())
    });
}

#[test]
fn a_send_that_gives_up_returns_its_message() {
    soon(|| {
        let push = Push::builder().send_hwm(1).send_timeout(MOMENT).connect(place("ipc"))?;
        push.send("waits for a connection")?;
        assert_eq!(push.send("no room"), Err(SendError::Timeout("no room".into())));
        assert_eq!(push.send_timeout("still", MOMENT), Err(SendError::Timeout("still".into())));
        assert_eq!(push.try_send("now"), Err(TrySendError::Full("now".into())));
        let mut error = push.send_all(["a", "b"]).expect_err("no room");
        assert_eq!((error.sent, error.rest.remove(0)), (0, "a".into()));
        push.shutdown_now();
        assert_eq!(push.send("late"), Err(SendError::Closed("late".into())));
        Ok(())
    });
}

#[test]
fn a_waiting_send_goes_on_when_there_is_room() {
    everywhere(|transport| {
        let mut pull = Pull::builder().recv_hwm(1).bind(place(transport))?;
        let push = Push::builder().send_hwm(1).send_buffer(4096).connect(pull.local_endpoint())?;
        let body = vec![7; 100_000];
        let sender = thread::spawn(move || (0..50).try_for_each(|_| push.send(body.clone()).map(drop)));
        for _ in 0..50 {
            assert_eq!(pull.recv()?.size(), 100_000);
        }
        Ok(sender.join().expect("no panic")?)
    });
}

#[test]
fn many_threads_share_one_push_and_one_pull() {
    soon(|| {
        const EACH: u32 = 2_000;
        let pull = Pull::bind(place("tcp"))?.into_shared();
        let push = Push::builder().hwm(10).connect(pull.local_endpoint())?;
        let sum = Arc::new(AtomicU64::new(0));
        thread::scope(|scope| {
            let receivers: Vec<_> = (0..3)
                .map(|_| {
                    let (pull, sum) = (pull.clone(), sum.clone());
                    scope.spawn(move || {
                        while let Ok(message) = pull.recv() {
                            sum.fetch_add(u64::from(number(&message)), Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let senders: Vec<_> = (0..4)
                .map(|_| {
                    let push = push.clone();
                    scope.spawn(move || (0..EACH).try_for_each(|n| push.send(numbered(n)).map(drop)))
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join().expect("no panic").expect("sent"));
            push.close();
            while pull.stats().messages_received < 4 * u64::from(EACH) {
                thread::yield_now();
            }
            // What has arrived is still read.
            pull.close();
            receivers.into_iter().for_each(|receiver| receiver.join().expect("no panic"));
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * u64::from(EACH) * u64::from(EACH - 1) / 2);
        Ok(())
    });
}

#[test]
fn batches_are_lent() {
    soon(|| {
        let mut pull = Pull::bind(place("tcp"))?;
        let push = Push::connect(pull.local_endpoint())?;
        push.send_all((0..500).map(numbered))?;
        let (mut batch, mut next) = (Batch::new(), 0);
        while next < 500 {
            let count = pull.recv_batch(&mut batch, 64)?;
            assert!((1..=64).contains(&count));
            for view in batch.iter() {
                assert_eq!(number(&view.to_message()), next);
                next += 1;
            }
        }
        Ok(())
    });
}

#[test]
fn close_writes_what_waits_and_reports() {
    soon(|| {
        let push = Push::builder().linger(None).connect(place("ipc"))?;
        push.send_all((0..100).map(numbered))?;
        let there = push.endpoints().remove(0);
        let closing = {
            let push = push.clone();
            thread::spawn(move || push.close())
        };
        // The report begins with what waits then.
        while !matches!(push.try_reserve(), Err(TrySendError::Closed(()))) {
            thread::yield_now();
        }
        let mut pull = Pull::bind(there)?;
        for n in 0..100 {
            assert_eq!(number(&pull.recv()?), n);
        }
        let report = closing.join().expect("no panic");
        assert_eq!((report.sent, report.dropped), (100, 0));
        assert_eq!(push.close(), report);

        let push = Push::builder().linger(Duration::ZERO).connect(place("ipc"))?;
        push.send("nobody is there")?;
        assert_eq!(push.close().dropped, 1);
        Ok(())
    });
}

#[test]
fn async_and_blocking_sockets_are_peers() {
    everywhere(|transport| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut pull = Pull::bind(place(transport))?;
        let there = pull.local_endpoint();
        let task = async {
            let push = ginnel::Push::connect(there)?;
            push.send("from a task").await?;
            push.close().await;
            Ok::<(), ginnel::Error>(())
        };
        runtime.block_on(task)?;
        assert_eq!(pull.recv()?, "from a task".into());

        let (at, endpoint) = mpsc::channel();
        let to = place(transport);
        let server = thread::spawn(move || {
            runtime.block_on(async {
                let mut rep = ginnel::Rep::bind(to).await?;
                at.send(rep.local_endpoint()).expect("somebody asks");
                rep.recv().await?.reply("pong").await?;
                rep.close().await;
                Ok::<(), ginnel::Error>(())
            })
        });
        assert_eq!(Req::connect(endpoint.recv()?)?.request("ping")?, "pong".into());
        Ok(server.join().expect("no panic")?)
    });
}

/// It blocks the runtime's thread, as documented, but it works: also where a task has used its budget up.
#[test]
fn waits_work_on_a_thread_of_a_runtime() {
    for transport in TRANSPORTS {
        soon(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let rounds = async {
                let mut pull = Pull::builder().recv_hwm(1).bind(place(transport))?;
                let push = Push::builder().send_hwm(1).connect(pull.local_endpoint())?;
                pull.wait_for_peers(1)?;
                for n in 0..1_000 {
                    push.send(numbered(n))?;
                    assert_eq!(number(&pull.recv()?), n);
                }
                assert_eq!(pull.recv_timeout(MOMENT), Err(RecvError::Timeout));
                push.close();
                Ok(())
            };
            runtime.block_on(rounds)
        });
    }
}

#[test]
fn much_at_once_inside_the_process_works_on_a_thread_of_a_runtime() {
    soon(|| {
        let place = format!("inproc://{}", unique("much"));
        let mut pull = Pull::bind(&place)?;
        let reader = thread::spawn(move || (0..20).map(|_| pull.recv()).filter(Result::is_ok).count());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let push = Push::connect(&place)?;
            for _ in 0..4 {
                push.send_all((0..5).map(|_| vec![0; 2 << 20]))?;
            }
            Outcome::Ok(())
        })?;
        assert_eq!(reader.join().unwrap(), 20);
        Ok(())
    });
}

#[test]
fn a_context_serves_many_sockets() {
    soon(|| {
        let context = Context::new()?;
        let mut pulls = Vec::new();
        let mut pushes = Vec::new();
        for transport in TRANSPORTS.iter().cycle().take(12) {
            let pull = Pull::builder().context(&context).bind(place(transport))?;
            pushes.push(Push::builder().context(&context).connect(pull.local_endpoint())?);
            pulls.push(pull);
        }
        drop(context);
        for (n, push) in pushes.iter().enumerate() {
            push.send(numbered(n as u32))?;
        }
        for (n, pull) in pulls.iter_mut().enumerate() {
            assert_eq!(number(&pull.recv()?), n as u32);
        }
        Ok(())
    });
}

#[test]
fn a_monitor_is_an_iterator() {
    soon(|| {
        let pull = Pull::new();
        let mut monitor = pull.monitor();
        let endpoint = pull.bind_to(place("tcp"))?;
        let push = Push::connect(&endpoint)?;
        assert!(matches!(monitor.next(), Some(Event::Listening { .. })));
        assert!(matches!(monitor.next(), Some(Event::Connected { .. })));
        push.shutdown_now();
        assert!(monitor.any(|event| matches!(event, Event::Disconnected { .. })));
        pull.close();
        monitor.for_each(drop);
        Ok(())
    });
}

/// Reports of drops are merged for a second, which a monitor waits for by itself.
#[test]
fn a_monitor_needs_no_timer_of_a_runtime() {
    soon(|| {
        let push = Push::builder().on_full(OnFull::DropNewest).send_hwm(1).connect(place("ipc"))?;
        let mut monitor = push.monitor();
        let mut reported = 0;
        (0..10).try_for_each(|_| push.send("x").map(drop))?;
        while reported < 9 {
            if let Some(Event::Dropped { reason: DropReason::HwmReached, count, .. }) = monitor.next() {
                reported += count;
            }
        }
        assert_eq!(reported, 9);
        push.shutdown_now();
        Ok(())
    });
}

#[test]
fn a_proxy_runs_in_the_thread_that_asks() {
    soon(|| {
        let (front, back) = (Router::bind(place("tcp"))?, Dealer::bind(place("inproc"))?);
        let (to, from) = (front.local_endpoint(), back.local_endpoint());
        let mut copies = Pull::bind(place("inproc"))?;
        let tape = Push::connect(copies.local_endpoint())?;
        let proxy = proxy(front, back).capture(&tape);
        let control = proxy.control();
        let runs = thread::spawn(move || proxy.run());
        let mut rep = Rep::connect(from)?;
        let serves = thread::spawn(move || rep.recv()?.reply("pong").map_err(ginnel::Error::from));
        assert_eq!(Req::connect(to)?.request("ping")?, "pong".into());
        serves.join().expect("no panic")?;
        control.terminate();
        assert_eq!(runs.join().expect("no panic").forward_messages, 1);
        assert!(copies.recv()?.contains(&"ping".into()));
        Ok(())
    });
}

#[test]
fn durable_delivery_with_acknowledgements() {
    soon(|| {
        let dir = std::env::temp_dir().join(unique("ginnel-blocking"));
        let publisher = Pub::builder().spool(&dir).min_free_disk(0).bind(place("tcp"))?;
        let spool = publisher.spool().ok_or("built with one")?;
        spool.declare("name", ["t"])?;
        assert!(publisher.send("t 1")?.sequence().is_some());
        let pending = publisher.enqueue("t 2")?;
        let number = pending.sequence();
        assert_eq!(pending.wait()?.sequence(), Some(number));
        publisher.send_at("t 3", std::time::SystemTime::now())?;
        assert_eq!(publisher.send_all(["t 4", "t 5"])?, 2);
        publisher.flush()?;

        let mut sub = Sub::builder().durable("name").ack(Ack::Manual).connect(publisher.local_endpoint())?;
        assert_eq!(sub.recv(), Err(RecvError::ManualAck));
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let delivery = sub.recv_delivery()?;
            seen.push(delivery.message()[0].to_str()?.to_owned());
            delivery.ack();
        }
        seen.sort();
        assert_eq!(seen, ["t 1", "t 2", "t 3", "t 4", "t 5"]);
        assert_eq!(sub.recv_delivery_timeout(MOMENT).map(drop), Err(RecvError::Timeout));
        assert!(sub.drop_name());
        assert!(!spool.drop_name("name")?);
        sub.close();
        publisher.close();
        std::fs::remove_dir_all(dir)?;
        Ok(())
    });
}

#[test]
fn sockets_can_be_shared_and_sent_as_their_async_ones() {
    fn shared<T: Clone + Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Push>();
    shared::<Pub>();
    shared::<Req>();
    shared::<Context>();
    shared::<Blocking<ginnel::SharedReceiver>>();
    sent::<(Pull, Sub, Rep, Dealer, Router, Pair, XPub, XSub)>();
}

#[test]
fn a_wrong_option_or_endpoint_is_an_error() {
    assert!(Push::builder().heartbeat_ttl(Duration::from_secs(100)).build().is_err());
    assert!(Push::bind("tcp:/nowhere").is_err());
    assert!(Push::connect("tcp://*:1").is_err());
    assert!(Push::builder().option("send_hwm", "7").is_ok());
    // Neither bound nor connected: nothing runs, and every wait has its limit.
    let mut pull = Pull::builder().recv_timeout(MOMENT).build().expect("a socket");
    assert_eq!(pull.recv(), Err(RecvError::Timeout));
    assert_eq!(pull.close().sent, 0);
    assert_eq!(pull.recv(), Err(RecvError::Closed));
}

#[test]
fn the_last_destructors_of_a_thread_may_use_sockets() {
    struct Last(RefCell<Option<Box<dyn FnOnce()>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.take().into_iter().for_each(|work| work());
        }
    }
    thread_local!(static LAST: Last = const { Last(RefCell::new(None)) });
    soon(|| {
        // Before and after the runtime's own traces in the thread, since destructors run in the order of first use.
        for early in [true, false] {
            let (done, outcome) = mpsc::channel();
            let ending = thread::spawn(move || -> Outcome {
                if early {
                    LAST.with(|_| ());
                }
                let mut pull = Pull::bind(place("tcp"))?;
                let work = move || {
                    // A panic here would end the process: an error is the worst.
                    let _ = Pull::bind(place("tcp"));
                    let push = Push::connect(pull.local_endpoint()).expect("connect");
                    push.send("last words").expect("send");
                    done.send(pull.recv()).expect("somebody listens");
                    pull.close();
                };
                LAST.with(|last| *last.0.borrow_mut() = Some(Box::new(work)));
                Ok(())
            });
            ending.join().expect("no panic")?;
            assert_eq!(outcome.recv()??[0], "last words");
        }
        Ok(())
    });
}
