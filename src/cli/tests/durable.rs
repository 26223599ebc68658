//! Durable delivery in the shell: what was sent arrives, whoever was away or killed.

mod common;

use common::spool::{self, ANY_DISK};
use common::{Directory, Ginnel, run, run_with};
use serde_json::Value;

fn lines(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

/// A publisher with a spool that lives as long as its input is open.
fn publisher(endpoint: &str, spool: &str, more: &[&str]) -> Ginnel {
    Ginnel::start(&[&["pub", "-b", endpoint, "--spool", spool], &ANY_DISK[..], more].concat())
}

fn sub(endpoint: &str, name: &str, more: &[&str]) -> Vec<String> {
    let quick = ["--reconnect", "1ms..10ms"];
    let args = [&["sub", "-c", endpoint, "--durable", name], &quick[..], more].concat();
    args.iter().map(ToString::to_string).collect()
}

#[test]
fn d03_example_what_is_declared_is_kept_for_absent_subscribers() {
    let directory = Directory::new("declare");
    let q = directory.path("q");
    let declared = ["pub", "-b", "tcp://127.0.0.1:*", "--spool", &q, "--declare", "audit"];
    run_with(&[&declared[..], &ANY_DISK].concat(), b"one\ntwo\nthree\n").expect_ok();
    let publisher = publisher("tcp://127.0.0.1:*", &q, &[]);
    let endpoint = publisher.bound();
    let store = directory.path("stored");
    let command = format!("cat >> {store}");
    run(&sub(&endpoint, "audit", &["-x", &command, "--ack", "exec", "-n", "3"])).expect_ok();
    assert_eq!(std::fs::read_to_string(&store).expect("a file"), "one\ntwo\nthree\n");
    publisher.end().expect_ok();
    assert_eq!(spool::cursor(&q, "audit"), Some(3));
}

#[test]
fn d01_a_publisher_that_is_killed_and_restarted_loses_nothing() {
    let directory = Directory::new("killed");
    let (q, endpoint) = (directory.path("q"), format!("ipc://{}", directory.path("socket")));
    let mut one = publisher(&endpoint, &q, &["--declare", "audit"]);
    one.bound();
    // What a killed publisher could not save, the subscriber's file knows.
    let cursor = directory.path("cursor");
    let audit = |n| sub(&endpoint, "audit", &["-n", n, "--cursor", &cursor]);
    let first = Ginnel::start(&audit("200"));
    one.write(lines(1..=200).as_bytes());
    assert_eq!(first.end().expect_ok().text(), lines(1..=200));
    one.write(lines(201..=500).as_bytes());
    spool::wait_for_record(&q, 500);
    one.kill();
    let two = publisher(&endpoint, &q, &[]);
    two.bound();
    let mut second = Ginnel::start(&audit("300"));
    assert_eq!((201..=350).map(|_| second.line() + "\n").collect::<String>(), lines(201..=350));
    two.kill();
    // The subscriber stays: what it has done is not repeated to it.
    let mut three = publisher(&endpoint, &q, &[]);
    three.bound();
    assert_eq!(second.end().expect_ok().text(), lines(351..=500));
    three.write(lines(501..=600).as_bytes());
    assert_eq!(run(&audit("100")).expect_ok().text(), lines(501..=600));
    let ended = three.end().expect_ok();
    assert!(ended.stderr.contains("recovered the spool"), "{}", ended.stderr);
}

#[test]
fn d03_a_subscriber_comes_back_and_misses_nothing() {
    let directory = Directory::new("away");
    let q = directory.path("q");
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--wait-subs", "1"]);
    let endpoint = publisher.bound();
    let first = Ginnel::start(&sub(&endpoint, "audit", &["-n", "10", "-s", "", "-f", "envelope"]));
    publisher.write(lines(1..=10).as_bytes());
    let first = first.end().expect_ok();
    publisher.write(lines(11..=30).as_bytes());
    spool::wait_for_record(&q, 30);
    let second = run(&sub(&endpoint, "audit", &["-n", "20", "-f", "envelope"])).expect_ok();
    let text = [first.text(), second.text()].concat();
    for (line, n) in text.lines().zip(1..) {
        let envelope: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&envelope["offset"], &envelope["frames"][0]), (&n.into(), &n.to_string().into()));
    }
    assert_eq!(text.lines().count(), 30);
    publisher.end().expect_ok();
}

#[test]
fn a_new_name_starts_now_or_at_the_oldest() {
    let directory = Directory::new("from");
    let q = directory.path("q");
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--declare", "pins"]);
    let endpoint = publisher.bound();
    publisher.write(lines(1..=3).as_bytes());
    spool::wait_for_record(&q, 3);
    let oldest = run(&sub(&endpoint, "late", &["-n", "3", "--from", "oldest"])).expect_ok();
    assert_eq!(oldest.text(), lines(1..=3));
    let mut now = Ginnel::start(&sub(&endpoint, "later", &["-n", "1"]));
    while spool::cursor(&q, "later").is_none() {}
    publisher.write(b"4\n");
    assert_eq!(now.line(), "4");
    now.end().expect_ok();
    publisher.end().expect_ok();
}

#[test]
fn a_cursor_file_remembers_what_is_done() {
    let directory = Directory::new("cursor");
    let (q, cursor) = (directory.path("q"), directory.path("cursor"));
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--declare", "audit"]);
    let endpoint = publisher.bound();
    publisher.write(lines(1..=5).as_bytes());
    let args = |n| sub(&endpoint, "audit", &["-n", n, "--cursor", &cursor]);
    assert_eq!(run(&args("3")).expect_ok().text(), lines(1..=3));
    assert!(std::fs::metadata(&cursor).expect("a cursor file").len() > 0);
    assert_eq!(run(&args("2")).expect_ok().text(), lines(4..=5));
    publisher.end().expect_ok();
}

#[test]
fn a_command_that_fails_gets_its_message_again() {
    let directory = Directory::new("exec");
    let (q, failed) = (directory.path("q"), directory.path("failed"));
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--declare", "work"]);
    let endpoint = publisher.bound();
    publisher.write(b"job\n");
    let command = format!("cat; test -e {failed} || {{ touch {failed}; exit 7; }}");
    let ended = run(&sub(&endpoint, "work", &["-n", "2", "-x", &command, "--ack", "exec"])).expect_ok();
    assert_eq!(ended.text(), "job\njob\n");
    assert!(ended.stderr.contains("ended with exit status: 7"), "{}", ended.stderr);
    publisher.write(b"next\n");
    // Not done when the command ends: it comes again. Done: it does not.
    let ended = run(&sub(&endpoint, "work", &["-n", "1", "-x", "cat; exit 1", "--ack", "exec"])).expect_ok();
    assert_eq!(ended.text(), "next\n");
    let ended = run(&sub(&endpoint, "work", &["-n", "1", "-x", "cat", "--ack", "exec"])).expect_ok();
    assert_eq!(ended.text(), "next\n");
    publisher.write(b"last\n");
    assert_eq!(run(&sub(&endpoint, "work", &["-n", "1"])).expect_ok().text(), "last\n");
    publisher.end().expect_ok();
}

#[test]
fn with_receive_a_failing_command_has_had_its_message() {
    let directory = Directory::new("receive");
    let q = directory.path("q");
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--declare", "work"]);
    let endpoint = publisher.bound();
    publisher.write(lines(1..=2).as_bytes());
    let failing = sub(&endpoint, "work", &["-n", "1", "-x", "cat; exit 1", "--ack", "receive"]);
    assert_eq!(run(&failing).expect_ok().text(), "1\n");
    assert_eq!(run(&sub(&endpoint, "work", &["-n", "1"])).expect_ok().text(), "2\n");
    publisher.end().expect_ok();
}

#[test]
fn a_push_keeps_what_no_worker_has_done() {
    let directory = Directory::new("push");
    let (q, endpoint) = (directory.path("q"), format!("ipc://{}", directory.path("socket")));
    let push = |more: &[&str]| [&["push", "-b", &endpoint, "--spool", &q], &ANY_DISK[..], more].concat().join("\n");
    let args = push(&["-n", "50"]);
    let args: Vec<&str> = args.split('\n').collect();
    // No worker: it ends all the same, everything is on disk.
    run_with(&args, lines(1..=50).as_bytes()).expect_ok();
    let args = push(&[]);
    let push = Ginnel::start(&args.split('\n').collect::<Vec<_>>());
    push.bound();
    let one = run(&["pull", "-c", &endpoint, "--durable", "one", "-n", "20"]).expect_ok();
    let two = run(&["pull", "-c", &endpoint, "--durable", "two", "-n", "30"]).expect_ok();
    assert_eq!([one.text(), two.text()].concat(), lines(1..=50));
    push.end().expect_ok();
    let list = spool::list(&q);
    assert_eq!((&list["names"][0]["kind"], &list["names"][0]["cursor"]), (&"outbox".into(), &50.into()));
}

#[test]
fn plain_subscribers_are_served_too() {
    let directory = Directory::new("plain");
    let q = directory.path("q");
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--wait-subs", "1"]);
    let endpoint = publisher.bound();
    let plain = Ginnel::start(&["sub", "-c", &endpoint, "-n", "3", "-f", "envelope"]);
    publisher.write(lines(1..=3).as_bytes());
    let plain = plain.end().expect_ok();
    assert!(plain.text().lines().all(|line| !line.contains("offset")), "{}", plain.text());
    assert_eq!(plain.text().lines().count(), 3);
    publisher.end().expect_ok();
}

#[test]
fn a_publisher_without_a_spool_is_said_or_refused() {
    let publisher = Ginnel::start(&["pub", "-b", "tcp://127.0.0.1:*", "-D", "x", "-i", "1ms"]);
    let endpoint = publisher.bound();
    let ended = run(&sub(&endpoint, "audit", &["-n", "1"])).expect_ok();
    assert_eq!(ended.text(), "x\n");
    assert!(ended.stderr.contains("takes no part in durable delivery"), "{}", ended.stderr);
    let ended = run(&sub(&endpoint, "audit", &["-n", "1", "--require-durable", "-t", "300ms"]));
    assert_eq!((ended.code, ended.text()), (Some(3), ""), "{}", ended.stderr);
    publisher.signal("TERM");
    publisher.wait();
}

#[test]
fn a_name_has_one_holder_at_a_time() {
    let directory = Directory::new("taken");
    let q = directory.path("q");
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--declare", "audit"]);
    let endpoint = publisher.bound();
    publisher.write(b"1\n");
    let mut holder = Ginnel::start(&sub(&endpoint, "audit", &[]));
    assert_eq!(holder.line(), "1");
    let second = run(&sub(&endpoint, "audit", &["-t", "500ms"]));
    assert_eq!((second.code, second.text()), (Some(3), ""));
    assert!(second.stderr.contains("ginnel: warn: disconnected"), "{}", second.stderr);
    publisher.write(b"2\n");
    assert_eq!(holder.line(), "2");
    holder.signal("TERM");
    assert_eq!(holder.wait().code, Some(143));
    publisher.end().expect_ok();
}

#[test]
fn a_bench_goes_through_a_spool() {
    let directory = Directory::new("bench");
    let dir = directory.path("spools");
    for (pattern, sync) in [("push-pull", "never"), ("pub-sub", "batch")] {
        let bench = ["bench", "thr", "-p", pattern, "-s", "64", "-n", "500", "--runs", "1", "--warmup", "0"];
        let ended = run(&[&bench[..], &["--format", "json", "--spool", &dir, "--sync", sync]].concat()).expect_ok();
        let case: Value = serde_json::from_str(ended.text()).expect("JSON");
        assert_eq!((&case["count"], &case["drops"]), (&500.into(), &0.into()), "{pattern}");
    }
    assert_eq!(std::fs::read_dir(&dir).expect("the directory").count(), 0, "its spools are gone");
}

#[test]
fn a_spool_in_use_is_1_and_names_the_process() {
    let directory = Directory::new("in-use");
    let q = directory.path("q");
    let one = publisher("tcp://127.0.0.1:*", &q, &[]);
    one.bound();
    let ended = run(&["push", "-b", "tcp://127.0.0.1:*", "--spool", &q]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("in use") && ended.stderr.contains(&one.id().to_string()), "{}", ended.stderr);
    for tool in [&["repair", &q][..], &["drop-name", &q, "x"], &["new-id", &q]] {
        let ended = run(&[&["spool"], tool].concat());
        assert_eq!(ended.code, Some(1), "{tool:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("in use"), "{tool:?}: {}", ended.stderr);
    }
    one.end().expect_ok();
}

#[test]
fn a_format_of_the_future_is_5_and_stays_untouched() {
    let directory = Directory::new("future");
    let q = directory.path("q");
    let push = [&["push", "-b", "tcp://127.0.0.1:*", "--spool", &q, "-D", "x"], &ANY_DISK[..]].concat();
    run(&push).expect_ok();
    spool::age_format(&q);
    let before = std::fs::read(&spool::segments(&q)[0]).expect("a segment");
    let ended = run(&push);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("format"), "{}", ended.stderr);
    assert_eq!(run(&["spool", "list", &q]).code, Some(5));
    assert_eq!(std::fs::read(&spool::segments(&q)[0]).expect("a segment"), before);
}

#[test]
fn a_full_spool_rejects_or_blocks() {
    let directory = Directory::new("full");
    let input = format!("{}\n", "x".repeat(100_000)).repeat(100);
    for (policy, more, code) in [("reject", &[][..], 1), ("block", &["-t", "200ms"][..], 3)] {
        let q = directory.path(policy);
        let push = ["push", "-b", "tcp://127.0.0.1:*", "--spool", &q, "--spool-max", "4Mi", "--when-full", policy];
        let ended = run_with(&[&push[..], &ANY_DISK[..], more].concat(), input.as_bytes());
        assert_eq!(ended.code, Some(code), "{policy}: {}", ended.stderr);
        assert!(ended.stderr.contains("the spool is full"), "{policy}: {}", ended.stderr);
        let bytes: u64 = spool::segments(&q).iter().map(|path| path.metadata().expect("a segment").len()).sum();
        assert!(bytes <= 4 << 20, "{policy}: {bytes}");
    }
}

#[test]
fn a_spool_that_drops_says_what_is_lost() {
    let directory = Directory::new("drop");
    let q = directory.path("q");
    let input = format!("{}\n", "x".repeat(100_000)).repeat(200);
    let limits = ["--spool-max", "4Mi", "--when-full", "drop-oldest", "--declare", "slow"];
    let args = [&["pub", "-b", "tcp://127.0.0.1:*", "--spool", &q], &ANY_DISK[..], &limits].concat();
    let ended = run_with(&args, input.as_bytes()).expect_ok();
    assert!(ended.stderr.contains("ginnel: warn: lost for \"slow\": records 1 to "), "{}", ended.stderr);
    let publisher = publisher("tcp://127.0.0.1:*", &q, &[]);
    let ended = run(&sub(&publisher.bound(), "slow", &["-n", "1"])).expect_ok();
    assert!(ended.stderr.contains("ginnel: warn: lost for \"slow\": records 1 to "), "{}", ended.stderr);
    publisher.end().expect_ok();
}

#[test]
fn statistics_have_the_spool() {
    let directory = Directory::new("stats");
    let q = directory.path("q");
    let mut publisher = publisher("tcp://127.0.0.1:*", &q, &["--declare", "audit", "--stats-every", "1ms"]);
    publisher.bound();
    publisher.write(lines(1..=7).as_bytes());
    spool::wait_for_record(&q, 7);
    let ended = publisher.end().expect_ok();
    let line = ended.stderr.lines().rfind(|line| line.starts_with('{')).expect("a line of statistics");
    let stats: Value = serde_json::from_str(line).expect("JSON");
    let spool = &stats["spool"];
    assert_eq!((&spool["newest"], &spool["records"]), (&7.into(), &7.into()));
    assert_eq!((&spool["names"][0]["name"], &spool["names"][0]["lag_records"]), (&"audit".into(), &7.into()));
}

#[test]
fn library_options_go_by_name() {
    let directory = Directory::new("options");
    let q = directory.path("q");
    let with = |option: &str| run(&["push", "-b", "tcp://127.0.0.1:*", "--spool", &q, "-D", "x", "-o", option]);
    with("segment_bytes=64Ki").expect_ok();
    assert_eq!(with("segment_bytes=1").code, Some(2));
    assert_eq!(run(&["push", "-b", "tcp://127.0.0.1:*", "-D", "x", "-o", "max_tries=3"]).code, Some(2));
    assert_eq!(run(&["pull", "-b", "tcp://127.0.0.1:*", "-o", "segment_bytes=64Ki"]).code, Some(2));
}
