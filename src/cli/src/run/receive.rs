//! pull, sub and xsub: what arrives goes to stdout, or to a program for each message.

use ginnel::{Pull, RecvError, SocketType, Sub, XSub};

use super::step;
use crate::args::{PullArgs, SocketArgs, SubArgs, XSubArgs};
use crate::ends::{Receive, Received};
use crate::exit::Failure;
use crate::session::{End, Session};
use crate::setup::configure;
use crate::sink::{Exec, Printer};

pub(crate) async fn pull(args: PullArgs) -> Result<i32, Failure> {
    let mut socket = configure(Pull::builder(), &args.socket)?.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::Pull, &args.socket).await?;
    let end = receive(&session, &mut *socket, &args.socket, args.exec.exec.as_deref()).await;
    session.finish(end).await
}

pub(crate) async fn sub(args: SubArgs) -> Result<i32, Failure> {
    let mut builder = configure(Sub::builder(), &args.socket)?;
    for prefix in args.subscribe.prefixes() {
        builder = builder.subscribe(prefix);
    }
    let mut socket = builder.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::Sub, &args.socket).await?;
    let end = receive(&session, &mut *socket, &args.socket, args.exec.exec.as_deref()).await;
    session.finish(end).await
}

pub(crate) async fn xsub(args: XSubArgs) -> Result<i32, Failure> {
    let mut builder = configure(XSub::builder(), &args.socket)?;
    for prefix in args.subscribe.prefixes() {
        builder = builder.subscribe(prefix);
    }
    let socket = builder.build().map_err(Failure::usage)?;
    let session = Session::open(&socket, SocketType::XSub, &args.socket).await?;
    let (_sender, mut receiver) = socket.split();
    let end = receive(&session, &mut receiver, &args.socket, None).await;
    session.finish(end).await
}

async fn receive(session: &Session, receiver: &mut impl Receive, args: &SocketArgs, exec: Option<&str>) -> End {
    let mut sink = Sink::new(session, args, exec);
    let end = session.run(receive_all(receiver, args, &mut sink)).await;
    match end {
        // The peers have left, their messages may still be here.
        End::PeersLeft => session.run_rest(drain(receiver, &mut sink)).await,
        end => end,
    }
}

/// Where received messages go, and how many are still wanted.
struct Sink {
    printer: Printer,
    exec: Option<Exec>,
    left: u64,
}

impl Sink {
    fn new(session: &Session, args: &SocketArgs, exec: Option<&str>) -> Sink {
        let left = if args.count == 0 { u64::MAX } else { args.count };
        let exec = exec.map(|command| Exec::new(command, args));
        Sink { printer: Printer::new(args, &session.output), exec, left }
    }

    async fn take(&mut self, received: &Received) {
        self.left -= 1;
        let peer = received.peer.as_ref().map(AsRef::as_ref);
        match &mut self.exec {
            Some(exec) => exec.run(&received.record(), peer).await,
            None => self.printer.add(&received.record(), peer),
        }
    }
}

async fn receive_all(receiver: &mut impl Receive, args: &SocketArgs, sink: &mut Sink) -> Result<(), Failure> {
    while sink.left > 0 {
        let received = step(args, "message", receiver.recv()).await?;
        let received = match received {
            Ok(received) => received,
            Err(RecvError::Timeout) => return Err(Failure::timeout("no message in time")),
            Err(e) => return Err(Failure::failed(e)),
        };
        sink.take(&received).await;
        take_waiting(receiver, sink).await;
        sink.printer.flush().await?;
    }
    Ok(())
}

/// What is there already goes into the same chunk.
async fn take_waiting(receiver: &mut impl Receive, sink: &mut Sink) {
    while sink.left > 0 && !sink.printer.is_full() {
        let Ok(received) = receiver.try_recv() else { return };
        sink.take(&received).await;
    }
}

async fn drain(receiver: &mut impl Receive, sink: &mut Sink) -> Result<(), Failure> {
    loop {
        take_waiting(receiver, sink).await;
        if !sink.printer.is_full() {
            return sink.printer.flush().await;
        }
        sink.printer.flush().await?;
    }
}
