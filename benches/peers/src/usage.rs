//! What a process cost so far: processor time and context switches of all its threads, memory, and the shared clock.

use std::sync::Mutex;

/// Totals since the process started, or the difference of two totals.
#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu_us: f64,
    pub switches: f64,
}

impl Usage {
    pub fn now() -> Usage {
        // SAFETY: all-zero is a valid rusage, and getrusage fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0, "getrusage");
            usage
        };
        let micros = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
        Usage {
            cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw) as f64,
        }
    }

    pub fn since(self, earlier: Usage) -> Usage {
        Usage { cpu_us: self.cpu_us - earlier.cpu_us, switches: self.switches - earlier.switches }
    }
}

static MARK: Mutex<Option<Usage>> = Mutex::new(None);

/// What was spent until now does not belong to the measurement. Only the first call counts.
pub fn mark() {
    MARK.lock().expect("no panic inside").get_or_insert_with(Usage::now);
}

/// Where the measurement began, if a workload said so.
pub fn marked() -> Option<Usage> {
    *MARK.lock().expect("no panic inside")
}

/// The system's monotonic clock, the same for all processes.
pub fn now_nanos() -> u64 {
    // SAFETY: a valid place to write to.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time), 0, "clock_gettime");
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
