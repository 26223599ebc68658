//! Two sockets of any legal pair of types: how they meet, and how the content set goes through.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ginnel::SocketType;
use serde_json::{Value, json};

use crate::cases::{Fault, Outcome, check, same, within};
use crate::content::{Content, content_set, frames_of, message_of};
use crate::ours::{At, Ours};
use crate::peer::Peer;

/// The peer's socket in every meeting.
pub(crate) const THEIRS: &str = "theirs";

/// How bytes travel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Ipc,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Transport::Tcp { "tcp" } else { "ipc" })
    }
}

/// Who meets whom, and where.
#[derive(Clone, Copy)]
pub struct Meeting<'a> {
    pub ours: SocketType,
    pub theirs: SocketType,
    pub transport: Transport,
    pub we_bind: bool,
    /// Options of our socket, as text.
    pub options: &'a [(&'a str, &'a str)],
}

impl fmt::Display for Meeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binder = if self.we_bind { "we" } else { "they" };
        write!(f, "our {} with their {}, {}, {binder} bind", self.ours, self.theirs, self.transport)
    }
}

impl Transport {
    /// Where we bind: any free place.
    pub fn our_place(self) -> String {
        if self == Transport::Tcp { "tcp://127.0.0.1:*".to_owned() } else { fresh_path() }
    }

    /// Where libzmq binds: any free place.
    pub fn their_place(self) -> &'static str {
        if self == Transport::Tcp { "tcp://127.0.0.1:*" } else { "ipc://*" }
    }
}

fn fresh_path() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("ginnel-interop-{}-{number}", std::process::id());
    format!("ipc://{}", std::env::temp_dir().join(name).display())
}

/// Opens both sockets; returns when ours has its peer.
pub async fn meet(meeting: &Meeting<'_>, peer: &mut Peer, their_options: Value) -> Result<Ours, Fault> {
    let theirs = meeting.theirs.name();
    let ours = if meeting.we_bind {
        let place = meeting.transport.our_place();
        let ours = Ours::open(meeting.ours, At::Bind(&place), meeting.options).await?;
        peer.connect(THEIRS, theirs, &ours.endpoint()?.to_string(), their_options).await?;
        ours
    } else {
        let endpoint = peer.bind(THEIRS, theirs, meeting.transport.their_place(), their_options).await?;
        Ours::open(meeting.ours, At::Connect(&endpoint), meeting.options).await?
    };
    ours.wait_for_peer().await?;
    Ok(ours)
}

/// Sends the content set through the pair, in every direction it has, byte for byte.
pub async fn exchange(meeting: &Meeting<'_>, peer: &mut Peer) -> Outcome {
    use SocketType::{Pub, Pull, Push, Router, Sub, XPub, XSub};
    let routers = meeting.ours == Router && meeting.theirs == Router;
    let their_options = match meeting.theirs {
        Sub => json!({ "SUBSCRIBE": "" }),
        Router if routers => json!({ "IDENTITY": "theirs" }),
        _ => json!({}),
    };
    let named = [("identity", "ours")];
    let meeting = Meeting { options: if routers { &named } else { meeting.options }, ..*meeting };
    let mut ours = meet(&meeting, peer, their_options).await?;
    ours.address("theirs");
    subscribe_and_wait(&meeting, &mut ours, peer).await?;
    match (meeting.ours, meeting.theirs) {
        (Push | Pub, _) | (XPub, Sub) => outwards(&mut ours, peer).await,
        (Pull | Sub, _) | (XSub, Pub) => inwards(&mut ours, peer).await,
        (XPub, _) | (XSub, _) => {
            outwards(&mut ours, peer).await?;
            inwards(&mut ours, peer).await
        }
        _ => both_ways(&meeting, &mut ours, peer).await,
    }
}

async fn outwards(ours: &mut Ours, peer: &mut Peer) -> Outcome {
    for content in content_set() {
        ours.send(message_of(&content)).await?;
        expect(&content, peer.recv(THEIRS).await?, "they received")?;
    }
    Ok(())
}

async fn inwards(ours: &mut Ours, peer: &mut Peer) -> Outcome {
    for content in content_set() {
        peer.send(THEIRS, &content).await?;
        expect(&content, frames_of(&ours.recv().await?), "we received")?;
    }
    Ok(())
}

/// Compares without printing megabytes.
fn expect(sent: &Content, got: Content, what: &str) -> Outcome {
    let lengths = |content: &Content| content.iter().map(Vec::len).collect::<Vec<_>>();
    check(*sent == got, format!("{what} frames of {:?} bytes, sent were {:?}", lengths(&got), lengths(sent)))
}

/// Each message is answered with the next of the set before the following one goes out.
async fn both_ways(meeting: &Meeting<'_>, ours: &mut Ours, peer: &mut Peer) -> Outcome {
    let mut line = Line { ours, peer, meeting, their_address: None };
    let set = content_set();
    for (question, answer) in set.iter().zip(set.iter().rev()) {
        if line.we_begin() {
            line.out(question).await?;
            line.back(answer).await?;
        } else {
            line.back(question).await?;
            line.out(answer).await?;
        }
    }
    Ok(())
}

/// A pair that talks both ways, with the frames that its types put before a body.
struct Line<'a> {
    ours: &'a mut Ours,
    peer: &'a mut Peer,
    meeting: &'a Meeting<'a>,
    their_address: Option<Vec<u8>>,
}

impl Line<'_> {
    /// A ROUTER or REP must be spoken to first.
    fn we_begin(&self) -> bool {
        use SocketType::{Rep, Router};
        let waits = |kind| matches!(kind, Rep | Router);
        !waits(self.meeting.ours) || self.meeting.theirs == Router
    }

    /// Whether `sender`'s user must put the empty delimiter before a body for `receiver`, who takes it off.
    fn delimited(sender: SocketType, receiver: SocketType) -> bool {
        use SocketType::{Dealer, Rep, Req, Router};
        matches!((sender, receiver), (Dealer, Rep) | (Router, Req))
    }

    async fn out(&mut self, content: &Content) -> Outcome {
        let (ours, theirs) = (self.meeting.ours, self.meeting.theirs);
        let mut frames = if Line::delimited(ours, theirs) { vec![Vec::new()] } else { Vec::new() };
        frames.extend(content.iter().cloned());
        self.ours.send(message_of(&frames)).await?;
        let mut got = self.peer.recv(THEIRS).await?;
        if theirs == SocketType::Router {
            self.their_address = Some(got.remove(0));
        }
        if Line::delimited(theirs, ours) {
            same("the delimiter they see", got.remove(0), Vec::new())?;
        }
        expect(content, got, "they received")
    }

    async fn back(&mut self, content: &Content) -> Outcome {
        let (ours, theirs) = (self.meeting.ours, self.meeting.theirs);
        let mut frames = Vec::new();
        if theirs == SocketType::Router {
            frames.extend(self.their_address.clone());
        }
        if Line::delimited(theirs, ours) {
            frames.push(Vec::new());
        }
        frames.extend(content.iter().cloned());
        self.peer.send(THEIRS, &frames).await?;
        let mut got = frames_of(&self.ours.recv().await?);
        if Line::delimited(ours, theirs) {
            same("the delimiter we see", got.remove(0), Vec::new())?;
        }
        expect(content, got, "we received")
    }
}

/// For a publisher and a subscriber: subscribes to everything and waits until the publisher knows.
pub async fn subscribe_and_wait(meeting: &Meeting<'_>, ours: &mut Ours, peer: &mut Peer) -> Outcome {
    ours.subscribe_all()?;
    if meeting.theirs == SocketType::XSub {
        peer.send(THEIRS, &[vec![1]]).await?;
    }
    match (ours, meeting.theirs) {
        (Ours::Pub(socket), _) => within("wait_for_subscribers", socket.wait_for_subscribers(1)).await?,
        (Ours::XPub(socket), _) => {
            let message = within("recv", socket.recv()).await?;
            same("the subscription we see", frames_of(&message), vec![vec![1]])?;
        }
        (Ours::Sub(_) | Ours::XSub(_), SocketType::XPub) => {
            same("the subscription they see", peer.recv(THEIRS).await?, vec![vec![1]])?;
        }
        (ours @ (Ours::Sub(_) | Ours::XSub(_)), _) => probe(ours, peer).await?,
        _ => {}
    }
    Ok(())
}

/// A PUB cannot tell whether it knows a subscription, so it publishes until something arrives.
async fn probe(ours: &mut Ours, peer: &mut Peer) -> Outcome {
    let knock = vec![b"knock".to_vec()];
    let knocking = async {
        loop {
            peer.send(THEIRS, &knock).await?;
            if let Ok(message) = tokio::time::timeout(Duration::from_millis(20), ours.recv()).await {
                return message;
            }
        }
    };
    within("a first publication", knocking).await?;
    peer.send(THEIRS, &[b"open".to_vec()]).await?;
    while frames_of(&ours.recv().await?) == knock {}
    Ok(())
}
