//! The shared words of the house: what flows between the rooms, and the time it carries.
//!
//! Belongs here: plain data that two or more rooms exchange, the arithmetic of media time, and what the headers of a coded
//! stream say. Does not belong here:
//! anything that does I/O, names a vendor crate, or knows the order of the pipeline. This room imports nothing of ours.

mod access_unit;
mod audio;
pub(crate) mod bits;
mod clock;
mod detection;
mod frame;
pub mod h265;
pub mod jpeg;
mod keyframe;
mod ledger;
pub mod nal;
mod region;
mod rtp_packet;
mod skew;
mod slot;
pub mod sps;

pub use access_unit::{AccessUnit, MAX_ACCESS_UNIT_BYTES, VideoCodec};
pub use audio::{AudioCodec, AudioPacket};
pub use clock::{RtpTimestamp, SenderReport, StreamClock, Unwrapper, VIDEO_CLOCK_HZ};
pub use detection::{BBox, Detection, DetectionTimes, Detections, Intersection, KeyPoint};
pub use frame::{Frame, FramePool, I420Frame, MAX_SIDE, Plane};
pub use keyframe::{IDR_INTERVAL, KeyframeGate, KeyframeRequest};
pub use ledger::{FrameLedger, Mark, STAGES, Stage};
pub use region::{Direction, RegionEvent, RegionEventKind};
pub use rtp_packet::RtpPacket;
pub use skew::{Skew, SkewMeter};
pub use slot::Slot;
