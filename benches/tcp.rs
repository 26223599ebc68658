//! Two sockets over TCP in one process, each in a thread of its own: `cargo bench --bench tcp [--features blocking]`.
//!
//! Tasks have a current-thread runtime per side; blocking sockets have their I/O threads besides. The rivals are in
//! `benches/peers`, where each side is a process.

mod measure;

use std::sync::mpsc;
use std::thread;

use ginnel::{Message, Pull, Push, Rep, Req};
use measure::measure;
use tokio::runtime::{Builder, Runtime};

const SIZES: [usize; 4] = [16, 64, 1024, 64 * 1024];
const ANYWHERE: &str = "tcp://127.0.0.1:0";
const REQUESTS: usize = 100;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Messages of one run: 4 MiB, but no more than are counted easily.
fn count(size: usize) -> usize {
    ((4 << 20) / size).min(50_000)
}

fn main() {
    tasks();
    #[cfg(feature = "blocking")]
    blocking();
}

fn tasks() {
    for size in SIZES {
        let runtime = runtime();
        let mut pull = runtime.block_on(Pull::bind(ANYWHERE)).expect("bind");
        let there = pull.local_endpoint().expect("bound");
        let (start, starts) = mpsc::channel::<()>();
        let sender = thread::spawn(move || {
            self::runtime().block_on(async {
                let push = Push::connect(there).expect("connect");
                // From now on nothing is left to do here while the thread waits for its start.
                push.wait_for_peers(1).await.expect("an open socket");
                let body = vec![7; size];
                while starts.recv().is_ok() {
                    for _ in 0..count(size) {
                        push.send(Message::from(&body[..])).await.expect("send");
                    }
                    push.flush().await.expect("no spool");
                }
            });
        });
        measure(&format!("PUSH/PULL {size} B, tasks"), count(size), || {
            start.send(()).expect("the sender waits");
            runtime.block_on(async {
                for _ in 0..count(size) {
                    pull.recv().await.expect("recv");
                }
            });
        });
        drop(start);
        sender.join().expect("no panic");
    }
    let runtime = runtime();
    let (at, endpoint) = mpsc::channel();
    thread::spawn(move || {
        self::runtime().block_on(async {
            let mut rep = Rep::bind(ANYWHERE).await.expect("bind");
            at.send(rep.local_endpoint()).expect("somebody asks");
            while let Ok(request) = rep.recv().await {
                let (message, responder) = request.into_parts();
                responder.reply(message).await.expect("reply");
            }
        });
    });
    let req = runtime.block_on(async { Req::connect(endpoint.recv().expect("bound")) }).expect("connect");
    measure("REQ/REP 64 B, tasks", REQUESTS, || {
        runtime.block_on(async {
            for _ in 0..REQUESTS {
                req.request(vec![7; 64]).await.expect("reply");
            }
        });
    });
}

#[cfg(feature = "blocking")]
fn blocking() {
    use ginnel::blocking::{Pull, Push, Rep, Req};

    for size in SIZES {
        let mut pull = Pull::bind(ANYWHERE).expect("bind");
        let push = Push::connect(pull.local_endpoint()).expect("connect");
        let (start, starts) = mpsc::channel::<()>();
        let sender = thread::spawn(move || {
            let body = vec![7; size];
            while starts.recv().is_ok() {
                for _ in 0..count(size) {
                    push.send(&body[..]).expect("send");
                }
            }
        });
        measure(&format!("PUSH/PULL {size} B, blocking"), count(size), || {
            start.send(()).expect("the sender waits");
            (0..count(size)).for_each(|_| drop(pull.recv().expect("recv")));
        });
        drop(start);
        sender.join().expect("no panic");
    }
    let mut rep = Rep::bind(ANYWHERE).expect("bind");
    let req = Req::connect(rep.local_endpoint()).expect("connect");
    thread::spawn(move || {
        for request in rep.iter() {
            let (message, responder) = request.expect("recv").into_parts();
            responder.reply(message).expect("reply");
        }
    });
    measure("REQ/REP 64 B, blocking", REQUESTS, || {
        (0..REQUESTS).for_each(|_| drop(req.request(vec![7; 64]).expect("reply")));
    });
    req.close();
}
