//! The smallest program: PUSH to PULL. The sender starts first and waits for nobody.
//!
//! `send` hands a message to the socket, which keeps it until a peer is there: the two programs need not run at
//! the same time, only overlap before the sender's linger is over.

mod common;

use common::{Outcome, Part, Stage, check};
use ginnel::{Pull, Push};

const GREETINGS: [&str; 3] = ["hello", "how are you", "goodbye"];

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "sender" => sender(part).await,
        _ => receiver(part).await,
    }
}

async fn sender(part: Part) -> Outcome {
    let push = Push::builder().linger(None).connect(part.endpoint(0)?)?;
    for greeting in GREETINGS {
        push.send(greeting).await?; // Accepted at once: nobody listens yet.
        part.say(format!("accepted \"{greeting}\""));
    }
    part.say("sent");
    // Waits until all is with the operating system, however long: without `linger(None)`, for 5 s at the most.
    let report = push.close().await;
    part.say(format!("written {} dropped {}", report.sent, report.dropped));
    Ok(())
}

async fn receiver(part: Part) -> Outcome {
    let mut pull = Pull::bind(part.bind()).await?;
    part.say_endpoint(&pull);
    for expected in GREETINGS {
        let message = pull.recv().await?;
        let greeting = message[0].to_str()?;
        part.say(format!("got \"{greeting}\""));
        check(greeting == expected, format!("expected \"{expected}\""))?;
    }
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    // The one example that needs an address before anybody is bound to it. A path does not collide with others.
    let path = std::env::temp_dir().join(format!("ginnel-hello-{}", std::process::id()));
    let endpoint = format!("ipc://{}", path.display());

    let mut sender = stage.start("sender", &[&endpoint], &[])?;
    sender.wait_for("sent").await?;
    common::print("The sender is done with sending; only now does a receiver start.");
    let receiver = stage.start("receiver", &[&endpoint], &[])?;
    receiver.finish().await?;
    check(sender.wait_for("written").await? == "3 dropped 0", "the sender should have written all three")?;
    sender.finish().await
}

fn main() -> std::process::ExitCode {
    common::run("hello", "PUSH to PULL, the sender first.", &["sender", "receiver (binds)"], play, story)
}
