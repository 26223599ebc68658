//! A child that is this program again, as the durable cells use it, and the hold that every workload knows.
//!
//! The other cells start theirs by `cast`, which bears a child that fails.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

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
