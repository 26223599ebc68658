//! Writing what an outbox lends: by a caller ([`Outbound::write`]) or by the connection's task
//! ([`Outbound::poll_lease`], [`Outbound::finish`]). One lease per peer at a time, the system call without the lock.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::outbound::{After, Outbound};
use super::outbox::Batch;
use super::peers::{Peer, Road, State};
use super::{Link, PeerKey};
use crate::event::Reason;

/// A peer that was sent so few messages keeps no memory for the next ones: there may be none for long.
const FEW: u64 = 32;

/// The right to write to one peer, with the bytes to write.
pub(crate) struct Lease {
    key: PeerKey,
    link: Arc<dyn Link>,
    batch: Batch,
    /// The connection that it is for: a lease of an earlier one changes nothing any more.
    connection: u32,
}

impl Lease {
    /// One attempt to write; never blocks.
    pub(crate) fn try_write(&self) -> io::Result<usize> {
        let Batch { first, rest, .. } = &self.batch;
        if rest.is_empty() {
            return self.link.try_write(first);
        }
        let slices: Vec<IoSlice<'_>> = std::iter::once(first).chain(rest).map(|bytes| IoSlice::new(bytes)).collect();
        self.link.try_write_vectored(&slices)
    }

    pub(crate) fn len(&self) -> usize {
        self.batch.len
    }
}

/// What a connection's task has to do.
pub(crate) enum Work {
    Write(Lease),
    /// End the connection for this reason.
    End(Reason),
    /// The peer was removed.
    Gone,
}

impl Peer {
    pub(super) fn lease(&mut self, key: PeerKey) -> Option<Lease> {
        let link = self.link()?.clone();
        let batch = self.outbox.lend()?;
        self.writing = true;
        Some(Lease { key, link, batch, connection: self.connection })
    }
}

impl Outbound {
    /// The task's next piece of work; registers its waker when there is none.
    pub(crate) fn poll_lease(&self, key: PeerKey, cx: &mut Context<'_>) -> Poll<Work> {
        let mut state = self.lock();
        let Some(peer) = state.peers.get_mut(key) else { return Poll::Ready(Work::Gone) };
        if let Some(reason) = peer.kick.take() {
            return Poll::Ready(Work::End(reason));
        }
        if !peer.writing
            && let Some(lease) = peer.lease(key)
        {
            return Poll::Ready(Work::Write(lease));
        }
        if peer.outbox.is_clear() {
            peer.pace.handle_nothing();
            if peer.messages < FEW {
                peer.outbox.release_idle();
            }
        }
        match &mut peer.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Ready when the connection is to end, for this reason; `Local` also when the peer is gone.
    pub(crate) fn poll_orders(&self, key: PeerKey, cx: &mut Context<'_>) -> Poll<Reason> {
        let mut state = self.lock();
        let Some(peer) = state.peers.get_mut(key) else { return Poll::Ready(Reason::Local) };
        if let Some(reason) = peer.kick.take() {
            return Poll::Ready(reason);
        }
        peer.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The task gives its lease back. `blocked`: the kernel takes no more now, and the task waits for it.
    pub(crate) fn finish(&self, lease: &Lease, written: usize, blocked: bool) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            let done = state.finish(lease, written, blocked, &mut after);
            if let Some(peer) = state.peers.get_mut(lease.key) {
                peer.pace.handle_written(done);
            }
        }
        self.perform(&mut after);
    }

    /// The connection has ended: nobody starts to write to it any more. Ready when the last one who did has said
    /// how much the kernel took, so that the count of what was lost is right.
    pub(crate) fn poll_parted(&self, key: PeerKey, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let Some(peer) = state.peers.get_mut(key) else { return Poll::Ready(()) };
        if let Road::Wire(link) = &mut peer.road {
            *link = None;
        }
        if !peer.writing {
            return Poll::Ready(());
        }
        state.watch_progress(cx);
        Poll::Pending
    }

    /// The connection is idle: its queue gives memory back.
    pub(crate) fn release_idle(&self, key: PeerKey) {
        if let Some(peer) = self.lock().peers.get_mut(key) {
            peer.outbox.release_idle();
        }
    }

    /// Whether the peer's writes are blocked by the kernel.
    pub(crate) fn is_blocked(&self, key: PeerKey) -> bool {
        self.lock().peers.get(key).is_some_and(|peer| peer.blocked)
    }

    /// A caller writes what it leased, once; what is left is the task's work.
    pub(super) fn write(&self, lease: Lease) {
        let mut after = After::default();
        let result = lease.try_write();
        // An error is seen by the task, too, which ends the connection with it.
        let written = result.unwrap_or(0);
        {
            let mut state = self.lock();
            state.finish(&lease, written, written < lease.len(), &mut after);
            if let Some(peer) = state.peers.get_mut(lease.key)
                && (peer.logged || !peer.outbox.is_clear())
            {
                after.wake = peer.waker.take();
            }
        }
        self.perform(&mut after);
    }

    /// Writes everything that waits for connections that can take it now.
    pub(crate) fn write_ready(&self) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            state.seal_classes();
            for key in state.peers.keys() {
                if let Some(peer) = state.peers.get_mut(key)
                    && peer.is_idle()
                {
                    after.leases().extend(peer.lease(key));
                }
            }
        }
        self.perform(&mut after);
    }
}

impl State {
    /// Returns how many messages are with the kernel now.
    fn finish(&mut self, lease: &Lease, written: usize, blocked: bool, after: &mut After) -> usize {
        let key = lease.key;
        let Some(peer) = self.peers.get_mut(key) else { return 0 };
        if !peer.writing || peer.connection != lease.connection {
            // The connection went while the write ran: its queue was already rewound.
            return 0;
        }
        peer.writing = false;
        peer.blocked = blocked;
        let done = peer.outbox.finish(written);
        peer.messages += done.messages as u64;
        peer.bytes += done.bytes as u64;
        self.settle(key, after);
        self.progressed(after);
        done.messages
    }
}
