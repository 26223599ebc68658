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

/// Our own properties: the type always, the identity (even an empty one) only from types that announce it, then
/// `others`.
pub(crate) fn encode(socket_type: SocketType, identity: &Frame, others: &[(String, Vec<u8>)]) -> BytesMut {
    let mut out = BytesMut::new();
    encode_property(&mut out, SOCKET_TYPE, socket_type.name().as_bytes());
    if socket_type.announces_identity() {
        encode_property(&mut out, IDENTITY, identity);
    }
    for (name, value) in others {
        encode_property(&mut out, name, value);
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

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    fn list(properties: &[(&str, &[u8])]) -> BytesMut {
        let mut out = BytesMut::new();
        for (name, value) in properties {
            encode_property(&mut out, name, value);
        }
        out
    }

    fn read(data: &[u8]) -> Result<Metadata, Reason> {
        Metadata::parse(data, &Limits::default())
    }

    fn malformed(data: &[u8]) -> bool {
        matches!(read(data), Err(Reason::Malformed(_)))
    }

    #[test]
    fn ours_match_the_recorded_bytes() {
        let me = Frame::from("me");
        assert_eq!(encode(SocketType::Push, &me, &[]), b"\x0bSocket-Type\0\0\0\x04PUSH"[..]);
        assert_eq!(
            encode(SocketType::Dealer, &me, &[]),
            b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me"[..]
        );
        assert_eq!(
            encode(SocketType::Dealer, &Frame::EMPTY, &[]),
            b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"[..]
        );
    }

    #[test]
    fn names_are_compared_without_case() {
        let metadata = read(&list(&[("SOCKET-TYPE", b"PULL"), ("iDENTITY", b"x"), ("X-Key", b"v")])).unwrap();
        assert_eq!(metadata.socket_type.as_deref(), Some(&b"PULL"[..]));
        assert_eq!(metadata.identity.as_deref(), Some(&b"x"[..]));
        assert_eq!(metadata.others, [("X-Key".to_owned(), Bytes::from_static(b"v"))]);
        assert_eq!(read(b""), Ok(Metadata::default()));
    }

    #[test]
    fn m01_every_truncation_is_malformed() {
        let whole = list(&[("Socket-Type", b"DEALER"), ("Identity", b"me")]);
        let first = list(&[("Socket-Type", b"DEALER")]).len();
        for end in 1..whole.len() {
            assert_eq!(malformed(&whole[..end]), end != first, "{end}");
        }
        assert!(malformed(&[&whole[..], b"x"].concat()));
    }

    #[test]
    fn m02_lengths_beyond_the_rest_are_malformed() {
        for len in [0xffff_ffff_u32, 0x8000_0000, 5] {
            assert!(malformed(&[&b"\x01a"[..], &len.to_be_bytes(), b"four"].concat()), "{len}");
        }
        assert!(malformed(b"\x05abcd"));
    }

    #[test]
    fn m03_bad_names_and_duplicates_are_malformed() {
        for name in ["", "a b", "a\0", "é", "a:b", "a\u{1b}"] {
            assert!(malformed(&list(&[(name, b"")])), "{name:?}");
        }
        assert!(read(&list(&[("a-Z_0.9+", b"")])).is_ok());
        for (one, two) in [("Socket-Type", "socket-type"), ("Identity", "Identity"), ("X-a", "x-A")] {
            assert!(malformed(&list(&[(one, b"1"), ("between", b""), (two, b"2")])), "{one}");
        }
    }

    #[test]
    fn m04_size_and_count_are_limited() {
        let limits = Limits::default();
        let filler = |size: usize| list(&[("a", &vec![0; size - 6])]);
        assert!(read(&filler(limits.max_metadata)).is_ok());
        let over = Reason::LimitExceeded { which: "max_metadata", limit: limits.max_metadata as u64 };
        assert_eq!(read(&filler(limits.max_metadata + 1)), Err(over));
        let many = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            list(&names.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>())
        };
        assert!(read(&many(64)).is_ok());
        assert_eq!(read(&many(65)), Err(Reason::LimitExceeded { which: "max_properties", limit: 64 }));
    }

    #[test]
    fn random_lists_never_panic_and_come_back() {
        fn property(data: Vec<u8>, values: Vec<Vec<u8>>) -> bool {
            let _ = read(&data);
            let names: Vec<String> = (0..values.len()).map(|n| format!("n{n}")).collect();
            let pairs: Vec<(&str, &[u8])> =
                names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            let limits = Limits { max_properties: 1000, max_metadata: 1 << 20, ..Limits::default() };
            let metadata = Metadata::parse(&list(&pairs), &limits).unwrap();
            metadata.others.iter().map(|(name, value)| (name.as_str(), &value[..])).eq(pairs)
        }
        QuickCheck::new().quickcheck(property as fn(Vec<u8>, Vec<Vec<u8>>) -> bool);
    }
}
