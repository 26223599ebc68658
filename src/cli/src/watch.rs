//! The monitor's news: logged, and turned into a reason to end where a flag asks for one.

use std::time::Duration;

use ginnel::{DropReason, Event, Monitor, Phase, Reason};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::drive;
use crate::log::{self, Level};

/// A reason to end that the network gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// `--transient`: the last peer has left.
    LastPeerLeft,
    /// `--fail-on-reject`: a peer was refused, or refused us.
    Rejected(String),
}

/// Which reasons count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) transient: bool,
    pub(crate) reject: bool,
}

pub(crate) struct Watch {
    ended: watch::Receiver<Option<Ended>>,
    reader: JoinHandle<()>,
}

/// So long the last events may take once the socket is closed.
const LAST_EVENTS: Duration = Duration::from_millis(200);

impl Watch {
    /// Reads `monitor` in a task until the socket is gone.
    pub(crate) fn start(mut monitor: Monitor, wanted: Wanted) -> Watch {
        let (sender, ended) = watch::channel(None);
        let reader = tokio::spawn(async move {
            let mut peers = Peers::default();
            while let Some(event) = monitor.recv().await {
                report(&event);
                if let Some(ended) = peers.judge(&event, wanted) {
                    sender.send_if_modified(|first| {
                        first.is_none() && {
                            *first = Some(ended);
                            true
                        }
                    });
                }
            }
        });
        Watch { ended, reader }
    }

    /// Waits until the last events of a closed socket are reported: a loss must not go unsaid.
    pub(crate) async fn settle(self) {
        let _ = tokio::time::timeout(LAST_EVENTS, self.reader).await;
    }

    /// Waits for a reason to end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn ended(&self) -> Ended {
        let mut receiver = self.ended.clone();
        match receiver.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
            Ok(Some(ended)) => ended,
            // A socket that closes is no reason to end.
            _ => std::future::pending().await,
        }
    }
}

#[derive(Default)]
struct Peers {
    connected: usize,
}

impl Peers {
    fn judge(&mut self, event: &Event, wanted: Wanted) -> Option<Ended> {
        match event {
            Event::Connected { .. } => self.connected += 1,
            Event::Disconnected { peer, reason } => {
                self.connected = self.connected.saturating_sub(1);
                // A durable name is refused after the handshake.
                if wanted.reject && (is_rejection(reason) || *reason == Reason::IdentityTaken) {
                    return Some(Ended::Rejected(format!("{peer}: {reason}")));
                }
                if wanted.transient && self.connected == 0 {
                    return Some(Ended::LastPeerLeft);
                }
            }
            Event::Refused { peer, reason, .. } if wanted.reject && is_rejection(reason) => {
                return Some(Ended::Rejected(format!("{peer}: {reason}")));
            }
            _ => {}
        }
        None
    }
}

/// Security, or socket types that do not go together: trying again does not help.
fn is_rejection(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::PeerError(_)
            | Reason::MechanismMismatch
            | Reason::IncompatibleType
            | Reason::AuthDenied
            | Reason::Crypto
    )
}

/// One line about an event, if its level is asked for.
pub(crate) fn report(event: &Event) {
    let level = level(event);
    if log::enabled(level) {
        log::line(level, &text(event), drive::event_fields(event));
    }
}

fn level(event: &Event) -> Level {
    match event {
        Event::Refused { phase: Phase::Accept, .. } => Level::Debug,
        Event::AcceptFailed { .. } | Event::Refused { .. } | Event::Missed { .. } => Level::Warn,
        Event::Dropped { reason: DropReason::NoPeer | DropReason::Unused, .. } => Level::Debug,
        Event::Dropped { .. } => Level::Warn,
        // A durable name that somebody else holds, or that we may not have.
        Event::Disconnected { reason: Reason::IdentityTaken | Reason::AuthDenied | Reason::PeerError(_), .. } => {
            Level::Warn
        }
        Event::SpoolFailed { .. } => Level::Error,
        Event::Recovered { .. } => Level::Info,
        event if is_spool(event) => Level::Warn,
        _ => Level::Debug,
    }
}

/// Whether it is news of durable delivery.
pub(crate) fn is_spool(event: &Event) -> bool {
    matches!(
        event,
        Event::SpoolFull { .. }
            | Event::SpoolFailed { .. }
            | Event::Lost { .. }
            | Event::Damaged { .. }
            | Event::Recovered { .. }
            | Event::NamesLost
            | Event::NameExpired { .. }
            | Event::NameStalled { .. }
            | Event::PlainPeer { .. }
            | Event::SpoolChanged { .. }
            | Event::DeadLetter { .. }
            | Event::ClockStep { .. }
    )
}

/// One line about an event.
fn text(event: &Event) -> String {
    match event {
        Event::Connected { peer, socket_type, .. } => {
            format!("connected {peer} {}", socket_type.map_or("unknown", |kind| kind.name()))
        }
        Event::Refused { peer, phase, reason } => format!("refused {peer} in {phase:?}: {reason}"),
        Event::Disconnected { peer, reason } => format!("disconnected {peer}: {reason}"),
        Event::Retrying { endpoint, after } => format!("trying {endpoint} again in {} ms", after.as_millis()),
        Event::AcceptFailed { endpoint, reason } => format!("cannot accept at {endpoint}: {reason}"),
        Event::Dropped { peer, reason, count } if peer.is_empty() => {
            format!("dropped {count} messages ({})", reason.name())
        }
        Event::Dropped { peer, reason, count } => format!("dropped {count} messages for {peer} ({})", reason.name()),
        Event::Subscribed { peer, topic } => format!("subscribed {peer} \"{}\"", topic.escape_ascii()),
        Event::Unsubscribed { peer, topic } => format!("unsubscribed {peer} \"{}\"", topic.escape_ascii()),
        Event::Missed { count } => format!("missed {count} events"),
        Event::Listening { endpoint } | Event::Stopped { endpoint } => format!("{} {endpoint}", event.name()),
        Event::HwmReached { peer } | Event::HwmCleared { peer } | Event::Unanswered { peer } => {
            format!("{} {peer}", event.name())
        }
        event => spool_text(event),
    }
}

fn spool_text(event: &Event) -> String {
    match event {
        Event::SpoolFull { bytes, limit } => format!("the spool is full: {bytes} bytes, the limit is {limit}"),
        Event::SpoolFailed { error } => format!("the spool has failed: {error}; open it again"),
        Event::Lost { name, from, to, records, bytes } => {
            format!("lost for \"{name}\": records {from} to {to} ({records} records, {bytes} bytes)")
        }
        Event::Damaged { segment, offset, bytes, from, to } if from > to => {
            format!("damaged: {bytes} bytes at {offset} of {segment}; no record is missing")
        }
        Event::Damaged { segment, offset, bytes, from, to } => {
            format!("damaged: {bytes} bytes at {offset} of {segment}; records {from} to {to} may be missing")
        }
        Event::Recovered { records, torn, next } => {
            format!("recovered the spool: {records} records, {torn} torn bytes cut, the next number is {next}")
        }
        Event::NamesLost => "the durable names are lost: both copies of the registry were unreadable".to_owned(),
        Event::NameExpired { name } => format!("dropped the durable name \"{name}\""),
        Event::NameStalled { name, lag } => format!("\"{name}\" takes nothing: {lag} records behind"),
        Event::PlainPeer { peer } => format!("{peer} takes no part in durable delivery"),
        Event::SpoolChanged { peer, old, new } => format!("{peer} has another spool: {new} instead of {old}"),
        Event::DeadLetter { name, sequence } => format!("record {sequence} is a dead letter of \"{name}\""),
        Event::ClockStep { by_ms } => format!("the clock was set by {by_ms} ms; ages go by the old one"),
        _ => event.name().to_owned(),
    }
}
