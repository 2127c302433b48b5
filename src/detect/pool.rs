//! The threads that look at pictures, shared fairly by all streams, beside the video and never in its way.
//!
//! Every stream has a [`Lane`]. Of the lanes in which a frame waits, the one that was served longest ago is next; a lane has
//! at most one frame in work, so that its tracker sees them in order. Whoever offers a frame never waits.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::lane::{Lane, LaneState, lock};
use super::{Config, DetectError, Detector, Found, Model, ModelInfo, Picture, Settings};
use crate::media::{DetectionTimes, Detections, Frame};

/// How much the pool has worked since it started. Two of these give the load between them.
#[derive(Clone, Copy, Debug)]
pub struct PoolStats {
    /// Threads.
    pub workers: usize,
    /// Threads that hold a frame now.
    pub working: usize,
    /// Streams.
    pub lanes: usize,
    /// Frames looked at, failures included.
    pub frames: u64,
    /// Panics of detectors, and of those who take the results.
    pub panics: u64,
    /// The time spent on frames by all threads together; a frame counts when it is done.
    pub busy: Duration,
    /// The time since the start.
    pub uptime: Duration,
    /// What the newest finished frame cost.
    pub last: Option<DetectionTimes>,
}

impl PoolStats {
    /// The share of the threads' time that was spent on frames since `earlier`, 0 to 1.
    #[must_use]
    pub fn load_since(&self, earlier: &Self) -> f64 {
        let spent = self.busy.saturating_sub(earlier.busy).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // a handful of threads
        let available = self.uptime.saturating_sub(earlier.uptime).as_secs_f64() * self.workers as f64;
        if available > 0.0 { (spent / available).min(1.0) } else { 0.0 }
    }
}

/// How far the detector's threads stand back behind the video's (Linux: nice, per thread). On a machine with too little
/// time for both, it is the detections that become fewer.
const NICE: i32 = 10;

fn give_way() {
    // On Linux the priority of "this process" is the calling thread's; elsewhere it is not worth the risk.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the detector's thread keeps its priority");
    }
}

/// Detector threads `detect-0`, `detect-1`… with a detector each. Dropping the pool joins them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    workers: usize,
}

impl Pool {
    /// Starts the threads: `config.workers`, or one for every two cores. Their detectors are made here, so that a model that
    /// cannot be used is refused now.
    ///
    /// # Errors
    /// [`DetectError`] of the detectors; [`DetectError::Unusable`] when the system gives no thread.
    pub fn start(model: Model, config: &Config) -> Result<Arc<Self>, DetectError> {
        let workers = config.workers.unwrap_or_else(default_workers).max(1);
        let mut detectors = Vec::with_capacity(workers);
        for _ in 0..workers {
            // The state of one stream is made by that stream's first frame.
            detectors.push(if model.per_stream() { None } else { Some(model.detector()?) });
        }
        let shared = Arc::new(Shared {
            model,
            queue: Mutex::default(),
            work_waits: Condvar::new(),
            started: Instant::now(),
            working: AtomicUsize::new(0),
            frames: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            last: Mutex::new(None),
        });
        let pool = Arc::new(Self { shared: Arc::clone(&shared), threads: Mutex::default(), workers });
        for (n, detector) in detectors.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("detect-{n}")).spawn(move || {
                give_way();
                shared.work(detector);
            });
            let thread = thread.map_err(|error| DetectError::Unusable {
                model: pool.model_info().name.to_string(),
                reason: format!("the system gave no thread for detector {n} of {workers}: {error}"),
            })?;
            lock(&pool.threads).push(thread);
        }
        Ok(pool)
    }

    /// A place for one more stream. `on_result` is called on a thread of the pool once for every frame that is finished, in
    /// the order of the frames; it must be quick.
    pub fn lane(
        &self,
        stream: Arc<str>,
        settings: Settings,
        on_result: impl Fn(Arc<Detections>) + Send + Sync + 'static,
    ) -> Lane {
        let model = Arc::clone(&self.model_info().name);
        let state = Arc::new(LaneState::new(stream, model, settings, Arc::new(on_result)));
        lock(&self.shared.queue).places.push(Place::new(Arc::clone(&state)));
        Lane::new(Arc::clone(&self.shared), state)
    }

    /// The model that looks.
    #[must_use]
    pub fn model_info(&self) -> &ModelInfo {
        self.shared.model.info()
    }

    /// How much the pool has worked.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let shared = &self.shared;
        PoolStats {
            workers: self.workers,
            working: shared.working.load(Ordering::Relaxed),
            lanes: lock(&shared.queue).places.len(),
            frames: shared.frames.load(Ordering::Relaxed),
            panics: shared.panics.load(Ordering::Relaxed),
            busy: Duration::from_nanos(shared.busy_ns.load(Ordering::Relaxed)),
            uptime: shared.started.elapsed(),
            last: *lock(&shared.last),
        }
    }

    /// Lets every thread finish the frame in its hands, and joins them. Frames that wait or come later are not looked at.
    pub fn shutdown(&self) {
        lock(&self.shared.queue).stopping = true;
        self.shared.work_waits.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // The last owner may be whoever took a result, on a thread of the pool: that one cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                // The loop catches panics, so there is no error to report here.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Half of the cores: the other half is the video's.
fn default_workers() -> usize {
    (thread::available_parallelism().map_or(1, NonZero::get) / 2).max(1)
}

/// What the threads and the lanes share.
pub(super) struct Shared {
    model: Model,
    queue: Mutex<Queue>,
    work_waits: Condvar,
    started: Instant,
    working: AtomicUsize,
    frames: AtomicU64,
    panics: AtomicU64,
    busy_ns: AtomicU64,
    last: Mutex<Option<DetectionTimes>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("model", &self.model).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    places: Vec<Place>,
    /// Counts the frames handed out.
    turn: u64,
    stopping: bool,
}

/// A lane in the queue.
struct Place {
    lane: Arc<LaneState>,
    /// A frame waits.
    ready: bool,
    /// A thread holds a frame.
    in_work: bool,
    /// The turn in which the lane was last served.
    served: u64,
}

impl Place {
    fn new(lane: Arc<LaneState>) -> Self {
        Self { lane, ready: false, in_work: false, served: 0 }
    }
}

impl Queue {
    fn place(&mut self, lane: &Arc<LaneState>) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| Arc::ptr_eq(&place.lane, lane))
    }

    fn next(&mut self) -> Option<Arc<LaneState>> {
        let ready = self.places.iter_mut().filter(|place| place.ready && !place.in_work);
        let place = ready.min_by_key(|place| place.served)?;
        self.turn += 1;
        (place.ready, place.in_work, place.served) = (false, true, self.turn);
        Some(Arc::clone(&place.lane))
    }
}

impl Shared {
    /// Says that a frame waits in `lane`.
    pub(super) fn wake(&self, lane: &Arc<LaneState>) {
        let mut queue = lock(&self.queue);
        if let Some(place) = queue.place(lane) {
            place.ready = true;
            // The thread that serves the lane looks again when it is done: nobody else could take the frame.
            if !place.in_work {
                drop(queue);
                self.work_waits.notify_one();
            }
        }
    }

    pub(super) fn remove(&self, lane: &Arc<LaneState>) {
        lock(&self.queue).places.retain(|place| !Arc::ptr_eq(&place.lane, lane));
    }

    fn next_lane(&self) -> Option<Arc<LaneState>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.stopping {
                return None;
            }
            if let Some(lane) = queue.next() {
                return Some(lane);
            }
            queue = self.work_waits.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of one thread.
    fn work(&self, mut detector: Option<Box<dyn Detector>>) {
        while let Some(lane) = self.next_lane() {
            self.working.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            let served = catch_unwind(AssertUnwindSafe(|| {
                lane.serve(|own, frame, settings| {
                    self.look(if self.model.per_stream() { own } else { &mut detector }, frame, settings)
                })
            }));
            match served {
                Ok(Some(times)) => *lock(&self.last) = Some(times),
                Ok(None) => {}
                Err(panic) => {
                    self.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(panic = said(&*panic), "whoever takes the detections panicked");
                }
            }
            self.busy_ns.fetch_add(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.frames.fetch_add(1, Ordering::Relaxed);
            self.working.fetch_sub(1, Ordering::Relaxed);
            if let Some(place) = lock(&self.queue).place(&lane) {
                place.in_work = false;
            }
        }
    }

    /// One frame through the detector at `place`, which is made anew if it is not there. A panic costs the detector, whose
    /// state can no longer be trusted.
    fn look(
        &self,
        place: &mut Option<Box<dyn Detector>>,
        frame: &Frame,
        settings: &Settings,
    ) -> Result<Found, DetectError> {
        let held = place.take();
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let mut detector = match held {
                Some(detector) => detector,
                None => self.model.detector()?,
            };
            let found = detector.detect(Picture::I420(&frame.picture), settings);
            *place = Some(detector);
            found
        }));
        looked.unwrap_or_else(|panic| {
            self.panics.fetch_add(1, Ordering::Relaxed);
            Err(DetectError::Frame(format!("the detector panicked: {}", said(&*panic))))
        })
    }
}

/// The text of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
