//! One line of stdin: a message to send or a command.

use std::borrow::Cow;

use ginnel::{Frame, Message};
use serde::Deserialize;

use super::errno::{Errno, Fault};
use crate::formats::json;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Send(Message),
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    Bind(String),
    Connect(String),
    Unbind(String),
    Disconnect(String),
    Stats,
    Exit,
}

impl Line {
    /// The word for `op` and `cmd`.
    pub(super) fn op(&self) -> &'static str {
        match self {
            Line::Send(_) => "send",
            Line::Subscribe(_) => "subscribe",
            Line::Unsubscribe(_) => "unsubscribe",
            Line::Bind(_) => "bind",
            Line::Connect(_) => "connect",
            Line::Unbind(_) => "unbind",
            Line::Disconnect(_) => "disconnect",
            Line::Stats => "stats",
            Line::Exit => "exit",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    f: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    cmd: Option<Cow<'a, str>>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    ep: Option<String>,
}

/// The line, or the operation that failed and why.
pub(super) fn parse(text: &[u8]) -> Result<Line, (String, Fault)> {
    let raw: Raw<'_> = serde_json::from_slice(text).map_err(|e| ("input".to_owned(), invalid(e.to_string())))?;
    match (raw.f, raw.cmd) {
        (Some(frames), None) => parse_send(&frames).map_err(|why| ("send".to_owned(), invalid(why))),
        (None, Some(cmd)) => parse_command(&cmd, raw.topic.as_deref(), raw.ep)
            .map_err(|why| (cmd.chars().take(64).collect(), invalid(why))),
        _ => Err(("input".to_owned(), invalid("write {\"f\": [b64, …]} or {\"cmd\": …}"))),
    }
}

fn invalid(why: impl Into<String>) -> Fault {
    Fault::new(Errno::EINVAL, why)
}

fn parse_send(frames: &[Cow<'_, str>]) -> Result<Line, String> {
    let frames: Result<Vec<Frame>, String> = frames.iter().map(|text| json::decode(text).map(Frame::from)).collect();
    Message::from_frames(frames?).map(Line::Send).ok_or_else(|| "a message needs at least one frame".to_owned())
}

fn parse_command(cmd: &str, topic: Option<&str>, ep: Option<String>) -> Result<Line, String> {
    let topic = || json::decode(topic.ok_or("\"topic\" is missing")?);
    let ep = || ep.ok_or_else(|| "\"ep\" is missing".to_owned());
    Ok(match cmd {
        "subscribe" => Line::Subscribe(topic()?),
        "unsubscribe" => Line::Unsubscribe(topic()?),
        "bind" => Line::Bind(ep()?),
        "connect" => Line::Connect(ep()?),
        "unbind" => Line::Unbind(ep()?),
        "disconnect" => Line::Disconnect(ep()?),
        "stats" => Line::Stats,
        "exit" => Line::Exit,
        _ => {
            let known = "subscribe unsubscribe bind connect unbind disconnect stats exit";
            return Err(format!("unknown command; known are {known}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_and_commands() {
        assert_eq!(parse(br#"{"f":["aGk=",""]}"#).expect("line"), Line::Send(Message::from(("hi", ""))));
        assert_eq!(parse(br#"{"cmd":"subscribe","topic":"YQ=="}"#).expect("line"), Line::Subscribe(b"a".to_vec()));
        assert_eq!(parse(br#"{"cmd":"bind","ep":"tcp://:0"}"#).expect("line"), Line::Bind("tcp://:0".to_owned()));
        assert_eq!(parse(br#"{"cmd":"exit"}"#).expect("line"), Line::Exit);
    }

    #[test]
    fn wrong_lines_name_the_operation() {
        let cases: [(&[u8], &str); 9] = [
            (b"", "input"),
            (b"{}", "input"),
            (br#"{"f":[],"cmd":"exit"}"#, "input"),
            (br#"{"f":[]}"#, "send"),
            (br#"{"f":["?"]}"#, "send"),
            (br#"{"f":["YQ=="],"at":5}"#, "input"),
            (br#"{"cmd":"bind"}"#, "bind"),
            (br#"{"cmd":"subscribe","topic":1}"#, "input"),
            (br#"{"cmd":"ack"}"#, "ack"),
        ];
        for (text, expected) in cases {
            let (op, fault) = parse(text).expect_err("refused");
            assert_eq!(op, expected);
            assert_eq!(fault.errno, Some(Errno::EINVAL));
        }
    }
}
