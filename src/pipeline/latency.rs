//! Where the time of a stream's frames went, lately: quantiles over the last ten seconds and the last five minutes.
//!
//! Times are counted in buckets that are a sixteenth of an octave wide, so that a quantile is right within 3.2 %, however
//! many frames there were; what is older than a window falls out of it in steps of a tenth or a thirtieth of the window.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::glass::BROWSER_STAGES;
use crate::media::{DetectionTimes, FrameLedger, STAGES};

/// Parts of an octave.
const PARTS: usize = 16;
/// The first octave's lower end is 2⁴ µs: what is shorter counts as that.
const FIRST_OCTAVE: usize = 4;
/// The last octave's upper end is 2²⁷ µs, two minutes: what is longer counts as that.
const OCTAVES: usize = 23;
const BUCKETS: usize = PARTS * OCTAVES;

/// The detector's stages, in the order of [`DetectionTimes`].
const DETECTOR_STAGES: [&str; 4] = ["detect_queue", "preprocess", "infer", "postprocess"];

/// What is counted: the stages of the video, what the server added in all, the stages of the detector, those of the publisher's page,
/// and the whole from capture to screen.
const QUANTITIES: usize = GLASS + 1;
const DETECTOR: usize = STAGES.len() + 1;
const BROWSER: usize = DETECTOR + DETECTOR_STAGES.len();
const GLASS: usize = BROWSER + BROWSER_STAGES.len();

/// The length of a window's step, and how many steps a window has.
const WINDOWS: [(Duration, usize); 2] = [(Duration::from_secs(1), 10), (Duration::from_secs(10), 30)];

/// The latency of a stream's frames, for the API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyReport {
    /// The stream's name.
    pub stream: String,
    /// The last ten seconds, and the last five minutes.
    pub windows: Vec<LatencyWindow>,
}

/// The latency of the frames of one window. A frame that several viewers got counts once for each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyWindow {
    /// The window's length, in seconds.
    pub seconds: u64,
    /// Frames sent in it.
    pub frames: u64,
    /// From a frame's last packet in to its first packet out; absent when no frame was sent.
    pub server_added_ms: Option<Quantiles>,
    /// The stages of the video that frames passed.
    pub stages_ms: BTreeMap<&'static str, Quantiles>,
    /// The stages of the detector, beside the video.
    pub detector_ms: BTreeMap<&'static str, Quantiles>,
    /// From capture to screen, as the publisher's page reports it; absent where none does.
    pub glass_to_glass_ms: Option<Quantiles>,
    /// The page's own stages of that, and by how much the stages miss the whole.
    pub browser_ms: BTreeMap<&'static str, Quantiles>,
}

/// Quantiles by nearest rank, in milliseconds, each right within 3.2 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// Nineteen of twenty are shorter.
    pub p95: f64,
    /// Ninety-nine of a hundred are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Counts by bucket.
type Counts = Box<[u32; BUCKETS]>;

/// The counts of one step of a window.
#[derive(Default)]
struct Step {
    /// Which step since the start; what is of another one is stale.
    number: u64,
    counts: [Option<Counts>; QUANTITIES],
}

/// What is counted about one stream. Memory is taken by the steps in which something was counted.
pub(super) struct LatencyBook {
    start: Instant,
    windows: Mutex<[Vec<Step>; WINDOWS.len()]>,
}

impl LatencyBook {
    pub(super) fn new(start: Instant) -> Self {
        let steps = WINDOWS.map(|(_, steps)| (0..steps).map(|_| Step::default()).collect());
        Self { start, windows: Mutex::new(steps) }
    }

    /// Counts a frame that has left for a viewer.
    pub(super) fn frame_sent(&self, ledger: &FrameLedger, now: Instant) {
        let stages = STAGES.iter().enumerate();
        let stages = stages.filter_map(|(n, stage)| Some((n, ledger.took(stage)?)));
        self.note(now, stages.chain(ledger.server_added().map(|took| (STAGES.len(), took))));
    }

    /// Counts what a frame cost the detector.
    pub(super) fn detected(&self, times: &DetectionTimes, now: Instant) {
        let DetectionTimes { detect_queue, preprocess, infer, postprocess } = *times;
        let stages = [detect_queue, preprocess, infer, postprocess].into_iter().enumerate();
        self.note(now, stages.map(|(n, took)| (DETECTOR + n, took)));
    }

    /// Counts what a page says of a frame that it has presented.
    pub(super) fn presented(&self, whole: Duration, stages: [Option<Duration>; BROWSER_STAGES.len()], now: Instant) {
        let stages = stages.into_iter().enumerate().filter_map(|(n, took)| Some((BROWSER + n, took?)));
        self.note(now, stages.chain([(GLASS, whole)]));
    }

    fn note(&self, now: Instant, times: impl Iterator<Item = (usize, Duration)>) {
        let since = now.saturating_duration_since(self.start);
        let mut windows = self.lock();
        for (quantity, took) in times {
            let bucket = bucket(took);
            for (steps, (length, _)) in windows.iter_mut().zip(WINDOWS) {
                let number = step_number(since, length);
                let Some(step) = place(steps, number) else { continue };
                if step.number != number {
                    step.number = number;
                    // The memory stays for the next round.
                    step.counts.iter_mut().flatten().for_each(|counts| counts.fill(0));
                }
                let Some(counts) = step.counts.get_mut(quantity) else { continue };
                let counts = counts.get_or_insert_with(|| Box::new([0; BUCKETS]));
                if let Some(count) = counts.get_mut(bucket) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// The quantiles of now.
    pub(super) fn report(&self, stream: &str, now: Instant) -> LatencyReport {
        let since = now.saturating_duration_since(self.start);
        let windows = self.lock();
        let windows = windows.iter().zip(WINDOWS).map(|(steps, (length, count))| {
            let newest = step_number(since, length);
            let quantiles = |quantity: usize| {
                let mut sum = [0u64; BUCKETS];
                let counted = steps.iter().filter(|step| step.number <= newest && step.number + count as u64 > newest);
                for counts in counted.filter_map(|step| step.counts.get(quantity)?.as_deref()) {
                    sum.iter_mut().zip(counts).for_each(|(sum, &count)| *sum += u64::from(count));
                }
                Quantiles::of(&sum)
            };
            let named = |names: &mut dyn Iterator<Item = &'static str>, first: usize| {
                names.zip(first..).filter_map(|(name, n)| Some((name, quantiles(n)?.1))).collect()
            };
            let added = quantiles(STAGES.len());
            LatencyWindow {
                seconds: length.as_secs() * count as u64,
                frames: added.map_or(0, |(frames, _)| frames),
                server_added_ms: added.map(|(_, quantiles)| quantiles),
                stages_ms: named(&mut STAGES.iter().map(|stage| stage.name), 0),
                detector_ms: named(&mut DETECTOR_STAGES.into_iter(), DETECTOR),
                glass_to_glass_ms: quantiles(GLASS).map(|(_, quantiles)| quantiles),
                browser_ms: named(&mut BROWSER_STAGES.into_iter(), BROWSER),
            }
        });
        LatencyReport { stream: stream.to_owned(), windows: windows.collect() }
    }

    fn lock(&self) -> MutexGuard<'_, [Vec<Step>; WINDOWS.len()]> {
        // Counts only: none is half-done.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steps are counted from 1, so that an unused one, 0, is of no window. A window is the step at hand and those before it.
fn step_number(since: Duration, length: Duration) -> u64 {
    1 + u64::try_from(since.as_millis() / length.as_millis().max(1)).unwrap_or(u64::MAX - 1)
}

fn place(steps: &mut [Step], number: u64) -> Option<&mut Step> {
    let at = usize::try_from(number % steps.len().max(1) as u64).ok()?;
    steps.get_mut(at)
}

/// The bucket of a time: its octave, and the four bits below its highest.
fn bucket(took: Duration) -> usize {
    let least = 1u64 << FIRST_OCTAVE;
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(least);
    let octave = micros.ilog2() as usize;
    #[allow(clippy::cast_possible_truncation)] // four bits
    let part = (micros >> (octave - FIRST_OCTAVE)) as usize & (PARTS - 1);
    ((octave - FIRST_OCTAVE) * PARTS + part).min(BUCKETS - 1)
}

/// The middle of a bucket, in milliseconds.
fn middle(bucket: usize) -> f64 {
    let (octave, part) = (bucket / PARTS, bucket % PARTS);
    let micros = (PARTS + part) << octave;
    (micros as f64 + (1u64 << octave) as f64 / 2.0) / 1000.0
}

impl Quantiles {
    /// How many times there are, and their quantiles; `None` without any.
    fn of(counts: &[u64; BUCKETS]) -> Option<(u64, Self)> {
        let total: u64 = counts.iter().sum();
        let at = |per_cent: u64| {
            let rank = (total * per_cent).div_ceil(100);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            })?;
            Some((middle(bucket) * 1000.0).round() / 1000.0)
        };
        (total > 0).then_some(())?;
        Some((total, Self { p50: at(50)?, p95: at(95)?, p99: at(99)?, max: at(100)? }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::Mark;

    fn sent(arrived: Instant, took: Duration) -> FrameLedger {
        let mut ledger = FrameLedger::arrived(arrived, arrived);
        ledger.mark_at(Mark::Dequeued, arrived + took / 4);
        ledger.mark_at(Mark::FirstSent, arrived + took);
        ledger
    }

    #[test]
    fn a_frame_is_in_both_windows_and_leaves_the_shorter_first() {
        let start = Instant::now();
        let book = LatencyBook::new(start);
        book.frame_sent(&sent(start, Duration::from_millis(8)), start);
        let frames = |after: u64| -> Vec<u64> {
            let report = book.report("cam", start + Duration::from_secs(after));
            report.windows.iter().map(|window| window.frames).collect()
        };
        assert_eq!(frames(0), [1, 1]);
        assert_eq!(frames(9), [1, 1]);
        assert_eq!(frames(10), [0, 1]);
        assert_eq!(frames(299), [0, 1]);
        assert_eq!(frames(300), [0, 0]);
    }

    #[test]
    fn stages_are_told_apart_and_those_nobody_passed_are_absent() {
        let start = Instant::now();
        let book = LatencyBook::new(start);
        book.frame_sent(&sent(start, Duration::from_millis(8)), start);
        book.detected(&DetectionTimes { infer: Duration::from_millis(40), ..DetectionTimes::default() }, start);
        let report = book.report("cam", start);
        let window = &report.windows[0];
        assert_eq!(window.seconds, 10);
        assert!((window.server_added_ms.unwrap().p50 - 8.0).abs() < 0.26);
        assert!((window.stages_ms["queue"].p99 - 2.0).abs() < 0.07);
        assert!(!window.stages_ms.contains_key("encode"));
        assert!((window.detector_ms["infer"].max - 40.0).abs() < 1.3);
    }

    #[test]
    fn a_step_that_comes_round_again_begins_from_nothing() {
        let start = Instant::now();
        let book = LatencyBook::new(start);
        for second in 0..1000u64 {
            let now = start + Duration::from_secs(second);
            book.frame_sent(&sent(now, Duration::from_millis(second % 7 + 1)), now);
            let report = book.report("cam", now);
            assert_eq!(report.windows[0].frames, (second + 1).min(10));
            assert!(report.windows[1].frames <= 300, "{}", report.windows[1].frames);
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_right_within_a_bucket(micros in prop::collection::vec(16u64..100_000_000, 1..300)) {
            let start = Instant::now();
            let book = LatencyBook::new(start);
            for &took in &micros {
                book.frame_sent(&sent(start, Duration::from_micros(took)), start);
            }
            let mut sorted = micros;
            sorted.sort_unstable();
            let found = book.report("cam", start).windows[1].server_added_ms.unwrap();
            for (share, found) in [(50, found.p50), (95, found.p95), (99, found.p99), (100, found.max)] {
                let exact = sorted[(sorted.len() * share).div_ceil(100) - 1] as f64 / 1000.0;
                prop_assert!((found - exact).abs() <= exact * 0.033 + 0.001, "{}: {} for {}", share, found, exact);
            }
        }

        #[test]
        fn any_time_has_a_bucket(micros in any::<u64>()) {
            prop_assert!(bucket(Duration::from_micros(micros)) < BUCKETS);
        }
    }
}
