//! Requests and replies: many at once, one that times out and is asked again, and the late reply that is dropped.
//!
//! Each request waits for its own reply, so a clone of the socket can ask from every task. A reply that comes
//! after its request was given up is never taken for another's: it is dropped and counted as `Late`. Whether to
//! ask again is the program's decision, because the first request may have been carried out.

mod common;

use std::time::Duration;

use common::{Outcome, Part, Stage, check, number};
use ginnel::{DropReason, Rep, Req, RequestError, Responder};

const AT_ONCE: u64 = 100;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "server" => server(part).await,
        _ => client(part).await,
    }
}

/// Squares numbers. It thinks about "slow" until somebody asks a second time, then answers both.
async fn server(part: Part) -> Outcome {
    let mut rep = Rep::bind(part.bind()).await?;
    part.say_endpoint(&rep);
    let mut thinking: Option<Responder> = None;
    loop {
        let (question, responder) = rep.recv().await?.into_parts();
        match question[0].to_str()? {
            "slow" => match thinking.take() {
                None => thinking = Some(responder),
                Some(first) => {
                    first.reply("answer to the first try").await?;
                    responder.reply("answer to the second try").await?;
                }
            },
            "stop" => {
                responder.reply("stopping").await?;
                rep.close().await;
                return Ok(());
            }
            text => {
                let n = number(text)?;
                responder.reply((n * n).to_string()).await?;
            }
        }
    }
}

async fn client(part: Part) -> Outcome {
    let req = Req::connect(part.endpoint(0)?)?;

    let mut calls = Vec::new();
    for n in 0..AT_ONCE {
        let req = req.clone();
        calls.push(tokio::spawn(async move { req.request(n.to_string()).await }));
    }
    for (n, call) in (0..).zip(calls) {
        check(number(&call.await??[0])? == n * n, format!("{n} should have got its own square"))?;
    }
    part.say(format!("squares {AT_ONCE}"));

    let reply = ask_again(&part, &req, "slow", 3).await?;
    check(reply == "answer to the second try", format!("the second try got \"{reply}\""))?;
    let square = req.request("12").await?;
    check(square[0] == "144", "the late reply should not answer the next request")?;
    part.say(format!("late {}", req.stats().drops.get(DropReason::Late)));

    req.request("stop").await?;
    Ok(())
}

/// Asks up to `tries` times, after the first one with patience: slow is not gone. Fit for requests that may be carried out twice.
async fn ask_again(part: &Part, req: &Req, question: &str, tries: u32) -> Outcome<String> {
    for tried in 1..=tries {
        let patience = if tried == 1 { Duration::from_millis(500) } else { Duration::from_secs(60) };
        match req.request(question).timeout(patience).await {
            Ok(reply) => return Ok(reply[0].to_str()?.to_owned()),
            Err(why @ (RequestError::Timeout | RequestError::PeerLost)) => part.say(format!("try {tried}: {why}")),
            Err(why) => return Err(why.into()),
        }
    }
    Err(format!("no reply in {tries} tries").into())
}

async fn story(stage: Stage) -> Outcome {
    let mut server = stage.start("server", &[], &[])?;
    let endpoint = server.wait_for("endpoint").await?;
    let mut client = stage.start("client", &[&endpoint], &[])?;
    check(client.wait_for("late").await? == "1", "exactly one reply should have come late")?;
    client.finish().await?;
    server.finish().await
}

fn main() -> std::process::ExitCode {
    let about = "Requests and replies: a timeout, a retry, and a late reply that is dropped.";
    common::run("rpc", about, &["server (binds)", "client"], play, story)
}
