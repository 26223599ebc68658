//! zmq.rs (crate zeromq): nothing measured yet.

use crate::workload::Column;

pub struct Zeromq;

impl Column for Zeromq {
    fn settings(&self) -> String {
        "zmq.rs (crate zeromq): not here yet".to_owned()
    }
}
