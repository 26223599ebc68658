//! Which topics anybody wants: a counted set of prefixes, asked once for each append.
