//! zmq.rs (crate `zeromq`).

use bytes::Bytes;
use zeromq::{
    DealerSocket, PubSocket, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, Socket, SocketRecv,
    SocketSend, SubSocket, ZmqMessage,
};

use super::Flavour;
use super::library::{Kind, Lacks, Library, hold};
use crate::workload::{Outcome, unsupported};

#[derive(Clone, Copy)]
pub struct ZmqRs;

/// One of its sockets, which are a type each.
pub enum Any {
    Push(PushSocket),
    Pull(PullSocket),
    Pub(PubSocket),
    Sub(SubSocket),
    Req(ReqSocket),
    Rep(RepSocket),
    Dealer(DealerSocket),
    Router(RouterSocket),
}

/// The same call of whatever socket it is.
macro_rules! each {
    ($any:expr, $($kind:ident)|+, $socket:ident => $call:expr) => {
        match $any {
            $(Any::$kind($socket) => $call,)+
            #[allow(unreachable_patterns)]
            _ => return unsupported("no such call of this socket"),
        }
    };
}

impl Library for ZmqRs {
    type Context = ();
    type Socket = Any;
    type Message = ZmqMessage;

    fn settings(&self) -> String {
        "zmq.rs: zeromq 0.7.0 with tokio, multi-thread runtime of 2 workers as in its own benchmarks, send and recv; it has \
         no high-water mark to set (a send queue holds 100,000 messages for each peer); PUB drops when that is full"
            .to_owned()
    }

    fn lacks(&self) -> Lacks {
        Lacks {
            inproc: Some("it has no inproc"),
            reconnects: Some("of its sockets only SUB and XSUB connect again"),
            ..Lacks::default()
        }
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        Flavour::Multi.run(work)
    }

    fn context(&self) -> Outcome<()> {
        Ok(())
    }

    async fn open(&self, _: &(), kind: Kind) -> Outcome<Any> {
        Ok(match kind {
            Kind::Push => Any::Push(PushSocket::new()),
            Kind::Pull => Any::Pull(PullSocket::new()),
            Kind::Pub => Any::Pub(PubSocket::new()),
            Kind::Sub => Any::Sub(SubSocket::new()),
            Kind::Req => Any::Req(ReqSocket::new()),
            Kind::Rep => Any::Rep(RepSocket::new()),
            Kind::Dealer => Any::Dealer(DealerSocket::new()),
            Kind::Router => Any::Router(RouterSocket::new()),
        })
    }

    async fn bind(any: &mut Any, at: &str) -> Outcome<String> {
        let at = at.replace('*', "0");
        let bound =
            each!(any, Push | Pull | Pub | Sub | Req | Rep | Dealer | Router, socket => socket.bind(&at).await?);
        Ok(bound.to_string())
    }

    async fn connect(any: &mut Any, endpoint: &str) -> Outcome {
        each!(any, Push | Pull | Pub | Sub | Req | Rep | Dealer | Router, socket => socket.connect(endpoint).await?);
        Ok(())
    }

    async fn subscribe(any: &mut Any, prefix: &[u8]) -> Outcome {
        let prefix = std::str::from_utf8(prefix)?;
        each!(any, Sub, socket => socket.subscribe(prefix).await?);
        Ok(())
    }

    #[inline]
    async fn send(any: &mut Any, body: &[u8]) -> Outcome {
        let message = ZmqMessage::from(Bytes::copy_from_slice(body));
        each!(any, Push | Pub | Req | Rep | Dealer | Router, socket => socket.send(message).await?);
        Ok(())
    }

    #[inline]
    async fn receive(any: &mut Any) -> Outcome<ZmqMessage> {
        Ok(each!(any, Pull | Sub | Req | Rep | Dealer | Router, socket => socket.recv().await?))
    }

    #[inline]
    fn body(message: &ZmqMessage) -> &[u8] {
        message.get(message.len() - 1).expect("a frame")
    }

    #[inline]
    async fn answer(any: &mut Any, message: ZmqMessage) -> Outcome {
        each!(any, Rep | Router, socket => socket.send(message).await?);
        Ok(())
    }

    async fn finish(any: Any, _: ()) {
        // A send only queues, and closing does not wait for the queue.
        hold().await;
        drop(any);
    }
}
