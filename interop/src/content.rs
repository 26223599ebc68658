//! What is sent: frames as plain bytes, the set of sizes every pair must carry, and frames as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ginnel::Message;
use serde_json::{Value, json};

use crate::cases::Fault;

/// The frames of one message.
pub type Content = Vec<Vec<u8>>;

const PERIOD: u8 = 251;

/// Frames from this length on travel to the peer as a description, when they are what [`filled`] makes.
const LARGE: usize = 128;

/// `len` bytes counting up from `seed`, modulo 251: a prime, so that no two offsets of a power of two look alike.
pub fn filled(len: usize, seed: u8) -> Vec<u8> {
    let start = seed % PERIOD;
    let block: Vec<u8> = (start..PERIOD).chain(0..start).collect();
    let mut bytes = block.repeat(len / block.len() + 1);
    bytes.truncate(len);
    bytes
}

/// Empty frames in every place, each length around an edge of the framing, and 8 MiB.
///
/// No first frame starts with byte 0 or 1: between XSUB and XPUB those are subscriptions.
pub fn content_set() -> Vec<Content> {
    let sizes = [0, 1, 254, 255, 256, 65535, 65536];
    let texts = |frames: &[&str]| frames.iter().map(|text| text.as_bytes().to_vec()).collect::<Content>();
    let mut set = vec![texts(&["hello"]), texts(&["a", "", "b", ""]), texts(&["", "", ""])];
    set.extend(sizes.iter().zip(2..).map(|(&size, seed)| vec![filled(size, seed)]));
    set.push(sizes.iter().zip(20..).map(|(&size, seed)| filled(size, seed)).collect());
    set.push(vec![filled(8 << 20, 99)]);
    set
}

/// The content as a message of ours.
pub fn message_of(content: &[Vec<u8>]) -> Message {
    Message::from_frames(content.iter().cloned()).expect("content has frames")
}

/// The frames of a message of ours.
pub fn frames_of(message: &Message) -> Content {
    message.iter().map(|frame| frame.to_vec()).collect()
}

pub(crate) fn to_json(content: &[Vec<u8>]) -> Value {
    content.iter().map(|frame| frame_to_json(frame)).collect()
}

fn frame_to_json(frame: &[u8]) -> Value {
    match frame.first() {
        Some(&seed) if frame.len() >= LARGE && frame == filled(frame.len(), seed) => {
            json!({ "fill": frame.len(), "seed": seed })
        }
        _ => json!({ "b": STANDARD.encode(frame) }),
    }
}

pub(crate) fn from_json(value: &Value) -> Result<Content, Fault> {
    value.as_array().ok_or("not a list of frames")?.iter().map(frame_from_json).collect()
}

fn frame_from_json(value: &Value) -> Result<Vec<u8>, Fault> {
    if let (Some(len), Some(seed)) = (value["fill"].as_u64(), value["seed"].as_u64()) {
        return Ok(filled(usize::try_from(len)?, u8::try_from(seed)?));
    }
    Ok(STANDARD.decode(value["b"].as_str().ok_or("a frame without bytes")?)?)
}
