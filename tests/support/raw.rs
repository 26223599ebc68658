//! ZMTP made by hand: bytes of greetings, frames and commands, and peers that send them as they please.
//!
//! Nothing here uses the library's encoders: what is hostile must not depend on what is under test.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ginnel::SocketType;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

pub const MORE: u8 = 1;
pub const LONG: u8 = 2;
pub const COMMAND: u8 = 4;

/// A whole greeting of ZMTP 3.1.
pub fn greeting(mechanism: &str) -> Vec<u8> {
    greeting_of(3, 1, mechanism.as_bytes())
}

pub fn greeting_of(major: u8, minor: u8, mechanism: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, major, minor];
    bytes.extend_from_slice(mechanism);
    bytes.resize(64, 0);
    bytes
}

/// A frame in its canonical form.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(len) => [&[flags, len], body].concat(),
        Err(_) => long_frame(flags, body),
    }
}

/// A frame with an 8-byte length, whatever its size.
pub fn long_frame(flags: u8, body: &[u8]) -> Vec<u8> {
    [&header(flags, body.len() as u64)[..], body].concat()
}

/// The header alone of a frame that announces `size`.
pub fn header(flags: u8, size: u64) -> Vec<u8> {
    [&[flags | LONG][..], &size.to_be_bytes()].concat()
}

pub fn message(frames: &[&[u8]]) -> Vec<u8> {
    let last = frames.len().saturating_sub(1);
    frames.iter().enumerate().flat_map(|(n, body)| frame(if n < last { MORE } else { 0 }, body)).collect()
}

/// The body of a command: name-length, name, data.
pub fn command_body(name: &str, data: &[u8]) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes(), data].concat()
}

pub fn command(name: &str, data: &[u8]) -> Vec<u8> {
    frame(COMMAND, &command_body(name, data))
}

pub fn property(name: &str, value: &[u8]) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes(), &(value.len() as u32).to_be_bytes(), value].concat()
}

pub fn ready(socket_type: &str) -> Vec<u8> {
    command("READY", &property("Socket-Type", socket_type.as_bytes()))
}

pub fn ready_with_identity(socket_type: &str, identity: &[u8]) -> Vec<u8> {
    command("READY", &[property("Socket-Type", socket_type.as_bytes()), property("Identity", identity)].concat())
}

pub fn subscribe(topic: &[u8]) -> Vec<u8> {
    command("SUBSCRIBE", topic)
}

pub fn cancel(topic: &[u8]) -> Vec<u8> {
    command("CANCEL", topic)
}

pub fn ping(ttl: u16, context: &[u8]) -> Vec<u8> {
    command("PING", &[&ttl.to_be_bytes(), context].concat())
}

pub fn error(reason: &[u8]) -> Vec<u8> {
    command("ERROR", &[&[reason.len() as u8], reason].concat())
}

pub fn hello(user: &[u8], password: &[u8]) -> Vec<u8> {
    command("HELLO", &[&[user.len() as u8], user, &[password.len() as u8], password].concat())
}

/// The name of a type that `kind` accepts.
pub fn partner(kind: SocketType) -> &'static str {
    match kind {
        SocketType::Push => "PULL",
        SocketType::Pull => "PUSH",
        SocketType::Pub | SocketType::XPub => "SUB",
        SocketType::Sub | SocketType::XSub => "PUB",
        SocketType::Req => "REP",
        SocketType::Rep => "REQ",
        SocketType::Dealer => "DEALER",
        SocketType::Router => "DEALER",
        SocketType::Pair => "PAIR",
    }
}

/// Greeting and READY of a peer that `kind` accepts (NULL mechanism).
pub fn session(kind: SocketType) -> Vec<u8> {
    [greeting("NULL"), ready(partner(kind))].concat()
}

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub flags: u8,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn is_command(&self, name: &str) -> bool {
        self.flags & COMMAND != 0 && self.body.starts_with(&command_body(name, &[]))
    }

    /// What follows a command's name.
    pub fn data(&self) -> &[u8] {
        let name = usize::from(self.body.first().copied().unwrap_or(0));
        self.body.get(1 + name..).unwrap_or_default()
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! each {
    ($stream:expr, $bound:ident => $work:expr) => {
        match &*$stream {
            Stream::Tcp($bound) => $work,
            Stream::Unix($bound) => $work,
        }
    };
}

/// One end of a connection without any manners. Clones share it.
#[derive(Debug, Clone)]
pub struct RawPeer {
    stream: Arc<Stream>,
    /// How the other side's events call us.
    pub name: String,
}

impl RawPeer {
    /// Connects to a bound socket of the library.
    pub async fn connect(endpoint: &str) -> io::Result<RawPeer> {
        if let Some(path) = endpoint.strip_prefix("ipc://") {
            let stream = UnixStream::connect(path).await?;
            return Ok(RawPeer { stream: Arc::new(Stream::Unix(stream)), name: endpoint.to_owned() });
        }
        let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).await?;
        stream.set_nodelay(true)?;
        let name = format!("tcp://{}", stream.local_addr()?);
        Ok(RawPeer { stream: Arc::new(Stream::Tcp(stream)), name })
    }

    /// With a small receive window. (With the smallest, Linux throws acknowledgements away together with the data
    /// that has no room, and both directions stand still.)
    pub async fn connect_narrow(endpoint: &str) -> io::Result<RawPeer> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(64 * 1024)?;
        let address = endpoint.trim_start_matches("tcp://").parse().map_err(io::Error::other)?;
        let stream = socket.connect(address).await?;
        let name = format!("tcp://{}", stream.local_addr()?);
        Ok(RawPeer { stream: Arc::new(Stream::Tcp(stream)), name })
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self.stream, s => s.try_write(bytes))
    }

    /// Everything, in pieces of the system's choice.
    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            each!(self.stream, s => s.writable().await)?;
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// In pieces of these sizes, again and again from the first.
    pub async fn send_in_pieces(&self, mut bytes: &[u8], sizes: &[usize], pause: Duration) -> io::Result<()> {
        for &size in sizes.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let (piece, rest) = bytes.split_at(size.clamp(1, bytes.len()));
            self.send(piece).await?;
            if pause.is_zero() {
                // The reader gets its turn between two pieces.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pause).await;
            }
            bytes = rest;
        }
        Ok(())
    }

    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            each!(self.stream, s => s.readable().await)?;
            match each!(self.stream, s => s.try_read(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    pub async fn read_exact(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.read(&mut bytes[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(bytes)
    }

    pub async fn read_frame(&self) -> io::Result<Frame> {
        let flags = self.read_exact(1).await?[0];
        let len = if flags & LONG == 0 {
            usize::from(self.read_exact(1).await?[0])
        } else {
            let bytes: [u8; 8] = self.read_exact(8).await?.try_into().unwrap_or_default();
            usize::try_from(u64::from_be_bytes(bytes)).map_err(io::Error::other)?
        };
        Ok(Frame { flags, body: self.read_exact(len).await? })
    }

    /// The next command of this name; everything before it is skipped.
    pub async fn read_command(&self, name: &str) -> io::Result<Frame> {
        loop {
            let frame = self.read_frame().await?;
            if frame.is_command(name) {
                return Ok(frame);
            }
        }
    }

    /// The next whole message; commands are skipped.
    pub async fn read_message(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let frame = self.read_frame().await?;
            if frame.flags & COMMAND != 0 {
                continue;
            }
            frames.push(frame.body);
            if frame.flags & MORE == 0 {
                return Ok(frames);
            }
        }
    }

    /// The other side's greeting and READY.
    pub async fn read_handshake(&self) -> io::Result<Frame> {
        self.read_exact(64).await?;
        self.read_command("READY").await
    }

    /// Reads and forgets until the other side has closed, in whatever way.
    pub async fn drain(&self) {
        let mut buffer = vec![0; 64 * 1024];
        while !matches!(self.read(&mut buffer).await, Ok(0) | Err(_)) {}
    }

    /// As `drain`, but keeps what came.
    pub async fn read_to_end(&self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while let Ok(read @ 1..) = self.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..read]);
        }
        all
    }

    /// FIN: nothing more will be sent, but everything read.
    pub fn finish(&self) -> io::Result<()> {
        each!(self.stream, s => SockRef::from(s).shutdown(std::net::Shutdown::Write))
    }

    /// RST: a close that forgets what is under way (TCP; on IPC a plain close).
    pub fn reset(self) {
        if let Stream::Tcp(stream) = &*self.stream {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// One byte outside of the stream.
    pub fn send_urgent(&self, byte: u8) -> io::Result<usize> {
        each!(self.stream, s => SockRef::from(s).send_out_of_band(&[byte]))
    }
}

#[derive(Debug)]
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A listener that the library connects to.
#[derive(Debug)]
pub struct RawListener {
    acceptor: Acceptor,
    pub endpoint: String,
}

impl RawListener {
    pub async fn tcp() -> RawListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("tcp://{}", listener.local_addr().expect("its address"));
        RawListener { acceptor: Acceptor::Tcp(listener), endpoint }
    }

    pub fn ipc(path: &Path) -> RawListener {
        let listener = UnixListener::bind(path).expect("a free path");
        RawListener {
            acceptor: Acceptor::Unix(listener, path.to_owned()),
            endpoint: format!("ipc://{}", path.display()),
        }
    }

    pub async fn accept(&self) -> RawPeer {
        let stream = match &self.acceptor {
            Acceptor::Tcp(listener) => {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("a socket");
                Stream::Tcp(stream)
            }
            Acceptor::Unix(listener, _) => Stream::Unix(listener.accept().await.expect("a connection").0),
        };
        RawPeer { stream: Arc::new(stream), name: self.endpoint.clone() }
    }
}

impl Drop for RawListener {
    fn drop(&mut self) {
        if let Acceptor::Unix(_, path) = &self.acceptor {
            let _ = std::fs::remove_file(path);
        }
    }
}
