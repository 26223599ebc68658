//! There and back with blocking std sockets, a thread for each connection that answers.

use std::sync::mpsc::sync_channel;

use super::net::{Door, Stream};
use crate::role;
use crate::workload::{Column, Outcome, Ready, Rounds};

pub struct RawBlocking;

impl Column for RawBlocking {
    fn settings(&self) -> String {
        "raw-blocking: there and back by blocking std sockets, write_all and read_exact without frames (inproc: two threads, two sync_channel(1)); TCP_NODELAY".to_owned()
    }

    fn reply(&self, at: &str, ready: Ready, _count: u64) -> Outcome {
        let door = Door::open(at, ready)?;
        std::thread::spawn(move || {
            while let Ok(stream) = door.accept() {
                std::thread::spawn(|| echo(stream));
            }
        });
        role::hold();
        Ok(())
    }

    fn request(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        let mut stream = Stream::connect(endpoint)?;
        let mut reply = Vec::new();
        while let Some(body) = rounds.next() {
            stream.write_all(body)?;
            reply.resize(body.len(), 0);
            stream.read_exact(&mut reply)?;
            rounds.done(&reply);
        }
        Ok(rounds)
    }

    fn request_inproc(&self, mut rounds: Rounds) -> Outcome<Rounds> {
        let (there, arrives) = sync_channel::<Box<[u8]>>(1);
        let (back, replies) = sync_channel::<Box<[u8]>>(1);
        std::thread::spawn(move || arrives.iter().try_for_each(|body| back.send(body)));
        while let Some(body) = rounds.next() {
            there.send(body.into())?;
            rounds.done(&replies.recv()?);
        }
        Ok(rounds)
    }

    fn route(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        self.reply(at, ready, count)
    }

    fn deal(&self, endpoint: &str, rounds: Rounds) -> Outcome<Rounds> {
        self.request(endpoint, rounds)
    }

    fn deal_inproc(&self, rounds: Rounds) -> Outcome<Rounds> {
        self.request_inproc(rounds)
    }
}

fn echo(mut stream: Stream) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        if stream.write_all(&chunk[..read]).is_err() {
            return;
        }
    }
}
