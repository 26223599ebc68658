//! NATS JetStream: a stream with file storage, published to asynchronously, read by a durable pull consumer.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::{Context, stream};
use futures_util::StreamExt;

use super::role::{ready, told_async};
use super::server::{self, Server};
use super::tally::{PATIENCE, now};
use super::{Contestant, Job, Sent, Tally};
use crate::workload::Bodies;

/// Publishes that may wait for their acknowledgement: what the client allows by itself.
const OUTSTANDING: usize = 5_000;

/// Messages that the client asks for at a time.
const BATCH: usize = 500;

pub struct Nats {
    /// `sync_interval: always` instead of the server's default of two minutes.
    pub always: bool,
}

fn program() -> String {
    server::program("NATS_SERVER", "nats-server")
}

impl Contestant for Nats {
    fn settings(&self) -> String {
        let sync = if self.always { "always" } else { "default (2 min)" };
        format!(
            "{}, one stream with file storage, one replica, sync_interval {sync}; async-nats, publish with {OUTSTANDING} acks outstanding, each awaited; durable pull consumer, messages() by {BATCH}, AckPolicy::Explicit, ack() of every message",
            server::version(&program())
        )
    }

    fn server(&self, dir: &Path) -> Option<Server> {
        let port = server::free_port();
        let sync = if self.always { "sync_interval: always" } else { "" };
        let config = dir.join("nats.conf");
        let text =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{\n  store_dir: \"{}\"\n  {sync}\n}}\n", dir.display());
        std::fs::write(&config, text).expect("write the configuration");
        let server = Server::start(dir, port, Command::new(program()).arg("-c").arg(&config));
        Some(server)
    }

    fn send(&self, job: &Job, bodies: &mut Bodies) -> Sent {
        job.flavour.runtime().block_on(async {
            let context = context(job).await;
            ready("");
            told_async().await;
            let first = now();
            let mut acks = VecDeque::new();
            while let Some(body) = bodies.next() {
                if acks.len() == OUTSTANDING {
                    await_ack(acks.pop_front()).await;
                }
                let payload = body.to_vec().into();
                acks.push_back(context.publish("bench", payload).await.expect("publish"));
            }
            while !acks.is_empty() {
                await_ack(acks.pop_front()).await;
            }
            let accepted = now();
            told_async().await;
            Sent { first, accepted, unacknowledged: None }
        })
    }

    fn receive(&self, job: &Job, tally: &mut Tally) {
        job.flavour.runtime().block_on(async {
            let context = context(job).await;
            let config = stream::Config {
                name: "BENCH".to_owned(),
                subjects: vec!["bench".to_owned()],
                storage: stream::StorageType::File,
                ..Default::default()
            };
            let stream = context.create_stream(config).await.expect("make the stream");
            let config = pull::Config {
                durable_name: Some("consumer".to_owned()),
                ack_policy: AckPolicy::Explicit,
                ..Default::default()
            };
            let mut consumer = stream.create_consumer(config).await.expect("make the consumer");
            let builder = consumer.stream().max_messages_per_batch(BATCH);
            let mut messages = builder.messages().await.expect("messages");
            ready("");
            while tally.missing() > 0 {
                let Ok(next) = tokio::time::timeout(PATIENCE, messages.next()).await else {
                    tally.give_up();
                    break;
                };
                let message = next.expect("an open connection").expect("a message");
                tally.take(&message.payload);
                message.ack().await.expect("ack");
            }
            tally.unacknowledged = Some(unacknowledged(&mut consumer).await);
            tally.report();
            told_async().await;
        });
    }
}

async fn context(job: &Job) -> Context {
    let client = async_nats::connect(format!("nats://{}", job.endpoint)).await.expect("connect");
    ContextBuilder::new().max_ack_inflight(OUTSTANDING).timeout(PATIENCE).build(client)
}

async fn await_ack(ack: Option<async_nats::jetstream::context::PublishAckFuture>) {
    if let Some(ack) = ack {
        ack.await.expect("a publish was not stored");
    }
}

/// What the server still waits for: acknowledgements on their way are given two seconds.
async fn unacknowledged(consumer: &mut async_nats::jetstream::consumer::Consumer<pull::Config>) -> u64 {
    let mut left = u64::MAX;
    for _ in 0..100 {
        let info = consumer.info().await.expect("the consumer's state");
        left = info.num_ack_pending as u64 + info.num_pending;
        if left == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    left
}
