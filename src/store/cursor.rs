//! A holder's cursor on disk: how far it got in each spool, in one file with two copies written in turn.
//!
//! For applications that keep no token of their own. It may use `storage` and the registry's way of writing two
//! copies (`names::twin`). Absent: when to save; that is the holder's business. Next: `names::twin`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::message::SpoolId;
use crate::store::names::slot::{Fields, put_ranges, put_u32, put_u64};
use crate::store::names::twin::{self, Area, Format, Slot, Twin};
use crate::store::storage::File;

/// A holder's position in one spool: everything up to the number is done, and these inclusive ranges above it.
pub(crate) type Position = (SpoolId, u64, Vec<(u64, u64)>);

/// The file, open and locked.
pub(crate) struct FileCursor {
    twin: Twin,
}

impl FileCursor {
    pub(crate) fn open(path: &Path) -> io::Result<(FileCursor, Vec<Position>)> {
        Err(io::Error::new(io::ErrorKind::Unsupported, path.display().to_string()))
    }
    pub(crate) fn save(&mut self, state: &[Position]) -> io::Result<()> {
        Ok(())
    }
}
