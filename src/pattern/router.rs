//! ROUTER: each message to the peer it names, and received with the name of its sender.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Ids;
use super::receiver::{Filter, Receiver};
use super::sender::{lost, send_error, send_to, try_send_error};
use crate::endpoint::{Endpoint, IntoEndpoint};
use crate::engine::pattern::{Inbound, Newcomer, Pattern};
use crate::engine::within;
use crate::error::{ConnectError, OptionError, RecvError, SendError, TryRecvError, TrySendError};
use crate::event::{DropReason, Reason};
use crate::message::{Frame, Message, Receipt};
use crate::options::SocketType;
use crate::queue::PeerKey;
use crate::queue::admission::Refused;
use crate::queue::inbox::Origin;
use crate::queue::outbound::Outbound;
use crate::queue::waiters::Target;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// The name of one peer of a ROUTER: its routing id. Cheap to clone.
#[derive(Clone)]
pub struct PeerId {
    id: Frame,
    /// Where it was when the id was handed out: saves the look-up.
    key: Option<PeerKey>,
}

impl PeerId {
    /// The routing id as a frame.
    pub fn to_frame(&self) -> Frame {
        self.id.clone()
    }
}

impl AsRef<[u8]> for PeerId {
    fn as_ref(&self) -> &[u8] {
        &self.id
    }
}

impl From<&[u8]> for PeerId {
    fn from(id: &[u8]) -> PeerId {
        PeerId { id: Frame::copy_from_slice(id), key: None }
    }
}

impl From<Frame> for PeerId {
    fn from(id: Frame) -> PeerId {
        PeerId { id, key: None }
    }
}

impl PartialEq for PeerId {
    fn eq(&self, other: &PeerId) -> bool {
        self.id == other.id
    }
}

impl Eq for PeerId {}

impl std::hash::Hash for PeerId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for PeerId {
    /// Hexadecimal: ids come from strangers and may hold anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerId(")?;
        for byte in self.id.iter() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Who has which id.
pub(crate) struct Directory {
    outbound: Arc<Outbound>,
    handover: bool,
    ids: Ids,
    known: Mutex<HashMap<Frame, Holder>>,
    names: Mutex<HashMap<PeerKey, Frame>>,
}

/// The peer that has an id.
struct Holder {
    key: PeerKey,
    /// As the security mechanism says: nobody else may take the id over.
    user: Option<String>,
}

impl Directory {
    fn known(&self) -> MutexGuard<'_, HashMap<Frame, Holder>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<PeerKey, Frame>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, peer: &PeerId) -> Option<PeerKey> {
        let current = |key: &PeerKey| self.names().get(key) == Some(&peer.id);
        peer.key.filter(current).or_else(|| self.known().get(&peer.id).map(|holder| holder.key))
    }
}

impl Pattern for Directory {
    fn inbound(&self) -> Inbound {
        Inbound::Deliver
    }

    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason> {
        let wanted = newcomer.chosen.or(newcomer.identity).cloned();
        let id = wanted.unwrap_or_else(|| self.ids.next());
        let mut known = self.known();
        match known.get(&id).filter(|holder| holder.key != newcomer.key) {
            Some(holder) if !self.handover || holder.user.as_deref() != newcomer.user => {
                return Err(Reason::IdentityTaken);
            }
            Some(holder) => {
                self.names().remove(&holder.key);
                self.outbound.kick(holder.key, Reason::Local);
            }
            None => {}
        }
        if let Some(old) = self.names().insert(newcomer.key, id.clone())
            && old != id
        {
            known.remove(&old);
        }
        known.insert(id.clone(), Holder { key: newcomer.key, user: newcomer.user.map(str::to_owned) });
        Ok(id)
    }

    fn detach(&self, key: PeerKey) -> Vec<Vec<u8>> {
        let mut known = self.known();
        if let Some(id) = self.names().remove(&key)
            && known.get(&id).is_some_and(|holder| holder.key == key)
        {
            known.remove(&id);
        }
        Vec::new()
    }
}

/// Sends each message to the peer it names, and receives messages with their sender's name (ZeroMQ's ROUTER,
/// RFC 28).
///
/// Waits when: `mandatory` is set and that peer has no room. Drops when: the peer is unknown (`NoRoute`) or has
/// no room (`HwmReached`); with `mandatory`, an unknown peer is an error instead. Order: per peer.
#[derive(Debug)]
pub struct Router {
    sender: RouterSender,
    receiver: RouterReceiver,
}

/// The sending half of a [`Router`]; cheap to clone.
#[derive(Clone)]
pub struct RouterSender {
    socket: Socket,
    directory: Arc<Directory>,
}

/// The receiving half of a [`Router`].
#[derive(Debug)]
pub struct RouterReceiver {
    receiver: Receiver,
}

impl fmt::Debug for RouterSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouterSender").field(&self.socket).finish()
    }
}

impl Router {
    pub(crate) fn from_options(built: Built) -> Router {
        let (socket, directory) = Socket::assemble(SocketType::Router, built, |options, outbound, _| Directory {
            outbound: outbound.clone(),
            handover: options.router_handover,
            ids: Ids::default(),
            known: Mutex::default(),
            names: Mutex::default(),
        });
        let receiver = RouterReceiver { receiver: Receiver::with_origins(socket.clone(), Filter::All, true) };
        Router { sender: RouterSender { socket, directory }, receiver }
    }

    /// Sends to this peer: see [`RouterSender::send_to`].
    ///
    /// # Errors
    /// [`SendError`], with the message.
    ///
    /// # Cancel safety
    /// Safe: dropped before it is done, nothing was sent.
    pub async fn send_to(&self, peer: &PeerId, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        self.sender.send_to(peer, message).await
    }

    /// Sends to this peer if that needs no waiting.
    ///
    /// # Errors
    /// [`TrySendError`], with the message.
    pub fn try_send_to(&self, peer: &PeerId, message: impl Into<Message>) -> Result<Receipt, TrySendError<Message>> {
        self.sender.try_send_to(peer, message)
    }

    /// The next message and its sender: see [`RouterReceiver::recv`].
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    pub async fn recv(&mut self) -> Result<(PeerId, Message), RecvError> {
        self.receiver.recv().await
    }

    /// A message that is already there, and its sender.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`.
    pub fn try_recv(&mut self) -> Result<(PeerId, Message), TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`Router::recv`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    pub async fn recv_timeout(&mut self, limit: Duration) -> Result<(PeerId, Message), RecvError> {
        self.receiver.recv_timeout(limit).await
    }

    /// Connects to one more endpoint and names the peer there (libzmq's `CONNECT_ROUTING_ID`): messages can be
    /// sent to `id` as soon as the connection stands, whatever id the peer announces. `inproc` peers keep their own
    /// id. An id that another peer has is refused at the handshake (`IdentityTaken`), and tried again.
    ///
    /// # Errors
    /// [`ConnectError`]; `Option` when the id is not 1 to 255 bytes.
    pub fn connect_as(&self, endpoint: impl IntoEndpoint, id: impl Into<Frame>) -> Result<Endpoint, ConnectError> {
        let id = id.into();
        if id.is_empty() || id.len() > 255 {
            return Err(OptionError::new("connect_as", "the id is 1 to 255 bytes").into());
        }
        self.sender.socket.connect_as(endpoint, Some(id))
    }

    /// The sending half; the receiving one stays usable through this value.
    pub fn sender(&self) -> RouterSender {
        self.sender.clone()
    }

    /// Both halves, for two tasks.
    pub fn split(self) -> (RouterSender, RouterReceiver) {
        (self.sender, self.receiver)
    }
}

impl Deref for Router {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.sender.socket
    }
}

impl RouterSender {
    /// Sends to this peer. An unknown peer, or one without room, is a counted drop; with `mandatory` the first
    /// is an error and the second waits.
    ///
    /// # Errors
    /// [`SendError`], with the message: `NoRoute`, `Closed`, `Timeout` (the builder's `send_timeout`).
    ///
    /// # Cancel safety
    /// Safe: dropped before it is done, nothing was sent.
    pub async fn send_to(&self, peer: &PeerId, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        self.socket.pay_toll().await;
        let mut message = Some(message.into());
        let Some(key) = self.directory.find(peer) else {
            return self.unknown(message).map_err(|(refused, message)| send_error(refused, message));
        };
        let sent = match self.socket.outbound().try_send_to(key, &mut message, false) {
            Err(Refused::Full) => {
                let limit = self.socket.options().send_timeout;
                let waiting = send_to(&self.socket, Target::Peer(key), &mut message, false);
                within(limit, waiting).await.unwrap_or(Err(Refused::Full))
            }
            other => other,
        };
        match sent {
            Ok(()) => Ok(Receipt::ACCEPTED),
            Err(Refused::NoRoute) => self.unknown(message).map_err(|(refused, message)| send_error(refused, message)),
            Err(refused) => Err(send_error(refused, message.unwrap_or_else(lost))),
        }
    }

    /// Sends to this peer if that needs no waiting.
    ///
    /// # Errors
    /// [`TrySendError`], with the message: `Full`, `NoRoute` (both with `mandatory` only), `Closed`.
    pub fn try_send_to(&self, peer: &PeerId, message: impl Into<Message>) -> Result<Receipt, TrySendError<Message>> {
        let mut message = Some(message.into());
        let sent = match self.directory.find(peer) {
            Some(key) => self.socket.outbound().try_send_to(key, &mut message, false),
            None => Err(Refused::NoRoute),
        };
        match sent {
            Ok(()) => Ok(Receipt::ACCEPTED),
            Err(Refused::NoRoute) => {
                self.unknown(message).map_err(|(refused, message)| try_send_error(refused, message))
            }
            Err(refused) => Err(try_send_error(refused, message.unwrap_or_else(lost))),
        }
    }

    /// The peer is not there: an error or a counted drop.
    fn unknown(&self, message: Option<Message>) -> Result<Receipt, (Refused, Message)> {
        if !self.socket.is_open() {
            return Err((Refused::Closed, message.unwrap_or_else(lost)));
        }
        if self.socket.options().router_mandatory {
            return Err((Refused::NoRoute, message.unwrap_or_else(lost)));
        }
        self.socket.outbound().count_drop(None, DropReason::NoRoute, 1);
        Ok(Receipt::ACCEPTED)
    }
}

impl Deref for RouterSender {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

fn with_id(origin: Option<Arc<Origin>>, message: Message) -> (PeerId, Message) {
    let peer = match origin {
        Some(origin) => PeerId { id: origin.id.clone(), key: Some(origin.peer) },
        // Every lane is announced before its first message.
        None => PeerId { id: Frame::EMPTY, key: None },
    };
    (peer, message)
}

impl RouterReceiver {
    /// The next message and its sender; waits for one.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    pub async fn recv(&mut self) -> Result<(PeerId, Message), RecvError> {
        self.receiver.recv_from().await.map(|(origin, message)| with_id(origin, message))
    }

    /// As [`RouterReceiver::recv`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it.
    pub async fn recv_timeout(&mut self, limit: Duration) -> Result<(PeerId, Message), RecvError> {
        let (origin, message) = self.receiver.recv_from_within(Some(limit)).await?;
        Ok(with_id(origin, message))
    }

    /// A message that is already there, and its sender.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`.
    pub fn try_recv(&mut self) -> Result<(PeerId, Message), TryRecvError> {
        self.receiver.try_recv_from().map(|(origin, message)| with_id(origin, message))
    }
}

impl Deref for RouterReceiver {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.receiver
    }
}

impl futures_core::Stream for RouterReceiver {
    type Item = Result<(PeerId, Message), RecvError>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv_from(cx).map(|next| match next {
            Ok((origin, message)) => Some(Ok(with_id(origin, message))),
            Err(RecvError::Closed) => None,
            Err(error) => Some(Err(error)),
        })
    }
}
