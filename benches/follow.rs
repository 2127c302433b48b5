//! How well boxes keep up with objects of known motion, and what that costs: `cargo bench --bench follow`.
//!
//! 1280×720 at 30 pictures a second, an object of 160×160 at 640 pixels a second, a detector that looks at every second
//! picture and errs by 2 pixels at each edge (standard deviation). Off: the detected box as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sightline::detect::follow::Way;

#[path = "support/cpu.rs"]
mod cpu;
#[path = "../tests/support/moving.rs"]
mod moving;
#[path = "support/recorded.rs"]
mod recorded;

use moving::{Run, SCENARIOS, Stage};
use recorded::Truth;

const DELAYS: [u64; 4] = [0, 33, 66, 150];
const WAYS: [(&str, Option<Way>); 3] =
    [("off", None), ("prediction", Some(Way::Prediction)), ("picture", Some(Way::Picture))];
const SEED: u64 = 7;

fn main() {
    known_motions();
    recorded_videos();
    missed_objects();
    memory();
}

/// What following costs in memory: so many streams side by side in this process, by the growth of its resident memory.
fn memory() {
    const STREAMS: u32 = 32;
    const PAGE_KB: f64 = 4.096;
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages: f64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("proc(5)");
        pages * PAGE_KB
    };
    println!("\nresident memory of following, 1280×720, {STREAMS} streams side by side, kB for each");
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == "linear") else { return };
    let mut stage = Stage::new(scenario, SEED);
    // The pictures themselves are not the followers': they are made before. Nothing is let go of in between, so that what is taken is
    // taken anew.
    let shots: Vec<_> = (0..stage.pictures()).map(|n| stage.shot(n)).collect();
    let mut kept = Vec::new();
    for late_ms in [66, 150, 400] {
        let before = resident();
        let mut runs: Vec<Run> = (0..STREAMS).map(|_| timed(Some(Way::Picture), late_ms)).collect();
        let mut most = 0.0f64;
        for (n, shot) in shots.iter().enumerate() {
            runs.iter_mut().for_each(|run| run.draw(n, shot));
            most = most.max(resident() - before);
        }
        println!("detector {late_ms:>3} ms late: {:>5.0} at most", most / f64::from(STREAMS));
        kept.push(runs);
    }
}

/// What boxes that results miss, and that are drawn all the same, gain and cost.
fn missed_objects() {
    let media = media();
    println!(
        "\nobjects that a result misses, the detector 66 ms late: recall, precision and mean IoU (of 0.5 and more)"
    );
    let better = "yolov10n_fp32deq_640";
    for video in ["street_london_720p.mp4", "intel_one_by_one_person_432p.mp4"] {
        let reference = |model: &str| recorded::reference(&media.join(format!("reference/{model}.json")), video);
        let Some(best) = reference(better) else {
            println!("{video}: not here (SIGHTLINE_SHARED names the folder)");
            continue;
        };
        for model in ["yolox_nano_416", "deimv2_femto_416", "picodet_s_320", "nanodet_m_320", better] {
            let Some(own) = reference(model) else { continue };
            for share in [0.0, 0.2] {
                let found = recorded::without(&own, share, SEED);
                for (name, truth) in [("its own", &own), (better, &best)] {
                    if name == model {
                        continue;
                    }
                    let run = || recorded::Run::new("picture", Some(Way::Picture));
                    let mut runs = [run().found_alone(), run()];
                    let late = Duration::from_millis(66);
                    recorded::play_found(&media.join("video").join(video), &found, truth, late, 1, &mut runs);
                    let [off, on] = runs.each_ref().map(recorded::Run::agreement);
                    let figure = |n: usize| format!("{:.4} {:.4} ({:+.4})", off[n], on[n], on[n] - off[n]);
                    println!(
                        "{video} {model:<20} {:>3.0} % dropped, truth {name:<20}: {}  {}  {}",
                        100.0 * share,
                        figure(0),
                        figure(1),
                        figure(2)
                    );
                }
            }
        }
    }
}

fn media() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    std::env::var_os("SIGHTLINE_SHARED").map_or_else(beside, PathBuf::from).join("media")
}

/// Videos with a detector's boxes for every picture, the detector 66 ms late.
fn recorded_videos() {
    let media = media();
    println!(
        "\nrecorded video, the detector 66 ms late: mean IoU with its boxes of the picture itself, share of 0.75 and more"
    );
    let videos =
        [("street_london_720p.mp4", 1), ("street_london_720p.mp4", 2), ("intel_one_by_one_person_432p.mp4", 1)];
    for (video, every) in videos {
        for model in ["yolox_nano_416", "deimv2_femto_416", "yolov10n_fp32deq_640"] {
            let truth = recorded::reference(&media.join(format!("reference/{model}.json")), video);
            recorded_video(&media.join("video").join(video), model, truth, every);
        }
    }
    // No reference: our own detector on every picture.
    let video = media.join("video/highway_dashcam_720p.mp4");
    let model = media.join("models/yolox_nano_416.onnx");
    let truth = if video.is_file() && model.is_file() { recorded::found_by(&model, &video) } else { None };
    recorded_video(&video, "our yolox_nano_416", truth, 2);
}

fn recorded_video(video: &Path, model: &str, truth: Option<Truth>, every: u64) {
    let name = video.file_name().unwrap_or_default().to_string_lossy();
    let Some(truth) = truth else {
        println!("{name} with {model}: not here (SIGHTLINE_SHARED names the folder)");
        return;
    };
    println!("{name}, {model}, every picture of {every}");
    let mut runs = WAYS.map(|(name, way)| recorded::Run::new(name, way));
    recorded::play(video, &truth, Duration::from_millis(66), every, &mut runs);
    runs.iter().for_each(|run| println!("  {}", run.line()));
}

fn timed(way: Option<Way>, late_ms: u64) -> Run {
    Run { clock: cpu::thread_time, ..Run::new(way, Duration::from_millis(late_ms), SEED) }
}

fn known_motions() {
    println!("mean IoU of the drawn box against the truth, every picture from the first box on; name changes");
    println!("{:<10} {:<11} {}", "motion", "way", DELAYS.map(|ms| format!("{ms:>5} ms ")).join(" "));
    let mut costs = Vec::new();
    for scenario in &SCENARIOS {
        let mut stage = Stage::new(scenario, SEED);
        let mut runs: Vec<Vec<Run>> =
            WAYS.iter().map(|(_, way)| DELAYS.iter().map(|ms| timed(*way, *ms)).collect()).collect();
        for n in 0..stage.pictures() {
            let shot = stage.shot(n);
            runs.iter_mut().flatten().for_each(|run| run.draw(n, &shot));
        }
        for ((way, _), runs) in WAYS.iter().zip(&runs) {
            let cells: Vec<_> =
                runs.iter().map(|run| format!("{:.3}/{}", run.score.mean(), run.detector.switches)).collect();
            println!("{:<10} {way:<11} {}", scenario.name, cells.join("   "));
            costs.extend(
                runs.iter()
                    .filter(|run| run.told.0 > 0)
                    .map(|run| (scenario.name, run.delay, run.told, run.spent, run.pictures)),
            );
        }
    }
    println!("\ncost with the picture: all of it for each picture, boxes that the picture told of");
    for (name, delay, told, spent, pictures) in costs {
        let each = spent.as_secs_f64() * 1e6 / f64::from(pictures.max(1));
        println!(
            "{name:<10} {:>3} ms  {each:>7.0} µs a picture   {:>3} of {:>3} boxes",
            delay.as_millis(),
            told.0,
            told.1
        );
    }
}
