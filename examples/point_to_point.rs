//! Point to point: every job goes to one worker, and stays until that worker has said that it is done.
//!
//! Nobody has to be there at the same time. The producer puts its jobs into a spool (a PUSH with a directory) and
//! ends before any worker exists. Started again it adds nothing, and a worker gets what is there. It is killed in the
//! middle, when another has come: what it had in hand goes to that one. A job that was done but not yet acknowledged is done twice;
//! such repeats are counted, and a lost job would end the example. (Without `spool` and `durable` the same sockets
//! keep jobs in memory, as in `hello`: faster, and gone with the process.)

mod common;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use common::folder::{lines, until};
use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::{Ack, Pull, Push};

const JOBS: u64 = 300;
const WORK: Duration = Duration::from_millis(4);
/// How many jobs a worker may have in hand: as many may be repeated when it dies.
const WINDOW: usize = 16;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "producer" => producer(part).await,
        _ => worker(part).await,
    }
}

/// Words: the spool's directory; how many jobs to add. With none to add it stays until all are done.
async fn producer(part: Part) -> Outcome {
    let push = Push::builder().spool(part.path(0)?).bind(part.bind()).await?;
    part.say_endpoint(&push);
    let jobs: u64 = part.word(1, 0)?;
    if jobs > 0 {
        // One wait for all of them: when it is over, they are on disk.
        push.send_all((0..jobs).map(|n| n.to_string())).await?;
    } else if let Some(spool) = push.spool() {
        // A PUSH has one queue for all its workers; it is behind until everything was acknowledged.
        until(|| spool.names().iter().all(|queue| queue.lag_records == 0)).await;
    }
    part.say(format!("kept {}", push.close().await.kept));
    Ok(())
}

/// Words: its name; the file for what it has done.
async fn worker(part: Part) -> Outcome {
    let name: String = part.word(0, "worker".into())?;
    let mut jobs = Pull::builder().durable(name).ack(Ack::Manual).recv_hwm(WINDOW).connect(part.endpoint(0)?)?;
    let mut book = OpenOptions::new().create(true).append(true).open(part.path(1)?)?;
    for done in 1.. {
        let job = jobs.recv_delivery().await?;
        tokio::time::sleep(WORK).await;
        writeln!(book, "{}", number(&job.message()[0])?)?;
        job.ack(); // Not before its effect is written: else a crash in between would lose the job.
        if done % 50 == 0 {
            part.say(format!("done {done}"));
        }
    }
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("point_to_point")?;
    let (spool, first_book, second_book) = (folder.path("spool"), folder.path("first"), folder.path("second"));
    let mut producer = stage.start("producer", &[], &[&spool, &JOBS.to_string()])?;
    check(number(producer.wait_for("kept").await?)? == JOBS, "every job should be kept")?;
    producer.finish().await?;
    common::print("The producer has ended. No worker was there yet.");

    let mut producer = stage.start("producer", &[], &[&spool])?;
    let endpoint = producer.wait_for("endpoint").await?;
    let mut first = stage.start("worker", &[&endpoint], &["first", &first_book])?;
    // The second one comes later: else it might have done everything before the first one has started.
    first.wait_for("done").await?;
    let second = stage.start("worker", &[&endpoint], &["second", &second_book])?;
    first.kill().await;
    common::print("The first worker was killed with jobs in hand.");
    check(producer.wait_for("kept").await? == "0", "nothing should be left")?;
    producer.finish().await?;
    second.kill().await;

    let (first, second) = (lines(first_book)?, lines(second_book)?);
    let all: BTreeSet<u64> = first.iter().chain(&second).map(number).collect::<Outcome<_>>()?;
    let repeats = first.len() + second.len() - all.len();
    common::print(format!("{} jobs by the first, {} by the second; {repeats} done twice.", first.len(), second.len()));
    check(all.iter().copied().eq(0..JOBS), "a job is missing")?;
    check(repeats <= WINDOW, "more repeats than jobs in hand")
}

fn main() -> std::process::ExitCode {
    let about = "Point to point: jobs wait on disk, one worker each; a worker is killed, no job is lost.";
    common::run("point_to_point", about, &["producer (binds)", "worker"], play, story)
}
