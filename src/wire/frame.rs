//! ZMTP v2 framing of trusted bytes: our own messages, and wire bytes that `decoder` has checked.
//!
//! This is the hot path: straight lines, no limits, no errors. Bytes from strangers go through `decoder`
//! first; even so nothing here panics, it answers `None`. Reserved flag bits are ignored and the long form
//! is read for any size (libzmq does so too); what is written is canonical (RFC 37, section "Framing").

use bytes::{Buf, BufMut, Bytes};

use crate::message::{Frame, Message};

/// Another frame of the same message follows.
pub(crate) const MORE: u8 = 1;
/// The size has eight bytes instead of one.
pub(crate) const LONG: u8 = 2;
/// The frame is a command.
pub(crate) const COMMAND: u8 = 4;
/// The longest frame header: flags and eight bytes of size.
pub(crate) const MAX_HEADER: usize = 9;
/// The longest body that has the short form.
const SHORT: usize = 255;
const SHORT_HEADER: usize = 2;

/// Bytes that `message` takes on the wire.
#[inline]
pub(crate) fn encoded_len(message: &Message) -> usize {
    message.iter().map(|frame| header_len(frame.len()).saturating_add(frame.len())).fold(0, usize::saturating_add)
}

/// Appends header and body of every frame.
#[inline(always)]
pub(crate) fn encode_message(out: &mut impl BufMut, message: &Message) {
    if let [only] = &**message {
        return encode_frame(out, 0, only);
    }
    encode_many(out, message);
}

/// Appends a message that [`Message::short`] gave the room of; returns the bytes it takes. A copy of fixed length is a
/// few moves, one of variable length a call: what stands behind the body is cut off again.
#[inline(always)]
pub(crate) fn encode_short(out: &mut Vec<u8>, room: &[u8], len: usize) -> usize {
    let whole = len.saturating_add(SHORT_HEADER);
    let end = out.len().saturating_add(whole);
    out.extend_from_slice(&[0, len as u8]);
    out.extend_from_slice(room);
    out.truncate(end);
    whole
}

fn encode_many(out: &mut impl BufMut, message: &Message) {
    if let Some((last, others)) = message.split_last() {
        for frame in others {
            encode_frame(out, MORE, frame);
        }
        encode_frame(out, 0, last);
    }
}

/// Appends header and body of one frame.
#[inline]
pub(crate) fn encode_frame(out: &mut impl BufMut, flags: u8, body: &[u8]) {
    encode_header(out, flags, body.len());
    out.put_slice(body);
}

/// Appends one frame header (short form iff body <= 255).
#[inline]
pub(crate) fn encode_header(out: &mut impl BufMut, flags: u8, body: usize) {
    match u8::try_from(body) {
        Ok(size) => out.put_slice(&[flags, size]),
        Err(_) => {
            let [a, b, c, d, e, f, g, h] = (body as u64).to_be_bytes();
            out.put_slice(&[flags | LONG, a, b, c, d, e, f, g, h]);
        }
    }
}

#[inline]
fn header_len(body: usize) -> usize {
    if body <= SHORT { SHORT_HEADER } else { MAX_HEADER }
}

/// One frame header as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// All eight bits; only [`MORE`], [`LONG`] and [`COMMAND`] mean anything.
    pub(crate) flags: u8,
    /// Bytes of the header itself: 2 or 9.
    pub(crate) len: usize,
    /// Bytes of the body, as announced.
    pub(crate) body: u64,
}

impl Header {
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    #[inline]
    pub(crate) fn command(&self) -> bool {
        self.flags & COMMAND != 0
    }
}

/// The header at the front of `bytes`; `None` if it is cut short.
#[inline]
pub(crate) fn peek_header(bytes: &[u8]) -> Option<Header> {
    let (&flags, rest) = bytes.split_first()?;
    if flags & LONG == 0 {
        return Some(Header { flags, len: SHORT_HEADER, body: u64::from(*rest.first()?) });
    }
    let size = rest.first_chunk::<8>()?;
    Some(Header { flags, len: MAX_HEADER, body: u64::from_be_bytes(*size) })
}

/// Flags, body and what follows of the first frame; `None` if it is cut short.
#[inline]
fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let header = peek_header(bytes)?;
    let rest = bytes.get(header.len..)?;
    let (body, rest) = rest.split_at_checked(usize::try_from(header.body).ok()?)?;
    Some((header.flags, body, rest))
}

/// Length of the first whole message in `bytes` (all frames through the one without MORE); `None` if it is
/// cut short.
#[inline]
pub(crate) fn message_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let (flags, _, after) = split_frame(rest)?;
        rest = after;
        if flags & MORE == 0 {
            return bytes.len().checked_sub(rest.len());
        }
    }
}

/// Where the body of the first message stands, if it is whole and of one frame.
#[inline(always)]
pub(crate) fn single_body(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let header = peek_header(bytes)?;
    let end = header.len.checked_add(usize::try_from(header.body).ok()?)?;
    (!header.more() && end <= bytes.len()).then_some(header.len..end)
}

/// Takes the first message out of validated wire bytes, advancing the buffer: short frames inline, long
/// ones as slices of it. `None` if the bytes hold no whole message; then they stay.
#[inline]
pub(crate) fn take_message(bytes: &mut Bytes) -> Option<Message> {
    let (flags, body, rest) = split_frame(bytes)?;
    if flags & MORE != 0 {
        return take_many(bytes);
    }
    let (size, after) = (body.len(), rest.len());
    bytes.advance(bytes.len().saturating_sub(after).saturating_sub(size));
    Some(Message::single(cut(bytes, size)))
}

fn take_many(bytes: &mut Bytes) -> Option<Message> {
    // Whole or nothing: measure before cutting.
    let whole = message_len(bytes)?;
    let mut frames = Vec::with_capacity(self::frames(bytes).count());
    let mut at = 0_usize;
    while at < whole {
        let header = peek_header(bytes.get(at..)?)?;
        let start = at.checked_add(header.len)?;
        let end = start.checked_add(usize::try_from(header.body).ok()?)?;
        frames.push(Frame::slice_of(bytes, start..end));
        at = end;
    }
    bytes.advance(whole);
    Message::from_vec(frames)
}

/// Takes `size` bytes as a frame. The caller has measured that they are there.
#[inline]
fn cut(bytes: &mut Bytes, size: usize) -> Frame {
    if size == bytes.len() {
        // The end of a batch takes the buffer over instead of sharing it once more.
        return Frame::from(std::mem::take(bytes));
    }
    let frame = Frame::slice_of(bytes, 0..size);
    bytes.advance(size);
    frame
}

/// The frames of the first message in `bytes`; stops after its last one.
#[inline]
pub(crate) fn frames(bytes: &[u8]) -> Frames<'_> {
    Frames { rest: bytes, done: false }
}

/// Borrowed walk over the bodies of one message's frames.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
    done: bool,
}

#[cfg(test)]
impl<'a> Frames<'a> {
    /// What follows the frames walked so far; after the last one, the next message.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.done {
            return None;
        }
        let (flags, body, rest) = split_frame(self.rest)?;
        self.rest = rest;
        self.done = flags & MORE == 0;
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use quickcheck::{QuickCheck, TestResult};

    fn encoded(message: &Message) -> BytesMut {
        let mut out = BytesMut::new();
        encode_message(&mut out, message);
        assert_eq!(out.len(), encoded_len(message));
        out
    }

    fn of(sizes: &[usize]) -> Message {
        Message::from_frames(sizes.iter().map(|&n| vec![n as u8; n])).unwrap()
    }

    /// protocol dump: a message of three frames "a", "", 300 times 'x'.
    #[test]
    fn multipart_matches_the_recorded_bytes() {
        let mut want = b"\x01\x01a\x01\x00\x02\x00\x00\x00\x00\x00\x00\x01\x2c".to_vec();
        want.extend([b'x'; 300]);
        let message = Message::from(("a", "", vec![b'x'; 300]));
        assert_eq!(encoded(&message), want);
        assert_eq!(encoded(&Message::from("Hello")), b"\x00\x05Hello"[..]);
        assert_eq!(encoded(&Message::from("")), b"\x00\x00"[..]);
    }

    #[test]
    fn the_short_form_ends_at_255() {
        for (size, header) in [(0, 2), (1, 2), (254, 2), (255, 2), (256, 9), (257, 9), (65536, 9)] {
            let out = encoded(&of(&[size]));
            assert_eq!(out.len(), header + size);
            assert_eq!(out[0], if header == 2 { 0 } else { LONG });
        }
    }

    #[test]
    fn a_buffer_of_the_encoded_length_does_not_grow() {
        for message in [of(&[0]), of(&[64]), of(&[300]), of(&[1, 300, 2])] {
            let mut out = BytesMut::with_capacity(encoded_len(&message));
            let before = (out.as_ptr(), out.capacity());
            encode_message(&mut out, &message);
            assert_eq!((out.as_ptr(), out.capacity()), before);
        }
    }

    #[test]
    fn every_shape_comes_back_and_the_next_one_follows() {
        let shapes: [&[usize]; 9] =
            [&[0], &[1], &[62], &[63], &[64], &[255, 256], &[0, 0, 0], &[70_000], &[1, 300, 62, 63, 0]];
        let mut all = BytesMut::new();
        for sizes in shapes {
            encode_message(&mut all, &of(sizes));
        }
        let mut bytes = all.freeze();
        for sizes in shapes {
            let len = message_len(&bytes).unwrap();
            assert_eq!(len, encoded_len(&of(sizes)));
            let mut walk = frames(&bytes);
            let bodies: Vec<usize> = walk.by_ref().map(<[u8]>::len).collect();
            assert_eq!(bodies, sizes);
            assert_eq!(walk.rest().len(), bytes.len() - len);
            assert_eq!(take_message(&mut bytes), Some(of(sizes)));
        }
        assert!(bytes.is_empty());
        assert_eq!(take_message(&mut bytes), None);
    }

    #[test]
    fn a_cut_message_is_none_and_stays() {
        let whole = encoded(&of(&[3, 300, 2])).freeze();
        for end in 0..whole.len() {
            let mut part = whole.slice(..end);
            assert_eq!(message_len(&part), None);
            assert_eq!(take_message(&mut part), None);
            assert_eq!(part.len(), end);
        }
    }

    #[test]
    fn reserved_bits_and_long_forms_are_read() {
        let mut bytes = Bytes::from_static(b"\xf9\x01a\xfa\x00\x00\x00\x00\x00\x00\x00\x02bc\x00\x00");
        assert_eq!(message_len(&bytes), Some(14));
        assert_eq!(take_message(&mut bytes), Some(Message::from(("a", "bc"))));
        assert_eq!(take_message(&mut bytes), Some(Message::from("")));
    }

    #[test]
    fn huge_sizes_are_just_cut_short() {
        let bytes = [LONG, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3];
        assert_eq!(message_len(&bytes), None);
        assert_eq!(take_message(&mut Bytes::copy_from_slice(&bytes)), None);
        assert_eq!(frames(&bytes).count(), 0);
    }

    #[test]
    fn the_last_message_of_a_batch_takes_the_buffer_over() {
        let mut bytes = encoded(&of(&[1000])).freeze();
        let message = take_message(&mut bytes).unwrap();
        drop(bytes);
        assert!(message[0].shared().unwrap().is_unique());
    }

    #[test]
    fn round_trip() {
        fn property(parts: Vec<Vec<u8>>) -> TestResult {
            let Some(message) = Message::from_frames(parts) else { return TestResult::discard() };
            let mut bytes = encoded(&message).freeze();
            let bodies: Vec<Vec<u8>> = frames(&bytes).map(<[u8]>::to_vec).collect();
            assert_eq!(Message::from_frames(bodies).unwrap(), message);
            TestResult::from_bool(take_message(&mut bytes) == Some(message) && bytes.is_empty())
        }
        QuickCheck::new().quickcheck(property as fn(Vec<Vec<u8>>) -> TestResult);
    }

    #[test]
    fn random_bytes_never_panic() {
        fn property(bytes: Vec<u8>) -> bool {
            let len = message_len(&bytes);
            let count = frames(&bytes).count();
            let mut buffer = Bytes::from(bytes);
            let before = buffer.len();
            let message = take_message(&mut buffer);
            len == message.as_ref().map(|_| before - buffer.len()) && message.is_none_or(|m| m.len() == count)
        }
        QuickCheck::new().tests(1000).quickcheck(property as fn(Vec<u8>) -> bool);
    }
}
