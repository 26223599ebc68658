//! What travels: [`Message`], made of [`Frame`]s, and the [`Receipt`] of an accepted send.
//!
//! Plain values. They may use `bytes` and nothing else of the house; they do no IO, hold no lock and
//! know no wire format. Read `queue` next to see where they wait.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// Bytes up to this length live inside the [`Frame`] itself; longer ones share a refcounted buffer.
const INLINE: usize = 64;

/// Aligned like the registers that move it: a message is moved a few times on its way, and a load that spans
/// two stores would wait for both (measured at 64 bytes: a third of a send).
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Short([u8; INLINE]);

/// One part of a [`Message`]: a run of bytes, cheap to clone.
///
/// Short frames are held inline, longer ones as refcounted [`Bytes`]. A frame may be empty.
#[derive(Clone)]
pub struct Frame(Repr);

/// The tag is as wide as a register for the same reason: behind a narrow one everything moves unaligned.
#[derive(Clone)]
#[repr(u64)]
enum Repr {
    Inline { len: usize, bytes: Short },
    Shared(Bytes),
}

impl Frame {
    /// A frame without bytes.
    pub const EMPTY: Frame = Frame(Repr::Inline { len: 0, bytes: Short([0; INLINE]) });

    /// Copies `bytes` into a new frame.
    #[inline]
    pub fn copy_from_slice(bytes: &[u8]) -> Frame {
        if bytes.len() > INLINE {
            return Frame(Repr::Shared(Bytes::copy_from_slice(bytes)));
        }
        // A copy of fixed length is a few moves, one of variable length a call.
        let short = match bytes.first_chunk::<INLINE>() {
            Some(whole) => *whole,
            None => {
                let mut padded = [0; INLINE];
                padded[..bytes.len()].copy_from_slice(bytes);
                padded
            }
        };
        Frame(Repr::Inline { len: bytes.len(), bytes: Short(short) })
    }

    /// Cuts `range` out of `buffer`: inline when short, else a refcounted slice.
    #[inline(always)]
    pub(crate) fn slice_of(buffer: &Bytes, range: std::ops::Range<usize>) -> Frame {
        let len = range.len();
        // Fixed length again: what comes along behind the frame is never shown.
        match buffer.get(range.start..).and_then(|slack| slack.first_chunk::<INLINE>()) {
            Some(bytes) if len <= INLINE => Frame(Repr::Inline { len, bytes: Short(*bytes) }),
            _ => Frame::slice_apart(buffer, range),
        }
    }

    #[inline(never)]
    fn slice_apart(buffer: &Bytes, range: std::ops::Range<usize>) -> Frame {
        if range.len() > INLINE {
            return Frame(Repr::Shared(buffer.slice(range)));
        }
        Frame::copy_from_slice(&buffer[range])
    }

    /// The frame's bytes as text, if they are valid UTF-8.
    ///
    /// # Errors
    /// [`std::str::Utf8Error`] when they are not; the frame is unchanged.
    pub fn to_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(self)
    }

    /// The frame as [`Bytes`]; copies only when it is held inline.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Inline { len, bytes } => Bytes::copy_from_slice(&bytes.0[..len]),
            Repr::Shared(bytes) => bytes,
        }
    }

    /// A frame that pins no receive buffer: a short slice of a large buffer is copied out.
    ///
    /// A received frame may be a slice of the 256 KiB chunk it arrived in and keeps that chunk alive.
    /// Call this on frames that you keep for long.
    pub fn into_owned(self) -> Frame {
        match self.0 {
            Repr::Shared(bytes) if bytes.len() < 1024 => Frame(Repr::Shared(Bytes::copy_from_slice(&bytes))),
            repr => Frame(repr),
        }
    }

    /// The shared buffer behind this frame, if it is not held inline.
    #[inline]
    pub(crate) fn shared(&self) -> Option<&Bytes> {
        match &self.0 {
            Repr::Inline { .. } => None,
            Repr::Shared(bytes) => Some(bytes),
        }
    }
}

impl Default for Frame {
    fn default() -> Frame {
        Frame::EMPTY
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes.0[..*len],
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        **self == **other
    }
}

impl Eq for Frame {}

impl std::hash::Hash for Frame {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq<[u8]> for Frame {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Frame {
    fn eq(&self, other: &&str) -> bool {
        **self == *other.as_bytes()
    }
}

impl fmt::Debug for Frame {
    /// Length only: payloads do not leak into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

impl From<Bytes> for Frame {
    #[inline]
    fn from(bytes: Bytes) -> Frame {
        if bytes.len() <= INLINE { Frame::copy_from_slice(&bytes) } else { Frame(Repr::Shared(bytes)) }
    }
}

impl From<Vec<u8>> for Frame {
    #[inline]
    fn from(bytes: Vec<u8>) -> Frame {
        if bytes.len() <= INLINE { Frame::copy_from_slice(&bytes) } else { Frame(Repr::Shared(Bytes::from(bytes))) }
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Frame {
        Frame::from(text.into_bytes())
    }
}

impl From<&str> for Frame {
    #[inline]
    fn from(text: &str) -> Frame {
        Frame::copy_from_slice(text.as_bytes())
    }
}

impl From<&[u8]> for Frame {
    #[inline]
    fn from(bytes: &[u8]) -> Frame {
        Frame::copy_from_slice(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Frame {
    #[inline]
    fn from(bytes: [u8; N]) -> Frame {
        Frame::copy_from_slice(&bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Frame {
    #[inline]
    fn from(bytes: &[u8; N]) -> Frame {
        Frame::copy_from_slice(bytes)
    }
}

/// One or more [`Frame`]s that travel as a whole: delivered together or not at all.
///
/// A message has at least one frame (which may be empty). It derefs to a slice of frames.
///
/// ```
/// use ginnel::Message;
/// let message = Message::from(("weather.ch", "12C"));
/// let [topic, body] = message.try_into().expect("two frames");
/// assert_eq!(topic.to_str(), Ok("weather.ch"));
/// assert_eq!(body, "12C");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message(Parts);

#[derive(Clone)]
enum Parts {
    One(Frame),
    Many(Vec<Frame>),
}

impl Message {
    /// A message of these frames, or `None` when there is none: an empty message cannot exist.
    pub fn from_frames<F: Into<Frame>>(frames: impl IntoIterator<Item = F>) -> Option<Message> {
        let mut frames = frames.into_iter().map(Into::into);
        let first = frames.next()?;
        let Some(second) = frames.next() else { return Some(Message(Parts::One(first))) };
        let mut many = vec![first, second];
        many.extend(frames);
        Some(Message(Parts::Many(many)))
    }

    /// A message of these frames; `None` when there is none.
    pub(crate) fn from_vec(mut frames: Vec<Frame>) -> Option<Message> {
        if frames.len() > 1 { Some(Message(Parts::Many(frames))) } else { frames.pop().map(Message::single) }
    }

    /// A message of one frame.
    #[inline]
    pub(crate) fn single(frame: Frame) -> Message {
        Message(Parts::One(frame))
    }

    /// The only frame, if there is one only and it is held inline: its room, whose first so many bytes count.
    #[inline(always)]
    pub(crate) fn short(&self) -> Option<(&[u8; INLINE], usize)> {
        match &self.0 {
            Parts::One(Frame(Repr::Inline { len, bytes })) => Some((&bytes.0, *len)),
            _ => None,
        }
    }

    /// The frames, by value.
    pub fn into_frames(self) -> Vec<Frame> {
        match self.0 {
            Parts::One(frame) => vec![frame],
            Parts::Many(frames) => frames,
        }
    }

    /// All frames joined into one buffer; a single long frame is not copied.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Parts::One(frame) => frame.into_bytes(),
            Parts::Many(frames) => frames.iter().flat_map(|frame| frame.iter().copied()).collect(),
        }
    }

    /// The message with every frame as [`Frame::into_owned`] gives it.
    pub fn into_owned(self) -> Message {
        match self.0 {
            Parts::One(frame) => Message(Parts::One(frame.into_owned())),
            Parts::Many(frames) => Message(Parts::Many(frames.into_iter().map(Frame::into_owned).collect())),
        }
    }

    /// Bytes in all frames together, without framing.
    #[inline]
    pub fn size(&self) -> usize {
        self.iter().map(|frame| frame.len()).sum()
    }

    /// The same message with these frames in front.
    pub(crate) fn prepend<const N: usize>(self, front: [Frame; N]) -> Message {
        let mut frames = Vec::with_capacity(N + self.len());
        frames.extend(front);
        match self.0 {
            Parts::One(frame) => frames.push(frame),
            Parts::Many(rest) => frames.extend(rest),
        }
        Message(Parts::Many(frames))
    }

    /// The message without its first `count` frames; `None` if nothing would be left.
    pub(crate) fn without_first(self, count: usize) -> Option<Message> {
        match self.0 {
            Parts::One(frame) => (count == 0).then_some(Message(Parts::One(frame))),
            Parts::Many(mut frames) if frames.len() > count => {
                frames.drain(..count);
                Message::from_vec(frames)
            }
            Parts::Many(_) => None,
        }
    }
}

impl Deref for Message {
    type Target = [Frame];

    #[inline]
    fn deref(&self) -> &[Frame] {
        match &self.0 {
            Parts::One(frame) => std::slice::from_ref(frame),
            Parts::Many(frames) => frames,
        }
    }
}

impl PartialEq for Parts {
    fn eq(&self, other: &Parts) -> bool {
        self.frames() == other.frames()
    }
}

impl Eq for Parts {}

impl std::hash::Hash for Parts {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.frames().hash(state);
    }
}

impl Parts {
    fn frames(&self) -> &[Frame] {
        match self {
            Parts::One(frame) => std::slice::from_ref(frame),
            Parts::Many(frames) => frames,
        }
    }
}

impl fmt::Debug for Message {
    /// Frame lengths only: payloads do not leak into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Message {
    type Item = &'a Frame;
    type IntoIter = std::slice::Iter<'a, Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Message {
    type Item = Frame;
    type IntoIter = std::vec::IntoIter<Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_frames().into_iter()
    }
}

impl From<Frame> for Message {
    #[inline]
    fn from(frame: Frame) -> Message {
        Message::single(frame)
    }
}

macro_rules! message_from_one {
    ($($from:ty),*) => {$(
        impl From<$from> for Message {
            #[inline]
            fn from(value: $from) -> Message {
                Message::single(Frame::from(value))
            }
        }
    )*};
}

message_from_one!(&str, String, Vec<u8>, Bytes, &[u8]);

impl<const N: usize> From<[u8; N]> for Message {
    #[inline]
    fn from(bytes: [u8; N]) -> Message {
        Message::single(Frame::from(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    #[inline]
    fn from(bytes: &[u8; N]) -> Message {
        Message::single(Frame::from(bytes))
    }
}

macro_rules! message_from_tuple {
    ($(($($name:ident),+)),*) => {$(
        impl<$($name: Into<Frame>),+> From<($($name,)+)> for Message {
            #[allow(non_snake_case)]
            fn from(($($name,)+): ($($name,)+)) -> Message {
                Message(Parts::Many(vec![$($name.into()),+]))
            }
        }
    )*};
}

message_from_tuple!((A, B), (A, B, C), (A, B, C, D), (A, B, C, D, E), (A, B, C, D, E, F));

/// An array whose items are frames becomes a message of that many frames.
///
/// `[u8; N]` is one frame of bytes, so the items here are the types that are frames by themselves.
macro_rules! message_from_array {
    ($($item:ty),*) => {$(
        impl<const N: usize> TryFrom<[$item; N]> for Message {
            type Error = NoFrames;

            fn try_from(frames: [$item; N]) -> Result<Message, NoFrames> {
                Message::from_frames(frames).ok_or(NoFrames)
            }
        }
    )*};
}

message_from_array!(&str, String, Vec<u8>, Bytes, Frame);

impl TryFrom<Vec<Frame>> for Message {
    type Error = NoFrames;

    fn try_from(frames: Vec<Frame>) -> Result<Message, NoFrames> {
        Message::from_vec(frames).ok_or(NoFrames)
    }
}

impl<const N: usize> TryFrom<Message> for [Frame; N] {
    type Error = Message;

    /// The frames of a message that has exactly `N`; else the message comes back.
    fn try_from(message: Message) -> Result<[Frame; N], Message> {
        if message.len() != N {
            return Err(message);
        }
        message.into_frames().try_into().map_err(|frames| Message(Parts::Many(frames)))
    }
}

/// A message needs at least one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFrames;

impl fmt::Display for NoFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message needs at least one frame; use an empty frame for an empty message")
    }
}

impl std::error::Error for NoFrames {}

/// Proof that a message was accepted by the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]

pub struct Receipt {
    sequence: Option<u64>,
    delayed: bool,
}

impl Receipt {
    pub(crate) const ACCEPTED: Receipt = Receipt { sequence: None, delayed: false };

    pub(crate) fn numbered(sequence: u64) -> Receipt {
        Receipt { sequence: Some(sequence), delayed: false }
    }

    pub(crate) fn delayed(sequence: u64) -> Receipt {
        Receipt { sequence: Some(sequence), delayed: true }
    }

    /// Whether it stands for a message that waits for its time; its number is one of the delayed ones, then.
    pub fn is_delayed(&self) -> bool {
        self.delayed
    }

    /// The record's number in the spool; `None` without a spool.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }
}

/// Which spool a number belongs to: random, made with the directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpoolId(pub(crate) [u8; 16]);

impl SpoolId {
    /// Stands for "none seen yet" on the wire.
    pub(crate) const NONE: SpoolId = SpoolId([0; 16]);

    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> SpoolId {
        SpoolId(bytes)
    }

    /// Its 16 bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for SpoolId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for SpoolId {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<SpoolId, NoToken> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoToken);
        }
        u128::from_str_radix(text, 16).map(|number| SpoolId(number.to_be_bytes())).map_err(|_| NoToken)
    }
}

/// Where a receiver is in one spool: stored with the receiver's own data, and given back at the next start, each
/// record's effect happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The spool.
    pub spool: SpoolId,
    /// The record. For a SUB it stands for this one and all before it, for a PULL for this one alone.
    pub sequence: u64,
}

impl fmt::Display for Token {
    /// `spool:sequence`, as [`FromStr`](std::str::FromStr) reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.spool, self.sequence)
    }
}

impl std::str::FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Token, NoToken> {
        let (spool, sequence) = text.split_once(':').ok_or(NoToken)?;
        Ok(Token { spool: spool.parse()?, sequence: sequence.parse().map_err(|_| NoToken)? })
    }
}

/// The text is no [`SpoolId`] or [`Token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoToken;

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a token: 32 hexadecimal digits, a colon and a number")
    }
}

impl std::error::Error for NoToken {}
