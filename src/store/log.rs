//! The log: numbers, the open batch, what is visible, and who waits for it.
