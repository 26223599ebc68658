//! The floor and the ceiling without any library: what the machine does for a program that frames, writes and reads.
//!
//! One way: blocking loops (`stream`, `fanout`), frames as ZMTP's (flags, length, body), no queue. There and back: tokio
//! (`rounds`) or blocking (`blocking`) ping-pong without frames. `crowd`: bare tokio connections. `net`: either transport.

mod blocking;
mod crowd;
mod fanout;
mod net;
mod rounds;
mod stream;

use super::Flavour;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Flight, Outcome, Publications, Ready, Roll, Rounds, Subscription, Visits,
};

pub use blocking::RawBlocking;

pub struct Raw;

impl Column for Raw {
    fn settings(&self) -> String {
        "raw: one way by blocking std sockets, writes and reads of 64 KiB, ZMTP frames, no queue (several connections: one thread with poll; senders: a thread each; PUB: encode once, blocking write to each; inproc: two threads, lots of 256 boxed bodies, at most 64 KiB of them from 8 KiB on, by sync_channel(4)); there and back by tokio current-thread read_exact/write_all without frames (inproc: two tasks, two tokio channels); many connections: bare tokio streams; TCP_NODELAY".to_owned()
    }

    fn receive(&self, at: &str, ready: Ready, arrivals: Arrivals) -> Outcome<Arrivals> {
        stream::receive(at, ready, arrivals)
    }

    fn send(&self, endpoint: &str, bodies: Bodies) -> Outcome {
        stream::send(endpoint, bodies)
    }

    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        std::thread::scope(|scope| {
            for bodies in senders {
                scope.spawn(move || stream::send(endpoint, bodies).unwrap_or_else(|_| panic!("the receiver is gone")));
            }
        });
        Ok(())
    }

    fn push_pull_inproc(&self, bodies: Bodies, arrivals: Arrivals) -> Outcome<Arrivals> {
        stream::push_pull_inproc(bodies, arrivals)
    }

    fn publish(&self, at: &str, ready: Ready, all: Publications) -> Outcome {
        fanout::publish(at, ready, all)
    }

    fn subscribe(&self, endpoint: &str, all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        fanout::subscribe(endpoint, all)
    }

    fn reply(&self, at: &str, ready: Ready, _count: u64) -> Outcome {
        Flavour::Current.run(rounds::answer(at.to_owned(), ready))
    }

    fn request(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        Flavour::Current.run(rounds::ask(endpoint.to_owned(), rounds))
    }

    fn request_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        Flavour::Current.run(rounds::ask_inproc(rounds))
    }

    fn route(&self, at: &str, ready: Ready, _count: u64) -> Outcome {
        Flavour::Current.run(rounds::answer(at.to_owned(), ready))
    }

    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        Flavour::Current.run(rounds::ask(endpoint.to_owned(), rounds))
    }

    fn deal_many(&self, endpoint: &str, flight: Flight) -> Outcome<Flight> {
        Flavour::Current.run(rounds::fly(endpoint.to_owned(), flight))
    }

    fn dealers(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        Flavour::Current.run(rounds::ask_many(endpoint.to_owned(), lanes))
    }

    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        Flavour::Current.run(rounds::ask_inproc(rounds))
    }

    fn gather(&self, at: &str, ready: Ready, roll: Roll) -> Outcome {
        Flavour::Current.run(crowd::gather(at.to_owned(), ready, roll))
    }

    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        Flavour::Current.run(crowd::attend(endpoint.to_owned(), crowd))
    }

    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        Flavour::Current.run(crowd::visit(endpoint.to_owned(), visits))
    }
}
