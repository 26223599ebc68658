//! The writer: swaps the batch, fills in checksums, writes, syncs, makes visible, rotates, deletes.
