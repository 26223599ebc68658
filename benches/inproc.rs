//! Two sockets of one process without a network: `cargo bench --bench inproc [--features blocking]`.

mod measure;

use ginnel::{Message, Pull, Push, Rep, Req};
use measure::measure;
use tokio::runtime::Builder;

const COUNT: usize = 1000;

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let body = [7; 64];
    let (push, mut pull) = runtime.block_on(async {
        let pull = Pull::bind("inproc://tasks").await.expect("bind");
        (Push::connect("inproc://tasks").expect("connect"), pull)
    });
    measure("PUSH/PULL 64 B, one task", COUNT, || {
        runtime.block_on(async {
            for _ in 0..COUNT {
                push.send(Message::from(&body[..])).await.expect("send");
            }
            for _ in 0..COUNT {
                pull.recv().await.expect("recv");
            }
        });
    });
    let req = runtime.block_on(async {
        let mut rep = Rep::bind("inproc://service").await.expect("bind");
        tokio::spawn(async move {
            while let Ok(request) = rep.recv().await {
                let (message, responder) = request.into_parts();
                responder.reply(message).await.expect("reply");
            }
        });
        Req::connect("inproc://service").expect("connect")
    });
    measure("REQ/REP 64 B, two tasks of one thread", 100, || {
        runtime.block_on(async {
            for _ in 0..100 {
                req.request(Message::from(&body[..])).await.expect("reply");
            }
        });
    });
    #[cfg(feature = "blocking")]
    blocking(&body);
}

#[cfg(feature = "blocking")]
fn blocking(body: &[u8]) {
    use ginnel::blocking::{Pull, Push};

    let mut pull = Pull::bind("inproc://threads").expect("bind");
    let push = Push::connect("inproc://threads").expect("connect");
    measure("PUSH/PULL 64 B, one thread, blocking", COUNT, || {
        for _ in 0..COUNT {
            push.send(body).expect("send");
        }
        for _ in 0..COUNT {
            pull.recv().expect("recv");
        }
    });
}
