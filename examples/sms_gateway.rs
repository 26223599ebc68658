//! Peak shaving: 10,000 text messages at once, and a gateway that takes 300 a second.
//!
//! The disk is the funnel. The sender hands everything to its spool at the speed of the disk and can go home; the
//! gateway's window (its receive mark) pulls at its own pace, so what is in memory stays small however long the queue
//! is. The chart shows the lag. So that you need not wait for 33 seconds, the clock of this story runs ten times as
//! fast: the gateway takes 3,000 a second, and the burst is still 33 times what it takes in one second of the story.

mod common;

use std::time::{Duration, Instant};

use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::{Pull, Push, Sync};
use tokio::time::{MissedTickBehavior, interval};

const BURST: u64 = 10_000;
const PER_SECOND: u64 = 300;
/// How much faster than the real one the story's clock runs.
const FASTER: u64 = 10;
/// What the gateway holds at most.
const WINDOW: usize = 200;
const TICKS_PER_SECOND: u64 = 100;

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "shop" => shop(part).await,
        _ => gateway(part).await,
    }
}

/// Word: the spool's directory.
async fn shop(part: Part) -> Outcome {
    // Synced every 100 ms: a power cut may cost the last texts of an advertisement, a killed process none.
    let builder = Push::builder().spool(part.path(0)?).sync(Sync::Every(Duration::from_millis(100)));
    let push = builder.bind(part.bind()).await?;
    part.say_endpoint(&push);
    push.wait_for_peers(1).await?;

    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut last = None;
    for n in 0..BURST {
        let asked = Instant::now();
        last = Some(push.enqueue((format!("+41 79 {n:07}"), "Everything must go: 50 % off, today only!")).await?);
        longest = longest.max(asked.elapsed());
    }
    if let Some(last) = last {
        last.await?; // It is accepted, and so is everything before it.
    }
    let took = began.elapsed();
    part.say(format!("burst {} ms, the longest wait {} µs", took.as_millis(), longest.as_micros()));

    let spool = push.spool().ok_or("it has one")?;
    let mut watch = interval(Duration::from_millis(2000 / FASTER));
    let mut most = 0;
    loop {
        watch.tick().await;
        let queue = spool.names().pop().ok_or("its queue")?;
        most = most.max(queue.in_flight);
        let seconds = began.elapsed().as_secs_f64() * FASTER as f64;
        let bar = "#".repeat((queue.lag_records * 60).div_ceil(BURST) as usize);
        part.say(format!("{seconds:5.1} s {:>6} to go, {:>3} in memory {bar}", queue.lag_records, queue.in_flight));
        if queue.lag_records == 0 {
            break;
        }
    }
    part.say(format!("most {most} in memory at once, of {BURST}"));
    push.close().await;
    Ok(())
}

async fn gateway(part: Part) -> Outcome {
    let mut pull = Pull::builder().durable("gateway").recv_hwm(WINDOW).connect(part.endpoint(0)?)?;
    // So many at each tick, and no tick is skipped: the rate holds on average.
    let mut clock = interval(Duration::from_secs(1) / TICKS_PER_SECOND as u32);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut began = None;
    for n in 0..BURST {
        if n % (PER_SECOND * FASTER / TICKS_PER_SECOND) == 0 {
            clock.tick().await;
        }
        let text = pull.recv().await?;
        began.get_or_insert_with(Instant::now);
        check(text[0] == format!("+41 79 {n:07}").as_str(), "out of order")?;
    }
    pull.ack_last();
    let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64()) * FASTER as f64;
    part.say(format!("all {:.0} a second", BURST as f64 / seconds));
    pull.close().await;
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("sms_gateway")?;
    let mut shop = stage.start("shop", &[], &[&folder.path("spool")])?;
    let endpoint = shop.wait_for("endpoint").await?;
    let mut gateway = stage.start("gateway", &[&endpoint], &[])?;
    let most = shop.wait_for("most").await?;
    let most = number(most.split(' ').next().unwrap_or_default())?;
    gateway.wait_for("all").await?;
    gateway.finish().await?;
    shop.finish().await?;
    check(most <= WINDOW as u64, format!("{most} were in memory at once, {WINDOW} are allowed"))
}

fn main() -> std::process::ExitCode {
    let about = "Peak shaving: 10,000 texts at once, 300 a second (ten times as fast here), the rest waits on disk.";
    common::run("sms_gateway", about, &["shop (binds)", "gateway"], play, story)
}
