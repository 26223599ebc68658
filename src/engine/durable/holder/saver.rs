//! Writes what is done to the user's file: [`Saver`].
//!
//! One write at a time, in a thread of the runtime that is there to be blocked, so that acknowledgements made
//! meanwhile share the next one. Uses `store::cursor`. Absent: what is done, which the ledgers know. Next: `holder`.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use tokio::runtime::Handle;

use super::{Holder, SpoolLedger};
use crate::engine::events::lock;
use crate::event::Event;
use crate::store::cursor::{Done, FileCursor};

pub(super) struct Saver {
    /// None once the socket is closed: then the file is free for another.
    file: Mutex<Option<FileCursor>>,
    /// What is to be written, by whoever gets to it first.
    wanted: Mutex<bool>,
    holder: Mutex<Weak<Holder>>,
    /// The socket's, from the first connection on: whoever acknowledges may be a thread without one.
    runtime: OnceLock<Handle>,
}

impl Saver {
    pub(super) fn new(file: FileCursor) -> Saver {
        let (file, holder) = (Mutex::new(Some(file)), Mutex::new(Weak::new()));
        Saver { file, wanted: Mutex::new(false), holder, runtime: OnceLock::new() }
    }

    pub(super) fn belongs_to(&self, holder: &Arc<Holder>) {
        *lock(&self.holder) = Arc::downgrade(holder);
    }

    /// Writes by this runtime's threads from now on.
    pub(super) fn move_in(&self, runtime: &Handle) {
        self.runtime.get_or_init(|| runtime.clone());
    }

    pub(super) fn save_soon(self: &Arc<Self>) {
        if std::mem::replace(&mut *lock(&self.wanted), true) {
            return;
        }
        let saver = self.clone();
        match self.runtime.get() {
            Some(runtime) => drop(runtime.spawn_blocking(move || saver.save())),
            // Nothing was connected yet, so there is nothing to acknowledge either.
            None => saver.save(),
        }
    }

    fn save(&self) {
        let mut file = lock(&self.file);
        let Some(file) = file.as_mut() else { return };
        *lock(&self.wanted) = false;
        let Some(holder) = lock(&self.holder).upgrade() else { return };
        let ledgers: Vec<Arc<SpoolLedger>> = lock(&holder.ledgers).values().cloned().collect();
        let states: Vec<Done> = ledgers
            .iter()
            .map(|ledger| {
                let state = lock(&ledger.state);
                (ledger.spool, state.memory.done(), state.memory.ranges())
            })
            .collect();
        if let Err(error) = file.save(&states) {
            let error = format!("cursor file: {error}");
            holder.events.emit_kept(Event::SpoolFailed { error });
        }
    }

    /// Writes the last and gives the file back. Blocks.
    pub(super) fn close(&self) {
        self.save();
        *lock(&self.file) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_acknowledges_does_not_wait_for_the_disk() {
        let dir = own_dir();
        let (file, _) = FileCursor::open(&dir.join("cursor")).unwrap();
        let saver = Arc::new(Saver::new(file));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        saver.move_in(runtime.handle());
        let disk_is_slow = saver.file.lock().unwrap();
        let acknowledges = {
            let saver = saver.clone();
            std::thread::spawn(move || (saver.save_soon(), saver.save_soon()))
        };
        // A caller that writes by itself would not end before the lock is given back.
        acknowledges.join().unwrap();
        assert!(*lock(&saver.wanted), "not written yet");
        drop(disk_is_slow);
        while *lock(&saver.wanted) {
            std::thread::yield_now();
        }
        saver.close();
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn own_dir() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("ginnel-saver-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
