//! Options: by method or by name, with their ranges, and an error that says what is wrong.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::*;
use ginnel::*;
use quickcheck::QuickCheck;

/// One good value for every option that is set by name.
const GOOD: &[(&str, &str)] = &[
    ("ack", "manual"),
    ("allow_network_fs", "true"),
    ("append_all", "true"),
    ("backlog", "128"),
    ("batch_delay", "1ms"),
    ("conflate", "true"),
    ("connect_timeout", "3s"),
    ("correlate", "yes"),
    ("cursor_file", ""),
    ("durable", "billing"),
    ("flush_policy", "immediate"),
    ("from_oldest", "true"),
    ("handover", "on"),
    ("handshake_timeout", "250ms"),
    ("heartbeat", "1s,3s"),
    ("heartbeat_ttl", "5s"),
    ("holder_expiry", "1h"),
    ("hwm", "10"),
    ("identity", "me"),
    ("invert_matching", "1"),
    ("ipc_mode", "660"),
    ("ipv6", "false"),
    ("keepalive", "no"),
    ("linger", "inf"),
    ("lockstep", "true"),
    ("mandatory", "true"),
    ("max_command", "64Ki"),
    ("max_connections", "100"),
    ("max_delayed", "100"),
    ("max_envelope", "8"),
    ("max_frame", "1Mi"),
    ("max_frames_per_message", "16"),
    ("max_handshake_bytes", "32Ki"),
    ("max_lag_age", "inf"),
    ("max_lag_bytes", "1Mi"),
    ("max_meaningless_frames", "100"),
    ("max_memory", "1Gi"),
    ("max_message", "2M"),
    ("max_metadata", "16k"),
    ("max_names", "10"),
    ("max_pending_handshakes", "16"),
    ("max_properties", "64"),
    ("max_record", "1Mi"),
    ("max_subscription_bytes", "8Mi"),
    ("max_subscriptions", "1000"),
    ("max_topic", "255"),
    ("max_tries", "5"),
    ("min_free_disk", "1Mi"),
    ("name_expiry", "1h"),
    ("on_full", "drop-oldest"),
    ("pin", "true"),
    ("plain_pull", "true"),
    ("probe", "off"),
    ("queue_before_connect", "0"),
    ("reconnect", "100ms,30s"),
    ("reconnect_stop", "true"),
    ("recv_buffer", "64Ki"),
    ("recv_hwm", "0"),
    ("recv_hwm_bytes", "0"),
    ("recv_timeout", "inf"),
    ("relaxed", "true"),
    ("require_auth", "no"),
    ("require_durable", "true"),
    ("segment_bytes", "1Mi"),
    ("send_buffer", "64Ki"),
    ("send_hwm", "1"),
    ("send_hwm_bytes", "1Ki"),
    ("send_timeout", "1m"),
    ("spool", ""),
    ("spool_max_age", "1h"),
    ("spool_max_bytes", "64Mi"),
    ("spool_max_messages", "1000"),
    ("stall_after", "30s"),
    ("sync", "100ms"),
    ("take_over", "false"),
    ("tos", "184"),
    ("verbose", "true"),
    ("verboser", "true"),
    ("when_full", "drop-oldest"),
    ("zmtp2", "true"),
];

/// Those that are opened with the socket, which other tests do.
const OPENED: &[&str] = &["spool", "cursor_file"];

/// What an option is refused with when the socket is built. One that belongs beside a spool or a durable name is refused
/// by the name of what is missing.
fn finished<S: Buildable>(builder: Builder<S>, name: &str) -> Result<(), OptionError> {
    match builder.build() {
        Ok(_) => Ok(()),
        Err(BuildError::Option(error)) if matches!(error.name(), "spool" | "durable") && error.name() != name => Ok(()),
        Err(BuildError::Option(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// The result of setting one option on every type that may have it.
fn on_each_type(name: &str, value: &str) -> BTreeMap<&'static str, Result<(), OptionError>> {
    let mut results = BTreeMap::new();
    macro_rules! each {
        ($($type:ident)*) => {$(
            results.insert(stringify!($type), $type::builder().option(name, value).and_then(|b| finished(b, name)));
        )*};
    }
    each!(Push Pull Pub Sub Req Rep Dealer Router XPub XSub Pair);
    results
}

#[test]
fn every_option_that_has_a_name_is_listed() {
    let error = Push::builder().option("no such option", "1").unwrap_err();
    assert_eq!(error.name(), "no such option");
    let text = error.to_string();
    let listed: Vec<&str> = text.split_once("there are ").expect("a list").1.split(", ").collect();
    let known: Vec<&str> = GOOD.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_name_takes_a_good_value_and_refuses_a_bad_one() {
    for (name, value) in GOOD.iter().filter(|(name, _)| !OPENED.contains(name)) {
        let results = on_each_type(name, value);
        assert!(results.values().any(Result::is_ok), "{name}: {results:?}");
        for error in results.values().filter_map(|result| result.as_ref().err()) {
            assert!(error.to_string().contains("only for"), "{name}={value}: {error}");
        }
        if matches!(*name, "identity" | "durable") {
            continue;
        }
        for bad in ["", " ", "@", "-1", "1e99", "99999999999999999999999", "true false", "5 parsecs", "\u{1b}[31m"] {
            for (kind, result) in on_each_type(name, bad) {
                let error = result.expect_err(&format!("{kind}: {name}={bad:?}"));
                assert_eq!(error.name(), *name);
                assert!(!error.to_string().contains('\u{1b}'), "what users type is shown escaped");
            }
        }
    }
}

#[test]
fn no_text_makes_an_option_panic() {
    fn property(which: usize, text: String) -> bool {
        let (name, _) = GOOD[which % GOOD.len()];
        if OPENED.contains(&name) {
            return true;
        }
        on_each_type(name, &text).len() == 11 && on_each_type(&text, "1").len() == 11
    }
    QuickCheck::new().tests(cases()).quickcheck(property as fn(usize, String) -> bool);
}

#[test]
fn out_of_range_is_an_error_that_names_the_option() {
    let errors = [
        (Dealer::builder().identity(vec![1; 256]).build().map(drop), "identity"),
        (Dealer::builder().identity(vec![0, 1]).build().map(drop), "identity"),
        (Push::builder().heartbeat_ttl(Duration::from_secs(66)).build().map(drop), "heartbeat_ttl"),
        (Push::builder().max_frames_per_message(0).build().map(drop), "max_frames_per_message"),
        (Push::builder().tos(256).build().map(drop), "tos"),
        (Push::builder().reconnect(DEADLINE, QUICK).build().map(drop), "reconnect"),
        (Rep::builder().conflate(true).build().map(drop), "conflate"),
        (Push::builder().zmtp2(true).security(Security::PlainServer(Vec::new())).build().map(drop), "zmtp2"),
    ];
    for (result, name) in errors {
        assert!(matches!(result, Err(BuildError::Option(error)) if error.name() == name));
    }
    assert!(Credentials::new("u".repeat(256), "p").is_err());
    assert!(Dealer::builder().identity(vec![1; 255]).build().is_ok());
}

#[tokio::test]
async fn a_bad_option_is_told_by_bind_and_connect() {
    let bound = Push::builder().tos(256).bind(place("tcp")).await;
    assert!(matches!(bound, Err(BindError::Option(error)) if error.name() == "tos"));
    let connected = Push::builder().tos(256).connect("tcp://127.0.0.1:1");
    assert!(matches!(connected, Err(ConnectError::Option(error)) if error.name() == "tos"));
}

#[tokio::test]
async fn marks_are_what_was_asked_for() {
    let there = later("tcp").await;
    let mark = |push: &Push| only_peer(push).send_hwm;
    assert_eq!(mark(&Push::connect(&there).unwrap()), 1000);
    assert_eq!(only_peer(&Push::connect(&there).unwrap()).recv_hwm, 1000);
    assert_eq!(mark(&Push::builder().send_hwm(7).connect(&there).unwrap()), 7);
    assert_eq!(mark(&Push::builder().hwm(8).connect(&there).unwrap()), 8);
    assert_eq!(mark(&Push::builder().option("send_hwm", "9").unwrap().connect(&there).unwrap()), 9);
    assert_eq!(mark(&Push::builder().option("hwm", "0").unwrap().connect(&there).unwrap()), 0);
}

#[tokio::test]
async fn the_builders_timeouts_hold_for_every_call() {
    let there = later("tcp").await;
    let brief = Duration::from_millis(5);
    let push = Push::builder().send_hwm(1).send_timeout(brief).linger(Duration::ZERO).connect(&there).unwrap();
    let _ = push.send("fits").await.unwrap();
    assert!(matches!(soon(push.send("waits")).await, Err(SendError::Timeout(message)) if message[0] == "waits"));
    let mut pull = Pull::builder().recv_timeout(brief).build().unwrap();
    assert_eq!(soon(pull.recv()).await, Err(RecvError::Timeout));
    assert_eq!(soon(pull.recv_batch(&mut Batch::new(), 1)).await, Err(RecvError::Timeout));
    let shared = pull.into_shared();
    assert_eq!(soon(shared.recv()).await, Err(RecvError::Timeout));
    let mut router = Router::builder().recv_timeout(brief).build().unwrap();
    assert!(matches!(soon(router.recv()).await, Err(RecvError::Timeout)));
    let mut rep = Rep::builder().recv_timeout(brief).build().unwrap();
    assert!(matches!(soon(rep.recv()).await, Err(RecvError::Timeout)));
    let req = Req::builder().recv_timeout(brief).connect(&there).unwrap();
    assert_eq!(soon(std::future::IntoFuture::into_future(req.request("x"))).await, Err(RequestError::Timeout));
}

#[tokio::test]
async fn a_builder_is_used_as_often_as_wished() {
    let builder = Pull::builder().recv_hwm(3);
    let (one, two) = (builder.clone().build().unwrap(), builder.clone().bind(place("inproc")).await.unwrap());
    assert!(format!("{builder:?} {one:?}").contains("recv_hwm: 3"));
    drop((one, two));
}

#[tokio::test]
async fn endpoints_that_are_none_are_refused_with_a_reason() {
    let pull = Pull::new();
    for bad in ["", "tcp://", "tcp://nowhere", "tcp://127.0.0.1:99999", "udp://127.0.0.1:1", "ipc://", "inproc://", "x"]
    {
        let error = pull.bind_to(bad).await.unwrap_err();
        assert!(matches!(error, BindError::Endpoint(_)), "{bad}: {error}");
        let error = pull.connect_to(bad).unwrap_err();
        assert!(matches!(error, ConnectError::Endpoint(_)), "{bad}: {error}");
    }
    assert!(matches!(pull.connect_to("tcp://*:1").unwrap_err(), ConnectError::Endpoint(_)));
    assert!(matches!(pull.connect_to(None::<Endpoint>).unwrap_err(), ConnectError::Endpoint(_)));
    assert!(pull.endpoints().is_empty());
}

#[tokio::test]
async fn a_taken_address_is_told_and_the_socket_stays_usable() {
    for transport in TRANSPORTS {
        let holder = Pull::bind(place(transport)).await.unwrap();
        let there = holder.local_endpoint().unwrap();
        let second = Pull::new();
        assert!(matches!(second.bind_to(&there).await, Err(BindError::AddrInUse(_))), "{transport}");
        assert!(second.endpoints().is_empty());
        let other = second.bind_to(place(transport)).await.unwrap();
        let push = Push::connect(&other).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
        // The holder has not noticed.
        let push = Push::connect(&there).unwrap();
        soon(push.wait_for_peers(1)).await.unwrap();
    }
}
