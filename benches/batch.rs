//! What it gains to look at the pictures of several streams in one run: `cargo bench --bench batch -- [MODEL…]`.
//!
//! In each of 1, 2, 4 and 8 streams of 1280×720 the next frame always waits. Two pools, one that joins up to eight pictures and one that
//! looks at one by one, take turns of [`STRETCH`], so that a noisy moment hits both. Printed is, for each, what all streams get together,
//! what a picture costs of a detector thread's time, how many pictures went into a run, and how old a result is when it comes. The
//! pools have one detector thread, or what `--workers N` and `--threads N` say (threads inside the runtime's session), on the CPU or on what
//! `--provider cuda` says, if it is built in.

use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sightline::detect::backend::Provider;
use sightline::detect::{Config, LaneOptions, Pools};
use sightline::media::{Frame, FrameLedger, I420Frame, RtpTimestamp};

#[path = "support/inputs.rs"]
#[allow(dead_code)] // the parts are another benchmark's matter
mod inputs;
#[path = "support/models.rs"]
#[allow(dead_code)] // so is where other models are
mod models;

use models::Place;

/// How long one pool runs, and how often each does.
const STRETCH: Duration = Duration::from_millis(1500);
const STRETCHES: u32 = 3;

/// The most pictures of a run.
const MOST: usize = 8;

/// How often every stream is given its next frame: more often than any model looks.
const PACE: Duration = Duration::from_micros(500);

/// Models of the shared media whose graphs leave the number of pictures open.
const MODELS: [(&str, Place); 3] = [
    ("deimv2-atto", Place::File("deimv2_atto_320.onnx")),
    ("deimv2-femto", Place::File("deimv2_femto_416.onnx")),
    ("yunet-s", Place::File("yunet_s_dyn.onnx")),
];

/// What one pool did in its stretches.
#[derive(Default)]
struct Account {
    pictures: u64,
    elapsed: Duration,
    busy: Duration,
    batched: u64,
    /// Arrival of the frame to its result, in milliseconds.
    ages: Vec<f64>,
}

impl Account {
    fn run(&mut self, pools: &Pools, streams: usize, picture: &Arc<I420Frame>) {
        let (before, info) = (pools.stats(), pools.info());
        let ages = Arc::new(Mutex::new(Vec::new()));
        let lanes: Vec<_> = (0..streams)
            .map(|stream| {
                let ages = Arc::clone(&ages);
                pools.lane(format!("{stream}").into(), LaneOptions::default(), move |result| {
                    ages.lock().expect("nobody panics").push(result.arrived.elapsed().as_secs_f64() * 1e3);
                })
            })
            .collect();
        let (stop, next) = (AtomicBool::new(false), AtomicU64::new(1));
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for lane in &lanes {
                        let now = Instant::now();
                        lane.offer(Frame {
                            id: next.fetch_add(1, Ordering::Relaxed),
                            rtp_timestamp: RtpTimestamp::default(),
                            captured: None,
                            picture: Arc::clone(picture),
                            ledger: FrameLedger::arrived(now, now),
                        });
                    }
                    thread::sleep(PACE);
                }
            });
            thread::sleep(STRETCH);
            stop.store(true, Ordering::Relaxed);
        });
        // What is in work is finished and counted, so that a long batch at the end costs nothing.
        drop(lanes);
        while pools.stats().working > 0 {
            thread::sleep(PACE);
        }
        let (after, later) = (pools.stats(), pools.info());
        self.elapsed += started.elapsed();
        self.pictures += after.frames - before.frames;
        self.busy += after.busy - before.busy;
        self.batched += later[0].batched - info[0].batched;
        self.ages.append(&mut ages.lock().expect("nobody panics"));
    }

    fn rate(&self) -> f64 {
        self.pictures as f64 / self.elapsed.as_secs_f64()
    }

    fn cost(&self) -> f64 {
        self.busy.as_secs_f64() * 1e3 / self.pictures as f64
    }

    fn median_age(&mut self) -> f64 {
        self.ages.sort_unstable_by(f64::total_cmp);
        self.ages.get(self.ages.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// What follows `name` among the arguments.
fn value<T: FromStr>(arguments: &[String], name: &str, otherwise: T) -> T {
    let at = arguments.iter().position(|argument| argument == name);
    at.map_or(otherwise, |at| {
        let value = arguments.get(at + 1).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name} wants a value"))
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (workers, threads) = (value(&arguments, "--workers", 1), value(&arguments, "--threads", 1));
    let provider = value(&arguments, "--provider", String::from("cpu"));
    let provider = Provider::ALL.into_iter().find(|known| known.name() == provider).expect("a provider");
    let base = Config { workers: Some(workers), threads: Some(threads), provider, ..Config::default() };
    let picture = Arc::new(inputs::frame(1280, 720));
    println!(
        "{provider}, {workers} detector threads, {threads} threads in a session; one by one → up to {MOST} together"
    );
    let named: Vec<_> = MODELS.iter().filter(|(name, _)| arguments.iter().any(|argument| argument == name)).collect();
    let wanted = if named.is_empty() { MODELS.iter().collect() } else { named };
    for (name, place) in wanted {
        let config = models::config(*place, &base);
        let pools = [1, MOST].map(|batch| {
            let config = Config { batch: Some(batch), ..config.clone() };
            let model = models::load(&config)?;
            assert_eq!(model.batch(), batch, "{}", Path::new(&config.model).display());
            Some(Pools::start(model, &config).expect("it was loaded"))
        });
        let [Some(single), Some(joined)] = pools else { continue };
        for streams in [1, 2, 4, 8] {
            let (mut alone, mut together) = (Account::default(), Account::default());
            for _ in 0..STRETCHES {
                alone.run(&single, streams, &picture);
                together.run(&joined, streams, &picture);
            }
            let share = together.batched as f64 / together.pictures as f64 * 100.0;
            println!(
                "batch/{name}: {streams} streams: {:.1} → {:.1} detections/s (×{:.3}), {:.2} → {:.2} ms of a thread a picture, \
                 result after {:.1} → {:.1} ms, {share:.0} % together",
                alone.rate(),
                together.rate(),
                together.rate() / alone.rate(),
                alone.cost(),
                together.cost(),
                alone.median_age(),
                together.median_age(),
            );
        }
    }
}
