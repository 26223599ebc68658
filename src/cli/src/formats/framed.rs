//! `framed`: u32 big-endian frame count, then for each frame u32 big-endian length and bytes. Lossless.
//!
//! Announced numbers are claims: buffers grow with the bytes that arrive, never ahead of them.

use std::io::{BufRead, Read};

use ginnel::{Frame, Message};

use super::{FRAMES_MAX, ParseError, RECORD_BYTES_MAX};

pub(super) fn read(input: &mut impl BufRead) -> Result<Option<Message>, ParseError> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let count = read_u32(input, "the frame count")?;
    if count == 0 {
        return Err(ParseError::new("a message needs at least one frame"));
    }
    if count as usize > FRAMES_MAX {
        return Err(ParseError::new("more than 1048576 frames in one message"));
    }
    let mut frames = Vec::new();
    let mut room = RECORD_BYTES_MAX;
    for _ in 0..count {
        let frame = read_frame(input, room)?;
        room -= frame.len() as u64;
        frames.push(frame);
    }
    Ok(Message::from_frames(frames))
}

/// True when `bytes` starts with a whole record.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
        bytes.split_first_chunk().map(|(number, rest)| (u32::from_be_bytes(*number), rest))
    }
    let Some((count, mut rest)) = number(bytes) else { return false };
    for _ in 0..count {
        let Some((length, after)) = number(rest) else { return false };
        let Some(after) = after.get(length as usize..) else { return false };
        rest = after;
    }
    true
}

fn read_frame(input: &mut impl BufRead, room: u64) -> Result<Frame, ParseError> {
    let length = u64::from(read_u32(input, "a frame length")?);
    if length > room {
        return Err(ParseError::new("longer than 1 GiB"));
    }
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(cut("a frame"));
    }
    Ok(Frame::from(bytes))
}

fn read_u32(input: &mut impl Read, what: &str) -> Result<u32, ParseError> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => cut(what),
        _ => ParseError::Io(e),
    })?;
    Ok(u32::from_be_bytes(bytes))
}

fn cut(what: &str) -> ParseError {
    ParseError::new(format!("the input ends inside {what}"))
}

/// A frame longer than the length field can say cannot be received: limits are far below.
pub(super) fn write(out: &mut Vec<u8>, frames: &[Frame]) {
    out.extend_from_slice(&u32::try_from(frames.len()).unwrap_or(u32::MAX).to_be_bytes());
    for frame in frames {
        out.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(frame);
    }
}
