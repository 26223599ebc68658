//! Just enough ZMTP for `ping`: shake hands as a client, send PING, read PONG.
//!
//! The library has no call for a connection that takes no part in the traffic, so this speaks by itself.
//! Every length that the peer announces is bounded before anything is kept.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A transport's stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why the peer is no partner.
#[derive(Debug)]
pub(crate) enum WireError {
    /// It ended the connection, asked for something else or sent ERROR.
    Refused(String),
    /// What it sends is not ZMTP 3.
    NotZmtp(String),
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(e: io::Error) -> WireError {
        match e.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                WireError::Refused("the peer closed the connection".to_owned())
            }
            _ => WireError::Io(e),
        }
    }
}

/// What the greeting says.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    pub(crate) major: u8,
    pub(crate) minor: u8,
    pub(crate) mechanism: String,
}

impl Greeting {
    /// ZMTP 3.0 has no PING.
    pub(crate) fn has_ping(&self) -> bool {
        (self.major, self.minor) >= (3, 1)
    }
}

/// More in one handshake command is no handshake.
const HANDSHAKE_MAX: u64 = 64 * 1024;
const COMMAND: u8 = 0x04;
const LONG: u8 = 0x02;

/// Exchanges greetings. All 64 bytes go at once, which every ZMTP 3 peer takes.
pub(crate) async fn greet(stream: &mut impl Stream, mechanism: &str) -> Result<Greeting, WireError> {
    let mut ours = [0; 64];
    ours[0] = 0xff;
    ours[9] = 0x7f;
    ours[10] = 3;
    ours[11] = 1;
    ours[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    stream.write_all(&ours).await?;
    let mut theirs = [0; 64];
    // What is not ZMTP may well be shorter than a greeting: judge the first bytes before waiting for the rest.
    stream.read_exact(&mut theirs[..1]).await?;
    if theirs[0] != 0xff {
        return Err(WireError::NotZmtp("the peer does not speak ZMTP 3".to_owned()));
    }
    stream.read_exact(&mut theirs[1..11]).await?;
    if theirs[9] & 1 == 0 || theirs[10] < 3 {
        return Err(WireError::NotZmtp("the peer does not speak ZMTP 3".to_owned()));
    }
    stream.read_exact(&mut theirs[11..]).await?;
    let name = theirs[12..32].split(|&b| b == 0).next().unwrap_or_default();
    let mechanism = name.escape_ascii().to_string();
    Ok(Greeting { major: theirs[10], minor: theirs[11], mechanism })
}

/// A command: name and data.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// The next command of a handshake; ERROR is a refusal.
pub(crate) async fn read_handshake(stream: &mut impl Stream) -> Result<Command, WireError> {
    let (_, size) = read_header(stream).await?;
    if size > HANDSHAKE_MAX {
        return Err(WireError::NotZmtp("a handshake command of more than 64 KiB".to_owned()));
    }
    let command = read_command(stream, size).await?;
    let command = command.ok_or_else(|| WireError::NotZmtp("a malformed handshake command".to_owned()))?;
    if command.name == b"ERROR" {
        let text = command.data.get(1..).unwrap_or_default().escape_ascii();
        return Err(WireError::Refused(format!("the peer says: {text}")));
    }
    Ok(command)
}

pub(crate) async fn send_command(stream: &mut impl Stream, name: &str, data: &[u8]) -> Result<(), WireError> {
    let body = 1 + name.len() + data.len();
    let mut bytes = match u8::try_from(body) {
        Ok(size) => vec![COMMAND, size],
        Err(_) => [&[COMMAND | LONG][..], &(body as u64).to_be_bytes()].concat(),
    };
    bytes.push(name.len() as u8);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(data);
    stream.write_all(&bytes).await?;
    Ok(())
}

/// READY or INITIATE metadata. Types that a ROUTER addresses announce an empty identity.
pub(crate) fn metadata(socket_type: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_property(&mut out, "Socket-Type", socket_type.as_bytes());
    if matches!(socket_type, "REQ" | "DEALER") {
        push_property(&mut out, "Identity", b"");
    }
    out
}

fn push_property(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// The `Socket-Type` in a READY.
pub(crate) fn socket_type(mut data: &[u8]) -> Option<String> {
    while let Some((length, rest)) = data.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        if name == b"Socket-Type" {
            return Some(value.escape_ascii().to_string());
        }
        data = rest;
    }
    None
}

/// One PING and its PONG. Whatever else arrives is read past.
pub(crate) async fn ping(stream: &mut impl Stream, context: [u8; 4]) -> Result<(), WireError> {
    send_command(stream, "PING", &[&[0, 0][..], &context].concat()).await?;
    loop {
        let (flags, size) = read_header(stream).await?;
        if flags & COMMAND == 0 || size > HANDSHAKE_MAX {
            let skipped = tokio::io::copy(&mut stream.take(size), &mut tokio::io::sink()).await?;
            if skipped < size {
                return Err(WireError::Refused("the peer closed the connection".to_owned()));
            }
            continue;
        }
        match read_command(stream, size).await? {
            Some(command) if command.name == b"PONG" && command.data == context => return Ok(()),
            _ => {}
        }
    }
}

async fn read_header(stream: &mut impl Stream) -> Result<(u8, u64), WireError> {
    let flags = stream.read_u8().await?;
    let size = if flags & LONG == 0 { u64::from(stream.read_u8().await?) } else { stream.read_u64().await? };
    Ok((flags, size))
}

/// The body of a command of `size` bytes, which the caller has bounded; `None` when it has no name.
async fn read_command(stream: &mut impl Stream, size: u64) -> Result<Option<Command>, WireError> {
    let mut body = vec![0; usize::try_from(size).unwrap_or_default()];
    stream.read_exact(&mut body).await?;
    let parts = body.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    Ok(parts.map(|(name, data)| Command { name: name.to_vec(), data: data.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trip() {
        assert_eq!(socket_type(&metadata("REQ")), Some("REQ".to_owned()));
        let mut data = Vec::new();
        push_property(&mut data, "X-a", b"b");
        data.extend(metadata("PULL"));
        assert_eq!(socket_type(&data), Some("PULL".to_owned()));
        for cut in 0..data.len() {
            let _ = socket_type(&data[..cut]);
        }
        assert_eq!(socket_type(b"\xff"), None);
    }
}
