//! Random operations on real sockets, compared after each with a model of a few lines.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use common::polls::poll_once;
use common::*;
use ginnel::*;
use quickcheck::{Arbitrary, Gen, QuickCheck, Testable};
use tokio::task::JoinHandle;

/// As many cases as asked for, of up to so many operations.
fn check(size: usize, property: impl Testable) {
    QuickCheck::new().tests(cases()).rng(Gen::new(size)).quickcheck(property);
}

/// Runs one case on a runtime of its own.
fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(soon(case));
}

fn below(g: &mut Gen, bound: usize) -> usize {
    usize::arbitrary(g) % bound
}

fn quick<S: Buildable>(builder: Builder<S>) -> Builder<S> {
    builder.reconnect(Duration::from_millis(1), QUICK).linger(Duration::ZERO)
}

/// What every case chooses first.
#[derive(Debug, Clone)]
struct Setting {
    transport: &'static str,
    marks: (usize, usize),
    peers: (usize, usize),
}

impl Arbitrary for Setting {
    fn arbitrary(g: &mut Gen) -> Setting {
        Setting {
            transport: TRANSPORTS[below(g, 3)],
            marks: (1 + below(g, 8), 1 + below(g, 8)),
            peers: (1 + below(g, 3), 1 + below(g, 3)),
        }
    }
}

// ---- Pipes: any number of PUSH to any number of PULL, both of which may be killed and come back.

#[derive(Debug, Clone)]
enum PipeOp {
    Send { push: usize, count: usize },
    Recv { pull: usize, count: usize },
    KillPush(usize),
    KillPull(usize),
    OthersRun,
}

impl Arbitrary for PipeOp {
    fn arbitrary(g: &mut Gen) -> PipeOp {
        let (which, count) = (below(g, 3), 1 + below(g, 20));
        match below(g, 12) {
            0..5 => PipeOp::Send { push: which, count },
            5..9 => PipeOp::Recv { pull: which, count },
            9 => PipeOp::KillPush(which),
            10 => PipeOp::KillPull(which),
            _ => PipeOp::OthersRun,
        }
    }
}

struct Sending {
    push: Push,
    id: u32,
    accepted: u32,
}

struct Receiving {
    pull: Pull,
    there: Endpoint,
    /// The last number from each sender.
    last: HashMap<u32, u32>,
}

struct Pipes {
    setting: Setting,
    pushes: Vec<Sending>,
    pulls: Vec<Receiving>,
    next_id: u32,
    accepted: HashMap<u32, u32>,
    received: HashSet<(u32, u32)>,
    killed: bool,
}

impl Pipes {
    async fn new(setting: Setting) -> Pipes {
        let mut pulls = Vec::new();
        for _ in 0..setting.peers.1 {
            let pull = quick(Pull::builder()).recv_hwm(setting.marks.1).build().expect("options");
            let there = pull.bind_to(place(setting.transport)).await.expect("bind");
            pulls.push(Receiving { pull, there, last: HashMap::new() });
        }
        let mut pipes = Pipes {
            pushes: Vec::new(),
            pulls,
            next_id: 0,
            accepted: HashMap::new(),
            received: HashSet::new(),
            killed: false,
            setting,
        };
        for _ in 0..pipes.setting.peers.0 {
            let push = pipes.new_push();
            pipes.pushes.push(push);
        }
        pipes
    }

    fn new_push(&mut self) -> Sending {
        let push = quick(Push::builder()).send_hwm(self.setting.marks.0).build().expect("options");
        for receiving in &self.pulls {
            push.connect_to(&receiving.there).expect("connect");
        }
        self.next_id += 1;
        Sending { push, id: self.next_id, accepted: 0 }
    }

    async fn apply(&mut self, op: &PipeOp) {
        match *op {
            PipeOp::Send { push, count } => {
                let at = push % self.pushes.len();
                let sending = &mut self.pushes[at];
                for _ in 0..count {
                    let message = (sending.id.to_be_bytes(), sending.accepted.to_be_bytes());
                    if sending.push.try_send(message).is_ok() {
                        sending.accepted += 1;
                    }
                }
                self.accepted.insert(sending.id, sending.accepted);
            }
            PipeOp::Recv { pull, count } => {
                let at = pull % self.pulls.len();
                for _ in 0..count {
                    let Ok(message) = self.pulls[at].pull.try_recv() else { break };
                    self.note(at, &message);
                }
            }
            PipeOp::KillPush(push) => {
                self.killed = true;
                let at = push % self.pushes.len();
                let new = self.new_push();
                let old = std::mem::replace(&mut self.pushes[at], new);
                old.push.shutdown_now();
                // Not `close`, which takes leave of each peer, and some of them do not read.
                until(|| old.push.peers().is_empty()).await;
                let stats = old.push.stats();
                assert_eq!(stats.messages_sent + stats.drops.total(), u64::from(old.accepted), "{stats:?}");
            }
            PipeOp::KillPull(pull) => {
                self.killed = true;
                let at = pull % self.pulls.len();
                self.pulls[at].pull.shutdown_now();
                let new = quick(Pull::builder()).recv_hwm(self.setting.marks.1).build().expect("options");
                bind_again(&new, &self.pulls[at].there).await;
                self.pulls[at].pull = new;
                self.pulls[at].last.clear();
            }
            PipeOp::OthersRun => others_run().await,
        }
        self.keeps_its_promises();
    }

    fn note(&mut self, at: usize, message: &Message) {
        let id = u32::from_be_bytes(message[0][..].try_into().expect("an id"));
        let at_number = number(message);
        assert!(at_number < self.accepted[&id], "received ⊆ sent");
        assert!(self.received.insert((id, at_number)), "twice: {at_number} of {id}");
        let last = self.pulls[at].last.insert(id, at_number);
        assert!(last.is_none_or(|last| last < at_number), "{at_number} of {id} after {last:?}");
    }

    fn keeps_its_promises(&self) {
        let (send, recv) = self.setting.marks;
        for sending in &self.pushes {
            let stats = sending.push.stats();
            let queued: usize = stats.peers.iter().map(|peer| peer.queued).sum();
            for peer in &stats.peers {
                assert!(peer.queued <= peer.send_hwm && peer.send_hwm <= send + recv, "{peer:?}");
            }
            assert_eq!(stats.messages_sent + queued as u64 + stats.drops.total(), u64::from(sending.accepted));
        }
    }

    /// Reads everything that still comes.
    async fn drain(&mut self) {
        loop {
            for at in 0..self.pulls.len() {
                while let Ok(message) = self.pulls[at].pull.try_recv() {
                    self.note(at, &message);
                }
            }
            let waits = |sending: &Sending| sending.push.peers().iter().any(|peer| peer.queued > 0);
            let unread = |receiving: &Receiving| receiving.pull.peers().iter().any(|peer| peer.unread > 0);
            let sent: u64 = self.pushes.iter().map(|sending| sending.push.stats().messages_sent).sum();
            let all_there = self.killed || self.received.len() as u64 == sent;
            if !self.pushes.iter().any(waits) && !self.pulls.iter().any(unread) && all_there {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.keeps_its_promises();
        if !self.killed {
            let accepted: u32 = self.accepted.values().sum();
            assert_eq!(self.received.len(), accepted as usize, "nobody was killed, so nothing is lost");
        }
    }
}

#[test]
fn p05_pipes() {
    fn property(setting: Setting, ops: Vec<PipeOp>) {
        run(async {
            let mut pipes = Pipes::new(setting).await;
            for op in &ops {
                pipes.apply(op).await;
            }
            pipes.drain().await;
        });
    }
    check(40, property as fn(Setting, Vec<PipeOp>));
}

// ---- Publish and subscribe: each subscriber gets exactly what matched when it was published.

const TOPICS: [&str; 7] = ["", "a", "ab", "abc", "b", "ba", "\0"];

#[derive(Debug, Clone)]
enum TopicOp {
    Subscribe { sub: usize, topic: usize },
    Unsubscribe { sub: usize, topic: usize },
    Publish { topic: usize, count: usize },
    Reconnect(usize),
}

impl Arbitrary for TopicOp {
    fn arbitrary(g: &mut Gen) -> TopicOp {
        let (sub, topic) = (below(g, 3), below(g, TOPICS.len()));
        match below(g, 12) {
            0..4 => TopicOp::Subscribe { sub, topic },
            4..6 => TopicOp::Unsubscribe { sub, topic },
            6..11 => TopicOp::Publish { topic, count: 1 + below(g, 5) },
            _ => TopicOp::Reconnect(sub),
        }
    }
}

struct Subscribed {
    sub: Sub,
    /// How often each topic is subscribed.
    topics: BTreeMap<&'static str, usize>,
    expected: Vec<(String, u32)>,
}

struct Publishing {
    publisher: Pub,
    subs: Vec<Subscribed>,
    next: u32,
}

impl Publishing {
    async fn new(setting: &Setting) -> Publishing {
        let publisher = Pub::bind(place(setting.transport)).await.expect("bind");
        let mut publishing = Publishing { publisher, subs: Vec::new(), next: 0 };
        for _ in 0..setting.peers.0 {
            let sub = publishing.connect();
            publishing.subs.push(sub);
        }
        publishing.settle().await;
        publishing
    }

    fn connect(&self) -> Subscribed {
        let sub = quick(Sub::builder()).connect(self.publisher.local_endpoint()).expect("connect");
        Subscribed { sub, topics: BTreeMap::new(), expected: Vec::new() }
    }

    /// Until the publisher knows what everybody wants.
    async fn settle(&self) {
        let wanted: usize = self.subs.iter().map(|sub| sub.topics.len()).sum();
        until(|| {
            let peers = self.publisher.peers();
            peers.len() == self.subs.len() && peers.iter().map(|peer| peer.subscriptions).sum::<usize>() == wanted
        })
        .await;
    }

    async fn apply(&mut self, op: &TopicOp) {
        match *op {
            TopicOp::Publish { topic, count } => {
                for _ in 0..count {
                    let topic = format!("{}{}", TOPICS[topic], self.next % 3);
                    let _ = self.publisher.send((topic.clone(), self.next.to_be_bytes())).await.expect("open");
                    for sub in &mut self.subs {
                        if sub.topics.keys().any(|prefix| topic.starts_with(prefix)) {
                            sub.expected.push((topic.clone(), self.next));
                        }
                    }
                    self.next += 1;
                }
                return;
            }
            // What was published before a change is read before it.
            _ => self.drain().await,
        }
        let count = self.subs.len();
        match *op {
            TopicOp::Subscribe { sub, topic } => {
                let sub = &mut self.subs[sub % count];
                sub.sub.subscribe(TOPICS[topic]).expect("open");
                *sub.topics.entry(TOPICS[topic]).or_default() += 1;
            }
            TopicOp::Unsubscribe { sub, topic } => {
                let sub = &mut self.subs[sub % count];
                sub.sub.unsubscribe(TOPICS[topic]).expect("open");
                if let Some(times) = sub.topics.get_mut(TOPICS[topic]) {
                    *times -= 1;
                    if *times == 0 {
                        sub.topics.remove(TOPICS[topic]);
                    }
                }
            }
            TopicOp::Reconnect(sub) => {
                let new = self.connect();
                let old = std::mem::replace(&mut self.subs[sub % count], new);
                soon(old.sub.close()).await;
            }
            TopicOp::Publish { .. } => {}
        }
        self.settle().await;
    }

    async fn drain(&mut self) {
        for sub in &mut self.subs {
            for (topic, at) in std::mem::take(&mut sub.expected) {
                let message = soon(sub.sub.recv()).await.expect("open");
                assert_eq!((message[0].to_str(), number(&message)), (Ok(&*topic), at));
            }
            assert_eq!(sub.sub.try_recv(), Err(TryRecvError::Empty));
        }
    }
}

#[test]
fn p05_publish_and_subscribe() {
    fn property(setting: Setting, ops: Vec<TopicOp>) {
        run(async {
            let mut publishing = Publishing::new(&setting).await;
            for op in &ops {
                publishing.apply(op).await;
            }
            publishing.drain().await;
            assert_eq!(publishing.publisher.stats().drops.get(DropReason::HwmReached), 0);
        });
    }
    check(25, property as fn(Setting, Vec<TopicOp>));
}

// ---- Requests: each gets its own reply, is carried out once at most, and never blocks the next.

#[derive(Debug, Clone)]
enum AskOp {
    Ask,
    Serve,
    /// The request is taken and never answered.
    Swallow,
    /// The newest request is given up.
    GiveUp,
    KillServer,
}

impl Arbitrary for AskOp {
    fn arbitrary(g: &mut Gen) -> AskOp {
        match below(g, 12) {
            0..5 => AskOp::Ask,
            5..9 => AskOp::Serve,
            9 => AskOp::Swallow,
            10 => AskOp::GiveUp,
            _ => AskOp::KillServer,
        }
    }
}

struct Asking {
    req: Req,
    rep: Rep,
    there: Endpoint,
    open: Vec<(u32, JoinHandle<Result<Message, RequestError>>)>,
    next: u32,
    seen: BTreeSet<u32>,
}

impl Asking {
    async fn apply(&mut self, op: &AskOp) {
        match op {
            AskOp::Ask => {
                let request = self.req.request(numbered(self.next)).into_future();
                self.open.push((self.next, tokio::spawn(request)));
                self.next += 1;
                others_run().await;
            }
            AskOp::Serve | AskOp::Swallow => {
                others_run().await;
                let Ok(request) = self.rep.try_recv() else { return };
                let at = number(request.message());
                assert!(self.seen.insert(at), "request {at} is carried out twice");
                if matches!(op, AskOp::Serve) {
                    // Its asker may be gone.
                    let _ = request.reply(numbered(at)).await;
                }
            }
            AskOp::GiveUp => {
                if let Some((_, asking)) = self.open.pop() {
                    asking.abort();
                    let _ = asking.await;
                }
            }
            AskOp::KillServer => {
                self.rep.shutdown_now();
                soon(self.rep.close()).await;
                self.rep = quick(Rep::builder()).build().expect("options");
                bind_again(&self.rep, &self.there).await;
            }
        }
        for (at, asking) in std::mem::take(&mut self.open) {
            if !asking.is_finished() {
                self.open.push((at, asking));
                continue;
            }
            match asking.await.expect("no panic") {
                Ok(reply) => assert_eq!(number(&reply), at, "the reply to another request"),
                Err(error) => assert_eq!(error, RequestError::PeerLost),
            }
        }
    }
}

#[test]
fn p05_requests() {
    fn property(setting: Setting, correlated: bool, ops: Vec<AskOp>) {
        run(async {
            let rep = Rep::bind(place(setting.transport)).await.expect("bind");
            let there = rep.local_endpoint().expect("bound");
            let req = quick(Req::builder()).correlate(correlated).connect(&there).expect("connect");
            soon(req.wait_for_peers(1)).await.expect("open");
            let mut asking = Asking { req, rep, there, open: Vec::new(), next: 0, seen: BTreeSet::new() };
            for op in &ops {
                asking.apply(op).await;
            }
            for (_, open) in &asking.open {
                open.abort();
            }
            // Whatever happened, both are usable.
            let Asking { req, mut rep, seen, .. } = asking;
            let last = tokio::spawn(async move {
                loop {
                    match req.request("last").await {
                        Err(RequestError::PeerLost) => {}
                        other => break other,
                    }
                }
            });
            loop {
                let request = soon(rep.recv()).await.expect("open");
                if request.message()[0] == "last" {
                    let _ = request.reply("fine").await.expect("it waits for that");
                    break;
                }
                assert!(!seen.contains(&number(request.message())), "carried out twice");
            }
            assert_eq!(soon(last).await.expect("no panic").expect("a reply")[0], "fine");
        });
    }
    check(25, property as fn(Setting, bool, Vec<AskOp>));
}

// ---- Routing ids: one holder each; the first (or with handover, the last) who came.

const NAMES: [&str; 3] = ["one", "two", "three"];

#[derive(Debug, Clone)]
enum NameOp {
    Join(usize),
    Leave(usize),
    Write(usize),
}

impl Arbitrary for NameOp {
    fn arbitrary(g: &mut Gen) -> NameOp {
        let name = below(g, NAMES.len());
        match below(g, 6) {
            0..3 => NameOp::Join(name),
            3 => NameOp::Leave(name),
            _ => NameOp::Write(name),
        }
    }
}

struct Naming {
    router: Router,
    monitor: Monitor,
    handover: bool,
    holders: BTreeMap<&'static str, Dealer>,
    next: u32,
}

impl Naming {
    async fn apply(&mut self, op: &NameOp) {
        match *op {
            NameOp::Join(at) => {
                let name = NAMES[at];
                let builder = quick(Dealer::builder()).no_reconnect().identity(name);
                let newcomer = builder.connect(self.router.local_endpoint()).expect("connect");
                let verdict = |event: &Event| matches!(event, Event::Connected { .. } | Event::Refused { .. });
                match event(&mut self.monitor, verdict).await {
                    Event::Connected { id, .. } => {
                        assert!(id == name && (self.handover || !self.holders.contains_key(name)));
                        self.holders.insert(name, newcomer);
                    }
                    Event::Refused { reason, .. } => {
                        assert_eq!(reason, Reason::IdentityTaken);
                        assert!(!self.handover && self.holders.contains_key(name));
                    }
                    _ => unreachable!(),
                }
            }
            NameOp::Leave(at) => {
                if let Some(holder) = self.holders.remove(NAMES[at]) {
                    soon(holder.close()).await;
                }
            }
            NameOp::Write(at) => {
                let sent = self.router.send_to(&PeerId::from(NAMES[at].as_bytes()), numbered(self.next)).await;
                match self.holders.get_mut(NAMES[at]) {
                    None => assert!(matches!(sent, Err(SendError::NoRoute(_))), "{sent:?}"),
                    Some(holder) => {
                        assert_eq!(number(&soon(holder.recv()).await.expect("open")), self.next);
                        // And back, with its name.
                        let _ = holder.send(numbered(self.next)).await.expect("open");
                        let (peer, message) = soon(self.router.recv()).await.expect("open");
                        assert_eq!((peer.as_ref(), number(&message)), (NAMES[at].as_bytes(), self.next));
                    }
                }
                self.next += 1;
            }
        }
        let held: BTreeSet<Vec<u8>> = self.holders.keys().map(|name| name.as_bytes().to_vec()).collect();
        until(|| {
            let peers = self.router.peers();
            let listed: BTreeSet<Vec<u8>> = peers.iter().map(|peer| peer.id.to_vec()).collect();
            listed == held && peers.len() == held.len()
        })
        .await;
    }
}

#[test]
fn p05_routing_ids() {
    fn property(setting: Setting, handover: bool, ops: Vec<NameOp>) {
        run(async {
            let builder = quick(Router::builder()).mandatory(true).handover(handover);
            let router = builder.bind(place(setting.transport)).await.expect("bind");
            let monitor = router.monitor();
            let mut naming = Naming { router, monitor, handover, holders: BTreeMap::new(), next: 0 };
            for op in &ops {
                naming.apply(op).await;
            }
        });
    }
    check(25, property as fn(Setting, bool, Vec<NameOp>));
}

// ---- The account of a queue: exact while nobody reads, zero when all is read.

#[derive(Debug, Clone)]
enum AccountOp {
    Send,
    Wait,
    StopWaiting(usize),
    Reserve,
    UsePermit,
    DropPermit,
}

impl Arbitrary for AccountOp {
    fn arbitrary(g: &mut Gen) -> AccountOp {
        match below(g, 8) {
            0..2 => AccountOp::Send,
            2 => AccountOp::Wait,
            3 => AccountOp::StopWaiting(below(g, 5)),
            4..6 => AccountOp::Reserve,
            6 => AccountOp::UsePermit,
            _ => AccountOp::DropPermit,
        }
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Receipt, SendError<Message>>> + 'a>>;

/// What waits in line gets every place that becomes free.
fn serve_line(waiting: &mut Vec<Waiting<'_>>, queued: &mut usize, mark: usize) {
    while !waiting.is_empty() && *queued < mark {
        let mut first = waiting.remove(0);
        assert!(poll_once(first.as_mut()).is_ready(), "its turn has come");
        *queued += 1;
    }
}

#[test]
fn p03_accounts() {
    fn property(setting: Setting, ops: Vec<AccountOp>) {
        run(async {
            let there = later(setting.transport).await;
            let mark = setting.marks.0;
            let push = quick(Push::builder()).send_hwm(mark).connect(&there).expect("connect");
            let (mut queued, mut messages) = (0, 0);
            let mut permits: Vec<Permit<'_>> = Vec::new();
            let mut waiting: Vec<Waiting<'_>> = Vec::new();
            for op in &ops {
                match op {
                    AccountOp::Send => {
                        let taken = push.try_send("x").is_ok();
                        assert_eq!(taken, queued < mark && waiting.is_empty());
                        queued += usize::from(taken);
                    }
                    AccountOp::Wait => {
                        let mut send: Waiting<'_> = Box::pin(push.send("x"));
                        let taken = poll_once(send.as_mut()).is_ready();
                        assert_eq!(taken, queued < mark && waiting.is_empty());
                        if taken {
                            queued += 1;
                        } else {
                            waiting.push(send);
                        }
                    }
                    AccountOp::StopWaiting(at) => {
                        if !waiting.is_empty() {
                            drop(waiting.remove(at % waiting.len()));
                        }
                    }
                    AccountOp::Reserve => match push.try_reserve() {
                        Ok(permit) => {
                            assert!(queued < mark && waiting.is_empty());
                            permits.push(permit);
                            queued += 1;
                        }
                        Err(_) => assert!(queued == mark || !waiting.is_empty()),
                    },
                    AccountOp::UsePermit => {
                        if let Some(permit) = permits.pop() {
                            let _ = permit.send("x");
                        }
                    }
                    AccountOp::DropPermit => {
                        if let Some(permit) = permits.pop() {
                            drop(permit);
                            queued -= 1;
                            serve_line(&mut waiting, &mut queued, mark);
                        }
                    }
                }
                assert_eq!(only_peer(&push).queued, queued, "after {op:?}");
                messages = queued - permits.len();
            }
            drop(waiting);
            drop(permits);
            assert_eq!(only_peer(&push).queued, messages);
            let mut pull = Pull::new();
            bind_again(&pull, &there).await;
            for _ in 0..messages {
                soon(pull.recv()).await.expect("open");
            }
            until(|| pull.try_recv().is_err() && only_peer(&push).queued == 0).await;
            assert_eq!(push.stats().messages_sent, messages as u64);
            assert_eq!(push.stats().drops.total(), 0);
        });
    }
    check(60, property as fn(Setting, Vec<AccountOp>));
}
