//! `text`: frames joined by TAB, bytes verbatim. Cannot carry TAB or the delimiter inside a frame.

use ginnel::Frame;

pub(super) fn parse(line: &[u8]) -> Vec<Frame> {
    line.split(|&b| b == b'\t').map(Frame::from).collect()
}

pub(super) fn write(out: &mut Vec<u8>, frames: &[Frame], terminal: bool) {
    super::join(out, frames, b'\t', |out, frame| {
        if terminal {
            let shown = String::from_utf8_lossy(frame);
            let shown = shown.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
            out.extend_from_slice(shown.collect::<String>().as_bytes());
        } else {
            out.extend_from_slice(frame);
        }
    });
}
