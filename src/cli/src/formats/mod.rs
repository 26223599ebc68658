//! How messages look as bytes on stdin and stdout: `text quoted json envelope hex framed raw`.
//!
//! [`Reader`] cuts records out of a byte stream, [`Writer`] appends records to a buffer. Neither knows a
//! socket, and neither waits except in the stream it reads. One file per format does the spelling.

mod framed;
mod hex;
pub(crate) mod json;
mod quoted;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use ginnel::{Frame, Message};

/// `--format`, `--in-format`, `--out-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Quoted,
    Json,
    Envelope,
    Hex,
    Framed,
    Raw,
}

/// One record of more bytes is refused: a missing delimiter must not fill the memory.
const RECORD_BYTES_MAX: u64 = 1 << 30;
/// One record of more frames is refused: an empty frame costs more memory than input.
const FRAMES_MAX: usize = 1 << 20;

/// Why there is no next record.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    /// `place` is `line 3` or `record 3`.
    Malformed {
        place: String,
        why: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(e) => write!(f, "cannot read stdin: {e}"),
            ReadError::Malformed { place, why } => write!(f, "{place}: {why}"),
        }
    }
}

/// Cuts messages out of a stream of bytes.
pub(crate) struct Reader<R> {
    input: BufReader<R>,
    format: Format,
    delimiter: u8,
    records: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// `null`: records of `text` and `quoted` end in NUL instead of LF.
    pub(crate) fn new(input: R, format: Format, null: bool) -> Reader<R> {
        let delimiter = if null && matches!(format, Format::Text | Format::Quoted) { 0 } else { b'\n' };
        let input = BufReader::with_capacity(64 * 1024, input);
        Reader { input, format, delimiter, records: 0, buffer: Vec::new() }
    }

    /// True when the next record is in memory already, so that [`next`](Reader::next) does not block.
    pub(crate) fn has_buffered(&self) -> bool {
        match self.format {
            Format::Framed => framed::is_complete(self.input.buffer()),
            Format::Raw => false,
            _ => self.input.buffer().contains(&self.delimiter),
        }
    }

    /// The next record; `None` at the end of the stream. Blocks as the stream does.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, ReadError> {
        let parsed = match self.format {
            Format::Framed => framed::read(&mut self.input),
            Format::Raw => self.read_all(),
            _ => self.read_line(),
        };
        self.records += 1;
        parsed.map_err(|e| match e {
            ParseError::Io(e) => ReadError::Io(e),
            ParseError::Malformed(why) => ReadError::Malformed { place: self.place(), why },
        })
    }

    fn place(&self) -> String {
        let unit = match self.format {
            Format::Framed | Format::Raw => "record",
            _ if self.delimiter == 0 => "record",
            _ => "line",
        };
        format!("{unit} {}", self.records)
    }

    fn read_line(&mut self) -> Result<Option<Message>, ParseError> {
        self.buffer.clear();
        (&mut self.input).take(RECORD_BYTES_MAX).read_until(self.delimiter, &mut self.buffer)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.last() == Some(&self.delimiter) {
            self.buffer.pop();
        } else if self.buffer.len() as u64 >= RECORD_BYTES_MAX {
            return Err(ParseError::new("longer than 1 GiB"));
        }
        parse_line(self.format, &self.buffer).map(Some)
    }

    /// All input is one frame, once.
    fn read_all(&mut self) -> Result<Option<Message>, ParseError> {
        if self.records > 0 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > RECORD_BYTES_MAX {
            return Err(ParseError::new("longer than 1 GiB"));
        }
        Ok(Some(Message::from(bytes)))
    }
}

/// The message in the output of a command, which is one record: its last delimiter may be there or not.
pub(crate) fn parse_whole(format: Format, null: bool, bytes: &[u8]) -> Result<Message, String> {
    let parsed = match format {
        Format::Raw => Ok(Message::from(bytes)),
        Format::Framed => framed::read(&mut &*bytes).and_then(|m| m.ok_or_else(|| ParseError::new("no record"))),
        _ => {
            let delimiter = if null && matches!(format, Format::Text | Format::Quoted) { 0 } else { b'\n' };
            parse_line(format, bytes.strip_suffix(&[delimiter]).unwrap_or(bytes))
        }
    };
    parsed.map_err(|e| match e {
        ParseError::Io(e) => e.to_string(),
        ParseError::Malformed(why) => why,
    })
}

fn parse_line(format: Format, line: &[u8]) -> Result<Message, ParseError> {
    let frames = match format {
        Format::Text => text::parse(line),
        Format::Quoted => quoted::parse(line)?,
        Format::Json => json::parse(line)?,
        Format::Envelope => json::parse_envelope(line)?,
        Format::Hex => hex::parse(line)?,
        Format::Framed | Format::Raw => return Err(ParseError::new("not a format of lines")),
    };
    if frames.len() > FRAMES_MAX {
        return Err(ParseError::new("more than 1048576 frames in one message"));
    }
    Message::from_frames(frames).ok_or_else(|| ParseError::new("a message needs at least one frame"))
}

/// What a format says about bytes that it cannot read.
#[derive(Debug)]
enum ParseError {
    Io(io::Error),
    Malformed(String),
}

impl ParseError {
    fn new(why: impl Into<String>) -> ParseError {
        ParseError::Malformed(why.into())
    }
}

impl From<io::Error> for ParseError {
    fn from(e: io::Error) -> ParseError {
        ParseError::Io(e)
    }
}

/// What is known of a message besides its frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin<'a> {
    /// The peer's id, where the socket type shows it.
    pub(crate) peer: Option<&'a [u8]>,
    /// The record's number in the spool that it comes from.
    pub(crate) offset: Option<u64>,
    /// Since 1970; `None` is now.
    pub(crate) time: Option<Duration>,
    /// When it is to be delivered, since 1970: of a delayed record.
    pub(crate) deliver_at: Option<Duration>,
}

impl<'a> Origin<'a> {
    pub(crate) fn peer(peer: Option<&'a [u8]>) -> Origin<'a> {
        Origin { peer, ..Origin::default() }
    }
}

/// Spells messages.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    format: Format,
    delimiter: u8,
    /// Control bytes of `text` become U+FFFD.
    terminal: bool,
    sequence: u64,
}

impl Writer {
    pub(crate) fn new(format: Format, null: bool, terminal: bool) -> Writer {
        let delimiter = if null && matches!(format, Format::Text | Format::Quoted) { 0 } else { b'\n' };
        Writer { format, delimiter, terminal, sequence: 0 }
    }

    /// Appends one record to `out`. Where it comes from is shown by `envelope` only.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, frames: &[Frame], origin: Origin<'_>) {
        match self.format {
            Format::Text => text::write(out, frames, self.terminal),
            Format::Quoted => quoted::write(out, frames),
            Format::Json => json::write(out, frames),
            Format::Envelope => {
                self.sequence += 1;
                json::write_envelope(out, self.sequence, origin, frames);
            }
            Format::Hex => hex::write(out, frames),
            Format::Framed => return framed::write(out, frames),
            Format::Raw => return frames.iter().for_each(|frame| out.extend_from_slice(frame)),
        }
        out.push(self.delimiter);
    }
}

/// Appends `frames` to `out`, each spelled by `one`, with `between` between two of them.
fn join(out: &mut Vec<u8>, frames: &[Frame], between: u8, one: impl Fn(&mut Vec<u8>, &[u8])) {
    for (index, frame) in frames.iter().enumerate() {
        if index > 0 {
            out.push(between);
        }
        one(out, frame);
    }
}
