//! libzmq 4.3.5 with its defaults: one I/O thread, blocking calls that park.

use crate::role;
use crate::workload::{Arrivals, Bodies, Column, HWM, Outcome, Ready, Rounds};
use crate::zmq::{self, Context, Msg};

pub struct Libzmq;

impl Column for Libzmq {
    fn settings(&self) -> String {
        let version = zmq::version();
        format!(
            "libzmq {version}: ZMQ_IO_THREADS 1, HWM {HWM} on both sides, zmq_msg_init_size + copy + zmq_msg_send, one reused zmq_msg_t for zmq_msg_recv"
        )
    }

    fn receive(&self, at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        let context = Context::new();
        let pull = context.socket(zmq::PULL, HWM);
        ready.at(&pull.bind(at));
        let mut msg = Msg::new();
        while arrivals.missing() > 0 {
            arrivals.take(pull.recv(&mut msg));
        }
        Ok(arrivals)
    }

    fn send(&self, endpoint: &str, mut bodies: Bodies) -> Outcome {
        let context = Context::new();
        let push = context.socket(zmq::PUSH, HWM);
        push.connect(endpoint);
        while let Some(body) = bodies.next() {
            push.send(body);
        }
        role::hold();
        Ok(())
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let context = Context::new();
        let rep = context.socket(zmq::REP, HWM);
        ready.at(&rep.bind(at));
        let mut msg = Msg::new();
        for _ in 0..count {
            rep.send(rep.recv(&mut msg));
        }
        Ok(())
    }

    fn request(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        let context = Context::new();
        let req = context.socket(zmq::REQ, HWM);
        req.connect(endpoint);
        let mut msg = Msg::new();
        while let Some(body) = rounds.next() {
            req.send(body);
            rounds.done(req.recv(&mut msg));
        }
        Ok(rounds)
    }
}
