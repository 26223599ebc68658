//! Senders that wait for room, first come first served: [`Waiters`].
//!
//! A waiter is granted room by name (a place set aside at one peer), so nobody can overtake it between its
//! wake and its next poll, and a waiter that is never polled again holds one place and no queue.

use std::collections::VecDeque;
use std::task::Waker;

use super::PeerKey;

/// What a sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Room at any peer.
    Any,
    /// Room at this peer.
    Peer(PeerKey),
    /// Room at every peer that the message matches: woken to look again, never granted.
    All,
}

/// What became of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Room is set aside at this peer.
    Granted(PeerKey),
    /// Look again: the peer is gone, or (for [`Target::All`]) something changed.
    Again,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    target: Target,
    waker: Waker,
}

/// The waiting senders of one socket.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    next: u64,
    waiting: VecDeque<Waiter>,
    settled: Vec<(u64, Outcome)>,
}

impl Waiters {
    /// True when a send to `target` has to queue behind somebody.
    #[inline]
    pub(crate) fn ahead_of(&self, target: Target) -> bool {
        !self.waiting.is_empty() && self.waiting.iter().any(|waiter| conflict(waiter.target, target))
    }

    /// Waits, at the end of the queue or, after an [`Outcome::Again`], where waiter `before` was.
    pub(crate) fn join(&mut self, target: Target, waker: &Waker, before: Option<u64>) -> u64 {
        let id = before.unwrap_or(self.next);
        if before.is_none() {
            self.next += 1;
        }
        // Ids grow with the line, so that all who look again keep their order.
        let at = self.waiting.partition_point(|waiter| waiter.id < id);
        self.waiting.insert(at, Waiter { id, target, waker: waker.clone() });
        id
    }

    /// The outcome for waiter `id`, or None while it waits (its waker is renewed).
    pub(crate) fn poll(&mut self, id: u64, waker: &Waker) -> Option<Outcome> {
        if let Some(at) = self.settled.iter().position(|settled| settled.0 == id) {
            return Some(self.settled.swap_remove(at).1);
        }
        if let Some(waiter) = self.waiting.iter_mut().find(|waiter| waiter.id == id) {
            waiter.waker.clone_from(waker);
        }
        None
    }

    /// The waiter gives up. Returns the room that was set aside for it, if any.
    pub(crate) fn leave(&mut self, id: u64) -> Option<PeerKey> {
        self.waiting.retain(|waiter| waiter.id != id);
        let at = self.settled.iter().position(|settled| settled.0 == id)?;
        match self.settled.swap_remove(at).1 {
            Outcome::Granted(key) => Some(key),
            Outcome::Again => None,
        }
    }

    /// Gives one place at `key` to the first waiter that can use it.
    pub(crate) fn grant(&mut self, key: PeerKey) -> Option<Waker> {
        let fits = |target| matches!(target, Target::Any) || target == Target::Peer(key);
        let at = self.waiting.iter().position(|waiter| fits(waiter.target))?;
        let waiter = self.waiting.remove(at)?;
        self.settled.push((waiter.id, Outcome::Granted(key)));
        Some(waiter.waker)
    }

    /// Lets every waiter look again whose target `concerned` names.
    pub(crate) fn again(&mut self, concerned: impl Fn(Target) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for waiter in self.waiting.drain(..) {
            if concerned(waiter.target) {
                self.settled.push((waiter.id, Outcome::Again));
                wakers.push(waiter.waker);
            } else {
                kept.push_back(waiter);
            }
        }
        self.waiting = kept;
        wakers
    }

    /// Grants at the peers that `which` names, none of them used yet, become [`Outcome::Again`].
    /// Returns where room was set aside for them.
    pub(crate) fn revoke(&mut self, which: impl Fn(PeerKey) -> bool) -> Vec<PeerKey> {
        let mut revoked = Vec::new();
        for settled in &mut self.settled {
            if let Outcome::Granted(key) = settled.1
                && which(key)
            {
                settled.1 = Outcome::Again;
                revoked.push(key);
            }
        }
        revoked
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn conflict(waiting: Target, newcomer: Target) -> bool {
    match (waiting, newcomer) {
        (Target::Peer(one), Target::Peer(other)) => one == other,
        (Target::Any, Target::Peer(_)) | (Target::Peer(_), Target::Any) => false,
        _ => true,
    }
}
