//! What joins the rooms: one task owns one connection (wire + transport + queues + timers).
//!
//! `shared` is what the tasks of one socket have in common, `connection` the loop per peer, `dial` connects
//! with backoff, `accept` listens, `inproc` joins two sockets of this process, `events` is the corridor of
//! news. May use `wire`, `queue`, `transport`, the vocabulary and tokio. Knows no pattern: it calls the
//! small trait [`Pattern`] that patterns implement. Next: `socket`.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod events;
pub(crate) mod inproc;
pub(crate) mod shared;

use std::task::Poll;

use crate::event::Reason;
use crate::message::Frame;
use crate::options::SocketType;
use crate::queue::PeerKey;

/// A peer whose handshake is done, as a pattern judges it.
#[derive(Debug)]
pub(crate) struct Newcomer<'a> {
    pub(crate) key: PeerKey,
    /// Its announced routing id, if it announced a usable one.
    pub(crate) identity: Option<&'a Frame>,
    /// The id that the user chose for this connection (`connect_routing_id`).
    pub(crate) chosen: Option<&'a Frame>,
    pub(crate) socket_type: Option<SocketType>,
}

/// What a pattern does with messages that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// They are for the user.
    Deliver,
    /// The type does not receive: read, dropped, counted.
    Discard,
    /// Subscriptions in message form; the rest is dropped (PUB).
    Subscriptions,
    /// Subscriptions in message form, reported; the rest is for the user (XPUB).
    Upstream,
}

/// The engine's view of a pattern. Called from connection tasks: quick, never blocking.
pub(crate) trait Pattern: Send + Sync {
    fn inbound(&self) -> Inbound;

    /// A peer wants to take part: its id for this socket, or why not. Called for every (re)connection.
    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason>;

    /// The peer can be sent to from now on (after `attach`, on every connection).
    fn ready(&self, _key: PeerKey) {}

    /// The peer's connection ended (its queue may live on). Returns the topics nobody wants any more.
    fn detach(&self, key: PeerKey) -> Vec<Vec<u8>>;

    /// What this socket has to tell every new peer first: its subscriptions.
    fn topics(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// The peer subscribes or cancels. Returns whether the user is to be told (XPUB).
    fn subscription(&self, _key: PeerKey, _topic: &[u8], _subscribe: bool) -> Result<News, Reason> {
        Ok(News::default())
    }
}

/// What a change of subscriptions means for others.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct News {
    /// It changed something: an event is due.
    pub(crate) changed: bool,
    /// The user of an XPUB is told.
    pub(crate) report: bool,
}

/// The first of two futures to end; the other one is dropped.
pub(crate) async fn either<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    std::future::poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

/// `work`, unless `refusal` comes first.
pub(crate) async fn race<T, E>(
    work: impl Future<Output = Result<T, E>>,
    refusal: impl Future<Output = E>,
) -> Result<T, E> {
    either(work, async { Err(refusal.await) }).await
}
