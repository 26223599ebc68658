#![allow(unused)]
use super::*;
pub(super) fn open(options: &SpoolOptions, push: bool, witness: Arc<dyn Witness>) -> Result<Log, OpenError> {
    unimplemented!()
}
pub(super) fn open_on(
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    options: &SpoolOptions,
    push: bool,
    witness: Arc<dyn Witness>,
    threaded: bool,
) -> Result<Log, OpenError> {
    unimplemented!()
}
