//! The bitrate that suits a picture.

/// The least bitrate that an encode is set to, in bits per second.
pub const MIN_BITRATE_BPS: u32 = 100_000;

/// The most, in bits per second.
pub const MAX_BITRATE_BPS: u32 = 40_000_000;

/// A bitrate in bits per second at which a camera's picture of this size looks clean: 1.5 Mbit/s for 640×480 at 30 fps.
///
/// Larger pictures need less for each pixel (their detail is coarser in pixels), and a higher frame rate less for each
/// frame (there is less motion between two): both grow by less than the first power.
#[must_use]
pub fn bitrate_for(width: usize, height: usize, fps: u32) -> u32 {
    const REFERENCE_BPS: f64 = 1_500_000.0;
    const REFERENCE_PIXELS: f64 = 640.0 * 480.0;
    const REFERENCE_FPS: f64 = 30.0;
    #[allow(clippy::cast_precision_loss)] // pictures have far fewer than 2^52 pixels
    let pixels = width.saturating_mul(height) as f64;
    let bps = REFERENCE_BPS * (pixels / REFERENCE_PIXELS).powf(0.7) * (f64::from(fps) / REFERENCE_FPS).powf(0.75);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to the bounds, which fit
    let bps = bps.clamp(f64::from(MIN_BITRATE_BPS), f64::from(MAX_BITRATE_BPS)) as u32;
    bps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_sizes_get_common_bitrates() {
        for (width, height, low, high) in [
            (320, 240, 400_000, 700_000),
            (640, 480, 1_500_000, 1_500_000),
            (1280, 720, 2_800_000, 3_500_000),
            (1920, 1080, 5_000_000, 6_500_000),
        ] {
            let bps = bitrate_for(width, height, 30);
            assert!((low..=high).contains(&bps), "{width}×{height}: {bps}");
        }
    }

    proptest! {
        #[test]
        fn the_bitrate_is_bounded_and_grows_with_size_and_rate(w in any::<usize>(), h in 0usize..10_000, fps in 0u32..500) {
            let bps = bitrate_for(w, h, fps);
            prop_assert!((MIN_BITRATE_BPS..=MAX_BITRATE_BPS).contains(&bps));
            prop_assert!(bitrate_for(w, h + 1, fps) >= bps && bitrate_for(w, h, fps + 1) >= bps);
        }
    }
}
