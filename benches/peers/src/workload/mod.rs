//! The workloads every column runs: one trait, whose methods are the sides of the cells. Knows no library.
//!
//! What is sent, checked and counted: `stream` (one way), `rounds` (there and back), `fanout` (publisher and subscribers),
//! `crowd` (many connections). Read `columns/` next: each file there is one implementation of [`Column`].

pub mod crowd;
pub mod fanout;
pub mod rounds;
pub mod stream;

use std::time::Duration;

pub use crowd::{Crowd, Roll, Visits};
pub use fanout::{Publications, Subscription};
pub use rounds::{Flight, Rounds, WARM_UP};
pub use stream::{Arrivals, Bodies};

/// High-water mark of every queue in every column.
pub const HWM: usize = 1000;

/// Reconnect interval of every column that lets one be set, without growth.
pub const RECONNECT: Duration = Duration::from_millis(100);

/// Between two probes or end marks of a publisher.
pub const PAUSE: Duration = Duration::from_millis(5);

/// Why a side did not do its work.
pub enum Failure {
    /// The library (or this column) has no such thing: shown as "not supported", not as a failure.
    Unsupported(String),
    /// It was tried and failed.
    Failed(String),
}

/// So that a column may write `?` after any call; a panic is a failure, too.
impl<E: std::fmt::Display> From<E> for Failure {
    fn from(why: E) -> Failure {
        Failure::Failed(why.to_string())
    }
}

/// What a side of a cell comes back with.
pub type Outcome<T = ()> = Result<T, Failure>;

/// What every method answers that a column does not have.
pub fn unsupported<T>(why: &str) -> Outcome<T> {
    Err(Failure::Unsupported(why.to_owned()))
}

const NOT_HERE: &str = "not supported";

/// One contestant. Each method is one side of a workload and runs in a process of its own (the methods with `inproc` in
/// their names: both sides). Each makes its own runtime, context and sockets, and has closed them when it returns.
///
/// Rules for all: high-water marks are [`HWM`] on both sides; receivers park; the binder calls [`Ready::at`] as soon as it
/// is bound, with the endpoint as the system gave it; every body is copied once into what is sent. `at` is
/// `tcp://127.0.0.1:*` (or `…:PORT`: that very port) or `ipc:///path`.
#[allow(unused_variables)]
pub trait Column {
    /// What was set, for the output: runtime, marks, calls, and what it does when a subscriber is slow.
    fn settings(&self) -> String;

    // ---- one way: PUSH/PULL

    /// PULL: binds, receives until `arrivals.missing()` is 0. Also the receiver of the fan-in.
    fn receive(&self, at: &str, ready: Ready, arrivals: Arrivals) -> Outcome<Arrivals> {
        unsupported(NOT_HERE)
    }

    /// PUSH: connects and sends all of `bodies`; returns when everything is with the operating system, or holds
    /// ([`crate::role::hold`]) where the library cannot tell.
    fn send(&self, endpoint: &str, bodies: Bodies) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// As [`Column::send`], by one PUSH socket (and one task or thread) for each of `senders`, all at once.
    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// PUSH and PULL of one process, over inproc: the sender in a task or thread of its own.
    fn push_pull_inproc(&self, bodies: Bodies, arrivals: Arrivals) -> Outcome<Arrivals> {
        unsupported(NOT_HERE)
    }

    // ---- one to many: PUB/SUB

    /// PUB: binds, then sends three series, each message one frame:
    /// `while let Some(body) = all.probe() { send(body); sleep(PAUSE) }`, `while let Some(body) = all.next() { send(body) }`,
    /// `while let Some(body) = all.end() { send(body); sleep(PAUSE) }`.
    /// Where the library can wait for a slow subscriber instead of dropping, it waits; the settings say which.
    fn publish(&self, at: &str, ready: Ready, all: Publications) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// One SUB socket for each of `all`: connects, subscribes to each of `prefixes()` in their order, receives, and gives
    /// each message to `take` until it answers true.
    fn subscribe(&self, endpoint: &str, all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        unsupported(NOT_HERE)
    }

    // ---- there and back: REQ/REP

    /// REP: binds, answers `count` requests with their own bytes, whoever asks, then holds ([`crate::role::hold`]).
    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// REQ: connects and makes all of `rounds`, one after the other.
    fn request(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        unsupported(NOT_HERE)
    }

    /// One REQ socket that has several requests under way: one for each of `lanes`, which are one task each. Only where
    /// the library allows that.
    fn request_many(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported(NOT_HERE)
    }

    /// REQ and REP of one process, over inproc.
    fn request_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        unsupported(NOT_HERE)
    }

    /// As [`Column::request_many`] within one process, over inproc.
    fn request_many_inproc(&self, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported(NOT_HERE)
    }

    // ---- there and back: DEALER/ROUTER

    /// ROUTER: binds, answers `count` requests (one frame behind the identity) with their own bytes, whoever asks, then
    /// holds ([`crate::role::hold`]).
    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// DEALER: connects and makes all of `rounds`, one after the other; one frame each way, no delimiter.
    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        unsupported(NOT_HERE)
    }

    /// One DEALER with many requests under way: sends while `flight.next()` has something, then takes a reply (or all
    /// that are there) to `flight.done`, until `flight.missing()` is 0.
    fn deal_many(&self, endpoint: &str, flight: Flight) -> Outcome<Flight> {
        unsupported(NOT_HERE)
    }

    /// One DEALER socket for each of `lanes`, each with one request under way.
    fn dealers(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        unsupported(NOT_HERE)
    }

    /// DEALER and ROUTER of one process, over inproc.
    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        unsupported(NOT_HERE)
    }

    /// As [`Column::deal_many`] within one process, over inproc.
    fn deal_many_inproc(&self, flight: Flight) -> Outcome<Flight> {
        unsupported(NOT_HERE)
    }

    // ---- many connections (the reconnect storm and the idle connections are these two)

    /// PULL: binds, gives what comes to `roll.take` until `roll.missing()` is 0, then prints `roll.done()` and holds
    /// ([`crate::role::hold`]) with all connections open. It is killed and started again on the same port in the storm.
    fn gather(&self, at: &str, ready: Ready, roll: Roll) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// `crowd.count()` PUSH sockets with the reconnect interval [`RECONNECT`]: each connects and sends `crowd.body(i)`
    /// once, or again every `crowd.every()` (what cannot be sent just then may be left out). Holds
    /// ([`crate::role::hold`]) with all of them open; then returns, whatever is still queued.
    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        unsupported(NOT_HERE)
    }

    /// Makes connections to a REP, at most `visits.at_once()` at a time: a new REQ socket, connect, one request
    /// (`visits.next()`), its reply (`visits.done`), close; until there are no more.
    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        unsupported(NOT_HERE)
    }
}

/// Takes the bound endpoint to the parent process, once.
pub struct Ready;

impl Ready {
    pub fn at(self, endpoint: &str) {
        println!("{}", serde_json::json!({ "endpoint": endpoint }));
    }
}
