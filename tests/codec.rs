//! Decoder, annotator and encoder put together as the video thread does it, on pictures that the test makes itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sightline::annotate::{Annotator, Yuv, colour};
use sightline::decode::VideoDecoder;
use sightline::encode::{Config, Encoder, H264Encoder};
use sightline::media::{AccessUnit, BBox, Detection, FramePool, I420Frame, KeyframeRequest, Plane, VideoCodec};

#[cfg(not(feature = "ffmpeg"))]
#[path = "support/coded.rs"]
mod coded;
#[path = "support/scene.rs"]
mod scene;

fn picture(n: usize, width: usize, height: usize) -> I420Frame {
    let mut frame = I420Frame::black(width, height);
    scene::draw_scene(n, width, height, frame.planes_mut());
    frame
}

fn unit(encoder: &mut H264Encoder, picture: &I420Frame, n: u32) -> AccessUnit {
    let encoded = encoder.encode(picture, false).unwrap();
    let now = Instant::now();
    AccessUnit {
        codec: VideoCodec::H264,
        data: encoded.data,
        rtp_timestamp: n.wrapping_mul(3000),
        idr: encoded.idr,
        first_packet: now,
        last_packet: now,
        captured: None,
    }
}

fn decoder() -> VideoDecoder {
    VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap()
}

fn detection(bbox: BBox, class_id: u32, class_name: &str, confidence: f32, track_id: Option<u64>) -> Detection {
    Detection { bbox, confidence, class_id, class_name: class_name.into(), track_id, ..Detection::default() }
}

/// The mean of the samples of a box's lower edge: what a browser's canvas would be asked for.
fn lower_edge(picture: &I420Frame, bbox: &BBox) -> Yuv {
    let mean = |plane: Plane, half: usize| {
        let stride = picture.plane_size(plane).0;
        let row = (bbox.y2 as usize - 1) / half;
        let samples = &picture.plane(plane)[row * stride..][bbox.x1 as usize / half..bbox.x2 as usize / half];
        u8::try_from(samples.iter().map(|&s| usize::from(s)).sum::<usize>() / samples.len()).unwrap()
    };
    Yuv { y: mean(Plane::Y, 1), u: mean(Plane::U, 2), v: mean(Plane::V, 2) }
}

#[test]
fn a_drawn_box_is_found_again_in_the_viewers_picture_in_its_colour() {
    for (width, height) in [(320, 240), (640, 480), (1280, 720)] {
        let (mut camera, mut encoder) = (H264Encoder::new(Config::default()), H264Encoder::new(Config::default()));
        let (mut server, mut viewer, mut annotator) = (decoder(), decoder(), Annotator::new());
        for n in 0..24u16 {
            let sent = unit(&mut camera, &picture(n.into(), width, height), n.into());
            let mut frame = server.decode(&sent).unwrap().expect("no delay").picture;
            let x = 20.0 + f32::from(n) * 4.0;
            let bbox = BBox::new(x, 60.0, x + 80.0, 160.0);
            let boxes = [detection(bbox, (n / 8).into(), "person", 0.9, Some(n.into()))];
            annotator.draw(&mut frame, &boxes);
            let annotated = unit(&mut encoder, &frame, n.into());
            let shown = viewer.decode(&annotated).unwrap().expect("no delay").picture;
            let (found, expected) = (lower_edge(&shown, &bbox), colour(boxes[0].class_id));
            for (found, expected) in [(found.y, expected.y), (found.u, expected.u), (found.v, expected.v)] {
                assert!(found.abs_diff(expected) < 32, "{width}×{height}, picture {n}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn drawing_on_a_shared_picture_leaves_the_detectors_copy_alone() {
    let original = Arc::new(picture(0, 320, 240));
    let mut drawn = Arc::clone(&original);
    let boxes = [detection(BBox::new(10.0, 60.0, 100.0, 200.0), 0, "face", 0.5, None)];
    Annotator::new().draw(Arc::make_mut(&mut drawn), &boxes);
    assert_eq!(original.planes(), picture(0, 320, 240).planes());
    assert_ne!(original.planes(), drawn.planes());
}

/// Writes what the annotator draws to `target/tmp`, for people to look at.
#[test]
fn samples_of_every_size_are_written_for_the_eye() {
    for (width, height) in [(320usize, 240usize), (640, 480), (1280, 720), (1920, 1080)] {
        let (w, h) = (width as f32, height as f32);
        let place = |x1: f32, y1: f32, x2: f32, y2: f32| BBox::new(x1 * w, y1 * h, x2 * w, y2 * h);
        let boxes = [
            detection(place(0.05, 0.25, 0.30, 0.90), 0, "person", 0.93, Some(12)),
            detection(place(0.36, 0.02, 0.60, 0.40), 1, "bicycle", 0.81, None),
            detection(place(0.65, 0.20, 0.97, 0.55), 2, "car", 0.774, Some(3)),
            detection(place(0.36, 0.60, 0.55, 0.85), 4, "aeroplane", 0.42, None),
            detection(place(0.80, 0.70, 1.10, 1.20), 3, "traffic light", 1.0, Some(104)),
        ];
        let mut frame = picture(40, width, height);
        Annotator::new().draw(&mut frame, &boxes);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("annotated_{width}x{height}.png"));
        save(&frame, &path);
        // As a viewer sees it, after some pictures at the default bitrate.
        let (mut encoder, mut viewer, mut annotator) =
            (H264Encoder::new(Config::default()), decoder(), Annotator::new());
        let mut shown = None;
        for n in 0..12u16 {
            let mut frame = picture(40 + usize::from(n), width, height);
            annotator.draw(&mut frame, &boxes);
            shown = viewer.decode(&unit(&mut encoder, &frame, n.into())).unwrap();
        }
        let path = path.with_file_name(format!("encoded_{width}x{height}.png"));
        save(&shown.expect("no delay").picture, &path);
        assert!(path.exists());
    }
}

fn save(picture: &I420Frame, path: &Path) {
    let (y, u, v) = picture.planes();
    let (stride, _) = picture.plane_size(Plane::U);
    let image = image::RgbImage::from_fn(picture.width() as u32, picture.height() as u32, |px, py| {
        let (px, py) = (px as usize, py as usize);
        let luma = 1.164 * (f32::from(y[py * picture.width() + px]) - 16.0);
        let [u, v] = [u, v].map(|plane| f32::from(plane[py / 2 * stride + px / 2]) - 128.0);
        let rgb = [luma + 1.596 * v, luma - 0.392 * u - 0.813 * v, luma + 2.017 * u];
        image::Rgb(rgb.map(|value| value.clamp(0.0, 255.0) as u8))
    });
    image.save(path).unwrap();
}

#[cfg(not(feature = "ffmpeg"))]
#[test]
fn a_stream_that_needs_ffmpeg_ends_with_what_it_is_and_what_to_do() {
    for (stream, what) in [
        (coded::H265, "H.265 (set the camera to H.264"),
        (coded::INTERLACED, "interlaced H.264 (set the camera to progressive"),
        (coded::HIGH_10, "H.264 with 10 bits a sample (set the camera to 8 bits"),
        (coded::HIGH_422, "H.264 with more chroma than 4:2:0 (set the camera to 4:2:0"),
    ] {
        let mut decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
        let error = decoder.decode(&coded::units(stream, 1)[0]).unwrap_err();
        assert!(error.ends_stream());
        assert_eq!(error.to_string(), format!("unsupported video: {what}, or build with `--features ffmpeg`)"));
        assert!(decoder.info().is_some_and(|info| info.codec == stream.codec && info.width == 320), "{what}");
    }
    assert_eq!(sightline::decode::ffmpeg_version(), None);
}
