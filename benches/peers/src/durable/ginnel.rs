//! ginnel: a PUB with a spool and one SUB with a durable name, no server between them; and the same sockets without.

use std::path::Path;
use std::time::Duration;

use ginnel::{OnFull, Pub, Receiver, RecvError, Sub, Sync};

use super::role::{ready, told_async};
use super::tally::{PATIENCE, now};
use super::{Contestant, Job, Sent, Server, Tally};
use crate::workload::{Bodies, HWM};

/// The spool's policy for when a message is accepted.
pub struct Durable {
    pub sync: Sync,
    /// The consumer is a SUB without a name: nothing is acknowledged.
    pub plain_consumer: bool,
}

impl Durable {
    pub fn every() -> Durable {
        Durable { sync: Sync::Every(Duration::from_millis(100)), plain_consumer: false }
    }
}

impl Contestant for Durable {
    fn settings(&self) -> String {
        let consumer = if self.plain_consumer { "plain SUB" } else { "SUB with durable name, Ack::OnNext, recv()" };
        format!(
            "ginnel, no server; PUB with spool, Sync::{:?}, enqueue() of every message and the last one awaited; {consumer}; other options default",
            self.sync
        )
    }

    fn server(&self, _: &Path) -> Option<Server> {
        None
    }

    fn publisher_binds(&self) -> bool {
        true
    }

    fn send(&self, job: &Job, bodies: &mut Bodies) -> Sent {
        let runtime = job.flavour.runtime();
        runtime.block_on(async {
            let publisher =
                Pub::builder().spool(&job.dir).sync(self.sync).bind("tcp://127.0.0.1:*").await.expect("bind");
            ready(&publisher.local_endpoint().expect("bound").to_string());
            told_async().await;
            publisher.wait_for_subscribers(1).await.expect("open");
            let first = now();
            let mut last = None;
            while let Some(body) = bodies.next() {
                last = Some(publisher.enqueue(body).await.expect("enqueue"));
            }
            if let Some(last) = last {
                last.await.expect("accepted");
            }
            let accepted = now();
            told_async().await;
            let unacknowledged = self.unacknowledged(&publisher).await;
            publisher.close().await;
            Sent { first, accepted, unacknowledged }
        })
    }

    fn receive(&self, job: &Job, tally: &mut Tally) {
        let builder = Sub::builder();
        let builder = if self.plain_consumer { builder } else { builder.durable("bench") };
        job.flavour.runtime().block_on(async {
            let mut subscriber = builder.connect(&*job.endpoint).expect("connect");
            subscriber.subscribe("").expect("subscribe");
            subscriber.wait_for_peers(1).await.expect("open");
            ready("");
            receive(&mut subscriber, tally).await;
            subscriber.ack_last();
            stay(tally).await;
            subscriber.close().await;
        });
    }
}

impl Durable {
    /// What the name has not acknowledged, after some patience.
    async fn unacknowledged(&self, publisher: &Pub) -> Option<u64> {
        if self.plain_consumer {
            return None;
        }
        let spool = publisher.spool()?;
        let mut left = u64::MAX;
        for _ in 0..100 {
            left = spool.names().iter().map(|name| name.lag_records).sum();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(left)
    }
}

/// Without a spool: what durability is measured against.
pub struct Plain;

impl Contestant for Plain {
    fn settings(&self) -> String {
        format!(
            "ginnel, no server, no spool; PUB with OnFull::Block and HWM {HWM}, send() of every message; SUB, recv()"
        )
    }

    fn server(&self, _: &Path) -> Option<Server> {
        None
    }

    fn publisher_binds(&self) -> bool {
        true
    }

    fn send(&self, job: &Job, bodies: &mut Bodies) -> Sent {
        job.flavour.runtime().block_on(async {
            let builder = Pub::builder().on_full(OnFull::Block).hwm(HWM);
            let publisher = builder.bind("tcp://127.0.0.1:*").await.expect("bind");
            ready(&publisher.local_endpoint().expect("bound").to_string());
            told_async().await;
            publisher.wait_for_subscribers(1).await.expect("open");
            let first = now();
            while let Some(body) = bodies.next() {
                publisher.send(body).await.expect("send");
            }
            publisher.flush().await.expect("flush");
            let accepted = now();
            told_async().await;
            publisher.close().await;
            Sent { first, accepted, unacknowledged: None }
        })
    }

    fn receive(&self, job: &Job, tally: &mut Tally) {
        job.flavour.runtime().block_on(async {
            let mut subscriber = Sub::builder().hwm(HWM).connect(&*job.endpoint).expect("connect");
            subscriber.subscribe("").expect("subscribe");
            subscriber.wait_for_peers(1).await.expect("open");
            ready("");
            receive(&mut subscriber, tally).await;
            stay(tally).await;
            subscriber.close().await;
        });
    }
}

/// One call a message; the patience is looked at only when nothing is there.
async fn receive(subscriber: &mut Receiver, tally: &mut Tally) {
    while tally.missing() > 0 {
        let message = match subscriber.try_recv() {
            Ok(message) => message,
            Err(_) => match subscriber.recv_timeout(PATIENCE).await {
                Ok(message) => message,
                Err(RecvError::Timeout) => return tally.give_up(),
                Err(error) => panic!("recv: {error}"),
            },
        };
        tally.take(&message[0]);
    }
}

/// Answers the parent, and keeps the connection alive until the publisher has seen the acknowledgements.
async fn stay(tally: &Tally) {
    tally.report();
    told_async().await;
}
