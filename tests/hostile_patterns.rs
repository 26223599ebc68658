//! Peers that break the rules of a pattern: envelopes, identities, turns (P1, P4, P5, P6).

mod support;

use std::time::Duration;

use ginnel::*;
use support::fault_proxy::{Cut, FaultProxy, Plan};
use support::raw::{self, MORE, RawListener, RawPeer};
use support::rig::{ROLES, Rig, Role, Setup, Stranger, Transport};
use support::{MIB, Noise, Outcome, Report, Watch, eventually, growth_within, resident, soon};

fn dropped(socket: &Socket, reason: DropReason) -> u64 {
    socket.stats().drops.get(reason)
}

/// Asks a REP properly, with this envelope before the delimiter; the answer must carry it.
async fn ask(stranger: &Stranger, envelope: &[&[u8]], body: &[u8]) {
    let frames = [envelope, &[&b""[..], body]].concat();
    stranger.peer.send(&raw::message(&frames)).await.expect("an open connection");
    assert_eq!(soon(stranger.peer.read_message()).await.expect("an answer"), frames);
}

/// R01: requests that are none, and envelopes up to their limit.
async fn envelopes(role: Role, transport: Transport) -> String {
    let rig = Rig::start(Setup::new(SocketType::Rep, transport)).await;
    let stranger = rig.admitted(role).await;
    let (sixty_four, sixty_five) = (vec![&b"hop"[..]; 64], vec![&b"hop"[..]; 65]);
    let nobody = [&sixty_five[..], &[b"", b"body"]].concat();
    let bad: [&[&[u8]]; 5] = [&[b"body"], &[b"a", b"b", b"c"], &[b""], &[b"a", b"b", b""], &nobody];
    for (n, request) in bad.iter().enumerate() {
        stranger.peer.send(&raw::message(request)).await.expect("an open connection");
        ask(&stranger, &[], b"a proper one").await;
        assert_eq!(dropped(&rig.socket, DropReason::Malformed), n as u64 + 1);
    }
    ask(&stranger, &[], b"").await;
    ask(&stranger, &sixty_four, b"body").await;
    ask(&stranger, &[b"one", b"two"], b"body").await;
    let endless = [raw::frame(MORE, b"hop").repeat(100_000), raw::message(&[b"", b"body"])].concat();
    let _ = soon(stranger.peer.send(&endless)).await;
    let limit = Reason::LimitExceeded { which: "max_frames_per_message", limit: 4096 };
    let outcome = rig.ends_with(stranger, Outcome::Disconnected(limit)).await;
    rig.finish().await;
    format!("counted as Malformed, 100,000 frames: {outcome}")
}

/// A REQ whose server is a stranger.
struct Asker {
    req: Req,
    watch: Watch,
    server: RawPeer,
    listener: RawListener,
}

impl Asker {
    async fn new(announced: &str) -> Asker {
        let listener = RawListener::tcp().await;
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(50));
        let req = Req::builder().reconnect(min, max).connect(&*listener.endpoint).expect("an endpoint");
        let watch = Watch::new(req.monitor());
        let server = accept_as(&listener, announced).await;
        Asker { req, watch, server, listener }
    }

    fn ask(&self, body: &'static str, limit: Duration) -> tokio::task::JoinHandle<Result<Message, RequestError>> {
        let request = self.req.request(body).timeout(limit);
        tokio::spawn(async move { request.await })
    }

    /// A request, as the server got it: its id and its body.
    async fn request(server: &RawPeer) -> (Vec<u8>, Vec<u8>) {
        let frames = soon(server.read_message()).await.expect("a request");
        let [id, delimiter, body] = &frames[..] else { panic!("no envelope: {frames:?}") };
        assert!(id.len() == 4 && delimiter.is_empty());
        (id.clone(), body.clone())
    }
}

async fn accept_as(listener: &RawListener, announced: &str) -> RawPeer {
    let server = soon(listener.accept()).await;
    server.send(&[raw::greeting("NULL"), raw::ready(announced)].concat()).await.expect("an open connection");
    soon(server.read_handshake()).await.expect("a handshake");
    server
}

const LONG: Duration = Duration::from_secs(25);

/// R02: answers that are none do not reach the application and do not spoil the one that is.
async fn wrong_replies() -> String {
    let asker = Asker::new("REP").await;
    let call = asker.ask("question", LONG);
    let (id, _) = Asker::request(&asker.server).await;
    let mut wrong = id.clone();
    wrong[0] ^= 1;
    let malformed: [&[&[u8]]; 6] = [
        &[b"answer"],
        &[b""],
        &[&id, b""],
        &[&id, b"answer"],
        &[&id, b"x", b"", b"answer"],
        &[b"12345", b"", b"answer"],
    ];
    for reply in malformed {
        asker.server.send(&raw::message(reply)).await.expect("an open connection");
    }
    // Without an id it may only be for a peer that never got one.
    for reply in [&[&wrong[..], b"", b"wrong id"][..], &[b"", b"no id"]] {
        asker.server.send(&raw::message(reply)).await.expect("an open connection");
    }
    for answer in ["right", "second"] {
        asker.server.send(&raw::message(&[&id, b"", answer.as_bytes()])).await.expect("an open connection");
    }
    assert_eq!(soon(call).await.expect("no panic").expect("an answer")[0], "right");
    // The next question reads what came after the answer.
    let call = asker.ask("next", LONG);
    let (id, body) = Asker::request(&asker.server).await;
    assert_eq!(body, b"next");
    asker.server.send(&raw::message(&[&id, b"", b"done"])).await.expect("an open connection");
    assert_eq!(soon(call).await.expect("no panic").expect("an answer")[0], "done");
    let counts = [DropReason::Malformed, DropReason::Late].map(|reason| dropped(&asker.req, reason));
    assert_eq!(counts, [6, 3]);
    assert_eq!(asker.watch.ends(), 0);
    "dropped: 6 Malformed, 3 Late".to_owned()
}

/// R02: nobody answers for another.
async fn reply_from_another() -> String {
    let asker = Asker::new("REP").await;
    let listener = RawListener::tcp().await;
    asker.req.connect_to(&listener.endpoint).expect("an endpoint");
    let other = accept_as(&listener, "REP").await;
    soon(asker.req.wait_for_peers(2)).await.expect("an open socket");
    let calls = [asker.ask("one", LONG), asker.ask("two", LONG)];
    let requests = [Asker::request(&asker.server).await, Asker::request(&other).await];
    let servers = [&asker.server, &other];
    for (n, server) in servers.iter().enumerate() {
        server.send(&raw::message(&[&requests[1 - n].0, b"", b"stolen"])).await.expect("an open connection");
    }
    for (n, server) in servers.iter().enumerate() {
        server.send(&raw::message(&[&requests[n].0, b"", &requests[n].1])).await.expect("an open connection");
    }
    for (call, question) in calls.into_iter().zip(["one", "two"]) {
        assert_eq!(soon(call).await.expect("no panic").expect("an answer")[0], question);
    }
    assert_eq!(dropped(&asker.req, DropReason::Late), 2);
    "dropped: 2 Late".to_owned()
}

/// R02: an answer after its time is nobody's.
async fn late_reply() -> String {
    let asker = Asker::new("REP").await;
    let call = asker.ask("impatient", Duration::from_millis(50));
    let (id, _) = Asker::request(&asker.server).await;
    assert!(matches!(soon(call).await.expect("no panic"), Err(RequestError::Timeout)));
    asker.server.send(&raw::message(&[&id, b"", b"too late"])).await.expect("an open connection");
    let call = asker.ask("patient", LONG);
    let (id, _) = Asker::request(&asker.server).await;
    asker.server.send(&raw::message(&[&id, b"", b"in time"])).await.expect("an open connection");
    assert_eq!(soon(call).await.expect("no panic").expect("an answer")[0], "in time");
    assert_eq!((dropped(&asker.req, DropReason::Late), asker.watch.ends()), (1, 0));
    "dropped: 1 Late".to_owned()
}

/// R02: where requests carry no id, a new connection keeps the late answer away from the next question.
async fn late_reply_without_id() -> String {
    let asker = Asker::new("ROUTER").await;
    let call = asker.ask("impatient", Duration::from_millis(50));
    assert_eq!(soon(asker.server.read_message()).await.expect("a request"), [&b""[..], b"impatient"]);
    assert!(matches!(soon(call).await.expect("no panic"), Err(RequestError::Timeout)));
    let outcome = asker.watch.ends_with(0, &asker.listener.endpoint, Outcome::Disconnected(Reason::Timeout)).await;
    let _ = asker.server.send(&raw::message(&[b"", b"too late"])).await;
    let server = accept_as(&asker.listener, "ROUTER").await;
    let call = asker.ask("patient", LONG);
    assert_eq!(soon(server.read_message()).await.expect("a request"), [&b""[..], b"patient"]);
    server.send(&raw::message(&[b"", b"in time"])).await.expect("an open connection");
    assert_eq!(soon(call).await.expect("no panic").expect("an answer")[0], "in time");
    outcome
}

/// R03: a request that is never answered, and an answer that nobody awaits.
async fn unanswered() -> String {
    let mut rep = Rep::bind("tcp://127.0.0.1:0").await.expect("a socket");
    let watch = Watch::new(rep.monitor());
    let endpoint = rep.local_endpoint().expect("bound").to_string();
    let peer = RawPeer::connect(&endpoint).await.expect("a connection");
    let ask = [raw::session(SocketType::Rep), raw::message(&[b"", b"question"])].concat();
    peer.send(&ask).await.expect("an open connection");
    drop(soon(rep.recv()).await.expect("a request"));
    let of_peer = |event: &Event| matches!(event, Event::Unanswered { peer: who } if *who == peer.name).then_some(());
    watch.expect(0, "Unanswered", of_peer).await;

    let leaver = RawPeer::connect(&endpoint).await.expect("a connection");
    leaver.send(&ask).await.expect("an open connection");
    let request = soon(rep.recv()).await.expect("a request");
    let name = leaver.name.clone();
    drop(leaver);
    watch.ends_with(0, &name, Outcome::Disconnected(Reason::PeerClosed)).await;
    let sent = request.reply("to nobody").await;
    assert!(matches!(sent, Err(SendError::NoRoute(body)) if body[0] == "to nobody"));
    assert_eq!(dropped(&rep, DropReason::PeerGone), 1);

    // The first one may ask again, and the REP serves on.
    peer.send(&raw::message(&[b"", b"again"])).await.expect("an open connection");
    soon(rep.recv()).await.expect("a request").reply("answer").await.expect("a peer");
    soon(peer.read_handshake()).await.expect("a handshake");
    assert_eq!(soon(peer.read_message()).await.expect("an answer"), [&b""[..], b"answer"]);
    "Unanswered; answer counted as PeerGone".to_owned()
}

fn hello_as(identity: &[u8]) -> Vec<u8> {
    [raw::greeting("NULL"), raw::ready_with_identity("DEALER", identity)].concat()
}

/// What a peer got after the handshake, up to the close: no ERROR, so that it may come back.
async fn silent_close(peer: &RawPeer) {
    let rest = soon(peer.read_to_end()).await;
    assert!(!rest.windows(5).any(|part| part == b"ERROR"), "an ERROR before the close");
}

/// R04: an identity that somebody has.
async fn taken_identity(transport: Transport) -> String {
    let rig = Rig::start(Setup::new(SocketType::Router, transport)).await;
    let mut first = rig.stranger(Role::Server).await;
    first.peer.send(&hello_as(b"mine")).await.expect("an open connection");
    rig.watch.connected(first.from, &first.peer.name).await;
    soon(first.peer.read_handshake()).await.expect("a handshake");
    let mut outcome = String::new();
    for role in ROLES {
        let second = rig.stranger(role).await;
        second.peer.send(&hello_as(b"mine")).await.expect("an open connection");
        silent_close(&second.peer).await;
        let taken = Outcome::Refused(Phase::Handshake, Reason::IdentityTaken);
        outcome = rig.ends_with(second, taken).await;
        // The first one is where it was: the rig's application answers everybody.
        first.peer.send(&raw::message(&[b"still me"])).await.expect("an open connection");
        assert_eq!(soon(first.peer.read_message()).await.expect("an answer"), [b"still me"]);
    }
    // On IPC everybody has the same name: only what comes now is about this one.
    first.from = rig.watch.len();
    rig.leaves(first).await;
    let next = rig.stranger(Role::Server).await;
    next.peer.send(&hello_as(b"mine")).await.expect("an open connection");
    rig.watch.connected(next.from, &next.peer.name).await;
    rig.leaves(next).await;
    rig.finish().await;
    outcome
}

/// A PLAIN peer with this identity.
async fn plain_peer(endpoint: &str, user: &str, identity: &[u8]) -> RawPeer {
    let peer = RawPeer::connect(endpoint).await.expect("a connection");
    let metadata = [raw::property("Socket-Type", b"DEALER"), raw::property("Identity", identity)].concat();
    let hello = raw::hello(user.as_bytes(), b"secret");
    let all = [raw::greeting("PLAIN"), hello, raw::command("INITIATE", &metadata)].concat();
    peer.send(&all).await.expect("an open connection");
    peer
}

/// R04: with handover the newcomer takes the identity, but only from the same user.
async fn handed_over(plain: bool) -> String {
    let users = ["alice", "mallory"].map(|user| Credentials::new(user, "secret").expect("short")).to_vec();
    let security = if plain { Security::PlainServer(users) } else { Security::Null };
    let mut router =
        Router::builder().handover(true).security(security).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let watch = Watch::new(router.monitor());
    let endpoint = router.local_endpoint().expect("bound").to_string();
    let come = async |user: &str| {
        if plain {
            plain_peer(&endpoint, user, b"mine").await
        } else {
            let peer = RawPeer::connect(&endpoint).await.expect("a connection");
            peer.send(&hello_as(b"mine")).await.expect("an open connection");
            peer
        }
    };
    let mut holder = come("alice").await;
    watch.connected(0, &holder.name).await;
    if plain {
        let thief = come("mallory").await;
        silent_close(&thief).await;
        watch.ends_with(0, &thief.name, Outcome::Refused(Phase::Handshake, Reason::IdentityTaken)).await;
    }
    for _ in 0..3 {
        let newcomer = come("alice").await;
        watch.connected(0, &newcomer.name).await;
        watch.ends_with(0, &holder.name, Outcome::Disconnected(Reason::Local)).await;
        silent_close(&holder).await;
        holder = newcomer;
    }
    let id = PeerId::from(&b"mine"[..]);
    router.send_to(&id, "to the holder").await.expect("a peer");
    soon(holder.read_handshake()).await.expect("a handshake");
    assert_eq!(soon(holder.read_message()).await.expect("a message"), [b"to the holder"]);
    holder.send(&raw::message(&[b"from the holder"])).await.expect("an open connection");
    let (who, message) = soon(router.recv()).await.expect("an open socket");
    assert_eq!((who.as_ref(), &message[0][..]), (&b"mine"[..], &b"from the holder"[..]));
    if plain {
        "another user: Refused Handshake IdentityTaken".to_owned()
    } else {
        "old one: Disconnected Local".to_owned()
    }
}

/// R05: one identity, coming and going as fast as it can.
async fn flapping(handover: bool) -> String {
    let router = Router::builder().handover(handover).bind("tcp://127.0.0.1:0").await.expect("a socket");
    let (_sender, mut receiver) = router.split();
    let watch = Watch::new(receiver.monitor());
    let endpoint = receiver.local_endpoint().expect("bound").to_string();
    let socket: Socket = (*receiver).clone();
    let reading = tokio::spawn(async move {
        while let Ok((who, message)) = receiver.recv().await {
            assert!(who.as_ref() == b"again" && message == Message::from(("a", "whole message")));
        }
    });
    let burst = [hello_as(b"again"), raw::message(&[b"a", b"whole message"]), raw::frame(MORE, b"half")].concat();
    let mut before = None;
    for n in 0..1000 {
        if n == 100 {
            before = resident();
        }
        let peer = RawPeer::connect(&endpoint).await.expect("a connection");
        peer.send(&burst).await.expect("an open connection");
        if n % 2 == 0 {
            peer.reset();
        }
    }
    eventually("all of them have left", || watch.ends() >= 1000 && socket.peers().is_empty()).await;
    assert_eq!(watch.ends(), 1000);
    assert!(!reading.is_finished(), "half a message, or another's");
    reading.abort();
    format!("one event each, {}", growth_within(before, 16 * MIB))
}

/// R06: a sender that dies between the frames of a message leaves nothing of it.
async fn half_a_message(kind: SocketType) -> String {
    let rig = Rig::start(Setup::new(kind, Transport::Tcp)).await;
    for reset in [false, true] {
        let dying = rig.admitted(Role::Server).await;
        let ready = rig.admitted(Role::Server).await;
        let half =
            [raw::frame(MORE, b"half 1"), raw::frame(MORE, b"half 2"), raw::header(0, 10_000), vec![7; 50]].concat();
        dying.peer.send(&half).await.expect("an open connection");
        ready.peer.send(&raw::message(&[b"whole 1", b"whole 2"])).await.expect("an open connection");
        eventually("the whole message", || rig.stray_count() == 1).await;
        if reset {
            dying.reset(&rig).await;
        } else {
            rig.leaves(dying).await;
        }
        ready.peer.send(&raw::message(&[b"whole 1", b"whole 2"])).await.expect("an open connection");
        eventually("the next whole message", || rig.stray_count() == 2).await;
        assert!(rig.take_strays().iter().all(|message| *message == Message::from(("whole 1", "whole 2"))));
        rig.leaves(ready).await;
    }
    rig.finish().await;
    "whole or absent".to_owned()
}

/// R06 (libzmq#3343): a receiver that dies in the middle of a message does not leave its tail to the next.
async fn tail_for_another() -> String {
    let push = Push::builder()
        .send_buffer(64 * 1024)
        .linger(Duration::ZERO)
        .bind("tcp://127.0.0.1:0")
        .await
        .expect("a socket");
    let watch = Watch::new(push.monitor());
    let endpoint = push.local_endpoint().expect("bound").to_string();
    let hello = [raw::greeting("NULL"), raw::ready("PULL")].concat();
    let part = vec![b'P'; MIB];
    let mut noise = Noise(6);
    for _ in 0..20 {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let peer = RawPeer::connect_narrow(&endpoint).await.expect("a connection");
            peer.send(&hello).await.expect("an open connection");
            soon(peer.read_handshake()).await.expect("a handshake");
            watch.connected(0, &peer.name).await;
            peers.push(peer);
        }
        for _ in 0..4 {
            let _ = push.send(("start", part.clone(), "end")).await.expect("an open socket");
        }
        let (Some(heir), Some(dying)) = (peers.pop(), peers.pop()) else { panic!("two peers") };
        soon(dying.read_exact(1 + noise.next() as usize % (100 * 1024))).await.expect("a part");
        let name = dying.name.clone();
        dying.reset();
        watch.ends_with(0, &name, Outcome::Disconnected(Reason::PeerClosed)).await;
        let _ = push.send("last").await.expect("an open socket");
        loop {
            let message = soon(heir.read_message()).await.expect("whole messages");
            if message == [b"last"] {
                break;
            }
            assert!(message.len() == 3 && message[0] == b"start" && message[1] == part && message[2] == b"end");
        }
        let name = heir.name.clone();
        drop(heir);
        watch.ends_with(0, &name, Outcome::Disconnected(Reason::PeerClosed)).await;
    }
    "whole or absent".to_owned()
}

/// R06 through a proxy that cuts each connection a little later, in both ways, and splits what passes.
async fn cut_and_again(cut: Cut) -> String {
    let mut pull = Pull::bind("tcp://127.0.0.1:0").await.expect("a socket");
    let target = pull.local_endpoint().expect("bound").to_string();
    let proxy = FaultProxy::start(&target, move |n| {
        let there =
            Plan { pieces: vec![1, 7, 100], cut: (n < 60).then_some((60 + 9 * n as u64, cut)), ..Plan::default() };
        (there, Plan { pieces: vec![3], ..Plan::default() })
    })
    .await;
    let (min, max) = (Duration::from_millis(1), Duration::from_millis(2));
    let push = Push::builder().reconnect(min, max).connect(&*proxy.endpoint).expect("an endpoint");
    let sending = tokio::spawn(async move {
        for n in 0..u32::MAX {
            let frame = n.to_be_bytes();
            let _ = push.send((frame, "", frame, frame)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut last = None;
    let mut after = 0;
    while after < 100 {
        let message = soon(pull.recv()).await.expect("an open socket");
        assert!(message.len() == 4 && message[1].is_empty() && message[0] == message[2] && message[2] == message[3]);
        let number = u32::from_be_bytes(message[0][..].try_into().expect("four bytes"));
        assert!(last.is_none_or(|last| last < number), "in order, at most once");
        last = Some(number);
        after += usize::from(proxy.accepted() > 60);
    }
    sending.abort();
    "whole or absent, in order".to_owned()
}

/// R07: a PAIR has one peer.
async fn second_to_pair(role: Role, transport: Transport) -> String {
    let rig = Rig::start(Setup::new(SocketType::Pair, transport)).await;
    let mut first = rig.admitted(Role::Server).await;
    let mut outcome = String::new();
    for n in 0..3 {
        let from = rig.watch.len();
        let second = rig.stranger(role).await;
        second.peer.send(&raw::session(SocketType::Pair)).await.expect("an open connection");
        silent_close(&second.peer).await;
        // Not through the rig: its good peer has to wait until the place is free.
        outcome = rig.watch.end_of(from, &second.peer.name).await.to_string();
        assert_eq!(outcome, "Refused Handshake PairTaken");
        rig.forget(second);
        first.peer.send(&raw::message(&[b"the first"])).await.expect("an open connection");
        eventually("its message", || rig.stray_count() == n + 1).await;
    }
    first.from = rig.watch.len();
    rig.leaves(first).await;
    rig.finish().await;
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p04_p05_p06_hostile_patterns() {
    use SocketType::{Dealer, Pull, Router};
    let report = Report::new("hostile patterns");
    for role in ROLES {
        report.row("R01 to REP: envelopes", envelopes(role, Transport::Tcp)).await;
    }
    report.row("R01 to REP: envelopes", envelopes(Role::Server, Transport::Ipc)).await;
    report.row("R02 to REQ: wrong replies", wrong_replies()).await;
    report.row("R02 to REQ: reply from another", reply_from_another()).await;
    report.row("R02 to REQ: reply after its time", late_reply()).await;
    report.row("R02 to REQ: reply after its time, no id", late_reply_without_id()).await;
    report.row("R03 no answer, no asker", unanswered()).await;
    for transport in [Transport::Tcp, Transport::Ipc] {
        report.row("R04 identity taken", taken_identity(transport)).await;
    }
    report.row("R04 handover", handed_over(false)).await;
    report.row("R04 handover and users", handed_over(true)).await;
    report.row("R05 1,000 reconnects, one identity", flapping(false)).await;
    report.row("R05 1,000 reconnects, handover", flapping(true)).await;
    for kind in [Pull, Dealer, Router] {
        report.row("R06 sender dies in a message", half_a_message(kind)).await;
    }
    report.row("R06 receiver dies in a message", tail_for_another()).await;
    report.row("R06 connections cut by FIN", cut_and_again(Cut::Fin)).await;
    report.row("R06 connections cut by RST", cut_and_again(Cut::Reset)).await;
    for (role, transport) in
        [(Role::Server, Transport::Tcp), (Role::Client, Transport::Tcp), (Role::Server, Transport::Ipc)]
    {
        report.row("R07 second peer of a PAIR", second_to_pair(role, transport)).await;
    }
    report.finish();
}
