//! Streams that need FFmpeg, decoded by it: `cargo nextest run --features ffmpeg --test ffmpeg`. They are made by the `ffmpeg`
//! command, and every picture is compared with the one that was encoded.

use bytes::Bytes;
use proptest::prelude::*;
use sightline::decode::{Decoder, FfmpegDecoder, Picture, StreamInfo, VideoDecoder, ffmpeg_version};
use sightline::encode::{Config, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest, Plane, VideoCodec};

#[path = "support/coded.rs"]
mod coded;
#[path = "support/scene.rs"]
mod scene;

use coded::{H265, HIGH_10, HIGH_422, INTERLACED, Stream, h265, picture, units};

fn decoder() -> VideoDecoder {
    VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored())
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / error.max(1e-9)).log10()
}

fn assert_like(n: usize, got: &I420Frame, least: f64) {
    let original = picture(n);
    assert_eq!((got.width(), got.height()), coded::SIZE);
    for plane in [Plane::Y, Plane::U, Plane::V] {
        let quality = psnr(original.plane(plane), got.plane(plane));
        assert!(quality > least, "picture {n} {plane:?}: {quality:.1} dB");
    }
}

/// Every unit gives its own picture at once, like the one that was encoded.
fn decodes_without_delay(stream: Stream, least: f64) -> StreamInfo {
    let mut decoder = decoder();
    for (n, unit) in units(stream, 24).iter().enumerate() {
        let picture = decoder.decode(unit).unwrap().unwrap_or_else(|| panic!("{stream:?}: no picture for unit {n}"));
        assert_eq!(picture.rtp_timestamp, unit.rtp_timestamp);
        assert_like(n, &picture.picture, least);
    }
    assert!(!decoder.reorders());
    decoder.info().expect("the headers were read")
}

#[test]
fn it_is_built_in() {
    assert!(ffmpeg_version().is_some_and(|version| version.starts_with("libavcodec ")));
}

#[test]
fn h265_is_decoded() {
    let info = decodes_without_delay(H265, 38.0);
    assert_eq!((info.codec, info.profile, info.bit_depth), (VideoCodec::H265, "Main", 8));
    assert_eq!((info.width, info.height, info.interlaced), (320, 240, false));
}

#[test]
fn h265_of_10_bits_comes_out_in_8() {
    const MAIN_10: Stream =
        h265("-pix_fmt yuv420p10le -x265-params log-level=none:aud=1:repeat-headers=1:bframes=0:keyint=12");
    let info = decodes_without_delay(MAIN_10, 38.0);
    assert_eq!((info.profile, info.bit_depth), ("Main 10", 10));
}

#[test]
fn interlaced_h264_is_decoded() {
    let info = decodes_without_delay(INTERLACED, 38.0);
    assert!(info.interlaced && info.codec == VideoCodec::H264);
}

#[test]
fn h264_of_10_bits_and_of_finer_chroma_is_decoded() {
    let info = decodes_without_delay(HIGH_10, 38.0);
    assert_eq!((info.profile, info.bit_depth), ("High 10", 10));
    let info = decodes_without_delay(HIGH_422, 38.0);
    assert_eq!((info.profile, info.bit_depth), ("High 4:2:2", 8));
}

#[test]
fn full_range_comes_out_in_limited_range() {
    const FULL: Stream = h265(
        "-vf scale=in_range=limited:out_range=full -pix_fmt yuvj420p -color_range pc \
         -x265-params log-level=none:aud=1:repeat-headers=1:bframes=0:keyint=12:range=full",
    );
    decodes_without_delay(FULL, 38.0);
}

#[test]
fn reordered_pictures_come_in_the_order_of_presentation_each_once() {
    const REORDERED: Stream =
        h265("-pix_fmt yuv420p -x265-params log-level=none:aud=1:repeat-headers=1:bframes=3:keyint=24");
    let mut decoder = decoder();
    let mut pictures: Vec<Picture> = Vec::new();
    // As a camera stamps them: by the order of presentation, which the decoder finds by itself.
    for unit in &units(REORDERED, 24) {
        pictures.extend(FirstCome(&mut decoder).decode(unit));
    }
    pictures.extend(std::iter::from_fn(|| decoder.flush()));
    assert!(decoder.reorders());
    assert!(pictures.len() >= 22, "{}", pictures.len());
    for (n, picture) in pictures.iter().enumerate() {
        assert_like(n, &picture.picture, 34.0);
    }
}

/// A decoder that is given units stamped in decoding order: a picture that is late by its stamp is not late in truth, so all
/// are given the same one.
struct FirstCome<'a>(&'a mut VideoDecoder);

impl FirstCome<'_> {
    fn decode(&mut self, unit: &AccessUnit) -> Option<Picture> {
        self.0.decode(&AccessUnit { rtp_timestamp: 0, ..unit.clone() }).unwrap()
    }
}

#[test]
fn after_a_loss_nothing_is_shown_before_the_next_idr() {
    for stream in [H265, INTERLACED] {
        let units = units(stream, 24);
        let mut decoder = decoder();
        let mut shown = Vec::new();
        for (n, unit) in units.iter().enumerate() {
            if n == 5 {
                decoder.unit_lost(unit.first_packet);
            } else if let Ok(Some(picture)) = decoder.decode(unit) {
                shown.push(picture.rtp_timestamp / 3000);
                assert_like(n, &picture.picture, 38.0);
            }
        }
        assert_eq!(shown, (0..5).chain(12..24).collect::<Vec<u32>>(), "{stream:?}");
        assert_eq!(decoder.stats().keyframe_requests, 1);
    }
}

/// In H.265 FFmpeg does not tell.
#[test]
fn an_h264_unit_that_is_cut_short_is_noticed_and_costs_the_group() {
    let mut units = units(INTERLACED, 24);
    units[4].data = units[4].data.slice(..units[4].data.len() / 2);
    let mut decoder = decoder();
    let shown: Vec<u32> =
        units.iter().filter_map(|unit| decoder.decode(unit).ok().flatten()).map(|p| p.rtp_timestamp / 3000).collect();
    assert_eq!(shown, (0..4).chain(12..24).collect::<Vec<u32>>());
    assert_eq!(decoder.stats().broken, 1);
}

#[test]
fn a_camera_may_change_between_codecs() {
    let mut camera = H264Encoder::new(Config::default());
    let now = std::time::Instant::now();
    let mut plain = |rtp_timestamp| {
        let encoded = camera.encode(&picture(0), true).unwrap();
        let (data, idr) = (encoded.data, encoded.idr);
        AccessUnit {
            codec: VideoCodec::H264,
            data,
            rtp_timestamp,
            idr,
            first_packet: now,
            last_packet: now,
            captured: None,
        }
    };
    let stamped = |stream, rtp_timestamp| AccessUnit { rtp_timestamp, ..units(stream, 1).remove(0) };
    let stream = [plain(0), stamped(H265, 1), stamped(INTERLACED, 2), plain(3), stamped(HIGH_10, 4)];
    let mut decoder = decoder();
    for unit in &stream {
        let picture = decoder.decode(unit).unwrap().expect("an IDR stands alone");
        assert_eq!(picture.rtp_timestamp, unit.rtp_timestamp);
        assert_like(0, &picture.picture, 30.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damage_never_panics_and_the_next_idr_is_shown(victim in 0usize..12, at in 0.0f64..1.0, bytes in prop::collection::vec(any::<u8>(), 1..8), interlaced in any::<bool>()) {
        static STREAMS: std::sync::OnceLock<[Vec<AccessUnit>; 2]> = std::sync::OnceLock::new();
        let streams = STREAMS.get_or_init(|| [units(H265, 13), units(INTERLACED, 13)]);
        let mut units = streams[usize::from(interlaced)].clone();
        let mut data = units[victim].data.to_vec();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (at * data.len() as f64) as usize;
        for (byte, new) in data[at..].iter_mut().zip(bytes) {
            *byte = new;
        }
        units[victim].data = Bytes::from(data);
        let mut decoder = decoder();
        let mut last = None;
        for unit in &units {
            match decoder.decode(unit) {
                Ok(picture) => last = picture,
                // A damaged parameter set may name a stream that nothing decodes.
                Err(error) if error.ends_stream() => return Ok(()),
                Err(_) => last = None,
            }
        }
        let picture = last.expect("an IDR stands alone");
        prop_assert_eq!(picture.rtp_timestamp, units[12].rtp_timestamp);
        assert_like(12, &picture.picture, 38.0);
    }

    #[test]
    fn garbage_never_panics(data in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), Just(0x42), Just(0x26), any::<u8>()], 0..300), h265 in any::<bool>()) {
        let codec = if h265 { VideoCodec::H265 } else { VideoCodec::H264 };
        let now = std::time::Instant::now();
        let unit = AccessUnit { codec, data: Bytes::from(data), rtp_timestamp: 0, idr: true, first_packet: now, last_packet: now, captured: None };
        let mut decoder = FfmpegDecoder::new(codec).unwrap();
        let _ = decoder.decode(&unit, &FramePool::new());
        while decoder.flush().is_some() {}
    }
}
