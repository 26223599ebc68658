//! Both sides are killed, and the holder keeps its place with its own data.

use std::ops::Range;

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
    let child = Publisher { dir: &dir.spool(), place: place.clone(), policy, pattern: "one" };
    let file = dir.path("books");
    let hold = |dice: &mut Dice| {
        let mode = if dice.below(2) == 0 { "next" } else { "manual" };
        let many = (1 + dice.below(16)).to_string();
        let parts = [("place", &*place), ("mode", mode), ("many", &many), ("file", file.to_str().expect("a path"))];
        Player::start("bookkeeper", &parts, |_| {})
    };
    let at = || Books::last(&file).map_or(0, |entry| entry.token.sequence);
    let accepted = Heard::default();
    let mut truth = Truth::default();
    let mut runs = 1..;
    // What the books had and the spool's files had not when both were dead: only the token knows that it is done.
    let mut ahead: Vec<Range<u64>> = Vec::new();
    let mut publisher = child.start(0, 1_000_000, manner(&mut dice), &accepted);
    let mut holder = hold(&mut dice);
    let mut again = |dice: &mut Dice, truth: &mut Truth| {
        truth.accept(&taken(&accepted));
        child.start(runs.next().expect("endless"), 1_000_000, manner(dice), &accepted)
    };
    for round in 0..rounds {
        if dice.below(3) > 0 {
            publisher.ready().await;
            holder.ready().await;
        }
        tokio::time::sleep(dice.life()).await;
        match dice.below(3) {
            0 => {
                holder.shoot();
                holder.gone().await;
                holder = hold(&mut dice);
            }
            1 => {
                publisher.shoot();
                publisher.gone().await;
                publisher = again(&mut dice, &mut truth);
            }
            _ => {
                publisher.shoot();
                holder.shoot();
                publisher.gone().await;
                holder.gone().await;
                ahead.push(known_to_be_done(&dir.spool(), "steady") + 1..at() + 1);
                publisher = again(&mut dice, &mut truth);
                holder = hold(&mut dice);
            }
        }
        progress.tell(round, rounds, || format!("{} accepted", truth.accepted.len()));
    }
    publisher.shoot();
    publisher.gone().await;
    truth.accept(&taken(&accepted));
    let publisher = child.start(runs.next().expect("endless"), LAST, "awaited", &accepted);
    until(|| accepted.lock().unwrap().len() as u32 == LAST).await;
    truth.accept(&taken(&accepted));
    until_still_moving(at, || at() >= truth.last_accepted(), || format!("at {}", at())).await;
    holder.shoot();
    holder.gone().await;
    publisher.finish().await;
    let books = Books::read(&file);
    let mut last = None;
    for entry in &books {
        entry.assert_follows(last);
        truth.means(entry.token.sequence, entry.word);
        last = Some(*entry);
    }
    let numbers: Vec<u64> = books.iter().map(|entry| entry.token.sequence).collect();
    let within = |range: &Range<u64>| numbers_within(&numbers, range);
    progress.sum_up(&Figures {
        rounds,
        accepted: truth.accepted.len(),
        delivered: books.len(),
        doubled: 0,
        absorbed: ahead.iter().map(within).sum(),
    });
    for (sequence, word) in &truth.accepted {
        assert!(numbers.binary_search(sequence).is_ok(), "{sequence}, {word:?}, was accepted and has had no effect");
    }
}
