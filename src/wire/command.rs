//! Commands of the traffic phase, read and written (RFC 37, sections "Commands" and "Heartbeating").
//!
//! A command body is name-length, name, data: there is no separator. Lengths are checked against a table
//! before anything is cut. What is kept of a command is copied out, so that a stored topic never pins a
//! receive buffer. Commands of the handshake live in `mechanism`; frames around them in `frame`.

use bytes::{Bytes, BytesMut};

use super::Version;
use super::frame::{COMMAND, encode_header};
use crate::event::Reason;
use crate::options::Limits;

/// The longest PING context that is echoed (RFC 37).
pub(crate) const MAX_CONTEXT: usize = 16;
/// The longest reason in an ERROR: its length has one byte.
const MAX_REASON: usize = 255;

const SUBSCRIBE: &[u8] = b"SUBSCRIBE";
const CANCEL: &[u8] = b"CANCEL";
const PING: &[u8] = b"PING";
const PONG: &[u8] = b"PONG";
const ERROR: &[u8] = b"ERROR";

/// Body bytes of a SUBSCRIBE besides its topic; a CANCEL has fewer.
pub(crate) const SUBSCRIBE_OVERHEAD: usize = 10;

/// The least data of each known command: below it there is nothing to cut.
const MINIMUM: [(&[u8], usize); 5] = [(SUBSCRIBE, 0), (CANCEL, 0), (PING, 2), (PONG, 0), (ERROR, 1)];

/// A command that has a meaning in traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// The peer wants messages that start with this.
    Subscribe(Bytes),
    /// The peer no longer wants messages that start with this.
    Cancel(Bytes),
    /// Answer with a PONG of the same context.
    Ping {
        /// Tenths of a second of silence after which we may give the peer up; 0 is never.
        ttl: u16,
        /// At most [`MAX_CONTEXT`] bytes; longer ones were cut.
        context: Bytes,
    },
    /// The answer to a PING with this context (cut like that of a PING).
    Pong(Bytes),
    /// The peer gives us up; the text is escaped.
    Error(String),
    /// Empty, nameless or unknown here (READY too): ignored, but counted by the decoder.
    Unknown,
}

/// Name and data of a command body; `None` if the name does not fit in it.
#[inline]
pub(crate) fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(len))
}

/// Whether the command body that starts so carries a topic.
pub(crate) fn is_subscription(body: &[u8]) -> bool {
    split(body).is_some_and(|(name, _)| name == SUBSCRIBE || name == CANCEL)
}

/// Reads the body of a command frame in traffic.
pub(crate) fn parse(body: &[u8], limits: &Limits) -> Result<Command, Reason> {
    let Some((name, data)) = split(body) else { return within(body, limits).map(|()| Command::Unknown) };
    if name == SUBSCRIBE {
        return topic(data, limits).map(Command::Subscribe);
    }
    if name == CANCEL {
        return topic(data, limits).map(Command::Cancel);
    }
    within(body, limits)?;
    match MINIMUM.iter().find(|(known, _)| *known == name) {
        None => Ok(Command::Unknown),
        Some(&(_, minimum)) if data.len() < minimum => Err(Reason::Malformed("command shorter than its minimum")),
        Some(_) if name == PING => ping(data),
        Some(_) if name == PONG => Ok(Command::Pong(context(data))),
        Some(_) => error_text(data).map(Command::Error),
    }
}

fn within(body: &[u8], limits: &Limits) -> Result<(), Reason> {
    if body.len() > limits.max_command {
        return Err(Reason::LimitExceeded { which: "max_command", limit: limits.max_command as u64 });
    }
    Ok(())
}

fn topic(data: &[u8], limits: &Limits) -> Result<Bytes, Reason> {
    if data.len() > limits.max_topic {
        return Err(Reason::LimitExceeded { which: "max_topic", limit: limits.max_topic as u64 });
    }
    Ok(Bytes::copy_from_slice(data))
}

fn ping(data: &[u8]) -> Result<Command, Reason> {
    let (ttl, rest) = data.split_first_chunk::<2>().ok_or(Reason::Malformed("PING without its TTL"))?;
    Ok(Command::Ping { ttl: u16::from_be_bytes(*ttl), context: context(rest) })
}

fn context(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data.get(..MAX_CONTEXT).unwrap_or(data))
}

/// The escaped text in the data of an ERROR.
pub(crate) fn error_text(data: &[u8]) -> Result<String, Reason> {
    // Bytes after the text are tolerated, as libzmq does.
    match split(data) {
        Some((text, _)) => Ok(escape(text)),
        None => Err(Reason::Malformed("ERROR text longer than its command")),
    }
}

/// Text from a stranger, safe to print: at most 255 bytes, without anything a terminal would obey.
fn escape(text: &[u8]) -> String {
    let mut out = String::new();
    for symbol in String::from_utf8_lossy(text).chars() {
        let start = out.len();
        match symbol {
            '"' | '\'' => out.push(symbol),
            other => out.extend(other.escape_debug()),
        }
        if out.len() > MAX_REASON {
            out.truncate(start);
            break;
        }
    }
    out
}

/// Appends one command frame.
pub(crate) fn encode_command(out: &mut BytesMut, name: &[u8], parts: &[&[u8]]) {
    let data = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    encode_header(out, COMMAND, data.saturating_add(name.len()).saturating_add(1));
    // Our own names are all shorter than 256.
    out.extend_from_slice(&[name.len() as u8]);
    out.extend_from_slice(name);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends a subscription: a command to 3.1, a message to older peers, which know no such command.
pub(crate) fn encode_subscribe(out: &mut BytesMut, topic: &[u8], version: Version) {
    encode_subscription(out, SUBSCRIBE, 1, topic, version);
}

/// Appends the end of a subscription, in the form that `version` knows.
pub(crate) fn encode_cancel(out: &mut BytesMut, topic: &[u8], version: Version) {
    encode_subscription(out, CANCEL, 0, topic, version);
}

fn encode_subscription(out: &mut BytesMut, name: &[u8], mark: u8, topic: &[u8], version: Version) {
    match version {
        Version::V3_1 => encode_command(out, name, &[topic]),
        Version::V3_0 | Version::V2_0 => {
            encode_header(out, 0, topic.len().saturating_add(1));
            out.extend_from_slice(&[mark]);
            out.extend_from_slice(topic);
        }
    }
}

/// Appends a PING; `ttl` in tenths of a second, the context cut to [`MAX_CONTEXT`] bytes.
pub(crate) fn encode_ping(out: &mut BytesMut, ttl: u16, context: &[u8]) {
    let context = context.get(..MAX_CONTEXT).unwrap_or(context);
    encode_command(out, PING, &[&ttl.to_be_bytes(), context]);
}

/// Appends the PONG to a PING with this context.
pub(crate) fn encode_pong(out: &mut BytesMut, context: &[u8]) {
    let context = context.get(..MAX_CONTEXT).unwrap_or(context);
    encode_command(out, PONG, &[context]);
}

/// Appends an ERROR; the text is cut to 255 bytes.
pub(crate) fn encode_error(out: &mut BytesMut, text: &str) {
    let text = text.as_bytes().get(..MAX_REASON).unwrap_or(text.as_bytes());
    encode_command(out, ERROR, &[&[text.len() as u8], text]);
}
