//! A holder is killed: subscribers in every way of acknowledging, workers one by one and together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use crate::durable::*;
use crate::spooler::wire;
use crate::truth::*;
use crate::{policy, rounds};

/// Sends words from this process, never far ahead of what is done.
pub(crate) struct Feed {
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Feed {
    /// How far it may be ahead.
    pub(crate) const AHEAD: u64 = 3_000;

    pub(crate) fn start(sender: ginnel::Sender, name: &'static str, seed: u64) -> Feed {
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

    pub(crate) async fn stop(self) -> Truth {
        self.stop.store(true, Ordering::Relaxed);
        soon(self.task).await.expect("no panic");
        let truth = Arc::into_inner(self.truth).expect("nobody else has it");
        truth.into_inner().unwrap()
    }
}

/// What the spool sent more than once.
fn sent_again(spool: &ginnel::Spool) -> usize {
    spool.names().iter().map(|name| usize::try_from(name.redelivered).expect("not so many")).sum()
}

/// What one name has got so far.
#[derive(Default)]
pub(crate) struct Progressed {
    pub(crate) delivered: BTreeSet<u64>,
    pub(crate) again: usize,
}

impl Progressed {
    /// One life of its holder, which began when everything up to `floor` was done and ended when all up to `ceiling`
    /// was.
    pub(crate) fn life(&mut self, said: &[Said], floor: u64, ceiling: u64, window: u64) {
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

pub(crate) async fn a_subscriber_is_killed(policy_name: &str) {
    let (progress, mut dice) = Progress::new(format!("subscriber, {policy_name}"));
    let (dir, rounds) = (Dir::new(), rounds(2));
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
    let sent_again = sent_again(&spool);
    progress.sum_up(&Figures {
        rounds,
        accepted: truth.accepted.len(),
        delivered: got.delivered.len() + got.again,
        doubled: got.again,
        absorbed: sent_again.saturating_sub(got.again),
    });
    assert!(truth.accepted.keys().all(|sequence| got.delivered.contains(sequence)));
    assert_eq!(soon(publisher.close()).await.dropped, 0);
}

/// One life of one worker.
pub(crate) struct Career {
    pub(crate) player: Option<Player>,
    pub(crate) heard: Heard,
    /// Everything up to here was done when it began.
    pub(crate) floor: u64,
    pub(crate) killed: bool,
}

pub(crate) async fn workers_are_killed(policy_name: &str) {
    const WINDOW: usize = 50;
    let (progress, mut dice) = Progress::new(format!("workers, {policy_name}"));
    let (dir, rounds) = (Dir::new(), rounds(2));
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
    progress.sum_up(&Figures {
        rounds,
        accepted: truth.accepted.len(),
        delivered: deliveries.len() + again,
        doubled: again,
        absorbed: sent_again(&spool).saturating_sub(again),
    });
    println!("{}: {kills} kills", progress.what);
    assert!(truth.accepted.keys().all(|sequence| deliveries.contains_key(sequence)), "lost");
    for (sequence, (times, dead)) in &deliveries {
        assert!(times - dead <= 1, "{sequence} went to {times} workers, of whom {dead} were killed");
    }
    assert!(again <= kills * WINDOW, "{again} again after {kills} kills with a window of {WINDOW}");
    assert_eq!(soon(push.close()).await.dropped, 0);
}
