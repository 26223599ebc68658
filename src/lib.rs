//! Brokerless messaging sockets: two processes talk directly, with no server in the middle.
//!
//! PUSH/PULL, PUB/SUB, REQ/REP, DEALER/ROUTER, XPUB/XSUB and PAIR over TCP, IPC and inproc; framed messages,
//! an exact high-water mark per peer, every drop counted. On the wire it is ZMTP 3.1 (RFC 37), so every libzmq
//! program is a peer.
//!
//! ```
//! use ginnel::{Pull, Push};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ginnel::Error> {
//! let mut pull = Pull::bind("tcp://127.0.0.1:0").await?;
//! let push = Push::connect(pull.local_endpoint())?;
//! push.send("hello").await?;
//! let message = pull.recv().await?;
//! assert_eq!(message[0].to_str(), Ok("hello"));
//! # Ok(()) }
//! ```
//!
//! With a spool, PUB and PUSH keep what they send until it was received and processed: [`durable_sockets`].
//!
//! Without an async runtime: the feature `blocking` has the same sockets for threads, in a module of that name.
//!
//! What it is not: no server, no consensus, no exactly-once, no encryption yet, no runtime but tokio. Without
//! a spool a message that the operating system took may be lost when the peer dies: ZMTP has no
//! acknowledgement.
//!
//! # Map of the rooms
//!
//! A message goes `pattern` (who gets it) → `queue` (where it waits, as wire bytes) → `engine` (one task per
//! connection) → `transport` (the operating system); `wire` knows every byte's place, `socket` owns the peers
//! and the end. On a durable socket it goes to `store` (the log on disk) instead of `queue`, and `durable` knows what
//! each name still has to get. The reasons are in [`design`].
//!
//! The feature `blocking` is a second face of `pattern`: every [`Builder`] has a mode, [`Tasks`] or `blocking::Threads`,
//! which says whose waits its socket's are; a socket of the second kind does its background work in the thread of a
//! `blocking::Context`.

#![forbid(unsafe_code)]

#[cfg(feature = "blocking")]
pub mod blocking;
mod durable;
mod endpoint;
mod engine;
mod error;
mod event;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals;
mod message;
mod options;
mod pattern;
mod queue;
mod socket;
mod store;
mod transport;
mod wire;

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("durable_sockets.md")]
pub mod durable_sockets {}

// All of its programs are compiled, those for threads too.
#[cfg(all(doctest, feature = "blocking"))]
#[doc = include_str!("../README.md")]
mod readme {}

/// A spool's directory for tools: list, verify, read, repair.
pub mod spool {
    pub use crate::store::inspect::{
        BadRecord, Listing, NameInfo, NameKind, Position, Records, RepairReport, SegmentInfo, SpoolFiles, StoredRecord,
        Verified, drop_name, new_id, repair,
    };
}

pub use endpoint::{Endpoint, IntoEndpoint};
pub use engine::events::Monitor;
pub use error::{
    BindError, BuildError, ConnectError, DetachError, EndpointError, Error, OpenError, OptionError, RecvError,
    RequestError, SendAllError, SendError, SpoolError, TryRecvError, TrySendError, WaitError,
};
pub use event::{DropReason, Drops, Event, Phase, Reason};
pub use message::{Frame, Message, NoFrames, NoToken, Receipt, SpoolId, Token};
pub use options::spool::{Ack, Sync, WhenFull};
pub use options::{Credentials, FlushPolicy, Keepalive, OnFull, Security, SocketType};
pub use pattern::builder::{Buildable, Builder, Tasks};
pub use pattern::dealer::Dealer;
pub use pattern::delivery::Delivery;
pub use pattern::pair::Pair;
pub use pattern::proxy::{Proxy, ProxyControl, ProxyEnd, ProxyStatistics, proxy};
pub use pattern::publish::Pub;
pub use pattern::pull::Pull;
pub use pattern::push::Push;
pub use pattern::receiver::{Receiver, SharedReceiver};
pub use pattern::reply::{Rep, Request, Responder};
pub use pattern::request::{Req, RequestBuilder};
pub use pattern::router::{PeerId, Router, RouterReceiver, RouterSender};
pub use pattern::sender::{MessageSink, Permit, Sender};
pub use pattern::subscribe::{Sub, Subscriptions};
pub use pattern::xpub::XPub;
pub use pattern::xsub::XSub;
pub use queue::batch::{Batch, MessageView};
pub use socket::durable::{NameStats, Pending, Spool, SpoolState, SpoolStats};
pub use socket::{PeerInfo, Report, Socket, Stats};
