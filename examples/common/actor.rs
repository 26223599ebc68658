//! A part as the story sees it: lines to wait for, lines to tell, an end.

use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::{Failure, Outcome, print};

/// A started part. Dropped, it is ended at once.
pub struct Actor {
    name: String,
    lines: UnboundedReceiver<String>,
    input: Option<UnboundedSender<String>>,
    end: JoinHandle<Outcome>,
}

impl Actor {
    /// Runs `play` as a task; `said` are its lines, `input` is where it hears.
    pub(super) fn task(
        name: String,
        play: Pin<Box<dyn Future<Output = Outcome> + Send>>,
        mut said: UnboundedReceiver<String>,
        input: UnboundedSender<String>,
    ) -> Actor {
        let (shown, lines) = unbounded_channel();
        let speaker = name.clone();
        let end = tokio::spawn(async move {
            let show = async {
                while let Some(line) = said.recv().await {
                    show(&speaker, &line);
                    let _ = shown.send(line);
                }
            };
            tokio::join!(play, show).0
        });
        Actor { name, lines, input: Some(input), end }
    }

    /// Runs this program again with `--role`.
    pub(super) fn process(name: String, role: &str, endpoints: &[&str], words: &[&str]) -> Outcome<Actor> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role]).args(endpoints.iter().flat_map(|endpoint| ["--endpoint", endpoint])).args(words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (shown, lines) = unbounded_channel();
        let (input, told) = unbounded_channel();
        let end = tokio::spawn(attend(name.clone(), child, told, shown));
        Ok(Actor { name, lines, input: Some(input), end })
    }

    /// The rest of the next line that starts with the word `key`.
    pub async fn wait_for(&mut self, key: &str) -> Outcome<String> {
        while let Some(line) = self.lines.recv().await {
            match line.strip_prefix(key) {
                Some("") => return Ok(String::new()),
                Some(rest) if rest.starts_with(' ') => return Ok(rest.trim().into()),
                _ => {}
            }
        }
        self.ended().await?;
        Err(format!("{} ended without saying \"{key}\"", self.name).into())
    }

    /// Tells it a line.
    pub fn tell(&self, line: impl Into<String>) {
        if let Some(input) = &self.input {
            // One that has ended is noticed where its end is awaited.
            let _ = input.send(line.into());
        }
    }

    /// Waits until it has ended by itself, and well.
    pub async fn finish(mut self) -> Outcome {
        self.input = None;
        self.ended().await
    }

    /// Ends it at once: a process is killed.
    pub async fn kill(mut self) {
        self.end.abort();
        let _ = (&mut self.end).await;
    }

    async fn ended(&mut self) -> Outcome {
        let named = |why: Failure| format!("{}: {why}", self.name).into();
        (&mut self.end).await.unwrap_or_else(|why| Err(why.into())).map_err(named)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// Carries a process's lines in both directions until it has ended.
async fn attend(
    name: String,
    mut child: Child,
    mut told: UnboundedReceiver<String>,
    shown: UnboundedSender<String>,
) -> Outcome {
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take().ok_or("no stdout")?);
    let mut lines = BufReader::new(stdout).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => {
                    show(&name, &line);
                    let _ = shown.send(line);
                }
                None => break,
            },
            line = told.recv(), if stdin.is_some() => match (line, &mut stdin) {
                (Some(line), Some(pipe)) => drop(pipe.write_all(format!("{line}\n").as_bytes()).await),
                _ => stdin = None,
            },
        }
    }
    let status = child.wait().await?;
    super::check(status.success(), format!("it ended with {status}"))
}

fn show(name: &str, line: &str) {
    print(format!("{name:>14} | {line}"));
}
