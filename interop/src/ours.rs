//! ginnel's eleven types behind one face, so that one loop can test every pair.
//!
//! A ROUTER answers whom it heard last, a REQ's `send` starts the request that `recv` finishes, and a REP's `recv`
//! takes the request that `send` answers.

use ginnel::{
    Dealer, Endpoint, Message, Pair, PeerId, Pub, Pull, Push, Rep, Report, Req, Responder, Router, SocketType, Sub,
    XPub, XSub,
};
use tokio::task::JoinHandle;

use crate::cases::{Fault, Outcome, within};

type Reply = JoinHandle<Result<Message, ginnel::RequestError>>;

/// Where a socket of ours goes.
#[derive(Clone, Copy)]
pub enum At<'a> {
    Bind(&'a str),
    Connect(&'a str),
}

/// A socket of any type.
pub enum Ours {
    Push(Push),
    Pull(Pull),
    Pub(Pub),
    Sub(Sub),
    XPub(XPub),
    XSub(XSub),
    Req(Req, Option<Reply>),
    Rep(Rep, Option<Responder>),
    Dealer(Dealer),
    Router(Router, Option<PeerId>),
    Pair(Pair),
}

/// Builds the type with options given as text, and binds or connects it.
macro_rules! open {
    ($type:ident, $options:expr, $at:expr) => {
        open!(ginnel::$type::builder() => $options, $at)
    };
    ($builder:expr => $options:expr, $at:expr) => {{
        let mut builder = $builder;
        for (name, value) in $options {
            builder = builder.option(name, value)?;
        }
        match $at {
            At::Bind(endpoint) => builder.bind(endpoint).await?,
            At::Connect(endpoint) => builder.connect(endpoint)?,
        }
    }};
}

/// The same expression for every type: they share their methods through `Deref`.
macro_rules! each {
    ($ours:expr, $socket:ident => $value:expr) => {
        match $ours {
            Ours::Push($socket) => $value,
            Ours::Pull($socket) => $value,
            Ours::Pub($socket) => $value,
            Ours::Sub($socket) => $value,
            Ours::XPub($socket) => $value,
            Ours::XSub($socket) => $value,
            Ours::Req($socket, _) => $value,
            Ours::Rep($socket, _) => $value,
            Ours::Dealer($socket) => $value,
            Ours::Router($socket, _) => $value,
            Ours::Pair($socket) => $value,
        }
    };
}

impl Ours {
    /// A socket with these options (name and value as text), bound or connected.
    pub async fn open(kind: SocketType, at: At<'_>, options: &[(&str, &str)]) -> Result<Ours, Fault> {
        Ok(match kind {
            SocketType::Push => Ours::Push(open!(Push, options, at)),
            SocketType::Pull => Ours::Pull(open!(Pull, options, at)),
            SocketType::Pub => Ours::Pub(open!(Pub, options, at)),
            SocketType::Sub => Ours::Sub(open!(Sub, options, at)),
            SocketType::XPub => Ours::XPub(open!(XPub, options, at)),
            SocketType::XSub => Ours::XSub(open!(XSub, options, at)),
            SocketType::Req => Ours::Req(open!(Req, options, at), None),
            SocketType::Rep => Ours::Rep(open!(Rep, options, at), None),
            SocketType::Dealer => Ours::Dealer(open!(Dealer, options, at)),
            // Mandatory, so that a full queue makes it wait as all others do.
            SocketType::Router => Ours::Router(open!(Router::builder().mandatory(true) => options, at), None),
            SocketType::Pair => Ours::Pair(open!(Pair, options, at)),
        })
    }

    pub fn endpoint(&self) -> Result<Endpoint, Fault> {
        Ok(each!(self, socket => socket.local_endpoint()).ok_or("not bound")?)
    }

    pub async fn wait_for_peer(&self) -> Outcome {
        each!(self, socket => within("wait_for_peers", socket.wait_for_peers(1)).await)
    }

    pub async fn close(self) -> Report {
        each!(self, socket => socket.close().await)
    }

    /// Subscribes to everything; nothing on types that do not subscribe.
    pub fn subscribe_all(&self) -> Outcome {
        match self {
            Ours::Sub(socket) => socket.subscribe("")?,
            Ours::XSub(socket) => socket.subscribe("")?,
            _ => {}
        }
        Ok(())
    }

    /// A ROUTER's next addressee, before it has heard anybody.
    pub fn address(&mut self, id: &str) {
        if let Ours::Router(_, peer) = self {
            *peer = Some(PeerId::from(id.as_bytes()));
        }
    }

    pub async fn send(&mut self, message: Message) -> Outcome {
        match self {
            Ours::Push(socket) => drop(within("send", socket.send(message)).await?),
            Ours::Pub(socket) => drop(within("send", socket.send(message)).await?),
            Ours::XPub(socket) => drop(within("send", socket.send(message)).await?),
            Ours::XSub(socket) => drop(within("send", socket.send(message)).await?),
            Ours::Dealer(socket) => drop(within("send", socket.send(message)).await?),
            Ours::Pair(socket) => drop(within("send", socket.send(message)).await?),
            Ours::Router(socket, peer) => {
                let peer = peer.as_ref().ok_or("nobody to send to")?;
                within("send_to", socket.send_to(peer, message)).await?;
            }
            Ours::Req(socket, reply) => {
                let socket = socket.clone();
                *reply = Some(tokio::spawn(async move { socket.request(message).await }));
            }
            Ours::Rep(_, responder) => {
                let responder = responder.take().ok_or("no request to answer")?;
                within("reply", responder.reply(message)).await?;
            }
            Ours::Pull(_) | Ours::Sub(_) => return Err("this type does not send".into()),
        }
        Ok(())
    }

    pub async fn recv(&mut self) -> Result<Message, Fault> {
        match self {
            Ours::Pull(socket) => within("recv", socket.recv()).await,
            Ours::Sub(socket) => within("recv", socket.recv()).await,
            Ours::XPub(socket) => within("recv", socket.recv()).await,
            Ours::XSub(socket) => within("recv", socket.recv()).await,
            Ours::Dealer(socket) => within("recv", socket.recv()).await,
            Ours::Pair(socket) => within("recv", socket.recv()).await,
            Ours::Router(socket, peer) => {
                let (id, message) = within("recv", socket.recv()).await?;
                *peer = Some(id);
                Ok(message)
            }
            Ours::Req(_, reply) => {
                let reply = reply.take().ok_or("no request in flight")?;
                Ok(within("reply", reply).await??)
            }
            Ours::Rep(socket, responder) => {
                let (message, handle) = within("recv", socket.recv()).await?.into_parts();
                *responder = Some(handle);
                Ok(message)
            }
            Ours::Push(_) | Ours::Pub(_) => Err("this type does not receive".into()),
        }
    }
}
