//! A subscriber that comes and goes: it misses what is published meanwhile, and the publisher counts it.
//!
//! PUB sends to who is there. Nothing is kept for who is not: each such message counts as dropped, reason
//! `NoPeer`. The subscriber finds the same number by looking at the numbers in the messages.

mod common;

use common::{Outcome, Part, Stage, check, number};
use ginnel::{DropReason, Event, Monitor, Pub, Sub};

const TOPIC: &str = "prices.gold";
/// Published while the subscriber is there, away, and there again.
const PRESENT: u64 = 100;
const ABSENT: u64 = 50;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "publisher" => publisher(part).await,
        _ => subscriber(part).await,
    }
}

async fn publisher(part: Part) -> Outcome {
    let publisher = Pub::bind(part.bind()).await?;
    let mut monitor = publisher.monitor();
    part.say_endpoint(&publisher);

    publisher.wait_for_subscribers(1).await?;
    publish(&publisher, 0..PRESENT).await?;
    disconnected(&mut monitor).await;
    publish(&publisher, PRESENT..PRESENT + ABSENT).await?;
    part.say(format!("dropped {}", publisher.stats().drops.get(DropReason::NoPeer)));

    publisher.wait_for_subscribers(1).await?;
    publish(&publisher, PRESENT + ABSENT..2 * PRESENT + ABSENT).await?;
    publisher.close().await;
    Ok(())
}

async fn publish(publisher: &Pub, numbers: std::ops::Range<u64>) -> Outcome {
    for n in numbers {
        publisher.send((TOPIC, n.to_string())).await?;
    }
    Ok(())
}

async fn disconnected(monitor: &mut Monitor) {
    while let Some(event) = monitor.recv().await {
        if matches!(event, Event::Disconnected { .. }) {
            return;
        }
    }
}

/// Word: the number that should come next; 0 unless given.
async fn subscriber(part: Part) -> Outcome {
    let mut next: u64 = part.word(0, 0)?;
    let mut sub = Sub::builder().subscribe(TOPIC).connect(part.endpoint(0)?)?;
    let mut missed = 0;
    for _ in 0..PRESENT {
        let message = sub.recv().await?;
        let n = number(&message[1])?;
        missed += n - next;
        next = n + 1;
    }
    part.say(format!("missed {missed}"));
    part.say(format!("next {next}"));
    Ok(()) // The socket is dropped, the connection ends.
}

async fn story(stage: Stage) -> Outcome {
    let mut publisher = stage.start("publisher", &[], &[])?;
    let endpoint = publisher.wait_for("endpoint").await?;

    let mut first = stage.start("subscriber", &[&endpoint], &[])?;
    check(first.wait_for("missed").await? == "0", "who is there misses nothing")?;
    let next = first.wait_for("next").await?;
    first.finish().await?;

    let dropped = publisher.wait_for("dropped").await?;
    let mut second = stage.start("subscriber", &[&endpoint], &[&next])?;
    let missed = second.wait_for("missed").await?;
    second.finish().await?;
    publisher.finish().await?;
    common::print(format!("missed {missed}, counted {dropped}"));
    check(missed == ABSENT.to_string() && dropped == missed, "what was missed and what was counted should agree")
}

fn main() -> std::process::ExitCode {
    let about = "A plain subscription: who is away misses messages, and the publisher counts them.";
    common::run("pubsub_plain", about, &["publisher (binds)", "subscriber"], play, story)
}
