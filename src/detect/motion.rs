//! The built-in detector for when there is no model: what differs from the background, and moves.
//!
//! The luma plane is averaged down to at most [`WORKING_SIDE`] pixels, which also takes the sensor's noise out. A slow
//! average of it is the background and gives whole objects where the difference of two pictures would give their edges; a
//! fast average tells what moves now. Regions of foreground in which nothing moves (an object that stopped, the place
//! that one left) are taken into the background within a few pictures; those that move are kept out of it.

use std::sync::Arc;
use std::time::Instant;

use image::{GrayImage, Luma};
use imageproc::distance_transform::Norm;
use imageproc::morphology::close_mut;
use imageproc::region_labelling::{Connectivity, connected_components};

use super::model::{Family, Model, ModelInfo};
use super::{DetectError, Detector, Found, Picture, Settings};
use crate::media::{BBox, Detection, Plane};

/// The longer side of the picture that is worked on, in pixels, at most.
pub const WORKING_SIDE: usize = 320;

/// The name of the model, and of its one class.
const NAME: &str = "motion";

/// The smallest difference that is seen, in grey levels, in a picture without noise.
const THRESHOLD: u16 = 12;

/// By how much the threshold rises with the median difference, which is the noise as long as most of a picture rests.
const NOISE_FACTOR: u16 = 6;

/// Above this threshold nothing would be seen any more.
const THRESHOLD_MAX: u16 = 60;

/// Shares of a new picture in the averages, as shifts: what moves now, the background, and what came to rest.
const RECENT_SHIFT: u32 = 2;
const BACKGROUND_SHIFT: u32 = 6;
const RESTING_SHIFT: u32 = 2;

/// After so many pictures a pixel at rest becomes background even in a region that moves.
const LONG_REST: u8 = 45;

/// Changed pixels are joined into regions on a grid of cells of this side, in working pixels: a hundredth of the work, and
/// the edges of a box are still those of its pixels.
const CELL: usize = 4;

/// So many changed pixels make a cell a changed one: noise comes singly.
const CELL_CHANGED: usize = 2;

/// Holes and gaps of up to twice this many cells are closed.
const CLOSE: u8 = 1;

/// Boxes with at most this gap between them, in working pixels, are one.
const MERGE_GAP: u32 = 2;

/// The smallest region, as a share of the picture.
const MIN_AREA: f32 = 0.0005;

/// The share of a region's pixels that has to move for the region to be an object.
const MIN_MOVING: f32 = 0.01;

/// When more than this share of the picture changed, the light, the scene or the camera did.
const MAX_CHANGED: f32 = 0.6;

/// The most regions that are looked at.
const MAX_REGIONS: usize = 256;

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
    /// Of the source.
    size: (usize, usize),
    /// Source pixels in a working pixel, each way.
    step: (usize, usize),
    /// Luma of an RGB picture.
    luma: Vec<u8>,
    columns: Vec<u16>,
    current: Vec<u8>,
    /// 8.8 fixed point, as `background`.
    recent: Vec<u16>,
    background: Vec<u16>,
    moving: Vec<bool>,
    /// For how many pictures a pixel has been at rest.
    rest: Vec<u8>,
    changed: Vec<bool>,
    /// One sample for each cell.
    cells: GrayImage,
    /// The same, for the background.
    adapt: Vec<Adapt>,
    regions: Vec<Region>,
    taught: bool,
}

/// What becomes of the changed pixels of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adapt {
    /// They are noise.
    Background,
    /// They are taken into the background.
    Resting,
    /// They are kept out of it.
    Moving,
}

/// A connected region of changed cells. Edges are those of its changed pixels, inclusive, in working pixels.
#[derive(Clone, Copy, Debug)]
struct Region {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
    /// Changed pixels.
    pixels: u32,
    /// Those of them that move.
    moving: u32,
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
        Self {
            label: NAME.into(),
            size: (0, 0),
            step: (1, 1),
            luma: Vec::new(),
            columns: Vec::new(),
            current: Vec::new(),
            recent: Vec::new(),
            background: Vec::new(),
            moving: Vec::new(),
            rest: Vec::new(),
            changed: Vec::new(),
            cells: GrayImage::default(),
            adapt: Vec::new(),
            regions: Vec::new(),
            taught: false,
        }
    }

    /// Averages the picture down into `current`.
    fn shrink(&mut self, picture: Picture<'_>) -> Result<(), DetectError> {
        let (width, height) = picture.size();
        if self.size != (width, height) {
            self.resize(width, height)?;
        }
        let luma = match picture {
            Picture::I420(frame) => frame.plane(Plane::Y),
            Picture::Rgb { data, .. } => {
                if data.len() != width * height * 3 {
                    let got = data.len();
                    return Err(DetectError::Frame(format!("{got} bytes are no RGB picture of {width}×{height}")));
                }
                self.luma.clear();
                self.luma.extend(data.chunks_exact(3).map(grey));
                &self.luma
            }
        };
        let (step_x, step_y) = self.step;
        // The reciprocal of the block's area in 12.20 fixed point.
        let area = u32::try_from(step_x * step_y).unwrap_or(u32::MAX);
        let reciprocal = (1u32 << 20) / area;
        let small_width = width / step_x;
        for (rows, out) in luma.chunks_exact(width * step_y).zip(self.current.chunks_exact_mut(small_width)) {
            self.columns.fill(0);
            for row in rows.chunks_exact(width) {
                for (sum, &sample) in self.columns.iter_mut().zip(row) {
                    *sum += u16::from(sample);
                }
            }
            for (block, out) in self.columns.chunks_exact(step_x).zip(out) {
                let sum: u32 = block.iter().map(|&column| u32::from(column)).sum();
                *out = u8::try_from((sum * reciprocal + (1 << 19)) >> 20).unwrap_or(u8::MAX);
            }
        }
        Ok(())
    }

    fn resize(&mut self, width: usize, height: usize) -> Result<(), DetectError> {
        if width == 0 || height == 0 || width.max(height) > crate::media::MAX_SIDE {
            return Err(DetectError::Frame(format!("a picture of {width}×{height}")));
        }
        // Small pictures are halved all the same: a pixel of its own is mostly noise.
        let longer = width.max(height);
        let step = if longer <= WORKING_SIDE / 2 { 1 } else { longer.div_ceil(WORKING_SIDE).max(2) };
        self.step = (step.min(width), step.min(height));
        let (w, h) = (width / self.step.0, height / self.step.1);
        self.columns.resize(width, 0);
        self.current.resize(w * h, 0);
        self.moving.resize(w * h, false);
        self.rest.resize(w * h, 0);
        self.changed.resize(w * h, false);
        let cells = |side: usize| u32::try_from(side.div_ceil(CELL)).unwrap_or(1);
        self.cells = GrayImage::new(cells(w), cells(h));
        self.adapt.resize(w.div_ceil(CELL) * h.div_ceil(CELL), Adapt::Background);
        self.size = (width, height);
        self.taught = false;
        Ok(())
    }

    fn teach(&mut self) {
        self.background.clear();
        self.background.extend(self.current.iter().map(|&sample| u16::from(sample) << 8));
        self.recent.clone_from(&self.background);
        self.rest.fill(0);
        self.taught = true;
    }

    /// Marks what changed and what moves, and moves the fast average on. Returns how many pixels changed.
    fn compare(&mut self) -> usize {
        let threshold = self.threshold();
        for ((&sample, &background), changed) in self.current.iter().zip(&self.background).zip(&mut self.changed) {
            *changed = (u16::from(sample) << 8).abs_diff(background) > threshold;
        }
        let recent = self.current.iter().zip(&mut self.recent);
        for ((&sample, recent), moving) in recent.zip(&mut self.moving) {
            let sample = u16::from(sample) << 8;
            *moving = sample.abs_diff(*recent) > threshold;
            *recent = towards(*recent, sample, RECENT_SHIFT);
        }
        for ((&changed, moving), rest) in self.changed.iter().zip(&mut self.moving).zip(&mut self.rest) {
            *moving &= changed;
            *rest = if *moving { 0 } else { rest.saturating_add(1) };
        }
        self.changed.iter().filter(|&&changed| changed).count()
    }

    /// The difference that counts, in 8.8 fixed point.
    fn threshold(&self) -> u16 {
        let mut histogram = [0usize; 256];
        let mut seen = 0;
        // A quarter of the pixels tells the noise as well as all.
        for (&sample, &recent) in self.current.iter().zip(&self.recent).step_by(4) {
            seen += 1;
            if let Some(bin) = histogram.get_mut(usize::from((u16::from(sample) << 8).abs_diff(recent) >> 8)) {
                *bin += 1;
            }
        }
        let mut below = 0;
        let median = histogram.iter().position(|&bin| {
            below += bin;
            below * 2 >= seen
        });
        let median = u16::try_from(median.unwrap_or(0)).unwrap_or(u16::MAX);
        THRESHOLD.saturating_add(NOISE_FACTOR.saturating_mul(median)).min(THRESHOLD_MAX) << 8
    }

    /// Finds the regions, and moves the background on: fast where a region rests, not where it moves.
    fn separate(&mut self) {
        let width = self.size.0 / self.step.0;
        let row_of_cells = width.div_ceil(CELL);
        for (rows, cells) in self.changed.chunks(width * CELL).zip(self.cells.chunks_exact_mut(row_of_cells)) {
            for (n, cell) in cells.iter_mut().enumerate() {
                let changed = rows.chunks_exact(width).map(|row| count(row, n)).sum::<usize>();
                *cell = if changed >= CELL_CHANGED { u8::MAX } else { 0 };
            }
        }
        close_mut(&mut self.cells, Norm::LInf, CLOSE);
        let labels = connected_components(&self.cells, Connectivity::Eight, Luma([0]));

        self.regions.clear();
        let rows = self.changed.chunks_exact(width).zip(self.moving.chunks_exact(width));
        for ((y, (changed, moving)), labels) in (0u32..).zip(rows).zip(rows_of(&labels, row_of_cells)) {
            let cells = changed.chunks(CELL).zip(moving.chunks(CELL)).zip(labels);
            for (x, ((changed, moving), &label)) in (0u32..).step_by(CELL).zip(cells) {
                let Some(index) = index(label) else { continue };
                if index >= self.regions.len() {
                    self.regions.resize(index + 1, Region::EMPTY);
                }
                if let Some(region) = self.regions.get_mut(index) {
                    for ((x, _), &moving) in (x..).zip(changed).zip(moving).filter(|((_, changed), _)| **changed) {
                        region.add(x, y, moving);
                    }
                }
            }
        }

        for (adapt, label) in self.adapt.iter_mut().zip(labels.iter()) {
            *adapt = match index(*label).and_then(|index| self.regions.get(index)) {
                None => Adapt::Background,
                Some(region) if region.moves() => Adapt::Moving,
                Some(_) => Adapt::Resting,
            };
        }
        let pictures = self.current.chunks_exact(width).zip(self.background.chunks_exact_mut(width));
        let marks = self.changed.chunks_exact(width).zip(self.rest.chunks_exact(width));
        for (((samples, backgrounds), (changed, rest)), adapts) in
            pictures.zip(marks).zip(rows_of(&self.adapt, row_of_cells))
        {
            let pictures = samples.chunks(CELL).zip(backgrounds.chunks_mut(CELL));
            let marks = changed.chunks(CELL).zip(rest.chunks(CELL));
            for (((samples, backgrounds), (changed, rest)), adapt) in pictures.zip(marks).zip(adapts) {
                adapt.learn(samples, backgrounds, changed, rest);
            }
        }
    }

    fn learn(&mut self) {
        for (&sample, background) in self.current.iter().zip(&mut self.background) {
            *background = towards(*background, u16::from(sample) << 8, BACKGROUND_SHIFT);
        }
    }

    /// Keeps the regions that are objects, and joins those that touch.
    fn merge(&mut self) {
        #[allow(clippy::cast_precision_loss)] // at most 320 × 320
        let least = self.current.len() as f32 * MIN_AREA;
        self.regions.retain(Region::moves);
        self.regions.sort_unstable_by_key(|region| std::cmp::Reverse(region.pixels));
        self.regions.truncate(MAX_REGIONS);
        let mut first = 0;
        while first < self.regions.len() {
            let mut second = first + 1;
            while second < self.regions.len() {
                if let (Some(&a), Some(&b)) = (self.regions.get(first), self.regions.get(second))
                    && a.touches(&b)
                {
                    self.regions.swap_remove(second);
                    if let Some(region) = self.regions.get_mut(first) {
                        *region = a.joined(&b);
                    }
                    // The larger box may touch what the smaller did not.
                    second = first + 1;
                } else {
                    second += 1;
                }
            }
            first += 1;
        }
        #[allow(clippy::cast_precision_loss)]
        self.regions.retain(|region| region.pixels as f32 >= least);
    }

    #[allow(clippy::cast_precision_loss)] // pictures have at most 8192 × 8192 pixels
    fn detection(&self, region: &Region) -> Detection {
        let (rows, columns) = (region.bottom - region.top + 1, region.right - region.left + 1);
        let (x, y) = (self.step.0 as f32, self.step.1 as f32);
        let bbox = BBox::new(
            region.left as f32 * x,
            region.top as f32 * y,
            (region.right + 1) as f32 * x,
            (region.bottom + 1) as f32 * y,
        );
        Detection {
            bbox: bbox.clipped(self.size.0 as f32, self.size.1 as f32),
            confidence: (region.pixels as f32 / (rows * columns) as f32).min(1.0),
            class_id: 0,
            class_name: Arc::clone(&self.label),
            track_id: None,
            velocity: None,
        }
    }
}

impl Detector for MotionDetector {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let started = Instant::now();
        self.shrink(picture)?;
        let shrunk = Instant::now();
        let mut found = Found { preprocess: shrunk - started, ..Found::default() };
        if !self.taught {
            self.teach();
            return Ok(found);
        }
        let changed = self.compare();
        #[allow(clippy::cast_precision_loss)]
        let share = changed as f32 / self.current.len() as f32;
        if share > MAX_CHANGED {
            self.teach();
            found.infer = shrunk.elapsed();
            return Ok(found);
        }
        self.regions.clear();
        if changed > 0 {
            self.separate();
        } else {
            self.learn();
        }
        let separated = Instant::now();
        found.infer = separated - shrunk;
        self.merge();
        let wanted = settings.classes.as_ref().is_none_or(|classes| classes.iter().any(|class| class == NAME));
        if wanted {
            found.items.extend(self.regions.iter().map(|region| self.detection(region)));
            found.items.retain(|item| item.confidence >= settings.confidence);
            found.items.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
            found.items.truncate(settings.max_detections);
        }
        found.postprocess = separated.elapsed();
        Ok(found)
    }
}

impl Adapt {
    /// Moves the background of a row of a cell on.
    fn learn(self, samples: &[u8], backgrounds: &mut [u16], changed: &[bool], rest: &[u8]) {
        let marks = changed.iter().zip(rest);
        for ((&sample, background), (&changed, &rest)) in samples.iter().zip(backgrounds).zip(marks) {
            let shift = match self {
                Self::Moving if changed && rest < LONG_REST => continue,
                Self::Moving | Self::Resting if changed => RESTING_SHIFT,
                _ => BACKGROUND_SHIFT,
            };
            *background = towards(*background, u16::from(sample) << 8, shift);
        }
    }
}

impl Region {
    const EMPTY: Self = Self { left: u32::MAX, top: u32::MAX, right: 0, bottom: 0, pixels: 0, moving: 0 };

    fn add(&mut self, x: u32, y: u32, moving: bool) {
        self.left = self.left.min(x);
        self.top = self.top.min(y);
        self.right = self.right.max(x);
        self.bottom = self.bottom.max(y);
        self.pixels += 1;
        self.moving += u32::from(moving);
    }

    #[allow(clippy::cast_precision_loss)] // at most 320 × 320
    fn moves(&self) -> bool {
        self.moving > 0 && self.moving as f32 >= self.pixels as f32 * MIN_MOVING
    }

    fn touches(&self, other: &Self) -> bool {
        let near = |low: u32, high: u32| low <= high.saturating_add(MERGE_GAP);
        near(self.left, other.right)
            && near(other.left, self.right)
            && near(self.top, other.bottom)
            && near(other.top, self.bottom)
    }

    fn joined(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
            pixels: self.pixels + other.pixels,
            moving: self.moving + other.moving,
        }
    }
}

/// Regions are labelled from 1; 0 is none.
fn index(label: u32) -> Option<usize> {
    usize::try_from(label.checked_sub(1)?).ok()
}

/// The changed pixels of a row that lie in its `n`th cell.
fn count(row: &[bool], n: usize) -> usize {
    row.get(n * CELL..).unwrap_or_default().iter().take(CELL).map(|&changed| usize::from(changed)).sum()
}

/// The row of cells of each row of pixels.
fn rows_of<T>(cells: &[T], row_of_cells: usize) -> impl Iterator<Item = &[T]> {
    cells.chunks_exact(row_of_cells).flat_map(|row| std::iter::repeat_n(row, CELL))
}

/// Luma by BT.601's weights, in 8 bits.
fn grey(rgb: &[u8]) -> u8 {
    let &[r, g, b] = rgb else { return 0 };
    u8::try_from((77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b)) >> 8).unwrap_or(u8::MAX)
}

/// `value` moved by `1 / 2^shift` of its way to `target`; both in 8.8 fixed point.
fn towards(value: u16, target: u16, shift: u32) -> u16 {
    value - (value >> shift) + (target >> shift)
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
            width in 1usize..200, height in 1usize..200, seed in any::<u64>(), rgb in any::<bool>(),
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
