//! A durable subscription: who is away gets everything on return, in order, over restarts of the publisher.
//!
//! The publisher keeps what it publishes in a spool until every durable name that wants it has acknowledged it. Alice
//! takes some news and leaves. More is published; the publisher is killed and started again; more is published. Alice
//! returns and finds all of it. "archive" was declared before it ever connected, and gets everything from the first
//! message on. With one name that takes everything, PUB/SUB is point to point.
//!
//! Nothing is missing, but something may come twice: what a publisher that was killed had not yet noted as done. Who
//! keeps the number of its last message knows what it has.

mod common;

use common::folder::{bind_again, until};
use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::{Pub, Sub};

/// How many messages Alice takes before she leaves, and how many there are in the end.
const VISIT: u64 = 40;
const ALL: u64 = 300;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "publisher" => publisher(part).await,
        _ => subscriber(part).await,
    }
}

/// Word: the spool's directory. Hears "wait NAME", "publish FROM TO", "end".
async fn publisher(mut part: Part) -> Outcome {
    let builder = Pub::builder().spool(part.path(0)?).declare("archive", ["news."]);
    let publisher = bind_again(builder, &part.bind()).await?;
    let spool = publisher.spool().ok_or("it has one")?.clone();
    part.say_endpoint(&publisher);
    while let Some(line) = part.hear().await {
        match *line.split(' ').collect::<Vec<_>>() {
            ["wait", name] => {
                until(|| spool.names().iter().any(|known| known.name == name && known.connected())).await;
                part.say(format!("connected {name}"));
            }
            ["publish", from, to] => {
                let topic = |n| if n % 2 == 0 { "news.even" } else { "news.odd" };
                let messages = (number(from)?..number(to)?).map(|n| (topic(n), n.to_string()));
                publisher.send_all(messages).await?; // On disk when this is over.
                part.say(format!("published {to}"));
            }
            _ => break,
        }
    }
    // What was acknowledged may still be on its way here.
    until(|| spool.names().iter().all(|name| name.lag_records == 0)).await;
    part.say(format!("kept {}", publisher.close().await.kept));
    Ok(())
}

/// Words: its name; the number it needs next; the one after its last.
async fn subscriber(part: Part) -> Outcome {
    let name: String = part.word(0, "somebody".into())?;
    let (first, end): (u64, u64) = (part.word(1, 0)?, part.word(2, ALL)?);
    let mut sub = Sub::builder().durable(name).subscribe("news.").connect(part.endpoint(0)?)?;
    let (mut next, mut repeats) = (first, 0);
    while next < end {
        let message = sub.recv().await?; // The one before is done now, by the default of `ack`.
        let n = number(&message[1])?;
        check(n <= next, format!("{next} is missing: got {n}"))?;
        if n == next {
            next += 1;
        } else {
            repeats += 1;
        }
    }
    sub.ack_last(); // The last one is done, too, though no further one is asked for.
    sub.close().await;
    part.say(format!("got {first} to {}, {repeats} came twice", end - 1));
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("pubsub_durable")?;
    let spool = folder.path("spool");
    let mut publisher = stage.start("publisher", &[], &[&spool])?;
    let endpoint = publisher.wait_for("endpoint").await?;
    let alice = stage.start("subscriber", &[&endpoint], &["alice", "0", &VISIT.to_string()])?;
    publisher.tell("wait alice");
    publisher.wait_for("connected").await?;
    publisher.tell("publish 0 100");
    publisher.wait_for("published").await?;
    alice.finish().await?;

    common::print("Alice has left.");
    publisher.tell("publish 100 200");
    publisher.wait_for("published").await?;
    publisher.kill().await;
    common::print("The publisher was killed.");
    let mut publisher = stage.start("publisher", &[], &[&spool])?;
    let endpoint = publisher.wait_for("endpoint").await?;
    publisher.tell(format!("publish 200 {ALL}"));
    publisher.wait_for("published").await?;

    common::print("Alice returns, and the archive comes for the first time.");
    let alice = stage.start("subscriber", &[&endpoint], &["alice", &VISIT.to_string()])?;
    let archive = stage.start("subscriber", &[&endpoint], &["archive"])?;
    alice.finish().await?;
    archive.finish().await?;
    publisher.tell("end");
    check(publisher.wait_for("kept").await? == "0", "everybody has everything, so nothing should be kept")?;
    publisher.finish().await
}

fn main() -> std::process::ExitCode {
    let about = "Durable subscriptions: a subscriber leaves, the publisher is killed, nothing is missing in the end.";
    common::run("pubsub_durable", about, &["publisher (binds)", "subscriber"], play, story)
}
