//! Metadata of READY and INITIATE: property lists, read within limits and written (RFC 37, "Metadata").
//!
//! Names are compared without case (libzmq compares with case; this is a superset). A list is taken whole
//! or refused: zero-length names, bytes outside the grammar, duplicates, cut values and trailing bytes are
//! all `Malformed`. What the values mean is decided in `mechanism`.

use bytes::{Bytes, BytesMut};

use crate::event::Reason;
use crate::message::Frame;
use crate::options::{Limits, SocketType};

const SOCKET_TYPE: &str = "Socket-Type";
const IDENTITY: &str = "Identity";

/// The properties of one peer, not yet judged.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) socket_type: Option<Bytes>,
    pub(crate) identity: Option<Bytes>,
    /// All others in their order, names as sent.
    pub(crate) others: Vec<(String, Bytes)>,
}

impl Metadata {
    /// Reads `data` to its end.
    pub(crate) fn parse(data: &[u8], limits: &Limits) -> Result<Metadata, Reason> {
        if data.len() > limits.max_metadata {
            return Err(Reason::LimitExceeded { which: "max_metadata", limit: limits.max_metadata as u64 });
        }
        let mut metadata = Metadata::default();
        let mut rest = data;
        let mut count = 0_usize;
        while !rest.is_empty() {
            count = count.saturating_add(1);
            if count > limits.max_properties {
                return Err(Reason::LimitExceeded { which: "max_properties", limit: limits.max_properties as u64 });
            }
            let (name, value, after) = property(rest)?;
            metadata.insert(name, Bytes::copy_from_slice(value))?;
            rest = after;
        }
        Ok(metadata)
    }

    fn insert(&mut self, name: &str, value: Bytes) -> Result<(), Reason> {
        let place = if name.eq_ignore_ascii_case(SOCKET_TYPE) {
            &mut self.socket_type
        } else if name.eq_ignore_ascii_case(IDENTITY) {
            &mut self.identity
        } else {
            if self.others.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(Reason::Malformed("metadata property given twice"));
            }
            self.others.push((name.to_owned(), value));
            return Ok(());
        };
        match place.replace(value) {
            Some(_) => Err(Reason::Malformed("metadata property given twice")),
            None => Ok(()),
        }
    }
}

/// Name and value of the first property, and what follows.
fn property(bytes: &[u8]) -> Result<(&str, &[u8], &[u8]), Reason> {
    let (&name_len, rest) = bytes.split_first().ok_or(Reason::Malformed("metadata property cut short"))?;
    let (name, rest) =
        rest.split_at_checked(usize::from(name_len)).ok_or(Reason::Malformed("metadata name cut short"))?;
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && name.bytes().all(is_name_byte))
        .ok_or(Reason::Malformed("metadata name outside the grammar"))?;
    let (value_len, rest) = rest.split_first_chunk::<4>().ok_or(Reason::Malformed("metadata value cut short"))?;
    let (value, rest) = usize::try_from(u32::from_be_bytes(*value_len))
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or(Reason::Malformed("metadata value cut short"))?;
    Ok((name, value, rest))
}

/// RFC 37: name-char = ALPHA | DIGIT | "-" | "_" | "." | "+".
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+')
}

/// Our own properties: the type always, the identity (even an empty one) only from types that announce it.
pub(crate) fn encode(socket_type: SocketType, identity: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode_property(&mut out, SOCKET_TYPE, socket_type.name().as_bytes());
    if socket_type.announces_identity() {
        encode_property(&mut out, IDENTITY, identity);
    }
    out
}

fn encode_property(out: &mut BytesMut, name: &str, value: &[u8]) {
    // Our names are short and our values at most 255 bytes.
    out.extend_from_slice(&[name.len() as u8]);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}
