//! omq: nothing measured yet.

use crate::workload::Column;

pub struct Omq;

impl Column for Omq {
    fn settings(&self) -> String {
        "omq: not here yet".to_owned()
    }
}
