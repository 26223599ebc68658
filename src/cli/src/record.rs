//! `record`: what arrives goes into a spool, and is acknowledged once it is as safe there as `--sync` asks.
//!
//! The spool belongs to a PUB that listens nowhere: recording is publishing to a log.

use std::collections::VecDeque;
use std::time::Duration;

use ginnel::{Buildable, Builder, Delivery, Pending, Pub, Pull, Receiver, RecvError, SocketType, Sub};

use crate::args::{RecordArgs, RecordKind};
use crate::durable::{Holder, HolderSettings, SpoolSettings, Spooler, is_spool_option};
use crate::ends::{Held, Receive, Received};
use crate::exit::Failure;
use crate::run::step;
use crate::session::{End, Session};
use crate::setup::{build, set_flags, set_options};
use crate::watch::{Wanted, Watch};

/// Records that may be on their way to the disk at once.
const UNDER_WAY: usize = 1024;

pub(crate) async fn run(args: RecordArgs) -> Result<i32, Failure> {
    let holder = args.durable.as_deref().map(|name| HolderSettings::new(name, args.from));
    let durable = holder.is_some();
    match args.kind {
        RecordKind::Pull => {
            if !args.subscribe.subscribe.is_empty() || !args.subscribe.subscribe_hex.is_empty() {
                return Err(Failure::usage("--subscribe is for sub"));
            }
            let mut socket = build(configured(Pull::builder(), &args)?.with_name(holder.as_ref()))?;
            record(&mut socket, SocketType::Pull, &args, durable).await
        }
        RecordKind::Sub => {
            let mut builder = configured(Sub::builder(), &args)?.with_name(holder.as_ref());
            for prefix in args.subscribe.prefixes() {
                builder = builder.subscribe(prefix);
            }
            let mut socket = build(builder)?;
            record(&mut socket, SocketType::Sub, &args, durable).await
        }
    }
}

/// Of `--option` what does not concern the spool.
fn configured<S: Buildable>(builder: Builder<S>, args: &RecordArgs) -> Result<Builder<S>, Failure> {
    set_options(set_flags(builder, &args.socket)?, &args.socket.option, |name| !is_spool_option(name))
}

async fn record(receiver: &mut Receiver, kind: SocketType, args: &RecordArgs, durable: bool) -> Result<i32, Failure> {
    let settings = SpoolSettings { append_all: true, ..SpoolSettings::with_limits(args.spool.clone(), &args.limits) };
    let builder = Pub::builder().with_spool(&settings);
    let log = build(set_options(builder, &args.socket.option, is_spool_option)?)?;
    let watch = Watch::start(log.monitor(), Wanted::default());
    let session = Session::open_with(receiver, kind, &args.socket, log.spool().cloned()).await?;
    let mut tape = Tape { log: &log, under_way: VecDeque::new() };
    let end = match durable {
        true => record_all(&session, &mut Held(receiver), args, &mut tape).await,
        false => record_all(&session, receiver, args, &mut tape).await,
    };
    let rest = match end {
        End::Failed(failure) => End::Failed(failure),
        // What was taken is accepted before it is acknowledged, whatever says stop.
        end => match limited(args.socket.linger.limit(), tape.settle()).await {
            Ok(()) => end,
            Err(failure) => End::Failed(failure),
        },
    };
    drop(tape);
    let result = session.finish(rest).await;
    log.close().await;
    watch.settle().await;
    result
}

async fn limited(limit: Option<Duration>, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure::failed("the disk did not take everything in time")),
        },
    }
}

async fn record_all(session: &Session, receiver: &mut impl Receive, args: &RecordArgs, tape: &mut Tape<'_>) -> End {
    let end = session.run(async {
        match args.time {
            None => record_count(receiver, args, tape).await,
            // The time is up: that is the end that was asked for.
            Some(time) => tokio::time::timeout(time, record_count(receiver, args, tape)).await.unwrap_or(Ok(())),
        }
    });
    match end.await {
        End::PeersLeft => session.run_rest(drain(receiver, tape)).await,
        end => end,
    }
}

async fn record_count(receiver: &mut impl Receive, args: &RecordArgs, tape: &mut Tape<'_>) -> Result<(), Failure> {
    let mut count = 0;
    while args.socket.count == 0 || count < args.socket.count {
        let received = tokio::select! {
            biased;
            accepted = tape.accepted() => {
                accepted?;
                continue;
            }
            received = step(&args.socket, "message", receiver.recv()), if tape.has_room() => received?,
        };
        let received = received.map_err(|e| match e {
            RecvError::Timeout => Failure::timeout("no message in time"),
            e => Failure::failed(e),
        })?;
        tape.append(received).await?;
        count += 1;
    }
    tape.settle().await
}

/// What is here already, after the peers have left.
async fn drain(receiver: &mut impl Receive, tape: &mut Tape<'_>) -> Result<(), Failure> {
    while let Ok(received) = receiver.try_recv() {
        tape.append(received).await?;
    }
    tape.settle().await
}

/// The log, and what is on its way into it.
struct Tape<'a> {
    log: &'a Pub,
    under_way: VecDeque<(Pending, Option<Delivery>)>,
}

impl Tape<'_> {
    fn has_room(&self) -> bool {
        self.under_way.len() < UNDER_WAY
    }

    async fn append(&mut self, received: Received) -> Result<(), Failure> {
        let pending = self.log.enqueue(received.message).await.map_err(|e| Failure::failed(e.map(drop)))?;
        self.under_way.push_back((pending, received.delivery));
        Ok(())
    }

    /// Waits until the oldest one under way is accepted, and acknowledges it. For ever when there is none.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    async fn accepted(&mut self) -> Result<(), Failure> {
        let Some((pending, _)) = self.under_way.front_mut() else { return std::future::pending().await };
        pending.await.map_err(Failure::failed)?;
        if let Some((_, delivery)) = self.under_way.pop_front() {
            delivery.into_iter().for_each(Delivery::ack);
        }
        Ok(())
    }

    /// Everything under way is accepted.
    async fn settle(&mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            self.accepted().await?;
        }
        Ok(())
    }
}
