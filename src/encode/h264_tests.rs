use ::openh264::decoder::Decoder;
use ::openh264::formats::YUVSource;
use proptest::prelude::*;

use super::*;

#[allow(clippy::duplicate_mod)] // the rooms do not know each other, nor do their tests
#[path = "../../tests/support/scene.rs"]
mod scene;

fn picture(n: usize, width: usize, height: usize) -> I420Frame {
    let mut frame = I420Frame::black(width, height);
    scene::draw_scene(n, width, height, frame.planes_mut());
    frame
}

fn encoder() -> H264Encoder {
    H264Encoder::new(Config::default())
}

/// The types of the NAL units of an access unit.
fn nal_types(data: &[u8]) -> Vec<u8> {
    data.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1]).map(|bytes| bytes[3] & 0x1f).collect()
}

fn luma_psnr(original: &I420Frame, decoded: &impl YUVSource) -> f64 {
    let (width, height) = decoded.dimensions();
    let mut error = 0.0;
    for row in 0..height {
        let a = &original.plane(Plane::Y)[row * original.width()..][..width];
        let b = &decoded.y()[row * decoded.strides().0..][..width];
        error += a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>();
    }
    10.0 * (255.0f64.powi(2) * (width * height) as f64 / error.max(1e-9)).log10()
}

#[test]
fn a_moving_picture_keeps_its_quality_at_the_default_bitrate() {
    for (width, height) in [(320, 240), (640, 480), (1280, 720)] {
        let (mut encoder, mut decoder) = (encoder(), Decoder::new().unwrap());
        let (mut worst, mut bytes) = (f64::MAX, 0);
        let pictures = 45;
        for n in 0..pictures {
            let original = picture(n, width, height);
            let encoded = encoder.encode(&original, false).unwrap();
            assert_eq!(encoded.idr, n == 0);
            bytes += encoded.data.len();
            worst = worst.min(luma_psnr(&original, &decoder.decode(&encoded.data).unwrap().unwrap()));
        }
        let bps = bytes * 8 * 30 / pictures;
        println!("{width}×{height}: {worst:.1} dB at worst, {bps} bit/s");
        assert!(worst > 30.0, "{width}×{height}: {worst:.1} dB");
    }
}

#[test]
fn an_idr_carries_its_parameter_sets_of_constrained_baseline() {
    let mut encoder = encoder();
    let first = encoder.encode(&picture(0, 640, 480), false).unwrap();
    assert_eq!(nal_types(&first.data), [7, 8, 5]);
    let sps = first.data.windows(4).position(|bytes| bytes == [0, 0, 1, 0x67]).unwrap() + 4;
    // RFC 6184 §8.1: profile-level-id 42c0xx is Constrained Baseline, as 42e0xx is.
    assert_eq!(first.data[sps..sps + 2], [0x42, 0xc0]);
    assert!(first.data[sps + 2] <= 31, "level {}: browsers offer 3.1", first.data[sps + 2]);
    let second = encoder.encode(&picture(1, 640, 480), false).unwrap();
    assert_eq!((nal_types(&second.data), second.idr), (vec![1], false));
}

#[test]
fn each_request_gives_exactly_one_idr() {
    let mut encoder = encoder();
    let asked = [0, 7, 8, 20];
    for n in 0..30 {
        let encoded = encoder.encode(&picture(n, 320, 240), n != 0 && asked.contains(&n)).unwrap();
        assert_eq!(encoded.idr, asked.contains(&n), "picture {n}");
        assert_eq!(encoded.idr, nal_types(&encoded.data).contains(&5));
    }
}

#[test]
fn noise_and_cuts_make_no_needless_idr() {
    let mut encoder = encoder();
    for n in 0..20 {
        // Every fourth picture is another scene altogether.
        let encoded = encoder.encode(&picture(n / 4 * 777 + n, 320, 240), false).unwrap();
        assert_eq!(encoded.idr, n == 0, "picture {n}");
    }
}

#[test]
fn a_change_of_size_begins_with_an_idr_and_decodes_without_a_gap() {
    let (mut encoder, mut decoder) = (encoder(), Decoder::new().unwrap());
    for (width, height) in [(640, 480), (320, 240), (1280, 720), (640, 480)] {
        for n in 0..3 {
            let encoded = encoder.encode(&picture(n, width, height), false).unwrap();
            assert_eq!(encoded.idr, n == 0);
            assert_eq!(decoder.decode(&encoded.data).unwrap().expect("no gap").dimensions(), (width, height));
        }
    }
}

#[test]
fn an_odd_side_loses_its_last_row_or_column() {
    for (width, height) in [(321, 240), (320, 241), (323, 243)] {
        let (mut encoder, mut decoder) = (encoder(), Decoder::new().unwrap());
        for n in 0..3 {
            let original = picture(n, width, height);
            let encoded = encoder.encode(&original, false).unwrap();
            let decoded = decoder.decode(&encoded.data).unwrap().unwrap();
            assert_eq!(decoded.dimensions(), (width & !1, height & !1));
            let quality = luma_psnr(&original, &decoded);
            assert!(quality > 30.0, "{width}×{height}: {quality:.1} dB");
        }
    }
}

#[test]
fn a_size_beyond_the_codec_is_refused_and_the_encoder_lives_on() {
    let mut encoder = encoder();
    for (width, height) in [(1, 1), (14, 400), (17, 15), (3842, 100), (2400, 2400)] {
        let error = encoder.encode(&I420Frame::black(width, height), false).unwrap_err();
        assert!(matches!(error, EncodeError::UnsupportedSize(..)), "{width}×{height}: {error}");
    }
    assert!(encoder.prewarm(0, 0).is_err());
    for (width, height) in [(16, 16), (34, 18), (160, 2160)] {
        assert!(encoder.encode(&picture(0, width, height), false).unwrap().idr, "{width}×{height}");
    }
}

#[test]
fn the_bitrate_follows_at_run_time_up_and_down() {
    let mut encoder = H264Encoder::new(Config { bitrate_kbps: Some(800), ..Config::default() });
    let mut n = 0;
    let mut bps_at = |encoder: &mut H264Encoder, settle: usize| {
        let pictures = 60;
        let mut bytes = 0;
        for k in 0..settle + pictures {
            let len = encoder.encode(&picture(n, 640, 480), false).unwrap().data.len();
            n += 1;
            bytes += if k < settle { 0 } else { len };
        }
        bytes * 8 * 30 / pictures
    };
    let first = bps_at(&mut encoder, 30);
    encoder.set_bitrate(4_000_000).unwrap();
    let raised = bps_at(&mut encoder, 30);
    encoder.set_bitrate(400_000).unwrap();
    let lowered = bps_at(&mut encoder, 60);
    println!("{first} → {raised} → {lowered} bit/s");
    assert!((500_000..1_200_000).contains(&first), "{first}");
    assert!(raised > 2_400_000, "{raised}");
    assert!(lowered < 700_000, "{lowered}");
    encoder.encode(&picture(0, 320, 240), false).unwrap();
    assert_eq!(encoder.bitrate, Some(400_000), "a change of size keeps it");
}

#[test]
fn no_bitrate_within_the_bounds_is_refused() {
    let mut encoder = encoder();
    encoder.encode(&picture(0, 16, 16), false).unwrap();
    for bps in [30_343_419, 16_777_217, 39_999_999, 33_554_433, 100_001, 0, u32::MAX] {
        encoder.set_bitrate(bps).unwrap();
        encoder.encode(&picture(1, 16, 16), false).unwrap();
    }
}

#[test]
fn the_first_picture_after_prewarming_is_an_idr_that_stands_alone() {
    let (mut encoder, mut decoder) = (encoder(), Decoder::new().unwrap());
    encoder.set_bitrate(1_000_000).unwrap();
    encoder.prewarm(640, 480).unwrap();
    encoder.prewarm(640, 480).unwrap();
    let original = picture(0, 640, 480);
    let encoded = encoder.encode(&original, false).unwrap();
    assert!(encoded.idr);
    assert!(luma_psnr(&original, &decoder.decode(&encoded.data).unwrap().unwrap()) > 28.0);
    assert!(!encoder.encode(&picture(1, 640, 480), false).unwrap().idr);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_picture_of_any_size_is_encoded_or_refused(width in 1usize..90, height in 1usize..90, fill in any::<[u8; 3]>(), bps in prop_oneof![any::<u32>(), 0..45_000_000u32]) {
        let mut encoder = encoder();
        let mut frame = I420Frame::black(width, height);
        let (y, u, v) = frame.planes_mut();
        for (plane, value) in [(y, fill[0]), (u, fill[1]), (v, fill[2])] { plane.fill(value); }
        let fits = width >= 16 && height >= 16;
        prop_assert_eq!(encoder.encode(&frame, false).is_ok(), fits);
        prop_assert!(encoder.set_bitrate(bps).is_ok());
        prop_assert_eq!(encoder.encode(&frame, true).is_ok_and(|encoded| encoded.idr), fits);
    }
}
