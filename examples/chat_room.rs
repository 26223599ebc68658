//! A chat room: ROUTER knows everybody by id, each user is a DEALER.
//!
//! The room gives every line to all of its users in one order, so all see the same talk. Try it by hand: start
//! `--role room`, then in other terminals `--role user --endpoint EP NAME`, and type.

mod common;

use std::collections::HashMap;

use common::{Actor, Outcome, Part, Stage, check};
use ginnel::{Dealer, PeerId, Router, SendError};

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "room" => room(part).await,
        _ => user(part).await,
    }
}

/// Runs until it hears "close".
async fn room(mut part: Part) -> Outcome {
    let mut router = Router::bind(part.bind()).await?;
    part.say_endpoint(&router);
    let mut users: HashMap<PeerId, String> = HashMap::new();
    loop {
        tokio::select! {
            received = router.recv() => {
                let (peer, message) = received?;
                let (kind, text) = (message[0].to_str()?, message.get(1).map_or(Ok(""), |frame| frame.to_str())?);
                let line = match (kind, users.get(&peer)) {
                    ("join", _) => {
                        users.insert(peer.clone(), text.to_owned());
                        format!("* {text} is here")
                    }
                    ("say", Some(name)) => format!("{name}: {text}"),
                    ("leave", Some(name)) => format!("* {name} leaves"),
                    _ => continue, // A stranger, or a word that this room does not know.
                };
                tell_all(&router, &mut users, &line).await?;
                if kind == "leave" && let Some(name) = users.remove(&peer) {
                    part.say(format!("left {name}"));
                }
            }
            heard = part.hear() => if heard.is_some_and(|line| line == "close") {
                router.close().await;
                return Ok(());
            },
        }
    }
}

async fn tell_all(router: &Router, users: &mut HashMap<PeerId, String>, line: &str) -> Outcome {
    let peers: Vec<PeerId> = users.keys().cloned().collect();
    for peer in peers {
        match router.send_to(&peer, line).await {
            Err(SendError::NoRoute(_)) => drop(users.remove(&peer)), // Gone without a word.
            sent => drop(sent?),
        }
    }
    Ok(())
}

/// Word: the name. Says what it hears until there is no more, and shows the talk.
async fn user(mut part: Part) -> Outcome {
    let name: String = part.word(0, "somebody".to_owned())?;
    let goodbye = format!("* {name} leaves");
    let (sender, mut receiver) = Dealer::connect(part.endpoint(0)?)?.split();
    sender.send(("join", name)).await?;
    let mut typing = true;
    loop {
        tokio::select! {
            message = receiver.recv() => {
                let message = message?;
                let line = message[0].to_str()?;
                part.say(line);
                if line == goodbye {
                    return Ok(());
                }
            }
            typed = part.hear(), if typing => match typed {
                Some(text) => drop(sender.send(("say", text)).await?),
                None => {
                    typing = false;
                    sender.send("leave").await?;
                }
            },
        }
    }
}

const TALK: [(&str, &str); 4] =
    [("ann", "tea?"), ("bob", "yes please"), ("cat", "coffee for me"), ("ann", "kettle is on")];

async fn story(stage: Stage) -> Outcome {
    let mut room = stage.start("room", &[], &[])?;
    let endpoint = room.wait_for("endpoint").await?;

    let mut users: Vec<(&str, Actor)> = Vec::new();
    for name in ["ann", "bob", "cat"] {
        users.push((name, stage.start("user", &[&endpoint], &[name])?));
        all_see(&mut users, &format!("* {name} is here")).await?;
    }
    for (speaker, text) in TALK {
        users.iter().filter(|(name, _)| *name == speaker).for_each(|(_, user)| user.tell(text));
        all_see(&mut users, &format!("{speaker}: {text}")).await?;
    }
    while let Some((name, user)) = users.pop() {
        user.finish().await?;
        check(room.wait_for("left").await? == name, format!("the room should have seen {name} leave"))?;
        all_see(&mut users, &format!("* {name} leaves")).await?;
    }
    room.tell("close");
    room.finish().await
}

async fn all_see(users: &mut [(&str, Actor)], line: &str) -> Outcome {
    for (_, user) in users {
        user.wait_for(line).await?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    common::run("chat_room", "A chat room with three users.", &["room (binds)", "user"], play, story)
}
