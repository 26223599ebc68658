//! Signs of life (RFC 37, "Heartbeating"): when to PING, and when a silent peer is given up. Sans-IO.
//!
//! Two clocks run from the peer's last byte. One is ours: a peer that answers no PING within the timeout is
//! dead, unless its silence may be our own doing. The other is the TTL that the peer asked for in its last
//! PING. Times are arguments; deadlines come from `poll_timeout`. Bytes of PING and PONG are `command`'s.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Version;
use crate::options::HeartbeatOptions;

/// libzmq multiplies the TTL by 100 in 16 bits: above this it would give us up at once.
const MAX_TTL: u16 = 655;
/// A poll so much later than it was due means that this process stood still (suspended, starved): what the
/// peers sent meanwhile is not read yet, so nobody may be given up for it.
const STALL: Duration = Duration::from_secs(1);

/// Why a peer's silence may be our doing, at the moment of a poll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Paused {
    /// We do not read from the peer (its queue here is full).
    pub(crate) reading: bool,
    /// Our writes to the peer are blocked.
    pub(crate) writing: bool,
    /// Messages were written to the peer since its last byte.
    pub(crate) wrote_since_receive: bool,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Write a PING with these fields.
    SendPing {
        /// Tenths of a second.
        ttl: u16,
        /// Comes back in the PONG.
        context: Bytes,
    },
    /// The peer is to be given up, with reason `Timeout`.
    Expired,
}

/// The heartbeat of one connection, from the end of its handshake.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// `None`: no PING is sent and silence is no reason.
    interval: Option<Duration>,
    timeout: Duration,
    ttl: u16,
    next_ping: Option<Instant>,
    /// The peer's last byte, or the last moment at which its silence was excused.
    quiet_since: Instant,
    /// The first PING that was sent since `quiet_since`.
    pinged: Option<Instant>,
    /// The same for the peer's TTL, which fewer things excuse.
    ttl_since: Instant,
    /// What the peer's last PING asked for.
    peer_ttl: Option<Duration>,
    /// Whether the peer sends PINGs of its own, so that its silence means something even under load.
    peer_pings: bool,
    counter: u32,
    /// The last PING, while its PONG is awaited.
    awaited: Option<(u32, Instant)>,
}

impl Heartbeat {
    /// PINGs go to 3.1 peers only: 3.0 never had them, and an idle peer that cannot answer must not expire.
    pub(crate) fn new(options: &HeartbeatOptions, version: Version, now: Instant) -> Heartbeat {
        let on = version >= Version::V3_1 && !options.interval.is_zero();
        let interval = on.then_some(options.interval);
        Heartbeat {
            interval,
            timeout: options.timeout,
            ttl: tenths(options.ttl),
            next_ping: interval.and_then(|interval| now.checked_add(interval)),
            quiet_since: now,
            pinged: None,
            ttl_since: now,
            peer_ttl: None,
            peer_pings: false,
            counter: 0,
            awaited: None,
        }
    }

    /// Bytes came from the peer, whatever they mean. Call it before the handlers of what is in them.
    #[inline]
    pub(crate) fn handle_received(&mut self, now: Instant) {
        self.quiet_since = now;
        self.ttl_since = now;
        self.pinged = None;
    }

    /// The peer sent a PING: from now on `ttl` tenths of silence are its own word for being dead; 0 is never.
    pub(crate) fn handle_ping(&mut self, ttl: u16) {
        self.peer_pings = true;
        let millis = u64::from(ttl).saturating_mul(100);
        self.peer_ttl = (ttl > 0).then(|| Duration::from_millis(millis));
    }

    /// The peer sent a PONG: the round trip, if it answers our last PING.
    pub(crate) fn handle_pong(&mut self, context: &[u8], now: Instant) -> Option<Duration> {
        let (counter, sent) = self.awaited?;
        if context != counter.to_be_bytes() {
            return None;
        }
        self.awaited = None;
        now.checked_duration_since(sent)
    }

    /// What is to be done at `now`. Call it again until it gives `None`: when [`Heartbeat::poll_timeout`]
    /// comes, and whenever something in `paused` changes, so that a pause is noticed at both its ends.
    pub(crate) fn poll(&mut self, now: Instant, paused: Paused) -> Option<Beat> {
        if self.stalled(now) {
            self.excuse(now);
            self.ttl_since = now;
        }
        if paused.reading {
            self.ttl_since = now;
        }
        if paused.reading || paused.writing || (paused.wrote_since_receive && !self.peer_pings) {
            self.excuse(now);
        }
        let expired = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if expired(self.silence_deadline()) || expired(self.ttl_deadline()) {
            return Some(Beat::Expired);
        }
        if !expired(self.next_ping) {
            return None;
        }
        self.next_ping = self.interval.and_then(|interval| now.checked_add(interval));
        // A PING that cannot be written would only wait and tell a wrong round trip.
        if paused.writing { None } else { Some(self.ping(now)) }
    }

    /// When to poll next, if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.next_ping, self.silence_deadline(), self.ttl_deadline()].into_iter().flatten().min()
    }

    fn ping(&mut self, now: Instant) -> Beat {
        self.counter = self.counter.wrapping_add(1);
        self.awaited = Some((self.counter, now));
        self.pinged.get_or_insert(now);
        Beat::SendPing { ttl: self.ttl, context: Bytes::copy_from_slice(&self.counter.to_be_bytes()) }
    }

    fn stalled(&self, now: Instant) -> bool {
        let due = self.poll_timeout().and_then(|due| due.checked_add(STALL));
        due.is_some_and(|due| now > due)
    }

    /// The silence up to now counts for nothing.
    fn excuse(&mut self, now: Instant) {
        self.quiet_since = now;
        self.pinged = None;
    }

    /// The timeout runs from the last byte, but a PING always has time to be answered: the timeout itself,
    /// or one interval where that is shorter.
    fn silence_deadline(&self) -> Option<Instant> {
        let answer = self.interval?.min(self.timeout);
        let answered = self.pinged?.checked_add(answer)?;
        Some(self.quiet_since.checked_add(self.timeout)?.max(answered))
    }

    fn ttl_deadline(&self) -> Option<Instant> {
        self.ttl_since.checked_add(self.peer_ttl?)
    }
}

/// A TTL as PING carries it, never above what libzmq survives.
fn tenths(ttl: Duration) -> u16 {
    u16::try_from(ttl.as_millis() / 100).unwrap_or(MAX_TTL).min(MAX_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Paused = Paused { reading: false, writing: false, wrote_since_receive: false };

    fn options(interval: u64, timeout: u64) -> HeartbeatOptions {
        let seconds = Duration::from_secs;
        HeartbeatOptions { interval: seconds(interval), timeout: seconds(timeout), ttl: seconds(30) }
    }

    /// A heartbeat and its clock.
    struct Rig {
        start: Instant,
        beat: Heartbeat,
    }

    impl Rig {
        fn new(options: HeartbeatOptions) -> Rig {
            let start = Instant::now();
            Rig { start, beat: Heartbeat::new(&options, Version::V3_1, start) }
        }

        fn at(&self, tenths: u64) -> Instant {
            self.start + Duration::from_millis(tenths * 100)
        }

        /// Polls at every timeout up to `end` and says what happened when, in tenths.
        fn run(&mut self, end: u64, paused: Paused) -> Vec<(u64, &'static str)> {
            let mut seen = Vec::new();
            while let Some(due) = self.beat.poll_timeout().filter(|&due| due <= self.at(end)) {
                let when = (due - self.start).as_millis() as u64 / 100;
                while let Some(beat) = self.beat.poll(due, paused) {
                    let expired = beat == Beat::Expired;
                    seen.push((when, if expired { "expired" } else { "ping" }));
                    if expired {
                        return seen;
                    }
                }
                assert!(self.beat.poll_timeout().is_none_or(|next| next > due), "no busy loop");
            }
            seen
        }
    }

    #[test]
    fn a_silent_peer_is_pinged_then_given_up_at_the_timeout() {
        let mut rig = Rig::new(options(15, 45));
        assert_eq!(rig.run(1000, FREE), [(150, "ping"), (300, "ping"), (450, "expired")]);
    }

    #[test]
    fn a_short_timeout_runs_from_the_ping() {
        assert_eq!(Rig::new(options(15, 5)).run(1000, FREE), [(150, "ping"), (200, "expired")]);
        assert_eq!(Rig::new(options(1, 1)).run(1000, FREE), [(10, "ping"), (20, "expired")]);
    }

    #[test]
    fn any_byte_keeps_the_peer() {
        let mut rig = Rig::new(options(15, 45));
        for second in 1..20 {
            rig.run(second * 400, FREE);
            rig.beat.handle_received(rig.at(second * 400));
        }
        assert_eq!(rig.run(9000, FREE).last(), Some(&(19 * 400 + 450, "expired")));
    }

    #[test]
    fn off_means_off_and_older_peers_get_no_ping() {
        let mut rig = Rig::new(options(0, 45));
        assert_eq!(rig.run(100_000, FREE), []);
        for version in [Version::V2_0, Version::V3_0] {
            let beat = Heartbeat::new(&options(15, 45), version, rig.start);
            assert_eq!(beat.poll_timeout(), None);
        }
    }

    #[test]
    fn pauses_suspend_the_timeout_but_pings_go_on_while_not_reading() {
        let mut rig = Rig::new(options(15, 45));
        let reading = Paused { reading: true, ..FREE };
        let seen = rig.run(2000, reading);
        assert_eq!(seen.len(), 13);
        assert!(seen.iter().all(|&(_, what)| what == "ping"));
        let writing = Paused { writing: true, ..FREE };
        assert_eq!(rig.run(4000, writing), []);
        assert!(rig.run(9000, FREE).last().is_some_and(|&(_, what)| what == "expired"));
    }

    #[test]
    fn load_excuses_only_peers_that_never_pinged() {
        let loaded = Paused { wrote_since_receive: true, ..FREE };
        let mut rig = Rig::new(options(15, 45));
        assert!(rig.run(3000, loaded).iter().all(|&(_, what)| what == "ping"));
        let mut rig = Rig::new(options(15, 45));
        rig.beat.handle_ping(0);
        assert_eq!(rig.run(3000, loaded).last(), Some(&(450, "expired")));
    }

    #[test]
    fn the_peers_ttl_is_exact_beyond_what_libzmq_survives() {
        for ttl in [1, 655, 656, u16::MAX] {
            let mut rig = Rig::new(options(0, 45));
            rig.beat.handle_received(rig.at(0));
            rig.beat.handle_ping(ttl);
            assert_eq!(rig.run(100_000, FREE), [(u64::from(ttl), "expired")]);
        }
    }

    #[test]
    fn a_ttl_runs_from_the_last_byte_and_is_suspended_while_not_reading() {
        let mut rig = Rig::new(options(0, 45));
        rig.beat.handle_ping(50);
        rig.beat.handle_received(rig.at(40));
        assert_eq!(rig.beat.poll_timeout(), Some(rig.at(90)));
        assert_eq!(rig.beat.poll(rig.at(90), Paused { reading: true, ..FREE }), None);
        assert_eq!(rig.run(1000, FREE), [(140, "expired")]);
        rig.beat.handle_ping(0);
        assert_eq!(rig.beat.poll_timeout(), None);
    }

    #[test]
    fn a_standstill_of_our_own_gives_nobody_up() {
        let mut rig = Rig::new(options(15, 45));
        rig.beat.handle_ping(100);
        let late = rig.at(600);
        assert!(matches!(rig.beat.poll(late, FREE), Some(Beat::SendPing { .. })));
        assert_eq!(rig.beat.poll(late, FREE), None);
        assert_eq!(rig.run(5000, FREE).last(), Some(&(700, "expired")));
    }

    #[test]
    fn only_the_last_ping_is_timed() {
        let mut rig = Rig::new(options(1, 45));
        let ping = |rig: &mut Rig, tenths| match rig.beat.poll(rig.at(tenths), FREE) {
            Some(Beat::SendPing { ttl: 300, context }) => context,
            other => panic!("{other:?}"),
        };
        let first = ping(&mut rig, 10);
        let second = ping(&mut rig, 20);
        assert_ne!(first, second);
        assert_eq!(rig.beat.handle_pong(&first, rig.at(21)), None);
        assert_eq!(rig.beat.handle_pong(b"", rig.at(21)), None);
        assert_eq!(rig.beat.handle_pong(&second, rig.at(23)), Some(Duration::from_millis(300)));
        assert_eq!(rig.beat.handle_pong(&second, rig.at(24)), None);
    }

    #[test]
    fn the_sent_ttl_stays_below_libzmqs_overflow() {
        for (millis, sent) in [(0, 0), (99, 0), (100, 1), (65_500, 655), (65_600, 655), (u64::MAX, 655)] {
            assert_eq!(tenths(Duration::from_millis(millis)), sent);
        }
    }
}
