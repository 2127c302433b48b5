//! From changed pixels to the regions that are objects.

use image::{GrayImage, Luma};
use imageproc::distance_transform::Norm;
use imageproc::morphology::close_mut;
use imageproc::region_labelling::{Connectivity, connected_components};

use super::scene::{BACKGROUND_SHIFT, Scene, towards};

/// Changed pixels are joined into regions on a grid of cells of this side, in working pixels: a sixteenth of the work, and
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

/// The most regions that are looked at.
const MAX_REGIONS: usize = 256;

/// After so many pictures a pixel at rest becomes background even in a region that moves.
const LONG_REST: u8 = 45;

/// The share of a new picture in the background where something came to rest, as a shift.
const RESTING_SHIFT: u32 = 2;

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
pub(super) struct Region {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
    /// Changed pixels.
    pub pixels: u32,
    /// Those of them that move.
    moving: u32,
}

/// Finds the regions of one picture after the other.
#[derive(Debug, Default)]
pub(super) struct Regions {
    /// Of the last picture, after [`Self::merge`] the objects.
    pub found: Vec<Region>,
    /// One sample for each cell.
    cells: GrayImage,
    /// The same, for the background.
    adapt: Vec<Adapt>,
}

impl Regions {
    /// Finds the regions, and moves the background on: fast where a region rests, not where it moves.
    pub fn separate(&mut self, scene: &mut Scene) {
        let width = scene.width;
        let row_of_cells = width.div_ceil(CELL);
        self.fit(scene);
        // Nothing is an object in a picture of one cell, and imageproc 0.27 panics at the labels of a single pixel.
        if self.cells.len() == 1 {
            scene.learn();
            return;
        }
        for (rows, cells) in scene.changed.chunks(width * CELL).zip(self.cells.chunks_exact_mut(row_of_cells)) {
            for (n, cell) in cells.iter_mut().enumerate() {
                let changed = rows.chunks_exact(width).map(|row| count(row, n)).sum::<usize>();
                *cell = if changed >= CELL_CHANGED { u8::MAX } else { 0 };
            }
        }
        close_mut(&mut self.cells, Norm::LInf, CLOSE);
        let labels = connected_components(&self.cells, Connectivity::Eight, Luma([0]));

        self.found.clear();
        let rows = scene.changed.chunks_exact(width).zip(scene.moving.chunks_exact(width));
        for ((y, (changed, moving)), labels) in (0u32..).zip(rows).zip(rows_of(&labels, row_of_cells)) {
            let cells = changed.chunks(CELL).zip(moving.chunks(CELL)).zip(labels);
            for (x, ((changed, moving), &label)) in (0u32..).step_by(CELL).zip(cells) {
                let Some(index) = index(label) else { continue };
                if index >= self.found.len() {
                    self.found.resize(index + 1, Region::EMPTY);
                }
                if let Some(region) = self.found.get_mut(index) {
                    for ((x, _), &moving) in (x..).zip(changed).zip(moving).filter(|((_, changed), _)| **changed) {
                        region.add(x, y, moving);
                    }
                }
            }
        }

        for (adapt, label) in self.adapt.iter_mut().zip(labels.iter()) {
            *adapt = match index(*label).and_then(|index| self.found.get(index)) {
                None => Adapt::Background,
                Some(region) if region.moves() => Adapt::Moving,
                Some(_) => Adapt::Resting,
            };
        }
        let pictures = scene.current.chunks_exact(width).zip(scene.background.chunks_exact_mut(width));
        let marks = scene.changed.chunks_exact(width).zip(scene.rest.chunks_exact(width));
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

    fn fit(&mut self, scene: &Scene) {
        let (columns, rows) = (scene.width.div_ceil(CELL), scene.height.div_ceil(CELL));
        self.adapt.resize(columns * rows, Adapt::Background);
        let side = |side: usize| u32::try_from(side).unwrap_or(1);
        if self.cells.dimensions() != (side(columns), side(rows)) {
            self.cells = GrayImage::new(side(columns), side(rows));
        }
    }

    /// Keeps the regions that are objects, and joins those that touch.
    pub fn merge(&mut self, scene: &Scene) {
        #[allow(clippy::cast_precision_loss)] // at most 320 × 320
        let least = scene.current.len() as f32 * MIN_AREA;
        self.found.retain(Region::moves);
        self.found.sort_unstable_by_key(|region| std::cmp::Reverse(region.pixels));
        self.found.truncate(MAX_REGIONS);
        let mut first = 0;
        while first < self.found.len() {
            let mut second = first + 1;
            while second < self.found.len() {
                if let (Some(&a), Some(&b)) = (self.found.get(first), self.found.get(second))
                    && a.touches(&b)
                {
                    self.found.swap_remove(second);
                    if let Some(region) = self.found.get_mut(first) {
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
        self.found.retain(|region| region.pixels as f32 >= least);
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
