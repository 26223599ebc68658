//! Peers and users that ask for more than there is: connections, descriptors, memory, endpoints (P1, P2, P3, P4, P6).

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ginnel::*;
use support::raw::{self, RawListener, RawPeer};
use support::rig::{Rig, Setup, Transport};
use support::{MIB, Report, Scratch, Watch, affordable, descriptors, eventually, growth_within, resident, soon};

fn count(watch: &Watch, pick: impl Fn(&Event) -> bool) -> usize {
    watch.since(0).iter().filter(|event| pick(event)).count()
}

fn over_limit(event: &Event, name: &str, at: Phase) -> bool {
    matches!(event, Event::Refused { phase, reason: Reason::LimitExceeded { which, .. }, .. } if *which == name && *phase == at)
}

/// N01: silent connections push each other out, oldest first, and cost little.
async fn silent_crowd(kind: SocketType, crowd: usize) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let before = resident();
    let mut peers = Vec::new();
    for _ in 0..crowd {
        peers.push(RawPeer::connect(&rig.endpoint).await.expect("a listening socket"));
    }
    let pushed_out = |event: &Event| over_limit(event, "max_pending_handshakes", Phase::Greeting);
    eventually("all but 256 are out", || count(&rig.watch, pushed_out) == crowd - 256).await;
    for peer in &peers[..crowd - 256] {
        soon(peer.drain()).await;
    }
    let memory = growth_within(before, 30 * MIB);
    // A good newcomer needs milliseconds, so it gets in.
    let late = rig.admitted(support::rig::Role::Server).await;
    rig.account(count(&rig.watch, pushed_out));
    rig.leaves(late).await;
    drop(peers);
    let gone = |event: &Event| matches!(event, Event::Refused { reason: Reason::PeerClosed, .. });
    eventually("the rest has left", || count(&rig.watch, gone) == 255).await;
    rig.account(255);
    rig.finish().await;
    format!("Refused Greeting LimitExceeded max_pending_handshakes=256, {memory}")
}

/// N01: `max_connections`, in turn and all at once.
async fn crowd_of_peers(at_once: bool) -> String {
    let rig = Rig::start(Setup::new(SocketType::Pull, Transport::Tcp).option("max_connections", "50")).await;
    let hello = raw::session(SocketType::Pull);
    let mut peers = Vec::new();
    for _ in 0..149 {
        let peer = RawPeer::connect(&rig.endpoint).await.expect("a listening socket");
        if at_once {
            // Everybody has our greeting, and with it a place among those in their handshake.
            soon(peer.read_exact(64)).await.expect("a greeting");
        } else {
            let _ = peer.send(&hello).await;
            if peers.len() < 49 {
                rig.watch.connected(0, &peer.name).await;
            }
        }
        peers.push(peer);
    }
    let at = if at_once { Phase::Handshake } else { Phase::Accept };
    if at_once {
        for peer in &peers {
            peer.send(&hello).await.expect("an open connection");
        }
    }
    let refused = |event: &Event| over_limit(event, "max_connections", at);
    eventually("100 are refused", || count(&rig.watch, refused) >= 100).await;
    rig.trips_go_on().await;
    assert_eq!((count(&rig.watch, refused), rig.socket.peers().len()), (100, 50));
    drop(peers);
    eventually("the good peer is alone", || rig.socket.peers().len() == 1).await;
    rig.account(149);
    // There is room again.
    let next = rig.admitted(support::rig::Role::Server).await;
    rig.leaves(next).await;
    rig.finish().await;
    format!("Refused {at:?} LimitExceeded max_connections=50")
}

const CHILD: &str = "GINNEL_TEST_WITHOUT_DESCRIPTORS";

/// N02: the child of this test, with 64 descriptors. It uses them up, and says what it sees.
#[tokio::test]
async fn n02_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut pull = Pull::bind("tcp://127.0.0.1:0").await.expect("a socket");
    let other = Pull::bind("tcp://127.0.0.1:0").await.expect("another socket");
    let mut bystander = other;
    let push = Push::connect(bystander.local_endpoint()).expect("an endpoint");
    let _ = push.send("before").await.expect("an open socket");
    assert_eq!(soon(bystander.recv()).await.expect("a message")[0], "before");
    let mut monitor = pull.monitor();
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    println!("full {}", pull.local_endpoint().expect("bound"));
    let failed = soon(async {
        loop {
            if let Some(Event::AcceptFailed { .. }) = monitor.recv().await {
                break;
            }
        }
    });
    failed.await;
    let (start, busy) = (Instant::now(), processor_time());
    let mut failures = 1;
    while start.elapsed() < Duration::from_secs(2) {
        let next = tokio::time::timeout(Duration::from_millis(100), monitor.recv()).await;
        failures += usize::from(matches!(next, Ok(Some(Event::AcceptFailed { .. }))));
    }
    let busy = processor_time().zip(busy).map_or(0, |(now, then)| now - then);
    // Nobody else of this process suffers.
    let _ = push.send("meanwhile").await.expect("an open socket");
    assert_eq!(soon(bystander.recv()).await.expect("a message")[0], "meanwhile");
    drop(files);
    let message = soon(pull.recv()).await.expect("a message");
    println!("recovered {failures} {busy} {}", message[0].to_str().expect("text"));
}

/// Hundredths of a second that this process has computed.
fn processor_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// N02: without descriptors the listener waits, says so now and then, and comes back.
async fn out_of_descriptors() -> String {
    let program = std::env::current_exe().expect("this test");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" --exact n02_child --nocapture --test-threads 1"])
        .arg(program)
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut line_with = move |start: &'static str| loop {
        // The test harness writes its own words before ours.
        let line = lines.next().expect("more output").expect("readable output");
        if let Some(at) = line.find(start) {
            return line[at + start.len()..].to_owned();
        }
    };
    let (endpoint, mut line_with) =
        tokio::task::spawn_blocking(move || (line_with("full "), line_with)).await.expect("a line");
    let mut peers = Vec::new();
    for _ in 0..5 {
        let peer = RawPeer::connect(&endpoint).await.expect("a place in the backlog");
        peer.send(&[raw::session(SocketType::Pull), raw::message(&[b"at last"])].concat()).await.expect("a connection");
        peers.push(peer);
    }
    // Its output stays open until it has ended.
    let last = tokio::task::spawn_blocking(move || (line_with("recovered "), line_with));
    let (result, _output) = last.await.expect("a line");
    drop(peers);
    let status = tokio::task::spawn_blocking(move || child.wait()).await.expect("no panic").expect("a child");
    assert!(status.success());
    let fields: Vec<&str> = result.splitn(3, ' ').collect();
    let (failures, busy): (u64, u64) = (fields[0].parse().expect("a number"), fields[1].parse().expect("a number"));
    // 10 ms doubling: about eight in two seconds. Who spins has thousands, and a whole core's 200.
    assert!(failures < 100 && busy < 100, "{failures} failures, {busy} hundredths of a second");
    assert_eq!(fields[2], "at last");
    "AcceptFailed with backoff, recovered".to_owned()
}

/// N03: who comes and goes leaves nothing.
async fn come_and_go(kind: SocketType, times: usize) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    let hello = raw::session(kind);
    let mut before = (None, None);
    for n in 0..times {
        if n == times / 4 {
            before = (resident(), descriptors());
        }
        let peer = RawPeer::connect(&rig.endpoint).await.expect("a listening socket");
        if n % 2 == 0 {
            peer.send(&hello).await.expect("an open connection");
        }
        if n % 3 == 0 {
            peer.reset();
        }
    }
    eventually("all of them have left", || rig.watch.ends() >= times && rig.socket.peers().len() == 1).await;
    assert_eq!(rig.watch.ends(), times);
    rig.account(times);
    eventually("their descriptors are back", || descriptors() <= before.1.map(|open| open + 20)).await;
    let memory = growth_within(before.0, 8 * MIB);
    rig.finish().await;
    format!("one event each, {memory}")
}

/// N04: a subscriber that never reads costs its water mark, and the others nothing.
async fn deaf_subscriber() -> String {
    let publisher =
        Pub::builder().send_hwm(0).send_hwm_bytes(4 * MIB).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let endpoint = publisher.local_endpoint().expect("bound").to_string();
    let mut good = Sub::builder().subscribe("").connect(&*endpoint).expect("an endpoint");
    let deaf = RawPeer::connect_narrow(&endpoint).await.expect("a connection");
    let hello = [raw::session(SocketType::Pub), raw::subscribe(b"")].concat();
    deaf.send(&hello).await.expect("an open connection");
    soon(publisher.wait_for_subscribers(2)).await.expect("an open socket");
    let before = resident();
    let body = vec![b'x'; 1000];
    for n in 0..100_000u32 {
        let _ = publisher.try_send((n.to_be_bytes(), body.clone())).expect("a publisher never blocks");
        if n % 1000 == 999 {
            // At full speed nobody could follow: the good one gets a chance every thousand.
            let mut last = 0;
            while last < n {
                last =
                    u32::from_be_bytes(soon(good.recv()).await.expect("a message")[0][..].try_into().expect("4 bytes"));
            }
        }
    }
    let memory = growth_within(before, 4 * MIB + 24 * MIB);
    let peers = publisher.peers();
    let lost = |address: &str| {
        peers.iter().find(|peer| peer.address == address).map(|peer| peer.drops.get(DropReason::HwmReached))
    };
    assert!(lost(&deaf.name).is_some_and(|lost| lost > 50_000), "{:?}", lost(&deaf.name));
    let others: u64 = peers.iter().filter(|peer| peer.address != deaf.name).map(|peer| peer.drops.total()).sum();
    assert_eq!(others, 0, "the good subscriber lost messages");
    format!("its drops counted, {memory}")
}

/// N05: a puller that never reads gets its share and no more.
async fn deaf_puller() -> String {
    let push = Push::builder().hwm(100).send_hwm_bytes(MIB).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let endpoint = push.local_endpoint().expect("bound").to_string();
    let deaf = RawPeer::connect_narrow(&endpoint).await.expect("a connection");
    deaf.send(&raw::session(SocketType::Push)).await.expect("an open connection");
    let mut good = Pull::connect(&*endpoint).expect("an endpoint");
    soon(push.wait_for_peers(2)).await.expect("an open socket");
    let body = vec![b'x'; 10_000];
    let sender = push.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..10_000 {
            let _ = sender.send(body.clone()).await.expect("an open socket");
        }
    });
    let mut got = 0;
    while !sending.is_finished() {
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(20), good.recv()).await {
            let _ = message.expect("an open socket");
            got += 1;
        }
    }
    soon(sending).await.expect("all sent");
    assert!(got > 8_000, "{got} of 10,000");
    // Only when nobody takes anything does it wait, and the message stays with the caller.
    let full = async {
        while push.try_send(vec![b'x'; 10_000]).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(full).await;
    assert!(matches!(push.try_send("more"), Err(TrySendError::Full(message)) if message[0] == "more"));
    assert_eq!(push.stats().drops.total(), 0);
    "the others get it; Full when all are".to_owned()
}

/// N06: a reader with a tiny window makes nobody spin.
async fn byte_by_byte() -> String {
    let push = Push::builder().linger(Duration::ZERO).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let endpoint = push.local_endpoint().expect("bound").to_string();
    let slow = RawPeer::connect_narrow(&endpoint).await.expect("a connection");
    slow.send(&raw::session(SocketType::Push)).await.expect("an open connection");
    soon(slow.read_handshake()).await.expect("a handshake");
    soon(push.wait_for_peers(1)).await.expect("an open socket");
    let _ = push.send(vec![b'x'; 16 * MIB]).await.expect("an open socket");
    let (start, busy) = (Instant::now(), processor_time());
    while start.elapsed() < Duration::from_secs(1) {
        soon(slow.read_exact(1)).await.expect("a byte");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let busy = processor_time().zip(busy).map_or(0, |(now, then)| now - then);
    assert!(busy < 70, "{busy} hundredths of a second of computing in one second");
    "no spinning".to_owned()
}

/// N07: empty messages are charged, too: a million of them waiting, on either side.
async fn a_million_empty(receiving: bool) -> String {
    let hwm = 1_000_000;
    let before = resident();
    if receiving {
        let pull = Pull::builder().recv_hwm(hwm).bind("tcp://127.0.0.1:0").await.expect("a socket");
        let peer = RawPeer::connect(&pull.local_endpoint().expect("bound").to_string()).await.expect("a connection");
        peer.send(&raw::session(SocketType::Pull)).await.expect("an open connection");
        let chunk = raw::message(&[b""]).repeat(10_000);
        for _ in 0..100 {
            soon(peer.send(&chunk)).await.expect("an open connection");
        }
        eventually("a million", || pull.peers().iter().any(|peer| peer.unread >= hwm)).await;
        return growth_within(before, 64 * hwm + 16 * MIB);
    }
    let listener = RawListener::tcp().await;
    let push = Push::builder().send_hwm(hwm).linger(Duration::ZERO).connect(&*listener.endpoint).expect("an endpoint");
    for _ in 0..hwm {
        let _ = push.try_send("").expect("room");
    }
    assert!(matches!(push.try_send(""), Err(TrySendError::Full(_))));
    growth_within(before, 64 * hwm + 16 * MIB)
}

/// N08: a monitor that nobody reads keeps the newest events, and says how many it lost.
async fn unread_monitor(times: usize) -> String {
    let pull = Pull::bind("tcp://127.0.0.1:0").await.expect("a socket");
    let endpoint = pull.local_endpoint().expect("bound").to_string();
    let mut monitor = pull.monitor();
    let watch = Watch::new(pull.monitor());
    let before = resident();
    for _ in 0..times {
        let peer = RawPeer::connect(&endpoint).await.expect("a listening socket");
        peer.send(b"GET / HTTP/1.1\r\n\r\n").await.expect("an open connection");
    }
    eventually("all are refused", || watch.ends() == times).await;
    let memory = growth_within(before, 16 * MIB);
    let Some(Event::Missed { count: missed }) = monitor.try_recv() else { panic!("nothing missed") };
    let mut kept = 0;
    while monitor.try_recv().is_some() {
        kept += 1;
    }
    assert_eq!((missed + kept, kept), (times as u64, 1024));
    format!("1024 kept, the rest Missed, {memory}")
}

/// N09: texts that are no endpoints, or not for this.
async fn bad_endpoints() -> String {
    let long_path = |len: usize| format!("ipc:///{}", "x".repeat(len - 1));
    let (many, long_name) = ("x".repeat(10_000), format!("tcp://{}:1", "x".repeat(10_000)));
    let texts = [
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1",
        "tcp://",
        "tcp",
        "",
        "127.0.0.1:1",
        "udp://127.0.0.1:1",
        "tcp://127.0.0.1:1\0",
        "tcp://127.0.0.1\0:1",
        "ipc://",
        "ipc://@",
        "ipc:///tmp/a\0b",
        "inproc://",
        "tcp://[::1:1",
        "tcp://127.0.0.1:1/path",
        "TCP://127.0.0.1:1x",
        "tcp://127.0.0.1:1;",
        "tcp://;127.0.0.1:1",
        &many,
        &long_name,
    ];
    let too_long = [long_path(108), long_path(109), long_path(10_000)];
    for text in texts.into_iter().chain(too_long.iter().map(String::as_str)) {
        let shown: String = text.chars().take(40).collect();
        let bound = Pull::bind(text).await;
        assert!(matches!(bound, Err(BindError::Endpoint(_))), "bind {shown:?}: {:?}", bound.map(|_| "bound"));
        let connected = Push::connect(text);
        assert!(
            matches!(connected, Err(ConnectError::Endpoint(_))),
            "connect {shown:?}: {:?}",
            connected.map(|_| "connected")
        );
        let error = Pull::bind(text).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.len() < 1000 && !error.chars().any(char::is_control), "{error:?}");
    }
    "typed errors".to_owned()
}

/// N09: what may lie where a socket file is to be.
async fn bad_paths() -> String {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("directory")).expect("a directory");
    std::fs::write(scratch.path("file"), "precious").expect("a file");
    symlink(scratch.path("file"), scratch.path("link")).expect("a link");
    symlink(scratch.path("nowhere"), scratch.path("dangling")).expect("a link");
    for name in ["directory", "file", "link", "dangling", "missing/socket", "file/socket"] {
        let error = Pull::bind(scratch.endpoint(name)).await.err();
        assert!(error.is_some(), "bound over {name}");
    }
    assert_eq!(std::fs::read(scratch.path("file")).expect("still there"), b"precious");
    assert!(
        scratch.path("directory").is_dir()
            && scratch.path("link").is_symlink()
            && scratch.path("dangling").is_symlink()
    );
    // A stale socket is replaced, also by two in a row; a live one is not stolen.
    drop(std::os::unix::net::UnixListener::bind(scratch.path("stale")).expect("a socket file"));
    let mut live = Pull::bind(scratch.endpoint("stale")).await.expect("a stale socket is replaced");
    assert!(matches!(Pull::bind(scratch.endpoint("stale")).await, Err(BindError::AddrInUse(_))));
    let push = Push::connect(scratch.endpoint("stale")).expect("an endpoint");
    let _ = push.send("still here").await.expect("an open socket");
    assert_eq!(soon(live.recv()).await.expect("a message")[0], "still here");
    symlink(scratch.path("stale"), scratch.path("to live")).expect("a link");
    assert!(Pull::bind(scratch.endpoint("to live")).await.is_err(), "a link to a live socket");
    let _ = push.send("and here").await.expect("an open socket");
    assert_eq!(soon(live.recv()).await.expect("a message")[0], "and here");
    // 107 bytes of path fit.
    let base = scratch.path("").display().to_string();
    if base.len() < 106 {
        let longest = format!("{base}{}", "x".repeat(107 - base.len()));
        drop(Pull::bind(format!("ipc://{longest}")).await.expect("107 bytes fit"));
    }
    "typed errors, nothing deleted, nothing stolen".to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p01_p03_p04_hostile_resources() {
    use SocketType::{Pub, Pull, Rep};
    let report = Report::new("hostile resources");
    report.row("N04 subscriber that never reads", deaf_subscriber()).await;
    report.row("N07 1,000,000 empty messages, sent", a_million_empty(false)).await;
    report.row("N07 1,000,000 empty messages, received", a_million_empty(true)).await;
    report.row("N06 reader of single bytes", byte_by_byte()).await;
    report.row("N08 monitor that nobody reads", unread_monitor(5000)).await;
    for kind in [Pull, Rep, Pub] {
        report.row("N01 2,000 silent connections", silent_crowd(kind, affordable(2000))).await;
        report.row("N03 2,000 come and go", come_and_go(kind, 2000)).await;
    }
    report.row("N01 max_connections + 100, in turn", crowd_of_peers(false)).await;
    report.row("N01 max_connections + 100, at once", crowd_of_peers(true)).await;
    report.row("N02 64 descriptors", out_of_descriptors()).await;
    report.row("N05 puller that never reads", deaf_puller()).await;
    report.row("N09 endpoints", bad_endpoints()).await;
    report.row("N09 paths", bad_paths()).await;
    report.finish();
}
