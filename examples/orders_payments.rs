//! Payments and who hears of them: one service publishes, it knows no receiver, and nobody can hold it up.
//!
//! The checkout accepts a payment as soon as it is in its spool (a durable PUB). Three receivers have a durable name
//! each. "orders" marks the order as paid. "clearing" tells the bank, by DEALER and ROUTER, and acknowledges only
//! what the bank confirmed; while the bank is busy or down, it gives the payment back and gets it again a moment
//! later. "points" is added while all this runs, and still gets every payment from the first one on: nothing was
//! changed for it. Checking out stays as quick as ever.

mod common;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use common::folder::{bind_again, lines};
use common::{Folder, Outcome, Part, Stage, check, number};
use ginnel::{Ack, Dealer, Pub, Router, Sub};

/// Payments in each of three phases: the bank works, is down, works again.
const PAYMENTS: u64 = 80;
const ALL: u64 = 3 * PAYMENTS;
/// A payment that the bank did not take is tried again so much later.
const AGAIN: Duration = Duration::from_millis(30);
/// An answer that took so long is none.
const TIMEOUT: Duration = Duration::from_millis(150);
const BACK: Duration = Duration::from_millis(50);

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "checkout" => checkout(part).await,
        "receiver" => receiver(part).await,
        "clearing" => clearing(part).await,
        _ => bank(part).await,
    }
}

/// Word: the spool's directory. Hears "pay COUNT", "end".
async fn checkout(mut part: Part) -> Outcome {
    // `declare`: these two get everything, whether they are there yet or not. `append_all`: what they have stays for
    // receivers that nobody has thought of yet, until the spool's limits.
    let builder = Pub::builder().spool(part.path(0)?).declare("orders", ["payment."]).declare("clearing", ["payment."]);
    let payments = builder.append_all(true).bind(part.bind()).await?;
    part.say_endpoint(&payments);
    let mut order = 0;
    while let Some(count) = part.hear().await.as_deref().and_then(|line| line.strip_prefix("pay ")) {
        let mut times = Vec::new();
        for _ in 0..number(count)? {
            let asked = Instant::now();
            payments.send(("payment.accepted", order.to_string(), format!("{}.00", 10 + order % 90))).await?;
            times.push(asked.elapsed().as_micros());
            order += 1;
        }
        times.sort_unstable();
        part.say(format!("paid {}", times[times.len() / 2]));
    }
    payments.close().await;
    Ok(())
}

/// Word: its name. It does something quick with each payment, and ends when it has all.
async fn receiver(part: Part) -> Outcome {
    let name: String = part.word(0, "orders".into())?;
    let builder = Sub::builder().durable(name).from_oldest(true).subscribe("payment.");
    let mut payments = builder.connect(part.endpoint(0)?)?;
    for expected in 0..ALL {
        let payment = payments.recv().await?;
        check(number(&payment[1])? == expected, format!("payment {expected} is missing"))?;
        if expected % PAYMENTS == 0 {
            part.say(format!("has order {expected}"));
        }
    }
    payments.ack_last();
    payments.close().await;
    part.say(format!("complete {ALL}"));
    Ok(())
}

/// Endpoints: the checkout's, the bank's.
async fn clearing(part: Part) -> Outcome {
    let builder = Sub::builder().durable("clearing").ack(Ack::Manual).subscribe("payment.");
    let mut payments = builder.connect(part.endpoint(0)?)?;
    let bank = Dealer::builder().reconnect(BACK, BACK).connect(part.endpoint(1)?)?;
    let (bank, mut answers) = bank.split();
    let (mut confirmed, mut given_back) = (BTreeSet::new(), 0);
    while (confirmed.len() as u64) < ALL {
        let payment = payments.recv_delivery().await?;
        let order = payment.message()[1].clone();
        bank.send((order.clone(), payment.message()[2].clone())).await?;
        // Answers to older questions, given up meanwhile, are passed over.
        let answer = tokio::time::timeout(TIMEOUT, async {
            loop {
                let answer = answers.recv().await?;
                if answer[0] == order {
                    return Ok::<_, ginnel::RecvError>(answer[1] == "confirmed");
                }
            }
        });
        match answer.await {
            Ok(confirms) if confirms? => {
                confirmed.insert(number(&order)?);
                payment.ack();
            }
            late => {
                if late.is_err() {
                    part.say(format!("unanswered {}", number(&order)?));
                }
                given_back += 1;
                payment.retry(AGAIN);
            }
        }
    }
    payments.close().await;
    part.say(format!("cleared {} tried-again {given_back}", confirmed.len()));
    Ok(())
}

/// Word: the file of its books. Books an order once, however often it is asked; is "busy" now and then.
async fn bank(part: Part) -> Outcome {
    let path = part.path(0)?;
    let mut booked: BTreeSet<u64> = lines(&path)?.iter().map(number).collect::<Outcome<_>>()?;
    let mut books = OpenOptions::new().create(true).append(true).open(&path)?;
    let mut router = bind_again(Router::builder(), &part.bind()).await?;
    for asked in 1u64.. {
        let (peer, question) = router.recv().await?;
        let order = number(&question[0])?;
        let answer = if asked.is_multiple_of(10) { "busy" } else { "confirmed" };
        if answer == "confirmed" && booked.insert(order) {
            writeln!(books, "{order}")?;
        }
        // Who asked may have gone; the order stays booked.
        let _ = router.send_to(&peer, (question[0].clone(), answer)).await;
    }
    Ok(())
}

async fn story(stage: Stage) -> Outcome {
    let folder = Folder::new("orders_payments")?;
    let (books, bank_endpoint) = (folder.path("books"), folder.endpoint("bank"));
    let mut checkout = stage.start("checkout", &[], &[&folder.path("spool")])?;
    let payments = checkout.wait_for("endpoint").await?;
    let bank = stage.start("bank", &[&bank_endpoint], &[&books])?;
    let mut clearing = stage.start("clearing", &[&payments, &bank_endpoint], &[])?;
    let orders = stage.start("receiver", &[&payments], &["orders"])?;

    let pay = format!("pay {PAYMENTS}");
    let mut medians = Vec::new();
    checkout.tell(&pay);
    medians.push(number(checkout.wait_for("paid").await?)?);
    bank.kill().await;
    common::print("The bank is down.");
    checkout.tell(&pay);
    // All accepted before the bank is started again: nobody waited for it.
    medians.push(number(checkout.wait_for("paid").await?)?);
    common::print("Somebody wants to give points for payments, too.");
    let mut points = stage.start("receiver", &[&payments], &["points"])?;
    points.wait_for("has").await?;
    for _ in 0..3 {
        clearing.wait_for("unanswered").await?;
    }
    let bank = stage.start("bank", &[&bank_endpoint], &[&books])?;
    common::print("The bank is back.");
    checkout.tell(&pay);
    medians.push(number(checkout.wait_for("paid").await?)?);

    let cleared = clearing.wait_for("cleared").await?;
    for actor in [clearing, orders, points] {
        actor.finish().await?;
    }
    checkout.tell("end");
    checkout.finish().await?;
    bank.kill().await;
    let booked: Vec<u64> = lines(&books)?.iter().map(number).collect::<Outcome<_>>()?;
    let once: BTreeSet<u64> = booked.iter().copied().collect();
    common::print(format!(
        "\nA payment was accepted within {} µs with the bank, {} µs without, {} µs after (medians).\n\
         The bank booked {} payments; cleared {cleared}.",
        medians[0],
        medians[1],
        medians[2],
        booked.len()
    ));
    check(booked.len() == once.len() && once.iter().copied().eq(0..ALL), "each payment should be booked once")
}

fn main() -> std::process::ExitCode {
    let about = "Payments go to whoever wants them; a bank that is down holds nobody up, a receiver is added.";
    common::run("orders_payments", about, &["checkout (binds)", "receiver", "clearing", "bank (binds)"], play, story)
}
