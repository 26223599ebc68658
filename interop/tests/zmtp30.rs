//! A peer that announces ZMTP 3.0: no program at hand still does, so this one is written out in bytes.
//!
//! In 3.0 subscriptions are messages (01 or 00 and the topic), not commands.

use ginnel::{Event, Pub, Sub, XPub};
use interop::{Fault, Outcome, check, frames_of, same, wait_for, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Greets as ZMTP 3.0 with NULL, announces `kind`, and reads the other side's greeting and READY.
async fn shake_hands(stream: &mut TcpStream, kind: &str) -> Outcome {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    within("a greeting", stream.read_exact(&mut greeting)).await?;
    same("their version", &greeting[10..12], &[3, 1])?;
    let property = [b"\x0bSocket-Type\0\0\0", &[u8::try_from(kind.len())?][..], kind.as_bytes()].concat();
    let ready = [b"\x05READY", &property[..]].concat();
    stream.write_all(&[4, u8::try_from(ready.len())?]).await?;
    stream.write_all(&ready).await?;
    let (flags, body) = read_frame(stream).await?;
    check(flags == 4 && body.starts_with(b"\x05READY"), format!("not a READY: {flags} {body:?}"))
}

/// One frame of up to 255 bytes.
async fn read_frame(stream: &mut TcpStream) -> Result<(u8, Vec<u8>), Fault> {
    let mut head = [0; 2];
    within("a frame", stream.read_exact(&mut head)).await?;
    check(head[0] & 2 == 0, "a long frame")?;
    let mut body = vec![0; usize::from(head[1])];
    within("a body", stream.read_exact(&mut body)).await?;
    Ok((head[0], body))
}

async fn send_frame(stream: &mut TcpStream, body: &[u8]) -> Outcome {
    stream.write_all(&[&[0, u8::try_from(body.len())?][..], body].concat()).await?;
    Ok(())
}

fn address(endpoint: Option<ginnel::Endpoint>) -> Result<String, Fault> {
    let text = endpoint.ok_or("not bound")?.to_string();
    Ok(text.strip_prefix("tcp://").ok_or("not tcp")?.to_owned())
}

#[tokio::test]
async fn our_sub_subscribes_by_message() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut ours = Sub::connect(format!("tcp://{}", listener.local_addr()?))?;
    ours.subscribe("A")?;
    let (mut stream, _) = within("a connection", listener.accept()).await?;
    shake_hands(&mut stream, "PUB").await?;
    same("subscribe", read_frame(&mut stream).await?, (0, b"\x01A".to_vec()))?;
    send_frame(&mut stream, b"A-data").await?;
    same("published", frames_of(&within("recv", ours.recv()).await?), vec![b"A-data".to_vec()])?;
    ours.unsubscribe("A")?;
    same("cancel", read_frame(&mut stream).await?, (0, b"\x00A".to_vec()))
}

/// Two subscribes and one cancel by the same peer: the publisher keeps a set, so the topic is gone.
#[tokio::test]
async fn our_publisher_keeps_a_set_per_peer() -> Outcome {
    let mut ours = XPub::bind("tcp://127.0.0.1:*").await?;
    let mut stream = TcpStream::connect(address(ours.local_endpoint())?).await?;
    shake_hands(&mut stream, "SUB").await?;
    for topic in [&b"\x01A"[..], b"\x01A", b"\x00A", b"\x01end"] {
        send_frame(&mut stream, topic).await?;
    }
    for topic in [&b"\x01A"[..], b"\x00A", b"\x01end"] {
        same("seen", frames_of(&within("recv", ours.recv()).await?), vec![topic.to_vec()])?;
    }
    within("send", ours.send("A is gone")).await?;
    within("send", ours.send("end")).await?;
    same("only this", read_frame(&mut stream).await?, (0, b"end".to_vec()))
}

/// The command form is taken from a 3.0 peer too, as libzmq does.
#[tokio::test]
async fn our_publisher_takes_both_forms() -> Outcome {
    let ours = Pub::bind("tcp://127.0.0.1:*").await?;
    let mut monitor = ours.monitor();
    let mut stream = TcpStream::connect(address(ours.local_endpoint())?).await?;
    shake_hands(&mut stream, "SUB").await?;
    stream.write_all(b"\x04\x0b\x09SUBSCRIBEA").await?;
    let subscribed = |event: &Event| matches!(event, Event::Subscribed { topic, .. } if *topic == "A");
    wait_for(&mut monitor, "Subscribed", subscribed).await?;
    within("send", ours.send("A-data")).await?;
    same("published", read_frame(&mut stream).await?, (0, b"A-data".to_vec()))
}
