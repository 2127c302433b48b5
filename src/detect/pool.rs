//! The threads that look at pictures, shared fairly by all streams and all models, beside the video and never in its way.
//!
//! Every stream has a [`Lane`](super::Lane); [`turns`](super::turns) says which is next. A lane has at most one frame in
//! work, so that its tracker sees them in order. Whoever offers a frame never waits.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::lane::{LaneState, lock};
use super::turns::{Priority, Turn, Turns};
use super::{DetectError, Detector, Found, Model, Picture, Settings};
use crate::media::{DetectionTimes, Frame};

/// How much the detector's threads have worked since they started. Two of these give the load between them.
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

pub(super) fn give_way() {
    // On Linux the priority of "this process" is the calling thread's; elsewhere it is not worth the risk.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the detector's thread keeps its priority");
    }
}

/// A model in use, and its detectors: as many as streams use it at most, and as threads.
pub(super) struct Loaded {
    pub model: Model,
    shelf: Mutex<Shelf>,
    pub frames: AtomicU64,
    pub failed: AtomicU64,
    pub last: Mutex<Option<DetectionTimes>>,
}

#[derive(Default)]
struct Shelf {
    idle: Vec<Box<dyn Detector>>,
    /// With those that a thread holds.
    made: usize,
}

impl Loaded {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model,
            shelf: Mutex::default(),
            frames: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// How many detectors there are; those of single streams are not counted.
    pub(super) fn detectors(&self) -> usize {
        lock(&self.shelf).made
    }

    /// Makes detectors until there are so many.
    pub(super) fn stock(&self, count: usize) -> Result<(), DetectError> {
        // The state of one stream is made by that stream's first frame.
        while !self.model.per_stream() && self.detectors() < count {
            let detector = self.model.detector()?;
            let mut shelf = lock(&self.shelf);
            shelf.made += 1;
            shelf.idle.push(detector);
        }
        Ok(())
    }

    /// Takes a detector out, which is made anew if one was lost.
    fn take(&self) -> Result<Box<dyn Detector>, DetectError> {
        if let Some(detector) = lock(&self.shelf).idle.pop() {
            return Ok(detector);
        }
        let detector = self.model.detector()?;
        lock(&self.shelf).made += 1;
        Ok(detector)
    }

    fn put_back(&self, detector: Box<dyn Detector>) {
        lock(&self.shelf).idle.push(detector);
    }

    /// One that was taken does not come back.
    fn lost(&self) {
        let mut shelf = lock(&self.shelf);
        shelf.made = shelf.made.saturating_sub(1);
    }
}

/// A lane in the queue.
struct Seat {
    lane: Arc<LaneState>,
    model: Arc<Loaded>,
}

#[derive(Default)]
struct Queue {
    turns: Turns<Seat>,
    stopping: bool,
}

/// What the threads and the lanes share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    work_waits: Condvar,
    workers: usize,
    started: Instant,
    working: AtomicUsize,
    frames: AtomicU64,
    panics: AtomicU64,
    busy_ns: AtomicU64,
    last: Mutex<Option<DetectionTimes>>,
}

impl Shared {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            queue: Mutex::default(),
            work_waits: Condvar::new(),
            workers,
            started: Instant::now(),
            working: AtomicUsize::new(0),
            frames: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// Starts thread `number`.
    pub(super) fn spawn(self: &Arc<Self>, number: usize) -> Result<JoinHandle<()>, DetectError> {
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name(format!("detect-{number}")).spawn(move || {
            give_way();
            shared.work();
        });
        thread.map_err(|error| DetectError::Thread { number, workers: self.workers, reason: error.to_string() })
    }

    /// Gives `lane` its place, unless it is gone.
    pub(super) fn attach(&self, lane: &Arc<LaneState>, model: &Arc<Loaded>) {
        let priority = lock(&lane.priority);
        let mut queue = lock(&self.queue);
        // A lane is closed before it is taken out, so that it cannot slip in behind.
        if !lane.closed() {
            queue.turns.add(lane.id, *priority, Seat { lane: Arc::clone(lane), model: Arc::clone(model) });
            // A frame may wait since before.
            queue.turns.ready(lane.id);
            drop(queue);
            self.work_waits.notify_one();
        }
    }

    /// How many lanes use `model`.
    pub(super) fn lanes_of(&self, model: &Arc<Loaded>) -> usize {
        lock(&self.queue).turns.kept().filter(|seat| Arc::ptr_eq(&seat.model, model)).count()
    }

    /// Says that a frame waits in `lane`.
    pub(super) fn wake(&self, lane: &Arc<LaneState>) {
        // The thread that serves the lane looks again when it is done: nobody else could take the frame.
        if lock(&self.queue).turns.ready(lane.id) {
            self.work_waits.notify_one();
        }
    }

    pub(super) fn set_priority(&self, lane: &Arc<LaneState>, priority: Priority) {
        let mut held = lock(&lane.priority);
        *held = priority;
        lock(&self.queue).turns.set_priority(lane.id, priority);
    }

    pub(super) fn remove(&self, lane: &Arc<LaneState>) {
        let seat = lock(&self.queue).turns.remove(lane.id);
        // The last lane of a model takes its detectors along: not under the lock.
        drop(seat);
    }

    pub(super) fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.work_waits.notify_all();
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            workers: self.workers,
            working: self.working.load(Ordering::Relaxed),
            lanes: lock(&self.queue).turns.len(),
            frames: self.frames.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed)),
            uptime: self.started.elapsed(),
            last: *lock(&self.last),
        }
    }

    fn next(&self) -> Option<(Turn, Arc<LaneState>, Arc<Loaded>)> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.stopping {
                return None;
            }
            if let Some((turn, seat)) = queue.turns.next() {
                return Some((turn, Arc::clone(&seat.lane), Arc::clone(&seat.model)));
            }
            queue = self.work_waits.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of one thread.
    fn work(&self) {
        while let Some((turn, lane, model)) = self.next() {
            self.working.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            let looked = AtomicUsize::new(0);
            let served = catch_unwind(AssertUnwindSafe(|| {
                lane.serve(turn.number, &model.model.info().name, |frame, settings| {
                    looked.store(1, Ordering::Relaxed);
                    self.look(&lane, &model, frame, settings)
                })
            }));
            let took = started.elapsed();
            let mut cost = took;
            match served {
                Ok(Some(served)) => {
                    cost = served.cost;
                    *lock(&model.last) = Some(served.times);
                    *lock(&self.last) = Some(served.times);
                }
                Ok(None) => {}
                Err(panic) => {
                    self.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(panic = said(&*panic), "whoever takes the detections panicked");
                }
            }
            self.busy_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let looked = looked.into_inner() as u64;
            self.frames.fetch_add(looked, Ordering::Relaxed);
            model.frames.fetch_add(looked, Ordering::Relaxed);
            self.working.fetch_sub(1, Ordering::Relaxed);
            lock(&self.queue).turns.done(turn, cost);
        }
    }

    /// One frame through a detector. A panic costs the detector, whose state can no longer be trusted.
    fn look(&self, lane: &LaneState, model: &Loaded, frame: &Frame, settings: &Settings) -> Result<Found, DetectError> {
        let own = model.model.per_stream();
        let held = if own { lock(lane.detector()).take() } else { None };
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let mut detector = match held {
                Some(detector) => detector,
                None if own => model.model.detector()?,
                None => model.take()?,
            };
            let found = detector.detect(Picture::I420(&frame.picture), settings);
            if own {
                *lock(lane.detector()) = Some(detector);
            } else {
                model.put_back(detector);
            }
            found
        }));
        let found = looked.unwrap_or_else(|panic| {
            self.panics.fetch_add(1, Ordering::Relaxed);
            if !own {
                model.lost();
            }
            Err(DetectError::Frame(format!("the detector panicked: {}", said(&*panic))))
        });
        if found.is_err() {
            model.failed.fetch_add(1, Ordering::Relaxed);
        }
        found
    }
}

/// The text of a panic.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
