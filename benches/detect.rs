//! What the detector costs beside the model itself: `cargo bench --bench detect`.
//!
//! `pool/overhead` is what the pool itself takes for a frame, two hand-overs between threads included.
//! `preprocess/*` is I420 at 720p to the input tensor; `heads/*` and `nms` are the way back; `detect/MODEL/whole` against
//! `detect/MODEL/session` is the ratio that matters. `pool/MODEL` prints what two streams get of two threads of the pool against
//! two detectors run bare on two threads, and what a further session costs in memory; it means something on a machine of two
//! cores and more that has nothing else to do. Models come from the shared media (`SIGHTLINE_SHARED`, else `../shared`)
//! and from `.sightline/models` (or `SIGHTLINE_MODELS`); what is absent is left out with a line.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sightline::detect::backend::{Session, find_library};
use sightline::detect::heads::{Filter, Graph, Head, Output, Parts, Port};
use sightline::detect::nms::{Candidate, NmsMode, suppress};
use sightline::detect::preprocess::Preprocessor;
use sightline::detect::{
    Colour, Config, DetectError, Detector, Family, Fit, Found, InputSize, InputSpec, Interpolation, LaneOptions, Model,
    OutputSpec, Picture, Pools, Settings, locate,
};
use sightline::media::{BBox, Frame, FrameLedger, I420Frame, RtpTimestamp};

#[path = "support/inputs.rs"]
mod inputs;
#[path = "support/models.rs"]
mod models;

use inputs::{candidates, frame, noise, shipped};
use models::Place;

fn preprocess(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("preprocess");
    let frame = frame(1280, 720);
    for (name, input) in [
        ("yolox-nano 416 letterbox", shipped("yolox-nano")),
        ("face 320x192 stretch", shipped("face")),
        ("ultralytics 640 letterbox", ultralytics_640()),
        ("picodet-s 320 stretch cubic", shipped("picodet-s")),
    ] {
        let mut preprocessor = Preprocessor::new(input);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(preprocessor.run(Picture::I420(&frame)).unwrap().tensor.len()));
        });
    }
    group.finish();
}

/// What the Ultralytics models take.
fn ultralytics_640() -> InputSpec {
    InputSpec {
        size: InputSize::Fixed { width: 640, height: 640 },
        fit: Fit::LetterboxCentre,
        pad: 114,
        interpolation: Interpolation::Linear,
        colour: Colour::Rgb,
        layout: None,
        mean: [0.0; 3],
        std: [255.0; 3],
    }
}

/// One head: its name, its family, the input, the classes, the score that a few in a hundred pass, and its outputs.
type HeadCase = (&'static str, Family, (usize, usize), usize, f32, Vec<(&'static str, Vec<i64>)>);

fn head_cases() -> Vec<HeadCase> {
    let levels = |cells: &[i64]| {
        let all =
            [80, 32].into_iter().flat_map(|columns| cells.iter().map(move |&cells| ("x", vec![1, cells, columns])));
        all.collect::<Vec<_>>()
    };
    let yunet =
        [1, 1, 4, 10].into_iter().flat_map(|columns| [1600, 400, 100].map(|cells| ("x", vec![1, cells, columns])));
    let decoded = vec![("labels", vec![1, 300]), ("boxes", vec![1, 300, 4]), ("scores", vec![1, 300])];
    let centerface = vec![
        ("h", vec![1, 1, 48, 80]),
        ("s", vec![1, 2, 48, 80]),
        ("o", vec![1, 2, 48, 80]),
        ("l", vec![1, 10, 48, 80]),
    ];
    let protos = ("protos", vec![1, 32, 160, 160]);
    vec![
        ("yolox 416", Family::Yolox, (416, 416), 80, 0.995, vec![("x", vec![1, 3549, 85])]),
        ("ultralytics 640", Family::Ultralytics, (640, 640), 80, 0.995, vec![("x", vec![1, 84, 8400])]),
        ("ultralytics 640 masks", Family::Ultralytics, (640, 640), 80, 0.9999, vec![("x", vec![1, 116, 8400]), protos]),
        ("yolov5 640", Family::Yolov5, (640, 640), 80, 0.995, vec![("x", vec![1, 25_200, 85])]),
        ("end to end 300", Family::EndToEnd, (640, 640), 80, 0.95, vec![("x", vec![1, 300, 6])]),
        ("nanodet 320", Family::Nanodet, (320, 320), 80, 0.9998, levels(&[1600, 400, 100])),
        ("picodet 320", Family::Picodet, (320, 320), 80, 0.9998, levels(&[1600, 400, 100, 25])),
        ("suppressed inside 300", Family::NmsInside, (320, 320), 80, 0.95, decoded),
        (
            "detr 300 queries",
            Family::Detr,
            (640, 640),
            80,
            0.73,
            vec![("logits", vec![1, 300, 80]), ("pred_boxes", vec![1, 300, 4])],
        ),
        ("yunet 320", Family::Yunet, (320, 320), 1, 0.9, yunet.collect()),
        (
            "ultraface 320x240",
            Family::Ultraface,
            (320, 240),
            1,
            0.98,
            vec![("scores", vec![1, 4420, 2]), ("boxes", vec![1, 4420, 4])],
        ),
        ("centerface 320x192", Family::Centerface, (320, 192), 1, 0.98, centerface),
    ]
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heads");
    for (name, family, size, classes, confidence, ports) in head_cases() {
        let port = |name: &str, shape: &[i64]| Port {
            name: name.into(),
            kind: "f32".into(),
            shape: shape.iter().map(|&side| usize::try_from(side).ok()).collect(),
        };
        let (width, height) = size;
        let graph = Graph {
            inputs: vec![Port {
                name: "x".into(),
                kind: "f32".into(),
                shape: vec![Some(1), Some(3), Some(height), Some(width)],
            }],
            outputs: ports.iter().map(|(name, shape)| port(name, shape)).collect(),
            metadata: [].into(),
        };
        let input = InputSpec { size: InputSize::Fixed { width, height }, ..shipped("yolox-nano") };
        let mut head = Head::new(family, &graph, &input, &OutputSpec::default(), classes).unwrap();
        let data: Vec<_> = ports
            .iter()
            .map(|(_, shape)| noise(shape.iter().map(|&side: &i64| usize::try_from(side).unwrap()).product()))
            .collect();
        let outputs: Vec<_> = ports.iter().zip(&data).map(|((_, shape), data)| Output { shape, data }).collect();
        // As on a picture: a few anchors pass.
        let filter = Filter { confidence, classes: None };
        let mut found = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                found.clear();
                head.decode(&outputs, size, &filter, &mut found).unwrap();
                black_box(found.len())
            });
        });
        // A box of 160×160 pixels, as a person at some distance has.
        let bbox = BBox::new(100.0, 100.0, 260.0, 260.0);
        let one = found.first().map(|first| Candidate { bbox, ..*first });
        if let Some(one) = one.filter(|one| head.parts(&outputs, size, one) != Parts::default()) {
            group.bench_function(format!("{name}, points or outline of one"), |bencher| {
                bencher.iter(|| black_box(head.parts(&outputs, size, &one)));
            });
        }
    }
    group.finish();
}

fn nms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nms");
    for count in [100, 1000] {
        let all = candidates(count);
        let mut work = Vec::new();
        group.bench_function(format!("{count} candidates"), |bencher| {
            bencher.iter(|| {
                work.clone_from(&all);
                suppress(&mut work, NmsMode::PerClass, 0.45, 100);
                black_box(work.len())
            });
        });
    }
    group.finish();
}

/// Models of several families.
const MODELS: [(&str, Place); 4] = [
    ("yolox-nano", Place::Shared("yolox-nano")),
    ("face", Place::Pulled("face")),
    ("picodet-s", Place::Shared("picodet-s")),
    ("yolov10n 640", Place::File("agpl_test_only/yolov10n_fp32deq_640.onnx")),
];

/// Those of `wanted` that are there, loaded: a name for the report, the configuration, the model.
fn loaded(wanted: &[(&'static str, Place)]) -> Vec<(&'static str, Config, Model)> {
    let base = Config { workers: Some(2), ..Config::default() };
    let all = wanted.iter().filter_map(|&(name, place)| {
        let config = models::config(place, &base);
        models::load(&config).map(|model| (name, config, model))
    });
    all.collect()
}

/// How long each side of the comparison runs, and how often: the two take turns, so that a noisy moment hits both.
const STRETCH: Duration = Duration::from_secs(3);
const STRETCHES: u32 = 3;

/// Detections per second of two detectors on two threads of their own.
fn bare(detectors: &mut [Box<dyn Detector>], settings: &Settings, picture: &I420Frame) -> f64 {
    let done = AtomicU64::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for detector in detectors {
            scope.spawn(|| {
                while started.elapsed() < STRETCH {
                    detector.detect(Picture::I420(picture), settings).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.into_inner() as f64 / started.elapsed().as_secs_f64()
}

/// Detections per second of two streams in the pool, in each of which the next frame always waits; and the share of the one that
/// got less.
fn pooled(pools: &Pools, picture: &Arc<I420Frame>) -> (f64, f64) {
    let lanes = ["a", "b"].map(|name| pools.lane(name.into(), LaneOptions::default(), |_| {}));
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                for lane in &lanes {
                    id += 1;
                    let now = Instant::now();
                    lane.offer(Frame {
                        id,
                        rtp_timestamp: RtpTimestamp::default(),
                        captured: None,
                        picture: Arc::clone(picture),
                        ledger: FrameLedger::arrived(now, now),
                    });
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        thread::sleep(STRETCH);
        stop.store(true, Ordering::Relaxed);
    });
    let done = lanes.each_ref().map(|lane| lane.counters().finished as f64);
    let all = done[0] + done[1];
    (all / started.elapsed().as_secs_f64(), done[0].min(done[1]) / all)
}

/// The memory that the process holds, in MB, where the system tells.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kilobytes| kilobytes / 1024.0)
}

fn pool(_: &mut Criterion) {
    let picture = Arc::new(frame(1280, 720));
    for (name, config, model) in loaded(&MODELS[..2]) {
        let settings = model.settings(&config);
        let mut sizes = Vec::new();
        let mut detectors: Vec<_> = (0..4)
            .map(|_| {
                let mut detector = model.detector().unwrap();
                detector.detect(Picture::I420(&picture), &settings).unwrap();
                sizes.extend(resident());
                detector
            })
            .collect();
        detectors.truncate(2);
        let pools = Pools::start(model, &config).unwrap();
        let (mut alone, mut together, mut lesser) = (0.0, 0.0, 0.5f64);
        for _ in 0..STRETCHES {
            alone += bare(&mut detectors, &settings, &picture) / f64::from(STRETCHES);
            let (rate, share) = pooled(&pools, &picture);
            together += rate / f64::from(STRETCHES);
            lesser = lesser.min(share);
        }
        let ratio = together / alone;
        println!(
            "pool/{name}: {together:.1} detections/s of two streams, {alone:.1} bare, ratio {ratio:.3}, lesser share {lesser:.3}"
        );
        if let [_, second, .., last] = sizes[..] {
            println!("pool/{name}: {:.1} MB for each further session", (last - second) / 2.0);
        }
    }
}

/// A detector that does nothing.
struct Idle;

impl Detector for Idle {
    fn detect(&mut self, _: Picture<'_>, _: &Settings) -> Result<Found, DetectError> {
        Ok(Found::default())
    }
}

/// What the pool itself costs: from a frame's offer to its result, through a detector that does nothing.
fn overhead(criterion: &mut Criterion) {
    let picture = Arc::new(frame(1280, 720));
    let model = Model::new(Model::motion().info().clone(), false, || Ok(Box::new(Idle)));
    let pools = Pools::start(model, &Config { workers: Some(2), ..Config::default() }).unwrap();
    let (deliver, results) = std::sync::mpsc::channel();
    let lane = pools.lane("a".into(), LaneOptions::default(), move |result| drop(deliver.send(result)));
    let mut id = 0;
    criterion.bench_function("pool/overhead", |bencher| {
        bencher.iter(|| {
            id += 1;
            let (picture, now) = (Arc::clone(&picture), Instant::now());
            let (rtp_timestamp, ledger) = (RtpTimestamp::default(), FrameLedger::arrived(now, now));
            lane.offer(Frame { id, rtp_timestamp, captured: None, picture, ledger });
            results.recv().unwrap()
        });
    });
}

/// How often the model alone and the whole path take turns.
const TURNS: usize = 60;

/// The whole path beside the model alone. Criterion measures one after the other, minutes apart on a busy machine: the ratio
/// that is printed comes from both in turns.
fn whole(criterion: &mut Criterion) {
    let frame = frame(1280, 720);
    for (name, config, model) in loaded(&MODELS) {
        let located = locate(&config.model, &config.models_dir).unwrap();
        let input = model.info().input.unwrap();
        let mut session = Session::open(&find_library(None), &located.path, 1).unwrap();
        let mut preprocessor = Preprocessor::new(input);
        let input = preprocessor.run(Picture::I420(&frame)).unwrap();
        let size = (input.width, input.height);
        let mut detector = model.detector().unwrap();
        let settings = model.settings(&config);
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let start = Instant::now();
            session.run(input.tensor, size, |outputs| black_box(outputs.len())).unwrap();
            alone.push(start.elapsed());
            let start = Instant::now();
            black_box(detector.detect(Picture::I420(&frame), &settings).unwrap());
            together.push(start.elapsed());
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1000.0
        };
        let (alone, together) = (median(&mut alone), median(&mut together));
        println!("detect/{name}: {together:.2} ms whole, {alone:.2} ms session, ratio {:.3}", together / alone);
        let mut group = criterion.benchmark_group(format!("detect/{name}"));
        group.sample_size(40);
        group.bench_function("session", |bencher| {
            bencher.iter(|| session.run(input.tensor, size, |outputs| outputs.len()).unwrap());
        });
        group.bench_function("whole", |bencher| {
            bencher.iter(|| detector.detect(Picture::I420(&frame), &settings).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, preprocess, heads, nms, whole, overhead, pool);
criterion_main!(benches);
