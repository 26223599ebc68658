//! JeroMQ 0.3.6 speaks ZMTP 2.0: served when `zmtp2` is on, refused when it is not.

use ginnel::SocketType::{Dealer, Pub, Pull, Push, Rep, Req, Router, Sub};
use ginnel::{Event, Message, Phase, Reason};
use interop::{
    Cases, Meeting, Ours, Outcome, Peer, Program, Transport, exchange, frames_of, json, meet, same, wait_for,
};

const OPTIONS: &[(&str, &str)] = &[("zmtp2", "true")];
const COUNT: u64 = 20_000;

/// Numbered messages from ours to theirs, or the other way for PULL.
async fn stream(meeting: &Meeting<'_>, peer: &mut Peer) -> Outcome {
    let mut ours = meet(meeting, peer, json!({})).await?;
    if meeting.ours == Push {
        let sending = async {
            for number in 0..COUNT {
                ours.send(Message::from(number.to_be_bytes())).await?;
            }
            Ok(())
        };
        let (sent, verified): (Outcome, _) = tokio::join!(sending, peer.stream_verify("theirs", COUNT));
        return sent.and(verified.map(drop));
    }
    let receiving = async {
        for number in 0..COUNT {
            same("number", frames_of(&ours.recv().await?), vec![number.to_be_bytes().to_vec()])?;
        }
        Ok(())
    };
    let (sent, received): (Outcome, Outcome) = tokio::join!(peer.stream_send("theirs", COUNT, &[]), receiving);
    sent.and(received)
}

async fn refused(peer: &mut Peer, we_bind: bool) -> Outcome {
    let ours = ginnel::Pull::builder().build()?;
    let mut monitor = ours.monitor();
    if we_bind {
        let endpoint = ours.bind_to("tcp://127.0.0.1:*").await?;
        peer.connect("theirs", "PUSH", &endpoint.to_string(), json!({})).await?;
    } else {
        ours.connect_to(peer.bind("theirs", "PUSH", "tcp://127.0.0.1:*", json!({})).await?)?;
    }
    // It closes at our byte of version 3, often before its own version has left: then that is all there is to say.
    let refusal = |event: &Event| {
        let said = matches!(event, Event::Refused { reason: Reason::UnsupportedVersion, .. });
        said || matches!(event, Event::Refused { reason: Reason::PeerClosed, phase: Phase::Greeting, .. })
    };
    wait_for(&mut monitor, "Refused: UnsupportedVersion or PeerClosed in the greeting", refusal).await.map(drop)
}

/// Subscriptions are messages in ZMTP 2.0, both ways.
async fn filters(meeting: &Meeting<'_>, peer: &mut Peer) -> Outcome {
    let mut ours = meet(meeting, peer, json!({})).await?;
    match &mut ours {
        Ours::XPub(socket) => {
            for (change, expected) in [("SUBSCRIBE", b"\x01a."), ("UNSUBSCRIBE", b"\x00a.")] {
                peer.set("theirs", json!([[change, "a."]])).await?;
                same(change, frames_of(&interop::within("recv", socket.recv()).await?), vec![expected.to_vec()])?;
            }
            Ok(())
        }
        Ours::XSub(socket) => {
            socket.subscribe("a.")?;
            same("SUBSCRIBE", peer.recv("theirs").await?, vec![b"\x01a.".to_vec()])?;
            socket.unsubscribe("a.")?;
            same("CANCEL", peer.recv("theirs").await?, vec![b"\x00a.".to_vec()])
        }
        _ => Err("not a publisher or subscriber".into()),
    }
}

#[tokio::test]
async fn jeromq() {
    let mut cases = Cases::new("JeroMQ, ZMTP 2.0", Program::JeroMq);
    let transport = Transport::Tcp;
    for we_bind in [true, false] {
        let pairs = [
            (Push, Pull),
            (Pull, Push),
            (Pub, Sub),
            (Sub, Pub),
            (Req, Rep),
            (Rep, Req),
            (Dealer, Router),
            (Router, Dealer),
            (Dealer, Rep),
            (Router, Req),
            (Dealer, Dealer),
        ];
        for (ours, theirs) in pairs {
            let meeting = Meeting { ours, theirs, transport, we_bind, options: OPTIONS };
            cases.run(meeting, async |peer| exchange(&meeting, peer).await).await;
        }
        for (ours, theirs) in [(Push, Pull), (Pull, Push)] {
            let meeting = Meeting { ours, theirs, transport, we_bind, options: OPTIONS };
            cases.run(format!("{COUNT} messages: {meeting}"), async |peer| stream(&meeting, peer).await).await;
        }
        for (ours, theirs) in [(ginnel::SocketType::XPub, Sub), (ginnel::SocketType::XSub, ginnel::SocketType::XPub)] {
            let meeting = Meeting { ours, theirs, transport, we_bind, options: OPTIONS };
            cases.run(format!("subscriptions: {meeting}"), async |peer| filters(&meeting, peer).await).await;
        }
        let who = if we_bind { "we" } else { "they" };
        cases.run(format!("refused without zmtp2, {who} bind"), async |peer| refused(peer, we_bind).await).await;
    }
    cases.finish();
}
