//! Records on their way into one announcement: [`Lot`].

use bytes::{Bytes, BytesMut};

use crate::store::reader::Taken;
use crate::wire::command::durable::{Entry, MAX_ENTRIES};

/// One announcement covers about so many bytes.
pub(super) const LOT: usize = 128 * 1024;
/// Bodies from here on go to the socket as slices of the batch; smaller ones would pin it for little.
const SLICED: usize = 4 * 1024;

/// Records on their way into one announcement.
#[derive(Default)]
pub(super) struct Lot {
    pub(super) again: bool,
    pub(super) entries: Vec<Entry>,
    chunks: Vec<Bytes>,
    small: BytesMut,
    pub(super) bytes: usize,
}

impl Lot {
    pub(super) fn push(&mut self, record: &Taken, tries: u32) {
        let entry = Entry { sequence: record.sequence, tries: Some(tries), time: Some(record.time) };
        self.entries.push(entry);
        self.push_body(&record.body);
    }

    pub(super) fn push_body(&mut self, body: &Bytes) {
        self.bytes += body.len();
        if body.len() < SLICED {
            self.small.extend_from_slice(body);
            return;
        }
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
        self.chunks.push(body.clone());
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.bytes >= LOT
    }

    pub(super) fn finish(mut self, first: Option<Bytes>) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.chunks.push(self.small.freeze());
        }
        first.into_iter().chain(self.chunks).collect()
    }
}
