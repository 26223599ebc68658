//! PULL: messages of all peers, in turn.

use std::ops::{Deref, DerefMut};

use super::plain::Plain;
use super::receiver::{Filter, Receiver, SharedReceiver, stream_by_deref};
use crate::engine::pattern::Inbound;
use crate::options::SocketType;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// Receives from all of its PUSH peers, one message of each in turn (ZeroMQ's PULL, RFC 30). A peer whose first message
/// has just come has its turn within 32 messages.
///
/// Waits when: nothing is there. Drops when: never; at the receive mark it stops reading, and TCP holds the
/// sender back. Order: per peer and connection, as sent.
#[derive(Debug)]
pub struct Pull {
    receiver: Receiver,
}

impl Pull {
    pub(crate) fn from_options(built: Built) -> Pull {
        let pattern = |_: &_, _: &_, _: &_| Plain::new(Inbound::Deliver);
        let (socket, _) = Socket::assemble(SocketType::Pull, built, pattern);
        Pull { receiver: Receiver::new(socket, Filter::All) }
    }

    /// A receiver that many tasks can use: see [`Receiver::into_shared`].
    pub fn into_shared(self) -> SharedReceiver {
        self.receiver.into_shared()
    }
}

impl Deref for Pull {
    type Target = Receiver;

    fn deref(&self) -> &Receiver {
        &self.receiver
    }
}

impl DerefMut for Pull {
    fn deref_mut(&mut self) -> &mut Receiver {
        &mut self.receiver
    }
}

stream_by_deref!(Pull);
