//! Redis Streams: pipelined XADD, one consumer of a group with XREADGROUP and XACK, an append-only file.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use redis::streams::StreamReadReply;
use redis::{Connection, Pipeline};

use super::role::{ready, told};
use super::server::{self, Server};
use super::tally::{PATIENCE, now};
use super::{Contestant, Job, Sent, Tally};
use crate::workload::Bodies;

/// Commands in one pipeline; two pipelines are under way at a time.
const PIPELINE: usize = 1_000;

/// Entries asked for at a time.
const BATCH: usize = 1_000;

pub struct Redis {
    /// `appendfsync always` instead of `everysec`.
    pub always: bool,
}

fn program() -> String {
    server::program("REDIS_SERVER", "redis-server")
}

impl Contestant for Redis {
    fn settings(&self) -> String {
        let sync = if self.always { "always" } else { "everysec" };
        format!(
            "{}, appendonly yes, appendfsync {sync}, no snapshots, no rewrites; pipelines of {PIPELINE} XADD, two under way; XREADGROUP COUNT {BATCH}, one XACK for each reply",
            server::version(&program())
        )
    }

    fn server(&self, dir: &Path) -> Option<Server> {
        let port = server::free_port();
        let sync = if self.always { "always" } else { "everysec" };
        let mut command = Command::new(program());
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir", &dir.display().to_string()]);
        command.args(["--appendonly", "yes", "--appendfsync", sync]);
        command.args(["--save", "", "--auto-aof-rewrite-percentage", "0"]);
        Some(Server::start(dir, port, &mut command))
    }

    fn send(&self, job: &Job, bodies: &mut Bodies) -> Sent {
        let mut connection = connect(job);
        ready("");
        told();
        let first = now();
        let mut under_way = 0;
        loop {
            let mut pipeline = Pipeline::with_capacity(PIPELINE);
            while let Some(body) = (pipeline.len() < PIPELINE).then(|| bodies.next()).flatten() {
                pipeline.cmd("XADD").arg("bench").arg("*").arg("d").arg(body);
            }
            let sent = pipeline.len();
            if sent > 0 {
                connection.send_packed_command(&pipeline.get_packed_pipeline()).expect("send a pipeline");
            }
            // The answers to the pipeline before this one.
            for _ in 0..under_way {
                let answer = connection.recv_response().expect("an answer");
                assert!(matches!(answer, redis::Value::BulkString(_)), "an entry was not added: {answer:?}");
            }
            under_way = sent;
            if sent == 0 {
                break;
            }
        }
        let accepted = now();
        told();
        Sent { first, accepted, unacknowledged: None }
    }

    fn receive(&self, job: &Job, tally: &mut Tally) {
        let mut connection = connect(job);
        let mut group = redis::cmd("XGROUP");
        group.arg("CREATE").arg("bench").arg("group").arg("$").arg("MKSTREAM");
        group.query::<()>(&mut connection).expect("make the group");
        ready("");
        let mut done: Vec<String> = Vec::new();
        while tally.missing() > 0 {
            let reply = acknowledge_and_read(&mut connection, &done);
            done.clear();
            let entries: Vec<_> = reply.keys.into_iter().flat_map(|key| key.ids).collect();
            if entries.is_empty() {
                tally.give_up();
                break;
            }
            for entry in entries {
                match entry.map.get("d") {
                    Some(redis::Value::BulkString(body)) => tally.take(body),
                    other => panic!("an entry without a body: {other:?}"),
                }
                done.push(entry.id);
            }
        }
        acknowledge(&mut Pipeline::new(), &done).query::<()>(&mut connection).expect("acknowledge");
        let mut pending = redis::cmd("XPENDING");
        let pending: Vec<redis::Value> =
            pending.arg("bench").arg("group").query(&mut connection).expect("what is pending");
        tally.unacknowledged = match pending.first() {
            Some(redis::Value::Int(count)) => u64::try_from(*count).ok(),
            _ => None,
        };
        tally.report();
        told();
    }
}

fn connect(job: &Job) -> Connection {
    let client = redis::Client::open(format!("redis://{}/", job.endpoint)).expect("an address");
    client.get_connection_with_timeout(Duration::from_secs(5)).expect("connect")
}

/// One XACK for all of them.
fn acknowledge<'a>(pipeline: &'a mut Pipeline, done: &[String]) -> &'a mut Pipeline {
    if !done.is_empty() {
        pipeline.cmd("XACK").arg("bench").arg("group").arg(done).ignore();
    }
    pipeline
}

/// In one round trip.
fn acknowledge_and_read(connection: &mut Connection, done: &[String]) -> StreamReadReply {
    let mut pipeline = Pipeline::new();
    acknowledge(&mut pipeline, done).cmd("XREADGROUP").arg("GROUP").arg("group").arg("consumer");
    pipeline.arg("COUNT").arg(BATCH).arg("BLOCK").arg(PATIENCE.as_millis() as u64).arg("STREAMS").arg("bench").arg(">");
    let (reply,): (Option<StreamReadReply>,) = pipeline.query(connection).expect("read the stream");
    reply.unwrap_or_default()
}
