//! The eleven types behind one face: what `drive` sends into, and what it receives from.
//!
//! REQ and REP keep their turns here as libzmq's do; a ROUTER's peer id is the first frame, both ways.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ginnel::{
    Buildable, Builder, Dealer, Delivery, Message, Pair, PeerId, Pending, Pub, Pull, Push, Receipt, Receiver, Rep, Req,
    RequestError, Responder, Router, RouterReceiver, RouterSender, SendError, Sender, Socket, SocketType, Spool, Sub,
    Subscriptions, XPub, XSub,
};
use tokio::sync::{Notify, mpsc};

use super::config::Config;
use super::errno::{Errno, Fault};
use super::event;
use crate::durable::{Holder, HolderSettings, Spooler};
use crate::ends;
use crate::exit::Failure;
use crate::setup;

/// A socket that is not attached yet, with its two directions.
pub(super) struct Parts {
    pub(super) socket: Socket,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// Requests that a REQ was given: they wait in it until a peer is there.
    pub(super) asked: Rc<Cell<u64>>,
}

/// What CONFIG says for every type.
fn common<S: Buildable>(builder: Builder<S>, config: &Config) -> Builder<S> {
    let mut builder = config.options.apply(builder).security(config.security.clone());
    if let Some(identity) = &config.identity {
        builder = builder.identity(identity.as_slice());
    }
    builder
}

pub(super) fn build(config: &Config) -> Result<Parts, Failure> {
    let mut parts = build_type(config)?;
    parts.incoming.durable = config.holder.is_some();
    Ok(parts)
}

fn build_type(config: &Config) -> Result<Parts, Failure> {
    let on = |name| config.options.is_set(name);
    match config.socket_type {
        SocketType::Push => {
            let push = setup::build(spooled(common(Push::builder(), config), config))?;
            Ok(parts(handle(&push), out((*push).clone()), In::Nothing))
        }
        SocketType::Pub => {
            let builder = common(Pub::builder(), config).on_full(config.options.on_full());
            let builder = builder.invert_matching(on("invert_matching"));
            let publisher = setup::build(spooled(builder, config))?;
            Ok(parts(handle(&publisher), out((*publisher).clone()), In::Nothing))
        }
        SocketType::Pull => {
            let pull = setup::build(common(Pull::builder(), config).with_name(holder(config)))?;
            Ok(parts(handle(&pull), Out::Nothing, In::Pull(pull)))
        }
        SocketType::Sub => {
            let builder = common(Sub::builder(), config).invert_matching(on("invert_matching"));
            let mut builder = builder.with_name(holder(config));
            for prefix in &config.subscribe {
                builder = builder.subscribe(prefix.as_slice());
            }
            let sub = setup::build(builder)?;
            let topics = Topics::Sub(sub.subscriptions());
            let mut parts = parts(handle(&sub), Out::Nothing, In::Sub(sub));
            parts.outgoing.topics = topics;
            Ok(parts)
        }
        SocketType::XSub => {
            let mut builder = common(XSub::builder(), config);
            for prefix in &config.subscribe {
                builder = builder.subscribe(prefix.as_slice());
            }
            let (sender, receiver) = setup::build(builder)?.split();
            let topics = Topics::XSub(sender.clone());
            let mut parts = halves(sender, receiver);
            parts.outgoing.topics = topics;
            Ok(parts)
        }
        SocketType::XPub => {
            let builder = common(XPub::builder(), config).on_full(config.options.on_full());
            let builder = builder.invert_matching(on("invert_matching"));
            let builder = builder.verbose(on("xpub_verbose")).verboser(on("xpub_verboser"));
            let (sender, receiver) = setup::build(builder)?.split();
            Ok(halves(sender, receiver))
        }
        SocketType::Dealer => {
            let builder = common(Dealer::builder(), config).probe(on("probe_router"));
            let (sender, receiver) = setup::build(builder)?.split();
            Ok(halves(sender, receiver))
        }
        SocketType::Pair => {
            let (sender, receiver) = setup::build(common(Pair::builder(), config))?.split();
            Ok(halves(sender, receiver))
        }
        SocketType::Router => {
            let builder = common(Router::builder(), config).mandatory(on("router_mandatory"));
            let builder = builder.handover(on("router_handover")).probe(on("probe_router"));
            let (sender, receiver) = setup::build(builder)?.split();
            Ok(parts(handle(&sender), Out::Router(sender), In::Router(receiver)))
        }
        SocketType::Req => {
            let mut builder = common(Req::builder(), config).lockstep(true).probe(on("probe_router"));
            if let Some(correlate) = config.options.get("req_correlate") {
                builder = builder.correlate(correlate == 1);
            }
            let req = setup::build(builder.relaxed(on("req_relaxed")))?;
            let (asked, replies) = mpsc::unbounded_channel();
            let limit = config.options.get("sndtimeo").and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
            let count = Rc::new(Cell::new(0));
            let to = Asker { req, asked, limit, relaxed: on("req_relaxed"), count: Rc::clone(&count) };
            let parts = parts(handle(&to.req), Out::Req(to), In::Req(Replies { replies, current: None }));
            Ok(Parts { asked: count, ..parts })
        }
        SocketType::Rep => {
            let rep = setup::build(common(Rep::builder(), config))?;
            let turn = Rc::new(Turn::default());
            Ok(parts(handle(&rep), Out::Rep(Rc::clone(&turn)), In::Rep(rep, turn)))
        }
    }
}

fn spooled<B: Spooler>(builder: B, config: &Config) -> B {
    match &config.spool {
        Some(settings) => builder.with_spool(settings),
        None => builder,
    }
}

fn holder(config: &Config) -> Option<&HolderSettings> {
    config.holder.as_ref().map(|(settings, _)| settings)
}

/// A sender with or without a spool.
fn out(sender: Sender) -> Out {
    match sender.spool().cloned() {
        Some(spool) => Out::Spool { sender, spool, delayed: Delayed::default() },
        None => Out::Plain(sender),
    }
}

/// Another handle of the socket behind a typed one.
fn handle(socket: &Socket) -> Socket {
    socket.clone()
}

fn parts(socket: Socket, to: Out, from: In) -> Parts {
    Parts {
        socket,
        outgoing: Outgoing { to, topics: Topics::Nothing },
        incoming: Incoming { from, durable: false },
        asked: Rc::default(),
    }
}

fn halves(sender: Sender, receiver: Receiver) -> Parts {
    parts(handle(&sender), Out::Plain(sender), In::Half(receiver))
}

/// Where messages leave.
pub(super) struct Outgoing {
    to: Out,
    topics: Topics,
}

/// How the type subscribes.
enum Topics {
    Nothing,
    Sub(Subscriptions),
    /// By messages of its own.
    XSub(Sender),
}

enum Out {
    Nothing,
    Plain(Sender),
    Spool { sender: Sender, spool: Spool, delayed: Delayed },
    Router(RouterSender),
    Req(Asker),
    Rep(Rc<Turn>),
}

/// What became of a message that was sent.
pub(super) enum Sent {
    Accepted,
    /// It is on its way into the spool.
    Pending(Pending),
    /// It waits for its time, under this number.
    Delayed(u64),
}

impl Outgoing {
    /// Sends one message, at the time `at` since 1970 if there is one.
    pub(super) async fn send(&mut self, message: Message, at: Option<Duration>) -> Result<Sent, Fault> {
        match (&mut self.to, at) {
            (Out::Spool { sender, .. }, None) => sender.enqueue(message).await.map(Sent::Pending).map_err(Fault::from),
            (Out::Spool { sender, delayed, .. }, Some(at)) => {
                let when = SystemTime::UNIX_EPOCH.checked_add(at);
                let when = when.ok_or_else(|| Fault::new(Errno::EINVAL, "\"at\" is too far away"))?;
                let receipt = sender.send_at(message, when).await?;
                Ok(delayed.note(receipt, when).map_or(Sent::Accepted, Sent::Delayed))
            }
            (Out::Nothing, _) | (_, None) => self.send_now(message).await.map(|()| Sent::Accepted),
            _ => Err(Fault::new(Errno::EINVAL, "\"at\" needs a spool")),
        }
    }

    /// Withdraws a message that waits for its time. False when there is none, or it is too late.
    pub(super) fn cancel(&mut self, number: u64) -> Result<bool, Fault> {
        match &mut self.to {
            Out::Spool { spool, delayed, .. } => Ok(delayed.take(number).is_some_and(|receipt| spool.cancel(receipt))),
            _ => Err(Fault::new(Errno::EINVAL, "cancel needs a spool")),
        }
    }

    pub(super) fn spool(&self) -> Option<&Spool> {
        match &self.to {
            Out::Spool { spool, .. } => Some(spool),
            _ => None,
        }
    }

    /// As libzmq would: waits where it waits, drops where it drops.
    async fn send_now(&mut self, message: Message) -> Result<(), Fault> {
        match &self.to {
            Out::Nothing => Err(Fault::new(Errno::ENOTSUP, "this socket type does not send")),
            Out::Plain(sender) | Out::Spool { sender, .. } => Ok(sender.send(message).await.map(drop)?),
            Out::Router(sender) => match ends::split_id(&message) {
                Some((peer, rest)) => Ok(sender.send_to(&peer, rest).await.map(drop)?),
                // libzmq ignores a message that is an id only.
                None => Ok(()),
            },
            Out::Req(asker) => asker.ask(message).await,
            Out::Rep(turn) => match turn.take() {
                Some(responder) => match responder.reply(message).await {
                    // A reply to a peer that has left, or has no room, is dropped.
                    Ok(_) | Err(SendError::NoRoute(_) | SendError::Timeout(_)) => Ok(()),
                    Err(e) => Err(e.into()),
                },
                None => Err(Fault::new(Errno::EFSM, "no request is waiting for a reply")),
            },
        }
    }

    /// Wants a prefix (`true`) or takes that back.
    pub(super) async fn subscribe(&self, topic: &[u8], on: bool) -> Result<(), Fault> {
        match &self.topics {
            Topics::Nothing => Err(Fault::new(Errno::EINVAL, "only sub and xsub subscribe")),
            Topics::Sub(topics) if on => Ok(topics.subscribe(topic)?),
            Topics::Sub(topics) => Ok(topics.unsubscribe(topic)?),
            Topics::XSub(sender) => {
                let message = [&[u8::from(on)][..], topic].concat();
                Ok(sender.send(message).await.map(drop)?)
            }
        }
    }
}

/// Receipts of messages that wait for their time, as `cancel` needs them.
#[derive(Default)]
struct Delayed {
    receipts: HashMap<u64, (Receipt, SystemTime)>,
    /// At this size those whose time has come are looked for.
    prune_at: usize,
}

impl Delayed {
    /// The number of a delayed message.
    fn note(&mut self, receipt: Receipt, when: SystemTime) -> Option<u64> {
        let number = receipt.sequence().filter(|_| receipt.is_delayed())?;
        if self.receipts.len() >= self.prune_at {
            let now = SystemTime::now();
            self.receipts.retain(|_, (_, when)| *when > now);
            self.prune_at = 1024.max(self.receipts.len() * 2);
        }
        self.receipts.insert(number, (receipt, when));
        Some(number)
    }

    fn take(&mut self, number: u64) -> Option<Receipt> {
        self.receipts.remove(&number).map(|(receipt, _)| receipt)
    }
}

/// A request that was begun; it gives the reply.
type Reply = Pin<Box<dyn Future<Output = Result<Message, RequestError>>>>;

/// REQ's sending side.
struct Asker {
    req: Req,
    asked: mpsc::UnboundedSender<Reply>,
    /// `sndtimeo`
    limit: Option<Duration>,
    relaxed: bool,
    /// Requests taken in and not given up before a peer had them.
    count: Rc<Cell<u64>>,
}

/// Messages that peers' queues have taken so far.
pub(super) fn handed_over(socket: &Socket) -> u64 {
    let stats = socket.stats();
    stats.messages_sent + stats.peers.iter().map(|peer| peer.queued as u64).sum::<u64>()
}

impl Asker {
    async fn ask(&self, message: Message) -> Result<(), Fault> {
        // Without any peer, not even one to come, libzmq's send waits.
        if self.req.peers().is_empty() {
            let peer = self.req.wait_for_peers(1);
            let waited = match self.limit {
                Some(limit) => tokio::time::timeout(limit, peer).await,
                None => Ok(peer.await),
            };
            let fault = |_| Fault::new(Errno::EAGAIN, "no peer to ask");
            waited.map_err(fault)?.map_err(|e| Fault::new(Errno::ETERM, e.to_string()))?;
        }
        let replaces = self.relaxed && handed_over(&self.req) < self.count.get();
        let mut reply: Reply = self.req.request(message).into_future();
        // The first poll takes the request in, or refuses it.
        let begun = std::future::poll_fn(|cx| Poll::Ready(reply.as_mut().poll(cx))).await;
        match begun {
            Poll::Pending => drop(self.asked.send(reply)),
            Poll::Ready(Err(RequestError::OutOfTurn(_))) => {
                return Err(Fault::new(Errno::EFSM, "a request is still waiting for its reply"));
            }
            Poll::Ready(Err(RequestError::Send(e))) => return Err(e.into()),
            Poll::Ready(result) => drop(self.asked.send(Box::pin(std::future::ready(result)))),
        }
        self.count.set(self.count.get() + u64::from(!replaces));
        Ok(())
    }
}

/// REQ's receiving side: the newest request is the one whose reply counts.
struct Replies {
    replies: mpsc::UnboundedReceiver<Reply>,
    current: Option<Reply>,
}

impl Replies {
    /// Waits for ever when the asking side is gone.
    async fn recv(&mut self) -> Arrival {
        loop {
            let Replies { replies, current } = self;
            tokio::select! {
                biased;
                newest = replies.recv() => match newest {
                    Some(newest) => *current = Some(newest),
                    None => std::future::pending().await,
                },
                reply = wait(current) => {
                    *current = None;
                    return arrived(reply);
                }
            }
        }
    }
}

async fn wait(reply: &mut Option<Reply>) -> Result<Message, RequestError> {
    match reply {
        Some(reply) => reply.as_mut().await,
        None => std::future::pending().await,
    }
}

/// REP's turn: the request that waits for its reply, and news of its end.
#[derive(Default)]
pub(super) struct Turn {
    pending: RefCell<Option<Responder>>,
    free: Notify,
}

impl Turn {
    fn take(&self) -> Option<Responder> {
        let responder = self.pending.take();
        self.free.notify_one();
        responder
    }

    fn is_free(&self) -> bool {
        self.pending.borrow().is_none()
    }

    async fn free(&self) {
        while !self.is_free() {
            self.free.notified().await;
        }
    }
}

/// Where messages arrive.
pub(super) struct Incoming {
    from: In,
    /// Messages come as deliveries.
    durable: bool,
}

enum In {
    Nothing,
    Pull(Pull),
    Sub(Sub),
    Half(Receiver),
    Router(RouterReceiver),
    Req(Replies),
    Rep(Rep, Rc<Turn>),
}

/// One thing that arrived.
pub(super) enum Arrival {
    Message(Option<PeerId>, Message),
    /// Under a durable name.
    Delivery(Delivery),
    /// A request that will get no reply.
    Lost(Fault),
}

impl Arrival {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Arrival::Message(peer, message) => {
                event::message(out, event::frames(peer.as_ref().map(AsRef::as_ref), message));
            }
            Arrival::Delivery(delivery) => event::delivery(out, delivery),
            Arrival::Lost(fault) => out.extend_from_slice(&event::err("recv", None, fault)),
        }
    }
}

impl Incoming {
    /// The next arrival; waits for ever where nothing can arrive.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn recv(&mut self) -> Arrival {
        loop {
            let durable = self.durable;
            let received = match &mut self.from {
                In::Nothing => None,
                In::Pull(socket) if durable => Some(socket.recv_delivery().await.map(Arrival::Delivery)),
                In::Sub(socket) if durable => Some(socket.recv_delivery().await.map(Arrival::Delivery)),
                In::Pull(socket) => plain(socket.recv().await),
                In::Sub(socket) => plain(socket.recv().await),
                In::Half(receiver) => plain(receiver.recv().await),
                In::Router(receiver) => {
                    Some(receiver.recv().await.map(|(peer, message)| Arrival::Message(Some(peer), message)))
                }
                In::Req(replies) => return replies.recv().await,
                In::Rep(socket, turn) => {
                    turn.free().await;
                    Some(socket.recv().await.map(|request| begin(turn, request)))
                }
            };
            match received {
                Some(Ok(arrival)) => return arrival,
                // `rcvtimeo` limits a call; here nobody waits for its return.
                Some(Err(ginnel::RecvError::Timeout)) => {}
                Some(Err(_)) | None => std::future::pending().await,
            }
        }
    }

    /// The next arrival if it is there already.
    pub(super) fn try_recv(&mut self) -> Option<Arrival> {
        let durable = self.durable;
        match &mut self.from {
            In::Nothing => None,
            In::Pull(socket) if durable => socket.try_recv_delivery().ok().map(Arrival::Delivery),
            In::Sub(socket) if durable => socket.try_recv_delivery().ok().map(Arrival::Delivery),
            In::Pull(socket) => socket.try_recv().ok().map(|message| Arrival::Message(None, message)),
            In::Sub(socket) => socket.try_recv().ok().map(|message| Arrival::Message(None, message)),
            In::Half(receiver) => receiver.try_recv().ok().map(|message| Arrival::Message(None, message)),
            In::Router(receiver) => {
                receiver.try_recv().ok().map(|(peer, message)| Arrival::Message(Some(peer), message))
            }
            // One at a time.
            In::Req(_) | In::Rep(..) => None,
        }
    }
}

impl Incoming {
    /// Gives the durable name up for good.
    pub(super) async fn drop_name(&mut self) -> bool {
        match &mut self.from {
            In::Pull(socket) if self.durable => socket.drop_name().await,
            In::Sub(socket) if self.durable => socket.drop_name().await,
            _ => false,
        }
    }
}

fn plain(received: Result<Message, ginnel::RecvError>) -> Option<Result<Arrival, ginnel::RecvError>> {
    Some(received.map(|message| Arrival::Message(None, message)))
}

fn begin(turn: &Turn, request: ginnel::Request) -> Arrival {
    let (message, responder) = request.into_parts();
    turn.pending.replace(Some(responder));
    Arrival::Message(None, message)
}

fn arrived(reply: Result<Message, RequestError>) -> Arrival {
    match reply {
        Ok(message) => Arrival::Message(None, message),
        Err(e) => Arrival::Lost(Fault { errno: None, why: e.to_string() }),
    }
}
