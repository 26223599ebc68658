//! Work that needs a process of its own: one that leaves a spool behind, and one that shows its memory.

use std::path::Path;
use std::process::{Command, Stdio};

use ginnel::Sync;

use crate::append::{enqueue, message};
use crate::read::publisher;

/// What to leave behind.
#[derive(Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) size: usize,
    pub(crate) count: u64,
    pub(crate) segment: u64,
    /// For whom it is kept.
    pub(crate) name: Option<&'static str>,
    /// Whether the spool is closed, or the process ends without a word.
    pub(crate) clean: bool,
}

fn run(arguments: &[String]) -> String {
    let program = std::env::current_exe().expect("own path");
    let output =
        Command::new(program).arg("child").args(arguments).stderr(Stdio::inherit()).output().expect("start a child");
    assert!(output.status.success(), "a child failed: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

pub(crate) fn fill(dir: &Path, fill: Fill) {
    let words = [fill.size as u64, fill.count, fill.segment, u64::from(fill.clean)].map(|word| word.to_string());
    let mut arguments = vec!["fill".to_owned(), dir.display().to_string()];
    arguments.extend(words);
    arguments.extend(fill.name.map(str::to_owned));
    run(&arguments);
}

/// KiB that opening this spool and sending a little costs.
pub(crate) fn resident(dir: &Path) -> f64 {
    run(&["resident".to_owned(), dir.display().to_string()]).trim().parse().expect("a number")
}

/// The child's side.
pub(crate) fn play(arguments: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match arguments {
        [role, dir, size, count, segment, clean, name @ ..] if role == "fill" => {
            let number = |word: &String| word.parse::<u64>().expect("a number");
            let (size, count, segment) = (number(size), number(count), number(segment));
            runtime.block_on(async {
                let mut builder = publisher(Path::new(dir), Sync::Never).segment_bytes(segment);
                if let Some(name) = name.first() {
                    builder = builder.declare(name.clone(), [""]);
                }
                let publisher = builder.build().expect("open a spool");
                enqueue(&publisher, &message(usize::try_from(size).expect("a size")), count).await;
                if number(clean) == 0 {
                    // No destructor runs.
                    std::process::exit(0);
                }
                publisher.close().await;
            });
        }
        [role, dir] if role == "resident" => runtime.block_on(async {
            let before = now_resident();
            let publisher = publisher(Path::new(dir), Sync::Never).build().expect("open a spool");
            println!("{}", now_resident() - before);
            publisher.close().await;
        }),
        _ => panic!("no such child"),
    }
}

/// Resident memory of this process, in KiB.
fn now_resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
