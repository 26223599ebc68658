//! push, pub and xpub: the source's messages to the peers.

use ginnel::{Message, OnFull, Pub, Push, RecvError, Socket, SocketType, TrySendError, XPub};

use super::step;
use crate::args::{PubArgs, PushArgs, SocketArgs, SourceArgs, WhenFull};
use crate::ends::{Receive, Send};
use crate::exit::Failure;
use crate::session::Session;
use crate::setup::configure;
use crate::source::Source;

pub(crate) async fn push(args: PushArgs) -> Result<i32, Failure> {
    let socket = configure(Push::builder(), &args.socket)?.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::Push, &args.socket).await?;
    let end = session.run(send_from_first_peer(&*socket, &socket, &args.socket, &args.source)).await;
    session.finish(end).await
}

pub(crate) async fn publish(args: PubArgs) -> Result<i32, Failure> {
    let builder = configure(Pub::builder(), &args.socket)?.on_full(on_full(args.on_full));
    let socket = builder.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::Pub, &args.socket).await?;
    let end = session.run(async {
        if let Some(count) = args.wait_subs {
            let subscribers = step(&args.socket, "subscriber", socket.wait_for_subscribers(count));
            subscribers.await?.map_err(Failure::failed)?;
        }
        send_all(&*socket, &args.socket, &args.source, args.topic.as_deref()).await
    });
    let end = end.await;
    session.finish(end).await
}

pub(crate) async fn xpub(args: PubArgs) -> Result<i32, Failure> {
    let builder = configure(XPub::builder(), &args.socket)?.on_full(on_full(args.on_full));
    let mut socket = builder.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::XPub, &args.socket).await?;
    let sender = socket.sender();
    let end = session.run(async {
        if let Some(count) = args.wait_subs {
            let subscribers = step(&args.socket, "subscriber", socket.wait_for_subscribers(count));
            subscribers.await?.map_err(Failure::failed)?;
        }
        tokio::select! {
            result = send_all(&sender, &args.socket, &args.source, args.topic.as_deref()) => result,
            // Subscriptions come as messages too. The monitor has logged them; unread they would stop the peer.
            e = discard(&mut *socket) => Err(Failure::failed(e)),
        }
    });
    let end = end.await;
    session.finish(end).await
}

async fn discard(receiver: &mut impl Receive) -> RecvError {
    loop {
        if let Err(e) = receiver.recv().await {
            return e;
        }
    }
}

fn on_full(how: WhenFull) -> OnFull {
    match how {
        WhenFull::Block => OnFull::Block,
        WhenFull::DropNewest => OnFull::DropNewest,
        WhenFull::DropOldest => OnFull::DropOldest,
        WhenFull::Disconnect => OnFull::Disconnect,
    }
}

async fn send_from_first_peer(
    sender: &impl Send,
    socket: &Socket,
    args: &SocketArgs,
    source: &SourceArgs,
) -> Result<(), Failure> {
    step(args, "peer", socket.wait_for_peers(1)).await?.map_err(Failure::failed)?;
    send_all(sender, args, source, None).await
}

async fn send_all(
    sender: &impl Send,
    args: &SocketArgs,
    source: &SourceArgs,
    topic: Option<&str>,
) -> Result<(), Failure> {
    let mut source = Source::open(args, source, topic)?;
    let mut sent = 0;
    while args.count == 0 || sent < args.count {
        let Some(message) = source.next().await? else { return Ok(()) };
        send(sender, args, message).await?;
        sent += 1;
    }
    Ok(())
}

/// One message, waiting for room at most for `--timeout`.
pub(super) async fn send(sender: &impl Send, args: &SocketArgs, message: Message) -> Result<(), Failure> {
    // No timer for the usual case of a socket with room.
    let message = match sender.try_send(message) {
        Ok(()) => return Ok(()),
        Err(TrySendError::Full(message)) => message,
        Err(e) => return Err(Failure::failed(e)),
    };
    step(args, "room to send", sender.send(message)).await?.map_err(|e| Failure::failed(e.map(drop)))
}
