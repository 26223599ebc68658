//! Every knob with unit, default, range, and what happens at the edge: [`Options`]; also [`SocketType`]
//! and the choices that options are made of.
//!
//! Plain values. Limits and times default as the house decided, not as libzmq does; the switches of each
//! socket type mean what libzmq's mean. Setters are on `Builder`.

pub(crate) mod spool;

use std::fmt;
use std::time::Duration;

use self::spool::{HolderOptions, SpoolOptions};
use crate::error::OptionError;
use crate::message::{Frame, Message};

/// The eleven socket types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SocketType {
    Pair,
    Pub,
    Sub,
    Req,
    Rep,
    Dealer,
    Router,
    Pull,
    Push,
    XPub,
    XSub,
}

impl SocketType {
    /// In the order of their ZMTP 2.0 numbers: PAIR is 0, XSUB is 10.
    pub const ALL: [SocketType; 11] = [
        SocketType::Pair,
        SocketType::Pub,
        SocketType::Sub,
        SocketType::Req,
        SocketType::Rep,
        SocketType::Dealer,
        SocketType::Router,
        SocketType::Pull,
        SocketType::Push,
        SocketType::XPub,
        SocketType::XSub,
    ];

    /// The name on the wire, upper case (RFC 37).
    pub fn name(self) -> &'static str {
        match self {
            SocketType::Pair => "PAIR",
            SocketType::Pub => "PUB",
            SocketType::Sub => "SUB",
            SocketType::Req => "REQ",
            SocketType::Rep => "REP",
            SocketType::Dealer => "DEALER",
            SocketType::Router => "ROUTER",
            SocketType::Pull => "PULL",
            SocketType::Push => "PUSH",
            SocketType::XPub => "XPUB",
            SocketType::XSub => "XSUB",
        }
    }

    /// The type with this wire name (exact, upper case).
    pub fn from_name(name: &[u8]) -> Option<SocketType> {
        SocketType::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Whether a peer of type `peer` may talk to this one (RFC 37, section "Socket Types").
    pub fn accepts(self, peer: SocketType) -> bool {
        use SocketType::*;
        match self {
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            Pub | XPub => matches!(peer, Sub | XSub),
            Sub | XSub => matches!(peer, Pub | XPub),
            Push => peer == Pull,
            Pull => peer == Push,
            Pair => peer == Pair,
        }
    }

    /// REQ, DEALER and ROUTER announce a routing id in READY, even an empty one.
    pub(crate) fn announces_identity(self) -> bool {
        matches!(self, SocketType::Req | SocketType::Dealer | SocketType::Router)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens when a peer's queue is at its high-water mark (round-robin types: when no peer has room).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFull {
    /// `send` waits. A publisher waits until every matching peer has room: all or none.
    Block,
    /// The new message is dropped and counted as `HwmReached`.
    DropNewest,
    /// The oldest waiting message is dropped and counted as `HwmReached`.
    DropOldest,
    /// The slow peer is disconnected with reason `HwmReached`; what waited for it counts as `PeerGone`.
    Disconnect,
}

/// Who writes queued messages to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FlushPolicy {
    /// The caller writes lone messages, and whenever nearly 64 KiB wait; the connection's task writes the rest.
    #[default]
    Auto,
    /// The caller always writes.
    Immediate,
    /// The connection's task always writes.
    Task,
}

/// User name and password of the PLAIN mechanism (RFC 24), sent in clear text.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Both at most 255 bytes.
    ///
    /// # Errors
    /// [`OptionError`] when one is longer.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Result<Credentials, OptionError> {
        let (username, password) = (username.into(), password.into());
        if username.len() > 255 || password.len() > 255 {
            return Err(OptionError::new("plain", "user name and password are at most 255 bytes each"));
        }
        Ok(Credentials { username, password })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// The security mechanism of a socket: one for all of its connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// No authentication, no encryption.
    #[default]
    Null,
    /// PLAIN, client side.
    PlainClient(Credentials),
    /// PLAIN, server side: these users are let in, everybody else is refused.
    PlainServer(Vec<Credentials>),
}

impl Security {
    /// The name in the greeting.
    pub(crate) fn mechanism(&self) -> &'static str {
        match self {
            Security::Null => "NULL",
            Security::PlainClient(_) | Security::PlainServer(_) => "PLAIN",
        }
    }
}

/// TCP keepalive (`SO_KEEPALIVE` and its times).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// `None` leaves the operating system's default.
    pub enabled: Option<bool>,
    /// Idle time before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Probes before the connection is given up.
    pub count: Option<u32>,
}

/// What a socket tells a connection about the operating system's side.
#[derive(Debug, Clone)]
pub(crate) struct TransportOptions {
    pub(crate) send_buffer: Option<usize>,
    pub(crate) recv_buffer: Option<usize>,
    pub(crate) keepalive: Keepalive,
    pub(crate) tos: Option<u32>,
    pub(crate) backlog: u32,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) ipv6: bool,
    pub(crate) ipc_mode: Option<u32>,
}

/// Bounds on what one peer may cost (`LimitExceeded` names the field).
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_frame: u64,
    pub(crate) max_message: u64,
    pub(crate) max_frames_per_message: usize,
    pub(crate) max_handshake_bytes: usize,
    pub(crate) max_metadata: usize,
    pub(crate) max_properties: usize,
    pub(crate) max_command: usize,
    pub(crate) max_topic: usize,
    pub(crate) max_subscriptions: usize,
    pub(crate) max_subscription_bytes: usize,
    pub(crate) max_meaningless_frames: usize,
    pub(crate) max_pending_handshakes: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_envelope: usize,
}

/// Times of the heartbeat (RFC 37, "Heartbeating").
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeartbeatOptions {
    /// Zero: off.
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Sent in PING; at most 65.5 s, because libzmq overflows above.
    pub(crate) ttl: Duration,
}

/// All options of one socket. Built by `Builder`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) send_hwm: usize,
    pub(crate) recv_hwm: usize,
    pub(crate) send_hwm_bytes: usize,
    pub(crate) recv_hwm_bytes: usize,
    pub(crate) on_full: Option<OnFull>,
    pub(crate) flush: FlushPolicy,
    pub(crate) linger: Option<Duration>,
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) recv_timeout: Option<Duration>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) reconnect: Option<(Duration, Duration)>,
    pub(crate) reconnect_stop: bool,
    pub(crate) queue_before_connect: bool,
    pub(crate) conflate: bool,
    pub(crate) heartbeat: HeartbeatOptions,
    pub(crate) identity: Frame,
    pub(crate) security: Security,
    pub(crate) zmtp2: bool,
    pub(crate) limits: Limits,
    /// Bytes that all peers together may cost at worst; 0 is off.
    pub(crate) max_memory: u64,
    pub(crate) transport: TransportOptions,
    pub(crate) router_mandatory: bool,
    pub(crate) router_handover: bool,
    pub(crate) probe_router: bool,
    pub(crate) correlate: Option<bool>,
    pub(crate) lockstep: bool,
    pub(crate) req_relaxed: bool,
    pub(crate) xpub_verbose: bool,
    pub(crate) xpub_verboser: bool,
    pub(crate) invert_matching: bool,
    pub(crate) welcome: Option<Message>,
    pub(crate) subscriptions: Vec<Frame>,
    /// PUB and PUSH: what is sent goes to disk first.
    pub(crate) spool: Option<SpoolOptions>,
    /// SUB and PULL: this socket holds a durable name.
    pub(crate) holder: Option<HolderOptions>,
}

impl Options {
    /// What one peer can cost at most: both queues, a message in assembly, its subscriptions. A mark that is
    /// off counts as unlimited.
    pub(crate) fn worst_case_bytes_per_peer(&self) -> u64 {
        let mark = |bytes: usize| if bytes == 0 { u64::MAX } else { bytes as u64 };
        // The tree of topics costs up to four times what it was charged (a test holds it to that).
        let topics = (self.limits.max_subscription_bytes as u64).saturating_mul(4);
        let parts = [mark(self.send_hwm_bytes), mark(self.recv_hwm_bytes), self.limits.max_message, topics];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// The chosen behaviour at the high-water mark, or libzmq's for this type.
    pub(crate) fn on_full_for(&self, kind: SocketType) -> OnFull {
        use SocketType::*;
        self.on_full.unwrap_or(match kind {
            Push | Req | Dealer | Pair | Pull | Sub => OnFull::Block,
            Router if self.router_mandatory => OnFull::Block,
            Pub | XPub | XSub | Rep | Router => OnFull::DropNewest,
        })
    }
}

const MIB: usize = 1024 * 1024;

impl Default for Options {
    fn default() -> Options {
        Options {
            send_hwm: 1000,
            recv_hwm: 1000,
            send_hwm_bytes: 64 * MIB,
            recv_hwm_bytes: 64 * MIB,
            on_full: None,
            flush: FlushPolicy::Auto,
            linger: Some(Duration::from_secs(5)),
            send_timeout: None,
            recv_timeout: None,
            handshake_timeout: Duration::from_secs(10),
            reconnect: Some((Duration::from_millis(100), Duration::from_secs(30))),
            reconnect_stop: false,
            queue_before_connect: true,
            conflate: false,
            heartbeat: HeartbeatOptions {
                interval: Duration::from_secs(15),
                timeout: Duration::from_secs(45),
                ttl: Duration::ZERO,
            },
            identity: Frame::EMPTY,
            security: Security::Null,
            zmtp2: false,
            limits: Limits::default(),
            max_memory: 0,
            transport: TransportOptions::default(),
            router_mandatory: false,
            router_handover: false,
            probe_router: false,
            correlate: None,
            lockstep: false,
            req_relaxed: false,
            xpub_verbose: false,
            xpub_verboser: false,
            invert_matching: false,
            welcome: None,
            subscriptions: Vec::new(),
            spool: None,
            holder: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_frame: 64 * MIB as u64,
            max_message: 64 * MIB as u64,
            max_frames_per_message: 4096,
            max_handshake_bytes: 32 * 1024,
            max_metadata: 16 * 1024,
            max_properties: 64,
            max_command: 64 * 1024,
            max_topic: 64 * 1024,
            max_subscriptions: 100_000,
            max_subscription_bytes: 8 * MIB,
            max_meaningless_frames: 10_000,
            max_pending_handshakes: 256,
            max_connections: 10_000,
            max_envelope: 64,
        }
    }
}

impl Default for TransportOptions {
    fn default() -> TransportOptions {
        TransportOptions {
            send_buffer: None,
            recv_buffer: None,
            keepalive: Keepalive::default(),
            tos: None,
            backlog: 1024,
            connect_timeout: None,
            ipv6: true,
            ipc_mode: None,
        }
    }
}
