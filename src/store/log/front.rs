/// A place in the line of those who wait for room.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    id: Option<u64>,
}
