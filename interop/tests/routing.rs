//! Requests, identities and refusals with libzmq: correlation, routing ids, probes, second peers, wrong types.

use ginnel::{Dealer, Event, Message, Pair, Pull, Reason, Rep, Req, Router, SocketType};
use interop::{Cases, Outcome, Peer, Program, check, frames_of, json, same, wait_for, within};

const ANY: &str = "tcp://127.0.0.1:*";

/// A hundred requests at once to libzmq's REP, each with its own reply.
async fn many_in_flight(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "REP", ANY, json!({})).await?;
    let ours = Req::connect(endpoint)?;
    let asking: Vec<_> = (0..100).map(|number| tokio::spawn(ask(ours.clone(), number))).collect();
    peer.call(json!({ "do": "echo", "s": "theirs", "count": 100 })).await?;
    for asked in asking {
        same("reply", within("reply", asked).await?.map_err(|e| e.to_string()), Ok(true))?;
    }
    Ok(())
}

/// Whether the reply to `number` is its own.
async fn ask(req: Req, number: u64) -> Result<bool, ginnel::RequestError> {
    let reply = req.request(number.to_be_bytes()).await?;
    Ok(frames_of(&reply) == [number.to_be_bytes()])
}

/// With ids in the envelope, answers may come in any order, also through libzmq's ROUTER.
async fn answered_in_reverse(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "ROUTER", ANY, json!({})).await?;
    let ours = Req::builder().correlate(true).connect(endpoint)?;
    let asking: Vec<_> = (0..10).map(|number| tokio::spawn(ask(ours.clone(), number))).collect();
    peer.call(json!({ "do": "echo", "s": "theirs", "count": 10, "reverse": true })).await?;
    for asked in asking {
        same("reply", within("reply", asked).await?.map_err(|e| e.to_string()), Ok(true))?;
    }
    Ok(())
}

/// What libzmq's ROUTER sees of our request: the id frame only when asked for.
async fn request_bytes(peer: &mut Peer, correlate: bool) -> Outcome {
    let endpoint = peer.bind("theirs", "ROUTER", ANY, json!({})).await?;
    let mut builder = Req::builder();
    if correlate {
        builder = builder.correlate(true);
    }
    let ours = builder.connect(endpoint)?;
    let asked = tokio::spawn(async move { ours.request("body").await });
    let seen = peer.recv("theirs").await?;
    let lengths: Vec<usize> = seen.iter().skip(1).map(Vec::len).collect();
    same("frames behind the address", lengths, if correlate { vec![4, 0, 4] } else { vec![0, 4] })?;
    peer.send("theirs", &seen).await?;
    same("reply", frames_of(&within("reply", asked).await??), vec![b"body".to_vec()])
}

/// Our plain REQ also works with correlation off towards libzmq's REP, one request after the other.
async fn uncorrelated(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "REP", ANY, json!({})).await?;
    let ours = Req::builder().correlate(false).connect(endpoint)?;
    for number in 0..20 {
        let asked = tokio::spawn(ask(ours.clone(), number));
        peer.call(json!({ "do": "echo", "s": "theirs", "count": 1 })).await?;
        same("reply", within("reply", asked).await?.map_err(|e| e.to_string()), Ok(true))?;
    }
    Ok(())
}

/// libzmq's correlating, relaxed REQ: our REP echoes its id; the reply to an abandoned request is not taken.
async fn their_correlation(peer: &mut Peer) -> Outcome {
    let mut ours = Rep::bind(ANY).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "REQ", &endpoint, json!({ "REQ_CORRELATE": 1, "REQ_RELAXED": 1 })).await?;
    peer.send("theirs", &[b"abandoned".to_vec()]).await?;
    let first = within("recv", ours.recv()).await?;
    same("first", frames_of(first.message()), vec![b"abandoned".to_vec()])?;
    peer.send("theirs", &[b"kept".to_vec()]).await?;
    let second = within("recv", ours.recv()).await?;
    // A relaxed REQ closes the connection of an abandoned request, so the late reply may find nobody.
    let _ = within("late reply", first.reply("late")).await;
    within("reply", second.reply("on time")).await?;
    same("reply", peer.recv("theirs").await?, vec![b"on time".to_vec()])
}

/// A reply that is followed at once by the end of the connection is still a reply.
async fn answered_and_gone(peer: &mut Peer) -> Outcome {
    for number in 0..30 {
        let endpoint = peer.bind("theirs", "REP", ANY, json!({})).await?;
        let asked = tokio::spawn(ask(Req::connect(endpoint)?, number));
        let message = peer.recv("theirs").await?;
        peer.send("theirs", &message).await?;
        peer.call(json!({ "do": "close", "s": "theirs", "linger": -1 })).await?;
        same("reply", within("reply", asked).await?.map_err(|e| e.to_string()), Ok(true))?;
    }
    Ok(())
}

/// Requests answered out of order by our REP reach the right libzmq REQ.
async fn two_clients(peer: &mut Peer) -> Outcome {
    let mut ours = Rep::bind(ANY).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    let mut requests = Vec::new();
    for name in ["one", "two"] {
        peer.connect(name, "REQ", &endpoint, json!({})).await?;
        peer.send(name, &[name.into()]).await?;
        requests.push(within("recv", ours.recv()).await?);
    }
    for request in requests.into_iter().rev() {
        let body = request.message().clone();
        within("reply", request.reply(body)).await?;
    }
    for name in ["two", "one"] {
        same("reply", peer.recv(name).await?, vec![name.as_bytes().to_vec()])?;
    }
    Ok(())
}

async fn our_identity(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "ROUTER", ANY, json!({})).await?;
    let dealer = Dealer::builder().identity("our dealer").connect(&endpoint)?;
    within("send", dealer.send("hello")).await?;
    same("seen", peer.recv("theirs").await?, vec![b"our dealer".to_vec(), b"hello".to_vec()])?;
    let req = Req::builder().identity("our req").connect(&endpoint)?;
    let asked = tokio::spawn(async move { req.request("hello").await });
    same("seen", peer.recv("theirs").await?, vec![b"our req".to_vec(), vec![], b"hello".to_vec()])?;
    asked.abort();
    Ok(())
}

async fn their_identity(peer: &mut Peer) -> Outcome {
    let mut ours = Router::bind(ANY).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    let longest = "x".repeat(255);
    for (nth, identity) in ["client", "z", &longest].into_iter().enumerate() {
        let name = format!("theirs {nth}");
        peer.connect(&name, "DEALER", &endpoint, json!({ "IDENTITY": identity })).await?;
        peer.send(&name, &[b"hello".to_vec()]).await?;
        let (id, _) = within("recv", ours.recv()).await?;
        same("id", id.as_ref(), identity.as_bytes())?;
        within("send_to", ours.send_to(&id, "answer")).await?;
        same("answer", peer.recv(&name).await?, vec![b"answer".to_vec()])?;
    }
    peer.connect("nameless", "DEALER", &endpoint, json!({})).await?;
    peer.send("nameless", &[b"hello".to_vec()]).await?;
    let (id, _) = within("recv", ours.recv()).await?;
    check(!id.as_ref().is_empty(), "a nameless peer has no id")?;
    within("send_to", ours.send_to(&id, "answer")).await?;
    same("answer", peer.recv("nameless").await?, vec![b"answer".to_vec()])
}

async fn their_probe(peer: &mut Peer) -> Outcome {
    for (kind, name) in [("DEALER", "prober"), ("ROUTER", "probing router")] {
        let mut ours = Router::bind(ANY).await?;
        let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
        peer.connect(name, kind, &endpoint, json!({ "PROBE_ROUTER": 1, "IDENTITY": name })).await?;
        let (id, message) = within("recv", ours.recv()).await?;
        same("id", id.as_ref(), name.as_bytes())?;
        same("the probe", frames_of(&message), vec![vec![]])?;
    }
    Ok(())
}

async fn our_probe(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "ROUTER", ANY, json!({})).await?;
    let _dealer = Dealer::builder().probe(true).identity("dealer").connect(&endpoint)?;
    same("the probe", peer.recv("theirs").await?, vec![b"dealer".to_vec(), vec![]])?;
    let mut router = Router::builder().probe(true).identity("router").connect(&endpoint)?;
    same("the probe", peer.recv("theirs").await?, vec![b"router".to_vec(), vec![]])?;
    peer.send("theirs", &[b"router".to_vec(), b"welcome".to_vec()]).await?;
    let (_, message) = within("recv", router.recv()).await?;
    same("the answer", frames_of(&message), vec![b"welcome".to_vec()])
}

fn refused(reason: Reason) -> impl Fn(&Event) -> bool {
    move |event| {
        let reasons = match event {
            Event::Refused { reason, .. } | Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        };
        reasons == Some(&reason)
    }
}

async fn identity_taken(peer: &mut Peer, handover: bool) -> Outcome {
    let mut ours = Router::builder().handover(handover).build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to(ANY).await?.to_string();
    for name in ["old", "new"] {
        peer.connect(name, "DEALER", &endpoint, json!({ "IDENTITY": "me", "RECONNECT_IVL": -1 })).await?;
        if name == "old" || handover {
            peer.send(name, &[name.into()]).await?;
            let (_, message) = within("recv", ours.recv()).await?;
            same("its message", frames_of(&message), vec![name.as_bytes().to_vec()])?;
        }
    }
    let reason = if handover { Reason::Local } else { Reason::IdentityTaken };
    wait_for(&mut monitor, &format!("{reason}"), refused(reason)).await?;
    let kept = if handover { "new" } else { "old" };
    within("send_to", ours.send_to(&b"me"[..].into(), "for you")).await?;
    same("who got it", peer.recv(kept).await?, vec![b"for you".to_vec()])
}

async fn pair_taken(peer: &mut Peer) -> Outcome {
    let mut ours = Pair::builder().build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to(ANY).await?.to_string();
    peer.connect("first", "PAIR", &endpoint, json!({})).await?;
    peer.send("first", &[b"first".to_vec()]).await?;
    same("first", frames_of(&within("recv", ours.recv()).await?), vec![b"first".to_vec()])?;
    peer.connect("second", "PAIR", &endpoint, json!({ "RECONNECT_IVL": 20 })).await?;
    wait_for(&mut monitor, "PairTaken", refused(Reason::PairTaken)).await?;
    within("send", ours.send("to the first")).await?;
    same("the first", peer.recv("first").await?, vec![b"to the first".to_vec()])?;
    // We only close a second peer, so libzmq keeps trying and takes the place when it is free.
    peer.close("first").await?;
    peer.send("second", &[b"second".to_vec()]).await?;
    same("second", frames_of(&within("recv", ours.recv()).await?), vec![b"second".to_vec()])
}

async fn wrong_type(peer: &mut Peer, theirs: SocketType) -> Outcome {
    let ours = Pull::builder().build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to(ANY).await?.to_string();
    peer.connect("theirs", theirs.name(), &endpoint, json!({})).await?;
    wait_for(&mut monitor, "IncompatibleType", refused(Reason::IncompatibleType)).await.map(drop)
}

/// DEALER shares messages among libzmq peers in turn, and hears all of them.
async fn dealer_takes_turns(peer: &mut Peer) -> Outcome {
    let mut ours = Dealer::bind(ANY).await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    for name in ["one", "two", "three"] {
        peer.connect(name, "DEALER", &endpoint, json!({})).await?;
    }
    within("wait_for_peers", ours.wait_for_peers(3)).await?;
    for number in 0..9_u64 {
        within("send", ours.send(Message::from(number.to_be_bytes()))).await?;
    }
    let mut heard = Vec::new();
    for name in ["one", "two", "three"] {
        for _ in 0..3 {
            let message = peer.recv(name).await?;
            peer.send(name, &message).await?;
            heard.extend(frames_of(&within("recv", ours.recv()).await?));
        }
    }
    heard.sort();
    same("all numbers", heard, (0..9_u64).map(|number| number.to_be_bytes().to_vec()).collect())
}

#[tokio::test]
async fn requests() {
    let mut cases = Cases::new("requests", Program::Libzmq);
    cases.run("100 requests in flight to their REP", many_in_flight).await;
    cases.run("their ROUTER answers in reverse", answered_in_reverse).await;
    cases.run("our default REQ at their ROUTER", async |peer| request_bytes(peer, false).await).await;
    cases.run("our correlating REQ at their ROUTER", async |peer| request_bytes(peer, true).await).await;
    cases.run("our uncorrelated REQ at their REP", uncorrelated).await;
    cases.run("their REP answers and leaves", answered_and_gone).await;
    cases.run("their correlating REQ at our REP", their_correlation).await;
    cases.run("two of their REQ at our REP, answered in reverse", two_clients).await;
    cases.finish();
}

#[tokio::test]
async fn identities_and_refusals() {
    let mut cases = Cases::new("identities and refusals", Program::Libzmq);
    cases.run("our identity at their ROUTER", our_identity).await;
    cases.run("their identity at our ROUTER", their_identity).await;
    cases.run("their PROBE_ROUTER", their_probe).await;
    cases.run("our probe", our_probe).await;
    cases.run("an identity twice: the second is refused", async |peer| identity_taken(peer, false).await).await;
    cases.run("an identity twice: handover", async |peer| identity_taken(peer, true).await).await;
    cases.run("a second PAIR", pair_taken).await;
    for theirs in [SocketType::Pub, SocketType::Req, SocketType::Pull, SocketType::Pair] {
        cases.run(format!("their {theirs} at our PULL"), async |peer| wrong_type(peer, theirs).await).await;
    }
    cases.run("our DEALER with three of theirs", dealer_takes_turns).await;
    cases.finish();
}
