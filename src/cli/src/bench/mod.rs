//! `bench thr|lat`: one end here, the other in a second process (or a task), the median run reported.
//!
//! The far end is steered by `Order`s and gives `Account`s; what it sent, less what it says it dropped,
//! must be what arrived here. `measure` has the near end, `far` the far end, `report` the printing.

mod far;
mod measure;
mod report;

use std::time::Duration;

use crate::args::{BenchArgs, BenchKind, BenchPattern, BenchTransport};
use crate::durable::SpoolSettings;
use crate::exit::{self, Failure};
use crate::signals::Stop;

pub(crate) use far::run_process as far_process;

/// How long the sending of one run lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    Count(u64),
    Time(Duration),
}

/// One line of the result.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) kind: BenchKind,
    pub(crate) pattern: BenchPattern,
    pub(crate) transport: BenchTransport,
    pub(crate) size: u64,
    pub(crate) in_process: bool,
    /// The sender's, in a directory of its own.
    pub(crate) spool: Option<SpoolSettings>,
}

/// Processor time of both ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// What one run gave.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) count: u64,
    pub(crate) drops: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Cpu,
    /// Microseconds at p50, p90, p99, p99.9 and the maximum; only of round trips.
    pub(crate) times: Option<[f64; 5]>,
}

impl Run {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// What the median is taken of: more is better for `thr`, less for `lat`.
    fn figure(&self) -> f64 {
        self.times.map_or_else(|| self.rate(), |times| times[0])
    }
}

pub(crate) async fn run(args: BenchArgs) -> Result<i32, Failure> {
    let stop = Stop::listen().map_err(Failure::failed)?;
    tokio::select! {
        result = run_all(&args) => result.map(|()| exit::OK),
        code = stop.requested() => Ok(code),
    }
}

async fn run_all(args: &BenchArgs) -> Result<(), Failure> {
    let pattern = pattern(args)?;
    if args.transport == BenchTransport::Inproc && !args.in_process {
        return Err(Failure::usage("inproc is within one process; add --in-process"));
    }
    if args.spool.is_some() && (args.kind == BenchKind::Lat || pattern == BenchPattern::DealerRouter) {
        return Err(Failure::usage("--spool is for thr over push-pull or pub-sub"));
    }
    if args.spool.is_some() && args.transport == BenchTransport::Inproc {
        return Err(Failure::usage("--spool is for tcp and ipc"));
    }
    let mut report = report::Report::new(args.format, args.kind);
    for &size in &args.size {
        let (kind, transport, in_process) = (args.kind, args.transport, args.in_process);
        let case = Case { kind, pattern, transport, size, in_process, spool: spool(args, size) };
        let runs = measure::measure(&case, args).await;
        if let Some(spool) = &case.spool {
            // What was measured has arrived: nobody needs it.
            let _ = std::fs::remove_dir_all(&spool.dir);
        }
        let mut runs = runs?;
        runs.sort_by(|a, b| a.figure().total_cmp(&b.figure()));
        report.add(&case, &runs).map_err(|e| exit::stdout_failure(&e))?;
    }
    Ok(())
}

/// A spool for one case, so that nothing of another one is in it.
fn spool(args: &BenchArgs, size: u64) -> Option<SpoolSettings> {
    let dir = args.spool.as_ref()?.join(format!("bench-{}-{size}", std::process::id()));
    Some(SpoolSettings { dir, sync: args.sync, ..SpoolSettings::default() })
}

fn pattern(args: &BenchArgs) -> Result<BenchPattern, Failure> {
    use BenchPattern::{DealerRouter, PubSub, PushPull, ReqRep};
    let (default, known): (_, &[BenchPattern]) = match args.kind {
        BenchKind::Thr => (PushPull, &[PushPull, PubSub, DealerRouter]),
        BenchKind::Lat => (ReqRep, &[ReqRep, DealerRouter]),
    };
    let pattern = args.pattern.unwrap_or(default);
    if known.contains(&pattern) {
        return Ok(pattern);
    }
    Err(Failure::usage(match args.kind {
        BenchKind::Thr => "thr is measured over push-pull, pub-sub or dealer-router",
        BenchKind::Lat => "lat is measured over req-rep or dealer-router",
    }))
}

/// The processor time of this process so far. Zero where the system does not say.
pub(crate) fn cpu() -> Cpu {
    /// The unit of `/proc` on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything: count the fields behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let seconds =
        |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / TICKS_PER_SECOND;
    Cpu { user: seconds(11), system: seconds(12) }
}

impl std::ops::Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

impl std::ops::Add for Cpu {
    type Output = Cpu;

    fn add(self, other: Cpu) -> Cpu {
        Cpu { user: self.user + other.user, system: self.system + other.system }
    }
}
