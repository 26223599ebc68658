//! The receiving half of a socket: [`Receiver`], shared or in batches.

mod held;

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::delivery::Delivery;
use super::subscribe::Subscriber;
use crate::engine::within;
use crate::error::{RecvError, TryRecvError};
use crate::message::Message;
use crate::options::spool::Ack;
use crate::queue::batch::Batch;
use crate::queue::reader::{From, Reader};
use crate::socket::Socket;

/// Which received messages reach the user.
pub(crate) enum Filter {
    All,
    /// Those that the subscriptions match.
    Topics(Arc<Subscriber>),
}

impl Filter {
    #[inline]
    fn wants(&self, topic: &[u8]) -> bool {
        match self {
            Filter::All => true,
            Filter::Topics(subscriber) => subscriber.wants(topic),
        }
    }

    /// Whether something that a spool keeps for us is wanted. One that never subscribed wants what is kept for it.
    fn wants_delivery(&self, topic: &[u8]) -> bool {
        match self {
            Filter::All => true,
            Filter::Topics(subscriber) => subscriber.has_never_subscribed() || subscriber.wants(topic),
        }
    }
}

/// Receives messages, one peer after the other in turn. One task at a time; see [`Receiver::into_shared`].
///
/// PULL and SUB deref to it; DEALER, PAIR, XPUB and XSUB give it by `split`.
pub struct Receiver {
    socket: Socket,
    reader: Reader,
    filter: Filter,
    /// When a delivery counts as done; None on a socket without a durable name.
    ack: Option<Ack>,
}

impl Deref for Receiver {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.socket).finish()
    }
}

/// One that vanishes with a message in hand has not said that it is done.
impl Drop for Receiver {
    fn drop(&mut self) {
        if self.ack.is_some() {
            self.socket.release_hand();
        }
    }
}

impl Receiver {
    pub(crate) fn new(socket: Socket, filter: Filter) -> Receiver {
        Receiver::with_origins(socket, filter, false)
    }

    pub(crate) fn with_origins(socket: Socket, filter: Filter, origins: bool) -> Receiver {
        let reader = Reader::new(socket.inbox().clone(), origins);
        let ack = socket.options().holder.as_ref().map(|holder| holder.ack);
        Receiver { socket, reader, filter, ack }
    }

    fn is_wanted(&self, message: &Message) -> bool {
        self.filter.wants(message.first().map_or(&[], |frame| frame))
    }

    #[inline]
    pub(crate) fn poll_recv_from(&mut self, cx: &mut Context<'_>) -> Poll<Result<From, RecvError>> {
        loop {
            match self.reader.poll_next(cx) {
                Poll::Ready(Ok((origin, message))) if self.is_wanted(&message) => {
                    return Poll::Ready(Ok((origin, message)));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(crate) fn try_recv_from(&mut self) -> Result<From, TryRecvError> {
        loop {
            let (origin, message) = self.reader.try_next()?;
            if self.is_wanted(&message) {
                return Ok((origin, message));
            }
        }
    }

    /// Whether the peer of the last message has more here.
    pub(crate) fn has_more_of_it(&self) -> bool {
        self.reader.has_more_of_it()
    }

    pub(crate) async fn recv_from(&mut self) -> Result<From, RecvError> {
        self.recv_from_within(self.socket.options().recv_timeout).await
    }

    pub(crate) async fn recv_from_within(&mut self, limit: Option<Duration>) -> Result<From, RecvError> {
        within(limit, poll_fn(|cx| self.poll_recv_from(cx))).await.unwrap_or(Err(RecvError::Timeout))
    }

    /// The next message; waits for one. With a durable name and `Ack::OnNext` the one before is done by asking.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed` when the socket is closed and everything was read; `Timeout` when the builder's
    /// `recv_timeout` passes; `ManualAck` with `Ack::Manual`, where [`Receiver::recv_delivery`] is to be used.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    #[inline]
    pub async fn recv(&mut self) -> Result<Message, RecvError> {
        if self.ack.is_some() {
            // Boxed: the future of a socket without a durable name must not grow by it.
            return Box::pin(self.recv_held(self.socket.options().recv_timeout)).await;
        }
        let filter = &self.filter;
        if let Some(message) = self.reader.take_in_hand(|topic| filter.wants(topic)) {
            return Ok(message);
        }
        self.recv_from().await.map(|(_, message)| message)
    }

    /// As [`Receiver::recv`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`, `ManualAck`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    pub async fn recv_timeout(&mut self, limit: Duration) -> Result<Message, RecvError> {
        if self.ack.is_some() {
            return Box::pin(self.recv_held(Some(limit))).await;
        }
        self.recv_from_within(Some(limit)).await.map(|(_, message)| message)
    }

    /// A message that is already there.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`, `ManualAck`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        if self.ack.is_some() {
            return self.try_recv_held();
        }
        let filter = &self.filter;
        if let Some(message) = self.reader.take_in_hand(|topic| filter.wants(topic)) {
            return Ok(message);
        }
        self.try_recv_from().map(|(_, message)| message)
    }

    /// Fills `batch` with what is there, up to `max` messages, and lends it out as slices: no copy and no
    /// reference count per message. Waits until there is at least one. Returns how many there are. With a durable name
    /// and `Ack::OnNext` all of a batch is done when the next message or batch is asked for.
    ///
    /// It takes about a third fewer instructions a message than `recv`, but over TCP and IPC it is mostly not
    /// faster, and slower with long messages.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`, `ManualAck`.
    ///
    /// # Cancel safety
    /// Safe: messages are taken only when this returns.
    pub async fn recv_batch(&mut self, batch: &mut Batch, max: usize) -> Result<usize, RecvError> {
        batch.clear();
        let limit = self.socket.options().recv_timeout;
        if self.ack.is_some() {
            return Box::pin(self.recv_batch_held(batch, max, limit)).await;
        }
        while batch.is_empty() {
            let ready = within(limit, poll_fn(|cx| self.reader.poll_ready(cx))).await;
            ready.unwrap_or(Err(RecvError::Timeout))?;
            match &self.filter {
                Filter::All => self.reader.take_runs(max.max(1), |run| batch.push(run)),
                Filter::Topics(subscriber) => {
                    self.reader.take_runs(max.max(1), |run| batch.push_matching(run, |topic| subscriber.wants(topic)))
                }
            };
        }
        Ok(batch.len())
    }

    /// Turns this receiver into one that many tasks can use: `recv(&self)`, one lock a message.
    ///
    /// Not for deliveries that must be processed before they count as done: with a durable name and `Ack::OnNext`, what
    /// all tasks have in hand is done as soon as one of them asks for more. Let one task receive, with `Ack::Manual`,
    /// and hand the [`Delivery`] values out.
    pub fn into_shared(self) -> SharedReceiver {
        SharedReceiver { socket: self.socket.clone(), receiver: Arc::new(tokio::sync::Mutex::new(self)) }
    }
}

impl futures_core::Stream for Receiver {
    type Item = Result<Message, RecvError>;

    /// Ends when the socket is closed and everything was read.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.ack {
            None => self.poll_recv_from(cx).map_ok(|(_, message)| message),
            Some(_) => self.poll_held(cx),
        };
        next.map(|next| match next {
            Ok(message) => Some(Ok(message)),
            Err(RecvError::Closed) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

/// Types that deref to a [`Receiver`] are streams like it.
macro_rules! stream_by_deref {
    ($type:ty) => {
        impl futures_core::Stream for $type {
            type Item = Result<$crate::Message, $crate::RecvError>;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                futures_core::Stream::poll_next(std::pin::Pin::new(&mut **self), cx)
            }
        }
    };
}
pub(crate) use stream_by_deref;

/// A [`Receiver`] for a pool of workers: each message goes to one of them. Cheap to clone.
#[derive(Clone)]
pub struct SharedReceiver {
    socket: Socket,
    receiver: Arc<tokio::sync::Mutex<Receiver>>,
}

impl SharedReceiver {
    /// The next message; waits for one, first come first served.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it. But a future that waits and is neither polled nor dropped keeps
    /// its place, and everybody behind it waiting.
    pub async fn recv(&self) -> Result<Message, RecvError> {
        self.receiver.lock().await.recv().await
    }

    /// The next delivery, as [`Receiver::recv_delivery`] gives it. For a pool, use `Ack::Manual`: under `Ack::OnNext`
    /// one worker's message is done when another one asks for its next.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    pub async fn recv_delivery(&self) -> Result<Delivery, RecvError> {
        self.receiver.lock().await.recv_delivery().await
    }
}

impl Deref for SharedReceiver {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl fmt::Debug for SharedReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedReceiver").field(&self.socket).finish()
    }
}
