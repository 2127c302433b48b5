//! One RTP packet as the media rooms see it: no extensions, no wire format.

use std::time::Instant;

use bytes::Bytes;

/// What depacketizers need of an RTP packet (RFC 3550 §5.1).
#[derive(Clone, Debug)]
pub struct RtpPacket {
    /// Wraps at 65536.
    pub sequence_number: u16,
    /// In the payload's clock: 90 kHz for video, 48 kHz for Opus.
    pub timestamp: u32,
    /// For video: the last packet of an access unit.
    pub marker: bool,
    /// The payload without padding.
    pub payload: Bytes,
    /// When the packet was read from the socket.
    pub arrived: Instant,
}
