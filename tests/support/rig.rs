//! One socket under test: [`Rig`]. Whatever strangers do to it, its well-behaved peer must go on.
//!
//! The rig's socket is bound; the good peer connects there. A stranger either connects there too ([`Role::Server`])
//! or listens itself and is connected to ([`Role::Client`]). A PAIR has one peer only: its good peer comes after
//! each stranger and leaves again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ginnel::*;
use tokio::task::AbortHandle;

use super::raw::{self, RawListener, RawPeer};
use super::{Outcome, Report, Scratch, Watch, eventually, soon};

/// Between two round trips of the good peer.
const PACE: Duration = Duration::from_millis(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Ipc,
}

/// Which side of the connection the library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

pub const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// What kind of socket a rig has.
#[derive(Clone)]
pub struct Setup {
    pub kind: SocketType,
    pub transport: Transport,
    /// Options of the socket under test, by name.
    pub options: Vec<(&'static str, &'static str)>,
    pub security: Security,
    pub good_security: Security,
}

impl Setup {
    pub fn new(kind: SocketType, transport: Transport) -> Setup {
        let options = vec![("handshake_timeout", "30s"), ("reconnect", "30s,30s"), ("linger", "0")];
        Setup { kind, transport, options, security: Security::Null, good_security: Security::Null }
    }

    pub fn option(mut self, name: &'static str, value: &'static str) -> Setup {
        self.options.push((name, value));
        self
    }

    pub fn plain(mut self, security: Security, good: Security) -> Setup {
        (self.security, self.good_security) = (security, good);
        self
    }

    fn tune<S: Buildable>(&self, mut builder: Builder<S>) -> Builder<S> {
        for (name, value) in &self.options {
            builder = builder.option(name, value).expect("an option");
        }
        builder.security(self.security.clone())
    }

    fn good<S: Buildable>(&self, builder: Builder<S>) -> Builder<S> {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(50));
        builder.security(self.good_security.clone()).reconnect(min, max).linger(Duration::ZERO)
    }
}

/// Where the tasks that use the socket leave what they see.
#[derive(Clone, Default)]
pub struct Board {
    trips: Arc<AtomicU64>,
    strays: Arc<Mutex<Vec<Message>>>,
}

impl Board {
    fn trip(&self) {
        self.trips.fetch_add(1, Ordering::Relaxed);
    }

    /// A message arrived: a round trip's end, or a stranger's.
    fn sort(&self, message: Message) {
        // An XPUB's application sees the good peer's subscriptions, too.
        if message[0].get(1..) == Some(GOOD) {
            return;
        }
        if message[0].starts_with(GOOD) {
            self.trip();
        } else {
            let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
            // Floods are among the inputs, and memory is measured.
            if strays.len() < 20_000 {
                strays.push(message);
            }
        }
    }
}

const GOOD: &[u8] = b"good";

/// See the module's words.
pub struct Rig {
    pub setup: Setup,
    /// Where the socket under test is bound.
    pub endpoint: String,
    pub socket: Socket,
    pub watch: Watch,
    board: Board,
    /// Ends of connections that rows have accounted for.
    accounted: AtomicUsize,
    tasks: Vec<AbortHandle>,
    scratch: Scratch,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Sends through `$send` at the pace of the good peer.
macro_rules! pace {
    ($work:expr) => {
        tokio::spawn(async move {
            loop {
                $work;
                tokio::time::sleep(PACE).await;
            }
        })
        .abort_handle()
    };
}

impl Rig {
    pub async fn start(setup: Setup) -> Rig {
        let scratch = Scratch::new();
        let endpoint = match setup.transport {
            Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Transport::Ipc => scratch.endpoint("bound"),
        };
        let board = Board::default();
        let (socket, watch, endpoint, tasks) = run(&setup, &endpoint, &board).await;
        let rig = Rig { setup, endpoint, socket, watch, board, accounted: AtomicUsize::new(0), tasks, scratch };
        rig.trips_go_on().await;
        rig
    }

    fn kind(&self) -> SocketType {
        self.setup.kind
    }

    /// Messages of strangers that the application has received; takes them.
    pub fn take_strays(&self) -> Vec<Message> {
        std::mem::take(&mut self.board.strays.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn stray_count(&self) -> usize {
        self.board.strays.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn trips(&self) -> u64 {
        self.board.trips.load(Ordering::Relaxed)
    }

    /// Waits for two more ends of round trips: one of them began after this call.
    pub async fn trips_go_on(&self) {
        if self.kind() == SocketType::Pair {
            return self.pair_trip().await;
        }
        let before = self.trips();
        eventually("round trips of the good peer", || self.trips() >= before + 2).await;
    }

    async fn pair_trip(&self) {
        let from = self.watch.len();
        let before = self.trips();
        let good = self.setup.good(Pair::builder()).connect(&*self.endpoint).expect("an endpoint");
        let trip = async {
            while self.trips() < before + 2 {
                let _ = good.try_send("good");
                tokio::time::sleep(PACE).await;
            }
        };
        soon(trip).await;
        soon(good.close()).await;
        let left = |event: &Event| matches!(event, Event::Disconnected { .. }).then_some(());
        self.watch.expect(from, "leaving of the good PAIR", left).await;
        // It may have knocked while the stranger was there.
        let knocks = self.watch.since(from).iter().filter_map(Outcome::of).filter(|(_, o)| o.is_end()).count();
        self.accounted.fetch_add(knocks, Ordering::Relaxed);
    }

    /// A connection between the socket under test and a stranger.
    pub async fn stranger(&self, role: Role) -> Stranger {
        let from = self.watch.len();
        match role {
            Role::Server => {
                let peer = RawPeer::connect(&self.endpoint).await.expect("a listening socket");
                Stranger { peer, from, listener: None }
            }
            Role::Client => {
                let listener = match self.setup.transport {
                    Transport::Tcp => RawListener::tcp().await,
                    Transport::Ipc => RawListener::ipc(&self.scratch.path("hostile")),
                };
                self.socket.connect_to(&listener.endpoint).expect("an endpoint");
                let peer = soon(listener.accept()).await;
                Stranger { peer, from, listener: Some(listener) }
            }
        }
    }

    /// A stranger whose handshake is done. It has read ours.
    pub async fn admitted(&self, role: Role) -> Stranger {
        let stranger = self.stranger(role).await;
        stranger.peer.send(&raw::session(self.kind())).await.expect("an open connection");
        soon(stranger.peer.read_handshake()).await.expect("a handshake");
        self.watch.connected(stranger.from, &stranger.peer.name).await;
        stranger
    }

    /// The end of this stranger's connection, which must be this one; says it. The good peer must go on.
    pub async fn ends_with(&self, stranger: Stranger, expected: Outcome) -> String {
        let outcome = self.watch.end_of(stranger.from, &stranger.peer.name).await;
        self.accounted.fetch_add(1, Ordering::Relaxed);
        soon(stranger.peer.drain()).await;
        drop(stranger.peer);
        if let Some(listener) = &stranger.listener {
            self.socket.disconnect(&listener.endpoint).expect("a connected endpoint");
        }
        assert!(outcome.agrees(&expected), "expected {expected}, got {outcome:?}");
        self.trips_go_on().await;
        outcome.to_string()
    }

    /// Lets go of a stranger whose end was seen.
    pub fn forget(&self, stranger: Stranger) {
        if let Some(listener) = &stranger.listener {
            self.socket.disconnect(&listener.endpoint).expect("a connected endpoint");
        }
        self.account(1);
    }

    /// The stranger, whose handshake is done, leaves by itself.
    pub async fn leaves(&self, stranger: Stranger) -> String {
        let _ = stranger.peer.finish();
        self.ends_with(stranger, Outcome::Disconnected(Reason::PeerClosed)).await;
        "Connected".to_owned()
    }

    /// Every connection that ended did so in exactly one event, and in one that a row expected.
    pub async fn finish(self) {
        self.trips_go_on().await;
        let (ends, accounted) = (self.watch.ends(), self.accounted.load(Ordering::Relaxed));
        assert_eq!(ends, accounted, "events that no row expected among {:?}", self.watch.since(0));
    }

    /// Ends that a row of its own has seen.
    pub fn account(&self, ends: usize) {
        self.accounted.fetch_add(ends, Ordering::Relaxed);
    }
}

/// A raw peer and the number of the first event that may be about it.
pub struct Stranger {
    pub peer: RawPeer,
    pub from: usize,
    listener: Option<RawListener>,
}

impl Stranger {
    /// Leaves by RST. The endpoint that a client was connected to stays with the caller for the moment.
    pub async fn reset(self, rig: &Rig) -> Outcome {
        let Stranger { peer, from, listener } = self;
        let name = peer.name.clone();
        peer.reset();
        let outcome = rig.watch.end_of(from, &name).await;
        if let Some(listener) = &listener {
            rig.socket.disconnect(&listener.endpoint).expect("a connected endpoint");
        }
        rig.account(1);
        outcome
    }
}

async fn run(setup: &Setup, endpoint: &str, board: &Board) -> (Socket, Watch, String, Vec<AbortHandle>) {
    macro_rules! bound {
        ($builder:expr) => {{
            let subject = setup.tune($builder).bind(endpoint).await.expect("a place to listen");
            let socket: &Socket = &subject;
            let bound = socket.local_endpoint().expect("a bound socket").to_string();
            (socket.clone(), Watch::new(socket.monitor()), bound, subject)
        }};
    }
    // Messages from the good peer come in at this side.
    macro_rules! receives {
        ($builder:expr, $good:expr) => {{
            let (socket, watch, bound, mut subject) = bound!($builder);
            let good = setup.good($good).connect(&*bound).expect("an endpoint");
            let board = board.clone();
            let reading = tokio::spawn(async move {
                while let Ok(message) = subject.recv().await {
                    board.sort(message);
                }
            });
            let sending = pace!(drop(good.try_send("good")));
            (socket, watch, bound, vec![reading.abort_handle(), sending])
        }};
    }
    // Messages to the good peer leave at this side; strangers may get some of them, too.
    macro_rules! sends {
        ($builder:expr, $good:expr) => {{
            let (socket, watch, bound, subject) = bound!($builder);
            let mut good = setup.good($good).connect(&*bound).expect("an endpoint");
            let board = board.clone();
            let reading = tokio::spawn(async move {
                while let Ok(message) = good.recv().await {
                    board.sort(message);
                }
            });
            let sending = pace!(drop(subject.try_send("good")));
            (socket, watch, bound, vec![reading.abort_handle(), sending])
        }};
    }
    match setup.kind {
        SocketType::Push => sends!(Push::builder(), Pull::builder()),
        SocketType::Pub => sends!(Pub::builder(), Sub::builder().subscribe("good")),
        SocketType::Pull => receives!(Pull::builder(), Push::builder()),
        SocketType::Sub => receives!(Sub::builder().subscribe(""), Pub::builder()),
        SocketType::XSub => receives!(XSub::builder().subscribe(""), Pub::builder()),
        SocketType::XPub => {
            let (socket, watch, bound, subject) = bound!(XPub::builder());
            let mut good = setup.good(Sub::builder().subscribe("good")).connect(&*bound).expect("an endpoint");
            let (sender, mut receiver) = subject.split();
            let (seen, sorted) = (board.clone(), board.clone());
            let reading = tokio::spawn(async move {
                while let Ok(message) = receiver.recv().await {
                    seen.sort(message);
                }
            });
            let good_reading = tokio::spawn(async move {
                while let Ok(message) = good.recv().await {
                    sorted.sort(message);
                }
            });
            let sending = pace!(drop(sender.try_send("good")));
            (socket, watch, bound, vec![reading.abort_handle(), good_reading.abort_handle(), sending])
        }
        SocketType::Dealer => {
            let (socket, watch, bound, subject) = bound!(Dealer::builder());
            let good = setup.good(Dealer::builder()).connect(&*bound).expect("an endpoint");
            let (good_sender, mut good_receiver) = good.split();
            let (sender, mut receiver) = subject.split();
            let board = board.clone();
            let reading = tokio::spawn(async move {
                while let Ok(message) = receiver.recv().await {
                    board.sort(message);
                }
            });
            let good_reading = tokio::spawn(async move { while good_receiver.recv().await.is_ok() {} });
            let sending = pace!({
                let _ = good_sender.try_send("good");
                let _ = sender.try_send("out");
            });
            (socket, watch, bound, vec![reading.abort_handle(), good_reading.abort_handle(), sending])
        }
        SocketType::Pair => {
            let (socket, watch, bound, mut subject) = bound!(Pair::builder());
            let board = board.clone();
            let reading = tokio::spawn(async move {
                while let Ok(message) = subject.recv().await {
                    board.sort(message);
                }
            });
            (socket, watch, bound, vec![reading.abort_handle()])
        }
        SocketType::Req => {
            let (socket, watch, bound, subject) = bound!(Req::builder());
            let mut good = setup.good(Rep::builder()).connect(&*bound).expect("an endpoint");
            let answering = tokio::spawn(async move {
                while let Ok(request) = good.recv().await {
                    let body = request.message().clone();
                    let _ = request.reply(body).await;
                }
            });
            let board = board.clone();
            let asking = pace!({
                // Not one after the other: a stranger may sit on one.
                let request = subject.request("good").timeout(Duration::from_secs(5));
                let board = board.clone();
                tokio::spawn(async move {
                    if let Ok(reply) = request.await {
                        board.sort(reply);
                    }
                });
            });
            (socket, watch, bound, vec![answering.abort_handle(), asking])
        }
        SocketType::Rep => {
            let (socket, watch, bound, mut subject) = bound!(Rep::builder());
            let good = setup.good(Req::builder()).connect(&*bound).expect("an endpoint");
            let (seen, sorted) = (board.clone(), board.clone());
            let answering = tokio::spawn(async move {
                while let Ok(request) = subject.recv().await {
                    let body = request.message().clone();
                    if !body[0].starts_with(GOOD) {
                        seen.sort(body.clone());
                    }
                    let _ = request.reply(body).await;
                }
            });
            let asking = pace!({
                if let Ok(reply) = good.request("good").await {
                    sorted.sort(reply);
                }
            });
            (socket, watch, bound, vec![answering.abort_handle(), asking])
        }
        SocketType::Router => {
            let (socket, watch, bound, mut subject) = bound!(Router::builder());
            let good = setup.good(Dealer::builder().identity("the good one")).connect(&*bound).expect("an endpoint");
            let (good_sender, mut good_receiver) = good.split();
            let (seen, sorted) = (board.clone(), board.clone());
            let answering = tokio::spawn(async move {
                while let Ok((peer, message)) = subject.recv().await {
                    if peer.as_ref() != b"the good one" {
                        seen.sort(message.clone());
                    }
                    let _ = subject.try_send_to(&peer, message);
                }
            });
            let reading = tokio::spawn(async move {
                while let Ok(message) = good_receiver.recv().await {
                    sorted.sort(message);
                }
            });
            let sending = pace!(drop(good_sender.try_send("good")));
            (socket, watch, bound, vec![answering.abort_handle(), reading.abort_handle(), sending])
        }
    }
}

/// How a row's bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// One byte, then this pause, and so on.
    Drip(Duration),
}

/// What the stranger does after its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Waits for the other side.
    Hold,
    /// FIN, and reads on.
    Finish,
}

type Bytes = Box<dyn Fn(SocketType) -> Vec<u8> + Send + std::marker::Sync>;

/// One line of a table of hostile inputs.
pub struct Row {
    /// Number and input, as the table shows it.
    pub name: String,
    pub bytes: Bytes,
    pub delivery: Delivery,
    pub then: Then,
    /// `Connected`: tolerated; the stranger is let in, and leaves by itself.
    pub expected: Outcome,
}

impl Row {
    /// The same bytes for every type.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, expected: Outcome) -> Row {
        let bytes = bytes.into();
        Row::by_type(name, move |_| bytes.clone(), expected)
    }

    pub fn by_type(
        name: impl Into<String>,
        bytes: impl Fn(SocketType) -> Vec<u8> + Send + std::marker::Sync + 'static,
        expected: Outcome,
    ) -> Row {
        let (delivery, then) = (Delivery::Whole, Then::Hold);
        Row { name: name.into(), bytes: Box::new(bytes), delivery, then, expected }
    }

    pub fn drip(mut self, pause: Duration) -> Row {
        self.delivery = Delivery::Drip(pause);
        self
    }

    pub fn finish(mut self) -> Row {
        self.then = Then::Finish;
        self
    }

    async fn run(&self, rig: &Rig, role: Role) -> String {
        let stranger = rig.stranger(role).await;
        let bytes = (self.bytes)(rig.setup.kind);
        // The other side may close before it has read all: what counts is its event.
        let sending = async {
            let _ = match self.delivery {
                Delivery::Whole => stranger.peer.send(&bytes).await,
                Delivery::Drip(pause) => stranger.peer.send_in_pieces(&bytes, &[1], pause).await,
            };
            if self.then == Then::Finish {
                let _ = stranger.peer.finish();
            }
        };
        // Who floods must also read, or both sides wait for each other.
        tokio::join!(soon(sending), async {
            if self.expected == Outcome::Connected {
                rig.watch.connected(stranger.from, &stranger.peer.name).await;
            }
        });
        if self.expected == Outcome::Connected {
            return rig.leaves(stranger).await;
        }
        rig.ends_with(stranger, self.expected.clone()).await
    }
}

/// Runs every row in these roles against sockets made by these setups, setups side by side.
pub async fn run_rows(report: &Arc<Report>, setups: Vec<Setup>, roles: &'static [Role], rows: Vec<Row>) {
    // Only who waits for it has a short time for the handshake: a busy machine must not look like a slow peer.
    let waits = |row: &Row| matches!(row.expected, Outcome::Refused(_, Reason::Timeout));
    let (hasty, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(waits);
    let (hasty, rows) = (Arc::new(hasty), Arc::new(rows));
    let mut rigs = Vec::new();
    let patient = setups.iter().map(|setup| (setup.clone(), rows.clone()));
    let hasty = setups.iter().map(|setup| (setup.clone().option("handshake_timeout", "500ms"), hasty.clone()));
    for (setup, rows) in patient.chain(hasty).filter(|(_, rows)| !rows.is_empty()) {
        let report = report.clone();
        rigs.push(tokio::spawn(async move {
            let rig = Arc::new(Rig::start(setup).await);
            for role in roles {
                for at in 0..rows.len() {
                    let (rig_again, rows_again) = (rig.clone(), rows.clone());
                    let run = tokio::spawn(async move { rows_again[at].run(&rig_again, *role).await });
                    let what = format!("{} {role:?} {:?}", rig.setup.kind, rig.setup.transport);
                    let result = run.await.map_err(|error| format!("({what}) {}", super::panic_text(error)));
                    report.record(&rows[at].name, result);
                }
            }
            let Some(rig) = Arc::into_inner(rig) else { unreachable!("all rows are done") };
            rig.finish().await;
        }));
    }
    for rig in rigs {
        if let Err(error) = rig.await {
            report.record("P2  one event for each connection", Err(super::panic_text(error)));
        } else {
            report.record("P2  one event for each connection", Ok("as expected".to_owned()));
        }
    }
}

/// All types over TCP.
pub fn all_over_tcp() -> Vec<Setup> {
    SocketType::ALL.into_iter().map(|kind| Setup::new(kind, Transport::Tcp)).collect()
}

/// One type per direction of traffic, over IPC.
pub fn some_over_ipc() -> Vec<Setup> {
    use SocketType::{Pub, Pull, Rep, Router};
    [Pull, Pub, Rep, Router].into_iter().map(|kind| Setup::new(kind, Transport::Ipc)).collect()
}
