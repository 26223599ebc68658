//! Commands of the traffic phase, read and written (RFC 37, sections "Commands" and "Heartbeating").
//!
//! A command body is name-length, name, data: there is no separator. Lengths are checked against a table
//! before anything is cut. What is kept of a command is copied out, so that a stored topic never pins a
//! receive buffer. Commands of the handshake live in `mechanism`; frames around them in `frame`.

pub(crate) mod durable;

use bytes::{Bytes, BytesMut};

use self::durable::Durable;
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
    /// A command of durable sockets, on a connection that speaks them.
    Durable(Box<Durable>),
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

/// Reads the body of a command frame in traffic; `durable`: both sides announced the extension.
pub(crate) fn parse(body: &[u8], limits: &Limits, durable: bool) -> Result<Command, Reason> {
    let Some((name, data)) = split(body) else { return within(body, limits).map(|()| Command::Unknown) };
    if name == SUBSCRIBE {
        return topic(data, limits).map(Command::Subscribe);
    }
    if name == CANCEL {
        return topic(data, limits).map(Command::Cancel);
    }
    within(body, limits)?;
    match MINIMUM.iter().find(|(known, _)| *known == name) {
        None if durable => match durable::parse(name, data) {
            Some(command) => command.map(|command| Command::Durable(Box::new(command))),
            None => Ok(Command::Unknown),
        },
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

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    fn encoded(encode: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        encode(&mut out);
        out
    }

    fn read(body: &[u8]) -> Result<Command, Reason> {
        parse(body, &Limits::default(), false)
    }

    fn limit(which: &'static str, limit: u64) -> Result<Command, Reason> {
        Err(Reason::LimitExceeded { which, limit })
    }

    #[test]
    fn encoders_match_the_recorded_bytes() {
        let subscribe = |version| encoded(|out| encode_subscribe(out, b"A", version));
        let cancel = |version| encoded(|out| encode_cancel(out, b"A", version));
        assert_eq!(subscribe(Version::V3_1), b"\x04\x0b\x09SUBSCRIBEA"[..]);
        assert_eq!(cancel(Version::V3_1), b"\x04\x08\x06CANCELA"[..]);
        for old in [Version::V3_0, Version::V2_0] {
            assert_eq!(subscribe(old), b"\x00\x02\x01A"[..]);
            assert_eq!(cancel(old), b"\x00\x02\x00A"[..]);
        }
        assert_eq!(encoded(|out| encode_ping(out, 0, b"")), b"\x04\x07\x04PING\x00\x00"[..]);
        assert_eq!(encoded(|out| encode_ping(out, 25, b"")), b"\x04\x07\x04PING\x00\x19"[..]);
        assert_eq!(encoded(|out| encode_pong(out, b"")), b"\x04\x05\x04PONG"[..]);
        assert_eq!(encoded(|out| encode_error(out, "400")), b"\x04\x0a\x05ERROR\x03400"[..]);
    }

    #[test]
    fn a_subscription_is_long_from_topic_length_246_and_a_message_from_255() {
        let topic = [b'x'; 300];
        for (size, first) in [(245, 4), (246, 6)] {
            let out = encoded(|out| encode_subscribe(out, &topic[..size], Version::V3_1));
            assert_eq!(out[0], first);
        }
        for (size, first) in [(254, 0), (255, 2)] {
            let out = encoded(|out| encode_subscribe(out, &topic[..size], Version::V3_0));
            assert_eq!(out[0], first);
        }
    }

    #[test]
    fn f08_every_command_below_its_minimum_is_malformed() {
        for (name, minimum) in MINIMUM {
            for size in 0..=minimum + 1 {
                let mut body = vec![name.len() as u8];
                body.extend(name);
                body.extend(vec![0; size]);
                let result = read(&body);
                if size < minimum {
                    assert!(matches!(result, Err(Reason::Malformed(_))), "{body:?}");
                } else {
                    assert!(matches!(result, Ok(ref c) if *c != Command::Unknown), "{body:?} {result:?}");
                }
                // A name that is cut is no name at all.
                for cut in 0..=name.len() {
                    assert_eq!(read(&body[..cut]), Ok(Command::Unknown));
                }
            }
        }
    }

    #[test]
    fn f07_names_are_exact_and_others_unknown() {
        let unknown: [&[u8]; 8] =
            [b"", b"\x00", b"\xff", b"\x09subscribeA", b"\x04ping\0\0", b"\x04JOINg", b"\x05READY", b"\x05HELLO"];
        for body in unknown {
            assert_eq!(read(body), Ok(Command::Unknown), "{body:?}");
        }
    }

    #[test]
    fn f09_contexts_are_cut_to_sixteen() {
        let context = b"0123456789abcdefX";
        let ping = |ttl: u16, size: usize| read(&[&b"\x04PING"[..], &ttl.to_be_bytes(), &context[..size]].concat());
        for (size, kept) in [(0, 0), (15, 15), (16, 16), (17, 16)] {
            let want = Command::Ping { ttl: 65535, context: Bytes::copy_from_slice(&context[..kept]) };
            assert_eq!(ping(65535, size), Ok(want));
            let pong = [&b"\x04PONG"[..], &context[..size]].concat();
            assert_eq!(read(&pong), Ok(Command::Pong(Bytes::copy_from_slice(&context[..kept]))));
        }
        assert_eq!(encoded(|out| encode_pong(out, context)).len(), 2 + 5 + 16);
    }

    #[test]
    fn s01_topics_end_at_their_limit_and_other_commands_at_theirs() {
        let limits = Limits { max_topic: 100, max_command: 50, ..Limits::default() };
        let body = |name: &[u8], size: usize| [&[name.len() as u8], name, &vec![7; size]].concat();
        for name in [SUBSCRIBE, CANCEL] {
            assert!(parse(&body(name, 100), &limits, false).is_ok());
            assert_eq!(parse(&body(name, 101), &limits, false), limit("max_topic", 100));
        }
        assert!(parse(&body(PONG, 45), &limits, false).is_ok());
        assert_eq!(parse(&body(PONG, 46), &limits, false), limit("max_command", 50));
        assert_eq!(parse(&[255; 51], &limits, false), limit("max_command", 50));
    }

    #[test]
    fn m08_error_text_is_escaped_and_bounded() {
        assert_eq!(read(b"\x05ERROR\x03400"), Ok(Command::Error("400".into())));
        assert_eq!(read(b"\x05ERROR\x02a\x1bzz"), Ok(Command::Error("a\\u{1b}".into())));
        assert_eq!(read("\x05ERROR\x05 é\u{1b}\n".as_bytes()), Ok(Command::Error(" é\\u{1b}\\n".into())));
        assert!(matches!(read(b"\x05ERROR\x04400"), Err(Reason::Malformed(_))));
        let evil = [&b"\x05ERROR\xff"[..], &[0x1b; 255]].concat();
        let Ok(Command::Error(text)) = read(&evil) else { panic!("an error") };
        assert!(text.len() <= 255 && text.chars().all(|c| !c.is_control()));
        assert!(!escape("\u{202e}txt.exe".as_bytes()).contains('\u{202e}'));
    }

    #[test]
    fn a_long_error_is_cut() {
        let out = encoded(|out| encode_error(out, &"x".repeat(300)));
        assert_eq!(out.len(), 9 + 7 + 255);
        assert_eq!(read(&out[9..]), Ok(Command::Error("x".repeat(255))));
    }

    #[test]
    fn round_trips() {
        fn property(topic: Vec<u8>, ttl: u16) -> bool {
            let bytes = Bytes::copy_from_slice(&topic);
            let context = bytes.slice(..topic.len().min(MAX_CONTEXT));
            let body = |encode: &dyn Fn(&mut BytesMut)| {
                let out = encoded(encode);
                let header = super::super::frame::peek_header(&out).unwrap();
                assert_eq!(header.body as usize, out.len() - header.len);
                read(&out[header.len..])
            };
            body(&|out| encode_subscribe(out, &topic, Version::V3_1)) == Ok(Command::Subscribe(bytes.clone()))
                && body(&|out| encode_cancel(out, &topic, Version::V3_1)) == Ok(Command::Cancel(bytes.clone()))
                && body(&|out| encode_pong(out, &topic)) == Ok(Command::Pong(context.clone()))
                && body(&|out| encode_ping(out, ttl, &topic)) == Ok(Command::Ping { ttl, context: context.clone() })
        }
        QuickCheck::new().quickcheck(property as fn(Vec<u8>, u16) -> bool);
    }

    #[test]
    fn random_bodies_never_panic() {
        fn property(body: Vec<u8>) -> bool {
            let named = [&b"\x05ERROR"[..], &body].concat();
            [read(&body), read(&named)].iter().all(|result| !matches!(result, Err(Reason::LimitExceeded { .. })))
        }
        QuickCheck::new().tests(1000).quickcheck(property as fn(Vec<u8>) -> bool);
    }
}
