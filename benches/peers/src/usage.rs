//! What a process cost so far: processor time and context switches of all its threads, memory, and the shared clock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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

static BEGAN: AtomicU64 = AtomicU64::new(0);

/// This process asks for its first message now. Only the first call counts.
#[cold]
pub fn begin() {
    let _ = BEGAN.compare_exchange(0, now_nanos(), Ordering::Relaxed, Ordering::Relaxed);
}

/// When this process asked for its first message, if it sends any.
pub fn began() -> Option<u64> {
    Some(BEGAN.load(Ordering::Relaxed)).filter(|&nanos| nanos > 0)
}

/// Resident memory of a process, in KiB; 0 if it is gone.
pub fn resident_kib(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // SAFETY: no memory effects.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64 / 1024
}

/// Processor time of all threads of a process, in nanoseconds as the scheduler counts them.
pub fn cpu_nanos(process: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(of).sum()
}

/// Lets this process, and those it starts, open as many files as the system allows; returns how many.
pub fn raise_file_limit() -> u64 {
    // SAFETY: a valid place to read from and to write to.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur
    }
}
