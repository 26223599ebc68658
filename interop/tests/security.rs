//! PLAIN with libzmq both ways, and what is refused.

use ginnel::{Credentials, Event, Phase, Pull, Push, Reason, Security};
use interop::{Cases, Outcome, Peer, Program, check, frames_of, json, same, wait_for, within};

fn anna(password: &str) -> Result<Credentials, ginnel::OptionError> {
    Credentials::new("anna", password)
}

fn their_login(password: &str) -> interop::Value {
    json!({ "PLAIN_USERNAME": "anna", "PLAIN_PASSWORD": password })
}

/// libzmq's server asks its ZAP handler about us.
async fn we_log_in(peer: &mut Peer, we_bind: bool) -> Outcome {
    peer.call(json!({ "do": "plain", "users": { "anna": "secret" } })).await?;
    let ours = Push::builder().security(Security::PlainClient(anna("secret")?)).build()?;
    let server = json!({ "PLAIN_SERVER": 1 });
    if we_bind {
        let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
        peer.connect("theirs", "PULL", &endpoint.to_string(), server).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "PULL", "tcp://127.0.0.1:*", server).await?)?;
    }
    within("send", ours.send("let in")).await?;
    same("the message", peer.recv("theirs").await?, vec![b"let in".to_vec()])
}

async fn they_log_in(peer: &mut Peer, we_bind: bool) -> Outcome {
    let users = vec![Credentials::new("otto", "x")?, anna("secret")?];
    let mut ours = Pull::builder().security(Security::PlainServer(users)).build()?;
    if we_bind {
        let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
        peer.connect("theirs", "PUSH", &endpoint.to_string(), their_login("secret")).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "PUSH", "tcp://127.0.0.1:*", their_login("secret")).await?)?;
    }
    peer.send("theirs", &[b"let in".to_vec()]).await?;
    same("the message", frames_of(&within("recv", ours.recv()).await?), vec![b"let in".to_vec()])
}

fn refused(event: &Event) -> bool {
    matches!(event, Event::Refused { .. })
}

fn reason_of(event: Event) -> String {
    match event {
        Event::Refused { reason, .. } => reason.to_string(),
        other => format!("{other:?}"),
    }
}

/// libzmq 4.3.5 misspells ERROR here (`5e "RROR"`); a client of ours still knows what was meant.
async fn our_wrong_password(peer: &mut Peer) -> Outcome {
    peer.call(json!({ "do": "plain", "users": { "anna": "secret" } })).await?;
    let endpoint = peer.bind("theirs", "PULL", "tcp://127.0.0.1:*", json!({ "PLAIN_SERVER": 1 })).await?;
    let ours = Push::builder().security(Security::PlainClient(anna("wrong")?)).build()?;
    let mut monitor = ours.monitor();
    ours.connect_to(endpoint)?;
    let reason = reason_of(wait_for(&mut monitor, "Refused", refused).await?);
    check(reason == "AuthDenied" || reason.starts_with("PeerError: 400"), format!("the reason is {reason}"))
}

/// libzmq 4.3.5 knows only its own misspelt ERROR, so ours fails there as a breach of protocol; it stays away all the same.
async fn their_wrong_password(peer: &mut Peer) -> Outcome {
    let ours = Pull::builder().security(Security::PlainServer(vec![anna("secret")?])).build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
    peer.connect("theirs", "PUSH", &endpoint.to_string(), their_login("wrong")).await?;
    let event = wait_for(&mut monitor, "Refused", refused).await?;
    same("our reason", reason_of(event), "AuthDenied".to_owned())?;
    let events = peer.events("theirs", "DISCONNECTED", 10_000).await?;
    check(events.iter().any(|name| name.starts_with("HANDSHAKE_FAILED_")), format!("their events: {events:?}"))
}

/// Both sides must use the same mechanism.
async fn mechanisms_differ(peer: &mut Peer, ours: Security, their_options: interop::Value) -> Outcome {
    let ours = Pull::builder().security(ours).build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
    peer.connect("theirs", "PUSH", &endpoint.to_string(), their_options).await?;
    // libzmq closes at our greeting, often before its own has left: then that is all there is to say.
    let refusal = |event: &Event| {
        let Event::Refused { reason, phase, .. } = event else { return false };
        let said = *reason == Reason::MechanismMismatch && matches!(phase, Phase::Greeting | Phase::Handshake);
        said || (*reason == Reason::PeerClosed && *phase == Phase::Greeting)
    };
    wait_for(&mut monitor, "Refused: MechanismMismatch or PeerClosed in the greeting", refusal).await.map(drop)
}

#[tokio::test]
async fn security() {
    let mut cases = Cases::new("security", Program::Libzmq);
    cases.run("PLAIN: we log in, they bind", async |peer| we_log_in(peer, false).await).await;
    cases.run("PLAIN: we log in, we bind", async |peer| we_log_in(peer, true).await).await;
    cases.run("PLAIN: they log in, we bind", async |peer| they_log_in(peer, true).await).await;
    cases.run("PLAIN: they log in, they bind", async |peer| they_log_in(peer, false).await).await;
    cases.run("PLAIN: our wrong password", our_wrong_password).await;
    cases.run("PLAIN: their wrong password", their_wrong_password).await;
    let null = async |peer: &mut Peer| mechanisms_differ(peer, Security::Null, their_login("secret")).await;
    cases.run("we are NULL, they are PLAIN", null).await;
    let plain = async |peer: &mut Peer| {
        let server = Security::PlainServer(vec![anna("secret")?]);
        mechanisms_differ(peer, server, json!({})).await
    };
    cases.run("we are PLAIN, they are NULL", plain).await;
    cases.finish();
}
