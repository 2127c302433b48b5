//! How a box moved from one picture to another, by the points in it.

use super::flow::{Lost, PATCH, follow_point};
use super::pyramid::{LEVELS, Pyramid};
use crate::media::BBox;

/// Points along a side of the box, at most.
const MOST_POINTS: usize = 5;

/// The share of the box, around its centre, that points are taken from: near its edges is what stands behind it.
const INNER: f32 = 0.75;

/// A box with a shorter side than this, in samples, has too little to follow.
const LEAST_SIDE: f32 = 8.0;

/// A point that does not come back to where it was, by this many samples, is lost (Kalal et al. 2010, forward-backward error).
const MOST_ERROR: f32 = 0.7;

/// Fewer points than this, or than this share of those that were tried, say nothing of the box.
const LEAST_POINTS: usize = 5;
const LEAST_SHARE: f32 = 0.3;

/// Nor does a smaller share of those with a texture, near to where the box is expected…
const SHARE_NEAR: f32 = 0.45;

/// …and elsewhere: what passes in front has points too.
const SHARE_FAR: f32 = 0.7;

/// Points agree when they differ from their median by less than this, in samples, and a share of how far they went.
const AGREE: f32 = 1.0;
const AGREE_SHARE: f32 = 0.1;

/// Points from which a change of size can be read.
const LEAST_FOR_SCALE: usize = 8;

/// The most that the size changes between two pictures.
const MOST_SCALE: f32 = 1.12;

/// How far the whole box is searched for each way, in samples of the smallest level.
const REACH: isize = 8;

/// The most of the box that is compared to each side of its centre, in samples of the smallest level.
const MOST_HALF: isize = 16;

/// How a box moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Motion {
    /// Of the centre, in source pixels.
    pub(super) by: (f32, f32),
    /// The factor of both sides.
    pub(super) scale: f32,
}

/// Reads motions; keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Reader {
    points: Vec<((f32, f32), (f32, f32))>,
    values: Vec<f32>,
}

impl Reader {
    /// How the object in `bbox` of `older` moved until `newer`, looked for around `guess` (all in source pixels); of a guess that
    /// is not `known`, only the neighbourhood is believed. `None`: the
    /// pictures do not say, for want of texture, or because the points disagree.
    pub(super) fn read(
        &mut self,
        older: &Pyramid,
        newer: &Pyramid,
        bbox: &BBox,
        guess: (f32, f32),
        known: bool,
    ) -> Option<Motion> {
        let step = older.step as f32;
        // Of a box that reaches out of the picture only the part inside has points.
        let (width, height) = (older.levels[0].width as f32, older.levels[0].height as f32);
        let seen = BBox::new(bbox.x1 / step, bbox.y1 / step, bbox.x2 / step, bbox.y2 / step).clipped(width, height);
        let (w, h) = (seen.width(), seen.height());
        if !(w >= LEAST_SIDE && h >= LEAST_SIDE) {
            return None;
        }
        let guess = (guess.0 / step, guess.1 / step);
        let centre = (f32::midpoint(bbox.x1, bbox.x2) / step, f32::midpoint(bbox.y1, bbox.y2) / step);
        let around = |reader: &mut Self, guess, share| reader.read_around(older, newer, &seen, guess, centre, share);
        let motion = if known { around(self, guess, SHARE_NEAR) } else { None };
        let motion = motion.or_else(|| {
            // It turned, stopped, or has never moved before: look at all places near.
            let place = search(older, newer, &seen, guess)?;
            around(self, place, SHARE_FAR)
        })?;
        Some(Motion { by: (motion.by.0 * step, motion.by.1 * step), scale: motion.scale })
    }

    /// [`read`](Self::read) without the search, in samples of the largest level.
    fn read_around(
        &mut self,
        older: &Pyramid,
        newer: &Pyramid,
        seen: &BBox,
        guess: (f32, f32),
        centre: (f32, f32),
        share: f32,
    ) -> Option<Motion> {
        let (tried, textured) = self.follow_points(older, newer, seen, guess);
        let found = self.points.len() as f32;
        if self.points.len() < LEAST_POINTS || found < LEAST_SHARE * tried as f32 || found < share * textured as f32 {
            return None;
        }
        let by = (self.median_of(|(_, by)| by.0)?, self.median_of(|(_, by)| by.1)?);
        let scale = self.scale().unwrap_or(1.0);
        let far = by.0.hypot(by.1);
        let (cx, cy) = seen.centre();
        let agree = AGREE + AGREE_SHARE * far;
        // What the size's change explains is no disagreement.
        let off = self.median_of(|((x, y), (dx, dy))| {
            (dx - by.0 - (scale - 1.0) * (x - cx)).hypot(dy - by.1 - (scale - 1.0) * (y - cy))
        })?;
        if off > agree {
            return None;
        }
        // The points' centre is not the box's: a change of size moves one against the other.
        let (px, py) = (self.median_of(|((x, _), _)| x)?, self.median_of(|((_, y), _)| y)?);
        let (ox, oy) = (centre.0 - px, centre.1 - py);
        Some(Motion { by: (by.0 + (scale - 1.0) * ox, by.1 + (scale - 1.0) * oy), scale })
    }

    /// Fills `points` with those that went there and came back. Returns how many were tried, and how many of
    /// them have a texture to go by.
    fn follow_points(&mut self, older: &Pyramid, newer: &Pyramid, seen: &BBox, guess: (f32, f32)) -> (usize, usize) {
        self.points.clear();
        let (cx, cy) = seen.centre();
        let count = |side: f32| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a small positive number
            let count = (INNER * side / (PATCH as f32 / 2.0)) as usize;
            count.clamp(2, MOST_POINTS)
        };
        let (columns, rows) = (count(seen.width()), count(seen.height()));
        let mut textured = 0;
        let place = |n: usize, count: usize| (n as f32 + 0.5) / count as f32 - 0.5;
        for row in 0..rows {
            let y = cy + INNER * seen.height() * place(row, rows);
            for column in 0..columns {
                let x = cx + INNER * seen.width() * place(column, columns);
                let by = follow_point(older, newer, (x, y), guess);
                textured += usize::from(by != Err(Lost::Plain));
                let Ok(by) = by else { continue };
                let there = (x + by.0, y + by.1);
                let Ok(back) = follow_point(newer, older, there, (-guess.0, -guess.1)) else { continue };
                if (by.0 + back.0).hypot(by.1 + back.1) < MOST_ERROR {
                    self.points.push(((x, y), by));
                }
            }
        }
        (rows * columns, textured)
    }

    /// The median factor of the distances between points: `None` where it cannot be told.
    fn scale(&mut self) -> Option<f32> {
        if self.points.len() < LEAST_FOR_SCALE {
            return None;
        }
        self.values.clear();
        for (n, ((x1, y1), (dx1, dy1))) in self.points.iter().enumerate() {
            for ((x2, y2), (dx2, dy2)) in self.points.iter().skip(n + 1) {
                let before = (x2 - x1).hypot(y2 - y1);
                // Near points tell more of their own error than of the size.
                if before > PATCH as f32 {
                    let after = (x2 + dx2 - x1 - dx1).hypot(y2 + dy2 - y1 - dy1);
                    self.values.push(after / before);
                }
            }
        }
        let scale = median(&mut self.values)?;
        self.values.iter_mut().for_each(|value| *value = (*value - scale).abs());
        let spread = median(&mut self.values)?;
        (spread < 0.05 && (1.0 / MOST_SCALE..=MOST_SCALE).contains(&scale)).then_some(scale)
    }

    fn median_of(&mut self, value: impl Fn(((f32, f32), (f32, f32))) -> f32) -> Option<f32> {
        self.values.clear();
        self.values.extend(self.points.iter().map(|point| value(*point)));
        median(&mut self.values)
    }
}

/// The place near `guess` where the box as a whole fits best, on the smallest level.
fn search(older: &Pyramid, newer: &Pyramid, seen: &BBox, guess: (f32, f32)) -> Option<(f32, f32)> {
    let (older, newer) = (older.levels.last()?, newer.levels.last()?);
    let shrink = 1.0 / (1 << (LEVELS - 1)) as f32;
    let (cx, cy) = seen.centre();
    #[allow(clippy::cast_possible_truncation)] // pictures have at most 8192 pixels a side
    let whole = |value: f32| (value * shrink).round() as isize;
    let half = |side: f32, most: isize| whole(side * INNER / 2.0).clamp(2, most);
    let (w, h) = (half(seen.width(), MOST_HALF), half(seen.height(), 2 * MOST_HALF));
    let (left, top) = (whole(cx) - w, whole(cy) - h);
    let (columns, skip) = (usize::try_from(2 * w).ok()?, usize::try_from((h / 8).max(1)).ok()?);
    let rows = u32::try_from(2 * h).ok()?.div_ceil(u32::try_from(skip).ok()?);
    let (x0, y0) = (whole(guess.0), whole(guess.1));
    let mut best: Option<(u32, isize, isize)> = None;
    for dy in y0 - REACH..=y0 + REACH {
        for dx in x0 - REACH..=x0 + REACH {
            let mut sum = 0;
            let mut samples = 0u32;
            for y in (top..top + 2 * h).step_by(skip) {
                let (Some(a), Some(b)) = (older.run(left, y, columns), newer.run(left + dx, y + dy, columns)) else {
                    continue;
                };
                sum += a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
                samples += 1;
            }
            // Places half out of the picture are not compared with those inside.
            if 4 * samples >= 3 * rows {
                let mean = sum / samples;
                if best.is_none_or(|(least, _, _)| mean < least) {
                    best = Some((mean, dx, dy));
                }
            }
        }
    }
    let (_, dx, dy) = best?;
    // The fraction of the guess is better than none.
    if (dx, dy) == (x0, y0) { Some(guess) } else { Some((dx as f32 / shrink, dy as f32 / shrink)) }
}

/// The median, of an even number the upper one; leaves the values in another order.
fn median(values: &mut [f32]) -> Option<f32> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f32::total_cmp).1)
}
