//! The floor and the ceiling without any library: a blocking loop for throughput, a bare tokio
//! ping-pong on a current-thread runtime for latency. Frames are ZMTP's: flags, length, body.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Flavour;
use crate::workload::{Arrivals, Bodies, Column, Outcome, Ready, Rounds};

/// Bytes gathered before a write, and bytes asked for in a read.
const CHUNK: usize = 64 * 1024;

pub struct Raw;

impl Column for Raw {
    fn settings(&self) -> String {
        "raw: throughput by blocking std sockets, writes and reads of 64 KiB, ZMTP frames, no queue; latency by tokio current-thread read_exact/write_all without frames; TCP_NODELAY".to_owned()
    }

    fn receive(&self, at: &str, ready: Ready, mut arrivals: Arrivals) -> Outcome<Arrivals> {
        receive_frames(accept(at, ready), &mut arrivals);
        Ok(arrivals)
    }

    fn send(&self, endpoint: &str, mut bodies: Bodies) -> Outcome {
        let mut stream = connect(endpoint);
        let mut buffer = Vec::with_capacity(2 * CHUNK);
        while let Some(body) = bodies.next() {
            if buffer.len() + body.len() > CHUNK {
                stream.write_all(&buffer).expect("write");
                buffer.clear();
            }
            encode(&mut buffer, body);
        }
        stream.write_all(&buffer).expect("write");
        Ok(())
    }

    fn reply(&self, at: &str, ready: Ready, count: u64) -> Outcome {
        let stream = accept(at, ready);
        Flavour::Current.run(async move {
            match stream {
                Stream::Tcp(stream) => answer(tokio_tcp(stream), count).await,
                Stream::Unix(stream) => answer(tokio_unix(stream), count).await,
            }
        });
        Ok(())
    }

    fn request(&self, endpoint: &str, mut rounds: Rounds) -> Outcome<Rounds> {
        let stream = connect(endpoint);
        Ok(Flavour::Current.run(async move {
            match stream {
                Stream::Tcp(stream) => ask(tokio_tcp(stream), &mut rounds).await,
                Stream::Unix(stream) => ask(tokio_unix(stream), &mut rounds).await,
            }
            rounds
        }))
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }
}

fn accept(at: &str, ready: Ready) -> Stream {
    if let Some(path) = at.strip_prefix("ipc://") {
        let listener = UnixListener::bind(path).expect("bind");
        ready.at(at);
        let (stream, _) = listener.accept().expect("accept");
        std::fs::remove_file(path).expect("remove the socket file");
        return Stream::Unix(stream);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    ready.at(&format!("tcp://{}", listener.local_addr().expect("address")));
    let (stream, _) = listener.accept().expect("accept");
    stream.set_nodelay(true).expect("nodelay");
    Stream::Tcp(stream)
}

fn connect(endpoint: &str) -> Stream {
    if let Some(path) = endpoint.strip_prefix("ipc://") {
        return Stream::Unix(UnixStream::connect(path).expect("connect"));
    }
    let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    Stream::Tcp(stream)
}

fn tokio_tcp(stream: TcpStream) -> tokio::net::TcpStream {
    stream.set_nonblocking(true).expect("nonblocking");
    tokio::net::TcpStream::from_std(stream).expect("inside the runtime")
}

fn tokio_unix(stream: UnixStream) -> tokio::net::UnixStream {
    stream.set_nonblocking(true).expect("nonblocking");
    tokio::net::UnixStream::from_std(stream).expect("inside the runtime")
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, count: u64) {
    let mut body = [0; 64];
    for _ in 0..count {
        stream.read_exact(&mut body).await.expect("read");
        stream.write_all(&body).await.expect("write");
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, rounds: &mut Rounds) {
    let mut reply = [0; 64];
    while let Some(body) = rounds.next() {
        stream.write_all(body).await.expect("write");
        stream.read_exact(&mut reply).await.expect("read");
        rounds.done(&reply);
    }
}

#[inline]
fn encode(buffer: &mut Vec<u8>, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(len) => buffer.extend_from_slice(&[0, len]),
        Err(_) => {
            buffer.push(2);
            buffer.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    buffer.extend_from_slice(body);
}

/// The frame at the start of `bytes`: where its body begins and ends.
#[inline]
fn decode(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&flags, rest) = bytes.split_first()?;
    let (start, len) = if flags & 2 == 0 {
        (2, usize::from(*rest.first()?))
    } else {
        (9, usize::try_from(u64::from_be_bytes(*rest.first_chunk::<8>()?)).expect("a length"))
    };
    (start + len <= bytes.len()).then_some((start, start + len))
}

fn receive_frames(mut stream: Stream, arrivals: &mut Arrivals) {
    let mut buffer = vec![0; 4 * CHUNK];
    let mut filled = 0;
    while arrivals.missing() > 0 {
        let room = buffer.len().min(filled + CHUNK);
        let read = stream.read(&mut buffer[filled..room]).expect("read");
        assert!(read > 0, "the sender stopped early");
        filled += read;
        let mut at = 0;
        while let Some((start, end)) = decode(&buffer[at..filled]) {
            arrivals.take(&buffer[at + start..at + end]);
            at += end;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
}
