//! Waiting in a thread instead of a task: [`wait`] polls a future where it is called, and parks in between.
//!
//! What a future does differently there is asked here, too: it takes no timer of a runtime ([`look_again_at`])
//! and may block ([`is_waiting`]). Uses std only. Next: the module `blocking`.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

thread_local! {
    /// Set inside of [`wait`]: when to look again even if nobody wakes the thread (`None` inside: never).
    static WAITING: Cell<Option<Option<Instant>>> = const { Cell::new(None) };
}

/// Whether this thread waits for itself: there is no task that would be held up.
#[inline]
pub(crate) fn is_waiting() -> bool {
    WAITING.get().is_some()
}

/// Has the waiting thread poll again at this instant at the latest. False in a task, which needs a timer.
pub(crate) fn look_again_at(instant: Instant) -> bool {
    let Some(other) = WAITING.get() else { return false };
    WAITING.set(Some(Some(other.map_or(instant, |other| other.min(instant)))));
    true
}

/// Runs `work` for at most `limit`, in a thread that waits.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let deadline = Instant::now().checked_add(limit);
    let mut work = pin!(work);
    poll_fn(|cx| match (work.as_mut().poll(cx), deadline) {
        (Poll::Ready(value), _) => Poll::Ready(Some(value)),
        (Poll::Pending, Some(deadline)) if Instant::now() >= deadline => Poll::Ready(None),
        (Poll::Pending, deadline) => {
            deadline.map(look_again_at);
            Poll::Pending
        }
    })
    .await
}

#[cfg(feature = "blocking")]
pub(crate) use waiting::wait;
#[cfg(all(test, feature = "blocking"))]
pub(crate) use waiting::watch;

#[cfg(feature = "blocking")]
mod waiting {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};
    use std::time::Instant;

    use super::{WAITING, is_waiting};

    struct Unpark {
        thread: Thread,
        /// What remembers a wake. The token that std keeps for the thread does not do: whatever parks during a poll
        /// (a lock, a channel, a subscriber of `tracing`) takes it away.
        woken: AtomicBool,
    }

    impl Unpark {
        /// Sleeps until there was a wake since the last time, or until this instant.
        fn park(&self, until: Option<Instant>) {
            while !self.woken.swap(false, Ordering::Acquire) {
                let Some(instant) = until else {
                    thread::park();
                    continue;
                };
                let left = instant.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                thread::park_timeout(left);
            }
        }
    }

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.woken.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }

    thread_local! {
        static UNPARK: Arc<Unpark> = fresh();
    }

    fn fresh() -> Arc<Unpark> {
        Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) })
    }

    /// At the end of a wait inside of another one: that one has the same waker, and its wake may have been taken here.
    struct WakeOuter<'a>(&'a Unpark);

    impl Drop for WakeOuter<'_> {
        fn drop(&mut self) {
            if is_waiting() {
                self.0.woken.store(true, Ordering::Release);
            }
        }
    }

    /// For one poll. Put back when that ends, by a panic too: a runtime may use this thread next.
    struct Mark(Option<Option<Instant>>);

    impl Mark {
        fn set() -> Mark {
            Mark(WAITING.replace(Some(None)))
        }
    }

    impl Drop for Mark {
        fn drop(&mut self) {
            WAITING.set(self.0);
        }
    }

    /// Runs `future` in this thread until it is done. No runtime is entered and none is needed.
    pub(crate) fn wait<F: Future>(future: F) -> F::Output {
        // Without the budget of a task around us, which could be used up and is not filled again while we wait.
        let mut future = pin!(tokio::task::unconstrained(future));
        // A thread that is ending has no waker of its own any more.
        let unpark = UNPARK.try_with(Arc::clone).unwrap_or_else(|_| fresh());
        let waker = Waker::from(unpark.clone());
        let mut cx = Context::from_waker(&waker);
        let _outer = WakeOuter(&unpark);
        loop {
            let mark = Mark::set();
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            let until = WAITING.get().flatten();
            drop(mark);
            unpark.park(until);
        }
    }

    /// For others to ask whether this thread, which has not waited yet, has left its waker somewhere: then its wait has
    /// begun.
    #[cfg(test)]
    pub(crate) fn watch() -> impl Fn() -> bool + Send {
        let unpark = UNPARK.with(Arc::clone);
        // More than the thread's, the one here, the wait's and its waker.
        move || Arc::strong_count(&unpark) > 4
    }

    #[cfg(test)]
    mod tests {
        use std::future::{pending, poll_fn};
        use std::time::Duration;

        use super::*;
        use crate::engine::within;

        #[test]
        fn a_wake_from_another_thread_ends_the_wait() {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let other = thread::spawn(move || sender.send(7));
            assert_eq!(wait(receiver), Ok(7));
            other.join().unwrap().unwrap();
        }

        /// Pending once, woken meanwhile, after which `then` happens in the same poll.
        fn woken_then(mut then: impl FnMut()) -> impl Future<Output = u32> {
            let mut polls = 0;
            poll_fn(move |cx| {
                polls += 1;
                if polls == 2 {
                    return Poll::Ready(polls);
                }
                cx.waker().wake_by_ref();
                then();
                Poll::Pending
            })
        }

        /// In a thread of its own, so that a wait without end fails the test.
        fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
            let (done, outcome) = std::sync::mpsc::channel();
            let worker = thread::spawn(move || done.send(work()).unwrap());
            let outcome = outcome.recv_timeout(Duration::from_secs(10)).expect("it ends");
            worker.join().unwrap();
            outcome
        }

        #[test]
        fn a_wake_is_not_lost_when_the_poll_parks_after_it() {
            let parks = || thread::park_timeout(Duration::from_millis(1));
            assert_eq!(soon(move || wait(woken_then(parks))), 2);
        }

        #[test]
        fn a_wait_inside_of_another_leaves_it_its_wake() {
            let waits = || assert_eq!(wait(woken_then(|| {})), 2);
            assert_eq!(soon(move || wait(woken_then(waits))), 2);
            // Also when it ends by a panic.
            let panics = || {
                let inner = std::panic::catch_unwind(|| {
                    wait(async {
                        woken_then(|| {}).await;
                        panic!("on purpose")
                    })
                });
                assert!(inner.is_err());
            };
            assert_eq!(soon(move || wait(woken_then(panics))), 2);
        }

        #[test]
        fn time_limits_need_no_runtime() {
            assert_eq!(wait(within(Some(Duration::from_millis(1)), pending::<()>())), None);
            let both = async {
                let long = within(Some(Duration::from_secs(3600)), pending::<()>());
                crate::engine::either(pin!(long), pin!(within(Some(Duration::from_millis(1)), pending()))).await
            };
            assert_eq!(wait(both), None, "the nearest limit counts");
            assert_eq!(wait(within(Some(Duration::MAX), async { 7 })), Some(7));
        }

        #[test]
        fn a_task_that_waits_does_not_use_its_budget_up() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                for _ in 0..1000 {
                    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
                    sender.try_send(1).unwrap();
                    assert_eq!(wait(receiver.recv()), Some(1));
                }
                assert_eq!(within(Some(Duration::from_secs(3600)), async { 7 }).await, Some(7));
            });
        }

        #[test]
        fn a_panic_leaves_the_thread_as_it_was() {
            let outcome = std::panic::catch_unwind(|| wait(poll_fn(|_| -> Poll<()> { panic!("on purpose") })));
            assert!(outcome.is_err());
            assert!(!super::super::is_waiting());
        }
    }
}
