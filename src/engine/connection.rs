//! The loop per peer: [`handshake`], then [`Connection`] until it ends with a reason, then [`farewell`].
//!
//! One task owns all of this state, so it has no lock. It reads, lets the decoder check, leaves batches in
//! the inbox, answers commands, writes what callers left to it, and keeps the heartbeat. It stops reading
//! where the inbox has no room, which lets TCP hold the sender back.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Sleep;
use tracing::Instrument;

use super::durable::{Part, announces};
use super::pattern::Inbound;
use super::read_buffer::ReadBuffer;
use super::shared::Shared;
use crate::event::{DropReason, Event, Phase, Reason};
use crate::queue::lease::Work;
use crate::queue::{Link, PeerKey};
use crate::transport::{ReadHalf, Stream, WriteHalf};
use crate::wire::command::durable::UNKNOWN_FLAGS;
use crate::wire::command::{self, Command};
use crate::wire::decoder::{Decoder, Item};
use crate::wire::frame;
use crate::wire::heartbeat::{Beat, Heartbeat, Paused};
use crate::wire::session::{Established, Handshake, LocalSide};

/// Room for what a peer says at once in its handshake.
const HELLO: usize = 512;
/// What is read at once of input that nobody wants.
const SINK: usize = 8 * 1024;
/// After this much work the task lets others run.
const TURN_BYTES: usize = 256 * 1024;
const TURN_COMMANDS: usize = 256;

impl Link for WriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        WriteHalf::try_write(self, bytes)
    }

    fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        WriteHalf::try_write_vectored(self, slices)
    }
}

/// Why a connection did not become a peer.
pub(crate) type Refusal = (Phase, Reason);

/// Runs the handshake on a fresh connection. Returns the peer and the bytes that it sent beyond it.
pub(crate) async fn handshake(shared: &Shared, stream: &mut Stream) -> Result<(Established, BytesMut), Refusal> {
    let options = &shared.options;
    let local = LocalSide {
        socket_type: shared.kind,
        identity: options.identity.clone(),
        security: options.security.clone(),
        zmtp2: options.zmtp2,
        limits: options.limits.clone(),
        properties: shared.durability.properties(),
        handshake_timeout: options.handshake_timeout,
    };
    let mut machine = Handshake::new(local, Instant::now());
    let deadline = machine.deadline();
    let talk = async {
        let mut input = BytesMut::with_capacity(HELLO);
        let closed = |machine: &Handshake, error: &io::Error| (machine.phase(), stream_reason(error));
        stream.writable().await.map_err(|error| closed(&machine, &error))?;
        // Who calls has often spoken by now, and is told everything in one piece. What is amiss the next read shows.
        let _ = stream.try_read_buf(&mut input);
        loop {
            let result = machine.handle_input(&mut input);
            let written = write_all(stream, machine.take_output()).await;
            match result {
                Ok(None) => {}
                Ok(Some(peer)) => {
                    written.map_err(|reason| (Phase::Handshake, reason))?;
                    return Ok((peer, input));
                }
                Err(refusal) => return Err((refusal.phase, refusal.reason)),
            }
            input.reserve(HELLO);
            match stream.read_buf(&mut input).await {
                Ok(0) => return Err((machine.phase(), Reason::PeerClosed)),
                Ok(_) => {}
                Err(error) => return Err(closed(&machine, &error)),
            }
        }
    };
    let outcome = {
        let mut talk = pin!(talk);
        match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), talk.as_mut()).await,
            None => return talk.await,
        }
    };
    outcome.unwrap_or_else(|_| {
        let phase = machine.handle_timeout(Instant::now()).map_or(machine.phase(), |refusal| refusal.phase);
        Err((phase, Reason::Timeout))
    })
}

async fn write_all(stream: &Stream, bytes: Option<Bytes>) -> Result<(), Reason> {
    let Some(mut bytes) = bytes else { return Ok(()) };
    while !bytes.is_empty() {
        stream.writable().await.map_err(|error| stream_reason(&error))?;
        match stream.try_write(&bytes) {
            Ok(written) => bytes.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(stream_reason(&error)),
        }
    }
    Ok(())
}

pub(crate) fn io_reason(error: &io::Error) -> Reason {
    Reason::Io(error.to_string())
}

/// A peer that is gone shows in many ways, by whether we read or write first: they are all one reason.
fn stream_reason(error: &io::Error) -> Reason {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset => Reason::PeerClosed,
        _ => io_reason(error),
    }
}

/// Ends a connection so that what was written arrives: a close with unread input would be a reset, which
/// takes the peer's unread input with it.
pub(crate) async fn farewell(mut read: ReadHalf, write: &WriteHalf, patience: Duration) {
    if write.shutdown().is_err() {
        return;
    }
    let mut sink = BytesMut::with_capacity(SINK);
    let drain = poll_fn(|cx| {
        loop {
            sink.clear();
            match read.poll_read(cx, &mut sink) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = tokio::time::timeout(patience, drain).await;
}

/// One peer's traffic.
pub(crate) struct Connection<'a> {
    shared: &'a Shared,
    read: &'a mut ReadHalf,
    write: &'a WriteHalf,
    key: PeerKey,
    lane: PeerKey,
    inbound: Inbound,
    input: ReadBuffer,
    decoder: Decoder,
    /// The inbox has no room.
    paused: bool,
    /// The peer has said all it will say.
    eof: bool,
    /// Our last write was refused: the kernel is full.
    blocked: bool,
    /// A write failed: the peer takes nothing any more. What it sent before is still read, and reading comes to
    /// an end by itself.
    hung_up: Option<Reason>,
    /// Messages were written when the peer's last byte came.
    sent_at_receive: u64,
    heartbeat: Heartbeat,
    timer: Option<Pin<Box<Sleep>>>,
    /// Its part in durable delivery.
    part: Option<Part>,
}

/// Work left in one turn of the task.
struct Turn {
    bytes: usize,
    commands: usize,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.bytes == 0 || self.commands == 0
    }
}

impl<'a> Connection<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        (read, write): (&'a mut ReadHalf, &'a WriteHalf),
        key: PeerKey,
        lane: PeerKey,
        peer: &Established,
        input: BytesMut,
        part: Option<Part>,
    ) -> Connection<'a> {
        let now = Instant::now();
        let mut connection = Connection {
            shared,
            read,
            write,
            key,
            lane,
            inbound: shared.pattern.inbound(),
            input: ReadBuffer::new(input),
            decoder: Decoder::new(&shared.options.limits, peer.version),
            paused: false,
            eof: false,
            blocked: false,
            hung_up: None,
            sent_at_receive: 0,
            heartbeat: Heartbeat::new(&shared.options.heartbeat, peer.version, now),
            timer: None,
            part,
        };
        if connection.part.is_some() && announces(peer) {
            connection.decoder.expect_durable();
        }
        connection.set_timer();
        connection
    }

    /// Runs until the connection ends; says why.
    ///
    /// No `async fn`, which would keep room for the connection twice.
    pub(crate) fn run(mut self) -> impl Future<Output = Reason> {
        poll_fn(move |cx| {
            let reason = std::task::ready!(self.poll(cx));
            Poll::Ready(self.part.as_ref().and_then(Part::refusal).unwrap_or(reason))
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        let mut turn = Turn { bytes: TURN_BYTES, commands: TURN_COMMANDS };
        match self.poll_turn(cx, &mut turn) {
            Err(reason) => Poll::Ready(reason),
            Ok(()) => {
                if turn.is_over() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<(), Reason> {
        self.poll_timer(cx)?;
        // Reading may queue control frames (PONG), so writing comes last.
        self.poll_read(cx, turn)?;
        if self.part.is_none() {
            return self.poll_write(cx, turn);
        }
        self.poll_part(cx, turn)
    }

    /// Fills the queue from the log and writes, for as long as both go on.
    fn poll_part(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<(), Reason> {
        loop {
            let Some(part) = &mut self.part else { return Ok(()) };
            let filled = part.poll(self.shared, cx)?;
            let before = turn.bytes;
            self.poll_write(cx, turn)?;
            // What was written made room, also where the queue was too full to be filled.
            let wrote = turn.bytes < before;
            if !(filled || wrote) || self.blocked || turn.is_over() {
                return Ok(());
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<(), Reason> {
        loop {
            if self.hung_up.is_some() {
                return self.poll_orders(cx);
            }
            if self.blocked {
                match self.write.poll_write_ready(cx) {
                    Poll::Ready(Ok(())) => self.blocked = false,
                    Poll::Ready(Err(error)) => {
                        self.hang_up(cx, &error);
                        continue;
                    }
                    Poll::Pending => return self.poll_orders(cx),
                }
            }
            let lease = match self.shared.outbound.poll_lease(self.key, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Work::Write(lease)) => lease,
                Poll::Ready(Work::End(reason)) => return Err(reason),
                Poll::Ready(Work::Gone) => return Err(Reason::Local),
            };
            match lease.try_write() {
                Ok(written) => {
                    self.blocked = written < lease.len();
                    turn.bytes = turn.bytes.saturating_sub(written);
                    self.shared.outbound.finish(&lease, written, self.blocked);
                }
                Err(error) => {
                    self.blocked = true;
                    self.shared.outbound.finish(&lease, 0, true);
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.hang_up(cx, &error);
                    }
                }
            }
            if turn.is_over() {
                return Ok(());
            }
        }
    }

    fn hang_up(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        self.hung_up = Some(stream_reason(error));
        // Reading had its turn before this; it is to see the end now.
        cx.waker().wake_by_ref();
    }

    /// While the kernel is full there is nothing to lease, but the order to end may come.
    fn poll_orders(&mut self, cx: &mut Context<'_>) -> Result<(), Reason> {
        match self.shared.outbound.poll_orders(self.key, cx) {
            Poll::Ready(reason) => Err(reason),
            Poll::Pending => Ok(()),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<(), Reason> {
        let mut received = false;
        loop {
            self.decode(cx, turn)?;
            if self.paused || turn.is_over() {
                return Ok(());
            }
            if self.eof {
                return Err(self.hung_up.take().unwrap_or(Reason::PeerClosed));
            }
            let room = self.input.make_room(self.decoder.wanted());
            match self.read.poll_read(cx, &mut self.input.bytes) {
                Poll::Ready(Ok(0)) => self.eof = true,
                Poll::Ready(Ok(read)) => {
                    received = true;
                    if let Some(part) = &self.part {
                        part.heard();
                    }
                    self.heartbeat.handle_received(Instant::now());
                    if self.heartbeat.poll_timeout().is_some() {
                        self.sent_at_receive = self.sent();
                    }
                    turn.bytes = turn.bytes.saturating_sub(read);
                    self.input.handle_read(read, room);
                }
                Poll::Ready(Err(error)) => {
                    return Err(self.hung_up.take().unwrap_or_else(|| stream_reason(&error)));
                }
                Poll::Pending => {
                    let busy = self.input.is_busy() && self.timer.is_some();
                    if !busy || (!received && self.input.is_small()) {
                        self.let_go();
                    }
                    return Ok(());
                }
            }
        }
    }

    /// An idle connection holds no buffer. A busy one keeps them until its heartbeat finds it idle, since
    /// taking them anew costs more than a small message; without a heartbeat, or new, it gives them back each time.
    fn let_go(&mut self) {
        if self.input.let_go() {
            self.shared.outbound.release_idle(self.key);
        }
    }

    /// Carries off everything whole that was read, as far as the inbox has room.
    fn decode(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Result<(), Reason> {
        self.paused = false;
        while !self.input.bytes.is_empty() && !turn.is_over() {
            let (messages, bytes) = match self.inbound {
                Inbound::Deliver | Inbound::Upstream => match self.shared.inbox.poll_allowance(self.lane, cx) {
                    Poll::Ready(allowance) => allowance,
                    Poll::Pending => {
                        self.paused = true;
                        return Ok(());
                    }
                },
                Inbound::Discard | Inbound::Subscriptions => (usize::MAX, usize::MAX),
            };
            let next = match self.decoder.next(&mut self.input.bytes, messages, bytes) {
                Err(UNKNOWN_FLAGS) if self.part.as_mut().is_some_and(|part| part.refuse_version(self.shared)) => {
                    // What else it says is not understood, either; it is to read why.
                    self.input.bytes.clear();
                    break;
                }
                next => next?,
            };
            match next {
                None => break,
                Some(Item::Messages { bytes, count }) => {
                    if count == 1 {
                        self.input.handle_message(bytes.len());
                    }
                    self.handle_messages(bytes, count, turn)?;
                }
                Some(Item::Command(command)) => {
                    turn.commands -= 1;
                    self.handle_command(command)?;
                }
            }
        }
        Ok(())
    }

    fn handle_messages(&mut self, mut bytes: Bytes, count: usize, turn: &mut Turn) -> Result<(), Reason> {
        if let Some(part) = &mut self.part {
            match part.take(self.shared, self.lane, bytes)? {
                None => return Ok(()),
                Some(plain) => bytes = plain,
            }
        }
        match self.inbound {
            Inbound::Deliver => self.shared.inbox.publish(self.lane, bytes, count),
            Inbound::Discard => self.drop_unused(count, bytes.len()),
            Inbound::Subscriptions | Inbound::Upstream => {
                // One at a time: any of them may be a subscription.
                while let Some(len) = frame::message_len(&bytes) {
                    turn.commands = turn.commands.saturating_sub(1);
                    self.handle_upstream(bytes.split_to(len))?;
                }
            }
        }
        Ok(())
    }

    fn handle_upstream(&mut self, message: Bytes) -> Result<(), Reason> {
        let first = frame::frames(&message).next().unwrap_or_default();
        match first.split_first() {
            Some((&kind, topic)) if kind <= 1 => {
                if topic.len() > self.shared.options.limits.max_topic {
                    let limit = self.shared.options.limits.max_topic as u64;
                    return Err(Reason::LimitExceeded { which: "max_topic", limit });
                }
                self.change_subscription(topic, kind == 1)
            }
            _ if self.inbound == Inbound::Upstream => {
                self.shared.inbox.publish(self.lane, message, 1);
                Ok(())
            }
            _ => {
                self.drop_unused(1, message.len());
                Ok(())
            }
        }
    }

    fn drop_unused(&self, messages: usize, bytes: usize) {
        self.shared.inbox.count_drop(self.lane, DropReason::Unused, messages, bytes);
    }

    fn handle_command(&mut self, command: Command) -> Result<(), Reason> {
        match command {
            Command::Subscribe(topic) => self.handle_subscription(&topic, true),
            Command::Cancel(topic) => self.handle_subscription(&topic, false),
            Command::Ping { ttl, context } => {
                self.heartbeat.handle_ping(ttl);
                self.set_timer();
                let mut pong = BytesMut::new();
                command::encode_pong(&mut pong, &context);
                self.shared.outbound.answer(self.key, pong.freeze());
                Ok(())
            }
            Command::Pong(context) => {
                if let Some(round_trip) = self.heartbeat.handle_pong(&context, Instant::now())
                    && let Some(entry) = self.shared.table().get_mut(&self.key)
                {
                    entry.round_trip = Some(round_trip);
                }
                Ok(())
            }
            Command::Error(text) => Err(Reason::PeerError(text)),
            Command::Durable(command) => match &mut self.part {
                Some(part) => part.handle(self.shared, *command),
                None => Ok(()),
            },
            Command::Unknown => Ok(()),
        }
    }

    fn handle_subscription(&mut self, topic: &[u8], subscribe: bool) -> Result<(), Reason> {
        match self.inbound {
            Inbound::Subscriptions | Inbound::Upstream => self.change_subscription(topic, subscribe),
            // Not for this type; libzmq would hand it to the application.
            Inbound::Deliver | Inbound::Discard => {
                self.drop_unused(1, topic.len());
                Ok(())
            }
        }
    }

    fn change_subscription(&mut self, topic: &[u8], subscribe: bool) -> Result<(), Reason> {
        // First where it has its effect: whoever waits for subscribers may send right after.
        if let Some(part) = &mut self.part {
            part.subscription(topic, subscribe);
        }
        self.shared.subscription(self.key, topic, subscribe)
    }

    fn sent(&self) -> u64 {
        self.shared.outbound.sent(self.key).map_or(0, |sent| sent.messages)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Reason> {
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.let_go();
            self.input.handle_beat();
            let paused = Paused {
                reading: self.paused,
                writing: self.blocked || self.shared.outbound.is_blocked(self.key),
                wrote_since_receive: self.sent() != self.sent_at_receive,
            };
            match self.heartbeat.poll(Instant::now(), paused) {
                Some(Beat::Expired) => return Err(Reason::Timeout),
                Some(Beat::SendPing { ttl, context }) => {
                    let mut ping = BytesMut::new();
                    command::encode_ping(&mut ping, ttl, &context);
                    self.shared.outbound.control(self.key, &ping);
                }
                None => {}
            }
            self.set_timer();
        }
        Ok(())
    }

    fn set_timer(&mut self) {
        let Some(at) = self.heartbeat.poll_timeout() else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at.into()),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at.into()))),
        }
    }
}

/// Serves one admitted peer to its end, whatever happens; a panic inside is `InternalError`.
///
/// No `async fn`: what the peer said in its handshake is not kept for as long as it stays.
pub(crate) fn serve<'a>(
    shared: &'a Arc<Shared>,
    halves: (&'a mut ReadHalf, &'a WriteHalf),
    key: PeerKey,
    peer: &Established,
    input: BytesMut,
) -> impl Future<Output = Reason> + use<'a> {
    let run = traffic(shared, halves, key, peer, input);
    async move {
        match run {
            Ok(run) => carry(shared, run, key).await,
            Err(reason) => reason,
        }
    }
}

/// The traffic with one peer, under its span. Boxed: what is around it is not moved with it.
fn traffic<'a>(
    shared: &'a Arc<Shared>,
    halves: (&'a mut ReadHalf, &'a WriteHalf),
    key: PeerKey,
    peer: &Established,
    input: BytesMut,
) -> Result<Pin<Box<impl Future<Output = Reason> + use<'a>>>, Reason> {
    let place = shared.table().get(&key).map(|entry| (entry.lane, entry.name.clone()));
    let (lane, name) = place.ok_or(Reason::Local)?;
    let version = peer.version;
    let span =
        tracing::debug_span!(target: "ginnel", "connection", socket = shared.kind.name(), peer = &*name, ?version);
    let part = Part::new(shared, key, peer)?;
    Ok(Box::pin(Connection::new(shared, halves, key, lane, peer, input, part).run().instrument(span)))
}

async fn carry(shared: &Shared, mut run: Pin<Box<impl Future<Output = Reason>>>, key: PeerKey) -> Reason {
    let logged = shared.durability.spool().is_some();
    let reason = poll_fn(|cx| {
        let poll = std::panic::AssertUnwindSafe(|| run.as_mut().poll(cx));
        std::panic::catch_unwind(poll).unwrap_or(Poll::Ready(Reason::InternalError))
    })
    .await;
    // After a panic nobody may be left to give the right to write back.
    if reason != Reason::InternalError {
        poll_fn(|cx| shared.outbound.poll_parted(key, cx)).await;
    }
    if logged {
        shared.outbound.forget_records(key);
    }
    reason
}

pub(crate) fn refused(shared: &Shared, peer: &str, (phase, reason): Refusal) {
    shared.events.emit(Event::Refused { peer: peer.to_owned(), phase, reason });
}
