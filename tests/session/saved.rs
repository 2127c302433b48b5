//! How many looks sampling and cascades save, and that nothing is missed for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sightline::decode::VideoDecoder;
use sightline::detect::sampling::{MotionMeter, Offer, Sampler};
use sightline::detect::{
    self, Cascade, CascadeStage, Lane, LaneOptions, Model, Pools, RegionConfig, RegionSet, Sampling,
};
use sightline::media::{Detections, Frame, FrameLedger, FramePool, I420Frame, KeyframeRequest, RtpTimestamp};
use sightline::source::file::H264File;

use crate::fakes;
use crate::server::LIMIT;
use crate::squares;

const FRAME: Duration = Duration::from_millis(33);
const SIZE: (usize, usize) = (320, 240);

/// Twenty seconds in which the squares move there, back and there again, in 135 pictures of 600; all else is at rest, but for
/// the noise of a sensor.
fn scene() -> Vec<Arc<I420Frame>> {
    let mut at = 0;
    let mut noise = 7u32;
    (0..600)
        .map(|n| {
            at += usize::from([100..145, 300..345, 450..495].iter().any(|moving| moving.contains(&n)));
            let mut frame = I420Frame::black(SIZE.0, SIZE.1);
            squares::draw(at, &mut frame);
            for sample in frame.planes_mut().0 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sample = sample.saturating_add((noise >> 30) as u8);
            }
            Arc::new(frame)
        })
        .collect()
}

fn regions() -> RegionSet {
    let line = RegionConfig { line: vec![[0.35, 0.95], [0.35, 0.05]], ..RegionConfig::default() };
    let polygon = vec![[0.45, 0.0], [0.7, 0.0], [0.7, 1.0], [0.45, 1.0]];
    let room = RegionConfig { polygon, dwell_s: Some(3.0), ..RegionConfig::default() };
    RegionSet::new(&[("gate".to_owned(), line), ("room".to_owned(), room)].into()).unwrap()
}

/// What came of a scene.
struct Seen {
    looks: usize,
    events: Vec<String>,
    lane: Lane,
}

/// Shows the scene to a lane, every frame at its time; each that is looked at is waited for.
fn show(pool: &Pools, scene: &[Arc<I420Frame>], options: LaneOptions) -> Seen {
    let (results_in, results): (_, Receiver<Arc<Detections>>) = channel();
    let lane = pool.lane("scene".into(), options, move |result| drop(results_in.send(result)));
    let start = Instant::now();
    let (mut looks, mut events) = (0, Vec::new());
    for (n, picture) in scene.iter().enumerate() {
        let at = start + FRAME * u32::try_from(n).unwrap();
        let frame = Frame {
            id: n as u64,
            rtp_timestamp: RtpTimestamp::default(),
            captured: None,
            picture: Arc::clone(picture),
            ledger: FrameLedger::arrived(at, at),
        };
        if lane.offer(frame) {
            looks += 1;
            let result = results.recv_timeout(LIMIT).expect("a result");
            events.extend(result.events.iter().map(|event| {
                let direction = event.direction.map_or("", |direction| direction.name());
                format!("{} {} {direction}", event.kind.name(), event.region)
            }));
        }
    }
    Seen { looks, events, lane }
}

fn sampling() -> Sampling {
    Sampling::Motion { threshold: 0.002, min_interval_ms: 0, cooldown_ms: 500, max_interval_ms: 2000 }
}

fn config() -> detect::Config {
    detect::Config { workers: Some(1), ..detect::Config::default() }
}

#[test]
fn on_a_mostly_still_scene_most_looks_are_saved_and_no_event_is_missed() {
    let pool = Pools::start(fakes::model(fakes::find_square), &config()).unwrap();
    let scene = scene();
    let options = LaneOptions { regions: regions(), ..LaneOptions::default() };
    let every = show(&pool, &scene, options.clone());
    let some = show(&pool, &scene, LaneOptions { sampling: sampling(), ..options });
    println!(
        "{} looks of {}, {:.0} % saved: {:?}",
        some.looks,
        every.looks,
        100.0 - some.looks as f32 / 6.0,
        some.events
    );
    assert_eq!(every.looks, 600);
    assert_eq!(every.events.len(), 8, "{:?}", every.events);
    assert_eq!(some.events, every.events);
    assert!(some.looks < 300, "{} of 600", some.looks);
    assert!(some.looks >= 135, "every picture that moves: {}", some.looks);
}

#[test]
fn a_cascade_counts_what_passes_each_stage() {
    let light = |frame: &I420Frame| {
        // A crop that shows the square's edge is more than the square.
        assert!(frame.width() < 100, "a crop: {}", frame.width());
        fakes::find_square(frame)
    };
    let load = move |config: &detect::Config| match config.model.as_str() {
        "squares" => Ok(fakes::model(fakes::find_square)),
        "lights" => Ok(fakes::model(light)),
        other => Err(detect::DetectError::Frame(other.to_owned())),
    };
    let pool = Pools::start_with(Model::motion(), &config(), load).unwrap();
    let stages = [
        CascadeStage { sampling: Some(sampling()), ..CascadeStage::default() },
        CascadeStage { model: Some("squares".to_owned()), ..CascadeStage::default() },
        CascadeStage { model: Some("lights".to_owned()), ..CascadeStage::default() },
    ];
    let cascade = Cascade::new(&stages).unwrap();
    let options = LaneOptions { cascade, sampling: sampling(), regions: regions(), ..LaneOptions::default() };
    let seen = show(&pool, &scene(), options);
    let counts = seen.lane.sampled();
    let passes = seen.lane.passes();
    println!("{counts:?}, {passes:?}");
    assert_eq!((counts.offered, counts.sampled), (600, seen.looks as u64));
    // The square is in every picture, and in the crop of it too.
    assert_eq!(passes, [(counts.sampled, counts.sampled), (counts.sampled, counts.sampled)]);
    assert!(counts.sampled < 300);
    // Both stages' objects cross, and dwell.
    assert_eq!(seen.events.len(), 16, "{:?}", seen.events);
}

/// The camera of a corridor in which people walk by, one by one. The reference has the people of frames 1260 to 1359.
#[test]
fn on_real_video_looks_are_saved_and_nobody_who_walks_by_is_missed() {
    let shared = std::env::var_os("SIGHTLINE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let video = shared.join("media/video/intel_one_by_one_person_432p.mp4");
    if !video.is_file() {
        println!("skipped: {} is not there", video.display());
        return;
    }
    let reference = std::fs::read_to_string(shared.join("media/reference/light_person_192.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&reference).unwrap();
    let people = &reference["videos"]["intel_one_by_one_person_432p.mp4"]["frames"];
    let mut decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
    let (mut meter, mut sampler) = (MotionMeter::new(), Sampler::new(sampling()));
    let start = Instant::now();
    let (mut n, mut looks, mut present, mut missed) = (0u32, 0, 0, Vec::new());
    for unit in H264File::open(video).unwrap().units() {
        let unit = unit.arriving(start);
        let Some(picture) = decoder.decode(&unit).unwrap() else { continue };
        let seen = Some(meter.look(&picture.picture));
        let at = start + Duration::from_millis(100) * n;
        let sampled = sampler.decide(&Offer { at, keyframe: false, wanted: false, seen, objects: 0 }).sampled;
        looks += usize::from(sampled);
        if people[n.to_string()].as_array().is_some_and(|people| !people.is_empty()) {
            present += 1;
            if !sampled {
                missed.push(n);
            }
        }
        n += 1;
    }
    println!("{looks} looks of {n}, {present} frames with people, {} not looked at", missed.len());
    assert!(n > 1300 && present > 50);
    assert_eq!(missed, [] as [u32; 0], "somebody was there");
    assert!(looks < n as usize, "{looks} of {n}");
}
