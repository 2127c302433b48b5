//! The part of the picture in which an object counts.

use std::sync::Arc;

use crate::media::BBox;

/// A polygon that nobody draws by hand has more corners than this.
const MOST_POINTS: usize = 64;

/// How near to an edge still is on it, in shares of the picture: less than a hundredth of a pixel of 8192.
const ON_EDGE: f32 = 1e-6;

/// A polygon in shares of the picture's width and height, so that it holds for every size of the same view.
///
/// An object counts when its *anchor* is inside: the middle of its box's lower edge, where it stands on the ground. The edge
/// belongs to the zone. A polygon that crosses itself is taken by the even-odd rule: what it goes round twice is outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(Arc<[[f32; 2]]>);

impl Zone {
    /// A zone with these corners `[x, y]`, each 0 (left, top) to 1 (right, bottom), in either direction; no corners: no zone,
    /// everything counts.
    ///
    /// # Errors
    /// Says which corner is wrong, or that they enclose nothing.
    pub fn new(points: &[[f32; 2]]) -> Result<Option<Self>, String> {
        if points.is_empty() {
            return Ok(None);
        }
        if !(3..=MOST_POINTS).contains(&points.len()) {
            return Err(format!("a zone has from 3 to {MOST_POINTS} corners, here are {}", points.len()));
        }
        if let Some((n, [x, y])) =
            points.iter().enumerate().find(|(_, point)| !point.iter().all(|share| (0.0..=1.0).contains(share)))
        {
            return Err(format!(
                "corner {} of the zone is [{x}, {y}]: shares of width and height, each from 0 to 1, are needed",
                n + 1
            ));
        }
        if !spans(points) {
            return Err("the corners of the zone lie on one line, which encloses nothing".to_owned());
        }
        Ok(Some(Self(points.into())))
    }

    /// The corners.
    #[must_use]
    pub fn points(&self) -> &[[f32; 2]] {
        &self.0
    }

    /// Whether the point at these shares of width and height is inside or on the edge.
    #[must_use]
    pub fn contains(&self, [x, y]: [f32; 2]) -> bool {
        let mut inside = false;
        for (&[ax, ay], &[bx, by]) in self.0.iter().zip(self.0.iter().cycle().skip(1)) {
            if distance_squared([x, y], [ax, ay], [bx, by]) <= ON_EDGE * ON_EDGE {
                return true;
            }
            // A ray to the right crosses the edge. Half-open in y, so that a corner is not counted twice.
            if (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax) {
                inside = !inside;
            }
        }
        inside
    }

    /// How far the point is from the nearest edge, in shares.
    pub(super) fn distance(&self, at: [f32; 2]) -> f32 {
        let edges = self.0.iter().zip(self.0.iter().cycle().skip(1));
        edges.map(|(&a, &b)| distance_squared(at, a, b)).fold(f32::INFINITY, f32::min).sqrt()
    }

    /// Whether an object with this box counts, in a picture of `width`×`height` pixels.
    #[must_use]
    pub fn counts(&self, bbox: &BBox, width: f32, height: f32) -> bool {
        let (x, _) = bbox.centre();
        width > 0.0 && height > 0.0 && self.contains([x / width, bbox.y2 / height])
    }
}

/// Whether the points do not all lie on one line.
fn spans(points: &[[f32; 2]]) -> bool {
    let Some((&first, rest)) = points.split_first() else { return false };
    let away = |&&[x, y]: &&[f32; 2]| (x - first[0]).hypot(y - first[1]) > ON_EDGE;
    let Some(&second) = rest.iter().find(away) else { return false };
    let (dx, dy) = (second[0] - first[0], second[1] - first[1]);
    rest.iter().any(|&[x, y]| (dx * (y - first[1]) - dy * (x - first[0])).abs() > ON_EDGE * dx.hypot(dy))
}

/// The square of the distance from `p` to the segment from `a` to `b`.
fn distance_squared(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { (((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    let (x, y) = (a[0] + along * dx - p[0], a[1] + along * dy - p[1]);
    x * x + y * y
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(points: &[[f32; 2]]) -> Zone {
        Zone::new(points).unwrap().unwrap()
    }

    /// An L: the upper right quarter is missing.
    const L: [[f32; 2]; 6] = [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]];

    #[test]
    fn no_corners_are_no_zone() {
        assert_eq!(Zone::new(&[]), Ok(None));
    }

    #[test]
    fn what_cannot_be_a_zone_is_refused_with_the_reason() {
        for (points, expected) in [
            (vec![[0.0, 0.0], [1.0, 1.0]], "here are 2"),
            (vec![[0.5, 0.5]; 65], "here are 65"),
            (vec![[0.0, 0.0], [1.5, 0.0], [1.0, 1.0]], "corner 2 of the zone is [1.5, 0]"),
            (vec![[0.0, 0.0], [0.5, f32::NAN], [1.0, 1.0]], "corner 2"),
            (vec![[0.0, f32::INFINITY], [0.5, 0.0], [1.0, 1.0]], "corner 1"),
            (vec![[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]], "on one line"),
            (vec![[0.3, 0.3]; 4], "on one line"),
        ] {
            let error = Zone::new(&points).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_concave_zone_leaves_its_notch_out() {
        let l = zone(&L);
        for inside in [[0.25, 0.25], [0.25, 0.75], [0.75, 0.75]] {
            assert!(l.contains(inside), "{inside:?}");
        }
        assert!(!l.contains([0.75, 0.25]));
    }

    #[test]
    fn the_edge_belongs_to_the_zone_that_of_the_picture_too() {
        let l = zone(&L);
        for on in [[0.0, 0.0], [1.0, 1.0], [0.5, 0.25], [0.75, 0.5], [0.3, 1.0], [1.0, 0.7]] {
            assert!(l.contains(on), "{on:?}");
        }
    }

    #[test]
    fn what_a_zone_goes_round_twice_is_outside() {
        let bow_tie = zone(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]);
        assert!(bow_tie.contains([0.1, 0.5]) && bow_tie.contains([0.9, 0.5]));
        assert!(!bow_tie.contains([0.5, 0.1]) && !bow_tie.contains([0.5, 0.9]));
    }

    #[test]
    fn an_object_counts_by_where_it_stands() {
        let lower_half = zone(&[[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]);
        // Most of it is above, its feet are below.
        assert!(lower_half.counts(&BBox::new(100.0, 10.0, 200.0, 400.0), 1280.0, 720.0));
        assert!(!lower_half.counts(&BBox::new(100.0, 10.0, 200.0, 350.0), 1280.0, 720.0));
        // Cut off by the lower edge of the picture.
        assert!(lower_half.counts(&BBox::new(100.0, 500.0, 200.0, 720.0), 1280.0, 720.0));
        assert!(!lower_half.counts(&BBox::new(0.0, 0.0, 0.0, 0.0), 0.0, 0.0));
    }

    fn shares() -> impl Strategy<Value = [f32; 2]> {
        prop::array::uniform2(0f32..=1.0)
    }

    /// Corners on a circle, in the order of their angles: convex.
    fn convex() -> impl Strategy<Value = Vec<[f32; 2]>> {
        (prop::collection::vec(0f32..std::f32::consts::TAU, 3..12), 0.05f32..0.5)
            .prop_map(|(mut angles, radius)| {
                angles.sort_by(f32::total_cmp);
                angles.iter().map(|angle| [0.5 + radius * angle.cos(), 0.5 + radius * angle.sin()]).collect::<Vec<_>>()
            })
            .prop_filter("encloses something", |points| matches!(Zone::new(points), Ok(Some(_))))
    }

    proptest! {
        #[test]
        fn no_input_panics(points in prop::collection::vec(prop::array::uniform2(prop::num::f32::ANY), 0..70),
                           at in prop::array::uniform2(prop::num::f32::ANY)) {
            if let Ok(Some(zone)) = Zone::new(&points) {
                let _ = zone.contains(at);
                let _ = zone.counts(&BBox::new(at[0], at[1], at[0], at[1]), at[0], at[1]);
            }
        }

        /// Where the list begins and which way it goes round does not matter.
        #[test]
        fn neither_direction_nor_first_corner_matters(points in prop::collection::vec(shares(), 3..10),
                                                      start in 0usize..10, at in shares()) {
            let Ok(Some(first)) = Zone::new(&points) else { return Ok(()) };
            let mut other = points.clone();
            other.rotate_left(start % points.len());
            let turned = zone(&other);
            other.reverse();
            let reversed = zone(&other);
            // Next to an edge the rounding may fall either way.
            let near = points.iter().zip(points.iter().cycle().skip(1)).any(|(&a, &b)| distance_squared(at, a, b) < 1e-10);
            prop_assume!(!near);
            prop_assert_eq!(first.contains(at), turned.contains(at));
            prop_assert_eq!(first.contains(at), reversed.contains(at));
        }

        /// Against another definition of the same: on the same side of all edges.
        #[test]
        fn in_a_convex_zone_is_on_one_side_of_all_edges(points in convex(), at in shares()) {
            let side = |(a, b): (&[f32; 2], &[f32; 2])| (b[0] - a[0]) * (at[1] - a[1]) - (b[1] - a[1]) * (at[0] - a[0]);
            let sides: Vec<f32> = points.iter().zip(points.iter().cycle().skip(1)).map(side).collect();
            prop_assume!(sides.iter().all(|side| side.abs() > 1e-5));
            let one_side = sides.iter().all(|&side| side > 0.0);
            prop_assert_eq!(zone(&points).contains(at), one_side);
        }

        /// What is cut in two by a line between two corners is in one half or the other.
        #[test]
        fn two_halves_make_the_whole(points in convex(), cut in 2usize..12, at in shares()) {
            prop_assume!(points.len() > 3);
            let cut = 2 + cut % (points.len() - 3);
            let first = &points[..=cut];
            let mut second = points[cut..].to_vec();
            second.push(points[0]);
            let (Ok(Some(first)), Ok(Some(second))) = (Zone::new(first), Zone::new(&second)) else { return Ok(()) };
            let near = points.iter().zip(points.iter().cycle().skip(1)).any(|(&a, &b)| distance_squared(at, a, b) < 1e-8);
            prop_assume!(!near);
            prop_assert_eq!(zone(&points).contains(at), first.contains(at) || second.contains(at));
        }

        /// Shares are shares: the size of the picture does not matter.
        #[test]
        fn every_size_of_the_picture_says_the_same(points in convex(), at in shares()) {
            let near = points.iter().zip(points.iter().cycle().skip(1)).any(|(&a, &b)| distance_squared(at, a, b) < 1e-8);
            prop_assume!(!near);
            let zone = zone(&points);
            let counts = |width: f32, height: f32| {
                let (x, y) = (at[0] * width, at[1] * height);
                zone.counts(&BBox::new(x - 3.0, y - 20.0, x + 3.0, y), width, height)
            };
            prop_assert_eq!(counts(1280.0, 720.0), counts(640.0, 360.0));
            prop_assert_eq!(counts(1280.0, 720.0), counts(1920.0, 1440.0));
        }
    }
}
