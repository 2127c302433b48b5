//! Bilinear resize of one 8-bit plane, bit for bit as OpenCV's `resize(…, INTER_LINEAR)` does it.
//!
//! Models were judged with that arithmetic (`modules/imgproc/src/resize.cpp`): half-pixel centres, no antialiasing,
//! coefficients of 11 bits, the horizontal sum cut to 15 bits before the vertical one. Exact float arithmetic, or an
//! antialiased filter, moves boxes by pixels.

/// 1.0 in the coefficients' fixed point.
const ONE: u16 = 1 << 11;

/// What a row needs: where to read, and with which weights.
///
/// The weights are split into `16 * high + low`, so that the horizontal step stays within 16 bits, and every lane of a
/// vector register holds a sample of its own.
#[derive(Clone, Debug, Default, PartialEq)]
struct Columns {
    /// For each target column the left one of the two source columns.
    start: Vec<u32>,
    /// The same for whole blocks of columns, where rows are long enough for windows and blocks narrow enough for them.
    blocks: Vec<Block>,
    /// The weights of the left one.
    left: Split,
    /// The weights of the right one.
    right: Split,
}

/// How many target columns are gathered at once.
const BLOCK: usize = 16;

/// The part of a source row that a block reads from: any offset of a byte, and the sample after it, lie inside, so that
/// the compiler needs no check.
const WINDOW: usize = 257;

#[derive(Clone, Debug, PartialEq)]
struct Block {
    /// Where the window begins in the row.
    base: usize,
    /// Where the pairs begin in the window.
    offsets: [u8; BLOCK],
}

/// Blocks for as many of the columns as have them, from the first on.
fn blocks(start: &[u32], source: usize) -> Vec<Block> {
    let Some(last_base) = source.checked_sub(WINDOW) else { return Vec::new() };
    let (whole, _) = start.as_chunks::<BLOCK>();
    let block = |columns: &[u32; BLOCK]| {
        let base = usize::try_from(columns[0]).ok()?.min(last_base);
        let mut offsets = [0; BLOCK];
        for (offset, &column) in offsets.iter_mut().zip(columns) {
            *offset = u8::try_from(usize::try_from(column).ok()?.checked_sub(base)?).ok()?;
        }
        Some(Block { base, offsets })
    };
    whole.iter().map_while(block).collect()
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Split {
    high: Vec<u16>,
    low: Vec<u16>,
}

impl Split {
    fn push(&mut self, weight: u16) {
        self.high.push(weight >> 4);
        self.low.push(weight & 15);
    }
}

/// For each target sample the source sample left of (or at) its centre, and how far behind that it lies.
pub(super) fn positions(source: usize, target: usize) -> impl Iterator<Item = (i64, f32)> {
    // OpenCV divides twice, and rounds to float once: `1. / (dst / src)`.
    let scale = 1.0 / (target as f64 / source as f64);
    (0..target).map(move |at| {
        #[allow(clippy::cast_possible_truncation)] // as in the original: double arithmetic, then float
        let position = ((at as f64 + 0.5) * scale - 0.5) as f32;
        let floor = position.floor();
        #[allow(clippy::cast_possible_truncation)] // sides are at most thousands
        (floor as i64, position - floor)
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 2048
fn weights(fraction: f32) -> [u16; 2] {
    let one = f32::from(ONE);
    [((1.0 - fraction) * one).round_ties_even() as u16, (fraction * one).round_ties_even() as u16]
}

impl Columns {
    /// At the edges the nearest sample alone.
    fn new(source: usize, target: usize) -> Self {
        let last = i64::try_from(source).unwrap_or(i64::MAX) - 1;
        let mut columns = Self::default();
        for (floor, fraction) in positions(source, target) {
            let (floor, weight) = match floor {
                _ if floor < 0 => (0, [ONE, 0]),
                // The pair is read one to the left, so that it lies inside the row; a row of one sample is doubled.
                _ if floor >= last => ((last - 1).max(0), if last > 0 { [0, ONE] } else { [ONE, 0] }),
                _ => (floor, weights(fraction)),
            };
            columns.start.push(u32::try_from(floor).unwrap_or(0));
            columns.left.push(weight[0]);
            columns.right.push(weight[1]);
        }
        columns.blocks = blocks(&columns.start, source);
        columns
    }
}

/// For each target row the two source rows and their weights: at the edges the same row twice, weighted.
fn vertical(source: usize, target: usize) -> Vec<([usize; 2], [u16; 2])> {
    let last = i64::try_from(source).unwrap_or(i64::MAX) - 1;
    let row = |at: i64| usize::try_from(at.clamp(0, last)).unwrap_or(0);
    positions(source, target).map(|(floor, fraction)| ([row(floor), row(floor + 1)], weights(fraction))).collect()
}

/// Resizes planes of one size to one other size. Makes its tables once and allocates nothing afterwards.
#[derive(Debug)]
pub struct Resizer {
    source: (usize, usize),
    target: (usize, usize),
    columns: Columns,
    rows: Vec<([usize; 2], [u16; 2])>,
    /// The two samples that each target column mixes, the left one in the low byte, for two source rows.
    pairs: [Vec<u16>; 2],
    /// Two source rows after the horizontal step, 15 bits, and which rows they are.
    mixed: [Vec<u16>; 2],
    held: [Option<usize>; 2],
}

impl Resizer {
    /// Tables from `source` to `target`, both (width, height) in samples and at least 1×1.
    #[must_use]
    pub fn new(source: (usize, usize), target: (usize, usize)) -> Self {
        let source = (source.0.max(1), source.1.max(1));
        Self {
            source,
            target,
            columns: Columns::new(source.0, target.0),
            rows: vertical(source.1, target.1),
            pairs: [vec![0; target.0], vec![0; target.0]],
            mixed: [vec![0; target.0], vec![0; target.0]],
            held: [None; 2],
        }
    }

    /// Width and height of what it reads.
    #[must_use]
    pub fn source(&self) -> (usize, usize) {
        self.source
    }

    /// Writes the resized `plane` into `out`, both without padding. Samples that are not there are left out: a plane
    /// that is too short gives fewer rows.
    pub fn resize(&mut self, plane: &[u8], out: &mut [u8]) {
        let (width, _) = self.source;
        if self.source == self.target {
            let len = plane.len().min(out.len());
            if let (Some(out), Some(plane)) = (out.get_mut(..len), plane.get(..len)) {
                out.copy_from_slice(plane);
            }
            return;
        }
        self.held = [None; 2];
        let Self { columns, rows, pairs, mixed, held, target, .. } = self;
        let source_row = |at: usize| plane.get(at * width..(at + 1) * width);
        for ((wanted, weight), out) in rows.iter().zip(out.chunks_exact_mut(target.0.max(1))) {
            // The lower row of one target row is often the upper row of the next.
            if held[1] == Some(wanted[0]) && held[0] != held[1] {
                mixed.swap(0, 1);
                held.swap(0, 1);
            }
            match (held[0] == Some(wanted[0]), held[1] == Some(wanted[1])) {
                (true, true) => {}
                (true, false) => {
                    let Some(lower) = source_row(wanted[1]) else { return };
                    gather(lower, columns, &mut pairs[1]);
                    mix(&pairs[1], columns, &mut mixed[1]);
                }
                _ => {
                    let (Some(upper), Some(lower)) = (source_row(wanted[0]), source_row(wanted[1])) else { return };
                    gather(upper, columns, &mut pairs[0]);
                    gather(lower, columns, &mut pairs[1]);
                    mix(&pairs[0], columns, &mut mixed[0]);
                    mix(&pairs[1], columns, &mut mixed[1]);
                }
            }
            *held = [Some(wanted[0]), Some(wanted[1])];
            blend(&mixed[0], &mixed[1], *weight, out);
        }
    }
}

/// The two samples at `at`, or one sample twice in a row of one.
fn pair(row: &[u8], at: usize) -> u16 {
    match row.get(at..at + 2) {
        Some(&[left, right]) => u16::from_le_bytes([left, right]),
        _ => u16::from_le_bytes([row.first().copied().unwrap_or_default(); 2]),
    }
}

fn gather(row: &[u8], columns: &Columns, pairs: &mut [u16]) {
    for (out, block) in pairs.as_chunks_mut::<BLOCK>().0.iter_mut().zip(&columns.blocks) {
        let Some(window) = row.get(block.base..).and_then(|rest| rest.first_chunk::<WINDOW>()) else { return };
        for (out, &offset) in out.iter_mut().zip(&block.offsets) {
            let at = usize::from(offset);
            *out = u16::from_le_bytes([window[at], window[at + 1]]);
        }
    }
    let done = columns.blocks.len() * BLOCK;
    for (out, &at) in pairs.iter_mut().zip(&columns.start).skip(done) {
        *out = pair(row, at as usize);
    }
}

/// The horizontal step: the weighted sum of each pair, 19 bits, cut to 15: `(left · w + right · v) >> 4`, whose lower
/// four bits only the lower parts of the weights reach.
fn mix(pairs: &[u16], columns: &Columns, out: &mut [u16]) {
    let Columns { left, right, .. } = columns;
    let left = left.high.iter().zip(&left.low);
    let right = right.high.iter().zip(&right.low);
    for ((out, &pair), ((left_high, left_low), (right_high, right_low))) in
        out.iter_mut().zip(pairs).zip(left.zip(right))
    {
        let (a, b) = (pair & 255, pair >> 8);
        let high = a * left_high + b * right_high;
        let low = a * left_low + b * right_low;
        *out = high + (low >> 4);
    }
}

/// The vertical step, with the original's two cuts.
fn blend(upper: &[u16], lower: &[u16], [a, b]: [u16; 2], out: &mut [u8]) {
    #[allow(clippy::cast_possible_truncation)] // the upper half of 32 bits
    fn high(sample: u16, weight: u16) -> u16 {
        ((u32::from(sample) * u32::from(weight)) >> 16) as u16
    }
    for ((out, &upper), &lower) in out.iter_mut().zip(upper).zip(lower) {
        #[allow(clippy::cast_possible_truncation)] // 0 to 255 by construction
        {
            *out = ((high(upper, a) + high(lower, b) + 2) >> 2) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resized(plane: &[u8], source: (usize, usize), target: (usize, usize)) -> Vec<u8> {
        let mut out = vec![0; target.0 * target.1];
        Resizer::new(source, target).resize(plane, &mut out);
        out
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let plane: Vec<u8> = (0..12).collect();
        assert_eq!(resized(&plane, (4, 3), (4, 3)), plane);
    }

    #[test]
    fn half_the_size_is_the_rounded_mean_of_four() {
        assert_eq!(resized(&[0, 1, 10, 20, 1, 1, 30, 41], (4, 2), (2, 1)), [1, 25]);
    }

    /// `cv2.resize(np.array([[0, 100, 200], [50, 150, 250]], np.uint8), (5, 4))`, OpenCV 4.14.
    #[test]
    fn enlarging_gives_what_opencv_gives() {
        assert_eq!(
            resized(&[0, 100, 200, 50, 150, 250], (3, 2), (5, 4)),
            [0, 40, 100, 160, 200, 13, 52, 113, 173, 213, 38, 77, 138, 198, 238, 50, 90, 150, 210, 250]
        );
    }

    #[test]
    fn a_plane_that_is_too_short_gives_fewer_rows() {
        let mut out = [7; 4];
        Resizer::new((4, 4), (2, 2)).resize(&[0; 8], &mut out);
        assert_eq!(out, [0, 0, 7, 7]);
    }

    proptest! {
        #[test]
        fn a_flat_plane_stays_flat(value: u8, w in 1usize..40, h in 1usize..40, tw in 1usize..40, th in 1usize..40) {
            let out = resized(&vec![value; w * h], (w, h), (tw, th));
            prop_assert!(out.iter().all(|&sample| sample.abs_diff(value) <= 1), "{out:?}");
        }

        #[test]
        fn gathering_by_blocks_takes_the_same_pairs(source in 1usize..3000, target in 1usize..600, seed: u8) {
            let row: Vec<u8> = (0..source).map(|at| (at * 31 % 251) as u8 ^ seed).collect();
            let columns = Columns::new(source, target);
            let mut pairs = vec![0; target];
            gather(&row, &columns, &mut pairs);
            let plain: Vec<_> = columns.start.iter().map(|&at| pair(&row, at as usize)).collect();
            prop_assert_eq!(pairs, plain);
            prop_assert!(source < WINDOW || source / target > 15 || columns.blocks.len() == target / BLOCK);
        }

        #[test]
        fn it_stays_close_to_exact_interpolation(
            plane in prop::collection::vec(any::<u8>(), 30 * 20), tw in 1usize..70, th in 1usize..50,
        ) {
            let out = resized(&plane, (30, 20), (tw, th));
            let at = |v: f64, n: usize| {
                let v = v.clamp(0.0, n as f64 - 1.0);
                let low = v.floor().min(n as f64 - 2.0);
                (low as usize, v - low)
            };
            for y in 0..th {
                for x in 0..tw {
                    let (sx, fx) = at((x as f64 + 0.5) * 30.0 / tw as f64 - 0.5, 30);
                    let (sy, fy) = at((y as f64 + 0.5) * 20.0 / th as f64 - 0.5, 20);
                    let p = |x: usize, y: usize| f64::from(plane[y * 30 + x]);
                    let exact = (1.0 - fy) * ((1.0 - fx) * p(sx, sy) + fx * p(sx + 1, sy))
                        + fy * ((1.0 - fx) * p(sx, sy + 1) + fx * p(sx + 1, sy + 1));
                    prop_assert!((exact - f64::from(out[y * tw + x])).abs() <= 1.3);
                }
            }
        }

        #[test]
        fn a_resizer_gives_the_same_again(plane in prop::collection::vec(any::<u8>(), 9 * 7), tw in 1usize..20, th in 1usize..20) {
            let mut resizer = Resizer::new((9, 7), (tw, th));
            let (mut first, mut second) = (vec![0; tw * th], vec![0; tw * th]);
            resizer.resize(&plane, &mut first);
            resizer.resize(&plane, &mut second);
            prop_assert_eq!(first, second);
        }
    }
}
