//! A library on tokio as a column: the loops, which are the same for all of them.
//!
//! Each library gives its sockets ([`Library`]) and what its authors recommend; it has no loop of its own, so none is
//! driven in a better or a worse way than its neighbours. Read `omq`, `rzmq` or `zeromq` next.

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use crate::role;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Failure, Flight, Outcome, PAUSE, Publications, Ready, Roll, Rounds, Subscription,
    Visits, unsupported,
};

/// What a socket is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Push,
    Pull,
    Pub,
    Sub,
    Req,
    Rep,
    Dealer,
    Router,
}

/// What a column has not, and why.
#[derive(Clone, Copy, Default)]
pub struct Lacks {
    pub inproc: Option<&'static str>,
    /// DEALER and ROUTER over inproc.
    pub deal_inproc: Option<&'static str>,
    /// Peers that connect again.
    pub reconnects: Option<&'static str>,
    /// All but what goes one way.
    pub answers: Option<&'static str>,
}

/// A library's own part: its runtime, its sockets, one message a call.
pub trait Library: Clone + Send + Sync + 'static {
    type Context: Clone + Send + Sync + 'static;
    type Socket: Send + 'static;
    type Message: Send;

    fn settings(&self) -> String;

    fn lacks(&self) -> Lacks {
        Lacks::default()
    }

    /// Runs `work` on the runtime that the authors recommend for it.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T;

    /// Called on that runtime.
    fn context(&self) -> Outcome<Self::Context>;

    fn open(&self, context: &Self::Context, kind: Kind) -> impl Future<Output = Outcome<Self::Socket>> + Send;

    /// Binds and tells the endpoint; a port of `*` means any.
    fn bind(socket: &mut Self::Socket, at: &str) -> impl Future<Output = Outcome<String>> + Send;

    fn connect(socket: &mut Self::Socket, endpoint: &str) -> impl Future<Output = Outcome> + Send;

    fn subscribe(socket: &mut Self::Socket, prefix: &[u8]) -> impl Future<Output = Outcome> + Send;

    /// Sends a copy of `body`.
    fn send(socket: &mut Self::Socket, body: &[u8]) -> impl Future<Output = Outcome> + Send;

    fn receive(socket: &mut Self::Socket) -> impl Future<Output = Outcome<Self::Message>> + Send;

    /// The only frame, or the last one.
    fn body(message: &Self::Message) -> &[u8];

    /// Answers a request of a REP or a ROUTER with what came.
    fn answer(socket: &mut Self::Socket, message: Self::Message) -> impl Future<Output = Outcome> + Send;

    /// Returns when all that was sent is with the operating system, or holds.
    fn finish(socket: Self::Socket, context: Self::Context) -> impl Future<Output = ()> + Send;

    /// Takes all that is there, at least one: for the libraries that have a call for it.
    fn receive_batch(
        &self,
        socket: &mut Self::Socket,
        take: &mut (impl FnMut(&[u8]) + Send),
    ) -> impl Future<Output = Outcome> + Send {
        let _ = self;
        async {
            let message = Self::receive(socket).await?;
            take(Self::body(&message));
            Ok(())
        }
    }
}

/// Waits for the other side without keeping the runtime from its work.
pub async fn hold() {
    tokio::task::spawn_blocking(role::hold).await.expect("hold");
}

/// A library as a column.
pub struct Tokio<L>(pub L);

impl<L: Library> Tokio<L> {
    /// Fails with the reason if there is one.
    fn has(&self, lacks: impl Fn(Lacks) -> Option<&'static str>) -> Outcome {
        lacks(self.0.lacks()).map_or(Ok(()), unsupported)
    }

    /// Both ends of an inproc endpoint.
    async fn pair(library: &L, bound: Kind, connected: Kind) -> Outcome<(L::Socket, L::Socket, L::Context)> {
        let context = library.context()?;
        let mut first = library.open(&context, bound).await?;
        L::bind(&mut first, "inproc://peers").await?;
        let mut second = library.open(&context, connected).await?;
        L::connect(&mut second, "inproc://peers").await?;
        Ok((first, second, context))
    }
}

async fn receive_all<L: Library>(library: &L, pull: &mut L::Socket, arrivals: &mut Arrivals) -> Outcome {
    while arrivals.missing() > 0 {
        library.receive_batch(pull, &mut |body| arrivals.take(body)).await?;
    }
    Ok(())
}

async fn send_all<L: Library>(push: &mut L::Socket, mut bodies: Bodies) -> Outcome {
    while let Some(body) = bodies.next() {
        L::send(push, body).await?;
    }
    Ok(())
}

async fn answer_all<L: Library>(socket: &mut L::Socket, count: u64) -> Outcome {
    for _ in 0..count {
        let message = L::receive(socket).await?;
        L::answer(socket, message).await?;
    }
    Ok(())
}

async fn ask_all<L: Library>(socket: &mut L::Socket, mut rounds: Rounds) -> Outcome<Rounds> {
    while let Some(body) = rounds.next() {
        L::send(socket, body).await?;
        let message = L::receive(socket).await?;
        rounds.done(L::body(&message));
    }
    Ok(rounds)
}

async fn ask_many<L: Library>(library: &L, socket: &mut L::Socket, mut flight: Flight) -> Outcome<Flight> {
    while flight.missing() > 0 {
        while let Some(body) = flight.next() {
            L::send(socket, body).await?;
        }
        library.receive_batch(socket, &mut |body| flight.done(body)).await?;
    }
    Ok(flight)
}

async fn publish_all<L: Library>(publisher: &mut L::Socket, mut all: Publications) -> Outcome {
    while let Some(body) = all.probe() {
        L::send(publisher, body).await?;
        tokio::time::sleep(PAUSE).await;
    }
    while let Some(body) = all.next() {
        L::send(publisher, body).await?;
    }
    while let Some(body) = all.end() {
        L::send(publisher, body).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn subscribe_one<L: Library>(
    library: L,
    context: L::Context,
    endpoint: Arc<str>,
    mut one: Subscription,
) -> Outcome<Subscription> {
    let mut socket = library.open(&context, Kind::Sub).await?;
    L::connect(&mut socket, &endpoint).await?;
    for prefix in one.prefixes() {
        L::subscribe(&mut socket, prefix).await?;
    }
    let mut done = false;
    while !done {
        library.receive_batch(&mut socket, &mut |body| done = done || one.take(body)).await?;
    }
    Ok(one)
}

/// All of what the tasks come back with, in the order of their numbers.
async fn all_of<T: Send + 'static>(mut tasks: JoinSet<(usize, Outcome<T>)>) -> Outcome<Vec<T>> {
    let mut found = Vec::new();
    while let Some(end) = tasks.join_next().await {
        let (index, outcome) = end.map_err(Failure::from)?;
        found.push((index, outcome?));
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, one)| one).collect())
}

async fn visit_some<L: Library>(
    library: L,
    context: L::Context,
    endpoint: Arc<str>,
    visits: Arc<Mutex<Visits>>,
) -> Outcome {
    loop {
        let Some(request) = visits.lock().expect("no panic").next() else { return Ok(()) };
        let mut req = library.open(&context, Kind::Req).await?;
        L::connect(&mut req, &endpoint).await?;
        L::send(&mut req, &request).await?;
        let reply = L::receive(&mut req).await?;
        visits.lock().expect("no panic").done(&request, L::body(&reply));
        drop(reply);
        drop(req);
    }
}

impl<L: Library> Column for Tokio<L> {
    fn settings(&self) -> String {
        self.0.settings()
    }

    fn receive(&self, at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        let (library, at) = (self.0.clone(), at.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut pull = library.open(&context, Kind::Pull).await?;
            ready.at(&L::bind(&mut pull, &at).await?);
            receive_all(&library, &mut pull, &mut arrivals).await?;
            Ok(arrivals)
        })
    }

    fn send(&self, endpoint: &str, bodies: Bodies) -> Outcome {
        let (library, endpoint) = (self.0.clone(), endpoint.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut push = library.open(&context, Kind::Push).await?;
            L::connect(&mut push, &endpoint).await?;
            send_all::<L>(&mut push, bodies).await?;
            L::finish(push, context).await;
            Ok(())
        })
    }

    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        let (library, endpoint) = (self.0.clone(), Arc::<str>::from(endpoint));
        self.0.run(async move {
            let context = library.context()?;
            let mut tasks = JoinSet::new();
            for (index, bodies) in senders.into_iter().enumerate() {
                let (library, context, endpoint) = (library.clone(), context.clone(), endpoint.clone());
                tasks.spawn(async move {
                    let work = async {
                        let mut push = library.open(&context, Kind::Push).await?;
                        L::connect(&mut push, &endpoint).await?;
                        send_all::<L>(&mut push, bodies).await?;
                        Ok(push)
                    };
                    (index, work.await)
                });
            }
            for push in all_of(tasks).await? {
                // The first one that holds has held for all.
                L::finish(push, context.clone()).await;
            }
            Ok(())
        })
    }

    fn push_pull_inproc(&self, bodies: Bodies, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        self.has(|lacks| lacks.inproc)?;
        let library = self.0.clone();
        self.0.run(async move {
            let (mut pull, mut push, _context) = Self::pair(&library, Kind::Pull, Kind::Push).await?;
            let sender = tokio::spawn(async move { send_all::<L>(&mut push, bodies).await.map(|()| push) });
            receive_all(&library, &mut pull, &mut arrivals).await?;
            sender.await.map_err(Failure::from)??;
            Ok(arrivals)
        })
    }

    fn publish(&self, at: &str, ready: Ready, all: Publications) -> Outcome {
        let (library, at) = (self.0.clone(), at.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut publisher = library.open(&context, Kind::Pub).await?;
            ready.at(&L::bind(&mut publisher, &at).await?);
            publish_all::<L>(&mut publisher, all).await
        })
    }

    fn subscribe(&self, endpoint: &str, all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        let (library, endpoint) = (self.0.clone(), Arc::<str>::from(endpoint));
        self.0.run(async move {
            let context = library.context()?;
            let mut tasks = JoinSet::new();
            for (index, one) in all.into_iter().enumerate() {
                let work = subscribe_one(library.clone(), context.clone(), endpoint.clone(), one);
                tasks.spawn(async move { (index, work.await) });
            }
            all_of(tasks).await
        })
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        self.answer_at(Kind::Rep, at, ready, count)
    }

    fn request(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        self.ask_at(Kind::Req, endpoint, rounds)
    }

    fn request_many(&self, _: &str, _: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported("its REQ has one request under way at a time")
    }

    fn request_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        self.ask_inproc(Kind::Rep, Kind::Req, rounds)
    }

    fn request_many_inproc(&self, _: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported("its REQ has one request under way at a time")
    }

    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        self.answer_at(Kind::Router, at, ready, count)
    }

    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        self.ask_at(Kind::Dealer, endpoint, rounds)
    }

    fn deal_many(&self, endpoint: &str, flight: Flight) -> Outcome<Flight> {
        self.has(|lacks| lacks.answers)?;
        let (library, endpoint) = (self.0.clone(), endpoint.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut dealer = library.open(&context, Kind::Dealer).await?;
            L::connect(&mut dealer, &endpoint).await?;
            ask_many(&library, &mut dealer, flight).await
        })
    }

    fn dealers(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        self.has(|lacks| lacks.answers)?;
        let (library, endpoint) = (self.0.clone(), Arc::<str>::from(endpoint));
        self.0.run(async move {
            let context = library.context()?;
            let mut tasks = JoinSet::new();
            for (index, rounds) in lanes.into_iter().enumerate() {
                let (library, context, endpoint) = (library.clone(), context.clone(), endpoint.clone());
                tasks.spawn(async move {
                    let work = async {
                        let mut dealer = library.open(&context, Kind::Dealer).await?;
                        L::connect(&mut dealer, &endpoint).await?;
                        ask_all::<L>(&mut dealer, rounds).await
                    };
                    (index, work.await)
                });
            }
            all_of(tasks).await
        })
    }

    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        self.ask_inproc(Kind::Router, Kind::Dealer, rounds)
    }

    fn deal_many_inproc(&self, flight: Flight) -> Outcome<Flight> {
        self.has(|lacks| lacks.answers.or(lacks.inproc).or(lacks.deal_inproc))?;
        let library = self.0.clone();
        self.0.run(async move {
            let (mut router, mut dealer, _context) = Self::pair(&library, Kind::Router, Kind::Dealer).await?;
            let count = flight.missing();
            let answers = tokio::spawn(async move { answer_all::<L>(&mut router, count).await.map(|()| router) });
            let flight = ask_many(&library, &mut dealer, flight).await?;
            answers.await.map_err(Failure::from)??;
            Ok(flight)
        })
    }

    fn gather(&self, at: &str, ready: Ready, mut roll: Roll) -> Outcome {
        self.has(|lacks| lacks.answers)?;
        let (library, at) = (self.0.clone(), at.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut pull = library.open(&context, Kind::Pull).await?;
            ready.at(&L::bind(&mut pull, &at).await?);
            while roll.missing() > 0 {
                roll.take(L::body(&L::receive(&mut pull).await?));
            }
            roll.done();
            hold().await;
            Ok(())
        })
    }

    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        self.has(|lacks| lacks.answers)?;
        if crowd.every().is_some() {
            self.has(|lacks| lacks.reconnects)?;
        }
        let (library, endpoint) = (self.0.clone(), endpoint.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut quiet = Vec::new();
            for index in 0..crowd.count() {
                let mut push = library.open(&context, Kind::Push).await?;
                L::connect(&mut push, &endpoint).await?;
                let body = crowd.body(index);
                match crowd.every() {
                    None => {
                        L::send(&mut push, &body).await?;
                        quiet.push(push);
                    }
                    Some(every) => drop(tokio::spawn(async move {
                        // What cannot be sent while the other side is away is left out.
                        loop {
                            let _ = L::send(&mut push, &body).await;
                            tokio::time::sleep(every).await;
                        }
                    })),
                }
            }
            hold().await;
            Ok(())
        })
    }

    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        self.has(|lacks| lacks.answers)?;
        let (library, endpoint) = (self.0.clone(), Arc::<str>::from(endpoint));
        self.0.run(async move {
            let context = library.context()?;
            let mut tasks = JoinSet::new();
            let at_once = visits.at_once();
            let visits = Arc::new(Mutex::new(visits));
            for index in 0..at_once {
                let work = visit_some(library.clone(), context.clone(), endpoint.clone(), visits.clone());
                tasks.spawn(async move { (index, work.await) });
            }
            all_of(tasks).await?;
            let visits = Arc::into_inner(visits).expect("all tasks have ended");
            Ok(visits.into_inner().expect("no panic"))
        })
    }
}

impl<L: Library> Tokio<L> {
    fn answer_at(&self, kind: Kind, at: &str, ready: Ready, count: u64) -> Outcome {
        self.has(|lacks| lacks.answers)?;
        let (library, at) = (self.0.clone(), at.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut socket = library.open(&context, kind).await?;
            ready.at(&L::bind(&mut socket, &at).await?);
            answer_all::<L>(&mut socket, count).await?;
            hold().await;
            Ok(())
        })
    }

    fn ask_at(&self, kind: Kind, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        self.has(|lacks| lacks.answers)?;
        let (library, endpoint) = (self.0.clone(), endpoint.to_owned());
        self.0.run(async move {
            let context = library.context()?;
            let mut socket = library.open(&context, kind).await?;
            L::connect(&mut socket, &endpoint).await?;
            ask_all::<L>(&mut socket, rounds).await
        })
    }

    fn ask_inproc(&self, bound: Kind, connected: Kind, rounds: Rounds) -> Outcome<Rounds> {
        self.has(|lacks| lacks.answers.or(lacks.inproc))?;
        if bound == Kind::Router {
            self.has(|lacks| lacks.deal_inproc)?;
        }
        let library = self.0.clone();
        self.0.run(async move {
            let (mut server, mut client, _context) = Self::pair(&library, bound, connected).await?;
            let count = rounds.total();
            let answers = tokio::spawn(async move { answer_all::<L>(&mut server, count).await.map(|()| server) });
            let rounds = ask_all::<L>(&mut client, rounds).await?;
            answers.await.map_err(Failure::from)??;
            Ok(rounds)
        })
    }
}
