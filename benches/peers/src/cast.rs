//! The children of one cell: started, heard, released, and ended whatever happens.
//!
//! A child that hangs, crashes or says that it failed becomes a [`Why`]; dropping the cast ends all that are left.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Why a cell has no value.
#[derive(Clone, Debug)]
pub struct Why {
    pub text: String,
    pub unsupported: bool,
}

impl Why {
    pub fn failed(text: impl Into<String>) -> Why {
        Why { text: text.into(), unsupported: false }
    }
}

/// All children of a cell.
pub struct Cast {
    members: Vec<Member>,
    says: Sender<(usize, Option<Value>)>,
    heard: Receiver<(usize, Option<Value>)>,
    limit: Duration,
    until: Instant,
    processors: Processors,
    /// What keeps processors awake.
    wakeful: Vec<Child>,
}

/// Where the system may run the sides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// Anywhere.
    Any,
    /// All on the first one: nobody wakes a sleeping one. What is left is the way through the software.
    One,
    /// The first and the second in turn: everybody wakes another one. Both are kept awake: how deep an idle processor
    /// sleeps, and how long it takes to wake, is the machine's affair and changes from minute to minute.
    Two,
}

struct Member {
    child: Child,
    lines: VecDeque<Value>,
    errors: Option<JoinHandle<String>>,
    /// It may end or be silent: nobody needs it any more.
    dismissed: bool,
}

impl Cast {
    /// Nobody yet; the cell fails when it is not over within `limit`.
    pub fn new(limit: Duration) -> Cast {
        let (says, heard) = channel();
        Cast {
            members: Vec::new(),
            says,
            heard,
            limit,
            until: Instant::now() + limit,
            processors: Processors::Any,
            wakeful: Vec::new(),
        }
    }

    /// Where all who are started from now on run.
    pub fn on(mut self, processors: Processors) -> Cast {
        self.processors = processors;
        if processors == Processors::Two {
            self.wakeful = [0, 1].map(keep_awake).into();
        }
        self
    }

    /// What starts the next side, without its arguments.
    fn command(&self) -> Command {
        let program = std::env::current_exe().expect("own path");
        let processor = match self.processors {
            Processors::Any => return Command::new(&program),
            Processors::One => 0,
            Processors::Two => self.members.len() % 2,
        };
        let mut command = Command::new("taskset");
        command.args(["-c", &processor.to_string()]).arg(&program);
        command
    }

    /// Starts a side with this job; returns its number.
    pub fn start(&mut self, mut job: Value) -> usize {
        job["seconds"] = (self.limit.as_secs() + 5).into();
        let mut command = self.command();
        let mut child = command
            .args(["--side", &job.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let number = self.members.len();
        let says = self.says.clone();
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // What a library prints by itself is no message.
                if let Ok(value) = serde_json::from_str::<Value>(&line)
                    && value.is_object()
                {
                    let _ = says.send((number, Some(value)));
                }
            }
            let _ = says.send((number, None));
        });
        let errors = child.stderr.take().expect("piped");
        let errors = Some(std::thread::spawn(move || beginning(errors)));
        self.members.push(Member { child, lines: VecDeque::new(), errors, dismissed: false });
        number
    }

    /// The next thing this one says.
    pub fn line(&mut self, number: usize) -> Result<Value, Why> {
        loop {
            if let Some(line) = self.members[number].lines.pop_front() {
                return match line["failed"].as_str() {
                    Some(text) => {
                        Err(Why { text: text.to_owned(), unsupported: line["unsupported"].as_bool() == Some(true) })
                    }
                    None => Ok(line),
                };
            }
            match self.heard.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
                Ok((from, Some(line))) => {
                    // A failure of anyone is a failure of all.
                    let failed = line["failed"].is_string() && !self.members[from].dismissed;
                    self.members[if failed { number } else { from }].lines.push_back(line);
                }
                Ok((from, None)) => self.ended(from, number)?,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Why::failed(format!("not over within {} s", self.limit.as_secs())));
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
            }
        }
    }

    /// Whether the end of one is the end of all: yes, unless it was dismissed or ended well.
    fn ended(&mut self, from: usize, waited_for: usize) -> Result<(), Why> {
        let member = &mut self.members[from];
        if member.dismissed {
            return Ok(());
        }
        let status = member.child.wait().map_err(|error| Why::failed(error.to_string()))?;
        let errors = member.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() && (from != waited_for || !member.lines.is_empty()) {
            return Ok(());
        }
        let first = errors.lines().find(|line| !line.trim().is_empty() && !line.contains("panicked at"));
        Err(Why::failed(format!("{status}: {}", first.unwrap_or("it said nothing"))))
    }

    /// Gives it a line.
    pub fn say(&mut self, number: usize) {
        if let Some(stdin) = self.members[number].child.stdin.as_mut() {
            // One that has ended is noticed when its line is awaited.
            let _ = stdin.write_all(b"\n");
        }
    }

    /// Ends its [`crate::role::hold`].
    pub fn release(&mut self, number: usize) {
        drop(self.members[number].child.stdin.take());
    }

    /// Kills it.
    pub fn kill(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.dismissed = true;
        let _ = member.child.kill();
        let _ = member.child.wait();
    }

    pub fn id(&self, number: usize) -> u32 {
        self.members[number].child.id()
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that has ended ignores it.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
        for child in &mut self.wakeful {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A loop on this processor that gives way to everybody else at once. Each of the commands becomes the next one, so that
/// the child is the loop.
fn keep_awake(processor: usize) -> Child {
    let mut command = Command::new("taskset");
    command.args(["-c", &processor.to_string(), "chrt", "--idle", "0", "sh", "-c", "while :; do :; done"]);
    command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()))
}

/// The first 4 KiB of what it says of its failure; the rest is read so that it never waits for us.
fn beginning(mut from: impl Read) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if text.len() < 4096 {
            text.extend_from_slice(&chunk[..read]);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
