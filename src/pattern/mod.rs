//! One public type per socket type, and who gets a message: the only place that chooses.
//!
//! `plain` serves the types without state (PUSH, PULL, DEALER, PAIR), `publish` and `subscribe` PUB/XPUB and
//! SUB/XSUB, `request` and `reply` REQ/REP, `router` ROUTER; `sender` and `receiver` are the halves that the
//! types are made of; `topics` is the tree of prefixes. May use `socket`, `queue`, the vocabulary and the
//! engine's trait. Never touches IO, timers of connections, or frames on the wire.

pub(crate) mod builder;
pub(crate) mod dealer;
pub(crate) mod delivery;
pub(crate) mod options_text;
pub(crate) mod pair;
pub(crate) mod plain;
pub(crate) mod proxy;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod receiver;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod router;
pub(crate) mod sender;
pub(crate) mod subscribe;
pub(crate) mod topics;
pub(crate) mod xpub;
pub(crate) mod xsub;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::message::Frame;

/// Ids for peers that announce none: 0, then a number (the form that libzmq's ROUTER gives).
#[derive(Debug)]
pub(crate) struct Ids(AtomicU32);

impl Default for Ids {
    fn default() -> Ids {
        use std::hash::{BuildHasher, Hasher, RandomState};
        Ids(AtomicU32::new(RandomState::new().build_hasher().finish() as u32))
    }
}

impl Ids {
    pub(crate) fn next(&self) -> Frame {
        let number = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Frame::from([0, number[0], number[1], number[2], number[3]])
    }
}
