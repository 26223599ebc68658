//! monocoque: a send writes at once, or (coalescing) fills 64 KiB that `flush` writes out.
//!
//! Its sockets are a connection each and live on one thread; a REP, or a PULL with many peers, is one of them for each
//! connection that is accepted (for PULL there is `PullFanIn`).

use std::time::Duration;

use bytes::Bytes;
use monocoque::rt::{self, LocalRuntime, TcpListener, TcpStream, UnixListener, UnixStream};
use monocoque::zmq::{
    DealerSocket, PubSocket, PullFanIn, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, SocketOptions,
    SubSocket,
};

use crate::role;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Failure, Flight, Outcome, PAUSE, Publications, Ready, Roll, Rounds, Subscription,
    Visits, unsupported,
};

/// With no further subscriber for so long, all are there: its PUB accepts only while it does not send.
const NO_MORE: Duration = Duration::from_millis(400);

const AS_MONOCOQUE: &str = "its requests and answers are written at once in either mode: as monocoque";

const NO_INPROC: &str = "of its sockets only DEALER and PAIR have inproc";

pub struct Monocoque {
    pub coalesce: bool,
}

impl Monocoque {
    /// What is the same in both modes is measured once.
    fn once(&self) -> Outcome {
        if self.coalesce { Ok(()) } else { unsupported(AS_MONOCOQUE) }
    }

    fn options(&self) -> SocketOptions {
        SocketOptions::default().with_write_coalescing(self.coalesce)
    }
}

fn run<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    LocalRuntime::new()?.block_on(work)
}

/// The path of an ipc endpoint.
fn path(endpoint: &str) -> Option<&str> {
    endpoint.strip_prefix("ipc://")
}

fn address(endpoint: &str) -> String {
    endpoint.trim_start_matches("tcp://").replace('*', "0")
}

async fn listen(at: &str, ready: Ready) -> Outcome<TcpListener> {
    let listener = TcpListener::bind(address(at)).await?;
    ready.at(&format!("tcp://{}", listener.local_addr()?));
    Ok(listener)
}

async fn hold() {
    rt::spawn_blocking(role::hold).await;
}

fn open<T>(received: Option<T>) -> Outcome<T> {
    received.ok_or_else(|| Failure::Failed("the connection was closed".to_owned()))
}

/// The one connection of a bound socket of this kind.
macro_rules! with_accepted {
    ($kind:ident, $at:expr, $ready:expr, $options:expr, $socket:ident => $body:expr) => {
        match path($at) {
            Some(path) => {
                let listener = UnixListener::bind(path).await?;
                $ready.at($at);
                let stream = listener.accept().await?.0;
                let mut $socket = $kind::from_unix_stream_with_options(stream, $options).await?;
                $body
            }
            None => {
                let stream = listen($at, $ready).await?.accept().await?.0;
                let mut $socket = $kind::from_tcp_with_options(stream, $options).await?;
                $body
            }
        }
    };
}

macro_rules! with_connected {
    ($kind:ident, $endpoint:expr, $options:expr, $socket:ident => $body:expr) => {
        match path($endpoint) {
            Some(path) => {
                let stream = UnixStream::connect(path).await?;
                let mut $socket = $kind::from_unix_stream_with_options(stream, $options).await?;
                $body
            }
            None => {
                let stream = TcpStream::connect(address($endpoint)).await?;
                let mut $socket = $kind::from_tcp_with_options(stream, $options).await?;
                $body
            }
        }
    };
}

macro_rules! ask_all {
    ($socket:ident, $rounds:ident) => {{
        let mut frames = Vec::new();
        while let Some(body) = $rounds.next() {
            $socket.send(vec![Bytes::copy_from_slice(body)]).await?;
            open($socket.recv_into(&mut frames).await?.then_some(()))?;
            $rounds.done(&frames[0]);
        }
    }};
}

async fn push_all(mut push: PushSocket, mut bodies: Bodies) -> Outcome {
    while let Some(body) = bodies.next() {
        push.send_one(Bytes::copy_from_slice(body)).await?;
    }
    push.flush().await?;
    hold().await;
    Ok(())
}

/// Answers one requester until it leaves.
async fn answer(mut rep: RepSocket) {
    while let Ok(Some(message)) = rep.recv().await {
        if rep.send(message).await.is_err() {
            return;
        }
    }
}

impl Column for Monocoque {
    fn settings(&self) -> String {
        let (name, how) = match self.coalesce {
            true => (
                "monocoque",
                "write coalescing (64 KiB, one `flush` after the last message) for PUSH and pipelined DEALER/ROUTER",
            ),
            false => ("monocoque-eager", "its default of one write a message"),
        };
        format!(
            "{name}: monocoque-rs 0.4.2, its tokio backend (current-thread; its authors measure more with it on loopback than with \
             io_uring), {how}; send_one and recv_into; a socket is one connection without a queue, so there is no high-water \
             mark but at PUB (1000 for each of its worker threads, drops); REQ and REP write at once"
        )
    }

    fn receive(&self, at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        run(async {
            if arrivals.senders() > 1 {
                let listener = listen(at, ready).await?;
                let mut sink = PullFanIn::accept_workers(&listener, arrivals.senders(), self.options()).await?;
                while arrivals.missing() > 0 {
                    arrivals.take(&open(sink.recv().await?)?[0]);
                }
                return Ok(arrivals);
            }
            with_accepted!(PullSocket, at, ready, self.options(), pull => {
                let mut frames = Vec::new();
                while arrivals.missing() > 0 {
                    open(pull.recv_into(&mut frames).await?.then_some(()))?;
                    arrivals.take(&frames[0]);
                }
            });
            Ok(arrivals)
        })
    }

    fn send(&self, endpoint: &str, mut bodies: Bodies) -> Outcome {
        run(async {
            with_connected!(PushSocket, endpoint, self.options(), push => {
                while let Some(body) = bodies.next() {
                    push.send_one(Bytes::copy_from_slice(body)).await?;
                }
                push.flush().await?;
                hold().await;
            });
            Ok(())
        })
    }

    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        run(async {
            let mut pushes = Vec::new();
            for bodies in senders {
                let push = PushSocket::connect_with_options(address(endpoint), self.options()).await?;
                pushes.push(rt::spawn(push_all(push, bodies)));
            }
            for push in pushes {
                rt::join(push).await?;
            }
            Ok(())
        })
    }

    fn push_pull_inproc(&self, _: Bodies, _: Arrivals) -> Outcome<Arrivals> {
        unsupported(NO_INPROC)
    }

    fn publish(&self, at: &str, ready: Ready, mut all: Publications) -> Outcome {
        self.once()?;
        run(async {
            let mut publisher = PubSocket::bind_with_options(address(at), self.options()).await?;
            ready.at(&format!("tcp://{}", publisher.local_addr()?));
            publisher.accept_subscriber().await?;
            while let Ok(accepted) = rt::timeout(NO_MORE, publisher.accept_subscriber()).await {
                accepted?;
            }
            while let Some(body) = all.probe() {
                publisher.send_frames(&[Bytes::copy_from_slice(body)]).await?;
                rt::sleep(PAUSE).await;
            }
            while let Some(body) = all.next() {
                publisher.send_frames(&[Bytes::copy_from_slice(body)]).await?;
            }
            while let Some(body) = all.end() {
                publisher.send_frames(&[Bytes::copy_from_slice(body)]).await?;
                rt::sleep(PAUSE).await;
            }
            Ok(())
        })
    }

    fn subscribe(&self, endpoint: &str, all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        run(async {
            let mut tasks = Vec::new();
            for mut one in all {
                let stream = TcpStream::connect(address(endpoint)).await?;
                let mut sub = SubSocket::from_tcp_with_options(stream, SocketOptions::default()).await?;
                for prefix in one.prefixes() {
                    sub.subscribe(prefix).await?;
                }
                tasks.push(rt::spawn(async move {
                    let mut frames = Vec::new();
                    loop {
                        open(sub.recv_into(&mut frames).await?.then_some(()))?;
                        if one.take(&frames[0]) {
                            return Ok::<_, Failure>(one);
                        }
                    }
                }));
            }
            let mut done = Vec::new();
            for task in tasks {
                done.push(rt::join(task).await?);
            }
            Ok(done)
        })
    }

    fn reply(&self, at: &str, ready: Ready, _: u64) -> Outcome {
        self.once()?;
        run(async {
            match path(at) {
                Some(path) => {
                    let listener = UnixListener::bind(path).await?;
                    ready.at(at);
                    let stream = listener.accept().await?.0;
                    let mut rep = RepSocket::from_unix_stream_with_options(stream, SocketOptions::default()).await?;
                    while let Ok(Some(message)) = rep.recv().await {
                        rep.send(message).await?;
                    }
                }
                None => {
                    let listener = listen(at, ready).await?;
                    let accepting = rt::spawn(async move {
                        while let Ok((stream, _)) = listener.accept().await {
                            rt::spawn_detached(async move {
                                if let Ok(rep) = RepSocket::from_tcp(stream).await {
                                    answer(rep).await;
                                }
                            });
                        }
                    });
                    hold().await;
                    drop(accepting);
                }
            }
            Ok(())
        })
    }

    fn request(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        self.once()?;
        run(async {
            with_connected!(ReqSocket, endpoint, SocketOptions::default(), req => ask_all!(req, rounds));
            Ok(rounds)
        })
    }

    fn request_many(&self, _: &str, _: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported("its REQ has one request under way at a time")
    }

    fn request_inproc(&self, _: Rounds) -> Outcome<Rounds> {
        unsupported(NO_INPROC)
    }

    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        run(async {
            with_accepted!(RouterSocket, at, ready, SocketOptions::default(), router => {
                let mut left = count;
                while left > 0 {
                    let message = open(router.recv().await?)?;
                    left -= 1;
                    if !self.coalesce {
                        router.send(message).await?;
                        continue;
                    }
                    // Written when nothing more is there to be answered.
                    router.send_buffered(message)?;
                    let mut frames = Vec::new();
                    while left > 0 && router.try_recv_into(&mut frames)? {
                        router.send_buffered(std::mem::take(&mut frames))?;
                        left -= 1;
                    }
                    router.flush().await?;
                }
                hold().await;
            });
            Ok(())
        })
    }

    fn deal(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        self.once()?;
        run(async {
            with_connected!(DealerSocket, endpoint, SocketOptions::default(), dealer => ask_all!(dealer, rounds));
            Ok(rounds)
        })
    }

    fn deal_many(&self, endpoint: &str, mut flight: Flight) -> Outcome<Flight> {
        run(async {
            with_connected!(DealerSocket, endpoint, SocketOptions::default(), dealer => {
                let mut frames = Vec::new();
                while flight.missing() > 0 {
                    while let Some(body) = flight.next() {
                        if self.coalesce {
                            dealer.send_buffered(vec![Bytes::copy_from_slice(body)])?;
                        } else {
                            dealer.send(vec![Bytes::copy_from_slice(body)]).await?;
                        }
                    }
                    dealer.flush().await?;
                    open(dealer.recv_into(&mut frames).await?.then_some(()))?;
                    flight.done(&frames[0]);
                    while dealer.try_recv_into(&mut frames)? {
                        flight.done(&frames[0]);
                    }
                }
            });
            Ok(flight)
        })
    }

    fn dealers(&self, _: &str, _: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported("its ROUTER has one connection")
    }

    fn deal_inproc(&self, _: Rounds) -> Outcome<Rounds> {
        unsupported(NO_INPROC)
    }

    fn deal_many_inproc(&self, _: Flight) -> Outcome<Flight> {
        unsupported(NO_INPROC)
    }

    fn gather(&self, at: &str, ready: Ready, mut roll: Roll) -> Outcome {
        self.once()?;
        run(async {
            let listener = listen(at, ready).await?;
            let mut sink = PullFanIn::accept_workers(&listener, roll.missing(), SocketOptions::default()).await?;
            while roll.missing() > 0 {
                roll.take(&open(sink.recv().await?)?[0]);
            }
            roll.done();
            hold().await;
            Ok(())
        })
    }

    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        if crowd.every().is_some() {
            return unsupported("it connects again only within a call that sends");
        }
        run(async {
            let mut pushes = Vec::new();
            for index in 0..crowd.count() {
                let mut push = PushSocket::connect(address(endpoint)).await?;
                push.send_one(Bytes::from(crowd.body(index))).await?;
                pushes.push(push);
            }
            hold().await;
            Ok(())
        })
    }

    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        self.once()?;
        run(async {
            let at_once = visits.at_once();
            let visits = std::rc::Rc::new(std::cell::RefCell::new(visits));
            let mut tasks = Vec::new();
            for _ in 0..at_once {
                let (visits, address) = (visits.clone(), address(endpoint));
                tasks.push(rt::spawn(async move {
                    loop {
                        let Some(request) = visits.borrow_mut().next() else { return Ok::<_, Failure>(()) };
                        let mut req = ReqSocket::connect(&address).await?;
                        req.send(vec![Bytes::copy_from_slice(&request)]).await?;
                        let reply = open(req.recv().await?)?;
                        visits.borrow_mut().done(&request, &reply[0]);
                    }
                }));
            }
            for task in tasks {
                rt::join(task).await?;
            }
            Ok(std::rc::Rc::into_inner(visits).expect("all tasks have ended").into_inner())
        })
    }
}
