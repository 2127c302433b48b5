//! The images are 63×47 pixels in four fields of one colour each, made by Pillow at quality 90 (grey: the same by
//! `convert("L")`).

use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::decode::VideoDecoder;
use crate::media::{KeyframeRequest, Plane, VideoCodec};

const IMAGE_420: &[u8] = include_bytes!("../../tests/data/jpeg/420.jpg");
const IMAGE_422: &[u8] = include_bytes!("../../tests/data/jpeg/422.jpg");
const IMAGE_444: &[u8] = include_bytes!("../../tests/data/jpeg/444.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("../../tests/data/jpeg/progressive.jpg");
const GREY: &[u8] = include_bytes!("../../tests/data/jpeg/grey.jpg");
const CMYK: &[u8] = include_bytes!("../../tests/data/jpeg/cmyk.jpg");

/// The fields' colours, in reading order.
const FIELDS: [[f64; 3]; 4] = [[200.0, 40.0, 30.0], [30.0, 180.0, 60.0], [40.0, 60.0, 210.0], [230.0, 220.0, 90.0]];

fn unit(data: &[u8]) -> AccessUnit {
    let now = Instant::now();
    AccessUnit {
        codec: VideoCodec::Jpeg,
        data: Bytes::copy_from_slice(data),
        rtp_timestamp: 77,
        idr: true,
        first_packet: now,
        last_packet: now,
        captured: None,
    }
}

fn decode(data: &[u8]) -> Result<I420Frame, DecodeError> {
    let picture = MjpegDecoder::new().decode(&unit(data), &FramePool::new())?;
    Ok(picture.expect("an image is a picture").picture)
}

/// BT.601 in limited range, from full-range RGB (ITU-R BT.601 §2.5).
fn limited([r, g, b]: [f64; 3]) -> [f64; 3] {
    let luma = 0.299 * r + 0.587 * g + 0.114 * b;
    let (cb, cr) = ((b - luma) / 1.772, (r - luma) / 1.402);
    [16.0 + luma * 219.0 / 255.0, 128.0 + cb * 224.0 / 255.0, 128.0 + cr * 224.0 / 255.0]
}

/// The samples in the middle of each field.
fn fields(frame: &I420Frame) -> [[f64; 3]; 4] {
    let sample = |plane: Plane, x: usize, y: usize| f64::from(frame.plane(plane)[y * frame.plane_size(plane).0 + x]);
    [(16, 12), (48, 12), (16, 36), (48, 36)]
        .map(|(x, y)| [sample(Plane::Y, x, y), sample(Plane::U, x / 2, y / 2), sample(Plane::V, x / 2, y / 2)])
}

#[test]
fn every_subsampling_gives_the_colours_in_limited_range() {
    for (name, image) in
        [("4:2:0", IMAGE_420), ("4:2:2", IMAGE_422), ("4:4:4", IMAGE_444), ("progressive", PROGRESSIVE)]
    {
        let frame = decode(image).unwrap();
        assert_eq!((frame.width(), frame.height()), (63, 47));
        for (got, rgb) in fields(&frame).into_iter().zip(FIELDS) {
            for (got, wanted) in got.into_iter().zip(limited(rgb)) {
                assert!((got - wanted).abs() <= 3.0, "{name} {rgb:?}: {got} instead of {wanted}");
            }
        }
    }
}

#[test]
fn a_grey_image_has_no_colour() {
    let frame = decode(GREY).unwrap();
    for (got, rgb) in fields(&frame).into_iter().zip(FIELDS) {
        assert!((got[0] - limited(rgb)[0]).abs() <= 3.0);
    }
    let (_, u, v) = frame.planes();
    assert!(u.iter().chain(v).all(|&sample| sample == 128));
}

/// The image without its Huffman tables.
fn without_tables(image: &[u8]) -> Vec<u8> {
    let mut out = image.to_vec();
    while let Some(at) = out.windows(2).position(|marker| marker == [0xff, 0xc4]) {
        let length = usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]]));
        out.drain(at..at + 2 + length);
    }
    out
}

#[test]
fn an_image_without_huffman_tables_means_those_of_the_standard() {
    for image in [IMAGE_420, GREY] {
        let stripped = without_tables(image);
        assert!(stripped.len() < image.len() && !Headers::read(&stripped).unwrap().huffman_tables);
        assert_eq!(decode(&stripped).unwrap().planes(), decode(image).unwrap().planes());
    }
}

#[test]
fn an_image_that_is_cut_off_is_broken_wherever_it_is_cut() {
    for image in [IMAGE_420, IMAGE_444, PROGRESSIVE, GREY] {
        for len in 0..image.len() - 1 {
            let error = decode(&image[..len]).map(drop).expect_err("cut off");
            assert!(!error.ends_stream(), "{len} of {} bytes: {error}", image.len());
        }
    }
}

#[test]
fn what_the_transport_leaves_behind_an_image_is_no_matter() {
    let padded = [IMAGE_420, b"\r\n\0\0"].concat();
    assert_eq!(decode(&padded).unwrap().planes(), decode(IMAGE_420).unwrap().planes());
}

/// The image with another size in its frame header.
fn resized(image: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut out = image.to_vec();
    let at = out.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    out[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    out[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    out
}

#[test]
fn a_size_that_the_bytes_cannot_hold_is_refused_before_anything_is_made_for_it() {
    for (width, height) in [(8192, 8192), (65_535, 65_535), (8193, 8), (0, 47), (63, 0), (4096, 4096)] {
        let mut decoder = MjpegDecoder::new();
        let error = decoder.decode(&unit(&resized(IMAGE_420, width, height)), &FramePool::new()).unwrap_err();
        assert!(!error.ends_stream(), "{error}");
        assert_eq!(decoder.pixels.capacity(), 0, "{width}×{height}");
    }
}

#[test]
fn what_can_never_be_decoded_says_what_to_do() {
    let lossless: Vec<u8> = {
        let mut out = IMAGE_420.to_vec();
        let at = out.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        out[at + 1] = 0xc3;
        out
    };
    for (image, reason) in [(CMYK, "YCbCr"), (&lossless[..], "baseline JPEG")] {
        match decode(image) {
            Err(DecodeError::Unsupported(what)) => assert!(what.contains(reason), "{what}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn a_stream_of_images_goes_on_at_the_next_whole_one() {
    let mut decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
    assert!(decoder.decode(&unit(IMAGE_420)).unwrap().is_some());
    assert!(decoder.decode(&unit(&IMAGE_420[..700])).is_err());
    assert!(decoder.decode(&unit(IMAGE_444)).unwrap().is_some());
    let info = decoder.info().unwrap();
    assert_eq!((info.codec, info.profile, info.width, info.height), (VideoCodec::Jpeg, "Baseline", 63, 47));
    assert!(!decoder.reorders() && info.level.is_none());
}

proptest! {
    #[test]
    fn damage_never_panics_and_never_changes_the_size_in_secret(
        which in 0usize..4, at in 0.0f64..1.0, bytes in prop::collection::vec(any::<u8>(), 1..6),
    ) {
        let mut image = [IMAGE_420, IMAGE_444, PROGRESSIVE, GREY][which].to_vec();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (at * image.len() as f64) as usize;
        for (byte, new) in image[at..].iter_mut().zip(bytes) {
            *byte = new;
        }
        if let Ok(frame) = decode(&image) {
            let headers = Headers::read(&image).unwrap();
            prop_assert_eq!((frame.width(), frame.height()), (headers.width.into(), headers.height.into()));
        }
    }

    #[test]
    fn garbage_behind_a_plausible_beginning_never_panics(tail in prop::collection::vec(prop_oneof![Just(0xffu8), 0xc0u8..0xe0, any::<u8>()], 0..300)) {
        let scan = Headers::read(IMAGE_420).unwrap().scan;
        for keep in [2, 20, scan, scan + 14] {
            let _ = decode(&[&IMAGE_420[..keep], &tail, &[0xff, 0xd9]].concat());
        }
    }
}
