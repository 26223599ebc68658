//! Strangers at the door: everything that can be sent before, as, or instead of a greeting (P1, P2, P4, P11).

mod support;

use std::time::Duration;

use ginnel::*;
use support::raw::{self, RawPeer};
use support::rig::{ROLES, Rig, Role, Row, Setup, Transport, all_over_tcp, run_rows, some_over_ipc};
use support::{Noise, Outcome, Report, Watch, affordable, descriptors, eventually, growth_within, soon};

fn refused(reason: Reason) -> Outcome {
    Outcome::Refused(Phase::Greeting, reason)
}

fn greeting_rows() -> Vec<Row> {
    let drip = Duration::from_millis(40);
    let timeout = || refused(Reason::Timeout);
    let mut random = Noise(3).bytes(64);
    random[0] = 0x5a;
    let mut even = raw::greeting("NULL");
    even[9] = 0x7e;
    let mut rows = vec![
        Row::new("G01 silence", b"", timeout()),
        Row::new("G02 greeting, one byte at a time", raw::greeting("NULL"), timeout()).drip(drip),
        Row::by_type("G02 handshake, one byte at a time", raw::session, timeout()).drip(drip),
        Row::new("G04 even end of the signature", even, refused(Reason::NotZmtp)),
    ];
    let strangers: [(&str, &[u8]); 6] = [
        ("http request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("tls hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("ssh banner", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("line end", b"\r\n"),
        ("64 zero bytes", &[0; 64]),
        ("64 random bytes", &random),
    ];
    for (name, bytes) in strangers {
        rows.push(Row::new(format!("G03 {name}"), bytes, refused(Reason::NotZmtp)));
    }
    rows.extend(old_versions());
    for (major, minor) in [(2, 0), (4, 0), (9, 3), (255, 255), (3, 7), (3, 255)] {
        let bytes = move |kind| [raw::greeting_of(major, minor, b"NULL"), raw::ready(raw::partner(kind))].concat();
        rows.push(Row::by_type(format!("G06 version {major}.{minor}"), bytes, Outcome::Connected));
    }
    rows.extend(other_mechanisms(&["CURVE", "PLAIN", "null", "NULLX", "NUL", ""]));
    rows.extend(odd_but_tolerated());
    rows
}

/// G05: whatever the mechanism, older peers are refused before a message can come.
fn old_versions() -> Vec<Row> {
    let old = |revision: u8, kind: SocketType| {
        let partner = raw::partner(kind);
        let number = SocketType::ALL.into_iter().position(|kind| kind.name() == partner).unwrap_or(0);
        let head = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, revision, number as u8];
        [head, raw::frame(0, b""), raw::message(&[b"", b"smuggled"])].concat()
    };
    let unversioned = [&b"\x01\x00"[..], b"\x09\x00smuggled"].concat();
    vec![
        Row::by_type("G05 ZMTP 2.0 header", move |kind| old(1, kind), refused(Reason::UnsupportedVersion)),
        Row::by_type("G05 ZMTP 1.0 header", move |kind| old(0, kind), refused(Reason::UnsupportedVersion)),
        Row::new("G05 ZMTP 1.0 identity", unversioned, refused(Reason::NotZmtp)),
    ]
}

/// G07: only our own mechanism, in all of its twenty bytes.
fn other_mechanisms(names: &[&str]) -> Vec<Row> {
    let mismatch = || refused(Reason::MechanismMismatch);
    let mut rows: Vec<Row> = names
        .iter()
        .map(|name| {
            let bytes = raw::greeting(name);
            Row::by_type(
                format!("G07 mechanism {name:?}"),
                move |kind| [bytes.clone(), raw::ready(raw::partner(kind)), raw::message(&[b"", b"smuggled"])].concat(),
                mismatch(),
            )
        })
        .collect();
    rows.push(Row::new(
        "G07 dirt after the padding",
        raw::greeting_of(3, 1, b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
        mismatch(),
    ));
    rows.push(Row::new("G07 twenty times FF", raw::greeting_of(3, 1, &[0xff; 20]), mismatch()));
    rows
}

fn odd_but_tolerated() -> Vec<Row> {
    let changed = |change: fn(&mut Vec<u8>)| {
        move |kind| {
            let mut greeting = raw::greeting("NULL");
            change(&mut greeting);
            [greeting, raw::ready(raw::partner(kind))].concat()
        }
    };
    let filler = changed(|greeting| greeting[33..].fill(0xbb));
    let server = changed(|greeting| greeting[32] = 1);
    let padding = changed(|greeting| greeting[1..9].fill(0xaa));
    vec![
        Row::by_type("G08 filler not zero", filler, Outcome::Connected),
        Row::by_type("G08 as-server on NULL", server, Outcome::Connected),
        Row::by_type("G08 odd padding", padding, Outcome::Connected),
    ]
}

fn users() -> Security {
    Security::PlainServer(vec![Credentials::new("user", "secret").expect("short")])
}

fn client() -> Security {
    Security::PlainClient(Credentials::new("user", "secret").expect("short"))
}

/// Both sides of PLAIN on a few types.
fn plain_setups() -> Vec<Setup> {
    use SocketType::{Pub, Push, Rep, Router};
    let server = [Pub, Rep].map(|kind| Setup::new(kind, Transport::Tcp).plain(users(), client()));
    let client = [Push, Router].map(|kind| Setup::new(kind, Transport::Tcp).plain(client(), users()));
    server.into_iter().chain(client).collect()
}

fn plain_rows() -> Vec<Row> {
    let mut rows = old_versions();
    rows.extend(other_mechanisms(&["CURVE", "NULL", "plain", "PLAINX"]));
    for row in &mut rows {
        row.name = row.name.replacen(' ', " against PLAIN: ", 1);
    }
    rows
}

/// G09: one whole session, cut at every byte.
async fn cut_everywhere(kind: SocketType, role: Role, reset: bool) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let greeting = 64;
    let handshake = raw::session(kind).len();
    let session = [raw::session(kind), raw::message(&[b"", b"cut", b"message"])].concat();
    for at in 0..session.len() {
        let stranger = rig.stranger(role).await;
        soon(stranger.peer.read_exact(64)).await.expect("the other greeting");
        stranger.peer.send(&session[..at]).await.expect("an open connection");
        let outcome = if reset {
            stranger.reset(&rig).await
        } else {
            stranger.peer.finish().expect("an open connection");
            let expected = match at {
                _ if at < greeting => refused(Reason::PeerClosed),
                _ if at < handshake => Outcome::Refused(Phase::Handshake, Reason::PeerClosed),
                _ => Outcome::Disconnected(Reason::PeerClosed),
            };
            rig.ends_with(stranger, expected.clone()).await;
            expected
        };
        // A reset may overtake what we had not read yet, so the phase hangs on luck; the reason does not.
        let (Outcome::Refused(_, reason) | Outcome::Disconnected(reason)) = outcome else { panic!("no end at {at}") };
        assert_eq!(reason, Reason::PeerClosed, "cut at {at}");
    }
    rig.trips_go_on().await;
    assert!(rig.take_strays().is_empty(), "half a message was delivered");
    let peers = usize::from(kind != SocketType::Pair);
    eventually("only the good peer is left", || rig.socket.peers().len() == peers).await;
    rig.finish().await;
    "Refused or Disconnected PeerClosed".to_owned()
}

/// G10 and G11: a whole session with 1,000 messages, in one piece or in many.
async fn pipelined(kind: SocketType, role: Role, transport: Transport, piece: usize) -> String {
    let rig = Rig::start(Setup::new(kind, transport)).await;
    let mut session = raw::session(kind);
    let bodies: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
    for body in &bodies {
        match kind {
            SocketType::Rep => session.extend(raw::message(&[b"", body.as_bytes()])),
            _ => session.extend(raw::message(&[body.as_bytes()])),
        }
    }
    let stranger = rig.stranger(role).await;
    let reading = stranger.peer.clone();
    let drain = tokio::spawn(async move { reading.drain().await });
    stranger.peer.send_in_pieces(&session, &[piece], Duration::ZERO).await.expect("an open connection");
    eventually("1,000 messages", || rig.stray_count() == 1000).await;
    let strays = rig.take_strays();
    assert!(strays.iter().zip(&bodies).all(|(stray, body)| stray[0] == body.as_str()), "in order");
    drain.abort();
    let _ = drain.await;
    rig.leaves(stranger).await;
    rig.finish().await;
    "1000 delivered".to_owned()
}

const RECEIVERS: [SocketType; 8] = {
    use SocketType::*;
    [Pull, Sub, XSub, XPub, Dealer, Router, Rep, Pair]
};

/// G12: connections that are reset as soon as they stand.
async fn resets(count: usize) -> String {
    let rig = Rig::start(Setup::new(SocketType::Pull, Transport::Tcp)).await;
    let before = (support::resident(), descriptors());
    let mut names = std::collections::HashSet::new();
    for _ in 0..count {
        let peer = RawPeer::connect(&rig.endpoint).await.expect("a listening socket");
        names.insert(peer.name.clone());
        peer.reset();
    }
    rig.trips_go_on().await;
    eventually("every connection has ended", || rig.watch.ends() >= names.len()).await;
    for event in rig.watch.since(0) {
        if let Event::Refused { peer, phase, reason } = event {
            assert!(names.contains(&peer), "an address that nobody had: {peer}");
            assert_eq!((phase, reason), (Phase::Greeting, Reason::PeerClosed));
        }
    }
    rig.account(rig.watch.ends());
    assert!(rig.watch.ends() <= count);
    eventually("descriptors are back", || descriptors() <= before.1.map(|open| open + 2)).await;
    let memory = growth_within(before.0, 16 * support::MIB);
    rig.finish().await;
    format!("Refused Greeting PeerClosed each, {memory}")
}

/// G13: a dialler that meets itself. Its source address makes sure of what else is luck.
async fn self_connection() -> String {
    let free = support::raw::RawListener::tcp().await;
    let address = free.endpoint.trim_start_matches("tcp://").to_owned();
    drop(free);
    let push =
        Push::builder().reconnect(Duration::from_millis(10), Duration::from_millis(20)).build().expect("a socket");
    let watch = Watch::new(push.monitor());
    let endpoint = format!("tcp://{address};{address}");
    push.connect_to(&endpoint).expect("an endpoint");
    let outcome = watch.ends_with(0, &endpoint, Outcome::Refused(Phase::Accept, Reason::SelfConnection)).await;
    let retry = |event: &Event| matches!(event, Event::Retrying { .. }).then_some(());
    watch.expect(0, "another attempt", retry).await;
    // Now somebody listens there: the dialler finds its way.
    let bound = async {
        loop {
            if let Ok(pull) = Pull::bind(format!("tcp://{address}")).await {
                break pull;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let pull = soon(bound).await;
    drop(pull);
    format!("{outcome}, retried")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p01_p02_p04_hostile_greetings() {
    let report = Report::new("hostile greeting");
    tokio::join!(
        run_rows(&report, all_over_tcp(), &ROLES, greeting_rows()),
        run_rows(&report, some_over_ipc(), &ROLES, greeting_rows()),
        run_rows(&report, plain_setups(), &ROLES, plain_rows()),
    );
    for (kind, role) in
        [(SocketType::Pull, Role::Server), (SocketType::Req, Role::Client), (SocketType::XPub, Role::Server)]
    {
        tokio::join!(
            report.row("G09 cut at every byte, FIN", cut_everywhere(kind, role, false)),
            report.row("G09 cut at every byte, RST", cut_everywhere(kind, role, true)),
        );
    }
    for kind in RECEIVERS {
        report.row("G10 session in one segment", pipelined(kind, Role::Server, Transport::Tcp, 1 << 20)).await;
        report.row("G10 session in one segment", pipelined(kind, Role::Client, Transport::Ipc, 1 << 20)).await;
    }
    report.row("G11 session byte by byte", pipelined(SocketType::Pull, Role::Server, Transport::Tcp, 1)).await;
    report.row("G11 session byte by byte", pipelined(SocketType::Router, Role::Client, Transport::Ipc, 1)).await;
    report.row("G12 reset after connecting", resets(affordable(1000))).await;
    report.row("G13 dialler meets itself", self_connection()).await;
    report.finish();
}

/// ZMTP 2.0 can be asked for, but not together with security (CVE-2014-9721).
#[tokio::test]
async fn p11_g05_zmtp2_and_security_exclude_each_other() {
    for security in [users(), client()] {
        assert!(Pull::builder().zmtp2(true).security(security).build().is_err());
    }
}
