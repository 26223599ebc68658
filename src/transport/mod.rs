//! Talking to the operating system: [`connect`], [`bind`], and the [`Stream`]s both give.
//!
//! Uses the vocabulary, tokio's sockets and socket2. I open, accept, read and write; what the bytes mean, when to
//! try again and how long to wait for a peer is not known here (see `engine`). The one clock here is the limit on
//! opening: name lookups and `connect_timeout`. Next: `tcp` for names and options, `ipc` for files.

#[cfg(unix)]
mod ipc;
mod tcp;

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::tcp as tcp_halves;
#[cfg(unix)]
use tokio::net::unix as unix_halves;

use crate::endpoint::{Address, Endpoint};
use crate::error::BindError;
use crate::options::TransportOptions;

/// An open connection, as one piece: for its handshake.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tcp($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl Stream {
    /// Waits until a write may succeed. Cancel-safe, and any number of tasks may wait.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        either!(self, s => s.writable().await)
    }

    /// Appends what is there, at most the buffer's spare room, or waits for it. `Ok(0)`: the peer closed (or there was
    /// no room). Cancel-safe. A short read saves the next one: see [`ReadHalf::poll_read`].
    pub(crate) async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        either!(self, s => s.read_buf(buffer).await)
    }

    /// As [`Stream::read_buf`], without waiting. `WouldBlock`: nothing is known to be there.
    pub(crate) fn try_read_buf(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        either!(self, s => s.try_read_buf(buffer))
    }

    /// Writes what the operating system takes now. `WouldBlock`: nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, s => s.try_write(bytes))
    }

    /// Both directions apart: the reading one for its one task, the writing one for any thread.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Tcp(s) => {
                let (read, write) = s.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            #[cfg(unix)]
            Stream::Unix(s) => {
                let (read, write) = s.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        }
    }
}

/// Inside the error of a [`connect`] that ended at oneself: dialling a free ephemeral port of this machine, the
/// operating system may pick the same port for our side.
#[derive(Debug)]
pub(crate) struct SelfConnection;

impl SelfConnection {
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<SelfConnection>())
    }
}

/// The reading direction of a connection.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Tcp(tcp_halves::OwnedReadHalf),
    #[cfg(unix)]
    Unix(unix_halves::OwnedReadHalf),
}

impl ReadHalf {
    /// Appends what is there, at most the buffer's spare room, or waits for it. `Ok(0)`: the peer closed. A short
    /// read tells tokio that nothing more is there, which saves the system call that would find out.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            ReadHalf::Tcp(s) => pin!(s.read_buf(buffer)).poll(cx),
            #[cfg(unix)]
            ReadHalf::Unix(s) => pin!(s.read_buf(buffer)).poll(cx),
        }
    }
}

/// The writing direction of a connection. Dropping it tells the peer that nothing more comes.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(tcp_halves::OwnedWriteHalf),
    #[cfg(unix)]
    Unix(unix_halves::OwnedWriteHalf),
}

macro_rules! either_write {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            WriteHalf::Tcp($stream) => $call,
            #[cfg(unix)]
            WriteHalf::Unix($stream) => $call,
        }
    };
}

impl WriteHalf {
    /// Only the newest caller's task is woken.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either_write!(self, s => s.as_ref().poll_write_ready(cx))
    }

    /// Writes what the operating system takes now. `WouldBlock`: nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either_write!(self, s => s.try_write(bytes))
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either_write!(self, s => s.try_write_vectored(slices))
    }

    /// Says that nothing more is written; reading goes on.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        either_write!(self, s => SockRef::from(s.as_ref()).shutdown(Shutdown::Write))
    }
}

impl fmt::Display for SelfConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connected to itself; nobody listens there")
    }
}

impl std::error::Error for SelfConnection {}

/// Opens a connection: one attempt. Names are looked up anew each time, and every address is tried in order.
/// The error is that of the last address.
pub(crate) async fn connect(endpoint: &Endpoint, options: &TransportOptions) -> io::Result<Stream> {
    endpoint.for_connect().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    match endpoint.address() {
        Address::Tcp(address) => tcp::connect(address, options).await.map(Stream::Tcp),
        #[cfg(unix)]
        Address::Ipc(address) => {
            within(options.connect_timeout, pin!(ipc::connect(address, options))).await.map(Stream::Unix)
        }
        #[cfg(not(unix))]
        Address::Ipc(_) => Err(unsupported("ipc is not supported on this system; use tcp")),
        Address::Inproc(_) => Err(unsupported("inproc has no byte stream")),
    }
}

/// Listens. Dropping the listener stops it and removes the file that it made.
pub(crate) async fn bind(endpoint: &Endpoint, options: &TransportOptions) -> Result<Listener, BindError> {
    endpoint.for_bind()?;
    match endpoint.address() {
        Address::Tcp(address) => {
            let (listener, endpoint) = tcp::bind(endpoint, address, options).await?;
            Ok(Listener { endpoint, inner: Inner::Tcp(listener) })
        }
        #[cfg(unix)]
        Address::Ipc(address) => {
            let (listener, endpoint) = ipc::bind(endpoint, address, options).await?;
            Ok(Listener { endpoint, inner: Inner::Unix(listener) })
        }
        #[cfg(not(unix))]
        Address::Ipc(_) => Err(BindError::Io(unsupported("ipc is not supported on this system; use tcp"))),
        Address::Inproc(_) => Err(BindError::Io(unsupported("inproc has no byte stream"))),
    }
}

/// Accepts connections at one endpoint.
#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: Endpoint,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Tcp(tcp::Listener),
    #[cfg(unix)]
    Unix(ipc::Listener),
}

impl Listener {
    /// With the real port or path: one can connect to it.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next connection and its peer's address, which a stream that was reset meanwhile no longer knows. Cancel-safe: no connection is lost. After [`is_out_of_descriptors`] errors the
    /// connection is still in the backlog: wait before the next call, which would fail at once.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, String)> {
        loop {
            let accepted = match &self.inner {
                Inner::Tcp(listener) => {
                    listener.accept().await.map(|(stream, peer)| (Stream::Tcp(stream), tcp::text(Ok(peer))))
                }
                #[cfg(unix)]
                // Unix domain clients have no name: they show the path that they connected to.
                Inner::Unix(listener) => {
                    listener.accept().await.map(|stream| (Stream::Unix(stream), self.endpoint.to_string()))
                }
            };
            match accepted {
                // The client left while it waited in the backlog: nobody to report.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                other => return other,
            }
        }
    }
}

/// How many descriptors this process may have open (soft limit), where the system tells.
pub(crate) fn descriptor_limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The process or the machine has no descriptor left: nothing is wrong with the peer or the listener.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    // EMFILE, ENFILE and Winsock's EMFILE; the first two are the same numbers on every Unix.
    let codes: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// What the operating system said about a bind, in the words of the API.
fn bind_error(endpoint: &Endpoint, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::AddrInUse(endpoint.to_string()),
        io::ErrorKind::AddrNotAvailable => BindError::AddrNotAvailable(endpoint.to_string()),
        io::ErrorKind::PermissionDenied => BindError::Permission(endpoint.to_string()),
        _ => BindError::Io(error),
    }
}

async fn within<T>(limit: Option<Duration>, attempt: Pin<&mut impl Future<Output = io::Result<T>>>) -> io::Result<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))),
        None => attempt.await,
    }
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Kernel buffers, for either kind of socket.
fn set_buffers(socket: &SockRef<'_>, options: &TransportOptions) -> io::Result<()> {
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.recv_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn options() -> TransportOptions {
        TransportOptions::default()
    }

    pub(crate) async fn bound(text: &str) -> Listener {
        bind(&text.parse().unwrap(), &options()).await.unwrap()
    }

    pub(crate) async fn refused(text: &str) -> BindError {
        match bind(&text.parse().unwrap(), &options()).await {
            Ok(listener) => panic!("{text} was bound as {}", listener.endpoint()),
            Err(e) => e,
        }
    }

    pub(crate) async fn pair(listener: &Listener) -> (Stream, Stream) {
        let options = options();
        let (client, server) = tokio::join!(connect(listener.endpoint(), &options), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    async fn send(stream: &WriteHalf, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            match stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    async fn read_to_end(stream: &mut ReadHalf) -> BytesMut {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(16);
            if std::future::poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await.unwrap() == 0 {
                return buffer;
            }
        }
    }

    /// Connects to what the bind returned, through its text, and sends both ways.
    pub(crate) async fn echo(listener: &Listener) {
        let text = listener.endpoint().to_string();
        assert_eq!(&text.parse::<Endpoint>().unwrap(), listener.endpoint());
        let (client, server) = pair(listener).await;
        let ((mut client_read, client_write), (mut server_read, server_write)) =
            (client.into_split(), server.into_split());
        send(&client_write, b"from the client").await;
        client_write.shutdown().unwrap();
        assert_eq!(read_to_end(&mut server_read).await, &b"from the client"[..]);
        send(&server_write, b"from the server").await;
        drop((server_read, server_write));
        assert_eq!(read_to_end(&mut client_read).await, &b"from the server"[..]);
    }

    #[tokio::test]
    async fn what_is_not_for_this_side_is_refused() {
        for text in ["tcp://*:5", "tcp://127.0.0.1:*", "ipc://*"] {
            let e = connect(&text.parse().unwrap(), &options()).await.unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(matches!(refused("tcp://127.0.0.1;127.0.0.1:5").await, BindError::Endpoint(_)));
        assert!(matches!(refused("inproc://x").await, BindError::Io(_)));
    }

    #[test]
    fn descriptor_errors_are_known() {
        assert!(is_out_of_descriptors(&io::Error::from_raw_os_error(if cfg!(windows) { 10024 } else { 24 })));
        assert!(!is_out_of_descriptors(&io::Error::from_raw_os_error(111)));
        if cfg!(target_os = "linux") {
            assert!(descriptor_limit().is_none_or(|limit| limit > 2));
        }
    }

    #[tokio::test]
    async fn accepting_may_be_cancelled() {
        let listener = bound("tcp://127.0.0.1:*").await;
        {
            let mut accept = std::pin::pin!(listener.accept());
            let first = std::future::poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_pending()));
            assert!(first.await);
        }
        echo(&listener).await;
    }
}
