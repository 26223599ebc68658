//! Later, again, and never: messages with a time, messages that fail, messages that can be no good.
//!
//! An office sends reminders for later (`send_at`): they wait on disk, also while the office is shut, and one that is
//! not needed any more is withdrawn (`cancel`). It also sends letters to a printer that jams. The printer gives a
//! letter back with `retry`, waiting twice as long after each try; letters that fail at every try are put aside as
//! dead letters after `max_tries`, in a log of their own. Somebody reads them there, mends them and sends them again.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use common::folder::{bind_again, until};
use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::spool::SpoolFiles;
use ginnel::{Ack, Pull, Push};

/// The reminders are due so long after they were sent, in an order of their own. The one of an hour is withdrawn: in
/// time on any machine, and this story would not end if it were still waited for.
const REMINDERS_MS: [u64; 4] = [900, 300, 3_600_000, 600];
const WITHDRAWN: usize = 2;
const LETTERS: u64 = 20;
const MAX_TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "office" => office(part).await,
        _ => printer(part).await,
    }
}

/// Word: the spool's directory. Hears "reminders", "letters", "mend", "drain", "end".
async fn office(mut part: Part) -> Outcome {
    let directory = part.path(0)?;
    let builder = Push::builder().spool(&directory).max_tries(MAX_TRIES);
    let push = bind_again(builder, &part.bind()).await?;
    let spool = push.spool().ok_or("it has one")?;
    part.say_endpoint(&push);
    while let Some(line) = part.hear().await {
        match line.as_str() {
            "reminders" => {
                let mut receipts = Vec::new();
                for ms in REMINDERS_MS {
                    let due = SystemTime::now() + Duration::from_millis(ms);
                    let text = due.duration_since(SystemTime::UNIX_EPOCH)?.as_micros().to_string();
                    receipts.push(push.send_at(("reminder", text), due).await?);
                }
                check(spool.cancel(receipts[WITHDRAWN]), "it was in time")?;
                // Three, or fewer where the machine was so slow that some are due already.
                part.say(format!("withdrawn one, waiting for its time: {}", spool.stats().delayed));
            }
            "letters" => {
                push.send_all((0..LETTERS).map(|n| ("letter", n.to_string()))).await?;
            }
            "drain" => {
                let lag = || spool.names().iter().map(|queue| queue.lag_records).sum::<u64>();
                // A dead letter is counted when it is on disk in its own log, a moment after it left the queue.
                until(|| spool.stats().delayed + lag() == 0 && spool.stats().dead_letters >= dead_letters()).await;
                part.say(format!("dead {}", spool.stats().dead_letters));
            }
            "mend" => {
                for record in SpoolFiles::open(&directory)?.dead_letters() {
                    let letter = record?.message;
                    part.say(format!("mends letter {}", letter[1].to_str()?));
                    push.send(("mended letter", letter[1].clone())).await?;
                }
                part.say("mended");
            }
            _ => break,
        }
    }
    push.close().await;
    Ok(())
}

/// Some letters jam once or twice, some always.
fn jams(letter: u64, tries: u32) -> bool {
    match letter % 10 {
        3 => tries <= 2,
        5 => tries <= 1,
        7 => true,
        _ => false,
    }
}

/// How many jam always.
fn dead_letters() -> u64 {
    (0..LETTERS).filter(|letter| jams(*letter, MAX_TRIES)).count() as u64
}

/// Prints until it hears "end", and says how often each letter was tried.
async fn printer(mut part: Part) -> Outcome {
    let builder = Pull::builder().durable("printer").ack(Ack::Manual);
    let mut mail = builder.connect(part.endpoint(0)?)?;
    let mut printed = BTreeMap::new();
    loop {
        let delivery = tokio::select! { delivery = mail.recv_delivery() => delivery?, _ = part.hear() => break };
        let (kind, word) = (delivery.message()[0].to_str()?, number(&delivery.message()[1])?);
        match kind {
            "reminder" => {
                let due = SystemTime::UNIX_EPOCH + Duration::from_micros(word);
                let (early, late) = (due.duration_since(SystemTime::now()), due.elapsed().unwrap_or_default());
                // The spool's clock does not follow every little step of the machine's.
                check(early.unwrap_or_default() < Duration::from_millis(20), "a reminder came before its time")?;
                part.say(format!("reminder {} ms late", late.as_millis()));
            }
            "letter" if jams(word, delivery.tries()) => {
                let pause = FIRST_PAUSE * 2u32.pow(delivery.tries() - 1);
                part.say(format!("jam at letter {word}, try {}: again in {} ms", delivery.tries(), pause.as_millis()));
                delivery.retry(pause);
                continue;
            }
            _ => *printed.entry(word).or_insert(0) += 1,
        }
        delivery.ack();
    }
    mail.close().await;
    check(printed.keys().copied().eq(0..LETTERS), "every letter should be printed in the end")?;
    check(printed.values().all(|times| *times == 1), "and once")?;
    part.say(format!("printed {}", printed.len()));
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("delayed_and_dead_letter")?;
    let spool = folder.path("spool");
    let mut office = stage.start("office", &[], &[&spool])?;
    office.tell("reminders");
    office.wait_for("withdrawn").await?;
    office.kill().await;
    common::print("The office was killed. Its reminders are on disk.");

    let mut office = stage.start("office", &[], &[&spool])?;
    let endpoint = office.wait_for("endpoint").await?;
    let mut printer = stage.start("printer", &[&endpoint], &[])?;
    office.tell("letters");
    for _ in 1..REMINDERS_MS.len() {
        printer.wait_for("reminder").await?;
    }
    office.tell("drain");
    let dead = number(office.wait_for("dead").await?)?;
    common::print(format!("{dead} letters were put aside after {MAX_TRIES} tries."));
    check(dead == dead_letters(), format!("it should be {}", dead_letters()))?;

    office.tell("mend");
    office.wait_for("mended").await?;
    office.tell("drain");
    office.wait_for("dead").await?;
    printer.tell("end");
    printer.wait_for("printed").await?;
    printer.finish().await?;
    office.tell("end");
    office.finish().await
}

fn main() -> std::process::ExitCode {
    let about = "Messages for later, messages that fail and are tried again, and those that are put aside.";
    common::run("delayed_and_dead_letter", about, &["office (binds)", "printer"], play, story)
}
