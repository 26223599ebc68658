//! TCP: names, addresses, socket options, listeners.
//!
//! Names are looked up by the system's resolver on tokio's blocking threads, a few at a time. Options are set on
//! sockets made with socket2 before they connect or listen, because buffers count for the window only then.
//! Interfaces cannot be listed without unsafe code, so their names mean nothing here. Streams: see `transport`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::{SelfConnection, bind_error, set_buffers, within};
use crate::endpoint::{Endpoint, Host, TcpAddress};
use crate::error::BindError;
use crate::options::TransportOptions;

/// Waiting for a turn included.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// A dead name server must not occupy every blocking thread of the runtime.
static LOOKUPS: Semaphore = Semaphore::const_new(8);

pub(super) async fn connect(address: &TcpAddress, options: &TransportOptions) -> io::Result<TcpStream> {
    let source = match &address.source {
        Some((host, port)) => resolve_to_bind(host, *port, options).await?.into_iter().next(),
        None => None,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address that can be used");
    for target in resolve(&address.host, address.port, options).await? {
        if source.is_some_and(|source| source.is_ipv4() != target.is_ipv4()) {
            last = io::Error::new(io::ErrorKind::InvalidInput, "source and destination are not both IPv4 or IPv6");
            continue;
        }
        let attempt = pin!(connect_one(source, target, options));
        match within(options.connect_timeout, attempt).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn connect_one(
    source: Option<SocketAddr>,
    target: SocketAddr,
    options: &TransportOptions,
) -> io::Result<TcpStream> {
    // Made by tokio: in one system call where socket2 needs three.
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    set_options(&SockRef::from(&socket), target.is_ipv6(), options)?;
    set_buffers(&SockRef::from(&socket), options)?;
    if let Some(source) = source {
        SockRef::from(&socket).set_reuse_address(true)?;
        socket.bind(source)?;
    }
    let stream = socket.connect(target).await?;
    if is_self_connection(&stream, target) {
        // Reset instead of TIME_WAIT, so that whoever listened on this port can come back to it.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, SelfConnection));
    }
    Ok(stream)
}

#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    options: TransportOptions,
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        // The listener took the same options; where they fail now, the peer has left, and reading will say so.
        let _ = set_options(&SockRef::from(&stream), peer.is_ipv6(), &self.options);
        Ok((stream, peer))
    }
}

pub(super) async fn bind(
    endpoint: &Endpoint,
    address: &TcpAddress,
    options: &TransportOptions,
) -> Result<(Listener, Endpoint), BindError> {
    let (listener, local) = match address.host {
        Host::Any => listen_everywhere(address.port, options).map_err(|e| bind_error(endpoint, e))?,
        _ => listen_first(endpoint, address, options).await?,
    };
    let host = match (&address.host, local.ip()) {
        // The zone's name says more than its number.
        (Host::V6(ip, zone @ Some(_)), _) => Host::V6(*ip, zone.clone()),
        (_, IpAddr::V4(ip)) => Host::V4(ip),
        (_, IpAddr::V6(ip)) => Host::V6(ip, None),
    };
    Ok((Listener { listener, options: options.clone() }, Endpoint::tcp(host, local.port())))
}

/// The first address of the name that can be bound. IPv4 goes first: other implementations look there only.
async fn listen_first(
    endpoint: &Endpoint,
    address: &TcpAddress,
    options: &TransportOptions,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let mut targets = match resolve_to_bind(&address.host, address.port, options).await {
        Ok(targets) => targets,
        Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(BindError::Io(e)),
        Err(e) => {
            let why = format!("no such host ({e}); write an address of this machine, or * for every interface");
            return Err(BindError::Endpoint(endpoint.refuse(why)));
        }
    };
    targets.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for target in targets {
        match listen(target, true, options) {
            Ok(bound) => return Ok(bound),
            Err(e) => last = e,
        }
    }
    Err(bind_error(endpoint, last))
}

/// Both families with one listener where the machine has IPv6, else IPv4.
fn listen_everywhere(port: u16, options: &TransportOptions) -> io::Result<(TcpListener, SocketAddr)> {
    if options.ipv6 {
        match listen((Ipv6Addr::UNSPECIFIED, port).into(), false, options) {
            // These are not about IPv6, and half a listener would hide them.
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => return Err(e),
            Err(e) if super::is_out_of_descriptors(&e) => return Err(e),
            Err(_) => {}
            bound => return bound,
        }
    }
    listen((Ipv4Addr::UNSPECIFIED, port).into(), true, options)
}

fn listen(target: SocketAddr, only_v6: bool, options: &TransportOptions) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = new_socket(target)?;
    if target.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    set_options(&SockRef::from(&socket), target.is_ipv6(), options)?;
    set_buffers(&SockRef::from(&socket), options)?;
    // So that a restart need not wait for the last run's closed connections. When the system picks the port this
    // comes after the bind: with it, the system may hand out a port that another socket has bound already.
    // Windows means something else by it: taking a port away from a living listener.
    let reuse = cfg!(not(windows));
    if reuse && target.port() != 0 {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&target.into())?;
    if reuse && target.port() == 0 {
        socket.set_reuse_address(true)?;
    }
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from_std(socket.into())?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

fn new_socket(target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What every TCP socket gets, connecting, listening and accepted ones alike.
fn set_options(socket: &SockRef<'_>, v6: bool, options: &TransportOptions) -> io::Result<()> {
    // Batches are made by us; a lone message must not wait for the acknowledgement of the one before.
    socket.set_tcp_nodelay(true)?;
    set_keepalive(socket, options)?;
    if let Some(tos) = options.tos {
        set_tos(socket, v6, tos)?;
    }
    Ok(())
}

fn set_keepalive(socket: &SockRef<'_>, options: &TransportOptions) -> io::Result<()> {
    let wanted = options.keepalive;
    match wanted.enabled {
        None => return Ok(()),
        Some(false) => return socket.set_keepalive(false),
        Some(true) => {}
    }
    let mut times = TcpKeepalive::new();
    if let Some(idle) = wanted.idle {
        times = times.with_time(idle);
    }
    // OpenBSD has one setting for the whole machine.
    #[cfg(not(target_os = "openbsd"))]
    {
        if let Some(interval) = wanted.interval {
            times = times.with_interval(interval);
        }
        if let Some(count) = wanted.count {
            times = times.with_retries(count);
        }
    }
    socket.set_tcp_keepalive(&times)
}

fn set_tos(socket: &SockRef<'_>, v6: bool, tos: u32) -> io::Result<()> {
    if !v6 {
        return socket.set_tos_v4(tos);
    }
    // IPv4 peers of a dual-stack socket get theirs too, where the system lets us.
    let _ = socket.set_tos_v4(tos);
    #[cfg(unix)]
    socket.set_tclass_v6(tos)?;
    Ok(())
}

/// The addresses to connect to, in order. Addresses without a resolver's help come at once.
async fn resolve(host: &Host, port: u16, options: &TransportOptions) -> io::Result<Vec<SocketAddr>> {
    let unspecified = host.literal().is_some_and(|ip| ip.is_unspecified());
    if !unspecified || port == 0 {
        return resolve_to_bind(host, port, options).await;
    }
    // What a listener on every interface prints. Not every system connects to it, so loopback stands in.
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(match host {
        Host::V6(..) => vec![SocketAddr::from((Ipv6Addr::LOCALHOST, port)), v4],
        _ => vec![v4],
    })
}

async fn resolve_to_bind(host: &Host, port: u16, options: &TransportOptions) -> io::Result<Vec<SocketAddr>> {
    let name = match host {
        Host::Any => return Ok(vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]),
        Host::Loopback => return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]),
        Host::V4(ip) => return Ok(vec![SocketAddr::from((*ip, port))]),
        Host::V6(ip, None) => return Ok(vec![SocketAddr::from((*ip, port))]),
        // The resolver knows the numbers of interfaces.
        Host::V6(ip, Some(zone)) => format!("{ip}%{zone}"),
        Host::Name(name) => name.clone(),
    };
    let mut found = look_up(name, port).await?;
    if !options.ipv6 && matches!(host, Host::Name(_)) {
        found.retain(SocketAddr::is_ipv4);
    }
    Ok(found)
}

async fn look_up(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    // A task of its own: nothing stops a lookup that has begun, so it keeps its turn until it ends, also when we
    // have stopped waiting for it.
    let lookup = tokio::spawn(async move {
        let _turn = LOOKUPS.acquire().await.map_err(io::Error::other)?;
        tokio::net::lookup_host((name, port)).await.map(Iterator::collect)
    });
    match tokio::time::timeout(LOOKUP_LIMIT, lookup).await {
        Ok(found) => found.map_err(io::Error::other)?,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time")),
    }
}

fn is_self_connection(stream: &TcpStream, target: SocketAddr) -> bool {
    // Only then are both asked for.
    let same_port = stream.local_addr().ok().filter(|local| local.port() == target.port());
    same_port.is_some_and(|local| stream.peer_addr().is_ok_and(|peer| local == peer))
}

pub(super) fn text(address: io::Result<SocketAddr>) -> String {
    match address {
        Ok(address) => format!("tcp://{}", unmapped(address)),
        // The peer has left already.
        Err(_) => "tcp://?".to_owned(),
    }
}

/// IPv4 peers of a dual-stack listener in their usual form.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), address.port())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::tests::{bound, echo, options, pair, refused};
    use super::super::{self as transport, Stream};
    use super::*;
    use crate::options::Keepalive;

    fn has_v6() -> bool {
        std::net::TcpListener::bind("[::1]:0").is_ok()
    }

    async fn dial(text: String) -> io::Result<Stream> {
        transport::connect(&text.parse().unwrap(), &options()).await
    }

    fn port(listener: &transport::Listener) -> u16 {
        let text = listener.endpoint().to_string();
        text.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// A port where nobody listens, and which no other test gets while the socket lives.
    fn reserve() -> (Socket, u16) {
        let socket = new_socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.set_reuse_address(true).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, port)
    }

    #[tokio::test]
    async fn every_form_listens_and_prints_what_one_can_connect_to() {
        let everywhere = if has_v6() { "tcp://[::]:" } else { "tcp://0.0.0.0:" };
        for (text, printed) in [
            ("tcp://127.0.0.1:*", "tcp://127.0.0.1:"),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:"),
            ("tcp://:*", "tcp://127.0.0.1:"),
            ("tcp://localhost:*", "tcp://127.0.0.1:"),
            ("tcp://0.0.0.0:*", "tcp://0.0.0.0:"),
            ("tcp://*:*", everywhere),
        ] {
            let listener = bound(text).await;
            assert!(listener.endpoint().to_string().starts_with(printed), "{}", listener.endpoint());
            assert_ne!(port(&listener), 0);
            echo(&listener).await;
        }
        if has_v6() {
            for text in ["tcp://[::1]:*", "tcp://[::]:*"] {
                echo(&bound(text).await).await;
            }
        }
    }

    fn local_text(stream: &transport::Stream) -> String {
        match stream {
            transport::Stream::Tcp(stream) => text(stream.local_addr()),
            #[cfg(unix)]
            transport::Stream::Unix(_) => String::new(),
        }
    }

    #[tokio::test]
    async fn every_interface_means_both_families() {
        let listener = bound("tcp://*:*").await;
        let port = port(&listener);
        for host in ["127.0.0.1", "", "localhost", "[::1]"] {
            if host == "[::1]" && !has_v6() {
                continue;
            }
            let client = dial(format!("tcp://{host}:{port}")).await.unwrap();
            let (_server, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, local_text(&client));
        }
    }

    #[tokio::test]
    async fn without_ipv6_every_interface_means_ipv4() {
        let options = TransportOptions { ipv6: false, ..options() };
        let listener = transport::bind(&"tcp://*:*".parse().unwrap(), &options).await.unwrap();
        assert!(listener.endpoint().to_string().starts_with("tcp://0.0.0.0:"));
        echo(&listener).await;
        let name = format!("tcp://localhost:{}", port(&listener)).parse().unwrap();
        transport::connect(&name, &options).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_bound_says_why() {
        let listener = bound("tcp://127.0.0.1:*").await;
        let text = listener.endpoint().to_string();
        assert!(matches!(refused(&text).await, BindError::AddrInUse(said) if said == text));
        assert!(matches!(refused("tcp://192.0.2.1:*").await, BindError::AddrNotAvailable(_)));
        // Never asked of a name server: two dots in a row are in no name.
        let said = refused("tcp://no..name:*").await;
        assert!(matches!(&said, BindError::Endpoint(e) if e.to_string().contains("write an address")), "{said}");
        let everywhere = bound("tcp://*:*").await;
        let taken = format!("tcp://*:{}", port(&everywhere));
        assert!(matches!(refused(&taken).await, BindError::AddrInUse(_)));
    }

    #[tokio::test]
    async fn a_port_can_be_bound_again_at_once() {
        for text in ["tcp://127.0.0.1:*", "tcp://*:*"] {
            let listener = bound(text).await;
            let endpoint = listener.endpoint().to_string();
            let (mut client, server) = pair(&listener).await;
            // The server closes first, so that its side waits for late segments.
            drop((server, listener));
            assert_eq!(client.read_buf(&mut BytesMut::with_capacity(1)).await.unwrap(), 0);
            drop(client);
            echo(&bound(&endpoint).await).await;
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let (_reserved, port) = reserve();
        let e = dial(format!("tcp://127.0.0.1:{port}")).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        dial("tcp://no..name:1".to_owned()).await.unwrap_err();
    }

    #[tokio::test]
    async fn g13_a_connection_to_oneself_is_refused() {
        let (_reserved, port) = reserve();
        let e = dial(format!("tcp://127.0.0.1:{port};127.0.0.1:{port}")).await.unwrap_err();
        assert!(e.kind() == io::ErrorKind::ConnectionRefused && e.to_string().contains("itself"), "{e}");
        assert!(SelfConnection::is(&e));
        echo(&bound(&format!("tcp://127.0.0.1:{port}")).await).await;
    }

    #[tokio::test]
    async fn a_source_is_where_the_connection_comes_from() {
        let listener = bound("tcp://127.0.0.1:*").await;
        let target = port(&listener);
        let (_reserved, source) = reserve();
        let client = dial(format!("tcp://0.0.0.0:{source};127.0.0.1:{target}")).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1, format!("tcp://127.0.0.1:{source}"));
        drop(client);
        let e = dial(format!("tcp://[::1];127.0.0.1:{target}")).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        if cfg!(target_os = "linux") {
            let client = dial(format!("tcp://127.0.0.2;127.0.0.1:{target}")).await.unwrap();
            assert!(local_text(&client).starts_with("tcp://127.0.0.2:"));
        }
    }

    #[tokio::test]
    async fn options_reach_both_sides() {
        let keepalive = Keepalive {
            enabled: Some(true),
            idle: Some(Duration::from_secs(33)),
            interval: Some(Duration::from_secs(7)),
            count: Some(4),
        };
        let options = TransportOptions {
            send_buffer: Some(50_000),
            recv_buffer: Some(60_000),
            keepalive,
            tos: Some(0x28),
            ..options()
        };
        for text in ["tcp://127.0.0.1:*", "tcp://*:*"] {
            let listener = transport::bind(&text.parse().unwrap(), &options).await.unwrap();
            let client = transport::connect(listener.endpoint(), &options).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            for stream in [&client, &server] {
                let Stream::Tcp(stream) = stream else { panic!("not TCP") };
                let socket = SockRef::from(stream);
                assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
                assert!(socket.send_buffer_size().unwrap() >= 50_000);
                assert!(socket.recv_buffer_size().unwrap() >= 60_000);
                #[cfg(target_os = "linux")]
                {
                    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(33));
                    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
                    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
                    let v6 = stream.local_addr().unwrap().is_ipv6();
                    assert_eq!(if v6 { socket.tclass_v6() } else { socket.tos_v4() }.unwrap(), 0x28);
                }
            }
        }
    }

    /// A listener that accepts nobody and whose backlog is full answers no SYN (on Linux).
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connect_timeout_ends_an_attempt() {
        let options = TransportOptions { backlog: 1, connect_timeout: Some(Duration::from_millis(100)), ..options() };
        let listener = transport::bind(&"tcp://127.0.0.1:*".parse().unwrap(), &options).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            match transport::connect(listener.endpoint(), &options).await {
                Ok(stream) => waiting.push(stream),
                Err(e) => return assert_eq!(e.kind(), io::ErrorKind::TimedOut),
            }
        }
        panic!("{} connections fit into a backlog of 1", waiting.len());
    }
}
