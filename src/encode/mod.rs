//! Pictures to access units.
//!
//! Belongs here: the encoders, each behind [`Encoder`], the bitrate that suits a size, pictures made smaller, and the probe for
//! the codec's assembly. Does not belong here: who asks for keyframes and how often ([`KeyframeGate`](crate::media::KeyframeGate)),
//! how many encodes a stream may have, and RTP.

mod asm;
mod h264;
mod rate;
mod scale;

use bytes::Bytes;
use serde::Deserialize;

pub use asm::has_assembly;
pub use h264::H264Encoder;
pub use rate::{MAX_BITRATE_BPS, MIN_BITRATE_BPS, bitrate_for};
pub use scale::Scaler;

use crate::media::I420Frame;

/// An encoded picture.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Annex B bytes of one access unit; SPS and PPS stand before an IDR.
    pub data: Bytes,
    /// True when decoding can start here.
    pub idr: bool,
}

/// An encoder of one rendition of one stream. Each picture gives its access unit at once.
pub trait Encoder: Send {
    /// Encodes `picture`. The first picture, the first of another size, and one that is asked to be (`idr`) are IDRs;
    /// no other is. A side of odd length loses its last row or column: 4:2:0 has no half samples.
    ///
    /// # Errors
    /// [`EncodeError::Skipped`] costs this picture, any other the encode.
    fn encode(&mut self, picture: &I420Frame, idr: bool) -> Result<Encoded, EncodeError>;

    /// Aims at `bps` bits per second from the next picture on, within [`MIN_BITRATE_BPS`] and [`MAX_BITRATE_BPS`].
    ///
    /// # Errors
    /// [`EncodeError::Skipped`] when the codec refuses; it stays at the bitrate before.
    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError>;

    /// Does now what the first picture of this size would have to wait for.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn prewarm(&mut self, width: usize, height: usize) -> Result<(), EncodeError>;
}

/// Why a picture did not become an access unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// This picture is lost; the next one is tried, as an IDR.
    #[error("the picture cannot be encoded: {0}")]
    Skipped(String),
    /// The encode ends: this encoder cannot take pictures of this size.
    #[error("the encoder takes 16×16 to 3840×2160 pixels, upright too, not {0}×{1}")]
    UnsupportedSize(usize, usize),
    /// The encode ends: the encoder could not be made.
    #[error("the encoder failed: {0}")]
    Failed(String),
}

impl EncodeError {
    /// Whether the encode is over, rather than one picture lost.
    #[must_use]
    pub fn ends_encode(&self) -> bool {
        !matches!(self, Self::Skipped(_))
    }
}

/// How pictures are encoded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Target bitrate in kbit/s for every encode. Unset: chosen by the picture's size and `max_fps`, about 1500 for
    /// 640×480, 3200 for 1280×720 and 5700 for 1920×1080 at 30 fps.
    pub bitrate_kbps: Option<u32>,
    /// The frame rate that the bitrate is shared out for: the most frames per second that are expected. Default 30.
    pub max_fps: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { bitrate_kbps: None, max_fps: 30 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the key and the value that is out of range.
    pub fn validate(&self) -> Result<(), String> {
        let (least, most) = (MIN_BITRATE_BPS / 1000, MAX_BITRATE_BPS / 1000);
        if let Some(kbps) = self.bitrate_kbps.filter(|kbps| !(least..=most).contains(kbps)) {
            return Err(format!("bitrate_kbps = {kbps}: must be {least} to {most}"));
        }
        if !(1..=120).contains(&self.max_fps) {
            return Err(format!("max_fps = {}: must be 1 to 120", self.max_fps));
        }
        Ok(())
    }

    /// The bitrate for pictures of this size, in bits per second.
    #[must_use]
    pub fn bitrate(&self, width: usize, height: usize) -> u32 {
        self.bitrate_kbps.map_or_else(|| bitrate_for(width, height, self.max_fps), |kbps| kbps.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_configuration_names_key_and_value() {
        assert_eq!(Config::default().validate(), Ok(()));
        let error = Config { bitrate_kbps: Some(3), ..Config::default() }.validate().unwrap_err();
        assert!(error.contains("bitrate_kbps = 3"), "{error}");
        let error = Config { max_fps: 0, ..Config::default() }.validate().unwrap_err();
        assert!(error.contains("max_fps = 0"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused_and_an_absent_one_has_its_default() {
        assert_eq!(toml::from_str::<Config>("max_fps = 15").unwrap(), Config { max_fps: 15, ..Config::default() });
        assert!(toml::from_str::<Config>("bitrate = 1").is_err());
    }
}
