//! What all tasks of one socket share: [`Shared`] — the two sides of its queues, the table of peers, the
//! pattern, the news — and how a peer is let in and seen off.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::durable::Durability;
use super::events::Events;
use super::pattern::{Inbound, Newcomer, News, Pattern};
use super::stage::Stage;
use crate::event::{DropReason, Event, Reason};
use crate::message::{Frame, Message};
use crate::options::{Options, SocketType};
use crate::queue::inbox::{Inbox, Origin};
use crate::queue::outbound::Outbound;
use crate::queue::peers::Road;
use crate::queue::{Link, PeerKey};
use crate::wire::Version;
use crate::wire::command;
use crate::wire::session::Established;

/// Tells the socket when one of its tasks is dropped before its end: only the runtime's end does that.
struct Unfinished(Option<Weak<Shared>>);

impl Unfinished {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let shared = self.0.take().and_then(|shared| shared.upgrade());
        if let Some(shared) = shared.filter(|_| !std::thread::panicking()) {
            shared.lose_runtime();
        }
    }
}

/// Where a socket's tasks run.
struct Home {
    runtime: Handle,
    /// What keeps that runtime alive, where it is not the user's.
    _keeper: Option<Arc<dyn Send + Sync>>,
}

/// How far a socket's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Open,
    /// Nothing new is accepted; what waits is still written.
    Draining,
    /// Everything ends.
    Over,
}

impl Life {
    fn of(stage: u8) -> Life {
        match stage {
            0 => Life::Open,
            1 => Life::Draining,
            _ => Life::Over,
        }
    }
}

/// Where a peer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Listener(u64),
    Dial(u64),
}

/// How news of subscriptions reaches a peer.
#[derive(Clone)]
pub(crate) enum Channel {
    None,
    Wire(Version),
    /// A socket of this process and our key there.
    Direct(Weak<Shared>, PeerKey),
}

/// One peer in the table.
pub(crate) struct Entry {
    pub(crate) lane: PeerKey,
    pub(crate) name: Arc<str>,
    pub(crate) via: Via,
    pub(crate) id: Frame,
    pub(crate) socket_type: Option<SocketType>,
    pub(crate) connected: bool,
    pub(crate) connections: u64,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) subscriptions: usize,
    pub(crate) channel: Channel,
    /// A REQ at the other end: its answers end with this connection.
    asker: Option<Arc<Origin>>,
}

/// The common ground of one socket's tasks.
pub(crate) struct Shared {
    pub(crate) kind: SocketType,
    /// One for all sockets of one builder, where nothing was changed between.
    pub(crate) options: Arc<Options>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) pattern: Arc<dyn Pattern>,
    pub(crate) events: Arc<Events>,
    pub(crate) durability: Durability,
    life: Stage,
    /// Peers came, went or changed their subscriptions.
    pub(crate) changed: Notify,
    /// Boxed entries: most sockets have one peer, and the map makes room for at least four.
    table: Mutex<HashMap<PeerKey, Box<Entry>>>,
    tasks: Mutex<JoinSet<()>>,
    home: OnceLock<Home>,
    serial: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        kind: SocketType,
        options: Arc<Options>,
        queues: (Arc<Outbound>, Arc<Inbox>),
        pattern: Arc<dyn Pattern>,
        events: Arc<Events>,
        durability: Durability,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            kind,
            options,
            outbound: queues.0,
            inbox: queues.1,
            pattern,
            events,
            durability,
            life: Stage::default(),
            changed: Notify::new(),
            table: Mutex::default(),
            tasks: Mutex::default(),
            home: OnceLock::new(),
            serial: AtomicU64::new(0),
        })
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, HashMap<PeerKey, Box<Entry>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other listener or dialler of this socket has.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn life(&self) -> Life {
        Life::of(self.life.now())
    }

    /// The socket's life goes on to `stage`, if it is not further. Returns where it was.
    pub(crate) fn advance(&self, stage: Life) -> Life {
        Life::of(self.life.advance(stage as u8))
    }

    /// Ends when the socket's life has come to `stage`.
    pub(crate) async fn reached(&self, stage: Life) {
        self.life.reached(stage as u8).await;
    }

    /// Remembers the runtime that the socket's tasks run on. False outside of any runtime.
    pub(crate) fn enter_runtime(&self) -> bool {
        match Handle::try_current() {
            Ok(handle) => {
                let _ = self.home.set(Home { runtime: handle, _keeper: None });
                true
            }
            Err(_) => self.home.get().is_some(),
        }
    }

    /// Has the socket's tasks run on this runtime, which lives for as long as `keeper` is kept; unless they have one.
    #[cfg(feature = "blocking")]
    pub(crate) fn move_in(&self, runtime: Handle, keeper: Arc<dyn Send + Sync>) {
        let _ = self.home.set(Home { runtime, _keeper: Some(keeper) });
    }

    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.home.get().map(|home| &home.runtime)
    }

    /// Starts a task that ends with the socket.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let Some(runtime) = self.runtime() else { return };
        let mut work = Box::pin(task);
        let mut unfinished = Unfinished(Some(Arc::downgrade(self)));
        let watched = poll_fn(move |cx| {
            let poll = work.as_mut().poll(cx);
            if poll.is_ready() {
                unfinished.disarm();
            }
            poll
        });
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(watched, runtime);
    }

    /// The runtime has ended before the socket: nobody is left to carry anything, so every wait ends, what waits
    /// is counted, and peers in this process hear of it. Must not take the lock of `tasks`.
    fn lose_runtime(&self) {
        if self.advance(Life::Over) == Life::Over {
            return;
        }
        self.outbound.close();
        self.inbox.close();
        let peers: Vec<(PeerKey, Channel)> =
            self.table().iter().map(|(&key, entry)| (key, entry.channel.clone())).collect();
        for (key, channel) in peers {
            if let Channel::Direct(other, theirs) = channel
                && let Some(other) = other.upgrade()
            {
                other.outbound.kick(theirs, Reason::PeerClosed);
            }
            self.forget(key, DropReason::Linger);
        }
        self.changed.notify_waiters();
        self.events.close();
    }

    /// Stops all tasks that still run.
    pub(crate) fn abort_tasks(&self) {
        self.tasks().abort_all();
    }

    /// Waits until all tasks have ended by themselves.
    pub(crate) async fn join_tasks(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }

    /// Makes a place for a peer that will be dialled: it may queue messages before it is connected.
    pub(crate) fn expect_peer(&self, name: &Arc<str>, via: Via) -> PeerKey {
        let key = self.outbound.add(name.clone(), Road::Wire(None), self.options.queue_before_connect, None);
        let lane = self.inbox.open_lane(None);
        self.table().insert(key, Entry::new(lane, name.clone(), via));
        key
    }

    /// A handshake is done on a connection to `key` (dialled) or to nobody yet (accepted).
    pub(crate) fn admit(
        self: &Arc<Self>,
        known: Option<PeerKey>,
        arrival: Arrival<'_>,
        link: Arc<dyn Link>,
    ) -> Result<PeerKey, Reason> {
        let key = match known {
            Some(key) => key,
            None => {
                // Many may have been in their handshake when they were let that far: the lock makes the limit exact.
                let mut table = self.table();
                if let Some(reason) = arrival.limit.and_then(|limit| self.crowded(table.len(), limit)) {
                    return Err(reason);
                }
                let key = self.outbound.add(arrival.name.clone(), Road::Wire(None), false, None);
                let lane = self.inbox.open_lane(None);
                table.insert(key, Entry::new(lane, arrival.name.clone(), arrival.via));
                key
            }
        };
        let version = arrival.peer.version;
        let newcomer = Newcomer {
            key,
            identity: arrival.peer.identity.as_ref(),
            chosen: arrival.chosen,
            user: arrival.peer.user.as_deref(),
            socket_type: arrival.peer.socket_type,
        };
        match self.introduce(&newcomer) {
            Ok(()) => {
                self.open_channel(key, version);
                self.outbound.link(key, link);
                self.welcome(key);
                self.pattern.ready(key);
                self.changed.notify_waiters();
                Ok(key)
            }
            Err(reason) => {
                if known.is_none() {
                    self.forget(key, DropReason::PeerGone);
                }
                Err(reason)
            }
        }
    }

    /// Why one more than these peers would be too many; `limit` is the listener's.
    pub(crate) fn crowded(&self, peers: usize, limit: usize) -> Option<Reason> {
        if peers >= limit {
            return Some(Reason::LimitExceeded { which: "max_connections", limit: limit as u64 });
        }
        let (memory, worst) = (self.options.max_memory, self.options.worst_case_bytes_per_peer());
        let over = memory != 0 && (peers as u64 + 1).saturating_mul(worst) > memory;
        over.then_some(Reason::LimitExceeded { which: "max_memory", limit: memory })
    }

    /// Asks the pattern, and on its consent fills in the table and tells the receiver who will speak.
    pub(crate) fn introduce(&self, newcomer: &Newcomer<'_>) -> Result<(), Reason> {
        // Before the pattern knows this peer: from then on an order to end is meant for this connection.
        self.outbound.pardon(newcomer.key);
        let id = self.pattern.attach(newcomer)?;
        let mut table = self.table();
        let Some(entry) = table.get_mut(&newcomer.key) else {
            drop(table);
            self.pattern.detach(newcomer.key);
            return Err(Reason::Local);
        };
        entry.id = id.clone();
        entry.socket_type = newcomer.socket_type;
        entry.connected = true;
        entry.connections += 1;
        if matches!(self.pattern.inbound(), Inbound::Deliver | Inbound::Upstream) {
            // Elsewhere nobody reads it, and it would stay.
            let over = AtomicBool::new(false);
            let origin = Arc::new(Origin { peer: newcomer.key, id: id.clone(), address: entry.name.clone(), over });
            entry.asker = self.is_asked_by(newcomer.socket_type).then(|| origin.clone());
            self.inbox.announce(entry.lane, origin);
        }
        let (peer, socket_type) = (entry.name.to_string(), newcomer.socket_type);
        drop(table);
        self.events.emit(Event::Connected { peer, id, socket_type });
        Ok(())
    }

    /// Sends our subscriptions, and from here on every change. One lock for both, so that a change comes
    /// either with the first lot or after it.
    fn open_channel(&self, key: PeerKey, version: Version) {
        let mut table = self.table();
        let Some(entry) = table.get_mut(&key) else { return };
        entry.channel = Channel::Wire(version);
        let mut bytes = BytesMut::new();
        for topic in self.pattern.topics() {
            command::encode_subscribe(&mut bytes, &topic, version);
        }
        self.outbound.control(key, &bytes);
    }

    /// What a new peer gets before anything else.
    pub(crate) fn welcome(&self, key: PeerKey) {
        let probe = self.options.probe_router.then(|| Message::from(""));
        for message in probe.into_iter().chain(self.options.welcome.clone()) {
            let _ = self.outbound.try_send_to(key, &mut Some(message), false);
        }
    }

    /// Whether such a peer gives up its requests with the connection. On the next one their answers could pass for
    /// those to others, since a REQ may tell them apart by nothing but their turn. A DEALER may still want them.
    fn is_asked_by(&self, peer: Option<SocketType>) -> bool {
        self.kind == SocketType::Rep && peer == Some(SocketType::Req)
    }

    /// A connection ended. A dialled peer keeps its place and its queue for the next connection.
    pub(crate) fn dismiss(&self, key: PeerKey, reason: &Reason, keep: bool) {
        let unused = self.pattern.detach(key);
        let Some((peer, lane, was_connected, asker)) = self.table().get_mut(&key).map(|entry| {
            entry.channel = Channel::None;
            entry.subscriptions = 0;
            let was_connected = std::mem::replace(&mut entry.connected, false);
            (entry.name.to_string(), entry.lane, was_connected, entry.asker.take())
        }) else {
            return;
        };
        self.report_topics(lane, &unused, false);
        if keep {
            // Before the queue goes: an answer is either in it or finds nobody, but for one that is held up between its
            // look and its send until the next connection is there.
            let asked = asker.inspect(|asker| asker.over.store(true, Ordering::Release)).is_some();
            self.outbound.unlink(key, asked || !self.options.queue_before_connect);
        } else {
            let why = if self.life() == Life::Open { DropReason::PeerGone } else { DropReason::Linger };
            self.forget(key, why);
        }
        if was_connected {
            self.events.emit(Event::Disconnected { peer, reason: reason.clone() });
        }
        self.changed.notify_waiters();
    }

    /// Removes a peer's place. What was received stays readable.
    pub(crate) fn forget(&self, key: PeerKey, why: DropReason) -> u64 {
        let lane = self.table().get(&key).map(|entry| entry.lane);
        let lost = self.outbound.remove(key, why);
        if let Some(lane) = lane {
            self.inbox.end_lane(lane);
        }
        // Last: who sees it gone finds its counters with those of the past.
        self.table().remove(&key);
        lost
    }

    /// Removes a peer's place and what was received from it and not read.
    pub(crate) fn discard(&self, key: PeerKey, why: DropReason) {
        if let Some(entry) = self.table().get(&key) {
            self.inbox.discard_lane(entry.lane);
        }
        self.forget(key, why);
    }

    /// A peer subscribes or cancels.
    pub(crate) fn subscription(&self, key: PeerKey, topic: &[u8], subscribe: bool) -> Result<(), Reason> {
        let News { changed, report } = self.pattern.subscription(key, topic, subscribe)?;
        if !changed && !report {
            return Ok(());
        }
        let mut table = self.table();
        let Some(entry) = table.get_mut(&key) else { return Ok(()) };
        let lane = entry.lane;
        if changed {
            entry.subscriptions =
                if subscribe { entry.subscriptions + 1 } else { entry.subscriptions.saturating_sub(1) };
            if self.events.is_watched() {
                let (peer, topic) = (entry.name.to_string(), Frame::copy_from_slice(topic));
                self.events.emit(match subscribe {
                    true => Event::Subscribed { peer, topic },
                    false => Event::Unsubscribed { peer, topic },
                });
            }
        }
        drop(table);
        if report {
            self.report_topics(lane, &[topic], subscribe);
        }
        if changed {
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Tells the user of an XPUB, in the form of a message.
    fn report_topics(&self, lane: PeerKey, topics: &[impl AsRef<[u8]>], subscribe: bool) {
        if self.pattern.inbound() != Inbound::Upstream {
            return;
        }
        for topic in topics {
            self.inbox.push(lane, Message::from(subscription_message(topic.as_ref(), subscribe)));
        }
    }

    /// Tells every connected peer of a change in our own subscriptions.
    pub(crate) fn announce_subscription(&self, topic: &[u8], subscribe: bool) {
        let mut direct = Vec::new();
        for (&key, entry) in self.table().iter() {
            match &entry.channel {
                Channel::None => {}
                Channel::Wire(version) => {
                    let mut bytes = BytesMut::new();
                    match subscribe {
                        true => command::encode_subscribe(&mut bytes, topic, *version),
                        false => command::encode_cancel(&mut bytes, topic, *version),
                    }
                    self.outbound.control(key, &bytes);
                }
                Channel::Direct(other, ours) => direct.extend(other.upgrade().map(|other| (other, *ours))),
            }
        }
        // The other socket has a table of its own: not under the lock of ours.
        for (other, ours) in direct {
            let _ = other.subscription(ours, topic, subscribe);
        }
    }
}

/// A subscription as an XPUB's user sees it: 1 or 0, then the topic.
pub(crate) fn subscription_message(topic: &[u8], subscribe: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + topic.len());
    message.push(u8::from(subscribe));
    message.extend_from_slice(topic);
    message
}

/// A peer at the door.
pub(crate) struct Arrival<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) via: Via,
    pub(crate) peer: &'a Established,
    pub(crate) chosen: Option<&'a Frame>,
    /// How many peers there may be; not for those that we connect to.
    pub(crate) limit: Option<usize>,
}

impl Entry {
    pub(crate) fn new(lane: PeerKey, name: Arc<str>, via: Via) -> Box<Entry> {
        Box::new(Entry {
            lane,
            name,
            via,
            id: Frame::EMPTY,
            socket_type: None,
            connected: false,
            connections: 0,
            round_trip: None,
            subscriptions: 0,
            channel: Channel::None,
            asker: None,
        })
    }
}
