//! The first walk through every socket type, over every transport.

use std::time::Duration;

use ginnel::*;

const ENDPOINTS: [&str; 3] = ["tcp://127.0.0.1:0", "ipc://*", "inproc://basics-"];

fn endpoint(base: &str, name: &str) -> String {
    if base.starts_with("inproc") { format!("{base}{name}") } else { base.to_owned() }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("in time")
}

#[tokio::test]
async fn push_reaches_pull_in_order() {
    for base in ENDPOINTS {
        let mut pull = Pull::bind(endpoint(base, "push")).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        for n in 0..5000u32 {
            let push = &push;
            if n % 500 == 0 {
                push.flush().await.unwrap();
            }
            let send = push.send(n.to_be_bytes());
            let _ = soon(send).await.unwrap();
            if n % 3 == 2 {
                for k in n - 2..=n {
                    assert_eq!(soon(pull.recv()).await.unwrap()[0], k.to_be_bytes()[..], "{base}");
                }
            }
        }
    }
}

#[tokio::test]
async fn pub_reaches_subscribers() {
    for base in ENDPOINTS {
        let publisher = Pub::bind(endpoint(base, "pub")).await.unwrap();
        let mut all = Sub::builder().subscribe("").connect(publisher.local_endpoint()).unwrap();
        let mut some = Sub::builder().subscribe("a").connect(publisher.local_endpoint()).unwrap();
        soon(publisher.wait_for_subscribers(2)).await.unwrap();
        for topic in ["b", "a1", "c", "a2"] {
            let _ = publisher.send((topic, "body")).await.unwrap();
        }
        for topic in ["b", "a1", "c", "a2"] {
            assert_eq!(soon(all.recv()).await.unwrap()[0], topic, "{base}");
        }
        for topic in ["a1", "a2"] {
            assert_eq!(soon(some.recv()).await.unwrap()[0], topic, "{base}");
        }
    }
}

#[tokio::test]
async fn req_gets_its_replies() {
    for base in ENDPOINTS {
        let mut rep = Rep::bind(endpoint(base, "req")).await.unwrap();
        let req = Req::connect(rep.local_endpoint()).unwrap();
        let server = tokio::spawn(async move {
            while let Ok(request) = rep.recv().await {
                let body = request.message().clone();
                let _ = request.reply(body).await;
            }
        });
        let mut calls = Vec::new();
        for n in 0..100u32 {
            let req = req.clone();
            calls.push(tokio::spawn(async move { (n, req.request(n.to_be_bytes()).await) }));
        }
        for call in calls {
            let (n, reply) = soon(call).await.unwrap();
            assert_eq!(reply.unwrap()[0], n.to_be_bytes()[..], "{base}");
        }
        server.abort();
    }
}

#[tokio::test]
async fn router_addresses_dealers() {
    for base in ENDPOINTS {
        let mut router = Router::bind(endpoint(base, "router")).await.unwrap();
        let mut one = Dealer::builder().identity("one").connect(router.local_endpoint()).unwrap();
        let mut two = Dealer::builder().identity("two").connect(router.local_endpoint()).unwrap();
        let _ = one.send("from one").await.unwrap();
        let _ = two.send("from two").await.unwrap();
        for _ in 0..2 {
            let (peer, message) = soon(router.recv()).await.unwrap();
            let _ = router.send_to(&peer, message).await.unwrap();
        }
        assert_eq!(soon(one.recv()).await.unwrap()[0], "from one", "{base}");
        assert_eq!(soon(two.recv()).await.unwrap()[0], "from two", "{base}");
    }
}

#[tokio::test]
async fn pair_and_xpub_xsub() {
    for base in ENDPOINTS {
        let mut one = Pair::bind(endpoint(base, "pair")).await.unwrap();
        let mut two = Pair::connect(one.local_endpoint()).unwrap();
        let _ = two.send("ping").await.unwrap();
        assert_eq!(soon(one.recv()).await.unwrap()[0], "ping");
        let _ = one.send("pong").await.unwrap();
        assert_eq!(soon(two.recv()).await.unwrap()[0], "pong");

        let mut xpub = XPub::bind(endpoint(base, "xpub")).await.unwrap();
        let mut xsub = XSub::connect(xpub.local_endpoint()).unwrap();
        xsub.subscribe("t").unwrap();
        assert_eq!(soon(xpub.recv()).await.unwrap()[0], "\u{1}t", "{base}");
        let _ = xpub.send("topic").await.unwrap();
        assert_eq!(soon(xsub.recv()).await.unwrap()[0], "topic", "{base}");
        let _ = xsub.send("upstream").await.unwrap();
        assert_eq!(soon(xpub.recv()).await.unwrap()[0], "upstream", "{base}");
    }
}

#[tokio::test]
async fn close_reports_and_ends() {
    for base in ENDPOINTS {
        let mut pull = Pull::bind(endpoint(base, "close")).await.unwrap();
        let push = Push::connect(pull.local_endpoint()).unwrap();
        for _ in 0..10 {
            let _ = push.send("x").await.unwrap();
        }
        let report = soon(push.close()).await;
        assert_eq!(report.dropped, 0, "{base}");
        for _ in 0..10 {
            soon(pull.recv()).await.unwrap();
        }
        assert!(push.send("y").await.is_err());
        soon(pull.close()).await;
        assert_eq!(soon(pull.recv()).await, Err(RecvError::Closed));
    }
}
