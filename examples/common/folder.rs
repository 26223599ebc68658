//! Where an example keeps what must outlive its parts: spools, ledgers, addresses that stay.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ginnel::{BindError, Buildable, Builder, OpenError};

use super::{Outcome, PATIENCE};

/// A new directory that goes with its value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(example: &str) -> Outcome<Folder> {
        let unique = RandomState::new().hash_one(example) as u32;
        let path = std::env::temp_dir().join(format!("ginnel-{example}-{}-{unique:x}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Folder(path))
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// An address that nobody else can take while its owner is away: a path, not a port.
    pub fn endpoint(&self, name: &str) -> String {
        format!("ipc://{}", self.path(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A task that was killed may still be closing its files.
        for _ in 0..100 {
            match std::fs::remove_dir_all(&self.0) {
                Err(why) if why.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return,
            }
        }
    }
}

/// Looks again and again until `holds`.
pub async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Binds again what was bound before. A killed process lets go of its spool and its address at once; a killed task
/// whose socket is still closing takes a moment.
pub async fn bind_again<S: Buildable>(builder: Builder<S>, endpoint: &str) -> Outcome<S> {
    let began = Instant::now();
    loop {
        match builder.clone().bind(endpoint).await {
            Err(BindError::AddrInUse(_) | BindError::Spool(OpenError::InUse { .. })) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bound => return Ok(bound?),
        }
    }
}

/// The lines of a file; none when there is no such file yet.
pub fn lines(path: impl AsRef<Path>) -> Outcome<Vec<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(why.into()),
    }
}
