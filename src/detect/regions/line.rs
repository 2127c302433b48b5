//! A line from one point to another, and on which side of it something is.

use crate::media::Direction;

/// Ends nearer than this are the same point, in shares of the picture.
const SAME: f32 = 1e-4;

/// A directed line, in shares of the picture's width and height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::detect) struct Line {
    ends: [[f32; 2]; 2],
}

/// The two sides of a line, as seen by who stands at its first point and looks at its second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Line {
    /// A line between two points.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub(super) fn new(points: &[[f32; 2]]) -> Result<Self, String> {
        let &[a, b] = points else { return Err(format!("line: it has two ends, here are {}", points.len())) };
        for [x, y] in [a, b] {
            if !(0.0..=1.0).contains(&x) || !(0.0..=1.0).contains(&y) {
                return Err(format!("line: [{x}, {y}]: shares of width and height, each from 0 to 1, are needed"));
            }
        }
        if (a[0] - b[0]).hypot(a[1] - b[1]) < SAME {
            return Err("line: its ends are the same point".to_owned());
        }
        Ok(Self { ends: [a, b] })
    }

    pub(super) fn points(&self) -> &[[f32; 2]] {
        &self.ends
    }

    /// Where the point lies: its distance from the whole line, in shares, positive on the right-hand side. The picture's y goes
    /// down.
    pub(super) fn offset(&self, at: [f32; 2]) -> f32 {
        let [a, b] = self.ends;
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        (dx * (at[1] - a[1]) - dy * (at[0] - a[0])) / dx.hypot(dy)
    }

    pub(super) fn side(&self, at: [f32; 2]) -> Side {
        if self.offset(at) > 0.0 { Side::Right } else { Side::Left }
    }

    /// Whether the way from one point to the other goes through the line between its ends.
    pub(super) fn passes(&self, from: [f32; 2], to: [f32; 2]) -> Option<Direction> {
        let (before, after) = (self.offset(from), self.offset(to));
        let direction = match (before > 0.0, after > 0.0) {
            (false, true) => Direction::LeftToRight,
            (true, false) => Direction::RightToLeft,
            _ => return None,
        };
        // Where on the way it meets the line, and where on the line that is.
        let share = before / (before - after);
        let at = [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share];
        let [a, b] = self.ends;
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let along = ((at[0] - a[0]) * dx + (at[1] - a[1]) * dy) / (dx * dx + dy * dy);
        (0.0..=1.0).contains(&along).then_some(direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn upwards() -> Line {
        Line::new(&[[0.5, 0.8], [0.5, 0.2]]).unwrap()
    }

    #[test]
    fn right_is_right_for_who_looks_along_the_line() {
        assert_eq!(upwards().side([0.9, 0.5]), Side::Right);
        assert_eq!(upwards().side([0.1, 0.5]), Side::Left);
        assert!((upwards().offset([0.9, 0.5]) - 0.4).abs() < 1e-6);
    }

    #[test]
    fn who_goes_round_its_end_does_not_pass() {
        assert_eq!(upwards().passes([0.4, 0.5], [0.6, 0.5]), Some(Direction::LeftToRight));
        assert_eq!(upwards().passes([0.6, 0.5], [0.4, 0.4]), Some(Direction::RightToLeft));
        assert_eq!(upwards().passes([0.4, 0.1], [0.6, 0.1]), None);
        assert_eq!(upwards().passes([0.4, 0.5], [0.45, 0.5]), None);
    }

    proptest! {
        #[test]
        fn the_way_back_is_the_other_direction(from in prop::array::uniform2(0f32..=1.0), to in prop::array::uniform2(0f32..=1.0)) {
            let line = upwards();
            prop_assume!(line.offset(from).abs() > 1e-4 && line.offset(to).abs() > 1e-4);
            let reversed = |direction| match direction {
                Direction::LeftToRight => Direction::RightToLeft,
                Direction::RightToLeft => Direction::LeftToRight,
            };
            // Next to an end the rounding may fall either way.
            let share = line.offset(from) / (line.offset(from) - line.offset(to));
            let y = from[1] + (to[1] - from[1]) * share;
            prop_assume!((y - 0.2).abs() > 1e-4 && (y - 0.8).abs() > 1e-4);
            prop_assert_eq!(line.passes(from, to).map(reversed), line.passes(to, from));
        }

        #[test]
        fn no_input_panics(points in prop::collection::vec(prop::array::uniform2(prop::num::f32::ANY), 0..4), at in prop::array::uniform2(prop::num::f32::ANY)) {
            if let Ok(line) = Line::new(&points) {
                let _ = (line.side(at), line.passes(at, points[0]));
            }
        }
    }
}
