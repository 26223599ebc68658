//! monocoque: nothing measured yet.

use crate::workload::Column;

pub struct Monocoque;

impl Column for Monocoque {
    fn settings(&self) -> String {
        "monocoque: not here yet".to_owned()
    }
}
