//! The whole path against the exact network inputs of the reference, and against bad pictures.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::detect::{Fit, InputSize, Manifest};

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("SIGHTLINE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let found = folder.join("media/reference/stage").is_dir().then_some(folder);
    if found.is_none() {
        println!("skipped: no shared media (set SIGHTLINE_SHARED)");
    }
    found
}

fn rgb(path: PathBuf) -> (Vec<u8>, usize, usize) {
    let image = image::open(path).unwrap().into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    (image.into_raw(), width, height)
}

fn fixed(width: usize, height: usize, fit: Fit, pad: u8, colour: Colour) -> InputSpec {
    InputSpec {
        size: InputSize::Fixed { width, height },
        fit,
        pad,
        interpolation: Interpolation::Linear,
        colour,
        layout: None,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

fn manifest(name: &str) -> InputSpec {
    Manifest::shipped(name).unwrap().unwrap().input
}

#[test]
fn the_network_input_is_the_reference_bit_for_bit() {
    let Some(shared) = shared() else { return };
    let (data, width, height) = rgb(shared.join("media/images/coco_000000001000.png"));
    for (name, spec) in [
        ("yolox_nano_416", manifest("yolox-nano")),
        ("light_person_192", manifest("light-person")),
        ("yolo11n_int8_320", fixed(320, 320, Fit::LetterboxCentre, 114, Colour::Rgb)),
        ("yolov10n_fp32deq_640", fixed(640, 640, Fit::LetterboxCentre, 114, Colour::Rgb)),
        ("nanodet_m_320", manifest("nanodet-m")),
        ("picodet_s_320", manifest("picodet-s")),
        ("yunet_n_320", manifest("yunet-n")),
        ("ultraface_rfb_320", manifest("ultraface-320")),
        ("deimv2_atto_320", manifest("deimv2-atto")),
        ("deimv2_femto_416", manifest("deimv2-femto")),
    ] {
        // The stage file holds the samples before the mean goes off.
        let spec = InputSpec { mean: [0.0; 3], std: [1.0; 3], ..spec };
        let stage = shared.join(format!("media/reference/stage/{name}__input_as_fed_channels.png"));
        let (expected, w, h) = rgb(stage);
        let mut preprocessor = Preprocessor::new(spec);
        let input = preprocessor.run(Picture::Rgb { data: &data, width, height }).unwrap();
        assert_eq!((input.width, input.height), (w, h), "{name}");
        // Channel c of the tensor is channel 2 − c of the picture.
        let wrong = (0..3 * w * h)
            .filter(|&at| {
                let (channel, pixel) = (at / (w * h), at % (w * h));
                (input.tensor[at] - f32::from(expected[3 * pixel + 2 - channel])).abs() > 0.0
            })
            .count();
        assert_eq!(wrong, 0, "{name}: {wrong} of {} values differ", 3 * w * h);
    }
}

/// A frame in one colour, except for a white square.
fn frame(width: usize, height: usize) -> I420Frame {
    let mut frame = I420Frame::black(width, height);
    let (y, ..) = frame.planes_mut();
    for row in height / 4..height / 2 {
        y[row * width + width / 4..row * width + width / 2].fill(235);
    }
    frame
}

#[test]
fn a_grey_video_frame_and_the_same_image_give_the_same_input() {
    let (width, height) = (640, 360);
    let frame = frame(width, height);
    let data: Vec<u8> = frame.plane(Plane::Y).iter().flat_map(|&y| [if y > 100 { 255 } else { 0 }; 3]).collect();
    let spec = fixed(416, 416, Fit::LetterboxTopLeft, 114, Colour::Bgr);
    let (mut video, mut image) = (Preprocessor::new(spec), Preprocessor::new(spec));
    let video = video.run(Picture::I420(&frame)).unwrap();
    let image = image.run(Picture::Rgb { data: &data, width, height }).unwrap();
    let worst = video.tensor.iter().zip(image.tensor).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1.0, "{worst}");
}

#[test]
fn the_channels_follow_the_models_order() {
    let data = [10, 20, 30];
    for (colour, expected) in [(Colour::Rgb, [10.0, 20.0, 30.0]), (Colour::Bgr, [30.0, 20.0, 10.0])] {
        let mut preprocessor = Preprocessor::new(fixed(1, 1, Fit::Stretch, 0, colour));
        assert_eq!(preprocessor.run(Picture::Rgb { data: &data, width: 1, height: 1 }).unwrap().tensor, expected);
    }
}

#[test]
fn a_change_of_size_leaves_nothing_of_the_old_picture() {
    let spec = fixed(64, 64, Fit::LetterboxCentre, 114, Colour::Rgb);
    let mut used = Preprocessor::new(spec);
    used.run(Picture::I420(&frame(64, 64))).unwrap();
    let wide = frame(128, 32);
    let mut fresh = Preprocessor::new(spec);
    assert_eq!(used.run(Picture::I420(&wide)).unwrap().tensor, fresh.run(Picture::I420(&wide)).unwrap().tensor);
}

#[test]
fn a_picture_that_does_not_match_its_size_is_refused() {
    let mut preprocessor = Preprocessor::new(fixed(32, 32, Fit::Stretch, 0, Colour::Rgb));
    for (len, width, height) in [(0, 0, 0), (3, 0, 1), (11, 2, 2), (13, 2, 2), (3, usize::MAX, 3), (3, 40_000, 1)] {
        let data = vec![0; len];
        let result = preprocessor.run(Picture::Rgb { data: &data, width, height });
        assert!(matches!(result, Err(DetectError::Frame(_))), "{len} bytes, {width}×{height}");
    }
}

proptest! {
    #[test]
    fn any_size_of_picture_fills_the_input(
        width in 1usize..90, height in 1usize..90, side in 1usize..70, planar: bool,
        fit in prop::sample::select(vec![Fit::Stretch, Fit::LetterboxTopLeft, Fit::LetterboxCentre]),
        interpolation in prop::sample::select(vec![Interpolation::Linear, Interpolation::Cubic]),
    ) {
        let spec = InputSpec { interpolation, ..fixed(side, side, fit, 114, Colour::Rgb) };
        let mut preprocessor = Preprocessor::new(spec);
        let (frame, data) = (frame(width, height), vec![7; width * height * 3]);
        let picture = if planar { Picture::I420(&frame) } else { Picture::Rgb { data: &data, width, height } };
        let input = preprocessor.run(picture).unwrap();
        prop_assert_eq!(input.tensor.len(), 3 * side * side);
        prop_assert!(input.tensor.iter().all(|value| (0.0..=255.0).contains(value)));
    }
}
