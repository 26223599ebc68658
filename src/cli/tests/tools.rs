//! `ping`, `proxy` and `bench`.

mod common;

use common::{Directory, Ginnel, LOOPBACK, run, run_with};
use serde_json::Value;

#[test]
fn ping_names_the_peer() {
    for (kind, args) in [
        ("PULL", &["pull"][..]),
        ("SUB", &["sub"]),
        ("XSUB", &["xsub"]),
        ("REP", &["rep", "--echo"]),
        ("ROUTER", &["router"]),
        ("PUB", &["pub", "--wait-subs", "1"]),
        ("XPUB", &["xpub", "--wait-subs", "1"]),
    ] {
        let peer = Ginnel::start(&[args, &["-b", LOOPBACK]].concat());
        let ping = run(&["ping", "-c", &peer.bound(), "-n", "2"]).expect_ok();
        let lines: Vec<&str> = ping.text().lines().collect();
        assert_eq!(lines[0], format!("type: {kind}"));
        assert_eq!(lines[1], "version: 3.1");
        assert_eq!(lines[2], "mechanism: NULL");
        assert!(lines[3].starts_with("handshake: ") && lines[3].ends_with(" ms"));
        assert!(lines[4].starts_with("ping 1: ") && lines[5].starts_with("ping 2: "), "{lines:?}");
        assert_eq!(lines.len(), 6);
    }
}

#[test]
fn ping_draws_no_messages() {
    let directory = Directory::new("ping");
    let endpoint = format!("ipc://{}", directory.path("socket"));
    let mut push = Ginnel::start(&["push", "-b", &endpoint]);
    push.bound();
    push.feed(b"a\nb\n");
    let ping = run(&["ping", "-c", &endpoint]).expect_ok();
    assert!(ping.text().starts_with("type: PUSH\n"), "{}", ping.text());
    assert_eq!(run(&["pull", "-c", &endpoint, "-n", "2"]).expect_ok().text(), "a\nb\n");
    push.end().expect_ok();
}

#[test]
fn ping_of_something_else_is_no_success() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        use std::io::Write;
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"SSH-2.0-something\r\n");
        }
    });
    assert_eq!(run(&["ping", "-c", &endpoint]).code, Some(1));
}

#[test]
fn a_proxy_between_publishers_and_subscribers() {
    let proxy =
        Ginnel::start(&["proxy", "--front", "xsub@tcp://127.0.0.1:*", "--back", "xpub@tcp://127.0.0.1:*", "--summary"]);
    let (front, back) = (proxy.bound(), proxy.bound());
    let publisher = Ginnel::start(&["pub", "-c", &front, "--wait-subs", "1", "--topic", "a", "-D", "1"]);
    let sub = run(&["sub", "-c", &back, "-s", "a", "-n", "1"]).expect_ok();
    assert_eq!(sub.text(), "a\t1\n");
    publisher.end().expect_ok();
    proxy.signal("TERM");
    let ended = proxy.end();
    assert_eq!(ended.code, Some(143));
    assert!(ended.stderr.lines().any(|line| line.starts_with('{')), "a summary: {}", ended.stderr);
}

#[test]
fn a_proxy_between_clients_and_services() {
    let directory = Directory::new("proxy");
    let workers = format!("ipc://{}", directory.path("workers"));
    let rep = Ginnel::start(&["rep", "-b", &workers, "--echo", "-n", "2"]);
    rep.bound();
    let proxy = Ginnel::start(&[
        "proxy",
        "--front",
        "router@tcp://127.0.0.1:*",
        "--back",
        &format!("dealer@{workers}"),
        "--back-connect",
    ]);
    let req = run_with(&["req", "-c", &proxy.bound()], b"a\nb\n").expect_ok();
    assert_eq!(req.text(), "a\nb\n");
    rep.end().expect_ok();
}

#[test]
fn a_proxy_with_capture() {
    let proxy = Ginnel::start(&[
        "proxy",
        "--front",
        "pull@tcp://127.0.0.1:*",
        "--back",
        "push@tcp://127.0.0.1:*",
        "--capture",
        "pub@tcp://127.0.0.1:*",
    ]);
    let (front, back, capture) = (proxy.bound(), proxy.bound(), proxy.bound());
    let mut tap = Ginnel::start(&["sub", "-c", &capture, "-n", "1"]);
    let mut push = Ginnel::start(&["push", "-c", &front, "-i", "1ms", "-D", "x"]);
    let pull = Ginnel::start(&["pull", "-c", &back]);
    assert_eq!(tap.line(), "x");
    push.close_stdin();
    push.signal("TERM");
    pull.signal("TERM");
}

#[test]
fn bench_measures_every_pattern() {
    let short = ["-n", "200", "--runs", "2", "--warmup", "10ms", "-s", "0,1Ki", "--format", "json"];
    for args in [
        &["thr"][..],
        &["thr", "-T", "ipc"],
        &["thr", "--in-process"],
        &["thr", "-T", "inproc", "--in-process"],
        &["thr", "-p", "pub-sub"],
        &["thr", "-p", "dealer-router"],
        &["lat"],
        &["lat", "-T", "ipc", "-p", "dealer-router"],
        &["lat", "-T", "inproc", "--in-process"],
    ] {
        let ended = run(&[&["bench"], args, &short].concat());
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        let cases: Vec<Value> = ended.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(cases.len(), 2, "{args:?}");
        for (case, size) in cases.iter().zip([0, 1024]) {
            assert_eq!(case["size"], size);
            assert_eq!(case["runs"], 2);
            assert_eq!(case["count"].as_u64().map(|n| n + case["drops"].as_u64().unwrap_or(0)), Some(200), "{args:?}");
            for field in ["elapsed_s", "msgs_per_s", "bytes_per_s", "cpu_user_s", "cpu_sys_s", "version", "os", "cores"]
            {
                assert!(!case[field].is_null(), "{field}");
            }
            assert_eq!(case["p50_us"].is_null(), args[0] == "thr");
        }
    }
}

#[test]
fn bench_prints_tables_and_csv() {
    let short = ["-n", "10", "--runs", "1", "--warmup", "0", "-s", "8"];
    for kind in ["thr", "lat"] {
        let table = run(&[&["bench", kind], &short[..]].concat()).expect_ok();
        assert_eq!(table.text().lines().count(), 2);
        let csv = run(&[&["bench", kind, "--format", "csv"], &short[..]].concat()).expect_ok();
        let lines: Vec<usize> = csv.text().lines().map(|line| line.split(',').count()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], lines[1]);
    }
}
