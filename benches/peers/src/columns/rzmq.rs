//! rzmq, by its standard backend or by io_uring.

use bytes::Bytes;
use rzmq::socket::{
    ADAPTIVE_THROTTLE, AUTO_DELIMITER, IO_URING_SESSION_ENABLED, LAST_ENDPOINT, RCVBUF, RCVHWM, RECONNECT_IVL,
    RECONNECT_IVL_MAX, SNDBUF, SNDHWM, SUBSCRIBE, XPUB_NODROP,
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

/// What came: one frame by `recv`, or several by `recv_multipart`, for a ROUTER and a DEALER (who gets its identity, too, over inproc).
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

impl Library for Rzmq {
    type Context = Context;
    type Socket = (Socket, Kind);
    type Message = Received;

    fn settings(&self) -> String {
        let (name, backend) = match self.uring {
            true => {
                ("rzmq-uring", "its io_uring backend in its default settings, which spins briefly before it sleeps")
            }
            false => ("rzmq", "its standard backend"),
        };
        format!(
            "{name}: rzmq 0.5.28, tokio multi-thread runtime of 2 workers, {backend}, HWM {HWM} on both sides, as in its own \
             benchmarks ADAPTIVE_THROTTLE off and kernel buffers of 4 MiB (64 KiB for REQ and DEALER), no TCP_CORK (a \
             fraction of the speed here), send and recv; XPUB_NODROP, so PUB waits; AUTO_DELIMITER off"
        )
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        Flavour::Multi.run(work)
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
        for (option, value) in [
            (SNDHWM, hwm),
            (RCVHWM, hwm),
            (RECONNECT_IVL, interval),
            (RECONNECT_IVL_MAX, interval),
            (ADAPTIVE_THROTTLE, 0),
            (SNDBUF, buffer),
            (RCVBUF, buffer),
        ] {
            socket.set_option(option, value).await?;
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
            Kind::Router | Kind::Dealer => Received::Several(socket.recv_multipart().await?),
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
        match message {
            Received::One(message) => socket.send(message).await?,
            Received::Several(frames) => socket.send_multipart(frames).await?,
        }
        Ok(())
    }

    async fn finish(socket: (Socket, Kind), context: Context) {
        hold().await;
        drop((socket, context));
    }
}
