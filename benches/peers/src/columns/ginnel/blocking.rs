//! ginnel for threads: the same calls without a runtime.

use std::sync::{Arc, Mutex, PoisonError};

use ginnel::OnFull;
use ginnel::blocking::{Context, Dealer, Pub, Pull, Push, Rep, Req, Router, Sub};

use super::INPROC;
use crate::role;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Flight, HWM, Outcome, PAUSE, Publications, RECONNECT, Ready, Roll, Rounds,
    Subscription, Visits,
};

pub struct GinnelBlocking;

impl Column for GinnelBlocking {
    fn settings(&self) -> String {
        format!(
            "ginnel-blocking: ginnel::blocking, send and recv in threads (several sockets of a process: a thread each and one Context for all), HWM {HWM} on both sides, PUB with OnFull::Block, reconnect 100 ms (with its jitter), other options default"
        )
    }

    fn receive(&self, at: &str, ready: Ready, arrivals: Arrivals) -> Outcome<Arrivals> {
        let mut pull = Pull::builder().hwm(HWM).bind(at)?;
        ready.at(&pull.local_endpoint().expect("bound").to_string());
        receive_all(&mut pull, arrivals)
    }

    fn send(&self, endpoint: &str, bodies: Bodies) -> Outcome {
        send_all(&Push::builder().hwm(HWM).linger(None).connect(endpoint)?, bodies)
    }

    fn send_many(&self, endpoint: &str, senders: Vec<Bodies>) -> Outcome {
        let context = Context::new()?;
        let send = |bodies: Bodies| {
            send_all(&Push::builder().context(&context).hwm(HWM).linger(None).connect(endpoint)?, bodies)
        };
        in_threads(senders, send).map(drop)
    }

    fn push_pull_inproc(&self, bodies: Bodies, arrivals: Arrivals) -> Outcome<Arrivals> {
        let mut pull = Pull::builder().hwm(HWM).bind(INPROC)?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.send(INPROC, bodies));
            let arrivals = receive_all(&mut pull, arrivals)?;
            sender.join().expect("no panic")?;
            Ok(arrivals)
        })
    }

    fn publish(&self, at: &str, ready: Ready, mut all: Publications) -> Outcome {
        let publisher = Pub::builder().hwm(HWM).on_full(OnFull::Block).bind(at)?;
        ready.at(&publisher.local_endpoint().expect("bound").to_string());
        while let Some(body) = all.probe() {
            publisher.send(body)?;
            std::thread::sleep(PAUSE);
        }
        while let Some(body) = all.next() {
            publisher.send(body)?;
        }
        while let Some(body) = all.end() {
            publisher.send(body)?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn subscribe(&self, endpoint: &str, all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
        let context = Context::new()?;
        in_threads(all, |mut own: Subscription| {
            let builder = Sub::builder().context(&context).hwm(HWM);
            let builder = own.prefixes().iter().fold(builder, |builder, prefix| builder.subscribe(prefix));
            let mut sub = builder.connect(endpoint)?;
            while !own.take(&sub.recv()?[0]) {}
            Ok(own)
        })
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let mut rep = Rep::builder().hwm(HWM).bind(at)?;
        ready.at(&rep.local_endpoint().expect("bound").to_string());
        answer(&mut rep, count)?;
        role::hold();
        Ok(())
    }

    fn request(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        ask(&Req::builder().hwm(HWM).connect(endpoint)?, rounds)
    }

    fn request_many(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        let req = Req::builder().hwm(HWM).connect(endpoint)?;
        in_threads(lanes, |rounds| ask(&req.clone(), rounds))
    }

    fn request_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        Ok(self.request_many_inproc(vec![rounds])?.remove(0))
    }

    fn request_many_inproc(&self, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        let mut rep = Rep::builder().hwm(HWM).bind(INPROC)?;
        let count = lanes.iter().map(Rounds::total).sum();
        std::thread::scope(|scope| {
            let server = scope.spawn(move || answer(&mut rep, count));
            let lanes = self.request_many(INPROC, lanes)?;
            server.join().expect("no panic")?;
            Ok(lanes)
        })
    }

    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let mut router = Router::builder().hwm(HWM).bind(at)?;
        ready.at(&router.local_endpoint().expect("bound").to_string());
        echo(&mut router, count)?;
        role::hold();
        Ok(())
    }

    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        deal(Dealer::builder().hwm(HWM).connect(endpoint)?, rounds)
    }

    fn deal_many(&self, endpoint: &str, mut flight: Flight) -> Outcome<Flight> {
        let mut dealer = Dealer::builder().hwm(HWM).connect(endpoint)?;
        while flight.missing() > 0 {
            while let Some(body) = flight.next() {
                dealer.send(body)?;
            }
            flight.done(&dealer.recv()?[0]);
            while flight.under_way() > 0
                && let Ok(message) = dealer.try_recv()
            {
                flight.done(&message[0]);
            }
        }
        Ok(flight)
    }

    fn dealers(&self, endpoint: &str, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
        let context = Context::new()?;
        in_threads(lanes, |rounds| deal(Dealer::builder().context(&context).hwm(HWM).connect(endpoint)?, rounds))
    }

    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        let count = rounds.total();
        with_router(count, || self.deal(INPROC, rounds))
    }

    fn deal_many_inproc(&self, flight: Flight) -> Outcome<Flight> {
        let count = flight.missing();
        with_router(count, || self.deal_many(INPROC, flight))
    }

    fn gather(&self, at: &str, ready: Ready, mut roll: Roll) -> Outcome {
        let mut pull = Pull::builder().hwm(HWM).bind(at)?;
        ready.at(&pull.local_endpoint().expect("bound").to_string());
        while roll.missing() > 0 {
            roll.take(&pull.recv()?[0]);
        }
        roll.done();
        role::hold();
        Ok(())
    }

    fn attend(&self, endpoint: &str, crowd: Crowd) -> Outcome {
        let context = Context::new()?;
        let builder = Push::builder().context(&context).hwm(HWM).reconnect(RECONNECT, RECONNECT);
        let mut all = Vec::new();
        for index in 0..crowd.count() {
            let push = builder.clone().connect(endpoint)?;
            push.send(crowd.body(index))?;
            all.push(push);
        }
        let all = Arc::new(all);
        if let Some(every) = crowd.every() {
            let all = all.clone();
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(every);
                    for (index, push) in all.iter().enumerate() {
                        // A peer without a connection may be full.
                        let _ = push.try_send(crowd.body(index));
                    }
                }
            });
        }
        role::hold();
        all.iter().for_each(|push| push.shutdown_now());
        Ok(())
    }

    fn visit(&self, endpoint: &str, visits: Visits) -> Outcome<Visits> {
        let context = Context::new()?;
        let at_once = visits.at_once();
        let visits = Mutex::new(visits);
        let lock = || visits.lock().unwrap_or_else(PoisonError::into_inner);
        in_threads((0..at_once).collect(), |_| {
            loop {
                let Some(body) = lock().next() else { return Ok(()) };
                let req = Req::builder().context(&context).hwm(HWM).connect(endpoint)?;
                let reply = req.request(body.as_slice())?;
                req.close();
                lock().done(&body, &reply[0]);
            }
        })?;
        Ok(visits.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A thread for each; a single one stays in this thread.
fn in_threads<T: Send, R: Send>(mut each: Vec<T>, work: impl Fn(T) -> Outcome<R> + Sync) -> Outcome<Vec<R>> {
    if each.len() == 1 {
        return Ok(vec![work(each.remove(0))?]);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = each.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn receive_all(pull: &mut Pull, mut arrivals: Arrivals) -> Outcome<Arrivals> {
    while arrivals.missing() > 0 {
        arrivals.take(&pull.recv()?[0]);
    }
    Ok(arrivals)
}

fn send_all(push: &Push, mut bodies: Bodies) -> Outcome {
    while let Some(body) = bodies.next() {
        push.send(body)?;
    }
    push.close();
    Ok(())
}

fn answer(rep: &mut Rep, count: u64) -> Outcome {
    for _ in 0..count {
        let (message, responder) = rep.recv()?.into_parts();
        responder.reply(message)?;
    }
    Ok(())
}

fn ask(req: &Req, mut rounds: Rounds) -> Outcome<Rounds> {
    while let Some(body) = rounds.next() {
        let reply = req.request(body)?;
        rounds.done(&reply[0]);
    }
    Ok(rounds)
}

fn echo(router: &mut Router, count: u64) -> Outcome {
    for _ in 0..count {
        let (peer, message) = router.recv()?;
        router.send_to(&peer, message)?;
    }
    Ok(())
}

fn deal(mut dealer: Dealer, mut rounds: Rounds) -> Outcome<Rounds> {
    while let Some(body) = rounds.next() {
        dealer.send(body)?;
        rounds.done(&dealer.recv()?[0]);
    }
    Ok(rounds)
}

fn with_router<T>(count: u64, asks: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let mut router = Router::builder().hwm(HWM).bind(INPROC)?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || echo(&mut router, count));
        let asked = asks()?;
        server.join().expect("no panic")?;
        Ok(asked)
    })
}
