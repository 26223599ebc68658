//! Subscriptions with libzmq: what travels, what counts, what is filtered.
//!
//! libzmq counts on the subscriber's side (every subscribe travels, only the last cancel does) and keeps a set per
//! peer on the publisher's side. Ours counts too and sends each change once.

use ginnel::{Sub, XPub, XSub};
use interop::{
    Cases, Content, Meeting, Ours, Outcome, Peer, Program, Transport, filled, frames_of, json, meet, same, within,
};

fn topic(first: u8, text: &str) -> Content {
    vec![[&[first], text.as_bytes()].concat()]
}

/// Our subscriber, by type: both have the same two calls.
enum Subscriber {
    Sub(Sub),
    XSub(XSub),
}

impl Subscriber {
    fn subscribe(&self, text: &str) -> Outcome {
        match self {
            Subscriber::Sub(socket) => Ok(socket.subscribe(text)?),
            Subscriber::XSub(socket) => Ok(socket.subscribe(text)?),
        }
    }

    fn unsubscribe(&self, text: &str) -> Outcome {
        match self {
            Subscriber::Sub(socket) => Ok(socket.unsubscribe(text)?),
            Subscriber::XSub(socket) => Ok(socket.unsubscribe(text)?),
        }
    }
}

/// Two subscribes and one cancel leave the subscription; the second cancel ends it. Each change travels once.
async fn we_count(peer: &mut Peer, subscriber: impl FnOnce(&str) -> Result<Subscriber, interop::Fault>) -> Outcome {
    let endpoint = peer.bind("theirs", "XPUB", "tcp://127.0.0.1:*", json!({ "XPUB_VERBOSER": 1 })).await?;
    let ours = subscriber(&endpoint)?;
    ours.subscribe("A")?;
    ours.subscribe("A")?;
    same("first", peer.recv("theirs").await?, topic(1, "A"))?;
    ours.unsubscribe("A")?;
    ours.subscribe("B")?;
    same("after one of two cancels", peer.recv("theirs").await?, topic(1, "B"))?;
    ours.unsubscribe("A")?;
    same("after the last cancel", peer.recv("theirs").await?, topic(0, "A"))?;
    ours.unsubscribe("never subscribed")?;
    ours.unsubscribe("B")?;
    same("a cancel of nothing does not travel", peer.recv("theirs").await?, topic(0, "B"))
}

async fn next(ours: &mut XPub) -> Result<Content, interop::Fault> {
    Ok(frames_of(&within("recv", ours.recv()).await?))
}

/// Our XPUB reports what libzmq's SUB changes.
async fn xpub_sees(peer: &mut Peer, verbose: bool) -> Outcome {
    let mut ours = XPub::builder().verbose(verbose).bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "SUB", &endpoint, json!({})).await?;
    peer.set("theirs", json!([["SUBSCRIBE", "A"], ["SUBSCRIBE", "A"]])).await?;
    same("first", next(&mut ours).await?, topic(1, "A"))?;
    if verbose {
        same("a second time", next(&mut ours).await?, topic(1, "A"))?;
    }
    peer.set("theirs", json!([["UNSUBSCRIBE", "A"], ["SUBSCRIBE", "B"], ["UNSUBSCRIBE", "A"]])).await?;
    same("one of two cancels does not travel", next(&mut ours).await?, topic(1, "B"))?;
    same("the last cancel", next(&mut ours).await?, topic(0, "A"))?;
    peer.close("theirs").await?;
    same("a subscriber that leaves cancels", next(&mut ours).await?, topic(0, "B"))
}

/// Only the second of two subscribers of a topic is silent on a plain XPUB; the last to cancel is reported.
async fn xpub_joins_subscribers(peer: &mut Peer) -> Outcome {
    let mut ours = XPub::bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    for name in ["one", "two"] {
        peer.connect(name, "SUB", &endpoint, json!({ "SUBSCRIBE": "A" })).await?;
    }
    same("the first of two", next(&mut ours).await?, topic(1, "A"))?;
    within("wait_for_subscribers", ours.wait_for_subscribers(2)).await?;
    peer.set("one", json!([["UNSUBSCRIBE", "A"]])).await?;
    peer.set("one", json!([["SUBSCRIBE", "B"]])).await?;
    same("the first cancel is silent", next(&mut ours).await?, topic(1, "B"))?;
    peer.set("two", json!([["UNSUBSCRIBE", "A"]])).await?;
    same("the last cancel", next(&mut ours).await?, topic(0, "A"))
}

/// A topic of every length around the edges of command and message framing.
fn edge_topics() -> Vec<Vec<u8>> {
    [1, 2, 62, 63, 243, 244, 245, 246, 247, 254, 255, 256, 257, 1000].map(|len| filled(len, 65)).to_vec()
}

/// Topics in the peer's options are text; these bytes are ASCII up to length 26, so longer ones use this alphabet.
fn text_topics() -> Vec<String> {
    edge_topics().iter().map(|bytes| bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect()).collect()
}

async fn their_topics_reach_us(peer: &mut Peer) -> Outcome {
    let mut ours = XPub::bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "SUB", &endpoint, json!({})).await?;
    for text in text_topics() {
        peer.set("theirs", json!([["SUBSCRIBE", text]])).await?;
        same("their topic", next(&mut ours).await?, topic(1, &text))?;
        within("send", ours.send(text.as_str())).await?;
        same("published", peer.recv("theirs").await?, vec![text.clone().into_bytes()])?;
        peer.set("theirs", json!([["UNSUBSCRIBE", text]])).await?;
        same("their cancel", next(&mut ours).await?, topic(0, &text))?;
    }
    Ok(())
}

async fn our_topics_reach_them(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "XPUB", "tcp://127.0.0.1:*", json!({})).await?;
    let mut ours = Sub::connect(endpoint)?;
    for bytes in edge_topics() {
        ours.subscribe(&bytes[..])?;
        same("our topic", peer.recv("theirs").await?, vec![[&[1], &bytes[..]].concat()])?;
        peer.send("theirs", std::slice::from_ref(&bytes)).await?;
        same("published", frames_of(&within("recv", ours.recv()).await?), vec![bytes.clone()])?;
        ours.unsubscribe(&bytes[..])?;
        same("our cancel", peer.recv("theirs").await?, vec![[&[0], &bytes[..]].concat()])?;
    }
    Ok(())
}

fn published() -> [&'static str; 6] {
    ["b", "a", "ab", "a.", "a.one", "end"]
}

/// Our publisher filters for libzmq's subscriber.
async fn we_filter(peer: &mut Peer, meeting: &Meeting<'_>) -> Outcome {
    let mut ours = meet(meeting, peer, json!({})).await?;
    peer.set("theirs", json!([["SUBSCRIBE", "a."], ["SUBSCRIBE", "end"]])).await?;
    match &mut ours {
        Ours::XPub(socket) => {
            same("first", frames_of(&within("recv", socket.recv()).await?), topic(1, "a."))?;
            same("second", frames_of(&within("recv", socket.recv()).await?), topic(1, "end"))?;
        }
        Ours::Pub(socket) => {
            let known = || socket.peers().iter().any(|peer| peer.connected);
            interop::until("a subscriber", known).await?;
            within("wait_for_subscribers", socket.wait_for_subscribers(1)).await?;
            // The second subscription follows the first; its own publication tells when it is known.
            loop {
                within("send", socket.send("end")).await?;
                if peer.call(json!({ "do": "recv", "s": "theirs", "timeout": 20 })).await.is_ok() {
                    break;
                }
            }
            while peer.call(json!({ "do": "recv", "s": "theirs", "timeout": 20 })).await.is_ok() {}
        }
        _ => return Err("not a publisher".into()),
    }
    for text in published() {
        ours.send(text.into()).await?;
    }
    for text in ["a.", "a.one", "end"] {
        same("what passes", peer.recv("theirs").await?, vec![text.as_bytes().to_vec()])?;
    }
    Ok(())
}

/// libzmq's publisher filters for our subscriber; our own filter agrees.
async fn they_filter(peer: &mut Peer, meeting: &Meeting<'_>) -> Outcome {
    let mut ours = meet(meeting, peer, json!({})).await?;
    let Ours::Sub(socket) = &mut ours else { return Err("not a SUB".into()) };
    for (nth, text) in ["a.", "end"].into_iter().enumerate() {
        socket.subscribe(text)?;
        same(&format!("subscription {nth}"), peer.recv("theirs").await?, topic(1, text))?;
    }
    for text in published() {
        peer.send("theirs", &[text.as_bytes().to_vec()]).await?;
    }
    for text in ["a.", "a.one", "end"] {
        same("what passes", frames_of(&within("recv", socket.recv()).await?), vec![text.as_bytes().to_vec()])?;
    }
    Ok(())
}

/// Our XPUB's welcome message greets libzmq's subscriber.
async fn welcome(peer: &mut Peer) -> Outcome {
    let ours = XPub::builder().welcome("welcome!").bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "SUB", &endpoint, json!({ "SUBSCRIBE": "welcome" })).await?;
    same("the welcome", peer.recv("theirs").await?, vec![b"welcome!".to_vec()])
}

/// 2,000 topics at once, each seen once.
async fn many(peer: &mut Peer) -> Outcome {
    let mut ours = XPub::builder().recv_hwm(0).bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "SUB", &endpoint, json!({ "SNDHWM": 0 })).await?;
    let names: Vec<String> = (0..2000).map(|number| format!("topic {number:04}.")).collect();
    peer.set("theirs", names.iter().map(|name| json!(["SUBSCRIBE", name])).collect()).await?;
    let mut seen = Vec::new();
    for _ in &names {
        seen.extend(next(&mut ours).await?);
    }
    seen.sort();
    let expected: Vec<Vec<u8>> = names.iter().flat_map(|name| topic(1, name)).collect();
    interop::check(seen == expected, "the topics differ")
}

#[tokio::test]
async fn subscriptions() {
    use ginnel::SocketType::{Pub, Sub as SubType, XPub as XPubType};
    let mut cases = Cases::new("subscriptions", Program::Libzmq);
    cases.run("our SUB counts", async |peer| we_count(peer, |at| Ok(Subscriber::Sub(Sub::connect(at)?))).await).await;
    cases
        .run("our XSUB counts", async |peer| we_count(peer, |at| Ok(Subscriber::XSub(XSub::connect(at)?))).await)
        .await;
    cases.run("our XPUB sees changes", async |peer| xpub_sees(peer, false).await).await;
    cases.run("our verbose XPUB sees repetitions", async |peer| xpub_sees(peer, true).await).await;
    cases.run("our XPUB joins subscribers", xpub_joins_subscribers).await;
    cases.run("topics of every length from them", their_topics_reach_us).await;
    cases.run("topics of every length to them", our_topics_reach_them).await;
    cases.run("welcome message", welcome).await;
    cases.run("2,000 topics", many).await;
    for we_bind in [true, false] {
        for ours in [Pub, XPubType] {
            let meeting = Meeting { ours, theirs: SubType, transport: Transport::Tcp, we_bind, options: &[] };
            cases.run(format!("filter: {meeting}"), async |peer| we_filter(peer, &meeting).await).await;
        }
        let meeting = Meeting { ours: SubType, theirs: XPubType, transport: Transport::Ipc, we_bind, options: &[] };
        cases.run(format!("filter: {meeting}"), async |peer| they_filter(peer, &meeting).await).await;
    }
    cases.finish();
}
