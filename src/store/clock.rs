//! The time of a spool: wall clock at open and monotonic time since; the only module that asks for the wall clock.
