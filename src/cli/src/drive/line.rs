//! One line of stdin: a message to send or a command.

use std::borrow::Cow;
use std::time::Duration;

use ginnel::{Frame, Message, SpoolId};
use serde::Deserialize;
use serde_json::Value;

use super::durable;
use super::errno::{Errno, Fault};
use crate::formats::json;
use crate::units;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The time is when it is to be delivered, since 1970.
    Send(Message, Option<Duration>),
    /// `up_to`: it and all before it.
    Ack {
        number: Number,
        up_to: bool,
    },
    Retry {
        number: Number,
        after: Duration,
    },
    Cancel(u64),
    DropName,
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    Bind(String),
    Connect(String),
    Unbind(String),
    Disconnect(String),
    Stats,
    Exit,
}

/// Which delivery is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) sequence: u64,
    pub(super) spool: Option<SpoolId>,
}

impl Line {
    /// The word for `op` and `cmd`.
    pub(super) fn op(&self) -> &'static str {
        match self {
            Line::Send(..) => "send",
            Line::Ack { .. } => "ack",
            Line::Retry { .. } => "retry",
            Line::Cancel(_) => "cancel",
            Line::DropName => "drop-name",
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
    at: Option<Value>,
    seq: Option<u64>,
    #[serde(borrow)]
    spool: Option<Cow<'a, str>>,
    upto: Option<bool>,
    delay: Option<Value>,
}

/// The line, or the operation that failed and why.
pub(super) fn parse(text: &[u8]) -> Result<Line, (String, Fault)> {
    let raw: Raw<'_> = serde_json::from_slice(text).map_err(|e| ("input".to_owned(), invalid(e.to_string())))?;
    match (&raw.f, &raw.cmd) {
        (Some(frames), None) => parse_send(frames, raw.at.as_ref()).map_err(|why| ("send".to_owned(), invalid(why))),
        (None, Some(cmd)) => parse_command(cmd, &raw).map_err(|why| (cmd.chars().take(64).collect(), invalid(why))),
        _ => Err(("input".to_owned(), invalid("write {\"f\": [b64, …]} or {\"cmd\": …}"))),
    }
}

fn invalid(why: impl Into<String>) -> Fault {
    Fault::new(Errno::EINVAL, why)
}

fn parse_send(frames: &[Cow<'_, str>], at: Option<&Value>) -> Result<Line, String> {
    let frames: Result<Vec<Frame>, String> = frames.iter().map(|text| json::decode(text).map(Frame::from)).collect();
    let message = Message::from_frames(frames?).ok_or_else(|| "a message needs at least one frame".to_owned())?;
    Ok(Line::Send(message, at.map(parse_at).transpose()?))
}

fn parse_at(at: &Value) -> Result<Duration, String> {
    match at {
        Value::String(text) => units::parse_rfc3339(text),
        at => durable::millis(at).ok_or_else(|| "write milliseconds since 1970".to_owned()),
    }
    .map_err(|why| format!("\"at\": {why}"))
}

fn parse_command(cmd: &str, raw: &Raw<'_>) -> Result<Line, String> {
    let topic = || json::decode(raw.topic.as_deref().ok_or("\"topic\" is missing")?);
    let ep = || raw.ep.clone().ok_or_else(|| "\"ep\" is missing".to_owned());
    let seq = || raw.seq.ok_or_else(|| "\"seq\" is missing".to_owned());
    let number = || {
        let spool = raw.spool.as_deref().map(str::parse).transpose();
        let spool = spool.map_err(|_| "\"spool\": write its 32 hex digits".to_owned())?;
        Ok::<_, String>(Number { sequence: seq()?, spool })
    };
    let delay = || match &raw.delay {
        None => Ok(Duration::ZERO),
        Some(delay) => durable::millis(delay).ok_or_else(|| "\"delay\": write milliseconds".to_owned()),
    };
    Ok(match cmd {
        "subscribe" => Line::Subscribe(topic()?),
        "unsubscribe" => Line::Unsubscribe(topic()?),
        "bind" => Line::Bind(ep()?),
        "connect" => Line::Connect(ep()?),
        "unbind" => Line::Unbind(ep()?),
        "disconnect" => Line::Disconnect(ep()?),
        "ack" => Line::Ack { number: number()?, up_to: raw.upto.unwrap_or_default() },
        "retry" => Line::Retry { number: number()?, after: delay()? },
        "cancel" => Line::Cancel(seq()?),
        "drop-name" => Line::DropName,
        "stats" => Line::Stats,
        "exit" => Line::Exit,
        _ => {
            let known = "subscribe unsubscribe bind connect unbind disconnect ack retry cancel drop-name stats exit";
            return Err(format!("unknown command; known are {known}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_and_commands() {
        assert_eq!(parse(br#"{"f":["aGk=",""]}"#).expect("line"), Line::Send(Message::from(("hi", "")), None));
        assert_eq!(parse(br#"{"cmd":"subscribe","topic":"YQ=="}"#).expect("line"), Line::Subscribe(b"a".to_vec()));
        assert_eq!(parse(br#"{"cmd":"bind","ep":"tcp://:0"}"#).expect("line"), Line::Bind("tcp://:0".to_owned()));
        assert_eq!(parse(br#"{"cmd":"exit"}"#).expect("line"), Line::Exit);
    }

    #[test]
    fn lines_of_durable_sockets() {
        let at = |time: &str| match parse(format!(r#"{{"f":[""],"at":{time}}}"#).as_bytes()).expect("line") {
            Line::Send(_, at) => at,
            line => panic!("{line:?}"),
        };
        assert_eq!(at("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(at("\"1970-01-01T00:00:01.5Z\""), Some(Duration::from_millis(1500)));
        let number = Number { sequence: 7, spool: None };
        assert_eq!(parse(br#"{"cmd":"ack","seq":7}"#).expect("line"), Line::Ack { number, up_to: false });
        let spool = Some(SpoolId::from_bytes([0xab; 16]));
        let text = format!(r#"{{"cmd":"ack","seq":7,"upto":true,"spool":"{}"}}"#, "ab".repeat(16));
        let number = Number { spool, ..number };
        assert_eq!(parse(text.as_bytes()).expect("line"), Line::Ack { number, up_to: true });
        let retry = parse(br#"{"cmd":"retry","seq":7,"delay":250}"#).expect("line");
        let number = Number { spool: None, ..number };
        assert_eq!(retry, Line::Retry { number, after: Duration::from_millis(250) });
        assert_eq!(parse(br#"{"cmd":"cancel","seq":7}"#).expect("line"), Line::Cancel(7));
        assert_eq!(parse(br#"{"cmd":"drop-name"}"#).expect("line"), Line::DropName);
    }

    #[test]
    fn wrong_lines_name_the_operation() {
        let cases: [(&[u8], &str); 13] = [
            (b"", "input"),
            (b"{}", "input"),
            (br#"{"f":[],"cmd":"exit"}"#, "input"),
            (br#"{"f":[]}"#, "send"),
            (br#"{"f":["?"]}"#, "send"),
            (br#"{"f":["YQ=="],"at":"soon"}"#, "send"),
            (br#"{"f":["YQ=="],"at":-5}"#, "send"),
            (br#"{"f":["YQ=="],"in":5}"#, "input"),
            (br#"{"cmd":"bind"}"#, "bind"),
            (br#"{"cmd":"subscribe","topic":1}"#, "input"),
            (br#"{"cmd":"ack"}"#, "ack"),
            (br#"{"cmd":"ack","seq":1,"spool":"x"}"#, "ack"),
            (br#"{"cmd":"retry","seq":1,"delay":"1s"}"#, "retry"),
        ];
        for (text, expected) in cases {
            let (op, fault) = parse(text).expect_err("refused");
            assert_eq!(op, expected);
            assert_eq!(fault.errno, Some(Errno::EINVAL));
        }
    }
}
