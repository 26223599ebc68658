//! Threads instead of tasks: workers that ask for ranges of numbers, and count the primes in them.
//!
//! Work that keeps a processor busy belongs into threads, and its sockets may then wait there, too: the types of
//! `ginnel::blocking` need no runtime, `async` or `await`. (The stage around this story is made for tasks, so each part
//! gets a thread from it.) Needs the feature: `cargo run --example blocking --features blocking`.

mod common;

use common::{Outcome, Part, Stage, check, number};
use ginnel::blocking::{Pull, Push, Rep, Req};

const RANGES: u64 = 100;
const WIDTH: u64 = 1_000;
const WORKERS: usize = 3;
/// Below 100,000.
const PRIMES: u64 = 9_592;

async fn play(part: Part) -> Outcome {
    tokio::task::spawn_blocking(move || match part.role.as_str() {
        "giver" => giver(&part),
        "worker" => worker(&part),
        _ => adder(&part),
    })
    .await?
}

/// Gives each range to whoever asks next, and in the end tells every worker that there are no more.
fn giver(part: &Part) -> Outcome {
    let mut rep = Rep::bind(part.bind())?;
    part.say_endpoint(&rep);
    let mut ranges = (0..RANGES).map(|range| range * WIDTH);
    let mut dismissed = 0;
    while dismissed < WORKERS {
        let request = rep.recv()?;
        match ranges.next() {
            Some(start) => request.reply(start.to_string())?,
            None => {
                dismissed += 1;
                request.reply("no more")?
            }
        };
    }
    rep.close();
    Ok(())
}

/// Endpoints: the giver's, the adder's.
fn worker(part: &Part) -> Outcome {
    let (giver, adder) = (Req::connect(part.endpoint(0)?)?, Push::connect(part.endpoint(1)?)?);
    let mut done = 0;
    while let Ok(start) = number(&giver.request("which next?")?[0]) {
        let primes = (start..start + WIDTH).filter(|&n| is_prime(n)).count();
        adder.send(primes.to_string())?;
        done += 1;
    }
    // Waits until all is written: the background thread ends with the process.
    adder.close();
    part.say(format!("did {done} ranges"));
    Ok(())
}

fn is_prime(n: u64) -> bool {
    n > 1 && (2..).take_while(|divisor| divisor * divisor <= n).all(|divisor| !n.is_multiple_of(divisor))
}

fn adder(part: &Part) -> Outcome {
    let mut pull = Pull::bind(part.bind())?;
    part.say_endpoint(&pull);
    let mut primes = 0;
    for count in pull.iter().take(RANGES as usize) {
        primes += number(&count?[0])?;
    }
    part.say(format!("primes {primes}"));
    check(primes == PRIMES, format!("there are {PRIMES} primes below {}", RANGES * WIDTH))
}

async fn story(stage: Stage) -> Outcome {
    let mut adder = stage.start("adder", &[], &[])?;
    let adder_at = adder.wait_for("endpoint").await?;
    let mut giver = stage.start("giver", &[], &[])?;
    let giver_at = giver.wait_for("endpoint").await?;
    let mut workers = Vec::new();
    for name in ["one", "two", "three"] {
        workers.push(stage.start("worker", &[&giver_at, &adder_at], &[name])?);
    }
    check(workers.len() == WORKERS, "the giver waits for all of them")?;
    for worker in workers {
        worker.finish().await?;
    }
    giver.finish().await?;
    adder.wait_for("primes").await?;
    adder.finish().await
}

fn main() -> std::process::ExitCode {
    let about = "Blocking sockets: threads that ask for work, count primes, and report.";
    common::run("blocking", about, &["giver (binds)", "worker", "adder (binds)"], play, story)
}
