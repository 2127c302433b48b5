//! One stream's way through the pool: its newest frame, its settings, its tracker, its counts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::pool::Shared;
use super::tracker::Tracker;
use super::{DetectError, Detector, Found, Settings};
use crate::media::{DetectionTimes, Detections, Frame, Mark, Slot};

/// The least time between two log lines about failures of one lane.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Takes the results of a lane, on a thread of the pool: it should be quick, and must not wait for the lane.
pub(super) type OnResult = dyn Fn(Arc<Detections>) + Send + Sync;

/// What became of the frames of a lane. Every frame offered is skipped, finished or failed, or is still on its way, or was
/// when the lane went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Frames offered.
    pub offered: u64,
    /// Frames that a newer one displaced before a worker was free.
    pub skipped: u64,
    /// Frames with a result.
    pub finished: u64,
    /// Frames that an error or a panic of the detector cost.
    pub failed: u64,
}

/// A stream's place in a [`Pool`](super::Pool). Dropping it takes the stream out at once: the result of a frame that a
/// worker holds is discarded, unless it is just being delivered.
pub struct Lane {
    state: Arc<LaneState>,
    shared: Arc<Shared>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<LaneState>) -> Self {
        Self { state, shared }
    }

    /// Puts `frame` up to be looked at, in place of one that still waits. Never waits for a worker.
    pub fn offer(&self, frame: Frame) {
        self.state.offered.fetch_add(1, Ordering::Relaxed);
        let displaced = self.state.waiting.put(Waiting { frame, offered: Instant::now() });
        if displaced.is_some() {
            self.state.skipped.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.wake(&self.state);
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.state.settings.load_full()
    }

    /// Sets what holds from the next frame on that a worker takes.
    pub fn set_settings(&self, settings: Settings) {
        self.state.settings.store(Arc::new(settings));
    }

    /// What became of the frames so far.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        self.state.counters()
    }

    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &Arc<str> {
        &self.state.stream
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.state.close();
        self.shared.remove(&self.state);
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("stream", &self.state.stream).field("counters", &self.counters()).finish()
    }
}

struct Waiting {
    frame: Frame,
    offered: Instant,
}

/// What a worker needs of a lane.
pub(super) struct LaneState {
    stream: Arc<str>,
    model: Arc<str>,
    settings: ArcSwap<Settings>,
    waiting: Slot<Waiting>,
    on_result: Mutex<Option<Arc<OnResult>>>,
    /// Only the worker that serves the lane locks it, and one at a time does: nobody ever waits here.
    work: Mutex<Work>,
    offered: AtomicU64,
    skipped: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
}

/// What belongs to the stream from one frame to the next.
#[derive(Default)]
struct Work {
    tracker: Tracker,
    /// Of a model that keeps the state of one stream.
    detector: Option<Box<dyn Detector>>,
    size: Option<(usize, usize)>,
    logged: Option<Instant>,
    unlogged: u64,
}

impl LaneState {
    pub(super) fn new(stream: Arc<str>, model: Arc<str>, settings: Settings, on_result: Arc<OnResult>) -> Self {
        Self {
            stream,
            model,
            settings: ArcSwap::from_pointee(settings),
            waiting: Slot::new(),
            on_result: Mutex::new(Some(on_result)),
            work: Mutex::default(),
            offered: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    fn counters(&self) -> LaneCounters {
        LaneCounters {
            offered: self.offered.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn close(&self) {
        let on_result = lock(&self.on_result).take();
        drop(on_result);
        drop(self.waiting.take());
    }

    /// Looks at the newest frame, if one waits, and delivers the result. `run` gets the place of the stream's own detector.
    /// Returns what the frame cost, unless it failed.
    pub(super) fn serve(
        &self,
        run: impl FnOnce(&mut Option<Box<dyn Detector>>, &Frame, &Settings) -> Result<Found, DetectError>,
    ) -> Option<DetectionTimes> {
        let Waiting { frame, offered } = self.waiting.take()?;
        let taken = Instant::now();
        let settings = self.settings.load_full();
        let mut work = lock(&self.work);
        let found = match run(&mut work.detector, &frame, &settings) {
            Ok(found) => found,
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                work.log(&self.stream, &error);
                return None;
            }
        };
        let Found { mut items, preprocess, infer, postprocess } = found;
        let tracking = Instant::now();
        let arrived = frame.ledger.at(Mark::LastPacket).unwrap_or(offered);
        work.fit_to(frame.picture.width(), frame.picture.height());
        work.tracker.update(arrived, &mut items);
        drop(work);
        let times = DetectionTimes {
            detect_queue: taken.saturating_duration_since(offered),
            preprocess,
            infer,
            postprocess: postprocess + tracking.elapsed(),
        };
        self.finished.fetch_add(1, Ordering::Relaxed);
        let on_result = lock(&self.on_result).clone();
        if let Some(on_result) = on_result {
            let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
            on_result(Arc::new(Detections {
                frame_id: frame.id,
                rtp_timestamp: frame.rtp_timestamp,
                captured: frame.captured,
                arrived,
                width: side(frame.picture.width()),
                height: side(frame.picture.height()),
                model: Arc::clone(&self.model),
                items,
                times,
            }));
        }
        Some(times)
    }
}

impl Work {
    /// Boxes of a picture of another size are scaled: a browser changes its resolution with the bandwidth.
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    fn fit_to(&mut self, width: usize, height: usize) {
        if let Some((old_width, old_height)) = self.size.replace((width, height))
            && (old_width, old_height) != (width, height)
        {
            self.tracker.rescale(width as f32 / old_width as f32, height as f32 / old_height as f32);
        }
    }

    fn log(&mut self, stream: &str, error: &DetectError) {
        if self.logged.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut self.unlogged);
        self.logged = Some(Instant::now());
        tracing::warn!(stream, %error, not_logged_before = more, "a frame was lost to the detector");
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half-done by a panic: a detector's own state is thrown away with it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
