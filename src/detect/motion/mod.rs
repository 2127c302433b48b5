//! The built-in detector for when there is no model: what differs from the background, and moves.
//!
//! The luma plane is averaged down to at most [`WORKING_SIDE`] pixels, which also takes the sensor's noise out. A slow
//! average of it is the background and gives whole objects where the difference of two pictures would give their edges; a
//! fast average tells what moves now. Regions of foreground in which nothing moves (an object that stopped, the place
//! that one left) are taken into the background within a few pictures; those that move are kept out of it.

mod regions;
mod scene;

use std::sync::Arc;
use std::time::Instant;

use super::model::{Family, Model, ModelInfo};
use super::{DetectError, Detector, Found, Picture, Settings};
use crate::media::{BBox, Detection};
use regions::{Region, Regions};
use scene::Scene;

/// The longer side of the picture that is worked on, in pixels, at most.
pub const WORKING_SIDE: usize = 320;

/// The name of the model, and of its one class.
pub(super) const NAME: &str = "motion";

/// When more than this share of the picture changed, the light, the scene or the camera did.
const MAX_CHANGED: f32 = 0.6;

impl Model {
    /// The built-in motion detector. It keeps the state of one stream.
    #[must_use]
    pub fn motion() -> Self {
        let info = ModelInfo {
            name: NAME.into(),
            family: Family::Motion,
            labels: [Arc::from(NAME)].into(),
            input: None,
            confidence: 0.2,
            iou: 0.5,
            licence: None,
            source: None,
            assumed: Vec::new(),
        };
        Self::new(info, true, || Ok(Box::new(MotionDetector::new())))
    }
}

/// Finds what moves in the pictures of one stream.
///
/// The boxes are class 0, `motion`. The confidence is the share of the box's pixels that differ from the background. The
/// first picture, one of another size, and one that changed nearly everywhere only teach the background.
#[derive(Debug)]
pub struct MotionDetector {
    label: Arc<str>,
    scene: Scene,
    regions: Regions,
}

impl Default for MotionDetector {
    fn default() -> Self {
        Self::new()
    }
}

impl MotionDetector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { label: NAME.into(), scene: Scene::default(), regions: Regions::default() }
    }

    #[allow(clippy::cast_precision_loss)] // pictures have at most 8192 × 8192 pixels
    fn detection(&self, region: &Region) -> Detection {
        let (rows, columns) = (region.bottom - region.top + 1, region.right - region.left + 1);
        let (x, y) = (self.scene.step.0 as f32, self.scene.step.1 as f32);
        let bbox = BBox::new(
            region.left as f32 * x,
            region.top as f32 * y,
            (region.right + 1) as f32 * x,
            (region.bottom + 1) as f32 * y,
        );
        Detection {
            bbox: bbox.clipped(self.scene.size.0 as f32, self.scene.size.1 as f32),
            confidence: (region.pixels as f32 / (rows * columns) as f32).min(1.0),
            class_id: 0,
            class_name: Arc::clone(&self.label),
            ..Detection::default()
        }
    }
}

impl Detector for MotionDetector {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let started = Instant::now();
        self.scene.take(picture)?;
        let shrunk = Instant::now();
        let mut found = Found { preprocess: shrunk - started, ..Found::default() };
        if !self.scene.taught {
            self.scene.teach();
            return Ok(found);
        }
        let changed = self.scene.compare();
        #[allow(clippy::cast_precision_loss)]
        let share = changed as f32 / self.scene.current.len() as f32;
        if share > MAX_CHANGED {
            self.scene.teach();
            found.infer = shrunk.elapsed();
            return Ok(found);
        }
        self.regions.found.clear();
        if changed > 0 {
            self.regions.separate(&mut self.scene);
        } else {
            self.scene.learn();
        }
        let separated = Instant::now();
        found.infer = separated - shrunk;
        self.regions.merge(&self.scene);
        let wanted = settings.classes.as_ref().is_none_or(|classes| classes.iter().any(|class| class == NAME));
        if wanted {
            found.items.extend(self.regions.found.iter().map(|region| self.detection(region)));
            found.items.retain(|item| item.confidence >= settings.confidence);
            found.items.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
            found.items.truncate(settings.max_detections);
        }
        found.postprocess = separated.elapsed();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, RngCore, SeedableRng};

    use super::*;
    use crate::media::I420Frame;

    fn settings() -> Settings {
        Settings { confidence: 0.2, iou: 0.5, classes: None, max_detections: 100 }
    }

    /// A scene with texture, squares on it, and noise of up to `noise` grey levels each way.
    fn scene(size: (usize, usize), squares: &[BBox], noise: i16, rng: &mut SmallRng) -> I420Frame {
        let mut frame = I420Frame::black(size.0, size.1);
        let samples = frame.planes_mut().0;
        rng.fill_bytes(samples);
        for (y, row) in samples.chunks_exact_mut(size.0).enumerate() {
            for (x, sample) in row.iter_mut().enumerate() {
                let inside = |b: &BBox| (b.x1..b.x2).contains(&(x as f32)) && (b.y1..b.y2).contains(&(y as f32));
                let value = if squares.iter().any(inside) { 200 } else { 60 + ((x / 16 + y / 16) % 4) as i16 * 12 };
                *sample = (value + i16::from(*sample) % (2 * noise + 1) - noise).clamp(0, 255) as u8;
            }
        }
        frame
    }

    fn square(x: f32, y: f32, side: f32) -> BBox {
        BBox::new(x, y, x + side, y + side)
    }

    fn look(detector: &mut MotionDetector, frame: &I420Frame) -> Vec<Detection> {
        detector.detect(Picture::I420(frame), &settings()).unwrap().items
    }

    #[test]
    fn it_is_loaded_by_its_name() {
        let model = Model::load(&crate::detect::Config { model: "motion".into(), ..Default::default() }).unwrap();
        assert!(model.per_stream() && model.info().family == Family::Motion);
    }

    #[test]
    fn moving_squares_are_boxed() {
        for (size, side, speed) in [((1280, 720), 160.0, 10.0), ((640, 480), 60.0, 4.0), ((320, 240), 40.0, 2.0)] {
            let mut rng = SmallRng::seed_from_u64(1);
            let mut detector = MotionDetector::new();
            for step in 0..48u8 {
                let way = speed * f32::from(step);
                let squares =
                    [square(0.05 * size.0 as f32 + way, 20.0, side), square(0.7 * size.0 as f32, 60.0 + way, side)];
                let found = look(&mut detector, &scene(size, &squares, 3, &mut rng));
                // Until a square has left where it began, the box holds its old place too.
                if way > 2.0 * side && step > 25 {
                    assert_eq!(found.len(), 2, "{size:?} step {step}: {found:?}");
                    for truth in squares {
                        let best = found.iter().map(|item| item.bbox.iou(&truth)).fold(0.0, f32::max);
                        assert!(best > 0.5, "{size:?} step {step}: IoU {best} of {truth:?} in {found:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_still_picture_with_noise_is_nothing() {
        for (size, noise) in [((1280, 720), 20), ((640, 480), 12), ((320, 240), 8), ((160, 120), 5)] {
            let mut rng = SmallRng::seed_from_u64(2);
            let mut detector = MotionDetector::new();
            for step in 0..12 {
                let found = look(&mut detector, &scene(size, &[square(20.0, 20.0, 40.0)], noise, &mut rng));
                assert!(found.is_empty(), "{size:?} step {step}: {found:?}");
            }
        }
    }

    #[test]
    fn what_stops_moving_is_background_again() {
        let mut rng = SmallRng::seed_from_u64(3);
        let mut detector = MotionDetector::new();
        let mut seen = 0;
        for step in 0..60u8 {
            let x = 40.0 + 8.0 * f32::from(step.min(30));
            let found = look(&mut detector, &scene((640, 480), &[square(x, 100.0, 60.0)], 2, &mut rng));
            seen += usize::from(step <= 30 && !found.is_empty());
            assert!(step < 50 || found.is_empty(), "step {step}: {found:?}");
        }
        assert!(seen > 25, "{seen}");
    }

    #[test]
    fn the_light_going_on_is_no_object() {
        let mut detector = MotionDetector::new();
        for grey in [40u8, 40, 180, 180, 180] {
            let mut frame = I420Frame::black(640, 480);
            frame.planes_mut().0.fill(grey);
            assert!(look(&mut detector, &frame).is_empty());
        }
    }

    #[test]
    fn another_size_begins_anew() {
        let mut rng = SmallRng::seed_from_u64(4);
        let mut detector = MotionDetector::new();
        for size in [(640, 480), (320, 240), (641, 3), (1, 1), (1280, 720)] {
            assert!(look(&mut detector, &scene(size, &[square(10.0, 10.0, 50.0)], 0, &mut rng)).is_empty(), "{size:?}");
        }
    }

    #[test]
    fn the_smallest_pictures_may_change_as_they_like() {
        for size in [(1, 1), (1, 9), (9, 1), (3, 2), (4, 4), (5, 4)] {
            let mut detector = MotionDetector::new();
            for changed in 0..size.0 * size.1 {
                let mut frame = I420Frame::black(size.0, size.1);
                frame.planes_mut().0[changed..].fill(200);
                detector.detect(Picture::I420(&frame), &settings()).unwrap();
            }
        }
    }

    #[test]
    fn settings_choose_what_is_reported() {
        let mut rng = SmallRng::seed_from_u64(5);
        let mut found_with = |settings: Settings| {
            let mut detector = MotionDetector::new();
            let mut items = Vec::new();
            for step in 0..25u8 {
                let x = 8.0 * f32::from(step);
                let squares = [square(x, 20.0, 40.0), square(x, 150.0, 40.0)];
                let frame = scene((320, 240), &squares, 0, &mut rng);
                items = detector.detect(Picture::I420(&frame), &settings).unwrap().items;
            }
            items.len()
        };
        assert_eq!(found_with(settings()), 2);
        assert_eq!(found_with(Settings { max_detections: 1, ..settings() }), 1);
        assert_eq!(found_with(Settings { confidence: 1.1, ..settings() }), 0);
        assert_eq!(found_with(Settings { classes: Some(["cat".to_owned()].into()), ..settings() }), 0);
        assert_eq!(found_with(Settings { classes: Some(["motion".to_owned()].into()), ..settings() }), 2);
    }

    #[test]
    fn a_picture_that_is_none_is_an_error() {
        let mut detector = MotionDetector::new();
        for (data, width, height) in [(vec![0u8; 10], 2, 2), (vec![], 0, 0), (vec![0; 12], 0, 4), (vec![], 99_999, 1)] {
            let picture = Picture::Rgb { data: &data, width, height };
            assert!(matches!(detector.detect(picture, &settings()), Err(DetectError::Frame(_))), "{width}×{height}");
        }
    }

    proptest! {
        #[test]
        fn boxes_stay_in_the_picture_whatever_it_shows(
            width in prop_oneof![1usize..12, 1usize..200], height in prop_oneof![1usize..12, 1usize..200],
            seed in any::<u64>(), rgb in any::<bool>(),
        ) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut detector = MotionDetector::new();
            for _ in 0..4 {
                let mut frame = I420Frame::black(width, height);
                let mut data = vec![0u8; width * height * 3];
                for sample in frame.planes_mut().0.iter_mut().chain(&mut data) {
                    *sample = if rng.random_bool(0.3) { rng.random() } else { 90 };
                }
                let picture =
                    if rgb { Picture::Rgb { data: &data, width, height } } else { Picture::I420(&frame) };
                for item in detector.detect(picture, &settings()).unwrap().items {
                    let b = item.bbox;
                    prop_assert!(b.x1 >= 0.0 && b.y1 >= 0.0 && b.x2 <= width as f32 && b.y2 <= height as f32);
                    prop_assert!(b.area() > 0.0 && (0.0..=1.0).contains(&item.confidence));
                }
            }
        }
    }
}
