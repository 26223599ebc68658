//! The command line itself: help, version, exit codes, configuration, external subcommands. No sockets.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Directory, Ginnel, binary, run};

const SUBCOMMANDS: [&[&str]; 24] = [
    &["push"],
    &["pull"],
    &["pub"],
    &["sub"],
    &["req"],
    &["rep"],
    &["dealer"],
    &["router"],
    &["xpub"],
    &["xsub"],
    &["pair"],
    &["bench"],
    &["proxy"],
    &["ping"],
    &["record"],
    &["replay"],
    &["spool"],
    &["spool", "list"],
    &["spool", "verify"],
    &["spool", "dump"],
    &["spool", "repair"],
    &["spool", "drop-name"],
    &["spool", "new-id"],
    &["drive"],
];

/// Compares with the files in `tests/help`; `UPDATE_HELP=1` writes them.
#[test]
fn help_is_as_recorded_and_fits_80_columns() {
    let record = |name: &str, help: &str| {
        let path = format!("{}/tests/help/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_HELP").is_some() {
            std::fs::write(&path, help).expect("tests/help is writable");
        }
        let recorded = std::fs::read_to_string(&path).expect("a recorded help");
        assert_eq!(help, recorded, "{name}: run with UPDATE_HELP=1 if this is intended");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{name}");
        let examples = help.split("Examples:\n").nth(1).expect("examples");
        assert_eq!(examples.lines().count(), 2, "{name}: two examples end the help");
        assert!(examples.lines().all(|line| line.contains("ginnel ")), "{name}");
    };
    record("ginnel", run(&["--help"]).expect_ok().text());
    for words in SUBCOMMANDS {
        let name = words.join("-");
        let help = run(&[words, &["--help"]].concat()).expect_ok();
        record(&name, help.text());
        assert_eq!(run(&[words, &["-h"]].concat()).expect_ok().text(), help.text(), "{name}");
    }
}

#[test]
fn version_names_the_protocol() {
    let version = run(&["--version"]).expect_ok();
    let mut lines = version.text().lines();
    assert_eq!(lines.next(), Some(concat!("ginnel ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(lines.next(), Some("zmtp 3.1"));
    assert_eq!(run(&["-V"]).expect_ok().text(), version.text());
}

#[test]
fn wrong_usage_is_one_line_and_exit_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["nonesuch"],
        &["push"],
        &["push", "-c"],
        &["pull", "--spool", "x", "-c", "tcp://:1"],
        &["xpub", "--spool", "x", "-c", "tcp://:1"],
        &["push", "--durable", "x", "-c", "tcp://:1"],
        &["xsub", "--durable", "x", "-c", "tcp://:1"],
        &["push", "--sync", "batch", "-c", "tcp://:1"],
        &["push", "--when-full", "reject", "-c", "tcp://:1"],
        &["push", "--spool", "x", "--sync", "often", "-c", "tcp://:1"],
        &["push", "--spool", "x", "--sync", "0", "-c", "tcp://:1"],
        &["push", "--spool", "x", "--spool-max", "1x", "-c", "tcp://:1"],
        &["push", "--spool", "x", "--spool-max", "1k", "-c", "tcp://:1"],
        &["push", "--spool", "x", "--when-full", "panic", "-c", "tcp://:1"],
        &["push", "--spool", "x", "--declare", "a", "-c", "tcp://:1"],
        &["pub", "--declare", "a", "-c", "tcp://:1"],
        &["pub", "--spool", "x", "--declare", "a b", "-c", "tcp://:1"],
        &["pub", "--spool", "x", "-o", "conflate=true", "-c", "tcp://:1"],
        &["pull", "--ack", "next", "-c", "tcp://:1"],
        &["pull", "--durable", "x", "--ack", "maybe", "-c", "tcp://:1"],
        &["pull", "--durable", "x", "--ack", "exec", "-c", "tcp://:1"],
        &["pull", "--durable", "a b", "-c", "tcp://:1"],
        &["sub", "--durable", "x", "--from", "then", "-c", "tcp://:1"],
        &["sub", "--require-durable", "-c", "tcp://:1"],
        &["sub", "--cursor", "x", "-c", "tcp://:1"],
        &["record", "sub", "-c", "tcp://:1"],
        &["record", "push", "--spool", "x", "-c", "tcp://:1"],
        &["record", "pull", "--spool", "x", "-c", "tcp://:1", "-s", "a"],
        &["record", "sub", "--spool", "x", "-c", "tcp://:1", "-f", "json"],
        &["replay", "pub", "-c", "tcp://:1"],
        &["replay", "pub", "--spool", "x", "-c", "tcp://:1", "--speed", "0"],
        &["replay", "pub", "--spool", "x", "-c", "tcp://:1", "--speed", "2", "--fast"],
        &["replay", "pub", "--spool", "x", "-c", "tcp://:1", "--from", "yesterday"],
        &["replay", "push", "--spool", "x", "-c", "tcp://:1", "--wait-subs", "1"],
        &["spool"],
        &["spool", "list"],
        &["spool", "burn", "x"],
        &["spool", "drop-name", "x"],
        &["push", "-c", "tcp://:1", "-n", "x"],
        &["push", "-c", "tcp://:1", "-t", "5x"],
        &["push", "-c", "tcp://:1", "--max-msg", "5x"],
        &["push", "-c", "tcp://:1", "--reconnect", "2s..1s"],
        &["push", "-c", "tcp://:1", "-o", "hwm"],
        &["push", "-c", "tcp://:1", "-o", "nonesuch=1"],
        &["push", "-c", "tcp://:1", "-f", "xml"],
        &["push", "-c", "nonsense"],
        &["push", "-b", "tcp://nonsense"],
        &["push", "-c", "tcp://:1", "-i", "1s"],
        &["push", "-c", "tcp://:1", "--plain-file", "/nonexistent"],
        &["rep", "-b", "tcp://:0"],
        &["rep", "-b", "tcp://:0", "--echo", "-D", "x"],
        &["bench", "fanout"],
        &["bench", "thr", "-T", "inproc"],
        &["bench", "thr", "-p", "req-rep"],
        &["bench", "thr", "-n", "1", "--time", "1s"],
        &["bench", "lat", "--spool", "x"],
        &["bench", "thr", "--sync", "never"],
        &["bench", "thr", "-p", "dealer-router", "--spool", "x"],
        &["proxy", "--front", "pull@tcp://:0", "--back", "pub@tcp://:0"],
        &["proxy", "--front", "pull", "--back", "push@tcp://:0"],
        &["ping", "-c", "inproc://x"],
        &["drive"],
        &["drive", "@/nonexistent"],
        &["--log-format", "xml", "push"],
        &["-v", "-q", "push", "-c", "tcp://:1"],
    ];
    for args in cases {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("ginnel: error: "), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn json_diagnostics_are_objects() {
    for args in [&["--log-format", "json", "push"][..], &["push", "--log-format=json", "--bogus"]] {
        let ended = run(args);
        let line: serde_json::Value = serde_json::from_str(&ended.stderr).expect("one JSON object");
        assert_eq!(line["level"], "error");
        assert!(line["msg"].is_string() && line["ts"].is_string());
    }
}

#[test]
fn colour_only_when_asked() {
    let red = "\u{1b}[31m";
    assert!(!run(&["push"]).stderr.contains(red), "stderr is no terminal");
    assert!(run(&["--color", "always", "push"]).stderr.contains(red));
    assert!(!run(&["--color", "never", "push"]).stderr.contains(red));
}

#[test]
fn the_log_filter_comes_from_the_environment() {
    let mut command = binary();
    command.args(["push"]).env("GINNEL_LOG", "off");
    let ended = Ginnel::spawn(command).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), ""));
    let mut command = binary();
    command.args(["push"]).env("GINNEL_LOG", "loud");
    assert_eq!(Ginnel::spawn(command).end().code, Some(2));
}

#[test]
fn an_unknown_subcommand_is_a_program_in_path() {
    let directory = Directory::new("external");
    let program = directory.path("ginnel-hello");
    std::fs::write(&program, "#!/bin/sh\necho \"hello $*\"\nexit 7\n").expect("a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", directory.path(""), std::env::var("PATH").unwrap_or_default());
    let mut command = binary();
    command.args(["hello", "a", "--b", "-v"]).env("PATH", path);
    let ended = Ginnel::spawn(command).end();
    assert_eq!((ended.code, ended.text()), (Some(7), "hello a --b -v\n"), "{}", ended.stderr);
    assert_eq!(run(&["../ginnel-hello"]).code, Some(2));
}

#[test]
fn a_configuration_file_gives_flags_and_the_line_wins() {
    let directory = Directory::new("config");
    let file = directory.path("ginnel.toml");
    let with = |text: &str, args: &[&str]| {
        std::fs::write(&file, text).expect("a file");
        run(&[&["--config", &file][..], args].concat())
    };
    // The file's endpoint is wrong in a way that only it can be: its text comes back.
    let ended = with("connect = [\"file-endpoint\"]\n", &["push"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("file-endpoint"), "{}", ended.stderr);
    let ended = with("connect = [\"file-endpoint\"]\n", &["push", "-c", "line-endpoint"]);
    assert!(ended.stderr.contains("line-endpoint") && !ended.stderr.contains("file-endpoint"), "{}", ended.stderr);
    let ended = with("connect = \"top\"\n[push]\nconnect = \"table\"\n", &["push"]);
    assert!(ended.stderr.contains("table"), "{}", ended.stderr);
    for (text, expected) in [
        ("nonesuch = 1\n", "nonesuch"),
        ("[push]\nsubscribe = [\"a\"]\n", "subscribe"),
        ("connect = \n", "ginnel.toml"),
        ("timeout = \"5x\"\n", "--timeout"),
        ("[nonesuch]\na = 1\n", "nonesuch"),
    ] {
        let ended = with(text, &["push", "-c", "tcp://:1"]);
        assert_eq!(ended.code, Some(2), "{text}");
        assert!(ended.stderr.contains(expected), "{text}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    assert_eq!(run(&["--config", "/nonexistent", "push"]).code, Some(2));
}
