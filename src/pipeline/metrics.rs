//! What is counted about a stream. Handles are made once: a label look-up for every frame would cost more than the frame's
//! bookkeeping.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::glass::Glass;
use super::latency::{LatencyBook, LatencyReport};
use crate::detect::follow;
use crate::media::{DetectionTimes, Detections, Direction, FrameLedger, STAGES};
use crate::sink::message::LedgerMessage;

/// Why a frame was not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropReason {
    /// The video thread was too far behind: everything up to the next IDR went.
    Overflow,
    /// The decoder could not decode it.
    Decode,
    /// A newer one was there already.
    Superseded,
    /// In exact mode, a detection was in flight.
    Exact,
    /// The encoder failed.
    Encode,
    /// The way to the viewers would not have carried it in time.
    Bandwidth,
    /// It would have left later than `max_latency_ms` after it came.
    Late,
    /// The machine has too much to do: the frame rate gives way.
    Overload,
}

impl DropReason {
    const ALL: [Self; 8] = [
        Self::Overflow,
        Self::Decode,
        Self::Superseded,
        Self::Exact,
        Self::Encode,
        Self::Bandwidth,
        Self::Late,
        Self::Overload,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Decode => "decode",
            Self::Superseded => "superseded",
            Self::Exact => "exact",
            Self::Encode => "encode",
            Self::Bandwidth => "bandwidth",
            Self::Late => "late",
            Self::Overload => "overload",
        }
    }
}

/// The counts of one stream, for `/metrics` and for its status.
pub(super) struct StreamMetrics {
    stream: Arc<str>,
    frames_in: Counter,
    decoded: Counter,
    processed: Counter,
    keyframes: Counter,
    dropped: Vec<(DropReason, Counter, AtomicU64)>,
    stages: Vec<(&'static str, Histogram)>,
    detector_stages: [Histogram; 4],
    server_added: Histogram,
    /// Boxes drawn, by what their place comes from.
    boxes: [Counter; 5],
    fps: Gauge,
    overload_step: Gauge,
    bytes_out: Counter,
    hidden_all: Counter,
    hidden_parts: Counter,
    counts: Counts,
    sent: Rate,
    decoded_lately: Rate,
    detected_lately: Rate,
    latency: LatencyBook,
    glass: Glass,
    /// One more than the number of the newest frame that was sent to anybody.
    sent_until: AtomicU64,
}

/// How often something happens, over the last [`FPS_WINDOW`].
#[derive(Default)]
struct Rate(Mutex<VecDeque<Instant>>);

impl Rate {
    fn note(&self) {
        let now = Instant::now();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push_back(now);
        trim(&mut times, now);
    }

    /// Times per second.
    fn get(&self) -> f64 {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trim(&mut times, Instant::now());
        #[allow(clippy::cast_precision_loss)] // at most a few hundred
        let rate = times.len() as f64 / FPS_WINDOW.as_secs_f64();
        rate
    }
}

#[derive(Default)]
struct Counts {
    frames_in: AtomicU64,
    decoded: AtomicU64,
    processed: AtomicU64,
    detections: AtomicU64,
    encodes: AtomicU64,
    bytes_out: AtomicU64,
}

/// A look at the counts of a stream.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) frames_in: u64,
    pub(super) decoded: u64,
    pub(super) processed: u64,
    pub(super) detections: u64,
    pub(super) encodes: u64,
    pub(super) bytes_out: u64,
    pub(super) dropped: Vec<(&'static str, u64)>,
    pub(super) fps: f64,
    pub(super) input_fps: f64,
    pub(super) detection_fps: f64,
}

/// The window of the frame rate.
const FPS_WINDOW: Duration = Duration::from_secs(2);

impl StreamMetrics {
    pub(super) fn new(stream: &Arc<str>) -> Self {
        let label = || stream.to_string();
        let detector_stage =
            |stage: &'static str| histogram!("video_processing_latency_seconds", "stream" => label(), "stage" => stage);
        Self {
            stream: Arc::clone(stream),
            frames_in: counter!("sightline_frames_in_total", "stream" => label()),
            decoded: counter!("sightline_frames_decoded_total", "stream" => label()),
            processed: counter!("video_frames_processed_total", "stream" => label()),
            keyframes: counter!("sightline_keyframes_out_total", "stream" => label()),
            dropped: DropReason::ALL
                .into_iter()
                .map(|reason| {
                    let counter =
                        counter!("video_frames_dropped_total", "stream" => label(), "reason" => reason.name());
                    (reason, counter, AtomicU64::new(0))
                })
                .collect(),
            stages: STAGES.iter().map(|stage| (stage.name, detector_stage(stage.name))).collect(),
            detector_stages: ["detect_queue", "preprocess", "infer", "postprocess"].map(detector_stage),
            server_added: histogram!("sightline_server_added_seconds", "stream" => label()),
            boxes: ["picture", "doubtful", "skipped", "predicted", "missed"]
                .map(|place| counter!("sightline_boxes_total", "stream" => label(), "place" => place)),
            fps: gauge!("video_pipeline_fps", "stream" => label()),
            overload_step: gauge!("sightline_overload_step", "stream" => label()),
            hidden_all: counter!("sightline_pictures_hidden_total", "stream" => label(), "cover" => "all"),
            hidden_parts: counter!("sightline_pictures_hidden_total", "stream" => label(), "cover" => "parts"),
            bytes_out: counter!("sightline_video_bytes_out_total", "stream" => label()),
            counts: Counts::default(),
            sent: Rate::default(),
            decoded_lately: Rate::default(),
            detected_lately: Rate::default(),
            latency: LatencyBook::new(Instant::now()),
            glass: Glass::new(stream),
            sent_until: AtomicU64::new(0),
        }
    }

    pub(super) fn frame_in(&self) {
        self.frames_in.increment(1);
        self.counts.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn frame_decoded(&self) {
        self.decoded.increment(1);
        self.counts.decoded.fetch_add(1, Ordering::Relaxed);
        self.decoded_lately.note();
    }

    /// A picture had something hidden: all of it, or parts.
    pub(super) fn hidden(&self, all: bool) {
        if all { &self.hidden_all } else { &self.hidden_parts }.increment(1);
    }

    pub(super) fn dropped(&self, reason: DropReason, frames: u64) {
        if let Some((_, counter, count)) = self.dropped.iter().find(|(known, _, _)| *known == reason) {
            counter.increment(frames);
            count.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// The stream stands on this step of giving way.
    pub(super) fn gives_way(&self, step: u8) {
        self.overload_step.set(f64::from(step));
    }

    pub(super) fn frame_encoded(&self, idr: bool, bytes: usize) {
        self.counts.encodes.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.increment(bytes as u64);
        self.counts.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        if idr {
            self.keyframes.increment(1);
        }
    }

    /// A viewer's copy of a frame has left. The frame counts once; how long it took, for each viewer.
    pub(super) fn frame_sent(&self, frame_id: u64, ledger: &FrameLedger) {
        if self.sent_until.fetch_max(frame_id + 1, Ordering::Relaxed) <= frame_id {
            self.processed.increment(1);
            self.counts.processed.fetch_add(1, Ordering::Relaxed);
            self.sent.note();
        }
        for (name, took) in ledger.stages() {
            if let Some((_, histogram)) = self.stages.iter().find(|(stage, _)| *stage == name) {
                histogram.record(took);
            }
        }
        if let Some(took) = ledger.server_added() {
            self.server_added.record(took);
        }
        self.latency.frame_sent(ledger, Instant::now());
    }

    pub(super) fn detected(&self, result: &Detections) {
        self.counts.detections.fetch_add(1, Ordering::Relaxed);
        self.detected_lately.note();
        let DetectionTimes { detect_queue, preprocess, infer, postprocess } = result.times;
        for (histogram, took) in self.detector_stages.iter().zip([detect_queue, preprocess, infer, postprocess]) {
            histogram.record(took);
        }
        self.latency.detected(&result.times, Instant::now());
        for event in &result.events {
            counter!(
                "sightline_region_events_total",
                "stream" => self.stream.to_string(),
                "region" => event.region.to_string(),
                "event" => event.kind.name(),
                "direction" => event.direction.map_or("", Direction::name)
            )
            .increment(1);
        }
        for detection in &result.items {
            counter!("video_detections_total", "stream" => self.stream.to_string(), "class_name" => detection.class_name.to_string())
                .increment(1);
        }
    }

    /// The publisher's page tells of frames that it has presented.
    pub(super) fn reported(&self, report: &LedgerMessage) {
        self.glass.reported(report, &self.latency, Instant::now());
    }

    /// The latency of the last ten seconds and five minutes.
    pub(super) fn latency(&self) -> LatencyReport {
        self.latency.report(&self.stream, Instant::now())
    }

    /// Boxes of a frame were put where their objects are; so many beside them are of objects that the newest result misses.
    pub(super) fn boxes(&self, counts: follow::Counts, missed: usize) {
        let counts = [counts.followed, counts.doubtful, counts.skipped, counts.predicted, missed as u64];
        self.boxes.iter().zip(counts).for_each(|(counter, count)| counter.increment(count));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let fps = self.sent.get();
        self.fps.set(fps);
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            frames_in: get(&self.counts.frames_in),
            decoded: get(&self.counts.decoded),
            processed: get(&self.counts.processed),
            detections: get(&self.counts.detections),
            encodes: get(&self.counts.encodes),
            bytes_out: get(&self.counts.bytes_out),
            dropped: self.dropped.iter().map(|(reason, _, count)| (reason.name(), get(count))).collect(),
            fps,
            input_fps: self.decoded_lately.get(),
            detection_fps: self.detected_lately.get(),
        }
    }
}

fn trim(sent: &mut VecDeque<Instant>, now: Instant) {
    while sent.front().is_some_and(|at| now.saturating_duration_since(*at) > FPS_WINDOW) {
        sent.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_can_be_read_back() {
        let metrics = StreamMetrics::new(&"cam".into());
        metrics.frame_in();
        metrics.frame_decoded();
        metrics.dropped(DropReason::Superseded, 2);
        metrics.frame_encoded(true, 100);
        for _viewer in 0..3 {
            metrics.frame_sent(0, &FrameLedger::arrived(Instant::now(), Instant::now()));
        }
        let seen = metrics.snapshot();
        assert_eq!((seen.frames_in, seen.decoded, seen.processed, seen.bytes_out), (1, 1, 1, 100));
        assert!(seen.dropped.contains(&("superseded", 2)) && seen.dropped.contains(&("decode", 0)));
        assert_eq!(seen.encodes, 1);
        assert!((seen.fps - 0.5).abs() < 1e-9, "one frame in two seconds: {}", seen.fps);
    }
}
