//! Looking at a spool without opening it for use: list, verify, read, repair. For tools.
