//! The same sockets for programs without an async runtime (feature `blocking`).
//!
//! Every type here is a [`Blocking`] one: `blocking::Push` is a [`Push`](crate::Push) whose waits block the calling thread instead of
//! a task. Names, options, errors and limits are the same, so the documentation of the async socket holds; a method
//! that is not listed here and waits for nothing (`try_send`, `try_recv`, `stats`, `subscribe`, …) is that of the async
//! socket, by deref.
//!
//! ```
//! use std::time::Duration;
//! use ginnel::blocking::{Pull, Push, Rep, Req};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut pull = Pull::builder().recv_hwm(10_000).bind("tcp://127.0.0.1:0")?;
//! let push = Push::connect(pull.local_endpoint())?;
//! push.send("hello")?;
//! assert_eq!(pull.recv()?[0].to_str()?, "hello");
//! assert!(pull.recv_timeout(Duration::from_millis(1)).is_err());
//!
//! let mut server = Rep::bind("tcp://127.0.0.1:0")?;
//! let client = Req::connect(server.local_endpoint())?;
//! let serve = std::thread::spawn(move || server.recv()?.reply("pong").map_err(ginnel::Error::from));
//! assert_eq!(client.request("ping")?[0].to_str()?, "pong");
//! serve.join().unwrap()?;
//!
//! push.close(); // waits until all is written: at the end of a program, since its threads end with it
//! # Ok(()) }
//! ```
//!
//! # Threads
//!
//! A socket connects, reads and answers in a background thread: its own one from the first bind or connect on, or that of
//! a shared [`Context`]. Callers wait by themselves: `send` writes in the calling thread where the async socket would
//! write in the calling task, and `recv` parks the calling thread until that thread has left the next batch; the
//! background thread is woken once per batch, not per message.
//!
//! Sockets that can be cloned and shared between tasks can be between threads. A wait in one thread is ended from
//! another one by [`close`](Blocking::close) or `shutdown_now` on a clone or a half. Async and blocking sockets talk to each other, also by
//! `inproc` in one process.
//!
//! On a thread of an async runtime these calls work, too, and never panic, but they block that thread like any other blocking
//! call: if the peer is a task of the same thread, for ever. Use the async sockets there, or
//! [`spawn_blocking`](tokio::task::spawn_blocking).
//!
//! What lives here: the face, made of the async sockets and a way to wait. It may use `pattern`, `socket` and the
//! engine's `park`. Absent: any protocol, queue or option of its own. Next: `pattern`.

mod context;
mod values;

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

pub use self::context::Context;
pub use self::values::proxy;
use crate::endpoint::{Endpoint, IntoEndpoint};
use crate::engine::park::wait;
use crate::error::{
    BindError, BuildError, ConnectError, OptionError, RecvError, RequestError, SendAllError, SendError, TryRecvError,
    TrySendError, WaitError,
};
use crate::message::{Frame, Message, Receipt};
use crate::pattern::builder::{Buildable, Builder};
use crate::pattern::delivery::Delivery;
use crate::pattern::router::PeerId;
use crate::pattern::sender::Permit;
use crate::queue::batch::Batch;
use crate::socket::{Report, Socket};

/// A socket, or a part of one, of the async type `S`, whose waits block the calling thread.
///
/// What `S` can do without waiting it does here, too, by deref.
#[derive(Debug, Clone)]
pub struct Blocking<S>(S);

impl<S> Deref for Blocking<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> DerefMut for Blocking<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}

/// A [`Builder`]'s mode: its socket is used in threads, with this context or one of its own.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    context: Option<Context>,
}

macro_rules! aliases {
    ($($name:ident)*) => {$(
        #[doc = concat!("[`", stringify!($name), "`](crate::", stringify!($name), ") for threads.")]
        pub type $name = Blocking<crate::$name>;
    )*};
}

aliases! {
    Push Pull Pub Sub Req Rep Dealer Router XPub XSub Pair
    Sender Receiver SharedReceiver RouterSender RouterReceiver Request Responder Monitor Spool Pending Proxy
}

/// Types that are a socket or a half of one.
pub trait AsSocket {
    #[doc(hidden)]
    fn socket(&self) -> &Socket;
}

/// Types that send freely: PUSH, PUB, DEALER, PAIR, XPUB, XSUB and their sending half.
pub trait Sends: AsSocket {
    #[doc(hidden)]
    fn sending(&self) -> &crate::Sender;
}

/// Types that receive plain messages: PULL, SUB, DEALER, PAIR, XPUB, XSUB and their receiving half.
pub trait Receives: AsSocket {
    #[doc(hidden)]
    fn receiving(&mut self) -> &mut crate::Receiver;
}

macro_rules! are {
    ($trait:ident, $method:ident: $($type:ident)*) => {$(
        impl AsSocket for crate::$type {
            fn socket(&self) -> &Socket {
                self
            }
        }
        are!(@$trait $type, $method);
    )*};
    (@AsSocket $type:ident, socket) => {};
    (@Sends $type:ident, deref) => {
        impl Sends for crate::$type {
            fn sending(&self) -> &crate::Sender {
                self
            }
        }
    };
    (@Receives $type:ident, deref) => {
        impl Receives for crate::$type {
            fn receiving(&mut self) -> &mut crate::Receiver {
                self
            }
        }
    };
    (@Both $type:ident, halves) => {
        are!(@Receives $type, deref);
        impl Sends for crate::$type {
            fn sending(&self) -> &crate::Sender {
                crate::$type::sending(self)
            }
        }
        impl Blocking<crate::$type> {
            /// The sending half; the receiving one stays usable through this value.
            pub fn sender(&self) -> Sender {
                Blocking(self.0.sender())
            }

            /// Both halves, for two threads.
            pub fn split(self) -> (Sender, Receiver) {
                let (sender, receiver) = self.0.split();
                (Blocking(sender), Blocking(receiver))
            }
        }
    };
}

are!(AsSocket, socket: Req Rep Router RouterSender RouterReceiver SharedReceiver);
are!(Sends, deref: Sender Push Pub);
are!(Receives, deref: Receiver Pull Sub);
are!(Both, halves: Dealer Pair XPub XSub);

impl<S: Buildable + AsSocket> Builder<S, Threads> {
    /// Does its background work in this context's thread. Default: in one of its own.
    pub fn context(mut self, context: &Context) -> Self {
        self.mode.context = Some(context.clone());
        self
    }

    /// Makes the socket, neither bound nor connected.
    ///
    /// # Errors
    /// [`BuildError`]: an option is out of range or does not go with another, or the spool cannot be opened.
    pub fn build(mut self) -> Result<Blocking<S>, BuildError> {
        let context = self.mode.context.take();
        let socket = self.make()?;
        if let Some(context) = context {
            context.adopt(socket.socket());
        }
        Ok(Blocking(socket))
    }

    /// Makes the socket and binds it.
    ///
    /// # Errors
    /// [`BindError`]; an option that is wrong is its `Option`.
    pub fn bind(self, endpoint: impl IntoEndpoint) -> Result<Blocking<S>, BindError> {
        let socket = self.build()?;
        socket.bind_to(endpoint)?;
        Ok(socket)
    }

    /// Makes the socket and connects it, in the background: see [`Socket::connect_to`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(self, endpoint: impl IntoEndpoint) -> Result<Blocking<S>, ConnectError> {
        let socket = self.build()?;
        socket.connect_to(endpoint)?;
        Ok(socket)
    }
}

impl<S: Buildable + AsSocket + Default> Default for Blocking<S> {
    fn default() -> Blocking<S> {
        Blocking::new()
    }
}

impl<S: Buildable + AsSocket + Default> Blocking<S> {
    /// A socket with default options, neither bound nor connected.
    pub fn new() -> Blocking<S> {
        Blocking(S::default())
    }

    /// Options first: those of the async socket, and [`context`](Builder::context).
    pub fn builder() -> Builder<S, Threads> {
        Builder::new(Threads::default())
    }

    /// A socket with default options, bound to `endpoint`.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(endpoint: impl IntoEndpoint) -> Result<Blocking<S>, BindError> {
        Blocking::<S>::builder().bind(endpoint)
    }

    /// A socket with default options, connecting to `endpoint` in the background.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(endpoint: impl IntoEndpoint) -> Result<Blocking<S>, ConnectError> {
        Blocking::<S>::builder().connect(endpoint)
    }
}

/// What a connect says when there is no thread for it.
fn no_thread(error: io::Error) -> ConnectError {
    OptionError::new("context", format!("no thread can be started for this socket: {error}")).into()
}

/// What all sockets do.
impl<S: AsSocket> Blocking<S> {
    /// Binds to one more endpoint. Returns it with the real port or path.
    ///
    /// # Errors
    /// [`BindError`]; the socket is unchanged.
    pub fn bind_to(&self, endpoint: impl IntoEndpoint) -> Result<Endpoint, BindError> {
        let runtime = Context::of(self.0.socket()).map_err(BindError::Io)?;
        let _inside = runtime.enter();
        wait(self.0.socket().bind_to(endpoint))
    }

    /// Connects to one more endpoint, in the background: see [`Socket::connect_to`].
    ///
    /// # Errors
    /// [`ConnectError`]: the text is no endpoint, the socket is closed, or there is no thread for it (`Option`).
    pub fn connect_to(&self, endpoint: impl IntoEndpoint) -> Result<Endpoint, ConnectError> {
        Context::of(self.0.socket()).map_err(no_thread)?;
        self.0.socket().connect_to(endpoint)
    }

    /// Waits until at least `count` peers are connected.
    ///
    /// # Errors
    /// [`WaitError::Closed`] when the socket is closed first.
    pub fn wait_for_peers(&self, count: usize) -> Result<(), WaitError> {
        wait(self.0.socket().wait_for_peers(count))
    }

    /// Watches the socket: every event from now on, as an iterator that waits.
    pub fn monitor(&self) -> Monitor {
        Blocking(self.0.socket().monitor())
    }

    /// Closes the socket for all of its handles: accepts no more messages, waits until the accepted ones are
    /// written or linger (5 s by default) is over, and reports. A second call gives the same report.
    ///
    /// A program that ends takes its background threads along: close what must still be written.
    pub fn close(&self) -> Report {
        wait(self.0.socket().close())
    }
}

#[cold]
fn refused(error: TrySendError<Message>) -> SendError<Message> {
    match error {
        TrySendError::Full(message) => SendError::Timeout(message),
        TrySendError::Closed(message) => SendError::Closed(message),
        TrySendError::NoRoute(message) => SendError::NoRoute(message),
        TrySendError::TooLarge(message) => SendError::TooLarge(message),
        TrySendError::SpoolFailed(message) => SendError::SpoolFailed(message),
        TrySendError::DurabilityUnknown { sequence } => SendError::DurabilityUnknown { sequence },
    }
}

#[cold]
fn ended(error: TryRecvError) -> RecvError {
    match error {
        TryRecvError::Empty => RecvError::Timeout,
        TryRecvError::Closed => RecvError::Closed,
        TryRecvError::ManualAck => RecvError::ManualAck,
    }
}

/// A send that cannot simply join others. One that need not wait sets nothing up for it; one into a spool waits for the
/// disk.
#[inline(never)]
fn send_apart(
    sender: &crate::Sender,
    message: Message,
    later: impl FnOnce(Message) -> Result<Receipt, SendError<Message>>,
) -> Result<Receipt, SendError<Message>> {
    if sender.spool().is_some() {
        return later(message);
    }
    // What a task owes to others after much work, a thread does not.
    sender.outbound().takes_toll();
    match sender.try_send(message) {
        Ok(receipt) => Ok(receipt),
        Err(TrySendError::Full(message)) => later(message),
        Err(error) => Err(refused(error)),
    }
}

/// Sending; `try_send` and `try_reserve` are those of [`Sender`](crate::Sender).
impl<S: Sends> Blocking<S> {
    /// Sends a message; waits while no peer has room (where the type waits at all). With a spool it waits for room in
    /// the spool, and then until the message is on disk as far as `sync` says; peers need not be there.
    ///
    /// # Errors
    /// [`SendError`], with the message: `Closed`; `Timeout` when the builder's `send_timeout` passes (default: none).
    /// With a spool also `Full`, `TooLarge`, `SpoolFailed`, and, without the message, `DurabilityUnknown`.
    #[inline]
    pub fn send(&self, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
        let message = message.into();
        let sender = self.0.sending();
        if sender.joins(&message) {
            return Ok(Receipt::ACCEPTED);
        }
        send_apart(sender, message, |message| wait(sender.send(message)))
    }

    /// As [`Blocking::send`], for at most this long.
    ///
    /// # Errors
    /// As [`Blocking::send`]: `Timeout`, with the message, when no peer had room in time.
    pub fn send_timeout(&self, message: impl Into<Message>, limit: Duration) -> Result<Receipt, SendError<Message>> {
        let sender = self.0.sending();
        send_apart(sender, message.into(), |message| wait(sender.send_timeout(message, limit)))
    }

    /// Sends all messages in order, many under one lock. Returns how many there were. With a spool it waits once, at
    /// the end, until all of them are accepted.
    ///
    /// # Errors
    /// [`SendAllError`]: how many went, and the rest.
    pub fn send_all<M: Into<Message>>(&self, messages: impl IntoIterator<Item = M>) -> Result<usize, SendAllError> {
        wait(self.0.sending().send_all(messages))
    }

    /// Waits for room for one message and sets it aside: sending it then neither waits nor fails.
    ///
    /// # Errors
    /// [`SendError::Closed`]; `SpoolFailed` with a spool.
    pub fn reserve(&self) -> Result<Permit<'_>, SendError<()>> {
        wait(self.0.sending().reserve())
    }

    /// Waits until nothing waits for connected peers: everything is with the operating system. With a spool: until
    /// everything sent so far is accepted. Delivery needs no flush; this is for those who want to know.
    ///
    /// # Errors
    /// `DurabilityUnknown` when a spool failed.
    pub fn flush(&self) -> Result<(), SendError<()>> {
        wait(self.0.sending().flush())
    }

    /// Hands a message to the spool and waits for room only; the result can be waited for, once for many.
    ///
    /// # Errors
    /// [`SendError`], with the message; `NoSpool` on a socket without one.
    pub fn enqueue(&self, message: impl Into<Message>) -> Result<Pending, SendError<Message>> {
        wait(self.0.sending().enqueue(message)).map(Blocking)
    }

    /// Sends a message that is delivered at `when` and not before: see [`Sender::send_at`](crate::Sender::send_at).
    ///
    /// # Errors
    /// [`SendError`], with the message: `Full` when `max_delayed` messages wait already, else as
    /// [`Blocking::enqueue`].
    pub fn send_at(&self, message: impl Into<Message>, when: SystemTime) -> Result<Receipt, SendError<Message>> {
        wait(self.0.sending().send_at(message, when))
    }

    /// The spool, on a socket that was built with one.
    pub fn spool(&self) -> Option<Spool> {
        self.0.sending().spool().cloned().map(Blocking)
    }
}

/// Receiving; `try_recv`, `try_recv_delivery` and `ack_last` are those of [`Receiver`](crate::Receiver).
impl<S: Receives> Blocking<S> {
    /// The next message; waits for one. With a durable name and `Ack::OnNext` the one before is done by asking.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed` when the socket is closed and everything was read; `Timeout` when the builder's
    /// `recv_timeout` passes (default: none); `ManualAck` with `Ack::Manual`, where
    /// [`recv_delivery`](Blocking::recv_delivery) is to be used.
    #[inline]
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        let receiver = self.0.receiving();
        match receiver.try_recv() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Empty) => wait(receiver.recv()),
            Err(error) => Err(ended(error)),
        }
    }

    /// As [`Blocking::recv`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`, `ManualAck`.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Message, RecvError> {
        let receiver = self.0.receiving();
        match receiver.try_recv() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Empty) => wait(receiver.recv_timeout(limit)),
            Err(error) => Err(ended(error)),
        }
    }

    /// Fills `batch` with what is there, up to `max` messages, and lends it out as slices: no copy and no
    /// reference count per message. Waits until there is at least one. Returns how many there are.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`, `ManualAck`.
    pub fn recv_batch(&mut self, batch: &mut Batch, max: usize) -> Result<usize, RecvError> {
        wait(self.0.receiving().recv_batch(batch, max))
    }

    /// Receives again and again; ends when the socket is closed and everything was read.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Message, RecvError>> {
        std::iter::from_fn(|| unless_closed(self.recv()))
    }

    /// The next message with what a durable name knows of it; waits for one.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`; `Timeout` when the builder's `recv_timeout` passes.
    pub fn recv_delivery(&mut self) -> Result<Delivery, RecvError> {
        wait(self.0.receiving().recv_delivery())
    }

    /// As [`Blocking::recv_delivery`], for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    pub fn recv_delivery_timeout(&mut self, limit: Duration) -> Result<Delivery, RecvError> {
        wait(self.0.receiving().recv_delivery_timeout(limit))
    }

    /// Gives the durable name up for good: see [`Receiver::drop_name`](crate::Receiver::drop_name).
    pub fn drop_name(&mut self) -> bool {
        wait(self.0.receiving().drop_name())
    }
}

fn unless_closed<T>(next: Result<T, RecvError>) -> Option<Result<T, RecvError>> {
    if matches!(next, Err(RecvError::Closed)) { None } else { Some(next) }
}

macro_rules! shared {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// Turns this into a receiver that many threads can use: `recv(&self)`, one lock a message. See
            /// [`Receiver::into_shared`](crate::Receiver::into_shared) for durable names.
            pub fn into_shared(self) -> SharedReceiver {
                Blocking(self.0.into_shared())
            }
        }
    )*};
}

shared!(Pull Sub Receiver);

impl Blocking<crate::SharedReceiver> {
    /// The next message; waits for one, first come first served.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    pub fn recv(&self) -> Result<Message, RecvError> {
        wait(self.0.recv())
    }

    /// The next delivery: see [`SharedReceiver::recv_delivery`](crate::SharedReceiver::recv_delivery).
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`, `Timeout`.
    pub fn recv_delivery(&self) -> Result<Delivery, RecvError> {
        wait(self.0.recv_delivery())
    }
}

macro_rules! publishers {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// Waits until at least `count` connected peers have a subscription.
            ///
            /// # Errors
            /// [`WaitError::Closed`] when the socket is closed first.
            pub fn wait_for_subscribers(&self, count: usize) -> Result<(), WaitError> {
                wait(self.0.wait_for_subscribers(count))
            }
        }
    )*};
}

publishers!(Pub XPub);

macro_rules! routes {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// Sends to this peer. An unknown peer, or one without room, is a counted drop; with `mandatory` the
            /// first is an error and the second waits.
            ///
            /// # Errors
            /// [`SendError`], with the message: `NoRoute`, `Closed`, `Timeout` (the builder's `send_timeout`).
            pub fn send_to(&self, peer: &PeerId, message: impl Into<Message>) -> Result<Receipt, SendError<Message>> {
                match self.0.try_send_to(peer, message) {
                    Ok(receipt) => Ok(receipt),
                    Err(TrySendError::Full(message)) => wait(self.0.send_to(peer, message)),
                    Err(error) => Err(refused(error)),
                }
            }
        }
    )*};
}

macro_rules! is_routed {
    ($($type:ident)*) => {$(
        impl Blocking<crate::$type> {
            /// The next message and its sender; waits for one.
            ///
            /// # Errors
            /// [`RecvError`]: `Closed`, `Timeout`.
            pub fn recv(&mut self) -> Result<(PeerId, Message), RecvError> {
                match self.0.try_recv() {
                    Err(TryRecvError::Empty) => wait(self.0.recv()),
                    other => other.map_err(ended),
                }
            }

            /// As `recv`, for at most this long.
            ///
            /// # Errors
            /// [`RecvError`]: `Timeout`, `Closed`.
            pub fn recv_timeout(&mut self, limit: Duration) -> Result<(PeerId, Message), RecvError> {
                wait(self.0.recv_timeout(limit))
            }

            /// Receives again and again; ends when the socket is closed and everything was read.
            pub fn iter(&mut self) -> impl Iterator<Item = Result<(PeerId, Message), RecvError>> {
                std::iter::from_fn(|| unless_closed(self.recv()))
            }
        }
    )*};
}

routes!(Router RouterSender);
is_routed!(Router RouterReceiver);

impl Blocking<crate::Router> {
    /// Connects to one more endpoint and names the peer there: see [`Router::connect_as`](crate::Router::connect_as).
    ///
    /// # Errors
    /// [`ConnectError`]; `Option` when the id is not 1 to 255 bytes.
    pub fn connect_as(&self, endpoint: impl IntoEndpoint, id: impl Into<Frame>) -> Result<Endpoint, ConnectError> {
        Context::of(&self.0).map_err(no_thread)?;
        self.0.connect_as(endpoint, id)
    }

    /// The sending half; the receiving one stays usable through this value.
    pub fn sender(&self) -> RouterSender {
        Blocking(self.0.sender())
    }

    /// Both halves, for two threads.
    pub fn split(self) -> (RouterSender, RouterReceiver) {
        let (sender, receiver) = self.0.split();
        (Blocking(sender), Blocking(receiver))
    }
}

impl Blocking<crate::Req> {
    /// Asks, and waits for the reply. Many threads may ask at once, through clones or one shared value.
    ///
    /// # Errors
    /// [`RequestError`]: `Timeout` when the builder's `recv_timeout` passes (default: none), `PeerLost` (written, then
    /// the peer left: it may have been carried out), `Closed`, `OutOfTurn` (lockstep only).
    pub fn request(&self, message: impl Into<Message>) -> Result<Message, RequestError> {
        wait(self.0.request(message).run())
    }

    /// As `request`, for at most this long, the wait for a peer included.
    ///
    /// # Errors
    /// [`RequestError`], as `request`. After `Timeout` the request may still be carried out; a late reply is dropped and
    /// counted.
    pub fn request_timeout(&self, message: impl Into<Message>, limit: Duration) -> Result<Message, RequestError> {
        wait(self.0.request(message).timeout(limit).run())
    }
}

impl Blocking<crate::Rep> {
    /// The next request; waits for one.
    ///
    /// # Errors
    /// [`RecvError`]: `Closed`; `Timeout` when the builder's `recv_timeout` passes (default: none).
    pub fn recv(&mut self) -> Result<Request, RecvError> {
        match self.0.try_recv() {
            Err(TryRecvError::Empty) => wait(self.0.recv()).map(Blocking),
            other => other.map(Blocking).map_err(ended),
        }
    }

    /// As `recv`, for at most this long.
    ///
    /// # Errors
    /// [`RecvError`]: `Timeout`, `Closed`.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Request, RecvError> {
        wait(self.0.recv_timeout(limit)).map(Blocking)
    }

    /// A request that is already there.
    ///
    /// # Errors
    /// [`TryRecvError`]: `Empty`, `Closed`.
    pub fn try_recv(&mut self) -> Result<Request, TryRecvError> {
        self.0.try_recv().map(Blocking)
    }

    /// Receives again and again; ends when the socket is closed and everything was read.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Request, RecvError>> {
        std::iter::from_fn(|| unless_closed(self.recv()))
    }
}
