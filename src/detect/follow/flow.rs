//! Where a point of one picture is in another.

use super::pyramid::{LEVELS, Level, Pyramid};

/// Side of the patch around a point, in samples of each level.
pub(super) const PATCH: usize = 8;

const SAMPLES: f32 = (PATCH * PATCH) as f32;

/// Steps towards the best fit, on each level.
const MOST_STEPS: usize = 6;

/// A step smaller than this, in samples, is the last.
const SMALL_STEP: f32 = 0.03;

/// The least texture: the smaller eigenvalue of the patch's gradient matrix for each sample. Below it the patch says nothing
/// in one direction (Shi and Tomasi 1994).
const LEAST_TEXTURE: f32 = 4.0;

/// A patch that differs by more than this from where it was found, in luma for each sample, was not found.
const MOST_DIFFERENCE: f32 = 16.0;

/// The same as a share of the patch's own contrast: another piece of a like texture fits half as well…
const MOST_SHARE: f32 = 0.35;

/// …of which a camera's grain is no part.
const GRAIN: f32 = 3.0;

type Rows = [[f32; PATCH]; PATCH];

/// A patch of the older picture: its samples less their mean, their gradients, and the inverse of the gradients' matrix.
struct Patch {
    samples: Rows,
    dx: Rows,
    dy: Rows,
    /// `[xx, xy, yy]` of the inverse.
    inverse: [f32; 3],
    /// Mean distance of the samples from their mean.
    contrast: f32,
}

impl Patch {
    /// The patch whose upper left sample is at `(x, y)`; `None` at the picture's edge, or where there is no texture.
    fn cut(level: &Level, x: isize, y: isize) -> Option<Self> {
        let mut samples = [[0.0; PATCH]; PATCH];
        let (mut dx, mut dy) = ([[0.0; PATCH]; PATCH], [[0.0; PATCH]; PATCH]);
        let (mut xx, mut xy, mut yy, mut sum) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for (row, at) in (y..).take(PATCH).enumerate() {
            let above = level.run(x, at - 1, PATCH)?.first_chunk::<PATCH>()?;
            let here = level.run(x - 1, at, PATCH + 2)?;
            let (left, middle, right) =
                (here.first_chunk::<PATCH>()?, here.get(1..)?.first_chunk::<PATCH>()?, here.last_chunk::<PATCH>()?);
            let below = level.run(x, at + 1, PATCH)?.first_chunk::<PATCH>()?;
            for n in 0..PATCH {
                let value = f32::from(middle[n]);
                let gx = (f32::from(right[n]) - f32::from(left[n])) * 0.5;
                let gy = (f32::from(below[n]) - f32::from(above[n])) * 0.5;
                samples[row][n] = value;
                dx[row][n] = gx;
                dy[row][n] = gy;
                sum += value;
                xx += gx * gx;
                xy += gx * gy;
                yy += gy * gy;
            }
        }
        let mean = sum / SAMPLES;
        samples.iter_mut().flatten().for_each(|sample| *sample -= mean);
        let (half, apart) = (f32::midpoint(xx, yy), (xx - yy) * 0.5);
        let smaller = half - (apart * apart + xy * xy).sqrt();
        if smaller < LEAST_TEXTURE * SAMPLES {
            return None;
        }
        let determinant = xx * yy - xy * xy;
        let contrast = samples.iter().flatten().map(|sample| sample.abs()).sum::<f32>() / SAMPLES;
        Some(Self { samples, dx, dy, inverse: [yy / determinant, -xy / determinant, xx / determinant], contrast })
    }

    /// From a place of its upper left sample in the newer picture: the step towards a better fit, and the mean difference.
    /// `None` at the picture's edge.
    fn step(&self, level: &Level, x: f32, y: f32) -> Option<((f32, f32), f32)> {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        #[allow(clippy::cast_possible_truncation)] // saturates, and is refused then
        let (left, top) = (left as isize, top as isize);
        let mut found = [[0.0; PATCH]; PATCH];
        let mut sum = 0.0f32;
        let mut upper = sideways(level, left, top, fx)?;
        for (row, at) in found.iter_mut().zip(top.checked_add(1)?..) {
            let lower = sideways(level, left, at, fx)?;
            for n in 0..PATCH {
                row[n] = upper[n] + fy * (lower[n] - upper[n]);
                sum += row[n];
            }
            upper = lower;
        }
        // Light that changes for the whole patch is no motion.
        let mean = sum / SAMPLES;
        let (mut bx, mut by, mut difference) = ([0.0f32; PATCH], [0.0f32; PATCH], [0.0f32; PATCH]);
        for (((found, sample), dx), dy) in found.iter().zip(&self.samples).zip(&self.dx).zip(&self.dy) {
            for n in 0..PATCH {
                let off = found[n] - mean - sample[n];
                bx[n] += off * dx[n];
                by[n] += off * dy[n];
                difference[n] += off.abs();
            }
        }
        let (bx, by) = (bx.iter().sum::<f32>(), by.iter().sum::<f32>());
        let [xx, xy, yy] = self.inverse;
        Some(((-(xx * bx + xy * by), -(xy * bx + yy * by)), difference.iter().sum::<f32>() / SAMPLES))
    }
}

/// A row of the patch, between the samples by `share`.
#[inline]
fn sideways(level: &Level, x: isize, y: isize, share: f32) -> Option<[f32; PATCH]> {
    let run = level.run(x, y, PATCH + 1)?;
    let (left, right) = (run.first_chunk::<PATCH>()?, run.last_chunk::<PATCH>()?);
    let mut row = [0.0; PATCH];
    for n in 0..PATCH {
        let (a, b) = (f32::from(left[n]), f32::from(right[n]));
        row[n] = a + share * (b - a);
    }
    Some(row)
}

/// Why a point has no motion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is no texture to find it by, or it is at the picture's edge.
    Plain,
    /// It is not where it was looked for.
    Gone,
}

/// Where the point `(x, y)` of `older` went until `newer`, looked for around `guess`; all in samples of the largest level.
///
/// Lucas and Kanade in its inverse compositional form (Baker and Matthews 2004) over a pyramid (Bouguet 2001); the light
/// of the patch may change as a whole.
pub(super) fn follow_point(
    older: &Pyramid,
    newer: &Pyramid,
    (x, y): (f32, f32),
    guess: (f32, f32),
) -> Result<(f32, f32), Lost> {
    // The patch lies on whole samples: what is looked for is how it moved, and that is the same around the point.
    let corner = |at: f32, shrink: f32| (at * shrink).round() - (PATCH / 2) as f32;
    let cut = |level: &Level, shrink: f32| {
        let (left, top) = (corner(x, shrink), corner(y, shrink));
        #[allow(clippy::cast_possible_truncation)] // saturates, and is refused then
        let patch = Patch::cut(level, left as isize, top as isize)?;
        Some((patch, left, top))
    };
    let [finest, coarser @ ..] = &older.levels;
    let [finest_newer, coarser_newer @ ..] = &newer.levels;
    let finest = cut(finest, 1.0).ok_or(Lost::Plain)?;

    let mut shrink = 1.0 / (1 << (LEVELS - 1)) as f32;
    let mut moved = (guess.0 * shrink, guess.1 * shrink);
    for (before, after) in coarser.iter().zip(coarser_newer).rev() {
        // Lost on this level: the next finer one begins where this one did.
        if let Some((patch, left, top)) = cut(before, shrink)
            && let Some((better, _)) = fit(&patch, after, (left, top), moved)
        {
            moved = better;
        }
        shrink *= 2.0;
        moved = (moved.0 * 2.0, moved.1 * 2.0);
    }
    let (patch, left, top) = finest;
    let (moved, difference) = fit(&patch, finest_newer, (left, top), moved).ok_or(Lost::Gone)?;
    let most = MOST_DIFFERENCE.min(GRAIN + MOST_SHARE * patch.contrast);
    if difference < most { Ok(moved) } else { Err(Lost::Gone) }
}

/// How the patch at a corner moved, from a first idea of it, and how much it differs there; `None` where it is lost.
fn fit(patch: &Patch, level: &Level, corner: (f32, f32), start: (f32, f32)) -> Option<((f32, f32), f32)> {
    let mut moved = start;
    let mut fits = f32::INFINITY;
    for _ in 0..MOST_STEPS {
        let (step, difference) = patch.step(level, corner.0 + moved.0, corner.1 + moved.1)?;
        fits = difference;
        moved = (moved.0 + step.0, moved.1 + step.1);
        if (moved.0 - start.0).abs().max((moved.1 - start.1).abs()) > PATCH as f32 {
            return None;
        }
        if step.0.abs().max(step.1.abs()) < SMALL_STEP {
            break;
        }
    }
    moved.0.is_finite().then_some((moved, fits))
}
