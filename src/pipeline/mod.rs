//! The only room that knows the order: source → decode → detect → annotate → encode → sink.
//!
//! Belongs here: the threads and tasks of a stream, who starts and ends them, the registries of streams, sessions and
//! cameras, and what is counted on the way. Does not belong here: the work itself, which each room does, and HTTP.

mod admit;
mod boxes;
mod budget;
mod camera;
mod cameras;
mod departures;
mod encodes;
mod glass;
mod inbox;
mod ingress;
mod ladder;
mod latency;
#[cfg(test)]
mod link_tests;
mod memory;
mod metrics;
mod models;
mod names;
mod options;
mod original;
mod overload;
mod parts;
mod privacy;
mod published;
mod rate;
mod redact;
mod regions;
mod registry;
mod rendition;
mod rules;
mod schedule;
mod session;
mod shared;
mod silence;
mod status;
mod stream;
mod streams;
mod sub_stream;
mod sync;
mod video;

pub use crate::detect::{ModelState, ModelStatus, ReplaceError};
pub use crate::sink::VideoChoice;
pub use admit::Accepted;
pub use cameras::{CameraConfig, CameraReport, Changes, Origin};
pub use latency::{LatencyReport, LatencyWindow, Quantiles};
pub use memory::share_memory;
pub use models::ModelUpload;
pub use names::check_name;
pub use options::{Config, Mode, PipelineError};
pub use overload::{Gives, Load};
pub use parts::{Signal, StreamOptions, StreamParts};
pub use privacy::{BeforeFirst, MaskVeil, Privacy};
pub use redact::hide_secrets;
pub use regions::Regions;
pub use registry::{Pipeline, ServerInfo, StreamReport};
pub use rules::Rules;
pub use schedule::stand_ahead;
pub use session::{Role, SessionState, SessionStatus};
pub use status::{
    ClockSkew, PrivacyStatus, RenditionStatus, SamplingStatus, Snapshot, StageStatus, StreamStatus, Timeline,
    VideoStatus,
};
pub use stream::Stream;
pub use streams::StreamKind;
pub use sync::{Basis, PairSync, StreamSync, SyncReport};
