//! Being written.

#[allow(dead_code)] // Publishers and subscribers come next.
mod topics;
