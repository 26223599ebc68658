//! Streams of either transport, blocking or tokio's, and the frames on them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::workload::{Outcome, Ready};

/// Bytes gathered before a write, and bytes asked for in a read.
pub const CHUNK: usize = 64 * 1024;

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A tokio stream of either kind.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

impl Stream {
    pub fn connect(endpoint: &str) -> std::io::Result<Stream> {
        if let Some(path) = endpoint.strip_prefix("ipc://") {
            return Ok(Stream::Unix(UnixStream::connect(path)?));
        }
        let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://"))?;
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    }

    #[inline]
    pub fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    #[inline]
    pub fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }

    #[inline]
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.read_exact(bytes),
            Stream::Unix(stream) => stream.read_exact(bytes),
        }
    }

    pub fn descriptor(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Blocking accepts; a path is removed in the end.
pub enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

impl Door {
    pub fn open(at: &str, ready: Ready) -> Outcome<Door> {
        if let Some(path) = at.strip_prefix("ipc://") {
            let listener = UnixListener::bind(path)?;
            ready.at(at);
            return Ok(Door::Unix(listener, path.to_owned()));
        }
        let listener = TcpListener::bind(at.trim_start_matches("tcp://").replace(":*", ":0"))?;
        ready.at(&format!("tcp://{}", listener.local_addr()?));
        Ok(Door::Tcp(listener))
    }

    pub fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Door::Unix(listener, _) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Door::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Accepts within a tokio runtime.
pub enum AsyncDoor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl AsyncDoor {
    pub async fn open(at: &str, ready: Ready) -> Outcome<AsyncDoor> {
        if let Some(path) = at.strip_prefix("ipc://") {
            let listener = tokio::net::UnixListener::bind(path)?;
            ready.at(at);
            return Ok(AsyncDoor::Unix(listener));
        }
        let listener = tokio::net::TcpListener::bind(at.trim_start_matches("tcp://").replace(":*", ":0")).await?;
        ready.at(&format!("tcp://{}", listener.local_addr()?));
        Ok(AsyncDoor::Tcp(listener))
    }

    pub async fn accept(&self) -> std::io::Result<Box<dyn Wire>> {
        Ok(match self {
            AsyncDoor::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            AsyncDoor::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Connects within a tokio runtime.
pub async fn connect(endpoint: &str) -> std::io::Result<Box<dyn Wire>> {
    if let Some(path) = endpoint.strip_prefix("ipc://") {
        return Ok(Box::new(tokio::net::UnixStream::connect(path).await?));
    }
    let stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("tcp://")).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[inline]
pub fn encode(buffer: &mut Vec<u8>, body: &[u8]) {
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

/// What came on one stream and is not a whole frame yet.
pub struct Frames {
    buffer: Vec<u8>,
    filled: usize,
}

impl Frames {
    pub fn new() -> Frames {
        Frames { buffer: vec![0; 2 * CHUNK], filled: 0 }
    }

    /// Reads once and gives every whole frame to `take`; false at the end of the stream.
    pub fn read(&mut self, stream: &mut Stream, mut take: impl FnMut(&[u8])) -> std::io::Result<bool> {
        if self.buffer.len() < self.filled + CHUNK {
            self.buffer.resize(self.filled + self.filled.max(CHUNK), 0);
        }
        let room = self.filled + CHUNK.max(self.buffer.len() / 4).min(self.buffer.len() - self.filled);
        let read = stream.read(&mut self.buffer[self.filled..room])?;
        self.filled += read;
        let mut at = 0;
        while let Some((start, end)) = decode(&self.buffer[at..self.filled]) {
            take(&self.buffer[at + start..at + end]);
            at += end;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(read > 0)
    }
}

/// Which of these streams have something to read; parks until one has. `None`: that one is over.
pub fn poll(streams: &[Option<Stream>], ready: &mut Vec<usize>) -> std::io::Result<()> {
    // A negative descriptor is left out.
    let item = |stream: &Option<Stream>| libc::pollfd {
        fd: stream.as_ref().map_or(-1, Stream::descriptor),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut items: Vec<libc::pollfd> = streams.iter().map(item).collect();
    // SAFETY: that many items.
    if unsafe { libc::poll(items.as_mut_ptr(), items.len() as libc::nfds_t, -1) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    ready.clear();
    ready.extend(items.iter().enumerate().filter(|(_, item)| item.revents != 0).map(|(index, _)| index));
    Ok(())
}
