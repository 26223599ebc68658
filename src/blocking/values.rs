//! What blocking sockets hand out: requests to answer, events, spools and what is on its way into one, proxies.

use super::{Blocking, Monitor, Proxy, Responder, Sends};
use crate::engine::park::wait;
use crate::error::{SendError, SpoolError};
use crate::event::Event;
use crate::message::{Message, Receipt};
use crate::pattern::proxy::{ProxyEnd, ProxyStatistics};

impl Blocking<crate::Request> {
    /// Answers. Never waits.
    ///
    /// # Errors
    /// [`SendError`], with the message: `NoRoute` when the asker is gone, `Closed`; only with `on_full(Block)`,
    /// `Timeout` when the asker has no room.
    pub fn reply(self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        self.into_parts().1.reply(message)
    }

    /// The content and the right to answer, apart.
    pub fn into_parts(self) -> (Message, Responder) {
        let (message, responder) = self.0.into_parts();
        (message, Blocking(responder))
    }
}

impl Blocking<crate::Responder> {
    /// Answers: see [`Request::reply`](Blocking::reply).
    ///
    /// # Errors
    /// As there.
    pub fn reply(self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        self.0.answer(message.into())
    }
}

/// The next event; waits for one. Ends when the socket is closed and everything was read. `try_recv` does not wait.
impl Iterator for Monitor {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        wait(self.0.recv())
    }
}

impl Blocking<crate::Pending> {
    /// Waits until the message is accepted: on disk as far as `sync` says.
    ///
    /// # Errors
    /// `DurabilityUnknown`: the spool failed on the way.
    pub fn wait(self) -> Result<Receipt, SendError<()>> {
        wait(self.0)
    }
}

impl Blocking<crate::Spool> {
    /// Makes a durable name before anyone connects with it: see [`Spool::declare`](crate::Spool::declare).
    ///
    /// # Errors
    /// [`SpoolError`]: no name, too many names, or it could not be saved.
    pub fn declare<P: AsRef<[u8]>>(&self, name: &str, prefixes: impl IntoIterator<Item = P>) -> Result<(), SpoolError> {
        wait(self.0.declare(name, prefixes))
    }

    /// Gives up a durable name for good: what was kept for it alone goes. False when there is none.
    ///
    /// # Errors
    /// [`SpoolError::Io`]: it could not be saved.
    pub fn drop_name(&self, name: &str) -> Result<bool, SpoolError> {
        wait(self.0.drop_name(name))
    }
}

/// Passes whole messages between `front` and `back`, both ways where the types allow it: see
/// [`ginnel::proxy`](crate::proxy). It runs in the thread that calls [`run`](Blocking::run), until a socket is closed
/// or its `control()` says `terminate`.
pub fn proxy<F: Into<ProxyEnd>, B: Into<ProxyEnd>>(front: Blocking<F>, back: Blocking<B>) -> Proxy {
    Blocking(crate::pattern::proxy::proxy(front.0, back.0))
}

impl Blocking<crate::Proxy> {
    /// Sends a copy of every message to `capture`, too (a PUSH, PUB, DEALER or PAIR). It can hold the proxy back.
    pub fn capture<S: Sends>(self, capture: &Blocking<S>) -> Proxy {
        Blocking(self.0.capture(capture.0.sending().clone()))
    }

    /// Passes messages on until the end; says how many.
    pub fn run(self) -> ProxyStatistics {
        wait(self.0.run())
    }
}
