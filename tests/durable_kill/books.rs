//! A receiver that keeps its place with its own data, and notices whatever comes twice, late or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ginnel::*;

use crate::durable::*;

/// A receiver's own data: how far it got, and what it has done, together in one file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Books {
    pub(crate) token: Option<Token>,
    /// Of each round, how many words had their effect.
    pub(crate) effects: BTreeMap<u32, u32>,
}

impl Books {
    pub(crate) fn read(path: &Path) -> Books {
        let mut books = Books::default();
        let Ok(text) = std::fs::read_to_string(path) else { return books };
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("token", token)) => books.token = Some(token.parse().expect("a token")),
                Some((round, count)) => {
                    books.effects.insert(round.parse().expect("a round"), count.parse().expect("a count"));
                }
                None => panic!("{line:?} in {}", path.display()),
            }
        }
        books
    }

    /// The whole or nothing of it is there afterwards.
    pub(crate) fn write(&self, path: &Path) {
        let mut text = String::new();
        if let Some(token) = self.token {
            text.push_str(&format!("token {token}\n"));
        }
        self.effects.iter().for_each(|(round, count)| text.push_str(&format!("{round} {count}\n")));
        let aside = path.with_extension("new");
        std::fs::write(&aside, text).expect("a file");
        std::fs::rename(&aside, path).expect("a file");
    }

    /// Each word once, in order, none left out: else the count is not its place.
    pub(crate) fn apply(&mut self, delivery: &Delivery) {
        let word = Word::of(delivery.message());
        let last = self.effects.last_key_value().map_or(0, |(round, _)| *round);
        assert!(word.round >= last, "{word:?} after {:?}", self.token);
        let count = self.effects.entry(word.round).or_default();
        assert_eq!(word.at, *count, "each effect once, in order: {delivery:?} after {:?}", self.token);
        *count += 1;
        self.token = delivery.token();
    }
}

pub(crate) async fn keep_books() {
    let asked = asked_to_finish();
    let path = PathBuf::from(part("file"));
    let mut books = Books::read(&path);
    let mut builder = subscriber("steady").resume_from(books.token);
    let manual = part("mode") == "manual";
    if manual {
        builder = builder.ack(Ack::Manual);
    }
    let many = part_number("many") as usize;
    let mut sub = builder.connect(part("place")).expect("connect");
    say("ready");
    let keep = async {
        loop {
            let mut held = vec![sub.recv_delivery().await.expect("open")];
            // Under OnNext, asking for one more says that the one before is done: before it is in the books.
            while manual && held.len() < many {
                let Ok(next) = sub.try_recv_delivery() else { break };
                held.push(next);
            }
            held.iter().for_each(|delivery| books.apply(delivery));
            books.write(&path);
            if let Some(last) = held.pop().filter(|_| manual) {
                last.ack_up_to();
            }
        }
    };
    tokio::select! {
        () = keep => {}
        _ = asked => {}
    }
}
