//! dealer, router and pair: records out of the source, records to stdout, at the same time.
//!
//! `-n` counts both directions together. Without it the end of input ends the command, unless there was no
//! input at all: then it only receives.

use std::cell::Cell;

use ginnel::{Dealer, Pair, RecvError, Router, Socket, SocketType};
use tokio::sync::Notify;

use super::{send, step};
use crate::args::{DuplexArgs, SocketArgs};
use crate::ends::{self, Receive, Received, Send};
use crate::exit::{self, Failure};
use crate::session::Session;
use crate::setup::{build, configure};
use crate::sink::Printer;
use crate::source::Source;

pub(crate) async fn dealer(args: DuplexArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.format, &args.source, None)?;
    let socket = build(configure(Dealer::builder(), &args.socket)?)?;
    let session = Session::open(&socket, SocketType::Dealer, &args.socket).await?;
    let (sender, mut receiver) = socket.split();
    duplex(session, &sender, &mut receiver, (&args, source), false).await
}

pub(crate) async fn pair(args: DuplexArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.format, &args.source, None)?;
    let socket = build(configure(Pair::builder(), &args.socket)?)?;
    let session = Session::open(&socket, SocketType::Pair, &args.socket).await?;
    let (sender, mut receiver) = socket.split();
    duplex(session, &sender, &mut receiver, (&args, source), false).await
}

pub(crate) async fn router(args: DuplexArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.format, &args.source, None)?;
    let socket = build(configure(Router::builder(), &args.socket)?)?;
    let session = Session::open(&socket, SocketType::Router, &args.socket).await?;
    let (sender, mut receiver) = socket.split();
    duplex(session, &sender, &mut receiver, (&args, source), true).await
}

async fn duplex<S: Send + std::ops::Deref<Target = Socket>>(
    session: Session,
    sender: &S,
    receiver: &mut impl Receive,
    (args, source): (&DuplexArgs, Source),
    addressed: bool,
) -> Result<i32, Failure> {
    let quota = Quota::new(args.socket.count);
    let mut printer = Printer::new(&args.format, &session.output);
    let end = session.run(async {
        tokio::select! {
            result = send_all(sender, &args.socket, source, &quota, addressed) => result,
            result = receive_all(receiver, &args.socket, &quota, &mut printer) => result,
            () = quota.used_up() => Ok(()),
        }
    });
    let end = end.await;
    session.finish(end).await
}

/// `-n`, shared by the two directions of one task.
struct Quota {
    limited: bool,
    left: Cell<u64>,
    used_up: Notify,
}

impl Quota {
    fn new(count: u64) -> Quota {
        let left = if count == 0 { u64::MAX } else { count };
        Quota { limited: count > 0, left: Cell::new(left), used_up: Notify::new() }
    }

    fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }

    fn take_one(&self) {
        self.left.set(self.left.get().saturating_sub(1));
        if self.is_used_up() {
            self.used_up.notify_one();
        }
    }

    async fn used_up(&self) {
        self.used_up.notified().await;
    }
}

async fn send_all<S: Send + std::ops::Deref<Target = Socket>>(
    sender: &S,
    args: &SocketArgs,
    mut source: Source,
    quota: &Quota,
    addressed: bool,
) -> Result<(), Failure> {
    let mut sent_any = false;
    while let Some(message) = source.next().await? {
        if addressed && ends::split_id(&message).is_none() {
            return Err(Failure::new(exit::BAD_DATA, "a router's record needs a peer id and a body"));
        }
        if !sent_any {
            step(args, "peer", sender.wait_for_peers(1)).await?.map_err(Failure::failed)?;
        }
        if quota.is_used_up() {
            break;
        }
        send(sender, args, message).await?;
        sent_any = true;
        quota.take_one();
    }
    if sent_any && !quota.limited {
        return Ok(());
    }
    // The other direction, or the quota, has the last word.
    std::future::pending().await
}

async fn receive_all(
    receiver: &mut impl Receive,
    args: &SocketArgs,
    quota: &Quota,
    printer: &mut Printer,
) -> Result<(), Failure> {
    loop {
        let received = step(args, "message", receiver.recv()).await?.map_err(|e| match e {
            RecvError::Timeout => Failure::timeout("no message in time"),
            e => Failure::failed(e),
        })?;
        print(&received, printer);
        let mut taken = 1;
        while taken < quota.left.get() && !printer.is_full() {
            let Ok(received) = receiver.try_recv() else { break };
            print(&received, printer);
            taken += 1;
        }
        printer.flush().await?;
        (0..taken).for_each(|_| quota.take_one());
        if quota.is_used_up() {
            return Ok(());
        }
    }
}

fn print(received: &Received, printer: &mut Printer) {
    printer.add(&received.record(), received.origin());
}
