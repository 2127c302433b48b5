//! H.264 from files: elementary streams (Annex B) and MP4.

mod annex_b;
mod boxes;
mod mp4;
mod samples;

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::error::SourceError;
use super::nal::{self, PPS, SPS};
use crate::media::{AccessUnit, VIDEO_CLOCK_HZ, VideoCodec};

/// A larger file is refused: it is held in memory.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// One access unit of a file.
#[derive(Clone, Debug)]
pub struct FileUnit {
    /// Annex B; an IDR carries its SPS and PPS.
    pub data: Bytes,
    /// When the picture is shown, 90 kHz, 0 for the first one shown. Not monotonic where there are B-frames.
    pub rtp_timestamp: u32,
    /// When the unit is due at the decoder, from the first unit on: what a player paces by. Monotonic.
    pub decode_time: Duration,
    /// Whether decoding can start here.
    pub idr: bool,
}

impl FileUnit {
    /// The unit as one that arrives whole at `at`.
    #[must_use]
    pub fn arriving(self, at: Instant) -> AccessUnit {
        AccessUnit {
            codec: VideoCodec::H264,
            data: self.data,
            rtp_timestamp: self.rtp_timestamp,
            idr: self.idr,
            first_packet: at,
            last_packet: at,
            captured: None,
        }
    }
}

/// A file of H.264 video, read whole and cut into access units.
#[derive(Debug)]
pub struct H264File {
    data: Bytes,
    movie: Movie,
}

/// What the container formats have in common.
#[derive(Debug, Default)]
struct Movie {
    width: u32,
    height: u32,
    frame_rate: f64,
    /// In decoding order, at least one.
    units: Vec<Unit>,
    /// Bytes of the length before each NAL unit (MP4); `None` for Annex B.
    nal_length: Option<usize>,
}

#[derive(Debug)]
struct Unit {
    range: Range<usize>,
    rtp_timestamp: u32,
    decode_time: Duration,
    idr: bool,
    /// The parameter sets that an IDR lacks, Annex B.
    sets: Bytes,
}

/// What is wrong with a file's content; the caller adds the name.
#[derive(Debug)]
enum Problem {
    Unsupported(String),
    Damaged(String),
}

impl Problem {
    fn damaged<T>(reason: impl Into<String>) -> Result<T, Self> {
        Err(Self::Damaged(reason.into()))
    }
}

impl H264File {
    /// Reads an Annex B elementary stream (`.h264`, `.264`) or an MP4 or QuickTime file (`.mp4`, `.mov`, `.m4v`), told apart
    /// by their content.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 2 GiB, holds no H.264, or is damaged from the beginning. One that is cut off
    /// later is read as far as it goes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let failed = |source| SourceError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(SourceError::TooLarge { name, bytes });
        }
        let mut data = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        // Pipes and growing files say less than they hold.
        file.take(MAX_FILE_BYTES).read_to_end(&mut data).map_err(failed)?;
        Self::from_bytes(&name, data.into())
    }

    /// The same from memory; `name` is for the messages.
    ///
    /// # Errors
    /// As [`open`](Self::open), without what concerns the file system.
    pub fn from_bytes(name: &str, data: Bytes) -> Result<Self, SourceError> {
        let movie = if mp4::looks_like(&data) {
            mp4::read(&data)
        } else if annex_b::looks_like(&data) {
            annex_b::read(&data)
        } else {
            Err(Problem::Unsupported(other_kind(&data).to_owned()))
        };
        let name = name.to_owned();
        match movie {
            Ok(movie) => Ok(Self { data, movie }),
            Err(Problem::Unsupported(found)) => Err(SourceError::Unsupported { name, found }),
            Err(Problem::Damaged(reason)) => Err(SourceError::Damaged { name, reason }),
        }
    }

    /// Width and height in pixels, as the first SPS says, after cropping.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (self.movie.width, self.movie.height)
    }

    /// Frames per second, on average; 30 for an elementary stream that does not say.
    #[must_use]
    pub fn frame_rate(&self) -> f64 {
        self.movie.frame_rate
    }

    /// Number of access units, at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.movie.units.len()
    }

    /// How long the file plays: when it is repeated, the first unit is due again after this time.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let last = self.movie.units.last().map_or(Duration::ZERO, |unit| unit.decode_time);
        last.saturating_add(Duration::from_secs_f64(1.0 / self.movie.frame_rate))
    }

    /// The access units in decoding order.
    pub fn units(&self) -> impl ExactSizeIterator<Item = FileUnit> + '_ {
        self.movie.units.iter().map(|unit| self.read(unit))
    }

    /// When the pictures are shown, 90 kHz, in decoding order, without a look at their data.
    pub fn timestamps(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.movie.units.iter().map(|unit| unit.rtp_timestamp)
    }

    /// One access unit by its place in decoding order.
    #[must_use]
    pub fn unit(&self, place: usize) -> Option<FileUnit> {
        self.movie.units.get(place).map(|unit| self.read(unit))
    }

    fn read(&self, unit: &Unit) -> FileUnit {
        FileUnit {
            data: self.unit_data(unit),
            rtp_timestamp: unit.rtp_timestamp,
            decode_time: unit.decode_time,
            idr: unit.idr,
        }
    }

    fn unit_data(&self, unit: &Unit) -> Bytes {
        let body = self.data.get(unit.range.clone()).unwrap_or_default();
        if self.movie.nal_length.is_none() && unit.sets.is_empty() {
            return self.data.slice_ref(body);
        }
        let mut data = BytesMut::with_capacity(unit.sets.len() + body.len() + 16);
        data.extend_from_slice(&unit.sets);
        match self.movie.nal_length {
            None => data.extend_from_slice(body),
            Some(length) => mp4::nal_units(body, length).flatten().for_each(|nal| nal::put_nal(&mut data, nal)),
        }
        data.freeze()
    }
}

/// A name for content that is neither MP4 nor Annex B.
fn other_kind(data: &[u8]) -> &'static str {
    match data {
        [] => "nothing",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "Matroska or WebM",
        [b'R', b'I', b'F', b'F', ..] => "a RIFF container (AVI)",
        [b'F', b'L', b'V', ..] => "Flash video",
        [0x47, ..] if data.get(188) == Some(&0x47) => "an MPEG transport stream",
        _ => "neither MP4 nor an H.264 elementary stream",
    }
}

/// What an access unit's NAL units say about it as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    vcl: bool,
    idr: bool,
    sps: bool,
    pps: bool,
}

impl Content {
    fn note(&mut self, nal: &[u8]) {
        let Some(nal_type) = nal::nal_type(nal) else { return };
        self.vcl |= nal::is_vcl(nal_type);
        self.idr |= nal_type == nal::IDR;
        self.sps |= nal_type == SPS;
        self.pps |= nal_type == PPS;
    }

    /// Whether parameter sets must be put before the unit.
    fn lacks_sets(self) -> bool {
        self.idr && !(self.sps && self.pps)
    }
}

/// A count of units of `1 / scale` seconds at the RTP clock of video; it wraps, as RTP timestamps do.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the wrap is meant
fn rtp_ticks(time: i128, scale: u32) -> u32 {
    (time * i128::from(VIDEO_CLOCK_HZ)).div_euclid(i128::from(scale.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_h264_is_named_with_the_way_out() {
        for (data, found) in [
            (&b"\x1a\x45\xdf\xa3rest"[..], "Matroska"),
            (b"", "nothing"),
            (b"RIFF1234AVI ", "AVI"),
            (b"hello world, this is text", "neither"),
        ] {
            let error = H264File::from_bytes("clip", Bytes::from_static(data)).unwrap_err().to_string();
            assert!(error.contains("clip") && error.contains(found) && error.contains("ffmpeg"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = H264File::open("/does/not/exist.mp4").unwrap_err();
        assert!(matches!(&error, SourceError::Read { .. }) && error.to_string().contains("/does/not/exist.mp4"));
    }

    #[test]
    fn a_file_over_the_limit_is_refused_before_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(matches!(H264File::open(file.path()).unwrap_err(), SourceError::TooLarge { .. }));
    }

    #[test]
    fn ticks_wrap_and_round_down() {
        assert_eq!(rtp_ticks(1, 30), 3000);
        assert_eq!(rtp_ticks(1 << 32, 90_000), 0);
        assert_eq!(rtp_ticks(-1, 90_000), u32::MAX);
        assert_eq!(rtp_ticks(5, 0), 450_000);
    }
}
