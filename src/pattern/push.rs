//! PUSH: each message to one peer, in turn.

use std::ops::Deref;

use super::plain::Plain;
use super::sender::{Route, Sender};
use crate::engine::pattern::Inbound;
use crate::options::SocketType;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// Passes each message to one of its PULL peers, in turn (ZeroMQ's PUSH, RFC 30).
///
/// Waits when: no peer has room. Drops when: only by `on_full`. Order: per peer, as sent. Peer gone: on the
/// connecting side its queue waits for the next connection; on the binding side it is dropped and counted as
/// `PeerGone`; what the operating system had taken may be lost.
#[derive(Clone, Debug)]
pub struct Push {
    sender: Sender,
}

impl Push {
    pub(crate) fn from_options(built: Built) -> Push {
        let pattern = |_: &_, _: &_, _: &_| Plain::new(Inbound::Discard);
        let (socket, _) = Socket::assemble(SocketType::Push, built, pattern);
        let route = socket.spool().map_or(Route::Balance, |spool| Route::Log(spool, None));
        Push { sender: Sender::new(socket, route) }
    }
}

impl Deref for Push {
    type Target = Sender;

    fn deref(&self) -> &Sender {
        &self.sender
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn what_nobody_reads_is_not_kept() {
        let pull = crate::Pull::bind("tcp://127.0.0.1:*").await.unwrap();
        let push = crate::Push::connect(pull.local_endpoint().unwrap()).unwrap();
        push.wait_for_peers(1).await.unwrap();
        pull.wait_for_peers(1).await.unwrap();
        assert!(!push.inbox().has_arrivals());
        assert!(pull.inbox().has_arrivals());
    }
}
