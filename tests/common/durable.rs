//! What the tests of durable sockets share: directories that go with a test, children that are killed, numbered
//! messages whose every byte is known.
//!
//! Next: `tests/durable_kill.rs`, `tests/durable_faults.rs`.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ginnel::{Builder, Delivery, Event, Message, Monitor, Pub, Pull, Push, Reason, Receiver, Spool, Sub};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::common::{DEADLINE, QUICK, soon, unique, until};

/// A directory that goes with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        let path = std::env::temp_dir().join(unique("ginnel-durable"));
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path("spool")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::env::var_os("GINNEL_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        } else {
            println!("kept: {}", self.0.display());
        }
    }
}

/// Small segments, so that every test has several; no care for what else is on this disk.
pub(crate) fn publisher(dir: &Path) -> Builder<Pub> {
    Pub::builder().spool(dir).min_free_disk(0).segment_bytes(64 << 10).linger(DEADLINE)
}

pub(crate) fn pusher(dir: &Path) -> Builder<Push> {
    Push::builder().spool(dir).min_free_disk(0).segment_bytes(64 << 10).linger(DEADLINE)
}

/// Holds this name and wants everything.
pub(crate) fn subscriber(name: &str) -> Builder<Sub> {
    Sub::builder().durable(name).subscribe("").reconnect(QUICK, QUICK * 4)
}

pub(crate) fn worker(name: &str) -> Builder<Pull> {
    Pull::builder().durable(name).reconnect(QUICK, QUICK * 4)
}

/// Waits until somebody holds this name.
pub(crate) async fn held(spool: &Spool, name: &str) {
    until(|| spool.names().iter().any(|known| known.name == name && known.connected())).await;
}

/// Waits until nobody holds this name.
pub(crate) async fn left(spool: &Spool, name: &str) {
    until(|| !spool.names().iter().any(|known| known.name == name && known.connected())).await;
}

/// Waits until everything up to this number is done by this name.
pub(crate) async fn done(spool: &Spool, name: &str, sequence: u64) {
    until(|| cursor(spool, name) >= sequence).await;
}

pub(crate) fn cursor(spool: &Spool, name: &str) -> u64 {
    let names = spool.names();
    names.iter().find(|known| known.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}")).cursor
}

/// Everything that the monitor has now.
pub(crate) fn events(monitor: &mut Monitor) -> Vec<Event> {
    std::iter::from_fn(|| monitor.try_recv()).collect()
}

/// A file's pieces under any name: `(name, bytes)` of everything in this directory and below.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// The segment files of a spool, the oldest first.
pub(crate) fn segments(spool: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(spool).expect("a spool");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

/// Random enough, and the same again from the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The seed that `GINNEL_SEED` asks for, or a new one; printed, so that a run can be repeated.
    pub(crate) fn printed(what: &str) -> Dice {
        let asked = std::env::var("GINNEL_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            u64::try_from(since.as_nanos() % u128::from(u64::MAX)).expect("it fits")
        };
        let seed: u64 = asked.unwrap_or_else(now);
        println!("{what}: GINNEL_SEED={seed}");
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// How long a process has before it is killed.
    pub(crate) fn life(&mut self) -> Duration {
        Duration::from_micros(5_000 + self.below(195_000))
    }
}

/// What a message says: the run it was sent in, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Word {
    pub(crate) round: u32,
    pub(crate) at: u32,
}

impl Word {
    /// How many bytes go with it: mostly few, sometimes a slice of a batch, sometimes more than a segment.
    fn padding(self) -> usize {
        match self.at {
            at if at % 701 == 700 => 70_000,
            at if at % 97 == 96 => 6_000,
            at => (at as usize * 7) % 180,
        }
    }

    pub(crate) fn message(self) -> Message {
        let mut body = Vec::with_capacity(8 + self.padding());
        body.extend_from_slice(&self.round.to_be_bytes());
        body.extend_from_slice(&self.at.to_be_bytes());
        body.resize(8 + self.padding(), self.at as u8);
        Message::from(("topic", body))
    }

    /// Reads a message, every byte of it.
    #[track_caller]
    pub(crate) fn of(message: &Message) -> Word {
        assert_eq!(message.len(), 2, "frames");
        let (topic, body): (&[u8], &[u8]) = (&message[0], &message[1]);
        assert_eq!(topic, b"topic");
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        let word = Word { round: number(0), at: number(4) };
        assert_eq!(body.len(), 8 + word.padding(), "{word:?}");
        assert!(body[8..].iter().all(|&byte| byte == word.at as u8), "{word:?}");
        word
    }
}

/// Every line that a child says begins with this, which tells it from the test harness's own, and ends with
/// [`ENDS`], which tells it from one that was cut short.
const SAYS: &str = "@ ";
const ENDS: &str = " .";
/// What a child is to do, and with what.
const ROLE: &str = "GINNEL_ROLE";
const PART: &str = "GINNEL_PART_";

/// A process that plays a role: this test binary, told by its environment. It goes with this value.
pub(crate) struct Player {
    child: Child,
    stdin: Option<ChildStdin>,
    reader: JoinHandle<()>,
    ready: Arc<AtomicBool>,
}

impl Player {
    /// `parts` are what [`part`] gives in the child; `hear` gets whatever it says but for "ready".
    pub(crate) fn start(role: &str, parts: &[(&str, &str)], mut hear: impl FnMut(&str) + Send + 'static) -> Player {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "plays_its_role", "--nocapture"]).env(ROLE, role);
        for (name, value) in parts {
            command.env(format!("{PART}{name}"), value);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = ready.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match whole(&line) {
                    None => {}
                    Some("ready") => is_ready.store(true, Ordering::Relaxed),
                    Some(said) => hear(said),
                }
            }
        });
        let stdin = child.stdin.take();
        Player { child, stdin, reader, ready }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it lives")
    }

    /// Whether it said so.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    #[track_caller]
    pub(crate) fn ready(&mut self) -> impl Future<Output = ()> {
        until(|| {
            assert!(self.child.try_wait().expect("it is ours").is_none(), "it died by itself");
            self.is_ready()
        })
    }

    /// Sends SIGKILL and does not wait. It must have lived until now.
    #[track_caller]
    pub(crate) fn shoot(&mut self) {
        assert!(self.child.try_wait().expect("it is ours").is_none(), "it died by itself");
        self.child.start_kill().expect("it is ours");
    }

    /// Waits until it is gone and everything that it said was heard.
    pub(crate) async fn gone(mut self) -> ExitStatus {
        let status = soon(self.child.wait()).await.expect("it is ours");
        soon(&mut self.reader).await.expect("no panic");
        status
    }

    /// Asks it to end in order, and waits for that.
    pub(crate) async fn finish(mut self) {
        let stdin = self.stdin.as_mut().expect("a pipe");
        stdin.write_all(b"finish\n").await.expect("it lives");
        assert!(self.gone().await.success());
    }
}

fn whole(line: &str) -> Option<&str> {
    line.split_once(SAYS)?.1.strip_suffix(ENDS)
}

/// The role of this process, if it is a child. Its parent's end is its end.
pub(crate) fn role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    // The harness has begun a line of its own.
    println!();
    Some(role)
}

/// What this child was given.
pub(crate) fn part(name: &str) -> String {
    std::env::var(format!("{PART}{name}")).unwrap_or_default()
}

pub(crate) fn part_number(name: &str) -> u64 {
    part(name).parse().unwrap_or_else(|_| panic!("{name} is no number"))
}

/// Ready when the parent asks for an orderly end. Without a parent this process ends at once.
pub(crate) fn asked_to_finish() -> tokio::sync::oneshot::Receiver<()> {
    let (asked, heard) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut asked = Some(asked);
        for line in std::io::stdin().lines() {
            if line.is_ok_and(|line| line == "finish")
                && let Some(asked) = asked.take()
            {
                let _ = asked.send(());
            }
        }
        std::process::exit(0);
    });
    heard
}

pub(crate) fn say(what: impl std::fmt::Display) {
    println!("{SAYS}{what}{ENDS}");
}

/// Says many things in few writes.
pub(crate) fn say_all(lines: impl IntoIterator<Item = String>) {
    use std::io::Write;
    let mut out = String::new();
    for line in lines {
        out.push_str(SAYS);
        out.push_str(&line);
        out.push_str(ENDS);
        out.push('\n');
    }
    let _ = std::io::stdout().lock().write_all(out.as_bytes());
}

/// Looks again and again while there is progress; what stands still for ten seconds is stuck.
#[track_caller]
pub(crate) fn until_still_moving(
    mut progress: impl FnMut() -> u64,
    mut condition: impl FnMut() -> bool,
    describe: impl Fn() -> String,
) -> impl Future<Output = ()> {
    let asked = std::panic::Location::caller();
    async move {
        let (mut last, mut since) = (progress(), Instant::now());
        while !condition() {
            let now = progress();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < DEADLINE, "it stands still at {asked}: {}", describe());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Words of one round.
pub(crate) fn words(range: std::ops::Range<u32>) -> impl Iterator<Item = Word> {
    range.map(|at| Word { round: 0, at })
}

/// Sends and waits until all are accepted. Gives their numbers.
pub(crate) async fn send_words(sender: &ginnel::Sender, range: std::ops::Range<u32>) -> Vec<u64> {
    let mut waiting = Vec::new();
    for word in words(range) {
        waiting.push(soon(sender.enqueue(word.message())).await.expect("room"));
    }
    let mut numbers = Vec::new();
    for pending in waiting {
        numbers.push(soon(pending).await.expect("accepted").sequence().expect("a number"));
    }
    numbers
}

/// The places of the next so many words.
pub(crate) async fn take(receiver: &mut Receiver, count: usize) -> Vec<u32> {
    let mut got = Vec::new();
    while got.len() < count {
        got.push(Word::of(&soon(receiver.recv()).await.expect("a message")).at);
    }
    got
}

/// The next so many deliveries.
pub(crate) async fn deliveries(receiver: &mut Receiver, count: usize) -> Vec<Delivery> {
    let mut got = Vec::new();
    while got.len() < count {
        got.push(soon(receiver.recv_delivery()).await.expect("a delivery"));
    }
    got
}

pub(crate) fn places(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

/// Why a connection ended, if it did.
pub(crate) fn end(event: &Event) -> Option<&Reason> {
    match event {
        Event::Refused { reason, .. } | Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    }
}
