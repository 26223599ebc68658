//! What our own benches measure below the public API (feature `__internals`). No API, no promise.
//!
//! Thin wrappers over `wire` and `queue`, so that nothing there has to be public.

#![allow(missing_docs, missing_debug_implementations)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::message::Message;
use crate::options::Limits;
use crate::queue::reader::Reader;
use crate::queue::{PeerKey, inbox, outbox};
use crate::wire::decoder::{self, Item};
use crate::wire::{Version, frame};

pub fn encode(out: &mut BytesMut, message: &Message) {
    frame::encode_message(out, message);
}

pub fn take_message(bytes: &mut Bytes) -> Option<Message> {
    frame::take_message(bytes)
}

pub struct Decoder(decoder::Decoder);

impl Decoder {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Decoder {
        Decoder(decoder::Decoder::new(&Limits::default(), Version::V3_1))
    }

    /// Checks a chunk as a connection does; says how many messages are in it.
    pub fn messages(&mut self, chunk: &mut BytesMut) -> usize {
        let mut messages = 0;
        while let Ok(Some(Item::Messages { count, .. })) = self.0.next(chunk, usize::MAX, usize::MAX) {
            messages += count;
        }
        messages
    }
}

#[derive(Default)]
pub struct Outbox(outbox::Outbox);

impl Outbox {
    pub fn put(&mut self, message: &Message) {
        self.0.push(message);
    }

    /// As if the next batch were written; says how many messages were in it.
    pub fn take(&mut self) -> usize {
        self.0.lend().map_or(0, |batch| self.0.finish(batch.len).messages)
    }
}

pub struct Inbox {
    inbox: Arc<inbox::Inbox>,
    lane: PeerKey,
    reader: Reader,
}

impl Default for Inbox {
    fn default() -> Inbox {
        let inbox = Arc::new(inbox::Inbox::new(0, 0, false));
        Inbox { lane: inbox.open_lane(None), reader: Reader::new(inbox.clone(), false), inbox }
    }
}

impl Inbox {
    /// Leaves a batch, as a connection does.
    pub fn put(&self, bytes: Bytes, messages: usize) {
        self.inbox.publish(self.lane, bytes, messages);
    }

    /// The next message, as a receiver takes it.
    pub fn take(&mut self) -> Option<Message> {
        let in_hand = self.reader.take_in_hand(|_| true);
        in_hand.or_else(|| self.reader.try_next().ok().map(|(_, message)| message))
    }
}
