//! Instructions per message: `cargo bench --bench instructions --features blocking`. Fails when a path got dearer;
//! `-- --bless` keeps what is measured as the new measure, in `benches/instructions.txt`.
//!
//! Valgrind's callgrind counts them, so that the load of the machine does not matter. Every workload runs twice, with
//! two numbers of messages: the difference is what messages cost, without starting and ending. The other end of each
//! connection is a thread with a bare blocking socket; its share is a few instructions a message. What the system
//! does is not counted. Another compiler makes other instructions: the measure says with which one it was taken.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use ginnel::{Batch, Message, OnFull, Pub, Pull, Push};

/// Bytes of a message.
const SIZE: usize = 64;
/// The two numbers of messages of a workload.
const COUNTS: [u64; 2] = [20_000, 80_000];
/// So much more than the measure, in percent, is too much: another order of reads and writes makes 1 or 2.
const MARGIN: f64 = 5.0;
/// The same where two of our own threads share the work: how they take turns decides who writes and how much at once.
const MARGIN_OF_TWO: f64 = 15.0;
/// How often a path is measured that seems to have got dearer.
const TRIES: usize = 5;
/// Opens the measure's first line; the compiler follows.
const MEASURED_WITH: &str = "# measured with ";
const WORKLOADS: &[&str] = &[
    "send",
    "send_all",
    "publish",
    "receive",
    "recv_batch",
    #[cfg(feature = "blocking")]
    "send_blocking",
    #[cfg(feature = "blocking")]
    "receive_blocking",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--work", name, count] => work(name, count.parse().expect("a number")),
        [] => return compare(false),
        ["--bless"] => return compare(true),
        _ => {
            eprintln!("usage: cargo bench --bench instructions --features blocking [-- --bless]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn margin(name: &str) -> f64 {
    if name.ends_with("_blocking") { MARGIN_OF_TWO } else { MARGIN }
}

fn compare(bless: bool) -> ExitCode {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let text = std::fs::read_to_string(&place).unwrap_or_default();
    let (mut measure, mut too_many) = (read_measure(&text), Vec::new());
    println!("instructions a message, {SIZE} bytes:\n{:<18}{:>10}{:>10}", "", "now", "stored");
    for &name in WORKLOADS {
        let known = measure.get(name).copied().unwrap_or(f64::NAN);
        let (now, percent) = least(name, known);
        measure.insert(name, now);
        println!("{name:<18}{now:>10.1}{known:>10.1}  {percent:+.1} %");
        // Not a number is too much, too: a workload without a measure.
        if percent.is_nan() || percent > margin(name) {
            too_many.push(format!("{name} by more than {} %", margin(name)));
        }
    }
    if bless {
        std::fs::write(&place, write_measure(&measure)).expect("write the measure");
        println!("kept in {}", place.display());
        return ExitCode::SUCCESS;
    }
    if too_many.is_empty() {
        println!("all within their margins");
        return ExitCode::SUCCESS;
    }
    println!("above what is stored: {}", too_many.join(", "));
    let (then, now) = (text.lines().find_map(|line| line.strip_prefix(MEASURED_WITH)), compiler());
    match then {
        Some(then) if then == now => println!("make it cheaper, or say why and keep it with --bless"),
        then => println!(
            "the compiler differs: the measure is of {}, this is {now}; compare with that one, or take the measure \
             anew from an unchanged checkout with --bless",
            then.unwrap_or("an unknown one")
        ),
    }
    ExitCode::FAILURE
}

/// Instructions a message, and how much more than the measure that is, in percent. What is too much is measured again:
/// an unlucky order of turns adds, none takes away, so the least counts.
fn least(name: &str, known: f64) -> (f64, f64) {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        let [few, many] = COUNTS.map(|count| count_instructions(name, count));
        least = least.min((many - few) / (COUNTS[1] - COUNTS[0]) as f64);
        // A workload without a measure has nothing to be compared with.
        if known.is_nan() || least <= known * (1.0 + margin(name) / 100.0) {
            break;
        }
    }
    (least, (least / known - 1.0) * 100.0)
}

/// What `rustc -V` says: of the one that cargo used, if it told.
fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-V").output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn read_measure(text: &str) -> BTreeMap<&str, f64> {
    let line = |line| -> Option<(_, f64)> {
        let (name, count) = str::split_once(line, ' ')?;
        Some((name, count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What was not measured this time, for want of a feature, stays as it was.
fn write_measure(measure: &BTreeMap<&str, f64>) -> String {
    let lines = measure.iter().map(|(name, count)| format!("{name} {count:.1}\n"));
    std::iter::once(format!("{MEASURED_WITH}{}\n", compiler())).chain(lines).collect()
}

/// Runs this program under callgrind; all instructions of all its threads.
fn count_instructions(name: &str, count: u64) -> f64 {
    let out: PathBuf = std::env::temp_dir().join(format!("ginnel-instructions-{}-{name}", std::process::id()));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("own path"))
        .args(["--work", name, &count.to_string()])
        .output()
        .expect("valgrind starts; on Debian: apt-get install valgrind");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let profile = std::fs::read_to_string(&out).expect("callgrind writes its profile");
    let _ = std::fs::remove_file(&out);
    let total = profile.lines().rev().find_map(|line| line.strip_prefix("totals: ")).expect("a line with totals");
    total.trim().parse().expect("a number")
}

fn work(name: &str, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match name {
        "send" | "send_all" => sink("PULL", b"", |at| runtime.block_on(send(at, count, name == "send_all"))),
        "publish" => sink("SUB", b"\x04\x0a\x09SUBSCRIBE", |at| runtime.block_on(publish(at, count))),
        #[cfg(feature = "blocking")]
        "send_blocking" => sink("PULL", b"", |at| send_blocking(at, count)),
        #[cfg(feature = "blocking")]
        "receive_blocking" => receive_blocking(count),
        "receive" | "recv_batch" => runtime.block_on(receive(count, name == "recv_batch")),
        _ => panic!("no workload {name}"),
    }
}

async fn send(at: &str, count: u64, batch: bool) {
    let push = Push::builder().linger(None).connect(at).expect("connect");
    let body = [7; SIZE];
    if batch {
        for _ in 0..count / 100 {
            let messages = (0..100).map(|_| Message::from(&body));
            push.send_all(messages).await.expect("send_all");
        }
    } else {
        for _ in 0..count {
            push.send(&body[..]).await.expect("send");
        }
    }
    push.close().await;
}

async fn publish(at: &str, count: u64) {
    let publisher = Pub::builder().linger(None).on_full(OnFull::Block).connect(at).expect("connect");
    publisher.wait_for_subscribers(1).await.expect("a subscriber");
    let body = [7; SIZE];
    for _ in 0..count {
        publisher.send(&body[..]).await.expect("send");
    }
    publisher.close().await;
}

async fn receive(count: u64, batch: bool) {
    let mut pull = Pull::builder().bind("tcp://127.0.0.1:*").await.expect("bind");
    let at = pull.local_endpoint().expect("bound").to_string();
    let source = thread::spawn(move || source(&at, count));
    if batch {
        let mut batch = Batch::new();
        let mut got = 0;
        while got < count {
            got += pull.recv_batch(&mut batch, 256).await.expect("recv_batch") as u64;
            for message in batch.iter() {
                assert_eq!(message.frames().next().expect("a frame").len(), SIZE);
            }
        }
    } else {
        for _ in 0..count {
            assert_eq!(pull.recv().await.expect("recv")[0].len(), SIZE);
        }
    }
    pull.close().await;
    source.join().expect("the source ends");
}

#[cfg(feature = "blocking")]
fn send_blocking(at: &str, count: u64) {
    let push = ginnel::blocking::Push::builder().linger(None).connect(at).expect("connect");
    let body = [7; SIZE];
    for _ in 0..count {
        push.send(&body[..]).expect("send");
    }
    push.close();
}

#[cfg(feature = "blocking")]
fn receive_blocking(count: u64) {
    let mut pull = ginnel::blocking::Pull::bind("tcp://127.0.0.1:*").expect("bind");
    let at = pull.local_endpoint().expect("bound").to_string();
    let source = thread::spawn(move || source(&at, count));
    for _ in 0..count {
        assert_eq!(pull.recv().expect("recv")[0].len(), SIZE);
    }
    pull.close();
    source.join().expect("the source ends");
}

/// Greeting (NULL, 3.1) and READY, as RFC 37 writes them.
fn hello(socket: &str) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10..12].copy_from_slice(&[3, 1]);
    bytes[12..16].copy_from_slice(b"NULL");
    bytes.extend_from_slice(&[4, 22 + socket.len() as u8]);
    bytes.extend_from_slice(b"\x05READY\x0bSocket-Type\x00\x00\x00");
    bytes.push(socket.len() as u8);
    bytes.extend_from_slice(socket.as_bytes());
    bytes
}

/// A peer that only sends.
fn source(at: &str, count: u64) {
    let mut stream = TcpStream::connect(at.trim_start_matches("tcp://")).expect("connect");
    stream.write_all(&hello("PUSH")).expect("write");
    let mut frame = vec![0, SIZE as u8];
    frame.extend_from_slice(&[7; SIZE]);
    let chunk = frame.repeat(1000);
    for _ in 0..count / 1000 {
        stream.write_all(&chunk).expect("write");
    }
    // Until the other side has ended.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A peer that only receives, while `run` is given its place.
fn sink(socket: &str, then: &[u8], run: impl FnOnce(&str)) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let at = format!("tcp://{}", listener.local_addr().expect("an address"));
    let greeting = [&hello(socket)[..], then].concat();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.write_all(&greeting).expect("write");
        let mut room = vec![0; 1 << 20];
        while stream.read(&mut room).expect("read") > 0 {}
    });
    run(&at);
    thread.join().expect("the sink ends");
}
