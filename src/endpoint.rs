//! Endpoint text. Being written.
