//! What our own part of a frame's way costs in instructions, which no other work on the machine changes:
//! `cargo bench --bench instructions`.
//!
//! Each stage runs under callgrind (Debian's `valgrind`), which counts what is executed between the two ends of [`counted`]. More than
//! `benches/budget.toml` allows fails; `-- --write` writes what was counted there. The codec's part is not ours and not here.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sightline::annotate::Annotator;
use sightline::detect::follow::{Follower, View, Way};
use sightline::detect::heads::{Filter, Graph, Head, Output, Port};
use sightline::detect::nms::{NmsMode, suppress};
use sightline::detect::preprocess::Preprocessor;
use sightline::detect::{Family, OutputSpec, Picture, Tracker};
use sightline::media::{BBox, Detection, DetectionTimes, Detections, I420Frame, RtpPacket, RtpTimestamp};
use sightline::peer::packetize;
use sightline::source::rtp::{Assembler, AssemblerConfig};

#[path = "support/inputs.rs"]
#[allow(dead_code)] // the picture here is another
mod inputs;

use inputs::{candidates, noise, shipped};

/// Compilers differ by a little from version to version.
const MARGIN: f64 = 0.03;
const SIZE: (usize, usize) = (640, 480);

/// What lies between here and its end is counted.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // So that it is no tail call.
    black_box(());
}

/// A stage: prepares itself, runs once to fill what it keeps, and then once more for the count.
type Stage = (&'static str, fn());

const STAGES: [Stage; 8] = [
    ("convert", convert),
    ("head", head),
    ("nms", nms),
    ("tracker", tracker),
    ("follow", follow),
    ("draw", draw),
    ("packetize", packets),
    ("depacketize", depacketize),
];

fn twice(mut work: impl FnMut()) {
    work();
    counted(&mut work);
}

fn picture(n: usize) -> I420Frame {
    let mut picture = I420Frame::black(SIZE.0, SIZE.1);
    let (luma, u, v) = picture.planes_mut();
    for (at, sample) in luma.iter_mut().enumerate() {
        let (x, y) = (at % SIZE.0 + 2 * n, at / SIZE.0);
        *sample = u8::try_from(40 + (x * 7 + y * 13 + x * y / 31) % 170).unwrap_or(40);
    }
    for (at, sample) in u.iter_mut().chain(v).enumerate() {
        *sample = u8::try_from(60 + at % 130).unwrap_or(60);
    }
    picture
}

/// Ten boxes that move two pixels a picture.
fn boxes(n: usize) -> Vec<Detection> {
    let one = |k: u8| {
        let (x, y) = (f32::from(k % 5) * 122.0 - 2.0 * n as f32 + 40.0, f32::from(k / 5) * 220.0 + 20.0);
        let bbox = BBox::new(x, y, x + 100.0, y + 160.0);
        Detection { bbox, confidence: 0.6, class_id: u32::from(k), class_name: "person".into(), ..Detection::default() }
    };
    (0..10).map(one).collect()
}

fn convert() {
    let input = shipped("yolox-nano");
    let (mut preprocessor, picture) = (Preprocessor::new(input), picture(0));
    twice(|| {
        black_box(preprocessor.run(Picture::I420(&picture)).expect("a picture like any other").tensor.len());
    });
}

fn head() {
    let input = shipped("yolox-nano");
    let port = |shape: &[usize]| Port {
        name: "x".into(),
        kind: "f32".into(),
        shape: shape.iter().map(|&side| Some(side)).collect(),
    };
    let graph =
        Graph { inputs: vec![port(&[1, 3, 416, 416])], outputs: vec![port(&[1, 3549, 85])], metadata: BTreeMap::new() };
    let mut head = Head::new(Family::Yolox, &graph, &input, &OutputSpec::default(), 80).expect("it fits");
    let (data, shape) = (noise(3549 * 85), vec![1, 3549, 85]);
    let outputs = [Output { shape: &shape, data: &data }];
    let filter = Filter { confidence: 0.995, classes: None };
    let mut found = Vec::new();
    twice(|| {
        found.clear();
        head.decode(&outputs, (416, 416), &filter, &mut found).expect("it fits");
        black_box(found.len());
    });
}

fn nms() {
    let all = candidates(1000);
    let mut work = Vec::new();
    twice(|| {
        work.clone_from(&all);
        suppress(&mut work, NmsMode::PerClass, 0.45, 100);
        black_box(work.len());
    });
}

fn tracker() {
    let (mut tracker, start) = (Tracker::new(), Instant::now());
    let mut n = 0;
    let mut look = || {
        let mut items = boxes(n);
        tracker.update(start + Duration::from_millis(33) * n as u32, &mut items);
        black_box(items.len());
        n += 1;
    };
    (0..9).for_each(|_| look());
    twice(look);
}

fn follow() {
    let (mut tracker, mut follower) = (Tracker::new(), Follower::new(Way::Picture, Duration::from_millis(500)));
    let (start, pictures) = (Instant::now(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(|n| Arc::new(picture(n))));
    let at = |n: usize| start + Duration::from_millis(33) * n as u32;
    let mut newest: Option<Detections> = None;
    let mut n = 0;
    let mut show = || {
        let picture = &pictures[n % pictures.len()];
        let view = View { frame_id: n as u64, at: at(n), picture, until: None };
        black_box(follower.boxes(&view, newest.as_ref()).len());
        // Every picture is looked at, and the result is there for the next one.
        let mut items = boxes(n);
        tracker.update(at(n), &mut items);
        newest = Some(Detections {
            frame_id: n as u64,
            rtp_timestamp: RtpTimestamp::default(),
            captured: None,
            arrived: at(n),
            width: SIZE.0 as u32,
            height: SIZE.1 as u32,
            model: "ten boxes".into(),
            items,
            times: DetectionTimes::default(),
            events: Vec::new(),
            veiled: Vec::new(),
        });
        n += 1;
    };
    (0..10).for_each(|_| show());
    twice(show);
}

fn draw() {
    let (mut annotator, mut canvas, items) = (Annotator::new(), picture(0), boxes(0));
    twice(|| annotator.draw(&mut canvas, &items));
}

/// An access unit of 6 KB, a frame of 1.5 Mbit/s at 30 a second: one slice.
fn unit() -> bytes::Bytes {
    let body = noise(6000).into_iter().map(|value| 1 + (value * 250.0) as u8);
    [0, 0, 0, 1, 0x65].into_iter().chain(body).collect::<Vec<u8>>().into()
}

fn packets() {
    let unit = unit();
    twice(|| {
        black_box(packetize(&unit).len());
    });
}

fn depacketize() {
    let payloads = packetize(&unit());
    let (mut assembler, now) = (Assembler::new(AssemblerConfig::default()), Instant::now());
    let (mut sequence_number, mut timestamp) = (0u16, 0u32);
    let mut frame = || {
        for (n, payload) in payloads.iter().enumerate() {
            let (payload, marker) = (payload.clone(), n + 1 == payloads.len());
            assembler.push(RtpPacket { sequence_number, timestamp, marker, payload, arrived: now });
            sequence_number = sequence_number.wrapping_add(1);
            while let Some(assembled) = assembler.poll(now) {
                black_box(&assembled);
            }
        }
        timestamp = timestamp.wrapping_add(3000);
    };
    (0..3).for_each(|_| frame());
    twice(frame);
}

/// Runs one stage under callgrind; how many instructions it took.
fn count(stage: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("callgrind");
    let program = std::env::current_exe().expect("it is running");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--stage", stage])
        .output()
        .expect("valgrind is installed (apt-get install valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stage}: {said}");
    let report = fs::read_to_string(&out).expect("callgrind writes its report");
    let line = report.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    let total = line.and_then(|rest| rest.split_whitespace().next()).and_then(|count| count.parse().ok());
    total.filter(|&count| count > 0).unwrap_or_else(|| panic!("{stage}: nothing was counted: {said}"))
}

fn budget_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/budget.toml")
}

/// Instructions by architecture and stage.
type Budget = BTreeMap<String, BTreeMap<String, u64>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|one| one == "--stage") {
        let wanted = arguments.get(at + 1).map(String::as_str);
        STAGES.iter().find(|(name, _)| Some(*name) == wanted).expect("a stage").1();
        return ExitCode::SUCCESS;
    }
    let text = fs::read_to_string(budget_file()).unwrap_or_default();
    let mut budget: Budget = toml::from_str(&text).expect("a budget of instructions for each architecture");
    let known = budget.entry(std::env::consts::ARCH.to_owned()).or_default();
    let mut over = false;
    for (name, _) in STAGES {
        let found = count(name);
        let allowed = known.get(name).copied();
        if arguments.iter().any(|one| one == "--write") {
            known.insert(name.to_owned(), found);
        }
        let verdict = match allowed {
            None => "no budget for it on this architecture".to_owned(),
            Some(allowed) => {
                let change = found as f64 / allowed as f64 - 1.0;
                over |= change > MARGIN;
                let word = if change > MARGIN { "OVER BUDGET" } else { "within its budget" };
                format!("{:+.2} %, {word} of {allowed}", change * 100.0)
            }
        };
        println!("{name:<12} {found:>10} instructions: {verdict}");
    }
    if arguments.iter().any(|one| one == "--write") {
        let head = "# Instructions that one picture of 640×480 costs in each stage, by callgrind: benches/instructions.rs says what is \
                    counted.\n# More than 3 % above fails `make budget`. Written by `cargo bench --bench instructions -- --write`.\n\n";
        let text = toml::to_string(&budget).expect("numbers");
        fs::write(budget_file(), format!("{head}{text}")).expect("the budget can be written");
        return ExitCode::SUCCESS;
    }
    if over {
        eprintln!(
            "a stage takes more than its budget allows: find out why, or raise the budget and say why in the commit"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
