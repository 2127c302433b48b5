//! The outside world to access units.
