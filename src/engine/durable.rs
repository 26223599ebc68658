//! What durability adds to a socket and to each of its connections: [`Durability`] and [`Part`].
//!
//! `spool` is a socket's spool with its names, `spooler` one connection of it, `records` that connection's place in
//! the log; `holder` is the other side. A socket without durability pays one `Option` here and there.

mod claim;
pub(crate) mod holder;
mod records;
pub(crate) mod spool;
mod spooler;

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use self::holder::{Holder, Holding};
use self::spool::Spool;
use self::spooler::{Guest, Spooler};
use super::events::Events;
use super::shared::Shared;
use crate::error::{BuildError, OptionError};
use crate::event::Reason;
use crate::options::{Options, SocketType};
use crate::queue::PeerKey;
use crate::wire::Version;
use crate::wire::command::durable::{Durable, NAME_PROPERTY, PROPERTY, VERSION};
use crate::wire::session::Established;

/// A socket's part in durable delivery.
#[derive(Clone, Default)]
pub(crate) enum Durability {
    #[default]
    None,
    /// It keeps what it sends.
    Spool(Arc<Spool>),
    /// It holds a durable name.
    Holder(Arc<Holder>),
}

impl Durability {
    /// Opens what the options ask for.
    pub(crate) fn open(kind: SocketType, options: &Options, events: &Arc<Events>) -> Result<Durability, BuildError> {
        if let Some(spool) = &options.spool {
            let spool = Spool::open(spool, kind == SocketType::Push, events.clone())?;
            return Ok(Durability::Spool(spool));
        }
        let Some(holder) = &options.holder else { return Ok(Durability::None) };
        let opened = Holder::open(options, holder, kind == SocketType::Sub, events.clone());
        let holder = opened.map_err(|error| OptionError::new("cursor_file", error.to_string()))?;
        Ok(Durability::Holder(holder))
    }

    pub(crate) fn spool(&self) -> Option<&Arc<Spool>> {
        if let Durability::Spool(spool) = self { Some(spool) } else { None }
    }

    pub(crate) fn holder(&self) -> Option<&Arc<Holder>> {
        if let Durability::Holder(holder) = self { Some(holder) } else { None }
    }

    /// Leaves the disk in order: what is kept is written and synced, what is done is saved. Blocks. How many records some
    /// name has yet to get, and how many there was no room for.
    pub(crate) fn close(&self) -> (u64, u64) {
        match self {
            Durability::None => (0, 0),
            Durability::Spool(spool) => spool.close(),
            Durability::Holder(holder) => {
                holder.close();
                (0, 0)
            }
        }
    }

    /// What our READY says of it.
    pub(crate) fn properties(&self) -> Vec<(String, Vec<u8>)> {
        let version = (PROPERTY.to_owned(), VERSION.to_vec());
        match self {
            Durability::None => Vec::new(),
            Durability::Spool(_) => vec![version],
            Durability::Holder(holder) => {
                vec![version, (NAME_PROPERTY.to_owned(), holder.options.name.clone().into_bytes())]
            }
        }
    }
}

fn property<'a>(peer: &'a Established, name: &str) -> Option<&'a [u8]> {
    peer.metadata.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
}

/// Whether the peer announced the extension.
pub(crate) fn announces(peer: &Established) -> bool {
    // "2,1" would be a later version that also speaks ours.
    let speaks = |value: &[u8]| value.split(|&byte| byte == b',').any(|version| version.trim_ascii() == VERSION);
    peer.version == Version::V3_1 && property(peer, PROPERTY).is_some_and(speaks)
}

/// A connection's part in durable delivery.
pub(crate) enum Part {
    Spooler(Box<Spooler>),
    Holder(Box<Holding>),
}

impl Part {
    /// None on a socket without durability.
    pub(crate) fn new(shared: &Shared, key: PeerKey, peer: &Established) -> Result<Option<Part>, Reason> {
        if matches!(shared.durability, Durability::None) {
            return Ok(None);
        }
        let Some(address) = shared.table().get(&key).map(|entry| entry.name.clone()) else { return Err(Reason::Local) };
        let durable = announces(peer);
        match &shared.durability {
            Durability::None => Ok(None),
            Durability::Spool(spool) => {
                let name = property(peer, NAME_PROPERTY).unwrap_or_default();
                let guest = Guest {
                    key,
                    address,
                    durable,
                    name: std::str::from_utf8(name).unwrap_or_default(),
                    user: peer.user.as_deref(),
                    // One that is idle and well may be silent for one interval and a round trip.
                    silence: shared.options.heartbeat.interval * 2,
                };
                Ok(Some(Part::Spooler(Box::new(Spooler::new(spool.clone(), &guest)))))
            }
            Durability::Holder(holder) => {
                let holding = Holding::new(holder.clone(), shared, key, address, durable)?;
                Ok(Some(Part::Holder(Box::new(holding))))
            }
        }
    }

    pub(crate) fn handle(&mut self, shared: &Shared, command: Durable) -> Result<(), Reason> {
        match self {
            Part::Spooler(spooler) => spooler.handle(shared, command),
            Part::Holder(holding) => holding.handle(shared, command),
        }
    }

    /// The decoder found flags of a later version. True if the peer is told before the connection ends.
    pub(crate) fn refuse_version(&mut self, shared: &Shared) -> bool {
        if let Part::Spooler(spooler) = self {
            spooler.refuse_version(shared);
            return true;
        }
        false
    }

    /// Why the connection ends, if it was refused here.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        if let Part::Spooler(spooler) = self { spooler.refusal() } else { None }
    }

    pub(crate) fn heard(&self) {
        if let Part::Spooler(spooler) = self {
            spooler.heard();
        }
    }

    pub(crate) fn subscription(&mut self, topic: &[u8], subscribe: bool) {
        if let Part::Spooler(spooler) = self {
            spooler.subscription(topic, subscribe);
        }
    }

    /// Messages that arrived: those that are to be delivered as plain ones come back.
    pub(crate) fn take(&mut self, shared: &Shared, lane: PeerKey, bytes: Bytes) -> Result<Option<Bytes>, Reason> {
        match self {
            Part::Spooler(_) => Ok(Some(bytes)),
            Part::Holder(holding) => holding.take(shared, lane, bytes),
        }
    }

    /// Does what is due. True when something was put into the connection's queue.
    pub(crate) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<bool, Reason> {
        match self {
            Part::Spooler(spooler) => spooler.poll_fill(shared, cx),
            Part::Holder(holding) => {
                holding.poll(cx);
                Ok(false)
            }
        }
    }
}
