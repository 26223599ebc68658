//! Logs from many web servers: PUSH to one PULL that counts, and PUB to whoever watches.
//!
//! The web servers only know one address and never wait for a reader of the results; the dashboard only knows
//! topics. Counts are compared with a direct count of the same log lines.

mod common;

use std::collections::BTreeMap;

use common::{Outcome, Part, Stage, check};
use ginnel::{Pub, Pull, Push, Sub};

const SERVERS: u64 = 3;
const LINES: u64 = 2000;

/// The log of one web server, the same at every run: page and user of each view.
fn log(server: u64) -> impl Iterator<Item = (&'static str, String)> {
    const PAGES: [&str; 5] = ["/", "/news", "/news", "/shop", "/about"];
    let mut state = server + 1;
    (0..LINES).map(move |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let dice = state >> 33;
        (PAGES[(dice % 5) as usize], format!("user-{}", (dice / 5) % 7 * (dice / 35) % 20))
    })
}

#[derive(Default)]
struct Counts {
    pages: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, page: &str, user: &str) {
        *self.pages.entry(page.into()).or_default() += 1;
        *self.users.entry(user.into()).or_default() += 1;
    }

    fn views(&self) -> String {
        self.pages.iter().map(|(page, views)| format!("{page}={views}")).collect::<Vec<_>>().join(" ")
    }

    fn top_users(&self) -> String {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        users.iter().take(3).map(|(user, views)| format!("{user}={views}")).collect::<Vec<_>>().join(" ")
    }
}

async fn play(part: Part) -> Outcome {
    match part.role.as_str() {
        "aggregator" => aggregator(part).await,
        "webserver" => webserver(part).await,
        _ => dashboard(part).await,
    }
}

/// Word: its number, from 0.
async fn webserver(part: Part) -> Outcome {
    // The end waits until all is written, however long that takes.
    let push = Push::builder().linger(None).connect(part.endpoint(0)?)?;
    for (page, user) in log(part.word(0, 0)?) {
        push.send(("view", page, user)).await?; // Waits when the aggregator falls behind.
    }
    push.send("end").await?;
    push.close().await;
    Ok(())
}

async fn aggregator(part: Part) -> Outcome {
    let mut logs = Pull::bind(part.bind()).await?;
    let results = Pub::bind(part.bind_at(1)).await?;
    part.say_endpoint_of("logs", &logs);
    part.say_endpoint_of("results", &results);
    results.wait_for_subscribers(1).await?;

    let (mut counts, mut ended, mut lines) = (Counts::default(), 0, 0);
    while ended < SERVERS {
        let message = logs.recv().await?;
        match &*message {
            [kind, page, user] if *kind == "view" => {
                counts.add(page.to_str()?, user.to_str()?);
                lines += 1;
                if lines % LINES == 0 {
                    results.send(("progress", lines.to_string())).await?;
                }
            }
            _ => ended += 1,
        }
    }
    results.send(("total.pages", counts.views())).await?;
    results.send(("total.users", counts.top_users())).await?;
    results.close().await;
    Ok(())
}

async fn dashboard(part: Part) -> Outcome {
    let mut sub = Sub::builder().subscribe("progress").subscribe("total.").connect(part.endpoint(0)?)?;
    loop {
        let message = sub.recv().await?;
        let (topic, text) = (message[0].to_str()?, message[1].to_str()?);
        part.say(format!("{topic} {text}"));
        if topic == "total.users" {
            return Ok(());
        }
    }
}

async fn story(stage: Stage) -> Outcome {
    let mut aggregator = stage.start("aggregator", &[], &[])?;
    let logs = aggregator.wait_for("logs").await?;
    let results = aggregator.wait_for("results").await?;
    let mut dashboard = stage.start("dashboard", &[&results], &[])?;
    let mut webservers = Vec::new();
    for n in 0..SERVERS {
        webservers.push(stage.start("webserver", &[&logs], &[&n.to_string()])?);
    }

    let mut direct = Counts::default();
    (0..SERVERS).flat_map(log).for_each(|(page, user)| direct.add(page, &user));
    check(dashboard.wait_for("total.pages").await? == direct.views(), "page views differ from a direct count")?;
    check(dashboard.wait_for("total.users").await? == direct.top_users(), "top users differ from a direct count")?;

    for webserver in webservers {
        webserver.finish().await?;
    }
    dashboard.finish().await?;
    aggregator.finish().await
}

fn main() -> std::process::ExitCode {
    let about = "Logs of three web servers, counted in one place, shown in another.";
    common::run("log_pipeline", about, &["aggregator (binds)", "webserver", "dashboard"], play, story)
}
