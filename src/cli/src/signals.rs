//! SIGINT and SIGTERM: the first one asks to stop, the second one ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Tells when to stop. Clones see the same signal.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Option<i32>>);

impl Stop {
    /// Starts to listen; from now on the first signal no longer ends the process.
    pub(crate) fn listen() -> io::Result<Stop> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let code = next(&mut interrupt, &mut terminate).await;
            sender.send_replace(Some(code));
            std::process::exit(next(&mut interrupt, &mut terminate).await);
        });
        Ok(Stop(receiver))
    }

    /// Waits for the first signal and gives the exit code that belongs to it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call sees the same signal.
    pub(crate) async fn requested(&self) -> i32 {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or_default(),
            // The listening task lives as long as the runtime: without it there is nothing to wait for.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}
