//! Peers that abuse the durable extension, directories made by hand, and callers in a hurry: no panic, no promise
//! broken, no memory without bound, and the good ones go on.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use ginnel::*;
use support::raw::{self, RawListener, RawPeer};
use support::{MIB, Noise, Scratch, Watch, eventually, growth_within, resident, soon};

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

/// Sends one message of this number.
type SendOne =
    std::sync::Arc<dyn Fn(u64) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + std::marker::Sync>;

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
#[ignore = "measures the whole process's memory: run it alone"]
async fn acknowledgements_that_nobody_reads_take_no_memory() {
    let listener = RawListener::tcp().await;
    let mut sub = subscriber("a").connect(&listener.endpoint).expect("connect");
    let (bad, _) = raw_spooler(&listener, "PUB").await;
    bad.send(&dok([7; 16], 0, 1 << 40)).await.expect("sent");
    let reader = tokio::spawn(async move {
        let mut count = 0_u64;
        while sub.recv().await.is_ok() {
            count += 1;
            if count == 3_000_000 {
                break;
            }
        }
        (sub, count)
    });
    let mut at = 0;
    let before = resident();
    // One at a time, so that each is acknowledged by itself.
    while at < 3_000_000 {
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
    capable.send(&dnack(1, 3000)).await.expect("sent");
    eventually("nacked", || push.spool().expect("a spool").names().iter().any(|name| name.nacked > 0)).await;
    drop(capable);
    let got = tokio::time::timeout(Duration::from_secs(15), plain.read_message()).await;
    assert_eq!(got.expect("it comes").expect("a message"), [b"x".to_vec()]);
}

// Everything out of order.

/// One command or piece of one, sound or not.
fn junk(noise: &mut Noise, id: [u8; 16]) -> Vec<u8> {
    let numbers = [0, 1, 2, 3, 5, 10, 1000, u64::MAX - 1, u64::MAX, noise.next()];
    let mut any = || numbers[(noise.next() % 10) as usize];
    let (a, b, c) = (any(), any(), any());
    let ask = Ask {
        flags: (a % 9) as u8,
        window: b as u32,
        bytes: c as u32,
        spool: if a % 2 == 0 { id } else { [0; 16] },
        done: c,
        expiry: a as u32,
    };
    let bytes = match noise.next() % 14 {
        0 | 1 => dstart(ask),
        2 => dack(a, &[]),
        3 => dack(0, &[(a, b)]),
        4 => dack(0, &[(1, 1), (a, b), (c, 1)]),
        5 => dnack(a, b as u32),
        6 => raw::command("DEND", b""),
        7 => dok(id, a, b),
        8 => derr(a as u16),
        9 => dlv((a % 9) as u8, b, &vec![c; (a % 256) as usize]),
        10 => raw::subscribe(&a.to_be_bytes()),
        11 => raw::cancel(&a.to_be_bytes()),
        12 => raw::message(&[&a.to_be_bytes(), b"x"]),
        _ => raw::command("DHEAD", &[a.to_be_bytes(), b.to_be_bytes()].concat()),
    };
    match noise.next() % 8 {
        0 => {
            let cut = (noise.next() as usize) % bytes.len();
            let data = &bytes[cut..];
            raw::command(["DACK", "DLV", "DNACK", "DSTART"][(c % 4) as usize], &data[..data.len().min(60)])
        }
        _ => bytes,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_that_send_anything_hurt_nobody_else() {
    for kind in ["PUB", "PUSH"] {
        let dir = Scratch::new();
        let builder = |b: Builder<Pub>| b.max_names(8);
        let (socket, stop);
        let spool_dir = dir.path("spool");
        let (endpoint, watch, mut good);
        let sender: SendOne;
        if kind == "PUB" {
            let publisher = std::sync::Arc::new(bound(builder(publisher(&spool_dir))).await);
            endpoint = publisher.local_endpoint().expect("bound");
            watch = Watch::new(publisher.monitor());
            good = Good::Sub(subscriber("good").connect(&endpoint).expect("connect"));
            wait_for_name(&publisher, "good").await;
            let theirs = publisher.clone();
            sender = std::sync::Arc::new(move |n| {
                let publisher = theirs.clone();
                Box::pin(async move {
                    soon(publisher.send(n.to_string())).await.expect("accepted");
                })
            });
            (socket, stop) = (Some(publisher), None);
        } else {
            let push = std::sync::Arc::new(pusher(&spool_dir).bind("tcp://127.0.0.1:0").await.expect("bind"));
            endpoint = push.local_endpoint().expect("bound");
            watch = Watch::new(push.monitor());
            let pull = Pull::builder().durable("good").reconnect(QUICK, QUICK).linger(Duration::ZERO);
            good = Good::Pull(pull.connect(&endpoint).expect("connect"));
            let theirs = push.clone();
            sender = std::sync::Arc::new(move |n| {
                let push = theirs.clone();
                Box::pin(async move {
                    soon(push.send(n.to_string())).await.expect("accepted");
                })
            });
            (socket, stop) = (None, Some(push));
        }
        let hostile = (0..4_u64).map(|seed| {
            let endpoint = endpoint.clone();
            let kind = if kind == "PUB" { "SUB" } else { "PULL" };
            tokio::spawn(async move {
                let mut noise = Noise(seed);
                for round in 0..80_u64 {
                    let name = match noise.next() % 5 {
                        0 => b"bad".to_vec(),
                        1 => format!("bad{round}").into_bytes(),
                        2 => noise.bytes(40),
                        3 => vec![b'n'; 65],
                        _ => format!("bad-{seed}").into_bytes(),
                    };
                    let Ok(peer) = RawPeer::connect(&endpoint.to_string()).await else { continue };
                    let hello = [raw::greeting("NULL"), durable_ready(kind, Some(&name))].concat();
                    let _ = peer.send(&hello).await;
                    if noise.next().is_multiple_of(2) {
                        let _ = peer
                            .send(&dstart(Ask { flags: 4, window: u32::MAX, bytes: u32::MAX, ..Ask::default() }))
                            .await;
                    }
                    for _ in 0..noise.next() % 12 {
                        if peer.send(&junk(&mut noise, [0; 16])).await.is_err() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    match noise.next() % 3 {
                        0 => peer.reset(),
                        1 => drop(peer.finish()),
                        _ => drop(tokio::time::timeout(Duration::from_millis(20), peer.drain()).await),
                    }
                }
            })
        });
        let hostile: Vec<_> = hostile.collect();
        let total = 300;
        let sending = tokio::spawn(async move {
            for n in 0..total {
                sender(n).await;
                tokio::task::yield_now().await;
            }
        });
        let mut got = Vec::new();
        // A worker's records may be with a stranger first, who keeps them until he goes.
        while got.len() < total as usize
            && !(kind == "PUSH" && sending.is_finished() && hostile.iter().all(|task| task.is_finished()))
        {
            if let Ok(message) = tokio::time::timeout(Duration::from_secs(5), good.recv()).await {
                got.push(text(&message.expect("open")).parse::<u64>().expect("a number"));
            } else if kind == "PUB" {
                panic!(
                    "{} of {total}; {:#?}",
                    got.len(),
                    socket.as_ref().map(|publisher| publisher.spool().expect("a spool").names())
                );
            }
        }
        if kind == "PUB" {
            assert_eq!(got, (0..total).collect::<Vec<_>>());
        }
        for task in hostile {
            soon(task).await.expect("no panic");
        }
        soon(sending).await.expect("no panic");
        no_internal_error(&watch);
        drop((socket, stop));
    }
}

enum Good {
    Sub(Sub),
    Pull(Pull),
}

impl Good {
    async fn recv(&mut self) -> Result<Message, RecvError> {
        match self {
            Good::Sub(sub) => sub.recv().await,
            Good::Pull(pull) => pull.recv().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spoolers_that_send_anything_hurt_nobody_else() {
    let dir = Scratch::new();
    let good = bound(publisher(&dir.path("spool"))).await;
    let mut sub = subscriber("a").bind("tcp://127.0.0.1:0").await.expect("bind");
    sub.connect_to(good.local_endpoint().expect("bound")).expect("connect");
    wait_for_name(&good, "a").await;
    let watch = Watch::new(sub.monitor());
    let endpoint = sub.local_endpoint().expect("bound");
    let hostile: Vec<_> = (0..4_u64)
        .map(|seed| {
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                let mut noise = Noise(seed + 100);
                for _ in 0..100 {
                    let Ok(peer) = RawPeer::connect(&endpoint.to_string()).await else { continue };
                    let _ = peer.send(&[raw::greeting("NULL"), durable_ready("PUB", None)].concat()).await;
                    let id: [u8; 16] = noise.bytes(16).try_into().expect("16");
                    if !noise.next().is_multiple_of(3) {
                        let _ = peer.send(&dok(id, noise.next() % 3, 1000)).await;
                    }
                    for _ in 0..noise.next() % 12 {
                        let _ = peer.send(&junk(&mut noise, id)).await;
                        tokio::task::yield_now().await;
                    }
                    match noise.next() % 3 {
                        0 => peer.reset(),
                        1 => drop(peer.finish()),
                        _ => drop(tokio::time::timeout(Duration::from_millis(20), peer.drain()).await),
                    }
                }
            })
        })
        .collect();
    let sending = tokio::spawn(async move {
        for n in 0..300 {
            soon(good.send(format!("good {n}"))).await.expect("accepted");
            tokio::task::yield_now().await;
        }
        good
    });
    let mut next = 0;
    while next < 300 {
        let message = soon(sub.recv()).await.expect("open");
        let text = text(&message);
        if let Some(n) = text.strip_prefix("good ") {
            assert_eq!(n, next.to_string());
            next += 1;
        }
    }
    for task in hostile {
        soon(task).await.expect("no panic");
    }
    drop(soon(sending).await);
    no_internal_error(&watch);
}

// Directories made by hand.

#[cfg(unix)]
#[tokio::test]
async fn a_directory_made_by_hand_opens_or_says_why() {
    use std::os::unix::fs::symlink;
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 14] = [
        ("directory like a segment", |dir| std::fs::create_dir(dir.join("00000000000000000500.seg")).expect("made")),
        ("directory like a registry", |dir| {
            std::fs::remove_file(dir.join("names.a")).expect("gone");
            std::fs::create_dir(dir.join("names.a")).expect("made");
        }),
        ("directory like a spare", |dir| std::fs::create_dir_all(dir.join("spare-0.tmp")).expect("made")),
        ("file like damaged", |dir| std::fs::write(dir.join("damaged"), b"x").expect("made")),
        ("file like delay", |dir| {
            let _ = std::fs::remove_dir_all(dir.join("delay"));
            std::fs::write(dir.join("delay"), b"x").expect("made");
        }),
        ("file like dead", |dir| {
            let _ = std::fs::remove_dir_all(dir.join("dead"));
            std::fs::write(dir.join("dead"), b"x").expect("made");
        }),
        ("empty segment far on", |dir| std::fs::write(dir.join("00000000000900000000.seg"), b"").expect("made")),
        ("segment with the last number", |dir| {
            std::fs::write(dir.join("18446744073709551615.seg"), b"").expect("made")
        }),
        ("segment number too large", |dir| std::fs::write(dir.join("99999999999999999999.seg"), b"").expect("made")),
        ("copied segment", |dir| {
            std::fs::copy(dir.join("00000000000000000001.seg"), dir.join("00000000000000000050.seg")).expect("copied");
        }),
        ("link as segment", |dir| {
            symlink("00000000000000000001.seg", dir.join("00000000000000000070.seg")).expect("link")
        }),
        ("dangling link as segment", |dir| symlink("nowhere", dir.join("00000000000000000080.seg")).expect("link")),
        ("thousands of files", |dir| {
            for n in 0..3000 {
                std::fs::write(dir.join(format!("{:020}.seg", 1_000_000 + n)), b"short").expect("made");
            }
        }),
        ("empty registry", |dir| {
            std::fs::write(dir.join("names.a"), b"").expect("made");
            std::fs::write(dir.join("names.b"), b"").expect("made");
        }),
    ];
    for (what, spoil) in spoils {
        let dir = Scratch::new();
        let path = dir.path("spool");
        {
            let publisher = publisher(&path).declare("a", [""]).build().expect("a spool");
            for n in 0..100 {
                soon(publisher.send(n.to_string())).await.expect("accepted");
            }
            soon(publisher.close()).await;
        }
        spoil(&path);
        let begun = Instant::now();
        match publisher(&path).declare("a", [""]).build() {
            Err(error) => println!("{what}: refused: {error}"),
            Ok(publisher) => {
                publisher.bind_to("tcp://127.0.0.1:0").await.expect("bind");
                let watch = Watch::new(publisher.monitor());
                let mut sub = subscriber("a").connect(publisher.local_endpoint().expect("bound")).expect("connect");
                soon(publisher.send("end")).await.expect("accepted");
                let mut got = Vec::new();
                loop {
                    let message = tokio::time::timeout(Duration::from_secs(15), sub.recv()).await;
                    let Ok(message) = message else { panic!("{what}: overdue after {got:?} {:?}", watch.since(0)) };
                    let text = text(&message.expect("open"));
                    if text == "end" {
                        break;
                    }
                    got.push(text);
                }
                sub.ack_last();
                println!("{what}: {} of 100, {:?}, {:?}", got.len(), begun.elapsed(), watch.since(0));
                soon(publisher.close()).await;
            }
        }
    }
}

// Callers in a hurry.

/// A full spool, many callers of every kind, futures that are dropped at any moment, and a reader that makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn callers_that_come_and_go_at_a_full_spool_leave_nobody_waiting() {
    let dir = Scratch::new();
    let push = Push::builder().spool(dir.path("spool")).min_free_disk(0).linger(Duration::ZERO).sync(Sync::Never);
    let push = push.option("spool_max_bytes", "4Mi").expect("an option").bind("tcp://127.0.0.1:0").await.expect("bind");
    let push = std::sync::Arc::new(push);
    let watch = Watch::new(push.monitor());
    let mut pull = Pull::builder()
        .durable("w")
        .reconnect(QUICK, QUICK)
        .connect(push.local_endpoint().expect("bound"))
        .expect("connect");
    let accepted = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..12_u64)
        .map(|caller| {
            let (push, accepted) = (push.clone(), accepted.clone());
            tokio::spawn(async move {
                let mut noise = Noise(caller);
                for n in 0..150 {
                    let label = format!("{caller}-{n}");
                    let mut body = label.clone().into_bytes();
                    body.push(b' ');
                    body.resize(10_000 + (noise.next() % 40_000) as usize, b'.');
                    let patience = Duration::from_micros(noise.next() % 3000);
                    let sent = match noise.next() % 4 {
                        0 => push.try_send(body).is_ok(),
                        1 => match tokio::time::timeout(patience, push.enqueue(body)).await {
                            Ok(Ok(pending)) if noise.next().is_multiple_of(2) => {
                                drop(pending);
                                true
                            }
                            Ok(Ok(pending)) => soon(pending).await.is_ok(),
                            _ => false,
                        },
                        2 => matches!(tokio::time::timeout(patience, push.send(body)).await, Ok(Ok(_))),
                        _ => soon(push.send(body)).await.is_ok(),
                    };
                    if sent {
                        accepted.lock().expect("a lock").push(label);
                    }
                }
            })
        })
        .collect();
    let reader = tokio::spawn(async move {
        let mut got = std::collections::HashSet::new();
        while let Ok(Ok(message)) = tokio::time::timeout(Duration::from_secs(6), pull.recv()).await {
            let text = text(&message);
            assert!(got.insert(text.split(' ').next().expect("a label").to_owned()), "twice");
        }
        got
    });
    for (n, caller) in callers.into_iter().enumerate() {
        if tokio::time::timeout(Duration::from_secs(60), caller).await.is_err() {
            panic!("caller {n} waits: {:#?} {:?}", push.spool().expect("a spool").stats(), watch.since(0));
        }
    }
    let got = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("an end").expect("no panic");
    let accepted = accepted.lock().expect("a lock").clone();
    let missing: Vec<_> = accepted.iter().filter(|label| !got.contains(*label)).collect();
    assert!(missing.is_empty(), "{} of {} missing: {missing:?}", missing.len(), accepted.len());
    no_internal_error(&watch);
}

/// Workers of every pace come and go; one takes nothing at all. Everything arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_worker_that_reads_nothing_holds_up_no_other() {
    let dir = Scratch::new();
    let push = pusher(&dir.path("spool")).bind("tcp://127.0.0.1:0").await.expect("bind");
    let endpoint = push.local_endpoint().expect("bound");
    // It asks, and never reads again: what is on its way to it is more than the system buffers.
    let stuck = RawPeer::connect_narrow(&endpoint.to_string()).await.expect("a connection");
    stuck.send(&[raw::greeting("NULL"), durable_ready("PULL", Some(b"stuck"))].concat()).await.expect("sent");
    soon(stuck.read_handshake()).await.expect("READY");
    stuck.send(&dstart(Ask { flags: 1, window: 1000, bytes: 64 << 20, ..Ask::default() })).await.expect("sent");
    soon(stuck.read_command("DOK")).await.expect("DOK");
    soon(push.send(vec![1; 16 << 20])).await.expect("accepted");
    eventually("with it", || push.spool().expect("a spool").names()[0].in_flight == 1).await;
    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let pull = Pull::builder().durable(name).ack(Ack::Manual).reconnect(QUICK, QUICK);
        workers.push(pull.connect(&endpoint).expect("connect"));
    }
    soon(push.wait_for_peers(3)).await.expect("open");
    // Each keeps what it has for as long as it takes: nobody is acknowledged, and all the others must get on.
    let mut kept = Vec::new();
    for n in 0..6 {
        soon(push.send(format!("{n}"))).await.expect("accepted");
        let (one, two) = workers.split_at_mut(1);
        let got = tokio::time::timeout(Duration::from_secs(8), async {
            tokio::select! {
                got = one[0].recv_delivery() => got,
                got = two[0].recv_delivery() => got,
            }
        });
        match got.await {
            Ok(got) => kept.push(got.expect("open")),
            Err(_) => panic!(
                "record {n} waits for the worker that reads nothing: {:#?}",
                push.spool().expect("a spool").names()
            ),
        }
    }
}

/// Many names, retries, unwanted records, connections cut at any moment: nothing may stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn subscribers_that_come_go_and_retry_get_everything_in_order() {
    let dir = Scratch::new();
    let mut builder = publisher(&dir.path("spool"));
    for n in 0..4 {
        builder = builder.declare(format!("s{n}"), [format!("t{n}")]);
    }
    let publisher = std::sync::Arc::new(bound(builder).await);
    let endpoint = publisher.local_endpoint().expect("bound");
    let total = 400_u64;
    let sending = {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            for n in 0..total {
                soon(publisher.send(format!("t{} {n}", n % 5))).await.expect("accepted");
                if n % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    let readers: Vec<_> = (0..4_u64)
        .map(|who| {
            let (endpoint, publisher) = (endpoint.clone(), publisher.clone());
            tokio::spawn(async move {
                let mut noise = Noise(who);
                let wanted: Vec<u64> = (0..total).filter(|n| n % 5 == who).collect();
                let mut done = std::collections::BTreeSet::new();
                while done.len() < wanted.len() {
                    let sub = Sub::builder().durable(format!("s{who}")).subscribe(format!("t{who}")).ack(Ack::Manual);
                    let sub = sub.recv_hwm([1, 2, 5, 100][(noise.next() % 4) as usize]).reconnect(QUICK, QUICK);
                    let mut sub = sub.take_over(true).connect(&endpoint).expect("connect");
                    let mut left = noise.next() % 60;
                    while done.len() < wanted.len() && left > 0 {
                        left -= 1;
                        let delivery = match tokio::time::timeout(Duration::from_secs(10), sub.recv_delivery()).await {
                            Ok(delivery) => delivery.expect("open"),
                            Err(_) => panic!(
                                "s{who} stands at {} of {}: {:#?}",
                                done.len(),
                                wanted.len(),
                                publisher.spool().expect("a spool").names()
                            ),
                        };
                        let number: u64 =
                            text(delivery.message()).split(' ').nth(1).expect("two words").parse().expect("a number");
                        match noise.next() % 6 {
                            0 => delivery.retry(Duration::from_millis(noise.next() % 20)),
                            _ => {
                                delivery.ack();
                                done.insert(number);
                            }
                        }
                    }
                    if noise.next().is_multiple_of(2) {
                        soon(sub.close()).await;
                    }
                }
                assert_eq!(done.into_iter().collect::<Vec<_>>(), wanted);
            })
        })
        .collect();
    for reader in readers {
        soon(reader).await.expect("all of it");
    }
    soon(sending).await.expect("no panic");
}

// Callers that mean no good.

#[tokio::test]
async fn times_without_end_are_times() {
    use std::time::SystemTime;
    for every in [Duration::MAX, Duration::ZERO] {
        let dir = Scratch::new();
        let push = pusher(&dir.path("spool"))
            .sync(Sync::Every(every.max(Duration::from_nanos(1))))
            .stall_after(every)
            .linger(Duration::ZERO);
        let push = push.bind("tcp://127.0.0.1:0").await.expect("bind");
        let watch = Watch::new(push.monitor());
        let worker = raw_holder(&push.local_endpoint().expect("bound"), "PULL", b"w").await;
        worker.send(&dstart(Ask { flags: 1, window: 1, ..Ask::default() })).await.expect("sent");
        soon(worker.read_command("DOK")).await.expect("DOK");
        let past = [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 30), SystemTime::now()];
        for when in past {
            soon(push.send_at("late", when)).await.expect("accepted");
        }
        let mut far = Vec::new();
        for years in [1_u64, 1000, 100_000, 200_000_000_000] {
            if let Some(when) = SystemTime::now().checked_add(Duration::from_secs(years * 31_557_600)) {
                far.push(soon(push.send_at("far", when)).await.expect("accepted"));
            }
        }
        for sequence in 1..=3_u64 {
            soon(worker.read_message()).await.expect("a message");
            worker.send(&dack(0, &[(sequence, 1)])).await.expect("sent");
        }
        let spool = push.spool().expect("a spool");
        for receipt in far {
            assert!(spool.cancel(receipt) && !spool.cancel(receipt));
        }
        for n in 0..10 {
            soon(push.send(n.to_string())).await.expect("accepted");
        }
        // Only what has come can be given back.
        soon(worker.read_message()).await.expect("a message");
        worker.send(&dnack(4, u32::MAX)).await.expect("sent");
        eventually("nacked", || push.spool().expect("a spool").names()[0].nacked > 0).await;
        no_internal_error(&watch);
        assert!(!watch.since(0).iter().any(|event| matches!(event, Event::SpoolFailed { .. })), "{:?}", watch.since(0));
    }
}

#[test]
fn a_spool_outlives_its_runtime_and_says_so() {
    let dir = Scratch::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let push = pusher(&dir.path("spool")).build();
    // Without a runtime it is built or refused, not more.
    if let Ok(push) = push {
        let _ = push.try_send("x");
        drop(push);
    }
    let first = runtime();
    let push = first.block_on(async {
        let push = pusher(&dir.path("spool")).linger(Duration::ZERO).build().expect("a spool");
        push.bind_to("tcp://127.0.0.1:0").await.expect("bind");
        soon(push.send("1")).await.expect("accepted");
        push
    });
    drop(first);
    let _ = push.try_send("2");
    let second = runtime();
    second.block_on(async {
        let _ = soon(push.send("3")).await;
        let _ = soon(push.close()).await;
        let _ = soon(push.send("4")).await;
    });
    drop(push);
    second.block_on(async {
        let again = pusher(&dir.path("spool")).bind("tcp://127.0.0.1:0").await.expect("the directory is free");
        let mut pull = Pull::builder().durable("w").connect(again.local_endpoint().expect("bound")).expect("connect");
        let mut got = Vec::new();
        while let Ok(Ok(message)) = tokio::time::timeout(Duration::from_secs(1), pull.recv()).await {
            got.push(text(&message));
        }
        assert!(got.contains(&"1".to_owned()), "{got:?}");
        println!("{got:?}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_made_and_dropped_while_in_use() {
    let dir = Scratch::new();
    let publisher = std::sync::Arc::new(bound(publisher(&dir.path("spool"))).await);
    let watch = Watch::new(publisher.monitor());
    let mut sub = subscriber("a").connect(publisher.local_endpoint().expect("bound")).expect("connect");
    let theirs = publisher.clone();
    let changes = tokio::spawn(async move {
        for n in 0..60 {
            let spool = theirs.spool().expect("a spool");
            let _ = soon(spool.declare("a", [["", "x", "y"][n % 3]])).await;
            soon(theirs.send("m")).await.expect("accepted");
            let _ = soon(spool.drop_name("a")).await;
        }
    });
    let reading = tokio::spawn(async move {
        while tokio::time::timeout(Duration::from_secs(3), sub.recv()).await.is_ok_and(|got| got.is_ok()) {}
        sub
    });
    soon(changes).await.expect("no panic");
    let sub = soon(reading).await.expect("no panic");
    drop(sub);
    no_internal_error(&watch);
    let before = Instant::now();
    soon(publisher.close()).await;
    assert!(before.elapsed() < Duration::from_secs(10));
}
