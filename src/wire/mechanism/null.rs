//! NULL: both sides send READY at once; neither proves anything (RFC 37, "The NULL Security Mechanism").

use bytes::BytesMut;

use super::{READY, Step, accept, encode_refusal};
use crate::event::Reason;
use crate::wire::session::LocalSide;

/// Our READY is out from the start, so the only state is to wait for the peer's.
#[derive(Debug)]
pub(crate) struct Null;

impl Null {
    pub(super) fn handle_command(
        &mut self,
        local: &LocalSide,
        name: &[u8],
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<Step, Reason> {
        if name != READY {
            return Err(Reason::UnexpectedCommand);
        }
        accept(local, data, None).map(Step::Ready).inspect_err(|reason| encode_refusal(local, reason, out))
    }
}
