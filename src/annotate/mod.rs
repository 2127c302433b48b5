//! Draws detections on I420 planes.
//!
//! Belongs here: boxes, key points, outlines of objects and regions, labels, the colour of each class, hiding what nobody may see,
//! the banner of a picture that is not live. Does not belong here: which detections are drawn or hidden on which picture, moving
//! them to the picture's time or size, and RGB.

mod banner;
mod label;
mod outline;
mod palette;
mod shape;
mod veil;

pub use banner::draw_banner;
pub use outline::{Outline, draw_outlines};
pub use palette::{PALETTE, Rgb, Yuv, colour, rgb_of};
pub use veil::{Hidden, Hider, Veil};

use label::{Font, Label, LabelCache};

use crate::media::{BBox, Detection, I420Frame, Plane};

/// Draws boxes with their labels. Keeps what it drew, so that a label that stays costs a copy.
#[derive(Debug)]
pub struct Annotator {
    size: (usize, usize),
    labels: LabelCache,
}

impl Default for Annotator {
    fn default() -> Self {
        Self::new()
    }
}

/// A rectangle in whole pixels that lies in the picture: left and top even, right and bottom exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rect {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Annotator {
    /// An annotator for pictures of any size.
    #[must_use]
    pub fn new() -> Self {
        Self { size: (0, 0), labels: LabelCache::new(Font::for_picture(0), 0) }
    }

    /// Draws `boxes`, in pixels of `picture`, best first as detectors give them: where two overlap, the earlier one is on
    /// top, and every label is above every outline.
    ///
    /// An outline lies within its box, on even pixels so that luma and chroma have exactly the class's [`colour`]. Boxes
    /// are cut to the picture; one outside it, empty or not a number is not drawn. Labels stay inside the picture. Key points
    /// are filled squares above the boxes, of twice the outline's thickness, those of a confidence below 0.5 left out; a
    /// mask's polygon is a line of 2 pixels.
    pub fn draw(&mut self, picture: &mut I420Frame, boxes: &[Detection]) {
        let (width, height) = (picture.width(), picture.height());
        let side = width.min(height);
        if self.size != (width, height) {
            self.size = (width, height);
            self.labels = LabelCache::new(Font::for_picture(side), width & !1);
        }
        let thickness = thickness(side);
        for detection in boxes.iter().rev() {
            if let Some(rect) = Rect::of(&detection.bbox, width, height) {
                outline(picture, rect, thickness, colour(detection.class_id));
            }
        }
        for detection in boxes.iter().rev() {
            let colour = colour(detection.class_id);
            if let Some(corners) = &detection.mask {
                shape::draw_outline(picture, corners, colour);
            }
            if let Some(points) = &detection.keypoints {
                shape::draw_points(picture, points, 2 * thickness, colour);
            }
        }
        for detection in boxes.iter().rev() {
            if let Some(rect) = Rect::of(&detection.bbox, width, height)
                && let Some(label) = self.labels.get(detection)
                && let Some((x, y)) = place(label, rect, thickness, width, height)
            {
                paste(picture, label, x, y);
            }
        }
    }
}

/// The thickness of an outline on a picture whose shorter side is `side`: 2 pixels to 719, 4 to 1199, and so on.
fn thickness(side: usize) -> usize {
    2 * ((side + 240) / 480).max(1)
}

impl Rect {
    /// The even pixels that cover a box, cut to the picture.
    fn of(bbox: &BBox, width: usize, height: usize) -> Option<Self> {
        if !bbox.is_finite() || bbox.x1 >= bbox.x2 || bbox.y1 >= bbox.y2 {
            return None;
        }
        let (left, right) = even_span(bbox.x1, bbox.x2, width)?;
        let (top, bottom) = even_span(bbox.y1, bbox.y2, height)?;
        Some(Self { left, top, right, bottom })
    }
}

/// The span from `low` to `high` widened to even pixels and cut to `0..side`; `None` if nothing is left.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn even_span(low: f32, high: f32, side: usize) -> Option<(usize, usize)> {
    let cut = |value: f32| value.clamp(0.0, side as f32);
    let low = cut(low).floor() as usize & !1;
    let high = (cut(high).ceil() as usize).next_multiple_of(2).min(side);
    (low < high).then_some((low, high))
}

fn outline(picture: &mut I420Frame, rect: Rect, thickness: usize, colour: Yuv) {
    let Rect { left, top, right, bottom } = rect;
    // An odd last row or column begins its stripe one earlier: half a chroma sample cannot be coloured.
    let inner_right = (right.saturating_sub(thickness) & !1).max(left);
    let inner_bottom = (bottom.saturating_sub(thickness) & !1).max(top);
    fill(picture, Rect { bottom: bottom.min(top + thickness), ..rect }, colour);
    fill(picture, Rect { top: inner_bottom, ..rect }, colour);
    fill(picture, Rect { right: right.min(left + thickness), ..rect }, colour);
    fill(picture, Rect { left: inner_right, ..rect }, colour);
}

fn fill(picture: &mut I420Frame, rect: Rect, colour: Yuv) {
    let strides = [Plane::Y, Plane::U, Plane::V].map(|plane| picture.plane_size(plane).0);
    let (y, u, v) = picture.planes_mut();
    let Rect { left, top, right, bottom } = rect;
    fill_plane(y, strides[0], rect, colour.y);
    let half = Rect { left: left / 2, top: top / 2, right: right.div_ceil(2), bottom: bottom.div_ceil(2) };
    fill_plane(u, strides[1], half, colour.u);
    fill_plane(v, strides[2], half, colour.v);
}

fn fill_plane(plane: &mut [u8], stride: usize, rect: Rect, value: u8) {
    for row in plane.chunks_exact_mut(stride).take(rect.bottom).skip(rect.top) {
        if let Some(samples) = row.get_mut(rect.left..rect.right) {
            samples.fill(value);
        }
    }
}

/// Where a label goes: on top of its box, or under the box's upper edge if there is no room above; moved in where it would
/// leave the picture. `None` if the picture is smaller than the label.
fn place(label: &Label, rect: Rect, thickness: usize, width: usize, height: usize) -> Option<(usize, usize)> {
    let most_x = (width & !1).checked_sub(label.width)?;
    let most_y = (height & !1).checked_sub(label.height)?;
    let y = rect.top.checked_sub(label.height).unwrap_or(rect.top + thickness);
    Some((rect.left.min(most_x), y.min(most_y)))
}

fn paste(picture: &mut I420Frame, label: &Label, x: usize, y: usize) {
    let strides = [Plane::Y, Plane::U, Plane::V].map(|plane| picture.plane_size(plane).0);
    let (luma, u, v) = picture.planes_mut();
    paste_plane(luma, strides[0], &label.y, label.width, x, y);
    paste_plane(u, strides[1], &label.u, label.width / 2, x / 2, y / 2);
    paste_plane(v, strides[2], &label.v, label.width / 2, x / 2, y / 2);
}

fn paste_plane(plane: &mut [u8], stride: usize, source: &[u8], width: usize, x: usize, y: usize) {
    for (row, samples) in plane.chunks_exact_mut(stride).skip(y).zip(source.chunks_exact(width)) {
        if let Some(target) = row.get_mut(x..x + width) {
            target.copy_from_slice(samples);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
