//! What a socket tells about itself: [`PeerInfo`], [`Stats`] and the [`Report`] of its end.
//!
//! Plain values, read off the queues and the table of peers at the moment of the call.

use std::time::Duration;

use super::Socket;
use crate::event::Drops;
use crate::message::Frame;
use crate::options::SocketType;
use crate::queue::PeerKey;

/// What [`Socket::close`] did with the messages that waited when it was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages handed to the operating system meanwhile.
    pub sent: u64,
    /// Messages discarded because linger was over; counted as `Linger`.
    pub dropped: u64,
    /// Messages that are safe in a spool.
    pub kept: u64,
}

/// One peer of a socket, with its counters, at the moment of the call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its routing id here.
    pub id: Frame,
    /// Its address (accepted) or the endpoint (connected).
    pub address: String,
    /// Its announced type; `None` before the handshake or when it announced none.
    pub socket_type: Option<SocketType>,
    /// Whether its handshake is done and its connection alive.
    pub connected: bool,
    /// Messages accepted for it and not yet with the operating system.
    pub queued: usize,
    /// Bound of `queued`; 0 is unlimited.
    pub send_hwm: usize,
    /// Messages received from it and not yet read (reported in batches of half the mark).
    pub unread: usize,
    /// Bound of `unread`; 0 is unlimited.
    pub recv_hwm: usize,
    /// Messages handed to the operating system.
    pub messages_sent: u64,
    /// Their bytes on the wire.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Their bytes on the wire.
    pub bytes_received: u64,
    /// Messages dropped, by reason.
    pub drops: Drops,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Topics it subscribes to.
    pub subscriptions: usize,
    /// The last heartbeat's round trip, once there was one.
    pub round_trip: Option<Duration>,
}

/// Counters of a socket at the moment of the call: its present peers, and totals that include those that left.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// The present peers.
    pub peers: Vec<PeerInfo>,
    /// Messages handed to the operating system or to another socket of this process.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Messages dropped, by reason.
    pub drops: Drops,
}

impl Socket {
    /// The socket's peers, connected or expected, with their counters.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let shared = self.shared();
        let rows: Vec<(PeerKey, PeerKey, PeerInfo)> = shared
            .table()
            .iter()
            .map(|(&key, entry)| {
                let info = PeerInfo {
                    id: entry.id.clone(),
                    address: entry.name.to_string(),
                    socket_type: entry.socket_type,
                    connected: entry.connected,
                    queued: 0,
                    send_hwm: 0,
                    unread: 0,
                    recv_hwm: shared.inbox.hwm(),
                    messages_sent: 0,
                    bytes_sent: 0,
                    messages_received: 0,
                    bytes_received: 0,
                    drops: Drops::default(),
                    reconnects: entry.connections.saturating_sub(1),
                    subscriptions: entry.subscriptions,
                    round_trip: entry.round_trip,
                };
                (key, entry.lane, info)
            })
            .collect();
        rows.into_iter().map(|(key, lane, info)| self.with_counters(key, lane, info)).collect()
    }

    fn with_counters(&self, key: PeerKey, lane: PeerKey, mut info: PeerInfo) -> PeerInfo {
        if let Some(sent) = self.shared().outbound.sent(key) {
            info.queued = sent.queued;
            info.send_hwm = sent.hwm;
            info.messages_sent = sent.messages;
            info.bytes_sent = sent.bytes;
            info.drops.merge(&sent.drops);
        }
        if let Some(received) = self.shared().inbox.received(lane) {
            info.unread = received.unread;
            info.messages_received = received.messages;
            info.bytes_received = received.bytes;
            info.drops.merge(&received.drops);
        }
        info
    }

    /// The socket's counters.
    pub fn stats(&self) -> Stats {
        let peers = self.peers();
        let (sent, received) = (self.shared().outbound.past(), self.shared().inbox.past());
        let mut stats = Stats {
            messages_sent: sent.messages,
            bytes_sent: sent.bytes,
            messages_received: received.messages,
            bytes_received: received.bytes,
            drops: sent.drops,
            peers: Vec::new(),
        };
        stats.drops.merge(&received.drops);
        for peer in &peers {
            stats.messages_sent += peer.messages_sent;
            stats.bytes_sent += peer.bytes_sent;
            stats.messages_received += peer.messages_received;
            stats.bytes_received += peer.bytes_received;
            stats.drops.merge(&peer.drops);
        }
        stats.peers = peers;
        stats
    }
}
