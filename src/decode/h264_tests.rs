//! Streams are made by openh264's own encoder; those that it cannot make (B slices) come from `shared/media`.

use std::time::Instant;

use ::openh264::OpenH264API;
use ::openh264::encoder::{
    BitRate, Encoder, EncoderConfig, FrameRate, FrameType, Profile, QpRange, RateControlMode, VuiConfig,
};
use ::openh264::formats::YUVSlices;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::decode::VideoDecoder;
use crate::media::{I420Frame, KeyframeRequest, Plane, VideoCodec};

#[allow(clippy::duplicate_mod)] // the rooms do not know each other, nor do their tests
#[path = "../../tests/support/scene.rs"]
mod scene;

fn picture(n: usize, width: usize, height: usize) -> I420Frame {
    let mut frame = I420Frame::black(width, height);
    scene::draw_scene(n, width, height, frame.planes_mut());
    frame
}

struct Camera {
    encoder: Encoder,
    sent: u32,
}

impl Camera {
    fn new(config: EncoderConfig) -> Self {
        let config = config
            .bitrate(BitRate::from_bps(1_500_000))
            .rate_control_mode(RateControlMode::Bitrate)
            .max_frame_rate(FrameRate::from_hz(30.0))
            .skip_frames(false)
            .scene_change_detect(false)
            .num_threads(1);
        Self { encoder: Encoder::with_api_config(OpenH264API::from_source(), config).unwrap(), sent: 0 }
    }

    fn unit(&mut self, width: usize, height: usize) -> AccessUnit {
        let frame = picture(self.sent as usize, width, height);
        let source = YUVSlices::new(frame.planes(), (width, height), (width, width / 2, width / 2));
        let encoded = self.encoder.encode(&source).unwrap();
        let idr = encoded.frame_type() == FrameType::IDR;
        let unit = unit(encoded.to_vec(), self.sent * 3000, idr);
        self.sent += 1;
        unit
    }

    fn units(&mut self, count: usize, width: usize, height: usize) -> Vec<AccessUnit> {
        (0..count).map(|_| self.unit(width, height)).collect()
    }
}

fn unit(data: Vec<u8>, rtp_timestamp: u32, idr: bool) -> AccessUnit {
    let now = Instant::now();
    AccessUnit {
        codec: VideoCodec::H264,
        data: Bytes::from(data),
        rtp_timestamp,
        idr,
        first_packet: now,
        last_packet: now,
        captured: None,
    }
}

fn baseline() -> Camera {
    Camera::new(EncoderConfig::new().profile(Profile::Baseline))
}

fn decoder() -> VideoDecoder {
    VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap()
}

/// The timestamps of the pictures that the units become, in order.
fn shown(decoder: &mut VideoDecoder, units: &[AccessUnit]) -> Vec<u32> {
    let decoded =
        units.iter().filter_map(|unit| decoder.decode(unit).inspect_err(|error| println!("{error}")).ok().flatten());
    decoded.map(|picture| picture.rtp_timestamp).collect()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / error.max(1e-9)).log10()
}

#[test]
fn every_unit_without_b_slices_gives_its_own_picture_at_once() {
    for profile in [Profile::Baseline, Profile::Main, Profile::High] {
        let mut camera = Camera::new(EncoderConfig::new().profile(profile));
        let (pool, mut decoder) = (FramePool::new(), H264Decoder::new().unwrap());
        for n in 0..40 {
            let unit = camera.unit(320, 240);
            let picture = decoder.decode(&unit, &pool).unwrap().expect("no delay");
            assert_eq!(picture.rtp_timestamp, unit.rtp_timestamp);
            assert_eq!(picture.last_packet, unit.last_packet);
            let original = super::tests::picture(n, 320, 240);
            for plane in [Plane::Y, Plane::U, Plane::V] {
                let quality = psnr(original.plane(plane), picture.picture.plane(plane));
                assert!(quality > 30.0, "{profile:?} picture {n} {plane:?}: {quality:.1} dB");
            }
        }
    }
}

#[test]
fn a_missing_unit_is_noticed_and_no_picture_is_shown_until_the_next_idr() {
    let mut camera = baseline();
    let mut units = camera.units(10, 320, 240);
    camera.encoder.force_intra_frame();
    units.extend(camera.units(5, 320, 240));
    units.remove(4);
    let mut decoder = decoder();
    let pictures = shown(&mut decoder, &units);
    let expected: Vec<u32> = [0, 1, 2, 3, 10, 11, 12, 13, 14].map(|n| n * 3000).into();
    assert_eq!(pictures, expected);
    assert_eq!((decoder.stats().broken, decoder.stats().keyframe_requests), (1, 1));
}

#[test]
fn a_picture_with_a_missing_slice_is_never_shown() {
    let mut camera =
        Camera::new(EncoderConfig::new().profile(Profile::Baseline).max_slice_len(1000).qp(QpRange::new(8, 16)));
    let mut units = camera.units(3, 320, 240);
    let tails: Vec<&[u8]> = nal_tails(&units[2].data).collect();
    assert!(tails.len() > 2, "the test needs several slices");
    let cut = units[2].data.len() - tails.last().unwrap().len() - 4;
    units[2].data = units[2].data.slice(..cut);
    let mut decoder = decoder();
    assert_eq!(shown(&mut decoder, &units), [0, 3000]);
    assert_eq!(decoder.stats().broken, 1);
    camera.encoder.force_intra_frame();
    let next = camera.unit(320, 240);
    assert_eq!(shown(&mut decoder, &[next]), [9000]);
}

#[test]
fn the_size_may_change_in_mid_stream() {
    for profile in [Profile::Baseline, Profile::High] {
        let mut camera = Camera::new(EncoderConfig::new().profile(profile));
        let mut decoder = decoder();
        for (width, height) in [(640, 480), (320, 240), (1280, 720), (322, 182)] {
            for n in 0..3 {
                let unit = camera.unit(width, height);
                assert_eq!(unit.idr, n == 0);
                let picture = decoder.decode(&unit).unwrap().expect("no gap").picture;
                assert_eq!((picture.width(), picture.height()), (width, height));
            }
        }
    }
}

#[test]
fn a_stream_that_cannot_be_decoded_ends_with_the_reason() {
    for (hex, reason) in [
        ("6764001eace40281ed8088000003000800000301e0f8a15240", "interlaced"),
        ("676e001ea6cb201407b60220000003002000000781e2c5c9", "10 bits"),
        ("677a001ebcb201407b6022000003000200000300781e2c5c90", "4:2:0"),
    ] {
        let sps = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        let data: Vec<u8> = [0, 0, 0, 1].into_iter().chain(sps).chain([0, 0, 1, 0x65, 0x88]).collect();
        match decoder().decode(&unit(data, 0, true)) {
            Err(DecodeError::Unsupported(what)) => assert!(what.contains(reason), "{what}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn a_unit_without_a_picture_is_no_loss() {
    let mut camera = baseline();
    let units = camera.units(3, 320, 240);
    let mut decoder = decoder();
    assert_eq!(shown(&mut decoder, &units[..2]), [0, 3000]);
    let sei = unit(vec![0, 0, 0, 1, 0x06, 0x05, 0x01, 0x00, 0x80], 4000, false);
    assert!(decoder.decode(&sei).unwrap().is_none());
    assert_eq!(shown(&mut decoder, &units[2..]), [6000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damage_never_panics_and_the_next_idr_is_shown_whole(
        victim in 0usize..6, at in 0.0f64..1.0, mask in 1u8.., truncate in any::<bool>(),
    ) {
        let mut camera = baseline();
        let mut units = camera.units(6, 160, 120);
        camera.encoder.force_intra_frame();
        let idr = camera.unit(160, 120);
        let mut data = units[victim].data.to_vec();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (at * data.len() as f64) as usize;
        if truncate { data.truncate(at) } else { data[at] ^= mask }
        units[victim].data = Bytes::from(data);
        let mut decoder = decoder();
        shown(&mut decoder, &units);
        let mut clean = H264Decoder::new().unwrap();
        let pool = FramePool::new();
        let expected = clean.decode(&idr, &pool).unwrap().unwrap().picture;
        let picture = decoder.decode(&idr).unwrap().expect("an IDR stands alone").picture;
        prop_assert_eq!(picture.planes(), expected.planes());
    }

    #[test]
    fn garbage_never_panics(data in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), Just(0x65), Just(0x67), any::<u8>()], 0..300), idr in any::<bool>()) {
        let (pool, mut decoder) = (FramePool::new(), H264Decoder::new().unwrap());
        let _ = decoder.decode(&unit(data, 0, idr), &pool);
        while decoder.flush().is_some() {}
    }
}

/// 64×48, 24 pictures in two closed groups with a B pyramid, made by `ffmpeg -f lavfi -i testsrc2=s=64x48:r=30
/// -frames:v 24 -c:v libx264 -profile:v high -bf 2 -b_strategy 0 -g 12 -x264-params b-pyramid=normal:scenecut=0:aud=1`.
const B_SLICES: &[u8] = include_bytes!("../../tests/data/b_slices_64x48.h264");

/// When the pictures of `B_SLICES` are shown, in decoding order.
const SHOWN_AT: [u32; 24] = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 11, 10, 12, 15, 13, 14, 18, 16, 17, 21, 19, 20, 23, 22];

/// The units of `B_SLICES`, with another SPS where one is given.
fn reordered_units(sps: Option<&[u8]>) -> Vec<AccessUnit> {
    let mut units: Vec<(Vec<u8>, bool)> = Vec::new();
    for tail in nal_tails(B_SLICES) {
        let nal = bounded(tail);
        match nal_type(nal) {
            Some(nal::AUD) => units.push((Vec::new(), false)),
            Some(IDR) => units.last_mut().unwrap().1 = true,
            _ => {}
        }
        let nal = sps.filter(|_| nal_type(nal) == Some(nal::SPS)).unwrap_or(nal);
        units.last_mut().unwrap().0.extend([&[0, 0, 0, 1], nal].concat());
    }
    assert_eq!(units.len(), SHOWN_AT.len());
    units.into_iter().zip(SHOWN_AT).map(|((data, idr), at)| unit(data, at * 3000, idr)).collect()
}

#[test]
fn pictures_with_b_slices_come_in_the_order_of_presentation_with_their_own_timestamps() {
    let mut decoder = decoder();
    let mut pictures = shown(&mut decoder, &reordered_units(None));
    assert!(pictures.len() >= 22, "at most two pictures of delay: {}", pictures.len());
    pictures.extend(std::iter::from_fn(|| decoder.flush()).map(|picture| picture.rtp_timestamp));
    assert_eq!(pictures, (0..24).map(|n| n * 3000).collect::<Vec<u32>>());
}

/// The SPS of `B_SLICES` without its VUI.
const SPS_WITHOUT_VUI: [u8; 8] = [0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x44, 0x79];

#[test]
fn b_slices_that_were_not_announced_lose_no_picture() {
    let mut decoder = decoder();
    let mut pictures = shown(&mut decoder, &reordered_units(Some(&SPS_WITHOUT_VUI)));
    pictures.extend(std::iter::from_fn(|| decoder.flush()).map(|picture| picture.rtp_timestamp));
    assert_eq!(pictures, (0..24).map(|n| n * 3000).collect::<Vec<u32>>());
}

#[test]
fn a_stream_that_might_have_b_slices_and_has_none_is_soon_without_delay() {
    let mut decoder = H264Decoder::new().unwrap();
    decoder.on_sps(&SPS_WITHOUT_VUI).unwrap();
    let mut delays = Vec::new();
    for n in 0..30 {
        decoder.doubt(false);
        let now = Instant::now();
        let picture = I420Frame::black(2, 2);
        let picture = Picture { picture, rtp_timestamp: n, first_packet: now, last_packet: now, captured: None };
        delays.extend(decoder.reorder.put(picture, n == 0, false).map(|shown| n - shown.rtp_timestamp));
    }
    assert_eq!(delays.first(), Some(&2));
    assert!(delays.len() >= 26 && delays[delays.len() - 14..].iter().all(|&delay| delay == 0), "{delays:?}");
}

#[test]
fn a_loss_among_b_slices_resumes_at_the_next_idr_without_old_pictures() {
    let mut units = reordered_units(None);
    units.remove(4);
    let mut decoder = decoder();
    let mut pictures = shown(&mut decoder, &units);
    pictures.extend(std::iter::from_fn(|| decoder.flush()).map(|picture| picture.rtp_timestamp));
    let resumed = pictures.iter().position(|&at| at >= 12 * 3000).unwrap();
    assert_eq!(pictures[resumed..], (12..24).map(|n| n * 3000).collect::<Vec<u32>>());
    assert!(pictures[..resumed].iter().all(|&at| at <= 3 * 3000), "{pictures:?}");
}

#[test]
fn what_a_stream_is_stands_in_its_headers() {
    let mut decoder = decoder();
    assert_eq!((decoder.info(), decoder.reorders()), (None, false));
    let units = reordered_units(None);
    decoder.decode(&units[0]).unwrap();
    let info = decoder.info().unwrap();
    assert_eq!((info.codec, info.profile, info.level), (VideoCodec::H264, "High", Some(1.0)));
    assert_eq!((info.width, info.height, info.bit_depth, info.interlaced), (64, 48, 8, false));
    assert!(!decoder.reorders(), "no B slice yet");
    shown(&mut decoder, &units[1..]);
    assert!(decoder.reorders());
    decoder.reset();
    assert_eq!((decoder.info(), decoder.reorders()), (None, false));
    shown(&mut decoder, &baseline().units(3, 320, 240));
    let info = decoder.info().unwrap();
    assert_eq!((info.profile, info.width, info.height, info.reorders), ("Constrained Baseline", 320, 240, false));
}

#[test]
fn a_stream_may_change_its_codec_and_change_back() {
    let mut camera = baseline();
    let mut units = camera.units(2, 320, 240);
    let image = include_bytes!("../../tests/data/jpeg/420.jpg").to_vec();
    units.push(AccessUnit { codec: VideoCodec::Jpeg, ..unit(image, 6000, true) });
    units.push(camera.unit(320, 240));
    camera.encoder.force_intra_frame();
    units.push(AccessUnit { rtp_timestamp: 12_000, ..camera.unit(320, 240) });
    let mut decoder = decoder();
    assert_eq!(
        shown(&mut decoder, &units),
        [0, 3000, 6000, 12_000],
        "the unit behind the change has lost its reference"
    );
}

#[test]
fn a_stream_of_another_epoch_resumes_at_its_idr() {
    let units = reordered_units(None);
    let mut decoder = decoder();
    shown(&mut decoder, &units[..6]);
    decoder.reset();
    assert!(decoder.flush().is_none(), "no picture of before");
    let mut pictures = shown(&mut decoder, &units);
    pictures.extend(std::iter::from_fn(|| decoder.flush()).map(|picture| picture.rtp_timestamp));
    assert_eq!(pictures, (0..24).map(|n| n * 3000).collect::<Vec<u32>>());
}

#[test]
fn full_range_comes_out_in_limited_range() {
    let units = |full_range| {
        let vui = VuiConfig::bt709().full_range(full_range);
        Camera::new(EncoderConfig::new().profile(Profile::Main).vui(vui)).units(3, 320, 240)
    };
    let (plain, said) = (units(false), units(true));
    let (mut as_it_is, mut limited) = (decoder(), decoder());
    for (plain, said) in plain.iter().zip(&said) {
        let full = as_it_is.decode(plain).unwrap().unwrap().picture;
        let limited = limited.decode(said).unwrap().unwrap().picture;
        for (plane, scale, centre, base) in
            [(Plane::Y, 219.0, 0.0, 16.0), (Plane::U, 224.0, 128.0, 128.0), (Plane::V, 224.0, 128.0, 128.0)]
        {
            for (&full, &limited) in full.plane(plane).iter().zip(limited.plane(plane)) {
                let wanted = base + (f64::from(full) - centre) * scale / 255.0;
                assert!((f64::from(limited) - wanted).abs() <= 0.5, "{plane:?}: {full} became {limited}");
            }
        }
    }
}
