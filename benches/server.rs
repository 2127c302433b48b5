//! The whole server over real WebRTC, against what its codec costs on the same frames in the same run.
//!
//! `cargo bench --bench server` starts the release binary with the face model (the motion detector where there is none) and
//! prints: server-added latency by the ledger, the chained and paced decode + encode as its floor, the time to connect,
//! memory per session, and CPU at rest; then the same pictures with a detector that works for 40 ms on each, for a minute.
//! `-- --seconds N` sets the length of each run but the last (default 10).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

#[path = "support/floor.rs"]
mod floor;
#[path = "support/process.rs"]
mod process;
#[path = "support/publisher.rs"]
mod publisher;
#[path = "support/slow.rs"]
mod slow;

use floor::floor;
use process::Server;
use publisher::{Clip, Report, publish, quantile};

const FPS: u32 = 30;
const SIZES: [(usize, usize); 2] = [(640, 480), (1280, 720)];
const PAIRS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let seconds = arguments.iter().position(|one| one == "--seconds").and_then(|at| arguments.get(at + 1));
    let length = Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(10));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");

    let server = Server::start(&[]);
    println!("server: {} ({})", server.url, server.model);
    println!("idle CPU: {:.2} % of a core over 5 s", server.cpu_share(Duration::from_secs(5)));
    for (width, height) in SIZES {
        let clip = Arc::new(Clip::new(width, height, 60));
        let mut ratios = Vec::new();
        for pair in 1..=PAIRS {
            // Turn about, so that a drift of the machine's speed favours neither.
            let floor = floor(&clip.units, FPS, length);
            let report = runtime.block_on(publish(&server.url, Arc::clone(&clip), FPS, length));
            let added = after_warm_up(&report);
            let of = |values: &[f64], share| quantile(values.iter().copied(), share);
            let (p50, p99) = (of(&added, 0.5) / of(&floor, 0.5), of(&added, 0.99) / of(&floor, 0.99));
            println!(
                "{width}×{height} pair {pair}: server-added p50 {:.2} p95 {:.2} p99 {:.2} ms | floor p50 {:.2} p99 {:.2} ms | \
                 ratio p50 {p50:.2} p99 {p99:.2} | {} of {} frames, {} detections, connected in {:.0} ms",
                of(&added, 0.5),
                of(&added, 0.95),
                of(&added, 0.99),
                of(&floor, 0.5),
                of(&floor, 0.99),
                report.frames.len(),
                report.sent,
                report.detections,
                report.connected.as_secs_f64() * 1000.0,
            );
            let stage = |pick: fn(&publisher::Seen) -> f64| quantile(report.frames.iter().map(pick), 0.5);
            println!(
                "    of which decode {:.2}, encode {:.2} ms at p50; box age p50 {:.0} ms",
                stage(|seen| seen.decode),
                stage(|seen| seen.encode),
                quantile(report.frames.iter().filter_map(|seen| seen.age), 0.5),
            );
            ratios.push((p50, p99));
        }
        println!(
            "{width}×{height}: median paired ratio to the floor p50 {:.2}, p99 {:.2}",
            quantile(ratios.iter().map(|one| one.0), 0.5),
            quantile(ratios.iter().map(|one| one.1), 0.5),
        );
    }

    // Memory: sessions beyond the first.
    drop(server);
    let server = Server::start(&[]);
    let clip = Arc::new(Clip::new(640, 480, 60));
    let mut kept = Vec::new();
    let mut rss = Vec::new();
    for _ in 0..4 {
        let (url, clip) = (server.url.clone(), Arc::clone(&clip));
        kept.push(runtime.spawn(async move { publish(&url, clip, FPS, Duration::from_secs(60)).await.sent }));
        thread::sleep(Duration::from_secs(6));
        rss.push(server.rss_mb());
    }
    let beyond = (rss[rss.len() - 1] - rss[0]) / (rss.len() - 1) as f64;
    println!(
        "memory with 1 to {} sessions of 640×480: {rss:.0?} MB; {beyond:.1} MB for each beyond the first",
        rss.len()
    );
    kept.iter().for_each(tokio::task::JoinHandle::abort);
    drop(server);

    // A detector of 40 ms: the video keeps its pace and its latency.
    let minute = Duration::from_secs(60);
    let quick = runtime.block_on(async {
        let url = slow::serve(Duration::ZERO).await;
        publish(&url, Arc::clone(&clip), FPS, length).await
    });
    let report = runtime.block_on(async {
        let url = slow::serve(Duration::from_millis(40)).await;
        publish(&url, Arc::clone(&clip), FPS, minute).await
    });
    let added = after_warm_up(&report);
    let part =
        |from: usize, to: usize| quantile(added[added.len() * from / 6..added.len() * to / 6].iter().copied(), 0.5);
    println!(
        "detector of 40 ms, 640×480, {minute:?}: {:.1} fps sent back, {:.1} detections a second, server-added p50 {:.2} p99 {:.2} ms \
         (without the 40 ms: p50 {:.2} p99 {:.2}); first ten seconds' median {:.2}, last {:.2}",
        report.frames.len() as f64 / minute.as_secs_f64(),
        report.detections as f64 / minute.as_secs_f64(),
        quantile(added.iter().copied(), 0.5),
        quantile(added.iter().copied(), 0.99),
        quantile(after_warm_up(&quick), 0.5),
        quantile(after_warm_up(&quick), 0.99),
        part(0, 1),
        part(5, 6),
    );
}

/// The frames after the first second and a half: codecs and caches are warm.
fn after_warm_up(report: &Report) -> Vec<f64> {
    let first = report.frames.first().map_or(Duration::ZERO, |seen| seen.at);
    report.frames.iter().filter(|seen| seen.at > first + Duration::from_millis(1500)).map(|seen| seen.added).collect()
}
