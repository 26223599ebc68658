//! Dead letters: a second log.
use super::shared::{Handle, Shared};
use super::{Refused, Unaccepted};
use crate::message::Message;
use crate::store::reader::Taken;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
pub(crate) struct Dead;
impl Shared {
    pub(super) fn flush_dead(&self) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn delayed(&self) -> u64 {
        0
    }
    pub(crate) fn dead_letters(&self) -> u64 {
        0
    }
    pub(crate) fn run_delayed(self: &Arc<Self>) -> (bool, Option<Duration>) {
        (false, None)
    }
    pub(crate) fn close_nested(&self) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn turn_nested(&self) -> bool {
        false
    }
}
impl Handle {
    pub(super) fn append_delayed(&self, _message: &Message, _due: i64) -> Result<u64, Refused> {
        Err(Refused::Closed)
    }
    pub(super) fn poll_delayed_accepted(&self, _n: u64, _cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        Poll::Pending
    }
    pub(super) fn forget_delayed_waiter(&self, _n: u64) {}
    pub(super) fn cancel_delayed(&self, _n: u64) -> bool {
        false
    }
    pub(super) fn bury(&self, _record: &Taken, _name: &str, _tries: u32) -> Result<(), Refused> {
        Err(Refused::Closed)
    }
}
