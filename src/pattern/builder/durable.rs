//! Setters of durable sockets: the spool of PUB and PUSH, the durable name of SUB and PULL.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::Builder;
use crate::error::OptionError;
use crate::message::{Frame, Token};
use crate::options::SocketType;
use crate::options::spool::{Ack, Declared, HolderOptions, SpoolOptions, Sync, WhenFull, is_durable_name};
use crate::pattern::publish::Pub;
use crate::pattern::pull::Pull;
use crate::pattern::push::Push;
use crate::pattern::subscribe::Sub;

macro_rules! spool_setters {
    ($($(#[$doc:meta])* $name:ident($field:ident: $type:ty) $(=> $convert:expr)?;)*) => {
        spool_setters!(@type Pub { $($(#[$doc])* $name($field: $type) $(=> $convert)?;)* });
        spool_setters!(@type Push { $($(#[$doc])* $name($field: $type) $(=> $convert)?;)* });
    };
    (@type $socket:ident { $($(#[$doc:meta])* $name:ident($field:ident: $type:ty) $(=> $convert:expr)?;)* }) => {
        impl<M> Builder<$socket, M> {
            /// Keeps what is sent in this directory until it was delivered and acknowledged: see the page
            /// [`durable_sockets`](crate::durable_sockets). The directory is made if it is missing, with access for this user
            /// only; one socket at a time uses it. Opened by `build`, `bind` or `connect`, which recover it if needed.
            pub fn spool(mut self, dir: impl Into<PathBuf>) -> Self {
                self.spool_mut().dir = dir.into();
                self
            }

            $($(#[$doc])*
            pub fn $name(mut self, value: $type) -> Self {
                self.spool_mut().$field = spool_setters!(@value value $(, $convert)?);
                self
            })*
        }
    };
    (@value $value:ident) => { $value };
    (@value $value:ident, $convert:expr) => { ($convert)($value) };
}

spool_setters! {
    /// When a send is accepted, and so what survives a power cut. Default [`Sync::Batch`]: nothing accepted is lost.
    /// [`Sync::Every`] wants some time.
    sync(sync: Sync);
    /// What a full spool does. Default [`WhenFull::Block`].
    when_full(when_full: WhenFull);
    /// Bytes on disk at most, prepared files included. Default 1 GiB; at least 4 MiB. One larger record is always taken.
    spool_max_bytes(max_bytes: u64);
    /// Bytes of one segment file, the unit in which space comes back: 4 KiB to 1 GiB, and at most a quarter of
    /// `spool_max_bytes`. Default a sixteenth of it, between 1 and 64 MiB.
    segment_bytes(segment_bytes: u64) => Some;
    /// Records older than this go, read or not (then reported as `Lost`). Default off.
    spool_max_age(max_age: impl Into<Option<Duration>>) => |value: _| Into::into(value);
    /// Records at most; 0 (the default) is off.
    spool_max_messages(max_messages: u64);
    /// Bytes to leave free on the disk; below, the spool is full. Default 5 % of the disk, at least 256 MiB.
    min_free_disk(min_free_disk: u64) => Some;
    /// Bytes of one record at most; larger messages fail with `TooLarge`. Default 64 MiB.
    max_record(max_record: u64);
    /// Bytes that one name may lag behind; the oldest beyond are lost to it, reported. 0 (the default) is off.
    max_lag_bytes(max_lag_bytes: u64);
    /// Time that one name may lag behind. Default off.
    max_lag_age(max_lag_age: impl Into<Option<Duration>>) => |value: _| Into::into(value);
    /// Durable names at most, declared ones included. Default 1,000; at least 1.
    max_names(max_names: usize);
    /// A name without a connection for so long is dropped, reported. Default 7 days; zero is never.
    name_expiry(name_expiry: Duration);
    /// How long the writer may wait for more before it writes. Default zero; at most 2 ms.
    batch_delay(batch_delay: Duration);
    /// Keeps records that nobody wants, too, and keeps all of them until a limit is reached: for recordings. Default false.
    append_all(append_all: bool);
    /// Opens directories on network file systems, whose locks and syncs cannot be relied on. Default false.
    allow_network_fs(allow_network_fs: bool);
    /// Refuses durable names to peers that did not authenticate. Default false.
    require_auth(require_auth: bool);
    /// Deliveries of one record before it goes to the dead letters; 0 (the default) is off.
    max_tries(max_tries: u32);
    /// A holder whose window stays closed for so long is reported (`NameStalled`). Default 30 s.
    stall_after(stall_after: Duration);
    /// Messages at most that wait for their time. Default 1,000,000.
    max_delayed(max_delayed: usize);
}

impl<M> Builder<Pub, M> {
    /// Makes a durable name before anyone connects with it: from now on what matches these prefixes is kept for it.
    /// Declared again, its set is replaced. No prefix is everything.
    pub fn declare<P: AsRef<[u8]>>(mut self, name: impl Into<String>, prefixes: impl IntoIterator<Item = P>) -> Self {
        let mut prefixes: Vec<Frame> =
            prefixes.into_iter().map(|prefix| Frame::copy_from_slice(prefix.as_ref())).collect();
        if prefixes.is_empty() {
            prefixes.push(Frame::EMPTY);
        }
        self.spool_mut().declared.push(Declared { name: name.into(), prefixes });
        self
    }
}

impl<M> Builder<Push, M> {
    /// Serves peers that cannot acknowledge, too: a record counts as done when the operating system took its bytes,
    /// so what was in its buffers can be lost. Default false: such peers get nothing, and records wait.
    pub fn plain_pull(mut self, value: bool) -> Self {
        self.spool_mut().plain_pull = value;
        self
    }

    /// Keeps what a worker had in hand when it left for one of the same durable name, of which there may be one at a
    /// time; until it returns nobody gets those records. Default false: they go to the next worker.
    pub fn pin(mut self, value: bool) -> Self {
        self.spool_mut().pin = value;
        self
    }
}

macro_rules! holder_setters {
    ($($(#[$doc:meta])* $name:ident($field:ident: $type:ty) $(=> $convert:expr)?;)*) => {
        holder_setters!(@type Sub { $($(#[$doc])* $name($field: $type) $(=> $convert)?;)* });
        holder_setters!(@type Pull { $($(#[$doc])* $name($field: $type) $(=> $convert)?;)* });
    };
    (@type $socket:ident { $($(#[$doc:meta])* $name:ident($field:ident: $type:ty) $(=> $convert:expr)?;)* }) => {
        impl<M> Builder<$socket, M> {
            /// Holds this durable name: what is sent while this socket is away is delivered when it returns. 1 to 64
            /// bytes of printable ASCII without space. On a PULL the name only labels the worker in statistics.
            pub fn durable(mut self, name: impl Into<String>) -> Self {
                self.holder_mut().name = name.into();
                self
            }

            /// What earlier runs finished, one token for each spool: those records are not delivered again. A SUB has
            /// finished everything up to its token; the token of a PULL stands for one record, since those before it may
            /// have gone to others: there, give all that are kept.
            pub fn resume_from(mut self, tokens: impl IntoIterator<Item = Token>) -> Self {
                self.holder_mut().resume.extend(tokens);
                self
            }

            $($(#[$doc])*
            pub fn $name(mut self, value: $type) -> Self {
                self.holder_mut().$field = holder_setters!(@value value $(, $convert)?);
                self
            })*
        }
    };
    (@value $value:ident) => { $value };
    (@value $value:ident, $convert:expr) => { ($convert)($value) };
}

holder_setters! {
    /// When a delivery is done. Default [`Ack::OnNext`].
    ack(ack: Ack);
    /// A name that is new to the spool starts at its oldest record. Default false: at what is sent from now on.
    from_oldest(from_oldest: bool);
    /// Takes the name from another connection that holds it. Default false: it is refused while that one lives.
    take_over(take_over: bool);
    /// Refuses peers that have no spool. Default false: they are served as plain ones, with an event.
    require_durable(require_durable: bool);
    /// Keeps what is done in this file, so that a restart of this process repeats only what it had not saved yet.
    cursor_file(cursor_file: impl Into<PathBuf>) => |value: _| Some(Into::into(value));
    /// Asks the spool to drop the name after so long without a connection (zero: never). Default: the spool's.
    holder_expiry(name_expiry: Duration) => Some;
}

impl<S, M> Builder<S, M> {
    pub(in crate::pattern) fn spool_mut(&mut self) -> &mut SpoolOptions {
        self.options_mut().spool.get_or_insert_with(|| SpoolOptions::new(PathBuf::new()))
    }

    pub(in crate::pattern) fn holder_mut(&mut self) -> &mut HolderOptions {
        self.options_mut().holder.get_or_insert_with(|| HolderOptions::new(String::new()))
    }

    /// What durability does not go with, and what is out of range.
    pub(super) fn check_durable(&self, kind: SocketType) -> Result<(), OptionError> {
        let fail = |name: &str, why: &str| Err(OptionError::new(name, why));
        let options = &self.options;
        if options.conflate && (options.spool.is_some() || options.holder.is_some()) {
            return fail("conflate", "not on a durable socket: it would throw records away");
        }
        if let Some(spool) = &options.spool {
            if !matches!(kind, SocketType::Pub | SocketType::Push) {
                return fail("spool", "only for PUB and PUSH");
            }
            if options.welcome.is_some() {
                return fail("welcome", "not with a spool: everything a peer gets comes out of it");
            }
            if options.invert_matching {
                return fail("invert_matching", "not with a spool");
            }
            check_spool(spool)?;
        }
        if let Some(holder) = &options.holder {
            if !matches!(kind, SocketType::Sub | SocketType::Pull) {
                return fail("durable", "only for SUB and PULL");
            }
            if !is_durable_name(&holder.name) {
                return fail("durable", "a name of 1 to 64 bytes of printable ASCII without space");
            }
        }
        Ok(())
    }
}

fn check_spool(spool: &SpoolOptions) -> Result<(), OptionError> {
    let fail = |name: &str, why: &str| Err(OptionError::new(name, why));
    if spool.dir.as_os_str().is_empty() {
        return fail("spool", "options of a spool without its directory; name one with spool(dir)");
    }
    if spool.max_bytes < 4 << 20 {
        return fail("spool_max_bytes", "at least 4 MiB");
    }
    if spool.segment_bytes.is_some_and(|size| !(4 << 10..=1 << 30).contains(&size)) {
        return fail("segment_bytes", "4 KiB to 1 GiB");
    }
    // Else the limit would be broken by the first files.
    if spool.segment_bytes.is_some_and(|size| size > spool.max_bytes / 4) {
        return fail("segment_bytes", "at most a quarter of spool_max_bytes");
    }
    if spool.batch_delay > Duration::from_millis(2) {
        return fail("batch_delay", "at most 2 ms");
    }
    if spool.max_record == 0 || spool.max_record > u64::from(u32::MAX / 2) {
        return fail("max_record", "1 byte to 2 GiB");
    }
    if spool.sync == Sync::Every(Duration::ZERO) {
        return fail("sync", "Every wants more than no time; to sync every batch there is Sync::Batch");
    }
    if spool.max_names == 0 {
        return fail("max_names", "at least 1");
    }
    check_declared(spool)
}

fn check_declared(spool: &SpoolOptions) -> Result<(), OptionError> {
    let fail = |why: &str| Err(OptionError::new("declare", why));
    if !spool.declared.iter().all(|declared| is_durable_name(&declared.name)) {
        return fail("a name of 1 to 64 bytes of printable ASCII without space");
    }
    let names: BTreeSet<&str> = spool.declared.iter().map(|declared| &*declared.name).collect();
    if names.len() > spool.max_names {
        return fail(&format!("{} names are more than max_names, which is {}", names.len(), spool.max_names));
    }
    Ok(())
}
