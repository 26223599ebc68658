//! Patterns without state of their own: PUSH, PULL, DEALER (anybody may come) and PAIR (only one may).

use std::sync::Mutex;

use super::Ids;
use crate::engine::pattern::{Inbound, Newcomer, Pattern};
use crate::event::Reason;
use crate::message::Frame;
use crate::queue::PeerKey;

/// Lets everybody in.
pub(crate) struct Plain {
    inbound: Inbound,
    ids: Ids,
}

impl Plain {
    pub(crate) fn new(inbound: Inbound) -> Plain {
        Plain { inbound, ids: Ids::default() }
    }
}

impl Pattern for Plain {
    fn inbound(&self) -> Inbound {
        self.inbound
    }

    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason> {
        Ok(newcomer.identity.cloned().unwrap_or_else(|| self.ids.next()))
    }

    fn detach(&self, _key: PeerKey) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// Lets one peer in; the next gets its place when it has left.
#[derive(Default)]
pub(crate) struct Exclusive {
    peer: Mutex<Option<PeerKey>>,
    ids: Ids,
}

impl Exclusive {
    fn peer(&self) -> std::sync::MutexGuard<'_, Option<PeerKey>> {
        self.peer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pattern for Exclusive {
    fn inbound(&self) -> Inbound {
        Inbound::Deliver
    }

    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason> {
        let mut peer = self.peer();
        if peer.is_some_and(|key| key != newcomer.key) {
            return Err(Reason::PairTaken);
        }
        *peer = Some(newcomer.key);
        Ok(self.ids.next())
    }

    fn detach(&self, key: PeerKey) -> Vec<Vec<u8>> {
        let mut peer = self.peer();
        if *peer == Some(key) {
            *peer = None;
        }
        Vec::new()
    }
}
