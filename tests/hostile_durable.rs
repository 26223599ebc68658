//! Peers that abuse the durable extension, directories made by hand, and callers in a hurry: no panic, no promise
//! broken, no memory without bound, and the good ones go on.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ginnel::*;
use support::raw::{self, RawListener, RawPeer};
use support::{MIB, Noise, Outcome, Report, Scratch, Watch, eventually, growth_within, resident, soon};

const QUICK: Duration = Duration::from_millis(5);

fn publisher(dir: &Path) -> Builder<Pub> {
    Pub::builder().spool(dir).min_free_disk(0).linger(Duration::from_secs(20)).sync(Sync::Never)
}

fn pusher(dir: &Path) -> Builder<Push> {
    Push::builder().spool(dir).min_free_disk(0).linger(Duration::from_secs(20)).sync(Sync::Never)
}

fn subscriber(name: &str) -> Builder<Sub> {
    Sub::builder().durable(name).subscribe("").reconnect(QUICK, QUICK).linger(Duration::ZERO)
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message[message.len() - 1]).into_owned()
}

fn durable_ready(socket_type: &str, name: Option<&[u8]>) -> Vec<u8> {
    let mut data = [raw::property("Socket-Type", socket_type.as_bytes()), raw::property("X-Durable", b"1")].concat();
    if let Some(name) = name {
        data.extend(raw::property("X-Durable-Name", name));
    }
    raw::command("READY", &data)
}

#[derive(Clone, Copy)]
struct Ask {
    flags: u8,
    window: u32,
    bytes: u32,
    spool: [u8; 16],
    done: u64,
    expiry: u32,
}

impl Default for Ask {
    fn default() -> Ask {
        Ask { flags: 0, window: 1000, bytes: 4 << 20, spool: [0; 16], done: 0, expiry: 0 }
    }
}

fn dstart(ask: Ask) -> Vec<u8> {
    let mut data = vec![ask.flags];
    data.extend(ask.window.to_be_bytes());
    data.extend(ask.bytes.to_be_bytes());
    data.extend(ask.spool);
    data.extend(ask.done.to_be_bytes());
    data.extend(ask.expiry.to_be_bytes());
    raw::command("DSTART", &data)
}

fn dack(cumulative: u64, ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut data = cumulative.to_be_bytes().to_vec();
    data.extend((ranges.len() as u16).to_be_bytes());
    for &(start, length) in ranges {
        data.extend(start.to_be_bytes());
        varint(&mut data, length);
    }
    raw::command("DACK", &data)
}

fn dnack(sequence: u64, delay_ms: u32) -> Vec<u8> {
    let mut data = sequence.to_be_bytes().to_vec();
    data.extend(delay_ms.to_be_bytes());
    data.push(0);
    raw::command("DNACK", &data)
}

fn varint(data: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        data.push(value as u8 | 0x80);
        value >>= 7;
    }
    data.push(value as u8);
}

fn dok(spool: [u8; 16], resume: u64, head: u64) -> Vec<u8> {
    let mut data = vec![0];
    data.extend(spool);
    for number in [resume, head, 1, 0, 0] {
        data.extend(number.to_be_bytes());
    }
    raw::command("DOK", &data)
}

fn derr(code: u16) -> Vec<u8> {
    let mut data = code.to_be_bytes().to_vec();
    data.extend(0_u32.to_be_bytes());
    raw::command("DERR", &data)
}

fn dlv(flags: u8, prev: u64, steps: &[u64]) -> Vec<u8> {
    let mut data = vec![flags, steps.len() as u8];
    data.extend(prev.to_be_bytes());
    steps.iter().for_each(|&step| varint(&mut data, step));
    raw::command("DLV", &data)
}

/// A raw holder, as far as its READY.
async fn raw_holder(endpoint: &Endpoint, kind: &str, name: &[u8]) -> RawPeer {
    let peer = RawPeer::connect(&endpoint.to_string()).await.expect("a connection");
    let bytes = [raw::greeting("NULL"), durable_ready(kind, Some(name))].concat();
    peer.send(&bytes).await.expect("sent");
    soon(peer.read_handshake()).await.expect("READY");
    peer
}

/// A raw spooler that accepted a connection: greeting, READY, and what the holder asks.
async fn raw_spooler(listener: &RawListener, kind: &str) -> (RawPeer, Vec<u8>) {
    let peer = soon(listener.accept()).await;
    let bytes = [raw::greeting("NULL"), durable_ready(kind, None)].concat();
    peer.send(&bytes).await.expect("sent");
    soon(peer.read_handshake()).await.expect("READY");
    let start = soon(peer.read_command("DSTART")).await.expect("DSTART");
    (peer, start.data().to_vec())
}

async fn wait_for_name(publisher: &Pub, name: &str) {
    eventually("a name", || {
        let names = publisher.spool().expect("a spool").names();
        names.iter().any(|known| known.name == name && known.connected())
    })
    .await;
}

fn no_internal_error(watch: &Watch) {
    for event in watch.since(0) {
        assert!(!format!("{event:?}").contains("InternalError"), "{event:?}");
    }
}

async fn bound(builder: Builder<Pub>) -> Pub {
    builder.bind("tcp://127.0.0.1:0").await.expect("bind")
}

// Closing.

#[tokio::test]
async fn close_does_not_wait_for_what_nobody_wanted() {
    for name in ["named", "plain"] {
        let dir = Scratch::new();
        let publisher = bound(publisher(&dir.path("spool"))).await;
        let mut sub = match name {
            "named" => Sub::builder().durable("a"),
            _ => Sub::builder(),
        }
        .subscribe("a")
        .connect(publisher.local_endpoint().expect("bound"))
        .expect("connect");
        soon(publisher.wait_for_subscribers(1)).await.expect("open");
        if name == "named" {
            wait_for_name(&publisher, "a").await;
        }
        soon(publisher.send("a1")).await.expect("accepted");
        assert_eq!(text(&soon(sub.recv()).await.expect("a message")), "a1");
        sub.ack_last();
        eventually("acked", || publisher.spool().expect("a spool").names().iter().all(|name| name.in_flight == 0))
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..3 {
            soon(publisher.send("b")).await.expect("accepted");
        }
        let before = Instant::now();
        let report = soon(publisher.close()).await;
        assert!(before.elapsed() < Duration::from_secs(10), "{name}: close took {:?}, {report:?}", before.elapsed());
    }
}

// Who holds a name.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_ask_at_once_one_gets_the_name() {
    let dir = Scratch::new();
    let publisher = bound(publisher(&dir.path("spool")).declare("a", ["", "x"])).await;
    let endpoint = publisher.local_endpoint().expect("bound");
    for round in 0..60 {
        let mut peers = Vec::new();
        for _ in 0..8 {
            peers.push(raw_holder(&endpoint, "SUB", b"a").await);
        }
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(peers.len()));
        let asking = peers.into_iter().map(|peer| {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait().await;
                peer.send(&[raw::subscribe(b"").as_slice(), &dstart(Ask::default())].concat()).await.expect("sent");
                loop {
                    let Ok(frame) = peer.read_frame().await else { return (peer, false) };
                    if frame.is_command("DOK") || frame.is_command("DERR") {
                        let won = frame.is_command("DOK");
                        return (peer, won);
                    }
                }
            })
        });
        let mut won = Vec::new();
        let mut lost = Vec::new();
        for answer in asking.collect::<Vec<_>>() {
            let (peer, got) = soon(answer).await.expect("no panic");
            if got { won.push(peer) } else { lost.push(peer) }
        }
        assert_eq!(won.len(), 1, "round {round}");
        drop((won, lost));
        eventually("free", || publisher.spool().expect("a spool").names().iter().all(|name| !name.connected())).await;
    }
}

#[tokio::test]
async fn a_holder_that_is_refused_changes_nothing() {
    let dir = Scratch::new();
    let publisher = bound(publisher(&dir.path("spool"))).await;
    let endpoint = publisher.local_endpoint().expect("bound");
    let id = {
        let peer = raw_holder(&endpoint, "SUB", b"a").await;
        peer.send(&[raw::subscribe(b"a").as_slice(), &dstart(Ask::default())].concat()).await.expect("sent");
        let answer = soon(peer.read_command("DOK")).await.expect("DOK");
        <[u8; 16]>::try_from(&answer.data()[1..17]).expect("an id")
    };
    soon(publisher.send("a1")).await.expect("accepted");
    let good = raw_holder(&endpoint, "SUB", b"a").await;
    good.send(&dstart(Ask { window: 1, flags: 4, ..Ask::default() })).await.expect("sent");
    soon(good.read_command("DOK")).await.expect("DOK");
    // Ahead of everything, with another set, and it wants the other out.
    let bad = raw_holder(&endpoint, "SUB", b"a").await;
    let ask = Ask { flags: 4, spool: id, done: u64::MAX, ..Ask::default() };
    bad.send(&[raw::subscribe(b"b").as_slice(), &dstart(ask)].concat()).await.expect("sent");
    soon(bad.read_command("DERR")).await.expect("DERR");
    soon(publisher.send("a2")).await.expect("accepted");
    good.send(&dack(1, &[])).await.expect("the good one stays");
    let mut got = Vec::new();
    while got.len() < 2 {
        got.push(soon(good.read_message()).await.expect("a message")[0].clone());
    }
    assert_eq!(got, [b"a1".to_vec(), b"a2".to_vec()]);
}

// Hostile spoolers.

#[tokio::test]
async fn a_spooler_cannot_speak_for_another() {
    let dir = Scratch::new();
    let good = bound(publisher(&dir.path("spool"))).await;
    let mut sub = subscriber("a").connect(good.local_endpoint().expect("bound")).expect("connect");
    wait_for_name(&good, "a").await;
    soon(good.send("1")).await.expect("accepted");
    assert_eq!(text(&soon(sub.recv()).await.expect("a message")), "1");
    let listener = RawListener::tcp().await;
    sub.connect_to(&listener.endpoint).expect("connect");
    let (bad, start) = raw_spooler(&listener, "PUB").await;
    let id = <[u8; 16]>::try_from(&start[9..25]).expect("an id");
    if id != [0; 16] {
        bad.send(&dok(id, u64::MAX, u64::MAX)).await.expect("sent");
        bad.send(&raw::ping(0, b"x")).await.expect("sent");
        let _ = soon(bad.read_command("PONG")).await;
    }
    for n in 2..5 {
        soon(good.send(n.to_string())).await.expect("accepted");
    }
    for n in 2..5 {
        assert_eq!(text(&soon(sub.recv()).await.expect("a message")), n.to_string());
    }
}

#[tokio::test]
async fn acknowledgements_that_nobody_reads_take_no_memory() {
    let listener = RawListener::tcp().await;
    let mut sub = subscriber("a").connect(&listener.endpoint).expect("connect");
    let (bad, _) = raw_spooler(&listener, "PUB").await;
    bad.send(&dok([7; 16], 0, 1 << 40)).await.expect("sent");
    let reader = tokio::spawn(async move {
        let mut count = 0_u64;
        while sub.recv().await.is_ok() {
            count += 1;
            if count == 400_000 {
                break;
            }
        }
        (sub, count)
    });
    let mut at = 0;
    let before = resident();
    // One at a time, so that each is acknowledged by itself.
    while at < 400_000 {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(dlv(0, at, &[1]));
            bytes.extend(raw::message(&[b"x"]));
            at += 1;
        }
        bad.send(&bytes).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let (sub, count) = soon(reader).await.expect("no panic");
    println!("{count} {}", growth_within(before, 8 * MIB));
    drop(sub);
}

#[tokio::test]
async fn spoolers_that_change_their_name_take_no_memory() {
    let listener = RawListener::tcp().await;
    let sub = subscriber("a").connect(&listener.endpoint).expect("connect");
    let watch = Watch::new(sub.monitor());
    let mut noise = Noise(5);
    for _ in 0..300 {
        let (bad, _) = raw_spooler(&listener, "PUB").await;
        let id: [u8; 16] = noise.bytes(16).try_into().expect("16");
        let kind = noise.next() % 6;
        let bytes = match kind {
            0 => derr(7),
            1 => [dok(id, 0, 9), derr(1), derr(2)].concat(),
            2 => [dok(id, u64::MAX, u64::MAX), dlv(0, u64::MAX - 1, &[1]), raw::message(&[b"x"])].concat(),
            3 => [dok(id, u64::MAX - 1, u64::MAX), dlv(0, u64::MAX - 1, &[1]), raw::message(&[b"x"])].concat(),
            4 => [dok(id, 0, 9), dok(id, 5, 9), dlv(0, 5, &[1; 255])].concat(),
            _ => {
                [dok(id, 3, 9), dlv(4, 0, &[3]), raw::message(&[b"x"]), dlv(4, 9, &[3]), raw::message(&[b"x"])].concat()
            }
        };
        let _ = bad.send(&bytes).await;
        let _ = bad.send(&raw::message(&[b"stray"])).await;
        let _ = bad.send(&raw::error(b"bye")).await;
        bad.drain().await;
    }
    no_internal_error(&watch);
}

// Floods.

#[tokio::test]
async fn many_subscriptions_of_a_name_cost_what_they_are() {
    let dir = Scratch::new();
    let publisher = bound(publisher(&dir.path("spool"))).await;
    let endpoint = publisher.local_endpoint().expect("bound");
    let peer = raw_holder(&endpoint, "SUB", b"a").await;
    peer.send(&dstart(Ask::default())).await.expect("sent");
    soon(peer.read_command("DOK")).await.expect("DOK");
    let begun = Instant::now();
    let mut bytes = Vec::new();
    for n in 0..30_000 {
        bytes.extend(raw::subscribe(format!("topic-{n:08}").as_bytes()));
    }
    bytes.extend(raw::ping(0, b"end"));
    peer.send(&bytes).await.expect("sent");
    soon(peer.read_command("PONG")).await.expect("PONG");
    println!("30,000 subscriptions of a name that is connected: {:?}", begun.elapsed());
    let other = raw_holder(&endpoint, "SUB", b"b").await;
    let begun = Instant::now();
    other.send(&bytes).await.expect("sent");
    other.send(&dstart(Ask::default())).await.expect("sent");
    soon(other.read_command("DOK")).await.expect("DOK");
    println!("30,000 before: {:?}", begun.elapsed());
    drop(other);
    eventually("free", || {
        publisher.spool().expect("a spool").names().iter().all(|name| name.name != "b" || !name.connected())
    })
    .await;
    let other = raw_holder(&endpoint, "SUB", b"b").await;
    let mut bytes = Vec::new();
    for n in 0..30_000 {
        bytes.extend(raw::subscribe(format!("other-{n:08}").as_bytes()));
    }
    let begun = Instant::now();
    other.send(&bytes).await.expect("sent");
    other.send(&dstart(Ask::default())).await.expect("sent");
    soon(other.read_command("DOK")).await.expect("DOK");
    println!("30,000 others instead: {:?}", begun.elapsed());
}

// Retries.

#[tokio::test]
async fn a_worker_without_the_extension_gets_what_was_put_off() {
    let dir = Scratch::new();
    let push = pusher(&dir.path("spool")).plain_pull(true);
    let push = push.bind("tcp://127.0.0.1:0").await.expect("bind");
    let capable = raw_holder(&push.local_endpoint().expect("bound"), "PULL", b"w").await;
    capable.send(&dstart(Ask { flags: 1, ..Ask::default() })).await.expect("sent");
    soon(capable.read_command("DOK")).await.expect("DOK");
    soon(push.send("x")).await.expect("accepted");
    soon(capable.read_message()).await.expect("a message");
    let plain = RawPeer::connect(&push.local_endpoint().expect("bound").to_string()).await.expect("a connection");
    plain.send(&[raw::greeting("NULL"), raw::ready("PULL")].concat()).await.expect("sent");
    soon(plain.read_handshake()).await.expect("READY");
    capable.send(&dnack(1, 500)).await.expect("sent");
    eventually("nacked", || push.spool().expect("a spool").names().iter().any(|name| name.nacked > 0)).await;
    drop(capable);
    let got = tokio::time::timeout(Duration::from_secs(15), plain.read_message()).await;
    assert_eq!(got.expect("it comes").expect("a message"), [b"x".to_vec()]);
}

#[allow(dead_code)]
fn unused(_: Outcome, _: &Report, _: PathBuf) {}
