//! A part of a picture as a picture of its own.

use super::super::{DetectError, Picture};
use crate::media::{BBox, Detection, FramePool, I420Frame, KeyPoint, Plane};

/// The border around a box, as a share of its sides: what belongs to an object may stick out of its box.
const BORDER: f32 = 0.1;

/// The shortest side of a crop in which anything can be found, in pixels.
const SHORTEST: usize = 16;

/// A part of a picture.
#[derive(Debug)]
pub(super) struct Crop {
    left: usize,
    top: usize,
    pixels: Pixels,
}

#[derive(Debug)]
enum Pixels {
    I420(I420Frame),
    Rgb { data: Vec<u8>, width: usize, height: usize },
}

impl Crop {
    /// The part around a box, on even pixels; `None` where there is too little of it in the picture.
    ///
    /// # Errors
    /// [`DetectError::Frame`] for an RGB picture with the wrong number of bytes.
    pub(super) fn of(picture: Picture<'_>, bbox: &BBox, pool: &FramePool) -> Result<Option<Self>, DetectError> {
        let (width, height) = picture.size();
        let (Some((left, right)), Some((top, bottom))) =
            (span(bbox.x1, bbox.x2, bbox.width(), width), span(bbox.y1, bbox.y2, bbox.height(), height))
        else {
            return Ok(None);
        };
        let (across, down) = (right - left, bottom - top);
        let pixels = match picture {
            Picture::I420(frame) => {
                let mut crop = pool.frame(across, down);
                for plane in [Plane::Y, Plane::U, Plane::V] {
                    let half = if plane == Plane::Y { 1 } else { 2 };
                    let (stride, _) = frame.plane_size(plane);
                    let from = frame.plane(plane).get(top / half * stride + left / half..).unwrap_or_default();
                    let (columns, _) = crop.plane_size(plane);
                    let (y, u, v) = crop.planes_mut();
                    let target = match plane {
                        Plane::Y => y,
                        Plane::U => u,
                        Plane::V => v,
                    };
                    for (row, out) in from.chunks(stride).zip(target.chunks_exact_mut(columns)) {
                        if let Some(row) = row.get(..columns) {
                            out.copy_from_slice(row);
                        }
                    }
                }
                Pixels::I420(crop)
            }
            Picture::Rgb { data, .. } => {
                let rows = data.chunks_exact(width * 3).skip(top).take(down);
                let parts = rows.filter_map(|row| row.get(left * 3..right * 3));
                let data: Vec<u8> = parts.flatten().copied().collect();
                if data.len() != across * down * 3 {
                    return Err(DetectError::Frame(format!("no RGB picture of {width}×{height}")));
                }
                Pixels::Rgb { data, width: across, height: down }
            }
        };
        Ok(Some(Self { left, top, pixels }))
    }

    pub(super) fn picture(&self) -> Picture<'_> {
        match &self.pixels {
            Pixels::I420(frame) => Picture::I420(frame),
            Pixels::Rgb { data, width, height } => Picture::Rgb { data, width: *width, height: *height },
        }
    }

    /// An object of the crop as one of the whole picture, found in the object that is `parent` in its list.
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    pub(super) fn put_back(&self, mut item: Detection, class_offset: u32, parent: usize) -> Detection {
        let (x, y) = (self.left as f32, self.top as f32);
        let BBox { x1, y1, x2, y2 } = item.bbox;
        item.bbox = BBox::new(x1 + x, y1 + y, x2 + x, y2 + y);
        let moved = |point: &KeyPoint| KeyPoint { x: point.x + x, y: point.y + y, ..*point };
        item.keypoints = item.keypoints.map(|points| points.iter().map(moved).collect());
        item.mask = item.mask.map(|outline| outline.iter().map(|[px, py]| [px + x, py + y]).collect());
        item.class_id = item.class_id.saturating_add(class_offset);
        item.parent = u64::try_from(parent).ok();
        item
    }
}

/// The pixels from `low` to `high` and a border, from an even one on; `None` where they are too few.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn span(low: f32, high: f32, length: f32, side: usize) -> Option<(usize, usize)> {
    let cut = |value: f32| value.clamp(0.0, side as f32);
    let (low, high) = (cut(low - length * BORDER).floor() as usize & !1, cut(high + length * BORDER).ceil() as usize);
    (high >= low + SHORTEST).then_some((low, high))
}
