//! Many bare connections: a tokio task and a stream each, bodies of one size without frames.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::net::{AsyncDoor, Wire, connect};
use super::rounds::hold;
use crate::workload::{Crowd, Outcome, RECONNECT, Ready, Roll, Visits};

/// The size of all bodies of these cells.
const SIZE: usize = 64;

pub async fn gather(at: String, ready: Ready, mut roll: Roll) -> Outcome {
    let door = AsyncDoor::open(&at, ready).await?;
    let (calls, mut called) = mpsc::channel(1000);
    tokio::spawn(async move {
        loop {
            if let Ok(stream) = door.accept().await {
                tokio::spawn(listen(stream, calls.clone()));
            }
        }
    });
    while roll.missing() > 0 {
        let body: [u8; SIZE] = called.recv().await.ok_or("nobody listens")?;
        roll.take(&body);
    }
    roll.done();
    tokio::spawn(async move { while called.recv().await.is_some() {} });
    hold().await
}

async fn listen(mut stream: Box<dyn Wire>, calls: mpsc::Sender<[u8; SIZE]>) {
    let mut body = [0; SIZE];
    while stream.read_exact(&mut body).await.is_ok() && calls.send(body).await.is_ok() {}
}

pub async fn attend(endpoint: String, crowd: Crowd) -> Outcome {
    for index in 0..crowd.count() {
        tokio::spawn(peer(endpoint.clone(), crowd.clone(), index));
    }
    hold().await
}

async fn peer(endpoint: String, crowd: Crowd, index: usize) {
    loop {
        if let Ok(mut stream) = connect(&endpoint).await {
            while stream.write_all(&crowd.body(index)).await.is_ok() {
                match crowd.every() {
                    Some(every) => tokio::time::sleep(every).await,
                    None => drop(stream.read_u8().await),
                }
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
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
        let mut stream = connect(&endpoint).await?;
        stream.write_all(&body).await?;
        let mut reply = [0; SIZE];
        stream.read_exact(&mut reply).await?;
        drop(stream);
        lock().done(&body, &reply);
    }
}
