//! libzmq's option names with libzmq's meanings, as calls on the library's builder.
//!
//! An option that is not given keeps ginnel's default. Where two of libzmq's options make one of ours, the
//! missing half is ginnel's default too.

use std::collections::BTreeMap;
use std::time::Duration;

use ginnel::{Buildable, Builder, Keepalive, OnFull, SocketType};
use serde_json::Value;

/// Checked values by name.
#[derive(Debug, Clone, Default)]
pub(super) struct ZmqOptions(BTreeMap<&'static str, i64>);

const INT: i64 = i32::MAX as i64;

/// Every name with its smallest and largest value.
const KNOWN: [(&str, i64, i64); 35] = [
    ("sndhwm", 0, INT),
    ("rcvhwm", 0, INT),
    ("sndbuf", -1, INT),
    ("rcvbuf", -1, INT),
    ("linger", -1, INT),
    ("reconnect_ivl", -1, INT),
    ("reconnect_ivl_max", 0, INT),
    ("handshake_ivl", 0, INT),
    ("heartbeat_ivl", 0, INT),
    ("heartbeat_timeout", -1, INT),
    ("heartbeat_ttl", 0, 6_553_599),
    ("maxmsgsize", -1, i64::MAX),
    ("immediate", 0, 1),
    ("conflate", 0, 1),
    ("rcvtimeo", -1, INT),
    ("sndtimeo", -1, INT),
    ("connect_timeout", 0, INT),
    ("backlog", 1, INT),
    ("tos", 0, 255),
    ("ipv6", 0, 1),
    ("ipv4only", 0, 1),
    ("tcp_keepalive", -1, 1),
    ("tcp_keepalive_cnt", -1, INT),
    ("tcp_keepalive_idle", -1, INT),
    ("tcp_keepalive_intvl", -1, INT),
    ("router_mandatory", 0, 1),
    ("router_handover", 0, 1),
    ("probe_router", 0, 1),
    ("req_correlate", 0, 1),
    ("req_relaxed", 0, 1),
    ("xpub_verbose", 0, 1),
    ("xpub_verboser", 0, 1),
    ("xpub_nodrop", 0, 1),
    ("invert_matching", 0, 1),
    ("delay_attach_on_connect", 0, 1),
];

/// The types that have an option that not every type has.
fn has(name: &str, kind: SocketType) -> bool {
    use SocketType::{Dealer, Pub, Pull, Push, Req, Router, Sub, XPub};
    let types: &[SocketType] = match name {
        "conflate" => &[Dealer, Pull, Push, Pub, Sub],
        "router_mandatory" | "router_handover" => &[Router],
        "probe_router" => &[Req, Dealer, Router],
        "req_correlate" | "req_relaxed" => &[Req],
        "xpub_verbose" | "xpub_verboser" => &[XPub],
        "xpub_nodrop" => &[Pub, XPub],
        "invert_matching" => &[Pub, XPub, Sub],
        _ => return true,
    };
    types.contains(&kind)
}

impl ZmqOptions {
    pub(super) fn parse(given: &BTreeMap<String, Value>, kind: SocketType) -> Result<ZmqOptions, String> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let Some(&(name, least, most)) = KNOWN.iter().find(|(known, ..)| known == name) else {
                let known: Vec<&str> = KNOWN.iter().map(|(known, ..)| *known).collect();
                let name: String = name.chars().take(64).collect();
                return Err(format!("unknown option {name}; known are {}", known.join(" ")));
            };
            if !has(name, kind) {
                return Err(format!("option {name}: a {kind} socket does not have it"));
            }
            let number = value.as_i64().or_else(|| value.as_bool().map(i64::from));
            let number = number.filter(|number| (least..=most).contains(number));
            values
                .insert(name, number.ok_or_else(|| format!("option {name}: write an integer from {least} to {most}"))?);
        }
        Ok(ZmqOptions(values))
    }

    pub(super) fn get(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name) == Some(1)
    }
}

fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or_default()
}

/// Milliseconds; a negative number is libzmq's "for ever".
fn limit(value: i64) -> Option<Duration> {
    u64::try_from(value).ok().map(Duration::from_millis)
}

fn ms(value: i64) -> Duration {
    limit(value).unwrap_or_default()
}

impl ZmqOptions {
    /// Sets on `builder` what every type has. The switches of one type are set where that type is built.
    pub(super) fn apply<S: Buildable>(&self, mut builder: Builder<S>) -> Builder<S> {
        for (&name, &value) in &self.0 {
            builder = match name {
                // Unlimited means it: without the mark in bytes too.
                "sndhwm" if value == 0 => builder.send_hwm(0).send_hwm_bytes(0),
                "rcvhwm" if value == 0 => builder.recv_hwm(0).recv_hwm_bytes(0),
                "sndhwm" => builder.send_hwm(count(value)),
                "rcvhwm" => builder.recv_hwm(count(value)),
                "sndbuf" if value >= 0 => builder.send_buffer(count(value)),
                "rcvbuf" if value >= 0 => builder.recv_buffer(count(value)),
                "linger" => builder.linger(limit(value)),
                "handshake_ivl" => builder.handshake_timeout(ms(value)),
                "heartbeat_ttl" => builder.heartbeat_ttl(ms(value)),
                "maxmsgsize" => max_size(builder, value),
                "immediate" | "delay_attach_on_connect" => builder.queue_before_connect(value == 0),
                "conflate" => builder.conflate(value == 1),
                // `rcvtimeo` limits a call to receive; here nobody waits for its return.
                "sndtimeo" => builder.send_timeout(limit(value)),
                "connect_timeout" if value > 0 => builder.connect_timeout(ms(value)),
                "backlog" => builder.backlog(u32::try_from(value).unwrap_or(u32::MAX)),
                "tos" => builder.tos(u32::try_from(value).unwrap_or_default()),
                "ipv6" => builder.ipv6(value == 1),
                "ipv4only" => builder.ipv6(value == 0),
                _ => builder,
            };
        }
        self.keepalive(self.heartbeat(self.reconnect(builder)))
    }

    /// Without a maximum libzmq waits the same time again and again; never is -1, and 0 too.
    fn reconnect<S: Buildable>(&self, builder: Builder<S>) -> Builder<S> {
        const MIN: Duration = Duration::from_millis(100);
        const MAX: Duration = Duration::from_secs(30);
        let (given, most) = (self.get("reconnect_ivl"), self.get("reconnect_ivl_max"));
        if given.is_none() && most.is_none() {
            return builder;
        }
        if given.is_some_and(|interval| interval <= 0) {
            return builder.no_reconnect();
        }
        let min = given.map_or(MIN, ms);
        match most {
            Some(0) => builder.reconnect(min, min),
            // A maximum below the interval is used for both.
            Some(most) => builder.reconnect(min.min(ms(most)), ms(most)),
            None => builder.reconnect(min, MAX.max(min)),
        }
    }

    fn heartbeat<S: Buildable>(&self, builder: Builder<S>) -> Builder<S> {
        const INTERVAL: Duration = Duration::from_secs(15);
        const TIMEOUT: Duration = Duration::from_secs(45);
        let (interval, timeout) = (self.get("heartbeat_ivl"), self.get("heartbeat_timeout"));
        if interval.is_none() && timeout.is_none() {
            return builder;
        }
        let interval = interval.map_or(INTERVAL, ms);
        // -1 is as long as the interval.
        builder.heartbeat(interval, timeout.map_or(TIMEOUT, |timeout| limit(timeout).unwrap_or(interval)))
    }

    fn keepalive<S: Buildable>(&self, builder: Builder<S>) -> Builder<S> {
        let positive = |name| self.get(name).filter(|&value| value > 0);
        let seconds = |name| positive(name).and_then(|value| u64::try_from(value).ok()).map(Duration::from_secs);
        if !self.0.keys().any(|name| name.starts_with("tcp_keepalive")) {
            return builder;
        }
        builder.keepalive(Keepalive {
            enabled: self.get("tcp_keepalive").filter(|&value| value >= 0).map(|value| value == 1),
            idle: seconds("tcp_keepalive_idle"),
            interval: seconds("tcp_keepalive_intvl"),
            count: positive("tcp_keepalive_cnt").and_then(|value| u32::try_from(value).ok()),
        })
    }

    /// How long the end may wait for what was not sent.
    pub(super) fn linger(&self) -> Duration {
        self.get("linger").map_or(Duration::from_secs(5), |value| limit(value).unwrap_or(Duration::MAX))
    }

    /// `xpub_nodrop`: a full subscriber holds the publisher instead of missing messages.
    pub(super) fn on_full(&self) -> OnFull {
        if self.is_set("xpub_nodrop") { OnFull::Block } else { OnFull::DropNewest }
    }
}

/// libzmq bounds a frame only. Ours bounds the message too, and must not undercut the frame.
fn max_size<S: Buildable>(builder: Builder<S>, value: i64) -> Builder<S> {
    const MESSAGE: u64 = 64 * 1024 * 1024;
    match u64::try_from(value) {
        Err(_) => builder.max_frame(u64::MAX).max_message(u64::MAX),
        Ok(size) if size < MESSAGE => builder.max_frame(size),
        Ok(size) => builder.max_frame(size).max_message(size.saturating_add(MESSAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, kind: SocketType) -> Result<ZmqOptions, String> {
        ZmqOptions::parse(&serde_json::from_str(text).expect("JSON"), kind)
    }

    #[test]
    fn values_are_checked() {
        let options =
            parse(r#"{"linger":-1,"sndhwm":0,"router_mandatory":true}"#, SocketType::Router).expect("options");
        assert_eq!(options.get("linger"), Some(-1));
        assert!(options.is_set("router_mandatory"));
        for (text, expected) in [
            (r#"{"linger":-2}"#, "from -1 to"),
            (r#"{"linger":"5s"}"#, "write an integer"),
            (r#"{"sndhwm":1.5}"#, "write an integer"),
            (r#"{"immediate":2}"#, "from 0 to 1"),
            (r#"{"heartbeat_ttl":6553600}"#, "6553599"),
            (r#"{"LINGER":1}"#, "unknown option LINGER"),
            (r#"{"req_relaxed":1}"#, "does not have it"),
        ] {
            let why = parse(text, SocketType::Push).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
