//! There and back without frames: who answers sends back what comes, who asks waits for as many bytes as it sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::net::{AsyncDoor, Wire, connect};
use crate::role;
use crate::workload::{Flight, Outcome, Ready, Rounds};

/// Keeps this side until the other is done.
pub async fn hold() -> Outcome {
    Ok(tokio::task::spawn_blocking(role::hold).await?)
}

pub async fn answer(at: String, ready: Ready) -> Outcome {
    let door = AsyncDoor::open(&at, ready).await?;
    let serve = async {
        loop {
            if let Ok(stream) = door.accept().await {
                tokio::spawn(echo(stream));
            }
        }
    };
    tokio::select! {
        held = hold() => held,
        () = serve => Ok(()),
    }
}

async fn echo(mut stream: Box<dyn Wire>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        if stream.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

pub async fn ask(endpoint: String, mut rounds: Rounds) -> Outcome<Rounds> {
    let mut stream = connect(&endpoint).await?;
    let mut reply = Vec::new();
    while let Some(body) = rounds.next() {
        stream.write_all(body).await?;
        reply.resize(body.len(), 0);
        stream.read_exact(&mut reply).await?;
        rounds.done(&reply);
    }
    Ok(rounds)
}

pub async fn ask_many(endpoint: String, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
    let start = |rounds| tokio::spawn(ask(endpoint.clone(), rounds));
    let tasks: Vec<_> = lanes.into_iter().map(start).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await??);
    }
    Ok(done)
}

pub async fn fly(endpoint: String, mut flight: Flight) -> Outcome<Flight> {
    let mut stream = connect(&endpoint).await?;
    let (mut requests, mut size) = (Vec::new(), 0);
    let mut replies = vec![0; 64 * 1024];
    let mut filled = 0;
    while flight.missing() > 0 {
        requests.clear();
        while let Some(body) = flight.next() {
            size = body.len();
            requests.extend_from_slice(body);
        }
        stream.write_all(&requests).await?;
        filled += stream.read(&mut replies[filled..]).await?;
        let whole = filled / size * size;
        replies[..whole].chunks(size).for_each(|reply| flight.done(reply));
        replies.copy_within(whole..filled, 0);
        filled -= whole;
    }
    Ok(flight)
}

pub async fn ask_inproc(mut rounds: Rounds) -> Outcome<Rounds> {
    let (there, mut arrives) = tokio::sync::mpsc::channel::<Box<[u8]>>(1);
    let (back, mut replies) = tokio::sync::mpsc::channel::<Box<[u8]>>(1);
    tokio::spawn(async move {
        while let Some(body) = arrives.recv().await {
            if back.send(body).await.is_err() {
                return;
            }
        }
    });
    while let Some(body) = rounds.next() {
        there.send(body.into()).await?;
        rounds.done(&replies.recv().await.ok_or("the answering task ended")?);
    }
    Ok(rounds)
}
