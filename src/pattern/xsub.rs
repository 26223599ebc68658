//! XSUB: SUB without a filter of its own, which can also send upstream.

use std::ops::{Deref, DerefMut};

use super::dealer::duplex;
use super::receiver::{Filter, Receiver, stream_by_deref};
use super::sender::{Route, Sender};
use super::subscribe::assemble;
use crate::error::SendError;
use crate::options::SocketType;
use crate::socket::durable::Built;

duplex! {
    /// Subscribes like SUB, by `subscribe` or by sending byte 1 (subscribe) or 0 (cancel) and the topic; any
    /// other message goes upstream to all publishers (an XPUB receives it, a PUB drops it) (ZeroMQ's XSUB, RFC 29).
    ///
    /// Drops when: a publisher is at its high-water mark (counted for it). It does not filter what it receives.
    XSub
}

impl XSub {
    pub(crate) fn from_options(built: Built) -> XSub {
        let (socket, subscriber) = assemble(SocketType::XSub, built);
        let sender = Sender::new(socket.clone(), Route::Upstream(subscriber));
        XSub { sender, receiver: Receiver::new(socket, Filter::All) }
    }

    /// Different prefixes that are subscribed.
    pub fn topic_count(&self) -> usize {
        self.sender.topic_count()
    }

    /// Wants messages whose first frame starts with `prefix`; the empty prefix is everything. Counted: two of
    /// one need two cancels.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn subscribe(&self, prefix: impl AsRef<[u8]>) -> Result<(), SendError<()>> {
        self.sender.change_subscription(prefix.as_ref(), true)
    }

    /// Takes one subscribe back. One that never was is no error.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn unsubscribe(&self, prefix: impl AsRef<[u8]>) -> Result<(), SendError<()>> {
        self.sender.change_subscription(prefix.as_ref(), false)
    }
}
