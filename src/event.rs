//! What a monitor sees, and the names of every reason: [`Event`], [`Reason`], [`DropReason`].
//!
//! Plain values. These lists are the only ones: errors, counters and logs use the same names.

use std::fmt;
use std::time::Duration;

use crate::message::Frame;

/// How far a connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Opening or accepting the transport's connection.
    Accept,
    /// Exchanging ZMTP greetings.
    Greeting,
    /// The security mechanism's handshake, up to READY both ways.
    Handshake,
    /// After the handshake.
    Traffic,
}

/// Why a connection ended or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The peer closed the connection.
    PeerClosed,
    /// The peer sent an ERROR command with this text (control characters escaped).
    PeerError(String),
    /// The operating system reported this error.
    Io(String),
    /// No sign of life in time: handshake deadline, heartbeat, or the TTL the peer asked for.
    Timeout,
    /// The bytes are not ZMTP.
    NotZmtp,
    /// The peer speaks a version of ZMTP that this socket does not accept.
    UnsupportedVersion,
    /// The peer uses another security mechanism.
    MechanismMismatch,
    /// A byte rule was broken; the text says which.
    Malformed(&'static str),
    /// A command or message that has no place at this moment.
    UnexpectedCommand,
    /// The peer's socket type does not go with ours.
    IncompatibleType,
    /// Another connected peer has this routing id.
    IdentityTaken,
    /// This PAIR socket already has its peer.
    PairTaken,
    /// A limit was exceeded.
    LimitExceeded {
        /// The option's name.
        which: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Authentication failed.
    AuthDenied,
    /// A cryptographic check failed.
    Crypto,
    /// The socket connected to itself.
    SelfConnection,
    /// The queue was full and [`OnFull::Disconnect`](crate::OnFull::Disconnect) is set.
    HwmReached,
    /// Our own unbind, disconnect, close or handover.
    Local,
    /// A defect of this library; please report it.
    InternalError,
}

impl Reason {
    /// The variant's name, as events and the command print it.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::PeerClosed => "PeerClosed",
            Reason::PeerError(_) => "PeerError",
            Reason::Io(_) => "Io",
            Reason::Timeout => "Timeout",
            Reason::NotZmtp => "NotZmtp",
            Reason::UnsupportedVersion => "UnsupportedVersion",
            Reason::MechanismMismatch => "MechanismMismatch",
            Reason::Malformed(_) => "Malformed",
            Reason::UnexpectedCommand => "UnexpectedCommand",
            Reason::IncompatibleType => "IncompatibleType",
            Reason::IdentityTaken => "IdentityTaken",
            Reason::PairTaken => "PairTaken",
            Reason::LimitExceeded { .. } => "LimitExceeded",
            Reason::AuthDenied => "AuthDenied",
            Reason::Crypto => "Crypto",
            Reason::SelfConnection => "SelfConnection",
            Reason::HwmReached => "HwmReached",
            Reason::Local => "Local",
            Reason::InternalError => "InternalError",
        }
    }

    /// True for protocol and security refusals: retrying soon cannot help, so reconnection waits its maximum.
    pub(crate) fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Reason::PeerClosed
                | Reason::Io(_)
                | Reason::Timeout
                | Reason::SelfConnection
                | Reason::Local
                | Reason::HwmReached
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::PeerError(text) => write!(f, "PeerError: {text}"),
            Reason::Io(text) => write!(f, "Io: {text}"),
            Reason::Malformed(what) => write!(f, "Malformed: {what}"),
            Reason::LimitExceeded { which, limit } => write!(f, "LimitExceeded: {which} is {limit}"),
            other => f.write_str(other.name()),
        }
    }
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The peer's queue was at its high-water mark.
    HwmReached,
    /// There was no peer to send to.
    NoPeer,
    /// The addressed peer is unknown.
    NoRoute,
    /// The peer left while the message waited for it.
    PeerGone,
    /// The socket closed before the message was written.
    Linger,
    /// The spool was full.
    SpoolFull,
    /// It arrived on a direction that this socket type does not use.
    Unused,
    /// It lacked the envelope its pattern needs.
    Malformed,
    /// A reply that came after its request was given up.
    Late,
}

impl DropReason {
    /// Every reason, in the order of [`Drops`].
    pub const ALL: [DropReason; 9] = [
        DropReason::HwmReached,
        DropReason::NoPeer,
        DropReason::NoRoute,
        DropReason::PeerGone,
        DropReason::Linger,
        DropReason::SpoolFull,
        DropReason::Unused,
        DropReason::Malformed,
        DropReason::Late,
    ];

    /// The variant's name.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::HwmReached => "HwmReached",
            DropReason::NoPeer => "NoPeer",
            DropReason::NoRoute => "NoRoute",
            DropReason::PeerGone => "PeerGone",
            DropReason::Linger => "Linger",
            DropReason::SpoolFull => "SpoolFull",
            DropReason::Unused => "Unused",
            DropReason::Malformed => "Malformed",
            DropReason::Late => "Late",
        }
    }
}

/// Dropped messages, counted by [`DropReason`].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(reason, count)| (reason.name(), count))).finish()
    }
}

impl Drops {
    /// Messages dropped for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Messages dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.get(reason))).filter(|&(_, count)| count > 0)
    }

    pub(crate) fn add(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }

    pub(crate) fn merge(&mut self, other: &Drops) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// What happened on a socket. `peer` is the peer's address as text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A bind succeeded; `endpoint` carries the real port.
    Listening {
        /// The bound endpoint.
        endpoint: String,
    },
    /// Accepting a connection failed; the listener waits and goes on.
    AcceptFailed {
        /// The listening endpoint.
        endpoint: String,
        /// What the operating system said.
        reason: Reason,
    },
    /// A listener stopped, or an endpoint is not connected to any more (`no_reconnect`, `reconnect_stop`).
    Stopped {
        /// The endpoint.
        endpoint: String,
    },
    /// A handshake is done: the peer takes part.
    Connected {
        /// The peer's address.
        peer: String,
        /// Its routing id as the pattern knows it.
        id: Frame,
        /// Its announced socket type; `None` when it announced none.
        socket_type: Option<crate::SocketType>,
    },
    /// A connection ended before its handshake was done.
    Refused {
        /// The peer's address.
        peer: String,
        /// How far it had come.
        phase: Phase,
        /// Why.
        reason: Reason,
    },
    /// A connected peer left.
    Disconnected {
        /// The peer's address.
        peer: String,
        /// Why.
        reason: Reason,
    },
    /// The next connection attempt starts after this time.
    Retrying {
        /// The endpoint being connected to.
        endpoint: String,
        /// The wait before the attempt.
        after: Duration,
    },
    /// A peer's send queue reached its high-water mark.
    HwmReached {
        /// The peer's address.
        peer: String,
    },
    /// A peer's send queue fell to its low-water mark again.
    HwmCleared {
        /// The peer's address.
        peer: String,
    },
    /// Messages were dropped; merged, at most one event a second per peer and reason.
    Dropped {
        /// The peer's address; empty when no peer is concerned.
        peer: String,
        /// Why.
        reason: DropReason,
        /// How many since the last event of this kind.
        count: u64,
    },
    /// A peer subscribed.
    Subscribed {
        /// The peer's address.
        peer: String,
        /// The prefix.
        topic: Frame,
    },
    /// A peer cancelled a subscription.
    Unsubscribed {
        /// The peer's address.
        peer: String,
        /// The prefix.
        topic: Frame,
    },
    /// A received request was dropped without a reply.
    Unanswered {
        /// The peer's address.
        peer: String,
    },
    /// The spool has no room: `WhenFull` runs until there is.
    SpoolFull {
        /// Bytes on disk.
        bytes: u64,
        /// `max_bytes`, or the free space that `min_free_disk` asks for.
        limit: u64,
    },
    /// Writing or syncing failed: nothing is accepted any more until the spool is opened again. Reading goes on.
    SpoolFailed {
        /// What the operating system said, and of which file.
        error: String,
    },
    /// Records that a durable name will never get. On the spooler's side and on the holder's.
    Lost {
        /// The name.
        name: String,
        /// The first number that is lost.
        from: u64,
        /// The last one.
        to: u64,
        /// How many records were lost, as far as that is known: at most so many where only the numbers are.
        records: u64,
        /// Their bytes; 0 where they are not known, as on the holder's side.
        bytes: u64,
    },
    /// A part of the spool cannot be read; what is good before and after it stays.
    Damaged {
        /// The segment's file.
        segment: String,
        /// Where in it.
        offset: u64,
        /// How many bytes were set aside.
        bytes: u64,
        /// The first number that may be missing.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The spool was not closed cleanly; this is what opening found.
    Recovered {
        /// Good records.
        records: u64,
        /// Bytes of a torn tail that were cut: of records that were never accepted.
        torn: u64,
        /// The next record's number.
        next: u64,
    },
    /// Both copies of the registry were unreadable: the names start anew.
    NamesLost,
    /// A durable name was dropped: it expired, or `WhenFull::DropName` evicted it.
    NameExpired {
        /// The name.
        name: String,
    },
    /// A connected holder has taken nothing for `stall_after`: its window is closed.
    NameStalled {
        /// The name.
        name: String,
        /// Records behind.
        lag: u64,
    },
    /// The peer does not take part in durable delivery: it is served as a plain one.
    PlainPeer {
        /// The peer's address.
        peer: String,
    },
    /// The directory behind a durable name was replaced: its old numbers mean nothing any more.
    SpoolChanged {
        /// The peer's address.
        peer: String,
        /// The spool that was there.
        old: crate::SpoolId,
        /// The spool that is there now.
        new: crate::SpoolId,
    },
    /// A record was delivered as often as `max_tries` allows: it is with the dead letters now.
    DeadLetter {
        /// The name.
        name: String,
        /// The record.
        sequence: u64,
    },
    /// The wall clock was set: ages are still counted by the old one.
    ClockStep {
        /// By how much, in milliseconds.
        by_ms: i64,
    },
    /// This monitor was read too slowly and lost so many events.
    Missed {
        /// Events lost.
        count: u64,
    },
}

impl Event {
    /// The variant's name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Listening { .. } => "Listening",
            Event::AcceptFailed { .. } => "AcceptFailed",
            Event::Stopped { .. } => "Stopped",
            Event::Connected { .. } => "Connected",
            Event::Refused { .. } => "Refused",
            Event::Disconnected { .. } => "Disconnected",
            Event::Retrying { .. } => "Retrying",
            Event::HwmReached { .. } => "HwmReached",
            Event::HwmCleared { .. } => "HwmCleared",
            Event::Dropped { .. } => "Dropped",
            Event::Subscribed { .. } => "Subscribed",
            Event::Unsubscribed { .. } => "Unsubscribed",
            Event::Unanswered { .. } => "Unanswered",
            Event::SpoolFull { .. } => "SpoolFull",
            Event::SpoolFailed { .. } => "SpoolFailed",
            Event::Lost { .. } => "Lost",
            Event::Damaged { .. } => "Damaged",
            Event::Recovered { .. } => "Recovered",
            Event::NamesLost => "NamesLost",
            Event::NameExpired { .. } => "NameExpired",
            Event::NameStalled { .. } => "NameStalled",
            Event::PlainPeer { .. } => "PlainPeer",
            Event::SpoolChanged { .. } => "SpoolChanged",
            Event::DeadLetter { .. } => "DeadLetter",
            Event::ClockStep { .. } => "ClockStep",
            Event::Missed { .. } => "Missed",
        }
    }
}
