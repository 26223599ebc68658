//! The contestants, one file each.

mod ginnel;
mod library;
mod libzmq;
mod monocoque;
mod omq;
mod raw;
mod rzmq;
mod zeromq;

use self::library::Tokio;
use crate::workload::Column;

/// How a column's tokio runtime is built.
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
        if self == Flavour::Multi {
            builder.worker_threads(2);
        }
        builder.enable_all().build().expect("a tokio runtime")
    }

    /// Runs `work` as a task, the way servers run: what it waits for wakes it without a look at the driver first.
    pub fn run<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.runtime();
        runtime.block_on(runtime.spawn(work)).expect("the task ends")
    }
}

/// Every column's name, in the order of a round.
pub const NAMES: [&str; 15] = [
    "ginnel",
    "ginnel-multi",
    "ginnel-batch",
    "ginnel-blocking",
    "libzmq",
    "omq",
    "omq-multi",
    "omq-batch",
    "rzmq",
    "rzmq-uring",
    "zmq.rs",
    "monocoque",
    "monocoque-eager",
    "raw",
    "raw-blocking",
];

/// The column with this name.
pub fn by_name(name: &str) -> Option<Box<dyn Column>> {
    Some(match name {
        "ginnel" => Box::new(ginnel::Ginnel { flavour: Flavour::Current, batch: false }),
        "ginnel-multi" => Box::new(ginnel::Ginnel { flavour: Flavour::Multi, batch: false }),
        "ginnel-batch" => Box::new(ginnel::Ginnel { flavour: Flavour::Current, batch: true }),
        "ginnel-blocking" => Box::new(ginnel::GinnelBlocking),
        "libzmq" => Box::new(libzmq::Libzmq),
        "omq" => Box::new(Tokio(omq::Omq { flavour: Flavour::Current, batch: false })),
        "omq-batch" => Box::new(Tokio(omq::Omq { flavour: Flavour::Current, batch: true })),
        "omq-multi" => Box::new(Tokio(omq::Omq { flavour: Flavour::Multi, batch: false })),
        "rzmq" => Box::new(Tokio(rzmq::Rzmq { uring: false })),
        "rzmq-uring" => Box::new(Tokio(rzmq::Rzmq { uring: true })),
        "zmq.rs" => Box::new(Tokio(zeromq::ZmqRs)),
        "monocoque" => Box::new(monocoque::Monocoque { coalesce: true }),
        "monocoque-eager" => Box::new(monocoque::Monocoque { coalesce: false }),
        "raw" => Box::new(raw::Raw),
        "raw-blocking" => Box::new(raw::RawBlocking),
        _ => return None,
    })
}
