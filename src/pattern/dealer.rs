//! DEALER: sends to its peers in turn, receives from them in turn; no envelope is made or taken.

use std::ops::{Deref, DerefMut};

use super::plain::Plain;
use super::receiver::{Filter, Receiver, stream_by_deref};
use super::sender::{Route, Sender};
use crate::engine::pattern::Inbound;
use crate::options::SocketType;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// Both halves of a socket whose messages go out by `$route`; for types that send and receive freely.
macro_rules! duplex {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            sender: Sender,
            receiver: Receiver,
        }

        impl $name {
            /// Sends a message: see [`Sender::send`].
            ///
            /// # Errors
            /// [`SendError`](crate::SendError), with the message.
            ///
            /// # Cancel safety
            /// Safe: dropped before it is done, nothing was sent.
            pub async fn send(
                &self,
                message: impl Into<crate::Message>,
            ) -> Result<crate::Receipt, crate::SendError<crate::Message>> {
                self.sender.send(message).await
            }

            /// Sends a message if that needs no waiting: see [`Sender::try_send`].
            ///
            /// # Errors
            /// [`TrySendError`](crate::TrySendError), with the message.
            pub fn try_send(
                &self,
                message: impl Into<crate::Message>,
            ) -> Result<crate::Receipt, crate::TrySendError<crate::Message>> {
                self.sender.try_send(message)
            }

            /// The sending half; the receiving one stays usable through this value.
            pub fn sender(&self) -> Sender {
                self.sender.clone()
            }

            #[cfg(feature = "blocking")]
            pub(crate) fn sending(&self) -> &Sender {
                &self.sender
            }

            /// Both halves, for two tasks.
            pub fn split(self) -> (Sender, Receiver) {
                (self.sender, self.receiver)
            }
        }

        impl Deref for $name {
            type Target = Receiver;

            fn deref(&self) -> &Receiver {
                &self.receiver
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut Receiver {
                &mut self.receiver
            }
        }

        stream_by_deref!($name);
    };
}
pub(crate) use duplex;

duplex! {
    /// Sends to its peers in turn and receives from all of them in turn (ZeroMQ's DEALER, RFC 28).
    ///
    /// Waits when: no peer has room, nothing is there. Drops when: only by `on_full`. Order: per peer. To talk
    /// to a REP, send an empty frame before the body; its reply has one, too.
    Dealer
}

impl Dealer {
    pub(crate) fn from_options(built: Built) -> Dealer {
        let pattern = |_: &_, _: &_, _: &_| Plain::new(Inbound::Deliver);
        let (socket, _) = Socket::assemble(SocketType::Dealer, built, pattern);
        Dealer { sender: Sender::new(socket.clone(), Route::Balance), receiver: Receiver::new(socket, Filter::All) }
    }
}
