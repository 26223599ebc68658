//! What the tests of promises share: deadlines instead of sleeps, endpoints that nobody else uses, a raw peer.
//!
//! Public API only. Nothing here waits for an order of events by time: [`until`] looks again and again at a
//! condition, and everything ends after ten seconds. Next: any `tests/*.rs`.

#![allow(dead_code)]

pub(crate) mod polls;
pub(crate) mod raw;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ginnel::{BindError, Endpoint, Event, Message, Monitor, PeerInfo, Pull, Socket};

/// No wait in a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The transports that every promise holds for.
pub(crate) const TRANSPORTS: [&str; 3] = ["tcp", "ipc", "inproc"];
/// Those with bytes and an operating system in between.
pub(crate) const WIRES: [&str; 2] = ["tcp", "ipc"];

/// A name that no other test of this machine uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A loopback address that no other test uses, where the system has more than one: then a port that one test
/// gives up for a while cannot be taken by another.
pub(crate) fn loopback() -> std::net::Ipv4Addr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if cfg!(not(target_os = "linux")) {
        return std::net::Ipv4Addr::LOCALHOST;
    }
    let at = NEXT.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = std::process::id().to_be_bytes();
    std::net::Ipv4Addr::new(127, high.wrapping_add((at / 250) as u8), low, 1 + (at % 250) as u8)
}

/// A free place to bind to.
pub(crate) fn place(transport: &str) -> String {
    match transport {
        "tcp" => format!("tcp://{}:0", loopback()),
        // A path of our own and not `*`, whose directory goes with the listener: it can be bound again.
        "ipc" => format!("ipc://{}", std::env::temp_dir().join(unique("ginnel-promise")).display()),
        _ => format!("inproc://{}", unique("promise")),
    }
}

/// A place that is free now and can be bound later, again and again.
pub(crate) async fn later(transport: &str) -> Endpoint {
    let holder = Pull::new();
    let bound = holder.bind_to(place(transport)).await.expect("bind");
    holder.unbind(&bound).expect("bound");
    soon(holder.close()).await;
    bound
}

/// Binds where somebody was bound a moment ago.
pub(crate) async fn bind_again(socket: &Socket, there: &Endpoint) {
    soon(async {
        while let Err(error) = socket.bind_to(there).await {
            assert!(matches!(error, BindError::AddrInUse(_)), "{error}");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits for `work`, ten seconds at the most.
#[track_caller]
pub(crate) fn soon<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let asked = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, work).await {
            Ok(value) => value,
            Err(_) => panic!("no end in ten seconds of what {asked} waits for"),
        }
    }
}

/// Waits until `condition` holds, ten seconds at the most.
#[track_caller]
pub(crate) fn until(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let asked = std::panic::Location::caller();
    async move {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < end, "not in ten seconds: the condition at {asked}");
            // Not for order: only so that looking does not take the machine from those who work.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Lets every task of a current-thread runtime that can run do so, many times.
pub(crate) async fn others_run() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// The one peer of this socket.
#[track_caller]
pub(crate) fn only_peer(socket: &Socket) -> PeerInfo {
    let mut peers = socket.peers();
    assert_eq!(peers.len(), 1, "{peers:?}");
    peers.remove(0)
}

/// Reads events until one is wanted; gives that one.
#[track_caller]
pub(crate) fn event(monitor: &mut Monitor, wanted: impl Fn(&Event) -> bool) -> impl Future<Output = Event> {
    soon(async move {
        loop {
            let event = monitor.recv().await.expect("the socket lives");
            if wanted(&event) {
                return event;
            }
        }
    })
}

/// A numbered message.
pub(crate) fn numbered(number: u32) -> Message {
    Message::from(number.to_be_bytes())
}

/// The number of a numbered message, which is its last frame's first four bytes.
#[track_caller]
pub(crate) fn number(message: &Message) -> u32 {
    let frame = message.last().expect("a frame");
    u32::from_be_bytes(frame[..4].try_into().expect("four bytes"))
}

/// A quick reconnect for tests that need one.
pub(crate) const QUICK: Duration = Duration::from_millis(5);

/// How many cases a property is tried with: 200, or what the weekly run asks for.
pub(crate) fn cases() -> u64 {
    std::env::var("QUICKCHECK_TESTS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}
