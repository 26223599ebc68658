//! What all socket types share: [`Socket`] — bind, connect, peers come and go, statistics, close and linger.
//!
//! It owns the ends (listeners and diallers) and the socket's life. It never looks inside a message. Its end
//! is in `closing`, what it tells about itself in `stats`. Next: `engine`.

mod closing;
pub(crate) mod durable;
mod stats;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::closing::{leave, wait_at_most};
use self::durable::{Built, Spool};
pub use self::stats::{PeerInfo, Report, Stats};
use crate::endpoint::{Address, Endpoint, IntoEndpoint};
use crate::engine::accept::listen;
use crate::engine::dial::{Dial, dial};
use crate::engine::durable::Durability;
use crate::engine::events::Monitor;
use crate::engine::inproc::{self, Namespace};
use crate::engine::park;
use crate::engine::pattern::Pattern;
use crate::engine::shared::{Life, Shared, Via};
use crate::engine::stage::Order;
use crate::error::{BindError, ConnectError, DetachError, OptionError, WaitError};
use crate::event::{DropReason, Event, Reason};
use crate::message::Frame;
use crate::options::{Options, SocketType};
use crate::queue::PeerKey;
use crate::queue::inbox::{Inbox, Tag};
use crate::queue::outbound::{Outbound, Toll};
use crate::queue::peers::{LOT, Limits};
use crate::transport;

/// Where a socket is bound or connected.
enum End {
    Listener { endpoint: Endpoint, serial: u64, stop: Arc<Order> },
    Dialler { endpoint: Endpoint, key: PeerKey, stop: Arc<Order> },
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
    /// The first bind or connect was.
    started: AtomicBool,
    /// None: not begun. The sender lives in the closing task.
    closing: Mutex<Option<watch::Receiver<Option<Report>>>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.start_close(None);
    }
}

impl Socket {
    /// Joins the two sides of a socket. `pattern` is told where messages leave and where they arrive.
    pub(crate) fn assemble<P: Pattern + 'static>(
        kind: SocketType,
        built: Built,
        pattern: impl FnOnce(&Options, &Arc<Outbound>, &Arc<Inbox>) -> P,
    ) -> (Socket, Arc<P>) {
        let Built { options, durability, events } = built;
        let limits = Limits {
            hwm: if options.conflate { usize::from(kind == SocketType::Pub) } else { options.send_hwm },
            hwm_bytes: options.send_hwm_bytes,
            on_full: options.on_full_for(kind),
            flush: options.flush,
            conflate: options.conflate,
            lot: if matches!(kind, SocketType::Req | SocketType::Rep) { LOT } else { 0 },
        };
        let outbound = Arc::new(Outbound::new(limits, events.clone()));
        let inbox = Arc::new(Inbox::new(options.recv_hwm, options.recv_hwm_bytes, options.conflate));
        let pattern = Arc::new(pattern(&options, &outbound, &inbox));
        if let Some(spool) = durability.spool() {
            spool.attach(&outbound);
        }
        let shared = Shared::new(kind, options, (outbound, inbox), pattern.clone(), events, durability);
        let core = Core {
            shared,
            namespace: Namespace::global(),
            ends: Mutex::default(),
            started: AtomicBool::new(false),
            closing: Mutex::default(),
        };
        (Socket { core: Arc::new(core) }, pattern)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.core.shared
    }

    /// Lets others run, if a sender that never had to wait owes them that: the tasks that write and read for us among
    /// them. Before a message is accepted, so that a send that is dropped here has sent nothing.
    pub(crate) async fn pay_toll(&self) {
        match self.outbound().takes_toll() {
            Toll::None => {}
            // The scheduler, which would wake this thread again, does not run while it waits.
            _ if park::is_waiting() => {}
            Toll::Share => tokio::task::coop::consume_budget().await,
            Toll::Turn => tokio::task::yield_now().await,
        }
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

    /// What is kept, if this socket keeps.
    pub(crate) fn spool(&self) -> Option<Spool> {
        self.shared().durability.spool().cloned().map(Spool::new)
    }

    /// Sends what a durable name has to acknowledge.
    pub(crate) fn settle(&self) {
        if let Some(holder) = self.shared().durability.holder() {
            holder.settle();
        }
    }

    pub(crate) fn hand_out(&self, tag: Tag) {
        if let Some(holder) = self.shared().durability.holder() {
            holder.hand_out(tag);
        }
    }

    pub(crate) fn finish_hand(&self) {
        if let Some(holder) = self.shared().durability.holder() {
            holder.finish_hand();
        }
    }

    pub(crate) fn release_hand(&self) {
        if let Some(holder) = self.shared().durability.holder() {
            holder.release_hand();
        }
    }

    pub(crate) async fn end_name(&self) -> bool {
        match self.shared().durability.holder() {
            Some(holder) => holder.end_name().await,
            None => false,
        }
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
        let subscribed = |shared: &Shared| {
            let spool = shared.durability.spool();
            let table = shared.table();
            let ready = table.iter().filter(|(key, entry)| {
                let settled = || spool.is_none_or(|spool| spool.is_settled(**key));
                entry.connected && entry.subscriptions > 0 && settled()
            });
            ready.count()
        };
        self.wait_until(|shared| subscribed(shared) >= count).await
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
            self.not_durable().map_err(BindError::Option)?;
            if !self.core.namespace.bind(name, shared, serial) {
                return Err(BindError::AddrInUse(endpoint.to_string()));
            }
            self.core.ends().push(End::InprocBound { endpoint: endpoint.clone(), name: name.clone(), serial });
            endpoint
        } else {
            let listener = transport::bind(&endpoint, &shared.options.transport).await?;
            let bound = listener.endpoint().clone();
            let stop = Arc::new(Order::default());
            shared.spawn(listen(shared.clone(), listener, serial, stop.clone()));
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
        // Most sockets have one: no room for four.
        let first = usize::from(ends.is_empty());
        ends.reserve_exact(first);
        let same = |end: &End| !end.is_bound() && *end.endpoint() == endpoint;
        if matches!(shared.kind, Dealer | Sub | Pub | Req) && ends.iter().any(same) {
            return Ok(endpoint);
        }
        let serial = shared.next_serial();
        let name: Arc<str> = endpoint.to_string().into();
        if let Address::Inproc(inproc_name) = endpoint.address() {
            self.not_durable().map_err(ConnectError::Option)?;
            let key = inproc::park(shared, &name, Via::Dial(serial));
            ends.push(End::InprocConnected { endpoint: endpoint.clone(), name: inproc_name.clone(), key });
            drop(ends);
            let namespace = self.core.namespace.clone();
            shared.spawn(inproc::obey(namespace, inproc_name.clone(), shared.clone(), key));
            self.core.namespace.connect(inproc_name, shared, key, serial);
        } else {
            let key = shared.expect_peer(&name, Via::Dial(serial));
            let stop = Arc::new(Order::default());
            let task = Dial {
                shared: shared.clone(),
                endpoint: endpoint.clone(),
                name,
                key,
                serial,
                chosen: id.map(Box::new),
                stop: stop.clone(),
            };
            shared.spawn(async move { dial(&task).await });
            ends.push(End::Dialler { endpoint: endpoint.clone(), key, stop });
        }
        Ok(endpoint)
    }

    /// In-process peers are handed messages, not records.
    fn not_durable(&self) -> Result<(), OptionError> {
        match self.shared().durability {
            Durability::None => Ok(()),
            _ => {
                Err(OptionError::new("inproc", "not on a durable socket; use ipc:// or tcp:// inside one process, too"))
            }
        }
    }

    /// Stops listening at `endpoint` (as [`Socket::bind_to`] returned it) and ends every connection that was
    /// accepted there; peers of an `inproc` endpoint stay. What was received stays readable.
    ///
    /// # Errors
    /// [`DetachError`]: the socket is not bound there.
    pub fn unbind(&self, endpoint: impl IntoEndpoint) -> Result<(), DetachError> {
        let shared = self.shared();
        let serial = match self.core.take_end(endpoint.into_endpoint()?, true)? {
            End::Listener { serial, stop, .. } => {
                stop.give();
                serial
            }
            End::InprocBound { name, serial, .. } => {
                self.core.namespace.unbind(&name, shared);
                serial
            }
            // Asked for a bound one.
            _ => return Ok(()),
        };
        let table = shared.table();
        let accepted = table.iter().filter(|(_, entry)| entry.via == Via::Listener(serial));
        let keys: Vec<PeerKey> = accepted.map(|(key, _)| *key).collect();
        drop(table);
        keys.into_iter().for_each(|key| shared.outbound.kick(key, Reason::Local));
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
                    stop.give();
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
        self.finish_hand();
        self.settle();
        let Some(mut report) = self.core.start_close(None) else { return Report::default() };
        let done = report.wait_for(Option::is_some).await;
        // No report comes when the runtime is gone: then nothing was sent, and what waited was counted.
        done.ok().and_then(|report| *report).unwrap_or_else(|| {
            let dropped = self.shared().outbound.past().drops.get(DropReason::Linger);
            Report { dropped, ..Report::default() }
        })
    }

    /// Closes the socket at once: what waits is discarded (and counted as `Linger`).
    pub fn shutdown_now(&self) {
        self.core.start_close(Some(Duration::ZERO));
        self.shared().advance(Life::Over);
        self.core.end_all();
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("type", &self.socket_type()).field("endpoints", &self.endpoints()).finish()
    }
}

impl Core {
    fn ends(&self) -> MutexGuard<'_, Vec<End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the first bind or connect: the runtime, and a publisher's flusher.
    fn start(&self) -> Result<(), OptionError> {
        let shared = &self.shared;
        if !shared.enter_runtime() {
            return Err(OptionError::new("runtime", "bind and connect need a tokio runtime; call them inside one"));
        }
        let fresh = !self.started.swap(true, Ordering::Relaxed);
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
}
