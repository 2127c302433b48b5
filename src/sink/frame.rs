//! An encoded frame on its way to viewers.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::media::{Detection, Detections, FrameLedger, RtpTimestamp};

/// What a viewer wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoChoice {
    /// The pictures with the boxes in them.
    #[default]
    Annotated,
    /// The pictures as they come.
    Original,
}

/// The coded bitstreams of one stream: a frame refers to earlier frames of its own only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bitstream {
    /// The source's own access units, as they came.
    Source,
    /// Our encode of the pictures with the boxes in them.
    Annotated,
    /// Our encode of the pictures as they are.
    Plain,
}

/// An encoded frame with everything that is said about it.
#[derive(Debug)]
pub struct EncodedFrame {
    /// What it continues.
    pub bitstream: Bitstream,
    /// Which of the encodes of this kind, the one for the widest links first; 0 for the source's own.
    pub tier: usize,
    /// RTP payloads of the access unit, shared by all viewers.
    pub payloads: Vec<Bytes>,
    /// Decoding can start here.
    pub idr: bool,
    /// The frame's number in its stream.
    pub frame_id: u64,
    /// The frame's timestamps.
    pub rtp_timestamp: RtpTimestamp,
    /// When the sender captured it, by its own clock.
    pub captured: Option<SystemTime>,
    /// When it passed which door, up to the encoder.
    pub ledger: FrameLedger,
    /// The boxes as they are drawn.
    pub boxes: Vec<Detection>,
    /// Where the boxes come from.
    pub result: Option<Arc<Detections>>,
}
