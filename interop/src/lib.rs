//! Proof that ginnel speaks with others.
