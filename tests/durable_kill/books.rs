//! A receiver that keeps its place with its own data, and notices whatever comes twice, late or not at all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ginnel::*;

use crate::durable::*;

/// A line of the books: the effect of one word, and the place it was found at. Both are there or neither is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) token: Token,
    pub(crate) word: Word,
}

impl Entry {
    fn of(delivery: &Delivery) -> Entry {
        Entry { token: delivery.token().expect("out of a spool"), word: Word::of(delivery.message()) }
    }

    fn parse(line: &str) -> Entry {
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap_or_else(|| panic!("{line:?} in the books"));
        let token = next().parse().expect("a token");
        let mut number = || next().parse().expect("a number");
        Entry { token, word: Word { round: number(), at: number() } }
    }

    fn line(self) -> String {
        format!("{} {} {}\n", self.token, self.word.round, self.word.at)
    }

    /// Each word once, in order, none left out; a round may have ended anywhere.
    pub(crate) fn assert_follows(self, last: Option<Entry>) {
        let next_in = |round: u32| match last {
            Some(last) if last.word.round == round => last.word.at + 1,
            _ => 0,
        };
        assert!(last.is_none_or(|last| self.word.round >= last.word.round), "{self:?} after {last:?}");
        assert_eq!(self.word.at, next_in(self.word.round), "each effect once, in order: {self:?} after {last:?}");
        assert!(last.is_none_or(|last| self.token.sequence > last.token.sequence), "{self:?} after {last:?}");
        assert!(last.is_none_or(|last| self.token.spool == last.token.spool), "{self:?} after {last:?}");
    }
}

/// A receiver's own data: what it has done and how far it got, a line for each word. Lines are only ever added, so
/// that an entry costs the same however many there are.
pub(crate) struct Books {
    file: File,
    pub(crate) last: Option<Entry>,
}

impl Books {
    /// The writer's end. A line that a kill has cut short was never written: it goes.
    pub(crate) fn open(path: &Path) -> Books {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).expect("a file");
        let (whole, last) = tail(&mut file);
        file.set_len(whole).expect("a file");
        Books { file, last }
    }

    /// Takes down all of these, in one write.
    pub(crate) fn add(&mut self, deliveries: &[Delivery]) {
        let mut lines = String::new();
        for delivery in deliveries {
            let entry = Entry::of(delivery);
            entry.assert_follows(self.last);
            lines.push_str(&entry.line());
            self.last = Some(entry);
        }
        self.file.write_all(lines.as_bytes()).expect("written");
    }

    /// The last entry, whoever writes on meanwhile.
    pub(crate) fn last(path: &Path) -> Option<Entry> {
        tail(&mut File::open(path).ok()?).1
    }

    /// Every entry from the first on.
    pub(crate) fn read(path: &Path) -> Vec<Entry> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Entry::parse).collect()
    }
}

/// Where the last whole line ends, and what it says.
fn tail(file: &mut File) -> (u64, Option<Entry>) {
    // Many times the longest line.
    const ENOUGH: u64 = 4096;
    let len = file.metadata().expect("a file").len();
    let from = len.saturating_sub(ENOUGH);
    file.seek(SeekFrom::Start(from)).expect("a file");
    let mut end = Vec::new();
    file.take(len - from).read_to_end(&mut end).expect("a file");
    let Some(newline) = end.iter().rposition(|&byte| byte == b'\n') else {
        assert_eq!(from, 0, "no line in the last {ENOUGH} bytes");
        return (0, None);
    };
    let start = end[..newline].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    let line = std::str::from_utf8(&end[start..newline]).expect("text");
    (from + newline as u64 + 1, Some(Entry::parse(line)))
}

pub(crate) async fn keep_books() {
    let asked = asked_to_finish();
    let mut books = Books::open(&PathBuf::from(part("file")));
    let mut builder = subscriber("steady").resume_from(books.last.map(|entry| entry.token));
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
            books.add(&held);
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
