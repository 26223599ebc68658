//! Brokerless messaging sockets.

mod endpoint;
mod error;
mod event;
mod message;
mod options;
mod pattern;
mod queue;
mod transport;
mod wire;

pub use error::{
    BindError, ConnectError, DetachError, EndpointError, Error, OptionError, RecvError, RequestError, SendError,
    TryRecvError, TrySendError, WaitError,
};
pub use event::{DropReason, Drops, Event, Phase, Reason};
pub use message::{Frame, Message, NoFrames, Receipt};
pub use options::{Credentials, FlushPolicy, Keepalive, OnFull, Security, SocketType};
