//! ginnel itself, public API only: plain `send` and `recv`, or `send_all` and `recv_batch`.

use ginnel::{Batch, Message, Pull, Push, Rep, Req};

use super::Flavour;
use crate::role;
use crate::workload::{Arrivals, Bodies, Column, HWM, Outcome, Ready, Rounds};

/// Messages handed over per batched call.
const BATCH: usize = 256;

pub struct Ginnel {
    pub flavour: Flavour,
    pub batch: bool,
}

impl Column for Ginnel {
    fn settings(&self) -> String {
        let calls = if self.batch { "send_all and recv_batch of up to 256" } else { "send and recv" };
        format!(
            "ginnel{}: tokio runtime {}, HWM {HWM} on both sides, other options default, {calls}",
            if self.batch { "-batch" } else { "" },
            self.flavour.name()
        )
    }

    fn receive(&self, at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        self.flavour.runtime().block_on(async {
            let mut pull = Pull::builder().hwm(HWM).bind(at).await.expect("bind");
            ready.at(&pull.local_endpoint().expect("bound").to_string());
            if self.batch {
                receive_batches(&mut pull, &mut arrivals).await;
            } else {
                while arrivals.missing() > 0 {
                    let message = pull.recv().await.expect("recv");
                    arrivals.take(&message[0]);
                }
            }
        });
        Ok(arrivals)
    }

    fn send(&self, endpoint: &str, mut bodies: Bodies) -> Outcome {
        self.flavour.runtime().block_on(async {
            let push = Push::builder().hwm(HWM).linger(None).connect(endpoint).expect("connect");
            if self.batch {
                send_batches(&push, &mut bodies).await;
            } else {
                while let Some(body) = bodies.next() {
                    push.send(body).await.expect("send");
                }
            }
            push.close().await;
        });
        Ok(())
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let at = at.to_owned();
        self.flavour.run(async move {
            let mut rep = Rep::builder().hwm(HWM).bind(&at).await.expect("bind");
            ready.at(&rep.local_endpoint().expect("bound").to_string());
            for _ in 0..count {
                let (message, responder) = rep.recv().await.expect("recv").into_parts();
                responder.reply(message).await.expect("reply");
            }
            tokio::task::spawn_blocking(role::hold).await.expect("hold");
        });
        Ok(())
    }

    fn request(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        let endpoint = endpoint.to_owned();
        Ok(self.flavour.run(async move {
            let req = Req::builder().hwm(HWM).connect(&endpoint).expect("connect");
            while let Some(body) = rounds.next() {
                let reply = req.request(body).await.expect("reply");
                rounds.done(&reply[0]);
            }
            rounds
        }))
    }
}

async fn receive_batches(pull: &mut Pull, arrivals: &mut Arrivals) {
    let mut batch = Batch::new();
    while arrivals.missing() > 0 {
        pull.recv_batch(&mut batch, BATCH).await.expect("recv_batch");
        for message in batch.iter() {
            arrivals.take(message.frames().next().expect("a frame"));
        }
    }
}

async fn send_batches(push: &Push, bodies: &mut Bodies) {
    loop {
        let batch: Vec<Message> = std::iter::from_fn(|| bodies.next().map(Message::from)).take(BATCH).collect();
        if batch.is_empty() {
            return;
        }
        push.send_all(batch).await.expect("send_all");
    }
}
