//! The end of a socket: draining for linger, then ending every connection, then the report.
//!
//! Closing runs in a task of its own, so a dropped `close` future and a dropped last handle end the socket
//! in the same way. Absent: what a connection does when it is told to end (see `engine::connection`).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::stats::Report;
use super::{Core, End};
use crate::engine::durable::Durability;
use crate::engine::inproc::{self, Namespace};
use crate::engine::shared::{Channel, Life, Shared, Via};
use crate::event::{DropReason, Reason};
use crate::queue::PeerKey;

/// For the last words of connections when the socket is over: a peer may keep its side open for as long as it likes.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Core {
    /// Ends every peer's connection and every inproc joint.
    pub(super) fn end_all(&self) {
        let keys: Vec<PeerKey> = self.shared.table().keys().copied().collect();
        for key in keys {
            self.shared.outbound.kick(key, Reason::Local);
        }
    }

    /// Begins to close, once. Gives the place where the report will be; None when there was nothing to close.
    pub(super) fn start_close(&self, linger: Option<Duration>) -> Option<watch::Receiver<Option<Report>>> {
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = &*closing {
            return Some(report.clone());
        }
        let (done, report) = watch::channel(None);
        *closing = Some(report.clone());
        drop(closing);
        let shared = self.shared.clone();
        // It may be over already, with its runtime.
        shared.advance(Life::Draining);
        shared.outbound.close();
        if let Some(spool) = shared.durability.spool() {
            spool.close_to_senders();
        }
        let linger = linger.or(shared.options.linger);
        let waiting = shared.outbound.waiting() as u64;
        let parked = self.close_inproc(linger);
        shared.inbox.close();
        shared.changed.notify_waiters();
        match shared.runtime() {
            Some(runtime) => {
                let runtime = runtime.clone();
                let namespace = self.namespace.clone();
                runtime.spawn(async move {
                    let part = |shared: &Arc<Shared>| {
                        parked.iter().for_each(|(name, key)| leave(&namespace, shared, *key, name));
                    };
                    let durability = shared.durability.clone();
                    let dropped = wind_down(shared, linger, part).await;
                    let (kept, unkept) = close_durable(durability).await;
                    let sent = waiting.saturating_sub(dropped);
                    let _ = done.send(Some(Report { sent, dropped: dropped + unkept, kept }));
                });
            }
            None => {
                shared.advance(Life::Over);
                shared.events.close();
                let (kept, dropped) = shared.durability.close();
                let _ = done.send(Some(Report { kept, dropped, ..Report::default() }));
            }
        }
        Some(report)
    }

    /// Inproc ends need no draining: their messages are with the other side already. Gives those for which
    /// messages wait because nobody is bound there yet.
    fn close_inproc(&self, linger: Option<Duration>) -> Vec<(String, PeerKey)> {
        let ends = std::mem::take(&mut *self.ends());
        let (mut kept, mut parked) = (Vec::new(), Vec::new());
        for end in ends {
            match end {
                End::InprocBound { name, serial, .. } => {
                    self.namespace.unbind(&name, &self.shared);
                    let via = Via::Listener(serial);
                    let keys: Vec<PeerKey> = {
                        let table = self.shared.table();
                        table.iter().filter(|(_, entry)| entry.via == via).map(|(key, _)| *key).collect()
                    };
                    for key in keys {
                        leave(&self.namespace, &self.shared, key, &name);
                        self.shared.dismiss(key, &Reason::Local, false);
                    }
                }
                End::InprocConnected { name, key, .. }
                    if linger != Some(Duration::ZERO) && self.shared.outbound.waits_for(key) =>
                {
                    parked.push((name, key));
                }
                End::InprocConnected { name, key, .. } => {
                    leave(&self.namespace, &self.shared, key, &name);
                    if !self.shared.outbound.waits_for(key) {
                        self.shared.dismiss(key, &Reason::Local, false);
                    }
                }
                other => kept.push(other),
            }
        }
        *self.ends() = kept;
        parked
    }
}

/// What is kept is written, synced and left in order, away from the tasks: see [`Durability::close`].
async fn close_durable(durability: Durability) -> (u64, u64) {
    if matches!(durability, Durability::None) {
        return (0, 0);
    }
    tokio::task::spawn_blocking(move || durability.close()).await.unwrap_or_default()
}

/// Waits for `work`, for `limit` at the most.
pub(super) async fn wait_at_most(limit: Option<Duration>, work: impl Future<Output = ()>) {
    match limit {
        Some(limit) => {
            let _ = tokio::time::timeout(limit, work).await;
        }
        None => work.await,
    }
}

/// Tells the other side of an inproc peer, if there is one, that this one is over.
pub(super) fn leave(namespace: &Arc<Namespace>, shared: &Arc<Shared>, key: PeerKey, name: &str) {
    namespace.forget(name, shared, key);
    let other = match shared.table().get(&key).map(|entry| entry.channel.clone()) {
        Some(Channel::Direct(other, theirs)) => (other, theirs),
        _ => return,
    };
    inproc::part(namespace, name, &other);
}

/// Drains for `linger` (None: as long as it takes), then ends everything.
/// `part` leaves the inproc names that still had to be waited for. Returns how many messages were discarded.
async fn wind_down(shared: Arc<Shared>, linger: Option<Duration>, part: impl Fn(&Arc<Shared>)) -> u64 {
    if linger != Some(Duration::ZERO) {
        shared.outbound.write_ready();
        let drained = async {
            if let Some(spool) = shared.durability.spool() {
                spool.drained().await;
            }
            poll_fn(|cx| shared.outbound.poll_drained(cx, false)).await;
        };
        let (drained, over) = (pin!(drained), pin!(shared.reached(Life::Over)));
        wait_at_most(linger, crate::engine::either(drained, over)).await;
    }
    part(&shared);
    shared.advance(Life::Over);
    let keys: Vec<PeerKey> = shared.table().keys().copied().collect();
    for &key in &keys {
        shared.outbound.kick(key, Reason::Local);
    }
    let _ = tokio::time::timeout(LAST_WORDS, shared.join_tasks()).await;
    shared.abort_tasks();
    let left: Vec<PeerKey> = shared.table().keys().copied().collect();
    for key in left {
        shared.forget(key, DropReason::Linger);
    }
    shared.events.close();
    // Every peer is gone by now, so all that was discarded is in the total.
    shared.outbound.past().drops.get(DropReason::Linger)
}
