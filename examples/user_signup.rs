//! Signing up: an account, a mail, a text message, and an answer that does not wait for the last two.
//!
//! The site writes "send this mail" and "send this text" into two durable queues and answers when both are on disk.
//! Two pools of workers take from them, each at its own pace. When the mail server becomes slow its queue grows; the
//! answers stay as quick as before, and every mail is sent in the end.

mod common;

use std::time::{Duration, Instant};

use common::folder::until;
use common::{Actor, Folder, Outcome, Part, Stage, check, number};
use ginnel::{Pull, Push};

const USERS: u64 = 100;
const QUICK_MS: u64 = 2;
const SLOW_MS: u64 = 60;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "site" => site(part).await,
        _ => worker(part).await,
    }
}

/// Word: the directory of its spools. Endpoints, optional: where to bind mails and texts. Hears "sign-up COUNT",
/// "drain", "end".
async fn site(mut part: Part) -> Outcome {
    let directory = part.path(0)?;
    let mails = Push::builder().spool(directory.join("mails")).bind(part.bind()).await?;
    let texts = Push::builder().spool(directory.join("texts")).bind(part.bind_at(1)).await?;
    part.say_endpoint_of("mails", &mails);
    part.say_endpoint_of("texts", &texts);
    let waiting = |push: &Push| push.spool().map_or(0, |spool| spool.names().iter().map(|it| it.lag_records).sum());
    while let Some(line) = part.hear().await {
        match line.split_once(' ') {
            Some(("sign-up", count)) => {
                let mut times = Vec::new();
                for user in 0..number(count)? {
                    let asked = Instant::now();
                    // Both at once, then wait for both: one sync each, at the same time.
                    let mail = mails.enqueue(format!("user-{user}")).await?;
                    let text = texts.enqueue(format!("user-{user}")).await?;
                    mail.await?;
                    text.await?;
                    times.push(asked.elapsed().as_micros());
                }
                times.sort_unstable();
                let (mails, texts): (u64, u64) = (waiting(&mails), waiting(&texts));
                part.say(format!("behind: {mails} mails and {texts} texts"));
                part.say(format!("answered {} {}", times[times.len() / 2], times[times.len() - 1]));
            }
            None if line == "drain" => {
                until(|| waiting(&mails) + waiting(&texts) == 0).await;
                part.say("drained");
            }
            _ => break,
        }
    }
    mails.close().await;
    texts.close().await;
    Ok(())
}

/// Words: what it sends; how many milliseconds that takes. Hears "end".
async fn worker(mut part: Part) -> Outcome {
    let (kind, takes): (String, u64) = (part.word(0, "mail".into())?, part.word(1, QUICK_MS)?);
    let mut pull = Pull::builder().durable(kind).recv_hwm(4).connect(part.endpoint(0)?)?;
    let mut done = 0;
    loop {
        let message = tokio::select! { message = pull.recv() => message?, _ = part.hear() => break };
        tokio::time::sleep(Duration::from_millis(takes)).await; // Here it would talk to a server.
        drop(message);
        done += 1;
    }
    pull.close().await;
    part.say(format!("sent {done}"));
    Ok(())
}

/// Three workers for mails and one for texts.
fn pool(stage: &Stage, mails: &str, texts: &str, mail_ms: u64) -> Outcome<Vec<Actor>> {
    let mail = || stage.start("worker", &[mails], &["mail", &mail_ms.to_string()]);
    Ok(vec![mail()?, mail()?, mail()?, stage.start("worker", &[texts], &["text"])?])
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("user_signup")?;
    let mut site = stage.start("site", &[], &[&folder.path("spools")])?;
    let (mails, texts) = (site.wait_for("mails").await?, site.wait_for("texts").await?);
    for mail_ms in [QUICK_MS, SLOW_MS] {
        common::print(format!("A mail takes {mail_ms} ms now."));
        let workers = pool(&stage, &mails, &texts, mail_ms)?;
        site.tell(format!("sign-up {USERS}"));
        let times = site.wait_for("answered").await?;
        let (median, longest) = times.split_once(' ').ok_or("two times")?;
        common::print(format!("answered in {median} µs (median), {longest} µs (longest)"));
        site.tell("drain");
        site.wait_for("drained").await?;
        let mut sent = Vec::new();
        for mut worker in workers {
            worker.tell("end");
            sent.push(number(worker.wait_for("sent").await?)?);
            worker.finish().await?;
        }
        check(sent[..3].iter().sum::<u64>() == USERS && sent[3] == USERS, "a mail or a text each, and no more")?;
    }
    site.tell("end");
    site.finish().await
}

fn main() -> std::process::ExitCode {
    let about = "Signing up stays quick while mail is slow: two durable queues, two pools of workers.";
    common::run("user_signup", about, &["site (binds)", "worker"], play, story)
}
