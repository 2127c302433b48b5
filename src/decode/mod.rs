//! Access units to pictures.
//!
//! Belongs here: the decoders, each behind [`Decoder`], and the one policy over all of them, [`VideoDecoder`]: never show
//! a picture with a missing reference, and ask for a keyframe instead. Does not belong here: where access units come
//! from, what is dropped under load (nothing is, before the decoder), and what becomes of the pictures.

#[cfg(feature = "ffmpeg")]
mod ffmpeg;
mod h264;
mod info;
mod jpeg;
mod kind;
mod native;
#[cfg(any(test, feature = "ffmpeg"))]
mod planes;
mod range;
mod reorder;
mod video;

use std::time::{Instant, SystemTime};

#[cfg(feature = "ffmpeg")]
pub use ffmpeg::FfmpegDecoder;
pub use h264::H264Decoder;
pub use info::StreamInfo;
pub use jpeg::MjpegDecoder;
pub use kind::ffmpeg_version;
pub use video::{DecodeStats, VideoDecoder};

use crate::media::{AccessUnit, FramePool, I420Frame};

/// A decoded picture with the timing of the access unit that it came from.
#[derive(Debug)]
pub struct Picture {
    /// The pixels, limited range, in a buffer of the stream's pool.
    pub picture: I420Frame,
    /// The source's RTP timestamp of this very picture, 90 kHz.
    pub rtp_timestamp: u32,
    /// When the first packet of its access unit arrived.
    pub first_packet: Instant,
    /// When the last packet of its access unit arrived.
    pub last_packet: Instant,
    /// When the sender captured it, by its own clock.
    pub captured: Option<SystemTime>,
}

/// A decoder of one stream. Pictures come out in the order in which they are shown.
pub trait Decoder: Send {
    /// Takes one access unit and gives the next picture that is due: this one, an earlier one where pictures are
    /// reordered, or none.
    ///
    /// # Errors
    /// [`DecodeError::Broken`] when the unit gave no picture that can be trusted, any other when no unit of this stream
    /// ever will.
    fn decode(&mut self, unit: &AccessUnit, pool: &FramePool) -> Result<Option<Picture>, DecodeError>;

    /// At the end of the stream: the next picture that still waits for its turn, until there is none.
    fn flush(&mut self) -> Option<Picture>;
}

/// Why an access unit did not become a picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// This unit is lost; the stream goes on at the next IDR.
    #[error("the access unit cannot be decoded: {0}")]
    Broken(String),
    /// The stream ends: this decoder does not know its coding.
    #[error("unsupported video: {0}")]
    Unsupported(String),
    /// The stream ends: the decoder could not be made.
    #[error("the decoder failed: {0}")]
    Failed(String),
}

impl DecodeError {
    /// Whether the stream is over, rather than one unit lost.
    #[must_use]
    pub fn ends_stream(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}
