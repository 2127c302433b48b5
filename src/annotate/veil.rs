//! Hides parts of a picture so that nobody gets them back: black, blurred, or as a mosaic.
//!
//! Both the blur and the mosaic keep one mean for each cell of a coarse grid, and nothing else of what was there: the blur goes
//! smoothly from one mean to the next.

use serde::{Deserialize, Serialize};

use super::Rect;
use crate::media::{BBox, I420Frame, Plane};

/// Cells in the shorter side of what is hidden: a face of six cells is nobody's.
const CELLS: usize = 6;

/// The same where a whole picture is hidden, in which faces are smaller.
const CELLS_OF_ALL: usize = 12;

/// The smallest cell, in pixels.
const SMALLEST_CELL: usize = 16;

/// A polygon covers every pixel nearer to it than this.
const MARGIN: f32 = 1.0;

/// How something is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Veil {
    /// Smoothly.
    #[default]
    Blur,
    /// As a mosaic.
    Pixelate,
    /// Entirely.
    Black,
}

/// What is hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hidden<'a> {
    /// The whole picture.
    All,
    /// A box in pixels.
    Box(BBox),
    /// A polygon with corners `[x, y]` in shares of width and height; what it goes round in any way is inside.
    Polygon(&'a [[f32; 2]]),
}

/// Hides parts of pictures. Keeps its buffers.
#[derive(Debug, Default)]
pub struct Hider {
    /// The spans of a polygon for each two rows, in pairs of pixels from its left edge.
    spans: Vec<Vec<(usize, usize)>>,
    crossings: Vec<(f32, i32)>,
    means: Vec<i32>,
    sums: Vec<u32>,
    row: Vec<i32>,
    line: Vec<u8>,
}

/// A part of one plane, in its samples.
#[derive(Clone, Copy)]
struct Part {
    stride: usize,
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    cell: usize,
    /// Samples of this plane for each two pixels.
    scale: usize,
}

impl Hider {
    /// A hider for pictures of any size.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hides one part of the picture; what lies outside the picture is cut off. A box that is not a number hides everything:
    /// nobody knows where it should be.
    pub fn hide(&mut self, picture: &mut I420Frame, what: &Hidden<'_>, veil: Veil) {
        let (width, height) = (picture.width(), picture.height());
        let all = Rect { left: 0, top: 0, right: width, bottom: height };
        let (rect, cells) = match what {
            Hidden::Box(bbox) if bbox.is_finite() => match Rect::of(bbox, width, height) {
                Some(rect) => (rect, CELLS),
                None => return,
            },
            Hidden::All | Hidden::Box(_) => (all, CELLS_OF_ALL),
            Hidden::Polygon(points) => match self.rasterise(points, width, height) {
                Some(rect) => (rect, CELLS),
                None => return,
            },
        };
        let polygon = matches!(what, Hidden::Polygon(_));
        let shorter = (rect.right - rect.left).min(rect.bottom - rect.top);
        let cell = (shorter / cells).max(SMALLEST_CELL).next_multiple_of(2);
        for plane in [Plane::Y, Plane::U, Plane::V] {
            let scale = if plane == Plane::Y { 2 } else { 1 };
            let (stride, rows) = picture.plane_size(plane);
            let part = Part {
                stride,
                left: rect.left * scale / 2,
                top: rect.top * scale / 2,
                right: (rect.right * scale).div_ceil(2).min(stride),
                bottom: (rect.bottom * scale).div_ceil(2).min(rows),
                cell: cell * scale / 2,
                scale,
            };
            let black = if plane == Plane::Y { 16 } else { 128 };
            let (y, u, v) = picture.planes_mut();
            let samples = match plane {
                Plane::Y => y,
                Plane::U => u,
                Plane::V => v,
            };
            self.hide_part(samples, &part, veil, black, polygon);
        }
    }

    fn hide_part(&mut self, samples: &mut [u8], part: &Part, veil: Veil, black: u8, polygon: bool) {
        let across = part.right - part.left;
        let columns = across.div_ceil(part.cell);
        if veil != Veil::Black {
            self.average(samples, part, columns);
        }
        self.line.clear();
        self.line.resize(across, black);
        let rows = samples.chunks_exact_mut(part.stride).enumerate().take(part.bottom).skip(part.top);
        for (y, row) in rows {
            let down = y - part.top;
            match veil {
                Veil::Black => {}
                Veil::Pixelate => self.mosaic(down, part.cell, columns),
                Veil::Blur => self.smooth(down, part.cell, columns),
            }
            let whole = [(0, across)];
            let spans: &[(usize, usize)] =
                if polygon { self.spans.get(down / part.scale).map_or(&[], Vec::as_slice) } else { &whole };
            for &(from, to) in spans {
                let (from, to) = if polygon { (from * part.scale, (to * part.scale).min(across)) } else { (from, to) };
                let target = row.get_mut(part.left + from..part.left + to);
                if let (Some(target), Some(source)) = (target, self.line.get(from..to)) {
                    target.copy_from_slice(source);
                }
            }
        }
    }

    /// The mean of each cell, `columns` in a row of cells.
    fn average(&mut self, samples: &[u8], part: &Part, columns: usize) {
        self.means.clear();
        let across = part.right - part.left;
        let mut top = part.top;
        while top < part.bottom {
            let rows = part.cell.min(part.bottom - top);
            self.sums.clear();
            self.sums.resize(across, 0);
            for row in samples.chunks_exact(part.stride).skip(top).take(rows) {
                for (sum, &sample) in self.sums.iter_mut().zip(row.get(part.left..part.right).unwrap_or_default()) {
                    *sum += u32::from(sample);
                }
            }
            self.means.extend(self.sums.chunks(part.cell).take(columns).map(|sums| {
                let area = u64::try_from(sums.len() * rows).unwrap_or(1).max(1);
                i32::try_from(sums.iter().map(|&sum| u64::from(sum)).sum::<u64>() / area).unwrap_or(255)
            }));
            top += rows;
        }
    }

    /// The row that is `down` below the top, in one value for each cell.
    fn mosaic(&mut self, down: usize, cell: usize, columns: usize) {
        let means = self.means.chunks_exact(columns).nth(down / cell).unwrap_or_default();
        for (samples, &mean) in self.line.chunks_mut(cell).zip(means) {
            samples.fill(u8::try_from(mean).unwrap_or(u8::MAX));
        }
    }

    /// The same on straight lines between the middles of the cells.
    fn smooth(&mut self, down: usize, cell: usize, columns: usize) {
        let rows = self.means.len() / columns.max(1);
        let from_middle = down.saturating_sub(cell / 2);
        let upper = (from_middle / cell).min(rows.saturating_sub(1));
        let lower = (upper + 1).min(rows.saturating_sub(1));
        let share = if down < cell / 2 { 0 } else { from_middle % cell };
        let fixed = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let (share, cell_fixed) = (fixed(share), fixed(cell));
        let mut bands = self.means.chunks_exact(columns);
        let above = bands.clone().nth(upper).unwrap_or_default();
        let below = bands.nth(lower).unwrap_or_default();
        self.row.clear();
        // 8.8 fixed point: 255 × 256 × a cell of 1400 stays below 2³¹.
        self.row.extend(
            above
                .iter()
                .zip(below)
                .map(|(above, below)| (above * (cell_fixed - share) + below * share) * 256 / cell_fixed),
        );
        let (Some(&first), Some(&last)) = (self.row.first(), self.row.last()) else { return };
        let byte = |value: i32| u8::try_from(value >> 8).unwrap_or(u8::MAX);
        let half = (cell / 2).min(self.line.len());
        let (head, rest) = self.line.split_at_mut(half);
        head.fill(byte(first));
        let pairs = self.row.iter().zip(self.row.iter().skip(1).chain([&last]));
        for (samples, (&from, &to)) in rest.chunks_mut(cell).zip(pairs) {
            let step = (to - from) / cell_fixed;
            let mut value = from;
            for sample in samples {
                *sample = byte(value);
                value += step;
            }
        }
    }

    /// Fills the spans of a polygon, and gives the rectangle that it lies in.
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    fn rasterise(&mut self, points: &[[f32; 2]], width: usize, height: usize) -> Option<Rect> {
        let corners = points.iter().map(|[x, y]| (x * width as f32, y * height as f32));
        let hull = corners.clone().fold(None::<BBox>, |hull, (x, y)| {
            let point = BBox::new(x, y, x, y);
            Some(hull.map_or(point, |hull| BBox::new(hull.x1.min(x), hull.y1.min(y), hull.x2.max(x), hull.y2.max(y))))
        })?;
        let hull = BBox::new(hull.x1 - MARGIN, hull.y1 - MARGIN, hull.x2 + MARGIN, hull.y2 + MARGIN);
        let rect = Rect::of(&hull, width, height)?;
        let pairs = (rect.bottom - rect.top).div_ceil(2);
        self.spans.truncate(pairs);
        self.spans.iter_mut().for_each(Vec::clear);
        self.spans.resize_with(pairs, Vec::new);
        let corners: Vec<(f32, f32)> = corners.collect();
        for (pair, spans) in self.spans.iter_mut().enumerate() {
            let top = (rect.top + 2 * pair) as f32;
            // Lines half a pixel apart, from a margin above the two rows to a margin below them.
            for line in 0..=8u8 {
                let y = top - MARGIN + f32::from(line) * 0.5;
                self.crossings.clear();
                for (&(ax, ay), &(bx, by)) in corners.iter().zip(corners.iter().cycle().skip(1)) {
                    if (ay > y) != (by > y) {
                        let way = if ay > y { 1 } else { -1 };
                        self.crossings.push((ax + (y - ay) / (by - ay) * (bx - ax), way));
                    }
                }
                self.crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut winding = 0;
                for (from, to) in self.crossings.iter().zip(self.crossings.iter().skip(1)) {
                    winding += from.1;
                    if winding != 0 {
                        spans.push(pixels(from.0 - MARGIN, to.0 + MARGIN, &rect));
                    }
                }
            }
        }
        Some(rect)
    }
}

/// The pairs of pixels that a span covers, from the left edge of `rect` on.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn pixels(from: f32, to: f32, rect: &Rect) -> (usize, usize) {
    let cut = |x: f32| (x - rect.left as f32).clamp(0.0, (rect.right - rect.left) as f32);
    ((cut(from) / 2.0).floor() as usize, (cut(to) / 2.0).ceil() as usize)
}

#[cfg(test)]
#[path = "veil_tests.rs"]
mod tests;
