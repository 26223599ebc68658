//! Receiving in threads: the calling thread waits for the next batch, and takes from it without waiting.
//!
//! Next: `routing`, and `pattern::receiver` for what is done.

use std::time::Duration;

use super::{Blocking, Receives, SharedReceiver};
use crate::engine::park::wait;
use crate::error::{RecvError, TryRecvError};
use crate::message::Message;
use crate::pattern::delivery::Delivery;
use crate::queue::batch::Batch;

#[cold]
pub(super) fn ended(error: TryRecvError) -> RecvError {
    match error {
        TryRecvError::Empty => RecvError::Timeout,
        TryRecvError::Closed => RecvError::Closed,
        TryRecvError::ManualAck => RecvError::ManualAck,
    }
}

/// Receiving; `try_recv`, `try_recv_delivery` and `ack_last` are those of [`Receiver`](crate::Receiver).
impl<S: Receives> Blocking<S> {
    /// The next message; waits for one. With a durable name and `Ack::OnNext` the one before is done by asking.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed` when the socket is closed and everything was read; `Timeout` when the builder's
    /// `recv_timeout` passes (default: none); `ManualAck` with `Ack::Manual`, where
    /// [`recv_delivery`](Blocking::recv_delivery) is to be used.
    #[inline]
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        let receiver = self.0.receiving();
        match receiver.try_recv() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Empty) => wait(receiver.recv()),
            Err(error) => Err(ended(error)),
        }
    }

    /// As [`Blocking::recv`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`, `ManualAck`.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Message, RecvError> {
        let receiver = self.0.receiving();
        match receiver.try_recv() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Empty) => wait(receiver.recv_timeout(limit)),
            Err(error) => Err(ended(error)),
        }
    }

    /// Fills `batch` with what is there, up to `max` messages, and lends it out as slices: no copy and no
    /// reference count per message. Waits until there is at least one. Returns how many there are.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`, `ManualAck`.
    pub fn recv_batch(&mut self, batch: &mut Batch, max: usize) -> Result<usize, RecvError> {
        wait(self.0.receiving().recv_batch(batch, max))
    }

    /// Receives again and again; ends when the socket is closed and everything was read.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Message, RecvError>> {
        std::iter::from_fn(|| unless_closed(self.recv()))
    }

    /// The next message with what a durable name knows of it; waits for one.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`; `Timeout` when the builder's `recv_timeout` passes.
    pub fn recv_delivery(&mut self) -> Result<Delivery, RecvError> {
        wait(self.0.receiving().recv_delivery())
    }

    /// As [`Blocking::recv_delivery`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    pub fn recv_delivery_timeout(&mut self, limit: Duration) -> Result<Delivery, RecvError> {
        wait(self.0.receiving().recv_delivery_timeout(limit))
    }

    /// Gives the durable name up for good: see [`Receiver::drop_name`](crate::Receiver::drop_name).
    pub fn drop_name(&mut self) -> bool {
        wait(self.0.receiving().drop_name())
    }
}

pub(super) fn unless_closed<T>(next: Result<T, RecvError>) -> Option<Result<T, RecvError>> {
    if matches!(next, Err(RecvError::Closed)) { None } else { Some(next) }
}

macro_rules! shared {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// Turns this into a receiver that many threads can use: `recv(&self)`, one lock a message. See
            /// [`Receiver::into_shared`](crate::Receiver::into_shared) for durable names.
            pub fn into_shared(self) -> SharedReceiver {
                Blocking(self.0.into_shared())
            }
        }
    )*};
}

shared!(Pull Sub Receiver);

impl Blocking<crate::SharedReceiver> {
    /// The next message; waits for one, first come first served.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    pub fn recv(&self) -> Result<Message, RecvError> {
        wait(self.0.recv())
    }

    /// The next delivery: see [`SharedReceiver::recv_delivery`](crate::SharedReceiver::recv_delivery).
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    pub fn recv_delivery(&self) -> Result<Delivery, RecvError> {
        wait(self.0.recv_delivery())
    }
}
