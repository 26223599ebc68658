//! Endpoint text, parsed and printed: [`Endpoint`], and [`IntoEndpoint`] for whatever a caller has at hand.
//!
//! Plain values: nothing here looks a name up, touches a file or opens a socket (that is `transport`).
//! Printing gives the normal form, and parsing it gives the same endpoint back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::EndpointError;

/// No endpoint that means anything is longer; keeps garbage out of names, paths and logs.
const MAX_TEXT: usize = 1024;
/// `sun_path` has 108 bytes; one is the NUL that ends a path or starts an abstract name.
const MAX_IPC: usize = 107;
const MAX_INPROC: usize = 256;
/// Of a host name, in text form.
const MAX_HOST: usize = 253;
const MAX_ZONE: usize = 64;

/// Where a socket binds or connects.
///
/// | text | meaning |
/// |--|--|
/// | `tcp://HOST:PORT` | a name, an IPv4 address or `[IPv6]` (with a zone: `[fe80::1%eth0]`) |
/// | `tcp://*:PORT` | bind: every interface |
/// | `tcp://:PORT` | loopback |
/// | `tcp://HOST:*` | bind: a free port (`0` means the same) |
/// | `tcp://SRC:SPORT;HOST:PORT` | connect from this local address; `:SPORT` may be left out |
/// | `ipc://PATH` | a Unix domain socket, a path of at most 107 bytes |
/// | `ipc://*` | bind: a fresh path in the directory for temporary files |
/// | `ipc://@NAME` | an abstract Unix domain socket (Linux) |
/// | `inproc://NAME` | this process, a name of 1 to 256 bytes |
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: Address,
}

/// What the text says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(TcpAddress),
    Ipc(IpcAddress),
    Inproc(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TcpAddress {
    /// Connect only: the local address (never `Any`, `Loopback` or a name) and port to come from.
    pub(crate) source: Option<(Host, u16)>,
    pub(crate) host: Host,
    /// Zero: any free one.
    pub(crate) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// `*`
    Any,
    /// Nothing before the colon.
    Loopback,
    V4(Ipv4Addr),
    /// With the zone: an interface's name or number.
    V6(Ipv6Addr, Option<String>),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum IpcAddress {
    Path(String),
    /// Without the `@`.
    Abstract(String),
    /// `*`
    Temporary,
}

impl Endpoint {
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// A TCP endpoint without a source.
    pub(crate) fn tcp(host: Host, port: u16) -> Endpoint {
        Endpoint { address: Address::Tcp(TcpAddress { source: None, host, port }) }
    }

    /// Whether one may listen here.
    pub(crate) fn for_bind(&self) -> Result<(), EndpointError> {
        match &self.address {
            Address::Tcp(TcpAddress { source: Some(_), host, port }) => {
                let plain = Endpoint::tcp(host.clone(), *port);
                Err(self.refuse(format!("a source address is for connecting only; bind {plain}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether one may connect to it.
    pub(crate) fn for_connect(&self) -> Result<(), EndpointError> {
        match &self.address {
            Address::Tcp(TcpAddress { host: Host::Any, .. }) => {
                Err(self.refuse("* is for binding; to connect write a host, for example tcp://127.0.0.1:5555"))
            }
            Address::Tcp(TcpAddress { port: 0, .. }) => {
                Err(self.refuse("a free port is for binding; to connect write the port that the other side bound"))
            }
            Address::Ipc(IpcAddress::Temporary) => {
                Err(self.refuse("* is for binding; to connect write the path that the other side bound"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn refuse(&self, why: impl Into<String>) -> EndpointError {
        EndpointError::new(&self.to_string(), why)
    }
}

impl Host {
    /// The address, if the text was one. The zone is left out.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        match self {
            Host::V4(ip) => Some(IpAddr::V4(*ip)),
            Host::V6(ip, _) => Some(IpAddr::V6(*ip)),
            Host::Any | Host::Loopback | Host::Name(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(address) => write!(f, "tcp://{address}"),
            Address::Ipc(IpcAddress::Path(path)) => write!(f, "ipc://{path}"),
            Address::Ipc(IpcAddress::Abstract(name)) => write!(f, "ipc://@{name}"),
            Address::Ipc(IpcAddress::Temporary) => f.write_str("ipc://*"),
            Address::Inproc(name) => write!(f, "inproc://{name}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some((host, 0)) => write!(f, "{host};")?,
            Some((host, port)) => write!(f, "{host}:{port};")?,
            None => {}
        }
        match self.port {
            0 => write!(f, "{}:*", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => f.write_str("*"),
            Host::Loopback => Ok(()),
            Host::V4(ip) => write!(f, "{ip}"),
            Host::V6(ip, None) => write!(f, "[{ip}]"),
            Host::V6(ip, Some(zone)) => write!(f, "[{ip}%{zone}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        match parse(text) {
            Ok(address) => Ok(Endpoint { address }),
            Err(why) => Err(EndpointError::new(text, why)),
        }
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }
}

/// Anything that names an endpoint: text, an [`Endpoint`], or what a socket's `local_endpoint()` returned.
pub trait IntoEndpoint: sealed::Sealed {
    /// The endpoint.
    ///
    /// # Errors
    /// [`EndpointError`] when the text is none, or the value is `None`.
    fn into_endpoint(self) -> Result<Endpoint, EndpointError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &str {}
    impl Sealed for String {}
    impl Sealed for &String {}
    impl Sealed for super::Endpoint {}
    impl Sealed for &super::Endpoint {}
    impl Sealed for Option<super::Endpoint> {}
}

impl IntoEndpoint for &str {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.parse()
    }
}

impl IntoEndpoint for String {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.parse()
    }
}

impl IntoEndpoint for &String {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.parse()
    }
}

impl IntoEndpoint for Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        Ok(self)
    }
}

impl IntoEndpoint for &Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        Ok(self.clone())
    }
}

impl IntoEndpoint for Option<Endpoint> {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.ok_or_else(|| EndpointError::new("", "the socket is not bound yet; bind it and wait for the bind first"))
    }
}

/// The address, or why the text is none.
type Parsed<T> = Result<T, String>;

fn parse(text: &str) -> Parsed<Address> {
    if text.len() > MAX_TEXT {
        return Err(format!("{} bytes long; an endpoint has at most {MAX_TEXT}", text.len()));
    }
    // Endpoints are written to terminals and to files with one on a line.
    if text.chars().any(char::is_control) {
        return Err("holds a NUL or another control character; take it out".to_owned());
    }
    let Some((transport, rest)) = text.split_once("://") else {
        return Err("no transport; write for example tcp://127.0.0.1:5555, ipc:///tmp/name or inproc://name".to_owned());
    };
    match transport {
        "tcp" => parse_tcp(rest).map(Address::Tcp),
        "ipc" => parse_ipc(rest).map(Address::Ipc),
        "inproc" => parse_inproc(rest).map(Address::Inproc),
        _ => Err("unknown transport; write tcp://HOST:PORT, ipc://PATH or inproc://NAME".to_owned()),
    }
}

fn parse_ipc(rest: &str) -> Parsed<IpcAddress> {
    if rest == "*" {
        return Ok(IpcAddress::Temporary);
    }
    let (what, name) = match rest.strip_prefix('@') {
        Some(name) => ("name", name),
        None => ("path", rest),
    };
    match name.len() {
        0 => Err(format!("the {what} is empty; write ipc:///tmp/name, ipc://@name or, to bind a fresh path, ipc://*")),
        1..=MAX_IPC if what == "name" => Ok(IpcAddress::Abstract(name.to_owned())),
        1..=MAX_IPC => Ok(IpcAddress::Path(name.to_owned())),
        long => Err(format!("the {what} has {long} bytes; at most {MAX_IPC} fit, write a shorter one")),
    }
}

fn parse_inproc(name: &str) -> Parsed<String> {
    match name.len() {
        0 => Err("the name is empty; write for example inproc://name".to_owned()),
        1..=MAX_INPROC => Ok(name.to_owned()),
        long => Err(format!("the name has {long} bytes; write at most {MAX_INPROC}")),
    }
}

fn parse_tcp(rest: &str) -> Parsed<TcpAddress> {
    let (source, target) = match rest.split_once(';') {
        Some((source, target)) => (Some(parse_source(source)?), target),
        None => (None, rest),
    };
    let (host, port) = parse_host_port(target)?;
    let Some(port) = port else {
        return Err("no port; write tcp://HOST:PORT, for example tcp://127.0.0.1:5555".to_owned());
    };
    Ok(TcpAddress { source, host, port: parse_port(port)? })
}

fn parse_source(text: &str) -> Parsed<(Host, u16)> {
    let (host, port) = parse_host_port(text)?;
    if host.literal().is_none() {
        return Err(
            "the source before ; is an address of this machine, for example tcp://192.0.2.1;host:5555".to_owned()
        );
    }
    let port = port.map(parse_port).transpose()?.unwrap_or(0);
    Ok((host, port))
}

/// Cuts at the colon that is not inside brackets.
fn parse_host_port(text: &str) -> Parsed<(Host, Option<&str>)> {
    let Some(inside) = text.strip_prefix('[') else {
        return match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                Err("an IPv6 address stands in brackets; write for example tcp://[::1]:5555".to_owned())
            }
            Some((host, port)) => Ok((parse_host(host)?, Some(port))),
            None => Ok((parse_host(text)?, None)),
        };
    };
    let Some((address, after)) = inside.split_once(']') else {
        return Err("the bracket [ is not closed; write for example tcp://[::1]:5555".to_owned());
    };
    let host = parse_v6(address)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err("after ] comes : and the port; write for example tcp://[::1]:5555".to_owned()),
    }
}

fn parse_v6(text: &str) -> Parsed<Host> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let Ok(ip) = address.parse() else {
        return Err("no IPv6 address in the brackets; write for example tcp://[::1]:5555".to_owned());
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    match zone {
        Some(zone) if zone.is_empty() || zone.len() > MAX_ZONE || !zone.chars().all(fits) => {
            Err("after % comes the name of an interface; write for example tcp://[fe80::1%eth0]:5555".to_owned())
        }
        zone => Ok(Host::V6(ip, zone.map(str::to_owned))),
    }
}

fn parse_host(text: &str) -> Parsed<Host> {
    if text.is_empty() {
        return Ok(Host::Loopback);
    }
    if text == "*" {
        return Ok(Host::Any);
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::V4(ip));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("no IPv4 address; write four numbers from 0 to 255, for example tcp://127.0.0.1:5555".to_owned());
    }
    // Letters of any script: the resolver decides what it can do with them.
    let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if text.len() > MAX_HOST || !text.chars().all(fits) {
        return Err("no host name; write a name, an address, * (bind every interface) or nothing (loopback)".to_owned());
    }
    Ok(Host::Name(text.to_owned()))
}

fn parse_port(text: &str) -> Parsed<u16> {
    if text == "*" {
        return Ok(0);
    }
    // The integer parser takes a sign, too.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err("no port; write a number from 1 to 65535, or * to bind a free one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen};

    use super::*;

    fn parsed(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn why(text: &str) -> String {
        match text.parse::<Endpoint>() {
            Ok(endpoint) => panic!("{text} became {endpoint}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn endpoints_print_as_they_were_written() {
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://localhost:1",
            "tcp://my_host-1.example.org:65535",
            "tcp://[::1]:5555",
            "tcp://[fe80::1%eth0]:5555",
            "tcp://[fe80::1%2]:5555",
            "tcp://*:5555",
            "tcp://*:*",
            "tcp://:5555",
            "tcp://:*",
            "tcp://eth0:*",
            "tcp://0.0.0.0:80",
            "tcp://127.0.0.1:1234;localhost:80",
            "tcp://127.0.0.1;localhost:80",
            "tcp://[::1]:9;[::1]:80",
            "tcp://[fe80::1%eth0];[fe80::2%eth0]:80",
            "ipc:///tmp/a b",
            "ipc://relative",
            "ipc://*",
            "ipc://@name",
            "ipc://@@",
            "inproc://a",
            "inproc://*",
            "inproc://tcp://x",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn endpoints_are_the_same_however_they_are_written() {
        assert_eq!(parsed("tcp://*:0"), parsed("tcp://*:*"));
        assert_eq!(parsed("tcp://[0:0::1]:080"), parsed("tcp://[::1]:80"));
        assert_eq!(parsed("tcp://127.0.0.1:0;h:1"), parsed("tcp://127.0.0.1;h:1"));
        assert_eq!(parsed("tcp://127.0.0.1:*;h:1"), parsed("tcp://127.0.0.1;h:1"));
    }

    #[test]
    fn n09_what_is_no_endpoint_is_refused_with_advice() {
        for (text, advice) in [
            ("", "write for example tcp://"),
            ("tcp", "write for example tcp://"),
            ("tcp:/127.0.0.1:5", "write for example tcp://"),
            ("://x", "write tcp://HOST:PORT, ipc://PATH or inproc://NAME"),
            ("TCP://127.0.0.1:5", "unknown transport; write tcp://"),
            ("udp://127.0.0.1:5", "unknown transport; write tcp://"),
            ("ws://127.0.0.1:5", "unknown transport; write tcp://"),
            ("tcp://", "no port"),
            ("tcp://127.0.0.1", "no port"),
            ("tcp://127.0.0.1:", "number from 1 to 65535"),
            ("tcp://127.0.0.1:99999", "number from 1 to 65535"),
            ("tcp://127.0.0.1:65536", "number from 1 to 65535"),
            ("tcp://127.0.0.1:-1", "number from 1 to 65535"),
            ("tcp://127.0.0.1:+1", "number from 1 to 65535"),
            ("tcp://127.0.0.1:http", "number from 1 to 65535"),
            ("tcp://127.0.0.1:5555/", "number from 1 to 65535"),
            ("tcp://127.0.0.1: 5", "number from 1 to 65535"),
            ("tcp://::1:5555", "brackets"),
            ("tcp://[::1:5555", "not closed"),
            ("tcp://[::1]5555", "after ]"),
            ("tcp://[::1]", "no port"),
            ("tcp://[localhost]:1", "no IPv6 address"),
            ("tcp://[fe80::1%]:1", "interface"),
            ("tcp://[fe80::1%a/b]:1", "interface"),
            ("tcp://256.0.0.1:1", "four numbers"),
            ("tcp://127.1:1", "four numbers"),
            ("tcp://user@host:1", "no host name"),
            ("tcp://a b:1", "no host name"),
            ("tcp://**:1", "no host name"),
            ("tcp://127.0.0.1:99999;host:1", "number from 1 to 65535"),
            ("tcp://host;host:1", "the source"),
            ("tcp://*:5;host:1", "the source"),
            ("tcp://;host:1", "the source"),
            ("tcp://127.0.0.1;127.0.0.1;host:1", "no host name"),
            ("tcp://ho\0st:1", "control character"),
            ("ipc:///tmp/\0x", "control character"),
            ("inproc://a\nb", "control character"),
            ("ipc://", "the path is empty"),
            ("ipc://@", "the name is empty"),
            ("inproc://", "the name is empty"),
        ] {
            let said = why(text);
            assert!(said.contains(advice), "{text}: {said}");
        }
    }

    #[test]
    fn n09_overlong_endpoints_are_refused() {
        for (prefix, most) in [("ipc:///", 106), ("ipc://@", 107), ("inproc://", 256), ("tcp://h:", 0)] {
            if most > 0 {
                parsed(&format!("{prefix}{}", "x".repeat(most)));
            }
            why(&format!("{prefix}{}", "x".repeat(most + 1)));
            let said = why(&format!("{prefix}{}", "x".repeat(10_000)));
            assert!(said.len() < 400 && said.contains("at most 1024"), "{said}");
        }
        parsed(&format!("tcp://{}:1", "h".repeat(253)));
        why(&format!("tcp://{}:1", "h".repeat(254)));
        why(&format!("tcp://h:{}", "1".repeat(900)));
        for bytes in [108, 109] {
            assert!(why(&format!("ipc://{}", "p".repeat(bytes))).contains(&format!("{bytes} bytes; at most 107")));
        }
    }

    #[test]
    fn some_endpoints_are_for_one_side_only() {
        for text in ["tcp://*:5", "tcp://h:*", "tcp://:0", "ipc://*"] {
            parsed(text).for_bind().unwrap();
            let said = parsed(text).for_connect().unwrap_err().to_string();
            assert!(said.contains("to connect write"), "{said}");
        }
        let source = parsed("tcp://127.0.0.1;localhost:5");
        source.for_connect().unwrap();
        assert!(source.for_bind().unwrap_err().to_string().contains("bind tcp://localhost:5"));
        for text in ["tcp://h:5", "tcp://0.0.0.0:5", "tcp://[::]:5", "tcp://:5", "ipc://p", "ipc://@n", "inproc://n"] {
            parsed(text).for_bind().unwrap();
            parsed(text).for_connect().unwrap();
        }
    }

    #[test]
    fn whatever_names_an_endpoint_becomes_one() {
        let text = "inproc://here".to_owned();
        let endpoint = text.as_str().into_endpoint().unwrap();
        assert_eq!((&text).into_endpoint().unwrap(), endpoint);
        assert_eq!((&endpoint).into_endpoint().unwrap(), endpoint);
        assert_eq!(Some(endpoint.clone()).into_endpoint().unwrap(), endpoint);
        assert_eq!(Endpoint::try_from("inproc://here").unwrap(), endpoint);
        assert_eq!(text.into_endpoint().unwrap(), endpoint);
        assert_eq!(format!("{endpoint:?}"), "Endpoint(inproc://here)");
        let none: Option<Endpoint> = None;
        assert!(none.into_endpoint().unwrap_err().to_string().contains("not bound yet"));
    }

    fn name(g: &mut Gen, most: usize) -> String {
        let letters: Vec<char> = "abcXYZ019-_.é/@%:;*[] ".chars().collect();
        let length = 1 + usize::arbitrary(g) % most;
        (0..length).filter_map(|_| g.choose(&letters).copied()).collect()
    }

    fn host(g: &mut Gen, kinds: u8) -> Host {
        match u8::arbitrary(g) % kinds {
            0 => Host::V4(Ipv4Addr::arbitrary(g)),
            1 => Host::V6(Ipv6Addr::arbitrary(g), None),
            2 => Host::V6(Ipv6Addr::arbitrary(g), Some(format!("eth{}", u8::arbitrary(g)))),
            3 => Host::Any,
            4 => Host::Loopback,
            _ => Host::Name(format!("host-{}.example", u16::arbitrary(g))),
        }
    }

    impl Arbitrary for Endpoint {
        fn arbitrary(g: &mut Gen) -> Endpoint {
            let address = match u8::arbitrary(g) % 6 {
                0 => Address::Inproc(name(g, 100)),
                1 => Address::Ipc(IpcAddress::Path(format!("/{}", name(g, 50)))),
                2 => Address::Ipc(IpcAddress::Abstract(name(g, 50))),
                3 => Address::Ipc(IpcAddress::Temporary),
                _ => {
                    let source = bool::arbitrary(g).then(|| (host(g, 3), u16::arbitrary(g)));
                    Address::Tcp(TcpAddress { source, host: host(g, 6), port: u16::arbitrary(g) })
                }
            };
            Endpoint { address }
        }
    }

    #[test]
    fn printing_and_parsing_gives_the_same_endpoint() {
        fn holds(endpoint: Endpoint) -> bool {
            endpoint.to_string().parse() == Ok(endpoint)
        }
        quickcheck::quickcheck(holds as fn(Endpoint) -> bool);
    }

    #[test]
    fn parsing_never_panics_and_prints_what_it_took() {
        fn holds(prefix: u8, text: String) -> bool {
            let prefix = ["", "tcp://", "tcp://[", "ipc://", "inproc://", "tcp://1.1.1.1;"][usize::from(prefix % 6)];
            match format!("{prefix}{text}").parse::<Endpoint>() {
                Ok(endpoint) => endpoint.to_string().parse() == Ok(endpoint),
                Err(e) => !e.to_string().is_empty(),
            }
        }
        quickcheck::quickcheck(holds as fn(u8, String) -> bool);
    }
}
