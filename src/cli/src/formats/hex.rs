//! `hex`: frames as lower-case hex joined by one space; an empty frame is `-`. Any case is read.

use ginnel::Frame;

use super::ParseError;
use crate::units;

pub(super) fn parse(line: &[u8]) -> Result<Vec<Frame>, ParseError> {
    line.split(|&b| b == b' ').map(parse_frame).collect()
}

fn parse_frame(word: &[u8]) -> Result<Frame, ParseError> {
    match word {
        b"" => Err(ParseError::new("nothing between two spaces; an empty frame is written -")),
        b"-" => Ok(Frame::EMPTY),
        _ => {
            let text = std::str::from_utf8(word).map_err(|_| ParseError::new("not a hex digit"))?;
            units::hex(text).map(Frame::from).map_err(ParseError::new)
        }
    }
}

pub(super) fn write(out: &mut Vec<u8>, frames: &[Frame]) {
    super::join(out, frames, b' ', |out, frame| match frame {
        [] => out.push(b'-'),
        _ => units::push_hex(out, frame),
    });
}
