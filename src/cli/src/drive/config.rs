//! CONFIG: the JSON object that describes the socket.

use std::collections::BTreeMap;

use ginnel::{Credentials, Security, SocketType};
use serde::Deserialize;
use serde_json::Value;

use super::durable::{AckMode, RawHolder, RawSpool};
use super::options::ZmqOptions;
use crate::durable::{HolderSettings, SpoolSettings};
use crate::formats::json;

/// A checked CONFIG.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) socket_type: SocketType,
    pub(super) bind: Vec<String>,
    pub(super) connect: Vec<String>,
    pub(super) subscribe: Vec<Vec<u8>>,
    pub(super) identity: Option<Vec<u8>>,
    pub(super) options: ZmqOptions,
    pub(super) security: Security,
    pub(super) spool: Option<SpoolSettings>,
    pub(super) holder: Option<(HolderSettings, AckMode)>,
    pub(super) ack: bool,
    pub(super) exit_on_eof: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    r#type: String,
    #[serde(default)]
    bind: Vec<String>,
    #[serde(default)]
    connect: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    identity: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, Value>,
    plain: Option<Plain>,
    plain_server: Option<PlainServer>,
    spool: Option<RawSpool>,
    durable: Option<RawHolder>,
    #[serde(default)]
    ack: bool,
    #[serde(default)]
    exit_on_eof: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainServer {
    users: BTreeMap<String, String>,
}

/// The text of CONFIG: an argument, or the file behind `@`.
pub(super) fn load(argument: &str) -> Result<String, String> {
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}")),
        None => Ok(argument.to_owned()),
    }
}

pub(super) fn parse(text: &str) -> Result<Config, String> {
    let raw: Raw = serde_json::from_str(text).map_err(|e| format!("CONFIG: {e}"))?;
    let socket_type = SocketType::from_name(raw.r#type.to_ascii_uppercase().as_bytes()).ok_or_else(|| {
        "CONFIG: unknown type; write push pull pub sub req rep dealer router xpub xsub or pair".to_owned()
    })?;
    if !raw.subscribe.is_empty() && !matches!(socket_type, SocketType::Sub | SocketType::XSub) {
        return Err("CONFIG: subscribe is for sub and xsub".to_owned());
    }
    let subscribe: Result<_, String> = raw.subscribe.iter().map(|text| bytes("subscribe", text)).collect();
    Ok(Config {
        socket_type,
        bind: raw.bind,
        connect: raw.connect,
        subscribe: subscribe?,
        identity: raw.identity.map(|text| identity(&text)).transpose()?,
        options: ZmqOptions::parse(&raw.options, socket_type).map_err(|why| format!("CONFIG: {why}"))?,
        security: security(raw.plain, raw.plain_server)?,
        spool: raw.spool.map(|spool| spool.check(socket_type)).transpose().map_err(in_config)?,
        holder: raw.durable.map(|holder| holder.check(socket_type)).transpose().map_err(in_config)?,
        ack: raw.ack,
        exit_on_eof: raw.exit_on_eof,
    })
}

fn in_config(why: String) -> String {
    format!("CONFIG: {why}")
}

fn bytes(key: &str, text: &str) -> Result<Vec<u8>, String> {
    json::decode(text).map_err(|why| format!("CONFIG: {key}: {why}"))
}

fn identity(text: &str) -> Result<Vec<u8>, String> {
    let id = bytes("identity", text)?;
    if id.is_empty() || id.len() > 255 {
        return Err("CONFIG: identity: 1 to 255 bytes, as base64".to_owned());
    }
    Ok(id)
}

fn security(plain: Option<Plain>, server: Option<PlainServer>) -> Result<Security, String> {
    let credentials = |name, password| Credentials::new(name, password).map_err(|e| format!("CONFIG: {e}"));
    match (plain, server) {
        (None, None) => Ok(Security::Null),
        (Some(plain), None) => Ok(Security::PlainClient(credentials(plain.username, plain.password)?)),
        (None, Some(server)) => {
            let users: Result<_, String> =
                server.users.into_iter().map(|(name, word)| credentials(name, word)).collect();
            Ok(Security::PlainServer(users?))
        }
        (Some(_), Some(_)) => Err("CONFIG: plain and plain_server exclude each other".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_config() {
        let config = parse(
            r#"{"type":"Sub","bind":["tcp://:0"],"connect":["ipc:///x"],"subscribe":["YQ==",""],"identity":"aWQ=",
                "options":{"rcvhwm":5},"plain":{"username":"u","password":"p"},"ack":true,"exit_on_eof":true}"#,
        )
        .expect("CONFIG");
        assert_eq!(config.socket_type, SocketType::Sub);
        assert_eq!(config.subscribe, [b"a".to_vec(), Vec::new()]);
        assert_eq!(config.identity, Some(b"id".to_vec()));
        assert!(matches!(config.security, Security::PlainClient(_)));
        assert!(config.ack && config.exit_on_eof);
    }

    #[test]
    fn a_spool_and_a_durable_name() {
        let config = parse(
            r#"{"type":"pub","spool":{"dir":"q","sync":"100ms","max_bytes":"64Mi","when_full":"drop-oldest",
                "declare":{"audit":["YQ=="]},"min_free_disk":0,"segment_bytes":4096,"max_age":1500,"max_lag_age":"1h",
                "max_tries":3,"batch_delay":1}}"#,
        );
        let spool = config.expect("CONFIG").spool.expect("a spool");
        assert_eq!(spool.sync, Some(ginnel::Sync::Every(Duration::from_millis(100))));
        assert_eq!(spool.max_bytes, Some(64 << 20));
        assert_eq!(spool.max_age, Some(Duration::from_millis(1500)));
        assert_eq!(spool.max_lag_age, Some(Duration::from_secs(3600)));
        assert_eq!(spool.batch_delay, Some(Duration::from_millis(1)));
        assert_eq!(spool.declared, [("audit".to_owned(), vec![b"a".to_vec()])]);
        let config = parse(
            r#"{"type":"sub","durable":{"name":"audit","ack":"manual","from":"oldest","cursor":"c","require":true,
                "resume":[{"spool":"000102030405060708090a0b0c0d0e0f","seq":7}]}}"#,
        );
        let (holder, ack) = config.expect("CONFIG").holder.expect("a name");
        assert_eq!((holder.name.as_str(), ack), ("audit", AckMode::Manual));
        assert!(holder.from_oldest && holder.require_durable && !holder.take_over);
        assert_eq!(holder.resume[0].sequence, 7);
    }

    #[test]
    fn wrong_configs_say_why() {
        let cases = [
            ("", "CONFIG"),
            ("{}", "type"),
            (r#"{"type":"stream"}"#, "unknown type"),
            (r#"{"type":"pull","spool":{"dir":"x"}}"#, "spool is for push and pub"),
            (r#"{"type":"push","spool":{"sync":"batch"}}"#, "missing field `dir`"),
            (r#"{"type":"push","spool":{"dir":"x","declare":{"a":[]}}}"#, "declare is for pub"),
            (r#"{"type":"pub","spool":{"dir":"x","plain_pull":true}}"#, "plain_pull is for push"),
            (r#"{"type":"pub","spool":{"dir":"x","sync":"often"}}"#, "sync: write batch"),
            (r#"{"type":"pub","spool":{"dir":"x","sync":0}}"#, "sync: write batch"),
            (r#"{"type":"pub","spool":{"dir":"x","max_bytes":-1}}"#, "max_bytes"),
            (r#"{"type":"pub","spool":{"dir":"x","max_age":"old"}}"#, "max_age"),
            (r#"{"type":"pub","spool":{"dir":"x","when_full":"panic"}}"#, "when_full"),
            (r#"{"type":"pub","spool":{"dir":"x","declare":{"a":["?"]}}}"#, "base64"),
            (r#"{"type":"pub","spool":{"dir":"x","colour":1}}"#, "unknown field `colour`"),
            (r#"{"type":"push","durable":{"name":"x"}}"#, "durable is for pull and sub"),
            (r#"{"type":"pull","durable":{}}"#, "missing field `name`"),
            (r#"{"type":"pull","durable":{"name":"x","ack":"exec"}}"#, "ack: write next"),
            (r#"{"type":"pull","durable":{"name":"x","from":"then"}}"#, "from: write now"),
            (r#"{"type":"pull","durable":{"name":"x","resume":[{"spool":"1","seq":1}]}}"#, "32 hex digits"),
            (r#"{"type":"pull","curve":{}}"#, "unknown field `curve`"),
            (r#"{"type":"push","options":{"sndhwmm":1}}"#, "unknown option sndhwmm"),
            (r#"{"type":"push","identity":""}"#, "identity"),
            (r#"{"type":"push","subscribe":[""]}"#, "subscribe"),
            (r#"{"type":"sub","subscribe":["?"]}"#, "base64"),
            (r#"{"type":"sub","bind":"tcp://:0"}"#, "sequence"),
            (r#"{"type":"sub","plain":{"username":"u"}}"#, "password"),
        ];
        for (text, expected) in cases {
            let why = parse(text).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
