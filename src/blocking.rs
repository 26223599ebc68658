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
//! engine's `park`. Absent: any protocol, queue or option of its own. Next: `sending`, `receiving`,
//! `routing`, `values` and `context` here, then `pattern`.

mod context;
mod receiving;
mod routing;
mod sending;
mod values;

use std::io;
use std::ops::{Deref, DerefMut};
use std::thread;

use tokio::runtime::Handle;

pub use self::context::Context;
pub use self::values::proxy;
use crate::endpoint::{Endpoint, IntoEndpoint};
use crate::engine::park::wait;
use crate::error::{BindError, BuildError, ConnectError, OptionError, WaitError};
use crate::pattern::builder::{Buildable, Builder};
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

mod sealed {
    /// Nobody else can name it, so nobody else can have the traits below.
    pub trait Sealed {}
}

/// Types that are a socket or a half of one. Only this crate's are.
pub trait AsSocket: sealed::Sealed {
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
        impl sealed::Sealed for crate::$type {}

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

/// Whether this is one of the last destructors of a thread. Some of tokio would panic there, which ends the process.
fn is_ending() -> bool {
    Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed())
}

/// What all sockets do.
impl<S: AsSocket> Blocking<S> {
    /// Binds to one more endpoint. Returns it with the real port or path.
    ///
    /// # Errors
    /// [`BindError`]; the socket is unchanged.
    pub fn bind_to(&self, endpoint: impl IntoEndpoint) -> Result<Endpoint, BindError> {
        let runtime = Context::of(self.0.socket()).map_err(BindError::Io)?;
        if is_ending() {
            return Err(BindError::Io(io::Error::other("no bind in a thread that is ending")));
        }
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
        let socket = self.0.socket();
        if is_ending() {
            let socket = socket.clone();
            let elsewhere = thread::Builder::new().spawn(move || wait(socket.close()));
            return elsewhere.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
        }
        wait(socket.close())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::engine::park::watch;
    use crate::error::{RecvError, RequestError, SendError};

    const HERE: &str = "tcp://127.0.0.1:0";

    #[test]
    fn closing_ends_every_wait_in_other_threads() {
        let (mut pair, push, req) = (Pair::bind(HERE).unwrap(), Push::new(), Req::bind(HERE).unwrap());
        let (mut rep, publisher) = (Rep::bind(HERE).unwrap(), Pub::bind(HERE).unwrap());
        let mut monitor = publisher.monitor();
        let hands = (push.clone(), req.clone(), publisher.clone(), pair.sender(), (**rep).clone());
        let (started, watches) = mpsc::channel();
        let start = |wait: Box<dyn FnOnce() + Send>| {
            let started = started.clone();
            thread::spawn(move || {
                started.send(watch()).unwrap();
                wait();
            })
        };
        let waits = [
            start(Box::new(move || assert_eq!(pair.recv(), Err(RecvError::Closed)))),
            start(Box::new(move || assert_eq!(push.send("x"), Err(SendError::Closed("x".into()))))),
            start(Box::new(move || assert_eq!(req.request("x"), Err(RequestError::Closed)))),
            start(Box::new(move || assert!(matches!(rep.recv(), Err(RecvError::Closed))))),
            start(Box::new(move || assert_eq!(publisher.wait_for_peers(1), Err(WaitError::Closed)))),
            start(Box::new(move || while monitor.next().is_some() {})),
        ];
        for has_begun in watches.iter().take(waits.len()) {
            while !has_begun() {
                thread::yield_now();
            }
        }
        let (push, req, publisher, pair, rep) = hands;
        push.close();
        req.close();
        publisher.close();
        pair.close();
        rep.shutdown_now();
        waits.into_iter().for_each(|wait| wait.join().unwrap());
    }
}
