//! A stream's regions in its picture.

use crate::annotate::{Outline, draw_outlines};
use crate::detect::{Lane, RegionCount, RegionKind};
use crate::media::I420Frame;

/// The palette's colours are those of the first classes first; regions begin at the other end.
const LAST_COLOUR: u32 = 15;

/// Draws the regions that a lane watches, with their counts.
pub(super) fn draw(picture: &mut I420Frame, lane: &Lane) {
    let regions = lane.regions();
    let counts = lane.region_counts();
    let outlines: Vec<Outline<'_>> = regions
        .outlines()
        .zip((0..=LAST_COLOUR).rev().cycle())
        .map(|((name, points, closed), colour)| {
            let text = match counts.get(name) {
                Some(count) => format!("{name} {}", words(count)),
                None => name.to_owned(),
            };
            Outline { points, closed, colour, text }
        })
        .collect();
    draw_outlines(picture, &outlines);
}

fn words(count: &RegionCount) -> String {
    match count.kind {
        RegionKind::Line => format!(">{} <{}", count.left_to_right, count.right_to_left),
        _ => count.inside.to_string(),
    }
}
