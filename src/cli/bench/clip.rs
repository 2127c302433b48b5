//! What the clients send: pictures with their number in them, encoded before the clock starts and sent in a loop.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use sightline::decode::VideoDecoder;
use sightline::encode::{Config, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest, Plane, VideoCodec};
use sightline::peer::packetize;
use sightline::source::file::H264File;

use super::stamp;

/// How long a loop is. A server that is later than this cannot be told from one that is early where it changes timestamps.
pub const LOOP_SECONDS: usize = 10;

/// A loop of encoded pictures; the first is an IDR, and no other.
pub struct Clip {
    /// Pixels.
    pub size: (usize, usize),
    /// Pictures a second.
    pub fps: u32,
    /// The coded pictures.
    pub units: Vec<Bytes>,
    /// The same as payloads of RTP packets.
    pub payloads: Vec<Vec<Bytes>>,
}

impl Clip {
    /// So many seconds of the scene of [`draw`], or of the pictures of an H.264 file, brought to this size.
    ///
    /// # Errors
    /// When the file cannot be read, or the codec takes no pictures of this size.
    pub fn new(size: (usize, usize), fps: u32, seconds: usize, file: Option<&Path>) -> anyhow::Result<Self> {
        let count = (seconds * fps as usize).min(stamp::NUMBERS);
        let mut encoder = H264Encoder::new(Config { max_fps: fps, ..Config::default() });
        let mut units = Vec::new();
        let mut add = |picture: &mut I420Frame| -> anyhow::Result<bool> {
            stamp::write(picture, u16::try_from(units.len())?);
            units.push(encoder.encode(picture, units.is_empty())?.data);
            Ok(units.len() < count)
        };
        match file {
            None => {
                let mut picture = I420Frame::black(size.0, size.1);
                let mut n = 0;
                loop {
                    draw(n, &mut picture);
                    n += 1;
                    if !add(&mut picture)? {
                        break;
                    }
                }
            }
            Some(path) => pictures(path, |picture| add(&mut scaled(picture, size)))?,
        }
        ensure!(units.len() as u64 >= u64::from(fps), "the video has less than a second: {} pictures", units.len());
        let payloads = units.iter().map(packetize).collect();
        Ok(Self { size, fps, units, payloads })
    }

    /// How far the RTP timestamps of two pictures are apart.
    pub fn ticks(&self) -> u32 {
        sightline::media::VIDEO_CLOCK_HZ / self.fps
    }

    /// The coded picture as a decoder takes it.
    pub fn unit(&self, n: usize) -> Option<AccessUnit> {
        let at = n % self.units.len().max(1);
        let now = Instant::now();
        Some(AccessUnit {
            codec: VideoCodec::H264,
            data: self.units.get(at)?.clone(),
            rtp_timestamp: u32::try_from(n).ok()?.wrapping_mul(self.ticks()),
            idr: at == 0,
            first_packet: now,
            last_packet: now,
            captured: None,
        })
    }
}

/// A file's pictures one after the other, until `take` has enough.
fn pictures(path: &Path, mut take: impl FnMut(&I420Frame) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let file = H264File::open(path)?;
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored())?;
    for unit in file.units() {
        let now = Instant::now();
        let unit = unit.arriving(now);
        if let Some(shown) = decoder.decode(&unit).with_context(|| path.display().to_string())?
            && !take(&shown.picture)?
        {
            break;
        }
    }
    Ok(())
}

/// Nearest samples: the content is to be like a camera's, not beautiful.
fn scaled(from: &I420Frame, (width, height): (usize, usize)) -> I420Frame {
    let mut to = I420Frame::black(width, height);
    let target = to.planes_mut();
    for (plane, samples) in [(Plane::Y, target.0), (Plane::U, target.1), (Plane::V, target.2)] {
        let (old_width, old_height) = from.plane_size(plane);
        let (width, height) = if plane == Plane::Y { (width, height) } else { (width.div_ceil(2), height.div_ceil(2)) };
        let source = from.plane(plane);
        for (y, row) in samples.chunks_exact_mut(width).enumerate() {
            let start = y * old_height / height * old_width;
            let Some(line) = source.get(start..start + old_width) else { continue };
            for (x, sample) in row.iter_mut().enumerate() {
                *sample = line.get(x * old_width / width).copied().unwrap_or_default();
            }
        }
    }
    to
}

/// Draws picture `n` of the scene: a textured gradient that pans, a disc that moves, and grain that differs in each picture.
pub fn draw(n: usize, picture: &mut I420Frame) {
    let (width, height) = (picture.width(), picture.height());
    let radius = (width.min(height) / 5).max(1);
    let disc = ((n * 3) % (width + 40), height / 2);
    let mut grain = 0x9e37_79b9_u32 ^ (n as u32).wrapping_mul(0x85eb_ca6b);
    let (luma, u, v) = picture.planes_mut();
    for (y, row) in luma.chunks_exact_mut(width).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            grain ^= grain << 13;
            grain ^= grain >> 17;
            grain ^= grain << 5;
            let texture = ((x + 2 * n) / 8 + y / 8) % 16 * 6 / 4;
            let inside = x.abs_diff(disc.0).pow(2) + y.abs_diff(disc.1).pow(2) < radius * radius;
            let ground = if inside { 190 } else { 60 + (x + y + n % 600) * 60 / (width + height) };
            *sample = u8::try_from(ground + texture + (grain >> 29) as usize).unwrap_or(235);
        }
    }
    let (width, height) = (width.div_ceil(2), height.div_ceil(2));
    for (plane, phase) in [(u, 0), (v, 60)] {
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            for (x, sample) in row.iter_mut().enumerate() {
                *sample = u8::try_from(100 + (x + phase) * 40 / (width + 60) + y * 20 / height).unwrap_or(128);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_of_the_loop_decodes_to_its_number_and_the_loop_goes_round() {
        let clip = Clip::new((320, 240), 5, 10, None).unwrap();
        assert_eq!(clip.units.len(), 50);
        let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap();
        for n in 0..clip.units.len() + 3 {
            let shown = decoder.decode(&clip.unit(n).unwrap()).unwrap().unwrap();
            assert_eq!(stamp::read(&shown.picture).map(usize::from), Some(n % clip.units.len()));
        }
        assert_eq!(decoder.stats().keyframe_requests, 0);
    }

    #[test]
    fn a_scaled_picture_has_its_colours_where_they_were() {
        let mut from = I420Frame::black(64, 48);
        let (luma, u, _) = from.planes_mut();
        luma.chunks_exact_mut(64).for_each(|row| row[32..].fill(200));
        u[..32 * 12].fill(90);
        let to = scaled(&from, (31, 21));
        let (luma, u, v) = to.planes();
        assert_eq!((luma[0], luma[30], luma[20 * 31 + 30]), (16, 200, 200));
        assert_eq!((u[0], u[16 * 10 + 15], v[5]), (90, 128, 128));
    }
}
