//! PUB, and the choice of subscribers that it shares with XPUB: [`Publisher`].
//!
//! Each peer's subscriptions are a set. Peers of the same small set form one class, for which a message is
//! encoded once; the tree of prefixes holds classes, not peers. A peer with an unusual or large set is a
//! class of its own.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::Ids;
use super::sender::{Route, Sender};
use super::topics::{TopicId, Topics};
use crate::engine::pattern::{Inbound, Newcomer, News, Pattern};
use crate::error::WaitError;
use crate::event::{DropReason, Reason};
use crate::message::{Frame, Message};
use crate::options::{Options, SocketType};
use crate::queue::PeerKey;
use crate::queue::admission::{Refused, Wait};
use crate::queue::outbound::Outbound;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// Sets up to this size are compared with others; larger ones would cost too much at every change.
const SHARED_SET: usize = 64;
/// What a topic costs besides its bytes.
const TOPIC_CHARGE: usize = 64;

/// What one subscriber wants.
struct Wants {
    topics: HashSet<TopicId>,
    charged: usize,
    class: usize,
}

struct Class {
    members: usize,
    /// Where it is listed, if it can be shared.
    fingerprint: Option<u64>,
}

struct Subscriptions {
    topics: Topics<u32>,
    peers: HashMap<PeerKey, Wants>,
    classes: HashMap<usize, Class>,
    by_fingerprint: HashMap<u64, usize>,
    hasher: RandomState,
    /// Classes of the message at hand.
    matched: Vec<usize>,
    /// By class: the last message that it matched.
    stamps: Vec<u64>,
    stamp: u64,
}

/// Who gets what of one publisher.
pub(crate) struct Publisher {
    outbound: Arc<Outbound>,
    upstream: bool,
    verbose: bool,
    verboser: bool,
    inverted: bool,
    max_subscriptions: usize,
    max_bytes: usize,
    state: Mutex<Subscriptions>,
    ids: Ids,
}

impl Publisher {
    pub(crate) fn new(options: &Options, outbound: Arc<Outbound>, upstream: bool) -> Publisher {
        Publisher {
            outbound,
            upstream,
            verbose: options.xpub_verbose || options.xpub_verboser,
            verboser: options.xpub_verboser,
            inverted: options.invert_matching,
            max_subscriptions: options.limits.max_subscriptions,
            max_bytes: options.limits.max_subscription_bytes,
            state: Mutex::new(Subscriptions {
                topics: Topics::new(),
                peers: HashMap::new(),
                classes: HashMap::new(),
                by_fingerprint: HashMap::new(),
                hasher: RandomState::new(),
                matched: Vec::new(),
                stamps: Vec::new(),
                stamp: 0,
            }),
            ids: Ids::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscriptions> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes; subscribers without room are dealt with as the options say.
    pub(crate) fn try_publish(&self, content: &Message) -> Result<(), Refused> {
        let publication = {
            let mut state = self.lock();
            state.find_classes(content, self.inverted);
            if let [class] = state.matched[..]
                && self.outbound.join_batch_of(class, content)
            {
                return Ok(());
            }
            // Still under the lock: no subscriber changes class between the choice and the delivery.
            let publication = self.outbound.try_publish(&state.matched, content)?;
            if state.matched.is_empty() {
                self.outbound.count_drop(None, DropReason::NoPeer, 1);
            }
            publication
        };
        self.outbound.settle_publication(publication);
        Ok(())
    }

    pub(crate) fn poll_publish(
        &self,
        cx: &mut Context<'_>,
        wait: &mut Wait,
        message: &mut Option<Message>,
    ) -> Poll<Result<(), Refused>> {
        let Some(content) = message.as_ref() else { return Poll::Ready(Ok(())) };
        let result = {
            let mut state = self.lock();
            state.find_classes(content, self.inverted);
            let result = self.outbound.poll_publish(cx, wait, &state.matched, content);
            if result.is_ready() && state.matched.is_empty() {
                self.outbound.count_drop(None, DropReason::NoPeer, 1);
            }
            result
        };
        match result {
            Poll::Ready(Ok(publication)) => {
                self.outbound.settle_publication(publication);
                *message = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(refused)) => Poll::Ready(Err(refused)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Different prefixes that somebody wants.
    pub(crate) fn topic_count(&self) -> usize {
        self.lock().topics.len()
    }

    fn subscribe(&self, key: PeerKey, topic: &[u8]) -> Result<News, Reason> {
        let mut state = self.lock();
        let id = state.topics.find(topic);
        if let (Some(id), Some(wants)) = (id, state.peers.get(&key))
            && wants.topics.contains(&id)
        {
            return Ok(News { changed: false, report: self.verbose });
        }
        let charge = topic.len() + TOPIC_CHARGE;
        if let Some(wants) = state.peers.get(&key) {
            if wants.topics.len() >= self.max_subscriptions {
                return Err(limit("max_subscriptions", self.max_subscriptions));
            }
            if wants.charged + charge > self.max_bytes {
                return Err(limit("max_subscription_bytes", self.max_bytes));
            }
        } else if charge > self.max_bytes {
            return Err(limit("max_subscription_bytes", self.max_bytes));
        }
        let first = id.is_none_or(|id| !state.topics.is_used(id));
        let class = state.own_class(key, &self.outbound);
        let id = state.topics.insert(topic);
        state.topics.add(id, class as u32);
        if let Some(wants) = state.peers.get_mut(&key) {
            wants.topics.insert(id);
            wants.charged += charge;
        }
        state.share_class(key, &self.outbound);
        Ok(News { changed: true, report: first || self.verbose })
    }

    fn cancel(&self, key: PeerKey, topic: &[u8]) -> News {
        let mut state = self.lock();
        let id = state.topics.find(topic);
        let wanted = id.filter(|id| state.peers.get(&key).is_some_and(|wants| wants.topics.contains(id)));
        let Some(id) = wanted else {
            // libzmq reports the cancel of a topic that nobody has.
            let unused = id.is_none_or(|id| !state.topics.is_used(id));
            return News { changed: false, report: unused || self.verboser };
        };
        let class = state.own_class(key, &self.outbound);
        state.topics.sub(id, class as u32);
        let last = state.topics.find(topic).is_none_or(|id| !state.topics.is_used(id));
        if let Some(wants) = state.peers.get_mut(&key) {
            wants.topics.remove(&id);
            wants.charged = wants.charged.saturating_sub(topic.len() + TOPIC_CHARGE);
        }
        state.share_class(key, &self.outbound);
        self.outbound.look_again();
        News { changed: true, report: last || self.verboser }
    }
}

fn limit(which: &'static str, limit: usize) -> Reason {
    Reason::LimitExceeded { which, limit: limit as u64 }
}

impl Subscriptions {
    fn find_classes(&mut self, message: &Message, inverted: bool) {
        self.matched.clear();
        self.stamp += 1;
        let (matched, stamps, stamp) = (&mut self.matched, &mut self.stamps, self.stamp);
        let topic: &[u8] = message.first().map_or(&[], |frame| frame);
        self.topics.matches(topic, |class| {
            let class = class as usize;
            if class >= stamps.len() {
                stamps.resize(class + 1, 0);
            }
            // A class may match by several of its prefixes.
            if let Some(seen) = stamps.get_mut(class).filter(|seen| **seen != stamp) {
                *seen = stamp;
                matched.push(class);
            }
        });
        if inverted {
            self.matched = self.classes.keys().copied().filter(|class| !self.matched.contains(class)).collect();
        }
    }

    /// A class that only this peer is in, made from its present one if needed.
    fn own_class(&mut self, key: PeerKey, outbound: &Outbound) -> usize {
        let Some(wants) = self.peers.get_mut(&key) else {
            let class = outbound.new_class();
            self.classes.insert(class, Class { members: 1, fingerprint: None });
            self.peers.insert(key, Wants { topics: HashSet::new(), charged: 0, class });
            outbound.join_class(key, Some(class));
            return class;
        };
        let old = wants.class;
        if let Some(class) = self.classes.get_mut(&old) {
            if class.members == 1 {
                if let Some(fingerprint) = class.fingerprint.take() {
                    self.by_fingerprint.remove(&fingerprint);
                }
                return old;
            }
            class.members -= 1;
        }
        let class = outbound.new_class();
        wants.class = class;
        for &id in &wants.topics {
            self.topics.add(id, class as u32);
        }
        self.classes.insert(class, Class { members: 1, fingerprint: None });
        outbound.join_class(key, Some(class));
        class
    }

    /// Joins the class that has exactly this peer's set, or offers the peer's own to others.
    fn share_class(&mut self, key: PeerKey, outbound: &Outbound) {
        let Some(wants) = self.peers.get(&key) else { return };
        if wants.topics.is_empty() || wants.topics.len() > SHARED_SET {
            return;
        }
        let own = wants.class;
        let fingerprint = wants.topics.iter().fold(0, |sum, id| sum ^ self.hasher.hash_one(id));
        match self.by_fingerprint.get(&fingerprint).copied() {
            Some(other) if other != own => {
                let topics = &wants.topics;
                // Fingerprints may collide: only a class that wants exactly the same will do.
                if self.peers.values().any(|wants| wants.class == other && wants.topics == *topics) {
                    self.merge(key, own, other, outbound);
                }
            }
            Some(_) => {}
            None => {
                self.by_fingerprint.insert(fingerprint, own);
                if let Some(class) = self.classes.get_mut(&own) {
                    class.fingerprint = Some(fingerprint);
                }
            }
        }
    }

    fn merge(&mut self, key: PeerKey, own: usize, other: usize, outbound: &Outbound) {
        let Some(wants) = self.peers.get_mut(&key) else { return };
        wants.class = other;
        for &id in &wants.topics {
            self.topics.sub(id, own as u32);
        }
        if let Some(class) = self.classes.get_mut(&other) {
            class.members += 1;
        }
        self.classes.remove(&own);
        outbound.join_class(key, Some(other));
        outbound.drop_class(own);
    }

    /// Forgets a peer. Returns the topics that nobody wants any more.
    fn forget(&mut self, key: PeerKey, outbound: &Outbound) -> Vec<Vec<u8>> {
        let Some(wants) = self.peers.remove(&key) else { return Vec::new() };
        outbound.join_class(key, None);
        let Some(class) = self.classes.get_mut(&wants.class) else { return Vec::new() };
        if class.members > 1 {
            class.members -= 1;
            return Vec::new();
        }
        if let Some(fingerprint) = class.fingerprint {
            self.by_fingerprint.remove(&fingerprint);
        }
        self.classes.remove(&wants.class);
        let mut unused = Vec::new();
        for id in wants.topics {
            let topic = self.topics.prefix_of(id);
            self.topics.sub(id, wants.class as u32);
            if self.topics.find(&topic).is_none_or(|id| !self.topics.is_used(id)) {
                unused.push(topic);
            }
        }
        outbound.drop_class(wants.class);
        unused
    }
}

impl Pattern for Publisher {
    fn inbound(&self) -> Inbound {
        if self.upstream { Inbound::Upstream } else { Inbound::Subscriptions }
    }

    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason> {
        Ok(newcomer.identity.cloned().unwrap_or_else(|| self.ids.next()))
    }

    fn detach(&self, key: PeerKey) -> Vec<Vec<u8>> {
        let unused = self.lock().forget(key, &self.outbound);
        self.outbound.look_again();
        if self.upstream { unused } else { Vec::new() }
    }

    fn subscription(&self, key: PeerKey, topic: &[u8], subscribe: bool) -> Result<News, Reason> {
        if subscribe { self.subscribe(key, topic) } else { Ok(self.cancel(key, topic)) }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}

/// Publishes to every subscriber whose prefixes match the first frame (ZeroMQ's PUB, RFC 29).
///
/// Waits when: never, unless `on_full(OnFull::Block)`; it may let other tasks run now and then. Drops when: a subscriber is at its high-water mark (only
/// for that one, counted as `HwmReached`), or nobody subscribes (`NoPeer`). Order: per subscriber, as sent.
/// A subscriber that is gone misses what is published meanwhile.
#[derive(Clone, Debug)]
pub struct Pub {
    sender: Sender,
}

impl Pub {
    pub(crate) fn from_options(built: Built) -> Pub {
        let (socket, publisher) = assemble(SocketType::Pub, built);
        let route = match socket.spool() {
            Some(spool) => Route::Log(spool, Some(publisher)),
            None => Route::Publish(publisher),
        };
        Pub { sender: Sender::new(socket, route) }
    }

    /// Different prefixes that somebody subscribes to.
    pub fn topic_count(&self) -> usize {
        self.sender.topic_count()
    }

    /// Waits until at least `count` connected peers have a subscription.
    ///
    /// # Errors
    /// [`WaitError::Closed`] when the socket is closed first.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn wait_for_subscribers(&self, count: usize) -> Result<(), WaitError> {
        self.sender.wait_for_subscribed(count).await
    }
}

/// A socket with a [`Publisher`] as its pattern.
pub(super) fn assemble(kind: SocketType, built: Built) -> (Socket, Arc<Publisher>) {
    Socket::assemble(kind, built, |options, outbound, _| {
        Publisher::new(options, outbound.clone(), kind == SocketType::XPub)
    })
}

impl Deref for Pub {
    type Target = Sender;

    fn deref(&self) -> &Sender {
        &self.sender
    }
}
