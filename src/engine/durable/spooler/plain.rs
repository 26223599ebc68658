//! A subscriber without a name: it reads on from now, out of memory, and misses what it is too slow for, counted.

use std::task::{Context, Poll};

use super::lot::{LOT, Lot};
use super::{BACKLOG, Role, Spooler};
use crate::engine::durable::records::{Found, Records};
use crate::engine::shared::Shared;
use crate::event::{DropReason, Reason};

impl Spooler {
    /// Messages without numbers for a subscriber without a name.
    pub(super) fn fill_plain(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<bool, Reason> {
        let Role::Plain { mut position } = self.role else { return Ok(false) };
        let hwm = shared.options.send_hwm as u64;
        let fresh = || Lot::new(false, LOT);
        let (mut lot, mut count, mut filled) = (fresh(), 0, false);
        // Nobody but this task adds to the queue, so it is looked at once.
        let blocked = shared.outbound.is_blocked(self.key);
        let mut waiting = shared.outbound.backlog(self.key);
        loop {
            if blocked || waiting + lot.bytes >= BACKLOG {
                // What it is too slow for it does not get, as on any other publisher.
                let behind = self.spool.log.visible().saturating_sub(position);
                if hwm != 0 && behind > hwm {
                    let missed;
                    (position, missed) = self.count_wanted(position);
                    shared.outbound.count_drop(Some(self.key), DropReason::HwmReached, missed);
                }
                let _ = self.watch.poll_beyond(self.spool.log.visible(), cx);
                break;
            }
            match self.records.poll_after(position, cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(Reason::Io(error.to_string())),
                Poll::Ready(Ok(Found::End)) => match self.watch.poll_beyond(position, cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => break,
                },
                Poll::Ready(Ok(Found::Nothing(end) | Found::Lost(_, end))) => position = end,
                Poll::Ready(Ok(Found::Behind(end))) => {
                    shared.outbound.count_drop(Some(self.key), DropReason::HwmReached, end - position);
                    position = end;
                }
                Poll::Ready(Ok(Found::Record)) => {
                    let Some(record) = self.records.hand() else { break };
                    position = record.sequence;
                    if self.topics.matches(record.topic(), record.sequence) && !self.spool.is_expired(record) {
                        lot.push_body(&mut self.arena, &record.body);
                        count += 1;
                    }
                    if lot.bytes >= LOT {
                        waiting += lot.bytes;
                        let chunks = std::mem::replace(&mut lot, fresh()).finish(&mut self.arena, None);
                        shared.outbound.push_records(self.key, chunks, count);
                        (count, filled) = (0, true);
                    }
                }
            }
        }
        if count > 0 {
            shared.outbound.push_records(self.key, lot.finish(&mut self.arena, None), count);
            filled = true;
        }
        self.spool.plain_at(self.key, position);
        self.role = Role::Plain { position };
        Ok(filled)
    }

    /// The newest position, and how many records on the way there this subscriber would have got.
    fn count_wanted(&self, position: u64) -> (u64, u64) {
        let mut records = Records::new(self.spool.log.clone(), false);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut at, mut count) = (position, 0);
        loop {
            match records.poll_after(at, &mut cx) {
                Poll::Ready(Ok(Found::Record)) => {
                    let Some(record) = records.hand() else { return (at, count) };
                    at = record.sequence;
                    count += u64::from(self.topics.matches(record.topic(), at));
                }
                Poll::Ready(Ok(Found::Nothing(end) | Found::Lost(_, end))) if end > at => at = end,
                Poll::Ready(Ok(Found::Behind(end))) if end > at => {
                    count += end - at;
                    at = end;
                }
                _ => return (at, count),
            }
        }
    }
}
