//! The outside world to access units.
//!
//! Belongs here: whatever brings H.264 in, and what turns it into whole access units in decoding order. Does not belong
//! here: decoding, pictures, sessions, and the order of the pipeline.

mod error;
pub mod file;
pub mod publisher;
pub mod rtp;

pub use error::SourceError;

pub use crate::media::{nal, sps};
