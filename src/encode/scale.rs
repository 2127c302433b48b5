//! A picture made smaller, for an encode that cannot afford it whole.

use crate::media::{FramePool, I420Frame, Plane};

/// Makes pictures smaller. Each sample is the mean of the area that it covers, so that nothing flickers and chroma stays where it
/// is. Buffers and weights are kept from picture to picture.
#[derive(Debug, Default)]
pub struct Scaler {
    pool: FramePool,
    /// For the luma and for the chroma, across and down.
    weights: [Weights; 4],
    row: Vec<u16>,
}

impl Scaler {
    /// A scaler without buffers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The picture at `width`×`height` pixels, neither side longer than before: one that would be stays as it is.
    ///
    /// # Panics
    /// If a side is 0.
    #[must_use]
    pub fn scale(&mut self, picture: &I420Frame, width: usize, height: usize) -> I420Frame {
        let mut small = self.pool.frame(width.min(picture.width()), height.min(picture.height()));
        let sizes = [Plane::Y, Plane::U, Plane::V].map(|plane| (picture.plane_size(plane), small.plane_size(plane)));
        let (y, u, v) = small.planes_mut();
        let targets = [(Plane::Y, y), (Plane::U, u), (Plane::V, v)];
        for ((plane, target), (from, to)) in targets.into_iter().zip(sizes) {
            let [luma_across, luma_down, chroma_across, chroma_down] = &mut self.weights;
            let (across, down) =
                if plane == Plane::Y { (luma_across, luma_down) } else { (chroma_across, chroma_down) };
            across.fit(from.0, to.0);
            down.fit(from.1, to.1);
            scale_plane(picture.plane(plane), from.0, target, to.0, (across, down), &mut self.row);
        }
        small
    }
}

/// Weights add up to this.
const WHOLE: usize = 256;

/// Which samples of a longer line make each sample of a shorter one, and how much of each.
#[derive(Debug, Default)]
struct Weights {
    sizes: (usize, usize),
    /// The first sample for each.
    starts: Vec<usize>,
    /// How many there are for each.
    count: usize,
    /// `count` of them for each, adding up to [`WHOLE`].
    parts: Vec<u16>,
}

impl Weights {
    fn fit(&mut self, from: usize, to: usize) {
        if self.sizes == (from, to) {
            return;
        }
        // In units of which a long sample has `to` and a short one `from`: whole numbers.
        let first = |n: usize| n * from / to;
        let last = |n: usize| ((n + 1) * from).div_ceil(to);
        let count = (0..to).map(|n| last(n) - first(n)).max().unwrap_or(1);
        self.starts.clear();
        self.parts.clear();
        for n in 0..to {
            // All windows are of one length: one at the end begins earlier.
            let start = first(n).min(from - count);
            let (low, high) = (n * from, (n + 1) * from);
            let mut given = 0;
            let mut done = 0;
            for sample in start..start + count {
                let covered = high.min((sample + 1) * to).saturating_sub(low.max(sample * to));
                done += covered;
                // Rounded so that the sum is exact.
                let weight = (done * WHOLE + from / 2) / from - given;
                given += weight;
                self.parts.push(u16::try_from(weight).unwrap_or(u16::MAX));
            }
            self.starts.push(start);
        }
        self.count = count;
        self.sizes = (from, to);
    }

    fn windows(&self) -> impl Iterator<Item = (usize, &[u16])> {
        self.starts.iter().copied().zip(self.parts.chunks_exact(self.count.max(1)))
    }
}

fn scale_plane(
    source: &[u8],
    stride: usize,
    target: &mut [u8],
    width: usize,
    (across, down): (&Weights, &Weights),
    row: &mut Vec<u16>,
) {
    for (out, (start, weights)) in target.chunks_exact_mut(width).zip(down.windows()) {
        row.clear();
        row.resize(stride, 0);
        let lines = source.chunks_exact(stride).skip(start);
        for (line, &weight) in lines.zip(weights).filter(|(_, weight)| **weight > 0) {
            // At most 255 · 256: it fits.
            row.iter_mut().zip(line).for_each(|(sum, &sample)| *sum += u16::from(sample) * weight);
        }
        match across.sizes {
            (from, to) if from == to * 2 => halve(row, out),
            (from, to) if from.is_multiple_of(4) && from * 3 == to * 4 => three_of_four(row, out),
            _ => weigh(row, out, across),
        }
    }
}

/// Each sample by its own weights.
fn weigh(row: &[u16], out: &mut [u8], across: &Weights) {
    for (sample, (start, weights)) in out.iter_mut().zip(across.windows()) {
        let window = row.get(start..start + weights.len()).unwrap_or_default();
        *sample = mean(window.iter().zip(weights).map(|(&sum, &weight)| u32::from(sum) * u32::from(weight)).sum());
    }
}

/// The same where two samples make one: without weights to look up, which takes most of the time.
fn halve(row: &[u16], out: &mut [u8]) {
    for (sample, pair) in out.iter_mut().zip(row.chunks_exact(2)) {
        *sample = mean((u32::from(pair[0]) + u32::from(pair[1])) * 128);
    }
}

/// The same where four samples make three.
fn three_of_four(row: &[u16], out: &mut [u8]) {
    for (samples, four) in out.chunks_exact_mut(3).zip(row.chunks_exact(4)) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| u32::from(four[n]));
        samples[0] = mean(a * 192 + b * 64);
        samples[1] = mean((b + c) * 128);
        samples[2] = mean(c * 64 + d * 192);
    }
}

/// Of a sum that was weighed twice, across and down.
fn mean(sum: u32) -> u8 {
    #[allow(clippy::cast_possible_truncation)] // a mean of bytes
    let mean = ((sum + (1 << 15)) >> 16) as u8;
    mean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_the_size_is_the_mean_of_four() {
        let mut picture = I420Frame::black(4, 2);
        picture.planes_mut().0.copy_from_slice(&[10, 20, 30, 30, 30, 40, 30, 34]);
        let small = Scaler::new().scale(&picture, 2, 1);
        assert_eq!(small.plane(Plane::Y), [25, 31]);
        assert_eq!((small.plane(Plane::U), small.plane(Plane::V)), (&[128][..], &[128][..]));
    }

    #[test]
    fn an_edge_stays_where_it_is() {
        let (width, height) = (640, 480);
        let mut picture = I420Frame::black(width, height);
        let (y, ..) = picture.planes_mut();
        y.chunks_exact_mut(width).for_each(|row| row[width / 4..].fill(235));
        let mut scaler = Scaler::new();
        for eighths in [6, 4, 3, 2] {
            let (w, h) = (width * eighths / 8, height * eighths / 8);
            let small = scaler.scale(&picture, w, h);
            let row = &small.plane(Plane::Y)[w * (h / 2)..][..w];
            assert_eq!(row.iter().position(|sample| *sample > 125), Some(w / 4), "{w}×{h}");
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture_and_a_larger_one_is_not_made() {
        let mut picture = I420Frame::black(33, 17);
        let (y, u, v) = picture.planes_mut();
        [y, u, v].into_iter().flatten().enumerate().for_each(|(n, sample)| *sample = (n * 7 % 256) as u8);
        let same = Scaler::new().scale(&picture, 100, 17);
        assert_eq!(same.planes(), picture.planes());
    }

    proptest! {
        #[test]
        fn the_ways_for_common_sizes_give_what_the_weights_do(row in prop::collection::vec(0u16..=65_280, 4..200), half in any::<bool>()) {
            let from = row.len() / 4 * 4;
            let to = if half { from / 2 } else { from / 4 * 3 };
            let mut weights = Weights::default();
            weights.fit(from, to);
            let (mut quick, mut slow) = (vec![0; to], vec![0; to]);
            if half { halve(&row[..from], &mut quick) } else { three_of_four(&row[..from], &mut quick) };
            weigh(&row[..from], &mut slow, &weights);
            prop_assert_eq!(quick, slow);
        }

        #[test]
        fn every_sample_lies_between_those_that_it_is_made_of(w in 1usize..60, h in 1usize..60, to in (1usize..60, 1usize..60), seed in any::<u8>()) {
            let mut picture = I420Frame::black(w, h);
            let (y, u, v) = picture.planes_mut();
            for (n, sample) in [y, u, v].into_iter().flatten().enumerate() {
                *sample = (n * 31 % 97) as u8 + seed % 100;
            }
            let small = Scaler::new().scale(&picture, to.0, to.1);
            prop_assert_eq!((small.width(), small.height()), (to.0.min(w), to.1.min(h)));
            for plane in [Plane::Y, Plane::U, Plane::V] {
                let (least, most) = (picture.plane(plane).iter().min(), picture.plane(plane).iter().max());
                prop_assert!(small.plane(plane).iter().min() >= least && small.plane(plane).iter().max() <= most);
            }
        }
    }
}
