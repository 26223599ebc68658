//! The sending half of a socket: [`Sender`], its [`Permit`] and its `Sink`.

mod spooled;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::publish::Publisher;
use super::subscribe::Subscriber;
use crate::engine::within;
use crate::error::{SendAllError, SendError, TrySendError};
use crate::event::DropReason;
use crate::message::{Message, Receipt};
use crate::queue::PeerKey;
use crate::queue::admission::{Refused, Wait};
use crate::queue::outbound::Outbound;
use crate::queue::waiters::Target;
use crate::socket::Socket;
use crate::socket::durable::{Line, Spool};

/// Messages that `send_all` takes from its caller before it hands them over.
const RUN: usize = 256;
/// The same if the last of so many is longer than `LONG`: what is made long before it is written leaves the caches.
const RUN_LONG: usize = 16;
const LONG: usize = 1024;

/// How a message finds its peers.
#[derive(Clone)]
pub(crate) enum Route {
    /// The next one that has room.
    Balance,
    /// All that subscribe to it.
    Publish(Arc<Publisher>),
    /// All publishers; messages that are subscriptions are our own.
    Upstream(Arc<Subscriber>),
    /// The log first; peers read it at their own position.
    Log(Spool, Option<Arc<Publisher>>),
}

/// Sends messages, from any task or thread: `&self`, cheap to clone.
///
/// PUSH and PUB deref to it; DEALER, PAIR, XPUB and XSUB give it by `split`. PUSH, DEALER and PAIR pass
/// messages to their peers in turn, skipping those at their high-water mark, and wait when no peer has room;
/// PUB and XPUB copy to every subscriber and drop, counted, for those without room; all unless
/// [`OnFull`](crate::OnFull) says otherwise.
///
/// Acceptance means that the message is queued for a peer. ZMTP has no acknowledgement: what the operating
/// system took when a connection breaks may be lost.
#[derive(Clone)]
pub struct Sender {
    socket: Socket,
    route: Route,
}

impl Deref for Sender {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.socket).finish()
    }
}

/// Gives the place in the line back when a send is dropped.
struct Waiting<'a> {
    outbound: &'a Outbound,
    wait: Wait,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.outbound.abandon(&mut self.wait);
    }
}

pub(crate) fn send_error(refused: Refused, message: Message) -> SendError<Message> {
    match refused {
        Refused::Closed => SendError::Closed(message),
        Refused::Full => SendError::Timeout(message),
        Refused::NoRoute => SendError::NoRoute(message),
    }
}

pub(crate) fn try_send_error(refused: Refused, message: Message) -> TrySendError<Message> {
    match refused {
        Refused::Closed => TrySendError::Closed(message),
        Refused::Full => TrySendError::Full(message),
        Refused::NoRoute => TrySendError::NoRoute(message),
    }
}

/// Sends one message to `target`, waiting in line; what every waiting send is made of.
///
/// `message` still holds the message when this is dropped or refused, and is empty once it is accepted.
pub(crate) async fn send_to(
    socket: &Socket,
    target: Target,
    message: &mut Option<Message>,
    turnaround: bool,
) -> Result<(), Refused> {
    let outbound = &**socket.outbound();
    let mut waiting = Waiting { outbound, wait: Wait::default() };
    poll_fn(|cx| outbound.poll_send(cx, &mut waiting.wait, target, message, turnaround)).await
}

impl Sender {
    pub(crate) fn new(socket: Socket, route: Route) -> Sender {
        Sender { socket, route }
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        self.socket.outbound()
    }

    /// Sends a message; waits while no peer has room (where the type waits at all). With a spool it waits for room in
    /// the spool, and then until the message is on disk as far as `sync` says; peers need not be there.
    ///
    /// # Errors
    /// [`SendError`], with the message: `Closed`; `Timeout` when the builder's `send_timeout` passes. With a spool also
    /// `Full` (only with `WhenFull::Reject`), `TooLarge`, `SpoolFailed`, and, without the message, `DurabilityUnknown`.
    /// The time limit is for room in the spool only.
    ///
    /// # Cancel safety
    /// Safe: dropped before it is done, nothing was sent. To keep the message, use [`Sender::reserve`]. With a spool the
    /// message may have its number already when this is dropped: then it is sent all the same. Who has to know keeps
    /// the `Pending` of [`Sender::enqueue`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        let message = message.into();
        if self.joins(&message) {
            return Ok(Receipt::ACCEPTED);
        }
        let mut message = Some(message);
        if !self.outbound().owes_toll() && self.joins_inside(&mut message) {
            return Ok(Receipt::ACCEPTED);
        }
        self.send_at_length(message.unwrap_or_else(lost), self.socket.options().send_timeout).await
    }

    /// As [`Sender::send`], for at most this long.
    ///
    /// # Errors
    /// [`SendError`], with the message: `Timeout` when no peer had room in time, `Closed`; with a spool as
    /// [`Sender::send`].
    ///
    /// # Cancel safety
    /// As [`Sender::send`].
    pub async fn send_timeout(
        &self,
        message: impl Into<Message>,
        limit: Duration,
    ) -> Result<Receipt, SendError<Message>> {
        let message = message.into();
        if self.joins(&message) {
            return Ok(Receipt::ACCEPTED);
        }
        let mut message = Some(message);
        if !self.outbound().owes_toll() && self.joins_inside(&mut message) {
            return Ok(Receipt::ACCEPTED);
        }
        self.send_at_length(message.unwrap_or_else(lost), Some(limit)).await
    }

    /// The hot path of sending: whether the message is accepted already, by reference so that it is not moved.
    #[inline(always)]
    pub(crate) fn joins(&self, message: &Message) -> bool {
        !self.outbound().owes_toll() && self.joins_in_debt(message)
    }

    /// The same whatever is owed to others.
    #[inline(always)]
    fn joins_in_debt(&self, message: &Message) -> bool {
        match &self.route {
            Route::Balance => self.outbound().join(message),
            Route::Publish(publisher) => publisher.try_publish(message).is_ok(),
            Route::Upstream(_) | Route::Log(..) => false,
        }
    }

    /// As [`Sender::joins`], for a message that is better moved than copied, within the process.
    #[inline]
    fn joins_inside(&self, message: &mut Option<Message>) -> bool {
        matches!(self.route, Route::Balance) && self.outbound().join_inside(message)
    }

    /// What [`Sender::send`] does when a message cannot simply join others.
    async fn send_at_length(&self, message: Message, limit: Option<Duration>) -> Result<Receipt, SendError<Message>> {
        if let Route::Log(spool, _) = &self.route {
            // Boxed: the future of a socket without a spool must not grow by it.
            return Box::pin(spool.send(message, limit)).await;
        }
        // Who has to wait in line lets others run by that, and would lose its place to them here.
        if self.outbound().owes_toll() && !self.outbound().has_line(!matches!(self.route, Route::Balance)) {
            self.socket.pay_toll().await;
            // It was only for the toll that it came here.
            if self.joins(&message) {
                return Ok(Receipt::ACCEPTED);
            }
        }
        let mut message = Some(message);
        // A send that does not wait costs neither timer nor a place in the line.
        match self.attempt(&mut message) {
            Ok(()) => Ok(Receipt::ACCEPTED),
            Err(refused) => self.send_later(refused, message, limit).await,
        }
    }

    /// What [`Sender::send`] does when the first attempt was refused.
    #[cold]
    async fn send_later(
        &self,
        refused: Refused,
        mut message: Option<Message>,
        limit: Option<Duration>,
    ) -> Result<Receipt, SendError<Message>> {
        if refused != Refused::Full {
            return Err(fail(refused, message));
        }
        match within(limit, self.wait_and_send(&mut message)).await {
            Some(Ok(())) => Ok(Receipt::ACCEPTED),
            Some(Err(refused)) => Err(fail(refused, message)),
            None => Err(fail(Refused::Full, message)),
        }
    }

    async fn wait_and_send(&self, message: &mut Option<Message>) -> Result<(), Refused> {
        match &self.route {
            Route::Balance => send_to(&self.socket, Target::Any, message, false).await,
            Route::Publish(publisher) => {
                let outbound = self.outbound();
                let mut waiting = Waiting { outbound, wait: Wait::default() };
                poll_fn(|cx| publisher.poll_publish(cx, &mut waiting.wait, message)).await
            }
            Route::Upstream(_) | Route::Log(..) => self.attempt(message),
        }
    }

    #[inline]
    fn attempt(&self, message: &mut Option<Message>) -> Result<(), Refused> {
        match &self.route {
            Route::Balance => self.outbound().try_send(message, false),
            Route::Publish(publisher) => {
                let Some(content) = message.as_ref() else { return Ok(()) };
                publisher.try_publish(content)?;
                *message = None;
                Ok(())
            }
            Route::Upstream(subscriber) => subscriber.send_upstream(&self.socket, message),
            // Every way in asks for this route first.
            Route::Log(..) => Err(Refused::Closed),
        }
    }

    /// Sends a message if that needs no waiting. With a spool the receipt has its number at once; the record is accepted
    /// when [`Sender::flush`] returns.
    ///
    /// # Errors
    /// [`TrySendError`], with the message: `Full` where [`Sender::send`] would wait, `Closed`; with a spool also
    /// `TooLarge` and `SpoolFailed`.
    #[inline]
    pub fn try_send(&self, message: impl Into<Message>) -> Result<Receipt, TrySendError<Message>> {
        if let Route::Log(spool, _) = &self.route {
            return spool.try_append(message.into()).map(Receipt::numbered);
        }
        // Nothing can be paid here: who never waits lets others run by its own means.
        let message = message.into();
        if self.joins_in_debt(&message) {
            return Ok(Receipt::ACCEPTED);
        }
        let mut message = Some(message);
        if self.joins_inside(&mut message) {
            return Ok(Receipt::ACCEPTED);
        }
        match self.attempt(&mut message) {
            Ok(()) => Ok(Receipt::ACCEPTED),
            Err(refused) => Err(try_send_error(refused, message.unwrap_or_else(lost))),
        }
    }

    /// Waits for room for one message and sets it aside: the right tool inside `select!`. A publisher's permit
    /// is there at once, since a publisher does not wait for one peer. `send_timeout` does not apply.
    ///
    /// # Errors
    /// [`SendError::Closed`]; `SpoolFailed` with a spool.
    ///
    /// # Cancel safety
    /// Safe: dropped, the room is free again.
    pub async fn reserve(&self) -> Result<Permit<'_>, SendError<()>> {
        if let Route::Log(spool, _) = &self.route {
            return spool.room().await.map(|()| Permit { sender: self, key: None });
        }
        if !matches!(self.route, Route::Balance) {
            return Ok(Permit { sender: self, key: None });
        }
        let outbound = self.outbound();
        let mut waiting = Waiting { outbound, wait: Wait::default() };
        match poll_fn(|cx| outbound.poll_reserve(cx, &mut waiting.wait)).await {
            Ok(key) => Ok(Permit { sender: self, key: Some(key) }),
            Err(_) => Err(SendError::Closed(())),
        }
    }

    /// Sets room aside for one message if that needs no waiting: see [`Sender::reserve`].
    ///
    /// # Errors
    /// [`TrySendError`]: `Full`, `Closed`; `SpoolFailed` with a spool.
    pub fn try_reserve(&self) -> Result<Permit<'_>, TrySendError<()>> {
        if let Route::Log(spool, _) = &self.route {
            return spool.try_room().map(|()| Permit { sender: self, key: None });
        }
        if !matches!(self.route, Route::Balance) {
            return Ok(Permit { sender: self, key: None });
        }
        match self.outbound().try_reserve() {
            Ok(key) => Ok(Permit { sender: self, key: Some(key) }),
            Err(Refused::Closed) => Err(TrySendError::Closed(())),
            Err(_) => Err(TrySendError::Full(())),
        }
    }

    /// Sends all messages in order. Returns how many there were. With a spool it waits once, at the end, until all of
    /// them are accepted: one sync instead of one for each.
    ///
    /// Without a spool it takes about a third fewer instructions a message than [`Sender::send`], but over TCP and IPC
    /// it is mostly not faster, and slower with long messages.
    ///
    /// # Errors
    /// [`SendAllError`]: how many went, and the rest. With `DurabilityUnknown` those that went may be in the spool or not.
    ///
    /// # Cancel safety
    /// Not safe to lose count: dropped, a first part of the messages was sent and the rest is gone with the
    /// future. Send one by one where that matters.
    pub async fn send_all<M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<usize, SendAllError> {
        let mut messages = messages.into_iter();
        let mut run = VecDeque::new();
        let mut sent = 0;
        loop {
            if run.is_empty() {
                // Taken from the caller before the lock: its iterator may do anything.
                fill(&mut run, &mut messages);
                if run.is_empty() {
                    let settled = self.settle().await;
                    return settled.map(|()| sent).map_err(|reason| SendAllError { sent, rest: Vec::new(), reason });
                }
            }
            self.socket.pay_toll().await;
            match &self.route {
                Route::Balance => sent += self.outbound().try_send_run(&mut run),
                Route::Log(spool, _) => sent += spool.try_append_all(&mut run),
                Route::Publish(_) | Route::Upstream(_) => {}
            }
            // The first that has to wait, or that goes by another way, goes by itself.
            let Some(message) = run.pop_front() else { continue };
            match self.hand_over(message).await {
                Ok(()) => sent += 1,
                Err(error) => {
                    let (message, reason) = apart(error);
                    let rest = message.into_iter().chain(run).chain(messages.map(Into::into)).collect();
                    return Err(SendAllError { sent, rest, reason });
                }
            }
        }
    }

    /// One message of many: with a spool it is the whole lot that is waited for, at the end.
    async fn hand_over(&self, message: Message) -> Result<(), SendError<Message>> {
        match &self.route {
            Route::Log(spool, _) => spool.append(message, self.socket.options().send_timeout).await.map(drop),
            _ => self.send(message).await.map(drop),
        }
    }

    /// Waits until everything handed to the spool is accepted.
    async fn settle(&self) -> Result<(), SendError<()>> {
        match &self.route {
            Route::Log(spool, _) => spool.flush().await,
            _ => Ok(()),
        }
    }

    /// Waits until nothing waits for connected peers: everything is with the operating system. What others send
    /// meanwhile is waited for, too. With a spool: until everything sent so far is accepted. Delivery needs no flush;
    /// this is for those who want to know.
    ///
    /// # Errors
    /// `DurabilityUnknown` when a spool failed. Without one, none today: a socket that is closed meanwhile has nothing
    /// that waits.
    ///
    /// # Cancel safety
    /// Safe: it only hurries what would happen anyway.
    pub async fn flush(&self) -> Result<(), SendError<()>> {
        if let Route::Log(spool, _) = &self.route {
            return spool.flush().await;
        }
        let outbound = self.outbound();
        outbound.write_ready();
        poll_fn(|cx| outbound.poll_drained(cx, true)).await;
        Ok(())
    }

    /// XSUB's subscriptions, which are part of what it sends.
    pub(super) fn change_subscription(&self, prefix: &[u8], subscribe: bool) -> Result<(), SendError<()>> {
        if !self.socket.is_open() {
            return Err(SendError::Closed(()));
        }
        match (&self.route, subscribe) {
            (Route::Upstream(subscriber), true) => subscriber.subscribe(&self.socket, prefix),
            (Route::Upstream(subscriber), false) => subscriber.unsubscribe(&self.socket, prefix),
            _ => {}
        }
        Ok(())
    }

    /// Different prefixes in use here: of the subscribers, or of our own.
    pub(super) fn topic_count(&self) -> usize {
        match &self.route {
            Route::Balance | Route::Log(_, None) => 0,
            Route::Publish(publisher) | Route::Log(_, Some(publisher)) => publisher.topic_count(),
            Route::Upstream(subscriber) => subscriber.topic_count(),
        }
    }

    /// This sender as a `Sink` of messages. `send_timeout` does not apply to it.
    pub fn sink(&self) -> MessageSink {
        MessageSink { sender: self.clone(), waiting: VecDeque::new(), wait: Wait::default(), line: Line::default() }
    }
}

/// The message, if there is one, and the error without it.
fn apart(error: SendError<Message>) -> (Option<Message>, SendError<()>) {
    let mut message = None;
    let reason = error.map(|inner| message = Some(inner));
    (message, reason)
}

fn fail(refused: Refused, message: Option<Message>) -> SendError<Message> {
    send_error(refused, message.unwrap_or_else(lost))
}

/// A refusal always leaves the message where it was; this stands for the defect that it did not.
#[cold]
pub(crate) fn lost() -> Message {
    debug_assert!(false, "a refused send kept its message");
    Message::from("")
}

/// Takes what `send_all` hands over at once.
fn fill<M: Into<Message>>(run: &mut VecDeque<Message>, messages: &mut impl Iterator<Item = M>) {
    run.extend(messages.by_ref().take(RUN_LONG).map(Into::into));
    if run.len() == RUN_LONG && run.back().is_some_and(|message| message.size() <= LONG) {
        run.extend(messages.by_ref().take(RUN - RUN_LONG).map(Into::into));
    }
}

/// Room for one message: sending it cannot fail or wait. Dropped, the room is free again.
#[must_use = "dropping a permit gives its room back"]
pub struct Permit<'a> {
    sender: &'a Sender,
    key: Option<PeerKey>,
}

impl Permit<'_> {
    /// Sends the message. If its peer has left since, it counts as dropped (`PeerGone`), as if it had been
    /// queued for that peer. A publisher with [`OnFull::Block`](crate::OnFull::Block) cannot wait here: a message
    /// for which a subscriber has no room reaches none and counts as `HwmReached`.
    ///
    /// With a spool the receipt has its number at once; the record is accepted when [`Sender::flush`] returns.
    pub fn send(mut self, message: impl Into<Message>) -> Receipt {
        if let Route::Log(spool, _) = &self.sender.route {
            return match spool.append_permitted(&message.into()) {
                Ok(sequence) => Receipt::numbered(sequence),
                Err(()) => {
                    self.sender.outbound().count_drop(None, DropReason::Linger, 1);
                    Receipt::ACCEPTED
                }
            };
        }
        match self.key.take() {
            Some(key) => self.sender.outbound().redeem(key, message.into()),
            None => {
                let reason = match self.sender.try_send(message) {
                    Ok(receipt) => return receipt,
                    Err(TrySendError::Full(_)) => DropReason::HwmReached,
                    Err(_) => DropReason::Linger,
                };
                self.sender.outbound().count_drop(None, reason, 1);
            }
        }
        Receipt::ACCEPTED
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.sender.outbound().release(key);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// A [`Sender`] as a `Sink`; made by [`Sender::sink`].
///
/// It holds at most one message that no peer has taken yet.
pub struct MessageSink {
    sender: Sender,
    waiting: VecDeque<Message>,
    wait: Wait,
    /// The place in a spool's line.
    line: Line,
}

impl MessageSink {
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Message>>> {
        while let Some(message) = self.waiting.pop_front() {
            let mut message = Some(message);
            let sent = match &self.sender.route {
                Route::Balance => {
                    let outbound = self.sender.socket.outbound().clone();
                    outbound.poll_send(cx, &mut self.wait, Target::Any, &mut message, false)
                }
                Route::Publish(publisher) => publisher.poll_publish(cx, &mut self.wait, &mut message),
                Route::Upstream(_) => Poll::Ready(self.sender.attempt(&mut message)),
                Route::Log(spool, _) => {
                    std::task::ready!(spool.poll_append(cx, &mut self.line, &mut message, &mut self.waiting))?;
                    Poll::Ready(Ok(()))
                }
            };
            match sent {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(refused)) => return Poll::Ready(Err(fail(refused, message))),
                Poll::Pending => {
                    self.waiting.extend(message);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MessageSink {
    fn drop(&mut self) {
        self.sender.outbound().abandon(&mut self.wait);
        if let Route::Log(spool, _) = &self.sender.route {
            spool.leave_line(&mut self.line);
        }
    }
}

impl fmt::Debug for MessageSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageSink")
    }
}

impl futures_sink::Sink<Message> for MessageSink {
    type Error = SendError<Message>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_waiting(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        self.get_mut().waiting.push_back(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let sink = self.get_mut();
        if sink.poll_waiting(cx)?.is_pending() {
            return Poll::Pending;
        }
        if let Route::Log(spool, _) = &sink.sender.route {
            let flushed = std::task::ready!(spool.poll_flushed(cx, &sink.line));
            return Poll::Ready(flushed.map_err(|sequence| SendError::DurabilityUnknown { sequence }));
        }
        sink.sender.outbound().write_ready();
        sink.sender.outbound().poll_drained(cx, true).map(Ok)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_flush(cx)
    }
}
