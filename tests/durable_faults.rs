//! What goes wrong around a spool, through the public API and on real directories: processes, permissions, damage,
//! limits, names, peers that know nothing of all this. Each loss is told on both sides, or there is none.
//!
//! One file per subject in `durable_faults/`. Kills: `durable_kill.rs`.

#![cfg(unix)]

mod common;
#[path = "common/durable.rs"]
mod durable;

#[path = "durable_faults/acks.rs"]
mod acks;
#[path = "durable_faults/directories.rs"]
mod directories;
#[path = "durable_faults/files.rs"]
mod files;
#[path = "durable_faults/limits.rs"]
mod limits;
#[path = "durable_faults/names.rs"]
mod names;
#[path = "durable_faults/peers.rs"]
mod peers;
#[path = "durable_faults/sending.rs"]
mod sending;

/// Not a test of anything: where the children begin.
#[tokio::test]
async fn plays_its_role() {
    match durable::role().as_deref() {
        None => {}
        Some("owner") => directories::own().await,
        Some(other) => panic!("no role {other}"),
    }
}
