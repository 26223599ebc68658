//! What joins the rooms: one task owns one connection (wire + transport + queues + timers).
//!
//! `shared` is what the tasks of one socket have in common, `connection` the loop per peer, `read_buffer` what it
//! reads into, `dial` connects with backoff, `accept` listens, `inproc` joins two sockets of this process, `events` is
//! the corridor of news, `stage` how far something has come, `park` lets a thread wait like a task. May use `wire`,
//! `queue`, `durable`, `store`, `transport`, the vocabulary and tokio. Knows no pattern: it calls the small trait in
//! `pattern` that patterns implement. Next: `socket`.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod durable;
pub(crate) mod events;
pub(crate) mod inproc;
pub(crate) mod park;
pub(crate) mod pattern;
mod read_buffer;
pub(crate) mod shared;
pub(crate) mod stage;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// The first of two futures to end. They stay where they are pinned: an `async fn` would keep room for each argument
/// twice, and for one that waits in another twice as much again.
pub(crate) fn either<T>(
    mut one: Pin<&mut impl Future<Output = T>>,
    mut other: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    poll_fn(move |cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
}

/// Runs `work` for at most `limit`.
pub(crate) async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(work.await),
        Some(limit) if park::is_waiting() => park::within(limit, work).await,
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
    }
}

/// Runs what may block: away from the tasks, or here in a thread that waits for nothing else.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    if park::is_waiting() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Lets other tasks run. A thread that waits holds none up.
pub(crate) async fn yield_now() {
    if !park::is_waiting() {
        tokio::task::yield_now().await;
    }
}

/// `work`, unless `refusal` comes first.
pub(crate) fn race<T, E>(
    mut work: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut refusal: Pin<&mut impl Future<Output = E>>,
) -> impl Future<Output = Result<T, E>> {
    poll_fn(move |cx| match work.as_mut().poll(cx) {
        Poll::Pending => refusal.as_mut().poll(cx).map(Err),
        ready => ready,
    })
}
