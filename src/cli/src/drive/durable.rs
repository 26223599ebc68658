//! The keys `spool` and `durable` of CONFIG.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ginnel::{SocketType, Sync, Token, WhenFull};
use serde::Deserialize;
use serde_json::Value;

use crate::durable::{HolderSettings, SpoolSettings};
use crate::formats::json;
use crate::units;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpool {
    dir: PathBuf,
    sync: Option<Value>,
    max_bytes: Option<Value>,
    when_full: Option<String>,
    declare: Option<BTreeMap<String, Vec<String>>>,
    min_free_disk: Option<Value>,
    segment_bytes: Option<Value>,
    max_age: Option<Value>,
    max_messages: Option<u64>,
    max_lag_bytes: Option<Value>,
    max_lag_age: Option<Value>,
    name_expiry: Option<Value>,
    max_tries: Option<u32>,
    batch_delay: Option<Value>,
    plain_pull: Option<bool>,
}

impl RawSpool {
    pub(super) fn check(self, kind: SocketType) -> Result<SpoolSettings, String> {
        if !matches!(kind, SocketType::Push | SocketType::Pub) {
            return Err("spool is for push and pub".to_owned());
        }
        if self.declare.is_some() && kind != SocketType::Pub {
            return Err("spool: declare is for pub; a push has no durable names".to_owned());
        }
        if self.plain_pull.is_some() && kind != SocketType::Push {
            return Err("spool: plain_pull is for push".to_owned());
        }
        let declared = self.declare.unwrap_or_default().into_iter().map(declared).collect::<Result<_, String>>()?;
        Ok(SpoolSettings {
            dir: self.dir,
            sync: given("sync", self.sync, sync)?,
            when_full: self.when_full.map(|text| when_full(&text)).transpose()?,
            max_bytes: given("max_bytes", self.max_bytes, size)?,
            max_age: given("max_age", self.max_age, duration)?,
            max_messages: self.max_messages,
            min_free_disk: given("min_free_disk", self.min_free_disk, size)?,
            segment_bytes: given("segment_bytes", self.segment_bytes, size)?,
            max_lag_bytes: given("max_lag_bytes", self.max_lag_bytes, size)?,
            max_lag_age: given("max_lag_age", self.max_lag_age, duration)?,
            name_expiry: given("name_expiry", self.name_expiry, duration)?,
            max_tries: self.max_tries,
            batch_delay: given("batch_delay", self.batch_delay, duration)?,
            append_all: false,
            declared,
            plain_pull: self.plain_pull,
        })
    }
}

fn declared((name, prefixes): (String, Vec<String>)) -> Result<(String, Vec<Vec<u8>>), String> {
    let prefixes: Result<_, String> = prefixes.iter().map(|text| json::decode(text)).collect();
    prefixes.map(|prefixes| (name, prefixes)).map_err(|why| format!("spool: declare: {why}"))
}

fn given<T>(
    key: &str,
    value: Option<Value>,
    parse: impl FnOnce(&Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    value.map(|value| parse(&value).map_err(|why| format!("spool: {key}: {why}"))).transpose()
}

/// Bytes: as the flags have it, or a plain number.
fn size(value: &Value) -> Result<u64, String> {
    match value {
        Value::String(text) => units::size(text),
        value => value.as_u64().ok_or_else(|| "write a number of bytes".to_owned()),
    }
}

/// A time: as the flags have it, or a plain number of milliseconds.
fn duration(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => units::duration(text),
        value => millis(value).ok_or_else(|| "write a number of milliseconds".to_owned()),
    }
}

/// Milliseconds, which may have a fraction.
pub(super) fn millis(value: &Value) -> Option<Duration> {
    value.as_f64().and_then(units::from_millis)
}

fn sync(value: &Value) -> Result<Sync, String> {
    match value {
        Value::String(text) => units::sync(text),
        value => match duration(value)? {
            Duration::ZERO => Err("write batch, never, or a number of milliseconds above zero".to_owned()),
            period => Ok(Sync::Every(period)),
        },
    }
}

fn when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "block" => Ok(WhenFull::Block),
        "reject" => Ok(WhenFull::Reject),
        "drop-oldest" => Ok(WhenFull::DropOldest),
        "drop-name" => Ok(WhenFull::DropName),
        _ => Err("spool: when_full: write block, reject, drop-oldest or drop-name".to_owned()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHolder {
    name: String,
    ack: Option<String>,
    from: Option<String>,
    cursor: Option<PathBuf>,
    #[serde(default)]
    take_over: bool,
    #[serde(default)]
    require: bool,
    #[serde(default)]
    resume: Vec<RawToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    spool: String,
    seq: u64,
}

/// When a delivery is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckMode {
    /// Its line is flushed and the next one is wanted: after a flush it always is.
    Next,
    /// A line of stdin says so.
    Manual,
    /// Its line is flushed.
    Receive,
}

impl RawHolder {
    pub(super) fn check(self, kind: SocketType) -> Result<(HolderSettings, AckMode), String> {
        if !matches!(kind, SocketType::Pull | SocketType::Sub) {
            return Err("durable is for pull and sub".to_owned());
        }
        let ack = match self.ack.as_deref() {
            None | Some("next") => AckMode::Next,
            Some("manual") => AckMode::Manual,
            Some("receive") => AckMode::Receive,
            Some(_) => return Err("durable: ack: write next, manual or receive".to_owned()),
        };
        let from_oldest = match self.from.as_deref() {
            None | Some("now") => false,
            Some("oldest") => true,
            Some(_) => return Err("durable: from: write now or oldest".to_owned()),
        };
        let settings = HolderSettings {
            name: self.name,
            from_oldest,
            take_over: self.take_over,
            require_durable: self.require,
            cursor: self.cursor,
            resume: self.resume.into_iter().map(token).collect::<Result<_, String>>()?,
        };
        Ok((settings, ack))
    }
}

fn token(raw: RawToken) -> Result<Token, String> {
    let spool = raw.spool.parse().map_err(|_| "durable: resume: spool: write its 32 hex digits".to_owned())?;
    Ok(Token { spool, sequence: raw.seq })
}
