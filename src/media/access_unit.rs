//! One coded picture on its way to a decoder, or from an encoder.

use std::time::{Instant, SystemTime};

use bytes::Bytes;

/// An access unit larger than this is refused by every source: 4 MiB is ten times the largest IDR seen at 4K, and a
/// bound that a hostile sender cannot move.
pub const MAX_ACCESS_UNIT_BYTES: usize = 4 << 20;

/// One H.264 access unit (ITU-T H.264 §7.4.1.2.3): all NAL units of one picture, in Annex B form (start codes).
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// Annex B bytes: each NAL unit behind a three- or four-byte start code. An IDR carries its SPS and PPS.
    pub data: Bytes,
    /// The RTP timestamp of the source, 90 kHz, as it stood on the wire (RFC 6184 §5.1).
    pub rtp_timestamp: u32,
    /// True when the unit holds an IDR slice: decoding can start here.
    pub idr: bool,
    /// When the first packet of the unit arrived.
    pub first_packet: Instant,
    /// When the last packet of the unit arrived; the same as `first_packet` for sources without packets.
    pub last_packet: Instant,
    /// The instant of capture by the sender's wall clock, where the sender says it (abs-capture-time, RTCP sender
    /// reports). Never compared with our own clock without a measured offset.
    pub captured: Option<SystemTime>,
}
