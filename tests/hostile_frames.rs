//! Peers that got in and then send frames and commands as they should not (P1, P2, P3, P4, P5).

mod support;

use std::time::Duration;

use ginnel::*;
use support::raw::{self, COMMAND, LONG, MORE, RawPeer};
use support::rig::{ROLES, Rig, Role, Row, Setup, Transport, all_over_tcp, run_rows, some_over_ipc};
use support::{MIB, Noise, Outcome, Report, affordable, eventually, growth_within, resident, soon};

fn ended(reason: Reason) -> Outcome {
    Outcome::Disconnected(reason)
}

fn malformed() -> Outcome {
    ended(Reason::Malformed(""))
}

fn over(which: &'static str, limit: u64) -> Outcome {
    ended(Reason::LimitExceeded { which, limit })
}

/// A row whose bytes follow a whole handshake.
fn row(name: impl Into<String>, bytes: Vec<u8>, expected: Outcome) -> Row {
    Row::by_type(name, move |kind| [raw::session(kind), bytes.clone()].concat(), expected)
}

fn lengths() -> Vec<Row> {
    let limit = 64 * MIB as u64;
    let sizes =
        [("2^64-1", u64::MAX), ("2^63", 1 << 63), ("2^63-1", (1 << 63) - 1), ("2^40", 1 << 40), ("limit+1", limit + 1)];
    let mut rows = Vec::new();
    for (name, size) in sizes {
        for (what, flags) in [("frame", 0), ("frame with MORE", MORE), ("command", COMMAND)] {
            let name = format!("F01 {what} of {name} bytes");
            rows.push(row(name, raw::header(flags, size), over("max_frame", limit)));
        }
    }
    rows.push(row(
        "F03 1-byte MORE frames without end",
        raw::frame(MORE, b"x").repeat(4097),
        over("max_frames_per_message", 4096),
    ));
    rows.push(row(
        "F03 empty MORE frames without end",
        raw::frame(MORE, b"").repeat(4097),
        over("max_frames_per_message", 4096),
    ));
    rows
}

fn tolerated() -> Vec<Row> {
    let fine = |name: &str, bytes: Vec<u8>| row(name, bytes, Outcome::Connected);
    let unknown = raw::frame(COMMAND, b"\x03FOO");
    let message = raw::message(&[b"between"]);
    let mut rows = vec![
        fine("F06 reserved bits", raw::frame(0xf8, b"body")),
        fine("F06 reserved bits on a command", raw::frame(0xf8 | COMMAND, &raw::ping(0, b"")[2..])),
        fine("F06 COMMAND with MORE", raw::frame(COMMAND | MORE, &raw::ping(0, b"")[2..])),
        fine("F06 long form of a small frame", raw::long_frame(0, b"body")),
        fine("F06 long form of an empty frame", raw::long_frame(LONG, b"")),
        fine("F06 long form of a small command", raw::long_frame(COMMAND, &raw::ping(0, b"")[2..])),
        fine("F07 10,000 unknown commands twice", [unknown.repeat(10_000), message, unknown.repeat(10_000)].concat()),
        row("F07 10,001 unknown commands", unknown.repeat(10_001), over("max_meaningless_frames", 10_000)),
        row(
            "F07 10,001 empty commands",
            raw::frame(COMMAND, b"").repeat(10_001),
            over("max_meaningless_frames", 10_000),
        ),
        row("F06 command between two frames", [raw::frame(MORE, b"a"), raw::ping(0, b"")].concat(), malformed()),
    ];
    let meaningless: [(&str, &[u8]); 6] = [
        ("empty command", b""),
        ("name length 0", b"\0"),
        ("name beyond the body", b"\x09PING"),
        ("name length 255", b"\xffPING\0\0"),
        ("lower case", b"\x04ping\0\0"),
        ("name in data", b"\x00\x04PING\0\0"),
    ];
    for (name, body) in meaningless {
        rows.push(fine(&format!("F07 {name}"), raw::frame(COMMAND, body)));
    }
    rows
}

/// F08 and F11: every command at every shorter length, and one byte longer.
fn cut_commands() -> Vec<Row> {
    let commands: [(&str, &[u8]); 13] = [
        ("SUBSCRIBE", b"topic"),
        ("CANCEL", b"topic"),
        ("PING", b"\0\0context"),
        ("PONG", b"context"),
        ("ERROR", b"\x03400"),
        ("READY", b"\x01a\0\0\0\x01b"),
        ("HELLO", b"\x04user\x06secret"),
        ("WELCOME", b""),
        ("INITIATE", b"\x01a\0\0\0\x01b"),
        ("MESSAGE", b"\0\0\0\0\0\0\0\x01box"),
        ("JOIN", b"group"),
        ("LEAVE", b"group"),
        ("DACK", b"\0\0\0\0\0\0\0\x01"),
    ];
    let mut rows = Vec::new();
    for (name, data) in commands {
        let mut body = raw::command_body(name, data);
        body.push(b'+');
        for len in 0..=body.len() {
            let part = &body[..len];
            let expected = match (name, len) {
                ("PING", 5 | 6) => malformed(),
                ("ERROR", 6..=9) => malformed(),
                ("ERROR", 10..) => ended(Reason::PeerError("400".into())),
                _ => Outcome::Connected,
            };
            let number = if name == "PING" { "F08" } else { "F11" };
            rows.push(row(format!("{number} {name} cut to each length"), raw::frame(COMMAND, part), expected));
        }
    }
    rows
}

fn all_rows() -> Vec<Row> {
    let mut rows = lengths();
    rows.extend(tolerated());
    rows
}

/// F04: the whole message counts, not only each frame.
fn large_messages() -> (Vec<Setup>, Vec<Row>) {
    use SocketType::{Dealer, Pub, Pull, Push, Rep};
    let setup = |kind| Setup::new(kind, Transport::Tcp).option("max_message", "4Mi");
    let setups = [Pull, Rep, Dealer, Pub, Push].map(setup).to_vec();
    let frames = |count| raw::frame(MORE, &vec![7; MIB]).repeat(count);
    let limit = 4 * MIB as u64;
    // The first frame is free of the charge, so four whole ones and the last byte are too much by three charges.
    let rows = vec![
        row("F04 1 MiB frames with MORE", frames(4), over("max_message", limit)),
        row("F04 3 MiB with MORE", [frames(3), raw::frame(0, b"end")].concat(), Outcome::Connected),
        row("F04 one frame of max_message", raw::frame(0, &vec![7; 4 * MIB]), Outcome::Connected),
        row("F04 one frame of max_message + 1", raw::frame(0, &vec![7; 4 * MIB + 1]), over("max_message", limit)),
    ];
    (setups, rows)
}

/// F02: memory follows what was received, not what was announced.
async fn announced_only(count: usize) -> String {
    let rig = Rig::start(Setup::new(SocketType::Pull, Transport::Tcp)).await;
    let before = resident();
    let hello = [raw::session(SocketType::Pull), raw::header(0, 64 * MIB as u64), vec![7; 10]].concat();
    let mut peers = Vec::new();
    for _ in 0..count {
        let peer = RawPeer::connect(&rig.endpoint).await.expect("a listening socket");
        peer.send(&hello).await.expect("an open connection");
        peers.push(peer);
    }
    soon(rig.socket.wait_for_peers(count + 1)).await.expect("an open socket");
    rig.trips_go_on().await;
    let memory = growth_within(before, 32 * MIB);
    drop(peers);
    eventually("the good peer is alone", || rig.socket.peers().len() == 1).await;
    rig.account(count);
    rig.finish().await;
    format!("Connected, {memory}")
}

/// F02: the heartbeat ends it.
async fn heartbeat_ends_it(kind: SocketType, role: Role) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp).option("heartbeat", "100ms,300ms")).await;
    let stranger = rig.admitted(role).await;
    stranger.peer.send(&[raw::header(0, MIB as u64), vec![7; 10]].concat()).await.expect("an open connection");
    let outcome = rig.ends_with(stranger, ended(Reason::Timeout)).await;
    rig.finish().await;
    outcome
}

const RECEIVERS: [SocketType; 6] = {
    use SocketType::*;
    [Pull, Sub, XSub, Dealer, Router, Pair]
};

/// F05: bodies around every edge, in both length forms, arriving in pieces of any size.
async fn edges(kind: SocketType, role: Role, transport: Transport, seed: u64) -> String {
    let rig = Rig::start(Setup::new(kind, transport)).await;
    let mut noise = Noise(seed);
    let (mut bytes, mut bodies) = (Vec::new(), Vec::new());
    for size in [0, 1, 254, 255, 256, 257, 8191, 8192, 8193, 65535, 65536] {
        let body = noise.bytes(size);
        for long in [false, true] {
            // Two frames, so that the edges of frames inside a message are met as well.
            for flags in [MORE, 0] {
                let form = if long || size > 255 { raw::long_frame } else { raw::frame };
                bytes.extend(form(flags, &body));
            }
            bodies.push(body.clone());
        }
    }
    let sizes: Vec<usize> = (0..997).map(|_| 1 + (noise.next() % 4096) as usize).collect();
    let stranger = rig.admitted(role).await;
    let reading = stranger.peer.clone();
    let drain = tokio::spawn(async move { reading.drain().await });
    stranger.peer.send_in_pieces(&bytes, &sizes, Duration::ZERO).await.expect("an open connection");
    eventually("every message", || rig.stray_count() == bodies.len()).await;
    for (message, body) in rig.take_strays().iter().zip(&bodies) {
        assert!(message.len() == 2 && message[0][..] == body[..] && message[1][..] == body[..], "{} bytes", body.len());
    }
    drain.abort();
    let _ = drain.await;
    rig.leaves(stranger).await;
    rig.finish().await;
    "delivered, byte for byte".to_owned()
}

/// F06: what is tolerated does not spoil what follows.
async fn after_tolerated(kind: SocketType, role: Role) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let odd = [
        raw::frame(0xf8, b"first"),
        raw::frame(COMMAND, b""),
        raw::frame(COMMAND | MORE, b"\x03FOO"),
        raw::long_frame(0xf8 | MORE, b"second"),
        raw::long_frame(0, b"its end"),
        raw::frame(0, b"last"),
    ];
    let stranger = rig.admitted(role).await;
    stranger.peer.send(&odd.concat()).await.expect("an open connection");
    eventually("three messages", || rig.stray_count() == 3).await;
    let strays = rig.take_strays();
    assert!(strays[0] == Message::from("first") && strays[1] == Message::from(("second", "its end")));
    assert_eq!(strays[2], Message::from("last"));
    rig.leaves(stranger).await;
    rig.finish().await;
    "delivered".to_owned()
}

/// F08 and F09: what comes back for a PING is what it carried, and not a byte more.
async fn pings(kind: SocketType, role: Role) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let stranger = rig.admitted(role).await;
    let context = b"0123456789abcdefg";
    for len in [0, 1, 15, 16, 17] {
        stranger.peer.send(&raw::ping(0, &context[..len])).await.expect("an open connection");
        let pong = soon(stranger.peer.read_command("PONG")).await.expect("a PONG");
        assert_eq!(pong.data(), &context[..len.min(16)]);
    }
    let _ = stranger.peer.send(&raw::ping(0, &vec![7; MIB])).await;
    rig.ends_with(stranger, over("max_command", 64 * 1024)).await;
    for data in [&b""[..], b"\x01"] {
        let stranger = rig.admitted(role).await;
        stranger.peer.send(&raw::command("PING", data)).await.expect("an open connection");
        let answer = soon(stranger.peer.read_to_end()).await;
        assert!(!answer.windows(5).any(|part| part == b"\x04PONG"), "an answer to half a PING");
        rig.ends_with(stranger, malformed()).await;
    }
    rig.finish().await;
    "16 echoed, 17 cut, 1 MiB LimitExceeded".to_owned()
}

/// F09: a peer's TTL is tenths of seconds, without overflow.
async fn ttls(role: Role) -> String {
    let rig = Rig::start(Setup::new(SocketType::Rep, Transport::Tcp)).await;
    let stranger = rig.admitted(role).await;
    stranger.peer.send(&raw::ping(1, b"")).await.expect("an open connection");
    rig.ends_with(stranger, ended(Reason::Timeout)).await;
    let mut patient = Vec::new();
    for ttl in [655, 656, 65535] {
        let stranger = rig.admitted(role).await;
        stranger.peer.send(&raw::ping(ttl, b"before")).await.expect("an open connection");
        soon(stranger.peer.read_command("PONG")).await.expect("a PONG");
        patient.push(stranger);
    }
    // Where these are multiplied in 16 bits, the second one is given up after 64 ms.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for stranger in patient {
        stranger.peer.send(&raw::ping(0, b"after")).await.expect("an open connection");
        assert_eq!(soon(stranger.peer.read_command("PONG")).await.expect("a PONG").data(), b"after");
        rig.leaves(stranger).await;
    }
    rig.finish().await;
    "TTL 1 Disconnected Timeout, 655 to 65535 Connected".to_owned()
}

/// F10: who pings without reading costs nothing, and its last PING is answered.
async fn ping_flood(kind: SocketType) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let from = rig.watch.len();
    let peer = RawPeer::connect_narrow(&rig.endpoint).await.expect("a listening socket");
    peer.send(&raw::session(kind)).await.expect("an open connection");
    rig.watch.connected(from, &peer.name).await;
    let before = resident();
    let flood = raw::ping(0, b"0123456789abcdef").repeat(10_000);
    for _ in 0..20 {
        soon(peer.send(&flood)).await.expect("an open connection");
    }
    soon(peer.send(&raw::ping(0, b"the last"))).await.expect("an open connection");
    rig.trips_go_on().await;
    let memory = growth_within(before, 8 * MIB);
    soon(peer.read_handshake()).await.expect("a handshake");
    while soon(peer.read_command("PONG")).await.expect("a PONG").data() != b"the last" {}
    let _ = peer.finish();
    rig.account(1);
    rig.watch.ends_with(from, &peer.name, ended(Reason::PeerClosed)).await;
    rig.finish().await;
    format!("Connected, last PING answered, {memory}")
}

/// F12: half-close. What was whole is delivered, what was not is forgotten.
async fn half_close(kind: SocketType, role: Role, transport: Transport) -> String {
    let rig = Rig::start(Setup::new(kind, transport)).await;
    let stranger = rig.admitted(role).await;
    let half = [raw::frame(MORE, b"half"), raw::header(0, 100), vec![7; 99]].concat();
    let bytes = [raw::message(&[b"whole"]), raw::message(&[b"a", b"b"]), half].concat();
    stranger.peer.send(&bytes).await.expect("an open connection");
    stranger.peer.finish().expect("an open connection");
    // Before the row disconnects a client's endpoint, which throws away what is unread.
    eventually("whole messages", || rig.stray_count() == 2).await;
    let outcome = rig.ends_with(stranger, ended(Reason::PeerClosed)).await;
    assert_eq!(rig.take_strays(), [Message::from("whole"), Message::from(("a", "b"))]);
    rig.finish().await;
    format!("{outcome} after 2 delivered")
}

/// F12: urgent data is outside of the stream.
async fn urgent(kind: SocketType) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let stranger = rig.admitted(Role::Server).await;
    let before = [raw::message(&[b"one"]), vec![0, 3]].concat();
    stranger.peer.send(&before).await.expect("an open connection");
    // One only: a second one would push the first back into the stream.
    stranger.peer.send_urgent(b'!').expect("an open connection");
    stranger.peer.send(&[b"two".to_vec(), raw::message(&[b"three"])].concat()).await.expect("an open connection");
    // A read ends at the mark, and what follows it may stay until the next segment comes.
    tokio::time::sleep(Duration::from_millis(50)).await;
    stranger.peer.send(&raw::message(&[b"four"])).await.expect("an open connection");
    eventually("four messages", || rig.stray_count() == 4).await;
    assert_eq!(rig.take_strays(), ["one", "two", "three", "four"].map(Message::from));
    rig.leaves(stranger).await;
    rig.finish().await;
    "Connected, delivered".to_owned()
}

/// F12: a peer that has closed takes no answers, but what it sent before is not lost for that.
async fn answers_to_the_gone() -> String {
    let mut router = Router::builder().recv_hwm(10).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let watch = support::Watch::new(router.monitor());
    let peer = RawPeer::connect(&router.local_endpoint().expect("bound").to_string()).await.expect("a connection");
    let name = peer.name.clone();
    peer.send(&raw::session(SocketType::Router)).await.expect("an open connection");
    soon(peer.read_handshake()).await.expect("a handshake");
    // In one segment: many small ones would not all fit into the other side's kernel, and a closed peer's kernel
    // throws away what it still has.
    let messages: Vec<u8> = (0..1000).flat_map(|n| raw::message(&[format!("m{n}").as_bytes()])).collect();
    peer.send(&messages).await.expect("an open connection");
    drop(peer);
    for n in 0..1000 {
        let (who, message) = soon(router.recv()).await.expect("an open socket");
        assert_eq!(message[0], format!("m{n}").as_str());
        let _ = router.send_to(&who, "answer").await;
        if n < 100 {
            // Time for the answer to come back as a reset.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    watch.ends_with(0, &name, ended(Reason::PeerClosed)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p01_p03_p05_hostile_frames() {
    use SocketType::{Pub, Pull, Push, Rep, Req, Router, XPub};
    let report = Report::new("hostile frames");
    report.row("F02 announces 64 MiB, sends 10 bytes", announced_only(affordable(1000))).await;
    report.row("F10 PINGs without end, PONGs unread", ping_flood(Pull)).await;
    report.row("F10 PINGs without end, PONGs unread", ping_flood(Rep)).await;
    let clients = [Push, Req, XPub].map(|kind| Setup::new(kind, Transport::Tcp)).to_vec();
    let (setups, rows) = large_messages();
    tokio::join!(
        run_rows(&report, all_over_tcp(), &ROLES, all_rows()),
        run_rows(&report, some_over_ipc(), &ROLES, all_rows()),
        run_rows(&report, all_over_tcp(), &[Role::Server], cut_commands()),
        run_rows(&report, clients, &[Role::Client], cut_commands()),
        run_rows(&report, setups, &ROLES, rows),
    );
    for (kind, role) in [(Pull, Role::Server), (SocketType::Sub, Role::Client), (Pub, Role::Server)] {
        report.row("F02 the heartbeat ends it", heartbeat_ends_it(kind, role)).await;
    }
    for (n, kind) in RECEIVERS.into_iter().enumerate() {
        for role in ROLES {
            tokio::join!(
                report.row("F05 bodies at every edge", edges(kind, role, Transport::Tcp, n as u64)),
                report.row("F06 messages around odd frames", after_tolerated(kind, role)),
                report.row("F12 half-close", half_close(kind, role, Transport::Tcp)),
            );
        }
        tokio::join!(
            report.row("F05 bodies at every edge", edges(kind, Role::Server, Transport::Ipc, 99)),
            report.row("F12 urgent data", urgent(kind)),
        );
    }
    report.row("F12 half-close", half_close(Router, Role::Server, Transport::Ipc)).await;
    report.row("F12 answers to a peer that left", answers_to_the_gone()).await;
    for kind in SocketType::ALL {
        let [server, client] = ROLES.map(|role| report.row("F09 PING contexts", pings(kind, role)));
        tokio::join!(server, client);
    }
    for role in ROLES {
        report.row("F09 TTL", ttls(role)).await;
    }
    report.finish();
}
