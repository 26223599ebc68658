//! A peer made of bytes: [`Raw`] speaks just enough ZMTP 3.1 to be let in, and then does what a test wants.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One connection after its handshake.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    input: BytesMut,
}

/// The 64 bytes of a greeting with NULL.
pub(crate) fn greeting() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[0] = 0xFF;
    bytes[9] = 0x7F;
    bytes[10] = 3;
    bytes[11] = 1;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// A READY command with these properties.
pub(crate) fn ready(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in properties {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
    }
    let mut frame = vec![0x04, body.len() as u8];
    frame.extend_from_slice(&body);
    frame
}

/// A message as bytes.
pub(crate) fn encode(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let more = u8::from(index + 1 < frames.len());
        if frame.len() < 256 {
            bytes.extend_from_slice(&[more, frame.len() as u8]);
        } else {
            bytes.push(more | 2);
            bytes.extend_from_slice(&(frame.len() as u64).to_be_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}

impl Raw {
    /// Accepts one connection and introduces itself as a socket of this type.
    pub(crate) async fn accept(listener: &TcpListener, kind: &str) -> Raw {
        let (stream, _) = listener.accept().await.expect("accept");
        Raw::introduce(stream, &[("Socket-Type", kind.as_bytes())]).await
    }

    /// Connects to `tcp://…` and introduces itself as a socket of this type.
    pub(crate) async fn connect(endpoint: &str, kind: &str) -> Raw {
        let address = endpoint.strip_prefix("tcp://").expect("a tcp endpoint");
        let stream = TcpStream::connect(address).await.expect("connect");
        Raw::introduce(stream, &[("Socket-Type", kind.as_bytes())]).await
    }

    pub(crate) async fn introduce(stream: TcpStream, properties: &[(&str, &[u8])]) -> Raw {
        let mut raw = Raw { stream, input: BytesMut::new() };
        raw.write(&greeting()).await;
        raw.write(&ready(properties)).await;
        raw.fill(64).await.expect("a greeting");
        raw.input.advance(64);
        let (flags, body) = raw.frame().await.expect("READY");
        assert!(flags & 4 != 0 && body.starts_with(b"\x05READY"), "READY, not {body:?}");
        raw
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
    }

    pub(crate) async fn send(&mut self, frames: &[&[u8]]) {
        self.write(&encode(frames)).await;
    }

    /// Reads until so many bytes are there. None: the peer has closed.
    async fn fill(&mut self, bytes: usize) -> Option<()> {
        while self.input.len() < bytes {
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
        Some(())
    }

    /// Reads so many bytes of traffic and forgets them. None: the peer has closed.
    pub(crate) async fn swallow(&mut self, bytes: usize) -> Option<()> {
        self.fill(bytes).await?;
        self.input.advance(bytes);
        Some(())
    }

    /// The next frame's flags and body. None: the peer has closed.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        self.fill(2).await?;
        let flags = self.input[0];
        let (header, length) = if flags & 2 != 0 {
            self.fill(9).await?;
            (9, u64::from_be_bytes(self.input[1..9].try_into().expect("eight bytes")) as usize)
        } else {
            (2, self.input[1] as usize)
        };
        self.fill(header + length).await?;
        self.input.advance(header);
        Some((flags, self.input.split_to(length).to_vec()))
    }

    /// The next message, commands skipped. None: the peer has closed.
    pub(crate) async fn message(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.frame().await?;
            if flags & 4 != 0 {
                continue;
            }
            frames.push(body);
            if flags & 1 == 0 {
                return Some(frames);
            }
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    }
}
