#![allow(unused)]
use super::{LogStats, Refused, Ticket, Turn, Unaccepted};
use crate::message::{Message, SpoolId};
use crate::store::interest::Interest;
use crate::store::names::Registry;
use crate::store::reader::{Fetch, Taken};
use crate::store::record::Extra;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
pub(crate) struct Shared {
    pub(crate) id: SpoolId,
}
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}
impl Shared {
    pub(crate) fn try_append(&self, message: &Message, extra: &Extra) -> Result<u64, Refused> {
        unimplemented!()
    }
    pub(crate) fn poll_append(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        message: &Message,
        extra: &Extra,
    ) -> Poll<Result<u64, Refused>> {
        unimplemented!()
    }
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, ticket: &mut Ticket) -> Poll<Result<(), Refused>> {
        unimplemented!()
    }
    pub(crate) fn abandon(&self, ticket: &mut Ticket) {
        unimplemented!()
    }
    pub(crate) fn try_append_all(&self, messages: &mut VecDeque<Message>) -> Result<(usize, u64), Refused> {
        unimplemented!()
    }
    pub(crate) fn poll_accepted(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        unimplemented!()
    }
    pub(crate) fn forget_waiter(&self, sequence: u64) {
        unimplemented!()
    }
    pub(crate) fn poll_flushed(&self, target: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        unimplemented!()
    }
    pub(crate) fn visible(&self) -> u64 {
        unimplemented!()
    }
    pub(crate) fn newest(&self) -> u64 {
        unimplemented!()
    }
    pub(crate) fn oldest(&self) -> u64 {
        unimplemented!()
    }
    pub(crate) fn fetch(&self, after: u64) -> Fetch {
        unimplemented!()
    }
    pub(crate) fn change_interest(&self, change: impl FnOnce(&mut Interest)) -> u64 {
        unimplemented!()
    }
    pub(crate) fn registry<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        unimplemented!()
    }
    pub(crate) fn declare(&self, name: &str, prefixes: &[&[u8]]) -> bool {
        unimplemented!()
    }
    pub(crate) fn drop_name(&self, name: &str) -> bool {
        unimplemented!()
    }
    pub(crate) fn set_connected(&self, name: &str, connected: bool) {
        unimplemented!()
    }
    pub(crate) fn save(&self, both: bool) -> io::Result<()> {
        unimplemented!()
    }
    pub(crate) fn advance(&self, name: &str, cursor: u64, done: &[(u64, u64)]) {
        unimplemented!()
    }
}
impl Handle {
    pub(crate) fn turn(&self) -> Turn {
        unimplemented!()
    }
    pub(crate) fn append_delayed(&self, message: &Message, due: i64) -> Result<u64, Refused> {
        unimplemented!()
    }
    pub(crate) fn poll_delayed_accepted(&self, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), Unaccepted>> {
        unimplemented!()
    }
    pub(crate) fn forget_delayed_waiter(&self, number: u64) {
        unimplemented!()
    }
    pub(crate) fn cancel_delayed(&self, number: u64) -> bool {
        unimplemented!()
    }
    pub(crate) fn bury(&self, record: &Taken, name: &str, tries: u32) -> Result<(), Refused> {
        unimplemented!()
    }
    pub(crate) fn stats(&self) -> LogStats {
        unimplemented!()
    }
    pub(crate) fn close(&self) -> io::Result<()> {
        unimplemented!()
    }
}
