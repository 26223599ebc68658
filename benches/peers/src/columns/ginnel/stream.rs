//! One way: PUSH/PULL and PUB/SUB, message by message or in batches.

use ginnel::{Batch, Message, OnFull, Pub, Pull, Push, Receiver, Sender, Sub};

use super::INPROC;
use crate::workload::{Arrivals, Bodies, HWM, Outcome, PAUSE, Publications, Ready, Subscription};

/// Messages handed over per batched call.
const BATCH: usize = 256;

pub async fn receive(at: String, ready: Ready, arrivals: Arrivals, batch: bool) -> Outcome<Arrivals> {
    let mut pull = Pull::builder().hwm(HWM).bind(&at).await?;
    ready.at(&pull.local_endpoint().expect("bound").to_string());
    receive_all(&mut pull, arrivals, batch).await
}

async fn receive_all(pull: &mut Receiver, mut arrivals: Arrivals, batch: bool) -> Outcome<Arrivals> {
    if !batch {
        while arrivals.missing() > 0 {
            arrivals.take(&pull.recv().await?[0]);
        }
        return Ok(arrivals);
    }
    let mut batch = Batch::new();
    while arrivals.missing() > 0 {
        pull.recv_batch(&mut batch, BATCH).await?;
        for message in batch.iter() {
            arrivals.take(message.frames().next().expect("a frame"));
        }
    }
    Ok(arrivals)
}

pub async fn send(endpoint: String, bodies: Bodies, batch: bool) -> Outcome {
    let push = Push::builder().hwm(HWM).linger(None).connect(&endpoint)?;
    send_all(&push, bodies, batch).await?;
    push.close().await;
    Ok(())
}

async fn send_all(push: &Sender, mut bodies: Bodies, batch: bool) -> Outcome {
    if batch {
        return send_lots(push, || bodies.next().map(Message::from)).await;
    }
    while let Some(body) = bodies.next() {
        push.send(body).await?;
    }
    Ok(())
}

async fn send_lots(sender: &Sender, mut next: impl FnMut() -> Option<Message>) -> Outcome {
    loop {
        let lot: Vec<Message> = std::iter::from_fn(&mut next).take(BATCH).collect();
        if lot.is_empty() {
            return Ok(());
        }
        sender.send_all(lot).await?;
    }
}

pub async fn send_many(endpoint: String, senders: Vec<Bodies>, batch: bool) -> Outcome {
    let start = |bodies| tokio::spawn(send(endpoint.clone(), bodies, batch));
    let tasks: Vec<_> = senders.into_iter().map(start).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

pub async fn push_pull_inproc(bodies: Bodies, arrivals: Arrivals, batch: bool) -> Outcome<Arrivals> {
    let mut pull = Pull::builder().hwm(HWM).bind(INPROC).await?;
    let sender = tokio::spawn(send(INPROC.to_owned(), bodies, batch));
    let arrivals = receive_all(&mut pull, arrivals, batch).await?;
    sender.await??;
    Ok(arrivals)
}

pub async fn publish(at: String, ready: Ready, mut all: Publications, batch: bool) -> Outcome {
    let publisher = Pub::builder().hwm(HWM).on_full(OnFull::Block).linger(None).bind(&at).await?;
    ready.at(&publisher.local_endpoint().expect("bound").to_string());
    while let Some(body) = all.probe() {
        publisher.send(body).await?;
        tokio::time::sleep(PAUSE).await;
    }
    if batch {
        send_lots(&publisher, || all.next().map(Message::from)).await?;
    } else {
        while let Some(body) = all.next() {
            publisher.send(body).await?;
        }
    }
    while let Some(body) = all.end() {
        publisher.send(body).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

pub async fn subscribe(endpoint: String, all: Vec<Subscription>, batch: bool) -> Outcome<Vec<Subscription>> {
    let start = |one| tokio::spawn(subscriber(endpoint.clone(), one, batch));
    let tasks: Vec<_> = all.into_iter().map(start).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await??);
    }
    Ok(done)
}

async fn subscriber(endpoint: String, mut own: Subscription, batch: bool) -> Outcome<Subscription> {
    let builder = own.prefixes().iter().fold(Sub::builder().hwm(HWM), |builder, prefix| builder.subscribe(prefix));
    let mut sub = builder.connect(&endpoint)?;
    if !batch {
        while !own.take(&sub.recv().await?[0]) {}
        return Ok(own);
    }
    let mut batch = Batch::new();
    loop {
        sub.recv_batch(&mut batch, BATCH).await?;
        for message in batch.iter() {
            if own.take(message.frames().next().expect("a frame")) {
                return Ok(own);
            }
        }
    }
}
