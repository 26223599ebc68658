//! The near end of a measurement: it binds, gives orders and holds the clock.

use std::time::{Duration, Instant};

use ginnel::{Dealer, Message, Pull, Req, Router, Socket, Sub};
use hdrhistogram::Histogram;

use super::far::{Account, Far, Order};
use super::{Case, Length, Run, cpu};
use crate::args::{BenchArgs, BenchKind, BenchPattern, BenchTransport};
use crate::ends::Receive;
use crate::exit::Failure;

/// Silence of this length while messages are missing is a failure.
const SILENCE: Duration = Duration::from_secs(10);

/// The durable name of a receiver, with `--spool`.
const NAME: &str = "bench";

/// Warms up and measures `args.runs` runs.
pub(super) async fn measure(case: &Case, args: &BenchArgs) -> Result<Vec<Run>, Failure> {
    match (case.kind, case.pattern) {
        (BenchKind::Thr, BenchPattern::PubSub) => {
            let builder = Sub::builder().subscribe("");
            let builder = if case.spool.is_some() { builder.durable(NAME) } else { builder };
            let mut socket = builder.build().map_err(Failure::failed)?;
            let far = start(&socket, case).await?;
            throughput(&mut *socket, far, args).await
        }
        (BenchKind::Thr, BenchPattern::DealerRouter) => {
            let socket = Router::new();
            let far = start(&socket, case).await?;
            let (_sender, mut receiver) = socket.split();
            throughput(&mut receiver, far, args).await
        }
        (BenchKind::Thr, _) => {
            let builder = Pull::builder();
            let builder = if case.spool.is_some() { builder.durable(NAME) } else { builder };
            let mut socket = builder.build().map_err(Failure::failed)?;
            let far = start(&socket, case).await?;
            throughput(&mut *socket, far, args).await
        }
        (BenchKind::Lat, BenchPattern::DealerRouter) => {
            let socket = Dealer::new();
            let far = start(&socket, case).await?;
            let (sender, receiver) = socket.split();
            latency(Asker::Dealer(sender, Box::new(receiver)), far, case.size, args).await
        }
        (BenchKind::Lat, _) => {
            let socket = Req::new();
            let far = start(&socket, case).await?;
            latency(Asker::Req(socket), far, case.size, args).await
        }
    }
}

/// Binds `socket`, starts the far end and waits until both have met.
async fn start(socket: &Socket, case: &Case) -> Result<Far, Failure> {
    let endpoint = match case.transport {
        BenchTransport::Tcp => "tcp://127.0.0.1:*".to_owned(),
        BenchTransport::Ipc => "ipc://*".to_owned(),
        BenchTransport::Inproc => format!("inproc://bench-{}", case.size),
    };
    let endpoint = socket.bind_to(endpoint).await.map_err(Failure::failed)?;
    let mut far = Far::start(case, &endpoint.to_string())?;
    tokio::select! {
        met = socket.wait_for_peers(1) => met.map_err(Failure::failed)?,
        // No order was given: any answer means that it has ended.
        gone = far.account() => { gone?; }
    }
    Ok(far)
}

fn length(args: &BenchArgs) -> Length {
    args.count.map_or(Length::Time(args.time.unwrap_or(Duration::from_secs(5))), Length::Count)
}

async fn throughput(receiver: &mut impl Receive, mut far: Far, args: &BenchArgs) -> Result<Vec<Run>, Failure> {
    if !args.warmup.is_zero() {
        receive_run(receiver, &mut far, Length::Time(args.warmup)).await?;
    }
    let mut far_cpu = far_cpu(&mut far, receiver).await?;
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        let before = cpu();
        let (count, elapsed, account) = receive_run(receiver, &mut far, length(args)).await?;
        let spent = (cpu() - before) + (account.cpu - far_cpu);
        far_cpu = account.cpu;
        runs.push(Run { count, drops: account.drops, elapsed, cpu: spent, times: None });
    }
    far.end().await;
    Ok(runs)
}

/// The far end's processor time so far, by an order that sends nothing.
async fn far_cpu(far: &mut Far, receiver: &mut impl Receive) -> Result<super::Cpu, Failure> {
    Ok(receive_run(receiver, far, Length::Count(0)).await?.2.cpu)
}

/// One run: all that was sent and not dropped must arrive.
async fn receive_run(
    receiver: &mut impl Receive,
    far: &mut Far,
    length: Length,
) -> Result<(u64, Duration, Account), Failure> {
    far.order(Order::Go(length)).await?;
    let mut account: Option<Account> = None;
    let mut count = 0;
    let mut first = None;
    let mut last = Instant::now();
    loop {
        if let Some(account) = account.filter(|account| count >= account.sent.saturating_sub(account.drops)) {
            let elapsed = first.map_or(Duration::ZERO, |first| last.duration_since(first));
            let whole = count == account.sent.saturating_sub(account.drops);
            return if whole { Ok((count, elapsed, account)) } else { Err(missing(count, account)) };
        }
        let ordered = account.is_some();
        let received = async {
            match ordered {
                true => tokio::time::timeout(SILENCE, receiver.recv()).await.ok(),
                false => Some(receiver.recv().await),
            }
        };
        tokio::select! {
            biased;
            received = received => match received {
                Some(received) => drop(received.map_err(Failure::failed)?),
                None => return Err(missing(count, account.unwrap_or_default())),
            },
            given = far.account(), if !ordered => {
                account = Some(given?);
                continue;
            }
        }
        first.get_or_insert_with(Instant::now);
        count += 1;
        while receiver.try_recv().is_ok() {
            count += 1;
        }
        last = Instant::now();
    }
}

fn missing(count: u64, account: Account) -> Failure {
    let Account { sent, drops, .. } = account;
    Failure::failed(format_args!("{count} messages arrived, {sent} were sent and {drops} dropped"))
}

/// Who waits for the echo.
enum Asker {
    Req(Req),
    Dealer(ginnel::Sender, Box<ginnel::Receiver>),
}

impl Asker {
    async fn round_trip(&mut self, message: Message) -> Result<(), Failure> {
        match self {
            Asker::Req(socket) => socket.request(message).await.map(drop).map_err(Failure::failed),
            Asker::Dealer(sender, receiver) => {
                sender.send(message).await.map_err(|e| Failure::failed(e.map(drop)))?;
                receiver.recv().await.map(drop).map_err(Failure::failed)
            }
        }
    }
}

async fn latency(mut asker: Asker, mut far: Far, size: u64, args: &BenchArgs) -> Result<Vec<Run>, Failure> {
    let size = usize::try_from(size).map_err(Failure::usage)?;
    let message = Message::from(vec![b'x'; size]);
    if !args.warmup.is_zero() {
        ask(&mut asker, &message, Length::Time(args.warmup)).await?;
    }
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        let (before, far_before) = (cpu(), account_now(&mut far).await?.cpu);
        let (histogram, elapsed) = ask(&mut asker, &message, length(args)).await?;
        let spent = (cpu() - before) + (account_now(&mut far).await?.cpu - far_before);
        runs.push(Run { count: histogram.len(), drops: 0, elapsed, cpu: spent, times: Some(times(&histogram)) });
    }
    far.end().await;
    Ok(runs)
}

async fn account_now(far: &mut Far) -> Result<Account, Failure> {
    far.order(Order::Go(Length::Count(0))).await?;
    far.account().await
}

/// Round trips one after the other, in nanoseconds.
async fn ask(asker: &mut Asker, message: &Message, length: Length) -> Result<(Histogram<u64>, Duration), Failure> {
    // Three digits from one nanosecond to a minute.
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(Failure::failed)?;
    let started = Instant::now();
    let mut now = started;
    loop {
        let done = match length {
            Length::Count(count) => histogram.len() >= count,
            Length::Time(time) => now.duration_since(started) >= time,
        };
        if done {
            return Ok((histogram, now.duration_since(started)));
        }
        asker.round_trip(message.clone()).await?;
        let after = Instant::now();
        histogram.saturating_record(u64::try_from(after.duration_since(now).as_nanos()).unwrap_or(u64::MAX));
        now = after;
    }
}

fn times(histogram: &Histogram<u64>) -> [f64; 5] {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    [at(0.5), at(0.9), at(0.99), at(0.999), histogram.max() as f64 / 1e3]
}
