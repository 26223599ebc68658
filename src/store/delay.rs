//! Messages that wait for their time: a second log, and a heap of what is due.
pub(crate) struct Delay;
