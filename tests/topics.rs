//! Topics are byte prefixes of the first frame: who gets what, who is told what, and what is never sent twice.

mod common;

use std::collections::BTreeSet;

use common::raw::Raw;
use common::*;
use ginnel::*;
use quickcheck::{Gen, QuickCheck, TestResult};

/// A publisher and so many subscribers that have these prefixes, all in place.
async fn with_subscribers(transport: &str, prefixes: &[&[Vec<u8>]]) -> (Pub, Vec<Sub>) {
    let publisher = Pub::bind(place(transport)).await.expect("bind");
    let mut wanted = 0;
    let mut subs = Vec::new();
    for prefixes in prefixes {
        let mut builder = Sub::builder();
        for prefix in *prefixes {
            builder = builder.subscribe(prefix);
        }
        wanted += prefixes.iter().collect::<BTreeSet<_>>().len();
        subs.push(builder.connect(publisher.local_endpoint()).expect("connect"));
    }
    let count = subs.len();
    until(|| {
        let peers = publisher.peers();
        peers.len() == count && peers.iter().map(|peer| peer.subscriptions).sum::<usize>() == wanted
    })
    .await;
    (publisher, subs)
}

#[test]
fn p05_prefixes_decide_and_nothing_else() {
    fn property(sets: Vec<Vec<Vec<u8>>>, topics: Vec<Vec<u8>>) -> TestResult {
        // Few and short bytes, so that prefixes meet topics.
        let narrow = |bytes: &Vec<u8>| bytes.iter().map(|byte| byte % 3).take(4).collect::<Vec<u8>>();
        let sets: Vec<Vec<Vec<u8>>> = sets.iter().take(4).map(|set| set.iter().take(6).map(narrow).collect()).collect();
        let topics: Vec<Vec<u8>> = topics.iter().map(narrow).collect();
        if sets.is_empty() || topics.is_empty() {
            return TestResult::discard();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(soon(async {
            let transport = TRANSPORTS[topics.len() % 3];
            let borrowed: Vec<&[Vec<u8>]> = sets.iter().map(Vec::as_slice).collect();
            let (publisher, mut subs) = with_subscribers(transport, &borrowed).await;
            for topic in &topics {
                let _ = publisher.send((topic.clone(), "body")).await.expect("open");
            }
            for (set, sub) in sets.iter().zip(&mut subs) {
                for topic in topics.iter().filter(|topic| set.iter().any(|prefix| topic.starts_with(prefix))) {
                    let message = soon(sub.recv()).await.expect("open");
                    assert_eq!(message[0], topic[..], "{set:?}");
                }
            }
            soon(publisher.close()).await;
            for sub in &mut subs {
                assert_eq!(sub.try_recv(), Err(TryRecvError::Empty), "nothing that was not wanted");
            }
        }));
        TestResult::passed()
    }
    let property = property as fn(Vec<Vec<Vec<u8>>>, Vec<Vec<u8>>) -> TestResult;
    QuickCheck::new().tests(cases()).rng(Gen::new(20)).quickcheck(property);
}

#[tokio::test]
async fn p05_only_the_first_frame_is_looked_at() {
    for transport in TRANSPORTS {
        let (publisher, mut subs) = with_subscribers(transport, &[&[b"b".to_vec()]]).await;
        let _ = publisher.send(("a", "b")).await.unwrap();
        let _ = publisher.send(("b", "a")).await.unwrap();
        assert_eq!(soon(subs[0].recv()).await.unwrap()[1], "a", "{transport}");
    }
}

#[tokio::test]
async fn p05_two_subscribes_need_two_cancels() {
    for transport in TRANSPORTS {
        let (publisher, mut subs) = with_subscribers(transport, &[&[b"a".to_vec(), b"a".to_vec()]]).await;
        subs[0].unsubscribe("a").unwrap();
        let _ = publisher.send("a1").await.unwrap();
        assert_eq!(soon(subs[0].recv()).await.unwrap()[0], "a1", "{transport}");
        subs[0].unsubscribe("a").unwrap();
        until(|| only_peer(&publisher).subscriptions == 0).await;
        let _ = publisher.send("a2").await.unwrap();
        assert_eq!(publisher.stats().drops.get(DropReason::NoPeer), 1, "{transport}");
        // One that never was is no error.
        subs[0].unsubscribe("never").unwrap();
        subs[0].subscribe("b").unwrap();
        until(|| only_peer(&publisher).subscriptions == 1).await;
        let _ = publisher.send("b").await.unwrap();
        assert_eq!(soon(subs[0].recv()).await.unwrap()[0], "b", "{transport}");
    }
}

#[tokio::test]
async fn p05_what_was_cancelled_is_not_received() {
    for transport in TRANSPORTS {
        let (publisher, mut subs) = with_subscribers(transport, &[&[b"a".to_vec(), b"b".to_vec()]]).await;
        for topic in ["a", "b", "a", "b"] {
            let _ = publisher.send(topic).await.unwrap();
        }
        until(|| only_peer(&subs[0]).messages_received == 4).await;
        // All four are here already, and two of them are not wanted any more.
        subs[0].unsubscribe("a").unwrap();
        for _ in 0..2 {
            assert_eq!(soon(subs[0].recv()).await.unwrap()[0], "b", "{transport}");
        }
        assert_eq!(subs[0].try_recv(), Err(TryRecvError::Empty));
        let mut batch = Batch::new();
        for topic in ["b", "b"] {
            let _ = publisher.send(topic).await.unwrap();
        }
        assert!(soon(subs[0].recv_batch(&mut batch, 10)).await.unwrap() >= 1, "{transport}");
    }
}

#[tokio::test]
async fn p05_a_batch_is_filtered_too() {
    for transport in TRANSPORTS {
        let (publisher, mut subs) = with_subscribers(transport, &[&[b"a".to_vec(), b"b".to_vec()]]).await;
        for at in 0..10u32 {
            let topic = if at % 2 == 0 { "a" } else { "b" };
            let _ = publisher.send((topic, at.to_be_bytes())).await.unwrap();
        }
        until(|| only_peer(&subs[0]).messages_received == 10).await;
        subs[0].unsubscribe("a").unwrap();
        let (mut batch, mut got) = (Batch::new(), Vec::new());
        while got.len() < 5 {
            let count = soon(subs[0].recv_batch(&mut batch, 3)).await.unwrap();
            assert!((1..=3).contains(&count));
            got.extend(batch.iter().map(|view| number(&view.to_message())));
        }
        assert_eq!(got, [1, 3, 5, 7, 9], "{transport}");
    }
}

#[tokio::test]
async fn p05_one_message_once_however_many_prefixes_match() {
    for transport in TRANSPORTS {
        let all = ["", "a", "ab", "abc"].map(|prefix| prefix.as_bytes().to_vec());
        let (publisher, mut subs) = with_subscribers(transport, &[&all, &all, &all[..2]]).await;
        let _ = publisher.send("abcd").await.unwrap();
        let _ = publisher.send("end").await.unwrap();
        for sub in &mut subs {
            assert_eq!(soon(sub.recv()).await.unwrap()[0], "abcd", "{transport}");
            assert_eq!(soon(sub.recv()).await.unwrap()[0], "end", "{transport}");
        }
    }
}

#[tokio::test]
async fn p05_inverted_matching_is_the_other_half() {
    for transport in TRANSPORTS {
        let publisher = Pub::builder().invert_matching(true).bind(place(transport)).await.unwrap();
        let builder = Sub::builder().invert_matching(true).subscribe("a");
        let mut sub = builder.connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        for topic in ["a", "b", "ab", "c"] {
            let _ = publisher.send(topic).await.unwrap();
        }
        for topic in ["b", "c"] {
            assert_eq!(soon(sub.recv()).await.unwrap()[0], topic, "{transport}");
        }
    }
}

/// What an XPUB is told, until nothing more is expected.
async fn told(xpub: &mut XPub, expected: &[&str]) {
    for news in expected {
        let message = soon(xpub.recv()).await.expect("open");
        assert_eq!(message[0].to_str(), Ok(*news), "of {expected:?}");
    }
    others_run().await;
    assert_eq!(xpub.try_recv(), Err(TryRecvError::Empty), "after {expected:?}");
}

#[tokio::test]
async fn p05_an_xpub_is_told_of_first_and_last() {
    for transport in TRANSPORTS {
        let mut xpub = XPub::bind(place(transport)).await.unwrap();
        let one = Sub::connect(xpub.local_endpoint()).unwrap();
        let two = Sub::connect(xpub.local_endpoint()).unwrap();
        soon(xpub.wait_for_peers(2)).await.unwrap();
        one.subscribe("a").unwrap();
        told(&mut xpub, &["\u{1}a"]).await;
        two.subscribe("a").unwrap();
        until(|| xpub.peers().iter().map(|peer| peer.subscriptions).sum::<usize>() == 2).await;
        told(&mut xpub, &[]).await;
        one.unsubscribe("a").unwrap();
        until(|| xpub.peers().iter().map(|peer| peer.subscriptions).sum::<usize>() == 1).await;
        told(&mut xpub, &[]).await;
        soon(two.close()).await;
        told(&mut xpub, &["\u{0}a"]).await;
    }
}

#[tokio::test]
async fn p05_a_verbose_xpub_is_told_more() {
    for transport in TRANSPORTS {
        for verboser in [false, true] {
            let mut xpub = XPub::builder().verbose(true).verboser(verboser).bind(place(transport)).await.unwrap();
            let one = Sub::connect(xpub.local_endpoint()).unwrap();
            let two = Sub::connect(xpub.local_endpoint()).unwrap();
            soon(xpub.wait_for_peers(2)).await.unwrap();
            one.subscribe("a").unwrap();
            told(&mut xpub, &["\u{1}a"]).await;
            two.subscribe("a").unwrap();
            told(&mut xpub, &["\u{1}a"]).await;
            one.unsubscribe("a").unwrap();
            until(|| xpub.peers().iter().map(|peer| peer.subscriptions).sum::<usize>() == 1).await;
            told(&mut xpub, if verboser { &["\u{0}a"] } else { &[] }).await;
            two.unsubscribe("a").unwrap();
            told(&mut xpub, &["\u{0}a"]).await;
        }
    }
}

#[tokio::test]
async fn p05_an_xsub_subscribes_by_sending() {
    for transport in TRANSPORTS {
        let mut xpub = XPub::bind(place(transport)).await.unwrap();
        let mut xsub = XSub::connect(xpub.local_endpoint()).unwrap();
        let _ = xsub.send("\u{1}a").await.unwrap();
        told(&mut xpub, &["\u{1}a"]).await;
        let _ = xpub.send("a1").await.unwrap();
        let _ = xpub.send("b1").await.unwrap();
        let _ = xpub.send("a2").await.unwrap();
        for topic in ["a1", "a2"] {
            assert_eq!(soon(xsub.recv()).await.unwrap()[0], topic, "{transport}");
        }
        let _ = xsub.send("\u{0}a").await.unwrap();
        told(&mut xpub, &["\u{0}a"]).await;
        let _ = xsub.send(("upstream", "more")).await.unwrap();
        let message = soon(xpub.recv()).await.unwrap();
        assert_eq!((message.len(), message[0].to_str()), (2, Ok("upstream")));
    }
}

#[tokio::test]
async fn p05_welcome_comes_first() {
    for transport in TRANSPORTS {
        let publisher = Pub::builder().welcome("a welcome").bind(place(transport)).await.unwrap();
        let mut sub = Sub::builder().subscribe("a").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        let _ = publisher.send("a1").await.unwrap();
        assert_eq!(soon(sub.recv()).await.unwrap()[0], "a welcome", "{transport}");
        assert_eq!(soon(sub.recv()).await.unwrap()[0], "a1", "{transport}");
    }
}

#[tokio::test]
async fn p05_subscriptions_pass_a_chain_of_proxies() {
    for transport in TRANSPORTS {
        let publisher = Pub::bind(place(transport)).await.unwrap();
        let mut upstream = publisher.local_endpoint().unwrap();
        let mut proxies = Vec::new();
        for _ in 0..3 {
            let front = XSub::connect(&upstream).unwrap();
            let back = XPub::bind(place(transport)).await.unwrap();
            upstream = back.local_endpoint().unwrap();
            let passing = proxy(front, back);
            proxies.push(passing.control());
            tokio::spawn(passing.into_future());
        }
        let mut sub = Sub::builder().subscribe("a").connect(&upstream).unwrap();
        soon(publisher.wait_for_subscribers(1)).await.unwrap();
        for at in 0..100u32 {
            let _ = publisher.send((if at % 2 == 0 { "a" } else { "b" }, at.to_be_bytes())).await.unwrap();
        }
        for at in 0..50 {
            assert_eq!(number(&soon(sub.recv()).await.unwrap()), 2 * at, "{transport}");
        }
        assert_eq!(proxies[0].statistics().forward_messages, 50, "what nobody wants stays where it is");
        sub.unsubscribe("a").unwrap();
        until(|| only_peer(&publisher).subscriptions == 0).await;
        proxies.iter().for_each(|control| control.terminate());
    }
}

#[tokio::test]
async fn p05_many_topics_and_many_subscribers() {
    for transport in TRANSPORTS {
        let sets: Vec<Vec<Vec<u8>>> =
            (0..20).map(|sub| (0..100).map(|at| format!("{sub}/{at}/").into_bytes()).collect()).collect();
        let borrowed: Vec<&[Vec<u8>]> = sets.iter().map(Vec::as_slice).collect();
        let (publisher, mut subs) = with_subscribers(transport, &borrowed).await;
        for at in 0..100 {
            for sub in 0..20 {
                let _ = publisher.send(format!("{sub}/{at}/x")).await.unwrap();
            }
        }
        for (at, sub) in subs.iter_mut().enumerate() {
            for topic in 0..100 {
                let expected = format!("{at}/{topic}/x");
                assert_eq!(soon(sub.recv()).await.unwrap()[0], expected.as_str(), "{transport}");
            }
        }
    }
}

#[tokio::test]
async fn p05_old_and_new_forms_of_subscriptions_are_one() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut raw = soon(Raw::connect(&publisher.local_endpoint().unwrap().to_string(), "SUB")).await;
    // A message of the old form and a command of the new one.
    raw.send(&[b"\x01a"]).await;
    raw.write(b"\x04\x0b\x09SUBSCRIBEb").await;
    until(|| only_peer(&publisher).subscriptions == 2).await;
    raw.write(b"\x04\x0b\x09SUBSCRIBEa").await;
    raw.write(b"\x04\x08\x06CANCELb").await;
    until(|| only_peer(&publisher).subscriptions == 1).await;
    // A peer's subscriptions are a set: one cancel ends it.
    raw.send(&[b"\x00a"]).await;
    until(|| only_peer(&publisher).subscriptions == 0).await;
    // And the cancel of what never was is no error.
    raw.send(&[b"\x00never"]).await;
    raw.send(&[b"\x01c"]).await;
    until(|| only_peer(&publisher).subscriptions == 1).await;
}
