//! stdout, written in one place: whole chunks, off the runtime, nothing kept back between two writes.
//!
//! Whoever writes waits until the chunk is with the operating system; that wait is the back-pressure of a
//! reader that does not read.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

/// A chunk is written when it has grown to this, if not before.
pub(crate) const CHUNK: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct Output {
    file: Arc<File>,
    /// Held by the write under way, which goes on when nobody waits for it any more.
    writing: Arc<Mutex<()>>,
}

impl Output {
    /// A second handle of stdout without a buffer of its own.
    pub(crate) fn stdout() -> io::Result<Output> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Output { file: Arc::new(file), writing: Arc::default() })
    }

    /// Writes all of `chunk` and gives it back empty, for the next one.
    ///
    /// # Cancel safety
    /// When the future is dropped the chunk is still written: see [`settle`](Output::settle).
    pub(crate) async fn write(&self, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
        let file = Arc::clone(&self.file);
        let guard = Arc::clone(&self.writing).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || {
            (&*file).write_all(&chunk)?;
            chunk.clear();
            drop(guard);
            Ok(chunk)
        });
        written.await.map_err(io::Error::other)?
    }

    /// Waits for a write under way, at most for `limit`: before the process ends.
    pub(crate) async fn settle(&self, limit: Duration) {
        // A reader that does not read is not waited for longer.
        let _ = tokio::time::timeout(limit, self.writing.lock()).await;
    }
}
