//! The seam to the operating system: a directory and its files, real or simulated.
