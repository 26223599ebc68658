//! How far something has come, for many to see and to wait for: [`Stage`]. It only ever goes on.
//!
//! Every connection on the dialling side has one, so it is small: a flag and a list of those who wait. Uses
//! tokio's `Notify`. Next: `shared` for the life of a socket, `dial` and `accept` for orders to stop.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// A stage, from 0 on.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    now: AtomicU8,
    gone_on: Notify,
}

impl Stage {
    pub(crate) fn now(&self) -> u8 {
        self.now.load(Ordering::SeqCst)
    }

    /// Goes on to `stage`, unless it is further. Returns where it was.
    pub(crate) fn advance(&self, stage: u8) -> u8 {
        let before = self.now.fetch_max(stage, Ordering::SeqCst);
        if before < stage {
            self.gone_on.notify_waiters();
        }
        before
    }

    /// Ends when it has come to `stage`.
    pub(crate) async fn reached(&self, stage: u8) {
        loop {
            let mut gone_on = pin!(self.gone_on.notified());
            // Registered before the look, so that no change falls between the two.
            gone_on.as_mut().enable();
            if self.now() >= stage {
                return;
            }
            gone_on.await;
        }
    }
}

/// An order to stop that somebody may give, once.
#[derive(Debug, Default)]
pub(crate) struct Order(Stage);

impl Order {
    pub(crate) fn give(&self) {
        self.0.advance(1);
    }

    pub(crate) fn is_given(&self) -> bool {
        self.0.now() > 0
    }

    pub(crate) async fn given(&self) {
        self.0.reached(1).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_sees_it_go_on_and_never_back() {
        let stage = Arc::new(Stage::default());
        let waits = |for_stage| {
            let stage = stage.clone();
            tokio::spawn(async move { stage.reached(for_stage).await })
        };
        let (first, second) = (waits(1), waits(2));
        assert_eq!(stage.advance(1), 0);
        first.await.unwrap();
        assert!(!second.is_finished());
        assert_eq!(stage.advance(2), 1);
        second.await.unwrap();
        assert_eq!(stage.advance(1), 2);
        assert_eq!(stage.now(), 2);
        stage.reached(1).await;
    }
}
