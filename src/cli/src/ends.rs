//! Two small traits over the library's senders and receivers, so that one loop serves every socket type.
//!
//! A ROUTER's peer id is the first frame of a record, both ways.

use ginnel::{Delivery, Frame, Message, PeerId, RecvError, SendError, TryRecvError, TrySendError};

use crate::formats::Origin;

/// Something that sends whole records.
pub(crate) trait Send {
    async fn send(&self, message: Message) -> Result<(), SendError<Message>>;

    fn try_send(&self, message: Message) -> Result<(), TrySendError<Message>>;
}

/// Something that receives, and may know from whom.
pub(crate) trait Receive {
    async fn recv(&mut self) -> Result<Received, RecvError>;

    fn try_recv(&mut self) -> Result<Received, TryRecvError>;
}

/// A message, the peer that a ROUTER names with it, and how it was delivered.
pub(crate) struct Received {
    pub(crate) peer: Option<PeerId>,
    pub(crate) message: Message,
    /// What has to be said to be done, under a durable name.
    pub(crate) delivery: Option<Delivery>,
}

impl Received {
    /// The frames of the record: the peer id first where there is one.
    pub(crate) fn record(&self) -> std::borrow::Cow<'_, [Frame]> {
        match &self.peer {
            None => (&*self.message).into(),
            Some(peer) => {
                let id = Frame::from(peer.as_ref());
                std::iter::once(id).chain(self.message.iter().cloned()).collect::<Vec<_>>().into()
            }
        }
    }
}

impl Received {
    /// What an envelope says besides.
    pub(crate) fn origin(&self) -> Origin<'_> {
        let offset = self.delivery.as_ref().and_then(Delivery::sequence);
        Origin { offset, ..Origin::peer(self.peer.as_ref().map(AsRef::as_ref)) }
    }
}

impl From<Delivery> for Received {
    fn from(delivery: Delivery) -> Received {
        Received { peer: None, message: delivery.message().clone(), delivery: Some(delivery) }
    }
}

impl From<Message> for Received {
    fn from(message: Message) -> Received {
        Received { peer: None, message, delivery: None }
    }
}

impl From<(PeerId, Message)> for Received {
    fn from((peer, message): (PeerId, Message)) -> Received {
        Received { peer: Some(peer), message, delivery: None }
    }
}

macro_rules! send {
    ($($type:ty),*) => {$(
        impl Send for $type {
            async fn send(&self, message: Message) -> Result<(), SendError<Message>> {
                <$type>::send(self, message).await.map(drop)
            }

            fn try_send(&self, message: Message) -> Result<(), TrySendError<Message>> {
                <$type>::try_send(self, message).map(drop)
            }
        }
    )*};
}

macro_rules! receive {
    ($($type:ty),*) => {$(
        impl Receive for $type {
            async fn recv(&mut self) -> Result<Received, RecvError> {
                <$type>::recv(self).await.map(Received::from)
            }

            fn try_recv(&mut self) -> Result<Received, TryRecvError> {
                <$type>::try_recv(self).map(Received::from)
            }
        }
    )*};
}

send!(ginnel::Sender);
receive!(ginnel::Receiver, ginnel::RouterReceiver);

impl Send for ginnel::RouterSender {
    async fn send(&self, message: Message) -> Result<(), SendError<Message>> {
        match split_id(&message) {
            Some((peer, rest)) => self.send_to(&peer, rest).await.map(drop).map_err(|e| e.map(|_| message)),
            None => Err(SendError::NoRoute(message)),
        }
    }

    fn try_send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        match split_id(&message) {
            Some((peer, rest)) => self.try_send_to(&peer, rest).map(drop).map_err(|e| e.map(|_| message)),
            None => Err(TrySendError::NoRoute(message)),
        }
    }
}

/// The peer id and the rest; `None` when there is no rest.
pub(crate) fn split_id(message: &Message) -> Option<(PeerId, Message)> {
    let (id, rest) = message.split_first()?;
    Some((PeerId::from(&**id), Message::from_frames(rest.iter().cloned())?))
}

/// A receiver under a durable name.
pub(crate) struct Held<'a>(pub(crate) &'a mut ginnel::Receiver);

impl Receive for Held<'_> {
    async fn recv(&mut self) -> Result<Received, RecvError> {
        self.0.recv_delivery().await.map(Received::from)
    }

    fn try_recv(&mut self) -> Result<Received, TryRecvError> {
        self.0.try_recv_delivery().map(Received::from)
    }
}
