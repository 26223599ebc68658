//! Ventilator, workers, sink: jobs go out by PUSH, results come back by PUSH.
//!
//! More workers, more speed, and nobody has to be told. One is killed in the middle of its work: what it had is
//! lost, since ZMTP has no acknowledgement. The sink finds out which results are missing and has those jobs sent
//! again; results that come twice are recognised by their number.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{Actor, Outcome, Part, Stage, check, number};
use ginnel::{Pull, Push, RecvError};

/// A job mostly waits, as jobs do that read files or ask other services.
const WORK: Duration = Duration::from_millis(5);
const JOBS: u64 = 120;
/// Without a result for so long, the sink asks for what is missing. Too short costs work done twice, no more.
const QUIET: Duration = Duration::from_millis(500);

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "ventilator" => ventilator(part).await,
        "worker" => worker(part).await,
        _ => sink(part).await,
    }
}

/// Hears "workers N": waits for them. Hears "jobs N N …": sends these. Hears "end".
async fn ventilator(mut part: Part) -> Outcome {
    let push = Push::bind(part.bind()).await?;
    part.say_endpoint(&push);
    while let Some(line) = part.hear().await {
        match line.split_once(' ') {
            Some(("workers", count)) => {
                push.wait_for_peers(number(count)? as usize).await?;
                part.say("ready");
            }
            Some(("jobs", jobs)) => {
                for job in jobs.split(' ') {
                    push.send(job).await?;
                }
            }
            _ => break,
        }
    }
    push.close().await;
    Ok(())
}

/// Endpoints: the ventilator's, the sink's. Word: its name.
async fn worker(part: Part) -> Outcome {
    let mut jobs = Pull::connect(part.endpoint(0)?)?;
    let results = Push::connect(part.endpoint(1)?)?;
    loop {
        let job = jobs.recv().await?;
        tokio::time::sleep(WORK).await;
        let n = number(&job[0])?;
        results.send((n.to_string(), (n * n).to_string())).await?;
    }
}

/// Hears "expect FROM TO": collects these results. Hears "end".
async fn sink(mut part: Part) -> Outcome {
    let mut pull = Pull::bind(part.bind()).await?;
    part.say_endpoint(&pull);
    while let Some(line) = part.hear().await {
        let Some((from, to)) = line.strip_prefix("expect ").and_then(|range| range.split_once(' ')) else { break };
        let jobs = number(from)?..number(to)?;
        let began = Instant::now();
        let mut open: BTreeSet<u64> = jobs.clone().collect();
        let half = open.len() / 2;
        while !open.is_empty() {
            match pull.recv_timeout(QUIET).await {
                Ok(result) => {
                    let (job, square) = (number(&result[0])?, number(&result[1])?);
                    check(square == job * job, format!("{job} squared is not {square}"))?;
                    if open.remove(&job) && open.len() == half {
                        part.say("half");
                    }
                }
                Err(RecvError::Timeout) => part.say(format!("missing {}", list(open.iter().copied()))),
                Err(why) => return Err(why.into()),
            }
        }
        part.say(format!("complete {}", began.elapsed().as_millis()));
    }
    Ok(())
}

fn list(jobs: impl Iterator<Item = u64>) -> String {
    jobs.map(|job| job.to_string()).collect::<Vec<_>>().join(" ")
}

async fn story(stage: Stage) -> Outcome {
    let mut ventilator = stage.start("ventilator", &[], &[])?;
    let jobs = ventilator.wait_for("endpoint").await?;
    let mut sink = stage.start("sink", &[], &[])?;
    let results = sink.wait_for("endpoint").await?;

    let mut workers = Vec::new();
    let mut times = Vec::new();
    for (round, count) in (0..).zip([1, 4]) {
        while workers.len() < count {
            let name = (workers.len() + 1).to_string();
            workers.push(stage.start("worker", &[&jobs, &results], &[&name])?);
        }
        start_round(&mut ventilator, &sink, count, round * JOBS).await?;
        times.push(number(sink.wait_for("complete").await?)?);
    }
    common::print(format!("{JOBS} jobs: {} ms with one worker, {} ms with four", times[0], times[1]));

    start_round(&mut ventilator, &sink, 4, 2 * JOBS).await?;
    sink.wait_for("half").await?;
    workers.remove(0).kill().await;
    common::print("worker 1 was killed; its jobs are gone with it");
    // Either the rest is complete without it, or something is missing and sent again.
    loop {
        let line = sink.next_line().await?;
        match line.split_once(' ') {
            Some(("missing", lost)) => {
                common::print(format!("{} jobs are sent again", lost.split(' ').count()));
                ventilator.tell(format!("jobs {lost}"));
            }
            Some(("complete", _)) => break,
            _ => {}
        }
    }
    ventilator.finish().await?;
    sink.finish().await
}

async fn start_round(ventilator: &mut Actor, sink: &Actor, workers: usize, first: u64) -> Outcome {
    ventilator.tell(format!("workers {workers}"));
    ventilator.wait_for("ready").await?;
    sink.tell(format!("expect {first} {}", first + JOBS));
    ventilator.tell(format!("jobs {}", list(first..first + JOBS)));
    Ok(())
}

fn main() -> std::process::ExitCode {
    let about = "Ventilator, workers, sink: more workers, more speed; one is killed, nothing is missing.";
    common::run("pipeline", about, &["ventilator (binds)", "worker", "sink (binds)"], play, story)
}
