//! Received messages lent out as slices: [`Batch`].
//!
//! It holds the very buffers that the connection read into. Uses the vocabulary and `wire::frame`.

use std::fmt;

use bytes::Bytes;

use super::reader::Run;
use crate::message::{Frame, Message};
use crate::wire::frame;

/// Messages lent by [`Receiver::recv_batch`](crate::Receiver::recv_batch). Keep one and use it again: it keeps its memory.
#[derive(Default)]
pub struct Batch {
    runs: Vec<Held>,
    len: usize,
}

enum Held {
    Wire(Bytes),
    Value(Message),
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Messages in the batch.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets go of all messages.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    /// The messages, in order per peer.
    pub fn iter(&self) -> impl Iterator<Item = MessageView<'_>> {
        self.runs.iter().flat_map(|held| {
            let (mut wire, mut value): (&[u8], _) = match held {
                Held::Wire(bytes) => (bytes, None),
                Held::Value(message) => (&[], Some(message)),
            };
            std::iter::from_fn(move || {
                if let Some(message) = value.take() {
                    return Some(MessageView(View::Value(message)));
                }
                let len = frame::message_len(wire)?;
                let (message, rest) = wire.split_at(len);
                wire = rest;
                Some(MessageView(View::Wire(message)))
            })
        })
    }

    pub(crate) fn push(&mut self, run: Run) {
        match run {
            Run::Wire { bytes, messages } => {
                self.len += messages;
                self.runs.push(Held::Wire(bytes));
            }
            Run::Value(message) => {
                self.len += 1;
                self.runs.push(Held::Value(message));
            }
        }
    }

    /// As [`Batch::push`], but only messages whose first frame is wanted.
    pub(crate) fn push_matching(&mut self, run: Run, wanted: impl Fn(&[u8]) -> bool) {
        match run {
            Run::Wire { mut bytes, .. } => {
                while let Some(len) = frame::message_len(&bytes) {
                    let message = bytes.split_to(len);
                    if wanted(frame::frames(&message).next().unwrap_or_default()) {
                        self.push(Run::Wire { bytes: message, messages: 1 });
                    }
                }
            }
            Run::Value(message) => {
                if wanted(message.first().map_or(&[], |frame| frame)) {
                    self.push(Run::Value(message));
                }
            }
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} messages)", self.len)
    }
}

/// One message of a [`Batch`].
#[derive(Clone, Copy)]
pub struct MessageView<'a>(View<'a>);

#[derive(Clone, Copy)]
enum View<'a> {
    Wire(&'a [u8]),
    Value(&'a Message),
}

impl<'a> MessageView<'a> {
    /// The message's frames.
    pub fn frames(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (wire, value): (&'a [u8], &'a [Frame]) = match self.0 {
            View::Wire(bytes) => (bytes, &[]),
            View::Value(message) => (&[], message),
        };
        frame::frames(wire).chain(value.iter().map(|frame| &**frame))
    }

    /// The message, copied out.
    pub fn to_message(&self) -> Message {
        Message::from_frames(self.frames()).unwrap_or_else(|| Message::from(""))
    }
}

impl fmt::Debug for MessageView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames().map(<[u8]>::len)).finish()
    }
}
