//! One run of a socket subcommand: from the first bind to the exit code.
//!
//! The work of a subcommand is one future. It is dropped when a signal, a peer or a flag says stop; then
//! the socket drains for `--linger` and the code is chosen.

use std::time::Duration;

use ginnel::{Socket, SocketType, Spool};

use crate::args::SocketArgs;
use crate::exit::{self, Failure};
use crate::log;
use crate::output::Output;
use crate::setup;
use crate::signals::Stop;
use crate::stats;
use crate::watch::{Ended, Wanted, Watch};

/// How the work ended.
pub(crate) enum End {
    /// Everything was done.
    Done,
    /// `--transient`: nobody is there any more.
    PeersLeft,
    Code(i32),
    Failed(Failure),
}

pub(crate) struct Session {
    socket: Socket,
    stop: Stop,
    watch: Watch,
    pub(crate) output: Output,
    fail_on_drop: bool,
    settle: Duration,
}

impl Session {
    /// Attaches the socket to its endpoints. From here on signals are ours.
    pub(crate) async fn open(socket: &Socket, kind: SocketType, args: &SocketArgs) -> Result<Session, Failure> {
        Session::open_with(socket, kind, args, None).await
    }

    /// As [`Session::open`], with the spool for its statistics.
    pub(crate) async fn open_with(
        socket: &Socket,
        kind: SocketType,
        args: &SocketArgs,
        spool: Option<Spool>,
    ) -> Result<Session, Failure> {
        let stop = Stop::listen().map_err(Failure::failed)?;
        let wanted = Wanted { transient: args.transient, reject: args.fail_on_reject };
        // Before the first bind, so that no event is missed.
        let watch = Watch::start(socket.monitor(), wanted);
        let bound = setup::attach(socket, &args.bind, &args.connect).await?;
        if let Some(path) = &args.endpoint_file {
            setup::write_endpoint_file(path, &bound)?;
        }
        if let Some(period) = args.stats_every {
            tokio::spawn(print_stats(socket.clone(), kind, spool, period));
        }
        let output = Output::stdout().map_err(Failure::failed)?;
        let settle = args.linger.limit().unwrap_or(Duration::from_secs(3600));
        Ok(Session { socket: socket.clone(), stop, watch, output, fail_on_drop: args.fail_on_drop, settle })
    }

    /// Runs `work` until it is done or something says stop.
    pub(crate) async fn run(&self, work: impl Future<Output = Result<(), Failure>>) -> End {
        tokio::select! {
            biased;
            code = self.stop.requested() => End::Code(code),
            result = work => match result {
                Ok(()) => End::Done,
                Err(failure) => End::Failed(failure),
            },
            ended = self.watch.ended() => match ended {
                Ended::LastPeerLeft => End::PeersLeft,
                Ended::Rejected(why) => End::Failed(Failure::new(exit::REJECTED, why)),
            },
        }
    }

    /// Runs what is left to do after the peers have left: only a signal stops it.
    pub(crate) async fn run_rest(&self, work: impl Future<Output = Result<(), Failure>>) -> End {
        tokio::select! {
            biased;
            code = self.stop.requested() => End::Code(code),
            result = work => result.map_or_else(End::Failed, |()| End::Done),
        }
    }

    /// Drains for linger and gives the exit code.
    pub(crate) async fn finish(self, end: End) -> Result<i32, Failure> {
        let dropped_before = self.socket.stats().drops.total();
        let closing = self.socket.close();
        tokio::pin!(closing);
        let mut end = end;
        let report = tokio::select! {
            report = &mut closing => report,
            code = self.stop.requested(), if !matches!(end, End::Code(_)) => {
                end = End::Code(code);
                closing.await
            }
        };
        self.output.settle(self.settle).await;
        self.watch.settle().await;
        if report.dropped > 0 {
            log::warn(format!("{} messages were not delivered", report.dropped));
        }
        match end {
            End::Code(code) => Ok(code),
            End::Failed(failure) => Err(failure),
            End::Done | End::PeersLeft if self.fail_on_drop && dropped_before + report.dropped > 0 => {
                let dropped = dropped_before + report.dropped;
                Err(Failure::new(exit::DROPPED, format_args!("{dropped} messages were dropped")))
            }
            End::Done | End::PeersLeft => Ok(exit::OK),
        }
    }
}

async fn print_stats(socket: Socket, kind: SocketType, spool: Option<Spool>, period: Duration) {
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(1)));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let endpoints: Vec<String> = socket.endpoints().iter().map(ToString::to_string).collect();
        let mut line = stats::snapshot(kind, &endpoints, &socket.stats(), spool.as_ref());
        line["ts"] = crate::units::now_rfc3339().into();
        log::raw(&line.to_string());
    }
}
