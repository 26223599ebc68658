//! `drive CONFIG`: one socket that another program steers through its pipes.
//!
//! Three things run side by side in one task: `steer` reads lines and does what they say, `pump` receives and
//! is the only writer of stdout, and the monitor's events join its lines. `socket` knows the eleven types,
//! `line` and `event` the JSON; `receipts` and `held` what is between a spool and its acknowledgement.

mod config;
mod durable;
mod errno;
mod event;
mod held;
mod line;
mod options;
mod outbox;
mod receipts;
mod socket;
mod steer;

use std::cell::Cell;
use std::io::Write;
use std::time::Duration;

use ginnel::{Monitor, Socket};
use tokio::sync::Notify;

use crate::args::DriveArgs;
use crate::exit::{self, Failure};
use crate::log::{self, Level};
use crate::output::{CHUNK, Output};
use crate::setup;
use crate::signals::Stop;
use crate::watch;

use held::Held;
use outbox::Outbox;
use receipts::Receipts;
use socket::{Arrival, Incoming, Parts};

pub(crate) use event::fields as event_fields;

/// So long the last lines may take once everything else is over.
const LAST_LINES: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: DriveArgs) -> Result<i32, Failure> {
    drive(args).await.inspect_err(|failure| {
        if !failure.why.is_empty() {
            // The last line; a reader that has left does not need it.
            let _ = std::io::stdout().write_all(&event::fatal(&failure.why));
        }
    })
}

/// What the parts that run side by side have in common.
struct Shared {
    outbox: Outbox,
    held: Held,
    receipts: Receipts,
    /// Nothing more is to be received.
    stop: Notify,
}

async fn drive(args: DriveArgs) -> Result<i32, Failure> {
    let text = config::load(&args.socket).map_err(Failure::usage)?;
    let config = config::parse(&text).map_err(Failure::usage)?;
    let stop = Stop::listen().map_err(Failure::failed)?;
    let output = Output::stdout().map_err(Failure::failed)?;
    let Parts { socket, outgoing, incoming, asked } = socket::build(&config)?;
    let mut monitor = socket.monitor();
    let held = Held::new(config.holder.as_ref().map(|(_, ack)| *ack));
    let shared = Shared { outbox: Outbox::default(), held, receipts: Receipts::default(), stop: Notify::new() };
    let bound = setup::attach(&socket, &config.bind, &config.connect).await?;
    shared.outbox.push_now(&event::ready(&bound));
    let work = async {
        let code = tokio::select! {
            biased;
            code = stop.requested() => code,
            code = steer::run(&config, &socket, outgoing, &shared) => code,
            () = watch(&mut monitor, &shared.outbox) => exit::OK,
            () = shared.receipts.report(&shared.outbox, config.ack) => exit::OK,
        };
        // Requests wait in the socket, not in a peer's queue; closing, or dropping `incoming`, gives them up.
        let _ = tokio::time::timeout(config.options.linger(), all_handed_over(&socket, &asked)).await;
        code
    };
    let mut pump = Box::pin(pump(incoming, &shared, &output));
    let code = tokio::select! {
        biased;
        ended = &mut pump => return ended.map(|()| exit::OK),
        code = work => code,
    };
    // A write under way goes on: what is in it is printed, and done.
    shared.stop.notify_one();
    tokio::time::timeout(LAST_LINES, &mut pump).await.unwrap_or(Ok(()))?;
    drop(pump);
    let code = close(&socket, &stop, code).await;
    while let Some(event) = monitor.try_recv() {
        if watch::is_spool(&event) {
            watch::report(&event);
            shared.outbox.push_now(&event::spool(&event));
        }
    }
    finish(&shared, &output, code).await
}

async fn all_handed_over(socket: &Socket, asked: &Cell<u64>) {
    while socket::handed_over(socket) < asked.get() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Drains the socket for linger.
async fn close(socket: &Socket, stop: &Stop, code: i32) -> i32 {
    let closing = socket.close();
    tokio::pin!(closing);
    let (report, code) = tokio::select! {
        report = &mut closing => (report, code),
        signal = stop.requested(), if code == exit::OK => (closing.await, signal),
    };
    if report.dropped > 0 {
        log::warn(format!("{} messages were not delivered", report.dropped));
    }
    code
}

/// The last lines.
async fn finish(shared: &Shared, output: &Output, code: i32) -> Result<i32, Failure> {
    let mut last = Vec::new();
    shared.outbox.take(&mut last);
    match tokio::time::timeout(LAST_LINES, output.write(last)).await {
        Ok(Err(e)) => Err(exit::stdout_failure(&e)),
        _ => Ok(code),
    }
}

/// Receives, and writes stdout: nothing is received while a write waits. Returns when it is to stop, or stdout fails.
async fn pump(mut incoming: Incoming, shared: &Shared, output: &Output) -> Result<(), Failure> {
    let Shared { outbox, held, .. } = shared;
    let mut chunk = Vec::new();
    loop {
        let received = tokio::select! {
            biased;
            () = shared.stop.notified() => return Ok(()),
            () = outbox.filled() => None,
            answer = held.asked_to_drop() => {
                // Who asked may have ended meanwhile.
                let _ = answer.send(incoming.drop_name().await);
                None
            }
            received = incoming.recv() => Some(received),
        };
        // First what was caused before the message.
        outbox.take(&mut chunk);
        if let Some(received) = received {
            print(received, &mut chunk, held);
        }
        while chunk.len() < CHUNK {
            let Some(received) = incoming.try_recv() else { break };
            print(received, &mut chunk, held);
        }
        match output.write(chunk).await {
            Ok(empty) => chunk = empty,
            Err(e) => return Err(exit::stdout_failure(&e)),
        }
        held.flushed();
    }
}

fn print(received: Arrival, chunk: &mut Vec<u8>, held: &Held) {
    received.write(chunk);
    if let Arrival::Delivery(delivery) = received {
        held.printed(delivery);
    }
}

/// News of durable delivery are lines always, all other events with `-v`.
async fn watch(monitor: &mut Monitor, outbox: &Outbox) {
    while let Some(event) = monitor.recv().await {
        if watch::is_spool(&event) {
            watch::report(&event);
            outbox.push(event::spool(&event)).await;
        } else if log::enabled(Level::Debug) {
            outbox.push(event::monitor(&event)).await;
        }
    }
    std::future::pending().await
}
