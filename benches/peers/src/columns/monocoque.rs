//! monocoque: each send writes, or fills a buffer that `flush` writes.

use bytes::Bytes;
use monocoque::rt::{LocalRuntime, TcpListener, TcpStream, UnixListener, UnixStream};
use monocoque::zmq::{PullSocket, PushSocket, RepSocket, ReqSocket, SocketOptions};

use crate::role;
use crate::workload::{Arrivals, Bodies, Column, Outcome, Ready, Rounds};

pub struct Monocoque {
    pub coalesce: bool,
}

impl Monocoque {
    fn options(&self) -> SocketOptions {
        SocketOptions::default().with_write_coalescing(self.coalesce)
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    LocalRuntime::new().expect("a runtime").block_on(work)
}

/// The path of an ipc endpoint.
fn path(endpoint: &str) -> Option<&str> {
    endpoint.strip_prefix("ipc://")
}

fn address(endpoint: &str) -> String {
    endpoint.trim_start_matches("tcp://").replace('*', "0")
}

async fn listen(at: &str, ready: Ready) -> TcpListener {
    let listener = TcpListener::bind(address(at)).await.expect("bind");
    ready.at(&format!("tcp://{}", listener.local_addr().expect("bound")));
    listener
}

macro_rules! with_accepted {
    ($kind:ident, $at:expr, $ready:expr, $options:expr, $socket:ident => $body:expr) => {
        match path($at) {
            Some(path) => {
                let listener = UnixListener::bind(path).await.expect("bind");
                $ready.at($at);
                let stream = listener.accept().await.expect("accept").0;
                let mut $socket = $kind::from_unix_stream_with_options(stream, $options).await.expect("handshake");
                $body
            }
            None => {
                let stream = listen($at, $ready).await.accept().await.expect("accept").0;
                let mut $socket = $kind::from_tcp_with_options(stream, $options).await.expect("handshake");
                $body
            }
        }
    };
}

macro_rules! with_connected {
    ($kind:ident, $endpoint:expr, $options:expr, $socket:ident => $body:expr) => {
        match path($endpoint) {
            Some(path) => {
                let stream = UnixStream::connect(path).await.expect("connect");
                let mut $socket = $kind::from_unix_stream_with_options(stream, $options).await.expect("handshake");
                $body
            }
            None => {
                let stream = TcpStream::connect(address($endpoint)).await.expect("connect");
                let mut $socket = $kind::from_tcp_with_options(stream, $options).await.expect("handshake");
                $body
            }
        }
    };
}

impl Column for Monocoque {
    fn settings(&self) -> String {
        "monocoque".to_owned()
    }

    fn receive(&self, at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        run(async {
            with_accepted!(PullSocket, at, ready, self.options(), pull => {
                let mut frames = Vec::new();
                while arrivals.missing() > 0 {
                    assert!(pull.recv_into(&mut frames).await.expect("recv"), "closed early");
                    arrivals.take(&frames[0]);
                }
            });
        });
        Ok(arrivals)
    }

    fn send(&self, endpoint: &str, mut bodies: Bodies) -> Outcome {
        run(async {
            with_connected!(PushSocket, endpoint, self.options(), push => {
                while let Some(body) = bodies.next() {
                    push.send_one(Bytes::copy_from_slice(body)).await.expect("send");
                }
                push.flush().await.expect("flush");
                role::hold();
            });
        });
        Ok(())
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        run(async {
            with_accepted!(RepSocket, at, ready, SocketOptions::default(), rep => {
                for _ in 0..count {
                    let message = rep.recv().await.expect("recv").expect("open");
                    rep.send(message).await.expect("send");
                }
                role::hold();
            });
        });
        Ok(())
    }

    fn request(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        run(async {
            with_connected!(ReqSocket, endpoint, SocketOptions::default(), req => {
                while let Some(body) = rounds.next() {
                    req.send(vec![Bytes::copy_from_slice(body)]).await.expect("send");
                    rounds.done(&req.recv().await.expect("recv").expect("open")[0]);
                }
            });
        });
        Ok(rounds)
    }
}
