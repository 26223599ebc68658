//! rzmq: nothing measured yet.

use crate::workload::Column;

pub struct Rzmq;

impl Column for Rzmq {
    fn settings(&self) -> String {
        "rzmq: not here yet".to_owned()
    }
}
