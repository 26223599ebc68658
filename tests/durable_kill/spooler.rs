//! A spooler is killed: publishers, full ones, planners, pushers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ginnel::spool::SpoolFiles;
use ginnel::*;

use crate::common::*;
use crate::durable::{self, *};
use crate::rounds;
use crate::truth::*;

/// A subscriber in this process that notes everything that is delivered to it.
pub(crate) struct Listener {
    pub(crate) heard: Heard,
    pub(crate) stop: Arc<tokio::sync::Notify>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Listener {
    pub(crate) fn start(
        mut receiver: impl std::ops::DerefMut<Target = Receiver> + Send + 'static,
        heard: &Heard,
    ) -> Listener {
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

    pub(crate) async fn stop(self) {
        self.stop.notify_one();
        soon(self.task).await.expect("no panic");
    }
}

pub(crate) struct Publisher<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) place: String,
    pub(crate) policy: &'a str,
    pub(crate) pattern: &'a str,
}

impl Publisher<'_> {
    pub(crate) fn start(&self, round: u32, count: u32, manner: &str, accepted: &Heard) -> Player {
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

pub(crate) const MANNERS: [&str; 3] = ["awaited", "pipelined", "lots"];
/// Sent in the last round, whose publisher lives.
pub(crate) const LAST: u32 = 40;

pub(crate) fn manner(dice: &mut Dice) -> &'static str {
    MANNERS[dice.below(3) as usize]
}

pub(crate) fn wire(dice: &mut Dice) -> &'static str {
    WIRES[dice.below(2) as usize]
}

pub(crate) async fn a_publisher_is_killed(policy: &str) {
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
    let mut absorbed = [0, 0];
    for round in 0..rounds {
        let player = child.start(round, 1_000_000, manner(&mut dice), &accepted);
        kill_some_time(&mut dice, player).await;
        absorbed[0] += not_known_to_be_done(&steady, &dir.spool(), "steady");
        absorbed[1] += not_known_to_be_done(&filed, &dir.spool(), "filed");
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
    for (name, heard, absorbed) in [("steady", taken(&steady), absorbed[0]), ("filed", taken(&filed), absorbed[1])] {
        print!("{name}: ");
        progress.sum_up(&Figures {
            rounds,
            accepted: truth.accepted.len(),
            delivered: heard.len(),
            doubled: 0,
            absorbed,
        });
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

/// Names that were made are there, names that were dropped are gone, and of those in between it may be either.
pub(crate) async fn a_registrar_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("registrar, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(1));
    let path = dir.spool();
    let mut stages: HashMap<String, String> = HashMap::new();
    for round in 0..rounds {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = said.clone();
        let number = round.to_string();
        let parts = [("dir", path.to_str().expect("a path")), ("policy", policy), ("round", &number)];
        let hear = move |line: &str| notes.lock().unwrap().push(line.to_owned());
        kill_some_time(&mut dice, Player::start("registrar", &parts, hear)).await;
        for line in said.lock().unwrap().iter() {
            let (stage, name) = line.split_once(' ').expect("a stage and a name");
            stages.insert(name.to_owned(), stage.to_owned());
        }
        // As the next one to open it will see it.
        let listing = SpoolFiles::open(dir.spool()).and_then(|files| files.list());
        let Ok(listing) = listing else {
            assert!(stages.is_empty(), "{listing:?}, and {stages:?}");
            continue;
        };
        let known: HashMap<&str, _> = listing.names.iter().map(|known| (known.name.as_str(), known)).collect();
        for (name, stage) in &stages {
            let known = known.get(name.as_str());
            match stage.as_str() {
                "declared" => assert_eq!(known.expect(name).filters, [b"topic"], "{name}"),
                "dropped" => assert!(known.is_none(), "{known:?}"),
                _ => {}
            }
        }
        progress.tell(round, rounds, || format!("{} names", stages.len()));
    }
    let at = |asked: &str| stages.values().filter(|stage| *stage == asked).count();
    let (made, gone) = (at("declared") + at("dropping") + at("dropped"), at("dropped"));
    println!("{}: {rounds} rounds, {:.0?}: {made} declared, {gone} dropped", progress.what, progress.began.elapsed());
}

/// The spool is full all the time: what goes is the oldest, and its holder is told of all of it.
pub(crate) async fn a_full_publisher_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("full publisher, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(2));
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
        // And one record that is larger than a segment.
        assert!(bytes <= (4 << 20) + 70_200, "{bytes} on disk");
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
    println!("{}: told to be lost {lost:?}", progress.what);
    // Its holder comes when nobody is killed any more.
    progress.sum_up(&Figures {
        rounds,
        accepted: truth.accepted.len(),
        delivered: heard.len(),
        doubled: 0,
        absorbed: 0,
    });
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
pub(crate) async fn a_planner_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("planner, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(2));
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
    let mut absorbed = 0;
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
        absorbed += not_known_to_be_done(&listener.heard, &dir.spool(), "steady");
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
    progress.sum_up(&Figures { rounds, accepted: wanted.len(), delivered: heard.len(), doubled: 0, absorbed });
    let mut truth = Truth::default();
    let mut once = BTreeSet::new();
    for said in &heard {
        truth.means(said.sequence, said.word);
        assert!(once.insert(said.word), "{said:?} twice");
    }
    assert_whole(once.into_iter());
}

pub(crate) async fn a_pusher_is_killed(policy: &str) {
    let (progress, mut dice) = Progress::new(format!("pusher, {policy}"));
    let (dir, rounds) = (Dir::new(), rounds(3));
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
    // Of each worker: what it had heard and the spool did not know to be done.
    let mut open: [Vec<u64>; 3] = Default::default();
    let mut absorbed = 0;
    for round in 0..rounds {
        let player = child.start(round, 1_000_000, manner(&mut dice), &accepted);
        kill_some_time(&mut dice, player).await;
        truth.accept(&taken(&accepted));
        let cursor = known_to_be_done(&dir.spool(), "");
        let heard = [0, 1, 2].map(|at: usize| {
            let heard = workers[at].heard.lock().unwrap();
            let before = floors.last().map_or(0, |(heard, _)| heard[at]);
            open[at].extend(heard[before..].iter().map(|said| said.sequence));
            open[at].retain(|&sequence| sequence > cursor);
            absorbed += open[at].len();
            heard.len()
        });
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
    let doubled = words.len() - different.len();
    progress.sum_up(&Figures {
        rounds,
        accepted: truth.accepted.len(),
        delivered: words.len(),
        doubled,
        absorbed: absorbed.saturating_sub(doubled),
    });
    assert_whole(different.into_iter());
    player.finish().await;
    SpoolFiles::open(dir.spool()).expect("a spool").verify().expect("no bad record");
}
