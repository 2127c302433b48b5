//! What openh264 cannot decode, by the system's FFmpeg: H.265, and H.264 that is interlaced, deeper than 8 bits or of finer
//! chroma than 4:2:0. It is in the build with the cargo feature `ffmpeg` only.
//!
//! One thread, and no delay beyond the stream's own reordering. FFmpeg puts pictures in the order of presentation itself and
//! carries a number from each unit to its picture, as openh264 does. It conceals damage where it can; in H.264 its flags tell,
//! and such a picture is an error. In H.265 it tells neither a slice that is cut short nor a reference that never came: a source
//! gives whole units, and none behind a gap before the next IRAP picture, or says so
//! ([`VideoDecoder::unit_lost`](super::VideoDecoder::unit_lost)). The two fields of an interlaced picture come out woven into
//! one.

use std::collections::VecDeque;
use std::sync::Once;
use std::time::{Instant, SystemTime};

use ffmpeg_next::codec::decoder::{self, Check};
use ffmpeg_next::codec::{Context, Flags, Id, threading};
use ffmpeg_next::util::format::Pixel;
use ffmpeg_next::util::{color, log};
use ffmpeg_next::{Packet, frame};

use super::planes::{self, Samples};
use super::{DecodeError, Decoder, Picture, range};
use crate::media::{AccessUnit, FramePool, I420Frame, MAX_ACCESS_UNIT_BYTES, MAX_SIDE, Plane, VideoCodec};

/// Units whose pictures may still come: the deepest reordering is 16 pictures, of two fields each.
const MAX_WAITING: usize = 32;

/// `EAGAIN` on every Unix: nothing is due.
const NOTHING_YET: ffmpeg_next::Error = ffmpeg_next::Error::Other { errno: ffmpeg_next::error::EAGAIN };

/// A decoder by FFmpeg, of one codec.
pub struct FfmpegDecoder {
    codec: decoder::Video,
    frame: frame::Video,
    units: i64,
    waiting: VecDeque<(i64, Timing)>,
    ready: VecDeque<Picture>,
    /// What was decoded is not to be referred to any more: the next IDR begins anew.
    stale: bool,
}

/// When a unit came.
#[derive(Clone, Copy)]
struct Timing {
    rtp_timestamp: u32,
    first_packet: Instant,
    last_packet: Instant,
    captured: Option<SystemTime>,
}

impl FfmpegDecoder {
    /// A decoder that waits for its first IDR.
    ///
    /// # Errors
    /// [`DecodeError::Failed`] when this FFmpeg has no such decoder, or it cannot be opened.
    pub fn new(codec: VideoCodec) -> Result<Self, DecodeError> {
        // What FFmpeg has to say about a stream comes back as an error, too.
        static QUIET: Once = Once::new();
        QUIET.call_once(|| log::set_level(log::Level::Quiet));
        let id = match codec {
            VideoCodec::H264 => Id::H264,
            VideoCodec::H265 => Id::HEVC,
            VideoCodec::Jpeg => Id::MJPEG,
        };
        let failed = |why: String| DecodeError::Failed(format!("FFmpeg, {}: {why}", codec.name()));
        let found = decoder::find(id).ok_or_else(|| failed("this FFmpeg has no decoder for it".into()))?;
        let mut context = Context::new_with_codec(found);
        context.set_threading(threading::Config::count(1));
        context.set_flags(Flags::LOW_DELAY);
        // SAFETY: the context was just made, is owned here and not opened yet; the field is a plain number.
        unsafe {
            (*context.as_mut_ptr()).max_pixels = i64::try_from(MAX_SIDE * MAX_SIDE).unwrap_or(i64::MAX);
        }
        let mut decoder = context.decoder();
        decoder.check(Check::CRC | Check::EXPLODE);
        let codec = decoder.video().map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            codec,
            frame: frame::Video::empty(),
            units: 0,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            stale: false,
        })
    }

    fn broken(&mut self, why: &impl ToString) -> DecodeError {
        self.stale = true;
        self.ready.clear();
        DecodeError::Broken(why.to_string())
    }

    /// Takes every picture that is due.
    fn receive(&mut self, pool: &FramePool) -> Result<(), DecodeError> {
        loop {
            match self.codec.receive_frame(&mut self.frame) {
                Ok(()) => {}
                Err(NOTHING_YET | ffmpeg_next::Error::Eof) => return Ok(()),
                Err(error) => return Err(self.broken(&error)),
            }
            if self.frame.is_corrupt() || self.frame.has_decode_errors() {
                return Err(self.broken(&"the picture is damaged, or refers to a damaged one"));
            }
            let name = self.frame.pts();
            let found = self.waiting.iter().position(|(unit, _)| Some(*unit) == name);
            let Some((_, timing)) = found.and_then(|at| self.waiting.remove(at)) else {
                return Err(self.broken(&"a picture of a unit that never was"));
            };
            let picture = to_i420(&self.frame, pool)?;
            let Timing { rtp_timestamp, first_packet, last_packet, captured } = timing;
            self.ready.push_back(Picture { picture, rtp_timestamp, first_packet, last_packet, captured });
        }
    }
}

impl Decoder for FfmpegDecoder {
    fn decode(&mut self, unit: &AccessUnit, pool: &FramePool) -> Result<Option<Picture>, DecodeError> {
        if unit.data.is_empty() || unit.data.len() > MAX_ACCESS_UNIT_BYTES {
            return Err(self.broken(&format!("{} bytes are no access unit", unit.data.len())));
        }
        if self.stale && unit.idr {
            self.codec.flush();
            self.waiting.clear();
            self.stale = false;
        }
        self.units += 1;
        let AccessUnit { rtp_timestamp, first_packet, last_packet, captured, .. } = *unit;
        self.waiting.push_back((self.units, Timing { rtp_timestamp, first_packet, last_packet, captured }));
        if self.waiting.len() > MAX_WAITING {
            // The second field of a picture, or a unit without one.
            self.waiting.pop_front();
        }
        let mut packet = Packet::copy(&unit.data);
        packet.set_pts(Some(self.units));
        self.codec.send_packet(&packet).map_err(|error| self.broken(&error))?;
        self.receive(pool)?;
        Ok(self.ready.pop_front())
    }

    fn flush(&mut self) -> Option<Picture> {
        if self.ready.is_empty() && !self.stale {
            self.stale = true;
            let pool = FramePool::new();
            // What cannot be had any more at the end of the stream is no one's loss.
            if self.codec.send_eof().is_ok() && self.receive(&pool).is_err() {
                return None;
            }
        }
        self.ready.pop_front()
    }
}

/// The version of FFmpeg's decoders that this program runs with.
pub(super) fn version() -> String {
    let version = ffmpeg_next::codec::version();
    format!("libavcodec {}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}

/// The depth of a format's samples, and whether it is full range by its name; `None` where it has not Y, U and V in planes, or Y
/// alone.
fn depth(format: Pixel) -> Option<(u32, bool)> {
    Some(match format {
        Pixel::YUV420P | Pixel::YUV422P | Pixel::YUV444P | Pixel::GRAY8 => (8, false),
        Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P => (8, true),
        Pixel::YUV420P9LE | Pixel::YUV422P9LE | Pixel::YUV444P9LE => (9, false),
        Pixel::YUV420P10LE | Pixel::YUV422P10LE | Pixel::YUV444P10LE | Pixel::GRAY10LE => (10, false),
        Pixel::YUV420P12LE | Pixel::YUV422P12LE | Pixel::YUV444P12LE | Pixel::GRAY12LE => (12, false),
        _ => return None,
    })
}

fn to_i420(frame: &frame::Video, pool: &FramePool) -> Result<I420Frame, DecodeError> {
    let side = |side: u32| usize::try_from(side).ok().filter(|side| (1..=MAX_SIDE).contains(side));
    let (Some(width), Some(height)) = (side(frame.width()), side(frame.height())) else {
        return Err(DecodeError::Broken(format!("a picture of {}×{}", frame.width(), frame.height())));
    };
    let format = frame.format();
    let Some((depth, always_full)) = depth(format) else {
        return Err(DecodeError::Unsupported(format!("pixels of the format {format:?} (set the camera to 4:2:0)")));
    };
    let mut picture = pool.frame(width, height);
    let mut taken = 0;
    for (index, plane) in [Plane::Y, Plane::U, Plane::V].into_iter().enumerate().take(frame.planes()) {
        let samples = Samples {
            data: frame.data(index),
            stride: frame.stride(index),
            width: frame.plane_width(index) as usize,
            height: frame.plane_height(index) as usize,
            depth,
        };
        planes::fill(&mut picture, plane, samples);
        taken += 1;
    }
    if taken < 3 {
        let (_, u, v) = picture.planes_mut();
        u.fill(128);
        v.fill(128);
    }
    if always_full || frame.color_range() == color::Range::JPEG {
        range::limit(&mut picture);
    }
    Ok(picture)
}
