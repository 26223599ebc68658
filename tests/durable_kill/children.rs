//! What the children do: publish, subscribe, work. They say a thing only when it is so.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use ginnel::*;

use crate::durable::*;
use crate::policy;

/// Sends words without end (or so many) and says the number of each that is accepted.
pub(crate) async fn publish() {
    let asked = asked_to_finish();
    let (dir, place) = (PathBuf::from(part("dir")), part("place"));
    let sync = policy(&part("policy"));
    if part("pattern") == "push" {
        let push = pusher(&dir).sync(sync).build().expect("a spool");
        push.bind_to(place).await.expect("bind");
        say("ready");
        publish_words(&push).await;
        let _ = asked.await;
        push.close().await;
    } else {
        let mut builder = publisher(&dir).sync(sync).declare("steady", [""]);
        match part("pattern").as_str() {
            "one" => {}
            "small" => builder = builder.spool_max_bytes(4 << 20).when_full(WhenFull::DropOldest),
            _ => builder = builder.declare("filed", [""]),
        }
        let publisher = builder.build().expect("a spool");
        publisher.bind_to(place).await.expect("bind");
        say("ready");
        publish_words(&publisher).await;
        let _ = asked.await;
        publisher.close().await;
    }
}

pub(crate) async fn publish_words(sender: &ginnel::Sender) {
    let (round, count) = (part_number("round") as u32, part_number("count") as u32);
    let words = (0..count).map(|at| Word { round, at });
    match part("manner").as_str() {
        "awaited" => {
            for word in words {
                let receipt = sender.send(word.message()).await.expect("accepted");
                say_accepted([(word, receipt.sequence().expect("a number"))]);
            }
        }
        "pipelined" => {
            let mut waiting: VecDeque<(Word, Pending)> = VecDeque::new();
            for word in words {
                waiting.push_back((word, sender.enqueue(word.message()).await.expect("room")));
                if waiting.len() >= 64 {
                    say_first(&mut waiting).await;
                }
            }
            while !waiting.is_empty() {
                say_first(&mut waiting).await;
            }
        }
        "lots" => {
            let words: Vec<Word> = words.collect();
            for lot in words.chunks(40) {
                let mut accepted = Vec::new();
                for word in lot {
                    let receipt = sender.reserve().await.expect("room").send(word.message());
                    accepted.push((*word, receipt.sequence().expect("a number")));
                }
                sender.flush().await.expect("accepted");
                say_accepted(accepted);
            }
        }
        other => panic!("no manner {other}"),
    }
}

/// Declares names and drops them again, and says so before and after.
pub(crate) async fn register() {
    let _asked = asked_to_finish();
    // Each life leaves a few behind.
    let builder = publisher(&PathBuf::from(part("dir"))).sync(policy(&part("policy"))).max_names(100_000);
    let publisher = builder.build().expect("a spool");
    let spool = publisher.spool().expect("a spool");
    let round = part_number("round");
    say("ready");
    for at in 0.. {
        say(format_args!("declaring {round}.{at}"));
        spool.declare(&format!("{round}.{at}"), ["topic"]).await.expect("declared");
        say(format_args!("declared {round}.{at}"));
        let _ = publisher.send(Word { round: round as u32, at }.message()).await.expect("accepted");
        if at >= 3 {
            say(format_args!("dropping {round}.{}", at - 3));
            assert!(spool.drop_name(&format!("{round}.{}", at - 3)).await.expect("saved"));
            say(format_args!("dropped {round}.{}", at - 3));
        }
    }
}

/// Sends words for later, and says the number of each that is accepted.
pub(crate) async fn plan() {
    let asked = asked_to_finish();
    let (dir, place) = (PathBuf::from(part("dir")), part("place"));
    let builder = publisher(&dir).sync(policy(&part("policy"))).declare("steady", [""]);
    let publisher = builder.build().expect("a spool");
    publisher.bind_to(place).await.expect("bind");
    say("ready");
    let (round, count) = (part_number("round") as u32, part_number("count") as u32);
    let mut dice = Dice::new(part_number("seed"));
    for at in 0..count {
        let word = Word { round, at };
        // Due before, while and after this process lives.
        let due = std::time::SystemTime::now() + Duration::from_millis(dice.below(150));
        let receipt = publisher.send_at(word.message(), due).await.expect("accepted");
        assert!(receipt.is_delayed());
        say_accepted([(word, receipt.sequence().expect("a number"))]);
    }
    let _ = asked.await;
    publisher.close().await;
}

pub(crate) async fn say_first(waiting: &mut VecDeque<(Word, Pending)>) {
    if let Some((word, pending)) = waiting.pop_front() {
        let receipt = pending.await.expect("accepted");
        say_accepted([(word, receipt.sequence().expect("a number"))]);
    }
}

pub(crate) fn say_accepted(accepted: impl IntoIterator<Item = (Word, u64)>) {
    say_all(accepted.into_iter().map(|(word, sequence)| format!("{sequence} {} {}", word.round, word.at)));
}

pub(crate) fn say_delivered(delivery: &Delivery) {
    let word = Word::of(delivery.message());
    say(format_args!(
        "{} {} {} {}",
        delivery.sequence().expect("out of a spool"),
        word.round,
        word.at,
        delivery.tries()
    ));
}

pub(crate) async fn subscribe() {
    let asked = asked_to_finish();
    let mode = part("mode");
    let ack = if mode == "next" || mode == "file" { Ack::OnNext } else { Ack::Manual };
    let mut builder = subscriber("steady").ack(ack).recv_hwm(part_number("window") as usize);
    if mode == "file" {
        builder = builder.cursor_file(part("file"));
    }
    let mut sub = builder.connect(part("place")).expect("connect");
    say("ready");
    tokio::select! {
        () = tell(&mut sub, &mode) => {}
        _ = asked => {}
    }
    sub.close().await;
}

pub(crate) async fn work() {
    let asked = asked_to_finish();
    let mode = part("mode");
    let ack = if mode == "next" { Ack::OnNext } else { Ack::Manual };
    let builder = worker(&part("name")).ack(ack).recv_hwm(part_number("window") as usize);
    let mut pull = builder.connect(part("place")).expect("connect");
    say("ready");
    tokio::select! {
        () = tell(&mut pull, &mode) => {}
        _ = asked => {}
    }
    pull.close().await;
}

/// Says what is delivered, and only then that it is done.
pub(crate) async fn tell(receiver: &mut Receiver, mode: &str) {
    let mut held: Vec<Delivery> = Vec::new();
    loop {
        let delivery = receiver.recv_delivery().await.expect("open");
        say_delivered(&delivery);
        match mode {
            "next" | "file" => {}
            "each" => delivery.ack(),
            // The last in hand for some.
            "some" => {
                held.push(delivery);
                while held.len() < 8 {
                    let Ok(delivery) = receiver.try_recv_delivery() else { break };
                    say_delivered(&delivery);
                    held.push(delivery);
                }
                if let Some(last) = held.pop() {
                    last.ack_up_to();
                }
                held.clear();
            }
            "backwards" => {
                held.push(delivery);
                while held.len() < 8 {
                    let Ok(delivery) = receiver.try_recv_delivery() else { break };
                    say_delivered(&delivery);
                    held.push(delivery);
                }
                while let Some(delivery) = held.pop() {
                    delivery.ack();
                    tokio::task::yield_now().await;
                }
            }
            other => panic!("no mode {other}"),
        }
    }
}
