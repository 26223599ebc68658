//! A stock SUB that is too slow misses messages, each counted, and a durable name beside it misses nothing.

use std::time::Duration;

use ginnel::{DropReason, Event, Pub, Sub};
use interop::{Cases, Fault, Outcome, Peer, Program, Transport, check, json, same, wait_for, within};

use super::{Dir, WIRES, number_of, numbered, subscribed};

/// More than the systems' buffers and the connection's queue hold.
const WEIGHT: usize = 16 << 10;

#[derive(Clone, Copy)]
struct Flood {
    transport: Transport,
    send_hwm: usize,
    count: u64,
    weight: usize,
    others: Others,
}

/// Messages in between that the slow one did not ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Others {
    None,
    /// Nobody asked for: numbers without records.
    Unwritten,
    /// Another durable name has them.
    Written,
}

/// A stock subscriber stops in its tracks, is flooded, and goes on.
async fn flooded(peer: &mut Peer, flood: Flood) -> Outcome {
    let dir = Dir::new();
    let ours = dir.publisher().sync(ginnel::Sync::Never).send_hwm(flood.send_hwm).send_buffer(64 << 10);
    let ours = if flood.others == Others::Written { ours.declare("others", ["other"]) } else { ours }.build()?;
    let mut monitor = ours.monitor();
    let endpoint = ours.bind_to(flood.transport.our_place()).await?;
    let mut durable = Sub::builder().durable("keeper").subscribe("n").build()?;
    durable.connect_to(&endpoint)?;
    subscribed(&mut monitor, "n").await?;
    let holds = || ours.spool().is_some_and(|spool| spool.names().iter().any(ginnel::NameStats::connected));
    interop::until("the durable name", holds).await?;
    let options = json!({ "SUBSCRIBE": "n", "RCVHWM": 1, "RCVBUF": 65536 });
    peer.connect("theirs", "SUB", &endpoint.to_string(), options).await?;
    subscribed(&mut monitor, "n").await?;

    peer.signal("STOP").await?;
    let sent = publish(&ours, flood).await;
    let kept = match sent {
        Ok(()) => all_of_them(&mut durable, flood.count).await,
        Err(fault) => Err(fault),
    };
    let dropped = match flood.send_hwm {
        0 => Ok(()),
        _ => wait_for(&mut monitor, "Dropped: HwmReached", dropped).await.map(drop),
    };
    peer.signal("CONT").await?;
    kept?;
    dropped?;
    account(&ours, peer, flood.count).await?;
    still_served(&ours, peer, flood.count).await
}

fn dropped(event: &Event) -> bool {
    matches!(event, Event::Dropped { reason: DropReason::HwmReached, .. })
}

async fn publish(ours: &Pub, flood: Flood) -> Outcome {
    let send = async {
        for number in 0..flood.count {
            ours.send(numbered("n", number, flood.weight)).await?;
            if flood.others != Others::None {
                ours.send(numbered("other", number, 0)).await?;
            }
        }
        Ok::<(), ginnel::SendError<ginnel::Message>>(())
    };
    within("send", send).await
}

async fn all_of_them(durable: &mut Sub, count: u64) -> Outcome {
    for number in 0..count {
        let delivery = within("recv_delivery", durable.recv_delivery()).await?;
        same("the durable name's next", (number_of(delivery.message())?, delivery.tries()), (number, 1))?;
    }
    Ok(())
}

/// What arrives and what was counted as dropped make up what was sent, without another message to push the rest out.
async fn account(ours: &Pub, peer: &mut Peer, count: u64) -> Outcome {
    let (mut got, mut total) = (Vec::new(), 0);
    let look = async {
        loop {
            got.extend(peer.stream_collect("theirs", 100).await?);
            total = got.iter().map(|(first, last)| last - first + 1).sum::<u64>();
            let dropped = ours.stats().drops.get(DropReason::HwmReached);
            if total + dropped >= count {
                return Ok::<u64, Fault>(dropped);
            }
        }
    };
    let looked = tokio::time::timeout(Duration::from_secs(10), look).await;
    let counted = ours.stats().drops.get(DropReason::HwmReached);
    let dropped =
        looked.map_err(|_| format!("of {count}, {counted} were counted as dropped, and these came: {got:?}"))??;
    same("received and dropped", (total, dropped, total + dropped), (total, dropped, count))?;
    check(dropped > 0, "none was dropped")?;
    let ordered = got.windows(2).all(|pair| pair[0].1 < pair[1].0);
    check(ordered, format!("out of order: {got:?}"))
}

/// Behind the gap it goes on.
async fn still_served(ours: &Pub, peer: &mut Peer, count: u64) -> Outcome {
    within("send", ours.send(numbered("n", count, 0))).await?;
    same("after the flood", peer.stream_collect("theirs", 500).await?, vec![(count, count)])
}

#[tokio::test]
async fn d09_a_slow_stock_sub_skips_and_is_counted() {
    let mut cases = Cases::new("slow stock SUB on durable PUB", Program::Libzmq);
    for transport in WIRES {
        for send_hwm in [10, 200] {
            for others in [Others::None, Others::Unwritten, Others::Written] {
                let flood = Flood { transport, send_hwm, count: 600, weight: WEIGHT, others };
                let case = format!("above SNDHWM {send_hwm}, others: {others:?}, {transport}");
                cases.run(case, async |peer| flooded(peer, flood).await).await;
            }
        }
        let flood = Flood { transport, send_hwm: 0, count: 800, weight: 4 * WEIGHT, others: Others::None };
        let case = format!("off the end of what is in memory, {transport}");
        cases.run(case, async |peer| flooded(peer, flood).await).await;
    }
    cases.finish();
}
