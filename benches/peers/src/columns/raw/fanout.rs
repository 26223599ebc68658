//! One to many: encode once, write to each.

use super::net::{CHUNK, Door, Frames, Stream, encode, poll};
use crate::workload::{Outcome, PAUSE, Publications, Ready, Subscription, unsupported};

pub fn publish(at: &str, ready: Ready, mut all: Publications) -> Outcome {
    if all.topics() > 1 {
        return unsupported("no subscriptions");
    }
    let door = Door::open(at, ready)?;
    let mut streams = Vec::new();
    for _ in 0..all.subscribers() {
        streams.push(door.accept()?);
    }
    let mut buffer = Vec::with_capacity(2 * CHUNK);
    while let Some(body) = all.probe() {
        encode(&mut buffer, body);
        write(&mut streams, &mut buffer)?;
        std::thread::sleep(PAUSE);
    }
    while let Some(body) = all.next() {
        if buffer.len() + body.len() > CHUNK {
            write(&mut streams, &mut buffer)?;
        }
        encode(&mut buffer, body);
    }
    while let Some(body) = all.end() {
        encode(&mut buffer, body);
        // Who has gone has seen an end mark.
        let _ = write(&mut streams, &mut buffer);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn write(streams: &mut [Stream], buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let done = streams.iter_mut().try_for_each(|stream| stream.write_all(buffer));
    buffer.clear();
    done
}

pub fn subscribe(endpoint: &str, mut all: Vec<Subscription>) -> Outcome<Vec<Subscription>> {
    let mut streams = Vec::new();
    for _ in &all {
        streams.push(Some(Stream::connect(endpoint)?));
    }
    let mut frames: Vec<Frames> = all.iter().map(|_| Frames::new()).collect();
    let mut here = Vec::new();
    while streams.iter().any(Option::is_some) {
        poll(&streams, &mut here)?;
        for index in here.iter().copied() {
            let Some(stream) = &mut streams[index] else { continue };
            let mut over = false;
            if !frames[index].read(stream, |body| over = over || all[index].take(body))? {
                return Err("the publisher stopped early".into());
            }
            if over {
                streams[index] = None;
            }
        }
    }
    Ok(all)
}
