//! `drive` with spools and durable names.

mod common;

use common::drive::{Drive, b64, merge};
use common::spool;
use common::{Directory, run};
use serde_json::{Value, json};

/// A spool in `dir`, whatever the disk.
fn with_spool(dir: &str, more: Value) -> Value {
    json!({"ack": true, "spool": merge(json!({"dir": dir, "min_free_disk": 0, "segment_bytes": "256Ki"}), more)})
}

fn with_name(more: Value) -> Value {
    let quick = json!({"reconnect_ivl": 1, "reconnect_ivl_max": 10});
    json!({"durable": merge(json!({"name": "audit"}), more), "options": quick})
}

fn subscribed(more: Value) -> Value {
    merge(with_name(more), json!({"subscribe": [""]}))
}

/// A publisher that keeps everything for `audit`.
fn publisher(dir: &str, more: Value) -> Drive {
    let spool = with_spool(dir, merge(json!({"declare": {"audit": [""]}}), more));
    Drive::bound("pub", spool)
}

/// Sends these and waits until the last one is accepted; the events on the way must be `sent`.
fn send_all(socket: &mut Drive, texts: &[&str]) -> u64 {
    texts.iter().for_each(|text| socket.send(&[text.as_bytes()]));
    let mut n = 0;
    let mut last = 0;
    while n < texts.len() as u64 {
        let sent = socket.read();
        assert_eq!(sent["ev"], "sent", "{sent}");
        n = sent["n"].as_u64().expect("a count");
        last = sent["seq"].as_u64().expect("a number");
    }
    last
}

fn message(line: &Value) -> (String, u64, u64) {
    assert!(line["m"].is_array(), "no message: {line}");
    assert_eq!(line["spool"].as_str().map(str::len), Some(32), "{line}");
    let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key}: {line}"));
    (line["m"][0].as_str().expect("a frame").to_owned(), number("seq"), number("tries"))
}

fn expect(sub: &mut Drive, text: &str, sequence: u64, tries: u64) {
    assert_eq!(message(&sub.read()), (b64(text.as_bytes()), sequence, tries));
}

#[test]
fn deliveries_are_acknowledged_by_hand() {
    let directory = Directory::new("drive-manual");
    let q = directory.path("q");
    let mut publisher = publisher(&q, json!({}));
    assert_eq!(send_all(&mut publisher, &["a", "b", "c", "d"]), 4);
    let mut sub = Drive::connected("sub", &publisher, subscribed(json!({"ack": "manual"})));
    for (text, sequence) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        expect(&mut sub, text, sequence, 1);
    }
    let done = sub.command(&json!({"cmd": "ack", "seq": 2}));
    assert_eq!(done, json!({"ev": "done", "cmd": "ack", "seq": 2}));
    let again = sub.command(&json!({"cmd": "ack", "seq": 2}));
    assert_eq!(again, json!({"ev": "done", "cmd": "ack", "seq": 2, "known": false}));
    let unknown = sub.command(&json!({"cmd": "retry", "seq": 99, "delay": 5}));
    assert_eq!(unknown, json!({"ev": "done", "cmd": "retry", "seq": 99, "known": false}));
    sub.command(&json!({"cmd": "retry", "seq": 3}));
    expect(&mut sub, "c", 3, 2);
    sub.command(&json!({"cmd": "ack", "seq": 3, "upto": true}));
    // Of four only the last one was not spoken of.
    sub.exit();
    let mut sub = Drive::connected("sub", &publisher, subscribed(json!({"ack": "manual"})));
    let line = sub.read();
    let (text, sequence, _) = message(&line);
    assert_eq!((text, sequence), (b64(b"d"), 4));
    let elsewhere = "00".repeat(16);
    let wrong = sub.command(&json!({"cmd": "ack", "seq": 4, "spool": elsewhere}));
    assert_eq!(wrong["known"], false);
    let right = sub.command(&json!({"cmd": "ack", "seq": 4, "spool": line["spool"]}));
    assert_eq!(right["known"], Value::Null);
    sub.exit();
    publisher.exit();
    assert_eq!(spool::cursor(&q, "audit"), Some(4));
}

#[test]
fn numbers_of_two_publishers_need_their_spool() {
    let directory = Directory::new("drive-two");
    let mut one = publisher(&directory.path("one"), json!({}));
    let mut two = publisher(&directory.path("two"), json!({}));
    send_all(&mut one, &["a"]);
    send_all(&mut two, &["a"]);
    let endpoints = [&one.endpoints[..], &two.endpoints].concat();
    let config = merge(subscribed(json!({"ack": "manual"})), json!({"type": "sub", "connect": endpoints}));
    let mut sub = Drive::start(&config);
    let spools = [sub.read()["spool"].clone(), sub.read()["spool"].clone()];
    assert_ne!(spools[0], spools[1]);
    sub.write(&json!({"cmd": "ack", "seq": 1}));
    let err = sub.read();
    assert_eq!((&err["op"], &err["name"]), (&json!("ack"), &json!("EINVAL")));
    sub.command(&json!({"cmd": "ack", "seq": 1, "spool": spools[0]}));
    // Only one is left: it is clear which one is meant.
    let done = sub.command(&json!({"cmd": "ack", "seq": 1}));
    assert_eq!(done["known"], Value::Null);
    sub.exit();
    one.exit();
    two.exit();
    for name in ["one", "two"] {
        assert_eq!(spool::cursor(&directory.path(name), "audit"), Some(1), "{name}");
    }
}

#[test]
fn what_was_printed_is_done_and_nothing_else() {
    for ack in ["next", "receive"] {
        let directory = Directory::new(&format!("drive-{ack}"));
        let q = directory.path("q");
        let mut publisher = publisher(&q, json!({}));
        send_all(&mut publisher, &["a", "b", "c"]);
        let mut sub = Drive::connected("sub", &publisher, subscribed(json!({"ack": ack})));
        for (text, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
            expect(&mut sub, text, sequence, 1);
        }
        sub.write(&json!({"cmd": "ack", "seq": 1}));
        let err = sub.read();
        assert_eq!((&err["op"], &err["name"]), (&json!("ack"), &json!("EINVAL")));
        sub.exit();
        publisher.exit();
        assert_eq!(spool::cursor(&q, "audit"), Some(3), "{ack}");
    }
}

#[test]
fn d01_what_a_killed_publisher_accepted_is_delivered() {
    let directory = Directory::new("drive-killed");
    let (q, endpoint) = (directory.path("q"), format!("ipc://{}", directory.path("socket")));
    let config = merge(
        with_spool(&q, json!({"declare": {"audit": [""]}, "sync": "never"})),
        json!({"type": "pub", "bind": [endpoint]}),
    );
    let cursor = directory.path("cursor");
    let mut sub =
        Drive::start(&merge(subscribed(json!({"cursor": cursor})), json!({"type": "sub", "connect": [endpoint]})));
    let mut next = 0u64;
    for round in 0..3u64 {
        let mut publisher = Drive::start(&config);
        let lines: String = (0..400).map(|n| format!("{}\n", json!({"f": [b64(&[round as u8, n as u8])]}))).collect();
        publisher.ginnel.feed(lines.as_bytes());
        let mut accepted = 0;
        while accepted < 150 {
            let line = publisher.read();
            match line["ev"].as_str() {
                Some("sent") => accepted = line["n"].as_u64().expect("a count"),
                Some("spool") => assert_eq!(line["kind"], "Recovered", "{line}"),
                _ => panic!("{line}"),
            }
        }
        publisher.ginnel.kill();
        // Nothing accepted is missing, nothing comes twice.
        let mut received = 0;
        let mut publisher = Drive::start(&config);
        while received < accepted {
            let line = sub.read();
            let (text, sequence, _) = message(&line);
            assert!(sequence > next, "{line}");
            next = sequence;
            if text == b64(&[round as u8, received as u8]) {
                received += 1;
            } else {
                // The rest of the round before, which was written and not accepted yet.
                assert_eq!(received, 0, "{line}");
            }
        }
        assert_eq!(publisher.read()["kind"], "Recovered");
        publisher.exit();
    }
}

#[test]
fn delayed_messages_wait_or_are_cancelled() {
    let directory = Directory::new("drive-delayed");
    let q = directory.path("q");
    let mut publisher = publisher(&q, json!({}));
    let mut sub = Drive::connected("sub", &publisher, subscribed(json!({})));
    let at = |text: &str, at: Value| json!({"f": [b64(text.as_bytes())], "at": at});
    publisher.write(&at("far", json!("2099-01-01T00:00:00Z")));
    let sent = publisher.read();
    assert_eq!((&sent["ev"], &sent["n"], &sent["seq"]), (&json!("sent"), &json!(1), &Value::Null));
    let number = sent["delayed"].as_u64().expect("a number");
    publisher.write(&at("past", json!(1000)));
    assert_eq!(publisher.read()["n"], 2);
    let line = sub.read();
    assert_eq!(message(&line).0, b64(b"past"));
    let done = publisher.command(&json!({"cmd": "cancel", "seq": number}));
    assert_eq!(done, json!({"ev": "done", "cmd": "cancel", "seq": number}));
    let again = publisher.command(&json!({"cmd": "cancel", "seq": number}));
    assert_eq!(again["known"], false);
    assert_eq!(publisher.command(&json!({"cmd": "stats"}))["stats"]["spool"]["delayed"], 0);
    publisher.write(&at("x", json!("soon")));
    assert_eq!(publisher.read()["name"], "EINVAL");
    sub.exit();
    publisher.exit();
    let mut plain = Drive::bound("pub", json!({}));
    plain.write(&at("x", json!(1000)));
    assert_eq!(plain.read()["name"], "EINVAL");
    plain.write(&json!({"cmd": "cancel", "seq": 1}));
    assert_eq!(plain.read()["name"], "EINVAL");
}

#[test]
fn a_dropped_name_is_gone() {
    let directory = Directory::new("drive-drop");
    let q = directory.path("q");
    let mut publisher = publisher(&q, json!({}));
    send_all(&mut publisher, &["a"]);
    let mut sub = Drive::connected("sub", &publisher, subscribed(json!({})));
    expect(&mut sub, "a", 1, 1);
    let done = sub.command(&json!({"cmd": "drop-name"}));
    assert_eq!(done, json!({"ev": "done", "cmd": "drop-name"}));
    let names = publisher.command(&json!({"cmd": "stats"}))["stats"]["spool"]["names"].clone();
    assert_eq!(names, json!([]));
    publisher.write(&json!({"cmd": "drop-name"}));
    assert_eq!(publisher.read()["name"], "EINVAL");
}

#[test]
fn a_full_spool_is_eagain_and_does_not_count() {
    let directory = Directory::new("drive-full");
    let q = directory.path("q");
    let limits = json!({"max_bytes": "4Mi", "when_full": "reject"});
    let mut push = Drive::bound("push", with_spool(&q, limits));
    let mut sent = 0;
    let mut refused = 0;
    let mut full = false;
    for _ in 0..60 {
        push.send(&[&[7; 100_000]]);
    }
    while sent + refused < 60 {
        let line = push.read();
        match line["ev"].as_str() {
            Some("sent") => sent = line["n"].as_u64().expect("a count"),
            Some("err") => {
                assert_eq!(
                    (&line["op"], &line["errno"], &line["name"]),
                    (&json!("send"), &json!(11), &json!("EAGAIN"))
                );
                refused += 1;
            }
            Some("spool") => full |= line["kind"] == "SpoolFull",
            _ => panic!("{line}"),
        }
    }
    assert!(sent > 0 && refused > 0 && full, "{sent} {refused} {full}");
    push.exit();
    assert_eq!(spool::list(&q)["newest"], sent);
}

#[test]
fn losses_are_told_on_both_sides() {
    let directory = Directory::new("drive-lost");
    let q = directory.path("q");
    let limits = json!({"max_bytes": "4Mi", "when_full": "drop-oldest"});
    let mut publisher = publisher(&q, limits);
    for _ in 0..100 {
        publisher.send(&[&[7; 100_000]]);
    }
    let lost = |socket: &mut Drive| loop {
        let line = socket.read();
        if line["kind"] == "Lost" {
            assert_eq!((&line["ev"], &line["name"], &line["from"]), (&json!("spool"), &json!("audit"), &json!(1)));
            return line;
        }
    };
    lost(&mut publisher);
    let mut sub = Drive::connected("sub", &publisher, subscribed(json!({})));
    assert!(lost(&mut sub)["to"].as_u64() > Some(0));
    sub.ginnel.signal("TERM");
    let ended = sub.ginnel.wait();
    assert!(ended.stderr.contains("ginnel: warn: lost for \"audit\""), "{}", ended.stderr);
}

#[test]
fn a_push_delivers_to_workers_that_acknowledge() {
    let directory = Directory::new("drive-push");
    let q = directory.path("q");
    let mut push = Drive::bound("push", with_spool(&q, json!({"sync": 5})));
    assert_eq!(send_all(&mut push, &["a", "b"]), 2);
    let mut one = Drive::connected("pull", &push, with_name(json!({"ack": "manual"})));
    expect(&mut one, "a", 1, 1);
    expect(&mut one, "b", 2, 1);
    one.command(&json!({"cmd": "ack", "seq": 2}));
    one.exit();
    let mut two = Drive::connected("pull", &push, with_name(json!({"name": "two"})));
    expect(&mut two, "a", 1, 2);
    two.exit();
    push.exit();
    assert_eq!(spool::cursor(&q, ""), Some(2));
}

#[test]
fn resume_tokens_leave_out_what_is_done() {
    let directory = Directory::new("drive-resume");
    let q = directory.path("q");
    let mut publisher = publisher(&q, json!({}));
    send_all(&mut publisher, &["a", "b", "c"]);
    let id = spool::list(&q)["id"].clone();
    let mut sub = Drive::connected("sub", &publisher, subscribed(json!({"resume": [{"spool": id, "seq": 2}]})));
    expect(&mut sub, "c", 3, 1);
    sub.exit();
    publisher.exit();
}

#[test]
fn a_name_in_use_is_refused_and_taken_over_when_asked() {
    let directory = Directory::new("drive-taken");
    let q = directory.path("q");
    let mut publisher = publisher(&q, json!({}));
    let mut one = Drive::connected("sub", &publisher, subscribed(json!({})));
    send_all(&mut publisher, &["a"]);
    expect(&mut one, "a", 1, 1);
    let mut two = Drive::connected("sub", &publisher, subscribed(json!({"take_over": true})));
    while two.command(&json!({"cmd": "stats"}))["stats"]["peers"][0]["state"] != "connected" {}
    let mut names = json!([]);
    while names[0]["connections"] != 1 || names[0]["in_flight"] != 0 {
        names = publisher.command(&json!({"cmd": "stats"}))["stats"]["spool"]["names"].clone();
    }
    two.exit();
}

#[test]
fn a_spool_that_cannot_be_opened_is_fatal() {
    let directory = Directory::new("drive-fatal");
    let q = directory.path("q");
    let config = merge(with_spool(&q, json!({})), json!({"type": "push", "bind": ["tcp://127.0.0.1:*"]}));
    let mut one = Drive::start(&config);
    send_all(&mut one, &["x"]);
    let pid = one.ginnel.id().to_string();
    let fatal = |code: i32, expected: &[&str]| {
        let ended = run(&["drive", &config.to_string()]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        let line: Value = serde_json::from_str(ended.text().lines().last().expect("a line")).expect("JSON");
        assert_eq!(line["ev"], "fatal");
        let why = line["why"].as_str().expect("a reason");
        assert!(expected.iter().all(|word| why.contains(word)), "{why}");
    };
    fatal(1, &["in use", &pid]);
    one.exit();
    spool::age_format(&q);
    fatal(5, &["format"]);
    let file = directory.path("file");
    std::fs::write(&file, "").expect("a file");
    let ended = run(&["drive", &json!({"type": "push", "spool": {"dir": file}}).to_string()]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}
