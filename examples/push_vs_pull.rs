//! The same jobs given out twice to a fast and a slow consumer: pushed in turn, and pulled on demand.
//!
//! PUSH needs no questions: a job is on its way as soon as it exists, but a slow consumer gets its share like any
//! other. With REQ/REP as credit ("give me one") the fast one does more, at the price of a round trip for each job
//! and of questions that find nothing. The table shows both; the numbers depend on the machine.

mod common;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Outcome, Part, Stage, check, number};
use ginnel::{Message, Pull, Push, Rep, Req, SendError};

const JOBS: u64 = 100;
const PACE: Duration = Duration::from_millis(3);
const RETRY: Duration = Duration::from_millis(4);

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "pusher" => pusher(part).await,
        "giver" => giver(part).await,
        "consumer" => consumer(part).await,
        _ => ledger(part).await,
    }
}

/// Microseconds since 1970: comparable between processes of one machine.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

async fn pusher(mut part: Part) -> Outcome {
    let push = Push::bind(part.bind()).await?;
    part.say_endpoint(&push);
    push.wait_for_peers(2).await?;
    let mut clock = tokio::time::interval(PACE);
    for job in 0..JOBS {
        clock.tick().await;
        push.send((job.to_string(), now().to_string())).await?;
    }
    part.hear().await;
    Ok(())
}

async fn giver(mut part: Part) -> Outcome {
    let mut rep = Rep::bind(part.bind()).await?;
    part.say_endpoint(&rep);
    rep.wait_for_peers(2).await?;
    let mut clock = tokio::time::interval(PACE);
    let mut next = 0..JOBS;
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            _ = clock.tick() => waiting.extend(next.next().map(|job| (job.to_string(), now().to_string()))),
            request = rep.recv() => {
                let reply = waiting.pop_front().map_or_else(|| Message::from("nothing"), Message::from);
                match request?.reply(reply).await {
                    Err(SendError::NoRoute(_)) => {} // Who asked has left.
                    sent => drop(sent?),
                }
            }
            _ = part.hear() => return Ok(()),
        }
    }
}

/// Endpoints: the producer's, the ledger's. Words: its name, "push" or "pull", milliseconds of work for each job.
async fn consumer(part: Part) -> Outcome {
    let (name, model): (String, String) = (part.word(0, "fast".into())?, part.word(1, "push".into())?);
    let work = Duration::from_millis(part.word(2, 1)?);
    let ledger = Push::connect(part.endpoint(1)?)?;
    let mut source = match model.as_str() {
        "push" => Source::Pushed(Pull::connect(part.endpoint(0)?)?),
        _ => Source::Asked(Req::connect(part.endpoint(0)?)?),
    };
    loop {
        let message = source.next().await?;
        let [job, made] = &message[..] else {
            ledger.send((name.clone(), "nothing")).await?;
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let latency = now().saturating_sub(number(made)?);
        tokio::time::sleep(work).await;
        ledger.send((name.clone(), job.clone(), latency.to_string())).await?;
    }
}

enum Source {
    Pushed(Pull),
    Asked(Req),
}

impl Source {
    async fn next(&mut self) -> Outcome<Message> {
        match self {
            Source::Pushed(pull) => Ok(pull.recv().await?),
            Source::Asked(req) => Ok(req.request("give me one").await?),
        }
    }
}

/// Writes down who did what until every job is done.
async fn ledger(part: Part) -> Outcome {
    let mut pull = Pull::bind(part.bind()).await?;
    part.say_endpoint(&pull);
    let mut done = BTreeSet::new();
    let mut shares: HashMap<String, u64> = HashMap::new();
    let (mut total, mut worst, mut in_vain) = (0, 0, 0);
    while done.len() < JOBS as usize {
        let message = pull.recv().await?;
        let [name, job, latency] = &message[..] else {
            in_vain += 1;
            continue;
        };
        check(done.insert(number(job)?), "a job was done twice")?;
        *shares.entry(name.to_str()?.into()).or_default() += 1;
        let latency = number(latency)?;
        (total, worst) = (total + latency, worst.max(latency));
    }
    let share = |name| shares.get(name).copied().unwrap_or_default();
    let (mean, worst) = (total as f64 / JOBS as f64 / 1000.0, worst as f64 / 1000.0);
    let (fast, slow) = (share("fast"), share("slow"));
    part.say(format!("row {fast:>9} {slow:>9} {mean:>9.1} ms {worst:>9.1} ms {in_vain:>8}"));
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let mut rows = Vec::new();
    for (model, role) in [("push", "pusher"), ("pull", "giver")] {
        let mut ledger = stage.start("ledger", &[], &[])?;
        let ledger_at = ledger.wait_for("endpoint").await?;
        let mut producer = stage.start(role, &[], &[])?;
        let jobs_at = producer.wait_for("endpoint").await?;
        let mut consumers = Vec::new();
        for (name, work) in [("fast", "1"), ("slow", "10")] {
            consumers.push(stage.start("consumer", &[&jobs_at, &ledger_at], &[name, model, work])?);
        }
        rows.push(format!("{model:<6} {}", ledger.wait_for("row").await?));
        ledger.finish().await?;
        for consumer in consumers {
            consumer.kill().await;
        }
        producer.tell("end");
        producer.finish().await?;
    }
    common::print(format!(
        "\n{JOBS} jobs, one each {PACE:?}; the fast consumer works 1 ms on each, the slow one 10 ms\n"
    ));
    common::print("model  fast did  slow did    mean wait    longest wait  in vain");
    rows.into_iter().for_each(common::print);
    Ok(())
}

fn main() -> std::process::ExitCode {
    let about = "Push and pull compared: one fast and one slow consumer.";
    common::run("push_vs_pull", about, &["pusher (binds)", "giver (binds)", "consumer", "ledger (binds)"], play, story)
}
