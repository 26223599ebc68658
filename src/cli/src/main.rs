//! The `ginnel` command: messaging sockets in the shell.
//!
//! A stranger to the library: it uses the public API alone. `args` says what can be asked, `run` and its
//! neighbours do it. stdout carries data only; `log` is the one way to stderr.

mod args;
mod bench;
mod config;
mod drive;
mod durable;
mod ends;
mod examples;
mod exit;
mod formats;
mod input;
mod log;
mod output;
mod ping;
mod proxy;
mod record;
mod replay;
mod run;
mod secrets;
mod session;
mod setup;
mod signals;
mod sink;
mod source;
mod spool;
mod stats;
mod units;
mod watch;
mod zmtp;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
use exit::Failure;

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let code = match parse(&args) {
        Ok(cli) => start(cli).unwrap_or_else(|failure| failure.report()),
        Err(code) => code,
    };
    std::process::exit(code);
}

/// The parsed line with the configuration file applied, or the exit code after what clap had to say.
fn parse(args: &[OsString]) -> Result<Cli, i32> {
    try_parse(args).map_err(|e| {
        if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // A reader that left early, as `| head`, is a normal end.
            let _ = e.print();
            return exit::OK;
        }
        log_as_asked(args);
        log::error(usage_line(&e));
        exit::USAGE
    })
}

fn try_parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let Some(path) = &cli.global.config else { return Ok(cli) };
    if matches!(cli.command, Command::External(_)) {
        return Ok(cli);
    }
    let args =
        config::extend(args, path, &command, &matches).map_err(|why| command.error(ErrorKind::InvalidValue, why))?;
    Cli::from_arg_matches(&command.try_get_matches_from_mut(args)?)
}

/// The line is wrong, but a program that reads JSON from stderr still gets JSON.
fn log_as_asked(args: &[OsString]) {
    let json = args.iter().any(|arg| arg == "--log-format=json")
        || args.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
    let format = if json { log::LogFormat::Json } else { log::LogFormat::Text };
    if let Ok(settings) = log::settings(format, log::Color::Auto, false, 0) {
        log::init(settings);
    }
}

/// What clap says in a paragraph, in one line.
fn usage_line(e: &clap::Error) -> String {
    let text = e.render().to_string();
    let said = text.split("Usage:").next().unwrap_or_default();
    let said = said.split("For more information").next().unwrap_or_default();
    let words: Vec<&str> = said.trim().trim_start_matches("error:").split_whitespace().collect();
    if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a subcommand or an argument is missing; try --help".to_owned();
    }
    format!("{}; try --help", words.join(" "))
}

fn start(cli: Cli) -> Result<i32, Failure> {
    let global = &cli.global;
    let settings =
        log::settings(global.log_format, global.color, global.quiet, global.verbose).map_err(Failure::usage)?;
    log::init(settings);
    if let Command::External(args) = &cli.command {
        return Err(run_external(args));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let result = runtime.block_on(dispatch(cli.command));
    // A write to a stdout that nobody reads must not hold the end up.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command) -> Result<i32, Failure> {
    match command {
        Command::Push(args) => run::push(args).await,
        Command::Pull(args) => run::pull(args).await,
        Command::Pub(args) => run::publish(args).await,
        Command::Sub(args) => run::sub(args).await,
        Command::Req(args) => run::req(args).await,
        Command::Rep(args) => run::rep(args).await,
        Command::Dealer(args) => run::dealer(args).await,
        Command::Router(args) => run::router(args).await,
        Command::Xpub(args) => run::xpub(args).await,
        Command::Xsub(args) => run::xsub(args).await,
        Command::Pair(args) => run::pair(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::BenchPeer(args) => bench::far_process(args).await,
        Command::Proxy(args) => proxy::run(args).await,
        Command::Ping(args) => ping::run(args).await,
        Command::Record(args) => record::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Spool(args) => spool::run(args),
        Command::Drive(args) => drive::run(args).await,
        Command::External(args) => Err(run_external(&args)),
    }
}

/// Becomes `ginnel-X`; comes back only when that cannot be.
fn run_external(args: &[OsString]) -> Failure {
    let Some((name, rest)) = args.split_first() else { return Failure::usage("a subcommand is missing; try --help") };
    let shown = name.to_string_lossy();
    if shown.contains('/') {
        return Failure::usage(format_args!("unknown subcommand {shown}; try --help"));
    }
    let mut program = OsString::from("ginnel-");
    program.push(name);
    let e = std::process::Command::new(&program).args(rest).exec();
    if e.kind() == std::io::ErrorKind::NotFound {
        return Failure::usage(format_args!("unknown subcommand {shown}, and no ginnel-{shown} in PATH; try --help"));
    }
    Failure::failed(format_args!("cannot run ginnel-{shown}: {e}"))
}
