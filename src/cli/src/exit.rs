//! How the command ends: [`Failure`] carries an exit code and the one line that says why.
//!
//! Plain values. The codes are a contract; scripts read them.

use std::fmt;
use std::io;

use crate::log;

/// Done, or stdout was closed by its reader.
pub(crate) const OK: i32 = 0;
/// I/O, protocol or internal failure.
pub(crate) const FAILED: i32 = 1;
/// Bad usage.
pub(crate) const USAGE: i32 = 2;
/// A timeout passed.
pub(crate) const TIMEOUT: i32 = 3;
/// A peer was refused and `--fail-on-reject` was set.
pub(crate) const REJECTED: i32 = 4;
/// A malformed input record.
pub(crate) const BAD_DATA: i32 = 5;
/// Messages were dropped and `--fail-on-drop` was set.
pub(crate) const DROPPED: i32 = 6;

/// An end other than success, with its line for stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) why: String,
}

impl Failure {
    pub(crate) fn new(code: i32, why: impl fmt::Display) -> Failure {
        Failure { code, why: why.to_string() }
    }

    pub(crate) fn usage(why: impl fmt::Display) -> Failure {
        Failure::new(USAGE, why)
    }

    pub(crate) fn failed(why: impl fmt::Display) -> Failure {
        Failure::new(FAILED, why)
    }

    pub(crate) fn timeout(why: impl fmt::Display) -> Failure {
        Failure::new(TIMEOUT, why)
    }

    /// Writes the line and gives the code. An empty reason has nothing to say.
    pub(crate) fn report(&self) -> i32 {
        if !self.why.is_empty() {
            log::error(&self.why);
        }
        self.code
    }
}

/// A failed write to stdout: a reader that left is a normal end, anything else is not.
pub(crate) fn stdout_failure(e: &io::Error) -> Failure {
    if e.kind() == io::ErrorKind::BrokenPipe {
        Failure::new(OK, "")
    } else {
        Failure::failed(format_args!("cannot write to stdout: {e}"))
    }
}
