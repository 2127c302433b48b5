//! The picture that is worked on, what it was before, and where the two differ.

use super::super::{DetectError, Picture};
use super::WORKING_SIDE;
use crate::media::{MAX_SIDE, Plane};

/// The smallest difference that is seen, in grey levels, in a picture without noise.
const THRESHOLD: u16 = 12;

/// By how much the threshold rises with the median difference, which is the noise as long as most of a picture rests.
const NOISE_FACTOR: u16 = 6;

/// Above this threshold nothing would be seen any more.
const THRESHOLD_MAX: u16 = 60;

/// The share of a new picture in the average that tells what moves now, as a shift.
const RECENT_SHIFT: u32 = 2;

/// The same for the background.
pub(super) const BACKGROUND_SHIFT: u32 = 6;

/// Averages of the stream's luma, and what differs from them. All planes have `width × height` samples.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Of the source, in pixels.
    pub size: (usize, usize),
    /// Source pixels in a working pixel, each way.
    pub step: (usize, usize),
    /// In working pixels.
    pub width: usize,
    /// In working pixels.
    pub height: usize,
    /// The picture at hand.
    pub current: Vec<u8>,
    /// The slow average, 8.8 fixed point.
    pub background: Vec<u16>,
    /// What differs from the background.
    pub changed: Vec<bool>,
    /// What of it differs from the fast average too.
    pub moving: Vec<bool>,
    /// For how many pictures a pixel has not moved.
    pub rest: Vec<u8>,
    /// Whether the averages know a picture.
    pub taught: bool,
    /// The fast average, 8.8 fixed point.
    recent: Vec<u16>,
    /// Luma of an RGB picture.
    luma: Vec<u8>,
    columns: Vec<u16>,
}

impl Scene {
    /// Averages the picture down into `current`.
    ///
    /// # Errors
    /// [`DetectError::Frame`] for a picture without a size, or with the wrong number of bytes.
    pub fn take(&mut self, picture: Picture<'_>) -> Result<(), DetectError> {
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
        for (rows, out) in luma.chunks_exact(width * step_y).zip(self.current.chunks_exact_mut(self.width)) {
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
        if width == 0 || height == 0 || width.max(height) > MAX_SIDE {
            return Err(DetectError::Frame(format!("a picture of {width}×{height}")));
        }
        // Small pictures are halved all the same: a pixel of its own is mostly noise.
        let longer = width.max(height);
        let step = if longer <= WORKING_SIDE / 2 { 1 } else { longer.div_ceil(WORKING_SIDE).max(2) };
        self.step = (step.min(width), step.min(height));
        (self.width, self.height) = (width / self.step.0, height / self.step.1);
        let pixels = self.width * self.height;
        self.columns.resize(width, 0);
        self.current.resize(pixels, 0);
        self.moving.resize(pixels, false);
        self.rest.resize(pixels, 0);
        self.changed.resize(pixels, false);
        self.size = (width, height);
        self.taught = false;
        Ok(())
    }

    /// Takes the picture at hand for what always was.
    pub fn teach(&mut self) {
        self.background.clear();
        self.background.extend(self.current.iter().map(|&sample| u16::from(sample) << 8));
        self.recent.clone_from(&self.background);
        self.rest.fill(0);
        self.taught = true;
    }

    /// Marks what changed and what moves, and moves the fast average on. Returns how many pixels changed.
    pub fn compare(&mut self) -> usize {
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

    /// Moves the background on by a picture in which nothing is.
    pub fn learn(&mut self) {
        for (&sample, background) in self.current.iter().zip(&mut self.background) {
            *background = towards(*background, u16::from(sample) << 8, BACKGROUND_SHIFT);
        }
    }
}

/// Luma by BT.601's weights, in 8 bits.
fn grey(rgb: &[u8]) -> u8 {
    let &[r, g, b] = rgb else { return 0 };
    u8::try_from((77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b)) >> 8).unwrap_or(u8::MAX)
}

/// `value` moved by `1 / 2^shift` of its way to `target`; both in 8.8 fixed point.
pub(super) fn towards(value: u16, target: u16, shift: u32) -> u16 {
    value - (value >> shift) + (target >> shift)
}
