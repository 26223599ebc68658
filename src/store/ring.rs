//! The batches written last, as they were written: readers who keep up never touch the disk.
