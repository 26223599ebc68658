//! What a durable name still has to get: the session machines of both sides.
//!
//! `queue` is one name (or one PUSH) on the spooler's side: position, cursor, what is in flight with whom, what is to
//! be sent again. `holder` is the other side: what was announced, what is done, what is to be acknowledged.
//! `ranges` is the set of numbers both are made of, `filter` a name's prefixes. No IO, no clock, no lock: you give me
//! records, commands and the time. Next: `engine`, which joins them to connections and to `store`.

pub(crate) mod filter;
pub(crate) mod holder;
pub(crate) mod queue;
pub(crate) mod ranges;

#[cfg(test)]
mod tests;
