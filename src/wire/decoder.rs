//! Traffic from a stranger: cuts runs of whole messages and commands off the read buffer.
//!
//! Every limit is checked here, on the header, before anything waits for or is paid for a body: what comes
//! out can be walked by `frame` without another check. The decoder allocates nothing and never looks at a
//! byte twice but for one frame header, however small the pieces are in which a message arrives. It knows
//! no pattern: what a message means is not its business.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::Version;
use super::command::{self, Command, SUBSCRIBE_OVERHEAD};
use super::frame::{Header, peek_header};
use crate::event::Reason;
use crate::options::Limits;

/// Charged for each frame of a message beyond its bytes, so that empty frames are not free. The first frame
/// has no charge: one frame of exactly `max_message` bytes is allowed.
const FRAME_CHARGE: u64 = 64;

/// What stands at the front of the read buffer.
#[derive(PartialEq, Eq)]
pub(crate) enum Item {
    /// A run of whole messages, as they stand on the wire.
    Messages {
        /// Their frames, one after the other.
        bytes: Bytes,
        /// How many messages.
        count: usize,
    },
    /// A command, already consumed.
    Command(Command),
}

impl fmt::Debug for Item {
    /// Sizes only: payloads do not leak into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Messages { bytes, count } => write!(f, "Messages({count} in {} bytes)", bytes.len()),
            Item::Command(command) => command.fmt(f),
        }
    }
}

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    commands: bool,
    durable: bool,
    partial: Partial,
    meaningless: usize,
    wanted: usize,
    blocked: bool,
    #[cfg(test)]
    steps: u64,
}

/// The whole frames of the message at the front whose last frame has not been passed yet.
#[derive(Debug, Default, Clone, Copy)]
struct Partial {
    len: usize,
    frames: usize,
    charge: u64,
}

enum Step {
    /// More bytes are needed; so many are known to be missing.
    Short(usize),
    /// A frame with MORE was passed.
    Frame,
    /// The last frame is there: the message has this length.
    Whole(usize),
    /// A command frame is there, with this header and body size.
    Command(Header, usize),
}

impl Decoder {
    pub(crate) fn new(limits: &Limits, version: Version) -> Decoder {
        Decoder {
            limits: limits.clone(),
            commands: version != Version::V2_0,
            durable: false,
            partial: Partial::default(),
            meaningless: 0,
            wanted: 0,
            blocked: false,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Both sides announced durable sockets: from now on their commands are read. They are unknown without it.
    pub(crate) fn expect_durable(&mut self) {
        self.durable = true;
    }

    /// Next thing at the front of `buf`: the longest run of whole messages (at most `max_messages`, ended
    /// softly by the message that reaches `max_bytes`), or a command.
    ///
    /// `None`: more bytes are needed, or messages are there and `max_messages` is 0 ([`Decoder::blocked`]).
    /// Between calls `buf` may only grow at its end. After an error the connection is to be closed.
    pub(crate) fn next(
        &mut self,
        buf: &mut BytesMut,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<Option<Item>, Reason> {
        self.wanted = 0;
        self.blocked = false;
        let (mut end, mut count) = (0_usize, 0_usize);
        if self.partial.frames == 0 {
            (end, count) = self.pass_plain(buf, max_messages, max_bytes);
        }
        while count == 0 || (count < max_messages && end < max_bytes) {
            let step = match self.step(buf.get(end..).unwrap_or_default()) {
                // What was whole before the violation is delivered; the next call meets it again.
                Err(_) if count > 0 => break,
                step => step?,
            };
            match step {
                Step::Frame => {}
                Step::Whole(_) if max_messages == 0 => {
                    self.blocked = true;
                    return Ok(None);
                }
                Step::Whole(len) => {
                    self.partial = Partial::default();
                    end = end.saturating_add(len);
                    count = count.saturating_add(1);
                }
                Step::Short(missing) => {
                    self.wanted = missing;
                    break;
                }
                Step::Command(..) if count > 0 => break,
                Step::Command(header, size) => return self.take_command(buf, header, size).map(Some),
            }
        }
        if count == 0 {
            return Ok(None);
        }
        self.meaningless = 0;
        Ok(Some(Item::Messages { bytes: buf.split_to(end).freeze(), count }))
    }

    /// Bytes of the announced but incomplete frame at the end that are still to come: a hint for the read
    /// buffer's next growth. It is the peer's word: never allocate more at once than it has sent whole before.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Whether the last `next` gave `None` because a whole message waits and `max_messages` was 0.
    #[cfg(test)]
    pub(crate) fn blocked(&self) -> bool {
        self.blocked
    }

    /// Passes messages of one short frame each, what most runs are made of: where they end, and how many.
    fn pass_plain(&self, bytes: &[u8], max_messages: usize, max_bytes: usize) -> (usize, usize) {
        let longest = self.limits.max_frame.min(self.limits.max_message);
        // A limit of no frame at all is a limit, too.
        let max_messages = if self.limits.max_frames_per_message == 0 { 0 } else { max_messages };
        let (mut end, mut count) = (0, 0);
        while count < max_messages && (count == 0 || end < max_bytes) {
            // No flag at all: the only frame of its message, with a short header.
            let Some(&[0, size, ref rest @ ..]) = bytes.get(end..) else { break };
            if rest.len() < usize::from(size) || u64::from(size) > longest {
                break;
            }
            end = end.saturating_add(2).saturating_add(usize::from(size));
            count = count.saturating_add(1);
        }
        (end, count)
    }

    /// Passes one frame of the message at the front of `bytes`.
    #[inline]
    fn step(&mut self, bytes: &[u8]) -> Result<Step, Reason> {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let rest = bytes.get(self.partial.len..).unwrap_or_default();
        let Some(header) = peek_header(rest) else { return Ok(Step::Short(0)) };
        if header.command() {
            return self.step_command(rest, header);
        }
        let (size, next) = self.admit(&header)?;
        let whole = header.len.saturating_add(size);
        match whole.checked_sub(rest.len()) {
            Some(missing) if missing > 0 => Ok(Step::Short(missing)),
            _ if header.more() => {
                self.partial = next;
                Ok(Step::Frame)
            }
            _ => Ok(Step::Whole(next.len)),
        }
    }

    /// Checks a message frame's header against every limit: its body's size, and the message with it.
    #[inline]
    fn admit(&self, header: &Header) -> Result<(usize, Partial), Reason> {
        let limits = &self.limits;
        if header.body > limits.max_frame {
            return Err(Reason::LimitExceeded { which: "max_frame", limit: limits.max_frame });
        }
        let frames = self.partial.frames.saturating_add(1);
        if frames > limits.max_frames_per_message {
            let limit = limits.max_frames_per_message as u64;
            return Err(Reason::LimitExceeded { which: "max_frames_per_message", limit });
        }
        let overhead = if self.partial.frames == 0 { 0 } else { FRAME_CHARGE };
        let charge = self.partial.charge.saturating_add(header.body).saturating_add(overhead);
        let over = || Reason::LimitExceeded { which: "max_message", limit: limits.max_message };
        if charge > limits.max_message {
            return Err(over());
        }
        let Ok(size) = usize::try_from(header.body) else { return Err(over()) };
        let len = self.partial.len.checked_add(header.len).and_then(|len| len.checked_add(size)).ok_or_else(over)?;
        Ok((size, Partial { len, frames, charge }))
    }

    fn step_command(&self, rest: &[u8], header: Header) -> Result<Step, Reason> {
        if !self.commands {
            return Err(Reason::Malformed("command frame from a ZMTP 2.0 peer"));
        }
        if self.partial.frames > 0 {
            return Err(Reason::Malformed("command between the frames of a message"));
        }
        let body = rest.get(header.len..).unwrap_or_default();
        let topic = self.limits.max_topic.saturating_add(SUBSCRIBE_OVERHEAD);
        let Some(size) = usize::try_from(header.body).ok().filter(|&size| size <= self.limits.max_command.max(topic))
        else {
            return self.refuse_command(header.body, body);
        };
        match size.checked_sub(body.len()) {
            Some(missing) if missing > 0 => Ok(Step::Short(missing)),
            _ => Ok(Step::Command(header, size)),
        }
    }

    /// A command beyond its limits. Which limit hangs on the name, so a few bytes of body are awaited,
    /// unless the size is beyond all reason.
    fn refuse_command(&self, size: u64, body: &[u8]) -> Result<Step, Reason> {
        if size > self.limits.max_frame {
            return Err(Reason::LimitExceeded { which: "max_frame", limit: self.limits.max_frame });
        }
        let Some(start) = body.get(..SUBSCRIBE_OVERHEAD) else {
            return Ok(Step::Short(SUBSCRIBE_OVERHEAD.saturating_sub(body.len())));
        };
        let (which, limit) = if command::is_subscription(start) {
            ("max_topic", self.limits.max_topic)
        } else {
            ("max_command", self.limits.max_command)
        };
        Err(Reason::LimitExceeded { which, limit: limit as u64 })
    }

    fn take_command(&mut self, buf: &mut BytesMut, header: Header, size: usize) -> Result<Item, Reason> {
        let end = header.len.saturating_add(size);
        let body = buf.get(header.len..end).unwrap_or_default();
        let command = command::parse(body, &self.limits, self.durable)?;
        buf.advance(end.min(buf.len()));
        if command != Command::Unknown {
            self.meaningless = 0;
            return Ok(Item::Command(command));
        }
        self.meaningless = self.meaningless.saturating_add(1);
        if self.meaningless > self.limits.max_meaningless_frames {
            let limit = self.limits.max_meaningless_frames as u64;
            return Err(Reason::LimitExceeded { which: "max_meaningless_frames", limit });
        }
        Ok(Item::Command(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::wire::command::{encode_ping, encode_subscribe};
    use crate::wire::frame::{encode_message, frames, take_message};
    use quickcheck::{Arbitrary, Gen, QuickCheck};

    fn small() -> Limits {
        Limits {
            max_frame: 1000,
            max_message: 1500,
            max_frames_per_message: 4,
            max_command: 50,
            max_topic: 60,
            max_meaningless_frames: 3,
            ..Limits::default()
        }
    }

    fn header(flags: u8, size: u64) -> Vec<u8> {
        [&[flags | 2][..], &size.to_be_bytes()].concat()
    }

    fn encoded(messages: &[Message]) -> Vec<u8> {
        let mut out = BytesMut::new();
        messages.iter().for_each(|message| encode_message(&mut out, message));
        out.to_vec()
    }

    /// Everything that `pieces` decode to, messages one by one, and how it ended.
    fn decode(limits: &Limits, pieces: &[&[u8]]) -> (Vec<Result<Message, Command>>, Option<Reason>) {
        let mut decoder = Decoder::new(limits, Version::V3_1);
        let (mut buf, mut seen) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            buf.extend_from_slice(piece);
            loop {
                match decoder.next(&mut buf, 1000, usize::MAX) {
                    Ok(None) => break,
                    Ok(Some(Item::Command(command))) => seen.push(Err(command)),
                    Ok(Some(Item::Messages { mut bytes, count })) => {
                        let messages: Vec<_> = std::iter::from_fn(|| take_message(&mut bytes)).map(Ok).collect();
                        assert_eq!((messages.len(), bytes.len()), (count, 0));
                        seen.extend(messages);
                    }
                    Err(reason) => return (seen, Some(reason)),
                }
            }
        }
        (seen, None)
    }

    fn ends_with(limits: &Limits, bytes: &[u8]) -> Option<Reason> {
        let (_, reason) = decode(limits, &[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(limits, &single).1, reason, "split independence");
        reason
    }

    fn over(which: &'static str, limit: u64) -> Option<Reason> {
        Some(Reason::LimitExceeded { which, limit })
    }

    #[test]
    fn a_run_ends_at_a_command_an_incomplete_message_and_the_maxima() {
        let three = [Message::from("one"), Message::from(("two", "2")), Message::from("three")];
        let mut bytes = encoded(&three);
        encode_into(&mut bytes, |out| encode_ping(out, 7, b"c"));
        bytes.extend(encoded(&[Message::from("four")]));
        bytes.extend(&[0, 5, b'f']);
        let mut buf = BytesMut::from(&bytes[..]);
        let mut decoder = Decoder::new(&Limits::default(), Version::V3_1);
        let mut next = |messages, size| match decoder.next(&mut buf, messages, size).unwrap() {
            Some(Item::Messages { count, .. }) => Some(count),
            Some(Item::Command(command)) => {
                assert_eq!(command, Command::Ping { ttl: 7, context: Bytes::from_static(b"c") });
                None
            }
            None => Some(0),
        };
        assert_eq!(next(1, usize::MAX), Some(1));
        assert_eq!(next(9, 3), Some(1), "softly: the message that reaches the size still counts");
        assert_eq!(next(9, 9), Some(1));
        assert_eq!(next(9, 9), None);
        assert_eq!(next(9, 99), Some(1));
        assert_eq!(next(9, 99), Some(0));
        assert_eq!((decoder.wanted(), decoder.blocked()), (4, false));
    }

    fn encode_into(bytes: &mut Vec<u8>, encode: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        encode(&mut out);
        bytes.extend(&out);
    }

    #[test]
    fn paused_means_a_whole_message_waits_and_commands_before_it_pass() {
        let mut bytes = Vec::new();
        encode_into(&mut bytes, |out| encode_subscribe(out, b"A", Version::V3_1));
        bytes.extend(encoded(&[Message::from(("a", "b"))]));
        let last = bytes.pop().unwrap();
        let mut buf = BytesMut::from(&bytes[..]);
        let mut decoder = Decoder::new(&Limits::default(), Version::V3_1);
        let command = Item::Command(Command::Subscribe(Bytes::from_static(b"A")));
        assert_eq!(decoder.next(&mut buf, 0, 0), Ok(Some(command)));
        assert_eq!(decoder.next(&mut buf, 0, 0), Ok(None));
        assert_eq!((decoder.blocked(), decoder.wanted()), (false, 1));
        buf.extend_from_slice(&[last]);
        for _ in 0..2 {
            assert_eq!(decoder.next(&mut buf, 0, 0), Ok(None));
            assert!(decoder.blocked());
        }
        assert!(matches!(decoder.next(&mut buf, 1, 0), Ok(Some(Item::Messages { count: 1, .. }))));
        assert!(!decoder.blocked() && buf.is_empty());
    }

    #[test]
    fn f01_sizes_are_refused_on_the_header() {
        let limits = Limits::default();
        let max = limits.max_frame;
        for size in [u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 40, max + 1] {
            for flags in [0, 1, 4, 5] {
                assert_eq!(ends_with(&limits, &header(flags, size)), over("max_frame", max), "{size} {flags}");
            }
        }
        assert_eq!(ends_with(&limits, &[&header(0, max)[..], &[0; 10]].concat()), None, "exactly the limit");
    }

    #[test]
    fn f03_f04_messages_are_limited_in_frames_and_size() {
        let limits = small();
        for frame in [&[1, 0][..], &[1, 1, 9]] {
            assert_eq!(ends_with(&limits, &frame.repeat(4)), None);
            let five = [&frame.repeat(4)[..], &[0, 0]].concat();
            assert_eq!(ends_with(&limits, &five), over("max_frames_per_message", 4));
        }
        let first = [&header(1, 900)[..], &[0; 900]].concat();
        assert_eq!(ends_with(&limits, &[&first[..], &header(0, 600 - 64)].concat()), None);
        assert_eq!(ends_with(&limits, &[&first[..], &header(0, 601 - 64)].concat()), over("max_message", 1500));
        assert_eq!(ends_with(&limits, &header(0, 1001)), over("max_frame", 1000));
    }

    #[test]
    fn f05_every_size_in_both_forms() {
        let sizes = [0, 1, 254, 255, 256, 257, 8191, 8192, 8193, 65535, 65536];
        let mut bytes = Vec::new();
        for size in sizes {
            let body = vec![size as u8; size];
            if let Ok(short) = u8::try_from(size) {
                bytes.extend([0, short]);
                bytes.extend(&body);
            }
            bytes.extend(header(0, size as u64));
            bytes.extend(&body);
        }
        for piece in [1, 7, 8192, usize::MAX] {
            let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
            let (seen, reason) = decode(&Limits::default(), &pieces);
            assert_eq!((seen.len(), reason), (sizes.len() + 4, None));
            assert_eq!(seen.iter().map(|m| m.as_ref().unwrap().size()).sum::<usize>(), {
                sizes.iter().sum::<usize>() + 1 + 254 + 255
            });
        }
    }

    #[test]
    fn f06_odd_flags_are_tolerated_and_can_be_walked_again() {
        let bytes = b"\xf9\x01a\xfa\0\0\0\0\0\0\0\x02bc\xf8\x01d\x05\x05\x04PONG\x0e\0\0\0\0\0\0\0\x05\x04PONG";
        let (seen, reason) = decode(&Limits::default(), &[bytes]);
        let pong = || Err(Command::Pong(Bytes::new()));
        assert_eq!(seen, [Ok(Message::from(("a", "bc"))), Ok(Message::from("d")), pong(), pong()]);
        assert_eq!(reason, None);
    }

    #[test]
    fn f07_frames_without_meaning_are_counted_in_a_row() {
        let limits = small();
        let empty = [4, 0];
        assert_eq!(ends_with(&limits, &empty.repeat(3)), None);
        assert_eq!(ends_with(&limits, &empty.repeat(4)), over("max_meaningless_frames", 3));
        for between in [&b"\x00\x00"[..], b"\x04\x05\x04PONG"] {
            assert_eq!(ends_with(&limits, &[&empty.repeat(3)[..], between, &empty.repeat(3)].concat()), None);
        }
        assert_eq!(
            ends_with(&limits, b"\x04\x02\x01X\x04\x01\xff\x04\x01\0\x04\x06\x05READY"),
            over("max_meaningless_frames", 3)
        );
    }

    #[test]
    fn a_command_inside_a_message_and_from_a_2_0_peer_is_malformed() {
        assert!(matches!(ends_with(&small(), b"\x01\x01a\x04\x05\x04PONG"), Some(Reason::Malformed(_))));
        let mut decoder = Decoder::new(&small(), Version::V2_0);
        let mut buf = BytesMut::from(&b"\x00\x01a\x04\x05\x04PONG"[..]);
        assert!(matches!(decoder.next(&mut buf, 9, 99), Ok(Some(Item::Messages { count: 1, .. }))));
        assert!(matches!(decoder.next(&mut buf, 9, 99), Err(Reason::Malformed(_))));
    }

    #[test]
    fn s01_the_exceeded_limit_of_a_command_is_named_by_its_name() {
        let limits = small();
        let command =
            |name: &[u8], size: u64| [&header(4, size)[..], &[name.len() as u8], name, &[b'x'; 9][..]].concat();
        let whole = |size: u64| [&command(b"SUBSCRIBE", size)[..], &vec![b'x'; size as usize - 19]].concat();
        assert_eq!(decode(&limits, &[&whole(70)]).0.len(), 1);
        assert_eq!(ends_with(&limits, &command(b"SUBSCRIBE", 71)), over("max_topic", 60));
        assert_eq!(ends_with(&limits, &command(b"CANCEL", 71)), over("max_topic", 60));
        assert_eq!(ends_with(&limits, &command(b"PING", 71)), over("max_command", 50));
        assert_eq!(ends_with(&limits, &command(b"PING", 71)[..19]), over("max_command", 50));
        assert_eq!(ends_with(&limits, &command(b"PING", 71)[..18]), None);
    }

    #[test]
    fn f08_short_pings_are_malformed() {
        for size in 5..7 {
            let ping = &b"\x04PING\0\0"[..size];
            let bytes = [&[4, size as u8][..], ping].concat();
            assert!(matches!(ends_with(&small(), &bytes), Some(Reason::Malformed(_))));
        }
    }

    #[test]
    fn what_was_whole_before_a_violation_is_delivered() {
        let bytes = [encoded(&[Message::from("good")]), header(0, u64::MAX)].concat();
        let (seen, reason) = decode(&small(), &[&bytes]);
        assert_eq!(seen, [Ok(Message::from("good"))]);
        assert_eq!(reason, over("max_frame", 1000));
    }

    #[test]
    fn a_message_in_pieces_is_scanned_once() {
        let frames = 4000;
        let bytes = [[1, 1, 9].repeat(frames - 1), vec![0, 1, 9]].concat();
        for max_messages in [0, 9] {
            let mut decoder = Decoder::new(&Limits::default(), Version::V3_1);
            let mut buf = BytesMut::new();
            for byte in &bytes {
                buf.extend_from_slice(&[*byte]);
                let _ = decoder.next(&mut buf, max_messages, 1 << 20).unwrap();
            }
            assert!(decoder.steps <= (bytes.len() + frames) as u64, "{} steps", decoder.steps);
        }
    }

    #[test]
    fn many_messages_are_scanned_once_whatever_the_maxima() {
        let count = 5000;
        for max_messages in [1, 7, 100_000] {
            let mut decoder = Decoder::new(&Limits::default(), Version::V3_1);
            let mut buf = BytesMut::from(&[0, 1, 9].repeat(count)[..]);
            let mut seen = 0;
            while let Some(Item::Messages { count, bytes }) = decoder.next(&mut buf, max_messages, 1 << 20).unwrap() {
                assert_eq!(frames(&bytes).count(), 1);
                seen += count;
            }
            assert_eq!(seen, count);
            assert!(decoder.steps <= 2 * count as u64 + 1);
        }
    }

    /// Traffic with a bias to valid frames, and where to cut it.
    #[derive(Debug, Clone)]
    struct Stream(Vec<u8>, Vec<usize>);

    impl Arbitrary for Stream {
        fn arbitrary(g: &mut Gen) -> Stream {
            let mut bytes = Vec::new();
            for _ in 0..usize::arbitrary(g) % 20 {
                let body = Vec::<u8>::arbitrary(g);
                match u8::arbitrary(g) % 12 {
                    0 => encode_into(&mut bytes, |out| encode_ping(out, 1, &body)),
                    1 => encode_into(&mut bytes, |out| encode_subscribe(out, &body, Version::V3_1)),
                    2 => bytes.extend(&body),
                    3 => bytes.extend(header(u8::arbitrary(g), u64::arbitrary(g) % 2000)),
                    kind => {
                        bytes.extend(header(kind & 1, body.len() as u64));
                        bytes.extend(&body);
                    }
                }
            }
            Stream(bytes, Vec::arbitrary(g))
        }
    }

    #[test]
    fn splits_never_change_what_is_decoded_and_nothing_panics() {
        fn property(Stream(bytes, cuts): Stream) -> bool {
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut % (rest.len() + 1));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let whole = decode(&small(), &[&bytes]);
            decode(&small(), &pieces) == whole && decode(&small(), &bytes.chunks(1).collect::<Vec<_>>()) == whole
        }
        QuickCheck::new().tests(2000).quickcheck(property as fn(Stream) -> bool);
    }

    /// Frames of every form at small limits. Where `odd`, each has a reserved flag, which says nothing but keeps it from
    /// being passed as plain.
    fn frames_at_limits(picks: &[(u8, u8)], odd: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(form, size) in picks {
            // Many plain ones, some with more to follow, few commands, in both forms.
            let flags = [0, 0, 0, 0, 1, 2, 3, 4][usize::from(form % 8)];
            let size = [0, 1, 2, 63, 64, 65, 254, 255][usize::from(size % 8)];
            let body = vec![size; usize::from(size)];
            if flags & 2 == 0 {
                bytes.extend([flags | odd, size]);
            } else {
                bytes.extend(header(flags | odd, u64::from(size)));
            }
            bytes.extend(body);
        }
        bytes
    }

    #[test]
    fn plain_messages_are_passed_like_all_others() {
        fn property(picks: Vec<(u8, u8)>, limits: (u8, u8, u8), maxima: (u8, u16), cut: usize) -> bool {
            let size = |pick: u8| [1, 2, 64, 254, 255, 320, 1000, 5000][usize::from(pick % 8)];
            let limits = Limits {
                max_frame: size(limits.0),
                max_message: size(limits.1),
                max_frames_per_message: usize::from(limits.2 % 4),
                ..small()
            };
            let read = |odd: u8| {
                let bytes = frames_at_limits(&picks, odd);
                let (front, back) = bytes.split_at(cut % (bytes.len() + 1));
                let mut decoder = Decoder::new(&limits, Version::V3_1);
                let (mut buf, mut steps) = (BytesMut::new(), Vec::new());
                for piece in [front, back] {
                    buf.extend_from_slice(piece);
                    loop {
                        let step = decoder.next(&mut buf, usize::from(maxima.0 % 8), usize::from(maxima.1));
                        let go_on = matches!(step, Ok(Some(_)));
                        let plain = step.map(|item| match item {
                            Some(Item::Messages { mut bytes, count }) => {
                                let messages: Vec<_> = std::iter::from_fn(|| take_message(&mut bytes)).collect();
                                (count, messages, None)
                            }
                            Some(Item::Command(command)) => (0, Vec::new(), Some(command)),
                            None => (0, Vec::new(), None),
                        });
                        steps.push((plain, decoder.wanted(), decoder.blocked(), buf.len()));
                        if !go_on {
                            break;
                        }
                    }
                }
                steps
            };
            read(0) == read(0x40)
        }
        let property = property as fn(Vec<(u8, u8)>, (u8, u8, u8), (u8, u16), usize) -> bool;
        QuickCheck::new().tests(2000).quickcheck(property);
    }

    #[test]
    fn random_bytes_never_panic_for_any_version_and_maxima() {
        fn property(bytes: Vec<u8>, messages: usize, size: usize) -> bool {
            for version in [Version::V2_0, Version::V3_0, Version::V3_1] {
                let mut decoder = Decoder::new(&small(), version);
                let mut buf = BytesMut::from(&bytes[..]);
                loop {
                    let before = buf.len();
                    match decoder.next(&mut buf, messages, size) {
                        Ok(Some(_)) => assert!(buf.len() < before, "progress"),
                        Ok(None) | Err(_) => break,
                    }
                }
            }
            true
        }
        QuickCheck::new().tests(1000).quickcheck(property as fn(Vec<u8>, usize, usize) -> bool);
    }
}
