//! Lines for stdout: every event that `drive` reports, each one JSON object and LF.

use ginnel::{Delivery, Event, Frame, Reason};
use serde_json::{Map, Value, json};

use super::errno::Fault;
use crate::formats::json::encode;

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

pub(super) fn ready(endpoints: &[String]) -> Vec<u8> {
    line(&json!({"ev": "ready", "endpoints": endpoints}))
}

/// Appends a received message.
pub(super) fn message<'a>(out: &mut Vec<u8>, frames: impl Iterator<Item = &'a [u8]>) {
    message_frames(out, frames);
    out.extend_from_slice(b"}\n");
}

/// Appends a message as a durable name receives it.
pub(super) fn delivery(out: &mut Vec<u8>, delivery: &Delivery) {
    message_frames(out, frames(None, delivery.message()));
    if let (Some(sequence), Some(spool)) = (delivery.sequence(), delivery.spool()) {
        let tries = delivery.tries();
        out.extend_from_slice(format!(",\"seq\":{sequence},\"tries\":{tries},\"spool\":\"{spool}\"").as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

/// By hand: this is the hot line.
fn message_frames<'a>(out: &mut Vec<u8>, frames: impl Iterator<Item = &'a [u8]>) {
    out.extend_from_slice(b"{\"m\":[");
    for (index, frame) in frames.enumerate() {
        out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
        out.extend_from_slice(encode(frame).as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

/// Appends the count of accepted sends, with a number: `seq` of the last record, or `delayed` of a message that waits.
pub(super) fn sent(out: &mut Vec<u8>, total: u64, number: Option<(&str, u64)>) {
    out.extend_from_slice(format!("{{\"ev\":\"sent\",\"n\":{total}").as_bytes());
    if let Some((key, number)) = number {
        out.extend_from_slice(format!(",\"{key}\":{number}").as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

/// A command was carried out; `more` is added to the object.
pub(super) fn done(cmd: &str, more: Map<String, Value>) -> Vec<u8> {
    let mut object = Map::from_iter([("ev".to_owned(), json!("done")), ("cmd".to_owned(), json!(cmd))]);
    object.extend(more);
    line(&Value::Object(object))
}

/// Input line `number` failed.
pub(super) fn err(op: &str, number: Option<u64>, fault: &Fault) -> Vec<u8> {
    let mut object = Map::from_iter([("ev".to_owned(), json!("err")), ("op".to_owned(), json!(op))]);
    if let Some(number) = number {
        object.insert("line".to_owned(), json!(number));
    }
    if let Some(errno) = fault.errno {
        object.insert("errno".to_owned(), json!(errno.number()));
        object.insert("name".to_owned(), json!(errno.name()));
    }
    object.insert("why".to_owned(), json!(fault.why));
    line(&Value::Object(object))
}

pub(super) fn fatal(why: &str) -> Vec<u8> {
    line(&json!({"ev": "fatal", "why": why}))
}

/// News of durable delivery.
pub(super) fn spool(event: &Event) -> Vec<u8> {
    let mut object = fields(event);
    object.insert("ev".to_owned(), json!("spool"));
    line(&Value::Object(object))
}

/// What the socket's monitor saw.
pub(super) fn monitor(event: &Event) -> Vec<u8> {
    let mut object = fields(event);
    object.insert("ev".to_owned(), json!("monitor"));
    line(&Value::Object(object))
}

/// `kind` and the fields of an event, by their names in the library.
pub(crate) fn fields(event: &Event) -> Map<String, Value> {
    let mut object = Map::from_iter([("kind".to_owned(), json!(event.name()))]);
    let mut set = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    match event {
        Event::Listening { endpoint } | Event::Stopped { endpoint } => set("endpoint", json!(endpoint)),
        Event::AcceptFailed { endpoint, reason } => {
            set("endpoint", json!(endpoint));
            set_reason(&mut set, reason);
        }
        Event::Connected { peer, id, socket_type } => {
            set("peer", json!(peer));
            set("id", json!(encode(id)));
            set("socket_type", json!(socket_type.map(|kind| kind.name())));
        }
        Event::Refused { peer, phase, reason } => {
            set("peer", json!(peer));
            set("phase", json!(format!("{phase:?}")));
            set_reason(&mut set, reason);
        }
        Event::Disconnected { peer, reason } => {
            set("peer", json!(peer));
            set_reason(&mut set, reason);
        }
        Event::Retrying { endpoint, after } => {
            set("endpoint", json!(endpoint));
            set("after", json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
        }
        Event::HwmReached { peer } | Event::HwmCleared { peer } | Event::Unanswered { peer } => {
            set("peer", json!(peer))
        }
        Event::Dropped { peer, reason, count } => {
            set("peer", json!(peer));
            set("reason", json!(reason.name()));
            set("count", json!(count));
        }
        Event::Subscribed { peer, topic } | Event::Unsubscribed { peer, topic } => {
            set("peer", json!(peer));
            set("topic", json!(encode(topic)));
        }
        Event::Missed { count } => set("count", json!(count)),
        event => spool_fields(&mut set, event),
    }
    object
}

fn spool_fields(set: &mut impl FnMut(&str, Value), event: &Event) {
    match event {
        Event::SpoolFull { bytes, limit } => {
            set("bytes", json!(bytes));
            set("limit", json!(limit));
        }
        Event::SpoolFailed { error } => set("error", json!(error)),
        Event::Lost { name, from, to, records, bytes } => {
            set("name", json!(name));
            set("from", json!(from));
            set("to", json!(to));
            set("records", json!(records));
            set("bytes", json!(bytes));
        }
        Event::Damaged { segment, offset, bytes, from, to } => {
            set("segment", json!(segment));
            set("offset", json!(offset));
            set("bytes", json!(bytes));
            set("from", json!(from));
            set("to", json!(to));
        }
        Event::Recovered { records, torn, next } => {
            set("records", json!(records));
            set("torn", json!(torn));
            set("next", json!(next));
        }
        Event::NameExpired { name } => set("name", json!(name)),
        Event::NameStalled { name, lag } => {
            set("name", json!(name));
            set("lag", json!(lag));
        }
        Event::PlainPeer { peer } => set("peer", json!(peer)),
        Event::SpoolChanged { peer, old, new } => {
            set("peer", json!(peer));
            set("old", json!(old.to_string()));
            set("new", json!(new.to_string()));
        }
        Event::DeadLetter { name, sequence } => {
            set("name", json!(name));
            set("sequence", json!(sequence));
        }
        Event::ClockStep { by_ms } => set("by_ms", json!(by_ms)),
        _ => {}
    }
}

fn set_reason(set: &mut impl FnMut(&str, Value), reason: &Reason) {
    set("reason", json!(reason.name()));
    match reason {
        Reason::PeerError(text) | Reason::Io(text) => set("text", json!(text)),
        Reason::Malformed(text) => set("text", json!(text)),
        Reason::LimitExceeded { which, limit } => {
            set("which", json!(which));
            set("limit", json!(limit));
        }
        _ => {}
    }
}

/// The frames of a message that came from `peer`, where the type shows it.
pub(super) fn frames<'a>(peer: Option<&'a [u8]>, frames: &'a [Frame]) -> impl Iterator<Item = &'a [u8]> {
    peer.into_iter().chain(frames.iter().map(|frame| &**frame))
}

#[cfg(test)]
mod tests {
    use super::super::errno::Errno;
    use super::*;

    fn parse(line: &[u8]) -> Value {
        assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
        serde_json::from_slice(line).expect("JSON")
    }

    #[test]
    fn lines_as_documented() {
        let mut out = Vec::new();
        message(&mut out, frames(Some(b"id"), &[Frame::EMPTY, Frame::from("hi")]));
        assert_eq!(out, b"{\"m\":[\"aWQ=\",\"\",\"aGk=\"]}\n");
        out.clear();
        sent(&mut out, 3, None);
        sent(&mut out, 4, Some(("seq", 9)));
        assert_eq!(out, b"{\"ev\":\"sent\",\"n\":3}\n{\"ev\":\"sent\",\"n\":4,\"seq\":9}\n");
        let err = parse(&err("send", Some(3), &Fault::new(Errno::EFSM, "out of turn")));
        assert_eq!(
            err,
            json!({"ev": "err", "op": "send", "line": 3, "errno": 156_384_763, "name": "EFSM", "why": "out of turn"})
        );
        assert_eq!(parse(&ready(&["tcp://h:1".to_owned()])), json!({"ev": "ready", "endpoints": ["tcp://h:1"]}));
        assert_eq!(parse(&done("bind", Map::new())), json!({"ev": "done", "cmd": "bind"}));
        assert_eq!(parse(&fatal("x")), json!({"ev": "fatal", "why": "x"}));
    }

    #[test]
    fn spool_events_keep_their_names() {
        let lost = Event::Lost { name: "audit".to_owned(), from: 2, to: 4, records: 3, bytes: 120 };
        assert_eq!(
            parse(&spool(&lost)),
            json!({"ev": "spool", "kind": "Lost", "name": "audit", "from": 2, "to": 4, "records": 3, "bytes": 120})
        );
        assert_eq!(parse(&spool(&Event::NamesLost)), json!({"ev": "spool", "kind": "NamesLost"}));
    }

    #[test]
    fn monitor_events_keep_their_names() {
        let refused = Event::Refused {
            peer: "tcp://h:1".to_owned(),
            phase: ginnel::Phase::Handshake,
            reason: Reason::LimitExceeded { which: "max_metadata", limit: 7 },
        };
        assert_eq!(
            parse(&monitor(&refused)),
            json!({"ev": "monitor", "kind": "Refused", "peer": "tcp://h:1", "phase": "Handshake",
                   "reason": "LimitExceeded", "which": "max_metadata", "limit": 7})
        );
    }
}
