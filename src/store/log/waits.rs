use super::shared::Shared;
use std::sync::Arc;
use std::task::{Context, Poll};
/// To be woken when more becomes visible.
pub(crate) struct Watch {
    shared: Arc<Shared>,
}
impl Watch {
    pub(crate) fn new(shared: Arc<Shared>) -> Watch {
        Watch { shared }
    }
    /// Ready when more than `after` is visible.
    pub(crate) fn poll_beyond(&mut self, after: u64, _cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.visible() > after { Poll::Ready(()) } else { Poll::Pending }
    }
}
