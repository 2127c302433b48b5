//! Textured objects of known motion on a textured ground, and a detector that finds them late, at half the frame rate, with
//! noise. Included by path where it is needed.

#![allow(dead_code)] // the benchmark reads more of a run than the test does

use std::f32::consts::TAU;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sightline::detect::Tracker;
use sightline::detect::follow::{Follower, View, Way};
use sightline::media::{BBox, Detection, DetectionTimes, Detections, I420Frame, RtpTimestamp};

/// Width and height of the pictures.
pub const SIZE: (usize, usize) = (1280, 720);
/// Side of an object.
pub const SIDE: f32 = 160.0;
/// Pictures in a second.
pub const FPS: f32 = 30.0;
/// Every second picture is looked at: 15 a second.
const DETECT_EVERY: usize = 2;
/// Pixels per second of what moves.
const SPEED: f32 = 640.0;
/// Standard deviation of each edge that the detector gives, in pixels.
pub const NOISE: f32 = 2.0;
/// Of the camera's grain, in luma.
const GRAIN: f32 = 2.0;

/// A small generator with a fixed seed (PCG, O'Neill 2014): the same numbers on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u32 {
        let old = self.0;
        self.0 = old.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (((old >> 18) ^ old) >> 27) as u32;
        mixed.rotate_right((old >> 59) as u32)
    }

    fn share(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1 << 24) as f32
    }

    /// A normal variate (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        let (radius, angle) = (self.share().max(1e-7), self.share());
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    }
}

/// Smooth noise that can be sampled between its pixels: three octaves.
struct Texture(u32);

impl Texture {
    fn corner(&self, x: i32, y: i32) -> f32 {
        let mut hash = (x as u32).wrapping_mul(0x8da6_b343) ^ (y as u32).wrapping_mul(0xd816_3841) ^ self.0;
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
        hash = (hash ^ (hash >> 12)).wrapping_mul(0x297a_2d39);
        ((hash ^ (hash >> 15)) & 0xff) as f32 - 127.5
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let mut sum = 120.0;
        for (cell, weight) in [(40.0, 0.30), (13.0, 0.22), (5.0, 0.12)] {
            let (x, y) = (x / cell, y / cell);
            let (left, top) = (x.floor(), y.floor());
            let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
            let (fx, fy) = (smooth(x - left), smooth(y - top));
            let (i, j) = (left as i32, top as i32);
            let upper = self.corner(i, j) + fx * (self.corner(i + 1, j) - self.corner(i, j));
            let lower = self.corner(i, j + 1) + fx * (self.corner(i + 1, j + 1) - self.corner(i, j + 1));
            sum += weight * (upper + fy * (lower - upper));
        }
        sum
    }
}

/// A motion: where the centres of the objects are after `t` seconds. The first is drawn last, in front.
pub struct Scenario {
    pub name: &'static str,
    pub seconds: f32,
    centres: fn(f32) -> Vec<(f32, f32)>,
}

/// The motions of the benchmark.
pub const SCENARIOS: [Scenario; 7] = [
    Scenario { name: "linear", seconds: 1.6, centres: |t| vec![(120.0 + SPEED * t, 360.0)] },
    Scenario {
        name: "turn",
        seconds: 1.6,
        centres: |t| {
            vec![if t < 0.9 { (200.0 + SPEED * t, 120.0) } else { (200.0 + SPEED * 0.9, 120.0 + SPEED * (t - 0.9)) }]
        },
    },
    Scenario { name: "stop", seconds: 2.0, centres: |t| vec![(200.0 + SPEED * t.min(1.0), 360.0)] },
    Scenario {
        name: "circle",
        seconds: TAU * 320.0 / SPEED,
        centres: |t| {
            let angle = SPEED / 320.0 * t;
            vec![(640.0 + 320.0 * angle.cos(), 360.0 + 320.0 * angle.sin())]
        },
    },
    Scenario { name: "standing", seconds: 2.0, centres: |_| vec![(640.5, 360.5)] },
    Scenario {
        name: "crossing",
        seconds: 1.6,
        centres: |t| vec![(150.0 + SPEED * t, 340.0), (1130.0 - SPEED * t, 380.0)],
    },
    Scenario { name: "leaving", seconds: 1.2, centres: |t| vec![(700.0 + SPEED * t, 400.0)] },
];

/// One picture with its truth.
pub struct Shot {
    pub picture: Arc<I420Frame>,
    pub at: Instant,
    /// By object; `None` for what has left the picture.
    pub truth: Vec<Option<BBox>>,
}

/// The grounds and objects of a scenario, drawn picture by picture.
pub struct Stage {
    scenario: &'static Scenario,
    ground: Vec<u8>,
    begun: Instant,
    dice: Dice,
}

impl Stage {
    pub fn new(scenario: &'static Scenario, seed: u64) -> Self {
        let texture = Texture(0x1234_5678);
        let ground = (0..SIZE.0 * SIZE.1).map(|n| texture.at((n % SIZE.0) as f32, (n / SIZE.0) as f32) as u8).collect();
        Self { scenario, ground, begun: Instant::now(), dice: Dice::new(seed) }
    }

    pub fn pictures(&self) -> usize {
        (self.scenario.seconds * FPS) as usize
    }

    /// Picture `n`.
    pub fn shot(&mut self, n: usize) -> Shot {
        let t = n as f32 / FPS;
        let mut picture = I420Frame::black(SIZE.0, SIZE.1);
        let luma = picture.planes_mut().0;
        luma.copy_from_slice(&self.ground);
        let boxes: Vec<BBox> = (self.scenario.centres)(t)
            .into_iter()
            .map(|(x, y)| BBox::new(x - SIDE / 2.0, y - SIDE / 2.0, x + SIDE / 2.0, y + SIDE / 2.0))
            .collect();
        for (object, bbox) in boxes.iter().enumerate().rev() {
            let texture = Texture(0x9abc_def0 + object as u32);
            let inside = bbox.clipped(SIZE.0 as f32, SIZE.1 as f32);
            for y in inside.y1.ceil() as usize..inside.y2.ceil() as usize {
                for x in inside.x1.ceil() as usize..inside.x2.ceil() as usize {
                    luma[y * SIZE.0 + x] = (texture.at(x as f32 - bbox.x1, y as f32 - bbox.y1) + 20.0) as u8;
                }
            }
        }
        // Grain by one normal number for every few pixels: an honest camera's, at a bearable price.
        let mut hash = self.dice.next();
        let grain: Vec<i16> = (0..1024).map(|_| (self.dice.normal() * GRAIN).round() as i16).collect();
        for sample in luma.iter_mut() {
            hash = hash.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = (i16::from(*sample) + grain[(hash >> 22) as usize]).clamp(0, 255) as u8;
        }
        let truth = boxes.iter().map(seen).collect();
        Shot { picture: Arc::new(picture), at: self.begun + Duration::from_secs_f32(t), truth }
    }
}

/// What the picture shows of a box.
fn seen(bbox: &BBox) -> Option<BBox> {
    let seen = bbox.clipped(SIZE.0 as f32, SIZE.1 as f32);
    (seen.width() >= 16.0 && seen.height() >= 16.0).then_some(seen)
}

/// What a box of the truth looks like to the detector.
fn found(truth: &BBox, dice: &mut Dice) -> BBox {
    let mut edge = |edge: f32| edge + NOISE * dice.normal();
    let bbox = BBox::new(edge(truth.x1), edge(truth.y1), edge(truth.x2), edge(truth.y2));
    bbox.clipped(SIZE.0 as f32, SIZE.1 as f32)
}

/// The detector of one run: looks at every second picture, answers after `delay`.
pub struct Detector {
    delay: Duration,
    tracker: Tracker,
    dice: Dice,
    on_the_way: Vec<(Instant, Detections, Vec<usize>)>,
    newest: Option<(Detections, Vec<usize>)>,
    /// The last name of each object, and how often it changed.
    names: Vec<Option<u64>>,
    pub switches: usize,
}

impl Detector {
    pub fn new(delay: Duration, seed: u64) -> Self {
        Self {
            delay,
            tracker: Tracker::new(),
            dice: Dice::new(seed),
            on_the_way: Vec::new(),
            newest: None,
            names: Vec::new(),
            switches: 0,
        }
    }

    /// Looks at picture `n`, and gives the newest answer that has come by then, with the object behind each of its items.
    pub fn newest(&mut self, n: usize, shot: &Shot) -> Option<&(Detections, Vec<usize>)> {
        if n.is_multiple_of(DETECT_EVERY) {
            let mut objects = Vec::new();
            let mut items = Vec::new();
            for (object, truth) in shot.truth.iter().enumerate() {
                if let Some(truth) = truth {
                    objects.push(object);
                    items.push(Detection {
                        bbox: found(truth, &mut self.dice),
                        confidence: 0.9 - 0.1 * object as f32,
                        class_name: "thing".into(),
                        ..Detection::default()
                    });
                }
            }
            self.tracker.update(shot.at, &mut items);
            self.names.resize(shot.truth.len(), None);
            for (item, &object) in items.iter().zip(&objects) {
                let before = self.names[object].replace(item.track_id.expect("a finite box has a name"));
                self.switches += usize::from(before.is_some() && before != item.track_id);
            }
            let result = Detections {
                frame_id: n as u64,
                rtp_timestamp: RtpTimestamp::default(),
                captured: None,
                arrived: shot.at,
                width: SIZE.0 as u32,
                height: SIZE.1 as u32,
                model: "test".into(),
                items,
                times: DetectionTimes::default(),
                events: Vec::new(),
                veiled: Vec::new(),
            };
            self.on_the_way.push((shot.at + self.delay, result, objects));
        }
        while self.on_the_way.first().is_some_and(|(due, _, _)| *due <= shot.at) {
            let (_, result, objects) = self.on_the_way.remove(0);
            self.newest = Some((result, objects));
        }
        self.newest.as_ref()
    }
}

/// What a run gave: the sum of the overlaps of drawn and true boxes, and of how many.
#[derive(Clone, Copy, Default)]
pub struct Score {
    pub sum: f64,
    pub boxes: usize,
}

impl Score {
    pub fn mean(&self) -> f64 {
        self.sum / self.boxes.max(1) as f64
    }
}

/// One way of drawing under one delay.
pub struct Run {
    pub delay: Duration,
    pub follower: Option<Follower>,
    pub detector: Detector,
    pub score: Score,
    /// Boxes that the picture told of, of all.
    pub told: (u64, u64),
    /// Time in the follower, and for how many pictures and boxes.
    pub spent: Duration,
    pub pictures: u32,
    /// What the time is taken by.
    pub clock: fn() -> Duration,
}

impl Run {
    pub fn new(way: Option<Way>, delay: Duration, seed: u64) -> Self {
        Self {
            delay,
            follower: way.map(|way| Follower::new(way, Duration::from_millis(500))),
            detector: Detector::new(delay, seed),
            score: Score::default(),
            told: (0, 0),
            spent: Duration::ZERO,
            pictures: 0,
            clock: || Duration::ZERO,
        }
    }

    /// Draws picture `n`. From the first box on every object counts: one that is in the picture and has no box counts nothing
    /// but itself.
    pub fn draw(&mut self, n: usize, shot: &Shot) {
        let newest = self.detector.newest(n, shot);
        let result = newest.map(|(result, _)| result);
        let drawn = match &mut self.follower {
            None => result.map(|result| result.items.clone()).unwrap_or_default(),
            Some(follower) => {
                let view = View { frame_id: n as u64, at: shot.at, picture: &shot.picture, until: None };
                let begun = (self.clock)();
                let drawn = follower.boxes(&view, result);
                self.spent += (self.clock)().saturating_sub(begun);
                self.pictures += 1;
                let counts = follower.counts();
                self.told.0 += counts.followed;
                self.told.1 += counts.followed + counts.doubtful + counts.predicted + counts.skipped;
                drawn
            }
        };
        let Some((result, objects)) = newest else { return };
        for (object, truth) in shot.truth.iter().enumerate() {
            let Some(truth) = truth else { continue };
            let name = objects.iter().position(|of| *of == object).and_then(|n| result.items[n].track_id);
            let mine = drawn.iter().find(|drawn| name.is_some() && drawn.track_id == name);
            self.score.sum += mine.map_or(0.0, |mine| f64::from(mine.bbox.iou(truth)));
            self.score.boxes += 1;
        }
    }
}
