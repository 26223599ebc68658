//! One side of a cell in a process of its own: the job from the parent, and the answer.

use serde_json::{Value, json};

use crate::columns;
use crate::usage::{self, Usage};
use crate::workload::fanout::Deliveries;
use crate::workload::rounds::Times;
use crate::workload::{
    Arrivals, Bodies, Column, Crowd, Failure, Flight, Outcome, Publications, Ready, Roll, Rounds, Subscription, Visits,
};

/// Rounds of each lane that are not measured.
pub const LANE_WARM_UP: u64 = 10;

/// What the parent asks for.
struct Job(Value);

impl Job {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("the job has no {name}"))
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("the job has no {name}"))
    }

    fn size(&self) -> usize {
        self.number("size") as usize
    }

    fn count(&self) -> u64 {
        self.number("count")
    }

    fn bodies(&self) -> Bodies {
        Bodies::new(self.size(), self.count())
    }

    fn arrivals(&self) -> Arrivals {
        Arrivals::new(self.size(), self.number("senders") as usize, self.count())
    }

    fn rounds(&self) -> Rounds {
        Rounds::new(self.size(), self.count())
    }

    fn flight(&self) -> Flight {
        Flight::new(self.size(), self.count(), self.number("window"))
    }

    fn lanes(&self) -> Vec<Rounds> {
        let lanes = self.number("lanes");
        (0..lanes).map(|lane| Rounds::of(lane, self.size(), self.count() / lanes, LANE_WARM_UP)).collect()
    }
}

/// The child's side: one JSON object.
pub fn play(job: &str) {
    let job = Job(serde_json::from_str(job).expect("a job"));
    // A child that hangs ends itself.
    // SAFETY: alarm has no memory effects.
    unsafe { libc::alarm(job.number("seconds") as u32) };
    end_by_panic();
    let column = columns::by_name(job.text("column")).expect("a column");
    let before = Usage::now();
    let answer = match act(&job, &*column) {
        Ok(mut answer) => {
            let spent = Usage::now().since(usage::marked().unwrap_or(before));
            answer["done"] = true.into();
            answer["began"] = usage::began().into();
            answer["cpu_us"] = spent.cpu_us.into();
            answer["switches"] = spent.switches.into();
            answer
        }
        Err(Failure::Unsupported(why)) => json!({ "failed": why, "unsupported": true }),
        Err(Failure::Failed(why)) => json!({ "failed": why }),
    };
    println!("{answer}");
}

/// A panic in any thread or task is the end of the process, so that nobody waits for what will not come.
fn end_by_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        // SAFETY: ends the process at once, without destructors that could hang.
        unsafe { libc::_exit(101) };
    }));
}

fn act(job: &Job, column: &dyn Column) -> Outcome<Value> {
    let at = job.text("at");
    match job.text("side") {
        "receive" => column.receive(at, Ready, job.arrivals()).map(arrived),
        "send" => column.send(at, job.bodies()).map(nothing),
        "send-many" => {
            let senders = job.number("senders");
            let bodies = |sender| Bodies::of(sender, job.size(), job.count() / senders);
            column.send_many(at, (0..senders).map(bodies).collect()).map(nothing)
        }
        "push-pull-inproc" => column.push_pull_inproc(job.bodies(), job.arrivals()).map(arrived),
        "publish" => {
            let subscribers = job.number("subscribers") as usize;
            let all = Publications::new(job.size(), job.count(), job.number("topics"), subscribers);
            column.publish(at, Ready, all).map(nothing)
        }
        "subscribe" => {
            let subscribers = job.number("subscribers") as usize;
            let all = Subscription::all(subscribers, job.size(), job.count(), job.number("topics"));
            column.subscribe(at, all).map(|all| {
                let got = Deliveries::of(&all);
                json!({ "ended": got.ended, "taken": got.taken, "lost": got.lost })
            })
        }
        "gather" => column.gather(at, Ready, Roll::new(job.number("peers") as usize)).map(nothing),
        "attend" => {
            println!("{}", json!({ "resident_kib": usage::resident_kib(std::process::id()) }));
            let every = job.0["every_ms"].as_u64().map(std::time::Duration::from_millis);
            let (first, peers) = (job.number("first") as usize, job.number("peers") as usize);
            column.attend(at, Crowd::new(first, peers, job.size(), every)).map(nothing)
        }
        other => there_and_back(other, at, job, column),
    }
}

fn there_and_back(side: &str, at: &str, job: &Job, column: &dyn Column) -> Outcome<Value> {
    match side {
        "reply" => column.reply(at, Ready, job.count()).map(nothing),
        "route" => column.route(at, Ready, job.count()).map(nothing),
        "request" => column.request(at, job.rounds()).map(round),
        "request-inproc" => column.request_inproc(job.rounds()).map(round),
        "request-many" => column.request_many(at, job.lanes()).map(rounds),
        "request-many-inproc" => column.request_many_inproc(job.lanes()).map(rounds),
        "deal" => column.deal(at, job.rounds()).map(round),
        "deal-inproc" => column.deal_inproc(job.rounds()).map(round),
        "deal-many" => column.deal_many(at, job.flight()).map(flown),
        "deal-many-inproc" => column.deal_many_inproc(job.flight()).map(flown),
        "dealers" => column.dealers(at, job.lanes()).map(rounds),
        "visit" => {
            let visits = Visits::new(job.size(), job.count(), job.number("at_once") as usize);
            column.visit(at, visits).map(|visits| json!({ "rate": visits.rate() }))
        }
        other => panic!("no side {other}"),
    }
}

fn nothing((): ()) -> Value {
    json!({})
}

fn arrived(arrivals: Arrivals) -> Value {
    json!({ "ended": arrivals.ended() })
}

fn flown(flight: Flight) -> Value {
    json!({ "rate": flight.rate() })
}

fn round(one: Rounds) -> Value {
    rounds(vec![one])
}

fn rounds(all: Vec<Rounds>) -> Value {
    let times = Times::of(all);
    json!({ "rate": times.rate(), "p50": times.percentile(0.5), "p99": times.percentile(0.99),
            "p999": times.percentile(0.999) })
}
