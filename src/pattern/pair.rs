//! PAIR: one peer, both ways.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::dealer::duplex;
use super::plain::Exclusive;
use super::receiver::{Filter, Receiver, stream_by_deref};
use super::sender::{Route, Sender};
use crate::error::OptionError;
use crate::options::{Options, SocketType};
use crate::socket::Socket;

duplex! {
    /// Talks to exactly one PAIR peer (ZeroMQ's PAIR, RFC 31).
    ///
    /// Waits when: the peer has no room or is not there, nothing is there to receive. Drops when: only by
    /// `on_full`. A second peer is refused with `PairTaken` until the first has left.
    Pair
}

impl Pair {
    pub(crate) fn from_options(options: Options) -> Result<Pair, OptionError> {
        let pattern = |_: &_, _: &_, _: &_, _: &_| Arc::new(Exclusive::default()) as _;
        let socket = Socket::assemble(SocketType::Pair, options, pattern);
        Ok(Pair { sender: Sender::new(socket.clone(), Route::Balance), receiver: Receiver::new(socket, Filter::All) })
    }
}
