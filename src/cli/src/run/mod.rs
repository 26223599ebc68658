//! The socket subcommands: each builds its socket, says what its work is, and ends as
//! [`Session`](crate::session::Session) says. `send` holds push, pub and xpub; `receive` pull, sub and xsub;
//! `request` req and rep; `duplex` dealer, router and pair.

mod duplex;
mod receive;
mod request;
mod send;

pub(crate) use duplex::{dealer, pair, router};
pub(crate) use receive::{pull, sub, xsub};
pub(crate) use request::{rep, req};
pub(crate) use send::{publish, push, send, xpub};

use crate::args::SocketArgs;
use crate::exit::Failure;

/// One step that `--timeout` bounds.
pub(crate) async fn step<T>(args: &SocketArgs, what: &str, step: impl Future<Output = T>) -> Result<T, Failure> {
    match args.timeout.limit() {
        None => Ok(step.await),
        Some(limit) => tokio::time::timeout(limit, step)
            .await
            .map_err(|_| Failure::timeout(format_args!("no {what} within {limit:?}"))),
    }
}
