//! libzmq dies and comes back on the same endpoint, or we do: traffic and subscriptions resume by themselves.

use std::time::Duration;

use ginnel::{Event, Monitor, Pub, Pull, Push, Rep, Req, RequestError, Router, Sub};
use interop::{Cases, Fault, Outcome, Peer, Program, frames_of, json, same, wait_for, within};

const SOON: Duration = Duration::from_millis(20);

async fn connected(monitor: &mut Monitor) -> Result<Event, Fault> {
    wait_for(monitor, "Connected", |event| matches!(event, Event::Connected { .. })).await
}

async fn disconnected(monitor: &mut Monitor) -> Result<Event, Fault> {
    wait_for(monitor, "Disconnected", |event| matches!(event, Event::Disconnected { .. })).await
}

async fn push_comes_back(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "PULL", "tcp://127.0.0.1:*", json!({})).await?;
    let ours = Push::builder().reconnect(SOON, SOON).build()?;
    let mut monitor = ours.monitor();
    ours.connect_to(&endpoint)?;
    connected(&mut monitor).await?;
    within("send", ours.send("before")).await?;
    same("before", peer.recv("theirs").await?, vec![b"before".to_vec()])?;
    peer.kill().await?;
    disconnected(&mut monitor).await?;
    within("send", ours.send("between")).await?;
    peer.restart().await?;
    peer.bind("theirs", "PULL", &endpoint, json!({})).await?;
    connected(&mut monitor).await?;
    within("send", ours.send("after")).await?;
    same("sent while it was gone", peer.recv("theirs").await?, vec![b"between".to_vec()])?;
    same("after", peer.recv("theirs").await?, vec![b"after".to_vec()])
}

async fn sub_resubscribes(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "XPUB", "tcp://127.0.0.1:*", json!({})).await?;
    let mut ours = Sub::builder().reconnect(SOON, SOON).connect(&endpoint)?;
    let mut monitor = ours.monitor();
    for text in ["a", "b", "c"] {
        ours.subscribe(text)?;
        same("first time", peer.recv("theirs").await?, vec![[b"\x01", text.as_bytes()].concat()])?;
    }
    ours.unsubscribe("b")?;
    same("cancel", peer.recv("theirs").await?, vec![b"\x00b".to_vec()])?;
    peer.kill().await?;
    disconnected(&mut monitor).await?;
    ours.subscribe("d")?;
    peer.restart().await?;
    peer.bind("theirs", "XPUB", &endpoint, json!({})).await?;
    let mut topics = Vec::new();
    for _ in 0..3 {
        topics.extend(peer.recv("theirs").await?);
    }
    topics.sort();
    same("second time", topics, [b"\x01a", b"\x01c", b"\x01d"].map(|topic| topic.to_vec()).to_vec())?;
    peer.send("theirs", &[b"a1".to_vec()]).await?;
    same("published", frames_of(&within("recv", ours.recv()).await?), vec![b"a1".to_vec()])
}

async fn request_is_lost_and_the_next_works(peer: &mut Peer) -> Outcome {
    let endpoint = peer.bind("theirs", "REP", "tcp://127.0.0.1:*", json!({})).await?;
    let ours = Req::builder().reconnect(SOON, SOON).connect(&endpoint)?;
    let client = ours.clone();
    let lost = tokio::spawn(async move { client.request("one").await });
    same("the request", peer.recv("theirs").await?, vec![b"one".to_vec()])?;
    peer.kill().await?;
    same("its end", within("the lost request", lost).await?, Err(RequestError::PeerLost))?;
    let client = ours.clone();
    let waiting = tokio::spawn(async move { client.request("two").await });
    peer.restart().await?;
    peer.bind("theirs", "REP", &endpoint, json!({})).await?;
    same("the next request", peer.recv("theirs").await?, vec![b"two".to_vec()])?;
    peer.send("theirs", &[b"reply".to_vec()]).await?;
    same("its reply", frames_of(&within("reply", waiting).await??), vec![b"reply".to_vec()])
}

async fn a_new_client_takes_the_place(peer: &mut Peer) -> Outcome {
    let mut ours = Router::builder().build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?.to_string();
    for round in ["one", "two"] {
        peer.connect("theirs", "DEALER", &endpoint, json!({ "IDENTITY": "client" })).await?;
        peer.send("theirs", &[round.into()]).await?;
        let (id, message) = within("recv", ours.recv()).await?;
        same("its message", frames_of(&message), vec![round.as_bytes().to_vec()])?;
        same("its id", id.as_ref(), b"client")?;
        within("send_to", ours.send_to(&id, "back")).await?;
        same("the answer", peer.recv("theirs").await?, vec![b"back".to_vec()])?;
        peer.restart().await?;
        disconnected(&mut monitor).await?;
    }
    Ok(())
}

async fn we_come_back_as_pull(peer: &mut Peer) -> Outcome {
    let mut ours = Pull::bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    peer.connect("theirs", "PUSH", &endpoint, json!({ "RECONNECT_IVL": 20 })).await?;
    peer.send("theirs", &[b"before".to_vec()]).await?;
    same("before", frames_of(&within("recv", ours.recv()).await?), vec![b"before".to_vec()])?;
    ours.close().await;
    peer.events("theirs", "DISCONNECTED", 10_000).await?;
    let mut ours = Pull::bind(&endpoint).await?;
    peer.send("theirs", &[b"after".to_vec()]).await?;
    same("after", frames_of(&within("recv", ours.recv()).await?), vec![b"after".to_vec()])
}

async fn we_come_back_as_pub(peer: &mut Peer) -> Outcome {
    let mut endpoint = "tcp://127.0.0.1:*".to_owned();
    for round in ["one", "two"] {
        let ours = Pub::bind(&endpoint).await?;
        if round == "one" {
            endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
            let options = json!({ "RECONNECT_IVL": 20, "SUBSCRIBE": "" });
            peer.connect("theirs", "SUB", &endpoint, options).await?;
        }
        within("wait_for_subscribers", ours.wait_for_subscribers(1)).await?;
        within("send", ours.send(round)).await?;
        same("published", peer.recv("theirs").await?, vec![round.as_bytes().to_vec()])?;
        ours.close().await;
    }
    Ok(())
}

async fn their_request_outlives_our_rep(peer: &mut Peer) -> Outcome {
    let mut ours = Rep::bind("tcp://127.0.0.1:*").await?;
    let endpoint = ours.local_endpoint().ok_or("not bound")?.to_string();
    let options = json!({ "RECONNECT_IVL": 20, "REQ_RELAXED": 1, "REQ_CORRELATE": 1 });
    peer.connect("theirs", "REQ", &endpoint, options).await?;
    peer.send("theirs", &[b"one".to_vec()]).await?;
    let request = within("recv", ours.recv()).await?;
    same("one", frames_of(request.message()), vec![b"one".to_vec()])?;
    drop(request);
    ours.close().await;
    let mut ours = Rep::bind(&endpoint).await?;
    peer.send("theirs", &[b"two".to_vec()]).await?;
    let request = within("recv", ours.recv()).await?;
    same("two", frames_of(request.message()), vec![b"two".to_vec()])?;
    within("reply", request.reply("reply")).await?;
    same("the reply", peer.recv("theirs").await?, vec![b"reply".to_vec()])
}

#[tokio::test]
async fn reconnect() {
    let mut cases = Cases::new("reconnect", Program::Libzmq);
    cases.run("our PUSH, their PULL restarts", push_comes_back).await;
    cases.run("our SUB, their XPUB restarts", sub_resubscribes).await;
    cases.run("our REQ, their REP restarts", request_is_lost_and_the_next_works).await;
    cases.run("our ROUTER, their DEALER restarts", a_new_client_takes_the_place).await;
    cases.run("our PULL restarts", we_come_back_as_pull).await;
    cases.run("our PUB restarts", we_come_back_as_pub).await;
    cases.run("our REP restarts", their_request_outlives_our_rep).await;
    cases.finish();
}
