//! rzmq, by its standard backend or by io_uring.

use bytes::Bytes;
use rzmq::socket::{
    ADAPTIVE_THROTTLE, AUTO_DELIMITER, IO_URING_SESSION_ENABLED, LAST_ENDPOINT, RCVBUF, RCVHWM, RECONNECT_IVL, SNDBUF,
    SNDHWM, SUBSCRIBE, TCP_CORK, XPUB_NODROP,
};
use rzmq::{Context, Msg, Socket, SocketType};

use super::Flavour;
use super::library::{Kind, Library, hold};
use crate::workload::{HWM, Outcome, RECONNECT};

/// Its own benchmarks' kernel buffers: for streams, and for the asking side of what goes there and back.
const STREAM: i32 = 4 << 20;
const ASKING: i32 = 64 << 10;

#[derive(Clone, Copy)]
pub struct Rzmq {
    /// By its io_uring backend.
    pub uring: bool,
}

/// What came: one frame by `recv`, or several by `recv_multipart`, which only a ROUTER needs.
pub enum Received {
    One(Msg),
    Several(Vec<Msg>),
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

fn probe(what: &str) -> bool {
    std::env::var("PROBE").is_ok_and(|p| p.contains(what))
}

impl Library for Rzmq {
    type Context = Context;
    type Socket = (Socket, Kind);
    type Message = Received;

    fn settings(&self) -> String {
        format!("rzmq {HWM}")
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let flavour = if probe("current") { Flavour::Current } else { Flavour::Multi };
        if probe("task") { flavour.run(work) } else { flavour.runtime().block_on(work) }
    }

    fn context(&self) -> Outcome<Context> {
        if self.uring {
            rzmq::uring::initialize_uring_backend(Default::default())?;
        }
        Ok(Context::new()?)
    }

    async fn open(&self, context: &Context, kind: Kind) -> Outcome<(Socket, Kind)> {
        let socket = context.socket(socket_type(kind))?;
        let hwm = i32::try_from(HWM)?;
        let buffer = if matches!(kind, Kind::Req | Kind::Dealer) { ASKING } else { STREAM };
        let interval = i32::try_from(RECONNECT.as_millis())?;
        for (option, value) in [(SNDHWM, hwm), (RCVHWM, hwm), (RECONNECT_IVL, interval)] {
            socket.set_option(option, value).await?;
        }
        if !probe("plain") {
            socket.set_option(ADAPTIVE_THROTTLE, 0_i32).await?;
        }
        if !probe("nobuf") {
            socket.set_option(SNDBUF, buffer).await?;
            socket.set_option(RCVBUF, buffer).await?;
        }
        if probe("cork") {
            socket.set_option(TCP_CORK, true).await?;
        }
        if self.uring {
            socket.set_option(IO_URING_SESSION_ENABLED, true).await?;
        }
        match kind {
            Kind::Pub => socket.set_option(XPUB_NODROP, 1_i32).await?,
            Kind::Dealer | Kind::Router => socket.set_option(AUTO_DELIMITER, false).await?,
            _ => {}
        }
        Ok((socket, kind))
    }

    async fn bind((socket, _): &mut (Socket, Kind), at: &str) -> Outcome<String> {
        socket.bind(&at.replace('*', "0")).await?;
        let text = socket.get_option(LAST_ENDPOINT).await?;
        Ok(String::from_utf8(text)?.trim_end_matches('\0').to_owned())
    }

    async fn connect((socket, _): &mut (Socket, Kind), endpoint: &str) -> Outcome {
        Ok(socket.connect(endpoint).await?)
    }

    async fn subscribe((socket, _): &mut (Socket, Kind), prefix: &[u8]) -> Outcome {
        Ok(socket.set_option_raw(SUBSCRIBE, prefix).await?)
    }

    #[inline]
    async fn send((socket, _): &mut (Socket, Kind), body: &[u8]) -> Outcome {
        Ok(socket.send(Msg::from_bytes(Bytes::copy_from_slice(body))).await?)
    }

    #[inline]
    async fn receive((socket, kind): &mut (Socket, Kind)) -> Outcome<Received> {
        Ok(match kind {
            Kind::Router => Received::Several(socket.recv_multipart().await?),
            _ => Received::One(socket.recv().await?),
        })
    }

    #[inline]
    fn body(message: &Received) -> &[u8] {
        match message {
            Received::One(message) => message.data().unwrap_or_default(),
            Received::Several(frames) => frames.last().and_then(Msg::data).unwrap_or_default(),
        }
    }

    #[inline]
    async fn answer((socket, _): &mut (Socket, Kind), message: Received) -> Outcome {
        Ok(match message {
            Received::One(message) => socket.send(message).await?,
            Received::Several(frames) => socket.send_multipart(frames).await?,
        })
    }

    async fn finish(socket: (Socket, Kind), context: Context) {
        hold().await;
        drop((socket, context));
    }
}
