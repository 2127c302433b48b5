//! Bicubic resize of one 8-bit plane in the arithmetic of OpenCV's `resize(…, INTER_CUBIC)`.
//!
//! As its source has it (`modules/imgproc/src/resize.cpp`): half-pixel centres, a = −0.75, no antialiasing, edges repeated,
//! coefficients of 11 bits in both directions, the horizontal sum kept whole and the vertical one rounded from floats,
//! which is what its vector code does.

/// The slope of the kernel at distance 1 (Keys 1981 has −0.5).
const A: f32 = -0.75;

/// 1.0 in the coefficients' fixed point.
const ONE: f32 = 2048.0;

/// The four source samples that a target sample mixes.
#[derive(Clone, Copy, Debug)]
struct Taps {
    at: [usize; 4],
    weights: [i16; 4],
}

fn weights(x: f32) -> [i16; 4] {
    let first = ((A * (x + 1.0) - 5.0 * A) * (x + 1.0) + 8.0 * A) * (x + 1.0) - 4.0 * A;
    let second = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let third = ((A + 2.0) * (1.0 - x) - (A + 3.0)) * (1.0 - x) * (1.0 - x) + 1.0;
    #[allow(clippy::cast_possible_truncation)] // −308 to 2048
    [first, second, third, 1.0 - first - second - third].map(|weight| (weight * ONE).round_ties_even() as i16)
}

fn taps(source: usize, target: usize) -> Vec<Taps> {
    let last = i64::try_from(source).unwrap_or(i64::MAX) - 1;
    super::resize::positions(source, target)
        .map(|(floor, fraction)| Taps {
            at: [-1, 0, 1, 2].map(|step| usize::try_from((floor + step).clamp(0, last)).unwrap_or(0)),
            weights: weights(fraction),
        })
        .collect()
}

/// Resizes planes of one size to one other size. Makes its tables once and allocates nothing afterwards.
#[derive(Debug)]
pub struct CubicResizer {
    source: (usize, usize),
    target: (usize, usize),
    columns: Vec<Taps>,
    rows: Vec<Taps>,
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
            columns: taps(source.0, target.0),
            rows: taps(source.1, target.1),
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
        let Self { source: (width, _), columns, rows, mixed, held, target } = self;
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(target.0.max(1))) {
            for &at in &row.at {
                // Neighbouring rows never share a place.
                let place = at % 4;
                if held[place] != Some(at) {
                    let Some(samples) = plane.get(at * *width..(at + 1) * *width) else { return };
                    mix(samples, columns, &mut mixed[place]);
                    held[place] = Some(at);
                }
            }
            blend(row.at.map(|at| mixed[at % 4].as_slice()), row.weights, out);
        }
    }
}

/// The horizontal step. Sums of up to 20 bits are whole numbers in an f32.
fn mix(row: &[u8], columns: &[Taps], out: &mut [f32]) {
    for (out, taps) in out.iter_mut().zip(columns) {
        let mut sum = 0i32;
        for (&at, &weight) in taps.at.iter().zip(&taps.weights) {
            sum += i32::from(row.get(at).copied().unwrap_or_default()) * i32::from(weight);
        }
        *out = sum as f32;
    }
}

/// The vertical step.
fn blend([a, b, c, d]: [&[f32]; 4], weights: [i16; 4], out: &mut [u8]) {
    let [wa, wb, wc, wd] = weights.map(|weight| f32::from(weight) / (ONE * ONE));
    for ((out, (&a, &b)), (&c, &d)) in out.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
        let sum = a.mul_add(wa, b.mul_add(wb, c.mul_add(wc, d * wd)));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, as the original does
        {
            *out = sum.round_ties_even() as u8;
        }
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
        assert_eq!(weights(0.0), [0, 2048, 0, 0]);
        assert_eq!(weights(0.5), [-192, 1216, 1216, -192]);
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
