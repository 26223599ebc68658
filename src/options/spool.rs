//! The options of durable sockets: [`SpoolOptions`] of the side that keeps, [`HolderOptions`] of the side that
//! holds a name.
//!
//! Plain values, like all of `options`. What each does on disk is in `store`, what it does to a delivery in `durable`.

use std::path::PathBuf;
use std::time::Duration;

use crate::message::{Frame, Token};

/// When a send on a spool is accepted, and so what survives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sync {
    /// After write and sync of its batch: a power cut loses nothing accepted.
    #[default]
    Batch,
    /// After the write; synced so often, or every 16 MiB, whichever comes first. A power cut loses at most what was
    /// accepted since; a killed process loses nothing.
    Every(Duration),
    /// After the write; never synced but at the end of a segment's use. A killed process loses nothing.
    Never,
}

/// What a spool does when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// `send` waits for space.
    #[default]
    Block,
    /// `send` fails at once with `Full`, and the message.
    Reject,
    /// The oldest segment goes; names that had not read it lose what was in it, counted and reported.
    DropOldest,
    /// The name that pins the oldest segment is evicted, reported.
    DropName,
}

/// When a delivery counts as done, and is never sent to this name again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ack {
    /// When the application asks for the next message, or closes.
    #[default]
    OnNext,
    /// When the application says so: [`Delivery::ack`](crate::Delivery::ack).
    Manual,
    /// When it is handed out. Fastest; a crash of the application may lose one.
    OnReceive,
}

/// A durable name that exists before anyone connects with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) prefixes: Vec<Frame>,
}

/// Options of a spool. Sizes in bytes; 0 is off where a limit can be off.
#[derive(Debug, Clone)]
pub(crate) struct SpoolOptions {
    pub(crate) dir: PathBuf,
    pub(crate) sync: Sync,
    pub(crate) when_full: WhenFull,
    pub(crate) max_bytes: u64,
    /// None: a sixteenth of `max_bytes`, 1 MiB to 64 MiB.
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_messages: u64,
    /// None: 5 % of the disk, at least 256 MiB.
    pub(crate) min_free_disk: Option<u64>,
    pub(crate) max_record: u64,
    pub(crate) max_lag_bytes: u64,
    pub(crate) max_lag_age: Option<Duration>,
    pub(crate) max_names: usize,
    /// Zero: a name never expires.
    pub(crate) name_expiry: Duration,
    pub(crate) batch_delay: Duration,
    /// Keeps what nobody wants, too, and keeps it until a limit is reached: for recordings.
    pub(crate) append_all: bool,
    pub(crate) allow_network_fs: bool,
    pub(crate) require_auth: bool,
    pub(crate) declared: Vec<Declared>,
    /// Deliveries of one record before it goes to the dead letters; 0 is off.
    pub(crate) max_tries: u32,
    pub(crate) stall_after: Duration,
    pub(crate) max_delayed: usize,
    /// PUSH: peers without the extension get records too, done when the operating system took them.
    pub(crate) plain_pull: bool,
    /// PUSH: what a worker had in hand waits for one of the same name.
    pub(crate) pin: bool,
}

impl SpoolOptions {
    pub(crate) fn new(dir: PathBuf) -> SpoolOptions {
        SpoolOptions {
            dir,
            sync: Sync::Batch,
            when_full: WhenFull::Block,
            max_bytes: 1 << 30,
            segment_bytes: None,
            max_age: None,
            max_messages: 0,
            min_free_disk: None,
            max_record: 64 << 20,
            max_lag_bytes: 0,
            max_lag_age: None,
            max_names: 1000,
            name_expiry: Duration::from_secs(7 * 24 * 3600),
            batch_delay: Duration::ZERO,
            append_all: false,
            allow_network_fs: false,
            require_auth: false,
            declared: Vec::new(),
            max_tries: 0,
            stall_after: Duration::from_secs(30),
            max_delayed: 1_000_000,
            plain_pull: false,
            pin: false,
        }
    }

    /// The size at which a segment is full.
    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_bytes.unwrap_or((self.max_bytes / 16).clamp(1 << 20, 64 << 20))
    }
}

/// Options of the holder of a durable name.
#[derive(Debug, Clone)]
pub(crate) struct HolderOptions {
    pub(crate) name: String,
    pub(crate) ack: Ack,
    /// A name that is new to the spool starts at its oldest record instead of now.
    pub(crate) from_oldest: bool,
    pub(crate) take_over: bool,
    pub(crate) require_durable: bool,
    pub(crate) cursor_file: Option<PathBuf>,
    pub(crate) resume: Vec<Token>,
    /// Asked of the spool; None leaves it to the spool.
    pub(crate) name_expiry: Option<Duration>,
}

impl HolderOptions {
    pub(crate) fn new(name: String) -> HolderOptions {
        HolderOptions {
            name,
            ack: Ack::OnNext,
            from_oldest: false,
            take_over: false,
            require_durable: false,
            cursor_file: None,
            resume: Vec::new(),
            name_expiry: None,
        }
    }
}

/// Whether `name` can be a durable name: 1 to 64 bytes of printable ASCII without space.
pub(crate) fn is_durable_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}
