//! The handshake against recorded bytes, against itself, and against strangers.

use super::*;
use crate::options::Credentials;
use crate::wire::command::encode_command;
use crate::wire::frame::COMMAND;
use quickcheck::QuickCheck;

const READY_PULL: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL";
const READY_PUSH: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH";

fn local(socket_type: SocketType) -> LocalSide {
    LocalSide {
        socket_type,
        identity: Frame::EMPTY,
        security: Security::Null,
        zmtp2: false,
        limits: Limits::default(),
        properties: Vec::new(),
        handshake_timeout: Duration::from_secs(10),
    }
}

fn credentials(name: &str, word: &str) -> Credentials {
    Credentials::new(name, word).unwrap()
}

fn client(socket_type: SocketType, word: &str) -> LocalSide {
    LocalSide { security: Security::PlainClient(credentials("ann", word)), ..local(socket_type) }
}

fn server(socket_type: SocketType) -> LocalSide {
    let users = vec![credentials("bob", "builder"), credentials("ann", "secret")];
    LocalSide { security: Security::PlainServer(users), ..local(socket_type) }
}

fn old(socket_type: SocketType) -> LocalSide {
    LocalSide { zmtp2: true, ..local(socket_type) }
}

/// Everything that one side wrote and how it ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    written: Vec<u8>,
    established: Option<Established>,
    refusal: Option<Refusal>,
    left: Vec<u8>,
}

/// Feeds `pieces` to a fresh handshake.
fn feed<'a>(local: LocalSide, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut handshake = Handshake::new(local, Instant::now());
    let mut outcome = Outcome { written: Vec::new(), established: None, refusal: None, left: Vec::new() };
    let mut input = BytesMut::new();
    outcome.written.extend(handshake.take_output().unwrap());
    for piece in pieces {
        input.extend_from_slice(piece);
        match handshake.handle_input(&mut input) {
            Ok(None) => {}
            Ok(Some(peer)) => assert!(outcome.established.replace(peer).is_none(), "once"),
            Err(refusal) => outcome.refusal = Some(refusal),
        }
        outcome.written.extend(handshake.take_output().into_iter().flatten());
        assert!(handshake.take_output().is_none());
    }
    match &outcome.refusal {
        None => outcome.left = input.to_vec(),
        // How much of a staged greeting went out before hangs on how the peer's came.
        Some(refusal) if refusal.phase == Phase::Greeting => outcome.written.clear(),
        Some(_) => {}
    }
    assert_eq!(outcome.established.is_some(), handshake.phase() == Phase::Traffic);
    outcome
}

/// What comes of `input` whole; the same must come of it byte by byte and in every two parts.
fn outcome(local: &LocalSide, input: &[u8]) -> Outcome {
    let whole = feed(local.clone(), [input]);
    assert_eq!(feed(local.clone(), input.chunks(1)), whole, "byte by byte");
    for cut in 0..input.len().min(200) {
        let (one, two) = input.split_at(cut);
        assert_eq!(feed(local.clone(), [one, two]), whole, "cut at {cut}");
    }
    whole
}

fn refused(local: &LocalSide, input: &[u8]) -> (Phase, Reason) {
    let refusal = outcome(local, input).refusal.expect("a refusal");
    (refusal.phase, refusal.reason)
}

fn in_handshake(local: &LocalSide, after_greeting: &[u8]) -> Reason {
    let greeting = greeting::encode(local.security.mechanism(), false, 0);
    let (phase, reason) = refused(local, &[&greeting, after_greeting].concat());
    assert_eq!(phase, Phase::Handshake);
    reason
}

fn command_frame(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_command(&mut out, name, &[data]);
    out.to_vec()
}

fn ready(socket_type: &[u8]) -> Vec<u8> {
    let data = [&b"\x0bSocket-Type\0\0\0"[..], &[socket_type.len() as u8], socket_type].concat();
    command_frame(b"READY", &data)
}

fn limit(which: &'static str, limit: u64) -> Reason {
    Reason::LimitExceeded { which, limit }
}

/// Runs two sides against each other, `piece` bytes at a time.
fn meet(one: LocalSide, two: LocalSide, piece: usize) -> [Result<Option<Established>, Refusal>; 2] {
    let now = Instant::now();
    let mut sides = [Handshake::new(one, now), Handshake::new(two, now)];
    let mut wires = [BytesMut::new(), BytesMut::new()];
    let mut inputs = [BytesMut::new(), BytesMut::new()];
    let mut results = [Ok(None), Ok(None)];
    loop {
        for (side, wire) in sides.iter_mut().zip(&mut wires) {
            wire.extend_from_slice(&side.take_output().unwrap_or_default());
        }
        if wires.iter().all(|wire| wire.is_empty()) {
            return results;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let size = piece.min(wires[from].len());
            inputs[to].unsplit(wires[from].split_to(size));
            match sides[to].handle_input(&mut inputs[to]) {
                Ok(None) => {}
                other => results[to] = other,
            }
        }
    }
}

fn agree(one: LocalSide, two: LocalSide) -> [Established; 2] {
    let whole = meet(one.clone(), two.clone(), usize::MAX);
    for piece in [1, 3, 11, 64] {
        assert_eq!(meet(one.clone(), two.clone(), piece), whole);
    }
    whole.map(|result| result.unwrap().unwrap())
}

#[test]
fn null_matches_the_recorded_session() {
    let greeting = greeting::encode("NULL", false, 0);
    let traffic = b"\x00\x05Hello";
    let got = outcome(&local(SocketType::Pull), &[&greeting[..], READY_PUSH, traffic].concat());
    assert_eq!(got.written, [&greeting[..], READY_PULL].concat());
    assert_eq!(got.left, traffic);
    let peer = got.established.unwrap();
    assert_eq!((peer.version, peer.socket_type), (Version::V3_1, Some(SocketType::Push)));
    assert_eq!((peer.identity, peer.user, peer.metadata.len()), (None, None, 0));
}

#[test]
fn identity_is_announced_by_three_types_even_when_empty() {
    let me = LocalSide { identity: Frame::from("me"), ..local(SocketType::Dealer) };
    let greeting = greeting::encode("NULL", false, 0);
    let written = outcome(&me, &greeting).written;
    assert_eq!(written[64..], *b"\x04\x2b\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me");
    let written = outcome(&local(SocketType::Dealer), &greeting).written;
    assert_eq!(written[64..], *b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0");
    let pull = LocalSide { identity: Frame::from("me"), ..local(SocketType::Pull) };
    assert_eq!(outcome(&pull, &greeting).written[64..], *READY_PULL);
}

#[test]
fn ready_goes_out_after_the_peers_greeting_and_not_before() {
    let greeting = greeting::encode("NULL", false, 0);
    assert_eq!(outcome(&local(SocketType::Pull), &greeting[..63]).written, greeting);
    assert_eq!(outcome(&local(SocketType::Pull), &greeting).written.len(), 64 + READY_PULL.len());
}

#[test]
fn our_own_sides_agree_in_every_mechanism() {
    let id = |mut side: LocalSide, id: &str| {
        side.identity = Frame::from(id);
        side
    };
    let [one, two] = agree(id(local(SocketType::Dealer), "d"), id(local(SocketType::Router), "r"));
    assert_eq!((one.identity, two.identity), (Some(Frame::from("r")), Some(Frame::from("d"))));
    let [one, two] = agree(client(SocketType::Req, "secret"), server(SocketType::Rep));
    assert_eq!((one.user, two.user.as_deref()), (None, Some("ann")));
    assert_eq!((one.socket_type, two.socket_type), (Some(SocketType::Rep), Some(SocketType::Req)));
    for (one, two) in [(old(SocketType::Pub), old(SocketType::Sub)), (old(SocketType::Pub), local(SocketType::Sub))] {
        assert!(agree(one, two).iter().all(|peer| peer.version == Version::V3_1));
    }
}

#[test]
fn properties_reach_the_peer_in_every_mechanism() {
    let with = |mut side: LocalSide, properties: &[(&str, &[u8])]| {
        side.properties = properties.iter().map(|&(name, value)| (name.to_owned(), value.to_vec())).collect();
        side
    };
    let holder: &[(&str, &[u8])] = &[("X-Durable", b"1"), ("X-Durable-Name", b"billing")];
    let pairs = [
        (local(SocketType::Sub), local(SocketType::Pub)),
        (client(SocketType::Sub, "secret"), server(SocketType::Pub)),
        (server(SocketType::Sub), client(SocketType::Pub, "secret")),
    ];
    for (one, two) in pairs {
        let [one, two] = agree(with(one, holder), with(two, &holder[..1]));
        let seen = |peer: &Established| -> Vec<(String, Vec<u8>)> {
            peer.metadata.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect()
        };
        let sent = |properties: &[(&str, &[u8])]| -> Vec<(String, Vec<u8>)> {
            properties.iter().map(|&(name, value)| (name.to_owned(), value.to_vec())).collect()
        };
        assert_eq!((seen(&one), seen(&two)), (sent(&holder[..1]), sent(holder)));
    }
    let greeting = greeting::encode("NULL", false, 0);
    let pull = with(local(SocketType::Pull), &holder[..1]);
    let ready = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x04PULL\x09X-Durable\0\0\0\x011";
    assert_eq!(outcome(&pull, &greeting).written[64..], *ready);
}

#[test]
fn plain_matches_the_grammar() {
    let greeting = |role| greeting::encode("PLAIN", role, 0);
    let hello = b"\x04\x11\x05HELLO\x03ann\x06secret";
    let initiate = b"\x04\x1c\x08INITIATE\x0bSocket-Type\0\0\0\x03REQ";
    let got = outcome(&server(SocketType::Rep), &[&greeting(false)[..], hello, initiate].concat());
    let ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REP";
    assert_eq!(got.written, [&greeting(true)[..], b"\x04\x08\x07WELCOME", ready].concat());
    let got = outcome(&client(SocketType::Sub, "secret"), &[&greeting(false)[..], b"\x04\x08\x07WELCOME"].concat());
    let initiate = b"\x04\x1c\x08INITIATE\x0bSocket-Type\0\0\0\x03SUB";
    assert_eq!(got.written, [&greeting(false)[..], hello, initiate].concat());
    assert_eq!((got.established, got.refusal), (None, None));
}

#[test]
fn c14_wrong_users_are_denied_with_400() {
    let denied = b"\x04\x0a\x05ERROR\x03400";
    let greeting = greeting::encode("PLAIN", false, 0);
    for data in [&b"\x03ann\x05secre"[..], b"\x03ann\x00", b"\x00\x00", b"\x03bob\x06secret", b"\x03\xff\xff\xff\x00"] {
        let input = [&greeting[..], &command_frame(b"HELLO", data)].concat();
        let got = outcome(&server(SocketType::Rep), &input);
        assert_eq!(got.written[64..], *denied);
        assert_eq!(got.refusal.unwrap().reason, Reason::AuthDenied);
    }
    for data in [&b""[..], b"\x03an", b"\x03ann", b"\x03ann\x06secre", b"\x03ann\x06secretX"] {
        let reason = in_handshake(&server(SocketType::Rep), &command_frame(b"HELLO", data));
        assert!(matches!(reason, Reason::Malformed(_)), "{data:?}");
    }
    let [client_side, server_side] = meet(client(SocketType::Req, "wrong"), server(SocketType::Rep), 7);
    assert_eq!(client_side.unwrap_err().reason, Reason::PeerError("400".into()));
    assert_eq!(server_side.unwrap_err().reason, Reason::AuthDenied);
    let full = command_frame(b"HELLO", &[&[255][..], &[b'x'; 255], &[255], &[b'y'; 255]].concat());
    assert_eq!(in_handshake(&server(SocketType::Rep), &full), Reason::AuthDenied);
}

#[test]
fn plain_steps_out_of_order_are_unexpected() {
    let hello = command_frame(b"HELLO", b"\x03ann\x06secret");
    let twice = hello.repeat(2);
    let initiate = command_frame(b"INITIATE", b"");
    for input in [&initiate[..], &twice, READY_PUSH, b"\x04\x08\x07WELCOME", b"\x04\x07\x04PING\0\0"] {
        assert_eq!(in_handshake(&server(SocketType::Pull), input), Reason::UnexpectedCommand);
    }
    let welcome = b"\x04\x08\x07WELCOME".repeat(2);
    for input in [&hello[..], READY_PUSH, &welcome] {
        assert_eq!(in_handshake(&client(SocketType::Pull, ""), input), Reason::UnexpectedCommand);
    }
    let reason = in_handshake(&client(SocketType::Pull, ""), &command_frame(b"WELCOME", b"x"));
    assert!(matches!(reason, Reason::Malformed(_)));
    let [one, two] = meet(client(SocketType::Push, ""), client(SocketType::Pull, ""), 64);
    assert!([one, two].into_iter().all(|side| side.unwrap_err().reason == Reason::UnexpectedCommand));
    // Two servers stall; the deadline ends it.
    assert_eq!(meet(server(SocketType::Push), server(SocketType::Pull), 64), [Ok(None), Ok(None)]);
}

#[test]
fn g03_g05_strangers_and_older_versions_are_refused_in_the_greeting() {
    let sides = [local(SocketType::Pull), client(SocketType::Pull, ""), server(SocketType::Pull)];
    for side in &sides {
        for input in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02", &[0; 64], b"\xff\0\0\0\0\0\0\0\x01\x7e"] {
            assert_eq!(refused(side, input), (Phase::Greeting, Reason::NotZmtp));
        }
        for revision in [0, 1] {
            let input = [b"\xff\0\0\0\0\0\0\0\x01\x7f", &[revision][..], b"\x08\x00\x00"].concat();
            assert_eq!(refused(side, &input), (Phase::Greeting, Reason::UnsupportedVersion));
            let secured = LocalSide { zmtp2: true, ..side.clone() };
            if revision == 0 || side.security != Security::Null {
                assert_eq!(refused(&secured, &input), (Phase::Greeting, Reason::UnsupportedVersion));
            }
        }
        let other = greeting::encode("CURVE", false, 0);
        assert_eq!(refused(side, &other), (Phase::Greeting, Reason::MechanismMismatch));
    }
}

#[test]
fn the_greeting_is_staged_only_for_2_0() {
    let stages = |side: LocalSide, input: &[u8]| -> Vec<usize> {
        let mut handshake = Handshake::new(side, Instant::now());
        let mut buffer = BytesMut::new();
        let mut sizes = vec![handshake.take_output().unwrap_or_default().len()];
        for byte in input {
            buffer.extend_from_slice(&[*byte]);
            let _ = handshake.handle_input(&mut buffer);
            sizes.extend(handshake.take_output().map(|bytes| bytes.len()));
        }
        sizes
    };
    let greeting = greeting::encode("NULL", false, 0);
    assert_eq!(stages(local(SocketType::Pull), &greeting), [64, READY_PULL.len()]);
    assert_eq!(stages(old(SocketType::Pull), &greeting), [10, 1, 53, READY_PULL.len()]);
    assert_eq!(stages(LocalSide { zmtp2: true, ..server(SocketType::Pull) }, &greeting)[0], 64);
}

#[test]
fn a_2_0_peer_matches_the_recorded_bytes() {
    // A SUB of libzmq after its signature: revision, type, empty identity, subscription to "A".
    let input = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x02\x00\x00\x00\x02\x01A";
    let got = outcome(&old(SocketType::Pub), input);
    assert_eq!(got.written, b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01\x00\x00");
    assert_eq!(got.left, b"\x00\x02\x01A");
    let peer = got.established.unwrap();
    assert_eq!((peer.version, peer.socket_type, peer.identity), (Version::V2_0, Some(SocketType::Sub), None));
    let router = LocalSide { identity: Frame::from("me"), ..old(SocketType::Router) };
    let got = outcome(&router, b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x00\x02id");
    assert_eq!(got.written[10..], *b"\x03\x06\x00\x02me");
    assert_eq!(got.established.unwrap().identity, Some(Frame::from("id")));
}

#[test]
fn a_2_0_peer_is_checked_too() {
    let after = |bytes: &[u8]| {
        let input = [b"\xff\0\0\0\0\0\0\0\x01\x7f\x01", bytes].concat();
        refused(&old(SocketType::Pub), &input).1
    };
    for number in [8, 11, 255] {
        assert_eq!(after(&[number]), Reason::IncompatibleType);
    }
    for flags in [1, 4] {
        assert!(matches!(after(&[2, flags, 0]), Reason::Malformed(_)));
    }
    assert_eq!(after(b"\x02\x02\0\0\0\0\0\0\xff\xff"), limit("max_handshake_bytes", 32768));
}

#[test]
fn m01_a_truncated_ready_is_malformed() {
    let whole = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me";
    for end in 0..whole.len() {
        let frame = [&[COMMAND, end as u8][..], &whole[..end]].concat();
        // At the edge of a property it is a shorter, but whole, READY.
        if end == 6 || end == 6 + 22 {
            let input = [&greeting::encode("NULL", false, 0)[..], &frame].concat();
            assert!(outcome(&local(SocketType::Router), &input).established.is_some());
        } else {
            let reason = in_handshake(&local(SocketType::Router), &frame);
            assert!(matches!(reason, Reason::Malformed(_)), "{end}: {reason:?}");
        }
    }
}

#[test]
fn m04_m10_sizes_are_refused_from_the_header() {
    let side = local(SocketType::Pull);
    let header = |flags: u8, size: u64| [&[flags | 2][..], &size.to_be_bytes()].concat();
    for size in [16 * 1024 + 10, 1 << 24, 1 << 63, u64::MAX] {
        assert_eq!(in_handshake(&side, &header(COMMAND, size)), limit("max_metadata", 16384));
        assert_eq!(in_handshake(&side, &header(0, size)), Reason::UnexpectedCommand);
    }
    assert!(matches!(in_handshake(&side, &[COMMAND | 1, 5]), Reason::Malformed(_)));
    assert_eq!(in_handshake(&side, b"\x01\x01"), Reason::UnexpectedCommand);
    let big = command_frame(b"READY", &[&b"\x01a\0\0\x40\x01"[..], &[0; 0x4001]].concat());
    assert_eq!(in_handshake(&side, &big), limit("max_metadata", 16384));
    let mut tight = side.clone();
    tight.limits.max_handshake_bytes = 90;
    assert_eq!(in_handshake(&tight, &[COMMAND, 25]), limit("max_handshake_bytes", 90));
}

#[test]
fn m05_a_wrong_type_is_told_before_closing() {
    let greeting = greeting::encode("NULL", false, 0);
    let letters = [b'X'; 255];
    for theirs in [&b"PULL"[..], b"push", b"", b"NONSENSE", &letters] {
        let got = outcome(&local(SocketType::Pull), &[&greeting[..], &ready(theirs)].concat());
        assert_eq!(got.refusal.unwrap(), Refusal { phase: Phase::Handshake, reason: Reason::IncompatibleType });
        let error = &got.written[64 + READY_PULL.len()..];
        assert_eq!(error[2..8], *b"\x05ERROR");
    }
    let missing = outcome(&local(SocketType::Pull), &[&greeting[..], &command_frame(b"READY", b"")].concat());
    assert_eq!(missing.established.unwrap().socket_type, None);
    for one in SocketType::ALL {
        for two in SocketType::ALL {
            let [a, b] = meet(local(one), local(two), usize::MAX);
            assert_eq!((a.is_ok(), b.is_ok()), (one.accepts(two), two.accepts(one)), "{one} {two}");
        }
    }
    let [one, two] = meet(client(SocketType::Req, "secret"), server(SocketType::Pull), 64);
    assert!(matches!(one.unwrap_err().reason, Reason::PeerError(_)));
    assert_eq!(two.unwrap_err().reason, Reason::IncompatibleType);
}

#[test]
fn m06_only_valid_identities_count() {
    let greeting = greeting::encode("NULL", false, 0);
    for (identity, valid) in [
        (vec![], false),
        (vec![b'a'], true),
        (vec![7; 255], true),
        (vec![7; 256], false),
        (vec![0, 1], false),
        (b"a\0\n\x1b".to_vec(), true),
    ] {
        let size = (identity.len() as u32).to_be_bytes();
        let data = [&b"\x08identity"[..], &size, &identity, b"\x03X-a\0\0\0\x01b"].concat();
        let got = outcome(&local(SocketType::Router), &[&greeting[..], &command_frame(b"READY", &data)].concat());
        let peer = got.established.unwrap();
        assert_eq!(peer.identity, valid.then(|| Frame::from(identity)));
        assert_eq!(peer.metadata, [("X-a".to_owned(), Bytes::from_static(b"b"))]);
    }
}

#[test]
fn m07_nothing_but_ready_is_accepted_and_the_command_bit_is_not_needed() {
    let side = local(SocketType::Pull);
    let early: [&[u8]; 6] = [
        b"\x00\x05Hello",
        b"\x00\x00",
        b"\x04\x07\x04PING\0\0",
        b"\x04\x0b\x09SUBSCRIBEA",
        b"\x04\x06\x05HELLO",
        b"\x04\x06\x05ready",
    ];
    for input in early {
        assert_eq!(in_handshake(&side, input), Reason::UnexpectedCommand, "{input:?}");
    }
    let mut message = READY_PUSH.to_vec();
    message[0] = 0;
    let greeting = greeting::encode("NULL", false, 0);
    assert!(outcome(&side, &[&greeting[..], &message].concat()).established.is_some());
    // A second READY belongs to traffic, which ignores it.
    let got = outcome(&side, &[&greeting[..], READY_PUSH, READY_PUSH].concat());
    assert_eq!(got.left, READY_PUSH);
}

#[test]
fn m08_an_error_is_reported_escaped() {
    for side in [local(SocketType::Pull), client(SocketType::Pull, ""), server(SocketType::Pull)] {
        let error = |data: &[u8]| in_handshake(&side, &command_frame(b"ERROR", data));
        assert_eq!(error(b"\x03400"), Reason::PeerError("400".into()));
        assert_eq!(error(b"\x01\x1b"), Reason::PeerError("\\u{1b}".into()));
        assert!(matches!(error(b"\x04400"), Reason::Malformed(_)));
        assert!(matches!(error(b""), Reason::Malformed(_)));
    }
}

#[test]
fn g01_g02_the_deadline_is_not_moved_by_bytes() {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(10);
    let greeting = greeting::encode("NULL", false, 0);
    for (size, phase) in [(0, Phase::Greeting), (63, Phase::Greeting), (64, Phase::Handshake)] {
        let mut handshake = Handshake::new(local(SocketType::Pull), start);
        let _ = handshake.handle_input(&mut BytesMut::from(&greeting[..size]));
        assert_eq!(handshake.deadline(), Some(deadline));
        assert_eq!(handshake.handle_timeout(deadline - Duration::from_nanos(1)), None);
        let refusal = Refusal { phase, reason: Reason::Timeout };
        assert_eq!(handshake.handle_timeout(deadline), Some(refusal.clone()));
        // What comes after a refusal cannot undo it.
        let mut late = BytesMut::from(&[&greeting[..], READY_PUSH].concat()[..]);
        assert_eq!(handshake.handle_input(&mut late), Err(refusal));
        assert_eq!((handshake.deadline(), handshake.handle_timeout(deadline)), (None, None));
    }
    let none = LocalSide { handshake_timeout: Duration::ZERO, ..local(SocketType::Pull) };
    assert_eq!(Handshake::new(none, start).deadline(), None);
    let mut done = Handshake::new(local(SocketType::Pull), start);
    let mut input = BytesMut::from(&[&greeting[..], READY_PUSH].concat()[..]);
    assert!(done.handle_input(&mut input).unwrap().is_some());
    assert_eq!((done.deadline(), done.handle_timeout(deadline)), (None, None));
}

#[test]
fn c16_debug_shows_no_password() {
    let side = client(SocketType::Req, "secret");
    let mut handshake = Handshake::new(side.clone(), Instant::now());
    let _ = handshake.handle_input(&mut BytesMut::from(&greeting::encode("PLAIN", true, 0)[..]));
    for text in [format!("{handshake:?}"), format!("{side:?}"), format!("{:?}", server(SocketType::Rep))] {
        assert!(!text.contains("secret") && !text.contains("builder"), "{text}");
    }
}

#[test]
fn random_bytes_never_panic_and_never_make_a_peer_without_ready() {
    fn property(bytes: Vec<u8>, commands: Vec<Vec<u8>>, picks: Vec<u8>) -> bool {
        let sides = [
            local(SocketType::Router),
            old(SocketType::Sub),
            client(SocketType::Dealer, "x"),
            server(SocketType::Dealer),
        ];
        let names = [&b"READY"[..], b"ERROR", b"HELLO", b"WELCOME", b"INITIATE", b"PING", b""];
        for side in sides {
            let mut session = greeting::encode(side.security.mechanism(), false, 0).to_vec();
            let mut has_ready = false;
            for (data, pick) in commands.iter().zip(&picks) {
                let name = names[usize::from(*pick) % names.len()];
                has_ready |= name == b"READY" || name == b"INITIATE";
                session.extend(command_frame(name, data));
            }
            for input in [&bytes[..], &[b"\xff12345678\x7f\x01", &bytes[..]].concat(), &session] {
                let whole = feed(side.clone(), [input]);
                assert_eq!(feed(side.clone(), input.chunks(1)), whole);
                if input == session {
                    assert!(whole.established.is_none() || has_ready);
                }
            }
        }
        true
    }
    QuickCheck::new().tests(500).quickcheck(property as fn(Vec<u8>, Vec<Vec<u8>>, Vec<u8>) -> bool);
}

#[test]
fn any_flipped_bit_leads_to_a_verdict_without_panic() {
    let sessions = [
        (local(SocketType::Pull), [&greeting::encode("NULL", false, 0)[..], READY_PUSH].concat()),
        (
            server(SocketType::Rep),
            [
                &greeting::encode("PLAIN", false, 0)[..],
                &command_frame(b"HELLO", b"\x03ann\x06secret"),
                &command_frame(b"INITIATE", b"\x0bSocket-Type\0\0\0\x03REQ"),
            ]
            .concat(),
        ),
    ];
    for (side, session) in sessions {
        assert!(feed(side.clone(), [&session[..]]).established.is_some());
        for bit in 0..session.len() * 8 {
            let mut flipped = session.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(feed(side.clone(), flipped.chunks(1)), feed(side.clone(), [&flipped[..]]));
        }
    }
}
