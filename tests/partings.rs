//! Nothing is lost or miscounted where a message and an end meet.

use std::future::IntoFuture;
use std::time::Duration;

use ginnel::*;

/// So that a lost wake-up fails a test instead of stopping it.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_for_several_sets_of_subscribers_leaves_by_itself() {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut all = Sub::builder().subscribe("").connect(publisher.local_endpoint()).unwrap();
    let mut some = Sub::builder().subscribe("a").connect(publisher.local_endpoint()).unwrap();
    soon(publisher.wait_for_subscribers(2)).await.unwrap();
    for _ in 0..100 {
        let _ = publisher.send("a message").await.unwrap();
        assert_eq!(soon(all.recv()).await.unwrap()[0], "a message");
        assert_eq!(soon(some.recv()).await.unwrap()[0], "a message");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_counts_though_its_peer_closes_behind_it() {
    for _ in 0..300 {
        let mut rep = Rep::bind("tcp://127.0.0.1:0").await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let server = tokio::spawn(async move {
            let request = rep.recv().await.unwrap();
            let _ = request.reply("done").await.unwrap();
            rep.close().await;
        });
        let reply = soon(req.request("last").into_future()).await;
        assert_eq!(reply.map(|reply| reply[0].to_vec()), Ok(b"done".to_vec()));
        soon(server).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p06_what_a_peer_has_read_is_not_counted_as_dropped() {
    for _ in 0..50 {
        let publisher = Pub::bind("tcp://127.0.0.1:0").await.unwrap();
        let mut readers = Vec::new();
        for _ in 0..20 {
            let mut sub = Sub::builder().subscribe("").connect(publisher.local_endpoint()).unwrap();
            readers.push(tokio::spawn(async move { sub.recv().await.unwrap() }));
        }
        soon(publisher.wait_for_subscribers(20)).await.unwrap();
        let _ = publisher.send("the last words").await.unwrap();
        for reader in readers {
            soon(reader).await.unwrap();
        }
        soon(publisher.close()).await;
        assert_eq!(publisher.stats().drops, Drops::default());
    }
}
