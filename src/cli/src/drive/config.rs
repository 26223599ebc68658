//! CONFIG: the JSON object that describes the socket.

use std::collections::BTreeMap;

use ginnel::{Credentials, Security, SocketType};
use serde::Deserialize;
use serde_json::Value;

use super::options::ZmqOptions;
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
        ack: raw.ack,
        exit_on_eof: raw.exit_on_eof,
    })
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
    fn wrong_configs_say_why() {
        let cases = [
            ("", "CONFIG"),
            ("{}", "type"),
            (r#"{"type":"stream"}"#, "unknown type"),
            (r#"{"type":"push","spool":{"dir":"x"}}"#, "unknown field `spool`"),
            (r#"{"type":"pull","durable":{"name":"x"}}"#, "unknown field `durable`"),
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
