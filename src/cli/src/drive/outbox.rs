//! Lines for stdout that are no messages: they queue here in order until the one writer takes them.
//!
//! Accepted sends are only counted, so that a reader that does not read never stops the sends.

use std::sync::Mutex;

use tokio::sync::Notify;

use super::event;

/// So many lines may wait; then whoever adds one waits too.
const LINES_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something is there.
    filled: Notify,
    /// There is room again.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    lines: usize,
    sent: u64,
    reported: u64,
    /// The last record of those, on a spool.
    sequence: Option<u64>,
}

impl State {
    fn report_sent(&mut self) {
        if self.sent != self.reported {
            self.reported = self.sent;
            event::sent(&mut self.bytes, self.sent, self.sequence.map(|sequence| ("seq", sequence)));
        }
    }
}

impl Outbox {
    /// Counts one accepted send, to be reported when the writer comes by.
    pub(super) fn count_sent(&self, sequence: Option<u64>) {
        let mut state = self.lock();
        state.sent += 1;
        state.sequence = sequence;
        drop(state);
        self.filled.notify_one();
    }

    /// Counts and reports one accepted message that waits for its time. Waits while too many lines are there.
    pub(super) async fn push_delayed(&self, number: u64) {
        while self.lock().lines >= LINES_MAX {
            self.emptied.notified().await;
        }
        let mut state = self.lock();
        state.report_sent();
        state.sent += 1;
        state.reported = state.sent;
        let total = state.sent;
        event::sent(&mut state.bytes, total, Some(("delayed", number)));
        state.lines += 1;
        drop(state);
        self.filled.notify_one();
    }

    /// Adds a line, after the report of what was sent before it. Waits while too many lines are there.
    pub(super) async fn push(&self, line: Vec<u8>) {
        while self.lock().lines >= LINES_MAX {
            self.emptied.notified().await;
        }
        self.push_now(&line);
    }

    /// Adds a line in any case: for the few that the writer itself causes.
    pub(super) fn push_now(&self, line: &[u8]) {
        let mut state = self.lock();
        state.report_sent();
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until there is something to take.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn filled(&self) {
        while self.is_empty() {
            self.filled.notified().await;
        }
    }

    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.bytes.is_empty() && state.sent == state.reported
    }

    /// Moves everything into `out`.
    pub(super) fn take(&self, out: &mut Vec<u8>) {
        let mut state = self.lock();
        state.report_sent();
        out.append(&mut state.bytes);
        state.lines = 0;
        drop(state);
        self.emptied.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the lines are still lines.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_are_merged_and_keep_their_place() {
        let outbox = Outbox::default();
        outbox.count_sent(None);
        outbox.count_sent(None);
        outbox.push_now(b"{\"ev\":\"x\"}\n");
        outbox.count_sent(None);
        let mut out = Vec::new();
        outbox.take(&mut out);
        let lines: Vec<&[u8]> = out.split(|&b| b == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, [&b"{\"ev\":\"sent\",\"n\":2}"[..], b"{\"ev\":\"x\"}", b"{\"ev\":\"sent\",\"n\":3}"]);
        assert!(outbox.is_empty());
    }
}
