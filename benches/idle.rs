//! What an idle peer costs: `cargo bench --bench idle [-- PEERS]` prints resident memory per connection.
//!
//! The socket is in this process; the peers are bare connections of a child process that shake hands and then
//! say nothing. Linux only: resident memory is read from `/proc`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use ginnel::Pull;

/// Greeting (NULL, 3.1) and READY of a PUSH, as RFC 37 writes them.
fn hello() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10..12].copy_from_slice(&[3, 1]);
    bytes[12..16].copy_from_slice(b"NULL");
    bytes.extend_from_slice(b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH");
    bytes
}

fn peers(address: &str, count: usize) {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(&hello()).expect("an open connection");
        let mut answer = [0; 64 + 28];
        stream.read_exact(&mut answer).expect("greeting and READY of a PULL");
        streams.push(stream);
    }
    println!("connected");
    // Until the other side has looked.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Resident memory of this process, in KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, address, count] = &args[..]
        && role == "peers"
    {
        return peers(address, count.parse().expect("a number"));
    }
    let count: usize = args.iter().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pull = Pull::bind("tcp://127.0.0.1:0").await.expect("a socket");
        let address = pull.local_endpoint().expect("bound").to_string().replace("tcp://", "");
        let before = resident();
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["peers", &address, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peers' process");
        pull.wait_for_peers(count).await.expect("an open socket");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let each = (resident() - before) / count as f64;
        println!("idle: {count} peers, {each:.1} KiB resident each");
        drop(child.stdin.take());
        child.wait().expect("the peers end");
    });
}
