//! Pictures to access units.
