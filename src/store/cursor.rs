//! The dedupe state of a holder in a file: two slots written in turn.
