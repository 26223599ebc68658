//! From a fresh connection to a peer: [`Handshake`] drives greeting and mechanism, sans-IO.
//!
//! Bytes and the time come in; bytes to write and one verdict come out. It ends with [`Established`], or
//! with a [`Refusal`] and, where the protocol has words for it, an ERROR still to be written. One deadline
//! covers all of it and is not moved by bytes, so a slow drip gains nothing. Traffic belongs to `decoder`.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::Version;
use super::command;
use super::frame::{Header, encode_frame, peek_header};
use super::greeting::{self, Verdict};
use super::mechanism::{Accepted, LARGEST_HELLO, METADATA_OVERHEAD, Mechanism, Step, routing_id};
use crate::event::{Phase, Reason};
use crate::message::Frame;
use crate::options::{Limits, Security, SocketType};

/// What we are, as a handshake needs it.
#[derive(Debug, Clone)]
pub(crate) struct LocalSide {
    pub(crate) socket_type: SocketType,
    pub(crate) identity: Frame,
    pub(crate) security: Security,
    /// Accept ZMTP 2.0 peers; without effect unless `security` is NULL.
    pub(crate) zmtp2: bool,
    pub(crate) limits: Limits,
    /// Announced besides type and identity: short names of the grammar, short values.
    pub(crate) properties: Vec<(String, Vec<u8>)>,
    /// Zero: none.
    pub(crate) handshake_timeout: Duration,
}

/// A peer that may take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Established {
    pub(crate) version: Version,
    /// `None` when the peer announced none.
    pub(crate) socket_type: Option<SocketType>,
    /// Only one that may be used for routing: 1 to 255 bytes, not starting with 0.
    pub(crate) identity: Option<Frame>,
    /// The authenticated user.
    pub(crate) user: Option<String>,
    /// All other properties that the peer announced.
    pub(crate) metadata: Vec<(String, Bytes)>,
}

/// A connection that is to be closed, after [`Handshake::take_output`] was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) phase: Phase,
    pub(crate) reason: Reason,
}

/// The machine of one connection until its traffic begins.
pub(crate) struct Handshake {
    local: LocalSide,
    state: State,
    /// The part of our greeting that is still to be sent.
    greeting: Bytes,
    output: BytesMut,
    consumed: usize,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Greeting,
    /// ZMTP 2.0: revision, socket type and identity are awaited.
    Old,
    Mechanism(Mechanism, Version),
    Done,
    Failed(Refusal),
}

impl Handshake {
    pub(crate) fn new(local: LocalSide, now: Instant) -> Handshake {
        let as_server = matches!(local.security, Security::PlainServer(_));
        let greeting = greeting::encode(local.security.mechanism(), as_server, local.identity.len());
        let deadline = if local.handshake_timeout.is_zero() { None } else { now.checked_add(local.handshake_timeout) };
        let mut handshake = Handshake {
            greeting: Bytes::copy_from_slice(&greeting),
            output: BytesMut::new(),
            state: State::Greeting,
            consumed: 0,
            deadline,
            local,
        };
        // A 2.0 peer would take the rest for its own kind of greeting, so it may see the signature only.
        handshake.send_greeting_to(if handshake.speaks_old() { greeting::SIGNATURE } else { greeting::LEN });
        handshake
    }

    /// Takes the peer's handshake bytes out of `input`; what belongs to traffic stays there.
    ///
    /// Gives [`Established`] once. After a refusal every further call gives it again.
    pub(crate) fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Established>, Refusal> {
        if let State::Failed(refusal) = &self.state {
            return Err(refusal.clone());
        }
        self.advance(input).map_err(|reason| self.fail(reason))
    }

    /// Bytes to write now. Call it after `new` and after every other call, also after a refusal.
    pub(crate) fn take_output(&mut self) -> Option<Bytes> {
        if self.output.is_empty() { None } else { Some(self.output.split().freeze()) }
    }

    /// When to call `handle_timeout`, while the handshake lasts.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Done | State::Failed(_) => None,
            _ => self.deadline,
        }
    }

    /// Gives up when the deadline has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Refusal> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        Some(self.fail(Reason::Timeout))
    }

    /// How far the connection has come.
    pub(crate) fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting => Phase::Greeting,
            State::Old | State::Mechanism(..) => Phase::Handshake,
            State::Done => Phase::Traffic,
            State::Failed(refusal) => refusal.phase,
        }
    }

    fn fail(&mut self, reason: Reason) -> Refusal {
        let refusal = Refusal { phase: self.phase(), reason };
        self.state = State::Failed(refusal.clone());
        refusal
    }

    fn speaks_old(&self) -> bool {
        self.local.zmtp2 && self.local.security == Security::Null
    }

    /// Steps until the bytes are used up or the handshake is over. Each round consumes or returns.
    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Established>, Reason> {
        loop {
            let going_on = match &self.state {
                State::Greeting => self.read_greeting(input)?,
                State::Mechanism(_, version) => {
                    let version = *version;
                    match self.read_command(input)? {
                        Some(Step::Ready(peer)) => return Ok(Some(self.establish(version, peer))),
                        step => step.is_some(),
                    }
                }
                State::Old => {
                    return Ok(self.read_old(input)?.map(|peer| self.establish(Version::V2_0, peer)));
                }
                State::Done | State::Failed(_) => false,
            };
            if !going_on {
                return Ok(None);
            }
        }
    }

    fn establish(&mut self, version: Version, peer: Accepted) -> Established {
        self.state = State::Done;
        let Accepted { socket_type, identity, user, others } = peer;
        Established { version, socket_type, identity, user, metadata: others }
    }

    /// Whether the greeting is done. Ours goes out in the steps of libzmq, where it is not out already: the
    /// version after the peer's signature, the rest once the peer's version is known to be 3.
    fn read_greeting(&mut self, input: &mut BytesMut) -> Result<bool, Reason> {
        let seen = input.get(..greeting::LEN).unwrap_or(input);
        let verdict = greeting::examine(seen, self.local.security.mechanism())?;
        let known = seen.len();
        if known >= greeting::SIGNATURE && (verdict != Verdict::Old || self.speaks_old()) {
            self.send_greeting_to(greeting::SIGNATURE.saturating_add(1));
        }
        match verdict {
            Verdict::Old if !self.speaks_old() => Err(Reason::UnsupportedVersion),
            Verdict::Old => {
                self.consume(input, greeting::SIGNATURE.saturating_add(1))?;
                self.start_old();
                Ok(true)
            }
            Verdict::More => {
                if known > greeting::SIGNATURE {
                    self.send_greeting_to(greeting::LEN);
                }
                Ok(false)
            }
            Verdict::Whole(version) => {
                self.send_greeting_to(greeting::LEN);
                self.consume(input, greeting::LEN)?;
                let mechanism = Mechanism::new(&self.local.security);
                mechanism.start(&self.local, &mut self.output);
                self.state = State::Mechanism(mechanism, version);
                Ok(true)
            }
        }
    }

    /// Sends what is not yet out of our greeting's first `end` bytes.
    fn send_greeting_to(&mut self, end: usize) {
        let sent = greeting::LEN.saturating_sub(self.greeting.len());
        let part = self.greeting.split_to(end.saturating_sub(sent).min(self.greeting.len()));
        self.output.extend_from_slice(&part);
    }

    /// ZMTP 2.0: the socket type's number, then the identity in a frame; no READY follows.
    fn start_old(&mut self) {
        let socket_type = self.local.socket_type;
        let number = SocketType::ALL.iter().position(|&kind| kind == socket_type).unwrap_or_default();
        self.output.extend_from_slice(&[number as u8]);
        let identity: &[u8] = if socket_type.announces_identity() { &self.local.identity } else { &[] };
        encode_frame(&mut self.output, 0, identity);
        self.state = State::Old;
    }

    fn read_old(&mut self, input: &mut BytesMut) -> Result<Option<Accepted>, Reason> {
        let Some((&number, rest)) = input.split_first() else { return Ok(None) };
        let socket_type = SocketType::ALL.get(usize::from(number)).copied();
        let Some(socket_type) = socket_type.filter(|&peer| self.local.socket_type.accepts(peer)) else {
            return Err(Reason::IncompatibleType);
        };
        let Some(header) = peek_header(rest) else { return Ok(None) };
        if header.more() || header.command() {
            return Err(Reason::Malformed("identity frame with MORE or COMMAND"));
        }
        let end = self.admit(&header)?;
        let Some(body) = rest.get(header.len..end) else { return Ok(None) };
        let identity = routing_id(body);
        self.consume(input, end.saturating_add(1))?;
        Ok(Some(Accepted { socket_type: Some(socket_type), identity, user: None, others: Vec::new() }))
    }

    /// Feeds the next command to the mechanism; `None` when it is not all there.
    fn read_command(&mut self, input: &mut BytesMut) -> Result<Option<Step>, Reason> {
        let Some(header) = peek_header(input) else { return Ok(None) };
        let end = self.admit_command(&header)?;
        let Some(body) = input.get(header.len..end) else { return Ok(None) };
        let State::Mechanism(mechanism, _) = &mut self.state else { return Ok(None) };
        // libzmq's PLAIN server writes ERROR with its first letter in place of the length.
        let spelled = body.strip_prefix(b"\x5eRROR").map(|data| (&b"ERROR"[..], data));
        let Some((name, data)) = spelled.or_else(|| command::split(body)) else {
            return Err(out_of_turn(&header, "handshake command cut short"));
        };
        let step = mechanism.handle_command(&self.local, name, data, &mut self.output)?;
        self.consume(input, end)?;
        Ok(Some(step))
    }

    /// Checks a command from its header alone and gives its end. As in libzmq, the COMMAND bit is not needed.
    fn admit_command(&self, header: &Header) -> Result<usize, Reason> {
        if header.more() {
            return Err(out_of_turn(header, "handshake command with MORE"));
        }
        let max_metadata = self.local.limits.max_metadata;
        if header.body > max_metadata.saturating_add(METADATA_OVERHEAD).max(LARGEST_HELLO) as u64 {
            return Err(if header.command() {
                Reason::LimitExceeded { which: "max_metadata", limit: max_metadata as u64 }
            } else {
                Reason::UnexpectedCommand
            });
        }
        self.admit(header)
    }

    /// Where the frame with this header ends, if the handshake may take so many bytes.
    fn admit(&self, header: &Header) -> Result<usize, Reason> {
        let limit = self.local.limits.max_handshake_bytes as u64;
        let end = header.body.saturating_add(header.len as u64);
        if end.saturating_add(self.consumed as u64) > limit {
            return Err(Reason::LimitExceeded { which: "max_handshake_bytes", limit });
        }
        usize::try_from(end).map_err(|_| Reason::LimitExceeded { which: "max_handshake_bytes", limit })
    }

    fn consume(&mut self, input: &mut BytesMut, count: usize) -> Result<(), Reason> {
        self.consumed = self.consumed.saturating_add(count);
        let limit = self.local.limits.max_handshake_bytes;
        if self.consumed > limit {
            return Err(Reason::LimitExceeded { which: "max_handshake_bytes", limit: limit as u64 });
        }
        input.advance(count.min(input.len()));
        Ok(())
    }
}

/// A frame that is no handshake command: broken if it calls itself a command, else a message too early.
fn out_of_turn(header: &Header, what: &'static str) -> Reason {
    if header.command() { Reason::Malformed(what) } else { Reason::UnexpectedCommand }
}

impl fmt::Debug for Handshake {
    /// The phase only: output may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
