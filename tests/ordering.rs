//! Messages of one sender to one receiver keep their order, whoever writes, however they are read.

mod common;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use ginnel::*;

/// A message whose size jumps: copied, shared, of many frames.
fn varied(at: u32) -> Message {
    let size = match at % 7 {
        0 => 0,
        1 => 40,
        2 => 255,
        3 => 256,
        4 => 40_000,
        5 => 70_000,
        _ => 1_000,
    };
    let body = Frame::from(Bytes::from(vec![at as u8; size]));
    let frames = std::iter::repeat_n(body, 1 + at as usize % 3).chain([Frame::from(at.to_be_bytes())]);
    Message::from_frames(frames).expect("frames")
}

fn assert_varied(message: &Message, at: u32) {
    assert_eq!(number(message), at);
    assert_eq!(*message, varied(at), "whole");
}

#[tokio::test]
async fn p05_order_is_kept_whoever_writes() {
    for transport in TRANSPORTS {
        for policy in [FlushPolicy::Auto, FlushPolicy::Immediate, FlushPolicy::Task] {
            for mark in [1, 10, 1000] {
                let mut pull = Pull::builder().recv_hwm(mark).bind(place(transport)).await.unwrap();
                let builder = Push::builder().flush_policy(policy).send_hwm(mark);
                let push = builder.connect(pull.local_endpoint()).unwrap();
                let sending = tokio::spawn(async move {
                    for at in 0..300 {
                        match at % 5 {
                            0 => drop(push.reserve().await.expect("open").send(varied(at))),
                            1 => drop(push.send_timeout(varied(at), DEADLINE).await.expect("open")),
                            2 => drop(push.send_all([varied(at)]).await.expect("open")),
                            _ => drop(push.send(varied(at)).await.expect("open")),
                        }
                    }
                    push
                });
                for at in 0..300 {
                    assert_varied(&soon(pull.recv()).await.unwrap(), at);
                }
                soon(sending).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn p05_order_is_kept_however_it_is_read() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().recv_hwm(50).bind(place(transport)).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        let sending = tokio::spawn(async move {
            for at in 0..1000 {
                let _ = push.send(varied(at)).await.expect("open");
            }
            push
        });
        let (mut next, mut batch) = (0, Batch::new());
        while next < 1000 {
            match next % 4 {
                0 => {
                    assert_varied(&soon(pull.recv()).await.unwrap(), next);
                    next += 1;
                }
                1 => {
                    if let Ok(message) = pull.try_recv() {
                        assert_varied(&message, next);
                        next += 1;
                    } else {
                        tokio::task::yield_now().await;
                    }
                }
                2 => {
                    assert_varied(&soon(pull.recv_timeout(DEADLINE)).await.unwrap(), next);
                    next += 1;
                }
                _ => {
                    soon(pull.recv_batch(&mut batch, 7)).await.unwrap();
                    for view in batch.iter() {
                        assert_varied(&view.to_message(), next);
                        next += 1;
                    }
                }
            }
        }
        soon(sending).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p05_every_task_keeps_its_own_order() {
    for transport in TRANSPORTS {
        let mut pull = Pull::builder().recv_hwm(20).bind(place(transport)).await.unwrap();
        let push = Push::builder().send_hwm(20).connect(pull.local_endpoint()).unwrap();
        let mut senders = tokio::task::JoinSet::new();
        for id in 0..8u32 {
            let push = push.clone();
            senders.spawn(async move {
                for at in 0..200u32 {
                    let _ = push.send((id.to_be_bytes(), at.to_be_bytes())).await.expect("open");
                }
            });
        }
        let mut last: HashMap<Vec<u8>, u32> = HashMap::new();
        for _ in 0..8 * 200 {
            let message = soon(pull.recv()).await.unwrap();
            let next = last.entry(message[0].to_vec()).or_default();
            assert_eq!(number(&message), *next, "{transport}");
            *next += 1;
        }
        soon(senders.join_all()).await;
    }
}

#[tokio::test]
async fn p05_a_receiver_takes_from_its_peers_in_turn() {
    for transport in TRANSPORTS {
        let mut pull = Pull::bind(place(transport)).await.unwrap();
        let mut pushes = Vec::new();
        for id in 0..4u32 {
            let push = Push::connect(pull.local_endpoint()).unwrap();
            for at in 0..50u32 {
                let _ = push.send((id.to_be_bytes(), at.to_be_bytes())).await.unwrap();
            }
            pushes.push(push);
        }
        until(|| pull.stats().messages_received == 200).await;
        let mut order = Vec::new();
        for _ in 0..200 {
            order.push(number(&soon(pull.recv()).await.unwrap()));
        }
        let expected: Vec<u32> = (0..50).flat_map(|at| [at; 4]).collect();
        assert_eq!(order, expected, "{transport}: one of each in turn");
    }
}

#[tokio::test]
async fn p05_heartbeats_go_between_messages_and_never_into_them() {
    for transport in WIRES {
        let beat = Duration::from_millis(1);
        let builder = Pair::builder().heartbeat(beat, DEADLINE).send_buffer(8192).recv_buffer(8192);
        let one = builder.clone().bind(place(transport)).await.unwrap();
        let two = builder.connect(one.local_endpoint()).unwrap();
        let talk = |pair: Pair| {
            let (sender, mut receiver) = pair.split();
            tokio::spawn(async move {
                let sending = async {
                    for at in 0..300 {
                        let _ = sender.send(varied(at)).await.expect("open");
                    }
                };
                let receiving = async {
                    for at in 0..300 {
                        assert_varied(&receiver.recv().await.expect("open"), at);
                    }
                };
                tokio::join!(sending, receiving);
                (sender, receiver)
            })
        };
        let (one, two) = (talk(one), talk(two));
        let (one, two) = (soon(one).await.unwrap(), soon(two).await.unwrap());
        drop((one, two));
    }
}

#[tokio::test]
async fn p05_a_publisher_keeps_order_over_changes_of_subscriptions() {
    for transport in TRANSPORTS {
        let publisher = Pub::builder().send_hwm(0).bind(place(transport)).await.unwrap();
        let builder = Sub::builder().subscribe("").recv_hwm(0);
        let mut steady = builder.connect(publisher.local_endpoint()).unwrap();
        let moody = Sub::builder().subscribe("").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(2)).await.unwrap();
        // The moody one joins and leaves the steady one's class of subscribers all the time.
        for at in 0..500 {
            let _ = publisher.send(varied(at)).await.unwrap();
            match at % 4 {
                0 => moody.subscribe("x").unwrap(),
                2 => moody.unsubscribe("x").unwrap(),
                _ => tokio::task::yield_now().await,
            }
        }
        for at in 0..500 {
            assert_varied(&soon(steady.recv()).await.unwrap(), at);
        }
    }
}

#[tokio::test]
async fn p05_order_is_kept_from_before_the_connection_on() {
    for transport in TRANSPORTS {
        let there = later(transport).await;
        let push = Push::builder().reconnect(QUICK, QUICK).connect(&there).unwrap();
        let sending = tokio::spawn({
            let push = push.clone();
            async move {
                for at in 0..2000 {
                    let _ = push.send(numbered(at)).await.expect("open");
                }
            }
        });
        until(|| only_peer(&push).queued == 1000).await;
        let mut pull = Pull::new();
        bind_again(&pull, &there).await;
        for at in 0..2000 {
            assert_eq!(number(&soon(pull.recv()).await.unwrap()), at, "{transport}");
        }
        soon(sending).await.unwrap();
    }
}
