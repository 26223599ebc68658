//! The flags of durable sockets, and the subcommands that read and write spools.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ginnel::Sync;

use super::{SocketArgs, SubscribeArgs};
use crate::examples;
use crate::units::{self, Declaration};

/// What a full spool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenFullArg {
    Block,
    Reject,
    DropOldest,
    DropName,
}

/// The side that keeps.
#[derive(Debug, Args)]
pub(crate) struct SpoolArgs {
    /// Keep what is sent here until delivered
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: SpoolLimitArgs,
}

/// What every writer of a spool may choose.
#[derive(Debug, Args)]
pub(crate) struct SpoolLimitArgs {
    /// batch, never, or each DUR [batch]
    #[arg(long, value_name = "WHEN", value_parser = units::sync, requires = "spool")]
    pub(crate) sync: Option<Sync>,
    /// Bytes on disk [1Gi]
    #[arg(long, value_name = "SIZE", value_parser = units::size, requires = "spool")]
    pub(crate) spool_max: Option<u64>,
    /// Older records go, read or not [off]
    #[arg(long, value_name = "DUR", value_parser = units::duration, requires = "spool")]
    pub(crate) spool_age: Option<Duration>,
    /// block reject drop-oldest drop-name
    #[arg(long, value_name = "HOW", requires = "spool", hide_possible_values = true)]
    pub(crate) when_full: Option<WhenFullArg>,
}

#[derive(Debug, Args)]
pub(crate) struct DeclareArgs {
    /// NAME[=PREFIX,...]: keep for it (repeat)
    #[arg(long, value_name = "NAME", value_parser = units::declaration, requires = "spool")]
    pub(crate) declare: Vec<Declaration>,
}

/// When a delivery is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckArg {
    Next,
    Exec,
    Receive,
}

/// Where a new name starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FromArg {
    Now,
    Oldest,
}

/// The side that holds a durable name.
#[derive(Debug, Args)]
pub(crate) struct HolderArgs {
    /// Hold this durable name
    #[arg(long, value_name = "NAME")]
    pub(crate) durable: Option<String>,
    /// Done at: next exec receive [next]
    #[arg(long, value_name = "WHEN", requires = "durable", hide_possible_values = true)]
    pub(crate) ack: Option<AckArg>,
    /// A new name starts: now oldest [now]
    #[arg(long, value_name = "WHERE", requires = "durable", hide_possible_values = true)]
    pub(crate) from: Option<FromArg>,
    /// Remember here what is done
    #[arg(long, value_name = "FILE", requires = "durable")]
    pub(crate) cursor: Option<PathBuf>,
    /// Refuse peers that have no spool
    #[arg(long, requires = "durable")]
    pub(crate) require_durable: bool,
}

/// The sockets that record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordKind {
    Sub,
    Pull,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// sub or pull
    #[arg(hide_possible_values = true, value_name = "TYPE")]
    pub(crate) kind: RecordKind,
    /// The spool to write, made if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: PathBuf,
    #[command(flatten)]
    pub(crate) limits: SpoolLimitArgs,
    /// Stop after DUR
    #[arg(long, value_name = "DUR", value_parser = units::duration)]
    pub(crate) time: Option<Duration>,
    #[command(flatten)]
    pub(crate) subscribe: SubscribeArgs,
    /// Hold this durable name while recording
    #[arg(long, value_name = "NAME")]
    pub(crate) durable: Option<String>,
    /// A new name starts: now oldest [now]
    #[arg(long, value_name = "WHERE", requires = "durable", hide_possible_values = true)]
    pub(crate) from: Option<FromArg>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// The sockets that replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayKind {
    Pub,
    Push,
}

/// A place in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Oldest,
    Sequence(u64),
    /// Since 1970.
    Time(Duration),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// pub or push
    #[arg(hide_possible_values = true, value_name = "TYPE")]
    pub(crate) kind: ReplayKind,
    /// The spool to read; it is not changed
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: PathBuf,
    /// Start: oldest, a number, a time [oldest]
    #[arg(long, value_name = "WHERE", value_parser = units::moment, default_value = "oldest")]
    #[arg(hide_default_value = true)]
    pub(crate) from: Moment,
    /// Last record: a number or a time [newest]
    #[arg(long, value_name = "WHERE", value_parser = units::end_moment)]
    pub(crate) to: Option<Moment>,
    /// At most N messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// X times the recorded speed [1]
    #[arg(long, value_name = "X", value_parser = units::factor, conflicts_with = "rate")]
    pub(crate) speed: Option<f64>,
    /// Without any pause
    #[arg(long, conflicts_with_all = ["rate", "speed"])]
    pub(crate) fast: bool,
    /// N times over [1; 0: for ever]
    #[arg(long = "loop", value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub(crate) rounds: u64,
    /// pub: wait for N subscribers first
    #[arg(long, value_name = "N")]
    pub(crate) wait_subs: Option<usize>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SpoolToolArgs {
    #[command(subcommand)]
    pub(crate) command: SpoolCommand,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum SpoolCommand {
    /// Segments, names and numbers as JSON
    #[command(after_help = examples::SPOOL_LIST)]
    List(DirectoryArgs),
    /// Check every record; exit 5 at a bad one
    #[command(after_help = examples::SPOOL_VERIFY)]
    Verify(DirectoryArgs),
    /// Print the records as envelopes
    #[command(after_help = examples::SPOOL_DUMP)]
    Dump(DumpArgs),
    /// Recover a spool that nobody uses, and report
    #[command(after_help = examples::SPOOL_REPAIR)]
    Repair(DirectoryArgs),
    /// Give up a durable name for good
    #[command(after_help = examples::SPOOL_DROP_NAME)]
    DropName(DropNameArgs),
    /// Make a copied directory a spool of its own
    #[command(after_help = examples::SPOOL_NEW_ID)]
    NewId(DirectoryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DirectoryArgs {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Start: oldest, a number, a time [oldest]
    #[arg(long, value_name = "WHERE", value_parser = units::moment, default_value = "oldest")]
    #[arg(hide_default_value = true)]
    pub(crate) from: Moment,
    /// Last record: a number or a time [newest]
    #[arg(long, value_name = "WHERE", value_parser = units::end_moment)]
    pub(crate) to: Option<Moment>,
    /// Stop after N records [0: no limit]
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) count: u64,
    /// The dead letters instead
    #[arg(long)]
    pub(crate) dead: bool,
    /// The messages that wait for their time
    #[arg(long, conflicts_with = "dead")]
    pub(crate) delayed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropNameArgs {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The durable name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}
