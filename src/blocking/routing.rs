//! Messages to and from one peer among many, in threads: ROUTER by name, REQ and REP by request.
//!
//! Next: `values` for a request in hand, and `pattern::router`, `pattern::request` and `pattern::reply`.

use std::time::Duration;

use super::receiving::{ended, unless_closed};
use super::sending::refused;
use super::{Blocking, Context, Request, RouterReceiver, RouterSender, no_thread};
use crate::endpoint::{Endpoint, IntoEndpoint};
use crate::engine::park::wait;
use crate::error::{ConnectError, RecvError, RequestError, SendError, TryRecvError, TrySendError};
use crate::message::{Frame, Message, Receipt};
use crate::pattern::router::PeerId;

macro_rules! routes {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// Sends to this peer. An unknown peer, or one without room, is a counted drop; with `mandatory` the
            /// first is an error and the second waits.
            ///
            /// # Errors
            /// [`SendError`], with the message: `NoRoute`, `Closed`, `Timeout` (the builder's `send_timeout`).
            pub fn send_to(&self, peer: &PeerId, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
                match self.0.try_send_to(peer, message) {
                    Ok(receipt) => Ok(receipt),
                    Err(TrySendError::Full(message)) => wait(self.0.send_to(peer, message)),
                    Err(error) => Err(refused(error)),
                }
            }
        }
    )*};
}

macro_rules! is_routed {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// The next message and its sender; waits for one.
            ///
            /// # Errors
            /// [`RecvError`]: `Closed`, `Timeout`.
            pub fn recv(&mut self) -> Result<(PeerId, Message), RecvError> {
                match self.0.try_recv() {
                    Err(TryRecvError::Empty) => wait(self.0.recv()),
                    other => other.map_err(ended),
                }
            }

            /// As `recv`, for at most this long.
            ///
            /// # Errors
            /// [`RecvError`]: `Timeout`, `Closed`.
            pub fn recv_timeout(&mut self, limit: Duration) -> Result<(PeerId, Message), RecvError> {
                wait(self.0.recv_timeout(limit))
            }

            /// Receives again and again; ends when the socket is closed and everything was read.
            pub fn iter(&mut self) -> impl Iterator<Item = Result<(PeerId, Message), RecvError>> {
                std::iter::from_fn(|| unless_closed(self.recv()))
            }
        }
    )*};
}

routes!(Router RouterSender);
is_routed!(Router RouterReceiver);

impl Blocking<crate::Router> {
    /// Connects to one more endpoint and names the peer there: see [`Router::connect_as`](crate::Router::connect_as).
    ///
    /// # Errors
    /// [`ConnectError`]; `Option` when the id is not 1 to 255 bytes.
    pub fn connect_as(&self, endpoint: impl IntoEndpoint, id: impl Into<Frame>) -> Result<Endpoint, ConnectError> {
        Context::of(&self.0).map_err(no_thread)?;
        self.0.connect_as(endpoint, id)
    }

    /// The sending half; the receiving one stays usable through this value.
    pub fn sender(&self) -> RouterSender {
        Blocking(self.0.sender())
    }

    /// Both halves, for two threads.
    pub fn split(self) -> (RouterSender, RouterReceiver) {
        let (sender, receiver) = self.0.split();
        (Blocking(sender), Blocking(receiver))
    }
}

impl Blocking<crate::Req> {
    /// Asks, and waits for the reply. Many threads may ask at once, through clones or one shared value.
    ///
    /// # Errors
    /// [`RequestError`]: `Timeout` when the builder's `recv_timeout` passes (default: none), `PeerLost` (written, then
    /// the peer left: it may have been carried out), `Closed`, `OutOfTurn` (lockstep only).
    pub fn request(&self, message: impl Into<Message>) -> Result<Message, RequestError> {
        wait(self.0.request(message).run())
    }

    /// As `request`, for at most this long, the wait for a peer included.
    ///
    /// # Errors
    /// [`RequestError`], as `request`. After `Timeout` the request may still be carried out; a late reply is dropped and
    /// counted.
    pub fn request_timeout(&self, message: impl Into<Message>, limit: Duration) -> Result<Message, RequestError> {
        wait(self.0.request(message).timeout(limit).run())
    }
}

impl Blocking<crate::Rep> {
    /// The next request; waits for one.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`; `Timeout` when the builder's `recv_timeout` passes (default: none).
    pub fn recv(&mut self) -> Result<Request, RecvError> {
        match self.0.try_recv() {
            Err(TryRecvError::Empty) => wait(self.0.recv()).map(Blocking),
            other => other.map(Blocking).map_err(ended),
        }
    }

    /// As `recv`, for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Request, RecvError> {
        wait(self.0.recv_timeout(limit)).map(Blocking)
    }

    /// A request that is already there.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`.
    pub fn try_recv(&mut self) -> Result<Request, TryRecvError> {
        self.0.try_recv().map(Blocking)
    }

    /// Receives again and again; ends when the socket is closed and everything was read.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Request, RecvError>> {
        std::iter::from_fn(|| unless_closed(self.recv()))
    }
}
