//! Full range to limited range, and the subsampling of chroma that is finer than 4:2:0.
//!
//! JPEG and many cameras use the whole of 0 to 255. What leaves here is limited, 16 to 235 and 16 to 240 for chroma
//! (ITU-R BT.601 §2.5.3), because a browser takes H.264 that does not say otherwise as limited.

use crate::media::I420Frame;

/// A sample's way from full to limited range: `sample + 16 − (sample · loss + offset) / 255`, rounded. In this form every number
/// fits 16 bits, which compilers turn into vector instructions of any processor.
struct Scale {
    loss: u16,
    offset: u16,
}

/// 16 + sample · 219/255
const LUMA: Scale = Scale { loss: 36, offset: 0 };
/// 128 + (sample − 128) · 224/255, that is sample + 16 − (sample · 31 + 16 · 255 − 128 · 31) / 255
const CHROMA: Scale = Scale { loss: 31, offset: 112 };

impl Scale {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // 240 at most
    const fn apply(&self, sample: u8) -> u8 {
        // x / 255, rounded, is (x + 128 + (x + 128) / 256) / 256 for every x of 16 bits that does not overflow here.
        let product = sample as u16 * self.loss + self.offset + 128;
        (sample as u16 + 16 - ((product + (product >> 8)) >> 8)) as u8
    }

    const fn table(&self) -> [u8; 256] {
        let mut table = [0; 256];
        let mut sample = 0u8;
        loop {
            table[sample as usize] = self.apply(sample);
            if sample == u8::MAX {
                return table;
            }
            sample += 1;
        }
    }
}

/// For samples that are taken one by one anyway.
const LUMA_TABLE: [u8; 256] = LUMA.table();
const CHROMA_TABLE: [u8; 256] = CHROMA.table();

/// Brings a picture from full to limited range, in place.
pub(super) fn limit(frame: &mut I420Frame) {
    let (y, u, v) = frame.planes_mut();
    y.iter_mut().for_each(|sample| *sample = LUMA.apply(*sample));
    u.iter_mut().chain(v).for_each(|sample| *sample = CHROMA.apply(*sample));
}

/// Fills a picture from full-range luma without chroma, `width` samples a row: grey.
pub(super) fn from_luma(luma: &[u8], frame: &mut I420Frame) {
    let (y, u, v) = frame.planes_mut();
    for (out, &sample) in y.iter_mut().zip(luma) {
        *out = LUMA.apply(sample);
    }
    u.fill(128);
    v.fill(128);
}

/// Fills a picture from full-range `Y Cb Cr` triples, one for each pixel, row by row without padding. The chroma of two
/// rows and two columns is averaged; at an odd edge, of those that there are.
pub(super) fn from_ycbcr(pixels: &[u8], frame: &mut I420Frame) {
    let (width, half) = (frame.width(), frame.width().div_ceil(2));
    let (y, u, v) = frame.planes_mut();
    let rows = pixels.chunks(6 * width).zip(y.chunks_mut(2 * width)).zip(u.chunks_mut(half).zip(v.chunks_mut(half)));
    for ((pair, luma), (u, v)) in rows {
        for (out, pixel) in luma.iter_mut().zip(pair.chunks_exact(3)) {
            *out = LUMA_TABLE[usize::from(pixel[0])];
        }
        let (upper, lower) = pair.split_at(pair.len().min(3 * width));
        // The last row of an odd height stands for both.
        let lower = if lower.is_empty() { upper } else { lower };
        let blocks = upper.chunks(6).zip(lower.chunks(6)).zip(u.iter_mut().zip(v));
        for ((upper, lower), (u, v)) in blocks {
            if let ([_, b0, r0, _, b1, r1], [_, b2, r2, _, b3, r3]) = (upper, lower) {
                *u = CHROMA_TABLE[mean([*b0, *b1, *b2, *b3])];
                *v = CHROMA_TABLE[mean([*r0, *r1, *r2, *r3])];
            } else if let ([_, b0, r0], [_, b1, r1]) = (upper, lower) {
                *u = CHROMA_TABLE[mean([*b0, *b0, *b1, *b1])];
                *v = CHROMA_TABLE[mean([*r0, *r0, *r1, *r1])];
            }
        }
    }
}

#[inline]
fn mean(samples: [u8; 4]) -> usize {
    let sum: usize = samples.into_iter().map(usize::from).sum();
    (sum + 2) / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::FramePool;
    use proptest::prelude::*;

    #[test]
    fn every_sample_is_rounded_exactly() {
        for sample in 0..=255u8 {
            let (luma, chroma) = (f64::from(sample) * 219.0 / 255.0, (f64::from(sample) - 128.0) * 224.0 / 255.0);
            assert_eq!(f64::from(LUMA.apply(sample)), (16.0 + luma + 0.5).floor(), "luma {sample}");
            assert_eq!(f64::from(CHROMA.apply(sample)), (128.0 + chroma + 0.5).floor(), "chroma {sample}");
            assert_eq!(LUMA_TABLE[usize::from(sample)], LUMA.apply(sample));
            assert_eq!(CHROMA_TABLE[usize::from(sample)], CHROMA.apply(sample));
        }
        assert_eq!((LUMA.apply(0), LUMA.apply(255), CHROMA.apply(128)), (16, 235, 128));
    }

    #[test]
    fn a_picture_is_limited_in_place() {
        let mut frame = FramePool::new().frame(6, 4);
        let (y, u, v) = frame.planes_mut();
        y.fill(255);
        u.fill(0);
        v.fill(128);
        limit(&mut frame);
        let (y, u, v) = frame.planes();
        assert!(y.iter().all(|&y| y == 235) && u.iter().all(|&u| u == 16) && v.iter().all(|&v| v == 128));
    }

    proptest! {
        #[test]
        fn triples_become_planes_of_any_size(width in 1usize..40, height in 1usize..40, seed in any::<u32>()) {
            let sample = |x: usize, y: usize, plane: usize| {
                let mixed = (x * 31 + y * 17 + plane * 101) as u32 ^ seed;
                (mixed.wrapping_mul(2_654_435_761) >> 24) as u8
            };
            let mut pixels = Vec::new();
            for y in 0..height {
                for x in 0..width {
                    pixels.extend([0, 1, 2].map(|plane| sample(x, y, plane)));
                }
            }
            let mut frame = FramePool::new().frame(width, height);
            from_ycbcr(&pixels, &mut frame);
            let (luma, u, v) = frame.planes();
            for y in 0..height {
                for x in 0..width {
                    prop_assert_eq!(luma[y * width + x], LUMA.apply(sample(x, y, 0)));
                    let (left, top) = (x / 2 * 2, y / 2 * 2);
                    let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
                    for (plane, got) in [(1, u), (2, v)] {
                        let four = [(left, top), (right, top), (left, bottom), (right, bottom)];
                        let sum: u32 = four.iter().map(|&(x, y)| u32::from(sample(x, y, plane))).sum();
                        prop_assert_eq!(got[y / 2 * width.div_ceil(2) + x / 2], CHROMA.apply(((sum + 2) / 4) as u8));
                    }
                }
            }
        }
    }
}
