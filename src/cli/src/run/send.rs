//! push, pub and xpub: the source's messages to the peers.

use ginnel::{Message, OnFull, Pub, Push, RecvError, SocketType, TrySendError, XPub};

use super::step;
use crate::args::{PubArgs, PushArgs, SocketArgs, WhenFull};
use crate::ends::{Receive, Send};
use crate::exit::Failure;
use crate::session::Session;
use crate::setup::configure;
use crate::source::Source;

pub(crate) async fn push(args: PushArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.socket, &args.source, None)?;
    let socket = configure(Push::builder(), &args.socket)?.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::Push, &args.socket).await?;
    let ready = async { step(&args.socket, "peer", socket.wait_for_peers(1)).await?.map_err(Failure::failed) };
    let end = session.run(send_all(&*socket, &args.socket, source, ready)).await;
    session.finish(end).await
}

pub(crate) async fn publish(args: PubArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.socket, &args.source, args.topic.as_deref())?;
    let builder = configure(Pub::builder(), &args.socket)?.on_full(on_full(args.on_full));
    let socket = builder.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::Pub, &args.socket).await?;
    let ready = async {
        let Some(count) = args.wait_subs else { return Ok(()) };
        step(&args.socket, "subscriber", socket.wait_for_subscribers(count)).await?.map_err(Failure::failed)
    };
    let end = session.run(send_all(&*socket, &args.socket, source, ready)).await;
    session.finish(end).await
}

pub(crate) async fn xpub(args: PubArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.socket, &args.source, args.topic.as_deref())?;
    let builder = configure(XPub::builder(), &args.socket)?.on_full(on_full(args.on_full));
    let mut socket = builder.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::XPub, &args.socket).await?;
    let sender = socket.sender();
    let work = async {
        if let Some(count) = args.wait_subs {
            let subscribers = step(&args.socket, "subscriber", socket.wait_for_subscribers(count));
            subscribers.await?.map_err(Failure::failed)?;
        }
        tokio::select! {
            result = send_all(&sender, &args.socket, source, async { Ok(()) }) => result,
            // Subscriptions come as messages too. The monitor has logged them; unread they would stop the peer.
            e = discard(&mut *socket) => Err(Failure::failed(e)),
        }
    };
    let end = session.run(work).await;
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

/// The source's messages; `ready` is waited for before the first one.
async fn send_all(
    sender: &impl Send,
    args: &SocketArgs,
    mut source: Source,
    ready: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut ready = Some(ready);
    let mut sent = 0;
    while args.count == 0 || sent < args.count {
        let Some(message) = source.next().await? else { return Ok(()) };
        if let Some(ready) = ready.take() {
            ready.await?;
        }
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
