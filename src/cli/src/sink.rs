//! What a receiving command does with a message: print it, or hand it to a program.

use std::io::IsTerminal;
use std::process::Stdio;

use ginnel::{Frame, Message};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::args::FormatArgs;
use crate::exit::{self, Failure};
use crate::formats::{self, Format, Origin, Writer};
use crate::log;
use crate::output::{CHUNK, Output};

/// Records for stdout, gathered into chunks.
pub(crate) struct Printer {
    writer: Writer,
    output: Output,
    chunk: Vec<u8>,
}

impl Printer {
    pub(crate) fn new(args: &FormatArgs, output: &Output) -> Printer {
        let writer = Writer::new(args.output(), args.null, std::io::stdout().is_terminal());
        Printer { writer, output: output.clone(), chunk: Vec::new() }
    }

    pub(crate) fn add(&mut self, frames: &[Frame], origin: Origin<'_>) {
        self.writer.write(&mut self.chunk, frames, origin);
    }

    /// True when it is time to write, whatever is still to come.
    pub(crate) fn is_full(&self) -> bool {
        self.chunk.len() >= CHUNK
    }

    /// Writes what was added. Waits while stdout is not read.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.chunk = self.output.write(chunk).await.map_err(|e| exit::stdout_failure(&e))?;
        Ok(())
    }
}

/// `-x CMD`: a shell for each message.
pub(crate) struct Exec {
    command: String,
    writer: Writer,
    input: Format,
    null: bool,
}

impl Exec {
    pub(crate) fn new(command: &str, args: &FormatArgs) -> Exec {
        let writer = Writer::new(args.output(), args.null, false);
        Exec { command: command.to_owned(), writer, input: args.input(), null: args.null }
    }

    /// Runs the command with the message; its stdout is ours. A failure is reported, not fatal: false.
    pub(crate) async fn run(&mut self, frames: &[Frame], origin: Origin<'_>) -> bool {
        self.start(frames, origin, Stdio::inherit()).await.map_err(log::error).is_ok()
    }

    /// Runs the command with the message; its stdout is the reply. `None` after a failure, which is reported.
    pub(crate) async fn reply(&mut self, frames: &[Frame], origin: Origin<'_>) -> Option<Message> {
        let reply = match self.start(frames, origin, Stdio::piped()).await {
            Ok(stdout) => formats::parse_whole(self.input, self.null, &stdout)
                .map_err(|why| format!("the output of `{}` is no record: {why}", self.command)),
            Err(why) => Err(why),
        };
        reply.map_err(log::error).ok()
    }

    async fn start(&mut self, frames: &[Frame], origin: Origin<'_>, stdout: Stdio) -> Result<Vec<u8>, String> {
        let mut record = Vec::new();
        self.writer.write(&mut record, frames, origin);
        let command = &self.command;
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(stdout)
            .spawn()
            .map_err(|e| format!("cannot run `{command}`: {e}"))?;
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A command may end without reading: that is its own business.
                let _ = stdin.write_all(&record).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        let output = output.map_err(|e| format!("`{command}`: {e}"))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("`{command}` ended with {}", output.status))
        }
    }
}
