//! The two sides of a durable cell as processes: what the parent asks of a child, and the child's answer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Job, Tally, by_name};
use crate::columns::Flavour;
use crate::role::Side;
use crate::usage::Usage;
use crate::workload::Bodies;

/// A child that hangs ends itself after so many seconds.
const CHILD_SECONDS: u32 = 300;

/// Where and what a cell is.
pub struct Place<'a> {
    pub name: &'a str,
    pub flavour: Flavour,
    pub size: usize,
    pub count: u64,
    pub dir: &'a Path,
    pub server: Option<&'a str>,
}

impl Place<'_> {
    fn start(&self, role: &str, endpoint: &str) -> Side {
        let words = ["--durable-role", role, self.name, self.flavour.name()].map(str::to_owned);
        let rest = [self.size.to_string(), self.count.to_string(), self.dir.display().to_string(), endpoint.to_owned()];
        Side::start(words.into_iter().chain(rest))
    }

    /// Runs both sides; their last lines, the publisher's first. The consumer says when it is there, and the
    /// publisher waits until it is told.
    pub fn run(&self, publisher_binds: bool) -> (Value, Value) {
        let (mut publisher, mut consumer);
        if publisher_binds {
            publisher = self.start("send", "");
            let ready = publisher.line();
            let endpoint = ready["endpoint"].as_str().unwrap_or_else(|| panic!("{}: not ready: {ready}", self.name));
            consumer = self.start("receive", endpoint);
            consumer.line();
        } else {
            let endpoint = self.server.expect("a server");
            consumer = self.start("receive", endpoint);
            consumer.line();
            publisher = self.start("send", endpoint);
            publisher.line();
        }
        publisher.say();
        // The consumer stays for its acknowledgements until the publisher has seen them.
        let received = consumer.line();
        publisher.release();
        let sent = publisher.finish();
        consumer.release();
        consumer.end();
        (sent, received)
    }
}

/// Tells the parent that this side is ready.
pub fn ready(endpoint: &str) {
    println!("{}", json!({ "endpoint": endpoint }));
}

/// Waits for a line of the parent, or its end of the pipe.
pub fn told() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The same without keeping the runtime from its work.
pub async fn told_async() {
    tokio::task::spawn_blocking(told).await.expect("wait for the parent");
}

/// The child's side: `role column flavour size count dir endpoint`.
pub fn play(arguments: &[String]) {
    let [role, column, flavour, size, count, dir, endpoint] = arguments else { panic!("seven words") };
    // SAFETY: alarm has no memory effects.
    unsafe { libc::alarm(CHILD_SECONDS) };
    let contestant = by_name(column).expect("a column");
    let job = Job {
        endpoint: endpoint.clone(),
        dir: PathBuf::from(dir),
        size: size.parse().expect("a size"),
        count: count.parse().expect("a count"),
        flavour: Flavour::from_name(flavour).expect("a flavour"),
    };
    if role == "receive" {
        return contestant.receive(&job, &mut Tally::new(job.size, job.count));
    }
    let before = Usage::now();
    let sent = contestant.send(&job, &mut Bodies::new(job.size, job.count));
    let cpu = Usage::now().since(before).cpu_us;
    let (first, accepted) = (sent.first, sent.accepted);
    println!(
        "{}",
        json!({ "first": first, "accepted": accepted, "unacknowledged": sent.unacknowledged, "cpu_us": cpu })
    );
}
