//! The contestants, one file each.

mod ginnel;
mod libzmq;
mod raw;

use crate::workload::Column;

/// How ginnel's tokio runtime is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Current,
    Multi,
}

impl Flavour {
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Current => "current",
            Flavour::Multi => "multi",
        }
    }

    pub fn from_name(name: &str) -> Option<Flavour> {
        [Flavour::Current, Flavour::Multi].into_iter().find(|flavour| flavour.name() == name)
    }

    /// The runtime itself, for what lives outside it.
    pub fn runtime(self) -> tokio::runtime::Runtime {
        let mut builder = match self {
            Flavour::Current => tokio::runtime::Builder::new_current_thread(),
            Flavour::Multi => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.enable_all().build().expect("a tokio runtime")
    }

    /// Runs `work` as a task, the way servers run: what it waits for wakes it without a look at the driver first.
    fn run<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.runtime();
        runtime.block_on(runtime.spawn(work)).expect("the task ends")
    }
}

/// Every column's name, in the order of a round.
pub const NAMES: [&str; 4] = ["ginnel", "ginnel-batch", "libzmq", "raw"];

/// The column with this name.
pub fn by_name(name: &str, flavour: Flavour) -> Option<Box<dyn Column>> {
    match name {
        "ginnel" => Some(Box::new(ginnel::Ginnel { flavour, batch: false })),
        "ginnel-batch" => Some(Box::new(ginnel::Ginnel { flavour, batch: true })),
        "libzmq" => Some(Box::new(libzmq::Libzmq)),
        "raw" => Some(Box::new(raw::Raw)),
        _ => None,
    }
}
