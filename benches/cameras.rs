//! The bridge over real RTSP and WebRTC: what it adds, how soon a new viewer has a picture, fifty viewers of one stream, and
//! eight cameras on one small machine.
//!
//! `cargo bench --bench cameras` runs all; `-- added`, `-- first`, `-- viewers` or `-- eight` one of them. `--seconds N` sets the
//! length of each run (default 15), `--minutes N` that of the eight cameras (default 10). Cameras are GStreamer's RTSP server
//! on pictures that were encoded beforehand (`make setup-test` installs it); server, cameras and viewers share the machine.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sightline::source::camera::{CameraEvent, CameraHealth, CameraSource, Demand, Transport, supervise};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

#[path = "../tests/support/camera.rs"]
#[allow(dead_code)] // the tests do more with it
mod camera;
#[path = "support/floor.rs"]
mod floor;
#[path = "support/process.rs"]
#[allow(dead_code)] // the other benchmark does more with it
mod process;
#[path = "support/publisher.rs"]
#[allow(dead_code)] // the quantiles are all that is needed of it here
mod publisher;
#[path = "support/viewer.rs"]
mod viewer;

use camera::Camera;
use floor::floor;
use process::{Server, cpu_seconds};
use publisher::quantile;
use viewer::Viewer;

const FPS: u32 = 30;
const PAIRS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|one| one == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let length = Duration::from_secs(number("--seconds").unwrap_or(15));
    let minutes = number("--minutes").unwrap_or(10);
    let named = ["added", "first", "viewers", "eight"];
    let all = !arguments.iter().any(|one| named.contains(&one.as_str()));
    let asked = |name: &str| all || arguments.iter().any(|one| one == name);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");

    if asked("added") {
        added(&runtime, length);
    }
    if asked("first") {
        first_picture(&runtime);
    }
    if asked("viewers") {
        viewers(&runtime, length);
    }
    if asked("eight") {
        eight(&runtime, Duration::from_secs(minutes * 60));
    }
}

const CHOICES: [&str; 2] = ["annotated", "original"];

/// A camera of 1280×720 at so many frames a second and 1.5 Mbit/s, with an IDR every two seconds; its pictures were encoded
/// before.
fn camera(fps: u32) -> (Camera, String) {
    let camera = Camera::start(&[&format!(
        "cam:h264,size=1280x720,fps={fps},seconds=4,gop={},bitrate=1500,pattern=smpte",
        fps * 2
    )]);
    let url = camera.url("", "cam");
    (camera, url)
}

/// The camera's own access units, from an IDR on, as the server gets them.
fn units(runtime: &Runtime, url: &str) -> Vec<Bytes> {
    let source = CameraSource { address: url.parse().expect("an address"), transport: Transport::Tcp };
    let (_open, demand) = watch::channel(Demand { open: true, watched: true });
    let (sender, mut receiver) = mpsc::unbounded_channel();
    runtime.block_on(async {
        let deliver = move |event| {
            if let CameraEvent::Unit(unit) = event {
                let _ = sender.send(unit);
            }
        };
        let supervised = tokio::spawn(supervise(source, demand, CameraHealth::default(), deliver));
        let mut units = Vec::new();
        while units.len() < 120 {
            let unit = receiver.recv().await.expect("the camera sends");
            if unit.idr || !units.is_empty() {
                units.push(unit.data);
            }
        }
        supervised.abort();
        units
    })
}

/// What the server adds to a camera's frame, beside the codec alone on the same pictures.
fn added(runtime: &Runtime, length: Duration) {
    let (_camera, url) = camera(FPS);
    let units = units(runtime, &url);
    let server = Server::start(&["--camera", &format!("cam={url}")]);
    await_live(runtime, &server, "cam");
    for video in CHOICES {
        let mut ratios = Vec::new();
        for pair in 1..=PAIRS {
            let floor = floor(&units, FPS, length);
            let seen = runtime.block_on(async {
                let viewer = Viewer::watch(&server.url, "cam", video, true).await;
                // Connecting, and the bridge that an `original` viewer may begin with, are not what is measured.
                tokio::time::sleep(Duration::from_secs(3)).await;
                *viewer.seen.lock().expect("no panic") = viewer::Seen::default();
                tokio::time::sleep(length).await;
                let seen = std::mem::take(&mut *viewer.seen.lock().expect("no panic"));
                viewer.leave().await;
                seen
            });
            let of = |share| quantile(seen.added.iter().copied(), share);
            let queued = |share| quantile(seen.queued.iter().copied(), share);
            let floor = quantile(floor, 0.5);
            println!(
                "{video} pair {pair}: server-added p50 {:.2} p95 {:.2} p99 {:.2} ms (of it in the queue {:.2}, {:.2}, {:.2}), \
                 decode + encode {floor:.2} ms at p50, ratio {:.2} ({} frames)",
                of(0.5),
                of(0.95),
                of(0.99),
                queued(0.5),
                queued(0.95),
                queued(0.99),
                of(0.5) / floor,
                seen.added.len(),
            );
            ratios.push((of(0.5) / floor, of(0.95)));
        }
        println!(
            "{video}: median ratio to the codec {:.2} at p50; median p95 {:.2} ms",
            quantile(ratios.iter().map(|one| one.0), 0.5),
            quantile(ratios.iter().map(|one| one.1), 0.5),
        );
    }
}

/// From the POST of a new viewer of a live stream until its first picture is decoded.
fn first_picture(runtime: &Runtime) {
    let (_camera, url) = camera(FPS);
    let server = Server::start(&["--camera", &format!("cam={url}")]);
    await_live(runtime, &server, "cam");
    for video in CHOICES {
        let times: Vec<(f64, bool)> = (0..20)
            .map(|n| {
                // Joining at another place of the camera's group of pictures each time.
                thread::sleep(Duration::from_millis(137 * (n % 7)));
                runtime.block_on(async {
                    let viewer = Viewer::watch(&server.url, "cam", video, false).await;
                    let (took, asked) = (viewer.first_picture, viewer.asked);
                    viewer.leave().await;
                    (took.as_secs_f64() * 1000.0, asked)
                })
            })
            .collect();
        println!(
            "{video}: first picture after {:.0} ms (median of 20), at most {:.0} ms; of those whose first packets were lost \
             ({}): {:.0?} ms",
            quantile(times.iter().map(|one| one.0), 0.5),
            quantile(times.iter().map(|one| one.0), 1.0),
            times.iter().filter(|one| one.1).count(),
            times.iter().filter(|one| one.1).map(|one| one.0).collect::<Vec<_>>(),
        );
    }
}

/// One stream of 1.5 Mbit/s to fifty viewers: does anybody lose a frame, is the last one later than the first, and what
/// does one more cost?
fn viewers(runtime: &Runtime, length: Duration) {
    let (_camera, url) = camera(FPS);
    for video in CHOICES {
        let server = Server::start(&["--camera", &format!("cam={url}")]);
        await_live(runtime, &server, "cam");
        let own = || cpu_seconds(&std::fs::read_to_string("/proc/self/stat").expect("Linux"));
        let mut watching: Vec<Viewer> = Vec::new();
        let mut shares = Vec::new();
        for count in [1_usize, 10, 25, 50] {
            runtime.block_on(async {
                while watching.len() < count {
                    // The first and the last also read the server's account of each frame.
                    let told = watching.is_empty() || watching.len() == 49;
                    watching.push(Viewer::watch(&server.url, "cam", video, told).await);
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            });
            for viewer in &watching {
                *viewer.seen.lock().expect("no panic") = viewer::Seen::default();
            }
            let (before, client_before, begun) = (server.cpu_seconds(), own(), Instant::now());
            thread::sleep(length);
            let took = begun.elapsed().as_secs_f64();
            let share = (server.cpu_seconds() - before) / took * 100.0;
            let client = (own() - client_before) / took * 100.0;
            shares.push((count, share));
            let bits: u64 = watching.iter().map(|viewer| viewer.seen.lock().expect("no panic").bytes * 8).sum();
            let rate = bits as f64 / count as f64 / took / 1e6;
            println!(
                "{video}, {count} viewers: server {share:.1} % of a core, clients together {client:.1} %; {rate:.2} Mbit/s each"
            );
        }
        let seen: Vec<_> = watching.iter().map(|viewer| viewer.seen.lock().expect("no panic")).collect();
        let most = seen.iter().map(|one| one.frames.len()).max().unwrap_or(0);
        let gaps: u64 = seen.iter().map(|one| one.gaps).sum();
        let short = seen.iter().filter(|one| one.frames.len() + 2 < most).count();
        let first: HashMap<u32, Instant> = seen[0].frames.iter().map(|frame| (frame.rtp_timestamp, frame.at)).collect();
        let behind = |n: usize| {
            quantile(
                seen[n].frames.iter().filter_map(|frame| {
                    let first = first.get(&frame.rtp_timestamp)?;
                    let later = frame.at.saturating_duration_since(*first).as_secs_f64();
                    Some((later - first.saturating_duration_since(frame.at).as_secs_f64()) * 1000.0)
                }),
                0.5,
            )
        };
        let told = |n: usize| quantile(seen[n].added.iter().copied(), 0.5);
        let per_viewer = (shares[3].1 - shares[0].1) / (shares[3].0 - shares[0].0) as f64;
        println!(
            "{video}: {most} frames each, {gaps} packets lost by all together, {short} viewers short of frames; the 50th has a frame \
             {:.2} ms after the first (median), server-added {:.2} and {:.2} ms; {per_viewer:.2} % of a core for one more viewer",
            behind(49),
            told(0),
            told(49),
        );
        drop(seen);
        runtime.block_on(async {
            for viewer in watching {
                viewer.leave().await;
            }
        });
    }
}

/// Eight cameras of 1280×720 at 15 frames a second, all looked at, the first watched.
fn eight(runtime: &Runtime, length: Duration) {
    const CAMERAS: usize = 8;
    let (_camera, url) = camera(15);
    let named: Vec<String> = (0..CAMERAS).map(|n| format!("cam{n}={url}")).collect();
    let mut arguments = Vec::new();
    for one in &named {
        arguments.extend(["--camera", one]);
    }
    let server = Server::start(&arguments);
    for n in 0..CAMERAS {
        await_live(runtime, &server, &format!("cam{n}"));
    }
    let viewer = runtime.block_on(Viewer::watch(&server.url, "cam0", "annotated", false));
    thread::sleep(Duration::from_secs(10));
    let (before, cpu, begun) = (streams(runtime, &server), server.cpu_seconds(), Instant::now());
    let mut memory = vec![server.rss_mb()];
    while begun.elapsed() < length {
        thread::sleep((length / 10).min(Duration::from_secs(60)));
        memory.push(server.rss_mb());
    }
    let took = begun.elapsed().as_secs_f64();
    let after = streams(runtime, &server);
    let rate = |name: &str, field: &str| {
        let of = |all: &HashMap<String, serde_json::Value>| all[name][field].as_f64().expect("a count");
        (of(&after) - of(&before)) / took
    };
    let mut names: Vec<&String> = after.keys().collect();
    names.sort();
    let detections: Vec<f64> = names.iter().map(|name| rate(name, "detections")).collect();
    for (name, detections) in names.iter().zip(&detections) {
        println!("{name}: {:.2} frames a second decoded, {detections:.2} looked at", rate(name, "frames_decoded"));
    }
    let mean = detections.iter().sum::<f64>() / detections.len() as f64;
    println!(
        "{CAMERAS} cameras for {took:.0} s: server {:.0} % of a core; the least looked at has {:.2} of the mean; memory {memory:.0?} MB",
        (server.cpu_seconds() - cpu) / took * 100.0,
        detections.iter().copied().fold(f64::INFINITY, f64::min) / mean,
    );
    runtime.block_on(viewer.leave());
}

fn streams(runtime: &Runtime, server: &Server) -> HashMap<String, serde_json::Value> {
    let all: serde_json::Value = runtime.block_on(async {
        let response = reqwest::get(format!("{}/api/v1/streams", server.url)).await.expect("the server answers");
        response.json().await.expect("JSON")
    });
    let all = all["streams"].as_array().expect("a list");
    all.iter().map(|one| (one["name"].as_str().expect("a name").to_owned(), one.clone())).collect()
}

fn await_live(runtime: &Runtime, server: &Server, name: &str) {
    let begun = Instant::now();
    loop {
        let all = streams(runtime, server);
        let one = &all[name];
        if one["camera"]["state"] == "live" && one["frames_decoded"].as_u64() > Some(30) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} does not come alive: {one}");
        thread::sleep(Duration::from_millis(100));
    }
}
