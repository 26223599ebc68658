//! Each request gets its own reply: whatever the order, the number in flight, the type of the peer.

mod common;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::polls::poll_once;
use common::raw::Raw;
use common::*;
use ginnel::*;

#[tokio::test]
async fn p05_replies_find_their_requests_in_any_order() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let asking: Vec<_> =
            (0..50).map(|at| tokio::spawn(req.request(("echo", u32::to_be_bytes(at))).into_future())).collect();
        let mut requests = Vec::new();
        for _ in 0..50 {
            requests.push(soon(rep.recv()).await.unwrap());
        }
        while !requests.is_empty() {
            // The middle one, as far from their order as can be.
            let request = requests.swap_remove(requests.len() / 2);
            let body = request.message().clone();
            let _ = request.reply(body).await.unwrap();
        }
        for (at, asking) in asking.into_iter().enumerate() {
            let reply = soon(asking).await.unwrap().unwrap();
            assert_eq!((reply.len(), number(&reply)), (2, at as u32), "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_who_cannot_tell_replies_apart_gets_one_request_at_a_time() {
    for transport in TRANSPORTS {
        let mut router = Router::bind(place(transport)).await.unwrap();
        let req = Req::connect(router.local_endpoint()).unwrap();
        let asking: Vec<_> = (0..10).map(|at| tokio::spawn(req.request(numbered(at)).into_future())).collect();
        for _ in 0..10 {
            let (peer, message) = soon(router.recv()).await.unwrap();
            assert_eq!((message.len(), message[0].len()), (2, 0), "a delimiter and the body, nothing else");
            others_run().await;
            assert!(matches!(router.try_recv(), Err(TryRecvError::Empty)), "{transport}: one at a time");
            let _ = router.send_to(&peer, message).await.unwrap();
        }
        for (at, asking) in asking.into_iter().enumerate() {
            assert_eq!(number(&soon(asking).await.unwrap().unwrap()), at as u32, "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_several_such_peers_work_side_by_side() {
    for transport in TRANSPORTS {
        let req = Req::new();
        let mut routers = Vec::new();
        for _ in 0..3 {
            let router = Router::bind(place(transport)).await.unwrap();
            req.connect_to(router.local_endpoint()).unwrap();
            routers.push(router);
        }
        soon(req.wait_for_peers(3)).await.unwrap();
        let asking: Vec<_> = (0..3).map(|at| tokio::spawn(req.request(numbered(at)).into_future())).collect();
        for router in &mut routers {
            let (peer, message) = soon(router.recv()).await.unwrap();
            let _ = router.send_to(&peer, message).await.unwrap();
        }
        for (at, asking) in asking.into_iter().enumerate() {
            assert_eq!(number(&soon(asking).await.unwrap().unwrap()), at as u32, "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_requests_take_turns_over_servers() {
    for transport in TRANSPORTS {
        let req = Req::new();
        let mut reps = Vec::new();
        for _ in 0..3 {
            let rep = Rep::bind(place(transport)).await.unwrap();
            req.connect_to(rep.local_endpoint()).unwrap();
            reps.push(rep);
        }
        soon(req.wait_for_peers(3)).await.unwrap();
        for _ in 0..5 {
            let asking: Vec<_> = (0..3).map(|at| tokio::spawn(req.request(numbered(at)).into_future())).collect();
            for rep in &mut reps {
                let request = soon(rep.recv()).await.unwrap();
                let body = request.message().clone();
                let _ = request.reply(body).await.unwrap();
            }
            for (at, asking) in asking.into_iter().enumerate() {
                assert_eq!(number(&soon(asking).await.unwrap().unwrap()), at as u32, "{transport}");
            }
        }
    }
}

#[tokio::test]
async fn p05_the_bytes_are_those_of_libzmq() {
    let rep_side = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let req = Req::connect(format!("tcp://{}", rep_side.local_addr().unwrap())).unwrap();
    let asking = tokio::spawn(req.request(("two", "frames")).into_future());
    let mut raw = soon(Raw::accept(&rep_side, "REP")).await;
    let request = soon(raw.message()).await.unwrap();
    assert_eq!(request[0].len(), 4, "an id for a REP, which echoes it");
    assert_eq!(request[1..], [b"".to_vec(), b"two".to_vec(), b"frames".to_vec()]);
    // A reply to nobody before the real one.
    raw.send(&[b"none", b"", b"wrong"]).await;
    raw.send(&[&request[0], b"", b"reply"]).await;
    assert_eq!(soon(asking).await.unwrap().unwrap()[0], "reply");
    assert_eq!(req.stats().drops.get(DropReason::Late), 1);

    let rep = Rep::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut rep = rep;
    let mut raw = soon(Raw::connect(&rep.local_endpoint().unwrap().to_string(), "REQ")).await;
    // An envelope of any depth comes back as it was.
    raw.send(&[b"far", b"near", b"", b"ask"]).await;
    let request = soon(rep.recv()).await.unwrap();
    assert_eq!((request.message().len(), request.message()[0].to_str()), (1, Ok("ask")));
    let _ = request.reply(("an", "answer")).await.unwrap();
    assert_eq!(soon(raw.message()).await.unwrap(), [&b"far"[..], b"near", b"", b"an", b"answer"]);
}

#[tokio::test]
async fn p05_a_late_reply_never_answers_the_next_request() {
    for transport in TRANSPORTS {
        let mut router = Router::bind(place(transport)).await.unwrap();
        let req = Req::builder().reconnect(QUICK, QUICK).connect(router.local_endpoint()).unwrap();
        soon(req.wait_for_peers(1)).await.unwrap();
        for round in 0..5 {
            let given_up = tokio::spawn(req.request("old").into_future());
            let (old_peer, message) = soon(router.recv()).await.unwrap();
            assert_eq!(message[1], "old", "{transport} {round}");
            given_up.abort();
            let _ = given_up.await;
            // Too late, and without an id to tell.
            let _ = router.send_to(&old_peer, ("", "late")).await;
            let next = tokio::spawn(req.request("new").into_future());
            let (peer, message) = soon(router.recv()).await.unwrap();
            assert_eq!(message[1], "new", "{transport} {round}");
            let _ = router.send_to(&peer, ("", "right")).await.unwrap();
            assert_eq!(soon(next).await.unwrap().unwrap()[0], "right", "{transport} {round}");
        }
    }
}

#[tokio::test]
async fn p10_a_request_times_out_and_the_next_is_served() {
    for transport in TRANSPORTS {
        for correlated in [true, false] {
            let mut rep = Rep::bind(place(transport)).await.unwrap();
            let builder = Req::builder().correlate(correlated).reconnect(QUICK, QUICK);
            let req = builder.connect(rep.local_endpoint()).unwrap();
            let result = soon(req.request("slow").timeout(Duration::from_millis(20)).into_future()).await;
            assert_eq!(result, Err(RequestError::Timeout));
            let next = tokio::spawn(req.request("next").into_future());
            loop {
                let request = soon(rep.recv()).await.unwrap();
                let body = request.message().clone();
                let _ = request.reply(body.clone()).await;
                if body[0] == "next" {
                    break;
                }
            }
            assert_eq!(soon(next).await.unwrap().unwrap()[0], "next", "{transport} {correlated}");
        }
    }
}

#[tokio::test]
async fn p05_lockstep_is_one_request_in_all() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::builder().lockstep(true).connect(rep.local_endpoint()).unwrap();
        let first = tokio::spawn(req.request("first").into_future());
        let request = soon(rep.recv()).await.unwrap();
        let second = soon(req.request("second").into_future()).await;
        assert!(matches!(&second, Err(RequestError::OutOfTurn(message)) if message[0] == "second"), "{second:?}");
        let _ = request.reply("fine").await.unwrap();
        assert_eq!(soon(first).await.unwrap().unwrap()[0], "fine");
        let third = tokio::spawn(req.request("third").into_future());
        let _ = soon(rep.recv()).await.unwrap().reply("too").await.unwrap();
        assert_eq!(soon(third).await.unwrap().unwrap()[0], "too", "{transport}");
    }
}

/// Its future was polled last, and is kept for later or even forgotten.
#[tokio::test]
async fn p05_a_request_that_nobody_polls_holds_up_no_other() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let first = tokio::spawn(req.request("first").into_future());
        let first_asked = soon(rep.recv()).await.unwrap();
        let mut kept = req.request("kept").into_future();
        assert!(poll_once(kept.as_mut()).is_pending());
        let kept_asked = soon(rep.recv()).await.unwrap();
        let mut forgotten = req.request("forgotten").into_future();
        assert!(poll_once(forgotten.as_mut()).is_pending());
        std::mem::forget(forgotten);
        let _ = first_asked.reply("first").await.unwrap();
        assert_eq!(soon(first).await.unwrap().unwrap()[0], "first", "{transport}");
        let later = tokio::spawn(req.request("later").into_future());
        let later_asked = loop {
            let asked = soon(rep.recv()).await.unwrap();
            if asked.message()[0] == "later" {
                break asked;
            }
        };
        assert!(poll_once(kept.as_mut()).is_pending());
        let _ = later_asked.reply("later").await.unwrap();
        assert_eq!(soon(later).await.unwrap().unwrap()[0], "later", "{transport}");
        let _ = kept_asked.reply("kept").await.unwrap();
        assert_eq!(soon(kept).await.unwrap()[0], "kept", "{transport}");
    }
}

/// A reply without an id could pass for that to the next request: another connection tells them apart.
#[tokio::test]
async fn p05_the_late_reply_to_a_relaxed_request_is_nobodys() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let builder = Req::builder().lockstep(true).relaxed(true).reconnect(QUICK, QUICK);
        let req = builder.connect(rep.local_endpoint()).unwrap();
        let first = tokio::spawn(req.request("first").into_future());
        let old = soon(rep.recv()).await.unwrap();
        let second = tokio::spawn(req.request("second").into_future());
        assert!(soon(first).await.unwrap().is_err(), "{transport}: it was given up");
        let _ = old.reply("first").await;
        let new = soon(rep.recv()).await.unwrap();
        let _ = new.reply("second").await.unwrap();
        assert_eq!(soon(second).await.unwrap().unwrap()[0], "second", "{transport}");
    }
}

/// The server connected, so its place for the asker outlives the connection; the answer must not.
#[tokio::test]
async fn p05_an_answer_ends_with_the_connection_of_its_request() {
    for transport in TRANSPORTS {
        for waits in [true, false] {
            let req = Req::builder().correlate(false).bind(place(transport)).await.unwrap();
            let mut rep = Rep::builder().reconnect(QUICK, QUICK).connect(req.local_endpoint()).unwrap();
            let mut monitor = rep.monitor();
            let first = tokio::spawn(req.request("first").into_future());
            let old = soon(rep.recv()).await.unwrap();
            first.abort();
            let ended = |event: &Event| matches!(event, Event::Disconnected { .. });
            while !ended(&soon(monitor.recv()).await.unwrap()) {}
            let second = tokio::spawn(req.request("second").into_future());
            let answer = |old: Request| async {
                let refused = old.reply("first").await;
                assert!(matches!(refused, Err(SendError::NoRoute(_))), "{transport}: {refused:?}");
            };
            if waits {
                let new = soon(rep.recv()).await.unwrap();
                answer(old).await;
                let _ = new.reply("second").await.unwrap();
            } else {
                answer(old).await;
                let _ = soon(rep.recv()).await.unwrap().reply("second").await.unwrap();
            }
            assert_eq!(soon(second).await.unwrap().unwrap()[0], "second", "{transport}");
            assert_eq!(rep.stats().drops.get(DropReason::PeerGone), 1, "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_relaxed_lockstep_gives_the_old_request_up() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let builder = Req::builder().lockstep(true).relaxed(true).correlate(true).reconnect(QUICK, QUICK);
        let req = builder.connect(rep.local_endpoint()).unwrap();
        let first = tokio::spawn(req.request("first").into_future());
        let old = soon(rep.recv()).await.unwrap();
        let second = tokio::spawn(req.request("second").into_future());
        assert!(soon(first).await.unwrap().is_err(), "{transport}: it was given up");
        let new = soon(rep.recv()).await.unwrap();
        let _ = old.reply("old").await;
        let _ = new.reply("new").await.unwrap();
        assert_eq!(soon(second).await.unwrap().unwrap()[0], "new", "{transport}");
    }
}

#[tokio::test]
async fn p05_a_queue_of_requests_passes_a_proxy() {
    for transport in TRANSPORTS {
        let (front, back) =
            (Router::bind(place(transport)).await.unwrap(), Dealer::bind(place(transport)).await.unwrap());
        let (clients, servers) = (front.local_endpoint(), back.local_endpoint());
        let passing = tokio::spawn(proxy(front, back).into_future());
        for _ in 0..3 {
            let mut rep = Rep::connect(servers.clone()).unwrap();
            tokio::spawn(async move {
                while let Ok(request) = rep.recv().await {
                    let body = request.message().clone();
                    let _ = request.reply(body).await;
                }
            });
        }
        let mut asking = tokio::task::JoinSet::new();
        for client in 0..4u32 {
            let req = Req::connect(clients.clone()).unwrap();
            asking.spawn(async move {
                for at in 0..50u32 {
                    let reply = req.request((client.to_be_bytes(), at.to_be_bytes())).await.expect("a reply");
                    assert_eq!(reply, Message::from((client.to_be_bytes(), at.to_be_bytes())));
                }
            });
        }
        soon(asking.join_all()).await;
        passing.abort();
    }
}

#[tokio::test]
async fn p05_a_reply_may_come_from_anywhere() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let asking: Vec<_> = (0..20).map(|at| tokio::spawn(req.request(numbered(at)).into_future())).collect();
        for _ in 0..20 {
            let (message, responder) = soon(rep.recv()).await.unwrap().into_parts();
            tokio::spawn(async move { responder.reply(message).await.map(drop) });
        }
        for (at, asking) in asking.into_iter().enumerate() {
            assert_eq!(number(&soon(asking).await.unwrap().unwrap()), at as u32, "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_requests_wait_their_turn_at_the_mark() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::builder().send_hwm(5).connect(rep.local_endpoint()).unwrap();
        soon(req.wait_for_peers(1)).await.unwrap();
        let asking: Vec<_> = (0..100).map(|at| tokio::spawn(req.request(numbered(at)).into_future())).collect();
        for _ in 0..100 {
            let request = soon(rep.recv()).await.unwrap();
            let body = request.message().clone();
            let _ = request.reply(body).await.unwrap();
        }
        for (at, asking) in asking.into_iter().enumerate() {
            assert_eq!(number(&soon(asking).await.unwrap().unwrap()), at as u32, "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_a_request_for_two_servers_survives_the_death_of_one() {
    for transport in TRANSPORTS {
        let (mut one, mut two) =
            (Rep::bind(place(transport)).await.unwrap(), Rep::bind(place(transport)).await.unwrap());
        let req = Req::builder().reconnect(QUICK, QUICK).build().unwrap();
        req.connect_to(one.local_endpoint()).unwrap();
        req.connect_to(two.local_endpoint()).unwrap();
        soon(req.wait_for_peers(2)).await.unwrap();
        let asking: Vec<_> = (0..10).map(|at| tokio::spawn(req.request(numbered(at)).into_future())).collect();
        let mut taken = 0;
        for _ in 0..5 {
            drop(soon(one.recv()).await.unwrap());
            taken += 1;
        }
        soon(one.close()).await;
        for _ in 0..5 {
            let request = soon(two.recv()).await.unwrap();
            let body = request.message().clone();
            let _ = request.reply(body).await.unwrap();
        }
        let (mut answered, mut lost) = (0, 0);
        for (at, asking) in asking.into_iter().enumerate() {
            match soon(asking).await.unwrap() {
                Ok(reply) => {
                    assert_eq!(number(&reply), at as u32);
                    answered += 1;
                }
                Err(error) => {
                    assert_eq!(error, RequestError::PeerLost);
                    lost += 1;
                }
            }
        }
        assert_eq!((answered, lost), (5, taken), "{transport}");
        let next = tokio::spawn(req.request("next").into_future());
        let _ = soon(two.recv()).await.unwrap().reply("fine").await.unwrap();
        assert_eq!(soon(next).await.unwrap().unwrap()[0], "fine", "{transport}");
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn who_reads_its_own_reply_is_woken_once_for_it() {
    for transport in TRANSPORTS {
        let mut rep = Rep::bind(place(transport)).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        soon(req.wait_for_peers(1)).await.unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        for round in 1..=10 {
            let mut asking = req.request("ask").into_future();
            assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let request = soon(rep.recv()).await.unwrap();
            let _ = request.reply("answer").await.unwrap();
            until(|| wakes.0.load(Ordering::SeqCst) == round).await;
            assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_ready(), "{transport}");
            drop(asking);
            assert_eq!(wakes.0.load(Ordering::SeqCst), round, "{transport}: woken by nobody but the reply");
        }
    }
}

/// A reply makes a place among the open requests while the queue is still over its mark: who waits for that place must
/// be told when the queue has room, too.
#[tokio::test]
async fn a_request_that_finds_a_queue_at_its_mark_goes_out_when_there_is_room() {
    let listener = common::raw::tight_listener().await;
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let builder = Req::builder().send_hwm(2).send_hwm_bytes(64 * 1024).send_buffer(64 * 1024);
    let req = builder.connect(&endpoint).unwrap();
    let mut server = Raw::accept(&listener, "REP").await;
    soon(req.wait_for_peers(1)).await.unwrap();
    let first = tokio::spawn(req.request("first").into_future());
    let asked = soon(server.message()).await.unwrap();
    let long = tokio::spawn(req.request(vec![7; 8 << 20]).into_future());
    until(|| only_peer(&req).queued == 1).await;
    let mut last = req.request("last").into_future();
    assert!(poll_once(last.as_mut()).is_pending());
    let last = tokio::spawn(last);
    tokio::task::yield_now().await;
    server.write(&common::raw::encode(&[&asked[0][..], b"", b"answer"])).await;
    assert_eq!(soon(first).await.unwrap().unwrap()[0], "answer");
    assert_eq!(soon(server.message()).await.unwrap()[2].len(), 8 << 20);
    let asked = soon(server.message()).await.unwrap();
    assert_eq!(&asked[2][..], b"last", "and the long one has no reply yet");
    server.write(&common::raw::encode(&[&asked[0][..], b"", b"answer"])).await;
    assert_eq!(soon(last).await.unwrap().unwrap()[0], "answer");
    long.abort();
}
