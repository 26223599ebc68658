//! The tour: every everyday pattern at once, with a live table of what the sockets do.
//!
//! One hub owns five sockets. It publishes gold and silver prices (PUB), and orders that must not be lost (PUB with a
//! spool), gives out jobs (PUSH), collects results (PULL) and answers questions (REP). Around it: a subscriber to
//! prices that stays, one that comes and goes and counts what it missed, billing with a durable name that comes and
//! goes and misses nothing, a quick and a slow worker, a client. The table shows back-pressure at the slow worker: its
//! queue stands at the high-water mark, and the hub's sending waits for room. It also shows how billing's lag grows
//! while it is away, and falls when it is back.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{Folder, Outcome, Part, Stage, check, number, screen};
use ginnel::{DropReason, NameStats, Pub, Pull, Push, Rep, Req, Socket, Spool, Sub};

const PRICE_EVERY: Duration = Duration::from_millis(5);
/// Gold prices that the visitor takes on its first visit.
const VISIT: u64 = 200;
/// It comes back after so many prices, and the hub stops soon after that.
const RETURN: u64 = 400;
const STOP: u64 = 700;
const QUESTIONS: u64 = 250;
const JOB: [u8; 8 * 1024] = [0; 8 * 1024];

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "hub" => hub(part).await,
        "subscriber" => subscriber(part).await,
        "billing" => billing(part).await,
        "worker" => worker(part).await,
        _ => client(part).await,
    }
}

/// Word: the directory of the orders' spool. Endpoints, all optional: where to bind prices, jobs, results, questions,
/// orders. Hears "finish".
async fn hub(mut part: Part) -> Outcome {
    let prices = Pub::bind(part.bind()).await?;
    // Small buffers of the operating system, so that the queue in the table is where jobs wait.
    let jobs = Push::builder().send_hwm(20).send_buffer(8 * 1024).bind(part.bind_at(1)).await?;
    let mut results = Pull::bind(part.bind_at(2)).await?;
    let mut questions = Rep::bind(part.bind_at(3)).await?;
    // What is published is kept for billing, also before it has come for the first time.
    let orders =
        Pub::builder().spool(part.path(0)?).declare("billing", [""]).linger(None).bind(part.bind_at(4)).await?;
    // Handles for the table: a socket's counters can be read from anywhere.
    let named: [(&'static str, Socket); 5] = [
        ("prices", Socket::clone(&prices)),
        ("jobs", Socket::clone(&jobs)),
        ("results", Socket::clone(&results)),
        ("questions", Socket::clone(&questions)),
        ("orders", Socket::clone(&orders)),
    ];
    named.iter().for_each(|(name, socket)| part.say_endpoint_of(name, socket));
    let mut table = Table::new();
    prices.wait_for_subscribers(2).await?;
    jobs.wait_for_peers(2).await?;

    let mut clock = tokio::time::interval(PRICE_EVERY);
    let mut beat = tokio::time::interval(Duration::from_millis(if screen::live() { 200 } else { 750 }));
    beat.tick().await; // The first one is at once, when there is nothing to see yet.
    let (mut published, mut given, mut returned) = (0, 0, 0);
    let mut finishing = false;
    while !finishing || returned < given {
        tokio::select! {
            _ = clock.tick(), if !finishing => {
                for metal in ["gold", "silver"] {
                    prices.send((metal, published.to_string())).await?;
                }
                // On its way to the disk; who wants to know when it is there awaits what this gives.
                drop(orders.enqueue(published.to_string()).await?);
                published += 1;
                if published % 100 == 0 {
                    part.say(format!("published {published}"));
                }
            }
            // Room first, then the job: nothing is taken back when another branch is quicker.
            permit = jobs.reserve(), if !finishing => {
                permit?.send((given.to_string(), JOB));
                given += 1;
            }
            result = results.recv() => {
                result?;
                returned += 1;
            }
            question = questions.recv() => {
                let question = question?;
                let answer = question.message()[0].to_str()?.to_uppercase();
                question.reply(answer).await?;
            }
            _ = beat.tick() => {
                let mut rows = table.rows(&named);
                rows.extend(orders.spool().into_iter().flat_map(names));
                screen::footer(rows);
            }
            _ = part.hear(), if !finishing => finishing = true,
        }
    }
    screen::release();
    for metal in ["gold", "silver"] {
        prices.send((metal, "end")).await?;
    }
    orders.send("end").await?;
    orders.close().await; // Waits until billing has acknowledged everything.
    prices.close().await;
    part.say(format!("unwanted {}", prices.stats().drops.get(DropReason::NoPeer)));
    part.say(format!("total {published}"));
    part.say(format!("jobs-done {returned}"));
    Ok(())
}

/// Words: gold or silver; the number it should get next; how many to take, where 0 is all.
async fn subscriber(part: Part) -> Outcome {
    let metal: String = part.word(0, "silver".into())?;
    let (mut next, take): (u64, u64) = (part.word(1, 0)?, part.word(2, 0)?);
    let mut sub = Sub::builder().subscribe(&metal).connect(part.endpoint(0)?)?;
    let (mut got, mut missed) = (0, 0);
    while take == 0 || got < take {
        let message = sub.recv().await?;
        if message[1] == "end" {
            break;
        }
        let n = number(&message[1])?;
        if n > next {
            part.say(format!("gap of {}", n - next));
        }
        missed += n - next;
        next = n + 1;
        got += 1;
    }
    part.say(format!("next {next}"));
    part.say(format!("got {got} missed {missed}"));
    Ok(())
}

/// Words: the order that it should get next; how many to take, where 0 is all.
async fn billing(part: Part) -> Outcome {
    let (mut next, take): (u64, u64) = (part.word(0, 0)?, part.word(1, 0)?);
    let last = if take == 0 { u64::MAX } else { next + take };
    let mut orders = Sub::builder().durable("billing").subscribe("").connect(part.endpoint(0)?)?;
    while next < last {
        let order = orders.recv().await?; // The one before is done now, and never comes again.
        if order[0] == "end" {
            break;
        }
        let n = number(&order[0])?;
        check(n <= next, format!("order {next} is missing, {n} came"))?;
        next = n + 1;
    }
    orders.ack_last();
    orders.close().await;
    part.say(format!("billed {next}"));
    Ok(())
}

/// Endpoints: jobs, results. Word: milliseconds that a job takes it.
async fn worker(part: Part) -> Outcome {
    let work = Duration::from_millis(part.word(0, 2)?);
    let mut jobs = Pull::builder().recv_hwm(4).recv_buffer(8 * 1024).connect(part.endpoint(0)?)?;
    let results = Push::connect(part.endpoint(1)?)?;
    loop {
        let job = jobs.recv().await?;
        tokio::time::sleep(work).await;
        results.send(job[0].clone()).await?;
    }
}

async fn client(part: Part) -> Outcome {
    let req = Req::connect(part.endpoint(0)?)?;
    let mut slowest = Duration::ZERO;
    for n in 0..QUESTIONS {
        let asked = Instant::now();
        let reply = req.request(format!("question {n}")).timeout(Duration::from_secs(60)).await?;
        check(reply[0] == format!("QUESTION {n}").as_str(), format!("question {n} got another's answer"))?;
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(PRICE_EVERY).await;
    }
    part.say(format!("answered {QUESTIONS}, the slowest in {:.1} ms", slowest.as_secs_f64() * 1000.0));
    Ok(())
}

/// The durable names of a spool, and how far they are behind.
fn names(spool: &Spool) -> Vec<String> {
    let row = |name: NameStats| {
        let whom = format!("{} ({})", name.name, if name.connected() { "here" } else { "away" });
        format!("{:<10} {whom:<29} {:>9}", "", format!("lag {}", name.lag_records))
    };
    spool.names().into_iter().map(row).collect()
}

/// Counters as text, with rates since the last time.
struct Table {
    seen: HashMap<(&'static str, String), (u64, u64)>,
    at: Instant,
}

impl Table {
    fn new() -> Table {
        Table { seen: HashMap::new(), at: Instant::now() }
    }

    fn rows(&mut self, sockets: &[(&'static str, Socket)]) -> Vec<String> {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        self.at = Instant::now();
        let mut seen = HashMap::new();
        let mut rows = vec![format!(
            "{:<10} {:<7} {:<21} {:>9} {:>6} {:>8} {:>8}",
            "SOCKET", "PEER", "ADDRESS", "QUEUE/HWM", "DROPS", "OUT/s", "IN/s"
        )];
        for (name, socket) in sockets {
            let stats = socket.stats();
            for peer in &stats.peers {
                let key = (*name, format!("{:?}", &peer.id[..]));
                let (sent, received) = (peer.messages_sent, peer.messages_received);
                let (old_sent, old_received) = self.seen.get(&key).copied().unwrap_or_default();
                let rate = |new: u64, old: u64| (new - old.min(new)) as f64 / seconds;
                rows.push(format!(
                    "{name:<10} {:<7} {:<21} {:>9} {:>6} {:>8.0} {:>8.0}",
                    peer.socket_type.map_or("-", |kind| kind.name()),
                    peer.address.trim_start_matches("tcp://"),
                    format!("{}/{}", peer.queued, peer.send_hwm),
                    peer.drops.total(),
                    rate(sent, old_sent),
                    rate(received, old_received),
                ));
                seen.insert(key, (sent, received));
            }
            let nobody = stats.drops.get(DropReason::NoPeer);
            if nobody > 0 {
                rows.push(format!("{name:<10} {:<29} {:>16}", "(nobody there)", nobody));
            }
        }
        self.seen = seen;
        rows
    }
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("tour")?;
    let mut hub = stage.start("hub", &[], &[&folder.path("orders")])?;
    let prices = hub.wait_for("prices").await?;
    let (jobs, results) = (hub.wait_for("jobs").await?, hub.wait_for("results").await?);
    let (questions, orders) = (hub.wait_for("questions").await?, hub.wait_for("orders").await?);

    let workers =
        [stage.start("worker", &[&jobs, &results], &["2"])?, stage.start("worker", &[&jobs, &results], &["10"])?];
    let client = stage.start("client", &[&questions], &[])?;
    let mut steady = stage.start("subscriber", &[&prices], &["silver"])?;
    let mut first = stage.start("subscriber", &[&prices], &["gold", "0", &VISIT.to_string()])?;
    let mut billing = stage.start("billing", &[&orders], &["0", &VISIT.to_string()])?;

    let next = first.wait_for("next").await?;
    first.finish().await?;
    let billed = billing.wait_for("billed").await?;
    billing.finish().await?;
    common::print("The gold subscriber and billing have left. Prices and orders go on.");
    while number(hub.wait_for("published").await?)? < RETURN {}
    let mut second = stage.start("subscriber", &[&prices], &["gold", &next])?;
    let mut billing = stage.start("billing", &[&orders], &[&billed])?;
    let missed = number(second.wait_for("gap of").await?)?;
    common::print(format!("Both are back. By the numbers {missed} prices were missed; no order was."));
    while number(hub.wait_for("published").await?)? < STOP {}
    client.finish().await?;
    hub.tell("finish");

    let unwanted = number(hub.wait_for("unwanted").await?)?;
    let total = number(hub.wait_for("total").await?)?;
    let done = hub.wait_for("jobs-done").await?;
    check(steady.wait_for("got").await? == format!("{total} missed 0"), "who stays should miss nothing")?;
    let got = total - VISIT - missed;
    check(second.wait_for("got").await? == format!("{got} missed {missed}"), "both visits and the gap should add up")?;
    check(unwanted <= missed, format!("{unwanted} prices were for nobody, but only {missed} were missed"))?;
    check(number(billing.wait_for("billed").await?)? == total, "billing should have every order")?;
    steady.finish().await?;
    second.finish().await?;
    billing.finish().await?;
    hub.finish().await?;
    for worker in workers {
        worker.kill().await;
    }
    common::print(format!(
        "\n{total} gold prices = {VISIT} on the first visit + {missed} missed + {got} on the second.\n\
         Of those missed the publisher counts {unwanted} as sent to nobody; {} were under way when it left.\n\
         {total} orders: {billed} on the first visit, {} on the second, none missed.\n\
         {done} jobs were given out and done; {QUESTIONS} questions were answered.",
        missed - unwanted,
        total - number(&billed)?
    ));
    Ok(())
}

fn main() -> std::process::ExitCode {
    let about = "The tour: prices, orders, jobs and questions around one hub, with subscribers that come and go.";
    common::run("tour", about, &["hub (binds)", "subscriber", "billing", "worker", "client"], play, story)
}
