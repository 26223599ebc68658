//! libzmq 4.3.5 with its defaults: one I/O thread, blocking calls that park; many sockets of one thread by `zmq_poll`.
//!
//! `crowd` has the cells of many connections.

mod crowd;

use crate::role;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Flight, HWM, Outcome, PAUSE, Publications, Ready, Roll, Rounds, Subscription,
    Visits,
};
use crate::zmq::{self, Context, Msg, Poll, Socket};

pub struct Libzmq;

const INPROC: &str = "inproc://peers";

impl Column for Libzmq {
    fn settings(&self) -> String {
        let version = zmq::version();
        format!(
            "libzmq {version}: ZMQ_IO_THREADS 1, HWM {HWM} on both sides, zmq_msg_init_size + copy + zmq_msg_send, one reused zmq_msg_t for zmq_msg_recv, blocking; several sockets of a process: one thread with zmq_poll (senders: a thread each; inproc: two threads); PUB with ZMQ_XPUB_NODROP, ZMQ_RECONNECT_IVL 100 ms, ZMQ_BACKLOG 1024"
        )
    }

    fn receive(&self, at: &str, ready: Ready, arrivals: Arrivals) -> Outcome<Arrivals> {
        let context = Context::new();
        let pull = context.socket(zmq::PULL, HWM);
        ready.at(&pull.bind(at));
        Ok(receive_all(&pull, arrivals))
    }

    fn send(&self, endpoint: &str, bodies: Bodies) -> Outcome {
        let context = Context::new();
        send_all(&context, endpoint, bodies, role::hold);
        Ok(())
    }

    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        let context = Context::new();
        std::thread::scope(|scope| {
            for bodies in senders {
                scope.spawn(|| send_all(&context, endpoint, bodies, || {}));
            }
        });
        role::hold();
        Ok(())
    }

    fn push_pull_inproc(&self, bodies: Bodies, arrivals: Arrivals) -> Outcome<Arrivals> {
        let context = Context::new();
        let pull = context.socket(zmq::PULL, HWM);
        pull.bind(INPROC);
        Ok(std::thread::scope(|scope| {
            scope.spawn(|| send_all(&context, INPROC, bodies, || {}));
            receive_all(&pull, arrivals)
        }))
    }

    fn publish(&self, at: &str, ready: Ready, mut all: Publications) -> Outcome {
        let context = Context::new();
        let publisher = context.socket(zmq::PUB, HWM);
        publisher.no_drop();
        ready.at(&publisher.bind(at));
        while let Some(body) = all.probe() {
            publisher.send(body);
            std::thread::sleep(PAUSE);
        }
        while let Some(body) = all.next() {
            publisher.send(body);
        }
        while let Some(body) = all.end() {
            publisher.send(body);
            std::thread::sleep(PAUSE);
        }
        publisher.no_linger();
        Ok(())
    }

    fn subscribe(&self, endpoint: &str, mut all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        let context = Context::new();
        let connect = |own: &Subscription| {
            let sub = context.socket(zmq::SUB, HWM);
            own.prefixes().iter().for_each(|prefix| sub.subscribe(prefix));
            sub.connect(endpoint);
            sub
        };
        let sockets: Vec<Socket<'_>> = all.iter().map(connect).collect();
        let mut poll = Poll::new(&sockets);
        let mut msg = Msg::new();
        let mut over = vec![false; all.len()];
        while over.contains(&false) {
            for index in poll.wait() {
                // As many as its queue holds, so that none is forgotten over another.
                for _ in 0..HWM {
                    let Some(body) = sockets[index].try_recv(&mut msg) else { break };
                    over[index] = over[index] || all[index].take(body);
                }
            }
        }
        Ok(all)
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let context = Context::new();
        let rep = context.socket(zmq::REP, HWM);
        ready.at(&rep.bind(at));
        answer(&rep, count);
        role::hold();
        Ok(())
    }

    fn request(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        let context = Context::new();
        Ok(ask(&context, zmq::REQ, endpoint, rounds))
    }

    fn request_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        let context = Context::new();
        let rep = context.socket(zmq::REP, HWM);
        rep.bind(INPROC);
        Ok(std::thread::scope(|scope| {
            let count = rounds.total();
            let asks = scope.spawn(|| ask(&context, zmq::REQ, INPROC, rounds));
            answer(&rep, count);
            asks.join().expect("no panic")
        }))
    }

    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let context = Context::new();
        let router = context.socket(zmq::ROUTER, HWM);
        ready.at(&router.bind(at));
        echo(&router, count);
        role::hold();
        Ok(())
    }

    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        let context = Context::new();
        Ok(ask(&context, zmq::DEALER, endpoint, rounds))
    }

    fn deal_many(&self, endpoint: &str, flight: Flight) -> Outcome<Flight> {
        let context = Context::new();
        Ok(fly(&context, endpoint, flight))
    }

    fn dealers(&self, endpoint: &str, mut lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        let context = Context::new();
        let connect = |_: &Rounds| {
            let dealer = context.socket(zmq::DEALER, HWM);
            dealer.connect(endpoint);
            dealer
        };
        let sockets: Vec<Socket<'_>> = lanes.iter().map(connect).collect();
        let mut poll = Poll::new(&sockets);
        let mut msg = Msg::new();
        let mut under_way = 0;
        for (socket, rounds) in sockets.iter().zip(&mut lanes) {
            under_way += usize::from(rounds.next().map(|body| socket.send(body)).is_some());
        }
        while under_way > 0 {
            for index in poll.wait() {
                let Some(reply) = sockets[index].try_recv(&mut msg) else { continue };
                lanes[index].done(reply);
                match lanes[index].next() {
                    Some(body) => sockets[index].send(body),
                    None => under_way -= 1,
                }
            }
        }
        Ok(lanes)
    }

    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        let context = Context::new();
        let router = context.socket(zmq::ROUTER, HWM);
        router.bind(INPROC);
        Ok(std::thread::scope(|scope| {
            let count = rounds.total();
            let asks = scope.spawn(|| ask(&context, zmq::DEALER, INPROC, rounds));
            echo(&router, count);
            asks.join().expect("no panic")
        }))
    }

    fn deal_many_inproc(&self, flight: Flight) -> Outcome<Flight> {
        let context = Context::new();
        let router = context.socket(zmq::ROUTER, HWM);
        router.bind(INPROC);
        Ok(std::thread::scope(|scope| {
            let count = flight.missing();
            let flies = scope.spawn(|| fly(&context, INPROC, flight));
            echo(&router, count);
            flies.join().expect("no panic")
        }))
    }

    fn gather(&self, at: &str, ready: Ready, roll: Roll) -> Outcome {
        crowd::gather(at, ready, roll);
        Ok(())
    }

    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        crowd::attend(endpoint, &crowd);
        Ok(())
    }

    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        Ok(crowd::visit(endpoint, visits))
    }
}

fn receive_all(pull: &Socket<'_>, mut arrivals: Arrivals) -> Arrivals {
    let mut msg = Msg::new();
    while arrivals.missing() > 0 {
        arrivals.take(pull.recv(&mut msg));
    }
    arrivals
}

fn send_all(context: &Context, endpoint: &str, mut bodies: Bodies, before_closing: impl FnOnce()) {
    let push = context.socket(zmq::PUSH, HWM);
    push.connect(endpoint);
    while let Some(body) = bodies.next() {
        push.send(body);
    }
    before_closing();
}

fn answer(rep: &Socket<'_>, count: u64) {
    let mut msg = Msg::new();
    for _ in 0..count {
        rep.send(rep.recv(&mut msg));
    }
}

fn ask(context: &Context, kind: std::ffi::c_int, endpoint: &str, mut rounds: Rounds) -> Rounds {
    let socket = context.socket(kind, HWM);
    socket.connect(endpoint);
    let mut msg = Msg::new();
    while let Some(body) = rounds.next() {
        socket.send(body);
        rounds.done(socket.recv(&mut msg));
    }
    rounds
}

fn echo(router: &Socket<'_>, count: u64) {
    let (mut peer, mut msg) = (Msg::new(), Msg::new());
    for _ in 0..count {
        let peer = router.recv(&mut peer);
        let body = router.recv(&mut msg);
        router.send_more(peer);
        router.send(body);
    }
}

fn fly(context: &Context, endpoint: &str, mut flight: Flight) -> Flight {
    let dealer = context.socket(zmq::DEALER, HWM);
    dealer.connect(endpoint);
    let mut msg = Msg::new();
    while flight.missing() > 0 {
        while let Some(body) = flight.next() {
            dealer.send(body);
        }
        flight.done(dealer.recv(&mut msg));
        while flight.under_way() > 0
            && let Some(reply) = dealer.try_recv(&mut msg)
        {
            flight.done(reply);
        }
    }
    flight
}
