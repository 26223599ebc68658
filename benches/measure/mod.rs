//! What every bench here shares: it repeats some work, and prints what one operation costs.
//!
//! `cargo bench --bench NAME --features blocking,__internals [-- WORD]` measures what has WORD in its name.

use std::time::{Duration, Instant};

/// Samples of each measurement: the middle one counts, the others show the spread.
const SAMPLES: usize = 7;
const SAMPLE: Duration = Duration::from_millis(40);

/// Prints the time of one of the `each` operations that one call of `work` does.
pub(crate) fn measure(name: &str, each: usize, mut work: impl FnMut()) {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    if wanted.is_some_and(|word| !name.contains(&word)) {
        return;
    }
    // Not counted: memory is fetched, connections stand, and the speed is known afterwards.
    let rounds = (1..).find(|&rounds| run(&mut work, 1 << rounds) > SAMPLE / 4).map_or(1, |rounds| 4 << rounds);
    let mut costs: Vec<f64> =
        (0..SAMPLES).map(|_| run(&mut work, rounds).as_nanos() as f64 / (rounds * each) as f64).collect();
    costs.sort_by(f64::total_cmp);
    let (low, middle, high) = (costs[0], costs[SAMPLES / 2], costs[SAMPLES - 1]);
    println!("{name:<40} {middle:>12.1} ns  ({low:.1} to {high:.1})");
}

fn run(work: &mut impl FnMut(), rounds: usize) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    start.elapsed()
}
