//! `quoted`: each frame in double quotes with `\\ \" \n \r \t \xHH`, joined by one space. Lossless, ASCII only.

use ginnel::Frame;

use super::ParseError;
use crate::units;

pub(super) fn parse(line: &[u8]) -> Result<Vec<Frame>, ParseError> {
    let mut frames = Vec::new();
    let mut rest = line;
    loop {
        let (frame, after) = parse_frame(rest)?;
        frames.push(frame);
        rest = match after {
            [] => return Ok(frames),
            [b' ', rest @ ..] => rest,
            _ => return Err(ParseError::new("frames are joined by one space")),
        };
    }
}

fn parse_frame(text: &[u8]) -> Result<(Frame, &[u8]), ParseError> {
    let [b'"', rest @ ..] = text else {
        return Err(ParseError::new("a frame starts with a double quote; write \"text\""));
    };
    let mut rest = rest;
    let mut bytes = Vec::new();
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok((Frame::from(bytes), after)),
            [b'\\', after @ ..] => {
                let (byte, after) = parse_escape(after)?;
                bytes.push(byte);
                after
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
            [] => return Err(ParseError::new("the closing double quote is missing")),
        };
    }
}

fn parse_escape(text: &[u8]) -> Result<(u8, &[u8]), ParseError> {
    match text {
        [b'\\', rest @ ..] => Ok((b'\\', rest)),
        [b'"', rest @ ..] => Ok((b'"', rest)),
        [b'n', rest @ ..] => Ok((b'\n', rest)),
        [b'r', rest @ ..] => Ok((b'\r', rest)),
        [b't', rest @ ..] => Ok((b'\t', rest)),
        [b'x', high, low, rest @ ..] => match (char::from(*high).to_digit(16), char::from(*low).to_digit(16)) {
            (Some(high), Some(low)) => Ok(((high * 16 + low) as u8, rest)),
            _ => Err(ParseError::new("\\x needs two hex digits")),
        },
        _ => Err(ParseError::new("unknown escape; known are \\\\ \\\" \\n \\r \\t \\xHH")),
    }
}

pub(super) fn write(out: &mut Vec<u8>, frames: &[Frame]) {
    super::join(out, frames, b' ', |out, frame| {
        out.push(b'"');
        frame.iter().for_each(|&byte| write_byte(out, byte));
        out.push(b'"');
    });
}

fn write_byte(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'"' => out.extend_from_slice(b"\\\""),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0x20..=0x7e => out.push(byte),
        _ => {
            out.extend_from_slice(b"\\x");
            units::push_hex(out, &[byte]);
        }
    }
}
