//! One coded picture on its way to a decoder, or from an encoder.

use std::time::{Instant, SystemTime};

use bytes::Bytes;

/// An access unit larger than this is refused by every source: 4 MiB is ten times the largest IDR seen at 4K, and a
/// bound that a hostile sender cannot move.
pub const MAX_ACCESS_UNIT_BYTES: usize = 4 << 20;

/// How a picture is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// ITU-T H.264: an access unit is in Annex B form.
    #[default]
    H264,
    /// ITU-T H.265: an access unit is in Annex B form.
    H265,
    /// Motion JPEG: an access unit is one JPEG image, and each stands alone.
    Jpeg,
}

impl VideoCodec {
    /// The name that people know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Jpeg => "Motion JPEG",
        }
    }
}

/// One coded picture: all NAL units of an access unit (ITU-T H.264 §7.4.1.2.3, H.265 §7.4.2.4.4), or one JPEG image.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// How `data` is coded.
    pub codec: VideoCodec,
    /// H.264 and H.265: Annex B bytes, each NAL unit behind a three- or four-byte start code; an IDR carries its parameter
    /// sets. JPEG: the image from SOI to EOI.
    pub data: Bytes,
    /// The RTP timestamp of the source, 90 kHz, as it stood on the wire (RFC 6184 §5.1).
    pub rtp_timestamp: u32,
    /// True when decoding can start here: an IDR slice (H.265: any IRAP picture), or JPEG.
    pub idr: bool,
    /// When the first packet of the unit arrived.
    pub first_packet: Instant,
    /// When the last packet of the unit arrived; the same as `first_packet` for sources without packets.
    pub last_packet: Instant,
    /// The instant of capture by the sender's wall clock, where the sender says it (abs-capture-time, RTCP sender
    /// reports). Never compared with our own clock without a measured offset.
    pub captured: Option<SystemTime>,
}
