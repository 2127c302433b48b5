//! The outside world to access units.
//!
//! Belongs here: whatever brings video in, and what turns it into whole access units in decoding order. Does not belong
//! here: decoding, pictures, sessions, and the order of the pipeline.

pub mod camera;
mod error;
pub mod file;
pub mod nal;
pub mod publisher;
pub mod rtp;
pub mod sps;

pub use error::SourceError;
