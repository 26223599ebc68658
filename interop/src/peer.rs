//! A peer process: started, driven by JSON lines, ended by its id. Knows no test and no socket type.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cases::{Fault, Outcome, within};
use crate::content::{Content, from_json, to_json};

/// A peer compiles itself first (Java), on a machine that may be busy.
const READY: Duration = Duration::from_secs(60);

const JEROMQ: &str = "/usr/share/java/jeromq.jar";

/// Which peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// libzmq 4.3.5 through pyzmq. `INTEROP_PYTHON` names another interpreter than `python3`.
    Libzmq,
    /// JeroMQ 0.3.6, which speaks ZMTP 2.0.
    JeroMq,
}

impl Program {
    fn command(self) -> Result<Command, Fault> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        match self {
            Program::Libzmq => {
                let python = std::env::var("INTEROP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
                let mut command = Command::new(python);
                command.arg("-B").arg(peers.join("peer.py"));
                Ok(command)
            }
            Program::JeroMq if !Path::new(JEROMQ).exists() => {
                Err(format!("{JEROMQ} is missing; {}", self.installation()).into())
            }
            Program::JeroMq => {
                let mut command = Command::new("java");
                command.args(["-XX:TieredStopAtLevel=1", "-cp", JEROMQ]).arg(peers.join("Peer.java"));
                Ok(command)
            }
        }
    }

    fn installation(self) -> &'static str {
        match self {
            Program::Libzmq => "install it: pip install pyzmq==27.3.0 (Python 3.8 or later; it brings libzmq 4.3.5)",
            Program::JeroMq => "install it: apt-get install libjeromq-java default-jdk-headless",
        }
    }

    /// What the ready line must say.
    fn name(self) -> &'static str {
        match self {
            Program::Libzmq => "libzmq 4.3.5",
            Program::JeroMq => "JeroMQ 3.2.5",
        }
    }
}

/// A running peer. Dropping it kills the process.
pub struct Peer {
    program: Program,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts a peer and waits for its ready line.
    pub async fn start(program: Program) -> Result<Peer, Fault> {
        let mut command = program.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let missing = |why: String| -> Fault { format!("{why}; {}", program.installation()).into() };
        let mut child = command.spawn().map_err(|e| missing(format!("cannot start {command:?}: {e}")))?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut peer = Peer { program, child, input, output };
        let ready = tokio::time::timeout(READY, peer.answer()).await;
        let ready = ready.map_err(|_| "the peer was not ready in 60 s")?.map_err(|e| missing(e.to_string()))?;
        if ready["ready"] != program.name() {
            return Err(missing(format!("wanted {}, found {}", program.name(), ready["ready"])));
        }
        Ok(peer)
    }

    async fn answer(&mut self) -> Result<Value, Fault> {
        let line = self.output.next_line().await?.ok_or("the peer ended (see its standard error)")?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("the peer says: {error}").into()),
            None => Ok(answer),
        }
    }

    /// Gives one command and waits for its answer.
    pub async fn call(&mut self, command: Value) -> Result<Value, Fault> {
        let mut line = command.to_string();
        line.push('\n');
        self.input.write_all(line.as_bytes()).await?;
        within(&format!("command {}", command["do"]), self.answer()).await
    }

    /// Opens socket `name` and binds it; its endpoint.
    pub async fn bind(&mut self, name: &str, kind: &str, endpoint: &str, options: Value) -> Result<String, Fault> {
        let open = json!({ "do": "open", "s": name, "type": kind, "bind": endpoint, "options": options, "monitor": self.monitors() });
        let answer = self.call(open).await?;
        Ok(answer["endpoint"].as_str().ok_or("no endpoint")?.to_owned())
    }

    /// Opens socket `name` and connects it.
    pub async fn connect(&mut self, name: &str, kind: &str, endpoint: &str, options: Value) -> Outcome {
        let open = json!({ "do": "open", "s": name, "type": kind, "connect": endpoint, "options": options, "monitor": self.monitors() });
        self.call(open).await.map(drop)
    }

    fn monitors(&self) -> bool {
        self.program == Program::Libzmq
    }

    /// Sends one message.
    pub async fn send(&mut self, name: &str, message: &[Vec<u8>]) -> Outcome {
        self.call(json!({ "do": "send", "s": name, "messages": [to_json(message)] })).await.map(drop)
    }

    /// Receives one message.
    pub async fn recv(&mut self, name: &str) -> Result<Content, Fault> {
        let answer = self.call(json!({ "do": "recv", "s": name })).await?;
        from_json(&answer["messages"][0])
    }

    /// Receives one message and tells what its first frame says of us, by property name; null for what it does not say.
    pub async fn recv_properties(&mut self, name: &str, properties: &[&str]) -> Result<Value, Fault> {
        let answer = self.call(json!({ "do": "recv_properties", "s": name, "names": properties })).await?;
        Ok(answer["properties"].clone())
    }

    /// Nothing arrives for `millis` milliseconds.
    pub async fn silent(&mut self, name: &str, millis: u64) -> Outcome {
        self.call(json!({ "do": "silent", "s": name, "timeout": millis })).await.map(drop)
    }

    /// Runs a proxy between two sockets, each `{"type": …, "bind" or "connect": …}`; their endpoints.
    pub async fn proxy(&mut self, name: &str, front: Value, back: Value) -> Result<[String; 2], Fault> {
        let answer = self.call(json!({ "do": "proxy", "s": name, "front": front, "back": back })).await?;
        let endpoint = |nth: usize| answer["endpoints"][nth].as_str().map(str::to_owned).ok_or("no endpoint");
        Ok([endpoint(0)?, endpoint(1)?])
    }

    /// Sets options one after the other.
    pub async fn set(&mut self, name: &str, options: Value) -> Outcome {
        self.call(json!({ "do": "set", "s": name, "options": options })).await.map(drop)
    }

    /// Sends messages numbered from 0, each behind the frames of `head`.
    pub async fn stream_send(&mut self, name: &str, count: u64, head: &[Vec<u8>]) -> Outcome {
        self.call(json!({ "do": "stream_send", "s": name, "count": count, "head": to_json(head) })).await.map(drop)
    }

    /// Receives numbered messages and checks their order; the frames before the number in the first.
    pub async fn stream_verify(&mut self, name: &str, count: u64) -> Result<Content, Fault> {
        let answer = self.call(json!({ "do": "stream_verify", "s": name, "count": count })).await?;
        from_json(&answer["head"])
    }

    /// Receives numbered messages until none came for `millis` milliseconds: the first and last of each run of numbers.
    pub async fn stream_collect(&mut self, name: &str, millis: u64) -> Result<Vec<(u64, u64)>, Fault> {
        let answer = self.call(json!({ "do": "stream_collect", "s": name, "timeout": millis })).await?;
        let ranges = answer["ranges"].as_array().ok_or("no ranges")?;
        let number = |value: &Value| value.as_u64().ok_or("no number");
        Ok(ranges.iter().map(|range| Ok((number(&range[0])?, number(&range[1])?))).collect::<Result<_, &str>>()?)
    }

    /// The names of the socket's events up to `last`, or those of `millis` milliseconds.
    pub async fn events(&mut self, name: &str, last: &str, millis: u64) -> Result<Vec<String>, Fault> {
        let answer = self.call(json!({ "do": "events", "s": name, "until": last, "timeout": millis })).await?;
        let names = answer["events"].as_array().ok_or("no events")?;
        Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Closes one socket.
    pub async fn close(&mut self, name: &str) -> Outcome {
        self.call(json!({ "do": "close", "s": name })).await.map(drop)
    }

    /// Closes every socket.
    pub async fn reset(&mut self) -> Outcome {
        self.call(json!({ "do": "reset" })).await.map(drop)
    }

    /// Kills the process as a crash would, and starts another in its place.
    pub async fn restart(&mut self) -> Outcome {
        self.child.kill().await?;
        *self = Peer::start(self.program).await?;
        Ok(())
    }

    /// Kills the process as a crash would; only `restart` may follow.
    pub async fn kill(&mut self) -> Outcome {
        Ok(self.child.kill().await?)
    }

    /// Stops the process in its tracks (`STOP`) or lets it go on (`CONT`).
    pub async fn signal(&self, name: &str) -> Outcome {
        let id = self.child.id().ok_or("the peer has ended")?;
        let status = Command::new("kill").args(["-s", name, &id.to_string()]).status().await?;
        if status.success() { Ok(()) } else { Err(format!("kill -s {name} {id}: {status}").into()) }
    }
}
