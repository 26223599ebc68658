//! A driven socket: JSON lines in and out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Ginnel;

pub(crate) fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A driven socket that is ready.
pub(crate) struct Drive {
    pub(crate) ginnel: Ginnel,
    pub(crate) endpoints: Vec<String>,
}

impl Drive {
    pub(crate) fn start(config: &Value) -> Drive {
        Drive::with(&[], config)
    }

    pub(crate) fn with(global: &[&str], config: &Value) -> Drive {
        let text = config.to_string();
        let mut ginnel = Ginnel::start(&[global, &["drive", &text]].concat());
        let ready: Value = serde_json::from_str(&ginnel.line()).expect("JSON");
        assert_eq!(ready["ev"], "ready");
        let endpoints = ready["endpoints"].as_array().expect("a list");
        let endpoints = endpoints.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Drive { ginnel, endpoints }
    }

    /// One that binds to a free port.
    pub(crate) fn bound(kind: &str, more: Value) -> Drive {
        Drive::start(&merge(json!({"type": kind, "bind": ["tcp://127.0.0.1:*"]}), more))
    }

    /// One that connects to `other`.
    pub(crate) fn connected(kind: &str, other: &Drive, more: Value) -> Drive {
        Drive::start(&merge(json!({"type": kind, "connect": other.endpoints}), more))
    }

    pub(crate) fn write(&mut self, line: &Value) {
        self.ginnel.write(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send(&mut self, frames: &[&[u8]]) {
        let frames: Vec<String> = frames.iter().map(|frame| b64(frame)).collect();
        self.write(&json!({"f": frames}));
    }

    pub(crate) fn read(&mut self) -> Value {
        serde_json::from_str(&self.ginnel.line()).expect("JSON")
    }

    pub(crate) fn recv(&mut self) -> Vec<Vec<u8>> {
        let line = self.read();
        let frames = line["m"].as_array().unwrap_or_else(|| panic!("no message: {line}"));
        frames.iter().map(|frame| STANDARD.decode(frame.as_str().expect("text")).expect("base64")).collect()
    }

    pub(crate) fn command(&mut self, line: &Value) -> Value {
        self.write(line);
        let answer = self.read();
        assert_eq!(answer["ev"], "done", "{answer}");
        assert_eq!(answer["cmd"], line["cmd"]);
        answer
    }

    /// Waits until `n` peers are connected, by asking.
    pub(crate) fn wait_for_peers(&mut self, n: usize) {
        while self.count_peers(|peer| peer["state"] == "connected") < n {}
    }

    /// Waits until `n` peers have subscribed, by asking.
    pub(crate) fn wait_for_subscribers(&mut self, n: usize) {
        while self.count_peers(|peer| peer["subscriptions"].as_u64() > Some(0)) < n {}
    }

    pub(crate) fn count_peers(&mut self, wanted: impl Fn(&Value) -> bool) -> usize {
        let stats = self.command(&json!({"cmd": "stats"}));
        stats["stats"]["peers"].as_array().expect("a list").iter().filter(|peer| wanted(peer)).count()
    }

    pub(crate) fn exit(mut self) {
        self.write(&json!({"cmd": "exit"}));
        let done = self.read();
        assert_eq!(done, json!({"ev": "done", "cmd": "exit"}));
        let ended = self.ginnel.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.text(), "");
    }
}

pub(crate) fn merge(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}
