//! What a detector saw, in source pixels.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{RegionEvent, RtpTimestamp};

/// A box `[x1, y1, x2, y2]` in source pixels: left, top, right, bottom, with `x1 <= x2` and `y1 <= y2`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

/// The overlap of two boxes, in square pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intersection {
    /// Area of the intersection.
    pub intersection: f32,
    /// Area of the union.
    pub union: f32,
}

impl BBox {
    /// A box from its edges.
    #[must_use]
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// Width in pixels, never negative.
    #[must_use]
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Height in pixels, never negative.
    #[must_use]
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Area in square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre `(x, y)`.
    #[must_use]
    pub fn centre(&self) -> (f32, f32) {
        (f32::midpoint(self.x1, self.x2), f32::midpoint(self.y1, self.y2))
    }

    /// The box cut to a picture of `width`×`height`.
    #[must_use]
    pub fn clipped(&self, width: f32, height: f32) -> Self {
        Self {
            x1: self.x1.clamp(0.0, width),
            y1: self.y1.clamp(0.0, height),
            x2: self.x2.clamp(0.0, width),
            y2: self.y2.clamp(0.0, height),
        }
    }

    /// The box to a tenth of a pixel, which is what messages tell of it.
    #[must_use]
    pub fn in_tenths(&self) -> Self {
        #[allow(clippy::cast_possible_truncation)] // it came from an f32
        let tenths = |edge: f32| ((f64::from(edge) * 10.0).round() / 10.0) as f32;
        Self { x1: tenths(self.x1), y1: tenths(self.y1), x2: tenths(self.x2), y2: tenths(self.y2) }
    }

    /// Whether every edge is a number. Models fed with garbage answer with NaN and infinity.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.x1.is_finite() && self.y1.is_finite() && self.x2.is_finite() && self.y2.is_finite()
    }

    /// Intersection and union with another box.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Intersection {
        let w = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let h = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        let intersection = w * h;
        Intersection { intersection, union: self.area() + other.area() - intersection }
    }

    /// Intersection over union, 0 to 1, without the "+1" of the Pascal VOC tools; 0 for two empty boxes.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let Intersection { intersection, union } = self.overlap(other);
        if union > 0.0 { intersection / union } else { 0.0 }
    }
}

/// A named point of an object, as a pose or face model gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeyPoint {
    /// Pixels from the picture's left edge.
    pub x: f32,
    /// Pixels from its top edge.
    pub y: f32,
    /// How sure the model is that the point can be seen, 0 to 1; `None` where the model does not say.
    pub confidence: Option<f32>,
}

/// One object that a detector found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detection {
    /// Where, in source pixels.
    pub bbox: BBox,
    /// The model's score, 0 to 1.
    pub confidence: f32,
    /// The class's index in the model's list of labels.
    pub class_id: u32,
    /// The class's name in that list.
    pub class_name: Arc<str>,
    /// The tracker's name for the object, stable while it is followed.
    pub track_id: Option<u64>,
    /// The tracker's estimate of the motion of the centre, in source pixels per second.
    pub velocity: Option<[f32; 2]>,
    /// Of an object that the second model of a cascade found: the `track_id` of the one in whose crop it was. As a detector
    /// gives it, before the tracker has named anything: its place in the detector's list.
    pub parent: Option<u64>,
    /// The object's points, in the model's order; `None` for a model without.
    pub keypoints: Option<Arc<[KeyPoint]>>,
    /// The object's outline, a closed polygon `[x, y]` in source pixels; `None` for a model without.
    pub mask: Option<Arc<[[f32; 2]]>>,
}

impl Detection {
    /// The same object in a picture that is `across` times as wide and `down` times as high.
    #[must_use]
    pub fn scaled(&self, across: f32, down: f32) -> Self {
        let BBox { x1, y1, x2, y2 } = self.bbox;
        let point = |point: &KeyPoint| KeyPoint { x: point.x * across, y: point.y * down, ..*point };
        Self {
            bbox: BBox::new(x1 * across, y1 * down, x2 * across, y2 * down),
            velocity: self.velocity.map(|[x, y]| [x * across, y * down]),
            keypoints: self.keypoints.as_ref().map(|points| points.iter().map(point).collect()),
            mask: self.mask.as_ref().map(|mask| mask.iter().map(|[x, y]| [x * across, y * down]).collect()),
            ..self.clone()
        }
    }
}

/// How long the detector's stages took for one frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct DetectionTimes {
    /// From the frame's offer to the pool until a worker took it.
    pub detect_queue: Duration,
    /// I420 to the model's input tensor.
    pub preprocess: Duration,
    /// The model itself.
    pub infer: Duration,
    /// Head, non-maximum suppression, tracker.
    pub postprocess: Duration,
}

impl DetectionTimes {
    /// Pre-processing, inference and post-processing together: what the frame cost a worker.
    #[must_use]
    pub fn processing(&self) -> Duration {
        self.preprocess + self.infer + self.postprocess
    }
}

/// Everything that a detector says about one frame; an empty list is an answer too.
#[derive(Clone, Debug)]
pub struct Detections {
    /// The frame's number in its stream.
    pub frame_id: u64,
    /// The frame's timestamps.
    pub rtp_timestamp: RtpTimestamp,
    /// When the sender captured the frame, by its own clock.
    pub captured: Option<SystemTime>,
    /// When the frame's last packet arrived: the age of the boxes counts from here.
    pub arrived: Instant,
    /// Width of the frame in pixels.
    pub width: u32,
    /// Height of the frame in pixels.
    pub height: u32,
    /// The model that looked.
    pub model: Arc<str>,
    /// What it found.
    pub items: Vec<Detection>,
    /// Objects of the classes that are to be hidden, those included that `items` leaves out for their class, score or place.
    pub veiled: Vec<Detection>,
    /// What happened at the stream's regions since the result before.
    pub events: Vec<RegionEvent>,
    /// What it cost.
    pub times: DetectionTimes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn iou_of_half_overlapping_boxes_is_a_third() {
        let a = BBox::new(0.0, 0.0, 2.0, 2.0);
        let b = BBox::new(1.0, 0.0, 3.0, 2.0);
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn empty_boxes_do_not_overlap() {
        let empty = BBox::new(5.0, 5.0, 5.0, 5.0);
        assert!(empty.iou(&empty).abs() < f32::EPSILON);
    }

    #[test]
    fn a_box_in_tenths_is_what_the_message_says() {
        let told = BBox::new(25.96, 0.04, 100.05, 33.333).in_tenths();
        assert_eq!(told, BBox::new(26.0, 0.0, 100.1, 33.3));
        assert_eq!(told.in_tenths(), told);
    }

    #[test]
    fn an_object_in_a_smaller_picture_is_smaller_in_all_its_parts() {
        let object = Detection {
            bbox: BBox::new(8.0, 16.0, 24.0, 32.0),
            velocity: Some([4.0, 8.0]),
            keypoints: Some([KeyPoint { x: 8.0, y: 16.0, confidence: Some(0.5) }].into()),
            mask: Some([[8.0, 16.0], [24.0, 32.0]].into()),
            confidence: 0.9,
            ..Detection::default()
        };
        let small = object.scaled(0.5, 0.25);
        assert_eq!((small.bbox, small.velocity), (BBox::new(4.0, 4.0, 12.0, 8.0), Some([2.0, 2.0])));
        assert_eq!(small.keypoints.as_deref(), Some(&[KeyPoint { x: 4.0, y: 4.0, confidence: Some(0.5) }][..]));
        assert_eq!(small.mask.as_deref(), Some(&[[4.0, 4.0], [12.0, 8.0]][..]));
        assert_eq!(small.scaled(2.0, 4.0), object);
    }

    fn any_box() -> impl Strategy<Value = BBox> {
        (0f32..500.0, 0f32..500.0, 0f32..300.0, 0f32..300.0).prop_map(|(x, y, w, h)| BBox::new(x, y, x + w, y + h))
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(a in any_box(), b in any_box()) {
            let iou = a.iou(&b);
            prop_assert!((0.0..=1.0001).contains(&iou));
            prop_assert!((iou - b.iou(&a)).abs() < 1e-5);
        }

        #[test]
        fn a_clipped_box_lies_in_the_picture(a in any_box(), w in 1f32..400.0, h in 1f32..400.0) {
            let c = a.clipped(w, h);
            prop_assert!(c.x1 >= 0.0 && c.y1 >= 0.0 && c.x2 <= w && c.y2 <= h && c.x1 <= c.x2 && c.y1 <= c.y2);
        }
    }
}
