//! A rush, recorded and played again: load tests with real traffic, as fast as you like.
//!
//! A day in the shop is recorded: a PUB with a spool and `append_all` keeps every click with its time, whoever
//! listens. Then `SpoolFiles` reads the recording and a player sends each click at its time again, only N times as
//! fast: the same rush, the same pauses. The new till counts what arrives, and how well the rate was met.

mod common;

use std::time::{Duration, Instant};

use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::spool::{Position, SpoolFiles};
use ginnel::{Pub, Pull, Push, Sync};

/// The shop's day: so many clicks, at a rate that changes.
const DAY: [(u64, Duration); 4] = [
    (50, Duration::from_millis(10)),
    (100, Duration::from_millis(5)),
    (1000, Duration::from_millis(1)), // The sale has begun.
    (100, Duration::from_millis(5)),
];
const SPEEDS: [u64; 2] = [2, 5];

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "shop" => shop(part).await,
        "player" => player(part).await,
        _ => till(part).await,
    }
}

/// Word: the recording's directory.
async fn shop(part: Part) -> Outcome {
    let builder = Pub::builder().spool(part.path(0)?).append_all(true).sync(Sync::Every(Duration::from_millis(100)));
    let clicks = builder.bind(part.bind()).await?;
    let (mut due, mut click) = (Instant::now(), 0);
    for (count, pause) in DAY {
        for _ in 0..count {
            due += pause;
            tokio::time::sleep_until(due.into()).await;
            clicks.send(("click", click.to_string())).await?;
            click += 1;
        }
    }
    clicks.close().await;
    part.say(format!("recorded {click}"));
    Ok(())
}

/// Words: the recording's directory; how many times as fast.
async fn player(part: Part) -> Outcome {
    let (files, speed) = (SpoolFiles::open(part.path(0)?)?, part.word(1, 1u32)?);
    let till = Push::connect(part.endpoint(0)?)?;
    till.wait_for_peers(1).await?;
    let mut first = None;
    for record in files.records(Position::Oldest) {
        let record = record?;
        let (recorded, began) = *first.get_or_insert((record.time, Instant::now()));
        // Reckoned from the beginning each time: what is late once makes nothing after it late.
        let due = began + record.time.duration_since(recorded)? / speed;
        tokio::time::sleep_until(due.into()).await;
        till.send(record.message).await?;
    }
    till.close().await;
    Ok(())
}

/// Word: how many clicks to expect.
async fn till(part: Part) -> Outcome {
    let mut pull = Pull::bind(part.bind()).await?;
    part.say_endpoint(&pull);
    let clicks: u64 = part.word(0, 0)?;
    let (mut first, mut previous, mut busiest) = (None, Instant::now(), 0u64);
    let mut in_slice = 0u64;
    for expected in 0..clicks {
        let click = pull.recv().await?;
        check(number(&click[1])? == expected, "in order, and none missing")?;
        let now = Instant::now();
        first.get_or_insert(now);
        if now - previous >= Duration::from_millis(100) {
            (previous, in_slice) = (now, 0);
        }
        in_slice += 1;
        busiest = busiest.max(in_slice);
    }
    let took = first.map_or(Duration::ZERO, |first| first.elapsed());
    part.say(format!("busiest {} clicks a second", busiest * 10));
    part.say(format!("took {}", took.as_micros()));
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("flash_sale")?;
    let recording = folder.path("recording");
    let mut shop = stage.start("shop", &[], &[&recording])?;
    let clicks = shop.wait_for("recorded").await?;
    shop.finish().await?;
    let recorded = SpoolFiles::open(&recording)?.records(Position::Oldest);
    let times = recorded.map(|record| Ok(record?.time)).collect::<Outcome<Vec<_>>>()?;
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Err("nothing was recorded".into()) };
    let day = last.duration_since(*first)?;
    check(times.len() as u64 == number(&clicks)?, "every click should be recorded")?;
    common::print(format!("The day took {} ms.", day.as_millis()));

    for speed in SPEEDS {
        let mut till = stage.start("till", &[], &[&clicks])?;
        let endpoint = till.wait_for("endpoint").await?;
        let player = stage.start("player", &[&endpoint], &[&recording, &speed.to_string()])?;
        let took = number(till.wait_for("took").await?)? as f64;
        player.finish().await?;
        till.finish().await?;
        // Shown, not checked: a pause of a busy machine spoils the rate, and no click.
        let error = (took / (day.as_micros() as f64 / speed as f64) - 1.0).abs() * 100.0;
        common::print(format!("{speed} times as fast: {:.0} ms, the rate is off by {error:.2} %", took / 1000.0));
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let about = "A rush is recorded in a spool and played again, two and five times as fast.";
    common::run("flash_sale", about, &["shop (binds)", "player", "till (binds)"], play, story)
}
