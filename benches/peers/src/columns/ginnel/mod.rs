//! ginnel itself, public API only: `send` and `recv`, or `send_all` and `recv_batch`, on either tokio runtime.
//!
//! `stream` has what goes one way, `rounds` what comes back, `crowd` many connections. All of it runs as tasks of one
//! runtime, the way servers run.

mod blocking;
mod crowd;
mod rounds;
mod stream;

pub use blocking::GinnelBlocking;

use super::Flavour;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Flight, HWM, Outcome, Publications, Ready, Roll, Rounds, Subscription, Visits,
    unsupported,
};

pub struct Ginnel {
    pub flavour: Flavour,
    pub batch: bool,
}

/// Where both sides of an inproc cell meet.
const INPROC: &str = "inproc://peers";

impl Ginnel {
    /// The batched calls are of the one-way cells only.
    fn single<T: Send + 'static>(&self, work: impl Future<Output = Outcome<T>> + Send + 'static) -> Outcome<T> {
        if self.batch {
            return unsupported("as ginnel");
        }
        self.flavour.run(work)
    }
}

impl Column for Ginnel {
    fn settings(&self) -> String {
        let (name, calls) = match (self.batch, self.flavour) {
            (true, _) => ("ginnel-batch", "send_all and recv_batch of up to 256"),
            (false, Flavour::Current) => ("ginnel", "send and recv"),
            (false, Flavour::Multi) => ("ginnel-multi", "send and recv"),
        };
        let runtime = match self.flavour {
            Flavour::Current => "tokio current-thread",
            Flavour::Multi => "tokio multi-thread with 2 workers",
        };
        format!(
            "{name}: {runtime}, {calls}, HWM {HWM} on both sides, PUB with OnFull::Block, reconnect 100 ms (with its jitter), other options default"
        )
    }

    fn receive(&self, at: &str, ready: Ready, arrivals: Arrivals) -> Outcome<Arrivals> {
        self.flavour.run(stream::receive(at.to_owned(), ready, arrivals, self.batch))
    }

    fn send(&self, endpoint: &str, bodies: Bodies) -> Outcome {
        self.flavour.run(stream::send(endpoint.to_owned(), bodies, self.batch))
    }

    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        self.flavour.run(stream::send_many(endpoint.to_owned(), senders, self.batch))
    }

    fn push_pull_inproc(&self, bodies: Bodies, arrivals: Arrivals) -> Outcome<Arrivals> {
        self.flavour.run(stream::push_pull_inproc(bodies, arrivals, self.batch))
    }

    fn publish(&self, at: &str, ready: Ready, all: Publications) -> Outcome {
        self.flavour.run(stream::publish(at.to_owned(), ready, all, self.batch))
    }

    fn subscribe(&self, endpoint: &str, all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        self.flavour.run(stream::subscribe(endpoint.to_owned(), all, self.batch))
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        self.single(rounds::reply(at.to_owned(), ready, count))
    }

    fn request(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        self.single(rounds::request(endpoint.to_owned(), rounds))
    }

    fn request_many(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        self.single(rounds::request_many(endpoint.to_owned(), lanes))
    }

    fn request_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        self.single(async { Ok(rounds::request_many_inproc(vec![rounds]).await?.remove(0)) })
    }

    fn request_many_inproc(&self, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        self.single(rounds::request_many_inproc(lanes))
    }

    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        self.single(rounds::route(at.to_owned(), ready, count))
    }

    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        self.single(rounds::deal(endpoint.to_owned(), rounds))
    }

    fn deal_many(&self, endpoint: &str, flight: Flight) -> Outcome<Flight> {
        self.single(rounds::deal_many(endpoint.to_owned(), flight))
    }

    fn dealers(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        self.single(rounds::dealers(endpoint.to_owned(), lanes))
    }

    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        self.single(rounds::deal_inproc(rounds))
    }

    fn deal_many_inproc(&self, flight: Flight) -> Outcome<Flight> {
        self.single(rounds::deal_many_inproc(flight))
    }

    fn gather(&self, at: &str, ready: Ready, roll: Roll) -> Outcome {
        self.single(crowd::gather(at.to_owned(), ready, roll))
    }

    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        self.single(crowd::attend(endpoint.to_owned(), crowd))
    }

    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        self.single(crowd::visit(endpoint.to_owned(), visits))
    }
}
