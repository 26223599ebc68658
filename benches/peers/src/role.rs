//! One side of a workload in a process of its own: what the parent asks of a child, and the child's answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::columns::{self, Flavour};
use crate::usage::Usage;
use crate::workload::rounds::Times;
use crate::workload::{Arrivals, Bodies, Failure, Ready, Rounds, WARM_UP};

/// A child that hangs ends itself after so many seconds.
const CHILD_SECONDS: u32 = 120;

/// How bytes travel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Ipc,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Ipc => "ipc",
        }
    }

    /// A free place to bind: any port, or a path of our own.
    fn place(self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Transport::Tcp => "tcp://127.0.0.1:*".to_owned(),
            Transport::Ipc => {
                let name = format!("ginnel-peers-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                format!("ipc://{}", std::env::temp_dir().join(name).display())
            }
        }
    }
}

/// What a child does.
#[derive(Clone)]
pub struct Task {
    pub column: String,
    pub transport: Transport,
    pub flavour: Flavour,
    pub size: usize,
    pub count: u64,
}

impl Task {
    fn arguments(&self, role: &str, endpoint: &str) -> [String; 7] {
        [
            "--role".to_owned(),
            role.to_owned(),
            self.column.clone(),
            self.flavour.name().to_owned(),
            self.size.to_string(),
            self.count.to_string(),
            endpoint.to_owned(),
        ]
    }

    /// Runs `binder` and `connecter` as two processes; returns their last lines.
    pub fn run(&self, binder: &str, connecter: &str) -> (Value, Value) {
        let place = self.transport.place();
        let mut bound = Side::start(self.arguments(binder, &place));
        let ready = bound.line();
        let endpoint = ready["endpoint"].as_str().unwrap_or_else(|| panic!("{}: not ready: {ready}", self.column));
        let mut connected = Side::start(self.arguments(connecter, endpoint));
        // The side with the clock ends first; the other may hold until then.
        let lines = if connecter == "request" {
            let line = connected.finish();
            (bound.release().finish(), line)
        } else {
            (bound.finish(), connected.release().finish())
        };
        if let Some(path) = place.strip_prefix("ipc://") {
            // Most columns have removed it themselves.
            let _ = std::fs::remove_file(path);
        }
        lines
    }
}

/// A child: this program again.
pub struct Side {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Side {
    pub fn start(arguments: impl IntoIterator<Item = String>) -> Side {
        let program = std::env::current_exe().expect("own path");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a child");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Side { child, lines }
    }

    /// The next thing it says; null if it ended.
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("read from a child");
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    /// Ends the child's [`hold`].
    pub fn release(&mut self) -> &mut Side {
        drop(self.child.stdin.take());
        self
    }

    /// Gives it a line.
    pub fn say(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("not released");
        stdin.write_all(b"\n").expect("write to a child");
    }

    /// Its last line, once it has ended.
    pub fn finish(&mut self) -> Value {
        let line = self.line();
        self.end();
        line
    }

    /// Waits for its end.
    pub fn end(&mut self) {
        let status = self.child.wait().expect("wait for a child");
        assert!(status.success(), "a child failed: {status}");
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Only matters when the parent panics; a finished child ignores it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps a child until the other side is done.
///
/// A sender of libzmq needs it over ipc: a PULL at its high-water mark that sees the hang-up of a Unix socket gives
/// up what the system still holds for it.
pub fn hold() {
    // Whatever ends the wait ends the hold.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The child's side: `role column flavour size count endpoint`.
pub fn play(arguments: &[String]) {
    let [role, column, flavour, size, count, endpoint] = arguments else { panic!("six words after --role") };
    // SAFETY: alarm has no memory effects.
    unsafe { libc::alarm(CHILD_SECONDS) };
    let _ = flavour;
    let column = columns::by_name(column).expect("a column");
    let size: usize = size.parse().expect("a size");
    let count: u64 = count.parse().expect("a count");
    let before = Usage::now();
    let answer = match role.as_str() {
        "receive" => column
            .receive(endpoint, Ready, Arrivals::new(size, 1, count))
            .map(|arrivals| json!({ "rate": arrivals.rate() })),
        "send" => column.send(endpoint, Bodies::new(size, count)).map(|()| json!({})),
        "reply" => column.reply(endpoint, Ready, count + WARM_UP).map(|()| json!({})),
        "request" => column.request(endpoint, Rounds::new(size, count)).map(|rounds| {
            let times = Times::of(vec![rounds]);
            json!({ "rounds": times.count(), "rate": times.rate(),
                    "p50": times.percentile(0.5), "p99": times.percentile(0.99), "p999": times.percentile(0.999) })
        }),
        other => panic!("no role {other}"),
    };
    let mut answer = answer.unwrap_or_else(|failure| match failure {
        Failure::Unsupported(why) | Failure::Failed(why) => panic!("{why}"),
    });
    let usage = Usage::now().since(before);
    answer["cpu_us"] = usage.cpu_us.into();
    answer["switches"] = usage.switches.into();
    println!("{answer}");
}
