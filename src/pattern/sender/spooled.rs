//! What a sender can do that has a spool: [`Sender::enqueue`], [`Sender::send_at`], [`Sender::spool`].

use std::time::SystemTime;

use super::{Route, Sender};
use crate::error::SendError;
use crate::message::{Message, Receipt};
use crate::socket::durable::{Pending, Spool};

impl Sender {
    /// Hands a message to the spool and waits for room only; what it gives resolves when the message is accepted. The
    /// way to send many: a loop of awaited `send`s costs one sync each.
    ///
    /// ```no_run
    /// # async fn f(publisher: ginnel::Pub) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut last = None;
    /// for n in 0..1000 {
    ///     last = Some(publisher.enqueue(format!("record {n}")).await?);
    /// }
    /// if let Some(pending) = last {
    ///     pending.await?; // all before it are accepted, too
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SendError`], with the message: `Closed`, `Timeout`, `TooLarge`, `Full` (only with `WhenFull::Reject`),
    /// `SpoolFailed`; `NoSpool` on a socket without one.
    ///
    /// # Cancel safety
    /// Safe: dropped before it is done, nothing was handed over.
    pub async fn enqueue(&self, message: impl Into<Message>) -> Result<Pending, SendError<Message>> {
        match &self.route {
            Route::Log(spool, _) => spool.append(message.into(), self.options().send_timeout).await,
            _ => Err(SendError::NoSpool(message.into())),
        }
    }

    /// Sends a message that is delivered at `when` and not before: kept on disk until then, over restarts too. A time
    /// that is past is now. Its receipt is good for [`Spool::cancel`].
    ///
    /// # Errors
    /// [`SendError`], with the message: `Full` when `max_delayed` messages wait already, else as
    /// [`Sender::enqueue`].
    ///
    /// # Cancel safety
    /// Dropped, the message may have been accepted.
    pub async fn send_at(&self, message: impl Into<Message>, when: SystemTime) -> Result<Receipt, SendError<Message>> {
        match &self.route {
            Route::Log(spool, _) => spool.append_at(message.into(), when).await?.accepted().await,
            _ => Err(SendError::NoSpool(message.into())),
        }
    }

    /// The spool, on a socket that was built with one.
    pub fn spool(&self) -> Option<&Spool> {
        match &self.route {
            Route::Log(spool, _) => Some(spool),
            _ => None,
        }
    }
}
