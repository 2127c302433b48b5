//! The threads that look at pictures, shared fairly by all streams and all models, beside the video and never in its way.
//!
//! Every stream has a [`Lane`](super::Lane); [`turns`](super::turns) says which is next. A lane has at most one frame in
//! work, so that its tracker sees them in order. Whoever offers a frame never waits.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::lane::{LaneState, lock};
use super::loaded::Loaded;
use super::pools::PoolStats;
use super::turns::{Priority, Turn, Turns};
use super::watch::{Fate, Overdue, Watch};
use super::{DetectError, Found, Picture, Settings};
use crate::media::{DetectionTimes, Frame};

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

/// A lane in the queue.
struct Seat {
    lane: Arc<LaneState>,
    model: Arc<Loaded>,
}

#[derive(Default)]
struct Queue {
    turns: Turns<Seat>,
    stopping: bool,
    /// Threads that take turns: started, neither gone nor given up.
    alive: usize,
}

/// What is in work: a lane's turn, on a thread, by a detector of a model.
struct Job {
    turn: Turn,
    worker: usize,
    lane: Arc<LaneState>,
    model: Arc<Loaded>,
}

/// What the threads and the lanes share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    work_waits: Condvar,
    /// A thread is gone.
    gone: Condvar,
    workers: usize,
    /// By number; none for one that could not be replaced.
    threads: Mutex<Vec<Option<JoinHandle<()>>>>,
    watcher: Mutex<Option<JoinHandle<()>>>,
    watch: Watch<Job>,
    started: Instant,
    working: AtomicUsize,
    frames: AtomicU64,
    panics: AtomicU64,
    overdue: AtomicU64,
    replaced: AtomicU64,
    busy_ns: AtomicU64,
    last: Mutex<Option<DetectionTimes>>,
}

impl Shared {
    /// Starts `workers` threads, and one that watches them.
    pub(super) fn start(workers: usize, deadline: Duration) -> Result<Arc<Self>, DetectError> {
        let shared = Arc::new(Self {
            queue: Mutex::default(),
            work_waits: Condvar::new(),
            gone: Condvar::new(),
            workers,
            threads: Mutex::new(std::iter::repeat_with(|| None).take(workers).collect()),
            watcher: Mutex::default(),
            watch: Watch::new(deadline),
            started: Instant::now(),
            working: AtomicUsize::new(0),
            frames: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            last: Mutex::new(None),
        });
        let started = shared.start_threads();
        if started.is_err() {
            shared.shutdown();
        }
        started.map(|()| shared)
    }

    fn start_threads(self: &Arc<Self>) -> Result<(), DetectError> {
        let refused = |error: std::io::Error| DetectError::Thread { workers: self.workers, reason: error.to_string() };
        for number in 0..self.workers {
            self.spawn(number).map_err(refused)?;
        }
        let shared = Arc::clone(self);
        let watcher = thread::Builder::new().name("detect-watch".to_owned()).spawn(move || shared.watch());
        *lock(&self.watcher) = Some(watcher.map_err(refused)?);
        Ok(())
    }

    fn spawn(self: &Arc<Self>, number: usize) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        lock(&self.queue).alive += 1;
        let thread = thread::Builder::new().name(format!("detect-{number}")).spawn(move || {
            give_way();
            // One that was given up is no longer counted.
            if shared.work(number) != Fate::GivenUp {
                shared.leave();
            }
        });
        let thread = thread.inspect_err(|_| self.leave())?;
        // What was there is the handle of a thread that was given up: nobody waits for it.
        if let Some(place) = lock(&self.threads).get_mut(number) {
            *place = Some(thread);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> &Mutex<Vec<Option<JoinHandle<()>>>> {
        &self.threads
    }

    fn leave(&self) {
        lock(&self.queue).alive -= 1;
        self.gone.notify_all();
    }

    /// Ends what can be ended of the frames in work, and joins the threads; those whose detector does not end within a second
    /// are left to themselves.
    pub(super) fn shutdown(&self) {
        lock(&self.queue).stopping = true;
        self.work_waits.notify_all();
        for stopper in self.watch.hurry(Instant::now()) {
            stopper();
        }
        // The last owner may be whoever took a result, on a thread of the pool: that one cannot wait for itself.
        let me = thread::current().id();
        let others = |thread: &JoinHandle<()>| thread.thread().id() != me;
        let own = usize::from(lock(&self.threads).iter().flatten().any(|thread| !others(thread)));
        let queue = lock(&self.queue);
        drop(self.gone.wait_while(queue, |queue| queue.alive > own).unwrap_or_else(PoisonError::into_inner));
        let workers: Vec<_> = lock(&self.threads).iter_mut().filter_map(Option::take).collect();
        self.watch.stop();
        let watcher = lock(&self.watcher).take();
        for thread in workers.into_iter().chain(watcher).filter(others) {
            // The loops catch panics, so there is no error to report here.
            let _ = thread.join();
        }
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

    /// Gives the lanes of `old` to `new`, from their next frames on, and says which they are.
    pub(super) fn reseat(&self, old: &Arc<Loaded>, new: &Arc<Loaded>) -> Vec<Arc<LaneState>> {
        let mut queue = lock(&self.queue);
        let seats = queue.turns.kept_mut().filter(|seat| Arc::ptr_eq(&seat.model, old));
        // Whoever calls holds the old one too: it does not go under the lock.
        let moved = seats.map(|seat| {
            seat.model = Arc::clone(new);
            Arc::clone(&seat.lane)
        });
        moved.collect()
    }

    /// The streams whose lanes use `model`, by name.
    pub(super) fn streams_of(&self, model: &Arc<Loaded>) -> BTreeSet<Arc<str>> {
        let queue = lock(&self.queue);
        let seats = queue.turns.kept().filter(|seat| Arc::ptr_eq(&seat.model, model));
        seats.map(|seat| Arc::clone(seat.lane.stream())).collect()
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

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            workers: self.workers,
            working: self.working.load(Ordering::Relaxed),
            lanes: lock(&self.queue).turns.len(),
            frames: self.frames.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            overdue: self.overdue.load(Ordering::Relaxed),
            replaced: self.replaced.load(Ordering::Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed)),
            uptime: self.started.elapsed(),
            last: *lock(&self.last),
        }
    }

    fn next(&self, worker: usize) -> Option<Arc<Job>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.stopping {
                return None;
            }
            if let Some((turn, seat)) = queue.turns.next() {
                let (lane, model) = (Arc::clone(&seat.lane), Arc::clone(&seat.model));
                return Some(Arc::new(Job { turn, worker, lane, model }));
            }
            queue = self.work_waits.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of one thread, and how it ended.
    fn work(&self, worker: usize) -> Fate {
        while let Some(job) = self.next(worker) {
            self.working.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            let (looked, fate) = (Cell::new(0), Cell::new(Fate::InTime));
            let served = catch_unwind(AssertUnwindSafe(|| {
                job.lane.serve(job.turn.number, &job.model.model.info().name, |frame, settings| {
                    looked.set(1);
                    self.look(&job, frame, settings, &fate)
                })
            }));
            let took = started.elapsed();
            let looked = looked.get();
            self.frames.fetch_add(looked, Ordering::Relaxed);
            job.model.frames.fetch_add(looked, Ordering::Relaxed);
            self.busy_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.working.fetch_sub(1, Ordering::Relaxed);
            if fate.get() == Fate::GivenUp {
                // Another has this one's place.
                return Fate::GivenUp;
            }
            let mut cost = took;
            match served {
                Ok(Some(served)) => {
                    cost = served.cost;
                    *lock(&job.model.last) = Some(served.times);
                    *lock(&self.last) = Some(served.times);
                }
                Ok(None) => {}
                Err(panic) => {
                    self.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(panic = said(&*panic), "whoever takes the detections panicked");
                }
            }
            lock(&self.queue).turns.done(job.turn, cost);
        }
        Fate::InTime
    }

    /// One frame through a detector. A panic costs the detector, whose state can no longer be trusted, and so does the
    /// deadline.
    fn look(
        &self,
        job: &Arc<Job>,
        frame: &Frame,
        settings: &Settings,
        fate: &Cell<Fate>,
    ) -> Result<Found, DetectError> {
        let (lane, model) = (&job.lane, &job.model);
        let own = model.model.per_stream();
        let looked = self.unpanicked(|| {
            let held = if own { lock(lane.detector()).take() } else { None };
            match held {
                Some(detector) => Ok(detector),
                None if own => model.model.detector(),
                None => model.take(),
            }
        });
        let looked = looked.and_then(|mut detector| {
            self.watch.begin(job.turn.number, detector.stopper(), Arc::clone(job), Instant::now());
            let found = self.unpanicked(|| {
                let found = detector.detect(Picture::I420(&frame.picture), settings);
                // Out of here only if it did not panic.
                Ok((found, detector))
            });
            fate.set(self.watch.end(job.turn.number));
            match (found, fate.get()) {
                (Ok((found, detector)), Fate::InTime) => {
                    if own {
                        *lock(lane.detector()) = Some(detector);
                    } else {
                        model.put_back(detector);
                    }
                    found
                }
                (found, fate) => {
                    if !own && fate != Fate::GivenUp {
                        model.lost();
                    }
                    let found = found.and_then(|(found, _)| found);
                    if fate == Fate::Ended { found.map_err(|_| self.too_slow()) } else { found }
                }
            }
        });
        if looked.is_err() && fate.get() != Fate::GivenUp {
            model.failed.fetch_add(1, Ordering::Relaxed);
        }
        looked
    }

    fn too_slow(&self) -> DetectError {
        let limit = self.watch.deadline().as_millis();
        DetectError::Frame(format!(
            "the detector took longer than {limit} ms and was ended; [detect] deadline_ms sets that"
        ))
    }

    fn unpanicked<T>(&self, what: impl FnOnce() -> Result<T, DetectError>) -> Result<T, DetectError> {
        catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
            self.panics.fetch_add(1, Ordering::Relaxed);
            Err(DetectError::Frame(format!("the detector panicked: {}", said(&*panic))))
        })
    }

    /// The life of the thread that holds the deadline.
    fn watch(self: &Arc<Self>) {
        while let Some(overdue) = self.watch.next() {
            match overdue {
                Overdue::End(job, stopper) => {
                    self.overdue.fetch_add(1, Ordering::Relaxed);
                    job.model.overdue.fetch_add(1, Ordering::Relaxed);
                    if let Some(stopper) = stopper {
                        stopper();
                    }
                }
                Overdue::GiveUp(job) => self.give_up(&job),
            }
        }
    }

    /// Gives up a frame whose detector does not end, with the detector and its thread.
    fn give_up(self: &Arc<Self>, job: &Job) {
        let Job { turn, worker, lane, model } = job;
        tracing::error!(stream = %lane.stream(), model = %model.model.info().name, "a detector does not end: its thread is replaced");
        lane.give_up(turn.number, &self.too_slow());
        model.failed.fetch_add(1, Ordering::Relaxed);
        if !model.model.per_stream() {
            model.lost();
        }
        let waits = {
            let mut queue = lock(&self.queue);
            queue.alive -= 1;
            queue.turns.done(*turn, self.watch.deadline()) && !queue.stopping
        };
        self.gone.notify_all();
        if waits {
            self.work_waits.notify_one();
        }
        self.replaced.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = lock(&self.threads).get_mut(*worker) {
            *place = None;
        }
        if !lock(&self.queue).stopping
            && let Err(error) = self.spawn(*worker)
        {
            tracing::error!(%error, "the system gives no thread in its place: one less detects");
        }
    }
}

/// The text of a panic.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
