//! SUB, and the own subscriptions that it shares with XSUB: [`Subscriber`].
//!
//! Subscriptions are counted here, once each on the wire: one SUBSCRIBE at the first, one CANCEL at zero.
//! That is right for publishers that keep sets (libzmq) and for those that count (RFC 37).

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Ids;
use super::receiver::{Filter, Receiver};
use super::topics::Topics;
use crate::engine::pattern::{Inbound, Newcomer, Pattern};
use crate::error::SendError;
use crate::event::Reason;
use crate::message::{Frame, Message};
use crate::options::{Options, SocketType};
use crate::queue::PeerKey;
use crate::queue::admission::Refused;
use crate::queue::outbound::Outbound;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// The class of all publishers, for what an XSUB sends upstream.
const ALL: usize = 0;

/// What one subscriber wants.
pub(crate) struct Subscriber {
    topics: Mutex<Topics<()>>,
    /// Held from a change until it is announced: publishers hear changes in the order in which they were made.
    announcing: Mutex<()>,
    inverted: bool,
    /// Somebody asked for a prefix, once.
    subscribed: AtomicBool,
    /// XSUB: peers get what the user sends.
    upstream: Option<Arc<Outbound>>,
    ids: Ids,
}

impl Subscriber {
    pub(crate) fn new(options: &Options, upstream: Option<Arc<Outbound>>) -> Subscriber {
        let mut topics = Topics::new();
        for topic in &options.subscriptions {
            let id = topics.insert(topic);
            topics.add(id, ());
        }
        if let Some(outbound) = &upstream {
            let class = outbound.new_class();
            debug_assert_eq!(class, ALL, "the first class");
        }
        Subscriber {
            topics: Mutex::new(topics),
            announcing: Mutex::default(),
            inverted: options.invert_matching,
            subscribed: AtomicBool::new(!options.subscriptions.is_empty()),
            upstream,
            ids: Ids::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Topics<()>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a received message is wanted: a publisher may send what was cancelled a moment ago.
    #[inline]
    pub(crate) fn wants(&self, topic: &[u8]) -> bool {
        self.lock().matches_any(topic) != self.inverted
    }

    pub(crate) fn has_never_subscribed(&self) -> bool {
        !self.subscribed.load(Ordering::Relaxed)
    }

    pub(crate) fn subscribe(&self, socket: &Socket, topic: &[u8]) {
        self.subscribed.store(true, Ordering::Relaxed);
        let _order = self.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        let first = {
            let mut topics = self.lock();
            let id = topics.insert(topic);
            topics.add(id, ()) == 1
        };
        if first {
            socket.announce_subscription(topic, true);
        }
    }

    pub(crate) fn unsubscribe(&self, socket: &Socket, topic: &[u8]) {
        let _order = self.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        let last = {
            let mut topics = self.lock();
            let used = topics.find(topic).filter(|&id| topics.is_used(id));
            used.is_some_and(|id| topics.sub(id, ()) == 0)
        };
        if last {
            socket.announce_subscription(topic, false);
        }
    }

    /// Different prefixes that are subscribed.
    pub(crate) fn topic_count(&self) -> usize {
        self.lock().len()
    }

    /// What the user of an XSUB sends: 1 or 0 and a topic changes subscriptions, anything else goes upstream.
    pub(crate) fn send_upstream(&self, socket: &Socket, message: &mut Option<Message>) -> Result<(), Refused> {
        let Some(content) = message.as_ref() else { return Ok(()) };
        match content.first().and_then(|frame| frame.split_first()) {
            Some((1, topic)) => self.subscribe(socket, topic),
            Some((0, topic)) => self.unsubscribe(socket, topic),
            _ => {
                let publication = socket.outbound().try_publish(&[ALL], content)?;
                socket.outbound().settle_publication(publication);
            }
        }
        *message = None;
        Ok(())
    }
}

impl Pattern for Subscriber {
    fn inbound(&self) -> Inbound {
        Inbound::Deliver
    }

    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason> {
        if let Some(outbound) = &self.upstream {
            outbound.join_class(newcomer.key, Some(ALL));
        }
        Ok(newcomer.identity.cloned().unwrap_or_else(|| self.ids.next()))
    }

    fn detach(&self, key: PeerKey) -> Vec<Vec<u8>> {
        if let Some(outbound) = &self.upstream {
            outbound.join_class(key, None);
        }
        Vec::new()
    }

    fn topics(&self) -> Vec<Vec<u8>> {
        let mut topics = Vec::new();
        self.lock().for_each(|prefix, _| topics.push(prefix.to_vec()));
        topics
    }
}

/// A socket with a [`Subscriber`] as its pattern.
pub(super) fn assemble(kind: SocketType, built: Built) -> (Socket, Arc<Subscriber>) {
    Socket::assemble(kind, built, |options, outbound, _| {
        let upstream = (kind == SocketType::XSub).then(|| outbound.clone());
        Subscriber::new(options, upstream)
    })
}

/// Receives what its prefixes match from every publisher, in turn (ZeroMQ's SUB, RFC 29).
///
/// Waits when: nothing is there. Drops when: never by itself; a publisher drops what this socket is too slow
/// for, and counts it. Order: per publisher, as published; what comes after a reconnect to a SUB that binds is read in
/// turn with what is unread from before. Without any subscription nothing arrives.
#[derive(Debug)]
pub struct Sub {
    receiver: Receiver,
    subscriptions: Subscriptions,
}

/// Changes what a SUB is subscribed to, from any task: cheap to clone.
#[derive(Clone)]
pub struct Subscriptions {
    socket: Socket,
    subscriber: Arc<Subscriber>,
}

impl std::fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscriptions")
    }
}

impl Subscriptions {
    pub(super) fn new(socket: Socket, subscriber: Arc<Subscriber>) -> Subscriptions {
        Subscriptions { socket, subscriber }
    }

    /// Wants messages whose first frame starts with `prefix`; the empty prefix is everything. Counted: two of
    /// one need two cancels. Every connected publisher is told, and every one that connects later.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn subscribe(&self, prefix: impl AsRef<[u8]>) -> Result<(), SendError<()>> {
        self.open()?;
        self.subscriber.subscribe(&self.socket, prefix.as_ref());
        Ok(())
    }

    /// Takes one [`subscribe`](Subscriptions::subscribe) back. One that never was is no error.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn unsubscribe(&self, prefix: impl AsRef<[u8]>) -> Result<(), SendError<()>> {
        self.open()?;
        self.subscriber.unsubscribe(&self.socket, prefix.as_ref());
        Ok(())
    }

    /// Different prefixes that are subscribed.
    pub fn topic_count(&self) -> usize {
        self.subscriber.topic_count()
    }

    fn open(&self) -> Result<(), SendError<()>> {
        if self.socket.is_open() { Ok(()) } else { Err(SendError::Closed(())) }
    }
}

impl Sub {
    pub(crate) fn from_options(built: Built) -> Sub {
        let (socket, subscriber) = assemble(SocketType::Sub, built);
        let receiver = Receiver::new(socket.clone(), Filter::Topics(subscriber.clone()));
        Sub { receiver, subscriptions: Subscriptions::new(socket, subscriber) }
    }

    /// Wants messages whose first frame starts with `prefix`: see [`Subscriptions::subscribe`].
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn subscribe(&self, prefix: impl AsRef<[u8]>) -> Result<(), SendError<()>> {
        self.subscriptions.subscribe(prefix)
    }

    /// Takes one subscribe back: see [`Subscriptions::unsubscribe`].
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn unsubscribe(&self, prefix: impl AsRef<[u8]>) -> Result<(), SendError<()>> {
        self.subscriptions.unsubscribe(prefix)
    }

    /// A handle that changes the subscriptions while this socket receives elsewhere.
    pub fn subscriptions(&self) -> Subscriptions {
        self.subscriptions.clone()
    }

    /// Gives the receiving half up to a pool: see [`Receiver::into_shared`].
    pub fn into_shared(self) -> super::receiver::SharedReceiver {
        self.receiver.into_shared()
    }
}

impl Deref for Sub {
    type Target = Receiver;

    fn deref(&self) -> &Receiver {
        &self.receiver
    }
}

impl DerefMut for Sub {
    fn deref_mut(&mut self) -> &mut Receiver {
        &mut self.receiver
    }
}

super::receiver::stream_by_deref!(Sub);
