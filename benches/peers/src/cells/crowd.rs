//! Many connections: the reconnect storm, and what idle connections cost.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Run, endpoint, take};
use crate::cast::{Cast, Why};
use crate::usage;

/// For connecting up to ten thousand, one after the other where a library does so.
const LIMIT: Duration = Duration::from_secs(40);

/// How often the peers of the storm send.
const EVERY_MS: u64 = 50;

/// How long the bound side stays away: every peer has noticed and tries again.
const AWAY: Duration = Duration::from_millis(300);

/// Sockets of one connecting process at most: a library may need two files for each.
const PEERS_OF_ONE: u64 = 5_000;

/// Until what was started with a connection is over.
const SETTLE: Duration = Duration::from_millis(1_000);

impl Run<'_> {
    pub(super) fn storm(&self, peers: u64) -> Result<Value, Why> {
        let place = self.place();
        let mut cast = Cast::new(LIMIT);
        let first = cast.start(self.gathers(&place.at, peers));
        let ready = cast.line(first)?;
        let at = endpoint(&ready)?;
        let mut job = self.attends(at, 0, peers);
        job["every_ms"] = EVERY_MS.into();
        let crowd = cast.start(job);
        cast.line(crowd)?;
        all_here(&mut cast, first)?;
        cast.kill(first);
        std::thread::sleep(AWAY);
        let second = cast.start(self.gathers(at, peers));
        cast.line(second)?;
        let bound = usage::now_nanos();
        let here = all_here(&mut cast, second)?;
        cast.release(second);
        cast.release(crowd);
        let sides = (cast.line(second)?, cast.line(crowd)?);
        let mut record = self.costs(&sides, peers);
        record["seconds"] = (here.saturating_sub(bound) as f64 / 1e9).into();
        Ok(record)
    }

    pub(super) fn idle(&self, peers: u64) -> Result<Value, Why> {
        let files = usage::raise_file_limit();
        if peers + 100 > files {
            return Err(Why::failed(format!("the system allows {files} open files")));
        }
        let place = self.place();
        let mut cast = Cast::new(LIMIT);
        let binder = cast.start(self.gathers(&place.at, peers));
        let ready = cast.line(binder)?;
        let empty_binder = usage::resident_kib(cast.id(binder));
        let mut crowds = Vec::new();
        let mut empty_crowds = 0;
        for first in (0..peers).step_by(PEERS_OF_ONE as usize) {
            let crowd = cast.start(self.attends(endpoint(&ready)?, first, PEERS_OF_ONE.min(peers - first)));
            empty_crowds += cast.line(crowd)?["resident_kib"].as_u64().unwrap_or(0);
            crowds.push(crowd);
        }
        all_here(&mut cast, binder)?;
        std::thread::sleep(SETTLE);
        let watched = Duration::from_secs(if self.quick { 1 } else { 2 });
        let cpu = |cast: &Cast| {
            let of = |crowd: &usize| usage::cpu_nanos(cast.id(*crowd));
            (usage::cpu_nanos(cast.id(binder)), crowds.iter().map(of).sum::<u64>())
        };
        let before = cpu(&cast);
        std::thread::sleep(watched);
        let after = cpu(&cast);
        let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 / watched.as_nanos() as f64 * 100.0;
        let each = |full: u64, empty: u64| full.saturating_sub(empty) as f64 / peers as f64;
        let full_crowds: u64 = crowds.iter().map(|crowd| usage::resident_kib(cast.id(*crowd))).sum();
        Ok(json!({
            "kib_binder": each(usage::resident_kib(cast.id(binder)), empty_binder),
            "kib_connecter": each(full_crowds, empty_crowds),
            "cpu_percent_binder": percent(before.0, after.0),
            "cpu_percent_connecter": percent(before.1, after.1),
        }))
    }

    fn gathers(&self, at: &str, peers: u64) -> Value {
        let mut job = self.job("gather", at);
        job["peers"] = peers.into();
        job
    }

    fn attends(&self, at: &str, first: u64, peers: u64) -> Value {
        let mut job = self.job("attend", at);
        take(&mut job, &json!({ "first": first, "peers": peers }), &["first", "peers"]);
        job
    }
}

/// When the last one had called in, on the clock of all processes.
fn all_here(cast: &mut Cast, gatherer: usize) -> Result<u64, Why> {
    let line = cast.line(gatherer)?;
    line["all_here"].as_u64().ok_or_else(|| Why::failed(format!("not all here: {line}")))
}
