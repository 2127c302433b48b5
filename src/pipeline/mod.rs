//! The only room that knows the order: source → decode → detect → annotate → encode → sink.
//!
//! Belongs here: the threads and tasks of a stream, who starts and ends them, the registries of streams and sessions,
//! and what is counted on the way. Does not belong here: the work itself, which each room does, and HTTP.

mod camera_config;
mod inbox;
mod metrics;
mod options;
mod parts;
mod registry;
mod session;
mod status;
mod stream;
mod video;

pub use crate::sink::VideoChoice;
pub use camera_config::{CameraConfig, check_name, hide_secrets};
pub use options::{Config, Mode, PipelineError};
pub use parts::{Signal, StreamOptions, StreamParts};
pub use registry::{Accepted, Pipeline, ServerInfo};
pub use session::{SessionState, SessionStatus};
pub use status::{ClockSkew, Snapshot, StreamStatus, Timeline, VideoStatus};
pub use stream::Stream;
