//! One record: its bytes and what they mean.
