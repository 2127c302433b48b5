//! Planes of any depth and subsampling to I420 at 8 bits.

use crate::media::{I420Frame, Plane};

/// Samples as a decoder holds them: rows of one plane, possibly padded.
#[derive(Clone, Copy)]
pub(super) struct Samples<'a> {
    /// One byte a sample, or two (little-endian) where it is deeper than 8 bits.
    pub(super) data: &'a [u8],
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Samples in a row.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// Bits of a sample, 8 to 16.
    pub(super) depth: u32,
}

impl Samples<'_> {
    /// The sample at a place; beyond the edge, that of the edge. 0 if the data is shorter than it says.
    fn at(&self, x: usize, y: usize) -> u32 {
        let row = self.data.get(y.min(self.height.saturating_sub(1)) * self.stride..).unwrap_or_default();
        let x = x.min(self.width.saturating_sub(1));
        if self.depth > 8 {
            row.get(2 * x..2 * x + 2)
                .map_or(0, |bytes| bytes.iter().rev().fold(0, |all, &byte| all << 8 | u32::from(byte)))
        } else {
            row.get(x).copied().map_or(0, u32::from)
        }
    }
}

/// Fills a plane of `frame` from samples that are as many, or twice as many in a direction, whose mean is taken then.
pub(super) fn fill(frame: &mut I420Frame, plane: Plane, source: Samples<'_>) {
    let (width, height) = frame.plane_size(plane);
    let (across, down) = (if source.width > width { 2 } else { 1 }, if source.height > height { 2 } else { 1 });
    let whole =
        source.data.len() >= (height - 1) * source.stride + width && source.width == width && source.height == height;
    if source.depth == 8 && whole && source.stride >= width {
        frame.copy_plane_from(plane, source.data, source.stride);
        return;
    }
    // The mean of so many samples, in so many bits more than 8.
    let count = match across * down {
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let divisor: u32 = count << source.depth.saturating_sub(8);
    let (y, u, v) = frame.planes_mut();
    let target = match plane {
        Plane::Y => y,
        Plane::U => u,
        Plane::V => v,
    };
    for (row, out) in target.chunks_exact_mut(width).enumerate() {
        for (column, out) in out.iter_mut().enumerate() {
            let mut sum = 0;
            for dy in 0..down {
                for dx in 0..across {
                    sum += source.at(column * across + dx, row * down + dy);
                }
            }
            *out = u8::try_from((sum + divisor / 2) / divisor).unwrap_or(u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Samples of ten bits as bytes, with rows that are padded.
    fn ten_bits(width: usize, height: usize, stride: usize, sample: impl Fn(usize, usize) -> u16) -> Vec<u8> {
        let mut data = vec![0; stride * height];
        for y in 0..height {
            for x in 0..width {
                data[y * stride + 2 * x..y * stride + 2 * x + 2].copy_from_slice(&sample(x, y).to_le_bytes());
            }
        }
        data
    }

    #[test]
    fn ten_bits_are_rounded_to_eight() {
        let mut frame = I420Frame::black(4, 2);
        let data = ten_bits(4, 2, 12, |x, _| [0, 2, 401, 1023][x]);
        fill(&mut frame, Plane::Y, Samples { data: &data, stride: 12, width: 4, height: 2, depth: 10 });
        assert_eq!(frame.plane(Plane::Y), [0, 1, 100, 255, 0, 1, 100, 255]);
    }

    #[test]
    fn chroma_of_4_2_2_is_averaged_over_two_rows() {
        let mut frame = I420Frame::black(4, 3);
        let data = [10, 20, 30, 40, 50, 60];
        fill(&mut frame, Plane::U, Samples { data: &data, stride: 2, width: 2, height: 3, depth: 8 });
        assert_eq!(frame.plane(Plane::U), [20, 30, 50, 60]);
    }

    proptest! {
        #[test]
        fn any_shape_of_samples_fills_the_plane_and_never_panics(
            width in 1usize..20, height in 1usize..20, fine in (any::<bool>(), any::<bool>()), pad in 0usize..4,
            depth in prop::sample::select(vec![8u32, 9, 10, 12, 16]), cut in 0usize..40,
        ) {
            let mut frame = I420Frame::black(width, height);
            let (half_width, half_height) = frame.plane_size(Plane::U);
            let (w, h) = (if fine.0 { width } else { half_width }, if fine.1 { height } else { half_height });
            let bytes = if depth > 8 { 2 } else { 1 };
            let stride = (w + pad) * bytes;
            let value = 77u16 << (depth - 8);
            let data: Vec<u8> = value.to_le_bytes().into_iter().take(bytes).cycle().take(stride * h).collect();
            let source = Samples { data: &data, stride, width: w, height: h, depth };
            fill(&mut frame, Plane::U, source);
            prop_assert!(frame.plane(Plane::U).iter().all(|&sample| sample == 77));
            fill(&mut frame, Plane::V, Samples { data: &data[..data.len().saturating_sub(cut)], ..source });
        }
    }
}
