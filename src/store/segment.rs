//! One segment file: its header and its name.
