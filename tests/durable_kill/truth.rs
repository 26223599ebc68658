//! What this process knows of its children: what they said, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ginnel::Delivery;
use ginnel::spool::SpoolFiles;

use crate::durable::*;

/// What was said of numbers and words, whoever said it.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) meanings: HashMap<u64, Word>,
    pub(crate) accepted: BTreeMap<u64, Word>,
}

impl Truth {
    /// No number is used for two messages.
    pub(crate) fn means(&mut self, sequence: u64, word: Word) {
        let known = *self.meanings.entry(sequence).or_insert(word);
        assert_eq!(known, word, "number {sequence} is used twice");
    }

    pub(crate) fn accept(&mut self, said: &[Said]) {
        for said in said {
            self.means(said.sequence, said.word);
            let before = self.accepted.insert(said.sequence, said.word);
            assert_eq!(before, None, "{said:?} was accepted before");
        }
    }

    pub(crate) fn last_accepted(&self) -> u64 {
        self.accepted.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }
}

/// A line about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) sequence: u64,
    pub(crate) word: Word,
    pub(crate) tries: u32,
}

impl Said {
    pub(crate) fn parse(line: &str) -> Said {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let sequence = numbers.next().expect("a number");
        let word = Word { round: numbers.next().expect("a round") as u32, at: numbers.next().expect("a place") as u32 };
        Said { sequence, word, tries: numbers.next().unwrap_or(1) as u32 }
    }

    pub(crate) fn of(delivery: &Delivery) -> Said {
        let sequence = delivery.sequence().expect("out of a spool");
        Said { sequence, word: Word::of(delivery.message()), tries: delivery.tries() }
    }
}

pub(crate) type Heard = Arc<Mutex<Vec<Said>>>;

pub(crate) fn into(heard: &Heard) -> impl FnMut(&str) + Send + 'static {
    let heard = heard.clone();
    move |line| heard.lock().unwrap().push(Said::parse(line))
}

pub(crate) fn taken(heard: &Heard) -> Vec<Said> {
    std::mem::take(&mut *heard.lock().unwrap())
}

/// Lets a process live for a while, counted from its birth or from when it is ready, and kills it.
pub(crate) async fn kill_some_time(dice: &mut Dice, mut player: Player) {
    if dice.below(3) > 0 {
        player.ready().await;
    }
    tokio::time::sleep(dice.life()).await;
    player.shoot();
    player.gone().await;
}

pub(crate) struct Progress {
    pub(crate) what: String,
    pub(crate) began: Instant,
}

impl Progress {
    pub(crate) fn new(what: String) -> (Progress, Dice) {
        let dice = Dice::printed(&what);
        (Progress { what, began: Instant::now() }, dice)
    }

    pub(crate) fn tell(&self, round: u32, of: u32, more: impl FnOnce() -> String) {
        if (round + 1).is_multiple_of(50) || round + 1 == of {
            println!("{}: {} of {of} rounds, {:.0?}: {}", self.what, round + 1, self.began.elapsed(), more());
        }
    }
}

/// The figures that end each test.
pub(crate) struct Figures {
    pub(crate) rounds: u32,
    pub(crate) accepted: usize,
    /// To the application.
    pub(crate) delivered: usize,
    /// Of those, not the first time.
    pub(crate) doubled: usize,
    /// Records that a receiver had and that the spool, when it was killed or asked, did not know to be done or sent
    /// again: the receiver's memory, file or token kept them from the application.
    pub(crate) absorbed: usize,
}

impl Progress {
    pub(crate) fn sum_up(&self, figures: &Figures) {
        let Figures { rounds, accepted, delivered, doubled, absorbed } = figures;
        println!(
            "{}: {rounds} rounds, {:.0?}: {accepted} accepted, {delivered} delivered, {doubled} doubled, {absorbed} \
             absorbed",
            self.what,
            self.began.elapsed()
        );
    }
}

/// Up to where a spool that nobody has open says that this name is done; 0 where it says nothing.
pub(crate) fn known_to_be_done(spool: &Path, name: &str) -> u64 {
    let Ok(listing) = SpoolFiles::open(spool).and_then(|files| files.list()) else { return 0 };
    listing.names.iter().find(|known| known.name == name).map_or(0, |known| known.cursor)
}

/// How many of these, which rise, are in this range.
pub(crate) fn numbers_within(numbers: &[u64], range: &Range<u64>) -> usize {
    let before = |end: u64| numbers.partition_point(|&number| number < end);
    before(range.end).saturating_sub(before(range.start))
}

/// How many of these, heard in order, this spool does not know to be done.
pub(crate) fn not_known_to_be_done(heard: &Heard, spool: &Path, name: &str) -> usize {
    let cursor = known_to_be_done(spool, name);
    heard.lock().unwrap().iter().rev().take_while(|said| said.sequence > cursor).count()
}

/// Each round's words are there from the first on, none left out.
pub(crate) fn assert_whole(words: impl Iterator<Item = Word>) {
    let mut rounds: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    words.for_each(|word| {
        rounds.entry(word.round).or_default().insert(word.at);
    });
    for (round, places) in rounds {
        let last = places.last().copied().unwrap_or(0);
        assert_eq!(places.len() as u32, last + 1, "round {round} has holes: {places:?}");
    }
}
