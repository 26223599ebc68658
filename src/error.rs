//! One small error per operation; an unsent message comes back with its error.
//!
//! Plain values. Names are those of the one list that events and the command use too. Every error is
//! `Send + Sync + std::error::Error` and converts into [`Error`] for `?`.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A text that is no endpoint; says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    pub(crate) text: String,
    pub(crate) why: String,
}

impl EndpointError {
    pub(crate) fn new(text: &str, why: impl Into<String>) -> EndpointError {
        // Endpoints reach terminals and logs: shorten and escape what a user or a file gave.
        let text = text.chars().take(120).flat_map(char::escape_default).collect();
        EndpointError { text, why: why.into() }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint \"{}\": {}", self.text, self.why)
    }
}

impl std::error::Error for EndpointError {}

/// An option whose value is out of range, or that this socket type does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    name: String,
    why: String,
}

impl OptionError {
    pub(crate) fn new(name: &str, why: impl Into<String>) -> OptionError {
        OptionError { name: name.to_owned(), why: why.into() }
    }

    /// The option's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {}: {}", self.name, self.why)
    }
}

impl std::error::Error for OptionError {}

/// Why a spool could not be opened. Nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another socket of this one) has it open.
    InUse {
        /// Its process id, where it is known.
        pid: Option<u32>,
        /// The directory.
        path: PathBuf,
    },
    /// The directory or a file in it cannot be made, read, written or locked.
    Path {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A newer or foreign format.
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its version, as text.
        found: String,
        /// The newest one that this library knows.
        known: String,
    },
    /// The directory is on a network file system, where locks and syncs cannot be relied on.
    NetworkFs {
        /// The directory.
        path: PathBuf,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { pid, path } => {
                write!(f, "spool {} is in use", path.display())?;
                match pid {
                    Some(pid) => write!(f, " by process {pid}; stop it, or give this socket a directory of its own"),
                    None => f.write_str("; give this socket a directory of its own"),
                }
            }
            OpenError::Path { path, source } => write!(f, "spool {}: {source}", path.display()),
            OpenError::UnknownFormat { path, found, known } => write!(
                f,
                "{} has format {found}, this version knows up to {known}; use a newer version, or another directory",
                path.display()
            ),
            OpenError::NetworkFs { path } => write!(
                f,
                "spool {} is on a network file system, where locks and syncs cannot be relied on; use a local disk, or \
                 allow_network_fs",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Path { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why something asked of a spool was not done.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolError {
    /// It is against a limit or a rule; the text says which.
    Refused(String),
    /// It could not be saved.
    Io(io::Error),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpoolError::Refused(why) => f.write_str(why),
            SpoolError::Io(e) => write!(f, "spool: {e}"),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SpoolError::Refused(_) => None,
            SpoolError::Io(e) => Some(e),
        }
    }
}

/// Why a socket could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is wrong for this socket.
    Option(OptionError),
    /// The spool cannot be opened.
    Spool(OpenError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Option(e) => e.fmt(f),
            BuildError::Spool(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Option(e) => Some(e),
            BuildError::Spool(e) => Some(e),
        }
    }
}

impl From<BuildError> for BindError {
    fn from(e: BuildError) -> BindError {
        match e {
            BuildError::Option(e) => BindError::Option(e),
            BuildError::Spool(e) => BindError::Spool(e),
        }
    }
}

impl From<BuildError> for ConnectError {
    fn from(e: BuildError) -> ConnectError {
        match e {
            BuildError::Option(e) => ConnectError::Option(e),
            BuildError::Spool(e) => ConnectError::Spool(e),
        }
    }
}

/// Why a bind failed. The socket stays usable.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The text is no endpoint to bind to.
    Endpoint(EndpointError),
    /// Somebody else listens there.
    AddrInUse(String),
    /// No such address on this machine.
    AddrNotAvailable(String),
    /// The operating system forbids it.
    Permission(String),
    /// An option is wrong for this socket.
    Option(OptionError),
    /// The spool cannot be opened.
    Spool(OpenError),
    /// The socket is closed.
    Closed,
    /// Any other refusal by the operating system.
    Io(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Endpoint(e) => e.fmt(f),
            BindError::AddrInUse(ep) => {
                write!(f, "{ep} is in use; stop the other program or bind another address (port * picks a free one)")
            }
            BindError::AddrNotAvailable(ep) => {
                write!(f, "{ep}: no such address on this machine; * means every interface")
            }
            BindError::Permission(ep) => write!(f, "{ep}: permission denied"),
            BindError::Option(e) => e.fmt(f),
            BindError::Spool(e) => e.fmt(f),
            BindError::Closed => f.write_str("the socket is closed"),
            BindError::Io(e) => write!(f, "bind failed: {e}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BindError::Endpoint(e) => Some(e),
            BindError::Option(e) => Some(e),
            BindError::Spool(e) => Some(e),
            BindError::Io(e) => Some(e),
            _ => None,
        }
    }
}

/// Why a connect could not be started. What the network does later is an event, not an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no endpoint to connect to.
    Endpoint(EndpointError),
    /// An option is wrong for this socket.
    Option(OptionError),
    /// The spool cannot be opened.
    Spool(OpenError),
    /// The socket is closed.
    Closed,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Endpoint(e) => e.fmt(f),
            ConnectError::Option(e) => e.fmt(f),
            ConnectError::Spool(e) => e.fmt(f),
            ConnectError::Closed => f.write_str("the socket is closed"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Endpoint(e) => Some(e),
            ConnectError::Option(e) => Some(e),
            ConnectError::Spool(e) => Some(e),
            ConnectError::Closed => None,
        }
    }
}

/// Why an unbind or a disconnect did nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetachError {
    /// The text is no endpoint.
    Endpoint(EndpointError),
    /// The socket is not bound or connected there. Unbind takes the endpoint that the bind returned.
    NotFound(String),
}

impl fmt::Display for DetachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DetachError::Endpoint(e) => e.fmt(f),
            DetachError::NotFound(ep) => {
                write!(
                    f,
                    "{ep}: not bound or connected there; use the endpoint that bind or connect was given or returned"
                )
            }
        }
    }
}

impl std::error::Error for DetachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DetachError::Endpoint(e) => Some(e),
            DetachError::NotFound(_) => None,
        }
    }
}

macro_rules! wrapping {
    ($($name:ident: $($variant:ident($from:ty)),+;)*) => {$($(
        impl From<$from> for $name {
            fn from(e: $from) -> $name {
                $name::$variant(e)
            }
        }
    )+)*};
}

wrapping! {
    BuildError: Option(OptionError), Spool(OpenError);
    BindError: Endpoint(EndpointError), Option(OptionError);
    ConnectError: Endpoint(EndpointError), Option(OptionError);
    DetachError: Endpoint(EndpointError);
}

macro_rules! send_errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name<T> {
            $($(#[$vdoc])* $variant(T),)*
            /// The spool failed after this record was written and before it was surely safe: it may be in the
            /// spool or not, so there is no message to give back.
            DurabilityUnknown {
                /// The record's number.
                sequence: u64,
            },
        }

        impl<T> $name<T> {
            /// The message that was not sent; `None` only for `DurabilityUnknown`.
            pub fn into_inner(self) -> Option<T> {
                match self {
                    $($name::$variant(message) => Some(message),)*
                    $name::DurabilityUnknown { .. } => None,
                }
            }

            /// The same error around another value.
            pub fn map<U>(self, f: impl FnOnce(T) -> U) -> $name<U> {
                match self {
                    $($name::$variant(message) => $name::$variant(f(message)),)*
                    $name::DurabilityUnknown { sequence } => $name::DurabilityUnknown { sequence },
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant(_) => f.write_str(concat!(stringify!($variant), "(..)")),)*
                    $name::DurabilityUnknown { sequence } => write!(f, "DurabilityUnknown({sequence})"),
                }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant(_) => f.write_str($text),)*
                    $name::DurabilityUnknown { sequence } => {
                        write!(f, "the spool failed; record {sequence} may be in it or not")
                    }
                }
            }
        }

        impl<T> std::error::Error for $name<T> {}
    )*};
}

send_errors! {
    /// Why a send failed; every variant returns the message.
    SendError {
        /// The socket is closed.
        Closed = "the socket is closed",
        /// No room in time.
        Timeout = "no peer took the message in time",
        /// The addressed peer is unknown, or the message lacks the peer id.
        NoRoute = "no such peer: the id is unknown or the peer has left",
        /// The message exceeds a limit of this socket.
        TooLarge = "the message is larger than this socket may send",
        /// Asked of a socket that was built without a spool.
        NoSpool = "this socket keeps nothing: build it with spool(directory)",
        /// The spool is full (only with `WhenFull::Reject`).
        Full = "the spool is full",
        /// The spool has failed; open it again.
        SpoolFailed = "the spool has failed; see its event, and open it again",
    }

    /// Why a send that does not wait failed; every variant returns the message.
    TrySendError {
        /// `send` would wait.
        Full = "no peer has room",
        /// The socket is closed.
        Closed = "the socket is closed",
        /// The addressed peer is unknown, or the message lacks the peer id.
        NoRoute = "no such peer: the id is unknown or the peer has left",
        /// The message exceeds a limit of this socket.
        TooLarge = "the message is larger than this socket may send",
        /// The spool has failed; open it again.
        SpoolFailed = "the spool has failed; see its event, and open it again",
    }
}

macro_rules! plain_errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        // As wide as a register: it shares its place with a message in the results of the hot path, and a
        // narrow one would make the message move unaligned (measured on receive).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u64)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $text,)* })
            }
        }

        impl std::error::Error for $name {}
    )*};
}

plain_errors! {
    /// Why a receive failed.
    RecvError {
        /// The socket is closed and everything received was read.
        Closed = "the socket is closed",
        /// Nothing arrived in time.
        Timeout = "nothing arrived in time",
        /// With `Ack::Manual`, only `recv_delivery` gives what can be acknowledged.
        ManualAck = "with Ack::Manual use recv_delivery, whose deliveries can be acknowledged",
    }

    /// Why a receive that does not wait failed.
    TryRecvError {
        /// Nothing is there now.
        Empty = "nothing is there",
        /// The socket is closed and everything received was read.
        Closed = "the socket is closed",
        /// With `Ack::Manual`, only `recv_delivery` gives what can be acknowledged.
        ManualAck = "with Ack::Manual use recv_delivery, whose deliveries can be acknowledged",
    }

    /// Why waiting for peers or subscribers ended without them.
    WaitError {
        /// The socket is closed.
        Closed = "the socket is closed",
    }
}

/// Why [`Sender::send_all`](crate::Sender::send_all) stopped.
#[derive(Debug)]
pub struct SendAllError {
    /// Messages that were sent.
    pub sent: usize,
    /// Those that were not, in order.
    pub rest: Vec<crate::Message>,
    /// What stopped it.
    pub reason: SendError<()>,
}

impl fmt::Display for SendAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} messages, {} are left", self.reason, self.sent, self.rest.len())
    }
}

impl std::error::Error for SendAllError {}

/// Why a request has no reply.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not sent; it comes back.
    Send(SendError<crate::Message>),
    /// No reply in time. The request may have been carried out.
    Timeout,
    /// The peer left after the request was written. The request may have been carried out.
    PeerLost,
    /// The socket was closed.
    Closed,
    /// Strict lockstep only: a request is still waiting for its reply (libzmq's `EFSM`).
    OutOfTurn(crate::Message),
}

impl fmt::Debug for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Send(e) => write!(f, "Send({e:?})"),
            RequestError::Timeout => f.write_str("Timeout"),
            RequestError::PeerLost => f.write_str("PeerLost"),
            RequestError::Closed => f.write_str("Closed"),
            RequestError::OutOfTurn(_) => f.write_str("OutOfTurn(..)"),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Send(e) => e.fmt(f),
            RequestError::Timeout => f.write_str("no reply in time"),
            RequestError::PeerLost => f.write_str("the peer left before it replied"),
            RequestError::Closed => f.write_str("the socket is closed"),
            RequestError::OutOfTurn(_) => f.write_str("a request is still waiting for its reply"),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RequestError::Send(e) => Some(e),
            _ => None,
        }
    }
}

/// Any error of this crate, for `?`.
#[derive(Debug)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    Endpoint(EndpointError),
    Option(OptionError),
    Open(OpenError),
    Build(BuildError),
    Spool(SpoolError),
    Bind(BindError),
    Connect(ConnectError),
    Detach(DetachError),
    Send(SendError<crate::Message>),
    TrySend(TrySendError<crate::Message>),
    SendAll(SendAllError),
    /// Room, a flush or a change of subscriptions, which concern no message.
    Unsent(SendError<()>),
    TryReserve(TrySendError<()>),
    Recv(RecvError),
    TryRecv(TryRecvError),
    Request(RequestError),
    Wait(WaitError),
}

macro_rules! into_error {
    ($($variant:ident($from:ty)),* $(,)?) => {
        $(impl From<$from> for Error {
            fn from(e: $from) -> Error { Error::$variant(e) }
        })*

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Error::$variant(e) => e.fmt(f),)* }
            }
        }

        impl std::error::Error for Error {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self { $(Error::$variant(e) => Some(e),)* }
            }
        }
    };
}

into_error! {
    Endpoint(EndpointError),
    Option(OptionError),
    Open(OpenError),
    Build(BuildError),
    Spool(SpoolError),
    Bind(BindError),
    Connect(ConnectError),
    Detach(DetachError),
    Send(SendError<crate::Message>),
    TrySend(TrySendError<crate::Message>),
    SendAll(SendAllError),
    Unsent(SendError<()>),
    TryReserve(TrySendError<()>),
    Recv(RecvError),
    TryRecv(TryRecvError),
    Request(RequestError),
    Wait(WaitError),
}
