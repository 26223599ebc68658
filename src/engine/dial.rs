//! Connecting, and connecting again: [`dial`] keeps one endpoint connected for as long as it is wanted.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::{farewell, handshake, io_reason, refused, serve};
use super::shared::{Arrival, Life, Shared, Via};
use crate::endpoint::Endpoint;
use crate::event::{DropReason, Event, Phase, Reason};
use crate::message::Frame;
use crate::queue::PeerKey;
use crate::transport;

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
    pub(crate) chosen: Option<Frame>,
    pub(crate) stop: Arc<Notify>,
}

/// Connects until stopped; the peer's place and queue stay all the while.
pub(crate) async fn dial(dial: Dial) {
    let stop = dial.stop.clone();
    super::either(stop.notified(), keep_connected(&dial)).await;
    // Dropped in the middle of a connection, or between two: in either case this peer is over.
    dial.shared.dismiss(dial.key, &Reason::Local, false);
}

async fn keep_connected(dial: &Dial) {
    let options = &dial.shared.options;
    let (min, max) = options.reconnect.unwrap_or((Duration::ZERO, Duration::ZERO));
    let mut backoff = Backoff::new(min, max);
    loop {
        let begun = Instant::now();
        let reason = connect_once(dial).await;
        if reason == Reason::Local && dial.shared.life() == Life::Over {
            return;
        }
        if reason.is_refusal() && !matches!(reason, Reason::IdentityTaken | Reason::PairTaken) {
            if options.reconnect_stop {
                dial.shared.events.emit(Event::Stopped { endpoint: dial.name.to_string() });
                return;
            }
            backoff.give_time();
        } else if begun.elapsed() >= HEALTHY {
            backoff.reset();
        }
        if options.reconnect.is_none() {
            dial.shared.events.emit(Event::Stopped { endpoint: dial.name.to_string() });
            return;
        }
        let after = backoff.wait(noise());
        dial.shared.events.emit(Event::Retrying { endpoint: dial.name.to_string(), after });
        tokio::time::sleep(after).await;
    }
}

/// One attempt and, if it succeeds, the whole connection. Says why it ended.
async fn connect_once(dial: &Dial) -> Reason {
    let Dial { shared, endpoint, name, key, .. } = dial;
    let stream = match transport::connect(endpoint, &shared.options.transport).await {
        Ok(stream) => stream,
        Err(error) => {
            let reason = io_reason(&error);
            refused(shared, name, (Phase::Accept, reason.clone()));
            return reason;
        }
    };
    if stream.is_self_connection() {
        refused(shared, name, (Phase::Accept, Reason::SelfConnection));
        return Reason::SelfConnection;
    }
    let (peer, input) = match handshake(shared, &stream).await {
        Ok(ready) => ready,
        Err(refusal) => {
            let reason = refusal.1.clone();
            refused(shared, name, refusal);
            return reason;
        }
    };
    let stream = Arc::new(stream);
    let arrival = Arrival { name, via: Via::Dial(dial.serial), peer: &peer, chosen: dial.chosen.as_ref() };
    if let Err(reason) = shared.admit(Some(*key), arrival, stream.clone()) {
        refused(shared, name, (Phase::Handshake, reason.clone()));
        return reason;
    }
    let reason = serve(shared, &stream, *key, &peer, input).await;
    let keep = !(reason == Reason::Local && shared.life() == Life::Over) && reason != Reason::HwmReached;
    if reason == Reason::HwmReached {
        shared.outbound.clear(*key, DropReason::PeerGone);
    }
    shared.dismiss(*key, &reason, keep || reason == Reason::HwmReached);
    if reason == Reason::Local {
        farewell(&stream, Duration::from_secs(1)).await;
    }
    reason
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
