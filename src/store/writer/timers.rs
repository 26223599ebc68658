//! What is due beside batches: numbers, marks, syncs by time, the registry, limits, expiry, the next file, delayed
//! messages; and the end.
//!
//! Time is the clock's monotonic one, so that tests can move it. Next: `thread`.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::{Stop, Writer, failed, stop};
use crate::event::Event;
use crate::options::spool::Sync;
use crate::store::log::Turn;
use crate::store::log::front::{Gate, STEP};
use crate::store::log::shared::{Shared, locked};
use crate::store::record;
use crate::store::storage::write_all_at;

/// A sync without a batch behind it is marked after so long.
const QUIET: Duration = Duration::from_millis(100);
/// The registry is saved at most so often, unless somebody asks.
const SAVE: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Names are looked at for the first time so long after opening: not at once, so that a holder that was connected
/// until the end, or could not be while nobody was there, has the time to come back.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// Limits of age are looked at so often.
const TICK: Duration = Duration::from_secs(1);

/// When things are due.
pub(super) struct Timers {
    save_at: Option<Duration>,
    tick_at: Duration,
    hour_at: Duration,
    delay_at: Option<Duration>,
}

impl Timers {
    pub(super) fn new(now: Duration) -> Timers {
        Timers { save_at: None, tick_at: now, hour_at: now + FIRST_LOOK, delay_at: None }
    }
}

impl Writer {
    /// Reserves the next step of numbers when half of the last one is left.
    pub(super) fn reserve(&mut self, shared: &Arc<Shared>) -> Result<bool, Stop> {
        let front = locked(&shared.front);
        if !front.wants_numbers() || front.gate != Gate::Open {
            return Ok(false);
        }
        let until = front.reserved.max(front.next).saturating_add(STEP);
        drop(front);
        shared.save_with(false, |registry| registry.reserved_until = until).map_err(|e| stop(&e, "names"))?;
        locked(&shared.front).reserved = until;
        Ok(true)
    }

    /// Saves the registry where it must be saved.
    pub(super) fn save(&mut self, shared: &Arc<Shared>, both: bool) -> Result<(), Stop> {
        self.timers.save_at = None;
        shared.save(both).map_err(|e| stop(&e, "names"))
    }

    /// Does what is due. True if something was. A disk without space holds up nothing that needs none: it is told of
    /// when all else is done.
    pub(super) fn run_timers(&mut self, shared: &Arc<Shared>, now: Duration, nudged: bool) -> Result<bool, Stop> {
        let mut full = None;
        let mut worked = aside(&mut full, self.release(shared))?;
        worked |= self.sync_by_time(shared, now)?;
        worked |= self.mark_quiet(shared, now)?;
        worked |= self.save_by_time(shared, now)?;
        if now >= self.timers.tick_at && self.has_ticks(shared) {
            self.timers.tick_at = now + TICK;
            worked |= aside(&mut full, self.keep_limits(shared))?;
            self.tell_step(shared);
        }
        if now >= self.timers.hour_at {
            self.timers.hour_at = now + HOUR;
            worked |= aside(&mut full, self.expire(shared))?;
            self.tell_step(shared);
        }
        worked |= self.prepare(shared);
        if nudged || self.timers.delay_at.is_some_and(|at| now >= at) {
            let (moved, next) = shared.run_delayed();
            worked |= moved;
            self.timers.delay_at = next.map(|wait| now.saturating_add(wait));
        }
        full.map_or(Ok(worked), Err)
    }

    fn has_ticks(&self, shared: &Shared) -> bool {
        let options = &shared.options;
        options.max_age.is_some() || options.max_lag_age.is_some() || options.max_lag_bytes > 0
    }

    fn sync_by_time(&mut self, shared: &Arc<Shared>, now: Duration) -> Result<bool, Stop> {
        let Sync::Every(every) = shared.options.sync else { return Ok(false) };
        if self.unsynced_since.is_none_or(|since| now < since.saturating_add(every)) {
            return Ok(false);
        }
        self.sync(shared, now)?;
        Ok(true)
    }

    /// A mark alone, so that what was synced last is known to be safe. It is not worth a sync of its own.
    fn mark_quiet(&mut self, shared: &Arc<Shared>, now: Duration) -> Result<bool, Stop> {
        let Some((sequence, offset, _)) = self.mark.filter(|mark| now >= mark.2 + QUIET) else { return Ok(false) };
        let end = self.offset + (record::MARK + record::SEAL) as u64;
        if self.batch.is_some() {
            return Ok(false);
        }
        if end > shared.segment_size || shared.options.sync == Sync::Never {
            self.mark = None;
            return Ok(false);
        }
        let mut mark = BytesMut::with_capacity(record::MARK);
        record::encode_mark(&mut mark, self.last, self.last_time, sequence, offset);
        record::fill_checksums(&mut mark, self.salt);
        self.mark = None;
        match write_all_at(&*self.file, &mark, self.offset) {
            Ok(()) => {
                self.offset += mark.len() as u64;
                // A seal behind it will say that it is safe.
                self.unsynced += mark.len() as u64;
            }
            // There is no need for it.
            Err(e) => drop(e),
        }
        Ok(true)
    }

    fn save_by_time(&mut self, shared: &Arc<Shared>, now: Duration) -> Result<bool, Stop> {
        match self.timers.save_at {
            None if locked(&shared.books).dirty => self.timers.save_at = Some(now + SAVE),
            Some(at) if now >= at => {
                self.tell_step(shared);
                return match self.save(shared, false) {
                    // A registry that does not fit on a full disk is tried again.
                    Err(Stop::Full(..)) => Ok(false),
                    saved => saved.map(|()| true),
                };
            }
            _ => {}
        }
        Ok(false)
    }

    fn tell_step(&self, shared: &Shared) {
        let step = locked(&shared.front).clock.step();
        if let Some(by_ms) = step {
            shared.witness.event(Event::ClockStep { by_ms });
        }
    }

    /// When something is due next.
    pub(super) fn deadline(&self, shared: &Shared) -> Option<Duration> {
        let every = match (shared.options.sync, self.unsynced_since) {
            (Sync::Every(every), Some(since)) => Some(since.saturating_add(every)),
            _ => None,
        };
        let quiet = self.mark.filter(|_| self.batch.is_none()).map(|mark| mark.2 + QUIET);
        let tick = self.has_ticks(shared).then_some(self.timers.tick_at);
        let timers = [self.timers.save_at, tick, Some(self.timers.hour_at), self.timers.delay_at, self.retry_at];
        [every, quiet].into_iter().chain(timers).flatten().min()
    }

    /// The last turn: all is written.
    pub(super) fn finish(&mut self, shared: &Arc<Shared>, gate: Gate) -> Turn {
        if gate == Gate::Abandoned {
            return self.end(Ok(()));
        }
        match self.close(shared) {
            Ok(()) => self.end(Ok(())),
            Err(Stop::Failed(error)) => self.fail(shared, &error),
            Err(Stop::Full(..)) => self.end(Err("no space".into())),
        }
    }

    fn close(&mut self, shared: &Arc<Shared>) -> Result<(), Stop> {
        shared.close_nested().map_err(|e| failed(&e, "close"))?;
        // What was planned ahead is not needed.
        self.file.set_len(self.offset).map_err(|e| failed(&e, "cut"))?;
        self.file.sync().map_err(|e| failed(&e, "sync"))?;
        self.is_safe(shared, self.last, self.record);
        let spare = locked(&shared.books).spare.take();
        if let Some(spare) = spare {
            let _ = shared.storage.remove(spare.name);
        }
        let last = shared.newest();
        let saved = shared.save_with(false, |registry| (registry.clean, registry.last) = (true, last));
        saved.map_err(|e| failed(&e, "names"))
    }
}

/// Keeps a disk without space for later.
fn aside(full: &mut Option<Stop>, result: Result<bool, Stop>) -> Result<bool, Stop> {
    match result {
        Err(stop @ Stop::Full(..)) => {
            full.get_or_insert(stop);
            Ok(false)
        }
        other => other,
    }
}
