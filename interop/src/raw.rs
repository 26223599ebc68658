//! A peer written out in bytes, for what no program at hand does or shows: ZMTP 3.0, and every frame that arrives.

use std::time::Duration;

use ginnel::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cases::{Fault, Outcome, check, same, within};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// One connection, whose handshake is done (NULL).
pub struct RawPeer {
    stream: TcpStream,
    /// The body of the READY that came, its name included.
    pub ready: Vec<u8>,
}

impl RawPeer {
    /// Connects to a bound socket of ours as ZMTP 3.`minor`.
    pub async fn connect(
        endpoint: Option<Endpoint>,
        minor: u8,
        kind: &str,
        others: &[(&str, &str)],
    ) -> Result<RawPeer, Fault> {
        let text = endpoint.ok_or("not bound")?.to_string();
        let address = text.strip_prefix("tcp://").ok_or("not tcp")?;
        RawPeer::greet(TcpStream::connect(address).await?, minor, kind, others).await
    }

    /// Accepts a connection of ours as ZMTP 3.`minor`.
    pub async fn accept(
        listener: &TcpListener,
        minor: u8,
        kind: &str,
        others: &[(&str, &str)],
    ) -> Result<RawPeer, Fault> {
        let (stream, _) = within("a connection", listener.accept()).await?;
        RawPeer::greet(stream, minor, kind, others).await
    }

    async fn greet(mut stream: TcpStream, minor: u8, kind: &str, others: &[(&str, &str)]) -> Result<RawPeer, Fault> {
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[11] = minor;
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).await?;
        within("a greeting", stream.read_exact(&mut greeting)).await?;
        same("their version", &greeting[10..12], &[3, 1])?;
        let mut ready = b"\x05READY".to_vec();
        for (name, value) in [("Socket-Type", kind)].iter().chain(others) {
            ready.push(u8::try_from(name.len())?);
            ready.extend_from_slice(name.as_bytes());
            ready.extend_from_slice(&u32::try_from(value.len())?.to_be_bytes());
            ready.extend_from_slice(value.as_bytes());
        }
        stream.write_all(&[COMMAND, u8::try_from(ready.len())?]).await?;
        stream.write_all(&ready).await?;
        let mut peer = RawPeer { stream, ready: Vec::new() };
        let (flags, body) = peer.recv().await?;
        check(flags == COMMAND && body.starts_with(b"\x05READY"), format!("not a READY: {flags} {body:?}"))?;
        peer.ready = body;
        Ok(peer)
    }

    /// The value of a property of their READY.
    pub fn property(&self, name: &str) -> Option<Vec<u8>> {
        let mut rest = self.ready.strip_prefix(b"\x05READY")?;
        while let Some((&len, after)) = rest.split_first() {
            let (found, after) = after.split_at_checked(usize::from(len))?;
            let (len, after) = after.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
            if found.eq_ignore_ascii_case(name.as_bytes()) {
                return Some(value.to_vec());
            }
            rest = after;
        }
        None
    }

    /// One frame of up to 255 bytes: its flags and its body.
    pub async fn recv(&mut self) -> Result<(u8, Vec<u8>), Fault> {
        let mut head = [0; 2];
        within("a frame", self.stream.read_exact(&mut head)).await?;
        check(head[0] & LONG == 0, "a long frame")?;
        let mut body = vec![0; usize::from(head[1])];
        within("a body", self.stream.read_exact(&mut body)).await?;
        Ok((head[0], body))
    }

    /// One message of a single frame; a command is an error.
    pub async fn recv_message(&mut self) -> Result<Vec<u8>, Fault> {
        let (flags, body) = self.recv().await?;
        check(flags & (COMMAND | MORE) == 0, format!("flags {flags}, {}", body.escape_ascii()))?;
        Ok(body)
    }

    /// Not a byte arrives for `millis` milliseconds, and the connection stays.
    pub async fn silent(&mut self, millis: u64) -> Outcome {
        let mut byte = [0];
        match tokio::time::timeout(Duration::from_millis(millis), self.stream.read(&mut byte)).await {
            Err(_) => Ok(()),
            Ok(Ok(0)) => Err("they closed".into()),
            Ok(read) => Err(format!("{read:?} bytes arrived: {byte:?}").into()),
        }
    }

    /// Sends a message of one frame.
    pub async fn send(&mut self, body: &[u8]) -> Outcome {
        self.write(&[&[0, u8::try_from(body.len())?][..], body].concat()).await
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> Outcome {
        Ok(self.stream.write_all(bytes).await?)
    }
}
