//! Processes that are killed with SIGKILL at any moment: what was accepted arrives, and nothing else happens.
//!
//! A child is this very test binary, told by its environment to publish, subscribe or work; this process is the
//! other side, keeps the truth and compares. Whatever the moment of a kill, the truth must hold: nothing here depends
//! on luck. `GINNEL_KILL_ROUNDS=500 cargo test --test durable_kill -- --nocapture` is the long run: so many kills of
//! each side under each policy; `GINNEL_SEED` repeats the dice of one.

#![cfg(unix)]

mod common;
#[path = "common/durable.rs"]
mod durable;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use durable::*;
use ginnel::spool::SpoolFiles;
use ginnel::*;

/// Kills per test: 51 in all tests together, or what is asked for in each.
fn rounds(few: u32) -> u32 {
    std::env::var("GINNEL_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

fn policy(name: &str) -> ginnel::Sync {
    match name {
        "batch" => ginnel::Sync::Batch,
        "every" => ginnel::Sync::Every(Duration::from_millis(100)),
        "never" => ginnel::Sync::Never,
        other => panic!("no policy {other}"),
    }
}

/// Not a test of anything: where the children begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plays_its_role() {
    match role().as_deref() {
        None => {}
        Some("publisher") => publish().await,
        Some("planner") => plan().await,
        Some("subscriber") => subscribe().await,
        Some("worker") => work().await,
        Some("bookkeeper") => keep_books().await,
        Some(other) => panic!("no role {other}"),
    }
}

// What the children do.

/// Sends words without end (or so many) and says the number of each that is accepted.
async fn publish() {
    let asked = asked_to_finish();
    let (dir, place) = (PathBuf::from(part("dir")), part("place"));
    let sync = policy(&part("policy"));
    if part("pattern") == "push" {
        let push = pusher(&dir).sync(sync).build().expect("a spool");
        push.bind_to(place).await.expect("bind");
        say("ready");
        publish_words(&push).await;
        let _ = asked.await;
        push.close().await;
    } else {
        let mut builder = publisher(&dir).sync(sync).declare("steady", [""]).declare("filed", [""]);
        if part("pattern") == "small" {
            builder = builder.spool_max_bytes(4 << 20).when_full(WhenFull::DropOldest);
        }
        let publisher = builder.build().expect("a spool");
        publisher.bind_to(place).await.expect("bind");
        say("ready");
        publish_words(&publisher).await;
        let _ = asked.await;
        publisher.close().await;
    }
}

async fn publish_words(sender: &ginnel::Sender) {
    let (round, count) = (part_number("round") as u32, part_number("count") as u32);
    let words = (0..count).map(|at| Word { round, at });
    match part("manner").as_str() {
        "awaited" => {
            for word in words {
                let receipt = sender.send(word.message()).await.expect("accepted");
                say_accepted([(word, receipt.sequence().expect("a number"))]);
            }
        }
        "pipelined" => {
            let mut waiting: VecDeque<(Word, Pending)> = VecDeque::new();
            for word in words {
                waiting.push_back((word, sender.enqueue(word.message()).await.expect("room")));
                if waiting.len() >= 64 {
                    say_first(&mut waiting).await;
                }
            }
            while !waiting.is_empty() {
                say_first(&mut waiting).await;
            }
        }
        "lots" => {
            let words: Vec<Word> = words.collect();
            for lot in words.chunks(40) {
                let mut accepted = Vec::new();
                for word in lot {
                    let receipt = sender.reserve().await.expect("room").send(word.message());
                    accepted.push((*word, receipt.sequence().expect("a number")));
                }
                sender.flush().await.expect("accepted");
                say_accepted(accepted);
            }
        }
        other => panic!("no manner {other}"),
    }
}

/// Sends words for later, and says the number of each that is accepted.
async fn plan() {
    let asked = asked_to_finish();
    let (dir, place) = (PathBuf::from(part("dir")), part("place"));
    let builder = publisher(&dir).sync(policy(&part("policy"))).declare("steady", [""]);
    let publisher = builder.build().expect("a spool");
    publisher.bind_to(place).await.expect("bind");
    say("ready");
    let (round, count) = (part_number("round") as u32, part_number("count") as u32);
    let mut dice = Dice::new(part_number("seed"));
    for at in 0..count {
        let word = Word { round, at };
        // Due before, while and after this process lives.
        let due = std::time::SystemTime::now() + Duration::from_millis(dice.below(150));
        let receipt = publisher.send_at(word.message(), due).await.expect("accepted");
        assert!(receipt.is_delayed());
        say_accepted([(word, receipt.sequence().expect("a number"))]);
    }
    let _ = asked.await;
    publisher.close().await;
}

async fn say_first(waiting: &mut VecDeque<(Word, Pending)>) {
    if let Some((word, pending)) = waiting.pop_front() {
        let receipt = pending.await.expect("accepted");
        say_accepted([(word, receipt.sequence().expect("a number"))]);
    }
}

fn say_accepted(accepted: impl IntoIterator<Item = (Word, u64)>) {
    say_all(accepted.into_iter().map(|(word, sequence)| format!("{sequence} {} {}", word.round, word.at)));
}

fn say_delivered(delivery: &Delivery) {
    let word = Word::of(delivery.message());
    say(format_args!(
        "{} {} {} {}",
        delivery.sequence().expect("out of a spool"),
        word.round,
        word.at,
        delivery.tries()
    ));
}

async fn subscribe() {
    let asked = asked_to_finish();
    let mode = part("mode");
    let ack = if mode == "next" || mode == "file" { Ack::OnNext } else { Ack::Manual };
    let mut builder = subscriber("steady").ack(ack).recv_hwm(part_number("window") as usize);
    if mode == "file" {
        builder = builder.cursor_file(part("file"));
    }
    let mut sub = builder.connect(part("place")).expect("connect");
    say("ready");
    tokio::select! {
        () = tell(&mut sub, &mode) => {}
        _ = asked => {}
    }
    sub.close().await;
}

async fn work() {
    let asked = asked_to_finish();
    let mode = part("mode");
    let ack = if mode == "next" { Ack::OnNext } else { Ack::Manual };
    let builder = worker(&part("name")).ack(ack).recv_hwm(part_number("window") as usize);
    let mut pull = builder.connect(part("place")).expect("connect");
    say("ready");
    tokio::select! {
        () = tell(&mut pull, &mode) => {}
        _ = asked => {}
    }
    pull.close().await;
}

/// Says what is delivered, and only then that it is done.
async fn tell(receiver: &mut Receiver, mode: &str) {
    let mut held: Vec<Delivery> = Vec::new();
    loop {
        let delivery = receiver.recv_delivery().await.expect("open");
        say_delivered(&delivery);
        match mode {
            "next" | "file" => {}
            "each" => delivery.ack(),
            // The last in hand for some.
            "some" => {
                held.push(delivery);
                while held.len() < 8 {
                    let Ok(delivery) = receiver.try_recv_delivery() else { break };
                    say_delivered(&delivery);
                    held.push(delivery);
                }
                if let Some(last) = held.pop() {
                    last.ack_up_to();
                }
                held.clear();
            }
            "backwards" => {
                held.push(delivery);
                while held.len() < 8 {
                    let Ok(delivery) = receiver.try_recv_delivery() else { break };
                    say_delivered(&delivery);
                    held.push(delivery);
                }
                while let Some(delivery) = held.pop() {
                    delivery.ack();
                    tokio::task::yield_now().await;
                }
            }
            other => panic!("no mode {other}"),
        }
    }
}

/// A receiver's own data: how far it got, and what it has done, together in one file.
#[derive(Debug, Clone, Default, PartialEq)]
struct Books {
    token: Option<Token>,
    /// Of each round, how many words had their effect.
    effects: BTreeMap<u32, u32>,
}

impl Books {
    fn read(path: &Path) -> Books {
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
    fn write(&self, path: &Path) {
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
    fn apply(&mut self, delivery: &Delivery) {
        let word = Word::of(delivery.message());
        let last = self.effects.last_key_value().map_or(0, |(round, _)| *round);
        assert!(word.round >= last, "{word:?} after {:?}", self.token);
        let count = self.effects.entry(word.round).or_default();
        assert_eq!(word.at, *count, "each effect once, in order: {delivery:?} after {:?}", self.token);
        *count += 1;
        self.token = delivery.token();
    }
}

async fn keep_books() {
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

// What this process knows.

/// What was said of numbers and words, whoever said it.
#[derive(Default)]
struct Truth {
    meanings: HashMap<u64, Word>,
    accepted: BTreeMap<u64, Word>,
}

impl Truth {
    /// No number is used for two messages.
    fn means(&mut self, sequence: u64, word: Word) {
        let known = *self.meanings.entry(sequence).or_insert(word);
        assert_eq!(known, word, "number {sequence} is used twice");
    }

    fn accept(&mut self, said: &[Said]) {
        for said in said {
            self.means(said.sequence, said.word);
            let before = self.accepted.insert(said.sequence, said.word);
            assert_eq!(before, None, "{said:?} was accepted before");
        }
    }

    fn last_accepted(&self) -> u64 {
        self.accepted.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }
}

/// A line about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    sequence: u64,
    word: Word,
    tries: u32,
}

impl Said {
    fn parse(line: &str) -> Said {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let sequence = numbers.next().expect("a number");
        let word = Word { round: numbers.next().expect("a round") as u32, at: numbers.next().expect("a place") as u32 };
        Said { sequence, word, tries: numbers.next().unwrap_or(1) as u32 }
    }

    fn of(delivery: &Delivery) -> Said {
        let sequence = delivery.sequence().expect("out of a spool");
        Said { sequence, word: Word::of(delivery.message()), tries: delivery.tries() }
    }
}

type Heard = Arc<Mutex<Vec<Said>>>;

fn into(heard: &Heard) -> impl FnMut(&str) + Send + 'static {
    let heard = heard.clone();
    move |line| heard.lock().unwrap().push(Said::parse(line))
}

fn taken(heard: &Heard) -> Vec<Said> {
    std::mem::take(&mut *heard.lock().unwrap())
}

/// Lets a process live for a while, counted from its birth or from when it is ready, and kills it.
async fn kill_some_time(dice: &mut Dice, mut player: Player) {
    if dice.below(3) > 0 {
        player.ready().await;
    }
    tokio::time::sleep(dice.life()).await;
    player.shoot();
    player.gone().await;
}

struct Progress {
    what: String,
    began: Instant,
}

impl Progress {
    fn new(what: String) -> (Progress, Dice) {
        let dice = Dice::printed(&what);
        (Progress { what, began: Instant::now() }, dice)
    }

    fn tell(&self, round: u32, of: u32, more: impl FnOnce() -> String) {
        if (round + 1).is_multiple_of(50) || round + 1 == of {
            println!("{}: {} of {of} rounds, {:.0?}: {}", self.what, round + 1, self.began.elapsed(), more());
        }
    }
}

/// Each round's words are there from the first on, none left out.
fn assert_whole(words: impl Iterator<Item = Word>) {
    let mut rounds: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    words.for_each(|word| {
        rounds.entry(word.round).or_default().insert(word.at);
    });
    for (round, places) in rounds {
        let last = places.last().copied().unwrap_or(0);
        assert_eq!(places.len() as u32, last + 1, "round {round} has holes: {places:?}");
    }
}

// A spooler is killed.

/// A subscriber in this process that notes everything that is delivered to it.
struct Listener {
    heard: Heard,
    stop: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    fn start(mut receiver: impl std::ops::DerefMut<Target = Receiver> + Send + 'static, heard: &Heard) -> Listener {
        let (heard, stop) = (heard.clone(), Arc::new(tokio::sync::Notify::new()));
        let (notes, stopped) = (heard.clone(), stop.clone());
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    delivery = receiver.recv_delivery() => notes.lock().unwrap().push(Said::of(&delivery.expect("open"))),
                    () = stopped.notified() => break,
                }
            }
            receiver.ack_last();
            receiver.close().await;
        });
        Listener { heard, stop, task }
    }

    async fn stop(self) {
        self.stop.notify_one();
        soon(self.task).await.expect("no panic");
    }
}

struct Publisher<'a> {
    dir: &'a Path,
    place: String,
    policy: &'a str,
    pattern: &'a str,
}

impl Publisher<'_> {
    fn start(&self, round: u32, count: u32, manner: &str, accepted: &Heard) -> Player {
        let parts = [
            ("dir", self.dir.to_str().expect("a path")),
            ("place", &self.place),
            ("policy", self.policy),
            ("pattern", self.pattern),
            ("round", &round.to_string()),
            ("count", &count.to_string()),
            ("manner", manner),
        ];
        Player::start("publisher", &parts, into(accepted))
    }
}

const MANNERS: [&str; 3] = ["awaited", "pipelined", "lots"];
/// Sent in the last round, whose publisher lives.
const LAST: u32 = 40;

fn manner(dice: &mut Dice) -> &'static str {
    MANNERS[dice.below(3) as usize]
}

fn wire(dice: &mut Dice) -> &'static str {
    WIRES[dice.below(2) as usize]
}

async fn a_publisher_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("publisher, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(4));
    let place = later(wire(&mut dice)).await.to_string();
    let child = Publisher { dir: &dir.spool(), place: place.clone(), policy, pattern: "pub" };
    let (accepted, steady, filed) = (Heard::default(), Heard::default(), Heard::default());
    let with_file = async || {
        let open = || subscriber("filed").cursor_file(dir.path("cursor")).connect(place.as_str());
        // A child of another test that is being born may have the lock with it for a moment.
        soon(async {
            loop {
                match open() {
                    Ok(sub) => break sub,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
    };
    let first = Listener::start(subscriber("steady").connect(place.as_str()).expect("connect"), &steady);
    let mut second = Listener::start(with_file().await, &filed);
    let mut truth = Truth::default();
    for round in 0..rounds {
        let player = child.start(round, 1_000_000, manner(&mut dice), &accepted);
        kill_some_time(&mut dice, player).await;
        if dice.below(2) == 0 {
            // Its memory is only the file from here on.
            second.stop().await;
            second = Listener::start(with_file().await, &filed);
        }
        truth.accept(&taken(&accepted));
        progress.tell(round, rounds, || format!("{} accepted", truth.accepted.len()));
    }
    let player = child.start(rounds, LAST, "awaited", &accepted);
    until(|| accepted.lock().unwrap().len() as u32 == LAST).await;
    truth.accept(&taken(&accepted));
    for heard in [&first.heard, &second.heard] {
        let so_far = || heard.lock().unwrap().last().map_or(0, |said| said.sequence);
        until_still_moving(so_far, || so_far() >= truth.last_accepted(), || format!("at {}", so_far())).await;
    }
    first.stop().await;
    second.stop().await;
    for (name, heard) in [("steady", taken(&steady)), ("filed", taken(&filed))] {
        println!("{}: {name}: {} accepted, {} delivered", progress.what, truth.accepted.len(), heard.len());
        // Whoever remembers what is done gets nothing twice, and everything in order.
        assert!(heard.is_sorted_by(|a, b| a.sequence < b.sequence && a.word < b.word), "{name}: order, or twice");
        heard.iter().for_each(|said| truth.means(said.sequence, said.word));
        let delivered: BTreeSet<u64> = heard.iter().map(|said| said.sequence).collect();
        let lost: Vec<_> = truth.accepted.iter().filter(|(sequence, _)| !delivered.contains(sequence)).collect();
        assert!(lost.is_empty(), "{name}: accepted and not delivered: {lost:?}");
        assert_whole(heard.iter().map(|said| said.word));
    }
    player.finish().await;
    SpoolFiles::open(dir.spool()).expect("a spool").verify().expect("no bad record");
}

/// The spool is full all the time: what goes is the oldest, and its holder is told of all of it.
async fn a_full_publisher_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("full publisher, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(3));
    let place = later(wire(&mut dice)).await.to_string();
    let child = Publisher { dir: &dir.spool(), place: place.clone(), policy, pattern: "small" };
    let accepted = Heard::default();
    let mut truth = Truth::default();
    for round in 0..rounds {
        let player = child.start(round, 1_000_000, "pipelined", &accepted);
        kill_some_time(&mut dice, player).await;
        truth.accept(&taken(&accepted));
        let bytes: u64 =
            durable::segments(&dir.spool()).iter().map(|path| path.metadata().expect("a file").len()).sum();
        assert!(bytes <= 4 << 20, "{bytes} on disk");
        progress.tell(round, rounds, || format!("{} accepted", truth.accepted.len()));
    }
    let player = child.start(rounds, 15_000, "pipelined", &accepted);
    until_still_moving(
        || accepted.lock().unwrap().len() as u64,
        || accepted.lock().unwrap().len() == 15_000,
        || "not all accepted".to_owned(),
    )
    .await;
    truth.accept(&taken(&accepted));
    let sub = subscriber("steady").build().expect("options");
    let mut monitor = sub.monitor();
    sub.connect_to(place.as_str()).expect("connect");
    let listener = Listener::start(sub, &Heard::default());
    let so_far = || listener.heard.lock().unwrap().last().map_or(0, |said| said.sequence);
    until_still_moving(so_far, || so_far() >= truth.last_accepted(), || format!("at {}", so_far())).await;
    let heard = taken(&listener.heard);
    listener.stop().await;
    heard.iter().for_each(|said| truth.means(said.sequence, said.word));
    let told: Vec<Event> = events(&mut monitor);
    let lost: Vec<(u64, u64)> = told
        .iter()
        .filter_map(|event| if let Event::Lost { from, to, .. } = event { Some((*from, *to)) } else { None })
        .collect();
    println!("{}: {} accepted, {} delivered, lost {lost:?}", progress.what, truth.accepted.len(), heard.len());
    assert!(heard.is_sorted_by(|a, b| a.sequence < b.sequence && a.word < b.word), "order, or twice");
    let delivered: BTreeSet<u64> = heard.iter().map(|said| said.sequence).collect();
    for (sequence, word) in &truth.accepted {
        let is_told = lost.iter().any(|(from, to)| (from..=to).contains(&sequence));
        assert!(delivered.contains(sequence) || is_told, "{sequence}, {word:?}: accepted, not delivered, not told");
        assert!(!delivered.contains(sequence) || !is_told, "{sequence}, {word:?}: delivered, and told to be lost");
    }
    player.finish().await;
}

/// What is sent for later comes once, whatever the moment of the kill between the two places that it is kept in.
async fn a_planner_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("planner, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(3));
    let place = later(wire(&mut dice)).await.to_string();
    let accepted = Heard::default();
    let start = |round: u32, count: u32, seed: u64| {
        let parts = [
            ("dir", dir.spool().to_str().expect("a path").to_owned()),
            ("place", place.clone()),
            ("policy", policy.to_owned()),
            ("round", round.to_string()),
            ("count", count.to_string()),
            ("seed", seed.to_string()),
        ];
        let parts: Vec<(&str, &str)> = parts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Player::start("planner", &parts, into(&accepted))
    };
    let listener = Listener::start(subscriber("steady").connect(place.as_str()).expect("connect"), &Heard::default());
    // Its numbers are those of the delays, not of what is delivered in the end.
    let mut wanted: BTreeMap<u64, Word> = BTreeMap::new();
    let mut note = |said: Vec<Said>| {
        for said in said {
            assert_eq!(wanted.insert(said.sequence, said.word), None, "{said:?}: the number is used twice");
        }
        wanted.len()
    };
    for round in 0..rounds {
        let player = start(round, 1_000_000, dice.next());
        kill_some_time(&mut dice, player).await;
        let count = note(taken(&accepted));
        progress.tell(round, rounds, || format!("{count} accepted"));
    }
    let player = start(rounds, LAST, dice.next());
    until(|| accepted.lock().unwrap().len() as u32 == LAST).await;
    note(taken(&accepted));
    let words = || listener.heard.lock().unwrap().iter().map(|said| said.word).collect::<BTreeSet<Word>>();
    let missing = || {
        let words = words();
        wanted.iter().filter(|(_, word)| !words.contains(word)).map(|(number, _)| *number).collect::<Vec<u64>>()
    };
    let heard = || listener.heard.lock().unwrap().len() as u64;
    until_still_moving(heard, || missing().is_empty(), || format!("not delivered: {:?}", missing())).await;
    let heard = listener.heard.clone();
    player.finish().await;
    listener.stop().await;
    let heard = taken(&heard);
    println!("{}: {} accepted, {} delivered", progress.what, wanted.len(), heard.len());
    let mut truth = Truth::default();
    let mut once = BTreeSet::new();
    for said in &heard {
        truth.means(said.sequence, said.word);
        assert!(once.insert(said.word), "{said:?} twice");
    }
    assert_whole(once.into_iter());
}

async fn a_pusher_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("pusher, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(4));
    let place = later(wire(&mut dice)).await.to_string();
    let child = Publisher { dir: &dir.spool(), place: place.clone(), policy, pattern: "push" };
    let accepted = Heard::default();
    let workers: Vec<Listener> = (0..3)
        .map(|at| {
            let pull = worker(&format!("worker{at}")).connect(place.as_str()).expect("connect");
            Listener::start(pull, &Heard::default())
        })
        .collect();
    let mut truth = Truth::default();
    // After each kill: how much each worker had heard at least, and what the spool surely knew to be done.
    let mut floors: Vec<([usize; 3], u64)> = Vec::new();
    for round in 0..rounds {
        let player = child.start(round, 1_000_000, manner(&mut dice), &accepted);
        kill_some_time(&mut dice, player).await;
        truth.accept(&taken(&accepted));
        let listing = SpoolFiles::open(dir.spool()).and_then(|files| files.list());
        let cursor = listing.ok().and_then(|list| list.names.first().map(|name| name.cursor)).unwrap_or(0);
        let heard = [0, 1, 2].map(|at: usize| workers[at].heard.lock().unwrap().len());
        floors.push((heard, cursor));
        progress.tell(round, rounds, || format!("{} accepted", truth.accepted.len()));
    }
    let player = child.start(rounds, LAST, "awaited", &accepted);
    until(|| accepted.lock().unwrap().len() as u32 == LAST).await;
    truth.accept(&taken(&accepted));
    let heard = || workers.iter().map(|worker| worker.heard.lock().unwrap().len() as u64).sum();
    let missing = || {
        let mut missing: BTreeSet<u64> = truth.accepted.keys().copied().collect();
        for worker in &workers {
            worker.heard.lock().unwrap().iter().for_each(|said| {
                missing.remove(&said.sequence);
            });
        }
        missing
    };
    until_still_moving(heard, || missing().is_empty(), || format!("not delivered: {:?}", missing())).await;
    let mut words = Vec::new();
    for (at, worker) in workers.into_iter().enumerate() {
        let notes = worker.heard.clone();
        worker.stop().await;
        let heard = taken(&notes);
        let mut once = BTreeSet::new();
        for said in &heard {
            truth.means(said.sequence, said.word);
            assert!(once.insert(said.sequence), "worker {at} remembers {said:?}, and got it again");
        }
        for (before, cursor) in &floors {
            let again = heard[before[at]..].iter().find(|said| said.sequence <= *cursor);
            assert_eq!(again, None, "worker {at}: the spool knew on disk that all up to {cursor} is done");
        }
        words.extend(heard.iter().map(|said| said.word));
    }
    let different: BTreeSet<Word> = words.iter().copied().collect();
    println!(
        "{}: {} accepted, {} delivered, {} of them again",
        progress.what,
        truth.accepted.len(),
        words.len(),
        words.len() - different.len()
    );
    assert_whole(different.into_iter());
    player.finish().await;
    SpoolFiles::open(dir.spool()).expect("a spool").verify().expect("no bad record");
}

// A holder is killed.

/// Sends words from this process, never far ahead of what is done.
struct Feed {
    truth: Arc<Mutex<Truth>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Feed {
    /// How far it may be ahead.
    const AHEAD: u64 = 3_000;

    fn start(sender: ginnel::Sender, name: &'static str, seed: u64) -> Feed {
        let truth = Arc::new(Mutex::new(Truth::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (book, stopped) = (truth.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut dice = Dice::new(seed);
            let mut words = (0..).map(|at| Word { round: 0, at });
            let spool = sender.spool().expect("a spool").clone();
            while !stopped.load(Ordering::Relaxed) {
                if book.lock().unwrap().last_accepted() > cursor(&spool, name) + Feed::AHEAD {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                let mut waiting = Vec::new();
                for word in words.by_ref().take(1 + dice.below(32) as usize) {
                    waiting.push((word, sender.enqueue(word.message()).await.expect("room")));
                }
                for (word, pending) in waiting {
                    let sequence = pending.await.expect("accepted").sequence().expect("a number");
                    book.lock().unwrap().accept(&[Said { sequence, word, tries: 1 }]);
                }
            }
        });
        Feed { truth, stop, task }
    }

    async fn stop(self) -> Truth {
        self.stop.store(true, Ordering::Relaxed);
        soon(self.task).await.expect("no panic");
        let truth = Arc::into_inner(self.truth).expect("nobody else has it");
        truth.into_inner().unwrap()
    }
}

/// What one name has got so far.
#[derive(Default)]
struct Progressed {
    delivered: BTreeSet<u64>,
    again: usize,
}

impl Progressed {
    /// One life of its holder, which began when everything up to `floor` was done and ended when all up to `ceiling`
    /// was.
    fn life(&mut self, said: &[Said], floor: u64, ceiling: u64, window: u64) {
        let (mut at, mut again) = (floor, 0);
        for said in said {
            assert!(said.sequence > at, "{said:?} after {at}: what is done comes no more, and the rest in order");
            for skipped in at + 1..said.sequence {
                assert!(self.delivered.contains(&skipped), "{skipped} was passed over");
            }
            at = said.sequence;
            if self.delivered.contains(&at) {
                again += 1;
                assert!(said.tries > 1, "{said:?} came before");
            }
        }
        assert!(again <= window, "{again} again, more than the window of {window}");
        self.again += again as usize;
        self.delivered.extend(said.iter().map(|said| said.sequence));
        for done in floor + 1..=ceiling {
            assert!(self.delivered.contains(&done), "{done} is done and was never delivered");
        }
    }
}

async fn a_subscriber_is_killed(policy_name: &str) {
    let (progress, mut dice) = Progress::new(format!("subscriber, {policy_name}"));
    let (dir, rounds) = (Dir::new(), rounds(3));
    let builder = publisher(&dir.spool()).sync(policy(policy_name)).declare("steady", [""]);
    let publisher = builder.bind(place(wire(&mut dice))).await.expect("bind");
    let there = publisher.local_endpoint().expect("bound").to_string();
    let feed = Feed::start((*publisher).clone(), "steady", dice.next());
    let spool = publisher.spool().expect("a spool").clone();
    let file = dir.path("cursor");
    let heard = Heard::default();
    let start = |mode: &str, window: u64| {
        let (window, file) = (window.to_string(), file.to_str().expect("a path"));
        let parts = [("place", &*there), ("mode", mode), ("window", &window), ("file", file)];
        Player::start("subscriber", &parts, into(&heard))
    };
    let mut got = Progressed::default();
    let mut floor = 0;
    for round in 0..rounds {
        let mode = ["next", "each", "some", "backwards", "file"][dice.below(5) as usize];
        let window = [3, 64, 1000][dice.below(3) as usize];
        let player = start(mode, window);
        kill_some_time(&mut dice, player).await;
        left(&spool, "steady").await;
        let ceiling = cursor(&spool, "steady");
        // The window before may have been wider.
        got.life(&taken(&heard), floor, ceiling, 1000);
        floor = ceiling;
        progress.tell(round, rounds, || format!("{} delivered, {} again", got.delivered.len(), got.again));
    }
    let truth = feed.stop().await;
    let player = start("each", 1000);
    let last = truth.last_accepted();
    until_still_moving(|| cursor(&spool, "steady"), || cursor(&spool, "steady") >= last, || format!("to {last}")).await;
    player.finish().await;
    let said = taken(&heard);
    got.life(&said, floor, last, 1000);
    println!("{}: {} accepted, {} again", progress.what, truth.accepted.len(), got.again);
    assert!(truth.accepted.keys().all(|sequence| got.delivered.contains(sequence)));
    assert_eq!(soon(publisher.close()).await.dropped, 0);
}

/// One life of one worker.
struct Career {
    player: Option<Player>,
    heard: Heard,
    /// Everything up to here was done when it began.
    floor: u64,
    killed: bool,
}

async fn workers_are_killed(policy_name: &str) {
    const WINDOW: usize = 50;
    let (progress, mut dice) = Progress::new(format!("workers, {policy_name}"));
    let (dir, rounds) = (Dir::new(), rounds(3));
    let push = pusher(&dir.spool()).sync(policy(policy_name)).bind(place(wire(&mut dice))).await.expect("bind");
    let there = push.local_endpoint().expect("bound").to_string();
    let feed = Feed::start((*push).clone(), "", dice.next());
    let spool = push.spool().expect("a spool").clone();
    let employ = |at: usize, mode: &str| {
        let heard = Heard::default();
        let (name, window) = (format!("worker{at}"), WINDOW.to_string());
        let parts = [("place", &*there), ("mode", mode), ("window", &window), ("name", &name)];
        let player = Player::start("worker", &parts, into(&heard));
        Career { player: Some(player), heard, floor: cursor(&spool, ""), killed: false }
    };
    let connections = || spool.names().first().map_or(0, |name| name.connections);
    let mut at_work: Vec<Career> = (0..3).map(|at| employ(at, "next")).collect();
    let mut former: Vec<Career> = Vec::new();
    for round in 0..rounds {
        until(|| connections() == 3).await;
        tokio::time::sleep(dice.life()).await;
        let victims: Vec<usize> = (0..3).filter(|_| dice.below(2) == 0).collect();
        // At the same moment; the places are taken again one by one.
        for &at in &victims {
            at_work[at].player.as_mut().expect("at work").shoot();
        }
        for &at in &victims {
            let player = at_work[at].player.take().expect("at work");
            player.gone().await;
        }
        until(|| connections() == 3 - victims.len()).await;
        for &at in &victims {
            let mode = ["next", "each", "backwards"][dice.below(3) as usize];
            let mut career = std::mem::replace(&mut at_work[at], employ(at, mode));
            career.killed = true;
            former.push(career);
        }
        progress.tell(round, rounds, || format!("{} workers killed", former.len()));
    }
    let truth = feed.stop().await;
    let last = truth.last_accepted();
    until_still_moving(|| cursor(&spool, ""), || cursor(&spool, "") >= last, || format!("to {last}")).await;
    let kills = former.len();
    for mut career in at_work {
        career.player.take().expect("at work").finish().await;
        former.push(career);
    }
    let mut truth = truth;
    // By number: how many got it, and how many of those were killed.
    let mut deliveries: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for career in &former {
        let mut once = BTreeSet::new();
        for said in taken(&career.heard) {
            truth.means(said.sequence, said.word);
            assert!(said.sequence > career.floor, "{said:?} was done before this worker came");
            assert!(once.insert(said.sequence), "{said:?} twice in one life");
            let (times, dead) = deliveries.entry(said.sequence).or_default();
            *times += 1;
            *dead += usize::from(career.killed);
        }
    }
    let again: usize = deliveries.values().map(|(times, _)| times - 1).sum();
    println!("{}: {} accepted, {again} again, {kills} kills", progress.what, truth.accepted.len());
    assert!(truth.accepted.keys().all(|sequence| deliveries.contains_key(sequence)), "lost");
    for (sequence, (times, dead)) in &deliveries {
        assert!(times - dead <= 1, "{sequence} went to {times} workers, of whom {dead} were killed");
    }
    assert!(again <= kills * WINDOW, "{again} again after {kills} kills with a window of {WINDOW}");
    assert_eq!(soon(push.close()).await.dropped, 0);
}

// Both are killed, and the holder keeps its place with its own data.

async fn both_are_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("token, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(3));
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

macro_rules! under_each_policy {
    ($($what:ident: $($test:ident($policy:literal))*;)*) => {$($(
        #[tokio::test]
        async fn $test() {
            $what($policy).await;
        }
    )*)*};
}

under_each_policy! {
    a_publisher_is_killed:
        d01_a_killed_publisher_loses_nothing_under_batch("batch")
        d01_a_killed_publisher_loses_nothing_under_every("every")
        d01_a_killed_publisher_loses_nothing_under_never("never");
    a_pusher_is_killed:
        d01_a_killed_pusher_loses_nothing_under_batch("batch")
        d01_a_killed_pusher_loses_nothing_under_every("every")
        d01_a_killed_pusher_loses_nothing_under_never("never");
    a_full_publisher_is_killed:
        d03_a_killed_publisher_tells_what_it_dropped_under_batch("batch")
        d03_a_killed_publisher_tells_what_it_dropped_under_every("every")
        d03_a_killed_publisher_tells_what_it_dropped_under_never("never");
    a_planner_is_killed:
        d01_a_killed_planner_sends_all_in_time_under_batch("batch")
        d01_a_killed_planner_sends_all_in_time_under_every("every")
        d01_a_killed_planner_sends_all_in_time_under_never("never");
    a_subscriber_is_killed:
        d03_a_killed_subscriber_misses_nothing_under_batch("batch")
        d03_a_killed_subscriber_misses_nothing_under_every("every")
        d03_a_killed_subscriber_misses_nothing_under_never("never");
    workers_are_killed:
        d03_killed_workers_miss_nothing_under_batch("batch")
        d03_killed_workers_miss_nothing_under_every("every")
        d03_killed_workers_miss_nothing_under_never("never");
    both_are_killed:
        d05_with_a_token_each_effect_happens_once_under_batch("batch")
        d05_with_a_token_each_effect_happens_once_under_every("every")
        d05_with_a_token_each_effect_happens_once_under_never("never");
}
