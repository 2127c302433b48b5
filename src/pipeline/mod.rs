//! The only room that knows the order: source → decode → detect → annotate → encode → sink.
//!
//! Belongs here: the threads and tasks of a stream, who starts and ends them, the registries of streams and sessions,
//! and what is counted on the way. Does not belong here: the work itself, which each room does, and HTTP.

mod inbox;
mod ingress;
mod metrics;
mod options;
mod original;
mod parts;
mod registry;
mod rendition;
mod schedule;
mod session;
mod shared;
mod silence;
mod status;
mod stream;
mod sub_stream;
mod video;

pub use crate::sink::VideoChoice;
pub use options::{Config, PipelineError};
pub use parts::{Signal, StreamOptions, StreamParts};
pub use registry::{Accepted, Pipeline, ServerInfo};
pub use schedule::stand_ahead;
pub use session::{SessionState, SessionStatus};
pub use status::{ClockSkew, Snapshot, StreamStatus, Timeline, VideoStatus};
pub use stream::Stream;
