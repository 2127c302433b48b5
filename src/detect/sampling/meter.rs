//! How much of a picture changed: measured on the luma plane, averaged down.

use crate::media::{I420Frame, Plane};

/// The longer side of the picture that is compared, in cells, at most. A cell is the mean of its pixels, which is the blur: the
/// sensor's noise is gone in it.
const LONGER_SIDE: usize = 160;

/// A cell that differs by more than this from its average of late has changed, in grey levels, in a picture without noise.
const MOVED: u16 = 8;

/// By how much that rises with the median difference, which is the noise as long as most of a picture rests.
const NOISE_FACTOR: u16 = 3;

/// More than this is no noise.
const MOVED_MOST: u16 = 32;

/// A cell that differs by more than this from the picture that was looked at last shows something else.
const OTHER: u8 = 24;

/// The share of a new picture in the average of late, as a shift: an average over eight pictures sees what is slow, too.
const RECENT_SHIFT: u32 = 3;

/// What was measured: shares of the picture, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// What changed against the last pictures; 0 for the first.
    pub motion: f32,
    /// What differs from the picture that was looked at last; 1 where there is none.
    pub scene: f32,
}

/// Measures the pictures of one stream, one after the other.
#[derive(Debug, Default)]
pub struct MotionMeter {
    size: (usize, usize),
    /// Pixels in a cell, each way.
    step: usize,
    /// In cells.
    width: usize,
    columns: Vec<u16>,
    cells: Vec<u8>,
    /// The average of late, 8.8 fixed point; empty before the first picture.
    recent: Vec<u16>,
    /// The cells of the picture that was looked at last.
    kept: Vec<u8>,
}

impl MotionMeter {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures a picture. One of another size than the one before begins anew.
    pub fn look(&mut self, frame: &I420Frame) -> Seen {
        self.shrink(frame);
        let motion = if self.recent.is_empty() {
            self.recent.extend(self.cells.iter().map(|&cell| u16::from(cell) << 8));
            0.0
        } else {
            let threshold = self.threshold() << 8;
            let mut moved = 0usize;
            for (&cell, recent) in self.cells.iter().zip(&mut self.recent) {
                let cell = u16::from(cell) << 8;
                moved += usize::from(cell.abs_diff(*recent) > threshold);
                // Rounded towards the new value, so that it is reached.
                *recent = *recent - (*recent >> RECENT_SHIFT) + (cell >> RECENT_SHIFT);
            }
            self.share(moved)
        };
        let scene = if self.kept.is_empty() {
            1.0
        } else {
            let other = self.cells.iter().zip(&self.kept).filter(|(cell, kept)| cell.abs_diff(**kept) > OTHER);
            self.share(other.count())
        };
        Seen { motion, scene }
    }

    /// The picture that was measured last is looked at.
    pub fn keep(&mut self) {
        self.kept.clone_from(&self.cells);
    }

    /// The difference from which on a cell has changed, in grey levels.
    fn threshold(&self) -> u16 {
        let mut histogram = [0usize; MOVED_MOST as usize + 1];
        for (&cell, &recent) in self.cells.iter().zip(&self.recent) {
            let difference = ((u16::from(cell) << 8).abs_diff(recent) >> 8).min(MOVED_MOST);
            if let Some(count) = histogram.get_mut(usize::from(difference)) {
                *count += 1;
            }
        }
        let (mut below, half) = (0, self.cells.len() / 2);
        let median = histogram.iter().take_while(|count| {
            below += **count;
            below <= half
        });
        let median = u16::try_from(median.count()).unwrap_or(MOVED_MOST);
        (MOVED + NOISE_FACTOR * median).min(MOVED_MOST)
    }

    #[allow(clippy::cast_precision_loss)] // at most 160 × 160
    fn share(&self, cells: usize) -> f32 {
        cells as f32 / self.cells.len().max(1) as f32
    }

    /// The means of all whole cells; a picture smaller than one is one.
    fn shrink(&mut self, frame: &I420Frame) {
        let (width, height) = (frame.width(), frame.height());
        if self.size != (width, height) {
            let step = width.max(height).div_ceil(LONGER_SIDE);
            *self = Self { size: (width, height), step, ..Self::default() };
            self.columns.resize(width, 0);
        }
        let (across, down) = (self.step.min(width), self.step.min(height));
        self.width = width / across;
        self.cells.clear();
        let area = u32::try_from(across * down).unwrap_or(u32::MAX);
        for rows in frame.plane(Plane::Y).chunks_exact(width * down) {
            // A side of 8192 makes cells of 52 pixels: 52 × 255 fits.
            self.columns.fill(0);
            for row in rows.chunks_exact(width) {
                for (sum, &sample) in self.columns.iter_mut().zip(row) {
                    *sum += u16::from(sample);
                }
            }
            self.cells.extend(self.columns.chunks_exact(across).take(self.width).map(|block| {
                let sum: u32 = block.iter().map(|&column| u32::from(column)).sum();
                u8::try_from(sum / area).unwrap_or(u8::MAX)
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{RngCore, SeedableRng};

    use super::*;

    /// A textured scene with noise of up to 8 grey levels each way, and a bright square at `x`.
    fn scene(size: (usize, usize), square: Option<(usize, usize)>, rng: &mut SmallRng) -> I420Frame {
        let mut frame = I420Frame::black(size.0, size.1);
        let samples = frame.planes_mut().0;
        rng.fill_bytes(samples);
        for (n, sample) in samples.iter_mut().enumerate() {
            let (x, y) = (n % size.0, n / size.0);
            let inside = square.is_some_and(|(at, side)| (at..at + side).contains(&x) && (40..40 + side).contains(&y));
            let value = if inside { 200 } else { 60 + (x / 16 + y / 16) % 4 * 12 };
            *sample = (value as u8) - 8 + *sample % 17;
        }
        frame
    }

    #[test]
    fn noise_is_no_motion_and_a_square_that_moves_is() {
        for size in [(1280, 720), (640, 480), (320, 240)] {
            let (mut meter, mut rng) = (MotionMeter::new(), SmallRng::seed_from_u64(1));
            assert_eq!(meter.look(&scene(size, None, &mut rng)), Seen { motion: 0.0, scene: 1.0 });
            meter.keep();
            for _ in 0..20 {
                let seen = meter.look(&scene(size, None, &mut rng));
                assert!(seen.motion < 0.0005 && seen.scene < 0.0005, "{size:?}: {seen:?}");
            }
            let mut least = f32::MAX;
            for step in 0..20 {
                let seen = meter.look(&scene(size, Some((40 + 2 * step, size.1 / 6)), &mut rng));
                least = least.min(seen.motion);
            }
            assert!(least > 0.003, "{size:?}: {least}");
        }
    }

    #[test]
    fn a_slow_square_is_seen_too() {
        let (mut meter, mut rng) = (MotionMeter::new(), SmallRng::seed_from_u64(2));
        let mut seen = 0;
        for step in 0..90 {
            // A third of a pixel a picture.
            let moved = meter.look(&scene((1280, 720), Some((300 + step / 3, 160)), &mut rng)).motion;
            seen += usize::from(step >= 30 && moved > 0.0005);
        }
        assert!(seen >= 50, "{seen} of 60");
    }

    #[test]
    fn a_change_of_scene_is_one_until_it_is_looked_at() {
        let (mut meter, mut rng) = (MotionMeter::new(), SmallRng::seed_from_u64(3));
        meter.look(&scene((640, 480), None, &mut rng));
        meter.keep();
        let mut bright = I420Frame::black(640, 480);
        bright.planes_mut().0.fill(220);
        for _ in 0..20 {
            assert!(meter.look(&bright).scene > 0.9);
        }
        meter.keep();
        let seen = meter.look(&bright);
        assert_eq!(seen.scene, 0.0);
    }

    #[test]
    fn a_change_of_size_begins_anew() {
        let mut meter = MotionMeter::new();
        for size in [(64, 48), (1, 1), (3, 200), (1280, 720)] {
            let mut frame = I420Frame::black(size.0, size.1);
            frame.planes_mut().0.fill(u8::try_from(size.0 % 200).unwrap());
            assert_eq!(meter.look(&frame), Seen { motion: 0.0, scene: 1.0 }, "{size:?}");
            meter.keep();
        }
    }

    proptest! {
        #[test]
        fn shares_are_shares_whatever_the_picture(
            width in 1usize..400, height in 1usize..400, values in prop::collection::vec(any::<u8>(), 1..6),
        ) {
            let mut meter = MotionMeter::new();
            for value in values {
                let mut frame = I420Frame::black(width, height);
                let half = width * height / 2;
                frame.planes_mut().0[half..].fill(value);
                let seen = meter.look(&frame);
                prop_assert!((0.0..=1.0).contains(&seen.motion) && (0.0..=1.0).contains(&seen.scene));
                meter.keep();
                prop_assert_eq!(meter.look(&frame).scene, 0.0);
            }
        }
    }
}
