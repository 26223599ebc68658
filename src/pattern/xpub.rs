//! XPUB: PUB whose user sees the subscriptions.

use std::ops::{Deref, DerefMut};

use super::dealer::duplex;
use super::publish::assemble;
use super::receiver::{Filter, Receiver, stream_by_deref};
use super::sender::{Route, Sender};
use crate::error::WaitError;
use crate::options::SocketType;
use crate::socket::durable::Built;

duplex! {
    /// Publishes like PUB, and receives its subscribers' subscriptions as messages: byte 1 (subscribe) or 0
    /// (cancel), then the topic; and whatever an XSUB sends upstream (ZeroMQ's XPUB, RFC 29).
    ///
    /// The first subscription to a topic and the last cancel are reported; `verbose` and `verboser` report more.
    XPub
}

impl XPub {
    pub(crate) fn from_options(built: Built) -> XPub {
        let (socket, publisher) = assemble(SocketType::XPub, built);
        let sender = Sender::new(socket.clone(), Route::Publish(publisher));
        XPub { sender, receiver: Receiver::new(socket, Filter::All) }
    }

    /// Different prefixes that somebody subscribes to.
    pub fn topic_count(&self) -> usize {
        self.sender.topic_count()
    }

    /// Waits until at least `count` connected peers have a subscription.
    ///
    /// # Errors
    /// [`WaitError::Closed`] when the socket is closed first.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn wait_for_subscribers(&self, count: usize) -> Result<(), WaitError> {
        self.sender.wait_for_subscribed(count).await
    }
}
