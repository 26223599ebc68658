//! ZMTP: bytes in, events out. You give me bytes and the time; I give you events and bytes.
//!
//! Here lives everything that knows a byte's place: greeting, handshake, mechanisms, frames, commands,
//! heartbeat rules. It may use the vocabulary (`message`, `options`, `error`, `event`) and `bytes`. There is
//! no async, no clock (time is an argument), no socket and no lock, and nothing a peer sends can panic.
//! Start with `session` (how a connection becomes a peer), then `decoder` (traffic) and `frame` (the
//! trusted hot path); `engine` drives all of it.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub(crate) mod command;
pub(crate) mod decoder;
pub(crate) mod frame;
pub(crate) mod greeting;
pub(crate) mod heartbeat;
pub(crate) mod mechanism;
pub(crate) mod metadata;
pub(crate) mod session;

/// What was agreed with a peer in the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub(crate) enum Version {
    V2_0,
    V3_0,
    V3_1,
}
