//! The spooler's side: one name, or one PUSH with all its workers.
