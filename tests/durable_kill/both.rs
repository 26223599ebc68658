//! Both sides are killed, and the holder keeps its place with its own data.

use crate::books::Books;
use crate::common::*;
use crate::durable::*;
use crate::rounds;
use crate::spooler::*;
use crate::truth::*;

pub(crate) async fn both_are_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("token, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(2));
    let place = later(wire(&mut dice)).await.to_string();
    let child = Publisher { dir: &dir.spool(), place: place.clone(), policy, pattern: "pub" };
    let file = dir.path("books");
    let hold = |dice: &mut Dice| {
        let mode = if dice.below(2) == 0 { "next" } else { "manual" };
        let many = (1 + dice.below(16)).to_string();
        let parts = [("place", &*place), ("mode", mode), ("many", &many), ("file", file.to_str().expect("a path"))];
        Player::start("bookkeeper", &parts, |_| {})
    };
    let accepted = Heard::default();
    let mut truth = Truth::default();
    let mut run = 0;
    let mut publisher = child.start(run, 1_000_000, manner(&mut dice), &accepted);
    let mut holder = hold(&mut dice);
    for round in 0..rounds {
        if dice.below(3) > 0 {
            publisher.ready().await;
            holder.ready().await;
        }
        tokio::time::sleep(dice.life()).await;
        let who = dice.below(3);
        // Both at the same moment, if it is both.
        if who != 0 {
            publisher.shoot();
        }
        if who != 1 {
            holder.shoot();
        }
        if who != 0 {
            publisher.gone().await;
            truth.accept(&taken(&accepted));
            run += 1;
            publisher = child.start(run, 1_000_000, manner(&mut dice), &accepted);
        }
        if who != 1 {
            holder.gone().await;
            holder = hold(&mut dice);
        }
        progress.tell(round, rounds, || format!("{} accepted", truth.accepted.len()));
    }
    publisher.shoot();
    publisher.gone().await;
    truth.accept(&taken(&accepted));
    let publisher = child.start(run + 1, LAST, "awaited", &accepted);
    until(|| accepted.lock().unwrap().len() as u32 == LAST).await;
    truth.accept(&taken(&accepted));
    let at = || Books::read(&file).token.map_or(0, |token| token.sequence);
    until_still_moving(at, || at() >= truth.last_accepted(), || format!("at {}", at())).await;
    holder.shoot();
    holder.gone().await;
    publisher.finish().await;
    let books = Books::read(&file);
    let effects: u32 = books.effects.values().sum();
    println!("{}: {} accepted, {effects} effects", progress.what, truth.accepted.len());
    for (sequence, word) in &truth.accepted {
        let count = books.effects.get(&word.round).copied().unwrap_or(0);
        assert!(word.at < count, "{sequence}, {word:?}, was accepted and has had no effect");
    }
}
