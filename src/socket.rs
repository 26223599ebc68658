//! What all socket types share: [`Socket`] — bind, connect, peers come and go, statistics, close and linger.
//!
//! It owns the ends (listeners and diallers) and the socket's life. It never looks inside a message.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::endpoint::{Address, Endpoint, IntoEndpoint};
use crate::engine::accept::listen;
use crate::engine::dial::{Dial, dial};
use crate::engine::events::{Events, Monitor};
use crate::engine::inproc::{self, Namespace};
use crate::engine::pattern::Pattern;
use crate::engine::shared::{Channel, Entry, Life, Shared, Via};
use crate::error::{BindError, ConnectError, DetachError, OptionError, WaitError};
use crate::event::{DropReason, Drops, Event, Reason};
use crate::message::Frame;
use crate::options::{Options, SocketType};
use crate::queue::PeerKey;
use crate::queue::inbox::Inbox;
use crate::queue::outbound::Outbound;
use crate::queue::peers::Limits;
use crate::transport;

/// Where a socket is bound or connected.
enum End {
    Listener { endpoint: Endpoint, serial: u64, stop: watch::Sender<bool> },
    Dialler { endpoint: Endpoint, key: PeerKey, stop: watch::Sender<bool> },
    InprocBound { endpoint: Endpoint, name: String, serial: u64 },
    InprocConnected { endpoint: Endpoint, name: String, key: PeerKey },
}

impl End {
    fn endpoint(&self) -> &Endpoint {
        match self {
            End::Listener { endpoint, .. }
            | End::Dialler { endpoint, .. }
            | End::InprocBound { endpoint, .. }
            | End::InprocConnected { endpoint, .. } => endpoint,
        }
    }

    fn is_bound(&self) -> bool {
        matches!(self, End::Listener { .. } | End::InprocBound { .. })
    }
}

/// What [`Socket::close`] did with the messages that waited when it was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages handed to the operating system meanwhile.
    pub sent: u64,
    /// Messages discarded because linger was over; counted as `Linger`.
    pub dropped: u64,
    /// Messages that are safe in a spool.
    pub kept: u64,
}

/// One peer of a socket, with its counters, at the moment of the call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its routing id here.
    pub id: Frame,
    /// Its address (accepted) or the endpoint (connected).
    pub address: String,
    /// Its announced type; `None` before the handshake or when it announced none.
    pub socket_type: Option<SocketType>,
    /// Whether its handshake is done and its connection alive.
    pub connected: bool,
    /// Messages accepted for it and not yet with the operating system.
    pub queued: usize,
    /// Bound of `queued`; 0 is unlimited.
    pub send_hwm: usize,
    /// Messages received from it and not yet read (reported in batches of half the mark).
    pub unread: usize,
    /// Bound of `unread`; 0 is unlimited.
    pub recv_hwm: usize,
    /// Messages handed to the operating system.
    pub messages_sent: u64,
    /// Their bytes on the wire.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Their bytes on the wire.
    pub bytes_received: u64,
    /// Messages dropped, by reason.
    pub drops: Drops,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Topics it subscribes to.
    pub subscriptions: usize,
    /// The last heartbeat's round trip, once there was one.
    pub round_trip: Option<Duration>,
}

/// Counters of a socket at the moment of the call: its present peers, and totals that include those that left.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// The present peers.
    pub peers: Vec<PeerInfo>,
    /// Messages handed to the operating system or to another socket of this process.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Messages dropped, by reason.
    pub drops: Drops,
}

/// What every socket can do, whatever its type: the types deref to it.
#[derive(Clone)]
pub struct Socket {
    pub(crate) core: Arc<Core>,
}

/// The last handle's end closes the socket.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    namespace: Arc<Namespace>,
    ends: Mutex<Vec<End>>,
    /// None: not begun. The sender lives in the closing task.
    closing: Mutex<Option<watch::Receiver<Option<Report>>>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.start_close(None);
    }
}

impl Socket {
    /// Joins the two sides of a socket. `pattern` is told where messages leave.
    pub(crate) fn assemble(
        kind: SocketType,
        options: Options,
        pattern: impl FnOnce(&Options, &Arc<Outbound>, &Arc<Inbox>, &Arc<Events>) -> Arc<dyn Pattern>,
    ) -> Socket {
        let events = Arc::new(Events::default());
        let limits = Limits {
            hwm: if options.conflate { usize::from(kind == SocketType::Pub) } else { options.send_hwm },
            hwm_bytes: options.send_hwm_bytes,
            on_full: options.on_full_for(kind),
            flush: options.flush,
            conflate: options.conflate,
        };
        let outbound = Arc::new(Outbound::new(limits, events.clone()));
        let inbox = Arc::new(Inbox::new(options.recv_hwm, options.recv_hwm_bytes, options.conflate));
        let pattern = pattern(&options, &outbound, &inbox, &events);
        let shared = Shared::new(kind, options, (outbound, inbox), pattern, events);
        Socket {
            core: Arc::new(Core {
                shared,
                namespace: Namespace::global(),
                ends: Mutex::default(),
                closing: Mutex::default(),
            }),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.core.shared
    }

    #[inline]
    pub(crate) fn outbound(&self) -> &Arc<Outbound> {
        &self.core.shared.outbound
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.core.shared.inbox
    }

    #[inline]
    pub(crate) fn options(&self) -> &Options {
        &self.core.shared.options
    }

    pub(crate) fn is_open(&self) -> bool {
        self.shared().life() == Life::Open
    }

    pub(crate) fn emit(&self, event: Event) {
        self.shared().events.emit(event);
    }

    pub(crate) fn announce_subscription(&self, topic: &[u8], subscribe: bool) {
        self.shared().announce_subscription(topic, subscribe);
    }

    /// Waits until so many connected peers have a subscription.
    pub(crate) async fn wait_for_subscribed(&self, count: usize) -> Result<(), WaitError> {
        let subscribed = |entry: &&Entry| entry.connected && entry.subscriptions > 0;
        self.wait_until(|shared| shared.table().values().filter(subscribed).count() >= count).await
    }

    /// The socket's type.
    pub fn socket_type(&self) -> SocketType {
        self.shared().kind
    }

    /// Binds to one more endpoint. Returns it with the real port or path.
    ///
    /// # Errors
    /// [`BindError`]; the socket is unchanged.
    ///
    /// # Cancel safety
    /// Safe: dropped, it has bound nothing.
    pub async fn bind_to(&self, endpoint: impl IntoEndpoint) -> Result<Endpoint, BindError> {
        let endpoint = endpoint.into_endpoint()?;
        endpoint.for_bind()?;
        self.core.start().map_err(BindError::Option)?;
        let shared = self.shared();
        if shared.life() != Life::Open {
            return Err(BindError::Closed);
        }
        let serial = shared.next_serial();
        let bound = if let Address::Inproc(name) = endpoint.address() {
            if !self.core.namespace.bind(name, shared, serial) {
                return Err(BindError::AddrInUse(endpoint.to_string()));
            }
            self.core.ends().push(End::InprocBound { endpoint: endpoint.clone(), name: name.clone(), serial });
            endpoint
        } else {
            let listener = transport::bind(&endpoint, &shared.options.transport).await?;
            let bound = listener.endpoint().clone();
            let (stop, stopped) = watch::channel(false);
            shared.spawn(listen(shared.clone(), listener, serial, stopped));
            self.core.ends().push(End::Listener { endpoint: bound.clone(), serial, stop });
            bound
        };
        shared.events.emit(Event::Listening { endpoint: bound.to_string() });
        Ok(bound)
    }

    /// Connects to one more endpoint. Connecting itself is background work: it is tried again and again, and
    /// what the network says arrives as events. Messages can be sent at once and wait for the connection
    /// (unless `queue_before_connect` is off). A second connect to the same endpoint does nothing on a DEALER,
    /// SUB, PUB or REQ; on other types it makes a second connection.
    ///
    /// # Errors
    /// [`ConnectError`]: the text is no endpoint, the socket is closed, or there is no tokio runtime.
    pub fn connect_to(&self, endpoint: impl IntoEndpoint) -> Result<Endpoint, ConnectError> {
        self.connect_as(endpoint, None)
    }

    pub(crate) fn connect_as(&self, endpoint: impl IntoEndpoint, id: Option<Frame>) -> Result<Endpoint, ConnectError> {
        let endpoint = endpoint.into_endpoint()?;
        endpoint.for_connect()?;
        self.core.start().map_err(ConnectError::Option)?;
        let shared = self.shared();
        if shared.life() != Life::Open {
            return Err(ConnectError::Closed);
        }
        use SocketType::{Dealer, Pub, Req, Sub};
        let mut ends = self.core.ends();
        let same = |end: &End| !end.is_bound() && *end.endpoint() == endpoint;
        if matches!(shared.kind, Dealer | Sub | Pub | Req) && ends.iter().any(same) {
            return Ok(endpoint);
        }
        let serial = shared.next_serial();
        let name: Arc<str> = endpoint.to_string().into();
        if let Address::Inproc(inproc_name) = endpoint.address() {
            let key = inproc::park(shared, &name, Via::Dial(serial));
            ends.push(End::InprocConnected { endpoint: endpoint.clone(), name: inproc_name.clone(), key });
            drop(ends);
            let namespace = self.core.namespace.clone();
            shared.spawn(inproc::obey(namespace, inproc_name.clone(), shared.clone(), key));
            self.core.namespace.connect(inproc_name, shared, key, serial);
        } else {
            let key = shared.expect_peer(&name, Via::Dial(serial));
            let (stop, stopped) = watch::channel(false);
            let task = Dial {
                shared: shared.clone(),
                endpoint: endpoint.clone(),
                name,
                key,
                serial,
                chosen: id,
                stop: stopped,
            };
            shared.spawn(dial(task));
            ends.push(End::Dialler { endpoint: endpoint.clone(), key, stop });
        }
        Ok(endpoint)
    }

    /// Stops listening at `endpoint` (as [`Socket::bind_to`] returned it) and ends every connection that was
    /// accepted there. What was received stays readable.
    ///
    /// # Errors
    /// [`DetachError`]: the socket is not bound there.
    pub fn unbind(&self, endpoint: impl IntoEndpoint) -> Result<(), DetachError> {
        match self.core.take_end(endpoint.into_endpoint()?, true)? {
            End::Listener { serial, stop, .. } => {
                let _ = stop.send(true);
                let shared = self.shared();
                let table = shared.table();
                let accepted = table.iter().filter(|(_, entry)| entry.via == Via::Listener(serial));
                let keys: Vec<PeerKey> = accepted.map(|(key, _)| *key).collect();
                drop(table);
                keys.into_iter().for_each(|key| shared.outbound.kick(key, Reason::Local));
            }
            End::InprocBound { name, .. } => self.core.namespace.unbind(&name, self.shared()),
            _ => {}
        }
        Ok(())
    }

    /// Gives up the connection to `endpoint` (as it was given to connect). Unsent messages are still written in
    /// the background for up to linger; received and unread ones are discarded.
    ///
    /// # Errors
    /// [`DetachError`]: the socket is not connected there.
    pub fn disconnect(&self, endpoint: impl IntoEndpoint) -> Result<(), DetachError> {
        let shared = self.shared().clone();
        match self.core.take_end(endpoint.into_endpoint()?, false)? {
            End::Dialler { key, stop, .. } => {
                shared.outbound.retire(key);
                if let Some(entry) = shared.table().get(&key) {
                    shared.inbox.mute_lane(entry.lane);
                }
                let linger = shared.options.linger;
                shared.clone().spawn(async move {
                    let drained = poll_fn(|cx| shared.outbound.poll_peer_drained(cx, key));
                    wait_at_most(linger, drained).await;
                    let _ = stop.send(true);
                    shared.outbound.kick(key, Reason::Local);
                });
            }
            End::InprocConnected { name, key, .. } => {
                let namespace = self.core.namespace.clone();
                let end = move |shared: &Arc<Shared>| {
                    leave(&namespace, shared, key, &name);
                    shared.discard(key, DropReason::PeerGone);
                };
                if shared.outbound.waits_for(key) {
                    // Nobody is bound there yet: what is parked lingers, as it would on its way to a network.
                    shared.outbound.retire(key);
                    shared.clone().spawn(async move {
                        let drained = poll_fn(|cx| shared.outbound.poll_peer_drained(cx, key));
                        wait_at_most(shared.options.linger, drained).await;
                        end(&shared);
                    });
                } else {
                    end(&shared);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What one peer can cost this socket at most, in bytes, by its options: both queues up to their byte marks, a
    /// message in assembly and its subscriptions. For sizing machines, and for `max_memory`.
    pub fn worst_case_bytes_per_peer(&self) -> u64 {
        self.options().worst_case_bytes_per_peer()
    }

    /// The endpoint of the last bind, with the real port or path; `None` while the socket is not bound.
    pub fn local_endpoint(&self) -> Option<Endpoint> {
        self.core.ends().iter().rev().find(|end| end.is_bound()).map(|end| end.endpoint().clone())
    }

    /// All endpoints that the socket is bound or connected to.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.core.ends().iter().map(|end| end.endpoint().clone()).collect()
    }

    /// The socket's peers, connected or expected, with their counters.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let shared = self.shared();
        let rows: Vec<(PeerKey, PeerKey, PeerInfo)> = shared
            .table()
            .iter()
            .map(|(&key, entry)| {
                let info = PeerInfo {
                    id: entry.id.clone(),
                    address: entry.name.to_string(),
                    socket_type: entry.socket_type,
                    connected: entry.connected,
                    queued: 0,
                    send_hwm: 0,
                    unread: 0,
                    recv_hwm: shared.inbox.hwm(),
                    messages_sent: 0,
                    bytes_sent: 0,
                    messages_received: 0,
                    bytes_received: 0,
                    drops: Drops::default(),
                    reconnects: entry.connections.saturating_sub(1),
                    subscriptions: entry.subscriptions,
                    round_trip: entry.round_trip,
                };
                (key, entry.lane, info)
            })
            .collect();
        rows.into_iter().map(|(key, lane, info)| self.with_counters(key, lane, info)).collect()
    }

    fn with_counters(&self, key: PeerKey, lane: PeerKey, mut info: PeerInfo) -> PeerInfo {
        if let Some(sent) = self.shared().outbound.sent(key) {
            info.queued = sent.queued;
            info.send_hwm = sent.hwm;
            info.messages_sent = sent.messages;
            info.bytes_sent = sent.bytes;
            info.drops.merge(&sent.drops);
        }
        if let Some(received) = self.shared().inbox.received(lane) {
            info.unread = received.unread;
            info.messages_received = received.messages;
            info.bytes_received = received.bytes;
            info.drops.merge(&received.drops);
        }
        info
    }

    /// The socket's counters.
    pub fn stats(&self) -> Stats {
        let peers = self.peers();
        let (sent, received) = (self.shared().outbound.past(), self.shared().inbox.past());
        let mut stats = Stats {
            messages_sent: sent.messages,
            bytes_sent: sent.bytes,
            messages_received: received.messages,
            bytes_received: received.bytes,
            drops: sent.drops,
            peers: Vec::new(),
        };
        stats.drops.merge(&received.drops);
        for peer in &peers {
            stats.messages_sent += peer.messages_sent;
            stats.bytes_sent += peer.bytes_sent;
            stats.messages_received += peer.messages_received;
            stats.bytes_received += peer.bytes_received;
            stats.drops.merge(&peer.drops);
        }
        stats.peers = peers;
        stats
    }

    /// Watches the socket: every event from now on.
    pub fn monitor(&self) -> Monitor {
        self.shared().events.watch()
    }

    /// Waits until at least `count` peers are connected.
    ///
    /// # Errors
    /// [`WaitError::Closed`] when the socket is closed first.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn wait_for_peers(&self, count: usize) -> Result<(), WaitError> {
        self.wait_until(|shared| shared.table().values().filter(|entry| entry.connected).count() >= count).await
    }

    async fn wait_until(&self, done: impl Fn(&Shared) -> bool) -> Result<(), WaitError> {
        let shared = self.shared();
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            // Registered before the look, so that no change falls between the two.
            changed.as_mut().enable();
            if done(shared) {
                return Ok(());
            }
            if shared.life() != Life::Open {
                return Err(WaitError::Closed);
            }
            changed.await;
        }
    }

    /// Closes the socket for all of its handles: accepts no more messages, waits until the accepted ones are
    /// written or linger (5 s by default) is over, and reports. Receivers can still read what has arrived.
    /// A second call gives the same report.
    ///
    /// # Cancel safety
    /// Safe: dropped, closing goes on in the background.
    pub async fn close(&self) -> Report {
        let Some(mut report) = self.core.start_close(None) else { return Report::default() };
        let done = report.wait_for(Option::is_some).await;
        done.ok().and_then(|report| *report).unwrap_or_default()
    }

    /// Closes the socket at once: what waits is discarded (and counted as `Linger`).
    pub fn shutdown_now(&self) {
        self.core.start_close(Some(Duration::ZERO));
        self.shared().life.send_replace(Life::Over);
        self.core.end_all();
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("type", &self.socket_type()).field("endpoints", &self.endpoints()).finish()
    }
}

/// Waits for `work`, for `limit` at the most.
async fn wait_at_most(limit: Option<Duration>, work: impl Future<Output = ()>) {
    match limit {
        Some(limit) => {
            let _ = tokio::time::timeout(limit, work).await;
        }
        None => work.await,
    }
}

impl Core {
    fn ends(&self) -> MutexGuard<'_, Vec<End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the first bind or connect: the runtime, and a publisher's flusher.
    fn start(&self) -> Result<(), OptionError> {
        let shared = &self.shared;
        let fresh = shared.runtime().is_none();
        if !shared.enter_runtime() {
            return Err(OptionError::new("runtime", "bind and connect need a tokio runtime; call them inside one"));
        }
        if fresh && matches!(shared.kind, SocketType::Pub | SocketType::XPub | SocketType::XSub) {
            let outbound = shared.outbound.clone();
            shared.spawn(async move {
                while poll_fn(|cx| outbound.poll_flusher(cx)).await {
                    outbound.write_ready();
                }
                outbound.write_ready();
            });
        }
        Ok(())
    }

    fn take_end(&self, endpoint: Endpoint, bound: bool) -> Result<End, DetachError> {
        let mut ends = self.ends();
        let at = ends.iter().position(|end| end.is_bound() == bound && *end.endpoint() == endpoint);
        at.map(|at| ends.remove(at)).ok_or_else(|| DetachError::NotFound(endpoint.to_string()))
    }

    /// Ends every peer's connection and every inproc joint.
    fn end_all(&self) {
        let keys: Vec<PeerKey> = self.shared.table().keys().copied().collect();
        for key in keys {
            self.shared.outbound.kick(key, Reason::Local);
        }
    }

    /// Begins to close, once. Gives the place where the report will be; None when there was nothing to close.
    fn start_close(&self, linger: Option<Duration>) -> Option<watch::Receiver<Option<Report>>> {
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = &*closing {
            return Some(report.clone());
        }
        let (done, report) = watch::channel(None);
        *closing = Some(report.clone());
        drop(closing);
        let shared = self.shared.clone();
        shared.life.send_replace(Life::Draining);
        shared.outbound.close();
        let linger = linger.or(shared.options.linger);
        let waiting = shared.outbound.waiting() as u64;
        let parked = self.close_inproc(linger);
        shared.inbox.close();
        shared.changed.notify_waiters();
        match shared.runtime() {
            Some(runtime) => {
                let runtime = runtime.clone();
                let namespace = self.namespace.clone();
                runtime.spawn(async move {
                    let part = |shared: &Arc<Shared>| {
                        parked.iter().for_each(|(name, key)| leave(&namespace, shared, *key, name));
                    };
                    let dropped = wind_down(shared, linger, part).await;
                    let _ = done.send(Some(Report { sent: waiting.saturating_sub(dropped), dropped, kept: 0 }));
                });
            }
            None => {
                shared.life.send_replace(Life::Over);
                shared.events.close();
                let _ = done.send(Some(Report::default()));
            }
        }
        Some(report)
    }

    /// Inproc ends need no draining: their messages are with the other side already. Gives those for which
    /// messages wait because nobody is bound there yet.
    fn close_inproc(&self, linger: Option<Duration>) -> Vec<(String, PeerKey)> {
        let ends = std::mem::take(&mut *self.ends());
        let (mut kept, mut parked) = (Vec::new(), Vec::new());
        for end in ends {
            match end {
                End::InprocBound { name, serial, .. } => {
                    self.namespace.unbind(&name, &self.shared);
                    let via = Via::Listener(serial);
                    let keys: Vec<PeerKey> = {
                        let table = self.shared.table();
                        table.iter().filter(|(_, entry)| entry.via == via).map(|(key, _)| *key).collect()
                    };
                    for key in keys {
                        leave(&self.namespace, &self.shared, key, &name);
                        self.shared.dismiss(key, &Reason::Local, false);
                    }
                }
                End::InprocConnected { name, key, .. }
                    if linger != Some(Duration::ZERO) && self.shared.outbound.waits_for(key) =>
                {
                    parked.push((name, key));
                }
                End::InprocConnected { name, key, .. } => {
                    leave(&self.namespace, &self.shared, key, &name);
                    if !self.shared.outbound.waits_for(key) {
                        self.shared.dismiss(key, &Reason::Local, false);
                    }
                }
                other => kept.push(other),
            }
        }
        *self.ends() = kept;
        parked
    }
}

/// Tells the other side of an inproc peer, if there is one, that this one is over.
fn leave(namespace: &Arc<Namespace>, shared: &Arc<Shared>, key: PeerKey, name: &str) {
    namespace.forget(name, shared, key);
    let other = match shared.table().get(&key).map(|entry| entry.channel.clone()) {
        Some(Channel::Direct(other, theirs)) => (other, theirs),
        _ => return,
    };
    inproc::part(namespace, name, &other);
}

/// Drains for `linger` (None: as long as it takes), then ends everything.
/// `part` leaves the inproc names that still had to be waited for. Returns how many messages were discarded.
async fn wind_down(shared: Arc<Shared>, linger: Option<Duration>, part: impl Fn(&Arc<Shared>)) -> u64 {
    if linger != Some(Duration::ZERO) {
        shared.outbound.write_ready();
        let drained = poll_fn(|cx| shared.outbound.poll_drained(cx, false));
        let over = shared.reached(Life::Over);
        wait_at_most(linger, crate::engine::either(drained, over)).await;
    }
    part(&shared);
    shared.life.send_replace(Life::Over);
    let keys: Vec<PeerKey> = shared.table().keys().copied().collect();
    for &key in &keys {
        shared.outbound.kick(key, Reason::Local);
    }
    // Tasks end by themselves; the limit is for a peer that keeps its side open.
    let _ = tokio::time::timeout(Duration::from_secs(2), shared.join_tasks()).await;
    shared.abort_tasks();
    let left: Vec<PeerKey> = shared.table().keys().copied().collect();
    for key in left {
        shared.forget(key, DropReason::Linger);
    }
    shared.events.close();
    // Every peer is gone by now, so all that was discarded is in the total.
    shared.outbound.past().drops.get(DropReason::Linger)
}
