//! Strangers in the handshake: READY, ERROR, PLAIN's commands, and whatever comes in their place (P1, P2, P4, P11).

mod support;

use ginnel::*;
use support::raw::{self, COMMAND, MORE, RawPeer};
use support::rig::{ROLES, Rig, Role, Row, Setup, Transport, all_over_tcp, run_rows, some_over_ipc};
use support::{MIB, Outcome, Report, Watch, growth_within, resident, soon};

fn refused(reason: Reason) -> Outcome {
    Outcome::Refused(Phase::Handshake, reason)
}

fn malformed() -> Outcome {
    refused(Reason::Malformed(""))
}

fn over(which: &'static str, limit: u64) -> Outcome {
    refused(Reason::LimitExceeded { which, limit })
}

fn early() -> Outcome {
    refused(Reason::UnexpectedCommand)
}

/// A row whose bytes follow a NULL greeting.
fn row(name: &str, bytes: impl Fn(&str) -> Vec<u8> + Send + std::marker::Sync + 'static, expected: Outcome) -> Row {
    let bytes = move |kind| [raw::greeting("NULL"), bytes(raw::partner(kind))].concat();
    Row::by_type(name, bytes, expected)
}

fn fixed(name: &str, bytes: Vec<u8>, expected: Outcome) -> Row {
    row(name, move |_| bytes.clone(), expected)
}

fn socket_type(partner: &str) -> Vec<u8> {
    raw::property("Socket-Type", partner.as_bytes())
}

/// READY with the right type and these bytes after it.
fn with(name: &str, more: Vec<u8>, expected: Outcome) -> Row {
    row(name, move |partner| raw::command("READY", &[socket_type(partner), more.clone()].concat()), expected)
}

fn truncated_ready() -> Vec<Row> {
    // As long as the longest partner: shorter types have fewer lengths to be cut to.
    let longest = raw::command_body("READY", &socket_type("DEALER")).len();
    let cut = |partner: &str, len: usize| {
        let whole = raw::command_body("READY", &socket_type(partner));
        // Only whole properties, or none, are a READY.
        let len = if len < whole.len() { len } else { whole.len() - 1 };
        raw::frame(COMMAND, &whole[..len])
    };
    let mut rows: Vec<Row> = (0..longest - 1)
        .filter(|&len| len != b"\x05READY".len())
        .map(|len| row("M01 READY cut at every length", move |partner| cut(partner, len), malformed()))
        .collect();
    let identity = raw::property("Identity", b"abc");
    for len in 1..identity.len() {
        rows.push(with("M01 Identity cut at every length", identity[..len].to_vec(), malformed()));
    }
    rows.push(fixed("M01 READY without properties", raw::command("READY", b""), Outcome::Connected));
    rows
}

fn lying_lengths() -> Vec<Row> {
    let value = |len: u32| [&b"\x01a"[..], &len.to_be_bytes(), b"value"].concat();
    vec![
        with("M02 value of FFFFFFFF", value(u32::MAX), malformed()),
        with("M02 value of 80000000", value(1 << 31), malformed()),
        with("M02 value of one byte more", value(6), malformed()),
        with("M02 name beyond the end", b"\xffname".to_vec(), malformed()),
    ]
}

fn bad_names() -> Vec<Row> {
    let mut rows = vec![
        with("M03 empty name", raw::property("", b"value"), malformed()),
        with("M03 name twice", [raw::property("X-a", b"1"), raw::property("x-A", b"1")].concat(), malformed()),
        with("M03 Socket-Type twice", socket_type("PAIR"), malformed()),
    ];
    for name in [" ", "a b", "a\0", "a\n", "\u{1b}[2J", "é", "a/b", "a:b"] {
        rows.push(with("M03 name outside the grammar", raw::property(name, b"value"), malformed()));
    }
    rows
}

fn too_much() -> Vec<Row> {
    let properties = |count: usize| (0..count).flat_map(|n| raw::property(&format!("n{n}"), b"")).collect::<Vec<u8>>();
    // One property fills the rest: its name and length fields take 7 bytes, Socket-Type as many as it needs.
    let filled = |size: usize| {
        move |partner: &str| {
            let head = socket_type(partner);
            let filler = raw::property("X-a", &vec![0; size - head.len() - 8]);
            raw::command("READY", &[head, filler].concat())
        }
    };
    let limit = over("max_metadata", 16 * 1024);
    vec![
        row("M04 metadata of 16 KiB", filled(16 * 1024), Outcome::Connected),
        row("M04 metadata of 16 KiB + 1", filled(16 * 1024 + 1), limit.clone()),
        fixed("M04 metadata of 16 MiB", raw::command("READY", &vec![0; 16 * MIB]), limit.clone()),
        with("M04 64 properties", properties(63), Outcome::Connected),
        with("M04 65 properties", properties(64), over("max_properties", 64)),
        with("M04 60,000 properties", properties(60_000), limit),
    ]
}

fn out_of_turn() -> Vec<Row> {
    let mut rows = Vec::new();
    let commands: [(&str, Vec<u8>); 7] = [
        ("PING", raw::ping(0, b"")),
        ("PONG", raw::command("PONG", b"")),
        ("SUBSCRIBE", raw::subscribe(b"a")),
        ("CANCEL", raw::cancel(b"a")),
        ("HELLO", raw::hello(b"user", b"secret")),
        ("WELCOME", raw::command("WELCOME", b"")),
        ("an unknown command", raw::command("ready", b"")),
    ];
    for (name, bytes) in commands {
        rows.push(fixed(&format!("M07 {name} before READY"), bytes, early()));
    }
    let twice = [raw::command("X", &[0; 100]), raw::command("X", &[0; 100])].concat().repeat(1000);
    rows.extend([
        fixed("M07 message before READY", raw::message(&[b"hello"]), early()),
        fixed("M07 two frames before READY", raw::message(&[b"a", b"b"]), early()),
        fixed("M07 long message before READY", raw::message(&[&[0; 70_000]]), early()),
        fixed("M07 empty message before READY", raw::message(&[b""]), early()),
        fixed("M09 handshake commands without end", twice, early()),
        fixed("M10 2^63 bytes, from the header alone", raw::header(COMMAND, 1 << 63), over("max_metadata", 16 * 1024)),
        fixed(
            "M10 2^64-1 bytes, from the header alone",
            raw::header(COMMAND, u64::MAX),
            over("max_metadata", 16 * 1024),
        ),
        fixed("M10 READY with MORE, from the header alone", vec![COMMAND | MORE, 30], malformed()),
        fixed("M10 empty command", raw::frame(COMMAND, b""), malformed()),
        row("M07 READY without the COMMAND bit", |p| raw::frame(0, &raw::ready(p)[2..]), Outcome::Connected),
        row("M07 second READY in traffic", |p| [raw::ready(p), raw::ready(p)].concat(), Outcome::Connected),
    ]);
    rows
}

/// M08: ERROR in the handshake and after it, from either side.
fn errors() -> Vec<Row> {
    let evil = [0x1b; 255];
    let escaped = "\\u{1b}".repeat(255 / 6);
    let said = |text: &str| refused(Reason::PeerError(text.to_owned()));
    let admitted = |bytes: Vec<u8>| move |partner: &str| [raw::ready(partner), bytes.clone()].concat();
    let lying = raw::command("ERROR", b"\x04400");
    vec![
        fixed("M08 ERROR longer than its frame", lying.clone(), malformed()),
        fixed("M08 ERROR without a reason", raw::command("ERROR", b""), malformed()),
        fixed("M08 ERROR of 255 escape characters", raw::error(&evil), said(&escaped)),
        fixed("M08 ERROR", raw::error(b"no\n\0"), said("no\\n\\0")),
        row(
            "M08 ERROR in traffic",
            admitted(raw::error(b"400")),
            Outcome::Disconnected(Reason::PeerError("400".into())),
        ),
        row(
            "M08 ERROR in traffic longer than its frame",
            admitted(lying),
            Outcome::Disconnected(Reason::Malformed("")),
        ),
    ]
}

fn all_rows() -> Vec<Row> {
    let mut rows = truncated_ready();
    rows.extend(lying_lengths());
    rows.extend(bad_names());
    rows.extend(too_much());
    rows.extend(out_of_turn());
    rows.extend(errors());
    rows
}

/// M05: a wrong Socket-Type is answered with ERROR before the close; `missing` is let in.
async fn wrong_types(kind: SocketType, role: Role, transport: Transport) -> String {
    let rig = Rig::start(Setup::new(kind, transport)).await;
    let partner = raw::partner(kind);
    let all = SocketType::ALL.into_iter().filter(|&peer| !kind.accepts(peer)).map(|kind| kind.name().to_owned());
    let strange = ["FOO", "", &partner.to_lowercase(), "STREAM", &"X".repeat(255)].map(str::to_owned);
    let padded = [format!("{partner} "), format!(" {partner}"), format!("{partner}\0")];
    for name in all.chain(strange).chain(padded) {
        let stranger = rig.stranger(role).await;
        let hello = [raw::greeting("NULL"), raw::ready(&name)].concat();
        stranger.peer.send(&hello).await.expect("an open connection");
        let _ = soon(stranger.peer.read_handshake()).await.expect("a handshake");
        let error = soon(stranger.peer.read_frame()).await.expect("an ERROR");
        assert!(error.is_command("ERROR"), "{name:?}: {error:?}");
        let text = &error.data()[1..];
        assert_eq!(usize::from(error.data()[0]), text.len());
        assert!(text.is_ascii() && !text.iter().any(u8::is_ascii_control), "{text:?}");
        rig.ends_with(stranger, refused(Reason::IncompatibleType)).await;
    }
    rig.finish().await;
    "Refused Handshake IncompatibleType after ERROR".to_owned()
}

/// M06: which identities count. None of them is ever printed raw.
async fn identities() -> String {
    let rig = Rig::start(Setup::new(SocketType::Router, Transport::Tcp)).await;
    let long = [b'i'; 256];
    let taken: [&[u8]; 6] = [b"x", &long[..255], b"a\0b", b"a\nb", b"\x1b[2J\x1b]0;owned\x07", &[0xff, 0xfe]];
    let ignored: [&[u8]; 4] = [b"", &long, b"\0abc", b"\0"];
    for (identity, counts) in taken.map(|id| (id, true)).into_iter().chain(ignored.map(|id| (id, false))) {
        for role in ROLES {
            let stranger = rig.stranger(role).await;
            let hello = [raw::greeting("NULL"), raw::ready_with_identity("DEALER", identity)].concat();
            stranger.peer.send(&hello).await.expect("an open connection");
            let pick = |event: &Event| match event {
                Event::Connected { peer, id, .. } if *peer == stranger.peer.name => Some((id.clone(), event.clone())),
                _ => None,
            };
            let (id, event) = rig.watch.expect(stranger.from, "connection", pick).await;
            if counts {
                assert_eq!(&id[..], identity);
            } else {
                assert!(id.len() == 5 && id[0] == 0, "{id:?}");
            }
            let printed = [format!("{event:?}"), format!("{:?}", rig.socket.peers()), format!("{id:?}")].concat();
            assert!(!printed.chars().any(char::is_control), "{printed:?}");
            rig.leaves(stranger).await;
        }
    }
    rig.finish().await;
    "Connected, by section 4".to_owned()
}

fn credentials() -> Credentials {
    Credentials::new("user", "secret").expect("short")
}

fn plain_server(kind: SocketType) -> Setup {
    let users = vec![Credentials::new("other", "word").expect("short"), credentials()];
    Setup::new(kind, Transport::Tcp).plain(Security::PlainServer(users), Security::PlainClient(credentials()))
}

fn plain_client(kind: SocketType) -> Setup {
    Setup::new(kind, Transport::Tcp)
        .plain(Security::PlainClient(credentials()), Security::PlainServer(vec![credentials()]))
}

/// A row whose bytes follow a PLAIN greeting.
fn plain(name: &str, bytes: impl Fn(&str) -> Vec<u8> + Send + std::marker::Sync + 'static, expected: Outcome) -> Row {
    let bytes = move |kind| [raw::greeting("PLAIN"), bytes(raw::partner(kind))].concat();
    Row::by_type(name, bytes, expected)
}

/// C14 and its neighbours, seen by a server.
fn against_plain_server() -> Vec<Row> {
    let denied = || refused(Reason::AuthDenied);
    let hello = |name: &str, user: &[u8], password: &[u8], expected| {
        let bytes = raw::hello(user, password);
        plain(name, move |_| bytes.clone(), expected)
    };
    let body = |data: &[u8]| raw::command("HELLO", data);
    let initiate = |partner: &str| raw::command("INITIATE", &socket_type(partner));
    let mut rows = vec![
        hello("C14 empty name and password", b"", b"", denied()),
        hello("C14 name and password of 255", &[b'u'; 255], &[b'p'; 255], denied()),
        hello("C14 longer password", b"user", b"secret\0", denied()),
        hello("C14 another user's password", b"user", b"word", denied()),
        hello("C14 name in capitals", b"USER", b"secret", denied()),
    ];
    for len in 0..b"secret".len() {
        rows.push(hello("C14 every prefix of the password", b"user", &b"secret"[..len], denied()));
        let mut wrong = b"secret".to_vec();
        wrong[len] ^= 1;
        rows.push(hello("C14 every byte of the password wrong", b"user", &wrong, denied()));
    }
    let lying: [&[u8]; 6] = [b"", b"\x04use", b"\xffuser", b"\x04user", b"\x04user\x07secret", b"\x04user\x06secretX"];
    for data in lying {
        let bytes = body(data);
        rows.push(plain("C14 lengths beyond the frame", move |_| bytes.clone(), malformed()));
    }
    let good = raw::hello(b"user", b"secret");
    let after = move |rest: Vec<u8>| {
        let good = good.clone();
        move |_: &str| [good.clone(), rest.clone()].concat()
    };
    rows.extend([
        plain("C14 READY instead of HELLO", raw::ready, early()),
        plain("C14 INITIATE instead of HELLO", initiate, early()),
        plain("C14 message instead of HELLO", |_| raw::message(&[b"smuggled"]), early()),
        plain("C14 ERROR instead of HELLO", |_| raw::error(b"400"), refused(Reason::PeerError("400".into()))),
        plain("C14 READY after HELLO", after(raw::ready("PUSH")), early()),
        plain("C14 second HELLO", after(raw::hello(b"user", b"secret")), early()),
        plain("M09 HELLO without end", after(raw::hello(b"user", b"secret").repeat(5000)), early()),
        plain("C14 silence after HELLO", after(Vec::new()), refused(Reason::Timeout)),
        plain("C14 message after HELLO", after(raw::message(&[b"smuggled"])), early()),
        plain("C14 INITIATE with a lie", after(raw::command("INITIATE", b"\x0bSocket-Type\0\0\0\xffX")), malformed()),
        plain("G08 two PLAIN servers", |_| Vec::new(), refused(Reason::Timeout)),
        plain(
            "C14 the right password",
            move |partner| [raw::hello(b"user", b"secret"), initiate(partner)].concat(),
            Outcome::Connected,
        ),
    ]);
    rows
}

/// A server of the stranger's own, seen by a client.
fn against_plain_client() -> Vec<Row> {
    let welcome = || raw::command("WELCOME", b"");
    vec![
        plain("C14 WELCOME with data", |_| raw::command("WELCOME", b"x"), malformed()),
        plain("C14 READY without WELCOME", raw::ready, early()),
        plain("C14 message without WELCOME", |_| raw::message(&[b"smuggled"]), early()),
        plain("C14 second WELCOME", move |_| [welcome(), welcome()].concat(), early()),
        plain("C14 two clients", |_| raw::hello(b"user", b"secret"), early()),
        plain("C14 ERROR from the server", |_| raw::error(b"400"), refused(Reason::PeerError("400".into()))),
        plain("C14 server falls silent", move |_| welcome(), refused(Reason::Timeout)),
        plain(
            "C14 READY of a wrong type",
            move |_| [welcome(), raw::ready("STREAM")].concat(),
            refused(Reason::IncompatibleType),
        ),
        plain("C14 an honest server", move |partner| [welcome(), raw::ready(partner)].concat(), Outcome::Connected),
    ]
}

/// C14: a denied client is told so; the password is in no event.
async fn denied_is_said() -> String {
    let rig = Rig::start(plain_server(SocketType::Rep)).await;
    let stranger = rig.stranger(Role::Server).await;
    let hello = [raw::greeting("PLAIN"), raw::hello(b"user", b"wrong-password")].concat();
    stranger.peer.send(&hello).await.expect("an open connection");
    soon(stranger.peer.read_exact(64)).await.expect("a greeting");
    let error = soon(stranger.peer.read_frame()).await.expect("an ERROR");
    assert_eq!((error.is_command("ERROR"), error.data()), (true, &b"\x03400"[..]));
    rig.ends_with(stranger, refused(Reason::AuthDenied)).await;
    let printed = format!("{:?} {:?}", rig.watch.since(0), rig.socket.peers());
    assert!(!printed.contains("wrong-password") && !printed.contains("secret"), "{printed}");
    rig.finish().await;
    "Refused Handshake AuthDenied after ERROR 400".to_owned()
}

/// P11: whoever does not speak PLAIN is never shown the password.
async fn password_stays_home() -> String {
    let others = [raw::greeting("NULL"), raw::greeting("CURVE"), b"HTTP/1.1 400\r\n\r\n".to_vec(), vec![0xff; 12]];
    let old = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1, 4, 0, 0];
    for greeting in others.into_iter().chain([old]) {
        let rig = Rig::start(plain_client(SocketType::Dealer)).await;
        let stranger = rig.stranger(Role::Client).await;
        stranger.peer.send(&greeting).await.expect("an open connection");
        stranger.peer.finish().expect("an open connection");
        let (said, _) =
            tokio::join!(soon(stranger.peer.read_to_end()), rig.watch.end_of(stranger.from, &stranger.peer.name));
        assert!(said.len() <= 64, "more than a greeting");
        assert!(!said.windows(6).any(|part| part == b"secret"));
    }
    "no HELLO sent".to_owned()
}

/// M04: what a stranger sends in a handshake does not stay in memory.
async fn metadata_memory() -> String {
    let pull = Pull::bind("tcp://127.0.0.1:0").await.expect("a socket");
    let watch = Watch::new(pull.monitor());
    let endpoint = pull.local_endpoint().expect("bound").to_string();
    let flood = [raw::greeting("NULL"), raw::command("READY", &vec![1; 16 * MIB])].concat();
    let before = resident();
    for _ in 0..10 {
        let from = watch.len();
        let peer = RawPeer::connect(&endpoint).await.expect("a listening socket");
        let _ = soon(peer.send(&flood)).await;
        watch.ends_with(from, &peer.name, over("max_metadata", 16 * 1024)).await;
    }
    growth_within(before, 4 * MIB)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p01_p02_p11_hostile_handshakes() {
    let report = Report::new("hostile metadata");
    use SocketType::{Dealer, Pub, Pull, Push, Rep, Req};
    report.row("M04 memory after ten floods of 16 MiB", metadata_memory()).await;
    let servers = [Pull, Pub, Rep].map(plain_server).to_vec();
    let clients = [Push, Dealer, Req].map(plain_client).to_vec();
    tokio::join!(
        run_rows(&report, all_over_tcp(), &ROLES, all_rows()),
        run_rows(&report, some_over_ipc(), &ROLES, all_rows()),
        run_rows(&report, servers, &[Role::Server], against_plain_server()),
        run_rows(&report, clients, &[Role::Client], against_plain_client()),
    );
    for kind in SocketType::ALL {
        for role in ROLES {
            report.row("M05 wrong Socket-Type", wrong_types(kind, role, Transport::Tcp)).await;
        }
    }
    report.row("M05 wrong Socket-Type", wrong_types(SocketType::Rep, Role::Server, Transport::Ipc)).await;
    report.row("M06 identities", identities()).await;
    report.row("C14 denied, and told so", denied_is_said()).await;
    report.row("C14 no password to strangers", password_stays_home()).await;
    report.finish();
}
