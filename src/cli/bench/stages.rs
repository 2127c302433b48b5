//! The stages by themselves, and the codec's floor: what a server that decodes and encodes cannot do without.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use sightline::annotate::Annotator;
use sightline::decode::VideoDecoder;
use sightline::detect::{self, DetectError, Model, Picture};
use sightline::encode::{Config, Encoder, H264Encoder};
use sightline::media::{BBox, Detection, FramePool, I420Frame, KeyframeRequest};

use super::clip::Clip;
use super::numbers::Quantiles;

/// How long each stage is repeated.
const STAGE_FOR: Duration = Duration::from_millis(700);
/// How long the floor is measured, after as long as its caches take to fill.
const FLOOR_FOR: Duration = Duration::from_secs(4);
const FLOOR_WARM_UP: Duration = Duration::from_secs(1);
/// Boxes that are drawn.
const BOXES: u8 = 10;

/// What one picture of a size costs on one thread, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Stages {
    /// Pixels.
    pub size: (usize, usize),
    /// An access unit to planes.
    pub decode: Option<Quantiles>,
    /// Planes to the model's input.
    pub convert: Option<Quantiles>,
    /// The model itself, with the threads that a detector has.
    pub infer: Option<Quantiles>,
    /// The model's outputs to objects.
    pub postprocess: Option<Quantiles>,
    /// Ten boxes with labels.
    pub draw: Option<Quantiles>,
    /// Planes to an access unit.
    pub encode: Option<Quantiles>,
    /// Decode and encode of the same frames, one after the other on one thread, at the camera's pace.
    pub floor: Option<Quantiles>,
}

impl Stages {
    /// Each with its name, in the order of a frame's way.
    pub fn named(&self) -> [(&'static str, Option<Quantiles>); 7] {
        [
            ("decode", self.decode),
            ("convert", self.convert),
            ("infer", self.infer),
            ("postprocess", self.postprocess),
            ("draw", self.draw),
            ("encode", self.encode),
            ("floor", self.floor),
        ]
    }
}

/// The configured model, or the motion detector where the default one is not there, as the server has it.
pub fn model(config: &detect::Config) -> anyhow::Result<Model> {
    match Model::load(config) {
        Err(DetectError::Missing { .. }) if config.model == detect::Config::default().model => Ok(Model::motion()),
        other => Ok(other?),
    }
}

/// Measures pictures of the clip's size.
///
/// # Errors
/// When the codec or the model fails.
pub fn measure(clip: &Clip, model: &Model, config: &detect::Config) -> anyhow::Result<Stages> {
    let decoder = || VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored());
    let mut pictures = Vec::new();
    let mut screen = decoder()?;
    for n in 0..clip.units.len().min(30) {
        let unit = clip.unit(n).context("the clip goes round")?;
        pictures.extend(screen.decode(&unit)?.map(|shown| shown.picture));
    }
    let picture = |n: usize| pictures.get(n % pictures.len().max(1)).context("the clip has pictures");

    let mut screen = decoder()?;
    let decode = repeated(|n| {
        let unit = clip.unit(n).context("the clip goes round")?;
        timed(|| screen.decode(&unit).map(drop))
    })?;
    let (mut detector, settings) = (model.detector()?, model.settings(config));
    let (mut convert, mut infer, mut postprocess) = (Vec::new(), Vec::new(), Vec::new());
    repeated(|n| {
        let found = detector.detect(Picture::I420(picture(n)?), &settings)?;
        for (times, took) in
            [(&mut convert, found.preprocess), (&mut infer, found.infer), (&mut postprocess, found.postprocess)]
        {
            times.push(took.as_secs_f64() * 1000.0);
        }
        Ok(0.0)
    })?;
    let (mut annotator, mut canvas) = (Annotator::new(), picture(0)?.clone());
    let draw = repeated(|n| {
        let boxes = boxes(&canvas, n);
        timed(|| {
            annotator.draw(&mut canvas, &boxes);
            Ok::<_, anyhow::Error>(())
        })
    })?;
    let mut encoder = H264Encoder::new(Config { max_fps: clip.fps, ..Config::default() });
    let encode = repeated(|n| {
        let picture = picture(n)?;
        timed(|| encoder.encode(picture, false).map(drop))
    })?;
    Ok(Stages {
        size: clip.size,
        decode,
        convert: Quantiles::of(convert),
        infer: Quantiles::of(infer),
        postprocess: Quantiles::of(postprocess),
        draw,
        encode,
        floor: floor(clip)?,
    })
}

fn timed<E: Into<anyhow::Error>>(work: impl FnOnce() -> Result<(), E>) -> anyhow::Result<f64> {
    let begin = Instant::now();
    work().map_err(Into::into)?;
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

/// Repeats `work`, which says what it took; the first tenth does not count.
fn repeated(mut work: impl FnMut(usize) -> anyhow::Result<f64>) -> anyhow::Result<Option<Quantiles>> {
    let begin = Instant::now();
    let mut times = Vec::new();
    for n in 0.. {
        let took = work(n)?;
        match begin.elapsed() {
            past if past >= STAGE_FOR => break,
            past if past >= STAGE_FOR / 10 => times.push(took),
            _ => {}
        }
    }
    Ok(Quantiles::of(times))
}

/// Ten boxes that move a pixel a picture.
fn boxes(picture: &I420Frame, n: usize) -> Vec<Detection> {
    let (w, h) = (picture.width() as f32 / 6.0, picture.height() as f32 / 3.0);
    let shift = (n % 16) as f32;
    let one = |k: u8| {
        let (x, y) = (f32::from(k % 5) * w * 1.15 + shift, f32::from(k / 5) * h * 1.4 + 30.0);
        Detection {
            bbox: BBox::new(x, y, x + w, y + h),
            confidence: 0.5 + f32::from(k) / 30.0 + shift / 200.0,
            class_id: u32::from(k),
            class_name: "person".into(),
            track_id: Some(u64::from(k)),
            ..Detection::default()
        }
    };
    (0..BOXES).map(one).collect()
}

/// Chained and paced: cold caches and sleeping cores are part of a server's day.
fn floor(clip: &Clip) -> anyhow::Result<Option<Quantiles>> {
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored())?;
    let mut encoder = H264Encoder::new(Config { max_fps: clip.fps, ..Config::default() });
    let begin = Instant::now();
    let (mut times, mut due) = (Vec::new(), begin);
    for n in 0.. {
        due += Duration::from_secs(1) / clip.fps;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let unit = clip.unit(n).context("the clip goes round")?;
        let took = timed(|| {
            if let Some(shown) = decoder.decode(&unit)? {
                encoder.encode(&shown.picture, false)?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        match begin.elapsed() {
            past if past >= FLOOR_WARM_UP + FLOOR_FOR => break,
            past if past >= FLOOR_WARM_UP => times.push(took),
            _ => {}
        }
    }
    Ok(Quantiles::of(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_time_and_the_whole_is_longer_than_its_parts_are_short() {
        let clip = Clip::new((320, 240), 30, 1, None).unwrap();
        let stages = measure(&clip, &Model::motion(), &detect::Config::default()).unwrap();
        for (name, quantiles) in stages.named() {
            let quantiles = quantiles.unwrap();
            assert!(quantiles.count > 10 && quantiles.max >= quantiles.p50, "{name}: {quantiles:?}");
        }
        let (floor, decode) = (stages.floor.unwrap(), stages.decode.unwrap());
        assert!(floor.max > decode.p50.min(stages.encode.unwrap().p50), "{stages:?}");
    }
}
