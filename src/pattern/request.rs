//! REQ: requests as futures, each tied to its own reply.
//!
//! The peer's announced type decides the bytes. A REP echoes a 4-byte id, so any number of requests can be on
//! their way to it; a ROUTER may count frames, so it gets libzmq's default bytes and one request at a time.
//! There is no task in between: whoever waits for a reply reads for all ([`Calls::poll`]), and where several wait, so
//! does what wakes them ([`Watch`]).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::Ids;
use crate::engine::pattern::{Inbound, Newcomer, Pattern};
use crate::engine::within;
use crate::error::{RequestError, SendError};
use crate::event::{DropReason, Reason};
use crate::message::{Frame, Message};
use crate::options::{OnFull, Options, SocketType};
use crate::queue::PeerKey;
use crate::queue::admission::Refused;
use crate::queue::inbox::{Inbox, Origin};
use crate::queue::outbound::Outbound;
use crate::queue::reader::Reader;
use crate::socket::Socket;
use crate::socket::durable::Built;

/// One request's way.
enum Stage {
    /// Waits for a peer that can take it.
    Queued,
    /// With this peer, as its so-manieth request of this connection.
    Sent {
        peer: PeerKey,
        number: u64,
    },
    Done(Result<Message, RequestError>),
}

struct Call {
    stage: Stage,
    body: Message,
    waker: Option<Waker>,
}

struct Server {
    /// Its replies carry the request's id.
    correlates: bool,
    /// Requests that it has and has not answered.
    open: usize,
    /// The one request of a peer that does not correlate.
    current: Option<u32>,
    /// Requests handed over on this connection.
    handed: u64,
    /// Messages that the peer had been sent before this connection.
    base: u64,
}

/// Ids are our own and in sequence: they need spreading, not defending.
type ById = BuildHasherDefault<Spread>;

#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

struct State {
    servers: BTreeMap<PeerKey, Server>,
    turns: Vec<PeerKey>,
    turn: usize,
    calls: HashMap<u32, Call, ById>,
    queue: VecDeque<u32>,
    next_id: u32,
    reader: Reader,
    /// Requests wait although peers are free: their queues are at a mark.
    stuck: bool,
    closed: bool,
}

/// What a REQ has under way.
pub(crate) struct Calls {
    outbound: Arc<Outbound>,
    correlate: Option<bool>,
    lockstep: bool,
    relaxed: bool,
    /// Requests that one peer may have: what its queue can hold.
    max_open: usize,
    ids: Ids,
    /// The [`Watch`] over arrivals.
    watch: OnceLock<Waker>,
    state: Mutex<State>,
}

/// Is told of arrivals in place of a caller, who may be one that is never polled again: that must not keep the others
/// from their replies.
struct Watch(Weak<Calls>);

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(calls) = self.0.upgrade() {
            calls.look();
        }
    }
}

impl Calls {
    fn new(options: &Options, outbound: Arc<Outbound>, inbox: &Arc<Inbox>) -> Calls {
        let correlate = options.correlate.or(options.lockstep.then_some(false));
        let max_open = if options.send_hwm == 0 { usize::MAX } else { options.send_hwm };
        let state = State {
            servers: BTreeMap::new(),
            turns: Vec::new(),
            turn: 0,
            calls: HashMap::default(),
            queue: VecDeque::new(),
            next_id: seed(),
            reader: Reader::new(inbox.clone(), true),
            stuck: false,
            closed: false,
        };
        Calls {
            outbound,
            correlate,
            lockstep: options.lockstep,
            relaxed: options.req_relaxed,
            max_open,
            ids: Ids::default(),
            watch: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    /// From here on arrivals are seen to.
    fn keep_watch(self: &Arc<Self>) {
        let _ = self.watch.set(Waker::from(Arc::new(Watch(Arc::downgrade(self)))));
    }

    /// Something has arrived, or nothing will any more. A caller that is alone reads for itself.
    fn look(&self) {
        let (mut alone, mut wakers) = (None, Vec::new());
        {
            let mut state = self.lock();
            if state.calls.len() == 1 {
                alone = state.calls.values_mut().find_map(|call| call.waker.take());
            } else {
                self.read(&mut state, None, &mut wakers);
            }
        }
        alone.into_iter().chain(wakers).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in. It goes out at once if a peer can take it.
    fn begin(&self, body: Message) -> Result<u32, RequestError> {
        let mut state = self.lock();
        if state.closed {
            return Err(RequestError::Send(SendError::Closed(body)));
        }
        if self.lockstep && !state.calls.is_empty() {
            if !self.relaxed {
                return Err(RequestError::OutOfTurn(body));
            }
            let old: Vec<u32> = state.calls.keys().copied().collect();
            for id in old {
                self.give_up(&mut state, id);
                // Its waiter learns of it by the missing entry.
            }
        }
        let id = state.next_id;
        state.next_id = state.next_id.wrapping_add(1);
        state.calls.insert(id, Call { stage: Stage::Queued, body, waker: None });
        state.queue.push_back(id);
        self.pump(&mut state);
        Ok(id)
    }

    /// The reply to `id`, reading for everybody on the way.
    fn poll(&self, id: u32, cx: &mut Context<'_>) -> Poll<Result<Message, RequestError>> {
        let mut wakers = Vec::new();
        let result = {
            let mut state = self.lock();
            // Out of reach while its owner reads: its reply is returned here, and waking it would have it polled again.
            let mine = state.calls.get_mut(&id).and_then(|call| call.waker.take());
            self.read(&mut state, Some(id), &mut wakers);
            if state.stuck {
                // Watched before the look, so that no room comes unseen between the two.
                self.outbound.watch_progress(cx);
                self.pump(&mut state);
            }
            match state.calls.get_mut(&id) {
                Some(call) if !matches!(call.stage, Stage::Done(_)) => {
                    let mine = mine.filter(|waker| waker.will_wake(cx.waker()));
                    call.waker = mine.or_else(|| Some(cx.waker().clone()));
                    Poll::Pending
                }
                _ => {
                    let call = state.calls.remove(&id);
                    match call.map(|call| call.stage) {
                        Some(Stage::Done(result)) => Poll::Ready(result),
                        _ => Poll::Ready(Err(RequestError::Closed)),
                    }
                }
            }
        };
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// The caller of `id` waits no more.
    fn abandon(&self, id: u32) {
        let mut state = self.lock();
        self.give_up(&mut state, id);
        self.pump(&mut state);
    }

    fn give_up(&self, state: &mut State, id: u32) {
        let Some(call) = state.calls.remove(&id) else { return };
        state.queue.retain(|&queued| queued != id);
        if let Some(waker) = call.waker {
            waker.wake();
        }
        let Stage::Sent { peer, .. } = call.stage else { return };
        let Some(server) = state.servers.get_mut(&peer) else { return };
        server.open = server.open.saturating_sub(1);
        if server.current == Some(id) {
            // Its late reply could pass for the answer to the next request: a new connection tells them apart.
            server.current = None;
            state.turns.retain(|&turn| turn != peer);
            self.outbound.kick(peer, Reason::Timeout);
        }
    }

    /// Gives every reply that has arrived to its caller, and has the watch look out for more. Stops when `until` has
    /// its own and nobody else waits: whoever asks next looks first.
    fn read(&self, state: &mut State, until: Option<u32>, wakers: &mut Vec<Waker>) {
        let mut cx = Context::from_waker(self.watch.get().unwrap_or(Waker::noop()));
        let is_done = |state: &State, id| matches!(state.calls.get(&id).map(|call| &call.stage), Some(Stage::Done(_)));
        while until.is_none_or(|id| state.calls.len() > 1 || !is_done(state, id)) {
            match state.reader.poll_next(&mut cx) {
                Poll::Ready(Ok((Some(origin), message))) => self.settle(state, &origin, message, wakers),
                Poll::Ready(Ok((None, _))) => {}
                Poll::Ready(Err(_)) => {
                    state.closed = true;
                    for call in state.calls.values_mut() {
                        if !matches!(call.stage, Stage::Done(_)) {
                            call.stage = Stage::Done(Err(RequestError::Closed));
                        }
                        wakers.extend(call.waker.take());
                    }
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    /// A message from a peer: whose reply is it?
    fn settle(&self, state: &mut State, origin: &Origin, message: Message, wakers: &mut Vec<Waker>) {
        let Some((id, body)) = open_envelope(message) else {
            return self.outbound.count_drop(None, DropReason::Malformed, 1);
        };
        let current = state.servers.get(&origin.peer).and_then(|server| server.current);
        let id = match id {
            Some(id) => Some(id),
            None => current,
        };
        let call = id.and_then(|id| Some((id, state.calls.get_mut(&id)?)));
        let Some((id, call)) =
            call.filter(|(_, call)| matches!(call.stage, Stage::Sent { peer, .. } if peer == origin.peer))
        else {
            return self.outbound.count_drop(None, DropReason::Late, 1);
        };
        call.stage = Stage::Done(Ok(body));
        wakers.extend(call.waker.take());
        if let Some(server) = state.servers.get_mut(&origin.peer) {
            server.open = server.open.saturating_sub(1);
            if server.current == Some(id) {
                server.current = None;
            }
        }
        self.pump(state);
    }

    /// Hands queued requests to peers that can take one, in turn.
    fn pump(&self, state: &mut State) {
        let was_stuck = std::mem::take(&mut state.stuck);
        self.hand_over(state);
        if state.stuck && !was_stuck {
            // Those that wait look out for room only when they are polled. The watch cannot do it for them: room is also
            // told of under the lock, by a request that is written at once.
            for call in state.queue.iter().filter_map(|id| state.calls.get(id)) {
                call.waker.iter().for_each(Waker::wake_by_ref);
            }
        }
    }

    fn hand_over(&self, state: &mut State) {
        let mut full = 0;
        while let Some(&id) = state.queue.front() {
            let Some(body) = state.calls.get(&id).map(|call| call.body.clone()) else {
                state.queue.pop_front();
                continue;
            };
            let Some((peer, correlates, is_first)) = self.next_server(state) else { return };
            let whole = wrap(id, correlates, body);
            // One that is alone is written at once. Others that are open, or have a reply not yet fetched, will send
            // soon: those leave together.
            let at_once = is_first && state.calls.len() == 1;
            match self.outbound.try_send_to(peer, &mut Some(whole), at_once) {
                Ok(()) => full = 0,
                Err(Refused::Closed) => return,
                Err(Refused::Full) => {
                    full += 1;
                    if full >= state.turns.len() {
                        state.stuck = true;
                        return;
                    }
                    continue;
                }
                // It left a moment ago; its detach is on the way.
                Err(Refused::NoRoute) => {
                    state.turns.retain(|&turn| turn != peer);
                    continue;
                }
            }
            state.queue.pop_front();
            let Some(server) = state.servers.get_mut(&peer) else { continue };
            server.open += 1;
            server.handed += 1;
            if !correlates {
                server.current = Some(id);
            }
            let number = server.handed;
            if let Some(call) = state.calls.get_mut(&id) {
                call.stage = Stage::Sent { peer, number };
            }
        }
    }

    /// Who can take a request, whether its replies carry ids, and whether it has none yet.
    fn next_server(&self, state: &mut State) -> Option<(PeerKey, bool, bool)> {
        for _ in 0..state.turns.len() {
            state.turn = (state.turn + 1) % state.turns.len();
            let peer = *state.turns.get(state.turn)?;
            let server = state.servers.get(&peer)?;
            let free = if server.correlates { server.open < self.max_open } else { server.current.is_none() };
            if free {
                return Some((peer, server.correlates, server.open == 0));
            }
        }
        None
    }
}

/// The id of the first request: not guessable from outside, and libzmq's are random, too.
fn seed() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}

fn wrap(id: u32, correlates: bool, body: Message) -> Message {
    match correlates {
        true => body.prepend([Frame::from(id.to_ne_bytes()), Frame::EMPTY]),
        false => body.prepend([Frame::EMPTY]),
    }
}

/// Id (if the reply carries one) and body of a reply; None without an envelope.
fn open_envelope(message: Message) -> Option<(Option<u32>, Message)> {
    let (id, skip) = match &message[..] {
        [delimiter, _, ..] if delimiter.is_empty() => (None, 1),
        [id, delimiter, _, ..] if delimiter.is_empty() => {
            let bytes: [u8; 4] = id[..].try_into().ok()?;
            (Some(u32::from_ne_bytes(bytes)), 2)
        }
        _ => return None,
    };
    Some((id, message.without_first(skip)?))
}

impl Pattern for Calls {
    fn inbound(&self) -> Inbound {
        Inbound::Deliver
    }

    fn attach(&self, newcomer: &Newcomer<'_>) -> Result<Frame, Reason> {
        let correlates = self.correlate.unwrap_or(newcomer.socket_type == Some(SocketType::Rep));
        let base = self.outbound.sent(newcomer.key).map_or(0, |sent| sent.messages);
        let mut state = self.lock();
        state.servers.insert(newcomer.key, Server { correlates, open: 0, current: None, handed: 0, base });
        Ok(newcomer.identity.cloned().unwrap_or_else(|| self.ids.next()))
    }

    fn ready(&self, key: PeerKey) {
        let mut state = self.lock();
        if state.servers.contains_key(&key) && !state.turns.contains(&key) {
            state.turns.push(key);
        }
        self.pump(&mut state);
    }

    fn detach(&self, key: PeerKey) -> Vec<Vec<u8>> {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            let mut wakers = Vec::new();
            // What came before the connection ended still answers. It is in the inbox by now.
            self.read(&mut state, None, &mut wakers);
            state.turns.retain(|&turn| turn != key);
            let Some(server) = state.servers.remove(&key) else {
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                return Vec::new();
            };
            // What the kernel took may have been carried out; what it did not is asked elsewhere.
            let written = self.outbound.end_of_written(key).saturating_sub(server.base);
            let mut again = Vec::new();
            for (&id, call) in &mut state.calls {
                let Stage::Sent { peer, number } = call.stage else { continue };
                if peer != key {
                    continue;
                }
                if number > written {
                    call.stage = Stage::Queued;
                    again.push((number, id));
                } else {
                    call.stage = Stage::Done(Err(RequestError::PeerLost));
                    wakers.extend(call.waker.take());
                }
            }
            again.sort_unstable();
            for (_, id) in again.into_iter().rev() {
                state.queue.push_front(id);
            }
            self.pump(&mut state);
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
        Vec::new()
    }
}

/// Sends requests and gives each its own reply (ZeroMQ's REQ, RFC 28, without its alternation).
///
/// Many requests may be on their way at once, from any task. Waits when: no peer is connected, or each has a
/// request that must be answered first (a ROUTER, or `correlate(false)`). Never drops a request. A reply that
/// comes after its request was given up is counted as `Late`. Order: replies come as they come.
/// `lockstep` gives libzmq's strict turns.
#[derive(Clone)]
pub struct Req {
    socket: Socket,
    calls: Arc<Calls>,
}

impl Req {
    pub(crate) fn from_options(mut built: Built) -> Req {
        // A request is put into bytes for the peer that gets it, so it waits here and not in a peer's queue.
        let options = Arc::make_mut(&mut built.options);
        options.queue_before_connect = false;
        // A request that was dropped would leave its caller waiting for a reply that nobody owes.
        options.on_full = Some(OnFull::Block);
        let (socket, calls) = Socket::assemble(SocketType::Req, built, |options, outbound, inbox| {
            Calls::new(options, outbound.clone(), inbox)
        });
        calls.keep_watch();
        Req { socket, calls }
    }

    /// Asks. The request is taken in when the builder is first awaited; awaiting it gives the reply.
    pub fn request(&self, message: impl Into<Message>) -> RequestBuilder {
        let timeout = self.socket.options().recv_timeout;
        RequestBuilder { req: self.clone(), message: message.into(), timeout }
    }
}

impl Deref for Req {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl fmt::Debug for Req {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Req").field(&self.socket).finish()
    }
}

/// A request before it is awaited.
#[must_use = "a request is sent when it is awaited"]
#[derive(Debug)]
pub struct RequestBuilder {
    req: Req,
    message: Message,
    timeout: Option<Duration>,
}

impl RequestBuilder {
    /// Longest wait for the reply, the wait for a peer included. Default: the builder's `recv_timeout`, else none.
    pub fn timeout(mut self, limit: Duration) -> RequestBuilder {
        self.timeout = Some(limit);
        self
    }

    pub(crate) async fn run(self) -> Result<Message, RequestError> {
        let RequestBuilder { req, message, timeout } = self;
        let id = req.calls.begin(message)?;
        let call = OpenCall { calls: &req.calls, id };
        let reply = within(timeout, poll_fn(|cx| call.calls.poll(call.id, cx))).await;
        reply.unwrap_or(Err(RequestError::Timeout))
    }
}

impl IntoFuture for RequestBuilder {
    type Output = Result<Message, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    /// [`RequestError`]: `Timeout`, `PeerLost` (written, then the peer left: it may have been carried out),
    /// `Closed`, `OutOfTurn` (lockstep only).
    ///
    /// # Cancel safety
    /// Dropping it gives up the interest in the reply; the request itself may be carried out.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Gives up on a request whose future is dropped.
struct OpenCall<'a> {
    calls: &'a Calls,
    id: u32,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.calls.abandon(self.id);
    }
}
