//! A message with what is known of it: [`Delivery`], and when it counts as done.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::message::{Message, SpoolId, Token};
use crate::queue::inbox::Tag;

/// A message as a durable name receives it: with its number, how often it came, and the means to say what became of
/// it. On a plain connection it is just the message.
///
/// Under [`Ack::Manual`](crate::Ack::Manual), one that is dropped without a word is delivered again on the next
/// connection; under the other modes its fate does not hang on this value.
#[must_use = "with Ack::Manual a delivery that is dropped is delivered again"]
pub struct Delivery {
    message: Message,
    tag: Option<Tag>,
    /// The application says when it is done.
    manual: bool,
}

impl Delivery {
    pub(crate) fn new(message: Message, tag: Option<Tag>, manual: bool) -> Delivery {
        Delivery { message, tag, manual }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message alone. Under `Ack::Manual` it is not acknowledged by this: it will be delivered again.
    pub fn into_message(mut self) -> Message {
        std::mem::replace(&mut self.message, Message::from(""))
    }

    /// Whether it came out of a spool.
    pub fn is_durable(&self) -> bool {
        self.tag.is_some()
    }

    /// The record's number in its spool.
    pub fn sequence(&self) -> Option<u64> {
        self.tag.as_ref().map(|tag| tag.sequence)
    }

    /// How often it was delivered to this name, this time included, as the spooler has counted since it started: 1 is
    /// the first time.
    pub fn tries(&self) -> u32 {
        self.tag.as_ref().map_or(1, |tag| tag.tries)
    }

    /// When the spooler accepted it.
    pub fn time(&self) -> Option<SystemTime> {
        let micros = self.tag.as_ref()?.time?;
        u64::try_from(micros).ok().map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
    }

    /// The spool that it comes from.
    pub fn spool(&self) -> Option<SpoolId> {
        self.tag.as_ref().map(|tag| tag.ledger.spool())
    }

    /// What to store with the effect of this message, in the same transaction: given back with `resume_from` at the
    /// next start, its effect happens once.
    pub fn token(&self) -> Option<Token> {
        self.tag.as_ref().map(|tag| Token { spool: tag.ledger.spool(), sequence: tag.sequence })
    }

    /// It is done: never delivered to this name again.
    pub fn ack(mut self) {
        if let Some(tag) = self.tag.take() {
            tag.ledger.done(tag.sequence);
        }
    }

    /// It and everything that this socket received before it from the same spool is done.
    pub fn ack_up_to(mut self) {
        if let Some(tag) = self.tag.take() {
            tag.ledger.done_up_to(tag.sequence);
        }
    }

    /// It is not done: it is delivered to this name again after `after`, with one more try.
    pub fn retry(mut self, after: Duration) {
        if let Some(tag) = self.tag.take() {
            tag.ledger.retry(tag.sequence, after);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take().filter(|_| self.manual) {
            tag.ledger.release(tag.sequence);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("sequence", &self.sequence())
            .field("tries", &self.tries())
            .finish()
    }
}
