//! `proxy`: forwards between two sockets, with capture and statistics.

use std::future::IntoFuture;

use ginnel::{
    Buildable, Builder, Dealer, Endpoint, Proxy, ProxyControl, Pub, Pull, Push, Router, Sender, Socket, XPub, XSub,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ProxyArgs;
use crate::exit::{self, Failure};
use crate::log;
use crate::setup;
use crate::signals::Stop;
use crate::watch::{Wanted, Watch};

pub(crate) async fn run(args: ProxyArgs) -> Result<i32, Failure> {
    let front = Spec::parse("--front", &args.front)?;
    let back = Spec::parse("--back", &args.back)?;
    let (sockets, proxy) = build(&args, &front, &back)?;
    let (proxy, capture) = with_capture(&args, proxy)?;
    let stop = Stop::listen().map_err(Failure::failed)?;
    let mut plan = vec![(sockets[0].clone(), front, args.front_connect), (sockets[1].clone(), back, args.back_connect)];
    plan.extend(capture.map(|(socket, spec)| (socket, spec, false)));
    let mut bound = Vec::new();
    for (socket, spec, connect) in &plan {
        Watch::start(socket.monitor(), Wanted::default());
        let endpoint = [spec.endpoint.clone()];
        let (bind, connect): (&[_], &[_]) = if *connect { (&[], &endpoint) } else { (&endpoint, &[]) };
        bound.extend(setup::attach(socket, bind, connect).await?);
    }
    if let Some(path) = &args.endpoint_file {
        setup::write_endpoint_file(path, &bound)?;
    }
    forward(&args, &stop, proxy, plan.into_iter().map(|(socket, ..)| socket).collect()).await
}

/// `TYPE@EP`
struct Spec {
    kind: String,
    endpoint: String,
}

impl Spec {
    fn parse(flag: &str, text: &str) -> Result<Spec, Failure> {
        let (kind, endpoint) =
            text.split_once('@').ok_or_else(|| Failure::usage(format_args!("{flag} {text}: write TYPE@EP")))?;
        endpoint.parse::<Endpoint>().map_err(Failure::usage)?;
        Ok(Spec { kind: kind.to_ascii_lowercase(), endpoint: endpoint.to_owned() })
    }
}

fn build(args: &ProxyArgs, front: &Spec, back: &Spec) -> Result<([Socket; 2], Proxy), Failure> {
    macro_rules! pair {
        ($front:ident, $back:ident) => {{
            let front = socket($front::builder(), args)?;
            let back = socket($back::builder(), args)?;
            ([handle(&front), handle(&back)], ginnel::proxy(front, back))
        }};
    }
    Ok(match (front.kind.as_str(), back.kind.as_str()) {
        ("xsub", "xpub") => pair!(XSub, XPub),
        ("xpub", "xsub") => pair!(XPub, XSub),
        ("router", "dealer") => pair!(Router, Dealer),
        ("dealer", "router") => pair!(Dealer, Router),
        ("pull", "push") => pair!(Pull, Push),
        _ => return Err(Failure::usage("the pairs are xsub and xpub, router and dealer, pull and push")),
    })
}

fn socket<S: Buildable>(builder: Builder<S>, args: &ProxyArgs) -> Result<S, Failure> {
    setup::build(builder.linger(args.linger.limit()))
}

/// Another handle of the socket behind a typed one.
fn handle(socket: &Socket) -> Socket {
    socket.clone()
}

fn with_capture(args: &ProxyArgs, proxy: Proxy) -> Result<(Proxy, Option<(Socket, Spec)>), Failure> {
    let Some(text) = &args.capture else { return Ok((proxy, None)) };
    let spec = Spec::parse("--capture", text)?;
    if spec.kind != "pub" {
        return Err(Failure::usage(format_args!("--capture {text}: write pub@EP")));
    }
    let publisher = socket(Pub::builder(), args)?;
    let sender: Sender = (*publisher).clone();
    Ok((proxy.capture(sender), Some((handle(&publisher), spec))))
}

/// Runs until a signal; then what is in hand goes out first.
async fn forward(args: &ProxyArgs, stop: &Stop, proxy: Proxy, sockets: Vec<Socket>) -> Result<i32, Failure> {
    let control = proxy.control();
    let mut asked = signal(SignalKind::user_defined1()).map_err(Failure::failed)?;
    let mut running = proxy.into_future();
    let code = loop {
        tokio::select! {
            code = stop.requested() => break code,
            _ = &mut running => break exit::FAILED,
            _ = asked.recv() => print(&control),
        }
    };
    control.terminate();
    let drain = async {
        if code != exit::FAILED {
            running.await;
        }
        for socket in &sockets {
            socket.close().await;
        }
    };
    match args.linger.limit() {
        // One linger for all of it: each socket has the same.
        Some(limit) => drop(tokio::time::timeout(limit, drain).await),
        None => drain.await,
    }
    if args.summary {
        print(&control);
    }
    Ok(code)
}

/// One JSON line on stderr.
fn print(control: &ProxyControl) {
    let statistics = control.statistics();
    log::raw(
        &json!({
            "front": {"in_msgs": statistics.forward_messages, "in_bytes": statistics.forward_bytes,
                      "out_msgs": statistics.backward_messages, "out_bytes": statistics.backward_bytes},
            "back": {"in_msgs": statistics.backward_messages, "in_bytes": statistics.backward_bytes,
                     "out_msgs": statistics.forward_messages, "out_bytes": statistics.forward_bytes},
        })
        .to_string(),
    );
}
