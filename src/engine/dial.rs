//! Connecting, and connecting again: [`dial`] keeps one endpoint connected for as long as it is wanted.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::connection::{Refusal, farewell, handshake, io_reason, refused, serve};
use super::shared::{Arrival, Life, Shared, Via};
use super::stage::Order;
use crate::endpoint::Endpoint;
use crate::event::{DropReason, Event, Phase, Reason};
use crate::message::Frame;
use crate::queue::PeerKey;
use crate::transport::{self, SelfConnection, Stream};
use crate::wire::session::Established;

/// A connection that lived so long was healthy: the next failure starts from the shortest wait again.
const HEALTHY: Duration = Duration::from_secs(10);

/// Waits between attempts: doubling, with jitter, back to the start after a healthy connection.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        let max = max.max(min);
        Backoff { min, max, next: min }
    }

    /// The next wait; `noise` spreads it by a quarter either way, so that a thousand clients do not come at once.
    pub(crate) fn wait(&mut self, noise: u64) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).clamp(self.min, self.max);
        let permille = 750 + (noise % 501) as u32;
        wait * permille / 1000
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// A refusal will not change soon.
    pub(crate) fn give_time(&mut self) {
        self.next = self.max;
    }
}

fn noise() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What one endpoint's dialler works with.
pub(crate) struct Dial {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) name: Arc<str>,
    pub(crate) key: PeerKey,
    pub(crate) serial: u64,
    /// The id that the user chose for this peer.
    pub(crate) chosen: Option<Box<Frame>>,
    /// Given when the endpoint is no longer wanted.
    pub(crate) stop: Arc<Order>,
}

impl Dial {
    fn is_over(&self) -> bool {
        self.stop.is_given() || self.shared.life() == Life::Over
    }

    async fn over(&self) {
        super::either(pin!(self.stop.given()), pin!(self.shared.reached(Life::Over))).await;
    }
}

/// Connects until stopped; the peer's place and queue stay all the while.
pub(crate) async fn dial(dial: &Dial) {
    keep_connected(dial).await;
    if dial.is_over() {
        dial.shared.dismiss(dial.key, &Reason::Local, false);
    }
}

async fn keep_connected(dial: &Dial) {
    let options = &dial.shared.options;
    let (min, max) = options.reconnect.unwrap_or_default();
    let mut backoff = Backoff::new(min, max);
    loop {
        let mut stood = None;
        let reason = connect_once(dial, &mut stood).await;
        if dial.is_over() {
            return;
        }
        let refused = reason.is_refusal() && !matches!(reason, Reason::IdentityTaken | Reason::PairTaken);
        if options.reconnect.is_none() || (refused && options.reconnect_stop) {
            dial.shared.events.emit(Event::Stopped { endpoint: dial.name.to_string() });
            return;
        }
        if refused {
            backoff.give_time();
        } else if stood.is_some_and(|since: Instant| since.elapsed() >= HEALTHY) {
            // Not an attempt that took as long: a peer that never answers is no healthy one.
            backoff.reset();
        }
        let after = backoff.wait(noise());
        dial.shared.events.emit(Event::Retrying { endpoint: dial.name.to_string(), after });
        super::either(pin!(tokio::time::sleep(after)), pin!(dial.over())).await;
        if dial.is_over() {
            // One more attempt could fail before it is called off, and be told of.
            return;
        }
    }
}

/// One attempt and, if it succeeds, the whole connection. Says why it ended, and in `stood` since when it stood.
async fn connect_once(dial: &Dial, stood: &mut Option<Instant>) -> Reason {
    let Dial { shared, name, key, .. } = dial;
    // Boxed: a task keeps the size of its largest moment, and this one is over soon.
    let opened = Box::pin(async {
        let over = async {
            dial.over().await;
            (Phase::Accept, Reason::Local)
        };
        super::race(pin!(open(dial)), pin!(over)).await
    });
    let (mut read, write);
    // In a block, so that what the peer said in its handshake is not kept.
    let serving = {
        let (stream, peer, input) = match opened.await {
            Ok(ready) => ready,
            Err((_, Reason::Local)) => return Reason::Local,
            Err(refusal) => {
                let reason = refusal.1.clone();
                refused(shared, name, refusal);
                return reason;
            }
        };
        let chosen = dial.chosen.as_deref();
        let arrival = Arrival { name, via: Via::Dial(dial.serial), peer: &peer, chosen, limit: None };
        let halves = stream.into_split();
        (read, write) = (halves.0, Arc::new(halves.1));
        if let Err(reason) = shared.admit(Some(*key), arrival, write.clone()) {
            refused(shared, name, (Phase::Handshake, reason.clone()));
            return reason;
        }
        serve(shared, (&mut read, &write), *key, &peer, input)
    };
    if dial.is_over() {
        // Whoever ended it may have given the order just before there was a connection.
        shared.outbound.kick(*key, Reason::Local);
    }
    *stood = Some(Instant::now());
    let reason = serving.await;
    if reason == Reason::HwmReached {
        shared.outbound.clear(*key, DropReason::PeerGone);
    }
    shared.dismiss(*key, &reason, !dial.is_over());
    if reason == Reason::Local {
        Box::pin(farewell(read, &write, Duration::from_secs(1))).await;
    }
    reason
}

async fn open(dial: &Dial) -> Result<(Stream, Established, BytesMut), Refusal> {
    // Each boxed: one is over before the other begins, and thousands may wait for the first at once.
    let connected = Box::pin(transport::connect(&dial.endpoint, &dial.shared.options.transport)).await;
    let mut stream = connected.map_err(|error| {
        let oneself = SelfConnection::is(&error);
        (Phase::Accept, if oneself { Reason::SelfConnection } else { io_reason(&error) })
    })?;
    let (peer, input) = Box::pin(handshake(&dial.shared, &mut stream)).await?;
    Ok((stream, peer, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &mut Backoff, count: usize, noise: u64) -> Vec<u64> {
        (0..count).map(|_| backoff.wait(noise).as_millis() as u64).collect()
    }

    #[test]
    fn p09_backoff_doubles_to_its_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(waits(&mut backoff, 6, 250), [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(waits(&mut backoff, 1, 250), [100]);
        backoff.give_time();
        assert_eq!(waits(&mut backoff, 2, 250), [1000, 1000]);
    }

    #[test]
    fn p09_jitter_is_a_quarter_either_way() {
        fn holds(noise: u64) -> bool {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
            (75..=125).contains(&backoff.wait(noise).as_millis())
        }
        quickcheck::quickcheck(holds as fn(u64) -> bool);
    }
}
