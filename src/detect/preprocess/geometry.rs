//! Where a picture lies in the model's input, and the way back.

use crate::detect::{Fit, InputSize, InputSpec};
use crate::media::BBox;

/// The place of one picture size in the model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Width and height of the input in pixels.
    pub input: (usize, usize),
    /// Width and height of the picture inside it.
    pub content: (usize, usize),
    /// Left and top edge of the picture inside it.
    pub offset: (usize, usize),
    /// From input pixels to source pixels.
    pub mapping: Mapping,
}

/// From input pixels to source pixels: subtract the offset, multiply by the scale, cut to the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mapping {
    scale: (f64, f64),
    offset: (f64, f64),
    source: (f64, f64),
}

impl Mapping {
    /// A box of the input in source pixels, inside the picture.
    #[must_use]
    pub fn to_source(&self, bbox: &BBox) -> BBox {
        let [x1, y1] = self.point_inside([bbox.x1, bbox.y1]);
        let [x2, y2] = self.point_inside([bbox.x2, bbox.y2]);
        BBox::new(x1, y1, x2, y2)
    }

    /// A point `[x, y]` of the input in source pixels. It may lie outside the picture: a hidden hand does.
    #[must_use]
    pub fn point(&self, point: [f32; 2]) -> [f32; 2] {
        narrow(self.exact(point))
    }

    /// The same, cut to the picture.
    #[must_use]
    pub fn point_inside(&self, point: [f32; 2]) -> [f32; 2] {
        let [x, y] = self.exact(point);
        narrow([x.clamp(0.0, self.source.0), y.clamp(0.0, self.source.1)])
    }

    fn exact(&self, [x, y]: [f32; 2]) -> [f64; 2] {
        [(f64::from(x) - self.offset.0) * self.scale.0, (f64::from(y) - self.offset.1) * self.scale.1]
    }
}

#[allow(clippy::cast_possible_truncation)] // coordinates are f32 outside of this arithmetic
fn narrow(point: [f64; 2]) -> [f32; 2] {
    point.map(|value| value as f32)
}

/// A side in pixels from exact arithmetic; a picture is never thinner than one pixel.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides are small and positive
fn side(value: f64) -> usize {
    (value as usize).max(1)
}

/// The scale that brings a side of `longer` to `at_most`, and never enlarges.
fn shrink(at_most: usize, longer: f64) -> f64 {
    (at_most as f64 / longer).min(1.0)
}

impl Geometry {
    /// Fits a picture of `source` (width, height; at least 1×1) into the input that `spec` describes.
    #[must_use]
    pub fn new(spec: &InputSpec, source: (usize, usize)) -> Self {
        let (w, h) = (source.0.max(1) as f64, source.1.max(1) as f64);
        let input = match spec.size {
            InputSize::Fixed { width, height } => (width, height),
            InputSize::LongerSide { side: longer, multiple } => {
                let ratio = longer as f64 / w.max(h);
                let step = multiple as f64;
                let snap = |value: f64| side((value * ratio / step).round_ties_even() * step).max(multiple);
                (snap(w), snap(h))
            }
            InputSize::Source { multiple, at_most } => {
                let ratio = shrink(at_most, w.max(h));
                let snap = |value: f64| side(value * ratio).next_multiple_of(multiple.max(1));
                (snap(w), snap(h))
            }
        };
        let (input_w, input_h) = (input.0 as f64, input.1 as f64);
        if spec.fit == Fit::Stretch {
            let mapping = Mapping { scale: (w / input_w, h / input_h), offset: (0.0, 0.0), source: (w, h) };
            return Self { input, content: input, offset: (0, 0), mapping };
        }
        let ratio = match spec.size {
            InputSize::Source { at_most, .. } => shrink(at_most, w.max(h)),
            _ => (input_w / w).min(input_h / h),
        };
        let (content, offset) = match spec.fit {
            Fit::LetterboxCentre => {
                let content = (side((w * ratio).round_ties_even()), side((h * ratio).round_ties_even()));
                // Ultralytics' LetterBox: half of the padding, an odd pixel to the right and below.
                let pad =
                    |input: f64, content: usize| ((input - content as f64) / 2.0 - 0.1).round_ties_even().max(0.0);
                (content, (pad(input_w, content.0), pad(input_h, content.1)))
            }
            _ => ((side(w * ratio), side(h * ratio)), (0.0, 0.0)),
        };
        let content = (content.0.min(input.0), content.1.min(input.1));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, small and positive
        let place = |at: f64, room: usize| (at as usize).min(room);
        Self {
            input,
            content,
            offset: (place(offset.0, input.0 - content.0), place(offset.1, input.1 - content.1)),
            // Back by the ratio itself, as YOLOX and Ultralytics do it, not by the rounded sides.
            mapping: Mapping { scale: (1.0 / ratio, 1.0 / ratio), offset, source: (w, h) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Colour, Interpolation};
    use proptest::prelude::*;

    fn spec(size: InputSize, fit: Fit) -> InputSpec {
        InputSpec {
            size,
            fit,
            pad: 114,
            interpolation: Interpolation::Linear,
            colour: Colour::Bgr,
            layout: None,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    const SQUARE: InputSize = InputSize::Fixed { width: 416, height: 416 };
    const LONGER: InputSize = InputSize::LongerSide { side: 320, multiple: 32 };

    #[test]
    fn a_wide_picture_is_padded_below_or_around() {
        let top_left = Geometry::new(&spec(SQUARE, Fit::LetterboxTopLeft), (1280, 720));
        assert_eq!((top_left.content, top_left.offset), ((416, 234), (0, 0)));
        let centre = Geometry::new(&spec(SQUARE, Fit::LetterboxCentre), (1280, 720));
        assert_eq!((centre.content, centre.offset), ((416, 234), (0, 91)));
    }

    #[test]
    fn the_longer_side_rule_snaps_to_the_stride() {
        let input = |w, h| Geometry::new(&spec(LONGER, Fit::Stretch), (w, h)).input;
        assert_eq!(input(1280, 720), (320, 192), "180 is nearer to 192 than to 160");
        assert_eq!(input(640, 480), (320, 256), "7.5 strides: half to even");
        assert_eq!(input(480, 640), (256, 320));
        assert_eq!(input(8000, 10), (320, 32), "never thinner than a stride");
    }

    #[test]
    fn a_picture_at_its_own_size_is_only_padded_and_a_large_one_comes_down_to_the_bound() {
        let size = InputSize::Source { multiple: 32, at_most: 1280 };
        let own = Geometry::new(&spec(size, Fit::LetterboxTopLeft), (640, 427));
        assert_eq!((own.input, own.content, own.offset), ((640, 448), (640, 427), (0, 0)));
        let large = Geometry::new(&spec(size, Fit::LetterboxTopLeft), (7680, 4320));
        assert_eq!((large.input, large.content), ((1280, 736), (1280, 720)));
        assert_eq!(large.mapping.to_source(&BBox::new(0.0, 0.0, 640.0, 360.0)), BBox::new(0.0, 0.0, 3840.0, 2160.0));
        assert_eq!(Geometry::new(&spec(size, Fit::LetterboxTopLeft), (1, 1)).input, (32, 32));
    }

    #[test]
    fn a_point_may_lie_outside_the_picture_and_an_outline_may_not() {
        let geometry = Geometry::new(&spec(SQUARE, Fit::LetterboxCentre), (1280, 720));
        let [x, y] = geometry.mapping.point([208.0, 0.0]);
        assert!((x - 640.0).abs() < 1e-3 && (y + 280.0).abs() < 1e-3, "{x} {y}");
        assert_eq!(geometry.mapping.point_inside([208.0, 0.0]), [640.0, 0.0]);
    }

    #[test]
    fn boxes_come_back_to_source_pixels_and_stay_inside() {
        let geometry = Geometry::new(&spec(SQUARE, Fit::LetterboxCentre), (1280, 720));
        let found = geometry.mapping.to_source(&BBox::new(208.0, 91.0, 500.0, 208.0));
        assert_eq!(found, BBox::new(640.0, 0.0, 1280.0, 360.0));
    }

    proptest! {
        #[test]
        fn the_picture_lies_inside_the_input(
            w in 1usize..9000, h in 1usize..9000, iw in 1usize..700, ih in 1usize..700,
            fit in prop::sample::select(vec![Fit::Stretch, Fit::LetterboxTopLeft, Fit::LetterboxCentre]),
            kind in 0..3,
        ) {
            let size = match kind {
                0 => InputSize::Fixed { width: iw, height: ih },
                1 => LONGER,
                _ => InputSize::Source { multiple: 32, at_most: 640 },
            };
            let g = Geometry::new(&spec(size, fit), (w, h));
            prop_assert!(g.content.0 >= 1 && g.content.1 >= 1);
            prop_assert!(g.offset.0 + g.content.0 <= g.input.0 && g.offset.1 + g.content.1 <= g.input.1);
        }

        #[test]
        fn a_point_of_the_picture_comes_back_within_a_pixel_of_the_input(
            w in 1usize..9000, h in 1usize..9000, iw in 8usize..700, ih in 8usize..700, x in 0f64..1.0, y in 0f64..1.0,
            fit in prop::sample::select(vec![Fit::Stretch, Fit::LetterboxTopLeft, Fit::LetterboxCentre]), kind in 0..3,
        ) {
            let size = match kind {
                0 => InputSize::Fixed { width: iw, height: ih },
                1 => LONGER,
                _ => InputSize::Source { multiple: 32, at_most: 640 },
            };
            let g = Geometry::new(&spec(size, fit), (w, h));
            // Where the resize really puts the point; a picture that would be thinner than a pixel is widened to one.
            let there = |share: f64, content: usize, offset: usize| (share * content as f64 + offset as f64) as f32;
            let [bx, by] = g.mapping.point([there(x, g.content.0, g.offset.0), there(y, g.content.1, g.offset.1)]);
            for (back, share, side, scale) in [(bx, x, w, g.mapping.scale.0), (by, y, h, g.mapping.scale.1)] {
                let off = (f64::from(back) - share * side as f64).abs();
                prop_assert!(off <= 1.01 * scale.max(1.0), "{off} source pixels, {scale} to one of the input, {g:?}");
            }
        }

        #[test]
        fn any_box_comes_back_inside_the_picture(edges in any::<[f32; 4]>(), w in 1u16..5000, h in 1u16..5000) {
            prop_assume!(edges.iter().all(|edge| edge.is_finite()));
            let geometry = Geometry::new(&spec(SQUARE, Fit::LetterboxTopLeft), (w.into(), h.into()));
            let b = geometry.mapping.to_source(&BBox::new(edges[0], edges[1], edges[2], edges[3]));
            let (w, h) = (f32::from(w), f32::from(h));
            prop_assert!([b.x1, b.x2].iter().all(|x| (0.0..=w).contains(x)));
            prop_assert!([b.y1, b.y2].iter().all(|y| (0.0..=h).contains(y)));
        }
    }
}
