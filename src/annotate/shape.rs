//! Key points and outlines of objects.

use super::palette::Yuv;
use super::{Rect, fill};
use crate::media::{I420Frame, KeyPoint};

/// A point that the model itself hardly believes in (COCO's pose tools use the same bound) would stand anywhere.
const LEAST_CONFIDENCE: f32 = 0.5;

/// Draws `points` as filled squares of `side` pixels, an even number. What lies outside the picture, is no number or is
/// hardly believed in is left out.
pub(super) fn draw_points(picture: &mut I420Frame, points: &[KeyPoint], side: usize, colour: Yuv) {
    let (width, height) = (picture.width(), picture.height());
    let sure = |point: &&KeyPoint| point.confidence.is_none_or(|confidence| confidence >= LEAST_CONFIDENCE);
    for point in points.iter().filter(sure) {
        let (Some(x), Some(y)) = (inside(point.x, width), inside(point.y, height)) else { continue };
        // Even edges, so that luma and chroma agree.
        let (left, top) = ((x.saturating_sub(side / 2)) & !1, (y.saturating_sub(side / 2)) & !1);
        let rect = Rect { left, top, right: (left + side).min(width), bottom: (top + side).min(height) };
        fill(picture, rect, colour);
    }
}

/// The pixel of a coordinate that lies in `0..side`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
fn inside(value: f32, side: usize) -> Option<usize> {
    (0.0..side as f32).contains(&value).then_some(value as usize)
}

/// Draws the closed polygon `corners` as a line of 2 pixels, on even pixels. Corners are moved into the picture; one that
/// is no number takes its two sides with it.
pub(super) fn draw_outline(picture: &mut I420Frame, corners: &[[f32; 2]], colour: Yuv) {
    // One chroma sample is one step.
    let (columns, rows) = (picture.width().div_ceil(2), picture.height().div_ceil(2));
    if columns == 0 || rows == 0 {
        return;
    }
    let next = corners.iter().cycle().skip(1);
    for (from, to) in corners.iter().zip(next) {
        let (Some(from), Some(to)) = (cell(*from, columns, rows), cell(*to, columns, rows)) else { continue };
        line(from, to, |(x, y)| {
            let (left, top) = (2 * x, 2 * y);
            let rect =
                Rect { left, top, right: (left + 2).min(picture.width()), bottom: (top + 2).min(picture.height()) };
            fill(picture, rect, colour);
        });
    }
}

/// The chroma sample of a point, moved into the picture.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates
fn cell([x, y]: [f32; 2], columns: usize, rows: usize) -> Option<(usize, usize)> {
    let place = |value: f32, count: usize| ((value / 2.0).max(0.0) as usize).min(count - 1);
    (x.is_finite() && y.is_finite()).then(|| (place(x, columns), place(y, rows)))
}

/// Every cell on the way from one to another, both included (Bresenham 1965).
fn line(from: (usize, usize), to: (usize, usize), mut visit: impl FnMut((usize, usize))) {
    let (mut x, mut y) = from;
    let (wide, high) = (x.abs_diff(to.0), y.abs_diff(to.1));
    let toward = |at: usize, end: usize| if at < end { at + 1 } else { at.saturating_sub(usize::from(at > end)) };
    let steps = wide.max(high);
    let (mut over_x, mut over_y) = (steps / 2, steps / 2);
    visit((x, y));
    for _ in 0..steps {
        over_x += wide;
        over_y += high;
        if over_x >= steps {
            over_x -= steps;
            x = toward(x, to.0);
        }
        if over_y >= steps {
            over_y -= steps;
            y = toward(y, to.1);
        }
        visit((x, y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::colour;
    use crate::media::Plane;
    use proptest::prelude::*;

    fn coloured(picture: &I420Frame, colour: Yuv) -> Vec<(usize, usize)> {
        let width = picture.width();
        let luma = picture.plane(Plane::Y);
        (0..luma.len()).filter(|&at| luma[at] == colour.y).map(|at| (at % width, at / width)).collect()
    }

    fn point(x: f32, y: f32, confidence: Option<f32>) -> KeyPoint {
        KeyPoint { x, y, confidence }
    }

    #[test]
    fn a_point_is_a_small_square_in_the_colour_of_the_class() {
        let (mut picture, colour) = (I420Frame::black(64, 48), colour(1));
        draw_points(&mut picture, &[point(21.3, 10.9, None)], 4, colour);
        let found = coloured(&picture, colour);
        assert_eq!(found.len(), 16);
        assert!(found.iter().all(|&(x, y)| (18..22).contains(&x) && (8..12).contains(&y)), "{found:?}");
        let (u, stride) = (picture.plane(Plane::U), picture.plane_size(Plane::U).0);
        assert_eq!(u.iter().filter(|&&sample| sample == colour.u).count(), 4);
        assert_eq!(u[4 * stride + 9], colour.u);
    }

    #[test]
    fn a_point_outside_or_hardly_believed_in_is_left_out() {
        let mut picture = I420Frame::black(64, 48);
        let points = [
            point(-1.0, 5.0, None),
            point(64.0, 5.0, None),
            point(f32::NAN, 5.0, None),
            point(5.0, f32::INFINITY, None),
            point(5.0, 5.0, Some(0.2)),
        ];
        draw_points(&mut picture, &points, 4, colour(1));
        assert_eq!(picture.planes(), I420Frame::black(64, 48).planes());
    }

    #[test]
    fn an_outline_is_closed_two_pixels_wide_and_on_even_pixels() {
        let (mut picture, colour) = (I420Frame::black(64, 48), colour(2));
        draw_outline(&mut picture, &[[10.0, 10.0], [41.0, 10.0], [41.0, 31.0], [10.0, 31.0]], colour);
        let found = coloured(&picture, colour);
        let on = |x: usize, y: usize| found.contains(&(x, y));
        assert!((10..42).all(|x| on(x, 10) && on(x, 11) && on(x, 30) && on(x, 31)));
        assert!((10..32).all(|y| on(10, y) && on(11, y) && on(40, y) && on(41, y)));
        assert_eq!(found.len(), 4 * (2 * 16 + 2 * 11 - 4), "nothing else");
    }

    #[test]
    fn a_slanting_side_reaches_both_of_its_corners() {
        let (mut picture, colour) = (I420Frame::black(64, 48), colour(3));
        draw_outline(&mut picture, &[[2.0, 2.0], [60.0, 30.0]], colour);
        let found = coloured(&picture, colour);
        assert!(found.contains(&(2, 2)) && found.contains(&(60, 30)) && found.contains(&(31, 16)), "{found:?}");
    }

    proptest! {
        #[test]
        fn any_shape_on_any_picture_is_drawn_without_a_panic(
            width in 1usize..70, height in 1usize..70, side in 1usize..6,
            corners in prop::collection::vec(any::<[f32; 2]>(), 0..6), near in prop::collection::vec([-9f32..80.0, -9f32..80.0], 0..6),
        ) {
            let mut picture = I420Frame::black(width, height);
            let colour = colour(0);
            for shape in [&corners, &near] {
                draw_outline(&mut picture, shape, colour);
                let points: Vec<KeyPoint> = shape.iter().map(|&[x, y]| point(x, y, None)).collect();
                draw_points(&mut picture, &points, 2 * side, colour);
            }
        }
    }
}
