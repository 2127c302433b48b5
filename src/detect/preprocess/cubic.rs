//! Bicubic resize of one 8-bit plane in the arithmetic of OpenCV's `resize(…, INTER_CUBIC)`.
//!
//! As its source has it (`modules/imgproc/src/resize.cpp`): half-pixel centres, a = −0.75, no antialiasing, edges repeated,
//! coefficients of 11 bits in both directions, the horizontal sum kept whole and the vertical one rounded from floats,
//! which is what its vector code does.

use super::resize::positions;

/// The slope of the kernel at distance 1 (Keys 1981 has −0.5).
const A: f32 = -0.75;

/// 1.0 in the coefficients' fixed point.
const ONE: f32 = 2048.0;

/// Adding this to an f32 from 0 to 255 leaves it in the lowest byte, rounded half to even.
const ROUND: f32 = 12_582_912.0;

/// The kernel at the four samples around a point that lies `x` behind the second, in whole parts of 2048.
fn weights(x: f32) -> [f32; 4] {
    let first = ((A * (x + 1.0) - 5.0 * A) * (x + 1.0) + 8.0 * A) * (x + 1.0) - 4.0 * A;
    let second = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let third = ((A + 2.0) * (1.0 - x) - (A + 3.0)) * (1.0 - x) * (1.0 - x) + 1.0;
    [first, second, third, 1.0 - first - second - third].map(|weight| (weight * ONE).round_ties_even())
}

/// The four neighbours that each target column mixes, by the first of them in a row that is repeated twice at both ends.
#[derive(Debug)]
struct Columns {
    start: Vec<u32>,
    weights: [Vec<f32>; 4],
}

impl Columns {
    fn new(source: usize, target: usize) -> Self {
        let mut columns =
            Self { start: Vec::with_capacity(target), weights: [0; 4].map(|_| Vec::with_capacity(target)) };
        for (floor, fraction) in positions(source, target) {
            columns.start.push(u32::try_from(floor + 1).unwrap_or(0));
            for (all, weight) in columns.weights.iter_mut().zip(weights(fraction)) {
                all.push(weight);
            }
        }
        columns
    }
}

/// For each target row the four source rows and their weights.
fn rows(source: usize, target: usize) -> Vec<([usize; 4], [f32; 4])> {
    let last = i64::try_from(source).unwrap_or(i64::MAX) - 1;
    let row = |at: i64| usize::try_from(at.clamp(0, last)).unwrap_or(0);
    positions(source, target)
        .map(|(floor, fraction)| ([-1, 0, 1, 2].map(|step| row(floor + step)), weights(fraction)))
        .collect()
}

/// Resizes planes of one size to one other size. Makes its tables once and allocates nothing afterwards.
#[derive(Debug)]
pub struct CubicResizer {
    source: (usize, usize),
    target: (usize, usize),
    columns: Columns,
    rows: Vec<([usize; 4], [f32; 4])>,
    /// A source row with its ends repeated, and the four samples of each target column in one number.
    padded: Vec<u8>,
    quads: Vec<u32>,
    /// Four source rows after the horizontal step, and which rows they are.
    mixed: [Vec<f32>; 4],
    held: [Option<usize>; 4],
}

impl CubicResizer {
    /// Tables from `source` to `target`, both (width, height) in samples and at least 1×1.
    #[must_use]
    pub fn new(source: (usize, usize), target: (usize, usize)) -> Self {
        let source = (source.0.max(1), source.1.max(1));
        Self {
            source,
            target,
            columns: Columns::new(source.0, target.0),
            rows: rows(source.1, target.1),
            padded: Vec::with_capacity(source.0 + 4),
            quads: vec![0; target.0],
            mixed: [0; 4].map(|_| vec![0.0; target.0]),
            held: [None; 4],
        }
    }

    /// Writes the resized `plane` into `out`, both without padding. A plane that is too short gives fewer rows.
    pub fn resize(&mut self, plane: &[u8], out: &mut [u8]) {
        if self.source == self.target {
            let len = plane.len().min(out.len());
            if let (Some(out), Some(plane)) = (out.get_mut(..len), plane.get(..len)) {
                out.copy_from_slice(plane);
            }
            return;
        }
        self.held = [None; 4];
        let Self { source: (width, _), columns, rows, padded, quads, mixed, held, target } = self;
        for ((wanted, weights), out) in rows.iter().zip(out.chunks_exact_mut(target.0.max(1))) {
            for &at in wanted {
                // Neighbouring rows never share a place.
                let place = at % 4;
                if held[place] != Some(at) {
                    let Some(row) = plane.get(at * *width..(at + 1) * *width) else { return };
                    pad(row, padded);
                    gather(padded, &columns.start, quads);
                    mix(quads, &columns.weights, &mut mixed[place]);
                    held[place] = Some(at);
                }
            }
            blend(wanted.map(|at| mixed[at % 4].as_slice()), *weights, out);
        }
    }
}

fn pad(row: &[u8], out: &mut Vec<u8>) {
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    out.clear();
    out.extend_from_slice(&[first; 2]);
    out.extend_from_slice(row);
    out.extend_from_slice(&[last; 2]);
}

/// Apart from the sums, so that those keep their vector lanes full.
fn gather(row: &[u8], start: &[u32], out: &mut [u32]) {
    for (out, &at) in out.iter_mut().zip(start) {
        let at = at as usize;
        *out = match row.get(at..at + 4) {
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        };
    }
}

/// The horizontal step. Sums of up to 20 bits are whole numbers in an f32.
fn mix(quads: &[u32], [a, b, c, d]: &[Vec<f32>; 4], out: &mut [f32]) {
    let weights = a.iter().zip(b).zip(c.iter().zip(d));
    for ((out, &quad), ((&a, &b), (&c, &d))) in out.iter_mut().zip(quads).zip(weights) {
        let sample = |shift: u32| ((quad >> shift) & 255) as f32;
        *out = sample(0) * a + sample(8) * b + sample(16) * c + sample(24) * d;
    }
}

/// The vertical step. The order of the sum is the original's.
fn blend([a, b, c, d]: [&[f32]; 4], weights: [f32; 4], out: &mut [u8]) {
    let [wa, wb, wc, wd] = weights.map(|weight| weight / (ONE * ONE));
    for ((out, (&a, &b)), (&c, &d)) in out.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
        let sum = a * wa + (b * wb + (c * wc + d * wd));
        let [low, ..] = (sum.clamp(0.0, 255.0) + ROUND).to_bits().to_le_bytes();
        *out = low;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resized(plane: &[u8], source: (usize, usize), target: (usize, usize)) -> Vec<u8> {
        let mut out = vec![0; target.0 * target.1];
        CubicResizer::new(source, target).resize(plane, &mut out);
        out
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let plane: Vec<u8> = (0..12).collect();
        assert_eq!(resized(&plane, (4, 3), (4, 3)), plane);
    }

    #[test]
    fn the_kernel_is_that_of_a_minus_three_quarters() {
        assert_eq!(weights(0.0).map(|weight| weight as i32), [0, 2048, 0, 0]);
        assert_eq!(weights(0.5).map(|weight| weight as i32), [-192, 1216, 1216, -192]);
    }

    #[test]
    fn a_plane_that_is_too_short_gives_fewer_rows() {
        let mut out = [7; 4];
        CubicResizer::new((4, 8), (2, 2)).resize(&[0; 16], &mut out);
        assert_eq!(out, [0, 0, 7, 7]);
    }

    proptest! {
        #[test]
        fn a_flat_plane_stays_flat(value: u8, w in 1usize..40, h in 1usize..40, tw in 1usize..40, th in 1usize..40) {
            let out = resized(&vec![value; w * h], (w, h), (tw, th));
            prop_assert!(out.iter().all(|&sample| sample.abs_diff(value) <= 1), "{out:?}");
        }

        #[test]
        fn it_stays_close_to_exact_interpolation(
            plane in prop::collection::vec(any::<u8>(), 30 * 20), tw in 1usize..70, th in 1usize..50,
        ) {
            let out = resized(&plane, (30, 20), (tw, th));
            let kernel = |d: f64| {
                let d = d.abs();
                if d <= 1.0 { (1.25 * d - 2.25) * d * d + 1.0 }
                else if d < 2.0 { -0.75 * (((d - 5.0) * d + 8.0) * d - 4.0) }
                else { 0.0 }
            };
            for y in 0..th {
                for x in 0..tw {
                    let sx = (x as f64 + 0.5) * 30.0 / tw as f64 - 0.5;
                    let sy = (y as f64 + 0.5) * 20.0 / th as f64 - 0.5;
                    let mut exact = 0.0;
                    for j in -1..=2i32 {
                        for i in -1..=2i32 {
                            let (px, py) = (sx.floor() + f64::from(i), sy.floor() + f64::from(j));
                            let at = py.clamp(0.0, 19.0) as usize * 30 + px.clamp(0.0, 29.0) as usize;
                            exact += kernel(sx - px) * kernel(sy - py) * f64::from(plane[at]);
                        }
                    }
                    let found = f64::from(out[y * tw + x]);
                    prop_assert!((exact.clamp(0.0, 255.0) - found).abs() <= 1.5, "{exact} {found}");
                }
            }
        }
    }
}
