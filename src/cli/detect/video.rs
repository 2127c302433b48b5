//! Videos from files: every picture decoded, the wanted ones looked at and followed, all of them drawn on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::ProgressBar;
use sightline::annotate::Annotator;
use sightline::decode::{Picture, VideoDecoder};
use sightline::detect::{Detector, Found, ModelInfo, Picture as Seen, Settings, Tracker};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{FramePool, KeyframeRequest, VIDEO_CLOCK_HZ};
use sightline::source::file::H264File;

use super::line;
use super::mp4::Mp4Writer;

/// How a video is looked at.
pub struct Look<'a> {
    pub path: &'a Path,
    pub model: &'a ModelInfo,
    pub detector: &'a mut dyn Detector,
    pub settings: &'a Settings,
    /// Every how many pictures.
    pub every: usize,
    pub json: bool,
    /// Where the annotated video goes.
    pub annotated: Option<PathBuf>,
    pub bar: &'a ProgressBar,
}

/// What is made of the pictures, one after the other.
struct Reel<'a> {
    look: Look<'a>,
    tracker: Tracker,
    /// The instant that stands for the file's beginning: the tracker reckons in the file's own time.
    epoch: Instant,
    /// When each picture is shown: its number is its place here, whichever others are lost.
    times: Vec<u32>,
    /// What was found last: it stays on the pictures that are not looked at.
    found: Found,
    annotator: Annotator,
    encoder: H264Encoder,
    keyframe_every: usize,
    video: Option<Mp4Writer>,
    failed: usize,
}

/// Looks at a video, and says how many of its pictures failed.
pub fn look(look: Look<'_>, out: &mut impl Write) -> anyhow::Result<usize> {
    let file = H264File::open(look.path)?;
    let bar = look.bar;
    bar.set_length(file.len() as u64);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to what the encoder takes
    let fps = file.frame_rate().round().clamp(1.0, 120.0) as u32;
    let mut times: Vec<u32> = file.timestamps().collect();
    times.sort_unstable();
    let mut reel = Reel {
        look,
        tracker: Tracker::new(),
        epoch: Instant::now(),
        times,
        found: Found::default(),
        annotator: Annotator::new(),
        encoder: H264Encoder::new(encode::Config { max_fps: fps, ..encode::Config::default() }),
        keyframe_every: fps as usize * 2,
        video: None,
        failed: 0,
    };
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored())?;
    let (mut lost, mut why) = (0, None);
    for unit in file.units() {
        let due = reel.epoch + unit.decode_time;
        let unit = unit.arriving(due);
        match decoder.decode(&unit) {
            Ok(Some(picture)) => reel.take(picture, out)?,
            Ok(None) => {}
            Err(error) if error.ends_stream() => return Err(error.into()),
            Err(error) => {
                lost += 1;
                why.get_or_insert(error);
            }
        }
        bar.inc(1);
    }
    while let Some(picture) = decoder.flush() {
        reel.take(picture, out)?;
    }
    if let Some(video) = reel.video.take() {
        video.finish()?;
    }
    if let Some(why) = why {
        let path = reel.look.path.display();
        bar.suspend(|| eprintln!("sightline: {path}: {lost} pictures could not be decoded; the first: {why}"));
    }
    ensure!(decoder.stats().decoded > 0, "no picture could be decoded");
    Ok(reel.failed + lost)
}

impl Reel<'_> {
    fn take(&mut self, picture: Picture, out: &mut impl Write) -> anyhow::Result<()> {
        let Picture { mut picture, rtp_timestamp, .. } = picture;
        let number = self.times.partition_point(|time| *time < rtp_timestamp);
        if number.is_multiple_of(self.look.every) {
            match self.look.detector.detect(Seen::I420(&picture), self.look.settings) {
                Ok(found) => {
                    self.found = found;
                    let shown = self.epoch + Duration::from_secs(rtp_timestamp.into()) / VIDEO_CLOCK_HZ;
                    self.tracker.update(shown, &mut self.found.items);
                    let seen = line::Seen {
                        path: self.look.path,
                        width: picture.width(),
                        height: picture.height(),
                        model: self.look.model,
                        found: &self.found,
                        moment: Some((number, f64::from(rtp_timestamp) / f64::from(VIDEO_CLOCK_HZ))),
                    };
                    let json = self.look.json;
                    self.look.bar.suspend(|| if json { seen.write_json(out) } else { seen.write_table(out) })?;
                }
                Err(error) => {
                    self.failed += 1;
                    self.found = Found::default();
                    let path = self.look.path.display();
                    self.look.bar.suspend(|| eprintln!("sightline: {path}, frame {number}: {error}"));
                }
            }
        }
        let Some(path) = &self.look.annotated else { return Ok(()) };
        self.annotator.draw(&mut picture, &self.found.items);
        // Without keyframes a player could not jump about in the file.
        let encoded = self.encoder.encode(&picture, number.is_multiple_of(self.keyframe_every))?;
        let video = match &mut self.video {
            Some(video) => video,
            none => none.insert(Mp4Writer::create(path, (picture.width(), picture.height()))?),
        };
        video.add(&encoded.data, encoded.idr, rtp_timestamp)
    }
}
