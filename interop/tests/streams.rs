//! 100,000 numbered messages arrive all and in order, each way, whoever binds.

use ginnel::SocketType::{Dealer, Pair, Pull, Push, Router};
use ginnel::{Message, SocketType};
use interop::{
    Cases, Fault, Meeting, Ours, Outcome, Peer, Program, Transport, frames_of, json, meet, message_of, same,
};

const COUNT: u64 = 100_000;

/// What the peer needs so that a full queue makes it wait instead of dropping.
fn their_options(theirs: SocketType) -> interop::Value {
    if theirs == Router { json!({ "ROUTER_MANDATORY": 1 }) } else { json!({}) }
}

async fn send_numbers(ours: &mut Ours) -> Outcome {
    for number in 0..COUNT {
        ours.send(Message::from(number.to_be_bytes())).await?;
    }
    Ok(())
}

async fn receive_numbers(ours: &mut Ours) -> Outcome {
    for number in 0..COUNT {
        let frames = frames_of(&ours.recv().await?);
        if frames != [number.to_be_bytes()] {
            return Err(format!("number {number} is missing, got {frames:?}").into());
        }
    }
    Ok(())
}

/// Ours to theirs; the frames that come before the number over there (a ROUTER's address of us).
async fn outwards(ours: &mut Ours, peer: &mut Peer) -> Result<Vec<Vec<u8>>, Fault> {
    let (sent, head) = tokio::join!(send_numbers(ours), peer.stream_verify("theirs", COUNT));
    sent?;
    head
}

async fn inwards(ours: &mut Ours, peer: &mut Peer, head: &[Vec<u8>]) -> Outcome {
    let (sent, received) = tokio::join!(peer.stream_send("theirs", COUNT, head), receive_numbers(ours));
    sent.and(received)
}

async fn stream(meeting: &Meeting<'_>, peer: &mut Peer) -> Outcome {
    let mut ours = meet(meeting, peer, their_options(meeting.theirs)).await?;
    match (meeting.ours, meeting.theirs) {
        (Push, _) => outwards(&mut ours, peer).await.map(drop),
        (Pull, _) => inwards(&mut ours, peer, &[]).await,
        (Router, _) => {
            inwards(&mut ours, peer, &[]).await?;
            outwards(&mut ours, peer).await.map(drop)
        }
        _ => {
            let head = outwards(&mut ours, peer).await?;
            inwards(&mut ours, peer, &head).await
        }
    }
}

async fn table(name: &'static str, transport: Transport, we_bind: bool) {
    let mut cases = Cases::new(name, Program::Libzmq);
    for (ours, theirs) in
        [(Push, Pull), (Pull, Push), (Dealer, Router), (Router, Dealer), (Dealer, Dealer), (Pair, Pair)]
    {
        let meeting = Meeting { ours, theirs, transport, we_bind, options: &[] };
        cases.run(meeting, async |peer| stream(&meeting, peer).await).await;
    }
    cases.finish();
}

#[tokio::test]
async fn streams_over_tcp_we_bind() {
    table("100,000 messages, tcp, we bind", Transport::Tcp, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_tcp_they_bind() {
    table("100,000 messages, tcp, they bind", Transport::Tcp, false).await;
}

#[tokio::test]
async fn streams_over_ipc() {
    table("100,000 messages, ipc, they bind", Transport::Ipc, false).await;
}

/// A sender that leaves at once loses nothing: what it wrote is read to the end.
async fn they_send_and_leave(meeting: &Meeting<'_>, peer: &mut Peer) -> Outcome {
    let mut ours = meet(meeting, peer, json!({})).await?;
    peer.stream_send("theirs", 900, &[]).await?;
    peer.call(json!({ "do": "close", "s": "theirs", "linger": -1 })).await?;
    for number in 0..900_u64 {
        same("number", frames_of(&ours.recv().await?), vec![number.to_be_bytes().to_vec()])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_peer_that_leaves_is_read_to_the_end() {
    let mut cases = Cases::new("they send and leave", Program::Libzmq);
    for transport in [Transport::Tcp, Transport::Ipc] {
        for we_bind in [true, false] {
            let meeting = Meeting { ours: Pull, theirs: Push, transport, we_bind, options: &[] };
            cases.run(meeting, async |peer| they_send_and_leave(&meeting, peer).await).await;
        }
    }
    cases.finish();
}

/// Waiting messages survive our close: linger writes them all.
#[tokio::test]
async fn close_writes_what_was_accepted() {
    let mut cases = Cases::new("close", Program::Libzmq);
    for we_bind in [true, false] {
        let meeting = Meeting { ours: Push, theirs: Pull, transport: Transport::Tcp, we_bind, options: &[] };
        let case = async |peer: &mut Peer| {
            let mut ours = meet(&meeting, peer, json!({})).await?;
            for number in 0..1000_u64 {
                ours.send(message_of(&[b"head".to_vec(), number.to_be_bytes().to_vec()])).await?;
            }
            let (report, head) = tokio::join!(ours.close(), peer.stream_verify("theirs", 1000));
            same("the head", head?, vec![b"head".to_vec()])?;
            same("dropped", report.dropped, 0)
        };
        cases.run(meeting, case).await;
    }
    cases.finish();
}
