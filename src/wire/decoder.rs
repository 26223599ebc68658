//! Traffic from a stranger: cuts runs of whole messages and commands off the read buffer.
//!
//! Every limit is checked here, on the header, before anything waits for or is paid for a body: what comes
//! out can be walked by `frame` without another check. The decoder allocates nothing and never looks at a
//! byte twice but for one frame header, however small the pieces are in which a message arrives. It knows
//! no pattern: what a message means is not its business.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::Version;
use super::command::{self, Command, SUBSCRIBE_OVERHEAD};
use super::frame::{Header, peek_header};
use crate::event::Reason;
use crate::options::Limits;

/// Charged for each frame of a message beyond its bytes, so that empty frames are not free. The first frame
/// has no charge: one frame of exactly `max_message` bytes is allowed.
const FRAME_CHARGE: u64 = 64;

/// What stands at the front of the read buffer.
#[derive(PartialEq, Eq)]
pub(crate) enum Item {
    /// A run of whole messages, as they stand on the wire.
    Messages {
        /// Their frames, one after the other.
        bytes: Bytes,
        /// How many messages.
        count: usize,
    },
    /// A command, already consumed.
    Command(Command),
}

impl fmt::Debug for Item {
    /// Sizes only: payloads do not leak into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Messages { bytes, count } => write!(f, "Messages({count} in {} bytes)", bytes.len()),
            Item::Command(command) => command.fmt(f),
        }
    }
}

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    commands: bool,
    partial: Partial,
    meaningless: usize,
    wanted: usize,
    blocked: bool,
    #[cfg(test)]
    steps: u64,
}

/// The whole frames of the message at the front whose last frame has not been passed yet.
#[derive(Debug, Default, Clone, Copy)]
struct Partial {
    len: usize,
    frames: usize,
    charge: u64,
}

enum Step {
    /// More bytes are needed; so many are known to be missing.
    Short(usize),
    /// A frame with MORE was passed.
    Frame,
    /// The last frame is there: the message has this length.
    Whole(usize),
    /// A command frame is there, with this header and body size.
    Command(Header, usize),
}

impl Decoder {
    pub(crate) fn new(limits: &Limits, version: Version) -> Decoder {
        Decoder {
            limits: limits.clone(),
            commands: version != Version::V2_0,
            partial: Partial::default(),
            meaningless: 0,
            wanted: 0,
            blocked: false,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Next thing at the front of `buf`: the longest run of whole messages (at most `max_messages`, ended
    /// softly by the message that reaches `max_bytes`), or a command.
    ///
    /// `None`: more bytes are needed, or messages are there and `max_messages` is 0 ([`Decoder::blocked`]).
    /// Between calls `buf` may only grow at its end. After an error the connection is to be closed.
    pub(crate) fn next(
        &mut self,
        buf: &mut BytesMut,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<Option<Item>, Reason> {
        self.wanted = 0;
        self.blocked = false;
        let (mut end, mut count) = (0_usize, 0_usize);
        while count == 0 || (count < max_messages && end < max_bytes) {
            let step = match self.step(buf.get(end..).unwrap_or_default()) {
                // What was whole before the violation is delivered; the next call meets it again.
                Err(_) if count > 0 => break,
                step => step?,
            };
            match step {
                Step::Frame => {}
                Step::Whole(_) if max_messages == 0 => {
                    self.blocked = true;
                    return Ok(None);
                }
                Step::Whole(len) => {
                    self.partial = Partial::default();
                    end = end.saturating_add(len);
                    count = count.saturating_add(1);
                }
                Step::Short(missing) => {
                    self.wanted = missing;
                    break;
                }
                Step::Command(..) if count > 0 => break,
                Step::Command(header, size) => return self.take_command(buf, header, size).map(Some),
            }
        }
        if count == 0 {
            return Ok(None);
        }
        self.meaningless = 0;
        Ok(Some(Item::Messages { bytes: buf.split_to(end).freeze(), count }))
    }

    /// Bytes of the announced but incomplete frame at the end that are still to come: a hint for the read
    /// buffer's next growth. It is the peer's word: never allocate so much at once.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Whether the last `next` gave `None` because a whole message waits and `max_messages` was 0.
    pub(crate) fn blocked(&self) -> bool {
        self.blocked
    }

    /// Passes one frame of the message at the front of `bytes`.
    #[inline]
    fn step(&mut self, bytes: &[u8]) -> Result<Step, Reason> {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let rest = bytes.get(self.partial.len..).unwrap_or_default();
        let Some(header) = peek_header(rest) else { return Ok(Step::Short(0)) };
        if header.command() {
            return self.step_command(rest, header);
        }
        let (size, next) = self.admit(&header)?;
        let whole = header.len.saturating_add(size);
        match whole.checked_sub(rest.len()) {
            Some(missing) if missing > 0 => Ok(Step::Short(missing)),
            _ if header.more() => {
                self.partial = next;
                Ok(Step::Frame)
            }
            _ => Ok(Step::Whole(next.len)),
        }
    }

    /// Checks a message frame's header against every limit: its body's size, and the message with it.
    #[inline]
    fn admit(&self, header: &Header) -> Result<(usize, Partial), Reason> {
        let limits = &self.limits;
        if header.body > limits.max_frame {
            return Err(Reason::LimitExceeded { which: "max_frame", limit: limits.max_frame });
        }
        let frames = self.partial.frames.saturating_add(1);
        if frames > limits.max_frames_per_message {
            let limit = limits.max_frames_per_message as u64;
            return Err(Reason::LimitExceeded { which: "max_frames_per_message", limit });
        }
        let overhead = if self.partial.frames == 0 { 0 } else { FRAME_CHARGE };
        let charge = self.partial.charge.saturating_add(header.body).saturating_add(overhead);
        let over = || Reason::LimitExceeded { which: "max_message", limit: limits.max_message };
        if charge > limits.max_message {
            return Err(over());
        }
        let Ok(size) = usize::try_from(header.body) else { return Err(over()) };
        let len = self.partial.len.checked_add(header.len).and_then(|len| len.checked_add(size)).ok_or_else(over)?;
        Ok((size, Partial { len, frames, charge }))
    }

    fn step_command(&self, rest: &[u8], header: Header) -> Result<Step, Reason> {
        if !self.commands {
            return Err(Reason::Malformed("command frame from a ZMTP 2.0 peer"));
        }
        if self.partial.frames > 0 {
            return Err(Reason::Malformed("command between the frames of a message"));
        }
        let body = rest.get(header.len..).unwrap_or_default();
        let topic = self.limits.max_topic.saturating_add(SUBSCRIBE_OVERHEAD);
        let Some(size) = usize::try_from(header.body).ok().filter(|&size| size <= self.limits.max_command.max(topic))
        else {
            return self.refuse_command(header.body, body);
        };
        match size.checked_sub(body.len()) {
            Some(missing) if missing > 0 => Ok(Step::Short(missing)),
            _ => Ok(Step::Command(header, size)),
        }
    }

    /// A command beyond its limits. Which limit hangs on the name, so a few bytes of body are awaited,
    /// unless the size is beyond all reason.
    fn refuse_command(&self, size: u64, body: &[u8]) -> Result<Step, Reason> {
        if size > self.limits.max_frame {
            return Err(Reason::LimitExceeded { which: "max_frame", limit: self.limits.max_frame });
        }
        let Some(start) = body.get(..SUBSCRIBE_OVERHEAD) else {
            return Ok(Step::Short(SUBSCRIBE_OVERHEAD.saturating_sub(body.len())));
        };
        let (which, limit) = if command::is_subscription(start) {
            ("max_topic", self.limits.max_topic)
        } else {
            ("max_command", self.limits.max_command)
        };
        Err(Reason::LimitExceeded { which, limit: limit as u64 })
    }

    fn take_command(&mut self, buf: &mut BytesMut, header: Header, size: usize) -> Result<Item, Reason> {
        let end = header.len.saturating_add(size);
        let body = buf.get(header.len..end).unwrap_or_default();
        let command = command::parse(body, &self.limits)?;
        buf.advance(end.min(buf.len()));
        if command != Command::Unknown {
            self.meaningless = 0;
            return Ok(Item::Command(command));
        }
        self.meaningless = self.meaningless.saturating_add(1);
        if self.meaningless > self.limits.max_meaningless_frames {
            let limit = self.limits.max_meaningless_frames as u64;
            return Err(Reason::LimitExceeded { which: "max_meaningless_frames", limit });
        }
        Ok(Item::Command(command))
    }
}
