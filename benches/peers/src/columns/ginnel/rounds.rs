//! There and back: REQ/REP and DEALER/ROUTER.

use ginnel::{Dealer, Rep, Req, Router};
use tokio::task::JoinHandle;

use super::INPROC;
use crate::role;
use crate::workload::{Flight, HWM, Outcome, Ready, Rounds};

/// Keeps this side until the other is done.
pub async fn hold() -> Outcome {
    Ok(tokio::task::spawn_blocking(role::hold).await?)
}

pub async fn reply(at: String, ready: Ready, count: u64) -> Outcome {
    let rep = Rep::builder().hwm(HWM).bind(&at).await?;
    ready.at(&rep.local_endpoint().expect("bound").to_string());
    let rep = answer(rep, count).await?;
    hold().await?;
    drop(rep);
    Ok(())
}

async fn answer(mut rep: Rep, count: u64) -> Outcome<Rep> {
    for _ in 0..count {
        let (message, responder) = rep.recv().await?.into_parts();
        responder.reply(message).await?;
    }
    Ok(rep)
}

async fn ask(req: Req, mut rounds: Rounds) -> Outcome<Rounds> {
    while let Some(body) = rounds.next() {
        let reply = req.request(body).await?;
        rounds.done(&reply[0]);
    }
    Ok(rounds)
}

pub async fn request(endpoint: String, rounds: Rounds) -> Outcome<Rounds> {
    ask(Req::builder().hwm(HWM).connect(&endpoint)?, rounds).await
}

pub async fn request_many(endpoint: String, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
    let req = Req::builder().hwm(HWM).connect(&endpoint)?;
    all(lanes.into_iter().map(|rounds| tokio::spawn(ask(req.clone(), rounds))).collect()).await
}

async fn all<T>(tasks: Vec<JoinHandle<Outcome<T>>>) -> Outcome<Vec<T>> {
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await??);
    }
    Ok(done)
}

pub async fn request_many_inproc(mut lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
    let rep = Rep::builder().hwm(HWM).bind(INPROC).await?;
    let server = tokio::spawn(answer(rep, lanes.iter().map(Rounds::total).sum()));
    let lanes = if lanes.len() == 1 {
        vec![request(INPROC.to_owned(), lanes.remove(0)).await?]
    } else {
        request_many(INPROC.to_owned(), lanes).await?
    };
    server.await??;
    Ok(lanes)
}

pub async fn route(at: String, ready: Ready, count: u64) -> Outcome {
    let router = Router::builder().hwm(HWM).bind(&at).await?;
    ready.at(&router.local_endpoint().expect("bound").to_string());
    let router = echo(router, count).await?;
    hold().await?;
    drop(router);
    Ok(())
}

async fn echo(mut router: Router, count: u64) -> Outcome<Router> {
    for _ in 0..count {
        let (peer, message) = router.recv().await?;
        router.send_to(&peer, message).await?;
    }
    Ok(router)
}

pub async fn deal(endpoint: String, mut rounds: Rounds) -> Outcome<Rounds> {
    let mut dealer = Dealer::builder().hwm(HWM).connect(&endpoint)?;
    while let Some(body) = rounds.next() {
        dealer.send(body).await?;
        rounds.done(&dealer.recv().await?[0]);
    }
    Ok(rounds)
}

pub async fn deal_many(endpoint: String, mut flight: Flight) -> Outcome<Flight> {
    let mut dealer = Dealer::builder().hwm(HWM).connect(&endpoint)?;
    while flight.missing() > 0 {
        while let Some(body) = flight.next() {
            dealer.send(body).await?;
        }
        flight.done(&dealer.recv().await?[0]);
        while flight.under_way() > 0
            && let Ok(message) = dealer.try_recv()
        {
            flight.done(&message[0]);
        }
    }
    Ok(flight)
}

pub async fn dealers(endpoint: String, lanes: Vec<Rounds>) -> Outcome<Vec<Rounds>> {
    all(lanes.into_iter().map(|rounds| tokio::spawn(deal(endpoint.clone(), rounds))).collect()).await
}

pub async fn deal_inproc(rounds: Rounds) -> Outcome<Rounds> {
    let router = Router::builder().hwm(HWM).bind(INPROC).await?;
    let server = tokio::spawn(echo(router, rounds.total()));
    let rounds = deal(INPROC.to_owned(), rounds).await?;
    server.await??;
    Ok(rounds)
}

pub async fn deal_many_inproc(flight: Flight) -> Outcome<Flight> {
    let router = Router::builder().hwm(HWM).bind(INPROC).await?;
    let server = tokio::spawn(echo(router, flight.missing()));
    let flight = deal_many(INPROC.to_owned(), flight).await?;
    server.await??;
    Ok(flight)
}
