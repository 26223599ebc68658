//! Subscribers that ask for too much, for nonsense, or the wrong one (P1, P2, P3, P4).

mod support;

use std::collections::HashSet;

use ginnel::*;
use support::raw::{self, RawListener, RawPeer};
use support::rig::{ROLES, Rig, Role, Row, Setup, Transport, run_rows};
use support::{MIB, Noise, Outcome, Report, eventually, growth_within, resident, soon};

/// How a topic is put into bytes.
type Form = fn(&[u8]) -> Vec<u8>;

fn over(which: &'static str, limit: u64) -> Outcome {
    Outcome::Disconnected(Reason::LimitExceeded { which, limit })
}

/// A row whose bytes follow a whole handshake.
fn row(name: impl Into<String>, bytes: Vec<u8>, expected: Outcome) -> Row {
    Row::by_type(name, move |kind| [raw::session(kind), bytes.clone()].concat(), expected)
}

/// A subscription in the form of older peers.
fn old_subscribe(topic: &[u8]) -> Vec<u8> {
    raw::frame(0, &[&[1], topic].concat())
}

fn old_cancel(topic: &[u8]) -> Vec<u8> {
    raw::frame(0, &[&[0], topic].concat())
}

fn publishers() -> Vec<Setup> {
    [SocketType::Pub, SocketType::XPub].map(|kind| Setup::new(kind, Transport::Tcp)).to_vec()
}

const KIB_64: usize = 64 * 1024;

fn limits() -> Vec<Row> {
    let topic = |size| vec![b't'; size];
    let too_long = || over("max_topic", KIB_64 as u64);
    vec![
        row(
            "S01 topic of 64 KiB",
            [raw::subscribe(&topic(KIB_64)), raw::cancel(&topic(KIB_64))].concat(),
            Outcome::Connected,
        ),
        row("S01 topic of 64 KiB + 1", raw::subscribe(&topic(KIB_64 + 1)), too_long()),
        row("S01 topic of 8 MiB", raw::subscribe(&topic(8 * MIB)), too_long()),
        row("S01 cancel of 64 KiB + 1", raw::cancel(&topic(KIB_64 + 1)), too_long()),
        row("S01 topic of 64 KiB, old form", old_subscribe(&topic(KIB_64)), Outcome::Connected),
        row("S01 topic of 64 KiB + 1, old form", old_subscribe(&topic(KIB_64 + 1)), too_long()),
        row("S01 cancel of 64 KiB + 1, old form", old_cancel(&topic(KIB_64 + 1)), too_long()),
        row("S03 cancel of what never was", [raw::cancel(b"never"), raw::cancel(b"")].concat(), Outcome::Connected),
    ]
}

fn heavy_limits() -> Vec<Row> {
    let distinct = |count: u32| (0..count).flat_map(|n| raw::subscribe(&n.to_be_bytes())).collect::<Vec<u8>>();
    let long = |n: u32| [&n.to_be_bytes()[..], &[b't'; 996]].concat();
    // 1,000 bytes and 64 of charge each: 7,884 are within 8 MiB.
    let heavy = |count: u32| (0..count).flat_map(|n| raw::subscribe(&long(n))).collect::<Vec<u8>>();
    vec![
        row("S02 100,000 topics", distinct(100_000), Outcome::Connected),
        row("S02 100,001 topics", distinct(100_001), over("max_subscriptions", 100_000)),
        row("S02 8 MiB of topics", heavy(7_884), Outcome::Connected),
        row("S02 8 MiB of topics, and one more", heavy(7_885), over("max_subscription_bytes", 8 * MIB as u64)),
    ]
}

fn few_topics() -> Vec<Row> {
    let distinct = |count: u32| (0..count).flat_map(|n| raw::subscribe(&n.to_be_bytes())).collect::<Vec<u8>>();
    let again = [distinct(1000), distinct(1000), raw::cancel(&[0; 4]), raw::subscribe(b"another")].concat();
    vec![
        row("S02 max_subscriptions, some of them twice", again, Outcome::Connected),
        row("S02 max_subscriptions + 1", distinct(1001), over("max_subscriptions", 1000)),
    ]
}

/// A publisher, and a raw subscriber at either end.
struct Stage {
    sender: Sender,
    socket: Socket,
    peer: RawPeer,
    _listener: Option<RawListener>,
}

impl Stage {
    async fn new(kind: SocketType, role: Role, hello: &[u8]) -> Stage {
        let (sender, socket) = match kind {
            SocketType::Pub => {
                let publisher = Pub::new();
                let (sender, socket): (&Sender, &Socket) = (&publisher, &publisher);
                (sender.clone(), socket.clone())
            }
            _ => {
                let (sender, mut receiver) = XPub::new().split();
                tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
                let socket: &Socket = &sender;
                let socket = socket.clone();
                (sender, socket)
            }
        };
        let (peer, listener) = match role {
            Role::Server => {
                let endpoint = socket.bind_to("tcp://127.0.0.1:0").await.expect("a place to listen");
                (RawPeer::connect(&endpoint.to_string()).await.expect("a connection"), None)
            }
            Role::Client => {
                let listener = RawListener::tcp().await;
                socket.connect_to(&listener.endpoint).expect("an endpoint");
                (soon(listener.accept()).await, Some(listener))
            }
        };
        peer.send(hello).await.expect("an open connection");
        soon(peer.read_handshake()).await.expect("a handshake");
        Stage { sender, socket, peer, _listener: listener }
    }

    async fn of(kind: SocketType, role: Role) -> Stage {
        Stage::new(kind, role, &raw::session(kind)).await
    }

    /// Sends these commands, and waits until they are carried out.
    async fn command(&self, bytes: &[u8]) {
        self.peer.send(bytes).await.expect("an open connection");
        self.peer.send(&raw::ping(0, b"done?")).await.expect("an open connection");
        while soon(self.peer.read_command("PONG")).await.expect("a PONG").data() != b"done?" {}
    }

    /// Publishes these topics; which ones arrived? `end` is subscribed for this.
    async fn publish(&self, topics: &[&[u8]]) -> Vec<Vec<u8>> {
        self.command(&raw::subscribe(b"\xffend")).await;
        let publishing = async {
            for &topic in topics.iter().chain([&&b"\xffend"[..]]) {
                let _ = self.sender.send(topic).await.expect("an open socket");
            }
        };
        let reading = async {
            let mut arrived = Vec::new();
            loop {
                let message = self.peer.read_message().await.expect("an open connection").concat();
                if message == b"\xffend" {
                    return arrived;
                }
                arrived.push(message);
            }
        };
        tokio::join!(publishing, soon(reading)).1
    }
}

/// S01 and S05 on a small stack: nothing recurses as deep as a topic is long or as sets are nested.
fn small_stack(kind: SocketType) -> String {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let stage = Box::pin(Stage::of(kind, Role::Server)).await;
            let long = vec![b'a'; KIB_64];
            stage.command(&raw::subscribe(&long)).await;
            assert_eq!(stage.publish(&[&long, &long[1..]]).await, [&long[..]]);
            // Each one inside of the next: with 64 of charge each they are within 8 MiB.
            for len in 1..2000 {
                stage.peer.send(&raw::subscribe(&long[..len])).await.expect("an open connection");
            }
            assert_eq!(stage.publish(&[&long[..5], b"b"]).await, [&long[..5]]);
            for len in (1..2000).step_by(2) {
                stage.peer.send(&raw::cancel(&long[..len])).await.expect("an open connection");
            }
            assert_eq!(stage.publish(&[&long[..2], &long[..1]]).await, [&long[..2]]);
            drop(stage.peer);
            eventually("the subscriber has left", || stage.socket.peers().is_empty()).await;
        });
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(work).expect("a thread");
    thread.join().expect("no overflow");
    "delivered".to_owned()
}

/// S02: a subscriber's topics go with it.
async fn memory_comes_back() -> String {
    let publisher = Pub::bind("tcp://127.0.0.1:0").await.expect("a socket");
    let endpoint = publisher.local_endpoint().expect("bound").to_string();
    let mut noise = Noise(2);
    let mut after_first = None;
    for round in 0..3 {
        let peer = RawPeer::connect(&endpoint).await.expect("a connection");
        let mut bytes = raw::session(SocketType::Pub);
        for _ in 0..40_000 {
            bytes.extend(raw::subscribe(&noise.bytes(30)));
        }
        peer.send(&bytes).await.expect("an open connection");
        eventually("40,000 topics", || publisher.peers().iter().any(|peer| peer.subscriptions == 40_000)).await;
        drop(peer);
        eventually("the subscriber has left", || publisher.peers().is_empty()).await;
        if round == 0 {
            after_first = resident();
        }
    }
    growth_within(after_first, 24 * MIB)
}

/// S03: taking back what never was changes nothing.
async fn cancels(kind: SocketType, role: Role) -> String {
    let stage = Stage::of(kind, role).await;
    stage.command(&[raw::subscribe(b"abc"), raw::subscribe(b"x")].concat()).await;
    for never in [&b""[..], b"a", b"ab", b"abcd", b"zz"] {
        stage.command(&[raw::cancel(never), raw::cancel(never), old_cancel(never)].concat()).await;
        assert_eq!(stage.publish(&[b"abc1", b"ab", b"x"]).await, [&b"abc1"[..], b"x"]);
    }
    stage.command(&[raw::cancel(b"abc"), raw::cancel(b"abc")].concat()).await;
    assert_eq!(stage.publish(&[b"abc1", b"x"]).await, [&b"x"[..]]);
    // A set: two subscriptions are one.
    stage.command(&[raw::subscribe(b"abc"), raw::subscribe(b"abc"), raw::cancel(b"abc")].concat()).await;
    assert_eq!(stage.publish(&[b"abc1", b"x"]).await, [&b"x"[..]]);
    stage.command(&[raw::subscribe(b""), raw::cancel(b"x")].concat()).await;
    assert_eq!(stage.publish(&[b"anything"]).await, [&b"anything"[..]]);
    stage.command(&raw::cancel(b"")).await;
    assert_eq!(stage.publish(&[b"anything", b"x"]).await, [&b""[..]; 0]);
    "no-op".to_owned()
}

/// S04 and S06: a million of something costs nobody anything.
async fn a_million(kind: SocketType, unit: Vec<u8>, count: usize, counted: bool) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let stranger = rig.admitted(Role::Server).await;
    let reading = stranger.peer.clone();
    let drain = tokio::spawn(async move { reading.drain().await });
    let before = resident();
    let chunk = unit.repeat(1000);
    let mut sent = 0;
    while sent < count {
        soon(stranger.peer.send(&chunk)).await.expect("an open connection");
        sent += 1000;
    }
    if counted {
        let unused = || rig.socket.stats().drops.get(DropReason::Unused);
        eventually("all of them are read", || unused() >= count as u64).await;
        assert_eq!(unused(), count as u64);
    }
    rig.trips_go_on().await;
    let memory = growth_within(before, 16 * MIB);
    drain.abort();
    let _ = drain.await;
    rig.leaves(stranger).await;
    rig.finish().await;
    format!("Connected, {}{memory}", if counted { "counted as Unused, " } else { "" })
}

/// S05: sets that are bad for the matcher give what a list would give.
async fn worst_sets(kind: SocketType) -> String {
    let mut noise = Noise(5);
    let chain: Vec<Vec<u8>> = (1..400).map(|len| vec![b'a'; len]).collect();
    let random: Vec<Vec<u8>> = (0..5_000).map(|_| noise.bytes(30)).collect();
    let single: Vec<Vec<u8>> = (0..=254).map(|byte| vec![byte]).collect();
    let mut split: Vec<Vec<u8>> = (0..300).map(|n| [vec![b'a'; n], vec![b'b']].concat()).collect();
    split.push(b"c".to_vec());
    for set in [chain, random, single, split] {
        let stage = Stage::of(kind, Role::Server).await;
        stage.command(&set.iter().flat_map(|topic| raw::subscribe(topic)).collect::<Vec<u8>>()).await;
        let mut topics = Vec::new();
        for _ in 0..200 {
            let mut topic = set[noise.next() as usize % set.len()].clone();
            match noise.next() % 4 {
                0 => topic.truncate(noise.next() as usize % (topic.len() + 1)),
                1 => topic.extend(noise.bytes(5)),
                2 => topic[0] ^= 1,
                _ => {}
            }
            topics.push(topic);
        }
        let known: HashSet<&[u8]> = set.iter().map(Vec::as_slice).collect();
        let wanted = |topic: &[u8]| (0..=topic.len()).any(|len| known.contains(&topic[..len]));
        let expected: Vec<Vec<u8>> = topics.iter().filter(|topic| wanted(topic)).cloned().collect();
        let topics: Vec<&[u8]> = topics.iter().map(Vec::as_slice).collect();
        assert_eq!(stage.publish(&topics).await, expected);
    }
    "as a list would".to_owned()
}

/// S07: subscriptions to types that do not publish are dropped and counted, and messages after them arrive.
async fn to_non_publishers(kind: SocketType, role: Role) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let stranger = rig.admitted(role).await;
    let unused = || rig.socket.stats().drops.get(DropReason::Unused);
    let before = unused();
    let bytes = [raw::subscribe(b"A"), raw::cancel(b"A"), raw::subscribe(b"")].concat();
    stranger.peer.send(&bytes).await.expect("an open connection");
    stranger.peer.send(&raw::ping(0, b"")).await.expect("an open connection");
    soon(stranger.peer.read_command("PONG")).await.expect("a PONG");
    assert_eq!(unused() - before, 3);
    rig.leaves(stranger).await;
    assert_eq!(rig.take_strays(), Vec::<Message>::new());
    rig.finish().await;
    "dropped, counted as Unused".to_owned()
}

/// S08: an XPUB whose application never reads its subscriptions holds back the peer that sends them.
async fn unread_upstream() -> String {
    let xpub = XPub::builder().max_subscriptions(1_000_000).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let endpoint = xpub.local_endpoint().expect("bound").to_string();
    let mut good = Sub::builder().subscribe("good").connect(&*endpoint).expect("an endpoint");
    soon(xpub.wait_for_subscribers(1)).await.expect("an open socket");
    let before = resident();
    let peer = RawPeer::connect(&endpoint).await.expect("a connection");
    let name = peer.name.clone();
    let flood = tokio::spawn(async move {
        peer.send(&raw::session(SocketType::XPub)).await.expect("an open connection");
        let mut noise = Noise(8);
        for _ in 0..500 {
            let chunk: Vec<u8> = (0..1000).flat_map(|_| raw::subscribe(&noise.bytes(100))).collect();
            if peer.send(&chunk).await.is_err() {
                break; // The socket was closed over it.
            }
        }
    });
    let unread = || xpub.peers().iter().find(|peer| peer.address == name).map_or(0, |peer| peer.unread);
    eventually("the receive queue is full", || unread() >= 1000).await;
    for _ in 0..50 {
        let _ = xpub.send("good").await.expect("an open socket");
        assert_eq!(soon(good.recv()).await.expect("a message")[0], "good");
    }
    assert!(unread() <= 1001, "{} unread", unread());
    assert!(!flood.is_finished(), "55 MB are in no socket buffer");
    let memory = growth_within(before, 16 * MIB);
    flood.abort();
    format!("held back at the receive mark, {memory}")
}

/// S09: both forms, from peers of both versions, mean the same.
async fn both_forms(kind: SocketType, minor: u8) -> String {
    let hello = [raw::greeting_of(3, minor, b"NULL"), raw::ready("SUB")].concat();
    for role in ROLES {
        let stage = Stage::new(kind, role, &hello).await;
        let forms: [(Form, Form); 4] = [
            (raw::subscribe, raw::cancel),
            (old_subscribe, old_cancel),
            (raw::subscribe, old_cancel),
            (old_subscribe, raw::cancel),
        ];
        for size in [1, 244, 245, 246, 254, 255, 256, 300] {
            let topic = vec![b'T'; size];
            for (subscribe, cancel) in forms {
                stage.command(&[subscribe(&topic), subscribe(&topic)].concat()).await;
                assert_eq!(stage.publish(&[&topic, &topic[1..], b"other"]).await, [&topic[..]], "{size}");
                stage.command(&cancel(&topic)).await;
                assert_eq!(stage.publish(&[&topic]).await, [&b""[..]; 0], "{size}");
            }
        }
    }
    "same result".to_owned()
}

/// S09: and we write each form to the peer that knows it.
async fn written_forms(kind: SocketType) -> String {
    for (minor, size) in [(0, 1), (0, 254), (0, 255), (0, 256), (1, 1), (1, 245), (1, 246), (1, 255)] {
        let topic = vec![b'T'; size];
        let listener = RawListener::tcp().await;
        let socket: Socket = match kind {
            SocketType::Sub => {
                let sub = Sub::builder().subscribe(&topic).connect(&*listener.endpoint).expect("an endpoint");
                let socket: &Socket = &sub;
                socket.clone()
            }
            _ => {
                let xsub = XSub::builder().subscribe(&topic).connect(&*listener.endpoint).expect("an endpoint");
                let socket: &Socket = &xsub;
                socket.clone()
            }
        };
        let peer = soon(listener.accept()).await;
        let hello = [raw::greeting_of(3, minor, b"NULL"), raw::ready("PUB")].concat();
        peer.send(&hello).await.expect("an open connection");
        soon(peer.read_handshake()).await.expect("a handshake");
        let frame = soon(peer.read_frame()).await.expect("a subscription");
        if minor == 0 {
            assert_eq!((frame.flags & raw::COMMAND, &frame.body), (0, &[&[1], &topic[..]].concat()));
        } else {
            assert_eq!((frame.is_command("SUBSCRIBE"), frame.data()), (true, &topic[..]));
        }
        // Closing waits a moment for a peer that keeps its side open.
        drop(peer);
        soon(socket.close()).await;
    }
    "3.0: message, 3.1: command".to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_p04_hostile_subscriptions() {
    use SocketType::{Pub, Push, Sub, XPub, XSub};
    let report = Report::new("hostile subscriptions");
    report.row("S02 memory returned after close", memory_comes_back()).await;
    report.row("S08 500,000 that nobody reads", unread_upstream()).await;
    let duplicate = raw::subscribe(b"same");
    report.row("S04 one topic 1,000,000 times", a_million(Pub, duplicate, 1_000_000, false)).await;
    for kind in [Pub, XPub] {
        let pair = [raw::subscribe(b"same"), raw::cancel(b"same")].concat();
        report.row("S04 50,000 subscribed and cancelled", a_million(kind, pair, 50_000, false)).await;
    }
    for kind in [Pub, Push] {
        let message = raw::message(&[b"user", b"message"]);
        report.row("S06 1,000,000 messages", a_million(kind, message, 1_000_000, true)).await;
    }
    run_rows(&report, publishers(), &ROLES, limits()).await;
    let heavy = Setup::new(Pub, Transport::Tcp);
    let few = publishers().into_iter().map(|setup| setup.option("max_subscriptions", "1000")).collect();
    tokio::join!(
        run_rows(&report, vec![heavy], &[Role::Server], heavy_limits()),
        run_rows(&report, few, &ROLES, few_topics()),
    );
    for kind in [Pub, XPub] {
        let stack = tokio::task::spawn_blocking(move || small_stack(kind));
        report.row("S01 on a stack of 256 KiB", async move { stack.await.expect("no panic") }).await;
        for role in ROLES {
            report.row("S03 cancels of what never was", cancels(kind, role)).await;
        }
        report.row("S05 sets that are bad to match", worst_sets(kind)).await;
        report.row("S09 both forms, 3.0 and 3.1", both_forms(kind, 0)).await;
        report.row("S09 both forms, 3.0 and 3.1", both_forms(kind, 1)).await;
    }
    for kind in [Sub, XSub] {
        report.row("S09 forms that we send", written_forms(kind)).await;
    }
    for kind in SocketType::ALL.into_iter().filter(|kind| !matches!(kind, Pub | XPub)) {
        for role in ROLES {
            report.row("S07 to types that do not publish", to_non_publishers(kind, role)).await;
        }
    }
    report.finish();
}
