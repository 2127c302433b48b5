//! The outlines of regions: polygons and lines that lie still over the picture, each with its name.

use super::label::{Font, Label};
use super::palette::rgb_of;
use super::{Rect, fill, paste, thickness};
use crate::media::I420Frame;

/// A polygon or a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline<'a> {
    /// Corners `[x, y]` in shares of the picture's width and height.
    pub points: &'a [[f32; 2]],
    /// The last corner is joined to the first.
    pub closed: bool,
    /// Of the palette.
    pub colour: u32,
    /// What stands at its first corner; empty for nothing.
    pub text: String,
}

/// Draws outlines, the first on top, within the picture. A corner that is not a number is taken for the nearest edge.
pub fn draw_outlines(picture: &mut I420Frame, outlines: &[Outline<'_>]) {
    let (width, height) = (picture.width(), picture.height());
    let thickness = thickness(width.min(height)) / 2 + 1;
    let thickness = thickness.next_multiple_of(2);
    for outline in outlines.iter().rev() {
        let corner = |point: &[f32; 2]| (along(point[0], width), along(point[1], height));
        let joined = if outline.closed { outline.points.first() } else { None };
        let corners: Vec<_> = outline.points.iter().chain(joined).map(corner).collect();
        for (from, to) in corners.iter().zip(corners.iter().skip(1)) {
            stroke(picture, *from, *to, thickness, outline.colour);
        }
    }
    let font = Font::for_picture(width.min(height));
    for outline in outlines.iter().rev().filter(|outline| !outline.text.is_empty()) {
        let room = width.saturating_sub(2 * font.padding() + 2) / font.letter_width();
        let Some(point) = outline.points.first() else { continue };
        let plate = rgb_of(outline.colour);
        let mut label = Label::default();
        label.draw(&outline.text, room, font, plate.yuv(), plate.ink());
        let most = |side: usize, label: usize| (side & !1).checked_sub(label);
        if let (true, Some(most_x), Some(most_y)) = (room > 0, most(width, label.width), most(height, label.height)) {
            let (x, y) = ((along(point[0], width) & !1).min(most_x), (along(point[1], height) & !1).min(most_y));
            paste(picture, &label, x, y);
        }
    }
}

/// A share of a side in pixels. `as` saturates, and makes NaN 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn along(share: f32, side: usize) -> usize {
    ((share * side as f32) as usize).min(side.saturating_sub(1))
}

/// Squares of `thickness` on even pixels, along the way from one point to the other.
fn stroke(picture: &mut I420Frame, from: (usize, usize), to: (usize, usize), thickness: usize, colour: u32) {
    let (width, height) = (picture.width(), picture.height());
    let colour = super::colour(colour);
    let steps = (from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)) / 2).max(1);
    let between = |from: usize, to: usize, step: usize| ((from * (steps - step) + to * step) / steps) & !1;
    for step in 0..=steps {
        let (left, top) = (between(from.0, to.0, step), between(from.1, to.1, step));
        fill(
            picture,
            Rect { left, top, right: (left + thickness).min(width), bottom: (top + thickness).min(height) },
            colour,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::colour;
    use super::*;
    use crate::media::Plane;

    fn outline<'a>(points: &'a [[f32; 2]], closed: bool, text: &str) -> Outline<'a> {
        Outline { points, closed, colour: 3, text: text.to_owned() }
    }

    #[test]
    fn an_outline_has_its_colour_on_its_edges_and_nothing_within() {
        let mut frame = I420Frame::black(640, 360);
        let square = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]];
        draw_outlines(&mut frame, &[outline(&square, true, "")]);
        let at = |x: usize, y: usize| {
            let chroma = y / 2 * 320 + x / 2;
            (frame.plane(Plane::Y)[y * 640 + x], frame.plane(Plane::U)[chroma], frame.plane(Plane::V)[chroma])
        };
        let ink = colour(3);
        for (x, y) in [(160, 90), (320, 90), (480, 180), (160, 200), (320, 270)] {
            assert_eq!(at(x, y), (ink.y, ink.u, ink.v), "{x}, {y}");
        }
        for (x, y) in [(320, 180), (100, 180), (320, 60)] {
            assert_eq!(at(x, y), (16, 128, 128), "{x}, {y}");
        }
    }

    #[test]
    fn a_name_stands_at_the_first_corner() {
        let mut frame = I420Frame::black(640, 360);
        draw_outlines(&mut frame, &[outline(&[[0.5, 0.5], [0.9, 0.9]], false, "door 3")]);
        let luma = frame.plane(Plane::Y);
        let touched =
            (180..190).flat_map(|y| &luma[y * 640 + 320..y * 640 + 360]).filter(|sample| **sample > 16).count();
        assert!(touched > 300, "{touched}");
    }

    proptest! {
        #[test]
        fn any_outline_on_any_picture_stays_within_it(
            width in 1usize..300, height in 1usize..300, closed in any::<bool>(), text in ".{0,30}",
            points in prop::collection::vec(prop::array::uniform2(prop::num::f32::ANY), 0..6),
        ) {
            draw_outlines(&mut I420Frame::black(width, height), &[outline(&points, closed, &text)]);
        }
    }
}
