//! There and back: REQ/REP, DEALER/ROUTER, and connections made for one request each.

use serde_json::Value;

use super::{Kind, LIMIT, Run, Transport, endpoint, take};
use crate::cast::{Cast, Why};
use crate::side::LANE_WARM_UP;
use crate::workload::WARM_UP;

/// Who answers, who asks, what the asking side is told besides, and how many answers there are.
struct Plot {
    binder: &'static str,
    connecter: &'static str,
    detail: Option<(&'static str, u64)>,
    answers: u64,
}

impl Run<'_> {
    fn plot(&self) -> Plot {
        let count = self.count;
        let in_lanes = |lanes: u64| lanes * (count / lanes + LANE_WARM_UP);
        let plot = |binder, connecter, detail, answers| Plot { binder, connecter, detail, answers };
        match self.cell.kind {
            Kind::ReqRep => plot("reply", "request", None, count + WARM_UP),
            Kind::ReqRepMany { lanes } => plot("reply", "request-many", Some(("lanes", lanes)), in_lanes(lanes)),
            Kind::DealerRouter => plot("route", "deal", None, count + WARM_UP),
            Kind::DealerRouterMany { window } => plot("route", "deal-many", Some(("window", window)), count),
            Kind::RouterToMany { dealers } => plot("route", "dealers", Some(("lanes", dealers)), in_lanes(dealers)),
            Kind::Connects { at_once } => plot("reply", "visit", Some(("at_once", at_once)), count),
            _ => unreachable!("not there and back"),
        }
    }

    pub(super) fn rounds(&self) -> Result<Value, Why> {
        let plot = self.plot();
        let asks = |side: &str, at: &str| {
            let mut job = self.job(side, at);
            if let Some((name, value)) = plot.detail {
                job[name] = value.into();
            }
            job
        };
        let sides = if self.cell.transport == Transport::Inproc {
            self.alone(asks(&format!("{}-inproc", plot.connecter), "inproc://peers"))?
        } else {
            let place = self.place();
            let mut cast = Cast::new(LIMIT).on(self.cell.processors);
            let mut answers = self.job(plot.binder, &place.at);
            answers["count"] = plot.answers.into();
            let binder = cast.start(answers);
            let ready = cast.line(binder)?;
            let connecter = cast.start(asks(plot.connecter, endpoint(&ready)?));
            let asked = cast.line(connecter)?;
            cast.release(binder);
            (asked, cast.line(binder)?)
        };
        let mut record = self.costs(&sides, plot.answers);
        take(&mut record, &sides.0, &["rate", "p50", "p99", "p999"]);
        record["lost"] = 0.into();
        Ok(record)
    }
}
