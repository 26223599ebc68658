//! The floor of round trips with blocking std sockets.

use crate::workload::Column;

pub struct RawBlocking;

impl Column for RawBlocking {
    fn settings(&self) -> String {
        "raw-blocking: round trips by blocking std sockets".to_owned()
    }
}
