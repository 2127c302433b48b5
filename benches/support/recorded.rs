//! Recorded video with a detector's boxes for every picture: how well late boxes agree with them when they are followed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sightline::decode::VideoDecoder;
use sightline::detect::follow::{Follower, View, Way};
use sightline::detect::{Config, DetectError, Model, Picture, Tracker};
use sightline::media::{
    BBox, Detection, DetectionTimes, Detections, FramePool, I420Frame, KeyframeRequest, RtpTimestamp,
};
use sightline::source::file::H264File;

use super::cpu::thread_time;

/// Objects of the truth that count: what the detector is sure of.
const SURE: f32 = 0.5;

/// The boxes of every picture, by its number in the file.
pub type Truth = BTreeMap<u64, Vec<Detection>>;

#[derive(Deserialize)]
struct Reference {
    videos: BTreeMap<String, Video>,
}

#[derive(Deserialize)]
struct Video {
    frames: BTreeMap<String, Vec<Object>>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(rename = "box")]
    bbox: [f32; 4],
    score: f32,
    class_id: u32,
    class_name: String,
}

/// The reference detections of a video, where its file has them.
pub fn reference(path: &Path, video: &str) -> Option<Truth> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut reference: Reference = serde_json::from_str(&text).expect("a reference file");
    let frames = reference.videos.remove(video)?.frames;
    let detection = |object: Object| Detection {
        bbox: BBox::new(object.bbox[0], object.bbox[1], object.bbox[2], object.bbox[3]),
        confidence: object.score,
        class_id: object.class_id,
        class_name: object.class_name.into(),
        ..Detection::default()
    };
    let named = frames
        .into_iter()
        .map(|(n, objects)| (n.parse().expect("a picture's number"), objects.into_iter().map(detection).collect()));
    Some(named.collect())
}

/// What a model of ours finds in every picture of a video; `None` where the model or the runtime is not on this machine.
pub fn found_by(model: &Path, video: &Path) -> Option<Truth> {
    let config = Config { model: model.to_str()?.into(), ..Config::default() };
    let model = match Model::load(&config) {
        Ok(model) => model,
        Err(error @ (DetectError::Missing { .. } | DetectError::Runtime { .. })) => {
            println!("{error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let mut detector = model.detector().expect("a session");
    let settings = model.settings(&config);
    let mut truth = Truth::new();
    pictures(video, |number, _, picture| {
        let found = detector.detect(Picture::I420(picture), &settings).expect("a picture like any other");
        truth.insert(number, found.items);
    });
    Some(truth)
}

/// A file's pictures one by one, with their number and time in the file.
pub fn pictures(path: &Path, mut take: impl FnMut(u64, Duration, &Arc<I420Frame>)) {
    let file = H264File::open(path).expect("a video");
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).expect("the codec starts");
    let mut number = 0;
    let mut shown = |picture: sightline::decode::Picture| {
        let at = Duration::from_secs(picture.rtp_timestamp.into()) / 90_000;
        take(number, at, &Arc::new(picture.picture));
        number += 1;
    };
    for unit in file.units() {
        let now = Instant::now();
        let unit = unit.arriving(now);
        if let Some(picture) = decoder.decode(&unit).expect("an intact file") {
            shown(picture);
        }
    }
    while let Some(picture) = decoder.flush() {
        shown(picture);
    }
}

/// One way of drawing.
pub struct Run {
    pub name: &'static str,
    follower: Option<Follower>,
    sum: f64,
    near: usize,
    objects: usize,
    told: (u64, u64),
    spent: Duration,
    slowest: Duration,
    pictures: u32,
    /// Draws what the newest result misses, too.
    missed: bool,
    /// Boxes drawn, those with an object of the truth under them (IoU of 0.5 and more), and the sum of their IoU.
    drawn: usize,
    right: usize,
    overlap: f64,
    /// Objects of the truth that count with such a box.
    recalled: usize,
}

impl Run {
    pub fn new(name: &'static str, way: Option<Way>) -> Self {
        Self {
            name,
            follower: way.map(|way| Follower::new(way, Duration::from_millis(500))),
            sum: 0.0,
            near: 0,
            objects: 0,
            told: (0, 0),
            spent: Duration::ZERO,
            slowest: Duration::ZERO,
            pictures: 0,
            missed: true,
            drawn: 0,
            right: 0,
            overlap: 0.0,
            recalled: 0,
        }
    }

    /// One that leaves out what the newest result misses.
    pub fn found_alone(self) -> Self {
        Self { missed: false, ..self }
    }

    fn draw(&mut self, view: &View<'_>, result: Option<&Detections>, truth: &[Detection]) {
        let begun = thread_time();
        let drawn = match &mut self.follower {
            None => result.map(|result| result.items.clone()).unwrap_or_default(),
            Some(follower) => {
                let mut drawn = follower.boxes(view, result);
                if self.missed {
                    let missed = follower.missed(view, &drawn);
                    drawn.extend(missed.into_iter().map(|missed| missed.item));
                }
                drawn
            }
        };
        let spent = thread_time() - begun;
        self.spent += spent;
        self.slowest = self.slowest.max(spent);
        self.pictures += 1;
        if let Some(follower) = &self.follower {
            let counts = follower.counts();
            self.told.0 += counts.followed;
            self.told.1 += counts.followed + counts.doubtful + counts.predicted + counts.skipped;
        }
        if result.is_none() {
            return;
        }
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (t, truth) in truth.iter().enumerate() {
            for (d, drawn) in drawn.iter().enumerate().filter(|(_, drawn)| drawn.class_id == truth.class_id) {
                pairs.push((truth.bbox.iou(&drawn.bbox), t, d));
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut found, mut used) = (vec![0.0; truth.len()], vec![false; drawn.len()]);
        for (iou, t, d) in pairs {
            if found[t] == 0.0 && !used[d] {
                found[t] = iou;
                used[d] = true;
            }
        }
        self.drawn += drawn.len();
        for (truth, iou) in truth.iter().zip(found) {
            if iou >= 0.5 {
                self.right += 1;
                self.overlap += f64::from(iou);
                self.recalled += usize::from(truth.confidence >= SURE);
            }
            if truth.confidence >= SURE {
                self.sum += f64::from(iou);
                self.near += usize::from(iou >= 0.75);
                self.objects += 1;
            }
        }
    }

    /// Recall, precision, and mean IoU of the boxes that are right.
    pub fn agreement(&self) -> [f64; 3] {
        let share = |part: f64, whole: usize| part / whole.max(1) as f64;
        [
            share(self.recalled as f64, self.objects),
            share(self.right as f64, self.drawn),
            share(self.overlap, self.right),
        ]
    }

    /// Mean IoU, share of objects with 0.75 or more, objects, share of boxes that the picture told of, time for a picture.
    pub fn line(&self) -> String {
        let objects = self.objects.max(1) as f64;
        format!(
            "{:<11} {:.3}   {:>5.1} %   {:>5} objects   {:>5.1} % told   {:>5.0} µs a picture, at most {:>5.0}",
            self.name,
            self.sum / objects,
            100.0 * self.near as f64 / objects,
            self.objects,
            100.0 * self.told.0 as f64 / self.told.1.max(1) as f64,
            self.spent.as_secs_f64() * 1e6 / f64::from(self.pictures.max(1)),
            self.slowest.as_secs_f64() * 1e6,
        )
    }
}

/// The detections without a share of them, drawn by a fixed seed (Knuth's linear congruential generator).
pub fn without(found: &Truth, share: f64, seed: u64) -> Truth {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    found.iter().map(|(n, items)| (*n, items.iter().filter(|_| random() >= share).cloned().collect())).collect()
}

/// Plays a video whose detector finds what is in the truth, answers `delay` late and looks at every `every`th picture.
pub fn play(video: &Path, truth: &Truth, delay: Duration, every: u64, runs: &mut [Run]) {
    play_found(video, truth, truth, delay, every, runs);
}

/// Plays a video whose detector finds `found`, answers `delay` late and looks at every `every`th picture.
pub fn play_found(video: &Path, found: &Truth, truth: &Truth, delay: Duration, every: u64, runs: &mut [Run]) {
    let begun = Instant::now();
    let mut tracker = Tracker::new();
    let mut on_the_way: Vec<(Instant, Detections)> = Vec::new();
    let mut newest: Option<Detections> = None;
    pictures(video, |number, at, picture| {
        let Some(objects) = truth.get(&number) else { return };
        let at = begun + at;
        if number.is_multiple_of(every) {
            let mut items = found.get(&number).cloned().unwrap_or_default();
            tracker.update(at, &mut items);
            let result = Detections {
                frame_id: number,
                rtp_timestamp: RtpTimestamp::default(),
                captured: None,
                arrived: at,
                width: picture.width() as u32,
                height: picture.height() as u32,
                model: "reference".into(),
                items,
                times: DetectionTimes::default(),
                events: Vec::new(),
                veiled: Vec::new(),
            };
            on_the_way.push((at + delay, result));
        }
        // A file's times are rounded.
        while on_the_way.first().is_some_and(|(due, _)| *due <= at + Duration::from_millis(1)) {
            newest = Some(on_the_way.remove(0).1);
        }
        let view = View { frame_id: number, at, picture, until: None };
        runs.iter_mut().for_each(|run| run.draw(&view, newest.as_ref(), objects));
    });
}
