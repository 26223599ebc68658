//! Options first, then the socket: [`Builder`], one for all types.

mod durable;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::dealer::Dealer;
use super::pair::Pair;
use super::publish::Pub;
use super::pull::Pull;
use super::push::Push;
use super::reply::Rep;
use super::request::Req;
use super::router::Router;
use super::subscribe::Sub;
use super::xpub::XPub;
use super::xsub::XSub;
use crate::endpoint::IntoEndpoint;
use crate::error::{BindError, BuildError, ConnectError, OptionError};
use crate::message::{Frame, Message};
use crate::options::{FlushPolicy, Keepalive, OnFull, Options, Security, SocketType};
use crate::socket::Socket;
use crate::socket::durable::Built;

/// Options of a socket of type `S`, then the socket: by [`build`](Builder::build), [`bind`](Builder::bind) or
/// [`connect`](Builder::connect).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ginnel::Error> {
/// let pull = ginnel::Pull::builder().recv_hwm(10_000).bind("tcp://127.0.0.1:0").await?;
/// let push = ginnel::Push::builder().send_hwm(10).connect(pull.local_endpoint())?;
/// # Ok(()) }
/// ```
///
/// `M` is how the socket will be used: in [`Tasks`], or in `blocking::Threads` (feature `blocking`). The options are
/// the same.
#[must_use = "a builder makes no socket by itself"]
pub struct Builder<S, M = Tasks> {
    /// Shared with clones and with the sockets that were made of it.
    options: Arc<Options>,
    pub(crate) mode: M,
    socket: PhantomData<fn() -> S>,
}

/// A [`Builder`]'s mode: its socket is used in tasks of a tokio runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tasks;

// By hand: derived, they would ask the same of `S`, of which there is none here.
impl<S, M: Clone> Clone for Builder<S, M> {
    fn clone(&self) -> Builder<S, M> {
        Builder { options: self.options.clone(), mode: self.mode.clone(), socket: PhantomData }
    }
}

impl<S, M> fmt::Debug for Builder<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A socket type that a [`Builder`] can build. Not for other crates to implement.
pub trait Buildable: Sized + sealed::Sealed {
    /// The type's name on the wire.
    const TYPE: SocketType;
    #[doc(hidden)]
    fn finish(options: BuiltOptions) -> Self;
    #[doc(hidden)]
    fn base(&self) -> &Socket;
}

/// Options that were checked.
#[doc(hidden)]
#[derive(Debug)]
pub struct BuiltOptions(Built);

mod sealed {
    pub trait Sealed {}
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($($field:ident).+: $type:ty) $(=> $convert:expr)?;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, value: $type) -> Self {
            self.options_mut().$($field).+ = setters!(@value value $(, $convert)?);
            self
        }
    )*};
    (@value $value:ident) => { $value };
    (@value $value:ident, $convert:expr) => { ($convert)($value) };
}

impl<S, M> Builder<S, M> {
    pub(super) fn options_mut(&mut self) -> &mut Options {
        Arc::make_mut(&mut self.options)
    }
}

impl<S: Buildable, M> Builder<S, M> {
    pub(crate) fn new(mode: M) -> Builder<S, M> {
        Builder { options: Arc::default(), mode, socket: PhantomData }
    }

    /// Messages per peer that may wait in each direction; 0 is unlimited. Default 1,000.
    pub fn hwm(self, messages: usize) -> Self {
        self.send_hwm(messages).recv_hwm(messages)
    }

    setters! {
        /// Messages per peer that may wait to be sent; 0 is unlimited. Default 1,000.
        send_hwm(send_hwm: usize);
        /// Messages per peer that may wait to be read; 0 is unlimited. Default 1,000.
        recv_hwm(recv_hwm: usize);
        /// Bytes per peer that may wait to be sent; 0 is off. Default 64 MiB. An empty queue takes one message of any size.
        send_hwm_bytes(send_hwm_bytes: usize);
        /// Bytes per peer that may wait to be read; 0 is off. Default 64 MiB. An empty queue takes one message of any size.
        recv_hwm_bytes(recv_hwm_bytes: usize);
        /// What happens at a high-water mark. Default by type: Block for PUSH, REQ, DEALER, PAIR and a `mandatory` ROUTER; DropNewest for the rest. A REQ always blocks.
        on_full(on_full: OnFull) => Some;
        /// Who writes. Default [`FlushPolicy::Auto`].
        flush_policy(flush: FlushPolicy);
        /// Longest time that closing waits for unsent messages; `None` waits for ever, zero discards. Default 5 s.
        linger(linger: impl Into<Option<Duration>>) => |value: _| Into::into(value);
        /// Longest wait of a `send`; `None` (the default) waits for ever.
        send_timeout(send_timeout: impl Into<Option<Duration>>) => |value: _| Into::into(value);
        /// Longest wait of a `recv`, or for a reply; `None` (the default) waits for ever.
        recv_timeout(recv_timeout: impl Into<Option<Duration>>) => |value: _| Into::into(value);
        /// From the connection to the end of the handshake; zero is no limit. Default 10 s.
        handshake_timeout(handshake_timeout: Duration);
        /// Whether a protocol or security refusal ends reconnecting (libzmq's way) instead of waiting its maximum. Default false.
        reconnect_stop(reconnect_stop: bool);
        /// Whether messages may wait for a peer that is not connected yet; off, they also go when it disconnects (libzmq's IMMEDIATE). Default true.
        queue_before_connect(queue_before_connect: bool);
        /// Keeps only the newest message per peer, each way it is used. Default false. For single-frame state, not for streams.
        conflate(conflate: bool);
        /// Time to live sent with heartbeats: the peer gives us up after this much silence. At most 65.5 s. Default zero (none).
        heartbeat_ttl(heartbeat.ttl: Duration);
        /// The security mechanism. Default [`Security::Null`].
        security(security: Security);
        /// Accepts ZMTP 2.0 peers too, with [`Security::Null`] only. Default false.
        zmtp2(zmtp2: bool);
        /// Largest frame accepted, in bytes. Default 64 MiB.
        max_frame(limits.max_frame: u64);
        /// Largest message accepted, in bytes, each further frame charged with 64 more. Default 64 MiB.
        max_message(limits.max_message: u64);
        /// Most frames in a message, at least 1. Default 4,096.
        max_frames_per_message(limits.max_frames_per_message: usize);
        /// Most subscriptions of one peer. Default 100,000.
        max_subscriptions(limits.max_subscriptions: usize);
        /// Most bytes of one peer's subscriptions, each topic charged with 64 more. Default 8 MiB.
        max_subscription_bytes(limits.max_subscription_bytes: usize);
        /// Longest topic, in bytes. Default 64 KiB.
        max_topic(limits.max_topic: usize);
        /// Longest command in traffic, in bytes. Default 64 KiB.
        max_command(limits.max_command: usize);
        /// Most connections of one listener that are still in their handshake; one more waits a quarter of a second for another to be done, then drops the oldest. Default 256.
        max_pending_handshakes(limits.max_pending_handshakes: usize);
        /// Most peers of this socket; a further one is closed at once. Default 10,000, and never more than the process has descriptors for.
        max_connections(limits.max_connections: usize);
        /// Bytes that all peers together may cost at worst ([`Socket::worst_case_bytes_per_peer`] each); a newcomer beyond is refused. 0 is off. Default off.
        max_memory(max_memory: u64);
        /// Most metadata of a handshake, in bytes. Default 16 KiB.
        max_metadata(limits.max_metadata: usize);
        /// Most properties in that metadata. Default 64.
        max_properties(limits.max_properties: usize);
        /// Most bytes before a handshake is done. Default 32 KiB.
        max_handshake_bytes(limits.max_handshake_bytes: usize);
        /// Most frames in a row that mean nothing (empty or unknown commands) before the connection ends. Default 10,000.
        max_meaningless_frames(limits.max_meaningless_frames: usize);
        /// Most frames before the delimiter of a request; a request with more is dropped and counted as `Malformed`. Default 64.
        max_envelope(limits.max_envelope: usize);
        /// The kernel's send buffer per connection, in bytes. Default: the system's; over `ipc://` 256 KiB are asked
        /// for where it is less.
        send_buffer(transport.send_buffer: usize) => Some;
        /// The kernel's receive buffer per connection, in bytes. Default: the system's.
        recv_buffer(transport.recv_buffer: usize) => Some;
        /// TCP keepalive. Default: the system's.
        keepalive(transport.keepalive: Keepalive);
        /// Type of service (DSCP and ECN) of TCP packets, 0–255. Default: the system's.
        tos(transport.tos: u32) => Some;
        /// Connections that may wait to be accepted. Default 1,024.
        backlog(transport.backlog: u32);
        /// Longest wait for one address to connect. Default: the system's.
        connect_timeout(transport.connect_timeout: Duration) => Some;
        /// Whether names and `*` may mean IPv6. Default true.
        ipv6(transport.ipv6: bool);
        /// Permission bits of the IPC socket file. Default: by the process's umask.
        ipc_mode(transport.ipc_mode: u32) => Some;
    }

    /// Shortest and longest wait between connection attempts: doubling, with a quarter of jitter. Default 100 ms to 30 s.
    pub fn reconnect(mut self, min: Duration, max: Duration) -> Self {
        self.options_mut().reconnect = Some((min, max));
        self
    }

    /// Connects once and never again.
    pub fn no_reconnect(mut self) -> Self {
        self.options_mut().reconnect = None;
        self
    }

    /// PING after `interval` without a byte (zero: never), and give up after `timeout` of silence. Default 15 s and 45 s.
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options_mut().heartbeat.interval = interval;
        self.options_mut().heartbeat.timeout = timeout;
        self
    }

    /// The routing id that REQ, DEALER and ROUTER announce: 1 to 255 bytes, not starting with 0. Default: none.
    pub fn identity(mut self, id: impl Into<Frame>) -> Self {
        self.options_mut().identity = id.into();
        self
    }

    /// Sets an option by its name here, from text: numbers, sizes (`64Ki`), durations (`250ms`, `5s`; a bare number
    /// is seconds; `inf` for `linger`, `send_timeout` and `recv_timeout`), two of them (`100ms,30s`) for `reconnect`
    /// and `heartbeat`, `true`/`false`, and `on_full` as `block`, `drop-newest`, `drop-oldest` or `disconnect`.
    ///
    /// # Errors
    /// [`OptionError`]: no such option, or a value that does not fit; it says what does.
    pub fn option(self, name: &str, value: &str) -> Result<Self, OptionError> {
        super::options_text::set(self, name, value)
    }

    fn check(self) -> Result<Arc<Options>, OptionError> {
        self.check_durable(S::TYPE)?;
        let options = self.options;
        let fail = |name: &str, why: &str| Err(OptionError::new(name, why));
        if options.identity.len() > 255 || options.identity.first() == Some(&0) {
            return fail("identity", "at most 255 bytes, the first not 0");
        }
        if options.heartbeat.ttl > Duration::from_millis(65_500) {
            return fail("heartbeat_ttl", "at most 65.5 s (libzmq peers overflow above)");
        }
        if options.limits.max_frames_per_message == 0 {
            return fail("max_frames_per_message", "at least 1: there is no message without a frame");
        }
        if options.zmtp2 && options.security != Security::Null {
            return fail("zmtp2", "ZMTP 2.0 has no security; use it with Security::Null only");
        }
        if options.transport.tos.is_some_and(|tos| tos > 255) {
            return fail("tos", "0 to 255");
        }
        if matches!(options.reconnect, Some((min, max)) if min > max) {
            return fail("reconnect", "the shortest wait is longer than the longest; give them the other way round");
        }
        use SocketType::{Dealer, Pub, Pull, Push, Sub};
        if options.conflate && !matches!(S::TYPE, Dealer | Pub | Pull | Push | Sub) {
            return fail("conflate", "only for PUSH, PULL, PUB, SUB and DEALER");
        }
        Ok(options)
    }

    pub(crate) fn make(self) -> Result<S, BuildError> {
        Ok(S::finish(BuiltOptions(Built::open(S::TYPE, self.check()?)?)))
    }
}

impl<S: Buildable> Builder<S> {
    /// Makes the socket, neither bound nor connected.
    ///
    /// # Errors
    /// [`BuildError`]: an option is out of range or does not go with another, or the spool cannot be opened.
    pub fn build(self) -> Result<S, BuildError> {
        self.make()
    }

    /// Makes the socket and binds it.
    ///
    /// # Errors
    /// [`BindError`]; an option that is wrong is its `Option`.
    ///
    /// # Cancel safety
    /// Safe: dropped, it has bound nothing.
    pub async fn bind(self, endpoint: impl IntoEndpoint) -> Result<S, BindError> {
        let socket = self.build()?;
        socket.base().bind_to(endpoint).await?;
        Ok(socket)
    }

    /// Makes the socket and connects it, in the background: see [`Socket::connect_to`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(self, endpoint: impl IntoEndpoint) -> Result<S, ConnectError> {
        let socket = self.build()?;
        socket.base().connect_to(endpoint)?;
        Ok(socket)
    }
}

macro_rules! flags {
    ($($(#[$doc:meta])* $type:ident.$name:ident($($field:ident).+) $(=> $convert:expr)?;)*) => {$(
        impl<M> Builder<$type, M> {
            $(#[$doc])*
            pub fn $name(mut self, value: bool) -> Self {
                self.options_mut().$($field).+ = setters!(@value value $(, $convert)?);
                self
            }
        }
    )*};
}

flags! {
    /// An unknown peer is an error instead of a counted drop, and a full one is waited for. Default false.
    Router.mandatory(router_mandatory);
    /// A newcomer with a known id takes it over; the old connection is closed. Default false: the newcomer is refused.
    Router.handover(router_handover);
    /// Sends an empty message to every new peer, so that a ROUTER learns of us. Default false.
    Router.probe(probe_router);
    /// Sends an empty message to every new peer, so that a ROUTER learns of us. Default false.
    Dealer.probe(probe_router);
    /// Sends an empty message to every new peer, so that a ROUTER learns of us. Default false.
    Req.probe(probe_router);
    /// Whether requests carry an id. Default: to REP peers yes, to others no.
    Req.correlate(correlate) => Some;
    /// libzmq's strict REQ: one request at a time over all peers. Default false.
    Req.lockstep(lockstep);
    /// With `lockstep`: a new request gives up the one that waits, and without `correlate` also the connection that its
    /// late reply would come by. Default false.
    Req.relaxed(req_relaxed);
    /// Reports every subscription, also of topics that somebody has already. Default false.
    XPub.verbose(xpub_verbose);
    /// Reports every subscription and every cancel. Default false.
    XPub.verboser(xpub_verboser);
    /// Sends to those whose subscriptions do not match; subscribers must set it, too. Default false.
    Pub.invert_matching(invert_matching);
    /// Sends to those whose subscriptions do not match; subscribers must set it, too. Default false.
    XPub.invert_matching(invert_matching);
    /// Wants what the subscriptions do not match; publishers must set it, too. Default false.
    Sub.invert_matching(invert_matching);
}

macro_rules! subscriber {
    ($($type:ident)*) => {$(
        impl<M> Builder<$type, M> {
            /// Wants messages whose first frame starts with `prefix`; empty is everything. May be given more than once.
            pub fn subscribe(mut self, prefix: impl AsRef<[u8]>) -> Self {
                self.options_mut().subscriptions.push(Frame::copy_from_slice(prefix.as_ref()));
                self
            }
        }
    )*};
}

subscriber!(Sub XSub);

macro_rules! publisher {
    ($($type:ident)*) => {$(
        impl<M> Builder<$type, M> {
            /// Sends this message to every new peer first; a SUB sees it only if it subscribes to it.
            pub fn welcome(mut self, message: impl Into<Message>) -> Self {
                self.options_mut().welcome = Some(message.into());
                self
            }
        }
    )*};
}

publisher!(Pub XPub);

macro_rules! constructors {
    ($($type:ident: |$socket:ident| $base:expr;)*) => {$(
        impl sealed::Sealed for $type {}

        impl Buildable for $type {
            const TYPE: SocketType = SocketType::$type;

            fn finish(options: BuiltOptions) -> $type {
                $type::from_options(options.0)
            }

            fn base(&self) -> &Socket {
                let $socket = self;
                $base
            }
        }

        impl Default for $type {
            fn default() -> $type {
                $type::new()
            }
        }

        impl $type {
            /// A socket with default options, neither bound nor connected.
            pub fn new() -> $type {
                $type::from_options(Built::default())
            }

            /// Options first.
            pub fn builder() -> Builder<$type> {
                Builder::new(Tasks)
            }

            /// A socket with default options, bound to `endpoint`.
            ///
            /// # Errors
            /// [`BindError`].
            ///
            /// # Cancel safety
            /// Safe: dropped, it has bound nothing.
            pub async fn bind(endpoint: impl IntoEndpoint) -> Result<$type, BindError> {
                $type::builder().bind(endpoint).await
            }

            /// A socket with default options, connecting to `endpoint` in the background.
            ///
            /// # Errors
            /// [`ConnectError`].
            pub fn connect(endpoint: impl IntoEndpoint) -> Result<$type, ConnectError> {
                $type::builder().connect(endpoint)
            }
        }
    )*};
}

constructors! {
    Push: |socket| socket;
    Pull: |socket| socket;
    Pub: |socket| socket;
    Sub: |socket| socket;
    Req: |socket| socket;
    Rep: |socket| socket;
    Dealer: |socket| socket;
    Router: |socket| socket;
    XPub: |socket| socket;
    XSub: |socket| socket;
    Pair: |socket| socket;
}
