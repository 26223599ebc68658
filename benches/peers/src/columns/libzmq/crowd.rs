//! Many connections, many sockets of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::role;
use crate::workload::{Crowd, HWM, Ready, Roll, Visits};
use crate::zmq::{self, Context, Msg, Poll, Socket};

pub fn gather(at: &str, ready: Ready, mut roll: Roll) {
    let context = Context::new();
    let pull = context.socket(zmq::PULL, HWM);
    ready.at(&pull.bind(at));
    let mut msg = Msg::new();
    while roll.missing() > 0 {
        roll.take(pull.recv(&mut msg));
    }
    roll.done();
    role::hold();
}

pub fn attend(endpoint: &str, crowd: &Crowd) {
    let context = Context::with_sockets(crowd.count() + 16);
    let connect = |index| {
        let push = context.socket(zmq::PUSH, HWM);
        push.no_linger();
        push.connect(endpoint);
        push.send(&crowd.body(index));
        push
    };
    let all: Vec<Socket<'_>> = (0..crowd.count()).map(connect).collect();
    let Some(every) = crowd.every() else { return role::hold() };
    // The sockets stay with this thread.
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    std::thread::spawn(move || {
        role::hold();
        told.store(true, Ordering::Relaxed);
    });
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(every);
        for (index, push) in all.iter().enumerate() {
            // A peer without a connection may be full.
            push.try_send(&crowd.body(index));
        }
    }
}

/// Sockets that libzmq may still be closing while others are made.
const CLOSING: usize = 4096;

pub fn visit(endpoint: &str, mut visits: Visits) -> Visits {
    let context = Context::with_sockets(CLOSING + visits.at_once());
    let start = |visits: &mut Visits| {
        let body = visits.next()?;
        let req = context.socket(zmq::REQ, HWM);
        req.connect(endpoint);
        req.send(&body);
        Some((req, body))
    };
    let mut msg = Msg::new();
    let (mut sockets, mut bodies) = (Vec::new(), Vec::new());
    for _ in 0..visits.at_once() {
        let Some((req, body)) = start(&mut visits) else { break };
        sockets.push(req);
        bodies.push(body);
    }
    while !sockets.is_empty() {
        let here: Vec<usize> = Poll::new(&sockets).wait().collect();
        // From the last on, so that taking one out moves none that is still to come.
        for index in here.into_iter().rev() {
            let Some(reply) = sockets[index].try_recv(&mut msg) else { continue };
            visits.done(&bodies[index], reply);
            drop(sockets.swap_remove(index));
            bodies.swap_remove(index);
            if let Some((req, body)) = start(&mut visits) {
                sockets.push(req);
                bodies.push(body);
            }
        }
    }
    visits
}
