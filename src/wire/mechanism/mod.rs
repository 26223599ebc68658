//! Security mechanisms: who may become a peer. Commands of the handshake in, commands and a verdict out.
//!
//! One file per mechanism; each is a small machine fed with one command body at a time by `session`, which
//! has checked frames and sizes. No edge leads from a refusal to a peer. Nothing here knows traffic.
//!
//! A mechanism that encrypts will hand `session` a transform for the connection together with its verdict.
//! That transform belongs in two places only: outgoing, on each batch of whole frames when the connection
//! drains it from the outbox, before the write; incoming, on the bytes read, before the decoder, so that
//! limits and framing are judged on what was decrypted. Messages in queues stay plain wire bytes.

mod null;
mod plain;

use bytes::{Bytes, BytesMut};

use self::null::Null;
use self::plain::{Client, Server};
use super::command;
use super::metadata::{self, Metadata};
use super::session::LocalSide;
use crate::event::Reason;
use crate::message::Frame;
use crate::options::{Security, SocketType};

const READY: &[u8] = b"READY";
const ERROR: &[u8] = b"ERROR";

/// The least bound on a handshake command's body, whatever `max_metadata` is: a HELLO with the longest name
/// and password.
pub(crate) const LARGEST_HELLO: usize = 6 + 256 + 256;
/// Body bytes of INITIATE and READY besides their metadata, at most.
pub(crate) const METADATA_OVERHEAD: usize = 9;

/// The handshake of one connection.
#[derive(Debug)]
pub(crate) enum Mechanism {
    Null(Null),
    Client(Client),
    Server(Server),
}

/// What a command of the peer led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// The handshake goes on.
    Continue,
    /// The peer is accepted.
    Ready(Accepted),
}

/// What a handshake tells about the peer.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket_type: Option<SocketType>,
    pub(crate) identity: Option<Frame>,
    pub(crate) user: Option<String>,
    pub(crate) others: Vec<(String, Bytes)>,
}

impl Mechanism {
    pub(crate) fn new(security: &Security) -> Mechanism {
        match security {
            Security::Null => Mechanism::Null(Null),
            Security::PlainClient(_) => Mechanism::Client(Client::new()),
            Security::PlainServer(_) => Mechanism::Server(Server::new()),
        }
    }

    /// What is sent first, right after the greetings.
    pub(crate) fn start(&self, local: &LocalSide, out: &mut BytesMut) {
        match self {
            Mechanism::Null(_) => encode_ready(local, out),
            Mechanism::Client(_) => plain::encode_hello(local, out),
            Mechanism::Server(_) => {}
        }
    }

    /// Takes the body of the peer's next command. After an error there may be an ERROR in `out`.
    pub(crate) fn handle_command(
        &mut self,
        local: &LocalSide,
        name: &[u8],
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<Step, Reason> {
        if name == ERROR {
            return Err(Reason::PeerError(command::error_text(data)?));
        }
        match self {
            Mechanism::Null(null) => null.handle_command(local, name, data, out),
            Mechanism::Client(client) => client.handle_command(local, name, data, out),
            Mechanism::Server(server) => server.handle_command(local, name, data, out),
        }
    }
}

fn encode_ready(local: &LocalSide, out: &mut BytesMut) {
    command::encode_command(out, READY, &[&own_metadata(local)]);
}

fn own_metadata(local: &LocalSide) -> BytesMut {
    metadata::encode(local.socket_type, &local.identity, &local.properties)
}

/// Reads the peer's metadata and judges its type.
fn accept(local: &LocalSide, data: &[u8], user: Option<String>) -> Result<Accepted, Reason> {
    let Metadata { socket_type, identity, others } = Metadata::parse(data, &local.limits)?;
    // A missing type is tolerated, as libzmq does; a wrong one is not.
    let socket_type = match socket_type {
        None => None,
        Some(name) => match SocketType::from_name(&name) {
            Some(peer) if local.socket_type.accepts(peer) => Some(peer),
            _ => return Err(Reason::IncompatibleType),
        },
    };
    let identity = identity.and_then(|bytes| routing_id(&bytes));
    Ok(Accepted { socket_type, identity, user, others })
}

/// Says why before closing: the sender of such a READY is more likely misconfigured than hostile.
fn encode_refusal(local: &LocalSide, reason: &Reason, out: &mut BytesMut) {
    if *reason == Reason::IncompatibleType {
        command::encode_error(out, &format!("Socket-Type does not go with {}", local.socket_type));
    }
}

/// An identity that may be used for routing; others count as none.
pub(crate) fn routing_id(bytes: &[u8]) -> Option<Frame> {
    let valid = matches!(bytes.first(), Some(&first) if first != 0) && bytes.len() <= 255;
    valid.then(|| Frame::copy_from_slice(bytes))
}
