//! A set of record numbers as ranges.
