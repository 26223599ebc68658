//! From flags, or keys of `drive`, to the builder's calls for a spool or a durable name.
//!
//! Everything that is received under a durable name is acknowledged by hand here (`Ack::Manual`): only this command
//! knows when a line is with the operating system or a program has ended.

use std::path::PathBuf;
use std::time::Duration;

use ginnel::{Ack, Builder, Pub, Pull, Push, Sub, Sync, Token, WhenFull};

use crate::args::{AckArg, DeclareArgs, FromArg, HolderArgs, SpoolArgs, SpoolLimitArgs, WhenFullArg};
use crate::exit::Failure;

/// What was said about a spool; the rest keeps the library's default.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpoolSettings {
    pub(crate) dir: PathBuf,
    pub(crate) sync: Option<Sync>,
    pub(crate) when_full: Option<WhenFull>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_messages: Option<u64>,
    pub(crate) min_free_disk: Option<u64>,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) max_lag_bytes: Option<u64>,
    pub(crate) max_lag_age: Option<Duration>,
    pub(crate) name_expiry: Option<Duration>,
    pub(crate) max_tries: Option<u32>,
    pub(crate) batch_delay: Option<Duration>,
    pub(crate) append_all: bool,
    /// PUB only.
    pub(crate) declared: Vec<(String, Vec<Vec<u8>>)>,
    /// PUSH only.
    pub(crate) plain_pull: Option<bool>,
}

/// Library options by name that concern the spool.
const SPOOL_OPTIONS: [&str; 18] = [
    "spool_max_bytes",
    "segment_bytes",
    "spool_max_age",
    "spool_max_messages",
    "min_free_disk",
    "max_record",
    "max_lag_bytes",
    "max_lag_age",
    "max_names",
    "name_expiry",
    "batch_delay",
    "sync",
    "when_full",
    "allow_network_fs",
    "require_auth",
    "max_tries",
    "stall_after",
    "max_delayed",
];

pub(crate) fn is_spool_option(name: &str) -> bool {
    SPOOL_OPTIONS.contains(&name)
}

impl SpoolSettings {
    /// None without `--spool`.
    pub(crate) fn from_args(args: &SpoolArgs) -> Option<SpoolSettings> {
        args.spool.clone().map(|dir| SpoolSettings::with_limits(dir, &args.limits))
    }

    pub(crate) fn with_limits(dir: PathBuf, limits: &SpoolLimitArgs) -> SpoolSettings {
        SpoolSettings {
            dir,
            sync: limits.sync,
            when_full: limits.when_full.map(when_full),
            max_bytes: limits.spool_max,
            max_age: limits.spool_age,
            ..SpoolSettings::default()
        }
    }

    pub(crate) fn declare(&mut self, args: &DeclareArgs) {
        self.declared = (args.declare.iter())
            .map(|given| (given.name.clone(), given.prefixes.iter().map(|prefix| prefix.0.clone()).collect()))
            .collect();
    }
}

fn when_full(arg: WhenFullArg) -> WhenFull {
    match arg {
        WhenFullArg::Block => WhenFull::Block,
        WhenFullArg::Reject => WhenFull::Reject,
        WhenFullArg::DropOldest => WhenFull::DropOldest,
        WhenFullArg::DropName => WhenFull::DropName,
    }
}

/// A builder that can have a spool.
pub(crate) trait Spooler: Sized {
    fn with_spool(self, settings: &SpoolSettings) -> Self;
}

macro_rules! spooler {
    ($socket:ident, |$builder:ident, $settings:ident| $own:expr) => {
        impl Spooler for Builder<$socket> {
            fn with_spool(self, $settings: &SpoolSettings) -> Self {
                let mut $builder = self.spool(&$settings.dir);
                if $settings.append_all {
                    $builder = $builder.append_all(true);
                }
                if let Some(value) = $settings.max_bytes {
                    $builder = $builder.spool_max_bytes(value);
                }
                if let Some(value) = $settings.max_age {
                    $builder = $builder.spool_max_age(value);
                }
                if let Some(value) = $settings.max_messages {
                    $builder = $builder.spool_max_messages(value);
                }
                if let Some(value) = $settings.max_lag_age {
                    $builder = $builder.max_lag_age(value);
                }
                spooler!(@same $builder $settings sync when_full min_free_disk segment_bytes max_lag_bytes name_expiry
                    max_tries batch_delay);
                $own
            }
        }
    };
    (@same $builder:ident $settings:ident $($name:ident)*) => {$(
        if let Some(value) = $settings.$name {
            $builder = $builder.$name(value);
        }
    )*};
}

spooler!(Pub, |builder, settings| settings
    .declared
    .iter()
    .fold(builder, |builder, (name, prefixes)| builder.declare(name.as_str(), prefixes)));
spooler!(Push, |builder, settings| match settings.plain_pull {
    Some(value) => builder.plain_pull(value),
    None => builder,
});

/// What was said about a durable name.
#[derive(Debug, Clone)]
pub(crate) struct HolderSettings {
    pub(crate) name: String,
    pub(crate) from_oldest: bool,
    pub(crate) take_over: bool,
    pub(crate) require_durable: bool,
    pub(crate) cursor: Option<PathBuf>,
    pub(crate) resume: Vec<Token>,
}

impl HolderSettings {
    /// None without a name, by `--durable` or by `-o durable=NAME`.
    pub(crate) fn from_args(
        args: &HolderArgs,
        options: &[String],
        exec: Option<&str>,
    ) -> Result<Option<HolderSettings>, Failure> {
        if args.ack == Some(AckArg::Exec) && exec.is_none() {
            return Err(Failure::usage("--ack exec waits for a command; write it with -x CMD"));
        }
        let by_option = options.iter().rev().find_map(|option| option.strip_prefix("durable="));
        let settings = args.durable.as_deref().or(by_option).map(|name| HolderSettings {
            require_durable: args.require_durable,
            cursor: args.cursor.clone(),
            ..HolderSettings::new(name, args.from)
        });
        Ok(settings)
    }

    pub(crate) fn new(name: &str, from: Option<FromArg>) -> HolderSettings {
        HolderSettings {
            name: name.to_owned(),
            from_oldest: from == Some(FromArg::Oldest),
            take_over: false,
            require_durable: false,
            cursor: None,
            resume: Vec::new(),
        }
    }
}

/// A builder that can hold a durable name.
pub(crate) trait Holder: Sized {
    fn with_name(self, settings: Option<&HolderSettings>) -> Self;
}

macro_rules! holder {
    ($($socket:ident)*) => {$(
        impl Holder for Builder<$socket> {
            fn with_name(self, settings: Option<&HolderSettings>) -> Self {
                let Some(settings) = settings else { return self };
                let builder = (self.durable(settings.name.as_str()).ack(Ack::Manual))
                    .from_oldest(settings.from_oldest)
                    .take_over(settings.take_over)
                    .require_durable(settings.require_durable)
                    .resume_from(settings.resume.iter().copied());
                match &settings.cursor {
                    Some(path) => builder.cursor_file(path),
                    None => builder,
                }
            }
        }
    )*};
}

holder!(Sub Pull);
