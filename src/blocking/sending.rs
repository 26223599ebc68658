//! Sending from threads: what waits for room, for the disk, or for subscribers.
//!
//! A send that need not wait sets nothing up for waiting. Next: `receiving`, and `pattern::sender` for what is done.

use std::time::{Duration, SystemTime};

use super::{Blocking, Pending, Sends, Spool};
use crate::engine::park::wait;
use crate::error::{SendAllError, SendError, TrySendError, WaitError};
use crate::message::{Message, Receipt};
use crate::pattern::sender::Permit;

#[cold]
pub(super) fn refused(error: TrySendError<Message>) -> SendError<Message> {
    match error {
        TrySendError::Full(message) => SendError::Timeout(message),
        TrySendError::Closed(message) => SendError::Closed(message),
        TrySendError::NoRoute(message) => SendError::NoRoute(message),
        TrySendError::TooLarge(message) => SendError::TooLarge(message),
        TrySendError::SpoolFailed(message) => SendError::SpoolFailed(message),
        TrySendError::DurabilityUnknown { sequence } => SendError::DurabilityUnknown { sequence },
    }
}

/// A send that cannot simply join others. One that need not wait sets nothing up for it; one into a spool waits for the
/// disk.
#[inline(never)]
fn send_apart(
    sender: &crate::Sender,
    message: Message,
    later: impl FnOnce(Message) -> Result<Receipt, SendError<Message>>,
) -> Result<Receipt, SendError<Message>> {
    if sender.spool().is_some() {
        return later(message);
    }
    // What a task owes to others after much work, a thread does not.
    sender.outbound().takes_toll();
    match sender.try_send(message) {
        Ok(receipt) => Ok(receipt),
        Err(TrySendError::Full(message)) => later(message),
        Err(error) => Err(refused(error)),
    }
}

/// Sending; `try_send` and `try_reserve` are those of [`Sender`](crate::Sender).
impl<S: Sends> Blocking<S> {
    /// Sends a message; waits while no peer has room (where the type waits at all). With a spool it waits for room in
    /// the spool, and then until the message is on disk as far as `sync` says; peers need not be there.
    ///
    /// # Errors
    /// [`SendError`], with the message: `Closed`; `Timeout` when the builder's `send_timeout` passes (default: none).
    /// With a spool also `Full`, `TooLarge`, `SpoolFailed`, and, without the message, `DurabilityUnknown`.
    #[inline]
    pub fn send(&self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        let message = message.into();
        let sender = self.0.sending();
        if sender.joins(&message) {
            return Ok(Receipt::ACCEPTED);
        }
        send_apart(sender, message, |message| wait(sender.send(message)))
    }

    /// As [`Blocking::send`], for at most this long.
    ///
    /// # Errors
    /// As [`Blocking::send`]: `Timeout`, with the message, when no peer had room in time.
    pub fn send_timeout(&self, message: impl Into<Message>, limit: Duration) -> Result<Receipt, SendError<Message>> {
        let sender = self.0.sending();
        send_apart(sender, message.into(), |message| wait(sender.send_timeout(message, limit)))
    }

    /// Sends all messages in order, many under one lock. Returns how many there were. With a spool it waits once, at
    /// the end, until all of them are accepted. When it pays: see [`Sender::send_all`](crate::Sender::send_all).
    ///
    /// # Errors
    /// [`SendAllError`]: how many went, and the rest.
    pub fn send_all<M: Into<Message>>(&self, messages: impl IntoIterator<Item = M>) -> Result<usize, SendAllError> {
        wait(self.0.sending().send_all(messages))
    }

    /// Waits for room for one message and sets it aside: sending it then neither waits nor fails.
    ///
    /// # Errors
    /// [`SendError::Closed`]; `SpoolFailed` with a spool.
    pub fn reserve(&self) -> Result<Permit<'_>, SendError<()>> {
        wait(self.0.sending().reserve())
    }

    /// Waits until nothing waits for connected peers: everything is with the operating system. With a spool: until
    /// everything sent so far is accepted. Delivery needs no flush; this is for those who want to know.
    ///
    /// # Errors
    /// `DurabilityUnknown` when a spool failed.
    pub fn flush(&self) -> Result<(), SendError<()>> {
        wait(self.0.sending().flush())
    }

    /// Hands a message to the spool and waits for room only; the result can be waited for, once for many.
    ///
    /// # Errors
    /// [`SendError`], with the message; `NoSpool` on a socket without one.
    pub fn enqueue(&self, message: impl Into<Message>) -> Result<Pending, SendError<Message>> {
        wait(self.0.sending().enqueue(message)).map(Blocking)
    }

    /// Sends a message that is delivered at `when` and not before: see [`Sender::send_at`](crate::Sender::send_at).
    ///
    /// # Errors
    /// [`SendError`], with the message: `Full` when `max_delayed` messages wait already, else as
    /// [`Blocking::enqueue`].
    pub fn send_at(&self, message: impl Into<Message>, when: SystemTime) -> Result<Receipt, SendError<Message>> {
        wait(self.0.sending().send_at(message, when))
    }

    /// The spool, on a socket that was built with one.
    pub fn spool(&self) -> Option<Spool> {
        self.0.sending().spool().cloned().map(Blocking)
    }
}

macro_rules! publishers {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// Waits until at least `count` connected peers have a subscription.
            ///
            /// # Errors
            /// [`WaitError::Closed`] when the socket is closed first.
            pub fn wait_for_subscribers(&self, count: usize) -> Result<(), WaitError> {
                wait(self.0.wait_for_subscribers(count))
            }
        }
    )*};
}

publishers!(Pub XPub);
