//! Reading the log from any position: out of the ring, or off the disk.
