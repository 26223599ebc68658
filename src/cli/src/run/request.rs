//! req and rep: a reply for each record, an answer for each request.

use ginnel::{Message, Rep, Req, RequestError, SocketType};

use super::step;
use crate::args::{RepArgs, ReqArgs};
use crate::exit::{self, Failure};
use crate::formats::Origin;
use crate::log;
use crate::session::Session;
use crate::setup::{build, configure};
use crate::sink::{Exec, Printer};
use crate::source::Source;

pub(crate) async fn req(args: ReqArgs) -> Result<i32, Failure> {
    let source = Source::open(&args.format, &args.source, None)?;
    let socket = build(configure(Req::builder(), &args.socket)?)?;
    let session = Session::open(&socket, SocketType::Req, &args.socket).await?;
    let mut printer = Printer::new(&args.format, &session.output);
    let end = session.run(request_all(&socket, &args, source, &mut printer)).await;
    session.finish(end).await
}

async fn request_all(socket: &Req, args: &ReqArgs, mut source: Source, printer: &mut Printer) -> Result<(), Failure> {
    let mut replies = 0;
    while args.socket.count == 0 || replies < args.socket.count {
        let Some(message) = source.next().await? else { return Ok(()) };
        let reply = request(socket, args, message).await?;
        printer.add(&reply, Origin::default());
        printer.flush().await?;
        replies += 1;
    }
    Ok(())
}

/// One request with its retries. No reply is a timeout, whatever came in between.
async fn request(socket: &Req, args: &ReqArgs, message: Message) -> Result<Message, Failure> {
    let limit = args.socket.timeout.limit().map_or(args.request_timeout, |limit| limit.min(args.request_timeout));
    for attempt in 0..=args.retries {
        match socket.request(message.clone()).timeout(limit).await {
            Ok(reply) => return Ok(reply),
            Err(e @ (RequestError::Timeout | RequestError::PeerLost)) if attempt < args.retries => {
                log::warn(format!("{e}; asking again"));
            }
            Err(e @ RequestError::Timeout) => return Err(Failure::timeout(format_args!("{e} ({limit:?})"))),
            Err(e @ RequestError::PeerLost) => return Err(Failure::timeout(e)),
            Err(e) => return Err(Failure::new(exit::FAILED, e)),
        }
    }
    Err(Failure::timeout("no reply"))
}

pub(crate) async fn rep(args: RepArgs) -> Result<i32, Failure> {
    let mut answer = Answer::new(&args)?;
    let mut socket = build(configure(Rep::builder(), &args.socket)?)?;
    let session = Session::open(&socket, SocketType::Rep, &args.socket).await?;
    let mut printer = Printer::new(&args.format, &session.output);
    let end = session.run(reply_all(&mut socket, &args, &mut answer, &mut printer)).await;
    session.finish(end).await
}

/// Where replies come from.
enum Answer {
    Echo,
    Constant(Message),
    Exec(Exec),
}

impl Answer {
    fn new(args: &RepArgs) -> Result<Answer, Failure> {
        let constant = Message::from_frames(args.data.iter().map(String::as_str));
        match (args.echo, constant, &args.exec) {
            (true, None, None) => Ok(Answer::Echo),
            (false, Some(message), None) => Ok(Answer::Constant(message)),
            (false, None, Some(command)) => Ok(Answer::Exec(Exec::new(command, &args.format))),
            _ => Err(Failure::usage("write one of --echo, -D STR and -x CMD")),
        }
    }

    /// `None`: there is no answer, and it was said why.
    async fn to(&mut self, request: &Message, peer: &[u8]) -> Option<Message> {
        match self {
            Answer::Echo => Some(request.clone()),
            Answer::Constant(message) => Some(message.clone()),
            Answer::Exec(exec) => exec.reply(request, Origin::peer(Some(peer))).await,
        }
    }
}

async fn reply_all(
    socket: &mut Rep,
    args: &RepArgs,
    answer: &mut Answer,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut replies = 0;
    while args.socket.count == 0 || replies < args.socket.count {
        let request = step(&args.socket, "request", socket.recv()).await?.map_err(Failure::failed)?;
        let peer = request.peer();
        if !matches!(answer, Answer::Exec(_)) {
            printer.add(request.message(), Origin::peer(Some(peer.as_ref())));
            printer.flush().await?;
        }
        let Some(reply) = answer.to(request.message(), peer.as_ref()).await else { continue };
        match request.reply(reply).await {
            Ok(_) => replies += 1,
            Err(e) => log::warn(format!("no reply: {e}")),
        }
    }
    Ok(())
}
