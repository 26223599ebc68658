//! The time of a spool: [`Clock`] is the system's, [`SpoolClock`] what records are stamped with.
//!
//! The order of records never depends on time; limits and delays do. So a spool's time is the wall clock at open
//! plus monotonic time since, never before the last record, and a step of the wall clock is reported, not followed.
//! [`SystemClock`] is the one place in the library that asks for the wall clock. Absent: timers, waiting.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub(crate) trait Clock: Send + Sync {
    /// Microseconds since 1970. May step either way.
    fn wall(&self) -> i64;

    /// Since some start. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The operating system's time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// From here on a difference between wall clock and spool clock is a step.
const STEP: i64 = 5_000_000;

/// The time of one spool, from open to close.
pub(crate) struct SpoolClock {
    clock: Arc<dyn Clock>,
    /// Spool time at `started`.
    base: i64,
    started: Duration,
    /// How far the wall clock is ahead of ours, as last known.
    ahead: i64,
}

impl SpoolClock {
    /// A clock that starts now, but not before `last`, the time of the last record.
    pub(crate) fn new(clock: Arc<dyn Clock>, last: i64) -> SpoolClock {
        let wall = clock.wall();
        let base = wall.max(last);
        SpoolClock { started: clock.monotonic(), base, ahead: wall.saturating_sub(base), clock }
    }

    /// Microseconds since 1970. Never goes back.
    pub(crate) fn now(&self) -> i64 {
        self.base.saturating_add(micros(self.clock.monotonic().saturating_sub(self.started)))
    }

    /// By how many milliseconds the wall clock stepped (back: negative) since this was last asked. Each step over
    /// 5 s is told once; our time does not follow it.
    pub(crate) fn step(&mut self) -> Option<i64> {
        let ahead = self.clock.wall().saturating_sub(self.now());
        let step = ahead.saturating_sub(self.ahead);
        if step.saturating_abs() <= STEP {
            return None;
        }
        self.ahead = ahead;
        Some(step / 1000)
    }
}

/// Microseconds as the format has them.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A clock that stands still until a test moves it. Clones are the same clock.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(crate) struct ManualClock(Arc<std::sync::Mutex<(i64, Duration)>>);

#[cfg(test)]
impl ManualClock {
    pub(crate) fn new(wall: i64) -> ManualClock {
        ManualClock(Arc::new(std::sync::Mutex::new((wall, Duration::ZERO))))
    }

    /// Time goes by.
    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        now.0 += micros(by);
        now.1 += by;
    }

    /// The wall clock is set; no time goes by.
    pub(crate) fn set_wall(&self, wall: i64) {
        self.0.lock().unwrap().0 = wall;
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn wall(&self) -> i64 {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn spool_time_is_the_wall_clock_at_open_and_monotonic_time_since() {
        let clock = ManualClock::new(1_000);
        let spool = SpoolClock::new(Arc::new(clock.clone()), 0);
        assert_eq!(spool.now(), 1_000);
        clock.advance(Duration::from_secs(3));
        assert_eq!(spool.now(), 3_001_000);
    }

    #[test]
    fn spool_time_never_starts_before_the_last_record() {
        let clock = ManualClock::new(DAY);
        let mut spool = SpoolClock::new(Arc::new(clock.clone()), 2 * DAY);
        assert_eq!(spool.now(), 2 * DAY);
        clock.advance(Duration::from_micros(7));
        assert_eq!(spool.now(), 2 * DAY + 7);
        assert_eq!(spool.step(), None, "what was so at open is no step");
    }

    #[test]
    fn a_step_of_a_day_is_told_once_each_way_and_not_followed() {
        let clock = ManualClock::new(10 * DAY);
        let mut spool = SpoolClock::new(Arc::new(clock.clone()), 0);
        assert_eq!(spool.step(), None);

        clock.set_wall(11 * DAY);
        assert_eq!(spool.step(), Some(DAY / 1000));
        assert_eq!(spool.step(), None);
        assert_eq!(spool.now(), 10 * DAY);

        clock.set_wall(9 * DAY);
        assert_eq!(spool.step(), Some(-2 * DAY / 1000));
        assert_eq!(spool.step(), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(spool.now(), 10 * DAY + 1_000_000);
        assert_eq!(spool.step(), None);
    }

    #[test]
    fn five_seconds_are_no_step() {
        let clock = ManualClock::new(DAY);
        let mut spool = SpoolClock::new(Arc::new(clock.clone()), 0);
        clock.set_wall(DAY + STEP);
        assert_eq!(spool.step(), None);
        clock.set_wall(DAY + STEP + 1);
        assert_eq!(spool.step(), Some(5_000));
    }

    #[test]
    fn times_at_the_ends_of_the_scale_do_not_overflow() {
        let clock = ManualClock::new(i64::MIN);
        let mut spool = SpoolClock::new(Arc::new(clock.clone()), i64::MAX);
        clock.advance(Duration::from_secs(1));
        assert_eq!(spool.now(), i64::MAX);
        clock.set_wall(i64::MAX);
        assert!(spool.step().is_some());
    }

    #[test]
    fn the_system_has_a_time_after_2020_that_goes_on() {
        assert!(SystemClock.wall() > 50 * 365 * DAY);
        let before = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= before);
    }
}
