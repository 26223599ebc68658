//! `ping`: a handshake and PING round trips, without taking part in the traffic.
//!
//! A peer that sends to whoever is there (PUSH, DEALER, REQ, PAIR) would give us its messages: there the
//! handshake is not finished, and its own answer is the proof of life.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ginnel::Endpoint;
use tokio::net::{TcpStream, UnixStream};

use crate::args::PingArgs;
use crate::exit::{self, Failure};
use crate::secrets;
use crate::signals::Stop;
use crate::zmtp::{self, Greeting, Stream, WireError};

/// Between two attempts to connect to something that is not there yet.
const RETRY: Duration = Duration::from_millis(50);

pub(crate) async fn run(args: PingArgs) -> Result<i32, Failure> {
    let target = Target::parse(&args.connect)?;
    let login = args.plain_file.as_deref().map(login).transpose()?;
    let stop = Stop::listen().map_err(Failure::failed)?;
    tokio::select! {
        result = ping(&args, &target, login.as_deref()) => result.map(|()| exit::OK),
        code = stop.requested() => Ok(code),
    }
}

/// The data of a PLAIN HELLO.
fn login(path: &Path) -> Result<Vec<u8>, Failure> {
    let (user, password) = secrets::login(path)?;
    let field = |text: &str| {
        let length =
            u8::try_from(text.len()).map_err(|_| Failure::usage("user name and password are at most 255 bytes each"));
        Ok([&[length?][..], text.as_bytes()].concat())
    };
    Ok([field(&user)?, field(&password)?].concat())
}

async fn ping(args: &PingArgs, target: &Target, login: Option<&[u8]>) -> Result<(), Failure> {
    let limit = args.timeout.limit();
    let started = Instant::now();
    let mut peer = within(limit, "handshake", meet(target, login)).await??;
    let handshake = started.elapsed();
    let greeting = &peer.greeting;
    say(format_args!("type: {}", peer.socket_type))?;
    say(format_args!("version: {}.{}", greeting.major, greeting.minor))?;
    say(format_args!("mechanism: {}", greeting.mechanism))?;
    say(format_args!("handshake: {:.3} ms", handshake.as_secs_f64() * 1e3))?;
    let Some(stream) = &mut peer.stream else { return Ok(()) };
    for number in 1..=args.count {
        let started = Instant::now();
        within(limit, "PONG", zmtp::ping(stream, number.to_be_bytes())).await?.map_err(failure)?;
        say(format_args!("ping {number}: {:.3} ms", started.elapsed().as_secs_f64() * 1e3))?;
    }
    Ok(())
}

async fn within<T>(limit: Option<Duration>, what: &str, step: impl Future<Output = T>) -> Result<T, Failure> {
    match limit {
        None => Ok(step.await),
        Some(limit) => tokio::time::timeout(limit, step)
            .await
            .map_err(|_| Failure::timeout(format_args!("no {what} within {limit:?}"))),
    }
}

fn say(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}").map_err(|e| exit::stdout_failure(&e))
}

fn failure(e: WireError) -> Failure {
    match e {
        WireError::Refused(why) => Failure::new(exit::REJECTED, why),
        WireError::NotZmtp(why) => Failure::failed(why),
        WireError::Io(e) => Failure::failed(e),
    }
}

/// A peer that answered; with a stream when PING is possible.
struct Peer {
    greeting: Greeting,
    socket_type: String,
    stream: Option<Box<dyn Stream>>,
}

async fn meet(target: &Target, login: Option<&[u8]>) -> Result<Peer, Failure> {
    match login {
        None => meet_null(target).await,
        Some(login) => meet_plain(target, login).await,
    }
}

/// NULL: both sides send READY without waiting, so we learn the peer's type before we say ours.
async fn meet_null(target: &Target) -> Result<Peer, Failure> {
    let mut stream = target.connect().await;
    let greeting = greet(&mut stream, "NULL").await?;
    let ready = zmtp::read_handshake(&mut stream).await.map_err(failure)?;
    let socket_type = zmtp::socket_type(&ready.data).unwrap_or_else(|| "unknown".to_owned());
    let Some(ours) = partner(&socket_type).filter(|_| greeting.has_ping()) else {
        return Ok(Peer { greeting, socket_type, stream: None });
    };
    zmtp::send_command(&mut stream, "READY", &zmtp::metadata(ours)).await.map_err(failure)?;
    Ok(Peer { greeting, socket_type, stream: Some(stream) })
}

/// PLAIN: the client says its type first. Ask as each type that draws no messages until one fits.
async fn meet_plain(target: &Target, login: &[u8]) -> Result<Peer, Failure> {
    let mut greeting = None;
    for ours in ["REQ", "SUB", "PUSH", "PUB"] {
        let mut stream = target.connect().await;
        let greeted = greet(&mut stream, "PLAIN").await?;
        zmtp::send_command(&mut stream, "HELLO", login).await.map_err(failure)?;
        zmtp::read_handshake(&mut stream).await.map_err(failure)?;
        zmtp::send_command(&mut stream, "INITIATE", &zmtp::metadata(ours)).await.map_err(failure)?;
        match zmtp::read_handshake(&mut stream).await {
            Ok(ready) => {
                let socket_type = zmtp::socket_type(&ready.data).unwrap_or_else(|| "unknown".to_owned());
                let stream = Some(stream).filter(|_| greeted.has_ping());
                return Ok(Peer { greeting: greeted, socket_type, stream });
            }
            Err(WireError::Refused(_)) => greeting = Some(greeted),
            Err(e) => return Err(failure(e)),
        }
    }
    // The password was right each time: it lives, and is one of the types that we must not partner.
    let greeting = greeting.ok_or_else(|| Failure::failed("no answer"))?;
    Ok(Peer { greeting, socket_type: "unknown".to_owned(), stream: None })
}

async fn greet(stream: &mut Box<dyn Stream>, mechanism: &str) -> Result<Greeting, Failure> {
    let greeting = zmtp::greet(stream, mechanism).await.map_err(failure)?;
    if greeting.mechanism != mechanism {
        let why = format!("the peer wants {}, we came with {mechanism}", greeting.mechanism);
        return Err(Failure::new(exit::REJECTED, why));
    }
    Ok(greeting)
}

/// The type that may talk to `peer` and is sent nothing unasked.
fn partner(peer: &str) -> Option<&'static str> {
    match peer {
        "PULL" => Some("PUSH"),
        "PUB" | "XPUB" => Some("SUB"),
        "SUB" | "XSUB" => Some("PUB"),
        "REP" => Some("REQ"),
        "ROUTER" => Some("DEALER"),
        _ => None,
    }
}

/// Where to connect.
enum Target {
    Tcp(String),
    /// With a NUL in front when abstract.
    Unix(String),
}

impl Target {
    fn parse(text: &str) -> Result<Target, Failure> {
        let endpoint: Endpoint = text.parse().map_err(Failure::usage)?;
        let text = endpoint.to_string();
        if let Some(address) = text.strip_prefix("tcp://") {
            if address.contains(';') || address.starts_with('*') || address.ends_with(":*") {
                return Err(Failure::usage(format_args!("{text}: write tcp://HOST:PORT")));
            }
            return Ok(Target::Tcp(address.to_owned()));
        }
        match text.strip_prefix("ipc://") {
            Some("*") | None => Err(Failure::usage(format_args!("{text}: ping goes to tcp:// and ipc://"))),
            Some(path) => Ok(Target::Unix(path.strip_prefix('@').map_or(path.to_owned(), |name| format!("\0{name}")))),
        }
    }

    /// Tries until something listens there; the caller has the clock.
    async fn connect(&self) -> Box<dyn Stream> {
        loop {
            let connected: std::io::Result<Box<dyn Stream>> = match self {
                Target::Tcp(address) => connect_tcp(address).await.map(|stream| Box::new(stream) as _),
                Target::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as _),
            };
            match connected {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

async fn connect_tcp(address: &str) -> std::io::Result<TcpStream> {
    let stream = match address.strip_prefix(':') {
        // An empty host is loopback.
        Some(port) => match TcpStream::connect(format!("127.0.0.1:{port}")).await {
            Ok(stream) => stream,
            Err(_) => TcpStream::connect(format!("[::1]:{port}")).await?,
        },
        None => TcpStream::connect(address).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
