//! The straight path, without faults: what is appended is read, in order, from memory and from disk, now and later.

use super::*;

fn texts(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, String)> {
    range.map(|n| (n, format!("message {n}"))).collect()
}

fn fill(bench: &Bench, range: std::ops::RangeInclusive<u64>) {
    for n in range {
        assert_eq!(bench.append(&format!("message {n}")), Ok(n));
        if n % 7 == 0 {
            bench.settle();
        }
    }
    bench.settle();
}

#[test]
fn what_is_appended_is_read_in_order_from_memory() {
    let bench = Bench::open(&SimStorage::new(1), &options(Sync::Batch), false);
    fill(&bench, 1..=500);
    assert_eq!(bench.log.visible(), 500);
    assert_eq!(bench.texts(0), texts(1..=500));
    assert_eq!(bench.texts(123), texts(124..=500));
    assert!(bench.log.stats().segments > 5, "{:?}", bench.log.stats());
    assert_eq!(bench.read(0).1, []);
}

#[test]
fn a_closed_log_is_read_from_disk_and_goes_on_with_the_next_number() {
    for sync in [Sync::Batch, Sync::Every(std::time::Duration::from_millis(100)), Sync::Never] {
        let sim = SimStorage::new(2);
        let bench = Bench::open(&sim, &options(sync), false);
        fill(&bench, 1..=300);
        bench.log.close().unwrap();
        assert_eq!(bench.append("late"), Err(Refused::Closed));
        drop(bench);
        let bench = Bench::open(&sim, &options(sync), false);
        assert_eq!(bench.ear.names(), [] as [&str; 0]);
        assert_eq!(bench.texts(0), texts(1..=300));
        assert_eq!(bench.texts(299), texts(300..=300));
        fill(&bench, 301..=400);
        assert_eq!(bench.texts(0), texts(1..=400));
        assert_eq!(bench.read(0).1, []);
    }
}

#[test]
fn d04_numbers_after_an_unclean_end_are_new_ones() {
    let sim = SimStorage::new(3);
    let bench = Bench::open(&sim, &options(Sync::Batch), false);
    fill(&bench, 1..=100);
    let killed = sim.kill();
    drop(bench);
    let bench = Bench::open(&killed, &options(Sync::Batch), false);
    assert_eq!(bench.ear.names(), ["Recovered"]);
    assert_eq!(bench.texts(0), texts(1..=100));
    let next = bench.append("new").unwrap();
    assert!(next > 1 << 20, "{next}");
    bench.settle();
    let (all, missing) = bench.read(0);
    assert_eq!((all.len(), missing.len()), (101, 0), "what nobody got is not missing");
    assert_eq!(bench.texts(100), [(next, "new".to_owned())]);
}

#[test]
fn a_number_is_accepted_when_the_policy_says_so() {
    let bench = Bench::open(&SimStorage::new(4), &options(Sync::Batch), false);
    let one = bench.append("one").unwrap();
    assert_eq!(bench.accepted(one), None);
    bench.settle();
    assert_eq!(bench.accepted(one), Some(true));
    assert_eq!(bench.log.stats().durable, one);
}

#[test]
fn what_nobody_wants_gets_a_number_and_no_place() {
    let mut options = options(Sync::Batch);
    options.append_all = false;
    let bench = Bench::open(&SimStorage::new(5), &options, false);
    assert_eq!(bench.append("nobody"), Ok(1));
    assert_eq!((bench.accepted(1), bench.log.visible()), (Some(true), 1));
    assert!(bench.log.declare("name", &[b"a"]));
    assert_eq!(bench.append("abc"), Ok(2));
    assert_eq!(bench.append("xyz"), Ok(3));
    bench.settle();
    assert_eq!(bench.log.visible(), 3);
    assert_eq!(bench.texts(0), [(2, "abc".to_owned())]);
    assert_eq!(bench.log.stats().records, 1);
}

#[test]
fn what_everybody_read_goes_and_the_head_is_safe_before() {
    let mut options = options(Sync::Batch);
    options.append_all = false;
    let sim = SimStorage::new(6);
    let bench = Bench::open(&sim, &options, true);
    fill(&bench, 1..=300);
    let before = bench.log.stats();
    assert_eq!(before.oldest, 1);
    bench.log.advance("", 200, &[(205, 210)]);
    bench.settle();
    let after = bench.log.stats();
    assert!(after.segments < before.segments && after.oldest > 100, "{after:?}");
    assert!(bench.log.oldest() <= 201);
    assert_eq!(bench.texts(200), texts(201..=300));
    bench.log.close().unwrap();
    drop(bench);
    let bench = Bench::open(&sim, &options, true);
    assert_eq!(bench.log.registry(|registry| registry.names[""].cursor), 200);
    assert_eq!(bench.log.registry(|registry| registry.names[""].done.clone()), [(205, 210)]);
    assert_eq!(bench.texts(200), texts(201..=300));
}

/// Waits like a task would.
pub(super) fn wait(log: &Log, sequence: u64) -> bool {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match log.poll_accepted(sequence, &mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result.is_ok(),
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn threads_append_to_one_log_and_each_number_is_accepted() {
    for sync in [Sync::Batch, Sync::Every(std::time::Duration::from_millis(1)), Sync::Never] {
        let sim = SimStorage::new(7);
        let clock = Arc::new(crate::store::clock::SystemClock);
        let ear = Arc::new(Ear::default());
        let log = Log::open_on(sim.storage(), clock, &options(sync), false, Arc::clone(&ear) as _, true).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = log.clone();
                scope.spawn(move || {
                    for n in 0..200 {
                        let message = Message::from(format!("{thread} {n}"));
                        let sequence = log.try_append(&message, &Extra::default()).unwrap();
                        assert!(wait(&log, sequence));
                    }
                });
            }
        });
        let all = read(&log, 0).0;
        assert_eq!(all.len(), 800);
        assert!(all.windows(2).all(|pair| pair[0].sequence + 1 == pair[1].sequence));
        assert!(all.windows(2).all(|pair| pair[0].time <= pair[1].time));
        log.close().unwrap();
        drop(log);
        let bench = Bench::open(&sim, &options(sync), false);
        assert_eq!(bench.read(0).0.len(), 800);
        assert_eq!(ear.names(), [] as [&str; 0]);
    }
}
