//! REP: requests as values, each answered once to where it came from.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::plain::Plain;
use super::receiver::{Filter, Receiver};
use super::router::PeerId;
use super::sender::{lost, send_error};
use crate::engine::pattern::Inbound;
use crate::engine::within;
use crate::error::{RecvError, SendError, TryRecvError};
use crate::event::{DropReason, Event};
use crate::message::{Frame, Message, Receipt};
use crate::options::SocketType;
use crate::queue::admission::Refused;
use crate::queue::inbox::Origin;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// An answer that took longer is written at once, whoever else is still to be answered.
const TOGETHER: Duration = Duration::from_micros(200);

/// Receives requests from all peers in turn; each is answered to its sender (ZeroMQ's REP, RFC 28).
///
/// Any number of requests can be open at once. Waits when: nothing is there. Drops when: a request has no
/// envelope (`Malformed`), or the asker is gone or has no room when the reply is sent (counted).
#[derive(Debug)]
pub struct Rep {
    receiver: Receiver,
}

impl Rep {
    pub(crate) fn from_options(built: Built) -> Rep {
        let pattern = |_: &_, _: &_, _: &_| Plain::new(Inbound::Deliver);
        let (socket, _) = Socket::assemble(SocketType::Rep, built, pattern);
        Rep { receiver: Receiver::with_origins(socket, Filter::All, true) }
    }

    /// The next request; waits for one.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`; `Timeout` when the builder's `recv_timeout` passes.
    ///
    /// # Cancel safety
    /// Safe: a request is taken only when this returns it.
    pub async fn recv(&mut self) -> Result<Request, RecvError> {
        self.recv_within(self.receiver.options().recv_timeout).await
    }

    async fn recv_within(&mut self, limit: Option<Duration>) -> Result<Request, RecvError> {
        let next = async {
            loop {
                let (origin, message) = self.receiver.recv_from_within(None).await?;
                if let Some(request) = self.open(origin, message) {
                    return Ok(request);
                }
            }
        };
        within(limit, next).await.unwrap_or(Err(RecvError::Timeout))
    }

    /// As [`Rep::recv`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe: a request is taken only when this returns it.
    pub async fn recv_timeout(&mut self, limit: Duration) -> Result<Request, RecvError> {
        self.recv_within(Some(limit)).await
    }

    /// A request that is already there.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`.
    pub fn try_recv(&mut self) -> Result<Request, TryRecvError> {
        loop {
            let (origin, message) = self.receiver.try_recv_from()?;
            if let Some(request) = self.open(origin, message) {
                return Ok(request);
            }
        }
    }

    /// Takes the envelope off; what has none is dropped and counted.
    fn open(&self, origin: Option<Arc<Origin>>, message: Message) -> Option<Request> {
        let socket = (*self.receiver).clone();
        let depth = socket.options().limits.max_envelope;
        let delimiter = message.iter().take(depth + 1).position(|frame| frame.is_empty());
        let opened = origin.zip(delimiter).and_then(|(origin, at)| {
            let mut envelope = message.into_frames();
            let body = Message::from_vec(envelope.split_off(at + 1))?;
            let together = self.receiver.has_more_of_it().then(Instant::now);
            let responder = Responder { socket: socket.clone(), origin, envelope, together };
            Some(Request { body: Some(body), responder: Some(responder) })
        });
        if opened.is_none() {
            socket.outbound().count_drop(None, DropReason::Malformed, 1);
        }
        opened
    }
}

impl Deref for Rep {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.receiver
    }
}

impl futures_core::Stream for Rep {
    type Item = Result<Request, RecvError>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.receiver.poll_recv_from(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok((origin, message))) => {
                    if let Some(request) = self.open(origin, message) {
                        return Poll::Ready(Some(Ok(request)));
                    }
                }
                Poll::Ready(Err(RecvError::Closed)) => return Poll::Ready(None),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// A request to be answered once. Dropped without an answer, it is the event `Unanswered`.
pub struct Request {
    body: Option<Message>,
    responder: Option<Responder>,
}

impl Request {
    /// The request's content, without its envelope.
    pub fn message(&self) -> &Message {
        static NONE: std::sync::OnceLock<Message> = std::sync::OnceLock::new();
        // The body leaves only together with `self`.
        self.body.as_ref().unwrap_or_else(|| NONE.get_or_init(|| Message::from("")))
    }

    /// Who asks.
    pub fn peer(&self) -> PeerId {
        match &self.responder {
            Some(responder) => PeerId::from(responder.origin.id.clone()),
            None => PeerId::from(Frame::EMPTY),
        }
    }

    /// Answers. Never waits.
    ///
    /// Quick answers to requests that came together are written together, at the latest when this task next waits for
    /// something; with [`FlushPolicy::Immediate`](crate::FlushPolicy::Immediate) each is written at once.
    ///
    /// # Errors
    /// [`SendError`], with the message: `NoRoute` when the asker is gone (counted as `PeerGone`), `Closed`; only
    /// with `on_full(Block)`, `Timeout` when the asker has no room.
    ///
    /// # Cancel safety
    /// Safe: it is done when it is first polled.
    pub async fn reply(self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        let (_, responder) = self.into_parts();
        responder.reply(message).await
    }

    /// The content and the right to answer, apart.
    pub fn into_parts(mut self) -> (Message, Responder) {
        let body = self.body.take().unwrap_or_else(lost);
        match self.responder.take() {
            Some(responder) => (body, responder),
            // Taken only here and in drop, both with `self` gone.
            None => unreachable!("a request has its responder"),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(&self.body).finish()
    }
}

/// The right to answer one request. Dropped, it is the event `Unanswered`.
pub struct Responder {
    socket: Socket,
    origin: Arc<Origin>,
    envelope: Vec<Frame>,
    /// When it was taken, if more requests of this asker came with it.
    together: Option<Instant>,
}

impl Responder {
    /// Answers: see [`Request::reply`].
    ///
    /// # Errors
    /// [`SendError`], with the message: `NoRoute` when the asker is gone (counted as `PeerGone`), `Closed`; only
    /// with `on_full(Block)`, `Timeout` when the asker has no room.
    ///
    /// # Cancel safety
    /// Safe: it is done when it is first polled.
    pub async fn reply(self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        self.answer(message.into())
    }

    pub(crate) fn answer(mut self, message: Message) -> Result<Receipt, SendError<Message>> {
        let mut frames = std::mem::take(&mut self.envelope);
        let depth = frames.len();
        frames.extend(message);
        let mut whole = Message::from_vec(frames);
        // Answers to requests that came together leave together; one that took long waits for no other.
        let at_once = self.together.is_none_or(|taken| taken.elapsed() > TOGETHER);
        let outbound = self.socket.outbound();
        let sent = match self.origin.over.load(Ordering::Acquire) {
            false => outbound.try_send_to(self.origin.peer, &mut whole, at_once),
            true => Err(Refused::NoRoute),
        };
        match sent {
            Ok(()) => Ok(Receipt::ACCEPTED),
            Err(refused) => {
                if refused == Refused::NoRoute {
                    outbound.count_drop(None, DropReason::PeerGone, 1);
                }
                let body = whole.and_then(|whole| whole.without_first(depth));
                Err(send_error(refused, body.unwrap_or_else(lost)))
            }
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // An answer takes the envelope.
        if !self.envelope.is_empty() {
            self.socket.emit(Event::Unanswered { peer: self.origin.address.to_string() });
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}
