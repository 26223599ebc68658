//! The command line: every subcommand and flag, and nothing that is not built.
//!
//! Declarations only; what clap cannot say is checked where it is used. Help fits 80 columns.

// Help shows defaults in brackets, which are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod durable;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ginnel::Sync;

use crate::examples;
use crate::formats::Format;
use crate::log::{Color, LogFormat};
use crate::units::{self, Backoff, ByteString, Heartbeat, Wait};

pub(crate) use durable::{
    AckArg, DeclareArgs, DumpArgs, FromArg, HolderArgs, Moment, RecordArgs, RecordKind, ReplayArgs, ReplayKind,
    SpoolArgs, SpoolCommand, SpoolLimitArgs, SpoolToolArgs, WhenFullArg,
};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nzmtp 3.1\nfeatures: tcp ipc inproc null plain");

/// Messaging sockets in the shell, compatible with ZeroMQ.
#[derive(Debug, Parser)]
#[command(name = "ginnel", version = VERSION, after_help = examples::TOP, allow_external_subcommands = true)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global")]
pub(crate) struct Global {
    /// Say more on stderr (repeat)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say only errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Lines on stderr: text or json [text]
    #[arg(long, global = true, value_name = "FMT", default_value = "text")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) log_format: LogFormat,
    /// Colours: auto, always or never [auto]
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) color: Color,
    /// Flags from a TOML file; the line wins
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send each input record to one of the peers
    #[command(after_help = examples::PUSH)]
    Push(PushArgs),
    /// Receive from all peers, in turn
    #[command(after_help = examples::PULL)]
    Pull(PullArgs),
    /// Publish each input record to its subscribers
    #[command(after_help = examples::PUB)]
    Pub(PubArgs),
    /// Receive what was subscribed to
    #[command(after_help = examples::SUB)]
    Sub(SubArgs),
    /// Send each record as a request, print each reply
    #[command(after_help = examples::REQ)]
    Req(ReqArgs),
    /// Answer requests
    #[command(after_help = examples::REP)]
    Rep(RepArgs),
    /// Send to the peers in turn, print what arrives
    #[command(after_help = examples::DEALER)]
    Dealer(DuplexArgs),
    /// Send to the peer named by the first frame
    #[command(after_help = examples::ROUTER)]
    Router(DuplexArgs),
    /// Publish; log the subscriptions with -v
    #[command(after_help = examples::XPUB)]
    Xpub(XPubArgs),
    /// Receive what was subscribed to, unfiltered
    #[command(after_help = examples::XSUB)]
    Xsub(XSubArgs),
    /// Talk to exactly one peer, both ways
    #[command(after_help = examples::PAIR)]
    Pair(DuplexArgs),
    /// Measure throughput or latency
    #[command(after_help = examples::BENCH)]
    Bench(BenchArgs),
    /// Forward between two sockets
    #[command(after_help = examples::PROXY)]
    Proxy(ProxyArgs),
    /// Shake hands with a socket and time its PONG
    #[command(after_help = examples::PING)]
    Ping(PingArgs),
    /// Write what arrives into a spool
    #[command(after_help = examples::RECORD)]
    Record(RecordArgs),
    /// Send what a spool holds, in its own time
    #[command(after_help = examples::REPLAY)]
    Replay(ReplayArgs),
    /// Look into a spool, or mend it
    #[command(after_help = examples::SPOOL)]
    Spool(SpoolToolArgs),
    /// Run one socket that another program steers
    #[command(after_help = examples::DRIVE)]
    Drive(DriveArgs),
    #[command(hide = true)]
    BenchPeer(BenchPeerArgs),
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

#[derive(Debug, Args)]
pub(crate) struct SocketArgs {
    /// Listen here (repeat)
    #[arg(short, long, value_name = "EP")]
    pub(crate) bind: Vec<String>,
    /// Connect to this (repeat)
    #[arg(short, long, value_name = "EP")]
    pub(crate) connect: Vec<String>,
    /// Write bound endpoints here, by rename
    #[arg(long, value_name = "PATH")]
    pub(crate) endpoint_file: Option<PathBuf>,
    /// Stop after N messages [0: no limit]
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) count: u64,
    /// Longest wait for a step [inf]
    #[arg(short, long, value_name = "DUR", default_value = "inf")]
    #[arg(hide_default_value = true, value_parser = units::wait)]
    pub(crate) timeout: Wait,
    /// Drain time at exit [5s]
    #[arg(long, value_name = "DUR", default_value = "5s", hide_default_value = true)]
    #[arg(value_parser = units::wait)]
    pub(crate) linger: Wait,
    /// Messages queued per peer [1000; 0: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) hwm: Option<usize>,
    /// The same for sending only
    #[arg(long, value_name = "N")]
    pub(crate) sndhwm: Option<usize>,
    /// The same for receiving only
    #[arg(long, value_name = "N")]
    pub(crate) rcvhwm: Option<usize>,
    /// Refuse larger messages [64Mi]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) max_msg: Option<u64>,
    /// Routing id: text or 0xHEX
    #[arg(long, value_name = "ID", value_parser = units::identity)]
    pub(crate) identity: Option<ByteString>,
    /// Back-off MIN[..MAX] [100ms..30s]
    #[arg(long, value_name = "TIMES", value_parser = units::backoff)]
    pub(crate) reconnect: Option<Backoff>,
    /// PING interval[,timeout] [15s,45s; 0: off]
    #[arg(long, value_name = "TIMES", value_parser = units::heartbeat)]
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Library option NAME=VALUE (repeat)
    #[arg(short, long, value_name = "OPT")]
    pub(crate) option: Vec<String>,
    /// user:password to log in with
    #[arg(long, value_name = "FILE")]
    pub(crate) plain_file: Option<PathBuf>,
    /// user:password lines to let in
    #[arg(long, value_name = "FILE")]
    pub(crate) plain_server_file: Option<PathBuf>,
    /// Statistics to stderr each DUR
    #[arg(long, value_name = "DUR", value_parser = units::duration)]
    pub(crate) stats_every: Option<Duration>,
    /// Exit 6 if messages were dropped
    #[arg(long)]
    pub(crate) fail_on_drop: bool,
    /// Exit 4 if a peer is refused
    #[arg(long)]
    pub(crate) fail_on_reject: bool,
    /// Leave when the last peer has left
    #[arg(long)]
    pub(crate) transient: bool,
}

/// How records look on stdin and stdout.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// text quoted json envelope hex framed raw
    #[arg(short, long, value_name = "FMT", default_value = "text")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) format: Format,
    /// The same for input only
    #[arg(long, value_name = "FMT", hide_possible_values = true)]
    pub(crate) in_format: Option<Format>,
    /// The same for output only
    #[arg(long, value_name = "FMT", hide_possible_values = true)]
    pub(crate) out_format: Option<Format>,
    /// Records end in NUL (text and quoted)
    #[arg(short = '0', long)]
    pub(crate) null: bool,
}

impl FormatArgs {
    pub(crate) fn input(&self) -> Format {
        self.in_format.unwrap_or(self.format)
    }

    pub(crate) fn output(&self) -> Format {
        self.out_format.unwrap_or(self.format)
    }
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Send this (repeat: further frames)
    #[arg(short = 'D', long, value_name = "STR", allow_hyphen_values = true)]
    pub(crate) data: Vec<String>,
    /// Send a file as one frame (-: stdin)
    #[arg(short = 'F', long, value_name = "PATH", allow_hyphen_values = true)]
    pub(crate) file: Option<PathBuf>,
    /// Repeat -D or -F each DUR
    #[arg(short, long, value_name = "DUR", value_parser = units::duration)]
    pub(crate) interval: Option<Duration>,
    /// At most N messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Wait before the first send
    #[arg(short, long, value_name = "DUR", value_parser = units::duration)]
    pub(crate) delay: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    /// Topic prefix (repeat) [everything]
    #[arg(short, long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) subscribe: Vec<String>,
    /// The same in hex (repeat)
    #[arg(long, value_name = "HEX", value_parser = units::hex_bytes)]
    pub(crate) subscribe_hex: Vec<ByteString>,
}

impl SubscribeArgs {
    /// The prefixes; none given is everything.
    pub(crate) fn prefixes(&self) -> Vec<Vec<u8>> {
        let text = self.subscribe.iter().map(|prefix| prefix.clone().into_bytes());
        let mut prefixes: Vec<Vec<u8>> = text.chain(self.subscribe_hex.iter().map(|p| p.0.clone())).collect();
        if prefixes.is_empty() {
            prefixes.push(Vec::new());
        }
        prefixes
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Run `sh -c CMD` with each message
    #[arg(short = 'x', long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) exec: ExecArgs,
    #[command(flatten)]
    pub(crate) holder: HolderArgs,
}

/// What a publisher does when a subscriber's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFullArg {
    Block,
    DropNewest,
    DropOldest,
    Disconnect,
}

#[derive(Debug, Args)]
pub(crate) struct XPubArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Wait for N subscribers first
    #[arg(long, value_name = "N")]
    pub(crate) wait_subs: Option<usize>,
    /// Put this frame in front
    #[arg(long, value_name = "STR", allow_hyphen_values = true)]
    pub(crate) topic: Option<String>,
    /// block drop-newest drop-oldest disconnect
    #[arg(long, value_name = "HOW", default_value = "drop-newest")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) on_full: OnFullArg,
}

#[derive(Debug, Args)]
pub(crate) struct PubArgs {
    #[command(flatten)]
    pub(crate) publish: XPubArgs,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
    #[command(flatten)]
    pub(crate) declare: DeclareArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) subscribe: SubscribeArgs,
    #[command(flatten)]
    pub(crate) exec: ExecArgs,
    #[command(flatten)]
    pub(crate) holder: HolderArgs,
}

#[derive(Debug, Args)]
pub(crate) struct XSubArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) subscribe: SubscribeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReqArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Ask again N times [0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) retries: u32,
    /// Longest wait for a reply [5s]
    #[arg(long, value_name = "DUR", default_value = "5s", hide_default_value = true)]
    #[arg(value_parser = units::duration)]
    pub(crate) request_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RepArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// Reply with the request
    #[arg(long)]
    pub(crate) echo: bool,
    /// Reply with this (repeat: more frames)
    #[arg(short = 'D', long, value_name = "STR", allow_hyphen_values = true)]
    pub(crate) data: Vec<String>,
    /// Reply with the output of `sh -c CMD`
    #[arg(short = 'x', long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DuplexArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchKind {
    /// Messages a second, one way
    Thr,
    /// Time of a round trip
    Lat,
}

/// The sockets of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchPattern {
    PushPull,
    PubSub,
    ReqRep,
    DealerRouter,
}

/// What carries a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTransport {
    Tcp,
    Ipc,
    Inproc,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchFormat {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// thr: messages a second; lat: round trips
    #[arg(hide_possible_values = true)]
    pub(crate) kind: BenchKind,
    /// push-pull pub-sub req-rep dealer-router
    #[arg(short, long, value_name = "NAME", hide_possible_values = true)]
    pub(crate) pattern: Option<BenchPattern>,
    /// tcp, ipc or inproc [tcp]
    #[arg(short = 'T', long, value_name = "NAME", default_value = "tcp")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) transport: BenchTransport,
    /// Sizes [64,1Ki,64Ki]
    #[arg(short, long, value_name = "SIZES", value_delimiter = ',', default_value = "64,1Ki,64Ki")]
    #[arg(hide_default_value = true, value_parser = units::size)]
    pub(crate) size: Vec<u64>,
    /// Messages in a run, instead of --time
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "time")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Length of a run [5s]
    #[arg(long, value_name = "DUR", value_parser = units::duration)]
    pub(crate) time: Option<Duration>,
    /// Unmeasured time before the runs [1s]
    #[arg(long, value_name = "DUR", default_value = "1s", hide_default_value = true)]
    #[arg(value_parser = units::duration)]
    pub(crate) warmup: Duration,
    /// Runs; the median is reported [3]
    #[arg(long, value_name = "N", default_value_t = 3, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Both ends in this process
    #[arg(long)]
    pub(crate) in_process: bool,
    /// thr: send through a spool in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    /// batch, never, or each DUR [batch]
    #[arg(long, value_name = "WHEN", value_parser = units::sync, requires = "spool")]
    pub(crate) sync: Option<Sync>,
    /// table, json or csv [table]
    #[arg(long, value_name = "FMT", default_value = "table")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) format: BenchFormat,
}

/// The second process of a measurement; started by `bench`, not by people.
#[derive(Debug, Args)]
pub(crate) struct BenchPeerArgs {
    pub(crate) pattern: BenchPattern,
    pub(crate) kind: BenchKind,
    pub(crate) endpoint: String,
    pub(crate) size: u64,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// TYPE@EP: xsub, router or pull
    #[arg(long, value_name = "SPEC")]
    pub(crate) front: String,
    /// TYPE@EP: xpub, dealer or push
    #[arg(long, value_name = "SPEC")]
    pub(crate) back: String,
    /// pub@EP: gets a copy of everything
    #[arg(long, value_name = "SPEC")]
    pub(crate) capture: Option<String>,
    /// Connect the front instead of binding
    #[arg(long)]
    pub(crate) front_connect: bool,
    /// Connect the back instead of binding
    #[arg(long)]
    pub(crate) back_connect: bool,
    /// Print statistics at exit
    #[arg(long)]
    pub(crate) summary: bool,
    /// Drain time at exit [5s]
    #[arg(long, value_name = "DUR", default_value = "5s", hide_default_value = true)]
    #[arg(value_parser = units::wait)]
    pub(crate) linger: Wait,
    /// Write bound endpoints here, by rename
    #[arg(long, value_name = "PATH")]
    pub(crate) endpoint_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// The socket to ask
    #[arg(short, long, value_name = "EP")]
    pub(crate) connect: String,
    /// Number of PINGs [1]
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Longest wait for a step [2s]
    #[arg(short, long, value_name = "DUR", default_value = "2s", hide_default_value = true)]
    #[arg(value_parser = units::wait)]
    pub(crate) timeout: Wait,
    /// user:password to log in with
    #[arg(long, value_name = "FILE")]
    pub(crate) plain_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DriveArgs {
    /// A JSON object, or @FILE
    #[arg(value_name = "CONFIG")]
    pub(crate) socket: String,
}
