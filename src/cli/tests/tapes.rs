//! Spools as files: `record`, `replay` and the tools of `spool`.

mod common;

use common::spool::{self, ANY_DISK};
use common::{Directory, Ended, Ginnel, run, run_with};
use serde_json::Value;

/// A spool that holds these messages for the name `audit`.
fn tape(spool: &str, lines: &str) {
    let push = ["pub", "-b", "tcp://127.0.0.1:*", "--spool", spool, "--declare", "audit", "-f", "json"];
    run_with(&[&push[..], &ANY_DISK].concat(), lines.as_bytes()).expect_ok();
}

fn envelopes(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn dump(spool: &str, more: &[&str]) -> Vec<Value> {
    envelopes(&run(&[&["spool", "dump", spool], more].concat()).expect_ok())
}

const MESSAGES: &str = "[\"a\",\"1\"]\n[\"b\"]\n[\"c\",\"\",\"3\"]\n[\"d\"]\n";

#[test]
fn a_spool_is_listed_checked_and_dumped() {
    let directory = Directory::new("tools");
    let q = directory.path("q");
    tape(&q, MESSAGES);
    let list = spool::list(&q);
    assert_eq!((&list["oldest"], &list["newest"], &list["clean"]), (&1.into(), &4.into(), &true.into()));
    assert_eq!(list["segments"][0]["records"], 4);
    assert_eq!(list["id"].as_str().map(str::len), Some(32));
    let name = &list["names"][0];
    assert_eq!((&name["name"], &name["kind"], &name["cursor"]), (&"audit".into(), &"topic".into(), &0.into()));
    assert_eq!(name["lag_records"], 4);
    let verified = run(&["spool", "verify", &q]).expect_ok();
    assert_eq!(serde_json::from_str::<Value>(verified.text()).expect("JSON")["records"], 4);
    let all = dump(&q, &[]);
    assert_eq!(all.len(), 4);
    assert_eq!((&all[2]["seq"], &all[2]["offset"], &all[2]["peer"]), (&3.into(), &3.into(), &Value::Null));
    assert_eq!(all[2]["frames"], serde_json::json!(["c", "", "3"]));
    assert!(all[2]["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')));
    let part = dump(&q, &["--from", "2", "--to", "3"]);
    assert_eq!((part.len(), &part[0]["frames"][0]), (2, &"b".into()));
    let at = all[3]["ts"].as_str().expect("a time");
    assert!(dump(&q, &["--from", at]).iter().any(|envelope| envelope["frames"][0] == "d"));
    assert_eq!(dump(&q, &["--to", "1970-01-01T00:00:00Z"]).len(), 0);
    assert_eq!(dump(&q, &["-n", "1"]).len(), 1);
    assert_eq!(dump(&q, &["--dead"]).len() + dump(&q, &["--delayed"]).len(), 0);
}

#[test]
fn a_dump_is_sent_as_it_is() {
    let directory = Directory::new("dump");
    let q = directory.path("q");
    tape(&q, MESSAGES);
    let pull = Ginnel::start(&["pull", "-b", "tcp://127.0.0.1:*", "-f", "json", "-n", "4"]);
    let dump = run(&["spool", "dump", &q]).expect_ok();
    run_with(&["push", "-c", &pull.bound(), "-f", "envelope"], &dump.stdout).expect_ok();
    assert_eq!(pull.end().expect_ok().text(), MESSAGES);
}

#[test]
fn d07_a_flipped_bit_is_5_and_names_the_place() {
    let directory = Directory::new("flip");
    let q = directory.path("q");
    tape(&q, "[\"first\"]\n[\"needle-in-the-middle\"]\n[\"last\"]\n");
    let file = spool::segments(&q)[0].file_name().expect("a name").to_str().expect("text").to_owned();
    spool::flip(&q, b"needle-in-the-middle");
    let ended = run(&["spool", "verify", &q]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{file} at ")), "{}", ended.stderr);
    let ended = run(&["spool", "dump", &q]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    let good: Vec<Value> = envelopes(&ended).iter().map(|envelope| envelope["frames"][0].clone()).collect();
    assert_eq!(good, ["first", "last"]);
    let replay = ["replay", "push", "-b", "tcp://127.0.0.1:*", "--spool", &q, "--fast"];
    let replay = Ginnel::start(&replay);
    let pull = run(&["pull", "-c", &replay.bound(), "-n", "2"]).expect_ok();
    assert_eq!(pull.text(), "first\nlast\n");
    assert_eq!(replay.end().code, Some(5));
    let before = std::fs::read(&spool::segments(&q)[0]).expect("a segment");
    assert!(before.windows(4).any(|window| window == b"last"), "reading changes nothing");
    let repaired = run(&["spool", "repair", &q]).expect_ok();
    let report: Value = serde_json::from_str(repaired.text()).expect("JSON");
    assert!(report["damage"].is_array() && report["torn"].is_u64(), "{report}");
}

#[test]
fn names_are_dropped_and_copies_get_an_id() {
    let directory = Directory::new("names");
    let q = directory.path("q");
    tape(&q, MESSAGES);
    run(&["spool", "drop-name", &q, "audit"]).expect_ok();
    assert_eq!(spool::list(&q)["names"], serde_json::json!([]));
    assert_eq!(run(&["spool", "drop-name", &q, "audit"]).code, Some(1));
    let before = spool::list(&q)["id"].clone();
    let given = run(&["spool", "new-id", &q]).expect_ok();
    let given: Value = serde_json::from_str(given.text()).expect("JSON");
    assert_ne!(given["id"], before);
    assert_eq!(spool::list(&q)["id"], given["id"]);
    let missing = directory.path("missing");
    for tool in [&["list", &missing][..], &["verify", &missing], &["repair", &missing], &["new-id", &missing]] {
        assert_eq!(run(&[&["spool"], tool].concat()).code, Some(1), "{tool:?}");
    }
    assert!(!std::path::Path::new(&missing).exists());
}

#[test]
fn what_is_recorded_is_replayed() {
    let directory = Directory::new("record");
    let q = directory.path("tape");
    let mut publisher =
        Ginnel::start(&["pub", "-b", "tcp://127.0.0.1:*", "-f", "json", "--wait-subs", "1", "--linger", "30s"]);
    let endpoint = publisher.bound();
    let record = ["record", "sub", "-c", &endpoint, "--spool", &q, "-n", "4"];
    let record = Ginnel::start(&[&record[..], &ANY_DISK].concat());
    publisher.write(MESSAGES.as_bytes());
    record.end().expect_ok();
    publisher.end().expect_ok();
    let bodies: Vec<Value> = dump(&q, &[]).iter().map(|envelope| envelope["frames"][0].clone()).collect();
    assert_eq!(bodies, ["a", "b", "c", "d"]);
    for (more, expected) in [
        (&["--speed", "1000"][..], MESSAGES.to_owned()),
        (&["--fast", "--loop", "2"], MESSAGES.repeat(2)),
        (&["--rate", "1000", "--from", "2", "--to", "3"], "[\"b\"]\n[\"c\",\"\",\"3\"]\n".to_owned()),
        (&["-n", "1"], "[\"a\",\"1\"]\n".to_owned()),
    ] {
        let replay = ["replay", "pub", "-b", "tcp://127.0.0.1:*", "--spool", &q, "--wait-subs", "1"];
        let replay = Ginnel::start(&[&replay[..], more].concat());
        let count = expected.lines().count().to_string();
        let sub = run(&["sub", "-c", &replay.bound(), "-f", "json", "-n", &count]).expect_ok();
        assert_eq!(sub.text(), expected, "{more:?}");
        replay.end().expect_ok();
    }
}

#[test]
fn a_recording_acknowledges_what_is_on_disk() {
    let directory = Directory::new("record-durable");
    let (q, copy) = (directory.path("q"), directory.path("copy"));
    tape(&q, MESSAGES);
    let publisher = [&["pub", "-b", "tcp://127.0.0.1:*", "--spool", &q], &ANY_DISK[..]].concat();
    let publisher = Ginnel::start(&publisher);
    let record = ["record", "sub", "-c", &publisher.bound(), "--spool", &copy, "--durable", "audit", "-n", "3"];
    run(&[&record[..], &ANY_DISK].concat()).expect_ok();
    publisher.end().expect_ok();
    assert_eq!(spool::cursor(&q, "audit"), Some(3));
    assert_eq!(dump(&copy, &[]).len(), 3);
}

#[test]
fn a_pull_records_until_a_signal_or_the_time_is_up() {
    let directory = Directory::new("record-pull");
    let q = directory.path("q");
    let record = [&["record", "pull", "-b", "tcp://127.0.0.1:*", "--spool", &q], &ANY_DISK[..]].concat();
    let record = Ginnel::start(&record);
    run_with(&["push", "-c", &record.bound()], b"1\n2\n3\n").expect_ok();
    spool::wait_for_record(&q, 3);
    record.signal("TERM");
    assert_eq!(record.wait().code, Some(143));
    let list = spool::list(&q);
    assert_eq!((&list["clean"], &list["newest"]), (&true.into(), &3.into()));
    let timed = ["record", "pull", "-b", "tcp://127.0.0.1:*", "--spool", &q, "--time", "1ms"];
    run(&[&timed[..], &ANY_DISK].concat()).expect_ok();
    assert_eq!(dump(&q, &[]).len(), 3);
}
