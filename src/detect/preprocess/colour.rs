//! Rows of samples to rows of the model's input.
//!
//! Plain float arithmetic without branches, so that it vectorises on every target.

/// What becomes of an 8-bit sample of one channel: `(sample − mean) / std`.
///
/// A true division: a product with the reciprocal differs in the last bit, and models with quantised activations turn
/// that into pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    /// Subtracted.
    pub mean: f32,
    /// Divides.
    pub std: f32,
}

impl Normalise {
    /// Leaves samples as they are.
    pub const NONE: Self = Self { mean: 0.0, std: 1.0 };

    /// One sample.
    #[must_use]
    pub fn apply(self, sample: f32) -> f32 {
        (sample - self.mean) / self.std
    }
}

/// Normalises one row of one channel.
pub fn normalise(samples: &[u8], rule: Normalise, out: &mut [f32]) {
    let samples = samples.iter().copied().map(f32::from);
    // Most models want plain samples, and division is the slowest step here.
    if rule == Normalise::NONE {
        out.iter_mut().zip(samples).for_each(|(out, sample)| *out = sample);
    } else {
        out.iter_mut().zip(samples).for_each(|(out, sample)| *out = rule.apply(sample));
    }
}

/// Adding and subtracting this rounds an f32 of small magnitude to the nearest integer, half to even.
const ROUND: f32 = 12_582_912.0;

/// 8-bit values are whole numbers from 0 to 255: the model was trained on those.
fn to_sample(value: f32) -> f32 {
    (value.clamp(0.0, 255.0) + ROUND) - ROUND
}

/// One row of BT.601 limited-range YUV (ITU-R BT.601-7 §2.5; 16–235 and 16–240) to normalised red, green and blue.
pub fn yuv_to_rgb(y: &[u8], u: &[u8], v: &[u8], rules: [Normalise; 3], out: [&mut [f32]; 3]) {
    if rules == [Normalise::NONE; 3] {
        convert(y, u, v, out, |_, sample| sample);
    } else {
        convert(y, u, v, out, |channel, sample| rules[channel].apply(sample));
    }
}

#[inline]
fn convert(y: &[u8], u: &[u8], v: &[u8], out: [&mut [f32]; 3], finish: impl Fn(usize, f32) -> f32) {
    let [red, green, blue] = out;
    let planes = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for (((red, green), blue), ((&y, &u), &v)) in planes.zip(y.iter().zip(u).zip(v)) {
        let luma = (f32::from(y) - 16.0) * (255.0 / 219.0);
        let (u, v) = (f32::from(u) - 128.0, f32::from(v) - 128.0);
        *red = finish(0, to_sample(luma + 1.596_026_8 * v));
        *green = finish(1, to_sample(luma - 0.391_762_3 * u - 0.812_967_6 * v));
        *blue = finish(2, to_sample(luma + 2.017_232_1 * u));
    }
}

/// Splits interleaved RGB into three planes.
pub fn deinterleave(rgb: &[u8], planes: [&mut [u8]; 3]) {
    let [red, green, blue] = planes;
    let planes = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for (((red, green), blue), pixel) in planes.zip(rgb.as_chunks::<3>().0) {
        [*red, *green, *blue] = *pixel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rgb(y: u8, u: u8, v: u8) -> [f32; 3] {
        let mut out = [[0.0; 1]; 3];
        let [r, g, b] = &mut out;
        yuv_to_rgb(&[y], &[u], &[v], [Normalise::NONE; 3], [r, g, b]);
        out.map(|[value]| value)
    }

    #[test]
    fn the_corners_of_the_colour_cube_come_out_right() {
        // BT.601 75 % and 100 % bars as every test-pattern generator writes them.
        for (yuv, expected) in [
            ((16, 128, 128), [0.0, 0.0, 0.0]),
            ((235, 128, 128), [255.0, 255.0, 255.0]),
            ((81, 90, 240), [254.0, 0.0, 0.0]),
            ((145, 54, 34), [0.0, 255.0, 1.0]),
            ((41, 240, 110), [0.0, 0.0, 255.0]),
        ] {
            let found = rgb(yuv.0, yuv.1, yuv.2);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1.0, "{yuv:?}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn normalising_is_minus_mean_over_std() {
        let mut out = [0.0; 2];
        normalise(&[0, 255], Normalise { mean: 127.0, std: 128.0 }, &mut out);
        assert!((out[0] + 0.992_187_5).abs() < 1e-6 && (out[1] - 1.0).abs() < 1e-6, "{out:?}");
    }

    proptest! {
        #[test]
        fn every_colour_is_a_whole_number_of_a_byte(y: u8, u: u8, v: u8) {
            for value in rgb(y, u, v) {
                prop_assert!((0.0..=255.0).contains(&value) && value.fract().abs() < f32::EPSILON);
            }
        }
    }
}
