//! Many publishers, many subscribers, one address for each side: XSUB/XPUB proxies, two in a row, with a tape.
//!
//! Nobody knows anybody but the proxy. Subscriptions travel against the stream to the publishers, so that what
//! nobody wants is not even sent. The tape gets a copy of everything that passes the first proxy.

mod common;

use std::collections::BTreeSet;

use common::{Outcome, Part, Stage, check, number};
use ginnel::{Pull, Push, Sub, XPub, XSub, proxy};

const CITIES: [&str; 2] = ["bern", "oslo"];
const KINDS: [&str; 2] = ["wind", "rain"];
const READINGS: u64 = 100;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "proxy" => join(part).await,
        "tape" => tape(part).await,
        "publisher" => publisher(part).await,
        _ => subscriber(part).await,
    }
}

/// Word "first": endpoints are the tape's, and where to bind back and front. Word "chained": endpoints are the back
/// of the proxy before it, and where to bind its own back. Runs until it hears something.
async fn join(mut part: Part) -> Outcome {
    let (front, back) = (XSub::new(), XPub::bind(part.bind_at(1)).await?);
    part.say_endpoint_of("back", &back);
    let chained = part.word(0, String::new())? == "chained";
    let both = if chained {
        front.connect_to(part.endpoint(0)?)?;
        proxy(front, back)
    } else {
        front.bind_to(part.bind_at(2)).await?;
        part.say_endpoint_of("front", &front);
        let tape = Push::connect(part.endpoint(0)?)?;
        proxy(front, back).capture((*tape).clone())
    };
    let control = both.control();
    let running = tokio::spawn(both.into_future());
    part.hear().await;
    control.terminate();
    let passed = running.await?;
    part.say(format!(
        "passed {} forward, {} subscriptions backward",
        passed.forward_messages, passed.backward_messages
    ));
    Ok(())
}

async fn tape(part: Part) -> Outcome {
    let mut pull = Pull::bind(part.bind()).await?;
    part.say_endpoint(&pull);
    let (mut messages, mut subscriptions) = (0, 0);
    while messages < 2 * 2 * READINGS {
        let message = pull.recv().await?;
        // Subscriptions pass the proxy, too: one frame, 1 or 0 and the topic.
        if message.len() == 1 { subscriptions += 1 } else { messages += 1 }
    }
    part.say(format!("taped {messages}"));
    check(subscriptions >= 2, format!("only {subscriptions} subscriptions were taped"))
}

/// Word: its city. An XPUB, because that one sees what is subscribed.
async fn publisher(part: Part) -> Outcome {
    let city: String = part.word(0, CITIES[0].into())?;
    let mut publisher = XPub::connect(part.endpoint(0)?)?;
    let mut wanted = BTreeSet::new();
    while wanted.len() < KINDS.len() {
        let message = publisher.recv().await?;
        if let [1, topic @ ..] = &message[0][..] {
            wanted.insert(topic.to_vec());
        }
    }
    for n in 0..READINGS {
        for kind in KINDS.iter().chain(&["nobody-wants-this"]) {
            publisher.send((format!("{kind}.{city}"), n.to_string())).await?;
        }
    }
    publisher.close().await;
    part.say(format!("unwanted {}", publisher.stats().drops.total()));
    Ok(())
}

/// Word: the kind of reading that it wants.
async fn subscriber(part: Part) -> Outcome {
    let kind: String = part.word(0, KINDS[0].into())?;
    let mut sub = Sub::builder().subscribe(format!("{kind}.")).connect(part.endpoint(0)?)?;
    let mut next = CITIES.map(|_| 0);
    while next.iter().any(|&next| next < READINGS) {
        let message = sub.recv().await?;
        let topic = message[0].to_str()?;
        let city = CITIES.iter().position(|city| topic == format!("{kind}.{city}")).ok_or("not what it wanted")?;
        check(number(&message[1])? == next[city], format!("{topic}: a gap before {}", number(&message[1])?))?;
        next[city] += 1;
    }
    part.say(format!("got {READINGS} of each city"));
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let mut tape = stage.start("tape", &[], &[])?;
    let tape_at = tape.wait_for("endpoint").await?;
    let mut first = stage.start("proxy", &[&tape_at], &["first"])?;
    let (middle, front) = (first.wait_for("back").await?, first.wait_for("front").await?);
    let mut second = stage.start("proxy", &[&middle], &["chained"])?;
    let back = second.wait_for("back").await?;

    let mut publishers = Vec::new();
    for city in CITIES {
        publishers.push(stage.start("publisher", &[&front], &[city])?);
    }
    let mut subscribers = Vec::new();
    for kind in KINDS {
        subscribers.push(stage.start("subscriber", &[&back], &[kind])?);
    }
    for mut publisher in publishers {
        let unwanted = number(publisher.wait_for("unwanted").await?)?;
        check(unwanted == READINGS, format!("{unwanted} messages stayed at the publisher instead of {READINGS}"))?;
        publisher.finish().await?;
    }
    for subscriber in subscribers {
        subscriber.finish().await?;
    }
    tape.finish().await?;
    for mut proxy in [first, second] {
        proxy.tell("stop");
        let passed = proxy.wait_for("passed").await?;
        check(
            passed.starts_with(&format!("{} ", 4 * READINGS)),
            "a proxy should have passed every wanted message once",
        )?;
        proxy.finish().await?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let about = "Two publishers, two proxies in a row, two subscribers, and a tape of everything.";
    common::run("proxy_chain", about, &["proxy (binds)", "tape (binds)", "publisher", "subscriber"], play, story)
}
