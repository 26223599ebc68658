//! The far end of a measurement: a sender for `thr`, an echo for `lat`.
//!
//! It takes one [`Order`] at a time and answers each with an [`Account`]. In a process of its own both are
//! lines of text on stdin and stdout; the end of stdin ends it.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ginnel::{Dealer, Message, Pub, Push, Rep, Router, SendError, Sender, Socket, Sync, TrySendError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::report::name;
use super::{Case, Cpu, Length, cpu};
use crate::args::{BenchKind, BenchPattern, BenchPeerArgs};
use crate::durable::{SpoolSettings, Spooler};
use crate::ends::Send;
use crate::exit::{self, Failure};
use crate::input;

/// What the near end asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Send so much, then give account. An echo gives account at once.
    Go(Length),
}

/// What the far end did for an order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) sent: u64,
    pub(super) drops: u64,
    /// Processor time of the far process so far.
    pub(super) cpu: Cpu,
}

impl Order {
    fn to_line(self) -> String {
        match self {
            Order::Go(Length::Count(count)) => format!("count {count}\n"),
            Order::Go(Length::Time(time)) => format!("time {}\n", time.as_micros()),
        }
    }

    fn from_line(line: &str) -> Option<Order> {
        let (word, number) = line.split_once(' ')?;
        let number = number.parse().ok()?;
        match word {
            "count" => Some(Order::Go(Length::Count(number))),
            "time" => Some(Order::Go(Length::Time(Duration::from_micros(number)))),
            _ => None,
        }
    }
}

impl Account {
    fn to_line(self) -> String {
        format!("{} {} {} {}\n", self.sent, self.drops, self.cpu.user, self.cpu.system)
    }

    fn from_line(line: &str) -> Option<Account> {
        let mut words = line.split(' ');
        let sent = words.next()?.parse().ok()?;
        let drops = words.next()?.parse().ok()?;
        let cpu = Cpu { user: words.next()?.parse().ok()?, system: words.next()?.parse().ok()? };
        Some(Account { sent, drops, cpu })
    }
}

/// The second process and its pipes.
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

/// The near end's handle on the far end.
pub(super) enum Far {
    Process(Box<Process>),
    Task { orders: mpsc::Sender<Order>, accounts: mpsc::Receiver<Account> },
}

impl Far {
    pub(super) fn start(case: &Case, endpoint: &str) -> Result<Far, Failure> {
        if case.in_process { Far::start_task(case, endpoint) } else { Far::start_process(case, endpoint) }
    }

    fn start_process(case: &Case, endpoint: &str) -> Result<Far, Failure> {
        let failure = |e| Failure::failed(format_args!("cannot start the second process: {e}"));
        let mut command = Command::new(std::env::current_exe().map_err(failure)?);
        if let Some(spool) = &case.spool {
            std::fs::create_dir_all(&spool.dir).map_err(failure)?;
        }
        let mut child = command
            .args(["-q", "bench-peer", &name(&case.pattern), &name(&case.kind), endpoint, &case.size.to_string()])
            .args(spool_flags(case.spool.as_ref()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failure)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::failed("the second process has no pipes"));
        };
        Ok(Far::Process(Box::new(Process { child, stdin, stdout: BufReader::new(stdout).lines() })))
    }

    fn start_task(case: &Case, endpoint: &str) -> Result<Far, Failure> {
        let (orders, mut order) = mpsc::channel(1);
        let (account, accounts) = mpsc::channel(1);
        let mut end = End::open(case.pattern, case.kind, endpoint, case.size, case.spool.as_ref())?;
        tokio::spawn(async move {
            while let Some(Order::Go(length)) = order.recv().await {
                let mut answer = end.carry_out(length).await;
                // One process: the near end counts its time already.
                answer.cpu = Cpu::default();
                if account.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Far::Task { orders, accounts })
    }

    pub(super) async fn order(&mut self, order: Order) -> Result<(), Failure> {
        let given = match self {
            Far::Process(process) => process.stdin.write_all(order.to_line().as_bytes()).await.is_ok(),
            Far::Task { orders, .. } => orders.send(order).await.is_ok(),
        };
        if given { Ok(()) } else { Err(gone()) }
    }

    /// The answer to the last order.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn account(&mut self) -> Result<Account, Failure> {
        match self {
            Far::Process(process) => {
                let line = process.stdout.next_line().await.ok().flatten().ok_or_else(gone)?;
                Account::from_line(&line).ok_or_else(|| Failure::failed("the second process talks nonsense"))
            }
            Far::Task { accounts, .. } => accounts.recv().await.ok_or_else(gone),
        }
    }

    /// Ends the far end and waits for it.
    pub(super) async fn end(self) {
        if let Far::Process(process) = self {
            let Process { mut child, stdin, .. } = *process;
            drop(stdin);
            // What it did has been counted; how it ends does not matter.
            let _ = child.wait().await;
        }
    }
}

fn spool_flags(spool: Option<&SpoolSettings>) -> Vec<OsString> {
    let Some(spool) = spool else { return Vec::new() };
    let mut flags = vec!["--spool".into(), spool.dir.clone().into_os_string()];
    if let Some(sync) = spool.sync {
        let when = match sync {
            Sync::Never => "never".to_owned(),
            Sync::Every(period) => format!("{}us", period.as_micros()),
            _ => "batch".to_owned(),
        };
        flags.extend(["--sync".into(), when.into()]);
    }
    flags
}

fn gone() -> Failure {
    Failure::failed("the other end of the measurement has ended")
}

/// The second process: orders from stdin, accounts to stdout.
pub(crate) async fn run_process(args: BenchPeerArgs) -> Result<i32, Failure> {
    let spool = SpoolSettings::from_args(&args.spool);
    let mut end = End::open(args.pattern, args.kind, &args.endpoint, args.size, spool.as_ref())?;
    let output = crate::output::Output::stdout().map_err(Failure::failed)?;
    let mut lines = input::lines();
    while let Some(Ok(line)) = lines.next().await {
        let order = std::str::from_utf8(&line).ok().and_then(Order::from_line);
        let Some(Order::Go(length)) = order else { return Err(Failure::usage("unknown order")) };
        let account = end.carry_out(length).await;
        output.write(account.to_line().into_bytes()).await.map_err(|e| exit::stdout_failure(&e))?;
    }
    Ok(exit::OK)
}

/// The socket of the far end.
enum End {
    Push(Push, Message),
    Pub(Pub, Message),
    Dealer(ginnel::Sender, Message),
    /// A task answers.
    Echo,
}

impl End {
    fn open(
        pattern: BenchPattern,
        kind: BenchKind,
        endpoint: &str,
        size: u64,
        spool: Option<&SpoolSettings>,
    ) -> Result<End, Failure> {
        let size = usize::try_from(size).map_err(Failure::usage)?;
        let message = Message::from(vec![b'x'; size]);
        Ok(match (kind, pattern) {
            (BenchKind::Thr, BenchPattern::PubSub) => {
                let builder = spool.map_or_else(Pub::builder, |spool| Pub::builder().with_spool(spool));
                End::Pub(builder.connect(endpoint).map_err(Failure::failed)?, message)
            }
            (BenchKind::Thr, BenchPattern::DealerRouter) => {
                End::Dealer(Dealer::connect(endpoint).map_err(Failure::failed)?.split().0, message)
            }
            (BenchKind::Thr, _) => {
                let builder = spool.map_or_else(Push::builder, |spool| Push::builder().with_spool(spool));
                End::Push(builder.connect(endpoint).map_err(Failure::failed)?, message)
            }
            (BenchKind::Lat, BenchPattern::DealerRouter) => {
                let socket = Router::connect(endpoint).map_err(Failure::failed)?;
                tokio::spawn(echo_router(socket));
                End::Echo
            }
            (BenchKind::Lat, _) => {
                let socket = Rep::connect(endpoint).map_err(Failure::failed)?;
                tokio::spawn(echo_rep(socket));
                End::Echo
            }
        })
    }

    async fn carry_out(&mut self, length: Length) -> Account {
        let (sent, drops) = match self {
            End::Push(socket, message) => send_from(socket, message, length).await,
            End::Pub(socket, message) => {
                // A publication before the subscription arrived would be for nobody.
                let _ = socket.wait_for_subscribers(1).await;
                send_from(socket, message, length).await
            }
            End::Dealer(socket, message) => send(socket, socket, message, length).await,
            End::Echo => (0, 0),
        };
        Account { sent, drops, cpu: cpu() }
    }
}

/// With a spool each message goes on its way at once, and all are waited for at the end.
async fn send_from(sender: &Sender, message: &Message, length: Length) -> (u64, u64) {
    if sender.spool().is_none() {
        return send(sender, sender, message, length).await;
    }
    let sent = send(&Enqueue(sender), sender, message, length).await;
    // A spool that has failed is short of messages at the other end.
    let _ = sender.flush().await;
    sent
}

struct Enqueue<'a>(&'a Sender);

impl Send for Enqueue<'_> {
    async fn send(&self, message: Message) -> Result<(), SendError<Message>> {
        self.0.enqueue(message).await.map(drop)
    }

    fn try_send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        self.0.try_send(message).map(drop)
    }
}

async fn send(sender: &impl Send, socket: &Socket, message: &Message, length: Length) -> (u64, u64) {
    let drops = socket.stats().drops.total();
    let sent = match length {
        Length::Count(count) => send_count(sender, message, count).await,
        Length::Time(time) => {
            /// Messages between two looks at the clock.
            const STEP: u64 = 64;
            let started = Instant::now();
            let mut sent = 0;
            while started.elapsed() < time {
                let step = send_count(sender, message, STEP).await;
                sent += step;
                if step < STEP {
                    break;
                }
            }
            sent
        }
    };
    drained(socket).await;
    (sent, socket.stats().drops.total() - drops)
}

/// Waits until nothing is queued: only then is it settled what a full queue has dropped.
async fn drained(socket: &Socket) {
    while socket.peers().iter().any(|peer| peer.queued > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn send_count(sender: &impl Send, message: &Message, count: u64) -> u64 {
    for sent in 0..count {
        if sender.send(message.clone()).await.is_err() {
            return sent;
        }
    }
    count
}

async fn echo_rep(mut socket: Rep) {
    while let Ok(request) = socket.recv().await {
        let reply = request.message().clone();
        if request.reply(reply).await.is_err() {
            return;
        }
    }
}

async fn echo_router(socket: Router) {
    let (sender, mut receiver) = socket.split();
    while let Ok((peer, message)) = receiver.recv().await {
        if sender.send_to(&peer, message).await.is_err() {
            return;
        }
    }
}
