//! One way: PUSH/PULL, fan-in, PUB/SUB.

use serde_json::Value;

use super::{Kind, LIMIT, Run, Transport, endpoint, take};
use crate::cast::{Cast, Why};

impl Run<'_> {
    pub(super) fn stream(&self) -> Result<Value, Why> {
        match self.cell.kind {
            Kind::PubSub { subscribers, topics } => self.fan_out(subscribers, topics),
            Kind::FanIn { senders } => self.push_pull("send-many", senders),
            _ => self.push_pull("send", 1),
        }
    }

    fn push_pull(&self, side: &str, senders: u64) -> Result<Value, Why> {
        // Each sender sends as many as the others.
        let count = self.count / senders * senders;
        let job = |side: &str, at: &str| {
            let mut job = self.job(side, at);
            job["senders"] = senders.into();
            job["count"] = count.into();
            job
        };
        let sides = if self.cell.transport == Transport::Inproc {
            self.alone(job("push-pull-inproc", "inproc://peers"))?
        } else {
            let place = self.place();
            let mut cast = Cast::new(LIMIT);
            let binder = cast.start(job("receive", &place.at));
            let ready = cast.line(binder)?;
            let connecter = cast.start(job(side, endpoint(&ready)?));
            let received = cast.line(binder)?;
            // A sender of libzmq must not go before the receiver has all: a PULL at its high-water mark that sees
            // the hang-up of a Unix socket gives up what the system still holds for it.
            cast.release(connecter);
            (received, cast.line(connecter)?)
        };
        let mut record = self.costs(&sides, count);
        record["rate"] = rate(&sides, count).into();
        record["lost"] = 0.into();
        Ok(record)
    }

    fn fan_out(&self, subscribers: u64, topics: u64) -> Result<Value, Why> {
        let job = |side: &str, at: &str| {
            let mut job = self.job(side, at);
            job["subscribers"] = subscribers.into();
            job["topics"] = topics.into();
            job
        };
        let place = self.place();
        let mut cast = Cast::new(LIMIT);
        let publisher = cast.start(job("publish", &place.at));
        let ready = cast.line(publisher)?;
        let subscriber = cast.start(job("subscribe", endpoint(&ready)?));
        let subscribed = cast.line(subscriber)?;
        if subscribed["subscribed"].is_null() {
            return Err(Why::failed(format!("not subscribed: {subscribed}")));
        }
        cast.say(publisher);
        let received = cast.line(subscriber)?;
        cast.release(publisher);
        let sides = (cast.line(publisher)?, received);
        let taken = sides.1["taken"].as_u64().filter(|&taken| taken > 0);
        let taken = taken.ok_or_else(|| Why::failed("nothing came"))?;
        let mut record = self.costs(&sides, taken);
        record["rate"] = rate(&sides, taken).into();
        take(&mut record, &sides.1, &["taken", "lost"]);
        Ok(record)
    }
}

/// Operations a second, from the first message that a sender asked for to the last that arrived.
fn rate(sides: &(Value, Value), operations: u64) -> f64 {
    let at = |name: &str| sides.0[name].as_u64().or(sides.1[name].as_u64()).expect("a time");
    operations as f64 * 1e9 / (at("ended") - at("began")) as f64
}
