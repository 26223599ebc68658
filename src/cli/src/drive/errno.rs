//! libzmq's error numbers, as `drive` reports them.

use ginnel::{BindError, ConnectError, DetachError, SendError};

/// The numbers that a line can fail with, on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::upper_case_acronyms)]
pub(super) enum Errno {
    ENOENT,
    EIO,
    EAGAIN,
    EACCES,
    EINVAL,
    EMSGSIZE,
    ENOTSUP,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EHOSTUNREACH,
    EFSM,
    ETERM,
}

impl Errno {
    pub(super) fn number(self) -> i32 {
        /// Where libzmq's own numbers start.
        const HAUSNUMERO: i32 = 156_384_712;
        match self {
            Errno::ENOENT => 2,
            Errno::EIO => 5,
            Errno::EAGAIN => 11,
            Errno::EACCES => 13,
            Errno::EINVAL => 22,
            Errno::EMSGSIZE => 90,
            Errno::ENOTSUP => 95,
            Errno::EADDRINUSE => 98,
            Errno::EADDRNOTAVAIL => 99,
            Errno::EHOSTUNREACH => 113,
            Errno::EFSM => HAUSNUMERO + 51,
            Errno::ETERM => HAUSNUMERO + 53,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Errno::ENOENT => "ENOENT",
            Errno::EIO => "EIO",
            Errno::EAGAIN => "EAGAIN",
            Errno::EACCES => "EACCES",
            Errno::EINVAL => "EINVAL",
            Errno::EMSGSIZE => "EMSGSIZE",
            Errno::ENOTSUP => "ENOTSUP",
            Errno::EADDRINUSE => "EADDRINUSE",
            Errno::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            Errno::EHOSTUNREACH => "EHOSTUNREACH",
            Errno::EFSM => "EFSM",
            Errno::ETERM => "ETERM",
        }
    }
}

/// Why a line failed, with libzmq's number where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) errno: Option<Errno>,
    pub(super) why: String,
}

impl Fault {
    pub(super) fn new(errno: Errno, why: impl Into<String>) -> Fault {
        Fault { errno: Some(errno), why: why.into() }
    }
}

impl<T> From<SendError<T>> for Fault {
    fn from(e: SendError<T>) -> Fault {
        let errno = match &e {
            SendError::Closed(_) => Some(Errno::ETERM),
            SendError::Timeout(_) | SendError::Full(_) => Some(Errno::EAGAIN),
            SendError::NoRoute(_) => Some(Errno::EHOSTUNREACH),
            SendError::TooLarge(_) => Some(Errno::EMSGSIZE),
            SendError::SpoolFailed(_) | SendError::DurabilityUnknown { .. } => Some(Errno::EIO),
            _ => None,
        };
        Fault { errno, why: e.to_string() }
    }
}

impl From<BindError> for Fault {
    fn from(e: BindError) -> Fault {
        let errno = match &e {
            BindError::Endpoint(_) | BindError::Option(_) => Some(Errno::EINVAL),
            BindError::AddrInUse(_) => Some(Errno::EADDRINUSE),
            BindError::AddrNotAvailable(_) => Some(Errno::EADDRNOTAVAIL),
            BindError::Permission(_) => Some(Errno::EACCES),
            BindError::Closed => Some(Errno::ETERM),
            BindError::Io(io) if io.kind() == std::io::ErrorKind::NotFound => Some(Errno::ENOENT),
            _ => None,
        };
        Fault { errno, why: e.to_string() }
    }
}

impl From<ConnectError> for Fault {
    fn from(e: ConnectError) -> Fault {
        let errno = match &e {
            ConnectError::Endpoint(_) | ConnectError::Option(_) => Some(Errno::EINVAL),
            ConnectError::Closed => Some(Errno::ETERM),
            _ => None,
        };
        Fault { errno, why: e.to_string() }
    }
}

impl From<DetachError> for Fault {
    fn from(e: DetachError) -> Fault {
        let errno = match &e {
            DetachError::Endpoint(_) => Some(Errno::EINVAL),
            DetachError::NotFound(_) => Some(Errno::ENOENT),
            _ => None,
        };
        Fault { errno, why: e.to_string() }
    }
}
