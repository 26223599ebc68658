//! Statistics of a socket as JSON, for `--stats-every` and for `drive`.

use ginnel::{Drops, PeerInfo, SocketType, Stats};
use serde_json::{Map, Value, json};

use crate::units;

/// One object: totals of the socket, and its peers.
pub(crate) fn snapshot(kind: SocketType, endpoints: &[String], stats: &Stats) -> Value {
    let peers: Vec<Value> = stats.peers.iter().map(peer).collect();
    json!({
        "type": kind.name(),
        "endpoints": endpoints,
        "sent": stats.messages_sent,
        "received": stats.messages_received,
        "drops": drops(&stats.drops),
        "peers": peers,
    })
}

fn peer(peer: &PeerInfo) -> Value {
    json!({
        "id": units::to_hex(&peer.id),
        "addr": peer.address,
        "type": peer.socket_type.map(SocketType::name),
        "state": if peer.connected { "connected" } else { "connecting" },
        "queued": peer.queued,
        "hwm": peer.send_hwm,
        "unread": peer.unread,
        "rcvhwm": peer.recv_hwm,
        "in_msgs": peer.messages_received,
        "in_bytes": peer.bytes_received,
        "out_msgs": peer.messages_sent,
        "out_bytes": peer.bytes_sent,
        "subscriptions": peer.subscriptions,
        "drops": drops(&peer.drops),
        "reconnects": peer.reconnects,
        "rtt_us": peer.round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
    })
}

fn drops(drops: &Drops) -> Value {
    Value::Object(drops.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect::<Map<_, _>>())
}
