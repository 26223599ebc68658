//! Who waits for what: receipts for a number, flushes, readers for more. Wakers only; woken once for each batch.
//!
//! Whoever waits looks at the visible number first, then takes the lock and looks again; whoever publishes stores the
//! number first, then takes the lock. So nobody misses a wake. Absent: room, which is granted in line by `front`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::Unaccepted;
use super::shared::{Shared, locked};
use crate::store::ring::Ring;

/// All that wait.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    accepted: BTreeMap<u64, Waker>,
    flushes: Vec<(u64, Waker)>,
    watchers: BTreeMap<u64, (u64, Waker)>,
    next_watcher: u64,
    /// Who would let the readers come nearer.
    paced: Vec<Waker>,
    /// Writing failed; numbers up to this one were on their way.
    failed: Option<u64>,
}

impl Waits {
    /// Takes out all that wait for numbers up to `visible`.
    pub(super) fn reached(&mut self, visible: u64) -> Vec<Waker> {
        let later = match visible.checked_add(1) {
            Some(next) => self.accepted.split_off(&next),
            None => BTreeMap::new(),
        };
        let mut wakers: Vec<Waker> = std::mem::replace(&mut self.accepted, later).into_values().collect();
        self.flushes.retain(|(target, waker)| {
            let waits = *target > visible;
            if !waits {
                wakers.push(waker.clone());
            }
            waits
        });
        if self.watchers.values().any(|watcher| watcher.0 < visible) {
            let watchers = std::mem::take(&mut self.watchers);
            for (id, (after, waker)) in watchers {
                if after < visible {
                    wakers.push(waker);
                } else {
                    self.watchers.insert(id, (after, waker));
                }
            }
        }
        wakers
    }

    /// Nothing more will be accepted. Numbers up to `unknown` were on their way to the disk.
    pub(super) fn fail(&mut self, unknown: u64) -> Vec<Waker> {
        self.failed.get_or_insert(unknown);
        let mut wakers: Vec<Waker> = std::mem::take(&mut self.accepted).into_values().collect();
        wakers.extend(self.flushes.drain(..).map(|flush| flush.1));
        wakers
    }

    /// Takes out who waits for the readers.
    fn caught_up(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.paced)
    }

    fn verdict(&self, sequence: u64) -> Option<Unaccepted> {
        self.failed.map(|unknown| if sequence <= unknown { Unaccepted::Unknown } else { Unaccepted::Failed })
    }
}

impl Shared {
    #[inline]
    pub(super) fn poll_accepted(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        if self.visible() >= sequence {
            return Poll::Ready(Ok(()));
        }
        self.wait_accepted(sequence, cx)
    }

    fn wait_accepted(&self, sequence: u64, cx: &Context<'_>) -> Poll<Result<(), Unaccepted>> {
        let mut waits = locked(&self.waits);
        if self.visible() >= sequence {
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = waits.verdict(sequence) {
            return Poll::Ready(Err(why));
        }
        match waits.accepted.get_mut(&sequence) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => drop(waits.accepted.insert(sequence, cx.waker().clone())),
        }
        Poll::Pending
    }

    pub(super) fn forget_waiter(&self, sequence: u64) {
        let gone = locked(&self.waits).accepted.remove(&sequence);
        drop(gone);
    }

    pub(super) fn poll_flushed(&self, target: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        if self.visible() >= target {
            return Poll::Ready(Ok(()));
        }
        let mut waits = locked(&self.waits);
        if self.visible() >= target {
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = waits.verdict(target) {
            return Poll::Ready(Err(why));
        }
        if !waits.flushes.iter().any(|flush| flush.0 == target && flush.1.will_wake(cx.waker())) {
            waits.flushes.push((target, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Shared {
    /// What became of the ring is known to those who append. Lets go of it.
    pub(crate) fn note_crowd(&self, ring: MutexGuard<'_, Ring>) {
        let crowded = ring.is_crowded();
        let was = self.crowded.load(Ordering::Relaxed);
        if was != crowded {
            self.crowded.store(crowded, Ordering::Release);
        }
        drop(ring);
        if was && !crowded {
            let wakers = locked(&self.waits).caught_up();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    pub(super) fn poll_uncrowded(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_crowded() {
            return Poll::Ready(());
        }
        let mut waits = locked(&self.waits);
        if !self.is_crowded() {
            return Poll::Ready(());
        }
        if !waits.paced.iter().any(|waker| waker.will_wake(cx.waker())) {
            waits.paced.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// To be woken when more becomes visible.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    id: u64,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Watch {
        let mut waits = locked(&shared.waits);
        let id = waits.next_watcher;
        waits.next_watcher += 1;
        drop(waits);
        Watch { shared, id }
    }

    /// Its number among the readers.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Ready when more than `after` is visible. Numbers that nobody wanted may become visible without a wake, for
    /// there is nothing to read in them.
    pub(crate) fn poll_beyond(&mut self, after: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.visible() > after {
            return Poll::Ready(());
        }
        let mut waits = locked(&self.shared.waits);
        if self.shared.visible() > after {
            return Poll::Ready(());
        }
        match waits.watchers.get_mut(&self.id) {
            Some(watcher) => {
                watcher.0 = after;
                watcher.1.clone_from(cx.waker());
            }
            None => drop(waits.watchers.insert(self.id, (after, cx.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut ring = locked(&self.shared.ring);
        ring.forget_reader(self.id);
        self.shared.note_crowd(ring);
        let gone = locked(&self.shared.waits).watchers.remove(&self.id);
        drop(gone);
    }
}
