//! Annotates a video file, without a network: an MP4 or `.h264` file goes in, an annotated `.h264` file and one JSON line
//! for each picture come out.
//!
//! ```sh
//! cargo run --release --example annotate_file -- clip.mp4 --out annotated.h264 --json detections.jsonl
//! ```
//!
//! The rooms of the library are used as they are: `source::file` cuts the file into access units, `decode` makes pictures,
//! `detect` looks at every one of them (a live server would skip those that it has no time for), `annotate` draws, `encode`
//! makes access units again. The lines are `detections` messages of schema 1, as on the server's datachannel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sightline::annotate::Annotator;
use sightline::config::{Config, DetectorOverrides};
use sightline::decode::{Picture, VideoDecoder};
use sightline::detect::{Detector, Model, Picture as Seen, Settings, Tracker};
use sightline::encode::{Encoder, H264Encoder};
use sightline::media::{DetectionTimes, Detections, FramePool, KeyframeRequest, RtpTimestamp, VIDEO_CLOCK_HZ};
use sightline::sink::message::DetectionsMessage;
use sightline::source::file::H264File;

/// Draws what a detector finds into a video file.
#[derive(Parser)]
struct Args {
    /// H.264 video: MP4, QuickTime or an elementary stream.
    input: PathBuf,
    /// The annotated video, an H.264 elementary stream.
    #[arg(long, default_value = "annotated.h264")]
    out: PathBuf,
    /// The detections, one JSON object a line; `-` for standard output.
    #[arg(long, default_value = "detections.jsonl")]
    json: PathBuf,
    #[command(flatten)]
    detector: DetectorOverrides,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut config = Config::load(&args.detector.into())?;
    let file = H264File::open(&args.input)?;
    let model = Model::load(&config.detect)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to what the encoder takes
    let fps = file.frame_rate().round().clamp(1.0, 120.0) as u32;
    config.encode.max_fps = fps;

    let create = |path: &PathBuf| File::create(path).with_context(|| path.display().to_string()).map(BufWriter::new);
    let lines: Box<dyn Write> =
        if args.json.as_os_str() == "-" { Box::new(io::stdout().lock()) } else { Box::new(create(&args.json)?) };
    let mut studio = Studio {
        settings: model.settings(&config.detect),
        detector: model.detector()?,
        tracker: Tracker::new(),
        annotator: Annotator::new(),
        encoder: Box::new(H264Encoder::new(config.encode)),
        video: Box::new(create(&args.out)?),
        lines,
        model: Arc::clone(&model.info().name),
        stream: args.input.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        epoch: Instant::now(),
        keyframe_every: u64::from(fps) * 2,
        tally: Tally::default(),
    };

    let bar = ProgressBar::new(file.len() as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} pictures, {per_sec}, {eta} to go")?);
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored())?;
    for unit in file.units() {
        let due = studio.epoch + unit.decode_time;
        let unit = unit.arriving(due);
        let start = Instant::now();
        let decoded = decoder.decode(&unit);
        studio.tally.decode += start.elapsed();
        match decoded {
            Ok(Some(picture)) => studio.take(picture)?,
            Ok(None) => {}
            Err(error) if error.ends_stream() => return Err(error.into()),
            Err(error) => bar.println(format!("picture {} is lost: {error}", bar.position())),
        }
        bar.inc(1);
    }
    while let Some(picture) = decoder.flush() {
        studio.take(picture)?;
    }
    bar.finish_and_clear();
    studio.video.flush()?;
    studio.lines.flush()?;
    studio.tally.summarise(studio.epoch.elapsed(), decoder.stats().broken);
    eprintln!("play it: ffplay -framerate {fps} {}", args.out.display());
    Ok(())
}

/// Everything after the decoder.
struct Studio {
    settings: Settings,
    detector: Box<dyn Detector>,
    tracker: Tracker,
    annotator: Annotator,
    encoder: Box<dyn Encoder>,
    video: Box<dyn Write>,
    lines: Box<dyn Write>,
    model: Arc<str>,
    stream: String,
    /// The instant that stands for the file's beginning: the tracker reckons in the file's own time.
    epoch: Instant,
    keyframe_every: u64,
    tally: Tally,
}

impl Studio {
    fn take(&mut self, picture: Picture) -> anyhow::Result<()> {
        let Picture { mut picture, rtp_timestamp, .. } = picture;
        let shown = self.epoch + Duration::from_secs(rtp_timestamp.into()) / VIDEO_CLOCK_HZ;
        let found = self.detector.detect(Seen::I420(&picture), &self.settings)?;
        let mut items = found.items;
        let start = Instant::now();
        self.tracker.update(shown, &mut items);
        let postprocess = found.postprocess + start.elapsed();
        let times = DetectionTimes {
            detect_queue: Duration::ZERO,
            preprocess: found.preprocess,
            infer: found.infer,
            postprocess,
        };

        let start = Instant::now();
        self.annotator.draw(&mut picture, &items);
        let drawn = Instant::now();
        // Without keyframes a player could not jump about in the file.
        let keyframe = self.tally.pictures.is_multiple_of(self.keyframe_every);
        let encoded = self.encoder.encode(&picture, keyframe)?;
        self.tally.encode += drawn.elapsed();
        self.tally.draw += drawn - start;
        self.tally.detect += times.processing();
        self.video.write_all(&encoded.data)?;

        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let result = Detections {
            frame_id: self.tally.pictures,
            rtp_timestamp: RtpTimestamp { output: rtp_timestamp, source: rtp_timestamp },
            captured: None,
            arrived: shown,
            width: side(picture.width()),
            height: side(picture.height()),
            model: Arc::clone(&self.model),
            items,
            veiled: Vec::new(),
            events: Vec::new(),
            times,
        };
        writeln!(self.lines, "{}", DetectionsMessage::new(&self.stream, &result).to_json())?;
        self.tally.count(&result, encoded.data.len());
        Ok(())
    }
}

/// What the summary says.
#[derive(Default)]
struct Tally {
    pictures: u64,
    bytes: usize,
    objects: BTreeMap<Arc<str>, u64>,
    decode: Duration,
    detect: Duration,
    draw: Duration,
    encode: Duration,
}

impl Tally {
    fn count(&mut self, result: &Detections, bytes: usize) {
        self.pictures += 1;
        self.bytes += bytes;
        for item in &result.items {
            *self.objects.entry(Arc::clone(&item.class_name)).or_default() += 1;
        }
    }

    #[allow(clippy::cast_precision_loss)] // counts of pictures and bytes
    fn summarise(&self, took: Duration, broken: u64) {
        let pictures = self.pictures.max(1) as f64;
        let each = |stage: Duration| stage.as_secs_f64() * 1000.0 / pictures;
        let fps = pictures / took.as_secs_f64();
        eprintln!(
            "{} pictures in {:.1} s, {fps:.1} fps, {broken} lost; ms a picture: decode {:.2}, detect {:.2}, draw {:.2}, \
             encode {:.2}; {:.1} MB",
            self.pictures,
            took.as_secs_f64(),
            each(self.decode),
            each(self.detect),
            each(self.draw),
            each(self.encode),
            self.bytes as f64 / 1e6
        );
        let objects: Vec<String> = self.objects.iter().map(|(name, count)| format!("{name} {count}")).collect();
        eprintln!("found: {}", if objects.is_empty() { "nothing".to_owned() } else { objects.join(", ") });
    }
}
