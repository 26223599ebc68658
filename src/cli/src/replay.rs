//! `replay`: sends what a spool holds, at the recorded pace or another one.
//!
//! A thread reads the records and keeps the time: its sleep is finer than a step of the runtime's clock. Each
//! record has its due time from the start of the round on, so that no error adds up.

use std::time::{Duration, Instant, SystemTime};

use ginnel::spool::{BadRecord, SpoolFiles};
use ginnel::{Buildable, Builder, Message, OnFull, Pub, Push, Sender, Socket, SocketType};
use tokio::sync::mpsc;

use crate::args::{Moment, ReplayArgs, ReplayKind};
use crate::exit::{self, Failure};
use crate::log;
use crate::run::{send, step};
use crate::session::{End, Session};
use crate::setup::{build, configure};
use crate::spool;

/// Messages that may wait for the socket.
const AHEAD: usize = 64;

pub(crate) async fn run(args: ReplayArgs) -> Result<i32, Failure> {
    if args.wait_subs.is_some() && args.kind == ReplayKind::Push {
        return Err(Failure::usage("--wait-subs is for pub; a push waits for a peer anyway"));
    }
    let files = spool::open(&args.spool)?;
    match args.kind {
        ReplayKind::Pub => {
            // A recording is replayed whole: a slow subscriber slows it down.
            let socket = build(configured(Pub::builder().on_full(OnFull::Block), &args)?)?;
            let ready = async {
                let Some(count) = args.wait_subs else { return Ok(()) };
                let subscribers = step(&args.socket, "subscriber", socket.wait_for_subscribers(count));
                subscribers.await?.map_err(Failure::failed)
            };
            replay(&socket, SocketType::Pub, &args, files, ready).await
        }
        ReplayKind::Push => {
            let socket = build(configured(Push::builder(), &args)?)?;
            let ready = async { step(&args.socket, "peer", socket.wait_for_peers(1)).await?.map_err(Failure::failed) };
            replay(&socket, SocketType::Push, &args, files, ready).await
        }
    }
}

fn configured<S: Buildable>(builder: Builder<S>, args: &ReplayArgs) -> Result<Builder<S>, Failure> {
    configure(builder, &args.socket)
}

async fn replay(
    sender: &Sender,
    kind: SocketType,
    args: &ReplayArgs,
    files: SpoolFiles,
    ready: impl Future<Output = Result<(), Failure>>,
) -> Result<i32, Failure> {
    let socket: &Socket = sender;
    let session = Session::open(socket, kind, &args.socket).await?;
    let work = async {
        ready.await?;
        let mut records = play(files, Plan::new(args));
        let mut sent = 0;
        let mut bad = None;
        while args.socket.count == 0 || sent < args.socket.count {
            match records.recv().await {
                Some(Ok(message)) => send(sender, &args.socket, message).await?,
                Some(Err(record)) => {
                    log::error(record.to_string());
                    bad = Some(record);
                    continue;
                }
                None => break,
            }
            sent += 1;
        }
        match bad {
            Some(_) => Err(Failure::new(exit::BAD_DATA, "some records are damaged; the others were sent")),
            None => Ok(()),
        }
    };
    let end: End = session.run(work).await;
    session.finish(end).await
}

/// When a record is due.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pace {
    /// The recorded gaps divided by this.
    Speed(f64),
    /// So many a second.
    Rate(u32),
    Fast,
}

struct Plan {
    from: Moment,
    to: Option<Moment>,
    pace: Pace,
    /// `None`: for ever.
    rounds: Option<u64>,
}

impl Plan {
    fn new(args: &ReplayArgs) -> Plan {
        let pace = match (args.fast, args.rate, args.speed) {
            (true, ..) => Pace::Fast,
            (_, Some(rate), _) => Pace::Rate(rate),
            (_, _, speed) => Pace::Speed(speed.unwrap_or(1.0)),
        };
        Plan { from: args.from, to: args.to, pace, rounds: Some(args.rounds).filter(|&rounds| rounds > 0) }
    }
}

/// Starts the thread: each message comes when it is due.
fn play(files: SpoolFiles, plan: Plan) -> mpsc::Receiver<Result<Message, BadRecord>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut round = 0;
        while plan.rounds.is_none_or(|rounds| round < rounds) {
            if !play_once(&files, &plan, &sender) {
                return;
            }
            round += 1;
        }
    });
    receiver
}

/// One round; false when there is no use in another one.
fn play_once(files: &SpoolFiles, plan: &Plan, sender: &mpsc::Sender<Result<Message, BadRecord>>) -> bool {
    let mut clock = None;
    let mut any = false;
    for record in files.records(spool::position(plan.from)) {
        let item = match record {
            Ok(record) if spool::is_beyond(&record, plan.to) => break,
            Ok(record) => {
                any = true;
                let clock = clock.get_or_insert_with(|| Clock::start(record.time));
                wait_until(clock.due(record.time, plan.pace), sender);
                Ok(record.message)
            }
            Err(bad) => Err(bad),
        };
        if sender.blocking_send(item).is_err() {
            return false;
        }
    }
    any
}

/// Sleeps, in pieces so that an end of the command is noticed.
fn wait_until<T>(due: Option<Instant>, sender: &mpsc::Sender<T>) {
    const PIECE: Duration = Duration::from_millis(500);
    while let Some(rest) = due.and_then(|due| due.checked_duration_since(Instant::now())) {
        if rest.is_zero() || sender.is_closed() {
            return;
        }
        std::thread::sleep(rest.min(PIECE));
    }
}

/// One round's time.
struct Clock {
    started: Instant,
    first: SystemTime,
    played: u32,
}

impl Clock {
    fn start(first: SystemTime) -> Clock {
        Clock { started: Instant::now(), first, played: 0 }
    }

    /// When the next record of the round, recorded at `time`, is due; `None` is at once.
    fn due(&mut self, time: SystemTime, pace: Pace) -> Option<Instant> {
        let after = match pace {
            Pace::Fast => return None,
            Pace::Rate(rate) => Duration::from_secs(1).checked_mul(self.played)? / rate.max(1),
            Pace::Speed(factor) => {
                let gap = time.duration_since(self.first).unwrap_or_default();
                Duration::try_from_secs_f64(gap.as_secs_f64() / factor).unwrap_or(Duration::MAX)
            }
        };
        self.played = self.played.saturating_add(1);
        // What is too far to be counted is a century away at least.
        Some(self.started.checked_add(after).unwrap_or_else(|| self.started + Duration::from_secs(u32::MAX.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_as_recorded_or_as_asked() {
        let ms = Duration::from_millis;
        let first = SystemTime::UNIX_EPOCH + ms(5000);
        let after = |pace| {
            let mut clock = Clock::start(first);
            let started = clock.started;
            [0, 100, 250].map(|gap| clock.due(first + ms(gap), pace).map(|due| due - started))
        };
        assert_eq!(after(Pace::Speed(1.0)), [ms(0), ms(100), ms(250)].map(Some));
        assert_eq!(after(Pace::Speed(0.5)), [ms(0), ms(200), ms(500)].map(Some));
        assert_eq!(after(Pace::Speed(10.0)), [ms(0), ms(10), ms(25)].map(Some));
        assert_eq!(after(Pace::Rate(4)), [ms(0), ms(250), ms(500)].map(Some));
        assert_eq!(after(Pace::Fast), [None; 3]);
        // A clock that was set back, a pace beyond all times: no panic.
        let mut clock = Clock::start(first);
        assert_eq!(clock.due(first - ms(1), Pace::Speed(1.0)), Some(clock.started));
        assert!(clock.due(first + ms(1 << 40), Pace::Speed(f64::MIN_POSITIVE)).is_some());
    }
}
