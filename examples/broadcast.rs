//! One publisher, fifty subscribers, each with its own prefixes.
//!
//! A subscription is a prefix of the first frame. The publisher sends a message once; who gets it is decided at
//! the publisher, so a subscriber receives nothing that it did not ask for.

mod common;

use common::{Outcome, Part, Stage, check, number};
use ginnel::{Pub, Sub};

const SUBSCRIBERS: u64 = 50;
const ROOMS: u64 = 25;
const NOTES: u64 = 20;
const LAST: u64 = NOTES - 1;

/// The whole broadcast: topic and number of every note. With 500 of them nobody's queue of 1000 overflows.
fn notes() -> impl Iterator<Item = (String, u64)> {
    let notes = (0..NOTES).flat_map(|note| (0..ROOMS).map(move |room| (room, note)));
    notes.map(|(room, note)| (format!("floor-{}.room-{room:02}", room % 5), note))
}

/// Even subscribers want a whole floor, odd ones a single room. Also, how many rooms that is.
fn prefix(subscriber: u64) -> (String, u64) {
    let room = subscriber % ROOMS;
    if subscriber.is_multiple_of(2) {
        (format!("floor-{}.", room % 5), ROOMS / 5)
    } else {
        (format!("floor-{}.room-{room:02}", room % 5), 1)
    }
}

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "publisher" => publisher(part).await,
        _ => subscriber(part).await,
    }
}

async fn publisher(part: Part) -> Outcome {
    let publisher = Pub::bind(part.bind()).await?;
    part.say_endpoint(&publisher);
    publisher.wait_for_subscribers(SUBSCRIBERS as usize).await?;
    for (topic, note) in notes() {
        publisher.send((topic, note.to_string())).await?;
    }
    publisher.close().await;
    part.say(format!("dropped {}", publisher.stats().drops.total()));
    Ok(())
}

/// Word: its number, from 0.
async fn subscriber(part: Part) -> Outcome {
    let (mine, rooms) = prefix(part.word(0, 0)?);
    let mut sub = Sub::builder().subscribe(&mine).connect(part.endpoint(0)?)?;
    let (mut got, mut ended) = (0, 0);
    while ended < rooms {
        let message = sub.recv().await?;
        let topic = message[0].to_str()?;
        check(topic.starts_with(&mine), format!("{topic} is not for {mine}"))?;
        got += 1;
        ended += u64::from(number(&message[1])? == LAST);
    }
    part.say(format!("got {got} of {mine}"));
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let mut publisher = stage.start("publisher", &[], &[])?;
    let endpoint = publisher.wait_for("endpoint").await?;
    let mut subscribers = Vec::new();
    for n in 0..SUBSCRIBERS {
        subscribers.push(stage.start("subscriber", &[&endpoint], &[&n.to_string()])?);
    }
    let mut copies = 0;
    for (n, mut subscriber) in (0..).zip(subscribers) {
        let (mine, _) = prefix(n);
        let expected = notes().filter(|(topic, _)| topic.starts_with(&mine)).count() as u64;
        let said = subscriber.wait_for("got").await?;
        let got = number(said.split(' ').next().unwrap_or_default())?;
        check(got == expected, format!("subscriber {n} got {got} messages instead of {expected}"))?;
        copies += got;
        subscriber.finish().await?;
    }
    check(publisher.wait_for("dropped").await? == "0", "nothing should have been dropped")?;
    publisher.finish().await?;
    common::print(format!("{} messages became {copies} copies, each where it belongs", notes().count()));
    Ok(())
}

fn main() -> std::process::ExitCode {
    let about = "One publisher, fifty subscribers: everybody gets exactly its prefixes.";
    common::run("broadcast", about, &["publisher (binds)", "subscriber"], play, story)
}
