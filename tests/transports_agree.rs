//! The same operations give the same results over tcp, ipc and inproc.

mod common;

use bytes::Bytes;
use common::*;
use ginnel::*;
use quickcheck::{Arbitrary, Gen, QuickCheck};

const TOPICS: [&str; 5] = ["", "a", "ab", "b", "c"];
const SIZES: [usize; 6] = [0, 1, 30, 9_000, 40_000, 100_000];

#[derive(Debug, Clone)]
enum Op {
    /// On the pair of PAIR sockets: from the first or the second, frames of these sizes.
    Talk {
        first: bool,
        frames: Vec<usize>,
    },
    /// Reads so many, one by one or as a batch.
    Hear {
        first: bool,
        count: usize,
        batch: bool,
    },
    Subscribe(usize),
    Unsubscribe(usize),
    Publish {
        topic: usize,
        size: usize,
    },
    Upstream(usize),
    Ask {
        size: usize,
    },
    Route {
        known: bool,
        size: usize,
    },
    Reserve {
        send: bool,
    },
    Rebind,
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Op {
        let below = |g: &mut Gen, bound: usize| usize::arbitrary(g) % bound;
        let first = bool::arbitrary(g);
        let size = SIZES[below(g, SIZES.len())];
        let topic = below(g, TOPICS.len());
        match below(g, 14) {
            0..3 => Op::Talk { first, frames: (0..1 + below(g, 4)).map(|_| SIZES[below(g, SIZES.len())]).collect() },
            3..6 => Op::Hear { first, count: 1 + below(g, 5), batch: bool::arbitrary(g) },
            6 => Op::Subscribe(topic),
            7 => Op::Unsubscribe(topic),
            8..10 => Op::Publish { topic, size },
            10 => Op::Upstream(size),
            11 => Op::Ask { size },
            12 => Op::Route { known: first, size },
            _ if bool::arbitrary(g) => Op::Reserve { send: first },
            _ => Op::Rebind,
        }
    }
}

/// One pair of sockets of each kind, and what came of every operation.
struct World {
    pairs: [Pair; 2],
    /// Messages that wait to be read by each of them.
    talked: [usize; 2],
    there: Endpoint,
    xpub: XPub,
    xsub: XSub,
    topics: Vec<usize>,
    req: Req,
    rep: Rep,
    router: Router,
    dealer: Dealer,
    next: u32,
    trace: Vec<String>,
}

fn quick<S: Buildable>(builder: Builder<S>) -> Builder<S> {
    builder.reconnect(QUICK, QUICK)
}

impl World {
    async fn new(transport: &str) -> World {
        let one = Pair::bind(place(transport)).await.expect("bind");
        let there = one.local_endpoint().expect("bound");
        let two = quick(Pair::builder()).connect(&there).expect("connect");
        let xpub = XPub::builder().verboser(true).bind(place(transport)).await.expect("bind");
        let xsub = XSub::connect(xpub.local_endpoint()).expect("connect");
        let rep = Rep::bind(place(transport)).await.expect("bind");
        let req = Req::connect(rep.local_endpoint()).expect("connect");
        let router = Router::builder().mandatory(true).bind(place(transport)).await.expect("bind");
        let dealer = Dealer::builder().identity("dealer").connect(router.local_endpoint()).expect("connect");
        let sockets: [&Socket; 8] = [&one, &two, &xpub, &xsub, &rep, &req, &router, &dealer];
        for socket in sockets {
            soon(socket.wait_for_peers(1)).await.expect("open");
        }
        World {
            pairs: [one, two],
            talked: [0; 2],
            there,
            xpub,
            xsub,
            topics: Vec::new(),
            req,
            rep,
            router,
            dealer,
            next: 0,
            trace: Vec::new(),
        }
    }

    fn message(&mut self, sizes: &[usize]) -> Message {
        self.next += 1;
        let frames = sizes.iter().map(|&size| Frame::from(Bytes::from(vec![self.next as u8; size])));
        Message::from_frames(frames.chain([Frame::from(self.next.to_be_bytes())])).expect("frames")
    }

    fn note(&mut self, what: &str, message: &Message) {
        let sizes: Vec<usize> = message.iter().map(|frame| frame.len()).collect();
        let sum: u64 = message.iter().flat_map(|frame| frame.iter()).map(|&byte| u64::from(byte)).sum();
        self.trace.push(format!("{what} {sizes:?} {sum}"));
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Talk { first, frames } => {
                let message = self.message(frames);
                let from = usize::from(!first);
                let sent = self.pairs[from].send(message).await.is_ok();
                self.talked[1 - from] += usize::from(sent);
                self.trace.push(format!("sent {sent}"));
            }
            Op::Hear { first, count, batch } => self.hear(usize::from(!first), *count, *batch).await,
            Op::Subscribe(topic) => self.subscribe(*topic).await,
            Op::Unsubscribe(topic) => self.unsubscribe(*topic).await,
            Op::Publish { topic, size } => self.publish(*topic, *size).await,
            Op::Upstream(size) => {
                let message = self.message(&[2, *size]);
                let sent = self.xsub.send(("up", message[1].clone())).await.is_ok();
                self.trace.push(format!("upstream {sent}"));
                let message = soon(self.xpub.recv()).await.expect("open");
                self.note("from below", &message);
            }
            Op::Ask { size } => self.ask(*size).await,
            Op::Route { known, size } => {
                let message = self.message(&[*size]);
                let to = PeerId::from(if *known { &b"dealer"[..] } else { &b"nobody"[..] });
                let sent = self.router.send_to(&to, message).await.map(drop);
                self.trace.push(format!("routed {sent:?}"));
                if *known {
                    let message = soon(self.dealer.recv()).await.expect("open");
                    self.note("dealt", &message);
                    let _ = self.dealer.send(message).await.expect("open");
                    let (peer, message) = soon(self.router.recv()).await.expect("open");
                    self.note(&format!("from {peer:?}"), &message);
                }
            }
            Op::Reserve { send } => {
                let message = self.message(&[5]);
                let sender = self.pairs[0].sender();
                let permit = soon(sender.reserve()).await.expect("open");
                if *send {
                    let _ = permit.send(message);
                    self.talked[1] += 1;
                }
            }
            Op::Rebind => self.rebind().await,
        }
    }

    async fn hear(&mut self, at: usize, count: usize, batch: bool) {
        let count = count.min(self.talked[at]);
        self.talked[at] -= count;
        if count == 0 {
            let nothing = self.pairs[at].try_recv().map(drop);
            self.trace.push(format!("{nothing:?}"));
        }
        let mut left = count;
        while left > 0 {
            if !batch {
                let message = soon(self.pairs[at].recv()).await.expect("open");
                self.note("heard", &message);
                left -= 1;
                continue;
            }
            let mut batch = Batch::new();
            left -= soon(self.pairs[at].recv_batch(&mut batch, left)).await.expect("open");
            for view in batch.iter() {
                self.note("heard", &view.to_message());
            }
        }
    }

    async fn subscribe(&mut self, topic: usize) {
        self.xsub.subscribe(TOPICS[topic]).expect("open");
        self.topics.push(topic);
        if self.topics.iter().filter(|&&other| other == topic).count() == 1 {
            let message = soon(self.xpub.recv()).await.expect("open");
            self.note("told", &message);
        }
    }

    async fn unsubscribe(&mut self, topic: usize) {
        self.xsub.unsubscribe(TOPICS[topic]).expect("open");
        let Some(at) = self.topics.iter().position(|&other| other == topic) else { return };
        self.topics.remove(at);
        if !self.topics.contains(&topic) {
            let message = soon(self.xpub.recv()).await.expect("open");
            self.note("told", &message);
        }
    }

    async fn publish(&mut self, topic: usize, size: usize) {
        let message = self.message(&[size]);
        let message = Message::from((TOPICS[topic], message[0].clone()));
        let sent = self.xpub.send(message).await.is_ok();
        let wanted = self.topics.iter().any(|&prefix| TOPICS[topic].starts_with(TOPICS[prefix]));
        self.trace.push(format!("published {sent} {}", self.xpub.stats().drops.get(DropReason::NoPeer)));
        if wanted {
            let message = soon(self.xsub.recv()).await.expect("open");
            self.note("got", &message);
        } else {
            assert_eq!(self.xsub.try_recv(), Err(TryRecvError::Empty));
        }
    }

    async fn ask(&mut self, size: usize) {
        let message = self.message(&[size]);
        let asking = tokio::spawn(std::future::IntoFuture::into_future(self.req.request(message)));
        let request = soon(self.rep.recv()).await.expect("open");
        let body = request.message().clone();
        self.note("asked", &body);
        let _ = request.reply(body).await.expect("it waits");
        let reply = soon(asking).await.expect("no panic").expect("a reply");
        self.note("replied", &reply);
    }

    /// The bound one of the pair goes and comes back; what the other one sends meanwhile waits.
    async fn rebind(&mut self) {
        // What is on its way might be lost with the old socket: read it first.
        self.hear(0, usize::MAX, false).await;
        self.hear(1, usize::MAX, false).await;
        soon(self.pairs[0].close()).await;
        until(|| !only_peer(&self.pairs[1]).connected).await;
        let message = self.message(&[3, 4]);
        let sent = self.pairs[1].send(message).await.is_ok();
        self.talked[0] += usize::from(sent);
        let closed = self.pairs[0].send("closed").await.map(drop);
        self.trace.push(format!("{sent} {closed:?} {:?}", self.pairs[0].try_recv()));
        self.pairs[0] = Pair::new();
        bind_again(&self.pairs[0], &self.there).await;
        soon(self.pairs[0].wait_for_peers(1)).await.expect("open");
        soon(self.pairs[1].wait_for_peers(1)).await.expect("open");
    }
}

async fn play(transport: &str, ops: &[Op]) -> Vec<String> {
    let mut world = World::new(transport).await;
    for op in ops {
        world.apply(op).await;
    }
    world.hear(0, usize::MAX, true).await;
    world.hear(1, usize::MAX, true).await;
    world.trace
}

#[test]
fn p05_all_transports_give_the_same_results() {
    fn property(ops: Vec<Op>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let expected = soon(play("inproc", &ops)).await;
            for transport in WIRES {
                assert_eq!(soon(play(transport, &ops)).await, expected, "{transport} is not as inproc");
            }
        });
    }
    QuickCheck::new().tests(cases()).rng(Gen::new(30)).quickcheck(property as fn(Vec<Op>));
}
