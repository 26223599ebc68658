//! `drive`: each socket type through its pipes, and the rules of its lines.

mod common;

use common::drive::{Drive, b64};
use common::{Directory, Ginnel, run};
use serde_json::{Value, json};

#[test]
fn push_and_pull() {
    let mut pull = Drive::bound("pull", json!({}));
    let mut push = Drive::connected("PUSH", &pull, json!({"ack": true}));
    push.send(&[b"a", b"", &[0, 255]]);
    assert_eq!(push.read(), json!({"ev": "sent", "n": 1}));
    assert_eq!(pull.recv(), [&b"a"[..], b"", &[0, 255]]);
    push.send(&[b""]);
    assert_eq!(pull.recv(), [b""]);
    assert_eq!(push.read(), json!({"ev": "sent", "n": 2}));
    pull.send(&[b"x"]);
    let err = pull.read();
    assert_eq!((&err["ev"], &err["op"], &err["line"]), (&json!("err"), &json!("send"), &json!(1)));
    assert_eq!((&err["errno"], &err["name"]), (&json!(95), &json!("ENOTSUP")));
    push.exit();
    pull.exit();
}

#[test]
fn pub_and_sub() {
    let mut publisher = Drive::bound("pub", json!({}));
    let mut sub = Drive::connected("sub", &publisher, json!({"subscribe": [b64(b"a.")]}));
    publisher.wait_for_subscribers(1);
    publisher.send(&[b"b.no", b"1"]);
    publisher.send(&[b"a.yes", b"2"]);
    assert_eq!(sub.recv(), [&b"a.yes"[..], b"2"]);
    sub.exit();
    publisher.exit();
}

#[test]
fn xpub_sees_what_sub_and_xsub_want() {
    let mut xpub = Drive::bound("xpub", json!({}));
    let mut sub = Drive::connected("sub", &xpub, json!({}));
    sub.command(&json!({"cmd": "subscribe", "topic": b64(b"a")}));
    assert_eq!(xpub.recv(), [b"\x01a"]);
    xpub.send(&[b"b"]);
    xpub.send(&[b"abc"]);
    assert_eq!(sub.recv(), [b"abc"]);
    sub.command(&json!({"cmd": "unsubscribe", "topic": b64(b"a")}));
    assert_eq!(xpub.recv(), [b"\x00a"]);
    let mut xsub = Drive::connected("xsub", &xpub, json!({}));
    xsub.send(&[b"\x01q"]);
    assert_eq!(xpub.recv(), [b"\x01q"]);
    xpub.send(&[b"q1"]);
    assert_eq!(xsub.recv(), [b"q1"]);
    xsub.send(&[b"upstream"]);
    assert_eq!(xpub.recv(), [b"upstream"]);
    xsub.command(&json!({"cmd": "unsubscribe", "topic": b64(b"q")}));
    assert_eq!(xpub.recv(), [b"\x00q"]);
    xsub.exit();
    sub.exit();
    xpub.exit();
}

#[test]
fn req_and_rep_take_turns() {
    let mut rep = Drive::bound("rep", json!({}));
    let mut req = Drive::connected("req", &rep, json!({"ack": true}));
    rep.send(&[b"out of turn"]);
    let err = rep.read();
    assert_eq!((&err["errno"], &err["name"], &err["line"]), (&json!(156_384_763), &json!("EFSM"), &json!(1)));
    req.send(&[b"one"]);
    assert_eq!(req.read(), json!({"ev": "sent", "n": 1}));
    assert_eq!(rep.recv(), [b"one"]);
    req.send(&[b"two"]);
    let err = req.read();
    assert_eq!((&err["errno"], &err["name"], &err["line"]), (&json!(156_384_763), &json!("EFSM"), &json!(2)));
    rep.send(&[b"1", b"uno"]);
    assert_eq!(req.recv(), [&b"1"[..], b"uno"]);
    rep.send(&[b"again"]);
    assert_eq!(rep.read()["name"], "EFSM");
    req.send(&[b"three"]);
    assert_eq!(req.read(), json!({"ev": "sent", "n": 2}));
    assert_eq!(rep.recv(), [b"three"]);
    rep.send(&[b"3"]);
    assert_eq!(req.recv(), [b"3"]);
    req.exit();
    rep.exit();
}

#[test]
fn a_rep_takes_no_second_request_before_its_reply() {
    let mut rep = Drive::bound("rep", json!({}));
    let mut one = Drive::connected("req", &rep, json!({}));
    one.send(&[b"1"]);
    assert_eq!(rep.recv(), [b"1"]);
    let mut two = Drive::connected("req", &rep, json!({}));
    two.send(&[b"2"]);
    two.wait_for_peers(1);
    rep.command(&json!({"cmd": "stats"}));
    rep.send(&[b"r1"]);
    assert_eq!(one.recv(), [b"r1"]);
    assert_eq!(rep.recv(), [b"2"]);
    rep.send(&[b"r2"]);
    assert_eq!(two.recv(), [b"r2"]);
}

#[test]
fn a_relaxed_req_may_ask_again() {
    let mut rep = Drive::bound("rep", json!({}));
    let mut req =
        Drive::connected("req", &rep, json!({"ack": true, "options": {"req_relaxed": 1, "req_correlate": 1}}));
    req.send(&[b"one"]);
    assert_eq!(req.read(), json!({"ev": "sent", "n": 1}));
    assert_eq!(rep.recv(), [b"one"]);
    req.send(&[b"two"]);
    assert_eq!(req.read(), json!({"ev": "sent", "n": 2}));
    rep.send(&[b"late"]);
    assert_eq!(rep.recv(), [b"two"]);
    rep.send(&[b"second"]);
    assert_eq!(req.recv(), [b"second"]);
}

#[test]
fn a_request_before_its_server_is_not_lost_at_the_end() {
    let directory = Directory::new("drive-req");
    let endpoint = format!("ipc://{}", directory.path("socket"));
    let config = json!({"type": "req", "connect": [endpoint], "exit_on_eof": true, "options": {"reconnect_ivl": 1}});
    let mut req = Drive::start(&config);
    req.send(&[b"early"]);
    req.ginnel.close_stdin();
    let mut rep = Drive::start(&json!({"type": "rep", "bind": [endpoint]}));
    assert_eq!(rep.recv(), [b"early"]);
    assert_eq!(req.ginnel.end().code, Some(0));
}

#[test]
fn dealer_and_router() {
    let mut router = Drive::bound("router", json!({"ack": true}));
    let mut dealer = Drive::connected("dealer", &router, json!({"identity": b64(b"d1")}));
    dealer.send(&[b"", b"hi"]);
    assert_eq!(router.recv(), [&b"d1"[..], b"", b"hi"]);
    router.send(&[b"d1", b"", b"ho"]);
    assert_eq!(router.read(), json!({"ev": "sent", "n": 1}));
    assert_eq!(dealer.recv(), [&b""[..], b"ho"]);
    // To nobody: dropped, and counted as sent.
    router.send(&[b"nobody", b"x"]);
    assert_eq!(router.read(), json!({"ev": "sent", "n": 2}));
    dealer.exit();
    router.exit();
}

#[test]
fn a_mandatory_router_names_the_missing_peer() {
    let mut router = Drive::bound("router", json!({"options": {"router_mandatory": 1}}));
    router.send(&[b"nobody", b"x"]);
    let err = router.read();
    assert_eq!((&err["errno"], &err["name"]), (&json!(113), &json!("EHOSTUNREACH")));
}

#[test]
fn pairs_over_ipc() {
    let directory = Directory::new("drive-pair");
    let endpoint = format!("ipc://{}", directory.path("socket"));
    let mut one = Drive::start(&json!({"type": "pair", "bind": [endpoint]}));
    assert_eq!(one.endpoints, [endpoint]);
    let mut two = Drive::connected("pair", &one, json!({}));
    one.send(&[b"1"]);
    assert_eq!(two.recv(), [b"1"]);
    two.send(&[b"2"]);
    assert_eq!(one.recv(), [b"2"]);
}

#[test]
fn endpoints_come_and_go() {
    let mut pull = Drive::start(&json!({"type": "pull"}));
    assert!(pull.endpoints.is_empty());
    let done = pull.command(&json!({"cmd": "bind", "ep": "tcp://127.0.0.1:*"}));
    let endpoint = done["ep"].as_str().expect("the endpoint").to_owned();
    let mut push = Drive::start(&json!({"type": "push"}));
    push.command(&json!({"cmd": "connect", "ep": endpoint}));
    push.send(&[b"1"]);
    assert_eq!(pull.recv(), [b"1"]);
    push.command(&json!({"cmd": "disconnect", "ep": endpoint}));
    push.write(&json!({"cmd": "disconnect", "ep": endpoint}));
    let err = push.read();
    assert_eq!((&err["op"], &err["errno"], &err["name"]), (&json!("disconnect"), &json!(2), &json!("ENOENT")));
    pull.write(&json!({"cmd": "bind", "ep": endpoint}));
    let err = pull.read();
    assert_eq!((&err["op"], &err["errno"], &err["name"]), (&json!("bind"), &json!(98), &json!("EADDRINUSE")));
    pull.command(&json!({"cmd": "unbind", "ep": endpoint}));
    pull.command(&json!({"cmd": "bind", "ep": endpoint}));
    pull.write(&json!({"cmd": "bind", "ep": "nonsense"}));
    assert_eq!(pull.read()["name"], "EINVAL");
    push.write(&json!({"cmd": "subscribe", "topic": ""}));
    assert_eq!(push.read()["name"], "EINVAL");
}

#[test]
fn a_bad_line_fails_and_the_next_one_is_taken() {
    let mut pull = Drive::bound("pull", json!({}));
    let mut push = Drive::connected("push", &pull, json!({}));
    for (number, line) in [(1, "{"), (2, "{\"f\":[]}"), (3, "{\"cmd\":\"ack\",\"seq\":1}"), (4, "{\"f\":[\"?\"]}")] {
        push.ginnel.write(format!("{line}\n").as_bytes());
        let err = push.read();
        assert_eq!((&err["ev"], &err["line"], &err["name"]), (&json!("err"), &json!(number), &json!("EINVAL")));
    }
    push.send(&[b"good"]);
    assert_eq!(pull.recv(), [b"good"]);
}

#[test]
fn sends_wait_their_turn_and_end_of_input_ends() {
    let mut pull = Drive::bound("pull", json!({"options": {"rcvhwm": 1}}));
    let mut push = Drive::connected("push", &pull, json!({"exit_on_eof": true, "options": {"sndhwm": 1}}));
    let lines: String = (0..5000).map(|n| format!("{{\"f\":[\"{}\"]}}\n", b64(n.to_string().as_bytes()))).collect();
    push.ginnel.feed(lines.as_bytes());
    for n in 0..5000 {
        assert_eq!(pull.recv(), [n.to_string().into_bytes()]);
    }
    let ended = push.ginnel.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn sends_go_on_while_stdout_is_not_read() {
    let mut one = Drive::bound("pair", json!({}));
    let mut two = Drive::connected("pair", &one, json!({}));
    // More than pipes and queues hold, so that `two` stands still on its unread stdout.
    let line = format!("{{\"f\":[\"{}\"]}}\n", b64(&[7; 10_000]));
    one.ginnel.feed(line.repeat(5000).as_bytes());
    for n in 0..100 {
        two.send(&[n.to_string().as_bytes()]);
        assert_eq!(one.recv(), [n.to_string().into_bytes()]);
    }
    for _ in 0..5000 {
        assert_eq!(two.recv(), [vec![7; 10_000]]);
    }
}

#[test]
fn the_end_of_input_alone_does_not_end_it() {
    let mut pull = Drive::bound("pull", json!({}));
    pull.ginnel.close_stdin();
    let mut push = Drive::connected("push", &pull, json!({}));
    push.send(&[b"still here"]);
    assert_eq!(pull.recv(), [b"still here"]);
    pull.ginnel.signal("TERM");
    assert_eq!(pull.ginnel.wait().code, Some(143));
}

#[test]
fn a_closed_stdout_ends_with_0() {
    let mut pull = Drive::bound("pull", json!({}));
    let _push = Ginnel::start(&["push", "-c", &pull.endpoints[0], "-D", "a", "-i", "1ms"]);
    pull.recv();
    pull.ginnel.close_stdout();
    assert_eq!(pull.ginnel.wait().code, Some(0));
}

#[test]
fn a_send_timeout_is_eagain() {
    let mut push = Drive::bound("push", json!({"options": {"sndtimeo": 0}}));
    push.send(&[b"x"]);
    let err = push.read();
    assert_eq!((&err["errno"], &err["name"], &err["line"]), (&json!(11), &json!("EAGAIN"), &json!(1)));
}

#[test]
fn a_bad_config_is_fatal_with_2() {
    for (config, expected) in [
        ("{", "CONFIG"),
        (r#"{"type":"stream"}"#, "unknown type"),
        (r#"{"type":"push","options":{"nonesuch":1}}"#, "unknown option nonesuch"),
        (r#"{"type":"pull","spool":{"dir":"x"}}"#, "spool"),
        (r#"{"type":"push","spool":{"dir":"x","declare":{"a":[]}}}"#, "declare"),
        (r#"{"type":"pub","spool":{"dir":"x"},"options":{"conflate":1}}"#, "conflate"),
        (r#"{"type":"push","durable":{"name":"x"}}"#, "durable"),
        (r#"{"type":"push","bind":["nonsense"]}"#, "nonsense"),
        (r#"{"type":"push","connect":["tcp://*:1"]}"#, "tcp://*:1"),
    ] {
        let ended = run(&["drive", config]);
        assert_eq!(ended.code, Some(2), "{config}: {}", ended.stderr);
        let fatal: Value = serde_json::from_str(ended.text().lines().last().expect("a line")).expect("JSON");
        assert_eq!(fatal["ev"], "fatal");
        assert!(fatal["why"].as_str().is_some_and(|why| why.contains(expected)), "{config}: {fatal}");
        assert!(ended.stderr.contains(expected));
    }
    let pull = Drive::bound("pull", json!({}));
    let again = json!({"type": "pull", "bind": pull.endpoints}).to_string();
    assert_eq!(run(&["drive", &again]).code, Some(1));
}

#[test]
fn config_from_a_file_and_plain() {
    let directory = Directory::new("drive-config");
    let file = directory.path("config.json");
    let config = json!({"type": "pull", "bind": ["tcp://127.0.0.1:*"], "plain_server": {"users": {"u": "p"}}});
    std::fs::write(&file, config.to_string()).expect("a file");
    let mut ginnel = Ginnel::start(&["-v", "drive", &format!("@{file}")]);
    let ready: Value = serde_json::from_str(&ginnel.line()).expect("JSON");
    let endpoints = ready["endpoints"].clone();
    let plain = |password: &str| json!({"type": "push", "connect": endpoints, "plain": {"username": "u", "password": password}});
    let _wrong = Drive::start(&plain("wrong"));
    let refused = loop {
        let line: Value = serde_json::from_str(&ginnel.line()).expect("JSON");
        if line["kind"] == "Refused" {
            break line;
        }
    };
    assert_eq!(
        (&refused["ev"], &refused["phase"], &refused["reason"]),
        (&json!("monitor"), &json!("Handshake"), &json!("AuthDenied"))
    );
    let mut right = Drive::start(&plain("p"));
    right.send(&[b"in"]);
    loop {
        let line: Value = serde_json::from_str(&ginnel.line()).expect("JSON");
        if line["m"].is_array() {
            assert_eq!(line["m"], json!([b64(b"in")]));
            return;
        }
        assert_eq!(line["ev"], "monitor");
    }
}

#[test]
fn monitor_lines_with_v() {
    let mut pull = Drive::with(&["-v"], &json!({"type": "pull", "bind": ["tcp://127.0.0.1:*"]}));
    assert_eq!(pull.read()["kind"], "Listening");
    let push = Drive::connected("push", &pull, json!({}));
    let connected = pull.read();
    assert_eq!((&connected["ev"], &connected["kind"]), (&json!("monitor"), &json!("Connected")));
    assert_eq!(connected["socket_type"], "PUSH");
    push.exit();
    let gone = pull.read();
    assert_eq!((&gone["kind"], &gone["reason"]), (&json!("Disconnected"), &json!("PeerClosed")));
}
