//! What can be asked of a stream: how it is doing, its newest picture, its place in time.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::overload::Gives;
use crate::detect::{RegionCount, Sampling, SamplingCounts};
use crate::media::{I420Frame, RtpTimestamp};
use crate::sink::message::StreamConfig;

/// How a stream is doing, for the API.
#[derive(Clone, Debug, Serialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Width of the picture in pixels, once one was decoded.
    pub width: Option<usize>,
    /// Height of the picture in pixels.
    pub height: Option<usize>,
    /// How long it has been running, in seconds.
    pub uptime_s: f64,
    /// Who watches it, annotated or not.
    pub viewers: usize,
    /// Frames sent per second, over the last two seconds; a frame that several viewers get counts once.
    pub fps: f64,
    /// Pictures decoded per second, over the last two seconds.
    pub input_fps: f64,
    /// Frames that the detector finished per second, over the last two seconds.
    pub detection_fps: f64,
    /// Access units that came in.
    pub frames_in: u64,
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Frames sent; one that several viewers get counts once.
    pub frames_out: u64,
    /// Pictures encoded, of all encodes together.
    pub encodes: u64,
    /// The encodes that somebody watches now, and what the links to their viewers leave of the picture.
    pub renditions: Vec<RenditionStatus>,
    /// Frames that the detector finished.
    pub detections: u64,
    /// Frames that the detector skipped because a newer one was there.
    pub detector_skipped: u64,
    /// Which frames the detector looks at, and how many those were.
    pub sampling: SamplingStatus,
    /// What happened at its zones and lines, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, RegionCount>,
    /// What is hidden on its pictures; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyStatus>,
    /// The stages of its cascade, in order; absent without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cascade: Vec<StageStatus>,
    /// Frames that were not shown, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What it does less of, because the machine has too much to do.
    pub gives_way: GivesWay,
    /// Viewers of the original who get an encode of it, until the source's next IDR or for as long as it cannot be
    /// forwarded.
    pub bridged_viewers: usize,
    /// What comes in, once something came.
    pub video: Option<VideoStatus>,
    /// Why no pictures come, as it stands in the last one; absent while they do.
    pub no_signal: Option<String>,
    /// How the source's clock goes against ours, once measured.
    pub clock: Option<ClockSkew>,
    /// The settings in force.
    pub config: StreamConfig,
}

/// Which frames the detector looks at.
#[derive(Clone, Debug, Serialize)]
pub struct SamplingStatus {
    /// The strategy with its parameters.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// What it decided so far.
    #[serde(flatten)]
    pub counts: SamplingCounts,
}

/// One encode of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RenditionStatus {
    /// `annotated`: with boxes; `plain`: without.
    pub video: &'static str,
    /// Which of the encodes of this kind: 0 for the widest links.
    pub tier: usize,
    /// How many watch it, or are about to.
    pub viewers: usize,
    /// Width of its pictures in pixels; the source's, or less where a link is too narrow.
    pub width: usize,
    /// Height of its pictures.
    pub height: usize,
    /// Of so many pictures of the source one is encoded.
    pub every: u32,
    /// The bitrate that it aims at, in bits per second.
    pub bitrate_bps: u32,
    /// When it encoded a picture last.
    #[serde(skip)]
    pub(super) used: Instant,
}

/// A stage of a cascade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageStatus {
    /// The strategy of sampling, or the model as it was asked for.
    pub stage: String,
    /// What came to it: frames, and crops for the second model.
    pub looked: u64,
    /// What went on from it: frames that are looked at, pictures in which something was found.
    pub passed: u64,
}

/// What is hidden on the newest picture that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PrivacyStatus {
    /// `all` of it, or `parts`.
    pub hides: &'static str,
    /// Why all of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
}

/// What a stream does less of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GivesWay {
    /// The step: 0 (nothing) to 8.
    pub step: u8,
    /// What gave way last: `nothing`, `detection`, `encode`, `size` or `frame_rate`; each stands for those before it too.
    pub what: Gives,
}

/// The video that comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VideoStatus {
    /// How it is coded: `H.264`, `H.265`, `Motion JPEG`.
    pub codec: &'static str,
    /// The profile that its parameter set names.
    pub profile: Option<&'static str>,
    /// It has B-frames: pictures come in another order than they are shown in.
    pub reorders: bool,
    /// Viewers of the original get it as it is.
    pub forwarded: bool,
    /// Why they do not.
    pub why_not: Option<String>,
}

/// A source's clock against ours. It is measured on what arrives, so it holds the network's delay too, and is shown, never
/// believed: nothing is scheduled by it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClockSkew {
    /// The source's wall clock minus ours at arrival, in milliseconds: its clock's error less the way here. Absent where the
    /// source does not tell the time.
    pub offset_ms: Option<f64>,
    /// How much faster than ours its clock runs, in parts per million.
    pub drift_ppm: f64,
    /// How long it was measured, in seconds.
    pub measured_s: f64,
}

/// Where a stream is in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeline {
    /// The newest frame's timestamps.
    pub rtp_timestamp: RtpTimestamp,
    /// When it was captured, by the source's clock, where that is known.
    pub captured: Option<SystemTime>,
    /// When its last packet arrived, by our clock.
    pub arrived: SystemTime,
    /// How the source's clock goes against ours, once measured.
    pub skew: Option<ClockSkew>,
}

/// A stream's newest picture.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// A copy of it, with the boxes in it if they were asked for.
    pub picture: I420Frame,
    /// Its timestamps.
    pub rtp_timestamp: RtpTimestamp,
    /// When its last packet arrived.
    pub at: SystemTime,
}
