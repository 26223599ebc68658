//! Messages through two commands: the worked examples, the formats, the exit codes.

mod common;

use common::{Directory, Ended, Ginnel, LOOPBACK, run, run_with};

/// A receiver that binds, and a sender that connects to it with this input.
fn push_pull(pull: &[&str], push: &[&str], input: &[u8]) -> (Ended, Ended) {
    let pull = Ginnel::start(&[&["pull", "-b", LOOPBACK], pull].concat());
    let endpoint = pull.bound();
    let push = run_with(&[&["push", "-c", &endpoint], push].concat(), input);
    (push, pull.end())
}

#[test]
fn example_echo_server() {
    let rep = Ginnel::start(&["rep", "-b", "tcp://:0", "--echo", "-n", "1"]);
    let endpoint = rep.bound();
    let req = run_with(&["req", "-c", &endpoint], b"hello\n").expect_ok();
    assert_eq!(req.text(), "hello\n");
    assert_eq!(rep.end().expect_ok().text(), "hello\n");
}

#[test]
fn example_work_source_waits_for_a_worker() {
    let numbers: String = (1..=100).map(|n| format!("{n}\n")).collect();
    let mut push = Ginnel::start(&["push", "-b", "tcp://:0", "-n", "100"]);
    push.feed(numbers.as_bytes());
    let endpoint = push.bound();
    let pull = run(&["pull", "-c", &endpoint, "-n", "100"]).expect_ok();
    assert_eq!(pull.text(), numbers);
    push.end().expect_ok();
}

#[test]
fn example_weather() {
    let publisher = Ginnel::start(&[
        "pub",
        "-b",
        "tcp://:0",
        "--wait-subs",
        "1",
        "--topic",
        "weather.eu",
        "-D",
        "12C",
        "-i",
        "1ms",
        "-n",
        "2",
    ]);
    let endpoint = publisher.bound();
    let sub = run(&["sub", "-c", &endpoint, "-s", "weather.", "-f", "json", "-n", "2"]).expect_ok();
    assert_eq!(sub.text(), "[\"weather.eu\",\"12C\"]\n[\"weather.eu\",\"12C\"]\n");
    publisher.end().expect_ok();
}

#[test]
fn example_bench_as_json() {
    let bench = run(&["bench", "thr", "-s", "64", "--format", "json", "-n", "1000", "--runs", "1", "--warmup", "0"]);
    let case: serde_json::Value = serde_json::from_str(bench.expect_ok().text()).expect("JSON");
    assert_eq!(case["bench"], "thr");
    assert_eq!(case["size"], 64);
    assert_eq!(case["count"], 1000);
    assert_eq!(case["processes"], 2);
    assert!(case["msgs_per_s"].as_f64().is_some_and(|rate| rate > 0.0));
}

/// Multi-frame messages, empty frames and every byte value, in the canonical spelling of each format.
fn samples(format: &str) -> Vec<u8> {
    let all: Vec<u8> = (0..=255).collect();
    let mut messages: Vec<Vec<Vec<u8>>> = vec![
        vec![b"".to_vec()],
        vec![b"".to_vec(), b"".to_vec()],
        vec![b"a".to_vec(), b"".to_vec(), b"b c".to_vec()],
        vec![all.clone()],
        vec![all.clone(), all],
        vec!["grüße".as_bytes().to_vec(), vec![0xff]],
        vec![vec![7; 100_000]],
    ];
    messages.extend((0..=255).map(|byte| vec![vec![byte]]));
    let mut out = Vec::new();
    for message in &messages {
        spell(&mut out, format, message);
    }
    out
}

fn spell(out: &mut Vec<u8>, format: &str, frames: &[Vec<u8>]) {
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let quoted = |frame: &Vec<u8>| {
        let inner: String = frame
            .iter()
            .map(|&byte| match byte {
                b'\\' => "\\\\".to_owned(),
                b'"' => "\\\"".to_owned(),
                b'\n' => "\\n".to_owned(),
                b'\r' => "\\r".to_owned(),
                b'\t' => "\\t".to_owned(),
                0x20..=0x7e => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            })
            .collect();
        format!("\"{inner}\"")
    };
    let json = |frame: &Vec<u8>| match std::str::from_utf8(frame) {
        Ok(text) => serde_json::Value::from(text).to_string(),
        Err(_) => {
            use base64::Engine;
            format!("{{\"b64\":\"{}\"}}", base64::engine::general_purpose::STANDARD.encode(frame))
        }
    };
    let words =
        |one: &dyn Fn(&Vec<u8>) -> String, between: &str| frames.iter().map(one).collect::<Vec<_>>().join(between);
    match format {
        "hex" => {
            let one = |frame: &Vec<u8>| if frame.is_empty() { "-".to_owned() } else { hex(frame) };
            out.extend(format!("{}\n", words(&one, " ")).into_bytes());
        }
        "quoted" => out.extend(format!("{}\n", words(&quoted, " ")).into_bytes()),
        "json" => out.extend(format!("[{}]\n", words(&json, ",")).into_bytes()),
        "envelope" => out.extend(format!("{{\"frames\":[{}]}}\n", words(&json, ",")).into_bytes()),
        _ => {
            out.extend((frames.len() as u32).to_be_bytes());
            for frame in frames {
                out.extend((frame.len() as u32).to_be_bytes());
                out.extend(frame);
            }
        }
    }
}

#[test]
fn lossless_formats_come_through_byte_for_byte() {
    for format in ["quoted", "json", "hex", "framed"] {
        let input = samples(format);
        let (push, pull) = push_pull(&["-f", format, "--transient"], &["-f", format], &input);
        push.expect_ok();
        assert!(pull.expect_ok().stdout == input, "{format}");
    }
    let (push, pull) = push_pull(&["-f", "envelope", "--transient"], &["-f", "envelope"], &samples("envelope"));
    push.expect_ok();
    let pull = pull.expect_ok();
    let records: Vec<serde_json::Value> =
        pull.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut frames = Vec::new();
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], index as u64 + 1);
        frames.extend(format!("{}\n", record["frames"]).into_bytes());
    }
    assert!(frames == samples("json"), "envelope");
}

#[test]
fn formats_can_differ_between_the_ends() {
    let (push, pull) = push_pull(&["-f", "hex", "-n", "2"], &["-0"], b"a\nb\tc\0d\0");
    push.expect_ok();
    assert_eq!(pull.expect_ok().text(), "610a62 63\n64\n");
    let (push, pull) = push_pull(&["-0", "-n", "1"], &["-f", "json"], b"[\"a\\nb\",\"c\"]\n");
    push.expect_ok();
    assert_eq!(pull.expect_ok().text(), "a\nb\tc\0");
    let (push, pull) = push_pull(&["-f", "raw", "-n", "1"], &["-F", "-"], b"x\ty\n\0z");
    push.expect_ok();
    assert_eq!(pull.expect_ok().stdout, b"x\ty\n\0z");
}

#[test]
fn data_and_files_as_source() {
    let directory = Directory::new("source");
    let file = directory.path("frame");
    std::fs::write(&file, b"one\nframe\n").expect("a file");
    let (push, pull) = push_pull(&["-f", "json", "-n", "1"], &["-F", &file], b"");
    push.expect_ok();
    assert_eq!(pull.expect_ok().text(), "[\"one\\nframe\\n\"]\n");
    let (push, pull) = push_pull(&["-f", "json", "-n", "1"], &["-D", "a", "-D", "", "-D", "-c"], b"not read");
    push.expect_ok();
    assert_eq!(pull.expect_ok().text(), "[\"a\",\"\",\"-c\"]\n");
    let (push, pull) =
        push_pull(&["-n", "3"], &["-D", "x", "-i", "1ms", "-n", "3", "--rate", "10000", "-d", "1ms"], b"");
    push.expect_ok();
    assert_eq!(pull.expect_ok().text(), "x\nx\nx\n");
}

#[test]
fn a_malformed_record_ends_with_5_and_its_line() {
    for (format, input, place) in [
        ("json", &b"[\"a\"]\n[\n"[..], "line 2"),
        ("quoted", b"\"a\"\n\"b\"\nc\n", "line 3"),
        ("hex", b"0\n", "line 1"),
        ("envelope", b"[]\n", "line 1"),
        ("framed", b"\0\0\0\x01\xff\xff\xff\xffx", "record 1"),
    ] {
        let pull = Ginnel::start(&["pull", "-b", LOOPBACK]);
        let push = run_with(&["push", "-c", &pull.bound(), "-f", format], input);
        assert_eq!(push.code, Some(5), "{format}: {}", push.stderr);
        assert!(push.stderr.contains(place), "{format}: {}", push.stderr);
    }
}

#[test]
fn what_came_before_a_malformed_record_is_delivered() {
    let (push, pull) = push_pull(&["-f", "json", "--transient"], &["-f", "json"], b"[\"a\"]\n[\"b\"]\n?\n");
    assert_eq!(push.code, Some(5));
    assert_eq!(pull.expect_ok().text(), "[\"a\"]\n[\"b\"]\n");
}

#[test]
fn timeouts_end_with_3() {
    let endpoint = Ginnel::start(&["pull", "-b", LOOPBACK]).bound();
    for args in [
        &["pull", "-b", LOOPBACK, "-t", "50ms"][..],
        &["pull", "-b", LOOPBACK, "-t", "50ms", "-n", "3"],
        &["push", "-b", LOOPBACK, "-t", "50ms", "-D", "x"],
        &["push", "-c", &endpoint, "-t", "50ms", "-D", "x"],
        &["pub", "-b", LOOPBACK, "-t", "50ms", "--wait-subs", "1", "-D", "x"],
        &["req", "-c", &endpoint, "--request-timeout", "50ms", "-D", "x"],
        &["req", "-c", &endpoint, "--request-timeout", "20ms", "--retries", "2", "-D", "x"],
        &["rep", "-b", LOOPBACK, "-t", "50ms", "--echo"],
        &["ping", "-c", &endpoint, "-t", "50ms"],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(3), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_send_without_room_times_out() {
    let pull = Ginnel::start(&["pull", "-b", LOOPBACK, "-f", "raw"]);
    // stdout of the receiver is not read: sooner or later nobody takes anything.
    let flood = vec![b'\n'; 4_000_000];
    let endpoint = pull.bound();
    let push = run_with(
        &["push", "-c", &endpoint, "-f", "text", "-t", "300ms", "--linger", "0", "-D", &"x".repeat(100_000), "-i", "0"],
        &flood,
    );
    assert_eq!(push.code, Some(3), "{}", push.stderr);
}

#[test]
fn a_refused_peer_ends_with_4_when_asked() {
    let push = Ginnel::start(&["push", "-b", LOOPBACK]);
    let wrong = run(&["req", "-c", &push.bound(), "--fail-on-reject", "-D", "x", "--request-timeout", "60s"]);
    assert_eq!(wrong.code, Some(4), "{}", wrong.stderr);
}

#[test]
fn drops_end_with_6_when_asked() {
    let mut publisher = Ginnel::start(&[
        "pub",
        "-b",
        LOOPBACK,
        "--wait-subs",
        "1",
        "--fail-on-drop",
        "--hwm",
        "1",
        "--linger",
        "0",
        "-F",
        "-",
        "-i",
        "0",
        "-n",
        "100",
    ]);
    // Nobody reads the subscriber's stdout: soon it has no room, and the publisher does not wait.
    let subscriber = Ginnel::start(&["sub", "-c", &publisher.bound(), "-f", "raw", "--hwm", "1"]);
    publisher.feed(&vec![b'x'; 1_000_000]);
    let ended = publisher.end();
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    drop(subscriber);
}

#[test]
fn plain_lets_in_who_knows_the_word() {
    let directory = Directory::new("plain");
    let (users, good, bad) = (directory.path("users"), directory.path("good"), directory.path("bad"));
    std::fs::write(&users, "alice:secret\nbob:word\n").expect("a file");
    std::fs::write(&good, "bob:word\n").expect("a file");
    std::fs::write(&bad, "bob:wrong\n").expect("a file");
    let pull = Ginnel::start(&["pull", "-b", LOOPBACK, "--plain-server-file", &users, "-n", "1"]);
    let endpoint = pull.bound();
    let refused = run(&["push", "-c", &endpoint, "--plain-file", &bad, "--fail-on-reject", "-D", "x"]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert_eq!(run(&["ping", "-c", &endpoint]).code, Some(4));
    assert_eq!(run(&["ping", "-c", &endpoint, "--plain-file", &bad]).code, Some(4));
    run(&["ping", "-c", &endpoint, "--plain-file", &good]).expect_ok();
    run(&["push", "-c", &endpoint, "--plain-file", &good, "-D", "x"]).expect_ok();
    assert_eq!(pull.end().expect_ok().text(), "x\n");
}

#[test]
fn exec_runs_a_program_for_each_message() {
    let (push, pull) = push_pull(&["-x", "cat; echo .", "-n", "2"], &[], b"a\nb\n");
    push.expect_ok();
    assert_eq!(pull.expect_ok().text(), "a\n.\nb\n.\n");
    let rep = Ginnel::start(&["rep", "-b", LOOPBACK, "-x", "tr a-z A-Z", "-n", "2"]);
    let req = run_with(&["req", "-c", &rep.bound()], b"a\tb\nc\n").expect_ok();
    assert_eq!(req.text(), "A\tB\nC\n");
    assert_eq!(rep.end().expect_ok().text(), "");
    let (push, pull) = push_pull(&["-x", "exit 3", "-n", "1"], &["-D", "x"], b"");
    push.expect_ok();
    assert!(pull.expect_ok().stderr.contains("exit status: 3"));
}

#[test]
fn a_constant_reply() {
    let rep = Ginnel::start(&["rep", "-b", LOOPBACK, "-D", "a", "-D", "b", "-n", "1"]);
    let req = run(&["req", "-c", &rep.bound(), "-D", "x"]).expect_ok();
    assert_eq!(req.text(), "a\tb\n");
    rep.end().expect_ok();
}

#[test]
fn dealer_and_router_count_both_directions() {
    let mut router = Ginnel::start(&["router", "-b", LOOPBACK, "-f", "json", "-n", "2"]);
    let dealer = Ginnel::start(&["dealer", "-c", &router.bound(), "--identity", "d1", "-D", "hi", "-n", "2"]);
    assert_eq!(router.line(), "[\"d1\",\"hi\"]");
    router.write(b"[\"d1\",\"ho\"]\n");
    router.end().expect_ok();
    assert_eq!(dealer.end().expect_ok().text(), "ho\n");
}

#[test]
fn a_pair_talks_both_ways() {
    let mut one = Ginnel::start(&["pair", "-b", "ipc://*"]);
    let mut two = Ginnel::start(&["pair", "-c", &one.bound()]);
    one.write(b"ping\n");
    assert_eq!(two.line(), "ping");
    two.write(b"pong\n");
    assert_eq!(one.line(), "pong");
    one.end().expect_ok();
    two.end().expect_ok();
}

#[test]
fn xpub_and_xsub() {
    let publisher = Ginnel::start(&["xpub", "-b", LOOPBACK, "--wait-subs", "1", "--topic", "a.b", "-D", "1"]);
    let sub = run(&["xsub", "-c", &publisher.bound(), "-s", "a.", "-n", "1"]).expect_ok();
    assert_eq!(sub.text(), "a.b\t1\n");
    publisher.end().expect_ok();
}

#[test]
fn sub_takes_prefixes_in_hex_and_text() {
    for (flag, prefix, expected) in [("--subscribe-hex", "00", "0002\n"), ("-s", "z", "7a\n")] {
        let mut publisher = Ginnel::start(&["pub", "-b", LOOPBACK, "--wait-subs", "1", "-f", "hex"]);
        let sub = Ginnel::start(&["sub", "-c", &publisher.bound(), flag, prefix, "-f", "hex", "-n", "1"]);
        publisher.feed(b"0102\n0002\n61\n7a\n");
        publisher.end().expect_ok();
        assert_eq!(sub.end().expect_ok().text(), expected);
    }
}

#[test]
fn the_endpoint_file_names_all_binds() {
    let directory = Directory::new("endpoints");
    let file = directory.path("endpoints");
    let socket = format!("ipc://{}", directory.path("socket"));
    let pull = Ginnel::start(&["pull", "-b", LOOPBACK, "-b", &socket, "--endpoint-file", &file, "-n", "1"]);
    let (tcp, ipc) = (pull.bound(), pull.bound());
    run(&["push", "-c", &ipc, "-D", "x"]).expect_ok();
    pull.end().expect_ok();
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), format!("{tcp}\n{ipc}\n"));
    assert!(!tcp.ends_with('*') && !tcp.ends_with(":0"));
}

#[test]
fn quiet_says_nothing_about_binds() {
    let directory = Directory::new("quiet");
    let socket = format!("ipc://{}", directory.path("socket"));
    let pull = Ginnel::start(&["-q", "pull", "-b", &socket, "-n", "1"]);
    run(&["push", "-c", &socket, "-D", "x"]).expect_ok();
    assert_eq!(pull.end().expect_ok().stderr, "");
}

#[test]
fn a_bind_that_fails_ends_with_1() {
    let pull = Ginnel::start(&["pull", "-b", LOOPBACK]);
    let ended = run(&["pull", "-b", &pull.bound()]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
}

#[test]
fn statistics_go_to_stderr() {
    let (push, pull) = push_pull(&["--stats-every", "10ms", "-t", "200ms"], &["-D", "x"], b"");
    push.expect_ok();
    assert_eq!(pull.code, Some(3));
    let line = pull.stderr.lines().find(|line| line.starts_with('{')).expect("a statistics line");
    let stats: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(stats["type"], "PULL");
}
