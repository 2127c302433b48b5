//! The cost of each stage of the video thread, and of all of them one after the other, on moving textured noise.

use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use sightline::annotate::Annotator;
use sightline::decode::VideoDecoder;
use sightline::encode::{Config, Encoder, H264Encoder, has_assembly};
use sightline::media::{AccessUnit, BBox, Detection, FramePool, I420Frame, KeyframeRequest, Plane, VideoCodec};

#[path = "../tests/support/scene.rs"]
mod scene;

const SIZES: [(usize, usize); 2] = [(640, 480), (1280, 720)];

/// One IDR and two seconds of what follows it: decoding goes round without an error.
const PICTURES: usize = 60;

fn pictures(width: usize, height: usize) -> Vec<I420Frame> {
    let picture = |n| {
        let mut frame = I420Frame::black(width, height);
        scene::draw_scene(n, width, height, frame.planes_mut());
        frame
    };
    (0..PICTURES).map(picture).collect()
}

fn units(pictures: &[I420Frame]) -> Vec<AccessUnit> {
    let mut encoder = H264Encoder::new(Config::default());
    let mut units = Vec::new();
    for (picture, rtp_timestamp) in pictures.iter().zip((0..).step_by(3000)) {
        let encoded = encoder.encode(picture, false).expect("a common size");
        let (data, idr, now) = (encoded.data, encoded.idr, Instant::now());
        units.push(AccessUnit {
            codec: VideoCodec::H264,
            data,
            rtp_timestamp,
            idr,
            first_packet: now,
            last_packet: now,
            captured: None,
        });
    }
    units
}

/// The units over and over, their timestamps running on.
fn endless(units: &[AccessUnit]) -> impl Iterator<Item = AccessUnit> + '_ {
    let stamped = units.iter().cycle().zip((0u32..).step_by(3000));
    stamped.map(|(unit, rtp_timestamp)| AccessUnit { rtp_timestamp, ..unit.clone() })
}

/// The first picture's luma as one image of Motion JPEG, in colours so that there is chroma to decode.
fn jpeg(picture: &I420Frame) -> AccessUnit {
    let (width, height) = (picture.width(), picture.height());
    let pixels: Vec<u8> = picture.plane(Plane::Y).iter().flat_map(|&y| [y, y / 2 + 60, 255 - y]).collect();
    let mut data = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut data, 75);
    encoder.encode(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8).expect("a common size");
    let now = Instant::now();
    AccessUnit {
        codec: VideoCodec::Jpeg,
        data: data.into(),
        rtp_timestamp: 0,
        idr: true,
        first_packet: now,
        last_packet: now,
        captured: None,
    }
}

fn decoder() -> VideoDecoder {
    VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).expect("the codec starts")
}

/// Ten boxes that move a pixel a picture, with scores that change: what a tracker gives.
fn boxes(width: usize, height: usize, n: usize) -> Vec<Detection> {
    let (w, h) = (width as f32 / 6.0, height as f32 / 3.0);
    let shift = (n % 16) as f32;
    (0..10u8)
        .map(|k| {
            let (x, y) = (f32::from(k % 5) * w * 1.15 + shift, f32::from(k / 5) * h * 1.4 + 30.0);
            let confidence = 0.5 + f32::from(k) / 30.0 + shift / 200.0;
            let (bbox, class_id) = (BBox::new(x, y, x + w, y + h), u32::from(k));
            let track_id = Some(u64::from(k));
            Detection { bbox, confidence, class_id, class_name: "person".into(), track_id, ..Detection::default() }
        })
        .collect()
}

fn stages(c: &mut Criterion) {
    println!("openh264 assembly: {}", if has_assembly() { "in" } else { "MISSING (install nasm, build again)" });
    for (width, height) in SIZES {
        let pictures = pictures(width, height);
        let units = units(&pictures);
        let boxes: Vec<_> = (0..16).map(|n| boxes(width, height, n)).collect();
        let mut group = c.benchmark_group(format!("{width}x{height}"));
        group.throughput(Throughput::Elements(1));

        group.bench_function("decode", |b| {
            let (mut decoder, mut units) = (decoder(), endless(&units));
            b.iter(|| units.next().and_then(|unit| decoder.decode(&unit).expect("a clean stream")));
        });
        group.bench_function("decode Motion JPEG", |b| {
            let (mut decoder, image) = (decoder(), jpeg(&pictures[0]));
            b.iter(|| decoder.decode(&image).expect("a whole image"));
        });
        group.bench_function("draw 10 boxes", |b| {
            let (mut annotator, mut frame) = (Annotator::new(), pictures[0].clone());
            let mut boxes = boxes.iter().cycle();
            b.iter(|| annotator.draw(&mut frame, boxes.next().map_or(&[], Vec::as_slice)));
        });
        group.bench_function("encode", |b| {
            let (mut encoder, mut pictures) = (H264Encoder::new(Config::default()), pictures.iter().cycle());
            b.iter(|| pictures.next().map(|picture| encoder.encode(picture, false)));
        });
        group.bench_function("decode, draw, encode", |b| {
            let (mut decoder, mut annotator) = (decoder(), Annotator::new());
            let mut encoder = H264Encoder::new(Config::default());
            let (mut units, mut boxes) = (endless(&units), boxes.iter().cycle());
            b.iter(|| {
                let unit = units.next()?;
                let mut frame = decoder.decode(&unit).expect("a clean stream")?.picture;
                annotator.draw(&mut frame, boxes.next()?);
                encoder.encode(&frame, false).ok()
            });
        });
        group.bench_function("first picture of an encoder", |b| {
            b.iter_batched_ref(
                || H264Encoder::new(Config::default()),
                |encoder| encoder.encode(&pictures[0], false),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("first picture of a pre-warmed encoder", |b| {
            let warm = || {
                let mut encoder = H264Encoder::new(Config::default());
                encoder.prewarm(width, height).expect("a common size");
                encoder
            };
            b.iter_batched_ref(warm, |encoder| encoder.encode(&pictures[0], false), BatchSize::PerIteration);
        });
        group.bench_function("first picture of a decoder", |b| {
            b.iter(|| decoder().decode(&units[0]).expect("an IDR"));
        });
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
