//! From flags to a socket: options on the builder, then binds and connects.

use std::io::Write;
use std::path::Path;

use ginnel::{BindError, BuildError, Buildable, Builder, ConnectError, OpenError, Socket};

use crate::args::SocketArgs;
use crate::exit::{self, Failure};
use crate::log::{self, Level};
use crate::secrets;

/// What every socket type has in common, from the flags.
pub(crate) fn configure<S: Buildable>(builder: Builder<S>, args: &SocketArgs) -> Result<Builder<S>, Failure> {
    set_options(set_flags(builder, args)?, &args.option, |_| true)
}

/// As [`configure`], without `--option`.
pub(crate) fn set_flags<S: Buildable>(mut builder: Builder<S>, args: &SocketArgs) -> Result<Builder<S>, Failure> {
    if args.bind.is_empty() && args.connect.is_empty() {
        return Err(Failure::usage("write at least one of --bind and --connect"));
    }
    builder = builder.linger(args.linger.limit());
    if let Some(hwm) = args.hwm {
        builder = builder.hwm(hwm);
    }
    if let Some(hwm) = args.sndhwm {
        builder = builder.send_hwm(hwm);
    }
    if let Some(hwm) = args.rcvhwm {
        builder = builder.recv_hwm(hwm);
    }
    if let Some(size) = args.max_msg {
        builder = builder.max_frame(size).max_message(size);
    }
    if let Some(identity) = &args.identity {
        builder = builder.identity(identity.0.as_slice());
    }
    if let Some(backoff) = args.reconnect {
        builder = builder.reconnect(backoff.min, backoff.max);
    }
    if let Some(heartbeat) = args.heartbeat {
        builder = builder.heartbeat(heartbeat.interval, heartbeat.timeout);
    }
    builder = builder.security(secrets::security(args.plain_file.as_deref(), args.plain_server_file.as_deref())?);
    Ok(builder)
}

/// `--option NAME=VALUE`, those that `wanted` picks by their name.
pub(crate) fn set_options<S: Buildable>(
    mut builder: Builder<S>,
    options: &[String],
    wanted: impl Fn(&str) -> bool,
) -> Result<Builder<S>, Failure> {
    for option in options {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| Failure::usage(format_args!("--option {option}: write NAME=VALUE")))?;
        if wanted(name) {
            builder = builder.option(name, value).map_err(Failure::usage)?;
        }
    }
    Ok(builder)
}

/// The socket, and its spool opened.
pub(crate) fn build<S: Buildable>(builder: Builder<S>) -> Result<S, Failure> {
    builder.build().map_err(|e| match &e {
        BuildError::Spool(e) => open_failure(e),
        _ => Failure::usage(e),
    })
}

/// A spool that cannot be opened. What is in it may be at fault, or the directory.
pub(crate) fn open_failure(e: &OpenError) -> Failure {
    let bad_data = match e {
        OpenError::UnknownFormat { .. } => true,
        OpenError::Path { source, .. } => source.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    };
    Failure::new(if bad_data { exit::BAD_DATA } else { exit::FAILED }, e)
}

/// Binds and connects; returns what was bound, with real ports.
pub(crate) async fn attach(socket: &Socket, bind: &[String], connect: &[String]) -> Result<Vec<String>, Failure> {
    let mut bound = Vec::new();
    for endpoint in bind {
        let endpoint = socket.bind_to(endpoint).await.map_err(|e| bind_failure(&e))?.to_string();
        let fields = serde_json::Map::from_iter([("endpoint".to_owned(), endpoint.clone().into())]);
        log::line(Level::Info, &format!("bound {endpoint}"), fields);
        bound.push(endpoint);
    }
    for endpoint in connect {
        socket.connect_to(endpoint).map_err(|e| connect_failure(&e))?;
    }
    Ok(bound)
}

fn bind_failure(e: &BindError) -> Failure {
    let usage = matches!(e, BindError::Endpoint(_) | BindError::Option(_));
    Failure::new(if usage { exit::USAGE } else { exit::FAILED }, e)
}

fn connect_failure(e: &ConnectError) -> Failure {
    let usage = matches!(e, ConnectError::Endpoint(_) | ConnectError::Option(_));
    Failure::new(if usage { exit::USAGE } else { exit::FAILED }, e)
}

/// `--endpoint-file`: one endpoint a line. By rename, so that who waits for the file reads all of it.
pub(crate) fn write_endpoint_file(path: &Path, endpoints: &[String]) -> Result<(), Failure> {
    let write = || {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let mut file = std::fs::File::create(&temporary)?;
        endpoints.iter().try_for_each(|endpoint| writeln!(file, "{endpoint}"))?;
        drop(file);
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| Failure::failed(format_args!("cannot write {}: {e}", path.display())))
}
