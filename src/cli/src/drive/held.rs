//! Durable deliveries between their line on stdout and their acknowledgement: [`Held`].
//!
//! Shared by the pump, which receives, and the steering, which acknowledges; both are in one task.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use ginnel::{Delivery, SpoolId};
use tokio::sync::{Notify, oneshot};

use super::durable::AckMode;

pub(super) struct Held {
    ack: Option<AckMode>,
    /// In a chunk that is not with the operating system yet.
    printed: RefCell<Vec<Delivery>>,
    /// With `manual`: those that nobody has spoken of yet. The window of the socket bounds them.
    open: RefCell<BTreeMap<SpoolId, BTreeMap<u64, Delivery>>>,
    /// Somebody wants the durable name dropped.
    drop_name: RefCell<Option<oneshot::Sender<bool>>>,
    asked: Notify,
}

/// Why a number names no delivery for sure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

impl Held {
    /// `ack` is `None` on a socket without a durable name.
    pub(super) fn new(ack: Option<AckMode>) -> Held {
        Held {
            ack,
            printed: RefCell::default(),
            open: RefCell::default(),
            drop_name: RefCell::default(),
            asked: Notify::new(),
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.ack.is_some()
    }

    pub(super) fn is_manual(&self) -> bool {
        self.ack == Some(AckMode::Manual)
    }

    /// Its line is in the chunk.
    pub(super) fn printed(&self, delivery: Delivery) {
        match (self.is_manual(), delivery.spool(), delivery.sequence()) {
            (true, Some(spool), Some(sequence)) => {
                self.open.borrow_mut().entry(spool).or_default().insert(sequence, delivery);
            }
            _ => self.printed.borrow_mut().push(delivery),
        }
    }

    /// The chunk is with the operating system.
    pub(super) fn flushed(&self) {
        self.printed.borrow_mut().drain(..).for_each(Delivery::ack);
    }

    /// Acknowledges one delivery, or it and all before it. False: there is none of this number.
    pub(super) fn acknowledge(&self, spool: Option<SpoolId>, sequence: u64, up_to: bool) -> Result<bool, Ambiguous> {
        let Some(spool) = self.find(spool, sequence)? else { return Ok(false) };
        let mut open = self.open.borrow_mut();
        let Some(deliveries) = open.get_mut(&spool) else { return Ok(false) };
        let Some(delivery) = deliveries.remove(&sequence) else { return Ok(false) };
        if !up_to {
            delivery.ack();
            return Ok(true);
        }
        let later = deliveries.split_off(&sequence);
        std::mem::replace(deliveries, later).into_values().for_each(Delivery::ack);
        delivery.ack_up_to();
        Ok(true)
    }

    /// Gives one delivery back. False: there is none of this number.
    pub(super) fn retry(&self, spool: Option<SpoolId>, sequence: u64, after: Duration) -> Result<bool, Ambiguous> {
        let Some(spool) = self.find(spool, sequence)? else { return Ok(false) };
        let delivery = self.open.borrow_mut().get_mut(&spool).and_then(|deliveries| deliveries.remove(&sequence));
        Ok(delivery.map(|delivery| delivery.retry(after)).is_some())
    }

    /// The spool that is meant: the one that was named, or the only one with such a delivery.
    fn find(&self, spool: Option<SpoolId>, sequence: u64) -> Result<Option<SpoolId>, Ambiguous> {
        if spool.is_some() {
            return Ok(spool);
        }
        let open = self.open.borrow();
        let mut found = open.iter().filter(|(_, deliveries)| deliveries.contains_key(&sequence)).map(|(id, _)| *id);
        let first = found.next();
        if found.next().is_some() { Err(Ambiguous) } else { Ok(first) }
    }

    /// Asks the receiving side to give the name up, and waits for its answer.
    pub(super) async fn drop_name(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.drop_name.replace(Some(answer));
        self.asked.notify_one();
        answered.await.unwrap_or(false)
    }

    /// Waits until [`Held::drop_name`] is called.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn asked_to_drop(&self) -> oneshot::Sender<bool> {
        loop {
            if let Some(answer) = self.drop_name.take() {
                return answer;
            }
            self.asked.notified().await;
        }
    }
}
