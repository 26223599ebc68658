//! Joins two sockets: what one receives, the other sends. [`proxy`].

use std::fmt;
use std::future::IntoFuture;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::dealer::Dealer;
use super::pair::Pair;
use super::publish::Pub;
use super::pull::Pull;
use super::push::Push;
use super::receiver::Receiver;
use super::router::{PeerId, Router, RouterReceiver, RouterSender};
use super::sender::Sender;
use super::subscribe::Sub;
use super::xpub::XPub;
use super::xsub::XSub;
use crate::engine::either;
use crate::error::SendError;
use crate::message::Message;

/// A socket as one end of a [`proxy`]: any type but REQ and REP (use DEALER and ROUTER for those).
#[derive(Debug)]
pub struct ProxyEnd {
    input: Input,
    output: Output,
}

#[derive(Debug)]
enum Input {
    None,
    Plain(Receiver),
    Routed(RouterReceiver),
    Sub(Sub),
    Pull(Pull),
}

#[derive(Debug)]
enum Output {
    None,
    Plain(Sender),
    Routed(RouterSender),
}

macro_rules! end_of_both {
    ($($type:ident),*) => {$(
        impl From<$type> for ProxyEnd {
            fn from(socket: $type) -> ProxyEnd {
                let (sender, receiver) = socket.split();
                ProxyEnd { input: Input::Plain(receiver), output: Output::Plain(sender) }
            }
        }
    )*};
}

end_of_both!(Dealer, Pair, XPub, XSub);

impl From<Router> for ProxyEnd {
    fn from(socket: Router) -> ProxyEnd {
        let (sender, receiver) = socket.split();
        ProxyEnd { input: Input::Routed(receiver), output: Output::Routed(sender) }
    }
}

impl From<Pull> for ProxyEnd {
    fn from(socket: Pull) -> ProxyEnd {
        ProxyEnd { input: Input::Pull(socket), output: Output::None }
    }
}

impl From<Sub> for ProxyEnd {
    fn from(socket: Sub) -> ProxyEnd {
        ProxyEnd { input: Input::Sub(socket), output: Output::None }
    }
}

impl From<Push> for ProxyEnd {
    fn from(socket: Push) -> ProxyEnd {
        ProxyEnd { input: Input::None, output: Output::Plain((*socket).clone()) }
    }
}

impl From<Pub> for ProxyEnd {
    fn from(socket: Pub) -> ProxyEnd {
        ProxyEnd { input: Input::None, output: Output::Plain((*socket).clone()) }
    }
}

impl Input {
    /// The next message; None when the socket is closed, never when it cannot receive.
    async fn recv(&mut self) -> Option<Message> {
        match self {
            Input::None => std::future::pending().await,
            Input::Plain(receiver) => receiver.recv().await.ok(),
            Input::Sub(sub) => sub.recv().await.ok(),
            Input::Pull(pull) => pull.recv().await.ok(),
            Input::Routed(receiver) => {
                let (peer, message) = receiver.recv().await.ok()?;
                Some(message.prepend([peer.to_frame()]))
            }
        }
    }
}

impl Output {
    /// False when the socket is closed.
    async fn send(&self, message: Message) -> bool {
        match self {
            Output::None => true,
            Output::Plain(sender) => sender.send(message).await.is_ok(),
            Output::Routed(sender) => {
                let mut frames = message.into_iter();
                let peer = frames.next().map(PeerId::from);
                match peer.zip(Message::from_frames(frames)) {
                    // An unknown peer is the sender's counted drop, not the end of the proxy.
                    Some((peer, message)) => !matches!(sender.send_to(&peer, message).await, Err(SendError::Closed(_))),
                    None => true,
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    Ended,
}

#[derive(Debug, Default)]
struct Count {
    messages: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Steering {
    mode: watch::Sender<Mode>,
    forward: Count,
    backward: Count,
}

/// What a proxy has passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStatistics {
    /// Messages from front to back.
    pub forward_messages: u64,
    /// Bytes in them, without framing.
    pub forward_bytes: u64,
    /// Messages from back to front.
    pub backward_messages: u64,
    /// Bytes in them, without framing.
    pub backward_bytes: u64,
}

/// Steers a running proxy; cheap to clone.
#[derive(Debug, Clone)]
pub struct ProxyControl {
    steering: Arc<Steering>,
}

impl ProxyControl {
    /// Stops reading on both ends; what peers send waits for [`ProxyControl::resume`].
    pub fn pause(&self) {
        self.turn_to(Mode::Paused);
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.turn_to(Mode::Running);
    }

    /// Ends the proxy; a message in hand is still passed on.
    pub fn terminate(&self) {
        self.steering.mode.send_replace(Mode::Ended);
    }

    /// An ended proxy stays so.
    fn turn_to(&self, wanted: Mode) {
        self.steering.mode.send_if_modified(|mode| {
            let turns = *mode != Mode::Ended && *mode != wanted;
            if turns {
                *mode = wanted;
            }
            turns
        });
    }

    /// What was passed on so far.
    pub fn statistics(&self) -> ProxyStatistics {
        let Steering { forward, backward, .. } = &*self.steering;
        ProxyStatistics {
            forward_messages: forward.messages.load(Ordering::Relaxed),
            forward_bytes: forward.bytes.load(Ordering::Relaxed),
            backward_messages: backward.messages.load(Ordering::Relaxed),
            backward_bytes: backward.bytes.load(Ordering::Relaxed),
        }
    }
}

/// A proxy before it runs: await it.
#[must_use = "a proxy runs when it is awaited"]
pub struct Proxy {
    front: ProxyEnd,
    back: ProxyEnd,
    capture: Option<Sender>,
    control: ProxyControl,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("front", &self.front).field("back", &self.back).finish()
    }
}

/// Passes whole messages between `front` and `back`, both ways where the types allow it. It reads from one
/// end only as fast as the other takes; nothing is dropped in between.
///
/// Typical pairs: XSUB and XPUB, ROUTER and DEALER, PULL and PUSH. Await the result to run it; it ends, with
/// its statistics, when a socket is closed or [`ProxyControl::terminate`] is called.
///
/// # Cancel safety
/// Dropping the running proxy drops both sockets and at most one message in hand per direction;
/// `terminate` passes those on first.
pub fn proxy(front: impl Into<ProxyEnd>, back: impl Into<ProxyEnd>) -> Proxy {
    let steering =
        Steering { mode: watch::Sender::new(Mode::Running), forward: Count::default(), backward: Count::default() };
    let control = ProxyControl { steering: Arc::new(steering) };
    Proxy { front: front.into(), back: back.into(), capture: None, control }
}

impl Proxy {
    /// Sends a copy of every message to `capture`, too (of a PUSH, PUB, DEALER or PAIR). It can hold the proxy back.
    pub fn capture(mut self, capture: Sender) -> Proxy {
        self.capture = Some(capture);
        self
    }

    /// A handle to steer the proxy while it runs.
    pub fn control(&self) -> ProxyControl {
        self.control.clone()
    }

    pub(crate) async fn run(self) -> ProxyStatistics {
        let Proxy { mut front, mut back, capture, control } = self;
        let steering = &*control.steering;
        let forward = pass(&mut front.input, &back.output, &capture, steering, &steering.forward);
        let backward = pass(&mut back.input, &front.output, &capture, steering, &steering.backward);
        join(forward, backward).await;
        control.statistics()
    }
}

/// One direction, until a socket is closed or the proxy is ended; then it ends the other one, too.
async fn pass(input: &mut Input, output: &Output, capture: &Option<Sender>, steering: &Steering, count: &Count) {
    let mut mode = steering.mode.subscribe();
    loop {
        if mode.wait_for(|mode| *mode != Mode::Paused).await.is_ok_and(|mode| *mode == Mode::Ended) {
            return;
        }
        let next = async { Some(input.recv().await) };
        let interrupted = async {
            let _ = mode.changed().await;
            None
        };
        let next = either(pin!(next), pin!(interrupted)).await;
        let message = match next {
            Some(Some(message)) => message,
            Some(None) => break,
            None => continue,
        };
        count.messages.fetch_add(1, Ordering::Relaxed);
        count.bytes.fetch_add(message.size() as u64, Ordering::Relaxed);
        if let Some(capture) = capture {
            // A closed capture socket does not stop the traffic.
            let _ = capture.send(message.clone()).await;
        }
        if !output.send(message).await {
            break;
        }
    }
    steering.mode.send_replace(Mode::Ended);
}

/// Both to their ends.
async fn join(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut one_done, mut other_done) = (false, false);
    std::future::poll_fn(|cx| {
        one_done = one_done || one.as_mut().poll(cx).is_ready();
        other_done = other_done || other.as_mut().poll(cx).is_ready();
        if one_done && other_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

impl IntoFuture for Proxy {
    type Output = ProxyStatistics;
    type IntoFuture = Pin<Box<dyn Future<Output = ProxyStatistics> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
