//! The threads that look at pictures, shared fairly by all streams and all models, beside the video and never in its way.
//!
//! Every stream has a [`Lane`](super::Lane); [`turns`](super::turns) says which is next. A lane has at most one frame in
//! work, so that its tracker sees them in order. Whoever offers a frame never waits. A thread that finds several lanes of a model
//! waiting whose graph takes several pictures looks at them together: at those that are next, and that no other thread is free
//! for. It waits for none.

mod look;
mod strain;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::strain::Strain;
use super::DetectError;
use super::lane::{LaneState, lock};
use super::loaded::Loaded;
use super::pools::PoolStats;
use super::turns::{Priority, Turn, Turns};
use super::watch::{Fate, Overdue, Watch};
use crate::media::DetectionTimes;

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
    /// Those of them that wait for a frame.
    idle: usize,
}

/// What is in work: the turns of one lane, or of several of one model, on a thread, by a detector of the model.
struct Job {
    turns: Vec<(Turn, Arc<LaneState>)>,
    worker: usize,
    model: Arc<Loaded>,
}

impl Job {
    /// The number that it is watched by: its first turn's.
    fn number(&self) -> u64 {
        self.turns.first().map_or(0, |(turn, _)| turn.number)
    }
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
    strain: Strain,
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
            strain: Strain::default(),
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

    /// Whether its threads lack cores to look `every` so often for each lane.
    pub(super) fn lacks(&self, every: Duration) -> bool {
        let lanes = lock(&self.queue).turns.len();
        self.strain.lacks(lanes, self.workers, every)
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            workers: self.workers,
            working: self.working.load(Ordering::Relaxed),
            lanes: lock(&self.queue).turns.len(),
            frames: self.frames.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            overdue: self.overdue.load(Ordering::Relaxed),
            loads_overdue: 0,
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
                let mut turns = vec![(turn, lane)];
                let most = model.model.batch();
                if most > 1 {
                    let share = look::share(queue.turns.waiting() + 1, queue.idle, most);
                    while turns.len() < share
                        && let Some((turn, seat)) = queue.turns.next_if(|seat| Arc::ptr_eq(&seat.model, &model))
                    {
                        turns.push((turn, Arc::clone(&seat.lane)));
                    }
                }
                return Some(Arc::new(Job { turns, worker, model }));
            }
            queue.idle += 1;
            queue = self.work_waits.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// The life of one thread, and how it ended.
    fn work(&self, worker: usize) -> Fate {
        while let Some(job) = self.next(worker) {
            self.working.fetch_add(1, Ordering::Relaxed);
            let (started, waited) = (Instant::now(), strain::waited());
            let taken: Vec<_> =
                job.turns.iter().filter_map(|(turn, lane)| Some((*turn, lane, lane.take(turn.number)?))).collect();
            let frames: Vec<_> = taken.iter().map(|(_, lane, taken)| (*lane, taken)).collect();
            let (found, fate) = self.look(&job, &frames);
            let looked = taken.len() as u64;
            self.frames.fetch_add(looked, Ordering::Relaxed);
            job.model.frames.fetch_add(looked, Ordering::Relaxed);
            if looked > 1 {
                job.model.batched.fetch_add(looked, Ordering::Relaxed);
            }
            let mut costs = Vec::new();
            for ((turn, lane, taken), found) in taken.into_iter().zip(found) {
                costs.push((turn.number, self.deliver(&job, turn, lane, taken, found)));
            }
            let took = started.elapsed();
            self.busy_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let waited = strain::waited().saturating_sub(waited);
            self.strain.note(took, waited, looked, started + took);
            self.working.fetch_sub(1, Ordering::Relaxed);
            if fate == Fate::GivenUp {
                // Another has this one's place.
                return Fate::GivenUp;
            }
            let part = took / u32::try_from(job.turns.len()).unwrap_or(u32::MAX).max(1);
            let mut queue = lock(&self.queue);
            let mut wait = 0;
            for (turn, _) in &job.turns {
                let cost = costs.iter().find(|(number, _)| *number == turn.number).and_then(|(_, cost)| *cost);
                wait += usize::from(queue.turns.done(*turn, cost.unwrap_or(part)));
            }
            drop(queue);
            // This thread is there for one of them.
            for _ in 1..wait {
                self.work_waits.notify_one();
            }
        }
        Fate::InTime
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
        let Job { turns, worker, model } = job;
        for (turn, lane) in turns {
            tracing::error!(stream = %lane.stream(), model = %model.model.info().name, "a detector does not end: its thread is replaced");
            lane.give_up(turn.number, &self.too_slow());
        }
        model.failed.fetch_add(turns.len() as u64, Ordering::Relaxed);
        if !model.model.per_stream() {
            model.lost();
        }
        let waits = {
            let mut queue = lock(&self.queue);
            queue.alive -= 1;
            let deadline = self.watch.deadline();
            let waits = turns.iter().filter(|(turn, _)| queue.turns.done(*turn, deadline)).count();
            if queue.stopping { 0 } else { waits }
        };
        self.gone.notify_all();
        for _ in 0..waits {
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
