//! Statistics of a socket as JSON, for `--stats-every` and for `drive`.

use std::time::Duration;

use ginnel::{Drops, NameStats, PeerInfo, SocketType, Spool, SpoolState, Stats};
use serde_json::{Map, Value, json};

use crate::units;

/// One object: totals of the socket, and its peers.
pub(crate) fn snapshot(kind: SocketType, endpoints: &[String], stats: &Stats, spool: Option<&Spool>) -> Value {
    let peers: Vec<Value> = stats.peers.iter().map(peer).collect();
    let mut object = json!({
        "type": kind.name(),
        "endpoints": endpoints,
        "sent": stats.messages_sent,
        "received": stats.messages_received,
        "drops": drops(&stats.drops),
        "peers": peers,
    });
    if let Some(spool) = spool {
        object["spool"] = spool_numbers(spool);
    }
    object
}

/// The library's names; times in milliseconds where they say so.
fn spool_numbers(spool: &Spool) -> Value {
    let stats = spool.stats();
    let sync_time: Vec<Value> =
        stats.sync_time.iter().map(|(most, count)| json!({"most_us": micros(*most), "count": count})).collect();
    json!({
        "id": stats.id.to_string(),
        "state": match stats.state {
            SpoolState::Open => "open",
            SpoolState::Full => "full",
            SpoolState::Failed => "failed",
            _ => "closed",
        },
        "records": stats.records,
        "bytes": stats.bytes,
        "segments": stats.segments,
        "oldest_age_ms": stats.oldest_age.map(millis),
        "oldest": stats.oldest,
        "newest": stats.newest,
        "visible": stats.visible,
        "durable": stats.durable,
        "open_batch_bytes": stats.open_batch_bytes,
        "syncs": stats.syncs,
        "sync_time": sync_time,
        "batches": stats.batches,
        "full_waits": stats.full_waits,
        "rejects": stats.rejects,
        "dropped_records": stats.dropped_records,
        "dropped_bytes": stats.dropped_bytes,
        "damaged_records": stats.damaged_records,
        "damaged_bytes": stats.damaged_bytes,
        "recovered_bytes": stats.recovered_bytes,
        "gaps": stats.gaps,
        "delayed": stats.delayed,
        "dead_letters": stats.dead_letters,
        "names": stats.names.iter().map(name).collect::<Vec<_>>(),
    })
}

fn name(name: &NameStats) -> Value {
    let last_seen = u64::try_from(name.last_seen_us).ok().filter(|&us| us > 0).map(Duration::from_micros);
    json!({
        "name": name.name,
        "connected": name.connected(),
        "connections": name.connections,
        "cursor": name.cursor,
        "lag_records": name.lag_records,
        "lag_bytes": name.lag_bytes,
        "lag_age_ms": millis(name.lag_age),
        "in_flight": name.in_flight,
        "sent": name.sent,
        "acked": name.acked,
        "redelivered": name.redelivered,
        "nacked": name.nacked,
        "expired": name.expired,
        "lost_records": name.lost_records,
        "lost_bytes": name.lost_bytes,
        "closed_window_ms": millis(name.closed_window),
        "last_seen": last_seen.map(units::rfc3339),
        "expires_in_ms": name.expires_in.map(millis),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
        "rtt_us": peer.round_trip.map(micros),
    })
}

fn drops(drops: &Drops) -> Value {
    Value::Object(drops.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect::<Map<_, _>>())
}
