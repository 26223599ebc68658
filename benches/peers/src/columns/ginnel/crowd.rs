//! Many connections: callers, those they call, and visitors.

use std::sync::{Arc, Mutex, PoisonError};

use ginnel::{Pull, Push, Req};

use super::rounds::hold;
use crate::workload::{Crowd, HWM, Outcome, RECONNECT, Ready, Roll, Visits};

pub async fn gather(at: String, ready: Ready, mut roll: Roll) -> Outcome {
    let mut pull = Pull::builder().hwm(HWM).bind(&at).await?;
    ready.at(&pull.local_endpoint().expect("bound").to_string());
    while roll.missing() > 0 {
        roll.take(&pull.recv().await?[0]);
    }
    roll.done();
    hold().await
}

pub async fn attend(endpoint: String, crowd: Crowd) -> Outcome {
    let builder = Push::builder().hwm(HWM).reconnect(RECONNECT, RECONNECT);
    let mut all = Vec::new();
    for _ in 0..crowd.count() {
        all.push(builder.clone().connect(&endpoint)?);
    }
    let all = Arc::new(all);
    for (index, push) in all.iter().enumerate() {
        push.send(crowd.body(index)).await?;
    }
    if let Some(every) = crowd.every() {
        let all = all.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                for (index, push) in all.iter().enumerate() {
                    // A peer without a connection may be full.
                    let _ = push.try_send(crowd.body(index));
                }
            }
        });
    }
    hold().await?;
    all.iter().for_each(|push| push.shutdown_now());
    Ok(())
}

pub async fn visit(endpoint: String, visits: Visits) -> Outcome<Visits> {
    let at_once = visits.at_once();
    let visits = Arc::new(Mutex::new(visits));
    let start = |_| tokio::spawn(visitor(endpoint.clone(), visits.clone()));
    let tasks: Vec<_> = (0..at_once).map(start).collect();
    for task in tasks {
        task.await??;
    }
    let visits = Arc::into_inner(visits).expect("the tasks are over");
    Ok(visits.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn visitor(endpoint: String, visits: Arc<Mutex<Visits>>) -> Outcome {
    let lock = || visits.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some(body) = lock().next() else { return Ok(()) };
        let req = Req::builder().hwm(HWM).connect(&endpoint)?;
        let reply = req.request(body.as_slice()).await?;
        // As the others here: what is left to do is done in the background.
        drop(req);
        lock().done(&body, &reply[0]);
    }
}
