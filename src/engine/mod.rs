//! What joins the rooms: one task owns one connection (wire + transport + queues + timers).
//!
//! `shared` is what the tasks of one socket have in common, `connection` the loop per peer, `dial` connects
//! with backoff, `accept` listens, `inproc` joins two sockets of this process, `events` is the corridor of
//! news, `park` lets a thread wait like a task. May use `wire`, `queue`, `durable`, `store`, `transport`, the vocabulary and tokio. Knows no pattern: it calls the
//! small trait in `pattern` that patterns implement. Next: `socket`.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod durable;
pub(crate) mod events;
pub(crate) mod inproc;
pub(crate) mod park;
pub(crate) mod pattern;
pub(crate) mod shared;

use std::io;
use std::task::Poll;
use std::time::Duration;

/// The first of two futures to end; the other one is dropped.
pub(crate) async fn either<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    std::future::poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
    .await
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
pub(crate) async fn race<T, E>(
    work: impl Future<Output = Result<T, E>>,
    refusal: impl Future<Output = E>,
) -> Result<T, E> {
    either(work, async { Err(refusal.await) }).await
}
