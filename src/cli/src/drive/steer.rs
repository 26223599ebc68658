//! The lines of stdin, one after the other: each is done before the next is read.

use std::time::Duration;

use ginnel::{Endpoint, Event, Socket};
use serde_json::{Map, Value, json};

use super::Shared;
use super::config::Config;
use super::errno::{Errno, Fault};
use super::event;
use super::line::{self, Line};
use super::socket::{Outgoing, Sent};
use crate::exit;
use crate::input;
use crate::log;
use crate::stats;

/// Carries out lines until `exit`, or the end of input if that is to end it. Returns the exit code.
pub(super) async fn run(config: &Config, socket: &Socket, outgoing: Outgoing, shared: &Shared) -> i32 {
    let outbox = &shared.outbox;
    let mut steer = Steer { config, socket, outgoing, shared };
    let mut lines = input::lines();
    let mut number = 0;
    while let Some(text) = lines.next().await {
        let text = match text {
            Ok(text) => text,
            Err(e) => {
                log::error(format!("cannot read stdin: {e}"));
                return exit::FAILED;
            }
        };
        number += 1;
        match line::parse(&text) {
            Ok(Line::Exit) => {
                steer.settle().await;
                outbox.push_now(&event::done("exit", Map::new()));
                return exit::OK;
            }
            Ok(line) => steer.carry_out(line, number).await,
            Err((op, fault)) => outbox.push(event::err(&op, Some(number), &fault)).await,
        }
    }
    if !config.exit_on_eof {
        std::future::pending::<()>().await;
    }
    steer.settle().await;
    exit::OK
}

struct Steer<'a> {
    config: &'a Config,
    socket: &'a Socket,
    outgoing: Outgoing,
    shared: &'a Shared,
}

impl Steer<'_> {
    /// Before the end: what is on its way into a spool, at most for linger.
    async fn settle(&self) {
        let _ = tokio::time::timeout(self.config.options.linger(), self.shared.receipts.settled()).await;
    }

    async fn carry_out(&mut self, line: Line, number: u64) {
        let op = line.op();
        let result = match line {
            Line::Send(message, at) => match self.outgoing.send(message, at).await {
                Ok(sent) => return self.sent(sent, number).await,
                Err(fault) => Err(fault),
            },
            line => self.command(line).await,
        };
        let line = match result {
            Ok(more) => event::done(op, more),
            Err(fault) => event::err(op, Some(number), &fault),
        };
        self.shared.outbox.push(line).await;
    }

    async fn sent(&self, sent: Sent, number: u64) {
        match sent {
            Sent::Pending(pending) => self.shared.receipts.add(number, pending),
            Sent::Accepted if self.config.ack => self.shared.outbox.count_sent(None),
            Sent::Delayed(delayed) if self.config.ack => self.shared.outbox.push_delayed(delayed).await,
            Sent::Accepted | Sent::Delayed(_) => {}
        }
    }

    /// What is added to `done`.
    async fn command(&mut self, line: Line) -> Result<Map<String, Value>, Fault> {
        let endpoint = |endpoint: String| Map::from_iter([("ep".to_owned(), json!(endpoint))]);
        match line {
            Line::Subscribe(topic) => self.outgoing.subscribe(&topic, true).await.map(|()| Map::new()),
            Line::Unsubscribe(topic) => self.outgoing.subscribe(&topic, false).await.map(|()| Map::new()),
            Line::Bind(ep) => Ok(endpoint(self.socket.bind_to(ep).await?.to_string())),
            Line::Connect(ep) => Ok(endpoint(self.socket.connect_to(ep)?.to_string())),
            Line::Unbind(ep) => self.unbind(&ep).await.map(|()| Map::new()),
            Line::Disconnect(ep) => self.socket.disconnect(ep).map(|()| Map::new()).map_err(Fault::from),
            Line::Stats => Ok(Map::from_iter([("stats".to_owned(), self.stats())])),
            Line::Ack { number, up_to } => {
                self.manual()?;
                let known = self.shared.held.acknowledge(number.spool, number.sequence, up_to);
                known_number(number.sequence, known.map_err(|_| ambiguous())?)
            }
            Line::Retry { number, after } => {
                self.manual()?;
                let known = self.shared.held.retry(number.spool, number.sequence, after);
                known_number(number.sequence, known.map_err(|_| ambiguous())?)
            }
            Line::Cancel(number) => known_number(number, self.outgoing.cancel(number)?),
            Line::DropName if !self.shared.held.is_durable() => {
                Err(Fault::new(Errno::EINVAL, "this socket has no durable name"))
            }
            Line::DropName => Ok(known(self.shared.held.drop_name().await)),
            Line::Send(..) | Line::Exit => Err(Fault::new(Errno::EINVAL, "not a command")),
        }
    }

    fn manual(&self) -> Result<(), Fault> {
        match self.shared.held.is_manual() {
            true => Ok(()),
            false => Err(Fault::new(Errno::EINVAL, "only with \"durable\": {\"ack\": \"manual\", …}")),
        }
    }

    /// Done means that the address is free again: the library's unbind only starts that.
    async fn unbind(&self, endpoint: &str) -> Result<(), Fault> {
        let mut monitor = self.socket.monitor();
        self.socket.unbind(endpoint)?;
        let Ok(endpoint) = endpoint.parse::<Endpoint>() else { return Ok(()) };
        let endpoint = endpoint.to_string();
        let stopped = async {
            while let Some(event) = monitor.recv().await {
                if matches!(event, Event::Stopped { endpoint: stopped } if stopped == endpoint) {
                    return;
                }
            }
        };
        // An endpoint within the process stops without saying so.
        if !endpoint.starts_with("inproc:") {
            let _ = tokio::time::timeout(Duration::from_secs(1), stopped).await;
        }
        Ok(())
    }

    fn stats(&self) -> Value {
        let endpoints: Vec<String> = self.socket.endpoints().iter().map(ToString::to_string).collect();
        stats::snapshot(self.socket.socket_type(), &endpoints, &self.socket.stats(), self.outgoing.spool())
    }
}

fn ambiguous() -> Fault {
    Fault::new(Errno::EINVAL, "several spools have this number; add \"spool\"")
}

fn known(known: bool) -> Map<String, Value> {
    if known { Map::new() } else { Map::from_iter([("known".to_owned(), json!(false))]) }
}

fn known_number(sequence: u64, is_known: bool) -> Result<Map<String, Value>, Fault> {
    let mut object = known(is_known);
    object.insert("seq".to_owned(), json!(sequence));
    Ok(object)
}
