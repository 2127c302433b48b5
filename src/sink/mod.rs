//! Results to the outside world.
