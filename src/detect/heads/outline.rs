//! A field of numbers to the outline of its positive part.

/// The most corners of an outline.
pub const MAX_CORNERS: usize = 64;

/// The most points that are simplified: the work is quadratic at worst.
const MAX_POINTS: usize = 1024;

/// Numbers on a grid, row by row; positive ones are inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub values: &'a [f32],
    pub width: usize,
}

/// The steps along the upper, right, lower and left edge of a cell, clockwise.
const ALONG: [(isize, isize); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];

/// The steps across the same edges, outwards.
const ACROSS: [(isize, isize); 4] = [(0, -1), (1, 0), (0, 1), (-1, 0)];

type Cell = (isize, isize);

fn step(cell: Cell, by: (isize, isize)) -> Cell {
    (cell.0 + by.0, cell.1 + by.1)
}

impl Field<'_> {
    fn place(&self, (x, y): Cell) -> Option<usize> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        (x < self.width).then(|| y * self.width + x).filter(|&at| at < self.values.len())
    }

    fn value(&self, cell: Cell) -> Option<f32> {
        self.values.get(self.place(cell)?).copied()
    }

    fn inside(&self, cell: Cell) -> bool {
        self.value(cell).is_some_and(|value| value > 0.0)
    }

    /// Where the number passes through zero between a cell and its neighbour across `edge`; at the border half way.
    fn crossing(&self, cell: Cell, edge: usize) -> [f32; 2] {
        let across = ACROSS[edge % 4];
        let share = match (self.value(cell), self.value(step(cell, across))) {
            (Some(own), Some(other)) => own / (own - other),
            _ => 0.5,
        };
        let share = if (0.0..=1.0).contains(&share) { share } else { 0.5 };
        let at = |cell: isize, across: isize| cell as f32 + 0.5 + share * across as f32;
        [at(cell.0, across.0), at(cell.1, across.1)]
    }

    /// The next edge around the same region: round its own corner, straight on, or into a corner; cells that touch at a corner
    /// only are apart.
    fn next(&self, cell: Cell, edge: usize) -> (Cell, usize) {
        let ahead = step(cell, ALONG[edge % 4]);
        let beside = step(ahead, ACROSS[edge % 4]);
        if !self.inside(ahead) {
            (cell, (edge + 1) % 4)
        } else if self.inside(beside) {
            (beside, (edge + 3) % 4)
        } else {
            (ahead, edge)
        }
    }
}

/// The outline of the largest positive region, clockwise, in cells from the field's upper left corner; holes are filled. At
/// most [`MAX_CORNERS`] corners; empty when nothing is positive.
pub(super) fn trace(field: &Field<'_>) -> Vec<[f32; 2]> {
    if field.width == 0 {
        return Vec::new();
    }
    let mut seen = vec![false; field.values.len()];
    let mut largest: (f32, Vec<[f32; 2]>) = (0.0, Vec::new());
    for start in 0..field.values.len() {
        let (Ok(x), Ok(y)) = (isize::try_from(start % field.width), isize::try_from(start / field.width)) else {
            break;
        };
        let cell = (x, y);
        if !field.inside(cell) || field.inside(step(cell, ACROSS[0])) || seen.get(start).copied().unwrap_or(true) {
            continue;
        }
        let mut points = Vec::new();
        let (mut at, mut edge) = (cell, 0);
        // Every edge is passed once: there are four of each cell.
        for _ in 0..4 * field.values.len() {
            if edge == 0
                && let Some(place) = field.place(at)
                && let Some(seen) = seen.get_mut(place)
            {
                *seen = true;
            }
            points.push(field.crossing(at, edge));
            (at, edge) = field.next(at, edge);
            if (at, edge) == (cell, 0) {
                break;
            }
        }
        // The edge of a hole runs the other way round, and has a negative area.
        let area = area(&points);
        if area > largest.0 {
            largest = (area, points);
        }
    }
    simplify(largest.1)
}

/// The area of a polygon, positive for clockwise with y downwards.
fn area(points: &[[f32; 2]]) -> f32 {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f32>() / 2.0
}

/// At most [`MAX_CORNERS`] of the points, none of the others farther from the outline than needed (Douglas and Peucker 1973).
fn simplify(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    if points.len() > MAX_POINTS {
        let every = points.len().div_ceil(MAX_POINTS);
        points = points.into_iter().step_by(every).collect();
    }
    if points.len() < 3 {
        return Vec::new();
    }
    // Half a cell is what the field itself can tell.
    let mut tolerance = 0.25;
    loop {
        let kept = within(&points, tolerance);
        if kept.len() <= MAX_CORNERS {
            // A region that is thinner than the tolerance keeps its points.
            return if kept.len() >= 3 { kept } else { points.into_iter().take(MAX_CORNERS).collect() };
        }
        tolerance *= 1.5;
    }
}

/// The points that are needed so that no other lies farther than `tolerance` from the polygon.
fn within(points: &[[f32; 2]], tolerance: f32) -> Vec<[f32; 2]> {
    let Some(&origin) = points.first() else { return Vec::new() };
    let far = points.iter().map(|&point| distance(point, origin, origin)).enumerate();
    let opposite = far.fold((0, 0.0), |best, next| if next.1 > best.1 { next } else { best }).0;
    let mut kept = vec![false; points.len()];
    let mut parts = vec![(0, opposite), (opposite, points.len())];
    while let Some((from, to)) = parts.pop() {
        if let Some(kept) = kept.get_mut(from) {
            *kept = true;
        }
        let (Some(&a), Some(&b)) = (points.get(from), points.get(to % points.len())) else { continue };
        let between = points.iter().enumerate().take(to).skip(from + 1);
        let worst = between.map(|(at, &point)| (at, distance(point, a, b)));
        let worst = worst.fold((0, tolerance), |best, next| if next.1 > best.1 { next } else { best });
        if worst.0 > 0 {
            parts.extend([(from, worst.0), (worst.0, to)]);
        }
    }
    points.iter().zip(kept).filter(|(_, kept)| *kept).map(|(&point, _)| point).collect()
}

/// How far a point is from the line between two others, or from `a` when they are one.
fn distance(point: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let (px, py) = (point[0] - a[0], point[1] - a[1]);
    let length = dx.hypot(dy);
    if length > 0.0 { (px * dy - py * dx).abs() / length } else { px.hypot(py) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn traced(rows: &[&str]) -> Vec<[f32; 2]> {
        let values: Vec<f32> =
            rows.iter().flat_map(|row| row.chars().map(|cell| if cell == '#' { 1.0 } else { -1.0 })).collect();
        trace(&Field { values: &values, width: rows[0].len() })
    }

    fn bounds(points: &[[f32; 2]]) -> [f32; 4] {
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for point in points {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        [low[0], low[1], high[0], high[1]]
    }

    #[test]
    fn a_rectangle_has_its_four_sides_between_the_cells() {
        let found = traced(&["......", ".####.", ".####.", ".####.", "......"]);
        assert_eq!(bounds(&found), [1.0, 1.0, 5.0, 4.0]);
        assert!((4..=8).contains(&found.len()), "{found:?}");
        assert!((area(&found) - 12.0).abs() < 1.0, "{}", area(&found));
    }

    #[test]
    fn the_largest_region_wins_and_a_hole_is_filled() {
        let found = traced(&["#.......", "..#####.", "..#...#.", "..#...#.", "..#####.", "........"]);
        assert_eq!(bounds(&found), [2.0, 1.0, 7.0, 5.0]);
        assert!((area(&found) - 20.0).abs() < 2.0, "{}", area(&found));
    }

    #[test]
    fn regions_that_touch_at_a_corner_are_two() {
        let found = traced(&["##..", "##..", "..#.", "...."]);
        assert_eq!(bounds(&found), [0.0, 0.0, 2.0, 2.0]);
    }

    #[test]
    fn the_edge_lies_where_the_numbers_pass_through_zero() {
        // One row: 1 inside, −3 outside: a quarter of the way from centre to centre.
        let found = trace(&Field { values: &[-3.0, -3.0, -3.0, -3.0, 1.0, -3.0, -3.0, -3.0, -3.0], width: 3 });
        assert_eq!(bounds(&found), [1.25, 1.25, 1.75, 1.75]);
    }

    #[test]
    fn nothing_positive_has_no_outline() {
        assert_eq!(traced(&["...", "..."]), Vec::<[f32; 2]>::new());
        assert_eq!(trace(&Field { values: &[], width: 0 }), Vec::<[f32; 2]>::new());
        assert_eq!(trace(&Field { values: &[f32::NAN; 9], width: 3 }), Vec::<[f32; 2]>::new());
    }

    #[test]
    fn a_disc_keeps_its_area_with_few_corners() {
        let values: Vec<f32> =
            (0..120 * 120).map(|at| 50.0 - ((at % 120) as f32 - 59.5).hypot((at / 120) as f32 - 59.5)).collect();
        let found = trace(&Field { values: &values, width: 120 });
        assert!(found.len() <= MAX_CORNERS, "{}", found.len());
        let true_area = std::f32::consts::PI * 2500.0;
        assert!((area(&found) / true_area - 1.0).abs() < 0.02, "{} of {true_area}", area(&found));
    }

    proptest! {
        #[test]
        fn any_field_gives_a_bounded_outline_inside_it(
            values in prop::collection::vec(prop_oneof![-1f32..1.0, any::<f32>()], 1..600), width in 1usize..40,
        ) {
            let found = trace(&Field { values: &values, width });
            prop_assert!(found.is_empty() || (3..=MAX_CORNERS).contains(&found.len()), "{}", found.len());
            let high = values.len().div_ceil(width) as f32;
            for [x, y] in found {
                prop_assert!((0.0..=width as f32).contains(&x) && (0.0..=high).contains(&y), "{x} {y}");
            }
        }
    }
}
