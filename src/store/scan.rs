//! What opening finds in a directory, and what it makes of damage.
