//! Which decoder serves which stream.

use super::h264::beyond_openh264;
use super::{DecodeError, Decoder, H264Decoder, MjpegDecoder};
use crate::media::VideoCodec;
use crate::media::sps::Sps;

/// A decoder that there is in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// H.264, up to High at 4:2:0 and 8 bits, progressive.
    OpenH264,
    /// Motion JPEG.
    Jpeg,
    /// What the others cannot take.
    #[cfg(feature = "ffmpeg")]
    Ffmpeg(VideoCodec),
}

impl Kind {
    /// The decoder for a stream of `codec`, whose parameter set is known where it is H.264 and has sent one.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] with what was found and what to do.
    pub(super) fn of(codec: VideoCodec, sps: Option<&Sps>) -> Result<Self, DecodeError> {
        match codec {
            VideoCodec::Jpeg => Ok(Self::Jpeg),
            VideoCodec::H264 => match sps.and_then(beyond_openh264) {
                None => Ok(Self::OpenH264),
                Some((what, remedy)) => Self::by_ffmpeg(codec, &what, remedy),
            },
            VideoCodec::H265 => Self::by_ffmpeg(codec, "H.265", "set the camera to H.264"),
        }
    }

    #[cfg(feature = "ffmpeg")]
    #[allow(clippy::unnecessary_wraps)] // the build without it has no such decoder
    fn by_ffmpeg(codec: VideoCodec, _what: &str, _remedy: &str) -> Result<Self, DecodeError> {
        Ok(Self::Ffmpeg(codec))
    }

    #[cfg(not(feature = "ffmpeg"))]
    fn by_ffmpeg(_codec: VideoCodec, what: &str, remedy: &str) -> Result<Self, DecodeError> {
        Err(DecodeError::Unsupported(format!("{what} ({remedy}, or build with `--features ffmpeg`)")))
    }

    /// A decoder of this kind.
    ///
    /// # Errors
    /// [`DecodeError::Failed`] when the codec cannot be initialised.
    pub(super) fn make(self) -> Result<Box<dyn Decoder>, DecodeError> {
        Ok(match self {
            Self::OpenH264 => Box::new(H264Decoder::new()?),
            Self::Jpeg => Box::new(MjpegDecoder::new()),
            #[cfg(feature = "ffmpeg")]
            Self::Ffmpeg(codec) => Box::new(super::FfmpegDecoder::new(codec)?),
        })
    }
}

/// The FFmpeg that decodes what the other decoders cannot; `None` where it is not built in (cargo feature `ffmpeg`).
#[must_use]
pub fn ffmpeg_version() -> Option<String> {
    #[cfg(feature = "ffmpeg")]
    return Some(super::ffmpeg::version());
    #[cfg(not(feature = "ffmpeg"))]
    None
}
