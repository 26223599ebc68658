//! Processes that are killed with SIGKILL at any moment: what was accepted arrives, and nothing else happens.
//!
//! A child is this very test binary, told by its environment to publish, subscribe or work; this process is the
//! other side, keeps the truth and compares. Whatever the moment of a kill, the truth must hold: nothing here depends
//! on luck. `GINNEL_KILL_ROUNDS=500 cargo test --test durable_kill -- --nocapture` is the long run: so many kills of
//! each side under each policy; `GINNEL_SEED` repeats the dice of one.
//!
//! `children` and `books` are what they do, `truth` is what must hold, the rest is who is killed.

#![cfg(unix)]

mod common;
#[path = "common/durable.rs"]
mod durable;

#[path = "durable_kill/books.rs"]
mod books;
#[path = "durable_kill/both.rs"]
mod both;
#[path = "durable_kill/children.rs"]
mod children;
#[path = "durable_kill/holder.rs"]
mod holder;
#[path = "durable_kill/spooler.rs"]
mod spooler;
#[path = "durable_kill/truth.rs"]
mod truth;

use std::time::Duration;

/// Kills per test: 53 in all tests together, or what is asked for in each.
fn rounds(few: u32) -> u32 {
    std::env::var("GINNEL_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

fn policy(name: &str) -> ginnel::Sync {
    match name {
        "batch" => ginnel::Sync::Batch,
        "every" => ginnel::Sync::Every(Duration::from_millis(100)),
        "never" => ginnel::Sync::Never,
        other => panic!("no policy {other}"),
    }
}

/// Not a test of anything: where the children begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plays_its_role() {
    match durable::role().as_deref() {
        None => {}
        Some("publisher") => children::publish().await,
        Some("registrar") => children::register().await,
        Some("planner") => children::plan().await,
        Some("subscriber") => children::subscribe().await,
        Some("worker") => children::work().await,
        Some("bookkeeper") => books::keep_books().await,
        Some(other) => panic!("no role {other}"),
    }
}

macro_rules! under_each_policy {
    ($($module:ident::$what:ident: $($test:ident($policy:literal))*;)*) => {$($(
        #[tokio::test]
        async fn $test() {
            $module::$what($policy).await;
        }
    )*)*};
}

under_each_policy! {
    spooler::a_publisher_is_killed:
        d01_a_killed_publisher_loses_nothing_under_batch("batch")
        d01_a_killed_publisher_loses_nothing_under_every("every")
        d01_a_killed_publisher_loses_nothing_under_never("never");
    spooler::a_pusher_is_killed:
        d01_a_killed_pusher_loses_nothing_under_batch("batch")
        d01_a_killed_pusher_loses_nothing_under_every("every")
        d01_a_killed_pusher_loses_nothing_under_never("never");
    spooler::a_registrar_is_killed:
        d03_a_killed_spooler_knows_its_names_under_batch("batch")
        d03_a_killed_spooler_knows_its_names_under_never("never");
    spooler::a_full_publisher_is_killed:
        d03_a_killed_publisher_tells_what_it_dropped_under_batch("batch")
        d03_a_killed_publisher_tells_what_it_dropped_under_every("every")
        d03_a_killed_publisher_tells_what_it_dropped_under_never("never");
    spooler::a_planner_is_killed:
        d01_a_killed_planner_sends_all_in_time_under_batch("batch")
        d01_a_killed_planner_sends_all_in_time_under_every("every")
        d01_a_killed_planner_sends_all_in_time_under_never("never");
    holder::a_subscriber_is_killed:
        d03_a_killed_subscriber_misses_nothing_under_batch("batch")
        d03_a_killed_subscriber_misses_nothing_under_every("every")
        d03_a_killed_subscriber_misses_nothing_under_never("never");
    holder::workers_are_killed:
        d03_killed_workers_miss_nothing_under_batch("batch")
        d03_killed_workers_miss_nothing_under_every("every")
        d03_killed_workers_miss_nothing_under_never("never");
    both::both_are_killed:
        d05_with_a_token_each_effect_happens_once_under_batch("batch")
        d05_with_a_token_each_effect_happens_once_under_every("every")
        d05_with_a_token_each_effect_happens_once_under_never("never");
}
