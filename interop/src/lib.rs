//! Proof that ginnel speaks with others.
//!
//! Each peer is a process in its own language (`peers/`), driven by JSON lines; the cases are in `tests/`. Here
//! lives what they share: [`Peer`] starts and drives such a process, [`Cases`] runs and counts cases, [`Ours`] gives
//! ginnel's eleven types one face, `exchange` sends the content set through any pair of types, [`RawPeer`] is a peer
//! written out in bytes. A peer program that is missing fails the cases and says what to install; nothing is skipped.
//! Nothing here looks inside ginnel: public API only.

mod cases;
mod content;
mod exchange;
mod ours;
mod peer;
mod raw;

pub use cases::{Cases, Fault, Outcome, check, same, until, wait_for, within};
pub use content::{Content, content_set, filled, frames_of, message_of};
pub use exchange::{Meeting, Transport, exchange, meet, subscribe_and_wait};
pub use ours::{At, Ours};
pub use peer::{Peer, Program};
pub use raw::RawPeer;
pub use serde_json::{Value, json};
