//! Compiles libzmq 4.3.5 and links it statically.
//!
//! `zeromq-src` leaves out what libzmq's own configure step finds on Linux: eventfd wake-ups, the monotonic
//! clock, close-on-exec sockets, aligned allocation. Without them libzmq would be measured below its worth, so
//! they are switched on here, as its own build does.

const FOUND_BY_CONFIGURE: &[&str] = &[
    "-DZMQ_HAVE_EVENTFD",
    "-DZMQ_HAVE_EVENTFD_CLOEXEC",
    "-DZMQ_HAVE_SOCK_CLOEXEC",
    "-DZMQ_HAVE_O_CLOEXEC",
    "-DZMQ_HAVE_SO_PEERCRED",
    "-DZMQ_HAVE_IFADDRS",
    "-DHAVE_ACCEPT4",
    "-DHAVE_CLOCK_GETTIME",
    "-DHAVE_POSIX_MEMALIGN",
    "-DHAVE_MKDTEMP",
    "-DHAVE_FORK",
    "-DZMQ_CACHELINE_SIZE=64",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // SAFETY: a build script has one thread here.
        unsafe { std::env::set_var("CXXFLAGS", FOUND_BY_CONFIGURE.join(" ")) };
    }
    zeromq_src::Build::new().build();
}
