//! How runs end: signals, a stdout that is closed or full, peers that leave.

mod common;

use std::process::Stdio;

use common::{Ginnel, LOOPBACK, binary, run_with};

#[test]
fn signals_end_with_their_code() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        for args in [
            &["pull", "-b", LOOPBACK][..],
            &["push", "-b", LOOPBACK],
            &["rep", "-b", LOOPBACK, "--echo"],
            &["dealer", "-b", LOOPBACK],
            &["pub", "-b", LOOPBACK, "--wait-subs", "1"],
            &["proxy", "--front", "pull@tcp://127.0.0.1:*", "--back", "push@tcp://127.0.0.1:*"],
            &["drive", r#"{"type":"pull","bind":["tcp://127.0.0.1:*"]}"#],
        ] {
            let ginnel = Ginnel::start(args);
            ginnel.bound();
            ginnel.signal(name);
            let ended = ginnel.wait();
            assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn the_first_signal_drains_and_the_second_does_not_wait() {
    // What is queued for a peer that never comes keeps linger busy.
    let mut dealer =
        Ginnel::start(&["dealer", "-b", LOOPBACK, "-c", "ipc:///nonexistent/socket", "--linger", "1h", "-n", "9"]);
    let other = Ginnel::start(&["dealer", "-c", &dealer.bound(), "-n", "1"]);
    dealer.write(b"a\nb\n");
    other.end().expect_ok();
    // Two signals that come too close together are one.
    while !dealer.has_ended() {
        dealer.signal("TERM");
    }
    assert_eq!(dealer.wait().code, Some(143));
}

#[test]
fn a_stdout_closed_by_its_reader_ends_with_0() {
    let mut pull = Ginnel::start(&["pull", "-b", LOOPBACK]);
    let _push = Ginnel::start(&["push", "-c", &pull.bound(), "-D", "a", "-i", "1ms"]);
    assert_eq!(pull.line(), "a");
    pull.close_stdout();
    pull.wait().expect_ok();
}

#[test]
fn a_full_disk_ends_with_1() {
    let mut command = binary();
    command.args(["pull", "-b", LOOPBACK]);
    // Every write to this device fails as on a full disk.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a Linux device");
    let mut child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).expect("text");
    let endpoint = line.trim().strip_prefix("ginnel: info: bound ").expect("an endpoint").to_owned();
    run_with(&["push", "-c", &endpoint], b"a\n");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).expect("text");
    assert!(rest.contains("cannot write to stdout"), "{rest}");
}

#[test]
fn transient_leaves_with_the_last_peer_and_loses_nothing() {
    let pull = Ginnel::start(&["pull", "-b", LOOPBACK, "--transient"]);
    let input: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    run_with(&["push", "-c", &pull.bound()], input.as_bytes()).expect_ok();
    assert_eq!(pull.end().expect_ok().text(), input);
}

#[test]
fn each_message_is_seen_at_once() {
    let mut pull = Ginnel::start(&["pull", "-b", LOOPBACK]);
    let mut push = Ginnel::start(&["push", "-c", &pull.bound()]);
    for text in ["a", "b", "c"] {
        push.write(format!("{text}\n").as_bytes());
        assert_eq!(pull.line(), text);
    }
    push.end().expect_ok();
}

#[test]
fn a_flood_comes_through_whole_and_in_order() {
    let input: String = (0..200_000).map(|n| format!("message {n}\n")).collect();
    let pull = Ginnel::start(&["pull", "-b", LOOPBACK, "-n", "200000"]);
    run_with(&["push", "-c", &pull.bound()], input.as_bytes()).expect_ok();
    let pull = pull.end().expect_ok();
    assert!(pull.text() == input);
}
