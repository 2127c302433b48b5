//! Audio on its way through: it is passed on, never decoded.

use std::time::Instant;

use bytes::Bytes;

/// What can be passed on to a browser as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// Opus (RFC 7587), RTP clock 48 kHz.
    Opus,
    /// G.711 µ-law (RFC 3551 §4.5.14), RTP clock 8 kHz.
    Pcmu,
    /// G.711 A-law (RFC 3551 §4.5.14), RTP clock 8 kHz.
    Pcma,
}

impl AudioCodec {
    /// The encoding name of RFC 3551 and RFC 7587.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Ticks of the codec's RTP clock in a second.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8000,
        }
    }
}

/// The payload of one audio packet.
#[derive(Clone, Debug)]
pub struct AudioPacket {
    /// How the payload is coded.
    pub codec: AudioCodec,
    /// In the codec's RTP clock, as the source sent it.
    pub rtp_timestamp: u32,
    /// First packet after a silence (RFC 3551 §4.1).
    pub marker: bool,
    /// The payload without RTP header and padding.
    pub payload: Bytes,
    /// When it arrived.
    pub arrived: Instant,
}
