//! The prefixes of a name, each with the number from which it counts.
