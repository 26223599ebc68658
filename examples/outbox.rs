//! Write first, then act: an order is in the shop's ledger before the warehouse hears of it, and once in both.
//!
//! There is no transaction over the two. The shop writes the order into its ledger, sends it through a durable PUSH
//! and then notes "sent"; after a crash it sends again whatever has no such note. The warehouse writes the order into
//! its own ledger and only then acknowledges it; after a crash it gets again what it had not acknowledged. Both rules
//! can send an order twice, none can lose one; the warehouse knows an order by its id and books it once.
//!
//! Both are killed again and again at random moments, and started again. At the end the ledgers are equal.

mod common;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use common::folder::{bind_again, lines};
use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::{Ack, Pull, Push};

/// So often somebody is killed, some time between these two after the last time.
const KILLS: usize = 16;
const LIFE_MS: std::ops::Range<u64> = 30..200;
const BACK: Duration = Duration::from_millis(20);

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "shop" => shop(part).await,
        _ => warehouse(part).await,
    }
}

/// A file of lines, each on disk before the next step. A line is one write: a kill leaves it whole or not there.
struct Ledger(File);

impl Ledger {
    fn open(path: &Path) -> Outcome<Ledger> {
        Ok(Ledger(OpenOptions::new().create(true).append(true).open(path)?))
    }

    fn write(&mut self, line: &str) -> Outcome {
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(self.0.sync_data()?)
    }
}

/// What the lines "KEY ID …" of a ledger are about.
fn ids(path: &Path, key: &str) -> Outcome<BTreeSet<u64>> {
    let lines = lines(path)?;
    let words = lines.iter().filter_map(|line| line.strip_prefix(key)?.trim_start().split(' ').next());
    words.map(number).collect()
}

/// The goods of an order.
fn goods(id: u64) -> String {
    format!("{} chairs", 1 + id % 7)
}

/// Words: its ledger, the spool's directory. Takes orders until it hears "end".
async fn shop(mut part: Part) -> Outcome {
    let path = part.path(0)?;
    // A killed shop does not wait for its readers: no linger.
    let builder = Push::builder().spool(part.path(1)?).linger(Duration::ZERO);
    let push = bind_again(builder, &part.bind()).await?;
    let mut ledger = Ledger::open(&path)?;

    let (ordered, sent) = (ids(&path, "order")?, ids(&path, "sent")?);
    let unsure: Vec<u64> = ordered.difference(&sent).copied().collect();
    part.say(format!("opens with {} orders; {} may not have been sent", ordered.len(), unsure.len()));
    for id in unsure {
        push.send((id.to_string(), goods(id))).await?;
        ledger.write(&format!("sent {id}"))?;
    }
    let mut id = ordered.last().map_or(0, |last| last + 1);
    let mut ended = false;
    while !ended {
        ledger.write(&format!("order {id} {}", goods(id)))?;
        push.send((id.to_string(), goods(id))).await?; // Accepted: in the spool, on disk.
        ledger.write(&format!("sent {id}"))?;
        id += 1;
        let customer = tokio::time::sleep(Duration::from_millis(2));
        tokio::select! { _ = customer => {}, _ = part.hear() => ended = true }
    }
    part.say(format!("orders {id}"));
    part.hear().await; // Its spool is served until the warehouse has everything.
    push.close().await;
    Ok(())
}

/// Word: its ledger. Works until it has as many orders as it hears of.
async fn warehouse(mut part: Part) -> Outcome {
    let path = part.path(0)?;
    let mut ledger = Ledger::open(&path)?;
    let mut booked = ids(&path, "order")?;
    part.say(format!("opens with {} orders", booked.len()));
    let builder = Pull::builder().durable("warehouse").ack(Ack::Manual).recv_hwm(32).linger(Duration::ZERO);
    let mut orders = builder.reconnect(BACK, BACK).connect(part.endpoint(0)?)?;
    let mut expected = u64::MAX;
    while (booked.len() as u64) < expected {
        let order = tokio::select! {
            order = orders.recv_delivery() => order?,
            line = part.hear(), if expected == u64::MAX => {
                expected = number(line.unwrap_or_default()).unwrap_or(u64::MAX - 1);
                continue;
            }
        };
        let (id, goods) = (number(&order.message()[0])?, order.message()[1].to_str()?);
        if booked.insert(id) {
            ledger.write(&format!("order {id} {goods}"))?;
        } else {
            ledger.write(&format!("again {id}"))?; // Absorbed: it has that one.
        }
        tokio::task::yield_now().await; // A kill may come between the effect and its acknowledgement.
        order.ack();
    }
    part.say(format!("complete {}", booked.len()));
    orders.close().await;
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("outbox")?;
    let (shop_ledger, spool) = (folder.path("shop"), folder.path("spool"));
    let (warehouse_ledger, endpoint) = (folder.path("warehouse"), folder.endpoint("orders"));
    let open_shop = || stage.start("shop", &[&endpoint], &[&shop_ledger, &spool]);
    let open_warehouse = || stage.start("warehouse", &[&endpoint], &[&warehouse_ledger]);

    let (mut shop, mut warehouse) = (open_shop()?, open_warehouse()?);
    let mut killed = [0, 0];
    for round in 0..KILLS {
        let dice = RandomState::new().hash_one(round);
        let life = LIFE_MS.start + (dice >> 1) % (LIFE_MS.end - LIFE_MS.start);
        tokio::time::sleep(Duration::from_millis(life)).await;
        let side = (dice & 1) as usize;
        killed[side] += 1;
        if side == 0 {
            shop.kill().await;
            shop = open_shop()?;
        } else {
            warehouse.kill().await;
            warehouse = open_warehouse()?;
        }
    }
    shop.tell("end");
    warehouse.tell(shop.wait_for("orders").await?);
    warehouse.wait_for("complete").await?;
    warehouse.finish().await?;
    shop.finish().await?;

    let orders = |path: &str| -> Outcome<Vec<String>> {
        let mut orders: Vec<String> = lines(path)?.into_iter().filter(|line| line.starts_with("order ")).collect();
        orders.sort();
        Ok(orders)
    };
    let (shop, warehouse) = (orders(&shop_ledger)?, orders(&warehouse_ledger)?);
    let again = lines(&warehouse_ledger)?.iter().filter(|line| line.starts_with("again ")).count();
    common::print(format!(
        "\nThe shop was killed {} times, the warehouse {} times. {} orders in the shop's ledger, {} in the warehouse's;\n\
         {again} came more than once and were absorbed by their id.",
        killed[0],
        killed[1],
        shop.len(),
        warehouse.len()
    ));
    check(shop == warehouse, "the ledgers differ")
}

fn main() -> std::process::ExitCode {
    let about = "Write first, then act: both sides are killed at random, and their ledgers are equal in the end.";
    common::run("outbox", about, &["shop (binds)", "warehouse"], play, story)
}
