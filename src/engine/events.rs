//! The corridor of news from connections to whoever watches: [`Events`] and its reading end [`Monitor`].
//!
//! Never holds a socket back: each monitor has a bounded queue that drops its oldest event and counts.
//! Drops of messages are merged, so that a flood of them is one event a second per peer and reason.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::event::{DropReason, Event};
use crate::queue::peers::Witness;

/// Events kept for a monitor that is read slowly.
const CAPACITY: usize = 1024;
/// Drops of one peer and reason are reported at most this often.
const MERGE: Duration = Duration::from_secs(1);
const LINES_PER_SECOND: u32 = 10;
/// Events kept for the first monitor.
const EARLY: usize = 256;

#[derive(Default)]
struct Feed {
    queue: VecDeque<Event>,
    missed: u64,
    waker: Option<Waker>,
    closed: bool,
}

type DropKey = (String, DropReason);

#[derive(Default)]
struct Merge {
    reported: HashMap<DropKey, Instant>,
    waiting: HashMap<DropKey, u64>,
    pruned: Option<Instant>,
}

/// The sending end: one per socket.
#[derive(Default)]
pub(crate) struct Events {
    /// False while nobody watches: then news costs one load.
    watched: AtomicBool,
    /// The socket is over; changes under the lock of `feeds`.
    closed: AtomicBool,
    feeds: Mutex<Vec<Weak<Mutex<Feed>>>>,
    /// What happened before anybody could watch: opening a spool. The first monitor gets it.
    early: Mutex<Vec<Event>>,
    merge: Mutex<Merge>,
    lines: Mutex<Lines>,
}

/// Log lines of the present second.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    count: u32,
    swallowed: u64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    pub(crate) fn emit(&self, event: Event) {
        self.log(&event);
        self.tell(event);
    }

    /// As [`Events::emit`], and kept for the first monitor if there is none yet: nobody may miss a loss.
    pub(crate) fn emit_kept(&self, event: Event) {
        self.log(&event);
        if self.is_watched() {
            return self.tell(event);
        }
        let mut early = lock(&self.early);
        if early.len() < EARLY {
            early.push(event);
        }
    }

    /// Tells the monitors, and nobody else: the queues call this under their lock, where a collector of logs
    /// would hold every sender up.
    fn tell(&self, event: Event) {
        if !self.is_watched() {
            return;
        }
        let mut feeds = lock(&self.feeds);
        feeds.retain(|feed| feed.strong_count() > 0);
        if feeds.is_empty() {
            self.watched.store(false, Ordering::Relaxed);
        }
        for feed in feeds.iter().filter_map(Weak::upgrade) {
            let waker = {
                let mut feed = lock(&feed);
                if feed.queue.len() >= CAPACITY {
                    feed.queue.pop_front();
                    feed.missed += 1;
                }
                feed.queue.push_back(event.clone());
                feed.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// A line for whoever collects logs, ten a second at most: peers must not fill disks.
    fn log(&self, event: &Event) {
        if !tracing::enabled!(target: "ginnel", tracing::Level::DEBUG) {
            return;
        }
        let mut lines = lock(&self.lines);
        let now = Instant::now();
        if lines.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            if lines.swallowed > 0 {
                tracing::debug!(target: "ginnel", count = lines.swallowed, "further events were not logged");
            }
            *lines = Lines { since: Some(now), count: 0, swallowed: 0 };
        }
        if lines.count < LINES_PER_SECOND {
            lines.count += 1;
            tracing::debug!(target: "ginnel", event = event.name(), "{event:?}");
        } else {
            lines.swallowed += 1;
        }
    }

    pub(crate) fn watch(self: &Arc<Events>) -> Monitor {
        let mut feeds = lock(&self.feeds);
        let closed = self.closed.load(Ordering::Relaxed);
        let queue = std::mem::take(&mut *lock(&self.early)).into();
        let feed = Arc::new(Mutex::new(Feed { queue, closed, ..Feed::default() }));
        if !closed {
            feeds.push(Arc::downgrade(&feed));
            self.watched.store(true, Ordering::Relaxed);
        }
        drop(feeds);
        Monitor { feed, events: self.clone(), timer: None }
    }

    /// Ends all monitors once they are read out.
    pub(crate) fn close(&self) {
        self.report_waiting(true);
        let mut feeds = lock(&self.feeds);
        self.closed.store(true, Ordering::Relaxed);
        for feed in feeds.drain(..).filter_map(|feed| feed.upgrade()) {
            let waker = {
                let mut feed = lock(&feed);
                feed.closed = true;
                feed.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
        self.watched.store(false, Ordering::Relaxed);
    }

    /// Reports merged drops that are due. Returns when to look again.
    fn report_waiting(&self, all: bool) -> Option<Instant> {
        let now = Instant::now();
        let (due, next) = {
            let mut merge = lock(&self.merge);
            let Merge { reported, waiting, pruned } = &mut *merge;
            let is_due = |key: &DropKey| all || reported.get(key).is_none_or(|last| now.duration_since(*last) >= MERGE);
            let due: Vec<(DropKey, u64)> = waiting.extract_if(|key, _| is_due(key)).collect();
            for (key, _) in &due {
                reported.insert(key.clone(), now);
            }
            let next = waiting.keys().filter_map(|key| reported.get(key)).min().map(|last| *last + MERGE);
            if reported.len() > CAPACITY && pruned.is_none_or(|last| now.duration_since(last) >= MERGE) {
                // An old report changes nothing any more: peers that come and go leave nothing behind.
                reported.retain(|_, last| now.duration_since(*last) < MERGE);
                *pruned = Some(now);
            }
            (due, next)
        };
        for ((peer, reason), count) in due {
            self.tell(Event::Dropped { peer, reason, count });
        }
        next
    }
}

impl Witness for Events {
    fn high_water(&self, peer: &str, reached: bool) {
        if self.is_watched() {
            let peer = peer.to_owned();
            self.tell(if reached { Event::HwmReached { peer } } else { Event::HwmCleared { peer } });
        }
    }

    fn dropped(&self, peer: &str, reason: DropReason, count: u64) {
        if !self.is_watched() {
            return;
        }
        *lock(&self.merge).waiting.entry((peer.to_owned(), reason)).or_default() += count;
        self.report_waiting(false);
    }
}

/// The news of one socket, from the moment of the call on: a stream of [`Event`]s.
///
/// A monitor that is read too slowly loses the oldest events and is told how many by [`Event::Missed`];
/// the socket never waits for it. The stream ends when the socket is closed.
#[must_use = "events are lost when nobody reads the monitor"]
pub struct Monitor {
    feed: Arc<Mutex<Feed>>,
    events: Arc<Events>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Monitor {
    /// The next event; waits for one. `None` when the socket is closed and everything was read.
    ///
    /// # Cancel safety
    /// Safe: an event is taken only when this returns it.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// An event that is already there.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.report_waiting(false);
        take(&mut lock(&self.feed))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let next_report = self.events.report_waiting(false);
            {
                let mut feed = lock(&self.feed);
                if let Some(event) = take(&mut feed) {
                    return Poll::Ready(Some(event));
                }
                if feed.closed {
                    return Poll::Ready(None);
                }
                feed.waker = Some(cx.waker().clone());
            }
            let Some(at) = next_report.filter(|at| !super::park::look_again_at(*at)) else { return Poll::Pending };
            let timer = self.timer.insert(Box::pin(tokio::time::sleep_until(at.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

fn take(feed: &mut Feed) -> Option<Event> {
    if feed.missed > 0 {
        return Some(Event::Missed { count: std::mem::take(&mut feed.missed) });
    }
    feed.queue.pop_front()
}

impl futures_core::Stream for Monitor {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_recv(cx)
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monitor")
    }
}
