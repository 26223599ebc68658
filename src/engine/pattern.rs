//! What the engine asks of a pattern: the small trait [`Pattern`] and the words of its questions.
//!
//! The only part of the engine that patterns know. Plain: no task, no IO. Uses the vocabulary and peers' keys.

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
    /// Who it is, if the security mechanism says.
    pub(crate) user: Option<&'a str>,
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
