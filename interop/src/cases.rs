//! Runs the cases of one table, bounds each in time, and reports them by name.

use std::fmt::{Debug, Display};
use std::io::Write;
use std::time::Duration;

use ginnel::{Event, Monitor};

use crate::peer::{Peer, Program};

/// Whatever failed, as text for a person.
pub type Fault = Box<dyn std::error::Error>;

/// The end of a case.
pub type Outcome = Result<(), Fault>;

/// One case may take so long; a deadline against hanging, not a measure.
const CASE: Duration = Duration::from_secs(60);

/// One step of a case may take so long.
const STEP: Duration = Duration::from_secs(15);

/// A table of cases against one peer process, which is started anew after a failure.
pub struct Cases {
    table: &'static str,
    program: Program,
    peer: Option<Peer>,
    total: usize,
    failures: Vec<String>,
}

impl Cases {
    pub fn new(table: &'static str, program: Program) -> Cases {
        Cases { table, program, peer: None, total: 0, failures: Vec::new() }
    }

    /// Runs one case; a failure is kept and the next case runs.
    pub async fn run(&mut self, case: impl Display, body: impl AsyncFnOnce(&mut Peer) -> Outcome) {
        self.total += 1;
        let mut peer = match self.peer.take() {
            Some(peer) => peer,
            None => match Peer::start(self.program).await {
                Ok(peer) => peer,
                Err(fault) => return self.failures.push(format!("{case}: {fault}")),
            },
        };
        let outcome =
            tokio::time::timeout(CASE, body(&mut peer)).await.unwrap_or_else(|_| Err("no end in 60 s".into()));
        match outcome {
            Ok(()) => self.keep(peer).await,
            Err(fault) => self.failures.push(format!("{case}: {fault}")),
        }
    }

    async fn keep(&mut self, mut peer: Peer) {
        if peer.reset().await.is_ok() {
            self.peer = Some(peer);
        }
    }

    /// Prints the count past libtest's capture, then fails if a case failed.
    pub fn finish(self) {
        let passed = self.total - self.failures.len();
        // Nothing to do about a closed standard error.
        let _ = writeln!(std::io::stderr(), "interop: {passed} of {} cases: {}", self.total, self.table);
        assert!(self.failures.is_empty(), "{}: failed cases:\n  {}", self.table, self.failures.join("\n  "));
    }
}

/// Bounds one step and names it.
pub async fn within<T, E: Into<Fault>>(step: &str, future: impl Future<Output = Result<T, E>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(format!("{step}: {}", fault.into()).into()),
        Err(_) => Err(format!("{step}: nothing within {} s", STEP.as_secs()).into()),
    }
}

/// Looks again and again until `condition` holds: for states that have no event.
pub async fn until(step: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    let look = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<(), Fault>(())
    };
    within(step, look).await
}

/// The next event that `wanted` accepts.
pub async fn wait_for(monitor: &mut Monitor, step: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event, Fault> {
    let mut seen = std::collections::VecDeque::new();
    let look = async {
        while let Some(event) = monitor.recv().await {
            if wanted(&event) {
                return Ok::<Event, Fault>(event);
            }
            seen.push_back(event);
            if seen.len() > 8 {
                seen.pop_front();
            }
        }
        Err("the monitor ended".into())
    };
    let found = within(step, look).await;
    found.map_err(|fault| format!("{fault}; last events: {seen:?}").into())
}

pub fn check(holds: bool, otherwise: impl Display) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.to_string().into()) }
}

pub fn same<T: PartialEq + Debug>(step: &str, got: T, expected: T) -> Outcome {
    check(got == expected, format!("{step}: got {got:?}, expected {expected:?}"))
}
