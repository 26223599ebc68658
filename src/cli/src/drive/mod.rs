//! `drive CONFIG`: one socket that another program steers through its pipes.
//!
//! Three things run side by side in one task: `steer` reads lines and does what they say, `pump` receives and
//! is the only writer of stdout, and the monitor's events join its lines. `socket` knows the eleven types,
//! `line` and `event` the JSON.

mod config;
mod errno;
mod event;
mod line;
mod options;
mod outbox;
mod socket;
mod steer;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use ginnel::{Monitor, Socket};

use crate::args::DriveArgs;
use crate::exit::{self, Failure};
use crate::log::{self, Level};
use crate::output::{CHUNK, Output};
use crate::setup;
use crate::signals::Stop;

use outbox::Outbox;
use socket::{Incoming, Parts};

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

async fn drive(args: DriveArgs) -> Result<i32, Failure> {
    let text = config::load(&args.socket).map_err(Failure::usage)?;
    let config = config::parse(&text).map_err(Failure::usage)?;
    let stop = Stop::listen().map_err(Failure::failed)?;
    let output = Output::stdout().map_err(Failure::failed)?;
    let Parts { socket, outgoing, incoming, asked } = socket::build(&config).map_err(Failure::usage)?;
    let monitor = socket.monitor();
    let outbox = Rc::new(Outbox::default());
    let bound = setup::attach(&socket, &config.bind, &config.connect).await?;
    outbox.push_now(&event::ready(&bound));
    let work = async {
        let code = tokio::select! {
            biased;
            code = stop.requested() => code,
            code = steer::run(&config, &socket, outgoing, &outbox) => code,
            () = watch(monitor, &outbox) => exit::OK,
        };
        // Requests wait in the socket, not in a peer's queue; closing, or dropping `incoming`, gives them up.
        let _ = tokio::time::timeout(config.options.linger(), all_handed_over(&socket, &asked)).await;
        code
    };
    let code = tokio::select! {
        biased;
        failure = pump(incoming, &outbox, &output) => return Err(failure),
        code = work => code,
    };
    finish(&socket, &stop, &outbox, &output, code).await
}

async fn all_handed_over(socket: &Socket, asked: &Cell<u64>) {
    while socket::handed_over(socket) < asked.get() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Drains the socket for linger, then stdout.
async fn finish(socket: &Socket, stop: &Stop, outbox: &Outbox, output: &Output, code: i32) -> Result<i32, Failure> {
    let closing = socket.close();
    tokio::pin!(closing);
    let (report, code) = tokio::select! {
        report = &mut closing => (report, code),
        signal = stop.requested(), if code == exit::OK => (closing.await, signal),
    };
    if report.dropped > 0 {
        log::warn(format!("{} messages were not delivered", report.dropped));
    }
    let mut last = Vec::new();
    outbox.take(&mut last);
    match tokio::time::timeout(LAST_LINES, output.write(last)).await {
        Ok(Err(e)) => Err(exit::stdout_failure(&e)),
        _ => Ok(code),
    }
}

/// Receives, and writes stdout: nothing is received while a write waits. Returns when stdout fails.
async fn pump(mut incoming: Incoming, outbox: &Outbox, output: &Output) -> Failure {
    let mut chunk = Vec::new();
    loop {
        let received = tokio::select! {
            biased;
            () = outbox.filled() => None,
            received = incoming.recv() => Some(received),
        };
        // First what was caused before the message.
        outbox.take(&mut chunk);
        if let Some(received) = received {
            received.write(&mut chunk);
        }
        while chunk.len() < CHUNK {
            let Some(received) = incoming.try_recv() else { break };
            received.write(&mut chunk);
        }
        match output.write(chunk).await {
            Ok(empty) => chunk = empty,
            Err(e) => return exit::stdout_failure(&e),
        }
    }
}

/// With `-v` the monitor's events are lines too; else they only keep the monitor from filling.
async fn watch(mut monitor: Monitor, outbox: &Outbox) {
    while let Some(event) = monitor.recv().await {
        if log::enabled(Level::Debug) {
            outbox.push(event::monitor(&event)).await;
        }
    }
    std::future::pending().await
}
