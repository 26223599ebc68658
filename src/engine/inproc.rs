//! Two sockets of one process joined without bytes: messages move as values from one queue to the other.
//!
//! A [`Namespace`] knows who is bound and who waits for whom; either side may come first. A connecting
//! side whose other end is not there yet keeps its messages in a parking inbox that nobody reads. There is
//! no handshake, but socket types are checked as on the wire.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::pattern::Newcomer;
use super::shared::{Channel, Entry, Life, Shared, Via};
use crate::event::{Event, Phase, Reason};
use crate::queue::inbox::Inbox;
use crate::queue::peers::Road;
use crate::queue::{Credit, PeerKey};

/// A connecting socket and its place for the peer.
struct Waiting {
    shared: Weak<Shared>,
    key: PeerKey,
    serial: u64,
}

#[derive(Default)]
struct Name {
    bound: Option<(Weak<Shared>, u64)>,
    waiting: Vec<Waiting>,
}

/// Inproc names; sockets of different namespaces never meet.
#[derive(Default)]
pub(crate) struct Namespace {
    names: Mutex<HashMap<String, Name>>,
}

/// Two joined places: (socket, its key for the other one).
pub(crate) type Joint = (Weak<Shared>, PeerKey);

impl Namespace {
    /// The one that sockets use unless told otherwise.
    pub(crate) fn global() -> Arc<Namespace> {
        static GLOBAL: Mutex<Option<Arc<Namespace>>> = Mutex::new(None);
        GLOBAL.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the name, and joins all who waited for it. False when somebody has it.
    pub(crate) fn bind(self: &Arc<Self>, name: &str, shared: &Arc<Shared>, serial: u64) -> bool {
        let waiting = {
            let mut names = self.lock();
            let entry = names.entry(name.to_owned()).or_default();
            let taken = entry.bound.as_ref().and_then(|(other, _)| other.upgrade());
            if taken.is_some_and(|other| other.life() == Life::Open) {
                return false;
            }
            entry.bound = Some((Arc::downgrade(shared), serial));
            std::mem::take(&mut entry.waiting)
        };
        for waiter in waiting {
            if let Some(other) = waiter.shared.upgrade() {
                join(self, name, (&other, waiter.key, waiter.serial), (shared, serial));
            }
        }
        true
    }

    pub(crate) fn unbind(&self, name: &str, shared: &Arc<Shared>) {
        let mut names = self.lock();
        if let Some(entry) = names.get_mut(name)
            && entry.bound.as_ref().is_some_and(|(bound, _)| bound.ptr_eq(&Arc::downgrade(shared)))
        {
            entry.bound = None;
            if entry.waiting.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Joins `key` of `shared` to whoever is bound, now or later.
    pub(crate) fn connect(self: &Arc<Self>, name: &str, shared: &Arc<Shared>, key: PeerKey, serial: u64) {
        let bound = {
            let mut names = self.lock();
            let entry = names.entry(name.to_owned()).or_default();
            let bound = entry.bound.as_ref().and_then(|(other, at)| Some((other.upgrade()?, *at)));
            match bound.filter(|(other, _)| other.life() == Life::Open) {
                Some(bound) => bound,
                None => {
                    entry.waiting.retain(|waiting| waiting.shared.strong_count() > 0);
                    entry.waiting.push(Waiting { shared: Arc::downgrade(shared), key, serial });
                    return;
                }
            }
        };
        join(self, name, (shared, key, serial), (&bound.0, bound.1));
    }

    /// `key` of `shared` waits for nobody any more.
    pub(crate) fn forget(&self, name: &str, shared: &Arc<Shared>, key: PeerKey) {
        let mut names = self.lock();
        if let Some(entry) = names.get_mut(name) {
            let weak = Arc::downgrade(shared);
            entry.waiting.retain(|waiting| !(waiting.shared.ptr_eq(&weak) && waiting.key == key));
            if entry.bound.is_none() && entry.waiting.is_empty() {
                names.remove(name);
            }
        }
    }
}

/// A place for an inproc peer that may not be there yet: messages are parked as values.
pub(crate) fn park(shared: &Arc<Shared>, name: &Arc<str>, via: Via) -> PeerKey {
    let parking = Arc::new(Inbox::new(0, 0, false));
    let slot = parking.open_lane(None);
    let road = Road::Direct { inbox: parking, lane: slot, parked: true };
    let marks = parked_marks(shared);
    let key = shared.outbound.add(name.clone(), road, shared.options.queue_before_connect, Some(marks));
    let lane = shared.inbox.open_lane(None);
    shared.table().insert(key, Entry::new(lane, name.clone(), via));
    key
}

/// Both marks together; unlimited if either is.
fn sum(one: usize, other: usize) -> usize {
    if one == 0 || other == 0 { 0 } else { one.saturating_add(other) }
}

fn marks(sender: &Shared, receiver: &Shared) -> (usize, usize) {
    if sender.options.conflate || receiver.options.conflate {
        // One of them keeps only the newest: nothing to hold back.
        return (0, 0);
    }
    let (send, recv) = (&sender.options, &receiver.options);
    (sum(send.send_hwm, recv.recv_hwm), sum(send.send_hwm_bytes, recv.recv_hwm_bytes))
}

fn join(
    names: &Arc<Namespace>,
    name: &str,
    (dialler, key, serial): (&Arc<Shared>, PeerKey, u64),
    (binder, at): (&Arc<Shared>, u64),
) {
    let text: Arc<str> = format!("inproc://{name}").into();
    let place = park(binder, &text, Via::Listener(at));
    let admitted = if binder.kind.accepts(dialler.kind) {
        introduce(dialler, binder, key, place)
    } else {
        Err(Reason::IncompatibleType)
    };
    if let Err(reason) = admitted {
        binder.dismiss(place, &reason, false);
        for one in [dialler, binder] {
            one.events.emit(Event::Refused { peer: text.to_string(), phase: Phase::Handshake, reason: reason.clone() });
        }
        let patience = if matches!(reason, Reason::IdentityTaken | Reason::PairTaken) {
            |times: Times| times.0
        } else {
            |times: Times| times.1
        };
        try_again(names, name, dialler, (key, serial), patience);
        return;
    }
    connect_queues(dialler, key, binder, place);
    connect_queues(binder, place, dialler, key);
    exchange_topics(dialler, binder, place);
    exchange_topics(binder, dialler, key);
    dialler.welcome(key);
    binder.welcome(place);
    dialler.pattern.ready(key);
    binder.pattern.ready(place);
    dialler.changed.notify_waiters();
    binder.changed.notify_waiters();
    binder.spawn(obey(names.clone(), name.to_owned(), binder.clone(), place));
}

/// Shortest and longest wait between attempts.
type Times = (Duration, Duration);

/// Joins `key` once more after a while.
fn try_again(
    names: &Arc<Namespace>,
    name: &str,
    dialler: &Arc<Shared>,
    (key, serial): (PeerKey, u64),
    patience: fn(Times) -> Duration,
) {
    let Some(after) = dialler.options.reconnect.map(patience) else { return };
    dialler.events.emit(Event::Retrying { endpoint: format!("inproc://{name}"), after });
    let (names, name, shared) = (names.clone(), name.to_owned(), dialler.clone());
    dialler.spawn(async move {
        super::either(pin!(tokio::time::sleep(after)), pin!(shared.reached(Life::Over))).await;
        let wanted = shared.table().get(&key).is_some_and(|entry| !entry.connected);
        if wanted && shared.life() != Life::Over {
            names.connect(&name, &shared, key, serial);
        }
    });
}

/// Ends one in-process peer when the socket orders it; a wire peer's connection does so itself.
pub(crate) async fn obey(names: Arc<Namespace>, name: String, shared: Arc<Shared>, key: PeerKey) {
    loop {
        let reason = poll_fn(|cx| shared.outbound.poll_orders(key, cx)).await;
        let place = shared.table().get(&key).map(|entry| (entry.channel.clone(), entry.via, entry.connected));
        let Some((channel, via, connected)) = place else { return };
        if shared.life() == Life::Over {
            return;
        }
        let Channel::Direct(other, theirs) = channel else {
            if connected {
                // Another thread is just joining the two: once it has, there is something to end.
                shared.outbound.kick(key, reason);
                tokio::task::yield_now().await;
            }
            continue;
        };
        match via {
            // The side that connected decides when to come back.
            Via::Listener(_) => {
                shared.dismiss(key, &reason, false);
                if let Some(other) = other.upgrade() {
                    other.outbound.kick(theirs, Reason::PeerClosed);
                }
                return;
            }
            Via::Dial(serial) => {
                part(&names, &name, &(other, theirs));
                park_again(&shared, key);
                shared.dismiss(key, &reason, true);
                try_again(&names, &name, &shared, (key, serial), |times| times.0);
            }
        }
    }
}

fn park_again(shared: &Shared, key: PeerKey) {
    let parking = Arc::new(Inbox::new(0, 0, false));
    let slot = parking.open_lane(None);
    shared.outbound.repark(key, parking, slot, parked_marks(shared));
}

/// What may wait while there is no other side.
fn parked_marks(shared: &Shared) -> (usize, usize) {
    if shared.options.conflate { (0, 0) } else { (shared.options.send_hwm, shared.options.send_hwm_bytes) }
}

fn introduce(dialler: &Arc<Shared>, binder: &Arc<Shared>, key: PeerKey, place: PeerKey) -> Result<(), Reason> {
    let identity = |shared: &Shared| {
        let usable = shared.kind.announces_identity() && !shared.options.identity.is_empty();
        usable.then(|| shared.options.identity.clone())
    };
    let (from_dialler, from_binder) = (identity(dialler), identity(binder));
    let newcomer = Newcomer {
        key: place,
        identity: from_dialler.as_ref(),
        chosen: None,
        user: None,
        socket_type: Some(dialler.kind),
    };
    binder.introduce(&newcomer)?;
    let newcomer =
        Newcomer { key, identity: from_binder.as_ref(), chosen: None, user: None, socket_type: Some(binder.kind) };
    dialler.introduce(&newcomer)?;
    for (one, mine, other, theirs) in [(dialler, key, binder, place), (binder, place, dialler, key)] {
        if let Some(entry) = one.table().get_mut(&mine) {
            entry.channel = Channel::Direct(Arc::downgrade(other), theirs);
        }
    }
    Ok(())
}

/// What `sender` queues for `key` goes into the receiver's lane from now on; read messages are reported back.
fn connect_queues(sender: &Arc<Shared>, key: PeerKey, receiver: &Arc<Shared>, place: PeerKey) {
    let Some(lane) = receiver.table().get(&place).map(|entry| entry.lane) else { return };
    let credit: Arc<dyn Credit> = sender.outbound.clone();
    receiver.inbox.credit_to(lane, credit, key);
    sender.outbound.redirect(key, receiver.inbox.clone(), lane, marks(sender, receiver));
}

fn exchange_topics(subscriber: &Arc<Shared>, publisher: &Arc<Shared>, place: PeerKey) {
    for topic in subscriber.pattern.topics() {
        let _ = publisher.subscription(place, &topic, true);
    }
}

/// One side of a joint is over: the other side loses this peer, or waits for the next bind if it connected.
pub(crate) fn part(namespace: &Arc<Namespace>, name: &str, other: &Joint) {
    let (Some(shared), key) = (other.0.upgrade(), other.1) else { return };
    let via = shared.table().get(&key).map(|entry| entry.via);
    match via {
        Some(Via::Dial(serial)) if shared.life() == Life::Open => {
            park_again(&shared, key);
            shared.dismiss(key, &Reason::PeerClosed, true);
            if shared.options.reconnect.is_some() {
                namespace.connect(name, &shared, key, serial);
            } else {
                shared.events.emit(Event::Stopped { endpoint: format!("inproc://{name}") });
            }
        }
        Some(_) => shared.dismiss(key, &Reason::PeerClosed, false),
        None => {}
    }
}
