//! The registry: durable names with their cursors, in two slots written in turn.
