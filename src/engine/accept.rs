//! Listening: [`listen`] accepts connections, bounds the ones that have not introduced themselves, and
//! serves each in its own task.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::{farewell, handshake, io_reason, refused, serve};
use super::shared::{Arrival, Life, Shared, Via};
use super::stage::Order;
use crate::event::{Event, Phase, Reason};
use crate::transport::{Listener, Stream, descriptor_limit, is_out_of_descriptors};

/// Waits between failed accepts, doubling: without it a full descriptor table burns a core.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a connection may take to introduce itself before a newcomer can push it out. A real client needs
/// milliseconds, but where thousands of them come back at once each also needs its turn.
const GRACE: Duration = Duration::from_millis(250);

/// Connections of one listener that have not finished their handshake, the oldest first, and since when.
#[derive(Default)]
struct Pending {
    queue: Mutex<VecDeque<(Arc<Notify>, Instant)>>,
    left: Notify,
}

impl Pending {
    /// Until there is room for one more, or the oldest of `max` has had its time: meanwhile newcomers wait in the backlog.
    async fn room(&self, max: usize) {
        loop {
            let wait = {
                let pending = self.lock();
                let Some((_, since)) = pending.front().filter(|_| pending.len() >= max.max(1)) else { return };
                GRACE.saturating_sub(since.elapsed())
            };
            if wait.is_zero() {
                return;
            }
            // Its end or somebody's leaving: either way it is looked at again.
            let _ = tokio::time::timeout(wait, self.left.notified()).await;
        }
    }

    /// Adds one; with `max` already there, the oldest has to go.
    fn enter(&self, max: usize) -> Arc<Notify> {
        let ticket = Arc::new(Notify::new());
        let mut pending = self.lock();
        pending.push_back((ticket.clone(), Instant::now()));
        if pending.len() > max.max(1)
            && let Some((oldest, _)) = pending.pop_front()
        {
            oldest.notify_one();
        }
        ticket
    }

    fn leave(&self, ticket: &Arc<Notify>) {
        self.lock().retain(|(other, _)| !Arc::ptr_eq(other, ticket));
        self.left.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Arc<Notify>, Instant)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts until `stop` or the socket's end.
pub(crate) async fn listen(shared: Arc<Shared>, listener: Listener, serial: u64, stop: Arc<Order>) {
    let endpoint = listener.endpoint().to_string();
    let limit = max_connections(&shared);
    let door = Door { serial, stop, pending: Arc::new(Pending::default()), limit };
    let accept = async {
        let mut wait = BACKOFF.0;
        loop {
            door.pending.room(shared.options.limits.max_pending_handshakes).await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    wait = BACKOFF.0;
                    receive(&shared, stream, peer.into(), &door);
                }
                Err(error) => {
                    let reason = io_reason(&error);
                    shared.events.emit(Event::AcceptFailed { endpoint: endpoint.clone(), reason });
                    if is_out_of_descriptors(&error) {
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(BACKOFF.1);
                    }
                }
            }
        }
    };
    super::either(pin!(over(&shared, &door.stop)), pin!(accept)).await;
    drop(listener);
    shared.events.emit(Event::Stopped { endpoint });
}

/// Ends with the listener or the socket.
async fn over(shared: &Shared, stop: &Order) {
    super::either(pin!(stop.given()), pin!(shared.reached(Life::Draining))).await;
}

/// How many connections a socket may have.
fn max_connections(shared: &Shared) -> usize {
    let descriptors = descriptor_limit().map_or(usize::MAX, |limit| limit.saturating_sub(16 + limit / 20));
    shared.options.limits.max_connections.min(descriptors)
}

/// What a listener's connections have in common.
#[derive(Clone)]
struct Door {
    serial: u64,
    /// Given when the listener is no longer wanted.
    stop: Arc<Order>,
    pending: Arc<Pending>,
    /// Connections that the socket may have.
    limit: usize,
}

fn receive(shared: &Arc<Shared>, mut stream: Stream, name: Arc<str>, door: &Door) {
    let crowded = shared.crowded(shared.table().len(), door.limit);
    if let Some(reason) = crowded {
        refused(shared, &name, (Phase::Accept, reason));
        return;
    }
    let max_pending = shared.options.limits.max_pending_handshakes;
    let ticket = door.pending.enter(max_pending);
    let (task, door) = (shared.clone(), door.clone());
    shared.spawn(async move {
        // Boxed, all of it: a task keeps the size of its largest moment, and this one is over in milliseconds.
        let introduced = Box::pin(async {
            let crowded = async {
                ticket.notified().await;
                (Phase::Greeting, Reason::LimitExceeded { which: "max_pending_handshakes", limit: max_pending as u64 })
            };
            let over = async {
                over(&task, &door.stop).await;
                (Phase::Greeting, Reason::Local)
            };
            let (crowded, over) = (pin!(crowded), pin!(over));
            let outcome = super::race(pin!(handshake(&task, &mut stream)), pin!(super::either(crowded, over))).await;
            door.pending.leave(&ticket);
            outcome
        });
        let (mut read, write, key);
        // In a block, so that what the peer said in its handshake is not kept.
        let serving = {
            let (peer, input) = match introduced.await {
                Ok(ready) => ready,
                Err(refusal) => return refused(&task, &name, refusal),
            };
            let via = Via::Listener(door.serial);
            let arrival = Arrival { name: &name, via, peer: &peer, chosen: None, limit: Some(door.limit) };
            let halves = stream.into_split();
            (read, write) = (halves.0, Arc::new(halves.1));
            key = match task.admit(None, arrival, write.clone()) {
                Ok(key) => key,
                Err(reason) => return refused(&task, &name, (Phase::Handshake, reason)),
            };
            serve(&task, (&mut read, &write), key, &peer, input)
        };
        if door.stop.is_given() || task.life() == Life::Over {
            // The unbind may have looked for its peers just before this one was in the table.
            task.outbound.kick(key, Reason::Local);
        }
        let reason = serving.await;
        task.dismiss(key, &reason, false);
        if reason == Reason::Local {
            Box::pin(farewell(read, &write, Duration::from_secs(1))).await;
        }
    });
}
