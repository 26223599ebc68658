//! omq (crate `omq-tokio`): one message a call, or its bulk receive.

use omq_tokio::options::ReconnectPolicy;
use omq_tokio::{Context, Error, Message, Options, SocketType, TrySendError};

use super::Flavour;
use super::library::{Kind, Lacks, Library};
use crate::workload::{Failure, HWM, Outcome, RECONNECT};

/// Messages asked for by a bulk receive.
const BATCH: usize = 256;

#[derive(Clone, Copy)]
pub struct Omq {
    pub flavour: Flavour,
    /// Receives in bulk.
    pub batch: bool,
}

/// Its socket, and the messages of a bulk receive, whose storage is used again.
pub struct Socket {
    inner: omq_tokio::Socket,
    batch: Vec<Message>,
}

fn socket_type(kind: Kind) -> SocketType {
    match kind {
        Kind::Push => SocketType::Push,
        Kind::Pull => SocketType::Pull,
        Kind::Pub => SocketType::Pub,
        Kind::Sub => SocketType::Sub,
        Kind::Req => SocketType::Req,
        Kind::Rep => SocketType::Rep,
        Kind::Dealer => SocketType::Dealer,
        Kind::Router => SocketType::Router,
    }
}

fn options(kind: Kind) -> Options {
    let hwm = u32::try_from(HWM).expect("a small number");
    let mut options = Options::default().send_hwm(hwm).recv_hwm(hwm).linger_forever();
    options.reconnect = ReconnectPolicy::Fixed(RECONNECT);
    options.xpub_nodrop = kind == Kind::Pub;
    options
}

impl Library for Omq {
    type Context = Context;
    type Socket = Socket;
    type Message = Message;

    fn settings(&self) -> String {
        let name = match (self.batch, self.flavour) {
            (true, _) => "omq-batch",
            (false, Flavour::Current) => "omq",
            (false, Flavour::Multi) => "omq-multi",
        };
        let calls = match self.batch {
            true => format!("recv_many_into of up to {BATCH}"),
            false => "try_recv, and recv where nothing is there".to_owned(),
        };
        format!(
            "{name}: omq-tokio 0.33, sockets on the caller's tokio runtime ({}; its own I/O threads cost more here), HWM \
             {HWM} on both sides, linger forever, try_send, and send where there is no room, {calls}; xpub_nodrop, so PUB \
             waits; other options default",
            self.flavour.name()
        )
    }

    fn lacks(&self) -> Lacks {
        Lacks { answers: self.batch.then_some("there and back it is omq"), ..Lacks::default() }
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.flavour.run(work)
    }

    fn context(&self) -> Outcome<Context> {
        Ok(Context::current())
    }

    async fn open(&self, context: &Context, kind: Kind) -> Outcome<Socket> {
        Ok(Socket { inner: context.socket(socket_type(kind), options(kind)), batch: Vec::new() })
    }

    async fn bind(socket: &mut Socket, at: &str) -> Outcome<String> {
        Ok(socket.inner.bind(at.replace('*', "0").as_str()).await?.to_string())
    }

    async fn connect(socket: &mut Socket, endpoint: &str) -> Outcome {
        Ok(socket.inner.connect(endpoint).await?)
    }

    async fn subscribe(socket: &mut Socket, prefix: &[u8]) -> Outcome {
        Ok(socket.inner.subscribe(bytes::Bytes::copy_from_slice(prefix)).await?)
    }

    #[inline]
    async fn send(socket: &mut Socket, body: &[u8]) -> Outcome {
        Self::answer(socket, Message::from_slice(body)).await
    }

    #[inline]
    async fn receive(socket: &mut Socket) -> Outcome<Message> {
        match socket.inner.try_recv() {
            Err(Error::WouldBlock) => Ok(socket.inner.recv().await?),
            other => Ok(other?),
        }
    }

    #[inline]
    fn body(message: &Message) -> &[u8] {
        message.part_slice(message.len() - 1).expect("a part")
    }

    /// At once where there is room, as its authors' own benchmarks do it.
    #[inline]
    async fn answer(socket: &mut Socket, message: Message) -> Outcome {
        match socket.inner.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => Ok(socket.inner.send(message).await?),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }

    async fn finish(socket: Socket, _: Context) {
        // With an endless linger it returns when all is written.
        let _ = socket.inner.close().await;
    }

    #[inline]
    async fn receive_batch(&self, socket: &mut Socket, take: &mut (impl FnMut(&[u8]) + Send)) -> Outcome {
        if self.batch {
            socket.inner.recv_many_into(BATCH, &mut socket.batch).await?;
            socket.batch.drain(..).for_each(|message| take(Self::body(&message)));
        } else {
            take(Self::body(&Self::receive(socket).await?));
        }
        Ok(())
    }
}
