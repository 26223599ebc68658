//! The holder's side of a session.
