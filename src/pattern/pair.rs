//! PAIR: one peer, both ways.

use std::ops::{Deref, DerefMut};

use super::dealer::duplex;
use super::plain::Exclusive;
use super::receiver::{Filter, Receiver, stream_by_deref};
use super::sender::{Route, Sender};
use crate::options::SocketType;
use crate::socket::Socket;
use crate::socket::durable::Built;

duplex! {
    /// Talks to exactly one PAIR peer (ZeroMQ's PAIR, RFC 31).
    ///
    /// Waits when: the peer has no room or is not there, nothing is there to receive. Drops when: only by
    /// `on_full`. A second peer is refused with `PairTaken` until the first has left.
    Pair
}

impl Pair {
    pub(crate) fn from_options(built: Built) -> Pair {
        let pattern = |_: &_, _: &_, _: &_| Exclusive::default();
        let (socket, _) = Socket::assemble(SocketType::Pair, built, pattern);
        Pair { sender: Sender::new(socket.clone(), Route::Balance), receiver: Receiver::new(socket, Filter::All) }
    }
}
