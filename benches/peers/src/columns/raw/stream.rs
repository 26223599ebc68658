//! One way: a sender that frames and writes, a receiver that reads and parses; inproc a channel of lots.

use std::sync::mpsc::sync_channel;

use super::net::{CHUNK, Door, Frames, Stream, encode, poll};
use crate::workload::{Arrivals, Bodies, Outcome, Ready};

/// Messages of a lot.
const LOT: usize = 256;

pub fn receive(at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
    let door = Door::open(at, ready)?;
    let mut streams = Vec::new();
    for _ in 0..arrivals.senders() {
        streams.push(Some(door.accept()?));
    }
    let mut frames: Vec<Frames> = streams.iter().map(|_| Frames::new()).collect();
    let mut here = vec![0];
    while arrivals.missing() > 0 {
        if streams.len() > 1 {
            poll(&streams, &mut here)?;
        }
        for index in here.iter().copied() {
            let Some(stream) = &mut streams[index] else { continue };
            if !frames[index].read(stream, |body| arrivals.take(body))? {
                streams[index] = None;
                if streams.iter().all(Option::is_none) && arrivals.missing() > 0 {
                    return Err("the senders stopped early".into());
                }
            }
        }
    }
    Ok(arrivals)
}

pub fn send(endpoint: &str, mut bodies: Bodies) -> Outcome {
    let mut stream = Stream::connect(endpoint)?;
    let mut buffer = Vec::with_capacity(2 * CHUNK);
    while let Some(body) = bodies.next() {
        if buffer.len() + body.len() > CHUNK {
            stream.write_all(&buffer)?;
            buffer.clear();
        }
        encode(&mut buffer, body);
    }
    stream.write_all(&buffer)?;
    Ok(())
}

pub fn push_pull_inproc(mut bodies: Bodies, mut arrivals: Arrivals) -> Outcome<Arrivals> {
    let (sender, receiver) = sync_channel::<Vec<Box<[u8]>>>(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let (mut lot, mut bytes) = (Vec::with_capacity(LOT), 0);
                while lot.len() < LOT && (bytes < CHUNK || lot.is_empty()) {
                    let Some(body) = bodies.next() else { break };
                    bytes += if body.len() < 8192 { 0 } else { body.len() };
                    lot.push(body.into());
                }
                if lot.is_empty() || sender.send(lot).is_err() {
                    return;
                }
            }
        });
        for lot in receiver {
            lot.iter().for_each(|body| arrivals.take(body));
        }
    });
    Ok(arrivals)
}
