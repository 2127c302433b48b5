//! HTTP in front.
