//! Receiving with a durable name: [`Receiver::recv_delivery`], and what `recv` means there.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Receiver;
use crate::engine::within;
use crate::error::{RecvError, TryRecvError};
use crate::message::Message;
use crate::options::spool::Ack;
use crate::pattern::delivery::Delivery;
use crate::queue::batch::Batch;
use crate::queue::inbox::Tag;
use crate::queue::reader::Run;

impl Receiver {
    /// Whether a message that came out of a spool is for the user. The spooler chose it by the stored prefixes; what
    /// was cancelled here meanwhile is done unseen.
    fn is_wanted_delivery(&self, message: &Message, tag: Option<&Tag>) -> bool {
        match tag {
            None => self.is_wanted(message),
            Some(tag) => {
                let topic: &[u8] = message.first().map_or(&[], |frame| frame);
                let wanted = self.filter.wants_delivery(topic);
                if !wanted {
                    tag.ledger.done(tag.sequence);
                }
                wanted
            }
        }
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Message, Option<Tag>), RecvError>> {
        self.socket.finish_hand();
        loop {
            match self.reader.poll_next(cx) {
                Poll::Ready(Ok((_, message))) => {
                    let tag = self.reader.take_tag();
                    if self.is_wanted_delivery(&message, tag.as_ref()) {
                        return Poll::Ready(Ok((message, tag)));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // Caught up: the other side may hear of it now.
                    self.socket.settle();
                    return Poll::Pending;
                }
            }
        }
    }

    fn try_delivery(&mut self) -> Result<(Message, Option<Tag>), TryRecvError> {
        self.socket.finish_hand();
        self.next_delivery()
    }

    /// One more, while those handed out before are still in use.
    fn next_delivery(&mut self) -> Result<(Message, Option<Tag>), TryRecvError> {
        loop {
            let next = self.reader.try_next();
            if next.is_err() {
                self.socket.settle();
            }
            let (_, message) = next?;
            let tag = self.reader.take_tag();
            if self.is_wanted_delivery(&message, tag.as_ref()) {
                return Ok((message, tag));
            }
        }
    }

    /// What happens to a delivery's tag when the message is handed out.
    fn hand_out(&mut self, message: Message, tag: Option<Tag>) -> Delivery {
        let Some(tag) = tag else { return Delivery::new(message, None, false) };
        match self.ack {
            Some(Ack::Manual) => return Delivery::new(message, Some(tag), true),
            Some(Ack::OnReceive) => tag.ledger.done(tag.sequence),
            _ => self.socket.hand_out(tag.clone()),
        }
        Delivery::new(message, Some(tag), false)
    }

    /// The same for a message alone.
    #[inline]
    fn hand_out_bare(&mut self, message: Message, tag: Option<Tag>) -> Message {
        match (tag, self.ack) {
            (None, _) | (_, Some(Ack::Manual)) => {}
            (Some(tag), Some(Ack::OnReceive)) => tag.ledger.done(tag.sequence),
            (Some(tag), _) => self.socket.hand_out(tag),
        }
        message
    }

    /// For `recv` and the stream.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, RecvError>> {
        if self.ack == Some(Ack::Manual) {
            return Poll::Ready(Err(RecvError::ManualAck));
        }
        self.poll_delivery(cx).map_ok(|(message, tag)| self.hand_out_bare(message, tag))
    }

    pub(super) async fn recv_held(&mut self, limit: Option<Duration>) -> Result<Message, RecvError> {
        within(limit, poll_fn(|cx| self.poll_held(cx))).await.unwrap_or(Err(RecvError::Timeout))
    }

    pub(super) fn try_recv_held(&mut self) -> Result<Message, TryRecvError> {
        if self.ack == Some(Ack::Manual) {
            return Err(TryRecvError::ManualAck);
        }
        let (message, tag) = self.try_delivery()?;
        Ok(self.hand_out_bare(message, tag))
    }

    /// All of a batch is done when the next one is asked for.
    pub(super) async fn recv_batch_held(
        &mut self,
        batch: &mut Batch,
        max: usize,
        limit: Option<Duration>,
    ) -> Result<usize, RecvError> {
        let first = self.recv_held(limit).await?;
        batch.push(Run::Value(first));
        while batch.len() < max.max(1) {
            let Ok((message, tag)) = self.next_delivery() else { break };
            batch.push(Run::Value(self.hand_out_bare(message, tag)));
        }
        Ok(batch.len())
    }

    /// The next message with what a durable name knows of it; waits for one. On a socket without a durable name, and
    /// from peers without a spool, [`Delivery::is_durable`] is false.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`; `Timeout` when the builder's `recv_timeout` passes.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when this returns it. Under `Ack::OnNext` the one before is done as soon as this
    /// is polled.
    pub async fn recv_delivery(&mut self) -> Result<Delivery, RecvError> {
        self.delivery_within(self.socket.options().recv_timeout).await
    }

    /// As [`Receiver::recv_delivery`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// As [`Receiver::recv_delivery`].
    pub async fn recv_delivery_timeout(&mut self, limit: Duration) -> Result<Delivery, RecvError> {
        self.delivery_within(Some(limit)).await
    }

    async fn delivery_within(&mut self, limit: Option<Duration>) -> Result<Delivery, RecvError> {
        let next = within(limit, poll_fn(|cx| self.poll_delivery(cx))).await;
        let (message, tag) = next.unwrap_or(Err(RecvError::Timeout))?;
        Ok(self.hand_out(message, tag))
    }

    /// A delivery that is already there.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`.
    pub fn try_recv_delivery(&mut self) -> Result<Delivery, TryRecvError> {
        let (message, tag) = self.try_delivery()?;
        Ok(self.hand_out(message, tag))
    }

    /// What was handed out last is done, without asking for more: under `Ack::OnNext`, the end of orderly work.
    pub fn ack_last(&mut self) {
        self.socket.finish_hand();
        self.socket.settle();
    }

    /// Gives the durable name up for good, at every publisher that is connected: what was kept for it alone goes.
    /// Waits for the first answer, or the end of the connection. False when none is connected, or this socket has no
    /// durable name.
    ///
    /// # Cancel safety
    /// Dropped, the name may be gone.
    pub async fn drop_name(&mut self) -> bool {
        self.socket.end_name().await
    }
}
