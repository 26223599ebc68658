//! Sends that are on their way into the spool: [`Receipts`] waits for each, in order, and reports it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use ginnel::Pending;
use tokio::sync::Notify;

use super::errno::Fault;
use super::event;
use super::outbox::Outbox;

/// The bytes that a spool takes before they are written bound how many there are.
#[derive(Default)]
pub(super) struct Receipts {
    under_way: RefCell<VecDeque<(u64, Pending)>>,
    /// With the one that is being waited for.
    count: Cell<usize>,
    added: Notify,
    settled: Notify,
}

impl Receipts {
    /// The message of input line `line` has its number.
    pub(super) fn add(&self, line: u64, pending: Pending) {
        self.under_way.borrow_mut().push_back((line, pending));
        self.count.set(self.count.get() + 1);
        self.added.notify_one();
    }

    /// Reports each as it is accepted: counted if that is wanted, failures always. Never returns.
    pub(super) async fn report(&self, outbox: &Outbox, counted: bool) {
        loop {
            let next = self.under_way.borrow_mut().pop_front();
            let Some((line, pending)) = next else {
                self.added.notified().await;
                continue;
            };
            let sequence = pending.sequence();
            match pending.await {
                Ok(_) if counted => outbox.count_sent(Some(sequence)),
                Ok(_) => {}
                Err(e) => outbox.push(event::err("send", Some(line), &Fault::from(e))).await,
            }
            self.count.set(self.count.get() - 1);
            if self.count.get() == 0 {
                self.settled.notify_one();
            }
        }
    }

    /// Waits until nothing is on its way any more.
    pub(super) async fn settled(&self) {
        while self.count.get() > 0 {
            self.settled.notified().await;
        }
    }
}
