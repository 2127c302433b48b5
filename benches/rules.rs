//! What it costs to look only where something happens, and to hide what nobody may see: µs a picture at 1280×720.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sightline::annotate::{Hidden, Hider, Outline, Veil, draw_outlines};
use sightline::detect::regions::Engine;
use sightline::detect::sampling::MotionMeter;
use sightline::detect::{RegionConfig, RegionSet};
use sightline::media::{BBox, Detection, I420Frame};

const SIZE: (usize, usize) = (1280, 720);

/// A textured picture with a square that has moved by `n` pixels.
fn picture(n: usize) -> I420Frame {
    let mut frame = I420Frame::black(SIZE.0, SIZE.1);
    for (at, sample) in frame.planes_mut().0.iter_mut().enumerate() {
        let (x, y) = (at % SIZE.0, at / SIZE.0);
        let square = (300 + n..460 + n).contains(&x) && (200..360).contains(&y);
        *sample = if square { 220 } else { u8::try_from(60 + (x * 7 + y * 13) % 97).unwrap_or(0) };
    }
    frame
}

fn regions() -> RegionSet {
    let polygon = |x: f32| vec![[x, 0.1], [x + 0.3, 0.1], [x + 0.3, 0.9], [x + 0.1, 0.7], [x, 0.9]];
    let zones = (0..4u8).map(|n| {
        let config =
            RegionConfig { polygon: polygon(f32::from(n) * 0.2), dwell_s: Some(5.0), ..RegionConfig::default() };
        (format!("zone {n}"), config)
    });
    let lines = (0..4u8).map(|n| {
        let x = f32::from(n) * 0.2 + 0.1;
        (format!("line {n}"), RegionConfig { line: vec![[x, 0.9], [x, 0.1]], ..RegionConfig::default() })
    });
    RegionSet::new(&zones.chain(lines).collect::<BTreeMap<_, _>>()).expect("they are right")
}

fn objects(n: usize) -> Vec<Detection> {
    (0..10u8)
        .map(|k| {
            let (x, y) = ((n * 5 + usize::from(k) * 130) as f32 % 1200.0, f32::from(k) * 60.0);
            Detection {
                bbox: BBox::new(x, y, x + 60.0, y + 120.0),
                confidence: 0.8,
                class_name: "person".into(),
                track_id: Some(k.into()),
                ..Detection::default()
            }
        })
        .collect()
}

fn rules(c: &mut Criterion) {
    let pictures: Vec<I420Frame> = (0..16).map(|n| picture(n * 4)).collect();
    let mut group = c.benchmark_group("1280x720");
    group.bench_function("measure motion", |b| {
        let (mut meter, mut pictures) = (MotionMeter::new(), pictures.iter().cycle());
        b.iter(|| pictures.next().map(|picture| black_box(meter.look(picture))));
    });
    for (name, veil) in [("blur", Veil::Blur), ("pixelate", Veil::Pixelate), ("black", Veil::Black)] {
        let mut frame = picture(0);
        let mut hider = Hider::new();
        let face = Hidden::Box(BBox::new(540.0, 260.0, 740.0, 460.0));
        group.bench_function(format!("{name} 200x200"), |b| b.iter(|| hider.hide(&mut frame, &face, veil)));
        group.bench_function(format!("{name} the whole"), |b| b.iter(|| hider.hide(&mut frame, &Hidden::All, veil)));
    }
    let mask = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9]];
    group.bench_function("black out a polygon of half the picture", |b| {
        let (mut frame, mut hider) = (picture(0), Hider::new());
        b.iter(|| hider.hide(&mut frame, &Hidden::Polygon(&mask), Veil::Black));
    });
    group.bench_function("10 objects at 8 regions", |b| {
        let (mut engine, mut now, mut n) = (Engine::new(&regions()), Instant::now(), 0);
        let objects: Vec<_> = (0..240).map(objects).collect();
        b.iter(|| {
            (now, n) = (now + Duration::from_millis(33), (n + 1) % objects.len());
            black_box(engine.update(now, 1280.0, 720.0, &objects[n]))
        });
    });
    group.bench_function("draw 8 regions", |b| {
        let (set, mut frame) = (regions(), picture(0));
        let outlines: Vec<Outline<'_>> = set
            .outlines()
            .map(|(name, points, closed)| Outline { points, closed, colour: 3, text: format!("{name} 12") })
            .collect();
        b.iter(|| draw_outlines(&mut frame, &outlines));
    });
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
