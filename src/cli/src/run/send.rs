//! push, pub and xpub: the source's messages to the peers.

use ginnel::{Message, OnFull, Pending, Pub, Push, RecvError, Sender, SocketType, TrySendError, XPub};

use super::step;
use crate::args::{OnFullArg, PubArgs, PushArgs, SocketArgs, XPubArgs};
use crate::durable::{SpoolSettings, Spooler};
use crate::ends::{Receive, Send};
use crate::exit::Failure;
use crate::session::Session;
use crate::setup::{build, configure};
use crate::source::Source;

pub(crate) async fn push(args: PushArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.format, &args.source, None)?;
    let mut builder = configure(Push::builder(), &args.socket)?;
    if let Some(settings) = SpoolSettings::from_args(&args.spool) {
        builder = builder.with_spool(&settings);
    }
    let socket = build(builder)?;
    let session = Session::open_with(&socket, SocketType::Push, &args.socket, socket.spool().cloned()).await?;
    let end = match socket.spool() {
        // What is kept needs no peer to be sent.
        Some(_) => session.run(enqueue_all(&socket, &args.socket, source, async { Ok(()) })).await,
        None => {
            let ready = async { step(&args.socket, "peer", socket.wait_for_peers(1)).await?.map_err(Failure::failed) };
            session.run(send_all(&*socket, &args.socket, source, ready)).await
        }
    };
    session.finish(end).await
}

pub(crate) async fn publish(args: PubArgs) -> Result<i32, Failure> {
    let PubArgs { publish: args, spool, declare } = args;
    let source = Source::open(&args.format, &args.source, args.topic.as_deref())?;
    let mut builder = configure(Pub::builder(), &args.socket)?.on_full(on_full(args.on_full));
    if let Some(mut settings) = SpoolSettings::from_args(&spool) {
        settings.declare(&declare);
        builder = builder.with_spool(&settings);
    }
    let socket = build(builder)?;
    let session = Session::open_with(&socket, SocketType::Pub, &args.socket, socket.spool().cloned()).await?;
    let ready = async {
        let Some(count) = args.wait_subs else { return Ok(()) };
        step(&args.socket, "subscriber", socket.wait_for_subscribers(count)).await?.map_err(Failure::failed)
    };
    let end = match socket.spool() {
        Some(_) => session.run(enqueue_all(&socket, &args.socket, source, ready)).await,
        None => session.run(send_all(&*socket, &args.socket, source, ready)).await,
    };
    session.finish(end).await
}

pub(crate) async fn xpub(args: XPubArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.format, &args.source, args.topic.as_deref())?;
    let builder = configure(XPub::builder(), &args.socket)?.on_full(on_full(args.on_full));
    let mut socket = build(builder)?;
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

fn on_full(how: OnFullArg) -> OnFull {
    match how {
        OnFullArg::Block => OnFull::Block,
        OnFullArg::DropNewest => OnFull::DropNewest,
        OnFullArg::DropOldest => OnFull::DropOldest,
        OnFullArg::Disconnect => OnFull::Disconnect,
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

/// The source's messages into a spool: each goes on its way at once, and at the end all are waited for.
async fn enqueue_all(
    sender: &Sender,
    args: &SocketArgs,
    mut source: Source,
    ready: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut ready = Some(ready);
    // The newest: when it is accepted, all before it are.
    let mut pending = None;
    let mut sent = 0;
    while args.count == 0 || sent < args.count {
        let Some(message) = next(&mut source, &mut pending).await? else { break };
        if let Some(ready) = ready.take() {
            ready.await?;
        }
        let room = step(args, "room in the spool", sender.enqueue(message)).await?;
        pending = Some(room.map_err(|e| Failure::failed(e.map(drop)))?);
        sent += 1;
    }
    match pending {
        Some(pending) => step(args, "sync of the spool", pending).await?.map(drop).map_err(Failure::failed),
        None => Ok(()),
    }
}

/// The next message. Meanwhile the spool may say that it has failed: then there is no use in waiting for input.
async fn next(source: &mut Source, pending: &mut Option<Pending>) -> Result<Option<Message>, Failure> {
    let next = source.next();
    tokio::pin!(next);
    while let Some(waiting) = pending {
        tokio::select! {
            biased;
            message = &mut next => return message,
            accepted = waiting => {
                *pending = None;
                accepted.map_err(Failure::failed)?;
            }
        }
    }
    next.await
}

/// One message, waiting for room at most for `--timeout`.
pub(crate) async fn send(sender: &impl Send, args: &SocketArgs, message: Message) -> Result<(), Failure> {
    // No timer for the usual case of a socket with room.
    let message = match sender.try_send(message) {
        Ok(()) => return Ok(()),
        Err(TrySendError::Full(message)) => message,
        Err(e) => return Err(Failure::failed(e)),
    };
    step(args, "room to send", sender.send(message)).await?.map_err(|e| Failure::failed(e.map(drop)))
}
