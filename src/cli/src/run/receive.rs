//! pull, sub and xsub: what arrives goes to stdout, or to a program for each message.
//!
//! Under a durable name a message is done when its line is with the operating system, or as `--ack` says of its program.

use std::time::Duration;

use ginnel::{Delivery, Pull, RecvError, SocketType, Sub, XSub};

use super::step;
use crate::args::{AckArg, FormatArgs, PullArgs, SocketArgs, SubArgs, XSubArgs};
use crate::durable::{Holder, HolderSettings};
use crate::ends::{Held, Receive, Received};
use crate::exit::Failure;
use crate::formats::Origin;
use crate::session::{End, Session};
use crate::setup::{build, configure};
use crate::sink::{Exec, Printer};

pub(crate) async fn pull(args: PullArgs) -> Result<i32, Failure> {
    let exec = args.exec.exec.as_deref();
    let holder = HolderSettings::from_args(&args.holder, &args.socket.option, exec)?;
    let builder = configure(Pull::builder(), &args.socket)?.with_name(holder.as_ref());
    let mut socket = build(builder)?;
    let session = Session::open(&socket, SocketType::Pull, &args.socket).await?;
    let sink = Sink::new(&session, &args.socket, &args.format, exec, args.holder.ack);
    let end = match holder {
        None => receive(&session, &mut *socket, &args.socket, sink).await,
        Some(_) => receive(&session, &mut Held(&mut socket), &args.socket, sink).await,
    };
    session.finish(end).await
}

pub(crate) async fn sub(args: SubArgs) -> Result<i32, Failure> {
    let exec = args.exec.exec.as_deref();
    let holder = HolderSettings::from_args(&args.holder, &args.socket.option, exec)?;
    let mut builder = configure(Sub::builder(), &args.socket)?.with_name(holder.as_ref());
    for prefix in args.subscribe.prefixes() {
        builder = builder.subscribe(prefix);
    }
    let mut socket = build(builder)?;
    let session = Session::open(&socket, SocketType::Sub, &args.socket).await?;
    let sink = Sink::new(&session, &args.socket, &args.format, exec, args.holder.ack);
    let end = match holder {
        None => receive(&session, &mut *socket, &args.socket, sink).await,
        Some(_) => receive(&session, &mut Held(&mut socket), &args.socket, sink).await,
    };
    session.finish(end).await
}

pub(crate) async fn xsub(args: XSubArgs) -> Result<i32, Failure> {
    let mut builder = configure(XSub::builder(), &args.socket)?;
    for prefix in args.subscribe.prefixes() {
        builder = builder.subscribe(prefix);
    }
    let socket = build(builder)?;
    let session = Session::open(&socket, SocketType::XSub, &args.socket).await?;
    let (_sender, mut receiver) = socket.split();
    let sink = Sink::new(&session, &args.socket, &args.format, None, None);
    let end = receive(&session, &mut receiver, &args.socket, sink).await;
    session.finish(end).await
}

async fn receive(session: &Session, receiver: &mut impl Receive, args: &SocketArgs, mut sink: Sink) -> End {
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
    ack: Option<AckArg>,
    left: u64,
    /// Durable deliveries that are in the printer and not with the operating system yet.
    printed: Vec<Delivery>,
}

impl Sink {
    fn new(session: &Session, args: &SocketArgs, format: &FormatArgs, exec: Option<&str>, ack: Option<AckArg>) -> Sink {
        let left = if args.count == 0 { u64::MAX } else { args.count };
        let exec = exec.map(|command| Exec::new(command, format));
        Sink { printer: Printer::new(format, &session.output), exec, ack, left, printed: Vec::new() }
    }

    async fn take(&mut self, mut received: Received) {
        self.left -= 1;
        let Some(exec) = &mut self.exec else {
            self.printer.add(&received.record(), received.origin());
            self.printed.extend(received.delivery);
            return;
        };
        let ran = match self.ack {
            Some(AckArg::Receive) => {
                // Its number outlives the delivery.
                let offset = received.origin().offset;
                received.delivery.take().into_iter().for_each(Delivery::ack);
                exec.run(&received.record(), Origin { offset, ..received.origin() }).await
            }
            _ => exec.run(&received.record(), received.origin()).await,
        };
        match received.delivery {
            Some(delivery) if !ran && self.ack == Some(AckArg::Exec) => {
                let after = retry_after(delivery.tries());
                delivery.retry(after);
            }
            Some(delivery) => delivery.ack(),
            None => {}
        }
    }

    /// Everything printed goes to the operating system; then it is done.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.printer.flush().await?;
        self.printed.drain(..).for_each(Delivery::ack);
        Ok(())
    }
}

/// The wait before a command that failed is tried again: 100 ms, doubled each time up to 25 s.
fn retry_after(tries: u32) -> Duration {
    Duration::from_millis(100 << tries.saturating_sub(1).min(8))
}

async fn receive_all(receiver: &mut impl Receive, args: &SocketArgs, sink: &mut Sink) -> Result<(), Failure> {
    while sink.left > 0 {
        let received = step(args, "message", receiver.recv()).await?;
        let received = match received {
            Ok(received) => received,
            Err(RecvError::Timeout) => return Err(Failure::timeout("no message in time")),
            Err(e) => return Err(Failure::failed(e)),
        };
        sink.take(received).await;
        take_waiting(receiver, sink).await;
        sink.flush().await?;
    }
    Ok(())
}

/// What is there already goes into the same chunk.
async fn take_waiting(receiver: &mut impl Receive, sink: &mut Sink) {
    while sink.left > 0 && !sink.printer.is_full() {
        let Ok(received) = receiver.try_recv() else { return };
        sink.take(received).await;
    }
}

async fn drain(receiver: &mut impl Receive, sink: &mut Sink) -> Result<(), Failure> {
    loop {
        take_waiting(receiver, sink).await;
        if !sink.printer.is_full() {
            return sink.flush().await;
        }
        sink.flush().await?;
    }
}
