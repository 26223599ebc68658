//! `json`: one array a line; a frame is a string if valid UTF-8, else `{"b64":"…"}`. `envelope`: an object around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ginnel::Frame;
use serde_json::Value;

use super::{Origin, ParseError};
use crate::units;

pub(super) fn parse(line: &[u8]) -> Result<Vec<Frame>, ParseError> {
    match from_slice(line)? {
        Value::Array(frames) => frames.into_iter().map(parse_frame).collect(),
        Value::String(text) => Ok(vec![Frame::from(text)]),
        _ => Err(ParseError::new("write an array of frames, or one string")),
    }
}

/// Only `frames` is read: what the receiver of the envelope noted about it is not the sender's to say.
pub(super) fn parse_envelope(line: &[u8]) -> Result<Vec<Frame>, ParseError> {
    let Value::Object(mut object) = from_slice(line)? else {
        return Err(ParseError::new("write an object with \"frames\""));
    };
    match object.remove("frames") {
        Some(Value::Array(frames)) => frames.into_iter().map(parse_frame).collect(),
        _ => Err(ParseError::new("\"frames\" must be an array of frames")),
    }
}

fn from_slice(line: &[u8]) -> Result<Value, ParseError> {
    serde_json::from_slice(line).map_err(|e| ParseError::new(format!("not JSON: {e}")))
}

fn parse_frame(value: Value) -> Result<Frame, ParseError> {
    const HELP: &str = "a frame is a string or {\"b64\":\"…\"}";
    match value {
        Value::String(text) => Ok(Frame::from(text)),
        Value::Object(object) if object.len() == 1 => match object.get("b64") {
            Some(Value::String(text)) => decode(text).map(Frame::from).map_err(ParseError::new),
            _ => Err(ParseError::new(HELP)),
        },
        _ => Err(ParseError::new(HELP)),
    }
}

pub(super) fn write(out: &mut Vec<u8>, frames: &[Frame]) {
    out.push(b'[');
    super::join(out, frames, b',', |out, frame| match std::str::from_utf8(frame) {
        Ok(text) => write_string(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"b64\":\"");
            out.extend_from_slice(encode(frame).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    });
    out.push(b']');
}

pub(super) fn write_envelope(out: &mut Vec<u8>, sequence: u64, origin: Origin<'_>, frames: &[Frame]) {
    let ts = origin.time.map_or_else(units::now_rfc3339, units::rfc3339);
    let peer = origin.peer.map_or("null".to_owned(), |id| format!("\"{}\"", units::to_hex(id)));
    out.extend_from_slice(format!("{{\"seq\":{sequence},\"ts\":\"{ts}\",\"peer\":{peer},\"frames\":").as_bytes());
    write(out, frames);
    if let Some(offset) = origin.offset {
        out.extend_from_slice(format!(",\"offset\":{offset}").as_bytes());
    }
    if let Some(deliver_at) = origin.deliver_at {
        out.extend_from_slice(format!(",\"deliver_at\":\"{}\"", units::rfc3339(deliver_at)).as_bytes());
    }
    out.push(b'}');
}

/// One frame: a string if valid UTF-8, else `{"b64":"…"}`.
pub(crate) fn frame(frame: &[u8]) -> Value {
    match std::str::from_utf8(frame) {
        Ok(text) => Value::from(text),
        Err(_) => serde_json::json!({"b64": encode(frame)}),
    }
}

/// Appends `text` as a JSON string.
fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail, nor can a string be no JSON.
    let _ = serde_json::to_writer(out, text);
}

/// Base64 with padding, as all JSON of the command has it.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("not base64: {e}"))
}
