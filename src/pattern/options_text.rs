//! Options by name and text, for commands and configuration files: [`set`].

use std::time::Duration;

use super::builder::{Buildable, Builder};
use crate::error::OptionError;
use crate::options::spool::{Ack, Sync, WhenFull};
use crate::options::{FlushPolicy, Keepalive, OnFull, SocketType};

/// What can be set by name, as an error lists it.
const NAMES: &[&str] = &[
    "ack",
    "allow_network_fs",
    "append_all",
    "backlog",
    "batch_delay",
    "conflate",
    "connect_timeout",
    "correlate",
    "cursor_file",
    "durable",
    "flush_policy",
    "from_oldest",
    "handover",
    "handshake_timeout",
    "heartbeat",
    "heartbeat_ttl",
    "holder_expiry",
    "hwm",
    "identity",
    "invert_matching",
    "ipc_mode",
    "ipv6",
    "keepalive",
    "linger",
    "lockstep",
    "mandatory",
    "max_command",
    "max_connections",
    "max_delayed",
    "max_envelope",
    "max_frame",
    "max_frames_per_message",
    "max_handshake_bytes",
    "max_lag_age",
    "max_lag_bytes",
    "max_meaningless_frames",
    "max_memory",
    "max_message",
    "max_metadata",
    "max_names",
    "max_pending_handshakes",
    "max_properties",
    "max_record",
    "max_subscription_bytes",
    "max_subscriptions",
    "max_topic",
    "max_tries",
    "min_free_disk",
    "name_expiry",
    "on_full",
    "pin",
    "plain_pull",
    "probe",
    "queue_before_connect",
    "reconnect",
    "reconnect_stop",
    "recv_buffer",
    "recv_hwm",
    "recv_hwm_bytes",
    "recv_timeout",
    "relaxed",
    "require_auth",
    "require_durable",
    "segment_bytes",
    "send_buffer",
    "send_hwm",
    "send_hwm_bytes",
    "send_timeout",
    "spool",
    "spool_max_age",
    "spool_max_bytes",
    "spool_max_messages",
    "stall_after",
    "sync",
    "take_over",
    "tos",
    "verbose",
    "verboser",
    "when_full",
    "zmtp2",
];

/// Sets the option called `name`.
pub(super) fn set<S: Buildable, M>(
    builder: Builder<S, M>,
    name: &str,
    value: &str,
) -> Result<Builder<S, M>, OptionError> {
    let value = Value { name, text: value };
    Ok(match name {
        "backlog" => builder.backlog(value.number()?),
        "conflate" => builder.conflate(value.flag()?),
        "connect_timeout" => builder.connect_timeout(value.duration()?),
        "flush_policy" => builder.flush_policy(value.choice(&FLUSH)?),
        "handshake_timeout" => builder.handshake_timeout(value.duration()?),
        "heartbeat" => {
            let (interval, timeout) = value.pair(',')?;
            let interval = interval.duration()?;
            builder.heartbeat(interval, timeout.map_or(Ok(interval * 3), |timeout| timeout.duration())?)
        }
        "heartbeat_ttl" => builder.heartbeat_ttl(value.duration()?),
        "hwm" => builder.hwm(value.number()?),
        "identity" => builder.identity(value.text),
        "ipc_mode" => builder.ipc_mode(value.octal()?),
        "ipv6" => builder.ipv6(value.flag()?),
        "keepalive" => builder.keepalive(Keepalive { enabled: Some(value.flag()?), ..Keepalive::default() }),
        "linger" => builder.linger(value.duration_or_inf()?),
        "max_command" => builder.max_command(value.size()?),
        "max_connections" => builder.max_connections(value.number()?),
        "max_envelope" => builder.max_envelope(value.number()?),
        "max_frame" => builder.max_frame(value.size()? as u64),
        "max_frames_per_message" => builder.max_frames_per_message(value.number()?),
        "max_handshake_bytes" => builder.max_handshake_bytes(value.size()?),
        "max_memory" => builder.max_memory(value.size()? as u64),
        "max_meaningless_frames" => builder.max_meaningless_frames(value.number()?),
        "max_message" => builder.max_message(value.size()? as u64),
        "max_metadata" => builder.max_metadata(value.size()?),
        "max_pending_handshakes" => builder.max_pending_handshakes(value.number()?),
        "max_properties" => builder.max_properties(value.number()?),
        "max_subscription_bytes" => builder.max_subscription_bytes(value.size()?),
        "max_subscriptions" => builder.max_subscriptions(value.number()?),
        "max_topic" => builder.max_topic(value.size()?),
        "on_full" => builder.on_full(value.choice(&ON_FULL)?),
        "queue_before_connect" => builder.queue_before_connect(value.flag()?),
        "reconnect" => {
            let (min, max) = value.pair(',')?;
            let min = min.duration()?;
            builder.reconnect(min, max.map_or(Ok(min), |max| max.duration())?)
        }
        "reconnect_stop" => builder.reconnect_stop(value.flag()?),
        "recv_buffer" => builder.recv_buffer(value.size()?),
        "recv_hwm" => builder.recv_hwm(value.number()?),
        "recv_hwm_bytes" => builder.recv_hwm_bytes(value.size()?),
        "recv_timeout" => builder.recv_timeout(value.duration_or_inf()?),
        "send_buffer" => builder.send_buffer(value.size()?),
        "send_hwm" => builder.send_hwm(value.number()?),
        "send_hwm_bytes" => builder.send_hwm_bytes(value.size()?),
        "send_timeout" => builder.send_timeout(value.duration_or_inf()?),
        "tos" => builder.tos(value.number()?),
        "zmtp2" => builder.zmtp2(value.flag()?),
        name if SPOOL.contains(&name) => return set_spool(builder, value),
        name if HOLDER.contains(&name) => return set_holder(builder, value),
        _ => return set_flag(builder, value),
    })
}

/// Options of PUB and PUSH with a spool.
const SPOOL: [&str; 22] = [
    "spool",
    "sync",
    "when_full",
    "spool_max_bytes",
    "segment_bytes",
    "spool_max_age",
    "spool_max_messages",
    "min_free_disk",
    "max_record",
    "max_lag_bytes",
    "max_lag_age",
    "max_names",
    "name_expiry",
    "batch_delay",
    "append_all",
    "allow_network_fs",
    "require_auth",
    "max_tries",
    "stall_after",
    "max_delayed",
    "plain_pull",
    "pin",
];

/// Options of SUB and PULL with a durable name.
const HOLDER: [&str; 7] =
    ["durable", "ack", "from_oldest", "take_over", "require_durable", "cursor_file", "holder_expiry"];

fn only_for<S: Buildable>(name: &str, types: &[SocketType]) -> Result<(), OptionError> {
    if types.contains(&S::TYPE) {
        return Ok(());
    }
    let types: Vec<&str> = types.iter().map(|kind| kind.name()).collect();
    Err(OptionError::new(name, format!("not for {}; only for {}", S::TYPE, types.join(", "))))
}

fn set_spool<S: Buildable, M>(mut builder: Builder<S, M>, value: Value<'_>) -> Result<Builder<S, M>, OptionError> {
    let types: &[SocketType] = if matches!(value.name, "plain_pull" | "pin") {
        &[SocketType::Push]
    } else {
        &[SocketType::Pub, SocketType::Push]
    };
    only_for::<S>(value.name, types)?;
    let spool = builder.spool_mut();
    match value.name {
        "spool" => spool.dir = value.text.into(),
        "sync" => {
            spool.sync = match value.text {
                "batch" => Sync::Batch,
                "never" => Sync::Never,
                _ => Sync::Every(value.duration()?),
            }
        }
        "when_full" => spool.when_full = value.choice(&WHEN_FULL)?,
        "spool_max_bytes" => spool.max_bytes = value.size()? as u64,
        "segment_bytes" => spool.segment_bytes = Some(value.size()? as u64),
        "spool_max_age" => spool.max_age = value.duration_or_inf()?,
        "spool_max_messages" => spool.max_messages = value.number()?,
        "min_free_disk" => spool.min_free_disk = Some(value.size()? as u64),
        "max_record" => spool.max_record = value.size()? as u64,
        "max_lag_bytes" => spool.max_lag_bytes = value.size()? as u64,
        "max_lag_age" => spool.max_lag_age = value.duration_or_inf()?,
        "max_names" => spool.max_names = value.number()?,
        "name_expiry" => spool.name_expiry = value.duration()?,
        "batch_delay" => spool.batch_delay = value.duration()?,
        "append_all" => spool.append_all = value.flag()?,
        "allow_network_fs" => spool.allow_network_fs = value.flag()?,
        "require_auth" => spool.require_auth = value.flag()?,
        "max_tries" => spool.max_tries = value.number()?,
        "stall_after" => spool.stall_after = value.duration()?,
        "max_delayed" => spool.max_delayed = value.number()?,
        "pin" => spool.pin = value.flag()?,
        _ => spool.plain_pull = value.flag()?,
    }
    Ok(builder)
}

fn set_holder<S: Buildable, M>(mut builder: Builder<S, M>, value: Value<'_>) -> Result<Builder<S, M>, OptionError> {
    only_for::<S>(value.name, &[SocketType::Sub, SocketType::Pull])?;
    let holder = builder.holder_mut();
    match value.name {
        "durable" => holder.name = value.text.to_owned(),
        "ack" => holder.ack = value.choice(&ACK)?,
        "from_oldest" => holder.from_oldest = value.flag()?,
        "take_over" => holder.take_over = value.flag()?,
        "require_durable" => holder.require_durable = value.flag()?,
        "cursor_file" => holder.cursor_file = Some(value.text.into()),
        _ => holder.name_expiry = Some(value.duration()?),
    }
    Ok(builder)
}

const WHEN_FULL: [(&str, WhenFull); 4] = [
    ("block", WhenFull::Block),
    ("reject", WhenFull::Reject),
    ("drop-oldest", WhenFull::DropOldest),
    ("drop-name", WhenFull::DropName),
];

const ACK: [(&str, Ack); 3] = [("next", Ack::OnNext), ("manual", Ack::Manual), ("receive", Ack::OnReceive)];

/// The switches of single types.
fn set_flag<S: Buildable, M>(mut builder: Builder<S, M>, value: Value<'_>) -> Result<Builder<S, M>, OptionError> {
    use SocketType::*;
    let options = builder.options_mut();
    let (types, flag): (&[SocketType], &mut bool) = match value.name {
        "mandatory" => (&[Router], &mut options.router_mandatory),
        "handover" => (&[Router], &mut options.router_handover),
        "probe" => (&[Router, Dealer, Req], &mut options.probe_router),
        "lockstep" => (&[Req], &mut options.lockstep),
        "relaxed" => (&[Req], &mut options.req_relaxed),
        "correlate" => (&[Req], options.correlate.get_or_insert(false)),
        "verbose" => (&[XPub], &mut options.xpub_verbose),
        "verboser" => (&[XPub], &mut options.xpub_verboser),
        "invert_matching" => (&[Pub, XPub, Sub], &mut options.invert_matching),
        name => return Err(OptionError::new(name, format!("unknown; there are {}", NAMES.join(", ")))),
    };
    only_for::<S>(value.name, types)?;
    *flag = value.flag()?;
    Ok(builder)
}

const FLUSH: [(&str, FlushPolicy); 3] =
    [("auto", FlushPolicy::Auto), ("immediate", FlushPolicy::Immediate), ("task", FlushPolicy::Task)];

const ON_FULL: [(&str, OnFull); 4] = [
    ("block", OnFull::Block),
    ("drop-newest", OnFull::DropNewest),
    ("drop-oldest", OnFull::DropOldest),
    ("disconnect", OnFull::Disconnect),
];

/// Longest suffixes first, so that `Ki` is not read as `k` and a rest.
const SIZES: [(&str, u64); 7] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];

const DURATIONS: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];

#[derive(Clone, Copy)]
struct Value<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Value<'a> {
    fn wrong<T>(&self, what: &str) -> Result<T, OptionError> {
        let shown: String = self.text.chars().take(60).flat_map(char::escape_default).collect();
        Err(OptionError::new(self.name, format!("\"{shown}\" is no value; write {what}")))
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, OptionError> {
        self.text.parse().or_else(|_| self.wrong("a whole number"))
    }

    fn octal(&self) -> Result<u32, OptionError> {
        u32::from_str_radix(self.text, 8).or_else(|_| self.wrong("permission bits in octal, like 660"))
    }

    fn flag(&self) -> Result<bool, OptionError> {
        match self.text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => self.wrong("true or false"),
        }
    }

    fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, OptionError> {
        match choices.iter().find(|choice| choice.0 == self.text) {
            Some(choice) => Ok(choice.1),
            None => self.wrong(&choices.iter().map(|choice| choice.0).collect::<Vec<_>>().join(", ")),
        }
    }

    fn size(&self) -> Result<usize, OptionError> {
        let scaled = SIZES.iter().find_map(|(suffix, factor)| {
            let number: u64 = self.text.strip_suffix(suffix)?.parse().ok()?;
            usize::try_from(number.checked_mul(*factor)?).ok()
        });
        scaled.map_or_else(|| self.wrong("a size: 64, 10k, 4M, 1G, 64Ki, 4Mi, 1Gi"), Ok)
    }

    fn duration(&self) -> Result<Duration, OptionError> {
        let scaled = DURATIONS.iter().find_map(|(suffix, factor)| {
            let number: f64 = self.text.strip_suffix(suffix)?.parse().ok()?;
            Duration::try_from_secs_f64(number * factor).ok()
        });
        scaled.map_or_else(|| self.wrong("a duration: 250ms, 5s, 2m, 1h"), Ok)
    }

    fn duration_or_inf(&self) -> Result<Option<Duration>, OptionError> {
        if self.text == "inf" { Ok(None) } else { self.duration().map(Some) }
    }

    fn pair(&self, separator: char) -> Result<(Value<'a>, Option<Value<'a>>), OptionError> {
        let part = |text| Value { name: self.name, text };
        Ok(match self.text.split_once(separator) {
            Some((one, other)) => (part(one), Some(part(other))),
            None => (*self, None),
        })
    }
}
