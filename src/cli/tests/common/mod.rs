//! Starts the command, talks to it through its pipes and waits for its end. No ports, no sleeps: a bound
//! endpoint is read from stderr, an end is waited for.

#![allow(dead_code)]

pub(crate) mod drive;
pub(crate) mod spool;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

pub(crate) const LOOPBACK: &str = "tcp://127.0.0.1:*";

/// A running command.
pub(crate) struct Ginnel {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    bound: mpsc::Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on stdout")
    }

    /// What it said on stderr must be empty of errors and its code 0.
    pub(crate) fn expect_ok(self) -> Ended {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ginnel"));
    command.env_remove("GINNEL_LOG").env_remove("NO_COLOR");
    command
}

/// Runs to the end without input.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ended {
    run_with(args, b"")
}

/// Runs to the end with this input.
pub(crate) fn run_with<S: AsRef<std::ffi::OsStr>>(args: &[S], input: &[u8]) -> Ended {
    let mut ginnel = Ginnel::start(args);
    ginnel.feed(input);
    ginnel.end()
}

impl Ginnel {
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ginnel {
        let mut command = binary();
        command.args(args);
        Ginnel::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Ginnel {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        let (sender, bound) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
        let stderr = std::thread::spawn(move || {
            let mut all = String::new();
            for line in lines.map_while(Result::ok) {
                if let Some(endpoint) = line.strip_prefix("ginnel: info: bound ") {
                    let _ = sender.send(endpoint.to_owned());
                }
                all.push_str(&line);
                all.push('\n');
            }
            all
        });
        Ginnel { child, stdin, stdout, bound, stderr: Some(stderr) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next endpoint that it has bound.
    pub(crate) fn bound(&self) -> String {
        self.bound.recv().expect("it binds before it ends")
    }

    pub(crate) fn write(&mut self, input: &[u8]) {
        // A command that ended early does not need the rest.
        let _ = self.stdin.as_mut().expect("stdin is open").write_all(input);
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// All input, from a thread so that full pipes do not matter.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        let mut stdin = self.stdin.take().expect("stdin is open");
        let input = input.to_vec();
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }

    /// One line of stdout, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stdout.as_mut().expect("stdout is open").read_line(&mut line).expect("text on stdout");
        assert!(read > 0, "stdout ended: {}", self.stderr_so_far());
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Sends a signal by name, such as TERM.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Ends it as nothing ends in order: no chance to save or to say anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Whether it has ended already.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    fn stderr_so_far(&mut self) -> String {
        let _ = self.child.kill();
        self.stderr.take().map(|thread| thread.join().unwrap_or_default()).unwrap_or_default()
    }

    /// Closes stdin and waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        self.stdin = None;
        self.wait()
    }

    /// Waits for the end with stdin as it is.
    pub(crate) fn wait(mut self) -> Ended {
        let mut stdout = Vec::new();
        if let Some(pipe) = &mut self.stdout {
            pipe.read_to_end(&mut stdout).expect("stdout is readable");
        }
        let code = self.child.wait().expect("it ends").code();
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap_or_default()).unwrap_or_default();
        Ended { code, stdout, stderr }
    }
}

impl Drop for Ginnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own for one test, removed at the end.
pub(crate) struct Directory(std::path::PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("ginnel-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Directory(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a text path").to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
