//! What every example shares: its arguments, its parts as tasks or as processes, their lines, how it ends.
//!
//! An example is a *story* that starts *parts*. They talk by lines. What a part says is shown to the reader, and
//! the story can wait for it (`endpoint tcp://…`); what the story tells a part, the part hears. For a process
//! these lines are its stdout and stdin, for a task two channels: the parts do not notice the difference.
#![allow(dead_code, unreachable_pub, unused_imports)] // Each example is a crate that uses what it needs.

mod actor;
pub mod folder;
pub mod screen;

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use actor::Actor;
pub use folder::Folder;
pub use screen::print;

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Outcome<T = ()> = Result<T, Failure>;
type Play = Arc<dyn Fn(Part) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// No story takes this long, on the busiest machine; one that does has lost something.
const PATIENCE: Duration = Duration::from_secs(300);

/// Fails with `reason` unless `holds`.
pub fn check(holds: bool, reason: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(reason.into().into()) }
}

/// The number that a frame, or a word, is the text of.
pub fn number(text: impl AsRef<[u8]>) -> Outcome<u64> {
    Ok(std::str::from_utf8(text.as_ref())?.parse()?)
}

/// One role at work: what it was given, and its lines.
pub struct Part {
    pub role: String,
    endpoints: Vec<String>,
    words: Vec<String>,
    heard: Option<UnboundedReceiver<String>>,
    said: Option<UnboundedSender<String>>,
}

impl Part {
    /// Says a line: to the story, or on stdout.
    pub fn say(&self, line: impl Display) {
        match &self.said {
            Some(said) => drop(said.send(line.to_string())),
            None => print(line),
        }
    }

    /// Says where a socket is bound; the story waits for this line.
    pub fn say_endpoint(&self, socket: &ginnel::Socket) {
        self.say_endpoint_of("endpoint", socket);
    }

    /// As [`Part::say_endpoint`], for parts with several.
    pub fn say_endpoint_of(&self, key: &str, socket: &ginnel::Socket) {
        self.say(format!("{key} {}", socket.local_endpoint().map_or_else(String::new, |it| it.to_string())));
    }

    /// Where to bind: the first `--endpoint`, or a free port of this machine.
    pub fn bind(&self) -> String {
        self.bind_at(0)
    }

    /// Where to bind a further socket.
    pub fn bind_at(&self, at: usize) -> String {
        self.endpoints.get(at).cloned().unwrap_or_else(|| "tcp://127.0.0.1:0".into())
    }

    /// The `--endpoint` to connect to, counted from 0.
    pub fn endpoint(&self, at: usize) -> Outcome<&str> {
        let missing =
            || format!("the role {} needs --endpoint EP{}", self.role, if at == 0 { "" } else { ", more than once" });
        Ok(self.endpoints.get(at).ok_or_else(missing)?)
    }

    /// A word after the flags, counted from 0; `otherwise` when it is not there.
    pub fn word<T: FromStr>(&self, at: usize, otherwise: T) -> Outcome<T> {
        match self.words.get(at) {
            Some(word) => {
                word.parse().map_err(|_| format!("\"{word}\" is not what the role {} takes", self.role).into())
            }
            None => Ok(otherwise),
        }
    }

    /// A word that names a directory or a file.
    pub fn path(&self, at: usize) -> Outcome<PathBuf> {
        let missing = || format!("the role {} needs a path as word {}", self.role, at + 1);
        Ok(self.words.get(at).ok_or_else(missing)?.into())
    }

    /// The next line from the story, or from stdin; None at its end.
    pub async fn hear(&mut self) -> Option<String> {
        self.heard.get_or_insert_with(stdin_lines).recv().await
    }
}

/// A thread, since reading stdin cannot be given up: the process just ends around it.
fn stdin_lines() -> UnboundedReceiver<String> {
    let (line, lines) = unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
    lines
}

/// Starts parts, each as a task or as a process.
pub struct Stage {
    play: Play,
    procs: bool,
}

impl Stage {
    pub fn start(&self, role: &str, endpoints: &[&str], words: &[&str]) -> Outcome<Actor> {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        // By role and first word, unless that is a path.
        let word = words.first().filter(|word| !word.contains(std::path::MAIN_SEPARATOR));
        let name = word.map_or_else(|| role.to_owned(), |word| format!("{role} {word}"));
        if self.procs {
            return Actor::process(name, role, endpoints, words);
        }
        let (said, lines) = unbounded_channel();
        let (input, heard) = unbounded_channel();
        let part = Part {
            role: role.into(),
            endpoints: owned(endpoints),
            words: owned(words),
            heard: Some(heard),
            said: Some(said),
        };
        Ok(Actor::task(name, (self.play)(part), lines, input))
    }
}

/// What the command line asks for.
enum Asked {
    Story { procs: bool },
    Role(Part),
    Help,
}

fn arguments(roles: &[&str]) -> Result<Asked, String> {
    let (mut procs, mut role) = (false, None);
    let (mut endpoints, mut words) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--procs" => procs = true,
            "--role" => role = Some(value()?),
            "--endpoint" => endpoints.push(value()?),
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
            word => words.push(word.to_owned()),
        }
    }
    match role {
        Some(role) if !roles.iter().any(|known| known.split(' ').next() == Some(&*role)) => {
            Err(format!("no role {role}; there are {}", roles.join(", ")))
        }
        Some(role) => Ok(Asked::Role(Part { role, endpoints, words, heard: None, said: None })),
        None if !endpoints.is_empty() || !words.is_empty() => Err("--endpoint and words go with --role".into()),
        None => Ok(Asked::Story { procs }),
    }
}

fn help(name: &str, about: &str, roles: &[&str]) -> String {
    format!(
        "{about}\n\n\
         cargo run --example {name}                the whole story in one process\n\
         cargo run --example {name} -- --procs     each role in a process of its own\n\
         cargo run --example {name} -- --role ROLE [--endpoint EP]… [WORD…]\n\
         \x20                                         one role by hand, here or on another machine\n\n\
         roles: {}\n\
         A role that binds says its endpoint; give it to the others. Words: see examples/{name}.rs.\n\
         A role waits for the others, for ever if they do not come; Ctrl-C ends it.",
        roles.join(", ")
    )
}

/// The `main` of every example: does what the command line asks for, and tells how it ended. Of each of `roles` the
/// first word is its name, the rest is for the reader.
pub fn run<P, PF, S, SF>(name: &str, about: &str, roles: &[&str], play: P, story: S) -> ExitCode
where
    P: Fn(Part) -> PF + Send + Sync + 'static,
    PF: Future<Output = Outcome> + Send + 'static,
    S: FnOnce(Stage) -> SF,
    SF: Future<Output = Outcome>,
{
    let play: Play = Arc::new(move |part| Box::pin(play(part)));
    let asked = match arguments(roles) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{name}: {why}; --help tells more");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return ended(name, Err(why.into()), true),
    };
    match asked {
        Asked::Help => {
            print(help(name, about, roles));
            ExitCode::SUCCESS
        }
        Asked::Role(part) => ended(name, runtime.block_on(play(part)), true),
        Asked::Story { procs } => {
            print(format!("{about}\n"));
            let story = async { tokio::time::timeout(PATIENCE, story(Stage { play, procs })).await };
            let outcome = runtime.block_on(story).unwrap_or_else(|_| Err("it did not end within five minutes".into()));
            ended(name, outcome, false)
        }
    }
}

fn ended(name: &str, outcome: Outcome, quiet: bool) -> ExitCode {
    match outcome {
        Ok(()) => {
            if !quiet {
                print(format!("OK {name}"));
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::FAILURE
        }
    }
}
